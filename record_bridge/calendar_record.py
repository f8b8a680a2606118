"""Personal calendars of a record: what each one holds, and what the record's writer does for them.

Two calendars: what documents say, which only documents change, and what the patient notes, which
the patient writes. Keys are random, kept as digests, told once (RULES §12); each opens one
agenda until it is stopped or a year has passed.

Source: RULES §8, RULES §14, RFC 4791 §5.3.2.
"""

import hashlib
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from directory.audit_event import AuditEvent
from directory.database import Database
from directory.trail import append
from record_bridge import storing
from record_bridge.admission import reads_packs
from record_bridge.calendar_objects import (
    CalendarObject,
    Dated,
    Detail,
    entry_uid,
    etag_of,
    stored_object,
)
from record_bridge.errors import MalformedIcalendarError, RecordStateError
from record_bridge.formats.ical import (
    MAX_OCTETS,
    MAX_TEXT,
    Appointment,
    read_calendar,
    write_calendar,
)
from record_bridge.life_queries import OwnEntry
from record_bridge.model import Viewer
from record_bridge.queries import RecordQueries
from record_bridge.repository import insert, micros
from record_bridge.schema import TRAIL

Arguments = Mapping[str, Any]
MAX_OWN_ENTRIES: Final = 1000
MAX_KEYS: Final = 20
MAX_NAME: Final = 120
KEY_LIFETIME: Final = timedelta(days=365)
_SECRET_OCTETS: Final = 32
_ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"
"""32 signs that a person does not confuse: five bits each."""


async def document_calendar(
    queries: RecordQueries, patient_id: int, viewer: Viewer
) -> tuple[Dated, ...]:
    """What the documents that this viewer sees say of days, and the packs that wait for them.

    Dismissed lines are left out.
    """
    found = []
    for entry in await queries.agenda(patient_id, viewer):
        if entry.day is None or entry.changed_at is None or entry.status == "dismissed":
            continue
        found.append(
            Dated(
                Appointment(
                    uid=entry_uid(entry.source_unique_id, entry.ordinal),
                    summary=entry.title,
                    day=entry.day,
                    start_at=entry.start_at,
                    end_at=entry.end_at,
                    place=entry.place,
                    tentative=entry.status == "proposed",
                    reminded=entry.is_reminded,
                ),
                entry.changed_at,
            )
        )
    if reads_packs(viewer):
        found += [
            Dated(
                Appointment(
                    uid=entry_uid("admission pack", pack.id),
                    summary=pack.title,
                    day=pack.due,
                    reminded=True,
                ),
                pack.sent_at,
            )
            for pack in await queries.packs.waiting(patient_id)
        ]
    return tuple(found)


def own_calendar(entries: Sequence[OwnEntry]) -> tuple[Dated, ...]:
    """The patient's own appointments."""
    return tuple(Dated(_appointment(each), each.changed_at) for each in entries)


def own_objects(entries: Sequence[OwnEntry]) -> tuple[CalendarObject, ...]:
    """The same as resources: the octets that were put."""
    return tuple(stored_object(each.name, each.ics, _appointment(each)) for each in entries)


def _appointment(entry: OwnEntry) -> Appointment:
    return Appointment(
        uid=entry.uid,
        summary=entry.title,
        day=entry.day,
        start_at=entry.start_at,
        end_at=entry.end_at,
        last_day=entry.last_day,
        place=entry.place,
        cancelled=entry.cancelled,
    )


@dataclass(frozen=True, slots=True)
class _Put:
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
class _Delete:
    patient_id: int
    name: str
    expected: str | None
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True)
class _NewKey:
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
class _Answer:
    """An answer to an invitation, and the appointment it makes, changes or calls off."""

    patient_id: int
    invited: Appointment
    answer: str
    actor: str
    at: datetime


