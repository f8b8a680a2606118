"""Reading the record, for the webmail and the command line. Read-only.

Everything that a viewer gets went through ``record_bridge.visibility.decide``: lists, counts,
one document, the agenda, the list of accesses (RULES §7). A document that is not shown does not
exist for that viewer: same None, no gap in numbering.
"""

import json
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final, Self

from sqlalchemy import ColumnElement, Select, func, select

from directory.codes import CLASSES, class_label, type_label
from directory.database import Database
from record_bridge.access_proofs import access_proofs, subjects_of
from record_bridge.formats.dtm import paris_day
from record_bridge.lab_queries import LabQueries
from record_bridge.lateness import late
from record_bridge.life_queries import LifeQueries
from record_bridge.listing import DocumentKind, Wanted, keys_of, page_of, seen_by
from record_bridge.model import AgendaStatus, DocumentStatus, Viewer, ViewerKind, Visibility
from record_bridge.pack_queries import PackQueries
from record_bridge.prevention import Declared
from record_bridge.repository import (
    moment,
    moment_or_none,
    number_of,
    open_record,
)
from record_bridge.retention_queries import RetentionQueries
from record_bridge.rights import Part
from record_bridge.rights_record import (
    RightsQueries,
    document_facts,
    record_facts,
    rows_named,
    rows_numbered,
    rows_of_record,
    rows_of_versions,
    sources_of_agenda,
)
from record_bridge.schema import (
    TRAIL,
    agenda_entry,
    document,
    document_chunk,
    notice,
    patient,
    prevention_declared,
)
from record_bridge.searching import Cursor, Sought, search
from record_bridge.visibility import DocumentFacts, decide

__all__ = [
    "AccessView",
    "AgendaView",
    "CategoryView",
    "Cursor",
    "DocumentDetail",
    "DocumentKind",
    "DocumentView",
    "FoundPage",
    "PatientView",
    "RecordPage",
    "RecordQueries",
    "Sought",
    "Viewer",
    "ViewerKind",
    "Wanted",
    "number_of",
]

MAX_ACCESSES = 500
STRANGER = "stranger"
"""Somebody whose record this is not, in the list of accesses."""
ACCESS_KINDS = frozenset(
    {
        "record_read",
        "document_read",
        "document_pdf",
        "agenda_read",
        "results_read",
        "record_listed",
        "agenda_listed",
        "prevention_declared",
        "prevention_undone",
        "document_released",
        "patient_changed",
        "patient_merged",
        "patient_split",
        "calendar_read",
        "record_exported",
        "calendar_key_made",
        "calendar_key_stopped",
        "api_token_made",
        "api_token_stopped",
        "access_refused",
        "emergency_opened",
        "right_given",
        "right_ended",
        "document_masked",
        "document_unmasked",
        "record_closed",
        "record_opened_again",
        "document_withdrawn",
        "document_restored",
        "document_taken_out",
        "pack_listed",
        "pack_form_read",
        "pack_read",
        "retention_suspended",
        "retention_resumed",
    }
)
"""Events of a record that its patient is shown."""
_MARKS: Final = (
    "SELECT p.address, coalesce(p.merged_into, p.id), coalesce(c.changes, 0) FROM patient AS p"
    " LEFT JOIN record_change AS c ON c.record_id = coalesce(p.merged_into, p.id)"
    " WHERE p.address IN (SELECT value FROM json_each(:addresses))"
)
_ABOUT_A_DOCUMENT = frozenset(
    {
        "document_read",
        "document_pdf",
        "document_released",
        "document_masked",
        "document_unmasked",
        "document_withdrawn",
        "document_restored",
    }
)


@dataclass(frozen=True, slots=True)
class PatientView:
    """A registered person, as the pages show them."""

    id: int
    structure_id: str
    matricule: str
    oid: str
    family: str
    given: str
    birth_date: str
    sex: str
    birth_place: str | None
    status: str
    address: str


