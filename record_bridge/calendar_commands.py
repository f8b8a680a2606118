"""What the record's writer is asked for personal calendars: appointments, keys, invitations.

Keys are random, kept as digests, told once (RULES §12); each opens one agenda until it is stopped
or a year has passed.

Source: RULES §8, RULES §12, RULES §14, RFC 4791 §5.3.2.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import date, datetime
from typing import Any, Final

from directory.database import Database
from record_bridge import calendar_storing
from record_bridge.calendar_objects import Detail, etag_of
from record_bridge.calendar_record import key_digest
from record_bridge.errors import MalformedIcalendarError, RecordStateError
from record_bridge.formats.ical import (
    MAX_OCTETS,
    MAX_TEXT,
    Appointment,
    read_calendar,
    write_calendar,
)

Arguments = Mapping[str, Any]
MAX_NAME: Final = 120
_SECRET_OCTETS: Final = 32
_ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"
"""32 signs that a person does not confuse: five bits each."""


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
        put = calendar_storing.Put(
            int(arguments["patient_id"]),
            name,
            _one_appointment(ics),
            ics,
            arguments.get("expected"),
            "",
            str(arguments["actor"]),
            self._clock(),
        )
        created = await self._record.write(calendar_storing.put, put)
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
        put = calendar_storing.Put(
            int(arguments["patient_id"]),
            f"{uid}.ics",
            _one_appointment(ics),
            ics,
            "",
            "",
            str(arguments["actor"]),
            at,
        )
        await self._record.write(calendar_storing.put, put)
        return {"name": put.name}

    async def own_entry_delete(self, arguments: Arguments) -> dict[str, Any]:
        """Take an appointment of the patient away.

        Raises:
            RecordStateError: there is none of this name, or its tag is not the expected one.
        """
        delete = calendar_storing.Delete(
            int(arguments["patient_id"]),
            str(arguments["name"]),
            arguments.get("expected"),
            str(arguments["actor"]),
            self._clock(),
        )
        await self._record.write(calendar_storing.delete, delete)
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
        key = calendar_storing.NewKey(
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
        await self._record.write(calendar_storing.add_key, key)
        return {"login": login, "secret": secret}

    async def calendar_key_stop(self, arguments: Arguments) -> dict[str, Any]:
        """Stop a key: it opens nothing from now on.

        Raises:
            RecordStateError: the patient has no such key.
        """
        at = self._clock()
        value = (int(arguments["patient_id"]), int(arguments["id"]), str(arguments["actor"]), at)
        await self._record.write(calendar_storing.stop_key, value)
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
        answer = calendar_storing.Answer(
            int(arguments["patient_id"]),
            invited_to(str(arguments["ics"]).encode()),
            str(arguments["answer"]),
            str(arguments["actor"]),
            self._clock(),
        )
        await self._record.write(calendar_storing.answer, answer)
        return {"answered": True}


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
