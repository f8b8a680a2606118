"""How far the bridge is with each application mailbox: rows, so that a crash loses nothing.

One row per UID seen, written before the message is opened; the cursor only says up to where rows
exist (DESIGN D1). A row's attempts are counted once the message is here and before each try to
open it, so that a message that kills the bridge is found out: after ``MAX_ATTEMPTS`` it goes to
quarantine unopened. What failed outside of the message (network, disk, database) counts for
nothing. After a crash, what was claimed is tried one message at a time, so that the others of its
batch are not blamed.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from directory.database import Database
from record_bridge.inbox import InboxError
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
    """What one worker has fetched and is about to open.

    Attributes:
        absent: those of ``uids`` that the server did not give: a row each, no attempt.
        unspent: items whose attempt was counted before and given back since.
    """

    structure_id: str
    uidvalidity: int
    uids: tuple[int, ...]
    at: datetime
    absent: frozenset[int] = frozenset()
    unspent: tuple[int, ...] = ()


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
    """Write a row per message, count the attempt of those that are here, and move the cursor."""
    give_back(connection, value.unspent)
    lease = micros(value.at + LEASE)
    connection.executemany(
        "INSERT INTO inbox_item (structure_id, uidvalidity, uid, state, attempts, lease_until_at)"
        " VALUES (?, ?, ?, 'claimed', ?, ?)"
        " ON CONFLICT (structure_id, uidvalidity, uid) DO UPDATE"
        " SET attempts = attempts + excluded.attempts, lease_until_at = excluded.lease_until_at"
        " WHERE state = 'claimed'",
        [
            (value.structure_id, value.uidvalidity, uid, int(uid not in value.absent), lease)
            for uid in value.uids
        ],
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
    return [
        Claimed(int(row[0]), int(row[1]), int(row[2]))
        for row in rows
        if row[1] not in value.absent
    ]


def give_back(connection: sqlite3.Connection, items: Sequence[int]) -> None:
    """Uncount the last attempt of items that are still to be judged: it was no fault of theirs."""
    connection.executemany(
        "UPDATE inbox_item SET attempts = max(attempts - 1, 0) WHERE id = ? AND state = 'claimed'",
        [(item_id,) for item_id in items],
    )


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


def gone(connection: sqlite3.Connection, value: Claim) -> None:
    """Close rows whose message is no longer in the mailbox (expunged before it was opened).

    ``reopen`` takes them up again, should the server list them after all.
    """
    connection.executemany(
        "UPDATE inbox_item SET state = 'done', outcome = 'gone', done_at = ?, marked_at = ?"
        " WHERE structure_id = ? AND uidvalidity = ? AND uid = ? AND state = 'claimed'",
        [
            (micros(value.at), micros(value.at), value.structure_id, value.uidvalidity, uid)
            for uid in value.uids
        ],
    )


def gone_uids(connection: sqlite3.Connection, where: Position) -> list[int]:
    """Give the UIDs that left unopened, the last hundred of them."""
    rows = connection.execute(
        "SELECT uid FROM inbox_item WHERE structure_id = ? AND uidvalidity = ?"
        " AND state = 'done' AND outcome = 'gone' ORDER BY uid DESC LIMIT 100",
        (where.structure_id, where.uidvalidity),
    )
    return sorted(int(row[0]) for row in rows)


def reopen(connection: sqlite3.Connection, value: Claim) -> None:
    """Take up again rows that were closed as gone: the server lists their messages."""
    connection.executemany(
        "UPDATE inbox_item SET state = 'claimed', outcome = NULL, done_at = NULL, marked_at = NULL"
        " WHERE structure_id = ? AND uidvalidity = ? AND uid = ? AND outcome = 'gone'",
        [(value.structure_id, value.uidvalidity, uid) for uid in value.uids],
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
    """Count what is not finished: messages, entries not told, answers and documents not sent."""
    row = connection.execute(
        "SELECT (SELECT count(*) FROM inbox_item WHERE state = 'claimed')"
        " + (SELECT count(*) FROM inbox_item WHERE state = 'done' AND marked_at IS NULL)"
        " + (SELECT count(*) FROM reply_outbox WHERE state = 'waiting')"
        " + (SELECT count(*) FROM handover WHERE state = 'waiting')"
    ).fetchone()
    return int(row[0])


def is_outside(error: BaseException) -> bool:
    """Whether a failure is the network's, the disk's or a database's, and of no message.

    A statement that SQLite refuses as such (SQLITE_ERROR) is our own code's failure: it may be
    one message that makes it, and its attempts must count.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_outside, error.exceptions))
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR
    if isinstance(error.__cause__, sqlite3.Error):
        return is_outside(error.__cause__)
    return isinstance(error, InboxError | OSError)
