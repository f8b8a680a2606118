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
from record_bridge.access_proofs import subjects_of
from record_bridge.api_token import ApiToken, application_actor
from record_bridge.calendar_objects import Detail
from record_bridge.model import Viewer, ViewerKind
from record_bridge.repository import micros, moment, moment_or_none
from record_bridge.schema import (
    TRAIL,
    api_token,
    calendar_key,
    deposit,
    deposit_chunk,
    directive,
    invitation,
    notice,
    opposition,
    own_entry,
    profile_item,
)


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
    """A secret that opens an agenda to one calendar; the secret itself is not kept.

    ``holder`` is the key, as a patient, of the representative who made it; "" for the patient.
    """

    id: int
    patient_id: int
    kind: str
    login: str
    name: str
    detail: Detail
    created_at: datetime
    expires_at: datetime
    holder: str = ""

    @property
    def viewer(self) -> Viewer:
        """Who reads the agenda through it."""
        if self.holder:
            return Viewer(ViewerKind.REPRESENTATIVE, self.holder)
        return Viewer(ViewerKind.PATIENT, str(self.patient_id))


@dataclass(frozen=True, slots=True)
class AnsweredInvitation:
    """What became of an invitation: ``accepted``, ``declined`` or ``cancelled``."""

    answer: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Deposit:
    """A file that the patient added; always marked as theirs."""

    id: int
    title: str
    media_type: str
    octets: int
    deposited_at: datetime


@dataclass(frozen=True, slots=True)
class ProfileItem:
    """A line of the medical profile, as the patient says it.

    ``text`` is what it is, or which measurement (a key of ``record_bridge.life.MEASURES``).
    """

    id: int
    kind: str
    text: str
    value: str
    unit: str
    day: date | None
    noted_at: datetime