@dataclass(frozen=True, slots=True)
class CategoryView:
    """One class of documents of a record, with how many of them the viewer may see."""

    code: str
    label: str
    count: int


@dataclass(frozen=True, slots=True)
class DocumentView:
    """One document in a list.

    ``number`` names it in addresses: made of what it is, it says nothing of what else was filed,
    and a document hidden from somebody changes no other's (RULES §7). ``status`` is current,
    superseded or withdrawn; ``visibility`` the codes of RULES §7, sorted; ``marks`` constants of
    ``record_bridge.model``, sorted.
    """

    id: int
    unique_id: str
    type_code: str
    type_label: str
    class_code: str
    title: str
    effective_at: datetime | None
    received_at: datetime
    author: str
    custodian: str
    sender: str
    status: str
    visibility: tuple[str, ...]
    marks: tuple[str, ...]
    octets: int
    parent_unique_id: str = ""

    @property
    def number(self) -> int:
        """Its number in addresses."""
        return number_of(self.unique_id)


@dataclass(frozen=True, slots=True)
class RecordPage:
    """One page of a record's documents; ``total`` counts those of every page."""

    categories: tuple[CategoryView, ...]
    documents: tuple[DocumentView, ...]
    total: int


@dataclass(frozen=True, slots=True)
class DocumentDetail:
    """One document with its content: the CDA as it came (strangers' XML: use the renderer)."""

    document: DocumentView
    content: bytes
    versions: tuple[DocumentView, ...]


@dataclass(frozen=True, slots=True)
class AgendaView:
    """One entry of the agenda.

    ``day`` None: to be scheduled, or date unknown (``status`` says which); ``start_at`` only
    when an hour is known; ``changed_at`` when it was made or last decided on.
    ``source_superseded``: the patient decided on it, and its document was replaced since.
    """

    id: int
    kind: str
    status: str
    title: str
    place: str
    day: date | None
    start_at: datetime | None
    end_at: datetime | None
    reminder: str
    document_id: int
    source_unique_id: str
    source_superseded: bool
    decided: bool
    code: str = ""
    atc: str = ""
    ordinal: int = 0
    changed_at: datetime | None = None

    @property
    def number(self) -> int:
        """Its number in addresses; one's own appointments are known by their key."""
        if not self.source_unique_id:
            return self.id
        return number_of(f"{self.source_unique_id} {self.ordinal}")

    @property
    def is_reminded(self) -> bool:
        """Whether who has to do it is reminded of its day (RULES §8)."""
        return self.status == AgendaStatus.PROPOSED.value and self.reminder != ""

    @property
    def document_number(self) -> int:
        """The number of its document in addresses."""
        return number_of(self.source_unique_id)


@dataclass(frozen=True, slots=True)
class AccessView:
    """Who opened the record, for its patient: never which hidden document (RULES §7)."""

    at: datetime
    actor: str
    kind: str
    title: str | None


@dataclass(frozen=True, slots=True)
class FoundPage:
    """A page of what a search found, and where the next one starts; None after the last."""

    documents: Sequence[DocumentView]
    after: Cursor | None


def _now() -> datetime:
    return datetime.now(UTC)


