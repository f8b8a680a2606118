"""The queue of messages for other operators.

Invariants: a recipient is queued, leased, held, sent or failed; a lease that is over is due again,
so a crashed worker loses nothing (and may send twice: SMTP's own risk, RFC 5321 §4.5.3.2.6); the
recipients that share a message and a domain are leased together; nothing is due for a domain
before its own ``next_at``; the body goes once nothing is left to send. Before ``failed``, the
worker delivers the bounce under a ``whole_key`` of the recipient, so that a crash between the two
makes neither none nor two.
"""

import json
import sqlite3
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, func, select

from directory.database import Database
from mailserver.message.envelope import MailOptions, Return, stored_recipient
from mailserver.message.progress import Event, Source, Transport
from mailserver.store.blobs import Blobs, bury
from mailserver.store.changes import OUTBOX, Commits
from mailserver.store.errors import NoSuchBlobError
from mailserver.store.model import (
    DomainWait,
    OutboxState,
    Outgoing,
    Settled,
    from_micros,
    to_micros,
)
from mailserver.store.rows import fetch_all, fetch_first
from mailserver.store.schema import (
    BLOB,
    CHUNK_OCTETS,
    OUTBOX_DOMAIN,
    OUTBOX_MESSAGE,
    OUTBOX_RECIPIENT,
)
from mailserver.store.tracking import move_queued

MAX_REPLY = 500
"""Characters of a peer's reply that are kept."""
FORGET_ROWS = 2000
"""Forgotten in one transaction, so that mail that comes meanwhile waits for milliseconds."""
CRASHES = 3
"""Crashes of the worker after which a message is set aside."""

_WAITING = OUTBOX_RECIPIENT.c.state.in_(("queued", "leased"))
_ANY_DUE = (
    select(OUTBOX_RECIPIENT.c.id)
    .where(_WAITING, OUTBOX_RECIPIENT.c.next_at <= bindparam("at"))
    .limit(1)
)
_NEXT = select(func.min(OUTBOX_RECIPIENT.c.next_at)).where(_WAITING)
_COUNTS = (
    select(OUTBOX_RECIPIENT.c.state, func.count())
    .where(OUTBOX_RECIPIENT.c.state.in_(("queued", "leased", "held")))
    .group_by(OUTBOX_RECIPIENT.c.state)
)
_DOMAIN = select(
    OUTBOX_DOMAIN.c.domain,
    OUTBOX_DOMAIN.c.failures,
    OUTBOX_DOMAIN.c.next_at,
    OUTBOX_DOMAIN.c.reply,
).where(OUTBOX_DOMAIN.c.domain == bindparam("domain"))
_BODY = (
    select(OUTBOX_MESSAGE.c.prefix, OUTBOX_MESSAGE.c.blob_id, BLOB.c.octets)
    .select_from(OUTBOX_MESSAGE.join(BLOB, BLOB.c.id == OUTBOX_MESSAGE.c.blob_id))
    .where(OUTBOX_MESSAGE.c.id == bindparam("message_id"))
)

