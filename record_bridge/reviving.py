"""Documents that are current again: what they say comes back to the agenda.

The entries of a document leave with it when it is replaced or taken out of a record. When a
person undoes that, they are read from the document itself again, in the sandbox, as of its
reception (RULES §8).
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from directory.database import Database
from record_bridge import agenda, storing
from record_bridge.formats.dtm import paris_day
from record_bridge.model import AgendaEntry
from record_bridge.opener import Opener
from record_bridge.repository import content_of, moment


@dataclass(frozen=True, slots=True)
class _Current:
    """A current document without entries of its own."""

    structure_id: str
    patient_id: int
    document_id: int
    effective_at: datetime | None
    received_at: datetime
    content: bytes


@dataclass(frozen=True, slots=True)
class _Entries:
    current: _Current
    entries: tuple[AgendaEntry, ...]
    at: datetime


async def revive(
    record: Database, opener: Opener, document_ids: Sequence[int], at: datetime
) -> None:
    """Put the agenda entries of documents that are current again.

    Raises:
        SandboxError: one of them could not be read; the others are done.
    """
    for document_id in document_ids:
        current = await record.write(_current, document_id)
        if current is None:
            continue
        acts = await opener.acts(current.content)
        day = None if current.effective_at is None else paris_day(current.effective_at)
        entries = agenda.entries(acts, agenda.AgendaContext(current.received_at, day))
        await record.write(_put, _Entries(current, tuple(entries), at))


def _current(connection: sqlite3.Connection, document_id: int) -> _Current | None:
    row = connection.execute(
        "SELECT structure_id, patient_id, effective_at, received_at FROM document d WHERE id = ?"
        " AND status = 'current' AND patient_id IS NOT NULL"
        " AND NOT EXISTS (SELECT 1 FROM agenda_entry WHERE document_id = d.id"
        " AND decided_at IS NULL)",
        (document_id,),
    ).fetchone()
    if row is None:
        return None
    return _Current(
        str(row[0]),
        int(row[1]),
        document_id,
        None if row[2] is None else moment(int(row[2])),
        moment(int(row[3])),
        content_of(connection, "document", document_id),
    )


def _put(connection: sqlite3.Connection, value: _Entries) -> None:
    """Put them less those that the patient decided on, which stayed."""
    current = value.current
    kept = {
        int(row[0])
        for row in connection.execute(
            "SELECT ordinal FROM agenda_entry WHERE document_id = ?", (current.document_id,)
        )
    }
    connection.execute(
        "UPDATE agenda_entry SET source_superseded = 0 WHERE document_id = ?",
        (current.document_id,),
    )
    storing.put_agenda(
        connection,
        (current.structure_id, current.patient_id, current.document_id),
        [entry for entry in value.entries if entry.ordinal not in kept],
        value.at,
    )
