"""Reading the medicines that documents name, as one viewer sees them, document by document.

The same decision that shows a document shows its lines (RULES §7): what is hidden, replaced or
withdrawn leaves no line and no count. Five statements, whatever the record holds.

Source: RULES §7, RULES §8.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, Final

from sqlalchemy import text

from directory.database import Database
from record_bridge.listing import NEWEST, shown_lines
from record_bridge.model import Medication, MedicationKind, Viewer
from record_bridge.repository import moment_or_none
from record_bridge.rights_record import record_facts

MAX_MEDICATIONS: Final = 500
"""Lines of one record that are shown, those of the newest documents."""
_MEDICATIONS: Final = text(
    "SELECT m.*, d.unique_id, d.title, d.effective_at, d.type_code, d.visibility, d.author_ids,"  # noqa: S608 - ours
    " d.recipient_ids, d.attending_ids FROM json_each(:cells) AS c"
    " CROSS JOIN cell_document AS p ON p.cell_id = c.value"
    " CROSS JOIN medication AS m ON m.document_id = p.document_id"
    " CROSS JOIN document AS d ON d.id = m.document_id"
    f" {NEWEST.format('d')}, m.ordinal LIMIT :many"
)


@dataclass(frozen=True, slots=True)
class Named:
    """What one document names, in its order; ``at`` is when it was written, if it says so."""

    document: str
    title: str
    at: datetime | None
    medications: tuple[Medication, ...]


@dataclass(frozen=True, slots=True)
class Medications:
    """What the documents of a record name, newest first; ``cut`` when older lines are left out."""

    documents: tuple[Named, ...]
    cut: bool


class MedicationQueries:
    """The medicines of a record, opened for reading."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def medications(self, patient_id: int, viewer: Viewer) -> Medications:
        """Give what the documents this viewer sees name; nothing when there is no such patient."""
        record = await record_facts(self._database, patient_id, self._clock())
        if record is None:
            return Medications((), cut=False)
        rows = await shown_lines(
            self._database, record, viewer, (_MEDICATIONS, MAX_MEDICATIONS + 1)
        )
        shown = groupby(rows[:MAX_MEDICATIONS], key=lambda row: row["document_id"])
        documents = tuple(_named(list(lines)) for _, lines in shown)
        return Medications(documents, cut=len(rows) > MAX_MEDICATIONS)


def _named(rows: list[Mapping[str, Any]]) -> Named:
    document = rows[0]
    at = moment_or_none(document["effective_at"])
    lines = tuple(_medication(row) for row in rows)
    return Named(document["unique_id"], document["title"], at, lines)


def _medication(row: Mapping[str, Any]) -> Medication:
    return Medication(
        kind=MedicationKind(row["kind"]),
        label=row["label"],
        code=row["code"],
        code_system=row["code_system"],
        low=row["low"],
        high=row["high"],
        as_needed=bool(row["as_needed"]),
        renewals=row["renewals"],
    )
