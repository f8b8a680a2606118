"""The log is moved into the file beside the writer, and does not grow for ever."""

import asyncio
import sqlite3
import threading

import pytest

from directory import checkpoint
from directory.checkpoint import EACH_OCTETS, LONGEST_PAGES, PAGE_OCTETS, Checkpointer, move
from tests.support.mailstore import open_practice

_BODY = bytes(1024 * 1024)


def _put(connection: sqlite3.Connection, number: int) -> None:
    connection.execute("INSERT INTO blob_chunk (id, body) VALUES (?, ?)", (number, _BODY))


def _log_octets(database) -> int:
    return database.path.with_name(database.path.name + "-wal").stat().st_size


async def _moved(path) -> bool:
    """Whether the file alone, without its log, comes to hold what was written."""
    for _ in range(200):
        if path.stat().st_size >= EACH_OCTETS // 2:
            return True
        await asyncio.sleep(0.02)
    return False


async def test_a_commit_moves_nothing_and_a_long_log_is_moved_beside_the_writer(tmp_path):
    async with open_practice(tmp_path) as site:
        database = site.store._database
        before = database.path.stat().st_size
        await database.write(_put, 1, octets=len(_BODY))
        assert database.path.stat().st_size == before

        for number in range(2, 2 + EACH_OCTETS // len(_BODY)):
            await database.write(_put, number, octets=len(_BODY))

        assert await _moved(database.path)


async def test_under_a_load_that_never_pauses_the_log_starts_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EACH_OCTETS", EACH_OCTETS // 16)
    monkeypatch.setattr(checkpoint, "LONGEST_PAGES", LONGEST_PAGES // 16)
    longest = LONGEST_PAGES * PAGE_OCTETS
    async with open_practice(tmp_path) as site:
        database = site.store._database
        for number in range(1, 3 * longest // len(_BODY), 8):
            several = (database.write(_put, number + each, octets=len(_BODY)) for each in range(8))
            await asyncio.gather(*several)
            assert _log_octets(database) < longest


async def test_a_reader_that_keeps_a_snapshot_holds_nobody_up(tmp_path):
    async with open_practice(tmp_path) as site:
        database = site.store._database
        reader = sqlite3.connect(database.path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM blob_chunk").fetchone()

        for number in range(1, 2 + 2 * EACH_OCTETS // len(_BODY)):
            await database.write(_put, number, octets=len(_BODY))

        assert reader.execute("SELECT count(*) FROM blob_chunk").fetchone() == (0,)
        reader.close()


def test_what_cannot_be_moved_now_stays_in_the_log(tmp_path):
    path = tmp_path / "log.sqlite3"
    writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in (f"page_size={PAGE_OCTETS}", "journal_mode=WAL", "wal_autocheckpoint=0"):
        writer.execute(f"PRAGMA {pragma}")
    writer.execute("CREATE TABLE kept (body)")
    writer.execute("INSERT INTO kept VALUES (1)")
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM kept").fetchone()
    writer.execute("INSERT INTO kept VALUES (2)")

    pages, left = move(writer)

    assert pages > left > 0
    reader.close()
    assert move(writer) == (pages, 0)


@pytest.mark.parametrize("started", [True, False])
def test_the_thread_ends_when_its_writer_does(tmp_path, started):
    connection = sqlite3.connect(tmp_path / "one.sqlite3", check_same_thread=False)
    checkpointer = Checkpointer(tmp_path / "one.sqlite3", connection)
    if started:
        checkpointer.start()
        checkpointer.stop()
        assert not checkpointer.is_alive()
        with pytest.raises(sqlite3.ProgrammingError):
            connection.execute("SELECT 1")
    assert checkpointer not in threading.enumerate()
