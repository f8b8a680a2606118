"""One SQLite file as Pli opens it: many readers, one writing thread that commits in groups.

Invariants: every write goes through the one writer of its database; a group of writes is one
transaction begun with BEGIN IMMEDIATE and committed with ``synchronous=FULL``, so that a caller
that is woken has a durable result; a write that fails alone is rolled back alone. Readers see
committed data only and can never write (``query_only``).

It stands in ``directory`` because that is the lowest package that speaks SQL; the mail store and
the record use the same class, each on a file of its own (DESIGN D5).
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Row, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.sql import ClauseElement, Executable
from sqlalchemy.sql.compiler import SQLCompiler

from directory.checkpoint import PAGE_OCTETS, Log
from directory.errors import DatabaseBusyError, DatabaseClosedError, SchemaMismatchError
from directory.readers import BUSY_TIMEOUT_MS, Readers

GROUP_ITEMS = 64
"""A group closes at this many writes (DESIGN §5)."""
GROUP_OCTETS = 4 * 1024 * 1024
"""A group closes at this many octets of bodies (DESIGN §5)."""

V = TypeVar("V")
R = TypeVar("R")


def compiled(statement: ClauseElement) -> str:
    """Give the SQL text of a Core statement, with ``:name`` parameters, for the writer.

    Compile once, at module level; pass a dict of values to ``sqlite3.Connection.execute``.
    """
    return str(statement.compile(dialect=sqlite.dialect(paramstyle="named")))


@dataclass(frozen=True, slots=True)
class Query:
    """A select compiled once, at module level, for ``Database.read``."""

    sql: str
    values: dict[str, Any]

    @classmethod
    def of(cls, statement: ClauseElement) -> Self:
        """Compile; what the statement says itself is kept as values."""
        made = statement.compile(dialect=sqlite.dialect(paramstyle="named"))
        assert isinstance(made, SQLCompiler)  # noqa: S101 - a select is never DDL
        blank = {name: None for name, value in made.params.items() if value is None}
        state = made.construct_expanded_state(blank)  # lists that the statement itself names
        return cls(state.statement, dict(state.parameters))

    def on(self, connection: sqlite3.Connection, values: Mapping[str, Any]) -> list[Any]:
        """Run it; every row as a tuple."""
        return connection.execute(self.sql, {**self.values, **values}).fetchall()


@dataclass(slots=True)
class _Job:
    apply: Callable[[sqlite3.Connection, Any], Any]
    value: Any
    octets: int
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop

    def settle(self, result: Any, error: BaseException | None) -> None:
        """Tell the caller; on its loop."""
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


def _settle(jobs: Sequence[tuple[_Job, Any, BaseException | None]]) -> None:
    for job, result, error in jobs:
        job.settle(result, error)


def _tell(jobs: Sequence[tuple[_Job, Any, BaseException | None]]) -> None:
    """Wake the callers, each loop once: a call into a loop is a system call."""
    loops = {id(job.loop): job.loop for job, _, _ in jobs}
    for loop in loops.values():
        try:
            loop.call_soon_threadsafe(_settle, [each for each in jobs if each[0].loop is loop])
        except RuntimeError:
            # The loop was closed while the commit ran: nobody is left to tell.
            continue


class _Writer(threading.Thread):
    """The only connection that writes one database."""

    def __init__(self, path: Path) -> None:
        super().__init__(name=f"writer-{path.stem}", daemon=True)
        self._path = path
        self.jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._connection = self._connect()
        self._log = Log()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            isolation_level=None,
            check_same_thread=False,
            timeout=BUSY_TIMEOUT_MS / 1000,
        )
        connection.row_factory = sqlite3.Row
        for pragma in (
            f"page_size={PAGE_OCTETS}",
            "journal_mode=WAL",
            "wal_autocheckpoint=0",
            "synchronous=FULL",
            "foreign_keys=ON",
            "cache_size=-65536",
            f"busy_timeout={BUSY_TIMEOUT_MS}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def run(self) -> None:
        stopping = False
        while not stopping:
            first = self.jobs.get()
            if first is None:
                break
            group = [first]
            octets = first.octets
            while len(group) < GROUP_ITEMS and octets < GROUP_OCTETS:
                try:
                    job = self.jobs.get_nowait()
                except queue.Empty:
                    break
                if job is None:
                    stopping = True
                    break
                group.append(job)
                octets += job.octets
            self._run_group(group)
            if self._log.is_due(awaited=not self.jobs.empty()):
                self._log.move(self._connection)
        self._connection.close()

    def _run_group(self, group: list[_Job]) -> None:
        try:
            results = self._transaction(group)
        except Exception as error:  # noqa: BLE001 - the writer's loop top: the caller gets it
            if len(group) == 1:
                _tell([(group[0], None, error)])
                return
            # One of them failed: none is committed; each gets a transaction of its own.
            for job in group:
                self._run_group([job])
            return
        _tell([(job, result, None) for job, result in zip(group, results, strict=True)])
        self._log.grew(sum(job.octets for job in group))

    def _transaction(self, group: list[_Job]) -> list[Any]:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            results = [job.apply(connection, job.value) for job in group]
        except BaseException:
            if connection.in_transaction:  # a full disk has rolled back by itself
                connection.execute("ROLLBACK")
            raise
        try:
            connection.execute("COMMIT")
        except BaseException:
            # What a failed COMMIT left is unknown: start from a fresh connection.
            connection.close()
            self._connection = self._connect()
            raise
        return results


class Database:
    """One database file: ``write`` for its owner, reads for everyone."""

    def __init__(self, path: Path, engine: AsyncEngine, writer: _Writer | None) -> None:
        self.path = path
        self.engine = engine
        self._writer = writer
        self._readers = Readers(path)

    @classmethod
    async def open(cls, path: Path, *, migrations: Path, read_only: bool = False) -> Self:
        """Open the file.

        Args:
            path: the database file; it must have been made by ``migrate``.
            migrations: the owning package's alembic folder, to check the schema's version.
            read_only: no writer is started, ``write`` raises.

        Raises:
            SchemaMismatchError: the file is older or newer than this program.
        """
        await asyncio.to_thread(check_schema, path, migrations)
        engine = _reader_engine(path)
        writer = None
        if not read_only:
            writer = _Writer(path)
            writer.start()
        return cls(path, engine, writer)

    async def write(
        self, apply: Callable[[sqlite3.Connection, V], R], value: V, *, octets: int = 0
    ) -> R:
        """Run one write in the next group and return its result once it is durable.

        Args:
            apply: a module-level function; it runs on the writer's thread inside an open
                transaction, must not commit, and may run twice (a group that fails is replayed
                one by one), so it must touch nothing but its arguments.
            value: its second argument, usually a frozen dataclass.
            octets: size of the bodies it carries, for the group's bound.

        Raises:
            DatabaseClosedError: opened read-only, or closed.
            Exception: whatever ``apply`` raises, rolled back; sqlite3.Error on a failed commit.
        """
        if self._writer is None:
            raise DatabaseClosedError
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._writer.jobs.put(_Job(apply, value, octets, future, loop))
        # A caller that is cancelled must not take the commit's result with it.
        return await asyncio.shield(future)

    async def read(self, apply: Callable[[sqlite3.Connection, V], R], value: V) -> R:
        """Run a function that reads on a thread of its own, and give its result.

        The quick way: one hop to a thread and one back. Arguments and errors as ``Readers.run``.
        """
        return await self._readers.run(apply, value)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """Borrow a reading connection; never keep it while a socket is written (DESIGN D5)."""
        async with self.engine.connect() as connection:
            yield connection

    async def all(
        self, statement: Executable, parameters: dict[str, Any] | None = None
    ) -> Sequence[Row[Any]]:
        """Run one select and return every row."""
        async with self.engine.connect() as connection:
            return (await connection.execute(statement, parameters or {})).all()

    async def first(
        self, statement: Executable, parameters: dict[str, Any] | None = None
    ) -> Row[Any] | None:
        """Run one select and return its first row, or None."""
        async with self.engine.connect() as connection:
            return (await connection.execute(statement, parameters or {})).first()

    async def close(self) -> None:
        """Finish what was queued, then close every connection."""
        if self._writer is not None:
            self._writer.jobs.put(None)
            await asyncio.to_thread(self._writer.join)
            self._writer = None
        await self._readers.close()
        await self.engine.dispose()


def _reader_engine(path: Path) -> AsyncEngine:
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{path}",
        pool_size=4,
        max_overflow=12,
        hide_parameters=True,  # they are addresses and identifiers: never in an error's text
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _only_read(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA query_only=1")
        cursor.execute("PRAGMA cache_size=-16384")
        cursor.close()

    return engine


def migrate(path: Path, migrations: Path) -> None:
    """Create the file or bring it to this program's schema. Blocking.

    Raises:
        SchemaMismatchError: the file is newer than this program.
        DatabaseBusyError: a server has it open.
    """
    exists = path.exists()
    if exists and _revision(path) not in (None, *_known(migrations)):
        raise SchemaMismatchError
    if not exists:
        path.touch(mode=0o600)
    raw = sqlite3.connect(path, isolation_level=None)
    try:
        raw.execute(f"PRAGMA page_size={PAGE_OCTETS}")
        raw.execute("PRAGMA journal_mode=WAL")
    except sqlite3.OperationalError as error:
        raise DatabaseBusyError from error
    finally:
        raw.close()
    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        # The driver opens no transaction before DDL: without this a kill leaves half a schema.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    engine.dispose()


def check_schema(path: Path, migrations: Path) -> None:
    """Refuse a file whose schema is not exactly this program's. Blocking.

    Raises:
        SchemaMismatchError: older (``pli migrate`` brings it up) or newer, or no database.
    """
    if not path.exists() or _revision(path) != _script(migrations).get_current_head():
        raise SchemaMismatchError


def _script(migrations: Path) -> ScriptDirectory:
    return ScriptDirectory(str(migrations))


def _known(migrations: Path) -> list[str]:
    return [script.revision for script in _script(migrations).walk_revisions()]


def _revision(path: Path) -> str | None:
    engine = create_engine(f"sqlite:///{path}")
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()