_COLUMNS = (
    "r.id, r.message_id, m.reverse_path, r.forward_path, r.domain, r.attempts, m.octets,"
    " m.mailbox_id, m.queued_at, r.notify, r.orcpt, r.crashes, m.receipt_id, m.ret, m.envid,"
    " m.require_tls, m.smtputf8 FROM outbox_recipient AS r"
    " JOIN outbox_message AS m ON m.id = r.message_id"
)
_DUE = (
    "WITH due AS (SELECT id, message_id, domain, next_at FROM outbox_recipient"  # noqa: S608
    " WHERE state IN ('queued', 'leased') AND next_at <= :at"
    " AND domain NOT IN (SELECT value FROM json_each(:busy))"
    " AND domain NOT IN (SELECT domain FROM outbox_domain WHERE next_at > :at)),"
    " taken AS (SELECT DISTINCT message_id, domain FROM"
    " (SELECT message_id, domain FROM due ORDER BY next_at, id LIMIT :limit))"
    f" SELECT {_COLUMNS} JOIN due ON due.id = r.id"
    " JOIN taken ON taken.message_id = r.message_id AND taken.domain = r.domain"
    " ORDER BY r.next_at, r.id"
)
_UNTOLD = (
    f"SELECT {_COLUMNS} WHERE r.state IN ('queued', 'leased', 'held') AND r.delayed_at IS NULL"
    " AND m.queued_at <= :before ORDER BY r.id LIMIT :limit"
)
_EXPIRED = (
    f"SELECT {_COLUMNS} WHERE r.state IN ('queued', 'held') AND m.queued_at <= :before"
    " ORDER BY r.id LIMIT :limit"
)
_LEASE = "UPDATE outbox_recipient SET state = 'leased', next_at = :until WHERE id = :id"
_TAKE_BACK = (
    "UPDATE outbox_recipient SET state = CASE WHEN crashes >= :crashes THEN 'held' ELSE 'queued'"
    " END, next_at = :at, crashes = max(crashes, 1) WHERE state = 'leased'"
)
_GIVE_BACK = (
    "UPDATE outbox_recipient SET state = 'queued', next_at = :at, crashes = max(crashes - 1, 0)"
    " WHERE state = 'leased'"
)
_SUSPECT = "UPDATE outbox_recipient SET crashes = crashes + 1 WHERE id = ?"
_LATER = (
    "UPDATE outbox_recipient SET state = CASE WHEN :crashed AND crashes >= :crashes THEN 'held'"
    " ELSE 'queued' END, attempts = attempts + 1, next_at = :at, reply = :reply,"
    " crashes = CASE WHEN :crashed THEN max(crashes, 1) ELSE 0 END"
    " WHERE id = :id AND state IN ('queued', 'leased')"
)
_FINISH = (
    "UPDATE outbox_recipient SET state = :state, attempts = attempts + 1, next_at = :at,"
    " reply = :reply WHERE id = :id AND state IN ('queued', 'leased', 'held') RETURNING message_id"
)
_TOLD = "UPDATE outbox_recipient SET delayed_at = :at WHERE id = :id AND delayed_at IS NULL"
_DOMAIN_WAITS = (
    "INSERT INTO outbox_domain (domain, failures, next_at, reply) VALUES (:domain, :failures,"
    " :at, :reply) ON CONFLICT (domain) DO UPDATE SET failures = excluded.failures,"
    " next_at = excluded.next_at, reply = excluded.reply"
)
_DOMAIN_ANSWERS = "DELETE FROM outbox_domain WHERE domain = ?"
_RELEASE_BODY = (
    "SELECT blob_id FROM outbox_message WHERE id = :id AND blob_id IS NOT NULL AND NOT EXISTS"
    " (SELECT 1 FROM outbox_recipient WHERE message_id = :id"
    " AND state IN ('queued', 'leased', 'held'))"
)
_DROP_BODY = "UPDATE outbox_message SET blob_id = NULL, prefix = x'' WHERE id = :id"
_ENDED = (
    "SELECT id, message_id FROM outbox_recipient WHERE id > :after"
    " AND state IN ('sent', 'failed') AND next_at < :before ORDER BY id LIMIT :limit"
)
_FORGET_RECIPIENT = "DELETE FROM outbox_recipient WHERE id = ?"
_FORGET_MESSAGE = (
    "DELETE FROM outbox_message WHERE id = ?1 AND blob_id IS NULL AND NOT EXISTS"
    " (SELECT 1 FROM outbox_recipient WHERE message_id = ?1)"
)


@dataclass(frozen=True, slots=True)
class _Lease:
    at: int
    until: int
    limit: int
    busy: str


@dataclass(frozen=True, slots=True)
class _Tries:
    settled: tuple[Settled, ...]
    crashed: bool = False


