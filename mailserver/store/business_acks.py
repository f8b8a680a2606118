"""What a structure's own software is owed on the mail its HL7 v2 messages became.

Invariants: what is owed is written in the transaction that moves the recipient (``tracking``) or
that notes the wish, so a crash loses none; each thing said of a recipient (received, failed, read,
refused) is owed once, however often it is observed; a row is settled once.

Source: CI-SIS §HL7V2 (2.1, business acknowledgements), RULES §9.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from directory.database import Database
from mailserver.message.progress import Progress, Transport, Verdict
from mailserver.store.model import from_micros, to_micros

SCHEDULE_S: Final = (5, 30, 300, 3600)
"""Seconds before the next try; the last one repeats."""
GIVE_UP_AFTER: Final = timedelta(days=5)
MAX_TRIES: Final = 10
"""Of which the software answered each with a refusal: about six hours."""
CODE_AFTER: Final = timedelta(hours=1)
"""What this site's record sets aside says no code; the answer it sends says one soon after."""
KEEP_FOR: Final = timedelta(days=365)
"""What came of a message is told so long after it was taken; where it stands later is in its
tracking, which stays. No text says how long (a token of the FHIR interface lives as long)."""
BATCH: Final = 20
_FORGOTTEN_AT_ONCE: Final = 500

RECEPTION: Final = "Z02"
READING: Final = "Z03"

_ORDER = (
    "INSERT INTO hl7_order (receipt_id, structure_id, control_id, sending_application,"
    " sending_facility, receiving_application, receiving_facility, processing, reception, reading)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (receipt_id) DO NOTHING"
)
_RECIPIENTS = (
    "SELECT id, transport, verdict, code, displayed, changed_at FROM sent_recipient"
    " WHERE receipt_id = ?"
)
_OWE = (
    "INSERT INTO business_ack (recipient_id, kind, success, code, state, attempts, created_at,"
    " next_at) SELECT s.id, :kind, :success, :code, 'waiting', 0, :at, :next_at"
    " FROM sent_recipient AS s JOIN hl7_order AS o ON o.receipt_id = s.receipt_id"
    " WHERE s.id = :id AND iif(:kind = 'Z02', o.reception, o.reading)"
    " ON CONFLICT (recipient_id, kind, success) DO UPDATE SET code = excluded.code,"
    " next_at = excluded.next_at WHERE code = '' AND excluded.code <> '' AND attempts = 0"
)
_DUE = (
    "SELECT a.id, a.kind, a.success, a.code, a.created_at, s.address, o.control_id,"
    " o.sending_application, o.sending_facility, o.receiving_application, o.receiving_facility,"
    " o.processing FROM business_ack AS a JOIN sent_recipient AS s ON s.id = a.recipient_id"
    " JOIN hl7_order AS o ON o.receipt_id = s.receipt_id"
    " WHERE a.state = 'waiting' AND a.next_at <= :at AND o.structure_id = :structure_id"
    " ORDER BY a.next_at, a.id LIMIT :many"
)
_GIVE_UP_OLD = (
    "UPDATE business_ack SET state = 'given_up' WHERE state = 'waiting' AND created_at < ?"
)
_OLD = (
    "SELECT o.receipt_id FROM hl7_order AS o JOIN receipt AS r ON r.receipt_id = o.receipt_id"
    " WHERE r.received_at < ? AND NOT EXISTS (SELECT 1 FROM sent_recipient AS s"
    " JOIN business_ack AS a ON a.recipient_id = s.id"
    " WHERE s.receipt_id = o.receipt_id AND a.state = 'waiting') LIMIT ?"
)
_FORGET_ACKS = (
    "DELETE FROM business_ack WHERE recipient_id IN"
    " (SELECT id FROM sent_recipient WHERE receipt_id = ?)"
)
_FORGET_ORDER = "DELETE FROM hl7_order WHERE receipt_id = ?"
_SETTLE = "UPDATE business_ack SET state = ? WHERE id = ? AND state = 'waiting'"
_LATER = (
    "UPDATE business_ack SET attempts = attempts + 1, next_at = ? WHERE id = ?"
    " AND state = 'waiting' RETURNING attempts, created_at"
)


@dataclass(frozen=True, slots=True)
class Hl7Order:
    """An HL7 v2 message that became mail, and what its software wants to be told.

    Attributes:
        receipt_ids: of that mail; control_id: MSH-10.
        sending, receiving: (application, facility) of MSH-3 to MSH-6.
        processing: MSH-11.
        reception, reading: whether it asked for these acknowledgements.
    """

    receipt_ids: tuple[str, ...]
    structure_id: str
    control_id: str
    sending: tuple[str, str]
    receiving: tuple[str, str]
    processing: str
    reception: bool
    reading: bool


@dataclass(frozen=True, slots=True)
class DueAck:
    """One acknowledgement to send now.

    Attributes:
        kind: ``RECEPTION`` or ``READING``; code: of the failure as tracking knows it, or "".
        original_id, sending, receiving, processing: of the order.
    """

    id: int
    kind: str
    success: bool
    code: str
    since: datetime
    address: str
    original_id: str
    sending: tuple[str, str]
    receiving: tuple[str, str]
    processing: str


