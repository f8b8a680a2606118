"""The SQL of what a message's patient is shown of it, and of releasing what they are not.

Runs on the writer's thread, inside the transaction that changes it: what the mailbox's entry is
told depends on every document of its message. Source: RULES §7, RULES §10.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from record_bridge.model import Outcome, Visibility
from record_bridge.repository import micros, words
from record_bridge.visibility import is_visible_to_patient, released


def hidden_of(connection: sqlite3.Connection, structure_id: str, receipt: str) -> bool:
    """Whether something that a message put or repeated is not shown to its patient now."""
    rows = connection.execute(
        "SELECT visibility FROM document WHERE structure_id = :s AND (receipt = :r OR id IN"
        " (SELECT document_id FROM duplicate WHERE structure_id = :s AND receipt = :r))",
        {"s": structure_id, "r": receipt},
    )
    return any(
        not is_visible_to_patient(frozenset(Visibility(code) for code in str(row[0]).split()))
        for row in rows
    )


def addresses_of(
    connection: sqlite3.Connection, structure_id: str, receipt: str
) -> frozenset[str]:
    """The mailboxes of the patients whose documents a message put or repeated."""
    rows = connection.execute(
        "SELECT DISTINCT p.address FROM document d"
        " JOIN patient p ON d.patient_id IN (p.id, p.merged_into)"
        " WHERE d.structure_id = :s AND (d.receipt = :r OR d.id IN"
        " (SELECT document_id FROM duplicate WHERE structure_id = :s AND receipt = :r))",
        {"s": structure_id, "r": receipt},
    )
    return frozenset(str(row[0]) for row in rows)


def placed(
    connection: sqlite3.Connection, message: tuple[str, str], positions: range
) -> tuple[list[Outcome], bool]:
    """What became of places of a message (structure, receipt), and whether any is hidden."""
    rows = connection.execute(
        "SELECT position, 'filed', visibility FROM document"
        " WHERE structure_id = :s AND receipt = :r AND position BETWEEN :first AND :last"
        " UNION ALL SELECT c.position, 'duplicate', d.visibility FROM duplicate c"
        " JOIN document d ON d.id = c.document_id"
        " WHERE c.structure_id = :s AND c.receipt = :r AND c.position BETWEEN :first AND :last"
        " UNION ALL SELECT position, 'quarantined', 'awaiting_release' FROM quarantine"
        " WHERE structure_id = :s AND receipt = :r AND state = 'closed'"
        " AND (whole OR position BETWEEN :first AND :last) ORDER BY 1",
        {
            "s": message[0],
            "r": message[1],
            "first": positions.start,
            "last": positions.stop - 1,
        },
    ).fetchall()
    hidden = any(
        not is_visible_to_patient(frozenset(Visibility(code) for code in str(row[2]).split()))
        for row in rows
    )
    return [Outcome(row[1]) for row in rows], hidden


def tell_again(connection: sqlite3.Connection, structure_id: str, document_id: int) -> None:
    """After a release: the patient's held copies of its messages may be shown (RULES §7)."""
    receipts = connection.execute(
        "SELECT receipt FROM document WHERE id = :d"
        " UNION SELECT receipt FROM duplicate WHERE document_id = :d",
        {"d": document_id},
    ).fetchall()
    for (receipt,) in receipts:
        if hidden_of(connection, structure_id, receipt):
            continue
        rows = connection.execute(
            "SELECT id, keywords FROM inbox_item WHERE structure_id = ? AND receipt = ?"
            " AND state = 'done' AND instr(keywords, '$Held') > 0",
            (structure_id, receipt),
        ).fetchall()
        connection.executemany(
            "UPDATE inbox_item SET keywords = ?, marked_at = NULL WHERE id = ?",
            [
                (" ".join(word for word in str(row[1]).split() if word != "$Held"), row[0])
                for row in rows
                if "$Quarantined" not in str(row[1]).split()
            ],
        )


@dataclass(frozen=True, slots=True)
class Released:
    """A document that its patient sees from now on."""

    document_id: int
    patient_id: int


def release(
    connection: sqlite3.Connection, structure_id: str, document_id: int, at: datetime
) -> Released | None:
    """Show a document to its patient; None when it awaited no release, or is nobody's now."""
    row = connection.execute(
        "SELECT patient_id, visibility FROM document WHERE structure_id = ? AND id = ?"
        " AND patient_id IS NOT NULL",
        (structure_id, document_id),
    ).fetchone()
    if row is None:
        return None
    states = frozenset(Visibility(code) for code in str(row[1]).split())
    if is_visible_to_patient(states):
        return None
    # A professional who releases also announces: INVISIBLE_PATIENT lasts until then (RULES §7).
    left = released(states - {Visibility.INVISIBLE_PATIENT})
    connection.execute(
        "UPDATE document SET visibility = ?, released_at = ?, release_at = NULL WHERE id = ?",
        (words(tuple(code.value for code in left)), micros(at), document_id),
    )
    tell_again(connection, structure_id, document_id)
    return Released(document_id, int(row[0]))


def due_for_release(connection: sqlite3.Connection, at: datetime) -> list[tuple[str, int]]:
    """The documents whose delay is over: (structure, document); none masked or withdrawn."""
    rows = connection.execute(
        "SELECT structure_id, id FROM document WHERE release_at <= ? AND visibility = ?"
        " AND status <> 'withdrawn' AND patient_id IS NOT NULL ORDER BY id LIMIT 500",
        (micros(at), Visibility.AWAITING_RELEASE.value),
    )
    return [(str(row[0]), int(row[1])) for row in rows]
