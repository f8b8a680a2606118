"""Reading what rights depend on: the rows of a record, made into values for one decision.

Source: RULES §7.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from importlib.resources import files
from typing import Any, Final

from sqlalchemy import Select, func, select, text

from directory.database import Database
from record_bridge.habilitation import Matrix, parse_matrix
from record_bridge.model import OppositionScope, Viewer, Visibility
from record_bridge.repository import micros, moment, moment_or_none
from record_bridge.rights import (
    EVERYTHING,
    Decision,
    Grant,
    GrantKind,
    Part,
    RecordFacts,
    may_open,
)
from record_bridge.schema import access_right, agenda_entry, document, opposition, patient
from record_bridge.visibility import DocumentFacts

_NOT_SHOWN = frozenset({"sha256", "words", "refs", "number"})
DOCUMENT_COLUMNS = [column for column in document.c if column.name not in _NOT_SHOWN]
COLUMNS: Final = ", ".join(f"d.{column.name}" for column in DOCUMENT_COLUMNS)
"""The same, of ``document AS d``."""
_VERSIONS: Final = text(
    "WITH RECURSIVE version (id) AS ("  # noqa: S608 - ours
    "SELECT id FROM document WHERE id = :name AND patient_id = :patient_id UNION"
    " SELECT id FROM document WHERE patient_id = :patient_id AND number = :name UNION"
    " SELECT d.id FROM version CROSS JOIN document AS o ON o.id = version.id CROSS JOIN document"
    " AS d ON d.structure_id = o.structure_id AND d.unique_id = o.parent_unique_id"
    " WHERE +d.patient_id = :patient_id UNION"
    " SELECT d.id FROM version CROSS JOIN document AS o ON o.id = version.id CROSS JOIN document"
    " AS d ON d.structure_id = o.structure_id AND d.parent_unique_id = o.unique_id"
    " WHERE +d.patient_id = :patient_id)"
    f" SELECT {COLUMNS} FROM document AS d WHERE d.id IN (SELECT id FROM version)"
    " ORDER BY coalesce(d.effective_at, d.received_at) DESC, d.id DESC"
)
_NUMBERED: Final = text(
    f"SELECT {COLUMNS} FROM json_each(:numbers) AS n CROSS JOIN document AS d"  # noqa: S608 - ours
    " ON d.patient_id = :patient_id AND d.number = n.value"
)
_NAMED: Final = text(
    f"SELECT {COLUMNS} FROM document AS d"  # noqa: S608 - ours
    " WHERE d.id IN (SELECT value FROM json_each(:keys)) AND +d.patient_id = :patient_id"
)


@cache
def national_matrix() -> Matrix:
    """Read the matrix that comes with this program, once."""
    return parse_matrix(
        files("record_bridge").joinpath("habilitation_2023.tsv").read_text("utf-8")
    )


def document_facts(row: Mapping[str, Any]) -> DocumentFacts:
    """What a decision needs of a row of ``document``."""
    return DocumentFacts(
        type_code=row["type_code"],
        states=frozenset(Visibility(code) for code in row["visibility"].split()),
        author_ids=frozenset(row["author_ids"].split()),
        recipient_ids=frozenset(row["recipient_ids"].split()),
        attending_ids=frozenset(row["attending_ids"].split()),
    )


@dataclass(frozen=True, slots=True)
class RightRow:
    """A right as it is kept, in force or ended.

    ``holder`` is a professional's RPPS or the key of a patient; "" for a delegation that nobody
    took up yet. ``name`` is what the patient called the relative.
    """

    id: int
    patient_id: int
    kind: GrantKind
    holder: str
    parts: frozenset[Part]
    name: str
    reason: str
    said_by: str
    since: datetime
    until: datetime | None
    ended_at: datetime | None
    told_at: datetime | None

    @property
    def grant(self) -> Grant:
        """What the decision needs of it."""
        ends = [end for end in (self.until, self.ended_at) if end is not None]
        return Grant(self.kind, self.holder, self.since, min(ends, default=None), self.parts)


class RightsQueries:
    """Rights on records, opened for reading."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def facts(self, patient_id: int) -> RecordFacts | None:
        """Give what is known of a record now, None when there is no such patient."""
        return await record_facts(self._database, patient_id, self._clock())

    async def may_open(
        self, patient_id: int, viewer: Viewer, part: Part = Part.DOCUMENTS
    ) -> Decision | None:
        """Say whether a viewer may open a record; None when there is no such patient."""
        record = await self.facts(patient_id)
        return None if record is None else may_open(record, viewer, part)

    async def of(self, patient_id: int) -> Sequence[RightRow]:
        """List the rights on a record, ended ones included, newest first."""
        return await rights_of(self._database, patient_id)

    async def held_by(self, viewer: Viewer) -> Sequence[RightRow]:
        """List the rights that somebody holds now, on whatever record, newest first."""
        wanted = select(access_right).where(
            access_right.c.holder == viewer.ref,
            access_right.c.ended_at.is_(None),
            access_right.c.until_at.is_(None) | (access_right.c.until_at > micros(self._clock())),
        )
        return await _rows(self._database, wanted) if viewer.ref else ()


