"""Reading what patients keep themselves: appointments, calendar keys, deposits, profile, wishes.

Read-only. What is a document of the patient asks ``record_bridge.visibility`` like any other;
one's own appointments and calendar keys are the patient's alone.

Source: RULES §7, RULES §8.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import select

from directory.database import Database
from record_bridge.calendar_objects import Detail
from record_bridge.repository import micros, moment, moment_or_none
from record_bridge.schema import calendar_key, invitation, own_entry


@dataclass(frozen=True, slots=True)
class OwnEntry:
    """An appointment that the patient noted, or accepted (``organizer`` says from whom)."""

    id: int
    name: str
    uid: str
    ics: bytes
    title: str
    place: str
    day: date
    last_day: date | None
    start_at: datetime | None
    end_at: datetime | None
    organizer: str
    cancelled: bool
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class CalendarKey:
    """A secret that opens an agenda to one calendar; the secret itself is not kept."""

    id: int
    patient_id: int
    kind: str
    login: str
    name: str
    detail: Detail
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class AnsweredInvitation:
    """What became of an invitation: ``accepted``, ``declined`` or ``cancelled``."""

    answer: str
    sequence: int


class LifeQueries:
    """What patients keep, opened for reading."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def own_entries(self, patient_id: int) -> Sequence[OwnEntry]:
        """List the patient's own appointments by time."""
        rows = await self._database.all(
            select(own_entry)
            .where(own_entry.c.patient_id == patient_id)
            .order_by(own_entry.c.day, own_entry.c.start_at, own_entry.c.id)
        )
        return [_own_entry(row._asdict()) for row in rows]

    async def invitation(
        self, patient_id: int, organizer: str, uid: str
    ) -> AnsweredInvitation | None:
        """Give what became of an invitation, None when nothing did."""
        row = await self._database.first(
            select(invitation.c.answer, invitation.c.sequence).where(
                invitation.c.patient_id == patient_id,
                invitation.c.organizer == organizer,
                invitation.c.uid == uid,
            )
        )
        return None if row is None else AnsweredInvitation(row.answer, row.sequence)

    async def calendar_keys(self, patient_id: int, at: datetime) -> Sequence[CalendarKey]:
        """List the keys of an agenda that open it now, newest first."""
        rows = await self._database.all(
            select(calendar_key)
            .where(
                calendar_key.c.patient_id == patient_id,
                calendar_key.c.stopped_at.is_(None),
                calendar_key.c.expires_at > micros(at),
            )
            .order_by(calendar_key.c.id.desc())
        )
        return [_key(row._asdict()) for row in rows]

    async def calendar_key(self, digest: bytes, kind: str, at: datetime) -> CalendarKey | None:
        """Give the key whose secret has this SHA-256, when it opens its agenda now."""
        row = await self._database.first(
            select(calendar_key).where(
                calendar_key.c.digest == digest,
                calendar_key.c.kind == kind,
                calendar_key.c.stopped_at.is_(None),
                calendar_key.c.expires_at > micros(at),
            )
        )
        return None if row is None else _key(row._asdict())


def _own_entry(row: Mapping[str, Any]) -> OwnEntry:
    return OwnEntry(
        id=row["id"],
        name=row["name"],
        uid=row["uid"],
        ics=row["ics"],
        title=row["title"],
        place=row["place"],
        day=date.fromisoformat(row["day"]),
        last_day=None if row["last_day"] is None else date.fromisoformat(row["last_day"]),
        start_at=moment_or_none(row["start_at"]),
        end_at=moment_or_none(row["end_at"]),
        organizer=row["organizer"],
        cancelled=bool(row["cancelled"]),
        changed_at=moment(row["changed_at"]),
    )


def _key(row: Mapping[str, Any]) -> CalendarKey:
    return CalendarKey(
        id=row["id"],
        patient_id=row["patient_id"],
        kind=row["kind"],
        login=row["login"],
        name=row["name"],
        detail=Detail(row["detail"]),
        created_at=moment(row["created_at"]),
        expires_at=moment(row["expires_at"]),
    )
