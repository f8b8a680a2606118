"""The queue of messages for other operators.

Invariants: a recipient is queued, leased, sent or failed; a lease that is over is due again, so a
crashed worker loses nothing (and may send twice: SMTP's own risk, RFC 5321 §4.5.3.2.6); the body
goes once nothing is left to send. Before ``failed``, the worker delivers the bounce under a
``whole_key`` of the recipient, so that a crash between the two makes neither none nor two.
"""

import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam, func, select

from directory.database import Database
from mailserver.store.blobs import Blobs, bury
from mailserver.store.changes import OUTBOX, Commits
from mailserver.store.errors import NoSuchBlobError
from mailserver.store.model import (
    OutboxItem,
    OutboxState,
    Outgoing,
    from_micros,
    to_micros,
)
from mailserver.store.rows import fetch_all, fetch_first
from mailserver.store.schema import BLOB, CHUNK_OCTETS, OUTBOX_MESSAGE, OUTBOX_RECIPIENT

MAX_REPLY = 500
"""Characters of a peer's reply that are kept."""

_WAITING = OUTBOX_RECIPIENT.c.state.in_(("queued", "leased"))
_ANY_DUE = (
    select(OUTBOX_RECIPIENT.c.id)
    .where(_WAITING, OUTBOX_RECIPIENT.c.next_at <= bindparam("at"))
    .limit(1)
)
_NEXT = select(func.min(OUTBOX_RECIPIENT.c.next_at)).where(_WAITING)
_LIST = (
    select(
        OUTBOX_RECIPIENT.c.id,
        OUTBOX_RECIPIENT.c.domain,
        OUTBOX_RECIPIENT.c.state,
        OUTBOX_RECIPIENT.c.attempts,
        OUTBOX_RECIPIENT.c.next_at,
        OUTBOX_RECIPIENT.c.reply,
    )
    .where(_WAITING)
    .order_by(OUTBOX_RECIPIENT.c.id)
)
_COUNTS = (
    select(OUTBOX_RECIPIENT.c.state, func.count())
    .where(_WAITING)
    .group_by(OUTBOX_RECIPIENT.c.state)
)
_BODY = (
    select(OUTBOX_MESSAGE.c.prefix, OUTBOX_MESSAGE.c.blob_id, BLOB.c.octets)
    .select_from(OUTBOX_MESSAGE.join(BLOB, BLOB.c.id == OUTBOX_MESSAGE.c.blob_id))
    .where(OUTBOX_MESSAGE.c.id == bindparam("message_id"))
)

_DUE = (
    "SELECT r.id, r.message_id, m.reverse_path, r.forward_path, r.domain, r.attempts, m.octets,"
    " m.mailbox_id, m.queued_at FROM outbox_recipient AS r"
    " JOIN outbox_message AS m ON m.id = r.message_id"
    " WHERE r.state IN ('queued', 'leased') AND r.next_at <= :at ORDER BY r.next_at, r.id"
    " LIMIT :limit"
)
_LEASE = "UPDATE outbox_recipient SET state = 'leased', next_at = :until WHERE id = :id"
_TAKE_BACK = "UPDATE outbox_recipient SET state = 'queued', next_at = :at WHERE state = 'leased'"
_LATER = (
    "UPDATE outbox_recipient SET state = 'queued', attempts = attempts + 1, next_at = :next_at,"
    " reply = :reply WHERE id = :id AND state IN ('queued', 'leased')"
)
_FINISH = (
    "UPDATE outbox_recipient SET state = :state, attempts = attempts + 1, next_at = :at,"
    " reply = :reply WHERE id = :id AND state IN ('queued', 'leased') RETURNING message_id"
)
_RELEASE_BODY = (
    "SELECT blob_id FROM outbox_message WHERE id = :id AND blob_id IS NOT NULL AND NOT EXISTS"
    " (SELECT 1 FROM outbox_recipient WHERE message_id = :id AND state IN ('queued', 'leased'))"
)
_DROP_BODY = "UPDATE outbox_message SET blob_id = NULL, prefix = x'' WHERE id = :id"


_FORGET_RECIPIENTS = (
    "DELETE FROM outbox_recipient WHERE state IN ('sent', 'failed') AND next_at < :before"
)
_FORGET_MESSAGES = (
    "DELETE FROM outbox_message WHERE blob_id IS NULL AND NOT EXISTS"
    " (SELECT 1 FROM outbox_recipient WHERE message_id = outbox_message.id)"
)


@dataclass(frozen=True, slots=True)
class _Lease:
    at: int
    until: int
    limit: int


@dataclass(frozen=True, slots=True)
class _Verdict:
    id: int
    state: str
    reply: str
    at: int