class Outbox:
    """The outbound queue, one row for each remote recipient. All methods are coroutines.

    ``reply`` is a peer's answer as received, code first; it may bear an address, so that only its
    code leaves this package (``reply_code``).
    """

    def __init__(self, database: Database, commits: Commits, blobs: Blobs) -> None:
        self._database = database
        self._commits = commits
        self._blobs = blobs

    async def due(
        self, at: datetime, limit: int, lease_s: int, *, busy: Collection[str] = ()
    ) -> list[Outgoing]:
        """Lease what is to be sent now, the longest waiting first.

        Writes only when something is due.

        Args:
            at: aware UTC now.
            limit: how many recipients at most, those beside them in the same message and domain
                not counted.
            lease_s: seconds after which another call may take them again; longer than the
                longest transmission.
            busy: domains to leave alone.
        """
        now = to_micros(at)
        if await fetch_first(self._database, _ANY_DUE, {"at": now}) is None:
            return []
        until = to_micros(at + timedelta(seconds=lease_s))
        lease = _Lease(now, until, limit, json.dumps(sorted(busy)))
        return await self._database.write(_lease, lease)

    async def take_back(self, at: datetime) -> int:
        """Make due now what a worker that is gone had leased; give how many.

        For the one worker of a site, before it leases anything itself: after a crash nothing
        waits for leases that nobody holds. What had the worker's attention at each of
        ``CRASHES`` crashes is set aside instead.
        """
        return await self._database.write(_take_back, to_micros(at))

    async def give_back(self, at: datetime) -> int:
        """Make due now what a worker that stops in order had leased; give how many.

        It crashed over none of it: what ``suspect`` noted for this try is forgotten.
        """
        return await self._database.write(_give_back, to_micros(at))

    async def suspect(self, recipient_ids: Sequence[int]) -> None:
        """Note, before they are sent, that these had been leased when a worker crashed."""
        await self._database.write(_suspect, tuple(recipient_ids))

    async def next_at(self) -> datetime | None:
        """Say when something is due, None when nothing waits; leases count by their end."""
        row = await fetch_first(self._database, _NEXT)
        return None if row is None or row[0] is None else from_micros(row[0])

    async def settle(self, settled: Sequence[Settled], *, crashed: bool = False) -> None:
        """Note how one try ended for its recipients, in one transaction.

        Args:
            settled: each SENT, FAILED (the bounce is delivered first), or QUEUED until later.
            crashed: the worker failed over it; at ``CRASHES`` times it is set aside.
        """
        tries = _Tries(tuple(settled), crashed)
        if await self._commits.run(_settle, tries, lambda _more: (OUTBOX,)):
            await self._blobs.reap()

    async def done(self, recipient_id: int, reply: str, at: datetime) -> None:
        """Note that the peer took it."""
        await self.settle((Settled(recipient_id, OutboxState.SENT, reply, at),))

    async def failed(self, recipient_id: int, reply: str, at: datetime) -> None:
        """Note that it will not be sent; the bounce is delivered first."""
        await self.settle((Settled(recipient_id, OutboxState.FAILED, reply, at),))

    async def later(self, recipient_id: int, reply: str, next_at: datetime) -> None:
        """Put it back until ``next_at``, one attempt more."""
        await self.settle((Settled(recipient_id, OutboxState.QUEUED, reply, next_at),))

    async def untold(self, before: datetime, limit: int) -> list[Outgoing]:
        """Give what has waited since before an instant and whose sender was not told so."""
        return await self._some(_UNTOLD, before, limit)

    async def told(self, recipient_id: int, at: datetime) -> None:
        """Note that the sender knows that it waits."""
        await self._database.write(_told, (recipient_id, to_micros(at)))

    async def expired(self, before: datetime, limit: int) -> list[Outgoing]:
        """Give what has waited, or is held, and is not being sent, since before an instant."""
        return await self._some(_EXPIRED, before, limit)

    async def _some(self, statement: str, before: datetime, limit: int) -> list[Outgoing]:
        query = (statement, {"before": to_micros(before), "limit": limit})
        return await self._database.write(_select, query)

    async def domain(self, domain: str) -> DomainWait | None:
        """Say how long a domain is left alone, None when it is not."""
        row = await fetch_first(self._database, _DOMAIN, {"domain": domain})
        if row is None:
            return None
        return DomainWait(row[0], row[1], from_micros(row[2]), reply_code(row[3]))

    async def domain_waits(self, domain: str, failures: int, reply: str, until: datetime) -> None:
        """Leave a domain alone until an instant: its server could not be used."""
        row = {
            "domain": domain,
            "failures": failures,
            "reply": reply[:MAX_REPLY],
            "at": to_micros(until),
        }
        await self._database.write(_domain_waits, row)

    async def domain_answers(self, domain: str) -> None:
        """Forget that a domain's server could not be used."""
        await self._database.write(_domain_answers, domain)

    async def counts(self) -> dict[OutboxState, int]:
        """Count what waits, by state."""
        counts = dict.fromkeys((OutboxState.QUEUED, OutboxState.LEASED, OutboxState.HELD), 0)
        for state, count in await fetch_all(self._database, _COUNTS):
            counts[OutboxState(state)] = count
        return counts

    async def idle(self) -> bool:
        """Say whether nothing waits to be sent; what is held does not."""
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
        forgotten = after = 0
        while True:
            ids = await self._database.write(_forget, (to_micros(before), after))
            forgotten += len(ids)
            if len(ids) < FORGET_ROWS:
                return forgotten
            after = ids[-1]


