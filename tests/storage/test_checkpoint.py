"""The log is moved into the file by the writer, after those who wait were told."""

import asyncio
import sqlite3

import pytest

from directory import checkpoint
from directory.checkpoint import BUSY_OCTETS, COMMIT_OCTETS, IDLE_OCTETS, Log
from tests.support.mailstore import open_practice

_BODY = bytes(1024 * 1024)


def _put(connection: sqlite3.Connection, number: int) -> None:
    connection.execute("INSERT INTO blob_chunk (id, body) VALUES (?, ?)", (number, _BODY))


def _log_octets(database) -> int:
    return database.path.with_name(database.path.name + "-wal").stat().st_size


@pytest.mark.parametrize(("awaited", "limit"), [(False, IDLE_OCTETS), (True, BUSY_OCTETS)])
def test_the_log_is_moved_at_its_limit_not_one_octet_before(awaited, limit):
    log = Log()
    log.grew(limit - COMMIT_OCTETS - 1)
    assert not log.is_due(awaited=awaited)
    log.octets += 1
    assert log.is_due(awaited=awaited)


async def test_a_commit_moves_nothing_and_an_idle_writer_moves_a_long_log(tmp_path):
    async with open_practice(tmp_path) as site:
        database = site.store._database
        before = database.path.stat().st_size
        await database.write(_put, 1, octets=len(_BODY))
        assert database.path.stat().st_size == before

        for number in range(2, 2 + IDLE_OCTETS // len(_BODY)):
            await database.write(_put, number, octets=len(_BODY))
            await asyncio.sleep(0.02)

        await database.write(_put, 99, octets=len(_BODY))  # it comes after the move
        assert database.path.stat().st_size > before + IDLE_OCTETS // 2


async def test_under_a_load_that_never_pauses_the_log_starts_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "IDLE_OCTETS", 1 << 40)
    monkeypatch.setattr(checkpoint, "BUSY_OCTETS", BUSY_OCTETS // 8)
    async with open_practice(tmp_path) as site:
        database = site.store._database
        for number in range(1, BUSY_OCTETS // len(_BODY), 8):
            several = (database.write(_put, number + each, octets=len(_BODY)) for each in range(8))
            await asyncio.gather(*several)
            assert _log_octets(database) < BUSY_OCTETS // 2


async def test_a_reader_that_keeps_a_snapshot_holds_nobody_up(tmp_path):
    async with open_practice(tmp_path) as site:
        database = site.store._database
        reader = sqlite3.connect(database.path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM blob_chunk").fetchone()

        for number in range(1, 2 + 2 * IDLE_OCTETS // len(_BODY)):
            await database.write(_put, number, octets=len(_BODY))

        assert reader.execute("SELECT count(*) FROM blob_chunk").fetchone() == (0,)
        reader.close()


def test_a_log_that_cannot_be_moved_stays_for_the_next_time(tmp_path):
    connection = sqlite3.connect(tmp_path / "one.sqlite3", isolation_level=None)
    connection.close()
    log = Log()
    log.grew(BUSY_OCTETS)

    log.move(connection)

    assert log.octets == 0
