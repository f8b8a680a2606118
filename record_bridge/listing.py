"""One page of a record, whatever its size: what a viewer sees is decided on groups of documents.

A decision depends on a document's type and states, and on whether the viewer wrote it, received
it, or attends: documents that agree in those are one group, decided once by
``record_bridge.visibility.decide``. SQL counts the groups from an index and leaves the hidden ones
out of a page; what it gives is decided again row by row, so that SQL alone shows nothing.

Source: RULES §7.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, select, text

from directory.database import Database
from record_bridge.model import Viewer, ViewerKind, Visibility
from record_bridge.rights import RecordFacts
from record_bridge.rights_record import DOCUMENT_COLUMNS, document_facts
from record_bridge.schema import document
from record_bridge.visibility import DocumentFacts, decide

PAGE: Final = 20
"""Source: MSS-FACTS §6.5 (TD3.1, batches of 20)."""

_BORNE: Final = (
    "instr(' ' || {0} || ' ', ' ' || :ref || ' ') OR instr(' ' || {0} || ' ', ' 8' || :ref || ' ')"
)
_FLAGS: Final = " || ".join(
    f"(CASE WHEN :ref <> '' AND ({_BORNE.format(column)}) THEN '1' ELSE '0' END)"
    for column in ("author_ids", "recipient_ids", "attending_ids")
)
"""Three digits: the viewer wrote it, received it, attends."""
_KEY: Final = f"type_code || '/' || visibility || '/' || {_FLAGS}"
_PLAIN_GROUPS: Final = text(
    "SELECT class_code, type_code, visibility, '000' AS flags, count(*) AS many FROM document"
    " WHERE patient_id = :patient_id AND status = 'current'"
    " GROUP BY class_code, type_code, visibility"
)
"""For who is no professional: one walk over the index, which has this order."""
_GROUPS: Final = text(
    f"SELECT class_code, type_code, visibility, {_FLAGS} AS flags, count(*) AS many FROM document"  # noqa: S608 - ours
    " WHERE patient_id = :patient_id AND status = 'current'"
    " GROUP BY class_code, type_code, visibility, flags"
)
_PAGE: Final = (
    select(*DOCUMENT_COLUMNS)
    .where(document.c.patient_id == bindparam("patient_id"), document.c.status == "current")
    .where(text("(:class_code IS NULL OR class_code = :class_code)"))
    .where(text(f"({_KEY}) NOT IN (SELECT value FROM json_each(:hidden))"))  # noqa: S608 - ours
    .order_by(document.c.effective_at.desc(), document.c.received_at.desc())
    .order_by(document.c.id.desc())
    .limit(bindparam("many"))
    .offset(bindparam("before"))
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a viewer sees of a record's current documents.

    Attributes:
        counts: by class.
        hidden: keys of the groups that are left out.
    """

    counts: Mapping[str, int]
    hidden: frozenset[str]

    @property
    def total(self) -> int:
        """How many documents."""
        return sum(self.counts.values())


async def seen_by(
    database: Database, patient_id: int, viewer: Viewer, record: RecordFacts
) -> Seen:
    """Decide on each group of a record's current documents."""
    counts: dict[str, int] = {}
    hidden = set()
    ref = _ref(viewer)
    rows = (
        await database.all(_GROUPS, {"patient_id": patient_id, "ref": ref})
        if ref
        else await database.all(_PLAIN_GROUPS, {"patient_id": patient_id})
    )
    for row in rows:
        if decide(_facts(row, viewer), viewer, record).is_shown:
            counts[row.class_code] = counts.get(row.class_code, 0) + row.many
        else:
            hidden.add(f"{row.type_code}/{row.visibility}/{row.flags}")
    return Seen(counts, frozenset(hidden))


@dataclass(frozen=True, slots=True)
class Wanted:
    """A page: ``number`` from 1, ``many`` documents each, of one class or of all (None)."""

    number: int = 1
    many: int = PAGE
    class_code: str | None = None


async def page_of(
    database: Database, record: RecordFacts, viewer: Viewer, what: tuple[Seen, Wanted]
) -> list[Mapping[str, Any]]:
    """Give the rows of one page, newest first."""
    seen, wanted = what
    rows = await database.all(
        _PAGE,
        {
            "patient_id": int(record.patient_ref),
            "ref": _ref(viewer),
            "class_code": wanted.class_code,
            "hidden": json.dumps(sorted(seen.hidden)),
            "many": wanted.many,
            "before": (wanted.number - 1) * wanted.many,
        },
    )
    found: Sequence[Mapping[str, Any]] = [row._asdict() for row in rows]
    return [row for row in found if decide(document_facts(row), viewer, record).is_shown]


def _ref(viewer: Viewer) -> str:
    return viewer.ref if viewer.kind == ViewerKind.PRACTITIONER else ""


def _facts(row: Any, viewer: Viewer) -> DocumentFacts:
    """A group as a document; Any: a row of SQLAlchemy."""
    own = frozenset({viewer.ref})
    wrote, received, attends = (own if digit == "1" else frozenset() for digit in row.flags)
    states = frozenset(Visibility(code) for code in row.visibility.split())
    return DocumentFacts(row.type_code, states, wrote, received, attends)
