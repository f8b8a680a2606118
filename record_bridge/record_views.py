"""What a viewer gets of a record, as values: patients, documents, the agenda, pages of a list.

They hold what ``RecordQueries`` let through, and decide nothing.

Source: RULES §7, RULES §8.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from directory.codes import type_label
from record_bridge.formats.dtm import paris_day
from record_bridge.model import AgendaStatus
from record_bridge.repository import moment, moment_or_none, number_of
from record_bridge.searching import Cursor


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
class FoundPage:
    """A page of what a search found, and where the next one starts; None after the last."""

    documents: Sequence[DocumentView]
    after: Cursor | None


def patient_view(row: Mapping[str, Any]) -> PatientView:
    """Make it of a row of ``patient``."""
    return PatientView(
        **{name: row[name] for name in PatientView.__slots__}  # columns have the same names
    )


def document_view(row: Mapping[str, Any]) -> DocumentView:
    """Make it of a row of ``document``."""
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


def agenda_view(row: Mapping[str, Any], unique_id: str) -> AgendaView:
    """Make it of a row of ``agenda_entry``, and the unique id of its document."""
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
