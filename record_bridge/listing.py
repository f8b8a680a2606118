"""One page of a record, whatever its size: what a viewer sees is decided cell by cell.

A decision depends on a document's type and states, and on whether the viewer wrote it, received
it, or attends: the documents that agree in those are one cell of ``record_bridge.document_index``,
counted there and decided once by ``record_bridge.visibility.decide``. A page reads the newest of
the cells that are shown and nothing of the others; what it gives is decided again row by row, so
that SQL alone shows nothing.

Source: RULES §7.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Executable, text

from directory.database import Database
from record_bridge.model import DocumentStatus, Viewer, ViewerKind, Visibility
from record_bridge.rights import RecordFacts
from record_bridge.rights_record import COLUMNS, document_facts
from record_bridge.visibility import DocumentFacts, decide

PAGE: Final = 20
"""Source: MSS-FACTS §6.5 (TD3.1, batches of 20)."""

_CELLS: Final = text(
    "SELECT id, ref, roles, status, class_code, type_code, visibility, many FROM document_cell"
    " WHERE record_id = :record_id AND ref IN ('', :ref)"
)
_KEYS: Final = text(
    "SELECT document_id FROM json_each(:cells) AS c CROSS JOIN cell_document AS d"
    " ON d.cell_id = c.value"
)
NEWEST: Final = "ORDER BY coalesce({0}.effective_at, {0}.received_at) DESC, {0}.id DESC"
_BY_DATE: Final = NEWEST.format("d")
_PAGE: Final = text(
    f"SELECT {COLUMNS} FROM document AS d WHERE d.id IN ("  # noqa: S608 - ours
    "SELECT d.id FROM json_each(:cells) AS c CROSS JOIN document AS d ON d.id IN ("
    "SELECT document_id FROM cell_document WHERE cell_id = c.value"
    " ORDER BY dated_at DESC, document_id DESC LIMIT :upto)"
    f" {_BY_DATE} LIMIT :many OFFSET :before) {_BY_DATE}"
)


@dataclass(frozen=True, slots=True)
class DocumentKind:
    """What the documents of a cell agree in; ``visibility`` sorted."""

    status: str
    class_code: str
    type_code: str
    visibility: tuple[str, ...]


def is_current(kind: DocumentKind) -> bool:
    """Say whether documents of this kind are current ones."""
    return kind.status == DocumentStatus.CURRENT.value


@dataclass(frozen=True, slots=True)
class Cell:
    """Documents of a record that one decision is the same for.

    ``is_named``: the viewer's own, apart from everybody's cells, and with no words in the index.
    """

    id: int
    kind: DocumentKind
    many: int
    is_named: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """The cells of a record that a viewer sees; no document is in two of them."""

    cells: Sequence[Cell]

    @property
    def current(self) -> Sequence[Cell]:
        """The cells of current documents."""
        return [cell for cell in self.cells if is_current(cell.kind)]

    @property
    def counts(self) -> Mapping[str, int]:
        """How many current documents, by class."""
        counts: dict[str, int] = {}
        for cell in self.current:
            code = cell.kind.class_code
            counts[code] = counts.get(code, 0) + cell.many
        return counts


async def seen_by(
    database: Database, patient_id: int, viewer: Viewer, record: RecordFacts
) -> Seen:
    """Decide on each cell of a record."""
    ref = viewer.ref if viewer.kind == ViewerKind.PRACTITIONER else ""
    rows = await database.all(_CELLS, {"record_id": patient_id, "ref": ref})
    shown = [row for row in rows if decide(_facts(row, viewer), viewer, record).is_shown]
    # Being named by a document only ever adds to what everybody of one's profession sees.
    cells = [Cell(row.id, _kind(row), row.many, bool(row.ref)) for row in shown]
    everybodys = {cell.kind for cell in cells if not cell.is_named}
    return Seen([cell for cell in cells if not cell.is_named or cell.kind not in everybodys])


@dataclass(frozen=True, slots=True)
class Wanted:
    """A page: ``number`` from 1, ``many`` documents each, of one class or of all (None).

    ``is_wanted`` chooses kinds of documents, old versions too; without it, the current ones.
    """

    number: int = 1
    many: int = PAGE
    class_code: str | None = None
    is_wanted: Callable[[DocumentKind], bool] = is_current

    def of(self, seen: Seen) -> Sequence[Cell]:
        """The cells whose documents are wanted."""
        return [
            cell
            for cell in seen.cells
            if self.class_code in (None, cell.kind.class_code) and self.is_wanted(cell.kind)
        ]


async def page_of(
    database: Database, record: RecordFacts, viewer: Viewer, what: tuple[Seen, Wanted]
) -> list[Mapping[str, Any]]:
    """Give the rows of one page, newest first."""
    seen, wanted = what
    before = (wanted.number - 1) * wanted.many
    cells = [cell.id for cell in wanted.of(seen)]
    rows = await database.all(
        _PAGE,
        {
            "cells": json.dumps(cells),
            "upto": before + wanted.many,
            "many": wanted.many,
            "before": before,
        },
    )
    return shown_rows(rows, viewer, record)


async def keys_of(database: Database, cells: Sequence[Cell]) -> frozenset[int]:
    """Give the keys of every document of these cells."""
    rows = await database.all(_KEYS, {"cells": json.dumps([cell.id for cell in cells])})
    return frozenset(row.document_id for row in rows)


async def shown_lines(
    database: Database, record: RecordFacts, viewer: Viewer, what: tuple[Executable, int]
) -> list[Mapping[str, Any]]:
    """Give the lines of a list, of the current documents that a viewer sees.

    Args:
        database: the record's.
        record: whose record.
        viewer: who asks.
        what: a select of lines with COLUMNS of their documents and ``document_id``, from cells
            ``:cells``, at most ``:many`` of them; and how many.
    """
    statement, many = what
    seen = await seen_by(database, int(record.patient_ref), viewer, record)
    cells = json.dumps([cell.id for cell in seen.current])
    rows = await database.all(statement, {"cells": cells, "many": many})
    first = {row.document_id: row for row in rows}
    decided = shown_rows(list(first.values()), viewer, record)
    shown = {row["document_id"] for row in decided}
    return [row._asdict() for row in rows if row.document_id in shown]


def shown_rows(
    rows: Sequence[Any], viewer: Viewer, record: RecordFacts
) -> list[Mapping[str, Any]]:
    """Decide once more, on each row itself; Any: rows of SQLAlchemy."""
    found: Sequence[Mapping[str, Any]] = [row._asdict() for row in rows]
    return [row for row in found if decide(document_facts(row), viewer, record).is_shown]


def _kind(row: Any) -> DocumentKind:
    """Any: a row of SQLAlchemy."""
    visibility = tuple(sorted(row.visibility.split()))
    return DocumentKind(row.status, row.class_code, row.type_code, visibility)


def _facts(row: Any, viewer: Viewer) -> DocumentFacts:
    """A cell as a document; Any: a row of SQLAlchemy."""
    own = frozenset({viewer.ref})
    roles = row.roles or "000"
    wrote, received, attends = (own if digit == "1" else frozenset() for digit in roles)
    states = frozenset(Visibility(code) for code in row.visibility.split())
    return DocumentFacts(row.type_code, states, wrote, received, attends)
