"""The queue of filed documents for a structure's own software, and what its answers settle.

Invariants: a document is in the queue because it is in the record: ``take_in`` makes the rows that
are missing, so that no crash loses one; a row is settled once. A message's answer to its sender
that waits for the software (``held``) is released by what stands in these rows, never by what a
process remembers: one answer in all (RULES §9).

Source: MSS-FACTS §9, RULES §9.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from directory.codes import type_label
from directory.trail import AuditEvent, append
from record_bridge import handover_telling, replying
from record_bridge.formats.hl7v2 import Action, Flag
from record_bridge.model import ErrorCode, Visibility
from record_bridge.repository import micros, moment
from record_bridge.schema import TRAIL

SCHEDULE_S = (5, 30, 300, 3600)
"""Seconds before the next attempt; the last one repeats."""
GIVE_UP_AFTER = timedelta(days=5)
ANSWER_AFTER = timedelta(days=1)
"""A sender is not kept waiting longer for a software that says nothing."""
BATCH = 20
ACTOR = "bridge"
_UNSETTLED = (
    "(h.state = 'waiting' OR h.state = 'refused' AND h.id ="
    " (SELECT max(b.id) FROM handover AS b WHERE b.document_id = h.document_id))"
)
"""A refusal that something was told after is settled by it."""


_FLAGS: Final = {
    Visibility.MASKED_PS.value: Flag.MASKED,
    Visibility.INVISIBLE_PATIENT.value: Flag.INVISIBLE_PATIENT,
    Visibility.INVISIBLE_REPRESENTATIVES.value: Flag.INVISIBLE_REPRESENTATIVES,
}
"""What of a document's visibility the structure's software is told."""


@dataclass(frozen=True, slots=True)
class Due:
    """One document to hand over now.

    Attributes:
        control_id: MSH-10, the same at every try.
        traits: (birth name, first birth name, birth date AAAAMMJJ, sex).
        hidden: from whom it is hidden now.
    """

    id: int
    action: Action
    control_id: str
    document_id: int
    patient_id: int
    unique_id: str
    parent_unique_id: str
    type_code: str
    type_label: str
    ins: tuple[str, str]
    traits: tuple[str, str, str, str]
    filed_at: datetime
    queued_at: datetime
    hidden: frozenset[Flag]


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one try: ``state`` is accepted, refused or waiting (to be tried again)."""

    due: Due
    state: str
    at: datetime
    code: ErrorCode | None = None


def choose(connection: sqlite3.Connection, value: tuple[Mapping[str, bool], datetime]) -> None:
    """Write down which structures hand over, and whose software answers the senders.

    A structure begins with what is filed from now on; one that stopped owes its senders the
    answers that were held.
    """
    answers, at = value
    for structure_id, answers_senders in answers.items():
        connection.execute(
            "INSERT INTO handover_choice (structure_id, begins_after, taken_in, answers)"
            " SELECT ?, newest, newest, ? FROM"
            " (SELECT coalesce(max(id), 0) AS newest FROM document) WHERE 1"
            " ON CONFLICT (structure_id) DO UPDATE SET answers = excluded.answers",
            (structure_id, int(answers_senders)),
        )
    gone = [
        row[0]
        for row in connection.execute("SELECT structure_id FROM handover_choice").fetchall()
        if row[0] not in answers
    ]
    for structure_id in gone:
        connection.execute("DELETE FROM handover_choice WHERE structure_id = ?", (structure_id,))
    connection.execute(
        "UPDATE reply_outbox SET state = 'waiting', next_at = ? WHERE state = 'held' AND"
        " NOT EXISTS (SELECT 1 FROM handover_choice AS c"
        " WHERE c.structure_id = reply_outbox.structure_id AND c.answers = 1)",
        (micros(at),),
    )


