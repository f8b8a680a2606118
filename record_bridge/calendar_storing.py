"""The transactions that keep personal calendars: objects, keys, answered invitations.

Each writes its event to the trail (RULES §13), and refuses what a closed record does not take.

Source: RFC 4791 §5.3.2, RFC 5546 §2.1.5, RULES §8.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from directory.audit_event import AuditEvent
from directory.trail import append
from record_bridge import identity_storing
from record_bridge.calendar_objects import Detail, entry_uid, etag_of
from record_bridge.errors import RecordStateError
from record_bridge.formats.ical import Appointment, write_calendar
from record_bridge.repository import insert, micros
from record_bridge.schema import TRAIL

MAX_OWN_ENTRIES: Final = 1000
MAX_KEYS: Final = 20
KEY_LIFETIME: Final = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Put:
    """An object to keep; ``expected`` is the tag it must have now, "" for none, "*" for any."""

    patient_id: int
    name: str
    appointment: Appointment
    ics: bytes
    expected: str | None
    organizer: str
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Delete:
    """An object to take away; ``expected`` as of ``Put``."""

    patient_id: int
    name: str
    expected: str | None
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key to make, by the digest of its secret."""

    patient_id: int
    kind: str
    login: str
    digest: bytes
    name: str
    detail: Detail
    holder: str
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to an invitation, and the appointment it makes, changes or calls off."""

    patient_id: int
    invited: Appointment
    answer: str
    actor: str
    at: datetime


def _structure_of(connection: sqlite3.Connection, patient_id: int) -> str:
    row = connection.execute(
        "SELECT structure_id FROM patient WHERE id = ?", (patient_id,)
    ).fetchone()
    if row is None:
        raise RecordStateError("no_such_patient")
    return str(row[0])


def put(connection: sqlite3.Connection, wanted: Put) -> bool:
    """Keep an object of the patient; say whether it is new.

    Raises:
        RecordStateError: its tag is not the expected one, another object has its UID, there are
            too many, or the record is closed.
    """
    structure_id = _structure_of(connection, wanted.patient_id)
    identity_storing.takes_more(connection, wanted.patient_id)
    _expect(connection, wanted)
    known = connection.execute(
        "SELECT name FROM own_entry WHERE patient_id = ? AND uid = ?",
        (wanted.patient_id, wanted.appointment.uid),
    ).fetchone()
    if known is not None and known[0] != wanted.name:
        raise RecordStateError("uid_taken")
    count = connection.execute(
        "SELECT count(*), count(*) FILTER (WHERE name = ?) FROM own_entry WHERE patient_id = ?",
        (wanted.name, wanted.patient_id),
    ).fetchone()
    if not count[1] and count[0] >= MAX_OWN_ENTRIES:
        raise RecordStateError("too_many")
    _keep(connection, wanted)
    subject = f"patient:{wanted.patient_id}"
    event = AuditEvent("own_entry_written", wanted.at, wanted.actor, structure_id, subject)
    append(connection, TRAIL, [event])
    return not count[1]


def _expect(connection: sqlite3.Connection, change: Put | Delete) -> None:
    """Source: RFC 9110 §13.1.1, RFC 9110 §13.1.2."""
    if change.expected is None:
        return
    row = connection.execute(
        "SELECT ics FROM own_entry WHERE patient_id = ? AND name = ?",
        (change.patient_id, change.name),
    ).fetchone()
    now = "" if row is None else etag_of(row[0])
    if now != change.expected and not (change.expected == "*" and row is not None):
        raise RecordStateError("etag_differs")


def _keep(connection: sqlite3.Connection, put: Put) -> None:
    appointment, at = put.appointment, micros(put.at)
    values = {
        "patient_id": put.patient_id,
        "name": put.name,
        "uid": appointment.uid,
        "ics": put.ics,
        "title": appointment.summary or "Rendez-vous",
        "place": appointment.place,
        "day": appointment.day.isoformat(),
        "last_day": appointment.last_day.isoformat() if appointment.last_day else None,
        "start_at": micros(appointment.start_at) if appointment.start_at else None,
        "end_at": micros(appointment.end_at) if appointment.end_at else None,
        "organizer": put.organizer,
        "cancelled": int(appointment.cancelled),
        "created_at": at,
        "changed_at": at,
    }
    changed = ", ".join(
        f"{name} = excluded.{name}"
        for name in values
        if name not in ("patient_id", "name", "created_at", "organizer")
    )
    connection.execute(
        f"INSERT INTO own_entry ({', '.join(values)})"  # noqa: S608 - constants
        f" VALUES ({', '.join(f':{name}' for name in values)})"
        f" ON CONFLICT (patient_id, name) DO UPDATE SET {changed}",
        values,
    )


def delete(connection: sqlite3.Connection, wanted: Delete) -> None:
    """Take an object of the patient away.

    Raises:
        RecordStateError: there is none of this name, or its tag is not the expected one.
    """
    structure_id = _structure_of(connection, wanted.patient_id)
    _expect(connection, wanted)
    cursor = connection.execute(
        "DELETE FROM own_entry WHERE patient_id = ? AND name = ?",
        (wanted.patient_id, wanted.name),
    )
    if cursor.rowcount != 1:
        raise RecordStateError("no_such_entry")
    subject = f"patient:{wanted.patient_id}"
    event = AuditEvent("own_entry_deleted", wanted.at, wanted.actor, structure_id, subject)
    append(connection, TRAIL, [event])


def add_key(connection: sqlite3.Connection, key: NewKey) -> None:
    """Keep a key; a new feed stops the one before it.

    Raises:
        RecordStateError: there is no such patient, or there are too many keys.
    """
    structure_id = _structure_of(connection, key.patient_id)
    at = micros(key.at)
    if key.kind == "feed":
        connection.execute(
            "UPDATE calendar_key SET stopped_at = ?"
            " WHERE patient_id = ? AND kind = 'feed' AND stopped_at IS NULL",
            (at, key.patient_id),
        )
    alive = connection.execute(
        "SELECT count(*) FROM calendar_key"
        " WHERE patient_id = ? AND stopped_at IS NULL AND expires_at > ?",
        (key.patient_id, at),
    ).fetchone()[0]
    if alive >= MAX_KEYS:
        raise RecordStateError("too_many")
    insert(
        connection,
        "calendar_key",
        {
            "patient_id": key.patient_id,
            "kind": key.kind,
            "login": key.login,
            "digest": key.digest,
            "name": key.name,
            "detail": key.detail.value,
            "holder": key.holder,
            "created_at": at,
            "expires_at": micros(key.at + KEY_LIFETIME),
        },
    )
    subject = f"patient:{key.patient_id}"
    event = AuditEvent("calendar_key_made", key.at, key.actor, structure_id, subject)
    append(connection, TRAIL, [event])


def stop_key(connection: sqlite3.Connection, value: tuple[int, int, str, datetime]) -> None:
    """Stop a key: (patient, key, actor, at).

    Raises:
        RecordStateError: the patient has no such key.
    """
    patient_id, key_id, actor, at = value
    structure_id = _structure_of(connection, patient_id)
    cursor = connection.execute(
        "UPDATE calendar_key SET stopped_at = ?"
        " WHERE id = ? AND patient_id = ? AND stopped_at IS NULL",
        (micros(at), key_id, patient_id),
    )
    if cursor.rowcount != 1:
        raise RecordStateError("no_such_entry")
    event = AuditEvent("calendar_key_stopped", at, actor, structure_id, f"patient:{patient_id}")
    append(connection, TRAIL, [event])


def answer(connection: sqlite3.Connection, given: Answer) -> None:
    """Note an answer to an invitation, and what it makes of the agenda.

    Raises:
        RecordStateError: a later version was answered, or it is accepted into a closed record.
    """
    structure_id = _structure_of(connection, given.patient_id)
    if given.answer == "accepted":
        identity_storing.takes_more(connection, given.patient_id)
    invited = given.invited
    row = connection.execute(
        "SELECT sequence FROM invitation WHERE patient_id = ? AND organizer = ? AND uid = ?",
        (given.patient_id, invited.organizer, invited.uid),
    ).fetchone()
    if row is not None and row[0] > invited.sequence:
        raise RecordStateError("newer_known")
    connection.execute(
        "INSERT INTO invitation (patient_id, organizer, uid, sequence, answer, answered_at)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (patient_id, organizer, uid) DO UPDATE SET"
        " sequence = excluded.sequence, answer = excluded.answer,"
        " answered_at = excluded.answered_at",
        (
            given.patient_id,
            invited.organizer,
            invited.uid,
            invited.sequence,
            given.answer,
            micros(given.at),
        ),
    )
    # Another organizer's appointment of the same UID, or one's own, is never touched.
    uid = entry_uid(f"{invited.organizer}\x00{invited.uid}", 0)
    if given.answer == "accepted":
        kept = Appointment(
            uid,
            invited.summary,
            invited.day,
            invited.start_at,
            invited.end_at,
            invited.last_day,
            invited.place,
            sequence=invited.sequence,
        )
        ics = write_calendar((kept,), (given.at,))
        put = Put(
            given.patient_id,
            f"{uid}.ics",
            kept,
            ics,
            None,
            invited.organizer,
            given.actor,
            given.at,
        )
        _keep(connection, put)
    else:
        # declined or called off: nothing is left of it in the agenda but the answer
        connection.execute(
            "DELETE FROM own_entry WHERE patient_id = ? AND uid = ? AND organizer = ?",
            (given.patient_id, uid, invited.organizer),
        )
    event = AuditEvent(
        "invitation_answered", given.at, given.actor, structure_id,
        f"patient:{given.patient_id}",
    )  # fmt: skip
    append(connection, TRAIL, [event])
