"""Which entries of an application mailbox may leave it: mail is not an archive (RULES §3).

One whose outcome was told long enough ago. Never one that still waits: open in quarantine (the
record keeps its own copy, but the outcome to come is told on this entry, and the mail server tells
it on to the others'), held from its patient, or with an answer to send. Never one that the mail
server gave no receipt for, or whose sender nobody vouched for: nothing else would prove that it
had been received (RULES §2).
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from record_bridge.repository import micros

BATCH = 200
"""Entries that leave by one command."""

_DUE = (
    "SELECT i.id, i.uid FROM inbox_item i WHERE i.structure_id = ? AND i.uidvalidity = ?"
    " AND i.state = 'done' AND i.purged_at IS NULL AND i.marked_at <= ?"
    " AND i.outcome NOT IN ('gone', 'renumbered')"
    " AND i.receipt NOT LIKE 'sha256:%' AND (i.origin <> '' OR i.outcome = 'other')"
    " AND (i.outcome = 'quarantined' OR instr(i.keywords, '$Held') = 0)"
    " AND NOT EXISTS (SELECT 1 FROM quarantine q WHERE q.structure_id = i.structure_id"
    " AND q.receipt = i.receipt AND q.state = 'open')"
    " AND NOT EXISTS (SELECT 1 FROM reply_outbox r WHERE r.item_id = i.id"
    " AND r.state IN ('waiting', 'held')) ORDER BY i.uid LIMIT ?"
)


@dataclass(frozen=True, slots=True)
class Purge:
    """Entries of one mailbox told before an instant."""

    structure_id: str
    uidvalidity: int
    told_before: datetime


def due(connection: sqlite3.Connection, value: Purge) -> list[tuple[int, int]]:
    """Give the items that may leave, with their UIDs, at most ``BATCH``."""
    told_before = micros(value.told_before)
    rows = connection.execute(_DUE, (value.structure_id, value.uidvalidity, told_before, BATCH))
    return [(int(row[0]), int(row[1])) for row in rows]


def purged(connection: sqlite3.Connection, value: tuple[Sequence[int], datetime]) -> None:
    """Note that these items left the mailbox."""
    items, at = value
    connection.executemany(
        "UPDATE inbox_item SET purged_at = ? WHERE id = ?", [(micros(at), each) for each in items]
    )
