"""The SQL of what a document adds to lists: its laboratory results and the medicines it names.

They are kept by document alone: whose they are and whether they count is the document's.

Source: RULES §8.
"""

import sqlite3
from datetime import datetime

from record_bridge.lab_results import measured_at
from record_bridge.model import LabResult, Lists, Medication
from record_bridge.repository import micros


def put_lists(
    connection: sqlite3.Connection, document_id: int, lists: Lists, received_at: datetime
) -> None:
    """Insert the lines of a document; results are dated as of its reception (RULES §8)."""
    for table, rows in (
        ("lab_result", [_result(each, received_at) for each in lists.results]),
        ("medication", [_medication(each) for each in lists.medications]),
    ):
        if rows:
            marks = ", ".join("?" * (2 + len(rows[0])))
            connection.executemany(
                f"INSERT INTO {table} VALUES ({marks})",  # noqa: S608 - ours
                [(document_id, ordinal, *row) for ordinal, row in enumerate(rows)],
            )


def _result(result: LabResult, received_at: datetime) -> tuple[object, ...]:
    day, at = measured_at(result, received_at)
    return (
        result.loinc,
        result.label,
        result.value,
        result.sign,
        result.unit,
        None if day is None else day.isoformat(),
        None if at is None else micros(at),
    )


def _medication(medication: Medication) -> tuple[object, ...]:
    return (
        medication.kind.value,
        medication.label,
        medication.code,
        medication.code_system,
        medication.low,
        medication.high,
        int(medication.as_needed),
        medication.renewals,
    )
