"""Reading the record, for the webmail and the command line. Read-only.

Everything that a viewer gets went through ``record_bridge.visibility.decide``: lists, counts,
one document, the agenda, the list of accesses (RULES §7). A document that is not shown does not
exist for that viewer: same None, no gap in numbering.
"""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final, Self

from sqlalchemy import ColumnElement, Select, false, func, literal, or_, select

from directory.codes import CLASSES, class_label
from directory.database import Database
from record_bridge.access_list import ACCESS_KINDS, MAX_ACCESSES, AccessView, accesses, may_learn
from record_bridge.access_proofs import access_proofs, subjects_of
from record_bridge.lab_queries import LabQueries
from record_bridge.lateness import late
from record_bridge.life_queries import LifeQueries
from record_bridge.listing import DocumentKind, Wanted, keys_of, page_of, seen_by
from record_bridge.medication_queries import MedicationQueries
from record_bridge.model import DocumentStatus, Viewer, ViewerKind, Visibility
from record_bridge.pack_queries import PackQueries
from record_bridge.prevention import Declared
from record_bridge.record_views import (
    AgendaView,
    CategoryView,
    DocumentDetail,
    DocumentView,
    FoundPage,
    PatientView,
    RecordPage,
    agenda_view,
    document_view,
    patient_view,
)
from record_bridge.repository import (
    number_of,
    open_record,
)
from record_bridge.retention_queries import RetentionQueries
from record_bridge.rights import Part
from record_bridge.rights_record import (
    RightsQueries,
    document_facts,
    record_facts,
    rows_numbered,
    rows_of_record,
    rows_of_versions,
    sources_of_agenda,
)
from record_bridge.schema import (
    agenda_entry,
    document_chunk,
    patient,
    prevention_declared,
    quarantine,
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

_MARKS: Final = (
    "SELECT p.address, coalesce(p.merged_into, p.id), coalesce(c.changes, 0) FROM patient AS p"
    " LEFT JOIN record_change AS c ON c.record_id = coalesce(p.merged_into, p.id)"
    " WHERE p.address IN (SELECT value FROM json_each(:addresses))"
)


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
        self.medications = MedicationQueries(database, clock)
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
        return None if row is None else patient_view(row._asdict())

    async def patient_by_address(self, structure_id: str, address: str) -> PatientView | None:
        """Give the patient whose own mailbox this is (any case).

        The mailbox of an identity that was merged opens the record it was merged into.
        """
        row = await self._database.first(
            _records(_named.c.address == address.lower(), _named.c.structure_id == structure_id)
        )
        return None if row is None else patient_view(row._asdict())

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
        return None if row is None else patient_view(row._asdict())

    async def patients(self, structure_id: str | None = None) -> Sequence[PatientView]:
        """Give the patients of a structure, or of the site."""
        wanted = select(patient).order_by(patient.c.family, patient.c.given, patient.c.id)
        if structure_id is not None:
            wanted = wanted.where(patient.c.structure_id == structure_id)
        return [patient_view(row._asdict()) for row in await self._database.all(wanted)]

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
        return [patient_view(row._asdict()) for row in rows]

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
        return RecordPage(categories, tuple(map(document_view, rows)), total)

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
        return FoundPage(tuple(map(document_view, found.rows)), found.after)

    async def waiting(self, addresses: Iterable[str]) -> int:
        """Count what waits in quarantine and came to one of these mailboxes, in lower case."""
        row = quarantine.c
        among = [
            func.instr(literal(" ") + row.addressees + literal(" "), f" {address} ") > 0
            for address in addresses
        ]
        found = await self._database.all(
            select(func.count()).where(row.state == "open", or_(false(), *among))
        )
        return int(found[0][0])

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
            document_view(row)
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
            document=document_view(found),
            content=b"".join(chunk[0] for chunk in chunks),
            versions=tuple(document_view(row) for row in _history(rows, found)),
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
            agenda_view(row._asdict(), seen[row.document_id])
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
        reader = viewer or Viewer(ViewerKind.PATIENT, str(patient_id))
        return await accesses(self._database, patient_id, reader, self._clock())

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
                facts.get("document_id", 0) in known and may_learn(facts, reader)
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
