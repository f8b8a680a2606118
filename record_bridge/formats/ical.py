"""iCalendar: reading what strangers and clients send, writing what calendars and peers get.

A calendar is small, flat and read once: octets, lines and components are counted before the
library sees them, and VTIMEZONE is taken out first (its rules are a program that the library
would run); a time in a zone that nobody knows is refused, never guessed. A rule of recurrence is
noticed and never expanded.

Source: RFC 5545 §3.1, RFC 5545 §3.6.1, RFC 5546 §3.2, RULES §8.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from icalendar import Alarm, Calendar, Event, vCalAddress, vText

from record_bridge.errors import MalformedIcalendarError
from record_bridge.formats.dtm import paris_day, paris_instant

MAX_OCTETS: Final = 64 * 1024
MAX_LINES: Final = 2000
MAX_COMPONENTS: Final = 20
MAX_TEXT: Final = 200
MAX_UID: Final = 255
MAX_ATTENDEES: Final = 100
MAX_SEQUENCE: Final = 2**31 - 1
PRODUCT: Final = "-//Pli//Agenda de sante//FR"
_FOLD: Final = re.compile(rb"\r?\n[ \t]")
_BEGIN: Final = re.compile(rb"(?i)BEGIN[:;]")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|\xef\xbf[\xbe\xbf]")
"""What no XML answer could carry. Source: XML 1.0 §2.2."""
_VENDOR_ZONE: Final = re.compile(
    rb"(?im)^(DT(?:START|END)[^:\n]*;TZID=\"?)/[^:;\"\n]*/([a-z_]+/[a-z_]+)(?=[\":;])"
)
"""``/freeassociation/Europe/Paris``: a known zone with its maker's name before it."""
_RECURRENCE: Final = ("RRULE", "RDATE", "EXRULE")
_EARLIEST: Final = date(1900, 1, 1)
_LATEST: Final = date(2200, 1, 1)


@dataclass(frozen=True, slots=True)
class Appointment:
    """One appointment, as calendars exchange it.

    Attributes:
        uid: 1 to 255 characters.
        summary: one line of at most 200 characters; place and organizer alike.
        day: its first civil day in Paris.
        start_at: aware UTC; None for whole days.
        end_at: aware UTC, after the start; None when not said.
        last_day: last civil day of whole days, None otherwise.
        repeats: it has a rule of recurrence, of which only the first time is read.
        single: it changes one time of an appointment that repeats (RECURRENCE-ID).
        organizer: address in lower case, "" when there is none.
        reminded: its program is to remind of it the day before; written, never read.
        attendees: addresses in lower case.
    """

    uid: str
    summary: str
    day: date
    start_at: datetime | None = None
    end_at: datetime | None = None
    last_day: date | None = None
    place: str = ""
    cancelled: bool = False
    tentative: bool = False
    sequence: int = 0
    repeats: bool = False
    single: bool = False
    organizer: str = ""
    reminded: bool = False
    attendees: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadCalendar:
    """A calendar of strangers: its method in upper case ("" for none) and its appointments."""

    method: str
    appointments: tuple[Appointment, ...]


def read_calendar(content: bytes) -> ReadCalendar:
    """Read a calendar.

    Raises:
        MalformedIcalendarError: it is too large, not well formed, or says when in a way that
            cannot be known.

    Source: RFC 5545 §3.4.
    """
    text = _bounded(content)
    try:
        calendar = Calendar.from_ical(text)
        events = [part for part in calendar.subcomponents if part.name == "VEVENT"]
        method = str(calendar.get("METHOD", "")).strip().upper()[:20]
        return ReadCalendar(method, tuple(_appointment(event) for event in events))
    except MalformedIcalendarError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError):
        # the library's messages quote the input: they never travel with our error
        raise MalformedIcalendarError("not well formed") from None