class BusinessAcks:
    """The queue of acknowledgements to the structures' software. All methods are coroutines."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, order: Hl7Order, at: datetime) -> None:
        """Note what an order's software wants to be told, and owe what is known already.

        A message that was taken before keeps the order that it was taken with.
        """
        await self._database.write(_keep, (order, to_micros(at)))

    async def due(self, structure_id: str, at: datetime) -> list[DueAck]:
        """Give what is to be sent now, at most ``BATCH``, the longest waiting first."""
        return await self._database.read(_due, (structure_id, to_micros(at)))

    async def done(self, ack_id: int) -> None:
        """Note that the software took it."""
        await self._database.write(_settle, ("done", ack_id))

    async def again(self, ack_id: int, at: datetime, *, refused: bool) -> bool:
        """Note that a try failed (``refused``: by its answer); True when it was the last."""
        return await self._database.write(_again, (ack_id, to_micros(at), refused))

    async def give_up_old(self, at: datetime) -> int:
        """Give up what waited too long, whose software is gone too; say how many."""
        return await self._database.write(_give_up_old, to_micros(at - GIVE_UP_AFTER))

    async def forget(self, at: datetime) -> None:
        """Let go of orders taken ``KEEP_FOR`` ago that owe nothing now, and of what was told.

        An order goes with its rows: they alone say that a thing was told already.
        """
        before = to_micros(at - KEEP_FOR)
        while old := await self._database.read(_old, before):
            await self._database.write(_forget, old)


# What follows runs on the writer's thread, inside its transaction.


def owe(connection: sqlite3.Connection, recipient_id: int, progress: Progress, at: int) -> None:
    """Queue what a recipient's new standing has to tell, when its software asked for it."""
    for kind, success, code in owed(progress):
        unsaid = kind == READING and not success and not code
        wait = to_micros(from_micros(at) + CODE_AFTER) if unsaid else at
        connection.execute(
            _OWE,
            {
                "id": recipient_id,
                "kind": kind,
                "success": success,
                "code": code,
                "at": at,
                "next_at": wait,
            },
        )


def owed(progress: Progress) -> list[tuple[str, bool, str]]:
    """Give what a standing says: (kind, success, code). Pure.

    The recipient's operator took it, or it failed; it was read or filed, or set aside.
    """
    found = []
    if progress.transport is Transport.FAILED:
        found.append((RECEPTION, False, progress.code))
    elif progress.transport in {Transport.RELAYED, Transport.DELIVERED}:
        found.append((RECEPTION, True, ""))
    if progress.verdict is Verdict.QUARANTINED:
        found.append((READING, False, progress.code))
    elif progress.displayed or progress.verdict is Verdict.FILED:
        found.append((READING, True, ""))
    return found


def _keep(connection: sqlite3.Connection, value: tuple[Hl7Order, int]) -> None:
    order, at = value
    for receipt_id in order.receipt_ids:
        row = (
            receipt_id,
            order.structure_id,
            order.control_id,
            *order.sending,
            *order.receiving,
            order.processing,
            order.reception,
            order.reading,
        )
        connection.execute(_ORDER, row)
        for each in connection.execute(_RECIPIENTS, (receipt_id,)).fetchall():
            standing = Progress(Transport(each[1]), Verdict(each[2]), each[3], bool(each[4]))
            owe(connection, each[0], standing, at)


def _due(connection: sqlite3.Connection, value: tuple[str, int]) -> list[DueAck]:
    structure_id, at = value
    rows = connection.execute(_DUE, {"structure_id": structure_id, "at": at, "many": BATCH})
    return [
        DueAck(
            id=row[0],
            kind=row[1],
            success=bool(row[2]),
            code=row[3],
            since=from_micros(row[4]),
            address=row[5],
            original_id=row[6],
            sending=(row[7], row[8]),
            receiving=(row[9], row[10]),
            processing=row[11],
        )
        for row in rows
    ]


def _settle(connection: sqlite3.Connection, value: tuple[str, int]) -> None:
    connection.execute(_SETTLE, value)


def _again(connection: sqlite3.Connection, value: tuple[int, int, bool]) -> bool:
    ack_id, at, refused = value
    row = connection.execute(
        "SELECT attempts FROM business_ack WHERE id = ? AND state = 'waiting'", (ack_id,)
    ).fetchone()
    if row is None:
        return False
    wait = timedelta(seconds=SCHEDULE_S[min(row[0], len(SCHEDULE_S) - 1)])
    attempts, created_at = connection.execute(
        _LATER, (to_micros(from_micros(at) + wait), ack_id)
    ).fetchone()
    old = from_micros(at) - from_micros(created_at) > GIVE_UP_AFTER
    if not old and not (refused and attempts >= MAX_TRIES):
        return False
    connection.execute(_SETTLE, ("given_up", ack_id))
    return True


def _give_up_old(connection: sqlite3.Connection, before: int) -> int:
    return connection.execute(_GIVE_UP_OLD, (before,)).rowcount


def _old(connection: sqlite3.Connection, before: int) -> list[str]:
    rows = connection.execute(_OLD, (before, _FORGOTTEN_AT_ONCE))
    return [str(row[0]) for row in rows]


def _forget(connection: sqlite3.Connection, receipt_ids: list[str]) -> None:
    named = [(each,) for each in receipt_ids]
    connection.executemany(_FORGET_ACKS, named)
    connection.executemany(_FORGET_ORDER, named)
