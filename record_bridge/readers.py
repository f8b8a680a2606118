"""Who read a document, so that they are told when it leaves.

The trail names who opened one document, through a page or an application. What was shown together
(a whole record taken along, results over time) is one event there, which names no document: a row
says of each that it was among them, until it leaves the record and everyone was told.

Runs on the writer's thread. Source: RULES §7, RULES §13.
"""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from record_bridge.repository import insert, micros

_OPENED: Final = ("document_read", "document_pdf")
_READERS: Final = (
    "SELECT actor FROM trail_event WHERE kind IN (?, ?)"
    " AND subject IN (SELECT 'patient:' || id FROM patient WHERE id = ? OR merged_into = ?)"
    " AND json_extract(facts, '$.document_id') = ?"
    " UNION SELECT actor FROM document_reader WHERE document_id = ? ORDER BY actor"
)


@dataclass(frozen=True, slots=True)
class Shown:
    """Documents of a record that somebody is shown together; None for all that are in it."""

    patient_id: int
    actor: str
    unique_ids: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Leaving:
    """A document that is ``withdrawn`` or ``taken_out``, and who decides so."""

    document_id: int
    kind: str
    actor: str
    at: datetime


def note_shown(connection: sqlite3.Connection, shown: Shown) -> None:
    """Keep who is shown these documents."""
    named = None if shown.unique_ids is None else json.dumps(list(shown.unique_ids))
    connection.execute(
        "INSERT OR IGNORE INTO document_reader (document_id, actor) SELECT id, :actor"
        " FROM document WHERE patient_id = :patient"
        " AND (:named IS NULL OR unique_id IN (SELECT value FROM json_each(:named)))",
        {"actor": shown.actor, "patient": shown.patient_id, "named": named},
    )


def tell_readers(connection: sqlite3.Connection, leaving: Leaving) -> None:
    """Leave a notice to everyone who read a document, but who decides now.

    What is taken out of a record was read by nobody of the record that it comes to.
    """
    document_id = leaving.document_id
    structure_id, patient_id = connection.execute(
        "SELECT structure_id, patient_id FROM document WHERE id = ?", (document_id,)
    ).fetchone()
    values = (*_OPENED, patient_id, patient_id, document_id, document_id)
    for (actor,) in connection.execute(_READERS, values).fetchall():
        if actor == leaving.actor:
            continue
        insert(
            connection,
            "notice",
            {
                "structure_id": structure_id,
                "patient_id": patient_id,
                "document_id": document_id,
                "addressee": actor,
                "kind": leaving.kind,
                "at": micros(leaving.at),
            },
        )
    if leaving.kind == "taken_out":
        connection.execute("DELETE FROM document_reader WHERE document_id = ?", (document_id,))