def write_calendar(
    appointments: tuple[Appointment, ...], stamps: tuple[datetime, ...], name: str = ""
) -> bytes:
    """Write a calendar object, or a whole feed.

    Args:
        appointments: in their order.
        stamps: when each was last changed, aware UTC; the same values give the same octets.
        name: what a subscriber's calendar is called, "" for an object.

    Source: RFC 5545 §3.6, RFC 5545 §3.8.7.2.
    """
    calendar = _new_calendar()
    if name:
        calendar.add("X-WR-CALNAME", name)
    for each, stamp in zip(appointments, stamps, strict=True):
        calendar.add_component(_event(each, stamp))
    written: bytes = calendar.to_ical()
    return written


def write_reply(invited: Appointment, attendee: str, partstat: str, at: datetime) -> bytes:
    """Write the answer to an invitation: about this attendee, and nobody else.

    Args:
        invited: the invitation.
        attendee: address of who answers.
        partstat: ``ACCEPTED`` or ``DECLINED``.
        at: aware UTC instant of the answer.

    Source: RFC 5546 §3.2.3.
    """
    calendar = _new_calendar()
    calendar.add("METHOD", "REPLY")
    event = _event(invited, at)
    event.add("ORGANIZER", vCalAddress(f"mailto:{invited.organizer}"), encode=False)
    who = vCalAddress(f"mailto:{attendee}")
    who.params["PARTSTAT"] = vText(partstat)
    event.add("ATTENDEE", who, encode=False)
    calendar.add_component(event)
    written: bytes = calendar.to_ical()
    return written


def _bounded(content: bytes) -> bytes:
    """The text without its time zones, unfolded."""
    if len(content) > MAX_OCTETS:
        raise MalformedIcalendarError("too large")
    if content.count(b"\n") > MAX_LINES:
        raise MalformedIcalendarError("too many lines")
    if _CONTROL.search(content) is not None:
        raise MalformedIcalendarError("not text")
    lines = _without_zones(_FOLD.sub(b"", content).replace(b"\r\n", b"\n").split(b"\n"))
    begun = [line for line in lines if _BEGIN.match(line)]
    if len(begun) > MAX_COMPONENTS:
        raise MalformedIcalendarError("too many components")
    if any(b"VTIMEZONE" in line.upper() for line in begun):
        raise MalformedIcalendarError("time zone")
    text = b"\n".join(lines).lstrip(b"\xef\xbb\xbf \n")
    if not text.upper().startswith(b"BEGIN:VCALENDAR"):
        raise MalformedIcalendarError("not a calendar")
    return _VENDOR_ZONE.sub(rb"\1\2", text).replace(b"\n", b"\r\n")


def _without_zones(lines: list[bytes]) -> list[bytes]:
    kept, inside = [], False
    for line in lines:
        word = line.strip().upper()
        inside = inside or word == b"BEGIN:VTIMEZONE"
        if not inside:
            kept.append(line)
        inside = inside and word != b"END:VTIMEZONE"
    return kept


def _appointment(event: Any) -> Appointment:
    uid = str(event.get("UID", ""))
    if not 0 < len(uid) <= MAX_UID or not uid.isprintable():
        raise MalformedIcalendarError("uid")
    when = _When.read(event)
    return Appointment(
        uid=uid,
        summary=_line(event.get("SUMMARY", "")),
        day=when.day,
        start_at=when.start_at,
        end_at=when.end_at,
        last_day=when.last_day,
        place=_line(event.get("LOCATION", "")),
        cancelled=str(event.get("STATUS", "")).upper() == "CANCELLED",
        tentative=str(event.get("STATUS", "")).upper() == "TENTATIVE",
        sequence=_sequence(event.get("SEQUENCE", 0)),
        repeats=any(name in event for name in _RECURRENCE),
        single="RECURRENCE-ID" in event,
        organizer=_address(event.get("ORGANIZER", "")),
        attendees=_attendees(event.get("ATTENDEE", [])),
    )


