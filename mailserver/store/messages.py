"""The messages of the folders: delivery, what FETCH and lists read, flags, copies, expunges.

Invariants: every write is one transaction that publishes its mailboxes after its commit; held
entries (RULES §7) are in no answer of this module; no read keeps a transaction open after it
returned. Source: DESIGN D5, D5b.
"""

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, select

from directory.database import Database, Query
from mailserver.message.index import MessageIndex
from mailserver.store import deliveries, flags, moves
from mailserver.store.blobs import INLINE_OCTETS, Blobs
from mailserver.store.changes import Commits
from mailserver.store.errors import NoSuchFolderError, StoreError
from mailserver.store.model import (
    AppendUid,
    Changes,
    Copied,
    Delivered,
    Delivery,
    EntryDetail,
    EntryRow,
    EntrySummary,
    FlagChange,
    NewMessage,
    Origin,
    StagedBlob,
    Usage,
    from_micros,
    to_micros,
)
from mailserver.store.moves import Expunge, Replacement, Transfer
from mailserver.store.rows import (
    INDEX_COLUMNS,
    ROW_COLUMNS,
    among,
    as_list,
    entry_row,
    fetch_all,
    fetch_first,
    message_index,
    select_rows,
)
from mailserver.store.schema import (
    ENTRY,
    EXPUNGED,
    FOLDER,
    MAILBOX_USAGE,
    MESSAGE_INDEX,
)

EXPUNGED_KEPT = 20_000
"""Expunges that a folder remembers; a client further behind is told all that is not there."""

_ROWS = select_rows()
_CHANGED = Query.of(_ROWS.where(ENTRY.c.modseq > bindparam("modseq")))
_VANISHED = Query.of(
    select(EXPUNGED.c.uid)
    .where(EXPUNGED.c.folder_id == bindparam("folder_id"), EXPUNGED.c.modseq > bindparam("modseq"))
    .order_by(EXPUNGED.c.uid)
)
_USAGE = select(MAILBOX_USAGE.c.octets, MAILBOX_USAGE.c.messages).where(
    MAILBOX_USAGE.c.mailbox_id == bindparam("mailbox_id")
)
_MODSEQS = Query.of(
    select(FOLDER.c.highestmodseq, FOLDER.c.expunged_floor).where(
        FOLDER.c.id == bindparam("folder_id")
    )
)
_WITH_INDEX = ENTRY.join(MESSAGE_INDEX, MESSAGE_INDEX.c.blob_id == ENTRY.c.blob_id)
_VISIBLE = (ENTRY.c.folder_id == bindparam("folder_id"), ENTRY.c.uid > 0)
_DETAIL = (
    select(*ROW_COLUMNS, ENTRY.c.prefix, *INDEX_COLUMNS)
    .select_from(_WITH_INDEX)
    .where(*_VISIBLE, among(ENTRY.c.uid, "uids"))
    .order_by(ENTRY.c.uid)
)
_ORIGINS = select(
    ENTRY.c.uid, func.coalesce(ENTRY.c.origin_id, ENTRY.c.id), ENTRY.c.saved_at
).where(*_VISIBLE)
_ORIGINS_AMONG = _ORIGINS.where(among(ENTRY.c.uid, "uids"))
_PREFIXES = select(ENTRY.c.uid, ENTRY.c.prefix).where(*_VISIBLE, among(ENTRY.c.uid, "uids"))
_INDEXES = select(MESSAGE_INDEX.c.blob_id, *INDEX_COLUMNS).where(
    among(MESSAGE_INDEX.c.blob_id, "blob_ids")
)
_SUMMARIES = (
    select(
        *ROW_COLUMNS,
        MESSAGE_INDEX.c.subject,
        MESSAGE_INDEX.c.from_,
        MESSAGE_INDEX.c.to,
        MESSAGE_INDEX.c.date_at,
        MESSAGE_INDEX.c.message_id,
        MESSAGE_INDEX.c.has_package,
    )
    .select_from(_WITH_INDEX)
    .where(*_VISIBLE, ENTRY.c.uid < bindparam("before_uid"))
    .order_by(ENTRY.c.uid.desc())
    .limit(bindparam("limit"))
)
_MANY_ROWS = 2000
"""Rows that cost more than about 3 ms to build: they are built off the event loop."""
_LAST_UID = 0xFFFFFFFF
"""UIDs are 32-bit numbers. Source: RFC 9051 §2.3.1.1."""


