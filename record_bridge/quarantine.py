"""The rows of what was not filed: put, find again, close.

One row per occurrence, with the code that the sender was told and the reason that a person
reads. The whole message is kept beside it, because mail is purged and because the same rules
must be able to judge it again when a patient is registered or corrected (RULES §5). A package
waits whole: its rows open and close together.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from directory.codes import type_label
from record_bridge.lateness import LATE_HOURS
from record_bridge.model import ErrorCode, InsMatricule, Outcome, Problem, Reason
from record_bridge.repository import micros, moment


@dataclass(frozen=True, slots=True)
class Waiting:
    """One occurrence that is not filed."""

    position: int
    unique_id: str
    parent_unique_id: str | None
    problem: Problem
    ins: InsMatricule | None
    whole: bool = False
    type_code: str = ""


@dataclass(frozen=True, slots=True)
class WaitingMessage:
    """What the rows of one message share."""

    structure_id: str
    item_id: int
    archive_id: int
    receipt: str
    received_at: datetime
    at: datetime
    addressees: tuple[str, ...] = ()
    sender: str = ""


@dataclass(frozen=True, slots=True)
class Closing:
    """How rows close: by the rules, or by a person who says why.

    Attributes:
        decision: ``filed``, ``sent_back`` or ``set_aside``; None by the rules.
    """

    at: datetime
    by: str = "rules"
    decision: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class WaitingItem:
    """A message with at least one open row, to be judged again."""

    item_id: int
    uid: int
    receipt: str
    archive_id: int
    received_at: datetime


_PUT = (
    "INSERT INTO quarantine (structure_id, item_id, archive_id, receipt, position, unique_id,"
    " parent_unique_id, code, reason, matricule, oid, whole, state, received_at, created_at,"
    " type_code, addressees, sender)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'open', ?, ?, ?, ?, ?)"
    " ON CONFLICT (structure_id, receipt, position) DO UPDATE SET code = excluded.code,"
    " reason = excluded.reason, parent_unique_id = excluded.parent_unique_id,"
    " unique_id = excluded.unique_id, matricule = excluded.matricule, oid = excluded.oid,"
    " type_code = excluded.type_code, whole = excluded.whole"
)
_ITEM = (
    "SELECT DISTINCT q.item_id, i.uid, q.receipt, q.archive_id, q.received_at"
    " FROM quarantine q JOIN inbox_item i ON i.id = q.item_id"
    " WHERE q.structure_id = ? AND q.state = 'open' AND q.archive_id IS NOT NULL AND "
)


def put(connection: sqlite3.Connection, message: WaitingMessage, rows: Sequence[Waiting]) -> None:
    """Insert the rows of one message, or say anew why they wait."""
    connection.executemany(
        _PUT,
        [
            (
                message.structure_id,
                message.item_id,
                message.archive_id,
                message.receipt,
                row.position,
                row.unique_id,
                row.parent_unique_id,
                str(row.problem.code.value),
                row.problem.reason.value,
                "" if row.ins is None else row.ins.value,
                "" if row.ins is None else row.ins.oid,
                int(row.whole),
                micros(message.received_at),
                micros(message.at),
                row.type_code[:100],
                " ".join(message.addressees),
                message.sender,
            )
            for row in rows
        ],
    )


def settle(
    connection: sqlite3.Connection,
    occurrence: tuple[str, str, int],
    outcome: Outcome,
    closing: Closing,
) -> None:
    """Close the row of an occurrence (structure, receipt, position) that is filed after all."""
    connection.execute(
        "UPDATE quarantine SET state = ?, closed_at = ?, closed_by = ?, decision = ?,"
        " decision_reason = ?"
        " WHERE structure_id = ? AND receipt = ? AND position = ? AND state = 'open'",
        (
            outcome.value,
            micros(closing.at),
            closing.by,
            closing.decision,
            closing.reason,
            *occurrence,
        ),
    )


def close(connection: sqlite3.Connection, value: tuple[int, Closing]) -> int:
    """Close a row without filing, as a person decided; give how many rows that closed.

    The rows of its message close with it: what waits is filed whole or not at all (RULES §2).
    """
    row_id, closing = value
    cursor = connection.execute(
        "UPDATE quarantine SET state = 'closed', closed_at = ?, closed_by = ?, decision = ?,"
        " decision_reason = ? WHERE state = 'open' AND (structure_id, receipt) ="
        " (SELECT structure_id, receipt FROM quarantine WHERE id = ? AND state = 'open')",
        (micros(closing.at), closing.by, closing.decision, closing.reason, row_id),
    )
    return cursor.rowcount


def reopen(connection: sqlite3.Connection, row_id: int) -> int:
    """Open again the rows of a message that a person closed; give how many."""
    cursor = connection.execute(
        "UPDATE quarantine SET state = 'open', closed_at = NULL, closed_by = NULL,"
        " decision = NULL, decision_reason = NULL"
        " WHERE state = 'closed' AND (structure_id, receipt) ="
        " (SELECT structure_id, receipt FROM quarantine WHERE id = ? AND state = 'closed')",
        (row_id,),
    )
    return cursor.rowcount


def waiting_item(connection: sqlite3.Connection, row_id: int) -> WaitingItem | None:
    """The kept message of an open row; None when nothing is kept of it."""
    row = connection.execute(
        "SELECT q.item_id, i.uid, q.receipt, q.archive_id, q.received_at"
        " FROM quarantine q JOIN inbox_item i ON i.id = q.item_id"
        " WHERE q.id = ? AND q.archive_id IS NOT NULL",
        (row_id,),
    ).fetchone()
    return None if row is None else _item(row)


def is_waiting(connection: sqlite3.Connection, message: tuple[str, str], positions: range) -> bool:
    """Whether an occurrence at these places of a message (structure, receipt) still waits."""
    row = connection.execute(
        "SELECT 1 FROM quarantine WHERE structure_id = ? AND receipt = ? AND state = 'open'"
        " AND (whole OR position BETWEEN ? AND ?) LIMIT 1",
        (*message, positions.start, positions.stop - 1),
    ).fetchone()
    return row is not None


def waiting_for(
    connection: sqlite3.Connection, structure_id: str, ins: InsMatricule
) -> list[WaitingItem]:
    """Give the messages that wait with this matricule, first received first."""
    rows = connection.execute(
        _ITEM + "q.matricule = ? AND q.oid = ? ORDER BY q.received_at, q.item_id",
        (structure_id, ins.value, ins.oid),
    )
    return [_item(row) for row in rows]


def waiting_for_parents(
    connection: sqlite3.Connection, structure_id: str, unique_ids: Sequence[str]
) -> list[WaitingItem]:
    """Give the messages that wait for one of these documents to be filed."""
    marks = ",".join("?" * len(unique_ids))
    rows = connection.execute(
        _ITEM + f"q.parent_unique_id IN ({marks}) AND q.reason = ?"
        " ORDER BY q.received_at, q.item_id",
        (structure_id, *unique_ids, Reason.PARENT_IN_QUARANTINE.value),
    )
    return [_item(row) for row in rows]


def _item(row: sqlite3.Row) -> WaitingItem:
    return WaitingItem(int(row[0]), int(row[1]), str(row[2]), int(row[3]), moment(int(row[4])))


def forget_message(connection: sqlite3.Connection, item_id: int) -> None:
    """Drop the kept copy of a message once nothing of it waits: its documents have theirs."""
    row = connection.execute(
        "SELECT archive_id, max(state = 'open') FROM quarantine WHERE item_id = ?", (item_id,)
    ).fetchone()
    if row[0] is None or row[1]:
        return
    connection.execute("UPDATE quarantine SET archive_id = NULL WHERE item_id = ?", (item_id,))
    connection.execute(
        "DELETE FROM archive WHERE id = :id"
        " AND NOT EXISTS (SELECT 1 FROM quarantine WHERE archive_id = :id)",
        {"id": row[0]},
    )


def item_json(row: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """One item of quarantine, as it is listed."""
    received = moment(row["received_at"])
    hours = int((now - received).total_seconds() // 3600)
    code, reason = ErrorCode(int(row["code"])), Reason(row["reason"])
    return {
        "id": row["id"],
        "unique_id": row["unique_id"],
        "code": row["code"],
        "code_label": code.label,
        "reason": row["reason"],
        "reason_label": reason.label,
        "ins": row["matricule"],
        "oid": row["oid"],
        "structure": row["structure_id"],
        "state": row["state"],
        "type_code": row["type_code"],
        "type_label": type_label(row["type_code"]) or row["type_code"],
        "addressees": row["addressees"].split(),
        "sender": row["sender"],
        "received_at": received.isoformat(),
        "age_hours": hours,
        "late": max((each for each in LATE_HOURS if hours >= each), default=0),
    }
