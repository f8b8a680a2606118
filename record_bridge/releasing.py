"""Releasing by delay: what a structure let pass without hiding it, its patient sees (RULES §7)."""

import sqlite3
from datetime import datetime

from directory.trail import AuditEvent, append
from record_bridge.release_storing import due_for_release, release
from record_bridge.schema import TRAIL


def release_due(connection: sqlite3.Connection, at: datetime) -> int:
    """Release every document whose delay is over; give how many."""
    events: list[AuditEvent] = []
    for structure_id, document_id in due_for_release(connection, at):
        done = release(connection, structure_id, document_id, at)
        if done is not None:
            events.append(
                AuditEvent(
                    "document_released",
                    at,
                    "delay",
                    structure_id,
                    f"patient:{done.patient_id}",
                    {"document_id": done.document_id},
                )
            )
    append(connection, TRAIL, events)
    return len(events)