@dataclass(frozen=True, slots=True)
class Directive:
    """A version of advance directives, or of the naming of a trusted person."""

    id: int
    kind: str
    version: int
    day: date
    text: str
    person: str
    contact: str
    noted_at: datetime
    withdrawn_at: datetime | None


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """Something that happened to a record."""

    at: datetime
    actor: str
    kind: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A document that somebody had opened has left: ``withdrawn``, or ``taken_out``."""

    id: int
    kind: str
    at: datetime


HISTORY_KINDS = frozenset(
    {
        "agenda_decided",
        "calendar_key_made",
        "calendar_key_stopped",
        "deposit_added",
        "deposit_withdrawn",
        "directive_withdrawn",
        "directive_written",
        "invitation_answered",
        "opposition_said",
        "opposition_taken_back",
        "own_entry_deleted",
        "own_entry_written",
        "pack_acknowledged",
        "pack_closed",
        "pack_form_returned",
        "pack_item_acknowledged",
        "pack_reminded",
        "pack_sent",
        "patient_changed",
        "patient_merged",
        "patient_registered",
        "patient_split",
        "prevention_declared",
        "prevention_undone",
        "profile_noted",
        "profile_removed",
    }
)
"""Events that changed a record and name no document."""
MAX_HISTORY = 500


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

    async def api_token(self, digest: bytes, at: datetime) -> ApiToken | None:
        """Give the token with this SHA-256, when it is in force."""
        row = await self._database.first(
            select(api_token).where(
                api_token.c.digest == digest,
                api_token.c.stopped_at.is_(None),
                api_token.c.expires_at > micros(at),
            )
        )
        return None if row is None else _token(row._asdict())

    async def api_tokens(self, patient_id: int, at: datetime) -> Sequence[ApiToken]:
        """List the patient's tokens that are in force."""
        rows = await self._database.all(
            select(api_token)
            .where(
                api_token.c.patient_id == patient_id,
                api_token.c.stopped_at.is_(None),
                api_token.c.expires_at > micros(at),
            )
            .order_by(api_token.c.id)
        )
        return [_token(row._asdict()) for row in rows]

    async def applications(self, patient_id: int) -> Sequence[str]:
        """Name every application that the patient ever had, as the trail does."""
        rows = await self._database.all(
            select(api_token.c.id).where(api_token.c.patient_id == patient_id)
        )
        return [application_actor(row.id) for row in rows]

    async def deposits(self, patient_id: int) -> Sequence[Deposit]:
        """List the files that the patient added, newest first."""
        rows = await self._database.all(
            select(deposit)
            .where(deposit.c.patient_id == patient_id, deposit.c.withdrawn_at.is_(None))
            .order_by(deposit.c.id.desc())
        )
        return [
            Deposit(row.id, row.title, row.media_type, row.octets, moment(row.deposited_at))
            for row in rows
        ]

    async def deposit_content(self, deposit_id: int) -> bytes:
        """Give the octets of a file that ``deposits`` listed."""
        rows = await self._database.all(
            select(deposit_chunk.c.data)
            .where(deposit_chunk.c.deposit_id == deposit_id)
            .order_by(deposit_chunk.c.position)
        )
        return b"".join(row[0] for row in rows)

    async def profile(self, patient_id: int) -> Sequence[ProfileItem]:
        """List the medical profile, newest first."""
        rows = await self._database.all(
            select(profile_item)
            .where(profile_item.c.patient_id == patient_id, profile_item.c.removed_at.is_(None))
            .order_by(profile_item.c.day.desc(), profile_item.c.id.desc())
        )
        return [
            ProfileItem(
                row.id,
                row.kind,
                row.text,
                row.value,
                row.unit,
                None if row.day is None else date.fromisoformat(row.day),
                moment(row.noted_at),
            )
            for row in rows
        ]

    async def directives(self, patient_id: int) -> Sequence[Directive]:
        """List every version of advance directives and trusted person, newest first."""
        rows = await self._database.all(
            select(directive)
            .where(directive.c.patient_id == patient_id)
            .order_by(directive.c.kind, directive.c.version.desc())
        )
        return [
            Directive(
                row.id,
                row.kind,
                row.version,
                date.fromisoformat(row.day),
                row.text,
                row.person,
                row.contact,
                moment(row.noted_at),
                moment_or_none(row.withdrawn_at),
            )
            for row in rows
        ]

    async def oppositions(self, patient_id: int) -> Mapping[str, datetime]:
        """Give what the patient opposes now, and since when."""
        rows = await self._database.all(
            select(opposition.c.scope, opposition.c.since_at).where(
                opposition.c.patient_id == patient_id, opposition.c.until_at.is_(None)
            )
        )
        return {row.scope: moment(row.since_at) for row in rows}

    async def notices(self, addressees: Sequence[str]) -> Sequence[Notice]:
        """List what somebody does not know yet of documents that they had opened, newest first.

        Args:
            addressees: whoever they are in the trail.
        """
        rows = await self._database.all(
            select(notice.c.id, notice.c.kind, notice.c.at)
            .where(notice.c.addressee.in_(addressees), notice.c.seen_at.is_(None))
            .order_by(notice.c.id.desc())
            .limit(50)
        )
        return [Notice(row.id, row.kind, moment(row.at)) for row in rows]

    async def history(self, patient_id: int) -> Sequence[HistoryEvent]:
        """List what changed a record, newest first; nothing that names a document.

        What was changed of an identity before it was merged into the record is the record's.
        """
        event = TRAIL.event.c
        subjects = await subjects_of(self._database, patient_id)
        rows = await self._database.all(
            select(event.at, event.actor, event.kind)
            .where(event.subject.in_(subjects), event.kind.in_(HISTORY_KINDS))
            .order_by(event.event_id.desc())
            .limit(MAX_HISTORY)
        )
        return [HistoryEvent(moment(row.at), row.actor, row.kind) for row in rows]


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


def _token(row: Mapping[str, Any]) -> ApiToken:
    return ApiToken(
        row["id"],
        row["structure_id"],
        row["patient_id"],
        row["rpps"],
        row["name"],
        frozenset(row["scopes"].split()),
        moment(row["created_at"]),
        moment(row["expires_at"]),
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
        holder=row["holder"],
    )
