"""What an administrator sees of the outbound queue, and does to it.

Invariants: nothing here names an address; an act and its trail event are one transaction; what is
being sent at this moment is not touched.
"""

import json
import sqlite3
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select

from directory import trail
from directory.audit_event import AuditEvent
from directory.database import Database
from mailserver.store.blobs import Blobs
from mailserver.store.changes import OUTBOX, Commits
from mailserver.store.model import DomainWait, OutboxItem, OutboxState, from_micros, to_micros
from mailserver.store.outbox import finish, reply_code
from mailserver.store.rows import fetch_all
from mailserver.store.schema import OUTBOX_DOMAIN, OUTBOX_MESSAGE, OUTBOX_RECIPIENT, TRAIL

DELETED = "554 5.7.0 Taken out of the queue"

_LIST = (
    select(
        OUTBOX_RECIPIENT.c.id,
        OUTBOX_RECIPIENT.c.domain,
        OUTBOX_RECIPIENT.c.state,
        OUTBOX_RECIPIENT.c.attempts,
        OUTBOX_RECIPIENT.c.next_at,
        OUTBOX_RECIPIENT.c.reply,
        OUTBOX_MESSAGE.c.queued_at,
        OUTBOX_MESSAGE.c.octets,
        OUTBOX_RECIPIENT.c.crashes,
        OUTBOX_RECIPIENT.c.delayed_at,
        OUTBOX_MESSAGE.c.receipt_id,
    )
    .select_from(
        OUTBOX_RECIPIENT.join(OUTBOX_MESSAGE, OUTBOX_MESSAGE.c.id == OUTBOX_RECIPIENT.c.message_id)
    )
    .where(OUTBOX_RECIPIENT.c.state.in_(("queued", "leased", "held")))
    .order_by(OUTBOX_RECIPIENT.c.id)
)
_DOMAINS = select(
    OUTBOX_DOMAIN.c.domain,
    OUTBOX_DOMAIN.c.failures,
    OUTBOX_DOMAIN.c.next_at,
    OUTBOX_DOMAIN.c.reply,
).order_by(OUTBOX_DOMAIN.c.domain)

_STATES = (
    "SELECT id, state FROM outbox_recipient WHERE state IN ('queued', 'leased', 'held')"
    " AND id IN (SELECT value FROM json_each(?))"
)
_CHOSEN = (
    "SELECT id, domain FROM outbox_recipient WHERE state IN"
    " (SELECT value FROM json_each(:states)) AND (id IN (SELECT value FROM json_each(:ids))"
    " OR domain IN (SELECT value FROM json_each(:domains)))"
)
_RETRY = "UPDATE outbox_recipient SET next_at = :at WHERE id = :id"
_HOLD = "UPDATE outbox_recipient SET state = 'held' WHERE id = :id"
_RELEASE = (
    "UPDATE outbox_recipient SET state = 'queued', next_at = :at, crashes = 0 WHERE id = :id"
)
_FORGET_DOMAIN = "DELETE FROM outbox_domain WHERE domain = ?"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which rows of the queue an act is for: these, and those to these domains."""

    ids: tuple[int, ...] = ()
    domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Act:
    choice: Choice
    event: AuditEvent


class QueueControl:
    """The queue as ``pli queue`` shows and changes it. All methods are coroutines.

    Each act gives the lines it changed, and writes ``event``, which says who did it and when, once
    for each of them.
    """

    def __init__(self, database: Database, commits: Commits, blobs: Blobs) -> None:
        self._database = database
        self._commits = commits
        self._blobs = blobs

    async def items(self) -> list[OutboxItem]:
        """List what waits or is held, without an address."""
        return [
            OutboxItem(
                id=row[0],
                domain=row[1],
                state=OutboxState(row[2]),
                attempts=row[3],
                next_at=from_micros(row[4]),
                reply_code=reply_code(row[5]),
                queued_at=from_micros(row[6]),
                octets=row[7],
                crashes=row[8],
                delayed_at=None if row[9] is None else from_micros(row[9]),
                receipt_id=row[10],
            )
            for row in await fetch_all(self._database, _LIST)
        ]

    async def states(self, ids: tuple[int, ...]) -> dict[int, OutboxState]:
        """Say how lines stand, those that are there at all."""
        return await self._database.read(_states, ids)

    async def domains(self) -> list[DomainWait]:
        """List the domains that are left alone for now."""
        return [
            DomainWait(row[0], row[1], from_micros(row[2]), reply_code(row[3]))
            for row in await fetch_all(self._database, _DOMAINS)
        ]

    async def retry(self, choice: Choice, event: AuditEvent) -> tuple[int, ...]:
        """Make what waits due now, its domain's own wait included."""
        return await self._commits.run(_retry, _Act(choice, event), lambda _ids: (OUTBOX,))

    async def hold(self, choice: Choice, event: AuditEvent) -> tuple[int, ...]:
        """Keep what waits from being sent until it is released."""
        return await self._commits.run(_hold, _Act(choice, event), lambda _ids: (OUTBOX,))

    async def release(self, choice: Choice, event: AuditEvent) -> tuple[int, ...]:
        """Make what is held due now."""
        return await self._commits.run(_release, _Act(choice, event), lambda _ids: (OUTBOX,))

    async def delete(self, choice: Choice, event: AuditEvent) -> tuple[int, ...]:
        """Take out of the queue for good; nobody is told but the trail and the track."""
        ids = await self._commits.run(_delete, _Act(choice, event), lambda _ids: (OUTBOX,))
        await self._blobs.reap()
        return ids


