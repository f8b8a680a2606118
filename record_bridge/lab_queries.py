"""Reading laboratory results as series, as one viewer sees them.

The same decision that shows a document shows its results (RULES §7): what is hidden, replaced or
withdrawn leaves no point, no count and no gap. Five statements, whatever the record holds.

Source: RULES §7, RULES §8.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import text

from directory.database import Database
from record_bridge.listing import shown_lines
from record_bridge.model import Viewer
from record_bridge.repository import moment_or_none
from record_bridge.rights_record import record_facts
from record_bridge.trends import Measured, Series, series_of

MAX_RESULTS: Final = 5000
"""Results of one record that are shown, the newest."""
_RESULTS: Final = text(
    "SELECT r.*, d.unique_id, d.type_code, d.visibility, d.author_ids, d.recipient_ids,"
    " d.attending_ids FROM json_each(:cells) AS c"
    " CROSS JOIN cell_document AS p ON p.cell_id = c.value"
    " CROSS JOIN lab_result AS r ON r.document_id = p.document_id"
    " CROSS JOIN document AS d ON d.id = r.document_id"
    " ORDER BY r.day IS NULL, r.day DESC, r.at DESC, d.id DESC, r.ordinal LIMIT :many"
)


@dataclass(frozen=True, slots=True)
class Trends:
    """The series of a record; ``cut`` when older results are left out."""

    series: tuple[Series, ...]
    cut: bool


class LabQueries:
    """Laboratory results, opened for reading."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def trends(self, patient_id: int, viewer: Viewer) -> Trends:
        """Give every series of what this viewer sees; none when there is no such patient."""
        record = await record_facts(self._database, patient_id, self._clock())
        if record is None:
            return Trends((), cut=False)
        rows = await shown_lines(self._database, record, viewer, (_RESULTS, MAX_RESULTS + 1))
        shown = tuple(map(_measured, rows[:MAX_RESULTS]))
        return Trends(series_of(shown), cut=len(rows) > MAX_RESULTS)


def _measured(row: Mapping[str, Any]) -> Measured:
    return Measured(
        loinc=row["loinc"],
        label=row["label"],
        value=None if row["value"] is None else Decimal(row["value"]),
        sign=row["sign"],
        unit=row["unit"],
        day=None if row["day"] is None else date.fromisoformat(row["day"]),
        at=moment_or_none(row["at"]),
        document=row["unique_id"],
    )