class Outbox:
    """The outbound queue, one row for each remote recipient. All methods are coroutines.

    ``reply`` is a peer's answer as received, code first; it may bear an address, so that only its
    code leaves this module (``list``).
    """

    def __init__(self, database: Database, commits: Commits, blobs: Blobs) -> None:
        self._database = database
        self._commits = commits
        self._blobs = blobs

    async def due(self, at: datetime, limit: int, lease_s: int) -> list[Outgoing]:
        """Lease what is to be sent now, the longest waiting first.

        Writes only when something is due.

        Args:
            at: aware UTC now.
            limit: how many at most.
            lease_s: seconds after which another call may take them again; longer than the
                longest transmission.
        """
        now = to_micros(at)
        if await fetch_first(self._database, _ANY_DUE, {"at": now}) is None:
            return []
        until = to_micros(at + timedelta(seconds=lease_s))
        return await self._database.write(_lease, _Lease(now, until, limit))

    async def take_back(self, at: datetime) -> int:
        """Make due now what a worker that is gone had leased; give how many.

        For the one worker of a site, before it leases anything itself: after a crash nothing
        waits for leases that nobody holds.
        """
        return await self._database.write(_take_back, to_micros(at))

    async def next_at(self) -> datetime | None:
        """Say when something is due, None when nothing waits; leases count by their end."""
        row = await fetch_first(self._database, _NEXT)
        return None if row is None or row[0] is None else from_micros(row[0])

    async def done(self, recipient_id: int, reply: str, at: datetime) -> None:
        """Note that the peer took it."""
        await self._finish(recipient_id, OutboxState.SENT, reply, at)

    async def failed(self, recipient_id: int, reply: str, at: datetime) -> None:
        """Note that it will not be sent; the bounce is delivered first."""
        await self._finish(recipient_id, OutboxState.FAILED, reply, at)

    async def later(self, recipient_id: int, reply: str, next_at: datetime) -> None:
        """Put it back until ``next_at``, one attempt more."""
        value = _Verdict(recipient_id, "queued", reply[:MAX_REPLY], to_micros(next_at))
        await self._commits.run(_later, value, lambda _nothing: (OUTBOX,))

    async def list(self) -> list[OutboxItem]:
        """List what waits, without an address."""
        return [
            OutboxItem(
                row[0],
                row[1],
                OutboxState(row[2]),
                row[3],
                from_micros(row[4]),
                _code(row[5]),
            )
            for row in await fetch_all(self._database, _LIST)
        ]

    async def counts(self) -> dict[OutboxState, int]:
        """Count what waits to be sent, by state."""
        counts = dict.fromkeys((OutboxState.QUEUED, OutboxState.LEASED), 0)
        for state, count in await fetch_all(self._database, _COUNTS):
            counts[OutboxState(state)] = count
        return counts

    async def idle(self) -> bool:
        """Say whether nothing waits to be sent."""
        return await self.next_at() is None

    async def body(self, message_id: int) -> bytes:
        """Give a whole message to send, prefix and blob.

        Raises:
            NoSuchBlobError: nothing is left to send of it.
        """
        return b"".join([piece async for piece in self.stream(message_id)])

    async def stream(self, message_id: int) -> AsyncIterator[bytes]:
        """Give a whole message to send in pieces of at most 256 kB.

        Raises:
            NoSuchBlobError: nothing is left to send of it.
        """
        row = await fetch_first(self._database, _BODY, {"message_id": message_id})
        if row is None:
            raise NoSuchBlobError
        prefix, blob_id, octets = row
        if prefix:
            yield prefix
        for start in range(0, octets, CHUNK_OCTETS):
            yield await self._blobs.read(blob_id, start, CHUNK_OCTETS)

    async def forget(self, before: datetime) -> int:
        """Delete what ended before an instant; the receipt and the trail stay.

        Returns:
            How many recipients were forgotten.
        """
        return await self._database.write(_forget, to_micros(before))

    async def _finish(
        self, recipient_id: int, state: OutboxState, reply: str, at: datetime
    ) -> None:
        value = _Verdict(recipient_id, state.value, reply[:MAX_REPLY], to_micros(at))
        if await self._commits.run(_finish, value, lambda _more: (OUTBOX,)):
            await self._blobs.reap()


def _code(reply: str) -> str:
    """Keep ``550 5.1.1`` of a reply, nothing that a peer's text could hold."""
    words = reply.replace("-", " ", 1).split(" ", 2)
    basic = words[0] if words[0].isascii() and words[0].isdigit() and len(words[0]) == 3 else ""
    if not basic or len(words) < 2:
        return basic
    enhanced = words[1].split(".")
    plain = len(enhanced) == 3 and all(
        part.isascii() and part.isdigit() and len(part) <= 3 for part in enhanced
    )
    return f"{basic} {words[1]}" if plain else basic


# What follows runs on the writer's thread, inside its transaction.


def _lease(connection: sqlite3.Connection, lease: _Lease) -> list[Outgoing]:
    rows = connection.execute(_DUE, {"at": lease.at, "limit": lease.limit}).fetchall()
    connection.executemany(_LEASE, [{"id": row["id"], "until": lease.until} for row in rows])
    return [
        Outgoing(
            id=row["id"],
            message_id=row["message_id"],
            recipient_id=row["id"],
            reverse_path=row["reverse_path"],
            forward_path=row["forward_path"],
            domain=row["domain"],
            attempts=row["attempts"],
            octets=row["octets"],
            mailbox_id=row["mailbox_id"],
            queued_at=from_micros(row["queued_at"]),
        )
        for row in rows
    ]


def _take_back(connection: sqlite3.Connection, at: int) -> int:
    return connection.execute(_TAKE_BACK, {"at": at}).rowcount


def _later(connection: sqlite3.Connection, value: _Verdict) -> None:
    connection.execute(_LATER, {"id": value.id, "next_at": value.at, "reply": value.reply})


def _finish(connection: sqlite3.Connection, value: _Verdict) -> bool:
    row = connection.execute(
        _FINISH, {"id": value.id, "state": value.state, "reply": value.reply, "at": value.at}
    ).fetchone()
    if row is None:
        return False
    body = connection.execute(_RELEASE_BODY, {"id": row[0]}).fetchone()
    if body is None:
        return False
    connection.execute(_DROP_BODY, {"id": row[0]})
    return bury(connection, (body[0],))


def _forget(connection: sqlite3.Connection, before: int) -> int:
    forgotten = connection.execute(_FORGET_RECIPIENTS, {"before": before}).rowcount
    connection.execute(_FORGET_MESSAGES)
    return forgotten
