"""What a structure's own software is to be told of each document, so that it holds the same.

Invariants: what is told of one document is a row each time, told in this order; a document is
told under the identity it was filed under, and taken back under the one it was told under, so
that a wrong filing leaves the wrong patient's file there too. What was not begun when it became
wrong, and what the software refused, is dropped: not told (again) and taken back.

Runs on the writer's thread. Source: CI-SIS §HL7-LPS (1.1), MSS-FACTS §9, RULES §6.
"""

import hashlib
import sqlite3
from dataclasses import dataclass, replace
from datetime import datetime

from record_bridge.formats.hl7v2 import Action
from record_bridge.repository import micros

_MOVED = (
    "SELECT d.id, d.unique_id, d.patient_id IS NOT NULL AND d.status <> 'withdrawn',"
    " d.patient_id IS NOT NULL AND d.status = 'current' AND d.imported_at IS NULL"
    " AND d.id > c.begins_after, coalesce(d.identity_id, d.patient_id, 0)"
    " FROM document AS d JOIN handover_choice AS c ON c.structure_id = d.structure_id"
    " WHERE d.structure_id = ? AND d.moved = 1 ORDER BY d.id"
)


@dataclass(frozen=True, slots=True)
class _Document:
    """A document whose place changed.

    Attributes:
        kept: it is in a record, and not withdrawn.
        shown: it is the current version there, of those that are handed over.
        identity_id: it was filed under.
    """

    structure_id: str
    id: int
    unique_id: str
    kept: bool
    shown: bool
    identity_id: int


def queue_filed(connection: sqlite3.Connection, structure_id: str, at: datetime) -> None:
    """Queue each current document that is new; a version that was never current is not told.

    What such a version replaced is no longer current: with v1 and v3 told, v2 takes v1 back.
    """
    found = connection.execute(
        "SELECT d.id, d.unique_id, d.status = 'current' AND d.patient_id IS NOT NULL,"
        " coalesce(d.identity_id, d.patient_id, 0) FROM document AS d"
        " WHERE d.structure_id = :structure AND d.imported_at IS NULL AND d.id >"
        " (SELECT taken_in FROM handover_choice WHERE structure_id = :structure) ORDER BY d.id",
        {"structure": structure_id},
    ).fetchall()
    for document_id, unique_id, shown, identity_id in found:
        if shown:
            document = _Document(structure_id, document_id, unique_id, True, True, identity_id)
            _queue(connection, document, _telling(connection, document), at)
        else:
            _take_back_replaced(connection, (structure_id, document_id), at)
    if found:
        connection.execute(
            "UPDATE handover_choice SET taken_in = ? WHERE structure_id = ?",
            (found[-1][0], structure_id),
        )


def queue_moved(connection: sqlite3.Connection, structure_id: str, at: datetime) -> None:
    """Queue what left its record or its identity to be taken back, what came there to be told."""
    moved = [
        _Document(structure_id, row[0], row[1], bool(row[2]), bool(row[3]), row[4])
        for row in connection.execute(_MOVED, (structure_id,)).fetchall()
    ]
    for document in moved:
        _take_back(connection, document, at)
    for document in moved:
        if document.shown and not _is_held(connection, document):
            _queue(connection, document, _telling(connection, document), at)
    connection.executemany(
        "UPDATE document SET moved = 0 WHERE id = ?", [(document.id,) for document in moved]
    )


def _telling(connection: sqlite3.Connection, document: _Document) -> Action:
    """How it is told: over the version it replaces in its record when the software has that."""
    parent = connection.execute(
        "SELECT p.id, p.unique_id FROM document AS d JOIN document AS p"
        " ON p.structure_id = d.structure_id AND p.unique_id = d.parent_unique_id"
        " AND p.patient_id = d.patient_id WHERE d.id = ?",
        (document.id,),
    ).fetchone()
    if parent is None:
        return Action.NEW
    replaced = replace(document, id=parent[0], unique_id=parent[1])
    return Action.REPLACE if _is_held(connection, replaced) else Action.NEW


def _take_back_replaced(
    connection: sqlite3.Connection, version: tuple[str, int], at: datetime
) -> None:
    """Take back what a version (structure, document) replaced that is not told itself."""
    rows = connection.execute(
        "SELECT p.id, p.unique_id FROM document AS d JOIN document AS p ON p.superseded_by = d.id"
        " AND p.structure_id = d.structure_id AND p.unique_id = d.parent_unique_id"
        " WHERE d.id = ? AND d.status = 'superseded' AND p.status = 'superseded'",
        (version[1],),
    ).fetchall()
    for document_id, unique_id in rows:
        document = _Document(version[0], document_id, unique_id, False, False, 0)
        if _is_held(connection, document):
            _take_back(connection, document, at)


def _take_back(connection: sqlite3.Connection, document: _Document, at: datetime) -> None:
    last = _last(connection, document)
    if last is None or last["action"] == Action.WITHDRAW.value or last["state"] == "dropped":
        return
    if document.kept and last["identity_id"] == document.identity_id:
        return
    # A refusal without a code is a silence of days: the software may have it.
    if last["code"] or (last["state"] == "waiting" and last["begun_at"] is None):
        connection.execute(
            "UPDATE handover SET state = 'dropped', answered_at = ? WHERE id = ?",
            (micros(at), last["id"]),
        )
        return
    _queue(connection, document, Action.WITHDRAW, at, last["identity_id"])


def _is_held(connection: sqlite3.Connection, document: _Document) -> bool:
    """Whether the software has it as current, or will: no later version was told over it."""
    last = _last(connection, document)
    if last is None or last["action"] == Action.WITHDRAW.value:
        return False
    if last["state"] not in ("waiting", "accepted"):
        return False
    covered = connection.execute(
        "SELECT 1 FROM handover AS h JOIN document AS e ON e.id = h.document_id"
        " WHERE e.structure_id = ? AND e.parent_unique_id = ? AND h.id > ?"
        " AND h.action = 'replace' AND h.state IN ('waiting', 'accepted')",
        (document.structure_id, document.unique_id, last["id"]),
    ).fetchone()
    return covered is None


def _last(connection: sqlite3.Connection, document: _Document) -> sqlite3.Row | None:
    cursor = connection.execute(
        "SELECT * FROM handover WHERE document_id = ? ORDER BY ordinal DESC LIMIT 1",
        (document.id,),
    )
    cursor.row_factory = sqlite3.Row
    row: sqlite3.Row | None = cursor.fetchone()
    return row


def _queue(
    connection: sqlite3.Connection,
    document: _Document,
    action: Action,
    at: datetime,
    identity_id: int | None = None,
) -> None:
    ordinal = connection.execute(
        "SELECT count(*) FROM handover WHERE document_id = ?", (document.id,)
    ).fetchone()[0]
    seed = f"{document.structure_id}\0{document.unique_id}\0{ordinal}".encode()
    connection.execute(
        "INSERT INTO handover (structure_id, document_id, ordinal, identity_id, action,"
        " control_id, state, created_at, next_at) VALUES (?, ?, ?, ?, ?, ?, 'waiting', ?, ?)",
        (
            document.structure_id,
            document.id,
            ordinal,
            document.identity_id if identity_id is None else identity_id,
            action.value,
            hashlib.sha256(seed).hexdigest()[:20],  # what every version's MSH-10 has room for
            micros(at),
            micros(at),
        ),
    )
