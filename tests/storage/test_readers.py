"""The reading threads of a database: one snapshot a call, no writes, and nobody reads for nobody."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from directory.readers import THREADS, Readers

FOREVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


@pytest.fixture
async def readers(tmp_path: Path) -> AsyncIterator[Readers]:
    path = tmp_path / "some.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (1)")
    opened = Readers(path)
    yield opened
    await opened.close()


def rows(connection: sqlite3.Connection, sql: str) -> list[tuple[object, ...]]:
    return connection.execute(sql).fetchall()


async def test_a_read_gives_what_its_function_gives(readers: Readers):
    assert await readers.run(rows, "SELECT x FROM t") == [(1,)]


async def test_an_error_reaches_the_caller_and_the_reader_goes_on(readers: Readers):
    with pytest.raises(sqlite3.OperationalError):
        await readers.run(rows, "SELECT x FROM nowhere")

    assert await readers.run(rows, "SELECT x FROM t") == [(1,)]


async def test_a_reader_never_writes(readers: Readers):
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await readers.run(rows, "INSERT INTO t VALUES (2)")


async def test_no_snapshot_outlives_its_call(readers: Readers, tmp_path: Path):
    def begun(connection: sqlite3.Connection, _nothing: None) -> tuple[list[object], bool]:
        before = connection.in_transaction
        connection.execute("BEGIN")
        return rows(connection, "SELECT x FROM t"), before

    assert await readers.run(begun, None) == ([(1,)], False)
    with closing(sqlite3.connect(tmp_path / "some.sqlite3", isolation_level=None)) as writer:
        writer.execute("INSERT INTO t VALUES (2)")

    assert await readers.run(begun, None) == ([(1,), (2,)], False)


async def test_a_read_that_nobody_wants_any_more_is_interrupted(readers: Readers):
    waiting = [asyncio.create_task(readers.run(rows, FOREVER)) for _ in range(THREADS + 2)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    ended = await asyncio.gather(*waiting, return_exceptions=True)

    assert all(isinstance(each, asyncio.CancelledError) for each in ended)
    async with asyncio.timeout(5):
        assert await readers.run(rows, "SELECT x FROM t") == [(1,)]
        await readers.close()


async def test_a_deadline_stops_a_read_under_way(readers: Readers):
    started = threading.Event()

    def slow(connection: sqlite3.Connection, sql: str) -> list[tuple[object, ...]]:
        started.set()
        return rows(connection, sql)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await readers.run(slow, FOREVER)

    assert started.is_set()
    async with asyncio.timeout(5):
        await readers.close()


async def test_many_reads_share_a_few_threads(readers: Readers):
    def name(connection: sqlite3.Connection, _number: int) -> int:
        rows(connection, "SELECT x FROM t")
        return threading.get_ident()

    used = set(await asyncio.gather(*(readers.run(name, number) for number in range(50))))

    assert 1 <= len(used) <= THREADS


async def test_what_was_asked_before_the_end_is_still_answered(readers: Readers):
    asked = [asyncio.create_task(readers.run(rows, "SELECT x FROM t")) for _ in range(20)]
    await asyncio.sleep(0)

    await readers.close()

    assert await asyncio.gather(*asked) == [[(1,)]] * 20