def _states(connection: sqlite3.Connection, ids: tuple[int, ...]) -> dict[int, OutboxState]:
    """Read on a reader's thread."""
    rows = connection.execute(_STATES, (json.dumps(ids),))
    return {row[0]: OutboxState(row[1]) for row in rows}


# What follows runs on the writer's thread, inside its transaction.


def _chosen(
    connection: sqlite3.Connection, choice: Choice, states: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Any: rows."""
    values = {
        "states": json.dumps(states),
        "ids": json.dumps(choice.ids),
        "domains": json.dumps(choice.domains),
    }
    return [dict(row) for row in connection.execute(_CHOSEN, values)]


def _each(
    connection: sqlite3.Connection, act: _Act, states: tuple[str, ...], statement: str
) -> list[dict[str, Any]]:
    """Any: rows."""
    rows = _chosen(connection, act.choice, states)
    at = to_micros(act.event.at)
    connection.executemany(statement, [{"id": row["id"], "at": at} for row in rows])
    _write_down(connection, act, rows)
    return rows


def _write_down(connection: sqlite3.Connection, act: _Act, rows: list[dict[str, Any]]) -> None:
    """Any: rows."""
    events = [replace(act.event, subject=f"item:{row['id']}") for row in rows]
    trail.append(connection, TRAIL, events)


def _retry(connection: sqlite3.Connection, act: _Act) -> tuple[int, ...]:
    rows = _each(connection, act, ("queued",), _RETRY)
    domains = {row["domain"] for row in rows} | set(act.choice.domains)
    connection.executemany(_FORGET_DOMAIN, [(domain,) for domain in sorted(domains)])
    return _ids(rows)


def _hold(connection: sqlite3.Connection, act: _Act) -> tuple[int, ...]:
    return _ids(_each(connection, act, ("queued",), _HOLD))


def _release(connection: sqlite3.Connection, act: _Act) -> tuple[int, ...]:
    return _ids(_each(connection, act, ("held",), _RELEASE))


def _delete(connection: sqlite3.Connection, act: _Act) -> tuple[int, ...]:
    rows = _chosen(connection, act.choice, ("queued", "held"))
    for row in rows:
        finish(connection, (row["id"], OutboxState.FAILED, DELETED, to_micros(act.event.at)))
    _write_down(connection, act, rows)
    return _ids(rows)


def _ids(rows: list[dict[str, Any]]) -> tuple[int, ...]:
    """Any: rows."""
    return tuple(row["id"] for row in rows)