def reply_code(reply: str) -> str:
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
    values = {"at": lease.at, "limit": lease.limit, "busy": lease.busy}
    found = _select(connection, (_DUE, values))
    connection.executemany(_LEASE, [{"id": each.id, "until": lease.until} for each in found])
    return found


def _select(connection: sqlite3.Connection, query: tuple[str, dict[str, Any]]) -> list[Outgoing]:
    """Any: a statement's own values."""
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
            options=stored_recipient(row["notify"], row["orcpt"]),
            mail=MailOptions(
                Return(row["ret"]) if row["ret"] else None,
                row["envid"],
                bool(row["require_tls"]),
                bool(row["smtputf8"]),
            ),
            crashes=row["crashes"],
            receipt_id=row["receipt_id"],
        )
        for row in connection.execute(*query)
    ]


def _take_back(connection: sqlite3.Connection, at: int) -> int:
    return connection.execute(_TAKE_BACK, {"at": at, "crashes": CRASHES}).rowcount


def _give_back(connection: sqlite3.Connection, at: int) -> int:
    return connection.execute(_GIVE_BACK, {"at": at}).rowcount


def _suspect(connection: sqlite3.Connection, ids: tuple[int, ...]) -> None:
    connection.executemany(_SUSPECT, [(each,) for each in ids])


def _told(connection: sqlite3.Connection, told: tuple[int, int]) -> None:
    recipient_id, at = told
    connection.execute(_TOLD, {"id": recipient_id, "at": at})
    move_queued(connection, recipient_id, Event(Source.CARRIAGE, Transport.DELAYED), at)


def _domain_waits(connection: sqlite3.Connection, row: dict[str, Any]) -> None:
    """Any: a row."""
    connection.execute(_DOMAIN_WAITS, row)


def _domain_answers(connection: sqlite3.Connection, domain: str) -> None:
    connection.execute(_DOMAIN_ANSWERS, (domain,))


def _settle(connection: sqlite3.Connection, tries: _Tries) -> bool:
    buried = False
    for each in tries.settled:
        reply, at = each.reply[:MAX_REPLY], to_micros(each.at)
        if each.state is OutboxState.QUEUED:
            connection.execute(
                _LATER,
                {
                    "id": each.id,
                    "at": at,
                    "reply": reply,
                    "crashed": tries.crashed,
                    "crashes": CRASHES,
                },
            )
        else:
            buried |= finish(connection, (each.id, each.state, reply, at))
    return buried


def finish(connection: sqlite3.Connection, end: tuple[int, OutboxState, str, int]) -> bool:
    """End one recipient (id, state, reply, microseconds); True when the body can be deleted."""
    recipient_id, state, reply, at = end
    row = connection.execute(
        _FINISH, {"id": recipient_id, "state": state.value, "reply": reply, "at": at}
    ).fetchone()
    if row is None:
        return False
    transport = Transport.RELAYED if state is OutboxState.SENT else Transport.FAILED
    code = "" if state is OutboxState.SENT else reply_code(reply)
    move_queued(connection, recipient_id, Event(Source.CARRIAGE, transport, code=code), at)
    body = connection.execute(_RELEASE_BODY, {"id": row[0]}).fetchone()
    if body is None:
        return False
    connection.execute(_DROP_BODY, {"id": row[0]})
    return bury(connection, (body[0],))


def _forget(connection: sqlite3.Connection, value: tuple[int, int]) -> list[int]:
    before, after = value
    query = {"before": before, "after": after, "limit": FORGET_ROWS}
    rows = connection.execute(_ENDED, query).fetchall()
    connection.executemany(_FORGET_RECIPIENT, [(row[0],) for row in rows])
    connection.executemany(_FORGET_MESSAGE, sorted({(row[1],) for row in rows}))
    return [row[0] for row in rows]