class RecordQueries:
    """The record database, opened for reading."""

    def __init__(self, database: Database, path: Path, clock: Callable[[], datetime]) -> None:
        self._database = database
        self.path = path
        """The database's file, for what reads a snapshot of its own."""
        self._clock = clock
        self.labs = LabQueries(database, clock)
        self.life = LifeQueries(database)
        self.packs = PackQueries(database)
        self.retention = RetentionQueries(database)
        self.rights = RightsQueries(database, clock)

    @classmethod
    async def open(cls, path: Path, clock: Callable[[], datetime] = _now) -> Self:
        """Open the record database read-only.

        Args:
            path: the database's file.
            clock: what rights are judged by: most of them end.
        """
        return cls(await open_record(path, read_only=True), path, clock)

    async def close(self) -> None:
        """Close every connection."""
        await self._database.close()

    async def late(self) -> dict[int, int]:
        """Count what has waited in quarantine for a decision, by least hours."""
        return await self._database.read(late, self._clock())

    async def patient(self, patient_id: int) -> PatientView | None:
        """Give one patient."""
        row = await self._database.first(select(patient).where(patient.c.id == patient_id))
        return None if row is None else _patient(row._asdict())

    async def patient_by_address(self, structure_id: str, address: str) -> PatientView | None:
        """Give the patient whose own mailbox this is (any case).

        The mailbox of an identity that was merged opens the record it was merged into.
        """
        row = await self._database.first(
            _records(_named.c.address == address.lower(), _named.c.structure_id == structure_id)
        )
        return None if row is None else _patient(row._asdict())

    async def marks(self, addresses: Sequence[str]) -> Mapping[str, tuple[int, int]]:
        """Give, by patients' mailboxes (lower case), a mark of what their holders may be shown.

        While it stays the same no document is new to them, unless time alone shows one.
        """
        values = {"addresses": json.dumps(list(addresses))}
        rows = await self._database.read(_marks, values)
        return {row[0]: (row[1], row[2]) for row in rows}

    async def patient_by_identity(
        self, structure_id: str, matricule: str, oid: str
    ) -> PatientView | None:
        """Give the patient of a structure with this INS; of a merged one, the record's own."""
        row = await self._database.first(
            _records(_named.c.structure_id == structure_id).where(
                _named.c.matricule == matricule.upper(), _named.c.oid == oid
            )
        )
        return None if row is None else _patient(row._asdict())

    async def patients(self, structure_id: str | None = None) -> Sequence[PatientView]:
        """Give the patients of a structure, or of the site."""
        wanted = select(patient).order_by(patient.c.family, patient.c.given, patient.c.id)
        if structure_id is not None:
            wanted = wanted.where(patient.c.structure_id == structure_id)
        return [_patient(row._asdict()) for row in await self._database.all(wanted)]

    async def patients_by_matricule(
        self, structure_id: str, matricule: str
    ) -> Sequence[PatientView]:
        """Give the patients of a structure with exactly this matricule, of whatever OID.

        The number of a merged identity opens the record it was merged into.
        """
        rows = await self._database.all(
            _records(_named.c.structure_id == structure_id, _named.c.matricule == matricule)
            .distinct()
            .order_by(patient.c.id)
        )
        return [_patient(row._asdict()) for row in rows]

    async def may_see_type(self, patient_id: int, viewer: Viewer, type_code: str) -> bool:
        """Say whether a viewer sees a document of this type that nothing hides.

        What patients write in their record (profile, wishes) is judged like such a document.
        """
        record = await self.rights.facts(patient_id)
        facts = DocumentFacts(type_code, frozenset({Visibility.VISIBLE}))
        return record is not None and decide(facts, viewer, record).is_shown

    async def categories(self, patient_id: int, viewer: Viewer) -> Sequence[CategoryView]:
        """Count the documents that the viewer may see, class by class."""
        return list((await self.page(patient_id, viewer, Wanted(many=0))).categories)

    async def page(self, patient_id: int, viewer: Viewer, wanted: Wanted) -> RecordPage:
        """Give one page of what the viewer may see, newest first, and the counts of all of it.

        What it costs does not grow with the record.
        """
        record = await record_facts(self._database, patient_id, self._clock())
        if record is None:
            return RecordPage((), (), 0)
        seen = await seen_by(self._database, patient_id, viewer, record)
        rows = await page_of(self._database, record, viewer, (seen, wanted)) if wanted.many else []
        order = {code: place for place, code in enumerate(CLASSES)}
        counts = seen.counts
        categories = tuple(
            CategoryView(code, class_label(code), counts[code])
            for code in sorted(counts, key=lambda code: (order.get(code, len(order)), code))
        )
        total = sum(cell.many for cell in wanted.of(seen))
        return RecordPage(categories, tuple(map(_document, rows)), total)

    async def seen_of(
        self, patient_id: int, viewer: Viewer, unique_ids: Collection[str]
    ) -> frozenset[str]:
        """Give those of these documents of a record that the viewer sees."""
        record = await record_facts(self._database, patient_id, self._clock())
        if record is None or not unique_ids:
            return frozenset()
        numbers = map(number_of, unique_ids)
        rows = await rows_numbered(self._database, patient_id, numbers)
        seen = [row for row in rows if decide(document_facts(row), viewer, record).is_shown]
        return frozenset(row["unique_id"] for row in seen)

    async def search(self, patient_id: int, viewer: Viewer, sought: Sought) -> FoundPage:
        """Give one page of the current documents that hold every word, newest first.

        What it costs does not grow with the record.
        """
        record = await record_facts(self._database, patient_id, self._clock())
        if record is None:
            return FoundPage((), None)
        seen = await seen_by(self._database, patient_id, viewer, record)
        found = await search(self._database, record, viewer, (seen, sought))
        return FoundPage(tuple(map(_document, found.rows)), found.after)

    async def sees_any(self, patient_id: int, viewer: Viewer) -> bool:
        """Say whether the viewer sees a document of this record, in whatever status."""
        record = await record_facts(self._database, patient_id, self._clock())
        if record is None:
            return False
        return bool((await seen_by(self._database, patient_id, viewer, record)).cells)

    async def keys(
        self, patient_id: int, viewer: Viewer, *, superseded: bool = False
    ) -> frozenset[int]:
        """Give the keys of the documents that ``documents`` lists."""
        record = await record_facts(self._database, patient_id, self._clock())
        if record is None:
            return frozenset()
        seen = await seen_by(self._database, patient_id, viewer, record)
        return await keys_of(self._database, seen.cells if superseded else seen.current)

    async def documents(
        self,
        patient_id: int,
        viewer: Viewer,
        *,
        class_code: str | None = None,
        superseded: bool = False,
    ) -> Sequence[DocumentView]:
        """List what the viewer may see, newest first.

        Args:
            patient_id: whose record.
            viewer: who looks.
            class_code: one class only.
            superseded: old and withdrawn versions too; without, they are in the detail only.
        """
        rows = await self._visible(patient_id, viewer)
        return [
            _document(row)
            for row in rows
            if (superseded or row["status"] == DocumentStatus.CURRENT.value)
            and class_code in (None, row["class_code"])
        ]

    async def document(
        self, patient_id: int, viewer: Viewer, document_id: int
    ) -> DocumentDetail | None:
        """Give one document with its content, or None when it is not for this viewer.

        Args:
            patient_id: whose record.
            viewer: who looks.
            document_id: its key here, or its number in addresses.
        """
        record = await record_facts(self._database, patient_id, self._clock())
        if record is None:
            return None
        rows = [
            row
            for row in await rows_of_versions(self._database, patient_id, document_id)
            if decide(document_facts(row), viewer, record).is_shown
        ]
        found = next(
            (row for row in rows if document_id in (row["id"], number_of(row["unique_id"]))), None
        )
        if found is None:
            return None
        chunks = await self._database.all(
            select(document_chunk.c.data)
            .where(document_chunk.c.document_id == found["id"])
            .order_by(document_chunk.c.position)
        )
        return DocumentDetail(
            document=_document(found),
            content=b"".join(chunk[0] for chunk in chunks),
            versions=tuple(_document(row) for row in _history(rows, found)),
        )

    async def agenda(self, patient_id: int, viewer: Viewer) -> Sequence[AgendaView]:
        """List the agenda entries of documents that the viewer may see, by date."""
        rows = await self._database.all(
            select(agenda_entry)
            .where(agenda_entry.c.patient_id == patient_id)
            .order_by(agenda_entry.c.day.is_(None), agenda_entry.c.day, agenda_entry.c.start_at)
            .order_by(agenda_entry.c.id)
        )
        record = await record_facts(self._database, patient_id, self._clock())
        if record is None or not rows:
            return []
        sources = await sources_of_agenda(self._database, patient_id)
        seen = {
            row["id"]: row["unique_id"]
            for row in sources
            if decide(document_facts(row), viewer, record, Part.AGENDA).is_shown
        }
        return [
            _agenda(row._asdict(), seen[row.document_id])
            for row in rows
            if row.document_id in seen
        ]

    async def declared(self, patient_id: int) -> Sequence[Declared]:
        """List what was said to be "déjà fait" in the prevention calendar."""
        said = prevention_declared.c
        rows = await self._database.all(
            select(said.rule_id, said.ordinal, said.day).where(said.patient_id == patient_id)
        )
        return [Declared(row.rule_id, row.ordinal, date.fromisoformat(row.day)) for row in rows]

    async def accesses(
        self, patient_id: int, viewer: Viewer | None = None
    ) -> Sequence[AccessView]:
        """List who opened the record, newest first.

        An access to a document that the reader does not see is shown as an access to the record,
        without type or title (RULES §7). Who had opened a document of theirs while it lay in
        another's record by mistake is named with the moment at which it left there.

        Args:
            patient_id: whose record.
            viewer: who reads the list; its patient when None.
        """
        event = TRAIL.event.c
        subjects = await subjects_of(self._database, patient_id)
        rows = await self._database.all(
            select(event.at, event.actor, event.kind, event.facts)
            .where(event.subject.in_(subjects), event.kind.in_(ACCESS_KINDS))
            .order_by(event.event_id.desc())
            .limit(MAX_ACCESSES)
        )
        reader = viewer or Viewer(ViewerKind.PATIENT, str(patient_id))
        record = await record_facts(self._database, patient_id, self._clock())
        elsewhere = await self._database.all(
            select(notice.c.at, notice.c.addressee, notice.c.document_id)
            .join(document, document.c.id == notice.c.document_id)
            .where(notice.c.kind == "taken_out", notice.c.patient_id != patient_id)
            .where(document.c.patient_id == patient_id)
            .order_by(notice.c.id.desc())
            .limit(MAX_ACCESSES)
        )
        named = {_document_of(row.facts) for row in rows} - {0}
        named |= {row.document_id for row in elsewhere}
        titles = {
            row["id"]: row["title"]
            for row in await rows_named(self._database, patient_id, named)
            if record is not None and decide(document_facts(row), reader, record).is_shown
        }
        found = [
            _access(row._asdict(), titles if _may_learn(json.loads(row.facts), reader) else {})
            for row in rows
        ]
        found += [_access_elsewhere(row._asdict(), titles) for row in elsewhere]
        return sorted(found, key=lambda each: each.at, reverse=True)[:MAX_ACCESSES]

    async def access_proofs(
        self, patient_id: int, viewer: Viewer | None = None
    ) -> list[dict[str, Any]]:
        """Give what ``accesses`` lists, oldest first, each with its proof; see there for form.

        Not what happened in another's record: its events are that record's.
        """
        reader = viewer or Viewer(ViewerKind.PATIENT, str(patient_id))
        known = {0, *await self.keys(patient_id, reader, superseded=True)}
        return await access_proofs(
            self._database,
            await subjects_of(self._database, patient_id),
            ACCESS_KINDS,
            limit=MAX_ACCESSES,
            may_know=lambda facts: (
                facts.get("document_id", 0) in known and _may_learn(facts, reader)
            ),
        )

    async def _visible(
        self, patient_id: int, viewer: Viewer, part: Part = Part.DOCUMENTS
    ) -> list[Mapping[str, Any]]:
        """The rows of a record that this viewer may see, newest first."""
        record = await record_facts(self._database, patient_id, self._clock())
        if record is None:
            return []
        rows = await rows_of_record(self._database, patient_id)
        return [row for row in rows if decide(document_facts(row), viewer, record, part).is_shown]


