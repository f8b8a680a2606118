"""How far the bridge is with each application mailbox: rows, so that a crash loses nothing.

One row per UID seen, written before the message is opened; the cursor only says up to where rows
exist (DESIGN D1). A row's attempts are counted before each try, so that a message that kills the
bridge is found out: after ``MAX_ATTEMPTS`` it goes to quarantine unopened. After a crash, what
was claimed is tried one message at a time, so that the others of its batch are not blamed.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from directory.database import Database
from record_bridge.repository import micros, words

MAX_ATTEMPTS = 3
"""Crashes on one message before it is quarantined unopened (DESIGN D1)."""
LEASE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Position:
    """Up to where rows exist."""

    structure_id: str
    uidvalidity: int
    uid: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What one worker is about to open."""

    structure_id: str
    uidvalidity: int
    uids: tuple[int, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class Claimed:
    """One message to open; ``attempts`` counts this one."""

    item_id: int
    uid: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Outstanding:
    """What a mailbox's entry must still be told; ``told`` is what it was told before."""

    item_id: int
    uidvalidity: int
    uid: int
    keywords: frozenset[str]
    told: frozenset[str]


async def position(
    record: Database, structure_id: str, uidvalidity: int, at: datetime
) -> Position:
    """Give the cursor for this UIDVALIDITY; a new one starts from the first message."""
    return await record.write(_position, (Position(structure_id, uidvalidity, 0), at))


def _position(connection: sqlite3.Connection, value: tuple[Position, datetime]) -> Position:
    wanted, at = value
    row = connection.execute(
        "SELECT uidvalidity, uid FROM cursor WHERE structure_id = ?", (wanted.structure_id,)
    ).fetchone()
    if row is not None and row[0] == wanted.uidvalidity:
        return Position(wanted.structure_id, wanted.uidvalidity, int(row[1]))
    connection.execute(
        "INSERT INTO cursor (structure_id, uidvalidity, uid) VALUES (?, ?, 0)"
        " ON CONFLICT (structure_id) DO UPDATE SET uidvalidity = excluded.uidvalidity, uid = 0",
        (wanted.structure_id, wanted.uidvalidity),
    )
    # What was claimed or not told under the old numbers can no longer be reached by them: the
    # same messages come again under new ones and are known by their receipts.
    connection.execute(
        "UPDATE inbox_item SET state = 'done', outcome = 'renumbered', marked_at = ?, done_at = ?"
        " WHERE structure_id = ? AND uidvalidity <> ? AND state = 'claimed'",
        (micros(at), micros(at), wanted.structure_id, wanted.uidvalidity),
    )
    connection.execute(
        "UPDATE inbox_item SET marked_at = ?"
        " WHERE structure_id = ? AND uidvalidity <> ? AND marked_at IS NULL",
        (micros(at), wanted.structure_id, wanted.uidvalidity),
    )
    return wanted


def claim(connection: sqlite3.Connection, value: Claim) -> list[Claimed]:
    """Write a row per message, count the attempt, and move the cursor."""
    lease = micros(value.at + LEASE)
    connection.executemany(
        "INSERT INTO inbox_item (structure_id, uidvalidity, uid, state, attempts, lease_until_at)"
        " VALUES (?, ?, ?, 'claimed', 1, ?)"
        " ON CONFLICT (structure_id, uidvalidity, uid) DO UPDATE"
        " SET attempts = attempts + 1, lease_until_at = excluded.lease_until_at"
        " WHERE state = 'claimed'",
        [(value.structure_id, value.uidvalidity, uid, lease) for uid in value.uids],
    )
    connection.execute(
        "UPDATE cursor SET uid = max(uid, ?) WHERE structure_id = ? AND uidvalidity = ?",
        (max(value.uids, default=0), value.structure_id, value.uidvalidity),
    )
    marks = ",".join("?" * len(value.uids))
    rows = connection.execute(
        "SELECT id, uid, attempts FROM inbox_item WHERE structure_id = ? AND uidvalidity = ?"  # noqa: S608 - only marks
        f" AND state = 'claimed' AND uid IN ({marks}) ORDER BY uid",
        (value.structure_id, value.uidvalidity, *value.uids),
    )
    return [Claimed(int(row[0]), int(row[1]), int(row[2])) for row in rows]


def interrupted(connection: sqlite3.Connection, where: Position) -> list[int]:
    """Give the UIDs that a stopped or crashed run left open, in order."""
    rows = connection.execute(
        "SELECT uid FROM inbox_item WHERE structure_id = ? AND uidvalidity = ?"
        " AND state = 'claimed' ORDER BY uid",
        (where.structure_id, where.uidvalidity),
    )
    return [int(row[0]) for row in rows]


def attempt_failed(connection: sqlite3.Connection, item_id: int) -> int:
    """Count one more attempt of an item, and give the count."""
    connection.execute("UPDATE inbox_item SET attempts = attempts + 1 WHERE id = ?", (item_id,))
    row = connection.execute("SELECT attempts FROM inbox_item WHERE id = ?", (item_id,)).fetchone()
    return int(row[0])


def not_tried(connection: sqlite3.Connection, item_ids: Sequence[int]) -> None:
    """Take back the attempt of items that were not opened: the mailbox or the database failed.

    Only what happens while a message is opened or filed counts against it (DESIGN D1).
    """
    connection.executemany(
        "UPDATE inbox_item SET attempts = max(attempts - 1, 0) WHERE id = ? AND state = 'claimed'",
        [(item_id,) for item_id in item_ids],
    )


def gone(connection: sqlite3.Connection, value: Claim) -> None:
    """Close rows whose message is no longer in the mailbox (expunged before it was opened)."""
    connection.executemany(
        "UPDATE inbox_item SET state = 'done', outcome = 'gone', done_at = ?, marked_at = ?"
        " WHERE structure_id = ? AND uidvalidity = ? AND uid = ? AND state = 'claimed'",
        [
            (micros(value.at), micros(value.at), value.structure_id, value.uidvalidity, uid)
            for uid in value.uids
        ],
    )


def outstanding(connection: sqlite3.Connection, structure_id: str) -> list[Outstanding]:
    """Give the entries whose keywords the mailbox was not told yet, at most a thousand."""
    rows = connection.execute(
        "SELECT id, uidvalidity, uid, keywords, told FROM inbox_item"
        " WHERE structure_id = ? AND state = 'done' AND marked_at IS NULL ORDER BY uid LIMIT 1000",
        (structure_id,),
    )
    return [
        Outstanding(
            int(row[0]),
            int(row[1]),
            int(row[2]),
            frozenset((row[3] or "").split()),
            frozenset((row[4] or "").split()),
        )
        for row in rows
    ]


def marked(connection: sqlite3.Connection, value: tuple[Sequence[Outstanding], datetime]) -> None:
    """Note that the mailbox was told these keywords, unless others were decided meanwhile."""
    told, at = value
    connection.executemany(
        "UPDATE inbox_item SET told = :words, marked_at = CASE WHEN keywords = :words THEN :at END"
        " WHERE id = :id",
        [
            {"words": words(entry.keywords), "at": micros(at), "id": entry.item_id}
            for entry in told
        ],
    )


def pending(connection: sqlite3.Connection) -> int:
    """Count what is not finished: messages claimed, entries not told, answers not sent."""
    row = connection.execute(
        "SELECT (SELECT count(*) FROM inbox_item WHERE state = 'claimed')"
        " + (SELECT count(*) FROM inbox_item WHERE state = 'done' AND marked_at IS NULL)"
        " + (SELECT count(*) FROM reply_outbox WHERE state = 'waiting')"
    ).fetchone()
    return int(row[0])