async def record_facts(database: Database, patient_id: int, at: datetime) -> RecordFacts | None:
    """Give what is known of a record, None when there is no such patient."""
    person = await database.first(
        select(patient.c.structure_id, patient.c.birth_date, patient.c.closed_at).where(
            patient.c.id == patient_id
        )
    )
    if person is None:
        return None
    rights = await rights_of(database, patient_id)
    opposed = await database.all(
        select(opposition.c.scope).where(
            opposition.c.patient_id == patient_id, opposition.c.until_at.is_(None)
        )
    )
    return RecordFacts(
        structure_id=person.structure_id,
        patient_ref=str(patient_id),
        born=date.fromisoformat(person.birth_date),
        at=at,
        matrix=national_matrix(),
        grants=tuple(right.grant for right in rights if right.holder),
        opposed=frozenset(OppositionScope(row.scope) for row in opposed),
        closed=person.closed_at is not None,
    )


async def rights_of(database: Database, patient_id: int) -> Sequence[RightRow]:
    """List the rights on a record, ended ones included, newest first."""
    wanted = select(access_right).where(access_right.c.patient_id == patient_id)
    return await _rows(database, wanted)


async def _rows(database: Database, wanted: Select[Any]) -> Sequence[RightRow]:
    rows = await database.all(wanted.order_by(access_right.c.id.desc()))
    return [_right(row._asdict()) for row in rows]


def _right(row: Mapping[str, Any]) -> RightRow:
    parts = frozenset(Part(word) for word in row["parts"].split())
    return RightRow(
        id=row["id"],
        patient_id=row["patient_id"],
        kind=GrantKind(row["kind"]),
        holder=row["holder"],
        parts=parts or EVERYTHING,
        name=row["name"],
        reason=row["reason"],
        said_by=row["said_by"],
        since=moment(row["since_at"]),
        until=moment_or_none(row["until_at"]),
        ended_at=moment_or_none(row["ended_at"]),
        told_at=moment_or_none(row["told_at"]),
    )


async def rows_of_record(database: Database, patient_id: int) -> Sequence[Mapping[str, Any]]:
    """Every document of a record, hidden ones included: nothing here is for a viewer."""
    rows = await database.all(
        select(*DOCUMENT_COLUMNS)
        .where(document.c.patient_id == patient_id)
        .order_by(func.coalesce(document.c.effective_at, document.c.received_at).desc())
        .order_by(document.c.id.desc())
    )
    return [row._asdict() for row in rows]


async def rows_of_versions(
    database: Database, patient_id: int, name: int
) -> Sequence[Mapping[str, Any]]:
    """Every version of a document of a record, newest first; like ``rows_of_record``, for no one.

    Args:
        database: the record's.
        patient_id: whose record.
        name: the key or the number of one of them.
    """
    rows = await database.all(_VERSIONS, {"patient_id": patient_id, "name": name})
    return [row._asdict() for row in rows]


async def rows_named(
    database: Database, patient_id: int, keys: Collection[int]
) -> Sequence[Mapping[str, Any]]:
    """The documents of a record with these keys; like ``rows_of_record``, for no viewer."""
    wanted = {"patient_id": patient_id, "keys": json.dumps(sorted(keys))}
    return [row._asdict() for row in await database.all(_NAMED, wanted)]


async def rows_numbered(
    database: Database, patient_id: int, numbers: Iterable[int]
) -> Sequence[Mapping[str, Any]]:
    """The documents of a record with these numbers; like ``rows_of_record``, for no viewer."""
    wanted = {"patient_id": patient_id, "numbers": json.dumps(sorted(numbers))}
    return [row._asdict() for row in await database.all(_NUMBERED, wanted)]


async def sources_of_agenda(database: Database, patient_id: int) -> Sequence[Mapping[str, Any]]:
    """The documents that entries of an agenda come from, hidden ones included: for no viewer."""
    named = select(agenda_entry.c.document_id).where(agenda_entry.c.patient_id == patient_id)
    rows = await database.all(select(*DOCUMENT_COLUMNS).where(document.c.id.in_(named)))
    return [row._asdict() for row in rows]