def take_in(connection: sqlite3.Connection, value: tuple[str, datetime]) -> list[Due]:
    """Queue what was filed, replaced, withdrawn or moved since; give what is due.

    A version follows its parent, and a document what was told of it before: neither is due while
    the other waits.
    """
    structure_id, at = value
    handover_telling.queue_filed(connection, structure_id, at)
    handover_telling.queue_moved(connection, structure_id, at)
    rows = connection.execute(
        "SELECT h.id, h.action, h.control_id, d.id, coalesce(p.merged_into, p.id), d.unique_id,"
        " coalesce(d.parent_unique_id, ''), d.type_code, d.title, p.matricule, p.oid, p.family,"
        " p.given, p.birth_date, p.sex, d.filed_at, h.created_at, d.visibility FROM handover AS h"
        " JOIN document AS d ON d.id = h.document_id JOIN patient AS p ON p.id = h.identity_id"
        " WHERE h.structure_id = ? AND h.state = 'waiting' AND h.next_at <= ?"
        " AND NOT EXISTS (SELECT 1 FROM handover AS b JOIN document AS e ON e.id = b.document_id"
        " WHERE b.structure_id = h.structure_id AND b.state = 'waiting' AND b.id < h.id"
        " AND (e.id = d.id OR e.unique_id = d.parent_unique_id"
        " OR e.parent_unique_id = d.unique_id)) ORDER BY h.next_at, h.id LIMIT ?",
        (structure_id, micros(at), BATCH),
    ).fetchall()
    connection.executemany(
        "UPDATE handover SET begun_at = ? WHERE id = ? AND begun_at IS NULL",
        [(micros(at), row[0]) for row in rows],
    )
    return [
        Due(
            id=row[0],
            action=Action(row[1]),
            control_id=row[2],
            document_id=row[3],
            patient_id=row[4],
            unique_id=row[5],
            parent_unique_id=row[6] if row[1] == Action.REPLACE.value else "",
            type_code=row[7],
            type_label=type_label(row[7]) or row[8],
            ins=(row[9], row[10]),
            traits=(row[11], row[12], row[13], row[14]),
            filed_at=moment(row[15]),
            queued_at=moment(row[16]),
            hidden=frozenset(_FLAGS[state] for state in row[17].split() if state in _FLAGS),
        )
        for row in rows
    ]


def content(connection: sqlite3.Connection, document_id: int) -> bytes:
    """Give a document's octets."""
    rows = connection.execute(
        "SELECT data FROM document_chunk WHERE document_id = ? ORDER BY position", (document_id,)
    )
    return b"".join(row[0] for row in rows)


def look_again(connection: sqlite3.Connection, value: tuple[int, datetime]) -> None:
    """Note that a row is not settled, and when it is to be looked at next."""
    row_id, at = value
    connection.execute("UPDATE handover SET next_at = ? WHERE id = ?", (micros(at), row_id))


def settle(connection: sqlite3.Connection, settled: Settled) -> int:
    """Write down what became of one try; give how many answers waited for it and may leave."""
    row = connection.execute(
        "SELECT structure_id, attempts, created_at FROM handover WHERE id = ?", (settled.due.id,)
    ).fetchone()
    structure_id, attempts, created_at = row[0], int(row[1]), moment(int(row[2]))
    state = settled.state
    if state == "waiting" and settled.at - created_at > GIVE_UP_AFTER:
        state = "refused"
    wait = timedelta(seconds=SCHEDULE_S[min(attempts, len(SCHEDULE_S) - 1)])
    connection.execute(
        "UPDATE handover SET state = ?, code = ?, attempts = attempts + 1, next_at = ?,"
        " answered_at = ? WHERE id = ? AND state = 'waiting'",
        (
            state,
            "" if settled.code is None else str(settled.code.value),
            micros(settled.at + wait),
            None if state == "waiting" else micros(settled.at),
            settled.due.id,
        ),
    )
    if state == "waiting":
        return 0
    facts: dict[str, str | int | bool] = {
        "document_id": settled.due.document_id,
        "action": settled.due.action.value,
    }
    if settled.code is not None:
        facts["code"] = settled.code.value
    kind = "document_handed_over" if state == "accepted" else "handover_refused"
    subject = f"patient:{settled.due.patient_id}"
    append(connection, TRAIL, [AuditEvent(kind, settled.at, ACTOR, structure_id, subject, facts)])
    return release_answers(connection, (structure_id, settled.at))


def release_answers(connection: sqlite3.Connection, value: tuple[str, datetime]) -> int:
    """Let the held answers go whose documents are all settled; give how many.

    The first refusal in the order of the documents is the code, 906 for one that a person took
    out meanwhile; a software that said nothing for a day no longer keeps a sender waiting.
    """
    structure_id, at = value
    held = connection.execute(
        "SELECT r.id, i.receipt, i.origin, r.at FROM reply_outbox AS r"
        " JOIN inbox_item AS i ON i.id = r.item_id WHERE r.structure_id = ? AND r.state = 'held'",
        (structure_id,),
    ).fetchall()
    released = 0
    for reply_id, receipt, origin, since in held:
        answers = connection.execute(
            "SELECT h.state, iif(d.patient_id IS NULL, ?, h.code),"
            " iif(d.patient_id IS NULL, '', d.status) FROM document AS d LEFT JOIN handover AS h"
            " ON h.id = (SELECT max(id) FROM handover WHERE document_id = d.id"
            " AND action <> 'withdraw')"
            " WHERE d.structure_id = ? AND d.receipt = ? ORDER BY d.position",
            (str(ErrorCode.OTHER.value), structure_id, receipt),
        ).fetchall()
        if moment(since) + ANSWER_AFTER > at and any(map(_is_open, answers)):
            continue
        code = next((ErrorCode(int(row[1])) for row in answers if row[1]), None)
        told = replying.code_told(connection, origin or "", code, at)
        connection.execute(
            "UPDATE reply_outbox SET state = 'waiting', code = ?, next_at = ? WHERE id = ?",
            ("" if told is None else str(told.value), micros(at), reply_id),
        )
        released += 1
    return released


def _is_open(answer: Sequence[str | None]) -> bool:
    state, _, status = answer
    return state == "waiting" or (state is None and status == "current")


def rows(connection: sqlite3.Connection, structure_id: str | None) -> list[dict[str, object]]:
    """List what is not settled or was refused, oldest first, for the command line."""
    return list(_listed(connection, structure_id))


def _listed(
    connection: sqlite3.Connection, structure_id: str | None
) -> Iterator[dict[str, object]]:
    found = connection.execute(
        "SELECT h.id, h.structure_id, d.unique_id, h.action, h.state, h.code, h.attempts,"  # noqa: S608 - ours
        " h.next_at FROM handover AS h JOIN document AS d ON d.id = h.document_id"
        f" WHERE {_UNSETTLED} AND h.structure_id = coalesce(?, h.structure_id) ORDER BY h.id",
        (structure_id,),
    )
    for row in found:
        yield {
            "id": row[0],
            "structure": row[1],
            "unique_id": row[2],
            "action": row[3],
            "state": row[4],
            "code": row[5],
            "attempts": row[6],
            "next_at": moment(row[7]).isoformat() if row[4] == "waiting" else None,
        }


def retry(connection: sqlite3.Connection, value: tuple[str | None, datetime]) -> int:
    """Hand over again at once what waits or was refused and still holds; give how many.

    What the software refused is not begun any more: a document that moved meanwhile is dropped.
    """
    structure_id, at = value
    return connection.execute(
        "UPDATE handover AS h SET state = 'waiting', code = '', next_at = ?, created_at = ?,"  # noqa: S608 - ours
        " begun_at = iif(code = '', begun_at, NULL), answered_at = NULL"
        f" WHERE {_UNSETTLED} AND structure_id = coalesce(?, structure_id)",
        (micros(at), micros(at), structure_id),
    ).rowcount
