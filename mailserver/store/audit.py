"""The mail database's trail: who read, sent, received and changed what (RULES §13).

Thin over ``directory.trail``: the tables are this database's, the rules are there.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import bindparam, func, select

from directory import trail
from directory.database import Database
from directory.trail import AuditEvent, Sealing, SignedRoot, StoredEvent, TrailReport
from mailserver.store.model import from_micros
from mailserver.store.rows import fetch_all, fetch_first
from mailserver.store.schema import TRAIL

_EVENT = TRAIL.event
_EVENTS = (
    select(
        _EVENT.c.event_id,
        _EVENT.c.sequence,
        _EVENT.c.kind,
        _EVENT.c.at,
        _EVENT.c.actor,
        _EVENT.c.structure_id,
        _EVENT.c.subject,
        _EVENT.c.facts,
    )
    .where(_EVENT.c.subject == bindparam("subject"))
    .order_by(_EVENT.c.event_id.desc())
    .limit(bindparam("limit"))
)
_READINGS: Final = _EVENTS.where(_EVENT.c.kind.in_(("imap_read", "message_read")))
_UNSEALED = select(func.count()).select_from(_EVENT).where(_EVENT.c.sequence.is_(None))


@dataclass(frozen=True, slots=True)
class Reading:
    """Somebody read messages of a mailbox, by one command or one page.

    Attributes:
        actor: as the trail names them.
        via: ``imap``, ``webmail`` or ``cli``.
        messages: how many.
    """

    at: datetime
    actor: str
    via: str
    messages: int


class Audit:
    """The trail of one mail database. All methods but ``verify`` are coroutines."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, events: Sequence[AuditEvent]) -> None:
        """Append events that no other transaction carries; durable when it returns."""
        if events:
            await self._database.write(_append, tuple(events))

    async def seal(self, at: datetime, sign: Callable[[bytes], bytes]) -> SignedRoot | None:
        """Order and seal what is unsealed, and sign the new root.

        Returns:
            The new root to export, None when nothing was unsealed; some at a
            time, so call again until None.
        """
        if not await self.unsealed():
            return None
        return await self._database.write(trail.seal, Sealing(at, sign))

    async def unsealed(self) -> int:
        """Count the events that wait for the sealer."""
        row = await fetch_first(self._database, _UNSEALED)
        return 0 if row is None else int(row[0])

    async def events(self, *, subject: str, limit: int = 500) -> list[StoredEvent]:
        """Give the events about one subject, the newest first; erased ones are left out."""
        rows = await fetch_all(self._database, _EVENTS, {"subject": subject, "limit": limit})
        return [_stored(row) for row in rows]

    async def readings(self, mailbox_id: int, limit: int = 500) -> list[Reading]:
        """Give who read the content of a mailbox's messages, the newest first (RULES §13)."""
        wanted = {"subject": f"mailbox:{mailbox_id}", "limit": limit}
        rows = await fetch_all(self._database, _READINGS, wanted)
        return [_reading(_stored(row).event) for row in rows]

    def verify(
        self, public_key: Ed25519PublicKey, outside: Iterable[SignedRoot] = ()
    ) -> TrailReport:
        """Recompute the whole trail. Blocking: for a thread or a command."""
        with closing(sqlite3.connect(self._database.path)) as connection:
            connection.execute("PRAGMA query_only=1")
            return trail.verify(connection, public_key, outside)


def _stored(row: Any) -> StoredEvent:
    event = AuditEvent(row[2], from_micros(row[3]), row[4], row[5], row[6], json.loads(row[7]))
    return StoredEvent(row[0], row[1], event)


def _reading(event: AuditEvent) -> Reading:
    via = "imap" if event.kind == "imap_read" else str(event.facts["via"])
    ends = (each.partition(":") for each in str(event.facts["uids"]).split(","))
    messages = sum(int(last or first) - int(first) + 1 for first, _, last in ends)
    return Reading(event.at, event.actor, via, messages)


def _append(connection: sqlite3.Connection, events: tuple[AuditEvent, ...]) -> None:
    trail.append(connection, TRAIL, events)
