"""Threads that read one SQLite file, each over a connection of its own.

A read is one hop there and one back: through SQLAlchemy and aiosqlite it is five of each, and on a
loaded machine each hop costs more than most statements.

Invariants: a reader can never write (``query_only``); a call runs in no transaction of an earlier
one; one that is cancelled is interrupted, so that nobody waits for what nobody wants.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

THREADS: Final = 4
"""Reads at once; SQLite serves each from its own cache."""
BUSY_TIMEOUT_MS: Final = 10_000
CACHE_KIB: Final = 16_384
STATEMENTS: Final = 256
"""Prepared statements kept by each connection."""
STEPS: Final = 20_000
"""Of SQLite's machine, between two looks whether the caller still waits: under 1 ms."""

V = TypeVar("V")
R = TypeVar("R")


class _Call:
    """One function to run, and who waits for it."""

    def __init__(self, apply: Callable[[sqlite3.Connection, Any], Any], value: Any) -> None:
        self._apply = apply
        self._value = value
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self._loop.create_future()

    def unwanted(self) -> bool:
        """Nobody waits for it any more; SQLite asks this as it goes, and stops."""
        return self.future.cancelled()

    def run(self, connection: sqlite3.Connection) -> None:
        """Run on a reader's thread, and wake the caller."""
        if self.unwanted():
            return
        result, failure = None, None
        connection.set_progress_handler(self.unwanted, STEPS)
        try:
            result = self._apply(connection, self._value)
        except Exception as error:  # noqa: BLE001 - the reader's loop top: the caller gets it
            failure = error
        if connection.in_transaction:
            connection.rollback()
        try:
            self._loop.call_soon_threadsafe(self._settle, result, failure)
        except RuntimeError:
            # The loop was closed meanwhile: nobody is left to tell.
            return

    def _settle(self, result: Any, failure: Exception | None) -> None:
        if self.future.done():
            return
        if failure is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(failure)


class Readers:
    """The readers of one file; threads start when they are first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._under_way = 0

    async def run(self, apply: Callable[[sqlite3.Connection, V], R], value: V) -> R:
        """Run a function on a reader's thread and give its result.

        Args:
            apply: a function that reads; several statements of one snapshot begin with ``BEGIN``.
            value: its second argument.

        Raises:
            Exception: whatever ``apply`` raises.
        """
        self._under_way += 1
        try:
            if self._under_way > len(self._threads) and len(self._threads) < THREADS:
                name = f"reader-{self._path.stem}"
                thread = threading.Thread(target=self._serve, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()
            call = _Call(apply, value)
            self._calls.put(call)
            result: R = await call.future
            return result
        finally:
            self._under_way -= 1

    async def close(self) -> None:
        """Finish what was asked for, then close every connection."""
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        self._threads.clear()

    def _serve(self) -> None:
        connection: sqlite3.Connection | None = None
        try:
            while (call := self._calls.get()) is not None:
                if connection is None:
                    connection = self._connect()
                call.run(connection)
        finally:
            if connection is not None:
                connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            isolation_level=None,
            cached_statements=STATEMENTS,
        )
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "query_only=1",
            f"cache_size=-{CACHE_KIB}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection
