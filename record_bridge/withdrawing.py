"""Taking a document out of sight, or out of a record it never belonged to, and putting it right.

A withdrawn document stays in the history of its record and leaves every list: what it said leaves
the agenda, vaccinations, prescriptions and searches, in the same transaction. What was filed in
the wrong record is in none (``patient_id`` is NULL) until a person files it again: its message
waits in quarantine whole, as it would have (RULES §2). Nothing is deleted, and whoever opened a
document that leaves is told so.

Runs on the writer's thread. Source: RULES §6, RULES §7, RULES §13.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from record_bridge import identity_storing, storing
from record_bridge.errors import RecordStateError
from record_bridge.model import ErrorCode, IdentityStatus, Mark, Reason, Visibility
from record_bridge.readers import Leaving, tell_readers
from record_bridge.repository import micros, words
from record_bridge.visibility import GENETICS

_QUARANTINED: Final = "$Quarantined"


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided about a document.

    Attributes:
        release_delay_days: of the structure, for a document that changes its record.
    """

    document_id: int
    actor: str
    reason: str
    at: datetime
    release_delay_days: int = 8


@dataclass(frozen=True, slots=True)
class Changed:
    """What a decision changed.

    Attributes:
        patient_id: whose record it left or entered.
        documents: every document it was about: those of one message move together.
        current: documents that are current again, whose agenda entries are to be put.
    """

    patient_id: int
    documents: tuple[int, ...]
    current: tuple[int, ...] = ()


def withdraw(connection: sqlite3.Connection, decision: Decision) -> Changed:
    """Withdraw a document: in the history, and nowhere else.

    Raises:
        RecordStateError: it is withdrawn already (``withdrawn_already``).
    """
    cursor = connection.execute(
        "UPDATE document SET status = 'withdrawn', withdrawn_at = ?, moved = 1"
        " WHERE id = ? AND status <> 'withdrawn' AND patient_id IS NOT NULL RETURNING patient_id",
        (micros(decision.at), decision.document_id),
    )
    row = cursor.fetchone()
    if row is None:
        raise RecordStateError("withdrawn_already")
    # What the patient confirmed stays, marked, as with a replacement (RULES §6).
    connection.execute(
        "DELETE FROM agenda_entry WHERE document_id = ? AND decided_at IS NULL",
        (decision.document_id,),
    )
    connection.execute(
        "UPDATE agenda_entry SET source_superseded = 1 WHERE document_id = ?",
        (decision.document_id,),
    )
    _tell(connection, decision, decision.document_id, "withdrawn")
    return Changed(int(row[0]), (decision.document_id,))


def restore(connection: sqlite3.Connection, decision: Decision) -> Changed:
    """Undo a withdrawal.

    Raises:
        RecordStateError: it is not withdrawn (``not_withdrawn``), or in no record.
    """
    row = connection.execute(
        "UPDATE document SET withdrawn_at = NULL, moved = 1,"
        " status = CASE WHEN superseded_by IS NULL THEN 'current' ELSE 'superseded' END"
        " WHERE id = ? AND status = 'withdrawn' AND patient_id IS NOT NULL RETURNING patient_id",
        (decision.document_id,),
    ).fetchone()
    if row is None:
        raise RecordStateError("not_withdrawn")
    return Changed(int(row[0]), (decision.document_id,), (decision.document_id,))


def take_out(connection: sqlite3.Connection, decision: Decision) -> Changed:
    """Take a message's documents out of the record they were wrongly filed in, into quarantine.

    Raises:
        RecordStateError: it is in no record (``no_such_document``), or came in an archive of
            another site, whose mail is not here (``imported``), or by hand (``filed_by_hand``).
    """
    first = connection.execute(
        "SELECT structure_id, receipt, patient_id, imported_at, filed_by FROM document"
        " WHERE id = ? AND patient_id IS NOT NULL",
        (decision.document_id,),
    ).fetchone()
    if first is None:
        raise RecordStateError("no_such_document")
    if first[3] is not None:
        raise RecordStateError("imported")
    if first[4] is not None:
        raise RecordStateError("filed_by_hand")
    message, patient_id = (str(first[0]), str(first[1])), int(first[2])
    rows = connection.execute(
        "SELECT id, position, unique_id, parent_unique_id, type_code, sender, received_at"
        " FROM document WHERE structure_id = ? AND receipt = ? AND patient_id = ? ORDER BY id",
        (*message, patient_id),
    ).fetchall()
    item = connection.execute(
        "SELECT id FROM inbox_item WHERE structure_id = ? AND receipt = ?"
        " ORDER BY outcome = 'repeated', id LIMIT 1",
        message,
    ).fetchone()
    if item is None:
        raise RecordStateError("imported")
    for row in rows:
        _tell(connection, decision, int(row[0]), "taken_out")
        connection.execute("DELETE FROM agenda_entry WHERE document_id = ?", (row[0],))
        connection.execute(
            "UPDATE document SET patient_id = NULL, release_at = NULL, moved = 1 WHERE id = ?",
            (row[0],),
        )
        _wait(connection, message, int(item[0]), row, decision)
    _mark_waiting(connection, message)
    return Changed(
        patient_id, tuple(int(row[0]) for row in rows), _uncovered(connection, patient_id, rows)
    )


def put_back(connection: sqlite3.Connection, decision: Decision, patient_id: int) -> Changed:
    """File what was taken out in the record of another patient, on a person's word.

    Raises:
        RecordStateError: it is in a record (``filed_already``), or the patient is not one who
            takes documents (``not_qualified``), or opposes it (``opposed``).
    """
    message = connection.execute(
        "SELECT structure_id, receipt FROM document WHERE id = ? AND patient_id IS NULL",
        (decision.document_id,),
    ).fetchone()
    if message is None:
        raise RecordStateError("filed_already")
    may_take(connection, str(message[0]), patient_id)
    if identity_storing.is_opposed(connection, patient_id):
        raise RecordStateError("opposed")
    rows = connection.execute(
        "SELECT id, visibility, marks, type_code, position FROM document"
        " WHERE structure_id = ? AND receipt = ? AND patient_id IS NULL ORDER BY id",
        tuple(message),
    ).fetchall()
    for document_id, visibility, marks, type_code, position in rows:
        # Nobody sent it to this patient: a professional releases it, or the delay (RULES §7).
        masks = frozenset(str(visibility).split()) - {Visibility.VISIBLE.value}
        delayed = masks <= {Visibility.AWAITING_RELEASE.value} and type_code not in GENETICS
        release_at = decision.at + timedelta(days=decision.release_delay_days)
        connection.execute(
            "UPDATE document SET patient_id = ?, identity_id = ?, visibility = ?, marks = ?,"
            " released_at = NULL, release_at = ?, moved = 1 WHERE id = ?",
            (
                patient_id,
                patient_id,
                words({*masks, Visibility.AWAITING_RELEASE.value}),
                words({*str(marks).split(), Mark.FILED_BY_PERSON.value}),
                micros(release_at) if delayed else None,
                document_id,
            ),
        )
        # Its own row: another package of the message may wait for something else.
        connection.execute(
            "UPDATE quarantine SET state = 'filed', closed_at = ?, closed_by = ?,"
            " decision = 'filed', decision_reason = ?"
            " WHERE structure_id = ? AND receipt = ? AND position = ? AND state = 'open'",
            (micros(decision.at), decision.actor, decision.reason, *message, position),
        )
    documents = tuple(int(row[0]) for row in rows)
    for document_id in documents:
        _stand_among_versions(connection, document_id)
    return Changed(patient_id, documents, documents)


def _stand_among_versions(connection: sqlite3.Connection, document_id: int) -> None:
    """Put a document that entered a record before or behind the versions that are in it.

    What replaced it elsewhere is another person's: here it is the latest. What it replaced when
    it was filed, with authority (RULES §6), it replaces again where both are.
    """
    connection.execute(
        "UPDATE document SET superseded_by = NULL,"
        " status = CASE status WHEN 'superseded' THEN 'current' ELSE status END"
        " WHERE id = ? AND NOT EXISTS (SELECT 1 FROM document n"
        " WHERE n.id = document.superseded_by AND n.patient_id = document.patient_id)",
        (document_id,),
    )
    parent = connection.execute(
        "SELECT p.id FROM document d JOIN document p ON p.structure_id = d.structure_id"
        " AND p.unique_id = d.parent_unique_id AND p.patient_id = d.patient_id"
        " WHERE d.id = ? AND d.status = 'current' AND p.status = 'current'"
        " AND instr(d.marks, ?) = 0",
        (document_id, Mark.REPLACES_UNKNOWN.value),
    ).fetchone()
    if parent is not None:
        storing.supersede(connection, int(parent[0]), document_id)


def may_take(connection: sqlite3.Connection, structure_id: str, patient_id: int) -> None:
    """Hold a patient whom a person names against what RULES §5 asks of one.

    Raises:
        RecordStateError: not of the structure (``no_such_patient``), or not a qualified identity
            beyond doubt (``not_qualified``), or a closed record (``record_closed``).
    """
    row = connection.execute(
        "SELECT structure_id, status, doubtful, fictitious, merged_into, closed_at FROM patient"
        " WHERE id = ?",
        (patient_id,),
    ).fetchone()
    if row is None or row[0] != structure_id:
        raise RecordStateError("no_such_patient")
    if row[1] != IdentityStatus.QUALIFIEE.value or row[2] or row[3] or row[4] is not None:
        raise RecordStateError("not_qualified")
    if row[5] is not None:
        raise RecordStateError("record_closed")


def _wait(
    connection: sqlite3.Connection,
    message: tuple[str, str],
    item_id: int,
    row: sqlite3.Row,
    decision: Decision,
) -> None:
    """Open the quarantine row of an occurrence that leaves its record."""
    connection.execute(
        "INSERT INTO quarantine (structure_id, item_id, receipt, position, unique_id,"
        " parent_unique_id, code, reason, whole, state, received_at, created_at, type_code,"
        " sender) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 'open', ?, ?, ?, ?)"
        " ON CONFLICT (structure_id, receipt, position) DO UPDATE SET state = 'open',"
        " code = excluded.code, reason = excluded.reason, created_at = excluded.created_at,"
        " closed_at = NULL, closed_by = NULL, decision = NULL, decision_reason = NULL",
        (
            message[0],
            item_id,
            message[1],
            row[1],
            row[2],
            row[3],
            str(ErrorCode.OTHER.value),
            Reason.TAKEN_OUT.value,
            row[6],
            micros(decision.at),
            row[4],
            row[5],
        ),
    )


def _mark_waiting(connection: sqlite3.Connection, message: tuple[str, str]) -> None:
    """The mailbox is told anew: the patient's own copy is held again (RULES §7).

    So are those of the messages that repeated what left: who writes to the professional first and
    to the patient later sends it twice.
    """
    for item_id, keywords in connection.execute(
        "SELECT id, keywords FROM inbox_item WHERE structure_id = :s AND state = 'done'"
        " AND keywords IS NOT NULL AND (receipt = :r OR receipt IN"
        " (SELECT c.receipt FROM duplicate AS c JOIN document AS d ON d.id = c.document_id"
        " WHERE d.structure_id = :s AND d.receipt = :r AND d.patient_id IS NULL))",
        {"s": message[0], "r": message[1]},
    ).fetchall():
        left = set(str(keywords).split()) - {"$Filed", "$Duplicate", "$NoDocument"}
        connection.execute(
            "UPDATE inbox_item SET keywords = ?, marked_at = NULL WHERE id = ?",
            (words({*left, _QUARANTINED, "$Held"}), item_id),
        )


def _uncovered(
    connection: sqlite3.Connection, patient_id: int, rows: list[sqlite3.Row]
) -> tuple[int, ...]:
    """Make current again what the documents that left had replaced in this record."""
    found: list[int] = []
    for row in rows:
        found += [
            int(each[0])
            for each in connection.execute(
                "UPDATE document SET status = 'current', superseded_by = NULL, moved = 1"
                " WHERE superseded_by = ? AND patient_id = ? AND status = 'superseded'"
                " RETURNING id",
                (row[0], patient_id),
            ).fetchall()
        ]
    return tuple(found)


def _tell(connection: sqlite3.Connection, decision: Decision, document_id: int, kind: str) -> None:
    tell_readers(connection, Leaving(document_id, kind, decision.actor, decision.at))