class Messages:
    """The entries of every folder. All methods are coroutines."""

    def __init__(self, database: Database, commits: Commits, blobs: Blobs) -> None:
        self._database = database
        self._commits = commits
        self._blobs = blobs

    async def deliver(self, delivery: Delivery) -> Delivered:
        """Write a delivery; when it returns, the message is durable.

        What is over 4 MB of its bodies, and was not staged yet, is staged first.

        Raises:
            NoSuchFolderError: an entry's folder does not exist.
            sqlite3.Error: the commit failed; nothing of it is stored.
        """
        delivery, octets = await self._staged(delivery)
        try:
            delivered = await self._commits.run(
                deliveries.deliver, delivery, _delivered_to, octets=octets
            )
        except BaseException:
            # Nothing happens to those that a commit, which goes on, has taken.
            for body in delivery.bodies:
                if isinstance(body, StagedBlob):
                    await self._blobs.discard(body)
            raise
        if not delivered.new and any(isinstance(each, StagedBlob) for each in delivery.bodies):
            await self._blobs.reap()
        return delivered

    async def _staged(self, delivery: Delivery) -> tuple[Delivery, int]:
        """Stage the bodies that are too large for one transaction; octets of the others."""
        octets = 0

        async def ready(body: bytes | StagedBlob) -> bytes | StagedBlob:
            nonlocal octets
            if isinstance(body, StagedBlob):
                return body
            if octets + len(body) > INLINE_OCTETS:
                return await self._blobs.stage(body, len(body))
            octets += len(body)
            return body

        blob = await ready(delivery.blob)
        outbox = [
            each
            if each.form is None
            else replace(each, form=replace(each.form, blob=await ready(each.form.blob)))
            for each in delivery.outbox
        ]
        return replace(delivery, blob=blob, outbox=tuple(outbox)), octets

    async def append(self, message: NewMessage) -> AppendUid:
        """Add a client's own message. Source: RFC 9051 §6.3.12.

        Raises:
            NoSuchFolderError: it was deleted.
        """
        return (await self.append_all((message,)))[0]

    async def append_all(self, messages: Sequence[NewMessage]) -> tuple[AppendUid, ...]:
        """Add a client's own messages, all or none of them. Source: RFC 3502 §6.3.11.

        Raises:
            NoSuchFolderError: the folder was deleted.
            OverQuotaError: the mailbox would hold more than it may.
        """
        ready, octets = await self._ready(messages)
        try:
            appended = await self._commits.run(
                moves.append, ready, lambda made: made.mailbox_ids, octets=octets
            )
        except StoreError:
            await self._discard(ready)
            raise
        return appended.uids

    async def replace(self, replacement: Replacement) -> AppendUid:
        """Put a message in an entry's place, in one transaction. Source: RFC 8508 §3.

        Raises:
            NoSuchEntryError: the entry is gone.
            NoSuchFolderError, OverQuotaError: as ``append_all``.
        """
        ready, octets = await self._ready((replacement.message,))
        value = replace(replacement, message=ready[0])
        try:
            made = await self._commits.run(
                moves.replace, value, lambda made: made.mailbox_ids, octets=octets
            )
        except StoreError:
            await self._discard(ready)
            raise
        if made.more:
            await self._blobs.reap()
        return made.uids[0]

    async def _ready(self, messages: Sequence[NewMessage]) -> tuple[tuple[NewMessage, ...], int]:
        """Stage the bodies that are too large for one transaction; octets of the others."""
        ready: list[NewMessage] = []
        octets = 0
        for message in messages:
            if isinstance(message.raw, StagedBlob):
                ready.append(message)
            elif octets + len(message.raw) > INLINE_OCTETS:
                staged = await self._blobs.stage(message.raw, len(message.raw))
                ready.append(replace(message, raw=staged))
            else:
                octets += len(message.raw)
                ready.append(message)
        return tuple(ready), octets

    async def _discard(self, messages: Sequence[NewMessage]) -> None:
        for message in messages:
            if isinstance(message.raw, StagedBlob):
                await self._blobs.discard(message.raw)

    async def entries(self, folder_id: int) -> list[EntryRow]:
        """Give a folder's messages in UID order; empty when there is no such folder."""
        rows = await fetch_all(self._database, _ROWS, {"folder_id": folder_id})
        if len(rows) > _MANY_ROWS:
            return await asyncio.to_thread(_entry_rows, rows)
        return _entry_rows(rows)

    async def changed_since(self, folder_id: int, modseq: int) -> Changes:
        """Give what changed after a modseq, and the modseq up to which this is all.

        Raises:
            NoSuchFolderError: it was deleted.

        Source: RFC 7162 §3.2.5.
        """
        return await self._database.read(_changed_since, (folder_id, modseq))

    async def vanished_since(self, folder_id: int, modseq: int) -> list[int] | None:
        """Give the UIDs that left after a modseq, ascending.

        Returns:
            None when the log of what left does not reach back so far.

        Raises:
            NoSuchFolderError: it was deleted.

        Source: RFC 7162 §3.2.5.
        """
        return await self._database.read(_vanished_since, (folder_id, modseq))

    async def detail(self, folder_id: int, uids: Sequence[int]) -> list[EntryDetail]:
        """Give entries with prefix and index, in UID order, in one statement.

        Those that are gone are left out. Each costs a few kB: ask for a few hundred at a time.
        """
        rows = await fetch_all(
            self._database, _DETAIL, {"folder_id": folder_id, "uids": as_list(uids)}
        )
        return [EntryDetail(entry_row(row), row[8], message_index(row[9:])) for row in rows]

    async def prefixes(self, folder_id: int, uids: Sequence[int]) -> dict[int, bytes]:
        """Give the prefix of each entry by UID; those that are gone are left out."""
        rows = await fetch_all(
            self._database, _PREFIXES, {"folder_id": folder_id, "uids": as_list(uids)}
        )
        return {row[0]: row[1] for row in rows}

    async def origins(
        self, folder_id: int, uids: Sequence[int] | None = None
    ) -> dict[int, Origin]:
        """Give what is known of each entry's origin by UID, of all of them without ``uids``."""
        parameters: dict[str, Any] = {"folder_id": folder_id}
        statement = _ORIGINS
        if uids is not None:
            statement, parameters["uids"] = _ORIGINS_AMONG, as_list(uids)
        rows = await fetch_all(self._database, statement, parameters)
        if len(rows) > _MANY_ROWS:
            return await asyncio.to_thread(_origins, rows)
        return _origins(rows)

    async def indexes(self, blob_ids: Sequence[int]) -> dict[int, MessageIndex]:
        """Give the index of each body by its id; those that are gone are left out."""
        rows = await fetch_all(self._database, _INDEXES, {"blob_ids": as_list(blob_ids)})
        return {row[0]: message_index(row[1:]) for row in rows}

    async def summaries(
        self, folder_id: int, limit: int, before_uid: int | None = None
    ) -> list[EntrySummary]:
        """Give a page of a list of messages, the newest first."""
        rows = await fetch_all(
            self._database,
            _SUMMARIES,
            {
                "folder_id": folder_id,
                "limit": limit,
                "before_uid": _LAST_UID if before_uid is None else before_uid,
            },
        )
        return list(map(_summary, rows))

    async def store_flags(self, change: FlagChange) -> list[EntryRow]:
        """Change flags; an application's outcome is mirrored to the sibling entries.

        Returns:
            Every named entry that exists and is not newer than ``unchangedsince``, as it is now;
            an entry that did not change keeps its modseq.

        Raises:
            NoSuchFolderError: it was deleted.
            ServerKeywordError: a keyword that the caller may not set.
            TooManyKeywordsError: an entry would bear too many.

        Source: RFC 9051 §6.4.6, RULES §10.
        """
        result = await self._commits.run(flags.change_flags, change, lambda made: made.touched)
        return result.rows

    async def copy(self, transfer: Transfer) -> Copied:
        """Copy entries within a structure, in UID order. Source: RFC 9051 §6.4.7.

        Raises:
            NoSuchFolderError: one is gone, or the target is of another structure.
            OverQuotaError: the mailbox would hold more than it may.
        """
        moved = await self._commits.run(moves.copy, transfer, lambda made: made.mailbox_ids)
        return moved.copied

    async def move(self, transfer: Transfer) -> Copied:
        """Move entries within a structure, in UID order. Source: RFC 9051 §6.4.8.

        Raises:
            NoSuchFolderError: one is gone, or the target is of another structure.
        """
        moved = await self._commits.run(moves.move, transfer, lambda made: made.mailbox_ids)
        return moved.copied

    async def expunge(self, folder_id: int, uids: Sequence[int] | None = None) -> list[int]:
        """Remove the entries that bear the Deleted flag, among ``uids`` when given.

        Returns:
            The UIDs that left, ascending.

        Raises:
            NoSuchFolderError: it was deleted.

        Source: RFC 9051 §6.4.3, RFC 9051 §6.4.9.
        """
        value = Expunge(folder_id, None if uids is None else tuple(uids))
        made = await self._commits.run(moves.expunge, value, lambda made: made.mailbox_ids)
        if made.more:
            await self._blobs.reap()
        return made.uids

    async def forget_keys(self, at: datetime) -> int:
        """Delete the retry keys that are over; once a day is enough."""
        return await self._database.write(deliveries.forget_keys, to_micros(at))

    async def usage(self, mailbox_id: int) -> Usage:
        """Give what a mailbox holds. Source: RFC 9208 §5."""
        row = await fetch_first(self._database, _USAGE, {"mailbox_id": mailbox_id})
        return Usage(0, 0) if row is None else Usage(row[0], row[1])

    async def forget_expunged(self, keep: int = EXPUNGED_KEPT) -> int:
        """Cut each folder's log of what left to the newest; once a day is enough."""
        return await self._database.write(moves.forget_expunged, keep)


