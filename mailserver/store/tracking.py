"""Where the messages that this site's accounts sent stand, recipient by recipient.

Invariants: a row is written in the transaction that takes the message, and moved in the
transaction of what moves it: the queue's verdict, the delivery of a report, the bridge's outcome;
what a structure's own software is owed on it is written there too (``business_acks``).
A report moves only rows of the mailbox it was delivered to.

Source: RULES §9.
"""

import json
import sqlite3
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import bindparam, select

from directory.database import Database
from mailserver.message.progress import Event, Progress, Transport, Verdict, advance
from mailserver.store.business_acks import owe
from mailserver.store.model import Delivery, SentRecipient, from_micros, to_micros
from mailserver.store.rows import among, fetch_all
from mailserver.store.schema import MAILBOX, SENT_RECIPIENT

_INSERT = (
    "INSERT INTO sent_recipient (receipt_id, mailbox_id, message_id, address, transport, verdict,"
    " code, displayed, changed_at, person_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_BY_MESSAGE = (
    "SELECT id, transport, verdict, code, displayed FROM sent_recipient"
    " WHERE mailbox_id = :mailbox_id AND message_id = :message_id AND address = :address"
)
_QUEUED = (
    "SELECT m.receipt_id, r.forward_path FROM outbox_recipient AS r"
    " JOIN outbox_message AS m ON m.id = r.message_id WHERE r.id = :id"
)
_BY_ADDRESS = (
    "SELECT id, transport, verdict, code, displayed FROM sent_recipient"
    " WHERE receipt_id = :receipt_id AND address = :address"
)
_BY_RECEIPT = (
    "SELECT s.id, s.transport, s.verdict, s.code, s.displayed FROM sent_recipient AS s"
    " JOIN mailbox AS b ON b.address = s.address"
    " WHERE s.receipt_id = :receipt_id AND b.structure_id = :structure_id"
)
_MOVE = (
    "UPDATE sent_recipient SET transport = ?, verdict = ?, code = ?, displayed = ?,"
    " changed_at = ? WHERE id = ?"
)
_PERSON = MAILBOX.alias("person")
_COLUMNS = (
    SENT_RECIPIENT.c.receipt_id,
    SENT_RECIPIENT.c.message_id,
    SENT_RECIPIENT.c.address,
    SENT_RECIPIENT.c.transport,
    SENT_RECIPIENT.c.verdict,
    SENT_RECIPIENT.c.code,
    SENT_RECIPIENT.c.displayed,
    SENT_RECIPIENT.c.changed_at,
    MAILBOX.c.address,
    _PERSON.c.address,
)
_SENT = (
    select(*_COLUMNS)
    .select_from(
        SENT_RECIPIENT.join(MAILBOX, MAILBOX.c.id == SENT_RECIPIENT.c.mailbox_id).outerjoin(
            _PERSON, _PERSON.c.id == SENT_RECIPIENT.c.person_id
        )
    )
    .order_by(SENT_RECIPIENT.c.id)
)
_OF_RECEIPT = _SENT.where(SENT_RECIPIENT.c.receipt_id == bindparam("name"))
_OF_MESSAGE = _SENT.where(SENT_RECIPIENT.c.message_id == bindparam("name"))
_OF_MAILBOX = _OF_MESSAGE.where(SENT_RECIPIENT.c.mailbox_id == bindparam("mailbox_id"))
_AMONG = _SENT.where(
    SENT_RECIPIENT.c.mailbox_id == bindparam("mailbox_id"),
    among(SENT_RECIPIENT.c.message_id, "names"),
)


class Tracking:
    """Reads where sent messages stand. All methods are coroutines."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def receipt(self, receipt_id: str) -> list[SentRecipient]:
        """Give the recipients of the message that got this receipt."""
        return await self._read(_OF_RECEIPT, {"name": receipt_id})

    async def message(self, message_id: str) -> list[SentRecipient]:
        """Give the recipients of a Message-ID, angle brackets included."""
        return await self._read(_OF_MESSAGE, {"name": message_id})

    async def sent_by(self, mailbox_id: int, message_id: str) -> list[SentRecipient]:
        """Give the recipients of a message that this mailbox sent."""
        return await self._read(_OF_MAILBOX, {"mailbox_id": mailbox_id, "name": message_id})

    async def sent_among(
        self, mailbox_id: int, message_ids: Collection[str]
    ) -> dict[str, list[SentRecipient]]:
        """Give the recipients of those of these messages that this mailbox sent, by Message-ID."""
        found: dict[str, list[SentRecipient]] = {}
        values = {"mailbox_id": mailbox_id, "names": json.dumps(list(message_ids))}
        for each in await self._read(_AMONG, values):
            found.setdefault(each.message_id, []).append(each)
        return found

    async def _read(self, statement: Any, values: Mapping[str, Any]) -> list[SentRecipient]:
        """Any: SQLAlchemy's own statement types."""
        return [
            SentRecipient(
                row[0],
                row[1],
                row[2],
                Progress(Transport(row[3]), Verdict(row[4]), row[5], bool(row[6])),
                from_micros(row[7]),
                row[8],
                row[9],
            )
            for row in await fetch_all(self._database, statement, values)
        ]


# What follows runs on the writer's thread, inside its transaction.


def track(connection: sqlite3.Connection, delivery: Delivery) -> None:
    """Write the recipients of a submission, and move those that a report speaks of."""
    at = to_micros(delivery.at)
    if delivery.tracked:
        rows = [
            (
                delivery.receipt_id,
                each.mailbox_id,
                each.message_id,
                each.address,
                *_stored(each.progress),
                at,
                each.person_id,
            )
            for each in delivery.tracked
        ]
        connection.executemany(_INSERT, rows)
    for seen in delivery.observed:
        found = connection.execute(
            _BY_MESSAGE,
            {
                "mailbox_id": seen.mailbox_id,
                "message_id": seen.message_id,
                "address": seen.address,
            },
        )
        _move(connection, found.fetchall(), seen.event, at)


def move_queued(connection: sqlite3.Connection, recipient_id: int, event: Event, at: int) -> None:
    """Move the recipient that a row of the queue is about."""
    queued = connection.execute(_QUEUED, {"id": recipient_id}).fetchone()
    if queued is None:
        return
    # Not SQL's lower(), which knows ASCII only.
    values = {"receipt_id": queued[0], "address": queued[1].lower()}
    _move(connection, connection.execute(_BY_ADDRESS, values).fetchall(), event, at)


def move_filed(
    connection: sqlite3.Connection, filing: tuple[str, str], event: Event, at: int
) -> None:
    """Move the recipients in a structure whose bridge said an outcome: (receipt, structure)."""
    values = {"receipt_id": filing[0], "structure_id": filing[1]}
    _move(connection, connection.execute(_BY_RECEIPT, values).fetchall(), event, at)


def _move(connection: sqlite3.Connection, rows: list[Any], event: Event, at: int) -> None:
    """Any: sqlite3's own rows."""
    for row in rows:
        progress = Progress(Transport(row[1]), Verdict(row[2]), row[3], bool(row[4]))
        moved = advance(progress, event)
        if moved != progress:
            connection.execute(_MOVE, (*_stored(moved), at, row[0]))
            owe(connection, row[0], moved, at)


def _stored(progress: Progress) -> tuple[str, str, str, bool]:
    return (
        progress.transport.value,
        progress.verdict.value,
        progress.code,
        progress.displayed,
    )
