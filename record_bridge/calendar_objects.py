"""What a personal calendar gets of an agenda: which words leave, under which names.

Invariants: an object depends on nothing but what its patient sees, so that what they do not see
changes no name, no tag and no token (RULES §7); unless the patient chose more, an appointment
says "Rendez-vous santé" and when, nothing else (RULES §14). The same entry gives the same octets.

Source: RULES §14, RFC 4791 §4.1, RFC 6578 §3.2.
"""

import enum
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from record_bridge.formats.dtm import paris_midnight
from record_bridge.formats.ical import Appointment, write_calendar

PLAIN_TITLE: Final = "Rendez-vous santé"
FEED_NAME: Final = "Mon agenda santé"
MAX_OBJECTS: Final = 2000
"""More than that of one agenda are not given: the latest ones are."""


class Detail(enum.StrEnum):
    """How much a calendar says."""

    PLAIN = "plain"
    TITLES = "titles"


@dataclass(frozen=True, slots=True)
class Dated:
    """An appointment and when it was last changed (aware UTC)."""

    appointment: Appointment
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class CalendarObject:
    """One resource of a calendar.

    Attributes:
        name: the last step of its address.
        etag: of its octets, without quotes.
        start_at: aware UTC; a whole day begins at midnight in Paris.
        end_at: aware UTC, not before ``start_at``.
    """

    name: str
    etag: str
    content: bytes
    start_at: datetime
    end_at: datetime


def entry_uid(unique_id: str, ordinal: int) -> str:
    """The name of one line of one document, which says nothing of either."""
    digest = hashlib.sha256(f"pli agenda\x00{unique_id}\x00{ordinal}".encode())
    return digest.hexdigest()[:32]


def told(appointment: Appointment, detail: Detail) -> Appointment:
    """What leaves of an appointment.

    Source: RULES §14.
    """
    if detail is Detail.TITLES:
        return appointment
    return replace(appointment, summary=PLAIN_TITLE, place="")


def objects_of(dated: Iterable[Dated], detail: Detail) -> tuple[CalendarObject, ...]:
    """Make the resources of a calendar, in the order of their times."""
    made = []
    for each in dated:
        appointment = told(each.appointment, detail)
        content = write_calendar((appointment,), (each.changed_at,))
        made.append(stored_object(f"{appointment.uid}.ics", content, appointment))
    return _latest(made)


def stored_object(name: str, content: bytes, appointment: Appointment) -> CalendarObject:
    """Make the resource of an object whose octets are kept."""
    start, end = span(appointment)
    return CalendarObject(name, etag_of(content), content, start, end)


def feed(dated: Sequence[Dated], detail: Detail) -> bytes:
    """Write a whole agenda as one calendar, the latest appointments when there are too many."""
    shown = sorted(dated, key=lambda each: (span(each.appointment), each.appointment.uid))
    kept = shown[-MAX_OBJECTS:]
    return write_calendar(
        tuple(told(each.appointment, detail) for each in kept),
        tuple(each.changed_at for each in kept),
        FEED_NAME,
    )


def etag_of(content: bytes) -> str:
    """The tag of octets: other octets have another.

    Source: RFC 9110 §8.8.3.
    """
    return hashlib.sha256(content).hexdigest()[:32]


def tags_of(objects: Iterable[CalendarObject]) -> dict[str, str]:
    """Name to tag: what a client compares."""
    return {each.name: each.etag for each in objects}


def state_of(tags: Mapping[str, str]) -> str:
    """The state of a calendar: the same names and tags, the same state."""
    digest = hashlib.sha256()
    for name in sorted(tags):
        digest.update(f"{name}\x00{tags[name]}\x00".encode())
    return digest.hexdigest()[:32]


def span(appointment: Appointment) -> tuple[datetime, datetime]:
    """When it begins and ends, as aware UTC instants."""
    if appointment.start_at is not None:
        return appointment.start_at, appointment.end_at or appointment.start_at
    last = appointment.last_day or appointment.day
    return paris_midnight(appointment.day), paris_midnight(last + timedelta(days=1))


def _latest(objects: list[CalendarObject]) -> tuple[CalendarObject, ...]:
    return tuple(sorted(objects, key=lambda each: (each.start_at, each.name))[-MAX_OBJECTS:])