def _origins(rows: Sequence[Sequence[Any]]) -> dict[int, Origin]:
    return {
        row[0]: Origin(row[1], None if row[2] is None else from_micros(row[2])) for row in rows
    }


def _entry_rows(rows: Sequence[Sequence[Any]]) -> list[EntryRow]:
    return list(map(entry_row, rows))


def _delivered_to(delivered: Delivered) -> frozenset[int]:
    return delivered.mailbox_ids


def _summary(row: Sequence[Any]) -> EntrySummary:
    return EntrySummary(
        entry_row(row),
        row[8],
        row[9],
        row[10],
        None if row[11] is None else from_micros(row[11]),
        row[12],
        bool(row[13]),
    )


# What follows runs on a reader's thread.


def _modseqs(connection: sqlite3.Connection, folder_id: int) -> tuple[int, int]:
    """Give a folder's modseq and where its log of expunges begins, at the start of a snapshot."""
    connection.execute("BEGIN")
    found = _MODSEQS.on(connection, {"folder_id": folder_id})
    if not found:
        raise NoSuchFolderError
    return found[0][0], found[0][1]


def _changed_since(connection: sqlite3.Connection, since: tuple[int, int]) -> Changes:
    parameters = dict(zip(("folder_id", "modseq"), since, strict=True))
    highest, _ = _modseqs(connection, since[0])
    if highest <= since[1]:
        return Changes([], [], highest)
    rows = list(map(entry_row, _CHANGED.on(connection, parameters)))
    return Changes(rows, [row[0] for row in _VANISHED.on(connection, parameters)], highest)


def _vanished_since(connection: sqlite3.Connection, since: tuple[int, int]) -> list[int] | None:
    parameters = dict(zip(("folder_id", "modseq"), since, strict=True))
    _, floor = _modseqs(connection, since[0])
    if since[1] < floor:
        return None
    return [row[0] for row in _VANISHED.on(connection, parameters)]
