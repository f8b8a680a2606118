"""A mail store on a real file, with one practice in it, and deliveries to put into it."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from directory.model import MailboxType
from mailserver.message.index import index
from mailserver.store.database import MailStore, migrate
from mailserver.store.model import (
    NO_FLAGS,
    Delivery,
    EntryRow,
    Flag,
    FlagChange,
    FlagMode,
    Folder,
    Mailbox,
    NewEntry,
    NewMailbox,
    OutboxMessage,
    StagedBlob,
)
from mailserver.store.schema import METADATA

AT = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
HASH_KEY = b"not a secret, only for the tests"
RAW = b"From: <labo@chu.test>\r\nTo: <dr@cab.test>\r\nSubject: CR\r\n\r\nTexte ZZCANARY\r\n"
PREFIX = b"Return-Path: <labo@chu.test>\r\nDelivered-To: dr@cab.test\r\n"


@dataclass(slots=True)
class Practice:
    """The open store and the mailboxes of one structure, and one of another."""

    store: MailStore
    path: Path
    doctor: Mailbox
    colleague: Mailbox
    patient: Mailbox
    application: Mailbox
    elsewhere: Mailbox
    sent: int = field(default=0)

    def delivery(
        self,
        entries: Sequence[NewEntry],
        *,
        blob: bytes | StagedBlob = RAW,
        keys: Sequence[tuple[bytes, int]] = (),
        at: datetime = AT,
        outbox: OutboxMessage | Sequence[OutboxMessage] = (),
        whole_key: bytes | None = None,
    ) -> Delivery:
        """Build the next delivery."""
        self.sent += 1
        return Delivery(
            receipt_id=f"receipt-{self.sent}",
            sha256=b"\x01" * 32,
            blob=blob,
            index=index(blob if isinstance(blob, bytes) else RAW),
            entries=tuple(entries),
            retry_keys=tuple(keys),
            peer_dn="CN=chu.test",
            reverse_path="labo@chu.test",
            outbox=(outbox,) if isinstance(outbox, OutboxMessage) else tuple(outbox),
            occurrences=1,
            events=(),
            at=at,
            whole_key=whole_key,
        )

    async def inbox(self, mailbox: Mailbox) -> Folder:
        """Give a mailbox's INBOX."""
        return await self.folder(mailbox, "INBOX")

    async def folder(self, mailbox: Mailbox, name: str) -> Folder:
        """Give a folder that exists."""
        found = await self.store.folders.get(mailbox.id, name)
        assert found is not None
        return found

    async def entries(self, mailbox: Mailbox, name: str = "INBOX") -> list[EntryRow]:
        """Give what a folder shows."""
        return await self.store.messages.entries((await self.folder(mailbox, name)).id)

    async def fill(self, mailbox: Mailbox, count: int) -> Folder:
        """Deliver so many messages to an INBOX, and give it as it is then."""
        for _ in range(count):
            await self.store.messages.deliver(self.delivery([entry(mailbox)]))
        return await self.inbox(mailbox)

    async def say(
        self, outcome: Sequence[str], *, mode: FlagMode = FlagMode.ADD, uid: int = 1
    ) -> None:
        """Let the bridge set keywords on the application mailbox's entry."""
        folder = await self.inbox(self.application)
        await self.store.messages.store_flags(
            FlagChange(folder.id, (uid,), mode, NO_FLAGS, frozenset(outcome), by_application=True)
        )

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Read every table whole."""
        with closing(sqlite3.connect(self.path)) as connection:
            return {
                name: sorted(connection.execute(f'SELECT * FROM "{name}"'), key=repr)  # noqa: S608
                for name in (*METADATA.tables, "sqlite_sequence")
            }

    def count(self, table: str) -> int:
        """Count a table's rows."""
        return len(self.rows()[table])


def entry(
    mailbox: Mailbox,
    *,
    held: bool = False,
    folder: str = "INBOX",
    flags: Flag = NO_FLAGS,
    keywords: Sequence[str] = (),
) -> NewEntry:
    """Build an entry for a delivery."""
    return NewEntry(mailbox.id, folder, PREFIX, flags, frozenset(keywords), held, AT)


def days(count: float) -> timedelta:
    """Give a span."""
    return timedelta(days=count)


@cache
def _empty_database() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "mail.sqlite3"
        migrate(path)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return path.read_bytes()


@asynccontextmanager
async def open_practice(folder: Path) -> AsyncIterator[Practice]:
    """Make a mail database with a practice in it, and open it."""
    path = folder / "mail.sqlite3"
    path.write_bytes(_empty_database())
    async with await MailStore.open(path, hash_key=HASH_KEY) as store:
        add = store.accounts.add_mailbox
        yield Practice(
            store,
            path,
            await add(
                NewMailbox("dr@cab.test", MailboxType.PER, "cab", "Dr", "1", filing=True, at=AT)
            ),
            await add(
                NewMailbox("dr2@cab.test", MailboxType.PER, "cab", "Dr", "2", filing=True, at=AT)
            ),
            await add(
                NewMailbox(
                    "1@p.test", MailboxType.PAT, "cab", "ZZCANARY", None, filing=True, at=AT
                )
            ),
            await add(
                NewMailbox(
                    "app@cab.test", MailboxType.APP, "cab", "App", None, filing=False, at=AT
                )
            ),
            await add(
                NewMailbox(
                    "dr@autre.test", MailboxType.PER, "autre", "Dr", "3", filing=True, at=AT
                )
            ),
        )


class Interposed:
    """A sqlite3 connection that counts the statements, and can fail at one of them."""

    def __init__(self, connection: sqlite3.Connection, *, fail_at: int = 0) -> None:
        self._connection = connection
        self.fail_at = fail_at
        self.statements: list[str] = []

    def _note(self, statement: str) -> None:
        if statement in {"BEGIN IMMEDIATE", "COMMIT", "ROLLBACK"}:
            return
        self.statements.append(statement)
        if len(self.statements) == self.fail_at:
            raise sqlite3.OperationalError("injected")

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        """Run one statement."""
        self._note(statement)
        return self._connection.execute(statement, *parameters)

    def executemany(self, statement: str, parameters: Any) -> sqlite3.Cursor:
        """Run one statement for many rows."""
        self._note(statement)
        return self._connection.executemany(statement, parameters)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._connection.in_transaction

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def interpose(store: MailStore, *, fail_at: int = 0) -> Interposed:
    """Put ourselves between the store's writer and its connection."""
    writer = store._database._writer
    assert writer is not None
    connection = writer._connection
    if isinstance(connection, Interposed):
        connection = connection._connection
    placed = Interposed(connection, fail_at=fail_at)
    writer._connection = placed  # type: ignore[assignment]
    return placed


def watch_reads(store: MailStore) -> list[str]:
    """Note what the store's readers are asked from now on, but for what FTS5 asks itself."""
    statements: list[str] = []

    def note(statement: str) -> None:
        if not statement.startswith(("--", "PRAGMA")) and "'main'" not in statement:
            statements.append(statement)

    readers = store._database._readers
    run = readers.run

    async def watched(apply: Callable[[sqlite3.Connection, Any], Any], value: Any) -> Any:
        def traced(connection: sqlite3.Connection, value: Any) -> Any:
            connection.set_trace_callback(note)
            try:
                return apply(connection, value)
            finally:
                connection.set_trace_callback(None)

        return await run(traced, value)

    readers.run = watched  # type: ignore[method-assign]
    return statements