class CalendarCommands:
    """What the record's only writer does for personal calendars.

    | command | arguments | result |
    |---|---|---|
    | own_entry_put | patient_id, name, ics, expected, actor | ``etag``, ``created`` |
    | own_entry_add | patient_id, title, place, day, start_at, end_at, actor | ``name`` |
    | own_entry_delete | patient_id, name, expected, actor | ``deleted`` |
    | calendar_key_make | patient_id, kind, name, detail, holder, actor | ``login``, ``secret`` |
    | calendar_key_stop | patient_id, id, actor | ``stopped`` |
    | invitation_answer | patient_id, ics, answer, actor | ``answered`` |
    """

    def __init__(self, record: Database, clock: Callable[[], datetime]) -> None:
        self._record = record
        self._clock = clock

    def table(self) -> dict[str, Callable[[Arguments], Awaitable[Any]]]:
        """Give every command by name."""
        return {
            "own_entry_put": self.own_entry_put,
            "own_entry_add": self.own_entry_add,
            "own_entry_delete": self.own_entry_delete,
            "calendar_key_make": self.calendar_key_make,
            "calendar_key_stop": self.calendar_key_stop,
            "invitation_answer": self.invitation_answer,
        }

    async def own_entry_put(self, arguments: Arguments) -> dict[str, Any]:
        """Keep a calendar object of the patient, as it is.

        Raises:
            RecordStateError: it is not one appointment that can be kept, its tag is not the
                expected one, another object has its UID, there are too many, or the record is
                closed.

        Source: RFC 4791 §5.3.2.
        """
        ics = str(arguments["ics"]).encode()
        name = str(arguments["name"])
        if not 0 < len(name) <= MAX_NAME:
            raise RecordStateError("no_such_entry")
        put = _Put(
            int(arguments["patient_id"]),
            name,
            _one_appointment(ics),
            ics,
            arguments.get("expected"),
            "",
            str(arguments["actor"]),
            self._clock(),
        )
        created = await self._record.write(_put, put)
        return {"etag": etag_of(ics), "created": created}

    async def own_entry_add(self, arguments: Arguments) -> dict[str, Any]:
        """Note an appointment of the patient.

        Raises:
            RecordStateError: it has no title, no day, or an end before its start, or the record is
                closed.
        """
        at = self._clock()
        title = " ".join(str(arguments["title"]).split())[:MAX_TEXT]
        if not title:
            raise RecordStateError("no_title")
        uid = secrets.token_hex(16)
        start_at, end_at = (
            datetime.fromisoformat(arguments[key]) if arguments.get(key) else None
            for key in ("start_at", "end_at")
        )
        if start_at is not None and end_at is not None and end_at <= start_at:
            raise RecordStateError("no_such_day")
        appointment = Appointment(
            uid,
            title,
            _day(arguments["day"]),
            start_at,
            end_at,
            place=" ".join(str(arguments.get("place") or "").split())[:MAX_TEXT],
        )
        ics = write_calendar((appointment,), (at,))
        put = _Put(
            int(arguments["patient_id"]),
            f"{uid}.ics",
            _one_appointment(ics),
            ics,
            "",
            "",
            str(arguments["actor"]),
            at,
        )
        await self._record.write(_put, put)
        return {"name": put.name}

    async def own_entry_delete(self, arguments: Arguments) -> dict[str, Any]:
        """Take an appointment of the patient away.

        Raises:
            RecordStateError: there is none of this name, or its tag is not the expected one.
        """
        delete = _Delete(
            int(arguments["patient_id"]),
            str(arguments["name"]),
            arguments.get("expected"),
            str(arguments["actor"]),
            self._clock(),
        )
        await self._record.write(_delete, delete)
        return {"deleted": True}

    async def calendar_key_make(self, arguments: Arguments) -> dict[str, Any]:
        """Make a key; a new feed stops the one before it. Its secret is told this once.

        Raises:
            RecordStateError: there is no such patient or kind, or there are too many keys.

        Source: RULES §12, RULES §14.
        """
        kind = str(arguments["kind"])
        if kind not in ("feed", "device"):
            raise RecordStateError("no_such_entry")
        secret = (
            secrets.token_urlsafe(_SECRET_OCTETS)
            if kind == "feed"
            else "-".join("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(5))
        )
        login = "agenda-" + "".join(secrets.choice(_ALPHABET) for _ in range(10))
        key = _NewKey(
            int(arguments["patient_id"]),
            kind,
            login,
            key_digest(secret),
            " ".join(str(arguments.get("name") or "").split())[:60],
            Detail(arguments.get("detail") or Detail.PLAIN),
            str(arguments.get("holder") or ""),
            str(arguments["actor"]),
            self._clock(),
        )
        await self._record.write(_add_key, key)
        return {"login": login, "secret": secret}

    async def calendar_key_stop(self, arguments: Arguments) -> dict[str, Any]:
        """Stop a key: it opens nothing from now on.

        Raises:
            RecordStateError: the patient has no such key.
        """
        at = self._clock()
        value = (int(arguments["patient_id"]), int(arguments["id"]), str(arguments["actor"]), at)
        await self._record.write(_stop_key, value)
        return {"stopped": True}

    async def invitation_answer(self, arguments: Arguments) -> dict[str, Any]:
        """Note what the patient answered, or that the organizer called it off.

        Args:
            arguments: ``ics`` is the invitation as it came; ``answer`` accepted, declined or
                cancelled.

        Raises:
            RecordStateError: it is no invitation to one appointment, a later version of it was
                answered already, or it is accepted into a closed record.

        Source: RFC 5546 §2.1.5, RFC 5546 §3.2.
        """
        if arguments["answer"] not in ("accepted", "declined", "cancelled"):
            raise RecordStateError("no_such_decision")
        answer = _Answer(
            int(arguments["patient_id"]),
            invited_to(str(arguments["ics"]).encode()),
            str(arguments["answer"]),
            str(arguments["actor"]),
            self._clock(),
        )
        await self._record.write(_answer, answer)
        return {"answered": True}


def key_digest(secret: str) -> bytes:
    """What is kept of a secret of at least 120 random bits: no slow hash is needed."""
    return hashlib.sha256(b"pli calendar key\x00" + secret.strip().encode()).digest()


def invited_to(ics: bytes) -> Appointment:
    """The one appointment of an invitation that can be answered.

    Raises:
        RecordStateError: there is none, or several, or one time of many.
    """
    try:
        read = read_calendar(ics)
    except MalformedIcalendarError as error:
        raise RecordStateError("not_a_calendar") from error
    if len(read.appointments) != 1 or not read.appointments[0].organizer:
        raise RecordStateError("not_a_calendar")
    if read.appointments[0].single:
        raise RecordStateError("calendar_repeats")
    return read.appointments[0]


def _one_appointment(ics: bytes) -> Appointment:
    """Source: RFC 4791 §4.1 (one UID, no METHOD), RFC 4791 §5.2.8 (no recurrence here)."""
    if len(ics) > MAX_OCTETS:
        raise RecordStateError("calendar_too_large")
    try:
        read = read_calendar(ics)
    except MalformedIcalendarError as error:
        raise RecordStateError("not_a_calendar") from error
    if read.method or len(read.appointments) != 1:
        raise RecordStateError("not_a_calendar")
    if read.appointments[0].repeats or read.appointments[0].single:
        raise RecordStateError("calendar_repeats")
    return read.appointments[0]


def _day(text: object) -> date:
    try:
        return date.fromisoformat(str(text))
    except ValueError:
        raise RecordStateError("no_such_day") from None


def _structure_of(connection: sqlite3.Connection, patient_id: int) -> str:
    row = connection.execute(
        "SELECT structure_id FROM patient WHERE id = ?", (patient_id,)
    ).fetchone()
    if row is None:
        raise RecordStateError("no_such_patient")
    return str(row[0])


def _put(connection: sqlite3.Connection, put: _Put) -> bool:
    structure_id = _structure_of(connection, put.patient_id)
    storing.takes_more(connection, put.patient_id)
    _expect(connection, put)
    known = connection.execute(
        "SELECT name FROM own_entry WHERE patient_id = ? AND uid = ?",
        (put.patient_id, put.appointment.uid),
    ).fetchone()
    if known is not None and known[0] != put.name:
        raise RecordStateError("uid_taken")
    count = connection.execute(
        "SELECT count(*), count(*) FILTER (WHERE name = ?) FROM own_entry WHERE patient_id = ?",
        (put.name, put.patient_id),
    ).fetchone()
    if not count[1] and count[0] >= MAX_OWN_ENTRIES:
        raise RecordStateError("too_many")
    _keep(connection, put)
    subject = f"patient:{put.patient_id}"
    event = AuditEvent("own_entry_written", put.at, put.actor, structure_id, subject)
    append(connection, TRAIL, [event])
    return not count[1]


def _expect(connection: sqlite3.Connection, change: _Put | _Delete) -> None:
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


def _keep(connection: sqlite3.Connection, put: _Put) -> None:
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


def _delete(connection: sqlite3.Connection, delete: _Delete) -> None:
    structure_id = _structure_of(connection, delete.patient_id)
    _expect(connection, delete)
    cursor = connection.execute(
        "DELETE FROM own_entry WHERE patient_id = ? AND name = ?",
        (delete.patient_id, delete.name),
    )
    if cursor.rowcount != 1:
        raise RecordStateError("no_such_entry")
    subject = f"patient:{delete.patient_id}"
    event = AuditEvent("own_entry_deleted", delete.at, delete.actor, structure_id, subject)
    append(connection, TRAIL, [event])


def _add_key(connection: sqlite3.Connection, key: _NewKey) -> None:
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


def _stop_key(connection: sqlite3.Connection, value: tuple[int, int, str, datetime]) -> None:
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


def _answer(connection: sqlite3.Connection, answer: _Answer) -> None:
    structure_id = _structure_of(connection, answer.patient_id)
    if answer.answer == "accepted":
        storing.takes_more(connection, answer.patient_id)
    invited = answer.invited
    row = connection.execute(
        "SELECT sequence FROM invitation WHERE patient_id = ? AND organizer = ? AND uid = ?",
        (answer.patient_id, invited.organizer, invited.uid),
    ).fetchone()
    if row is not None and row[0] > invited.sequence:
        raise RecordStateError("newer_known")
    connection.execute(
        "INSERT INTO invitation (patient_id, organizer, uid, sequence, answer, answered_at)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (patient_id, organizer, uid) DO UPDATE SET"
        " sequence = excluded.sequence, answer = excluded.answer,"
        " answered_at = excluded.answered_at",
        (
            answer.patient_id,
            invited.organizer,
            invited.uid,
            invited.sequence,
            answer.answer,
            micros(answer.at),
        ),
    )
    # Another organizer's appointment of the same UID, or one's own, is never touched.
    uid = entry_uid(f"{invited.organizer}\x00{invited.uid}", 0)
    if answer.answer == "accepted":
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
        ics = write_calendar((kept,), (answer.at,))
        put = _Put(
            answer.patient_id,
            f"{uid}.ics",
            kept,
            ics,
            None,
            invited.organizer,
            answer.actor,
            answer.at,
        )
        _keep(connection, put)
    else:
        # declined or called off: nothing is left of it in the agenda but the answer
        connection.execute(
            "DELETE FROM own_entry WHERE patient_id = ? AND uid = ? AND organizer = ?",
            (answer.patient_id, uid, invited.organizer),
        )
    event = AuditEvent(
        "invitation_answered", answer.at, answer.actor, structure_id,
        f"patient:{answer.patient_id}",
    )  # fmt: skip
    append(connection, TRAIL, [event])