@dataclass(frozen=True, slots=True)
class _When:
    day: date
    start_at: datetime | None
    end_at: datetime | None
    last_day: date | None

    @classmethod
    def read(cls, event: Any) -> "_When":
        """Source: RFC 5545 §3.6.1 (DTSTART, and DTEND or DURATION)."""
        start = _time(event, "DTSTART")
        if start is None:
            raise MalformedIcalendarError("no start")
        end = _time(event, "DTEND")
        length = event.decoded("DURATION") if "DURATION" in event and end is None else None
        if isinstance(length, timedelta):
            end = start + length
        if isinstance(start, datetime):
            later = end if isinstance(end, datetime) and end > start else None
            return cls(paris_day(start), start, later, None)
        last = start
        if end is not None and not isinstance(end, datetime) and end > start:
            last = end - timedelta(days=1)  # DTEND is the day after the last one
        return cls(start, None, None, last)


def _time(event: Any, name: str) -> date | datetime | None:
    """A civil day, or an aware UTC instant."""
    if name not in event:
        return None
    field = event[name]
    value = field.dt
    day = value.date() if isinstance(value, datetime) else value
    if not isinstance(day, date) or not _EARLIEST <= day < _LATEST:
        raise MalformedIcalendarError("date")
    if not isinstance(value, datetime):
        return day
    if value.tzinfo is None:
        if "TZID" in field.params:
            raise MalformedIcalendarError("time zone")
        return paris_instant(value)
    return value.astimezone(UTC)


def _line(value: object) -> str:
    shown = "".join(c if c.isprintable() else " " for c in str(value)[: 4 * MAX_TEXT])
    return " ".join(shown.split())[:MAX_TEXT]


def _sequence(value: object) -> int:
    number = int(value) if isinstance(value, int) else 0
    return number if 0 <= number <= MAX_SEQUENCE else 0


def _address(value: object) -> str:
    text = str(value).strip().lower()
    if not text.startswith("mailto:"):
        return ""
    address = text.removeprefix("mailto:")
    is_plain = address.isascii() and address.isprintable() and " " not in address
    return address if is_plain and "@" in address and len(address) < 255 else ""


def _attendees(value: object) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if len(values) > MAX_ATTENDEES:
        raise MalformedIcalendarError("too many attendees")
    return tuple(filter(None, (_address(each) for each in values)))


def _new_calendar() -> Calendar:
    calendar = Calendar()
    calendar.add("PRODID", PRODUCT)
    calendar.add("VERSION", "2.0")
    return calendar


def _event(appointment: Appointment, stamp: datetime) -> Event:
    event = Event()
    event.add("UID", appointment.uid)
    event.add("DTSTAMP", stamp)
    event.add("LAST-MODIFIED", stamp)
    event.add("SEQUENCE", appointment.sequence)
    event.add("SUMMARY", appointment.summary)
    if appointment.place:
        event.add("LOCATION", appointment.place)
    if appointment.start_at is not None:
        event.add("DTSTART", appointment.start_at)
        if appointment.end_at is not None:
            event.add("DTEND", appointment.end_at)
    else:
        event.add("DTSTART", appointment.day)
        event.add("DTEND", (appointment.last_day or appointment.day) + timedelta(days=1))
        event.add("TRANSP", "TRANSPARENT")  # a whole day does not make its person busy
    event.add("STATUS", "TENTATIVE" if appointment.tentative else "CONFIRMED")
    event.add("CLASS", "PRIVATE")
    if appointment.reminded:
        event.add_component(_alarm(appointment))
    return event


def _alarm(appointment: Appointment) -> Alarm:
    """The day before at the same hour, or at nine in the morning for a whole day.

    Source: RFC 5545 §3.6.6.
    """
    is_whole = appointment.start_at is None
    alarm = Alarm()
    alarm.add("ACTION", "DISPLAY")
    alarm.add("DESCRIPTION", appointment.summary)
    alarm.add("TRIGGER", timedelta(hours=-15 if is_whole else -24))
    return alarm