_named = patient.alias()
"""An identity as it is named; its record may be another's, when it was merged."""


def _records(*conditions: ColumnElement[bool]) -> Select[Any]:
    """The patients whose records identities open that fit."""
    return (
        select(patient)
        .join(_named, patient.c.id == func.coalesce(_named.c.merged_into, _named.c.id))
        .where(*conditions)
    )


def _marks(connection: sqlite3.Connection, values: Mapping[str, str]) -> list[Any]:
    """Any: columns."""
    return connection.execute(_MARKS, values).fetchall()


def _history(
    rows: Sequence[Mapping[str, Any]], found: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """Every visible version of the same document, newest first, itself included."""
    by_id = {row["unique_id"]: row for row in rows}
    chain = {found["unique_id"]}
    grown = True
    while grown:
        related = {
            row["unique_id"]
            for row in rows
            if row["unique_id"] in chain
            or row["parent_unique_id"] in chain
            or any(by_id[name]["parent_unique_id"] == row["unique_id"] for name in chain)
        }
        grown = related != chain
        chain = related
    return [row for row in rows if row["unique_id"] in chain]


def _patient(row: Mapping[str, Any]) -> PatientView:
    return PatientView(
        **{name: row[name] for name in PatientView.__slots__}  # columns have the same names
    )


def _document(row: Mapping[str, Any]) -> DocumentView:
    return DocumentView(
        id=row["id"],
        unique_id=row["unique_id"],
        type_code=row["type_code"],
        type_label=type_label(row["type_code"]) or row["title"],
        class_code=row["class_code"],
        title=row["title"],
        effective_at=moment_or_none(row["effective_at"]),
        received_at=moment(row["received_at"]),
        author=row["author"],
        custodian=row["custodian"],
        sender=row["sender"],
        status=row["status"],
        visibility=tuple(sorted(row["visibility"].split())),
        marks=tuple(sorted(row["marks"].split())),
        octets=row["octets"],
        parent_unique_id=row["parent_unique_id"] or "",
    )


def _agenda(row: Mapping[str, Any], unique_id: str) -> AgendaView:
    start_at = moment_or_none(row["start_at"])
    day = None if row["day"] is None else date.fromisoformat(row["day"])
    return AgendaView(
        id=row["id"],
        kind=row["kind"],
        status=row["status"],
        title=row["title"],
        place=row["place"] or "",
        day=day if start_at is None else paris_day(start_at),
        start_at=start_at,
        end_at=moment_or_none(row["end_at"]),
        reminder=row["reminder"],
        document_id=row["document_id"],
        source_unique_id=unique_id,
        source_superseded=bool(row["source_superseded"]),
        decided=row["decided_at"] is not None,
        code=row["code"],
        atc=row["atc"],
        ordinal=row["ordinal"],
        changed_at=moment(row["decided_at"] or row["created_at"]),
    )


def _document_of(facts: str) -> int:
    """The document that an event is about, 0 for none."""
    return int(json.loads(facts).get("document_id", 0))


def _access_elsewhere(row: Mapping[str, Any], titles: Mapping[int, str]) -> AccessView:
    """Another patient stays nameless; a professional is named as in one's own record."""
    reader = str(row["addressee"])
    title = titles.get(row["document_id"])
    return AccessView(
        moment(row["at"]),
        reader if reader.startswith("practitioner:") else STRANGER,
        "record_read" if title is None else "read_elsewhere",
        title,
    )


def _may_learn(facts: Mapping[str, Any], reader: Viewer) -> bool:
    """Whether a reader may know what an event was: not that something was hidden from parents."""
    hidden_from_parents = facts.get("mask") == Visibility.INVISIBLE_REPRESENTATIVES.value
    return not hidden_from_parents or reader.kind == ViewerKind.PATIENT


def _access(row: Mapping[str, Any], titles: Mapping[int, str]) -> AccessView:
    title = titles.get(_document_of(row["facts"]))
    kind = row["kind"]
    if kind in _ABOUT_A_DOCUMENT and title is None:
        kind = "record_read"
    return AccessView(moment(row["at"]), row["actor"], kind, title)
