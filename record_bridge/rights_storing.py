"""The transactions that keep rights on records, each with its event in the trail.

Source: RULES §7, RULES §13.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from directory.audit_event import AuditEvent
from directory.trail import append
from record_bridge.errors import RecordStateError
from record_bridge.repository import insert, micros, words
from record_bridge.rights import EMERGENCIES, EVERYTHING, GrantKind, Part
from record_bridge.schema import TRAIL

MAX_RIGHTS: Final = 500
OFFERED_FOR: Final = timedelta(days=7)
"""How long a delegation waits for the one it is offered to."""


@dataclass(frozen=True, slots=True)
class NewRight:
    """A right to keep.

    Attributes:
        holder: "" while nobody took a delegation up.
        facts: ``reason`` and ``name``, when said.
        code: SHA-256 of what takes it up.
    """

    patient_id: int
    actor: str
    at: datetime
    kind: GrantKind
    holder: str
    until: datetime | None = None
    parts: frozenset[Part] = EVERYTHING
    facts: Mapping[str, str] = field(default_factory=dict)
    code: bytes | None = None


@dataclass(frozen=True, slots=True)
class EndedRight:
    """What to end: one right by ``key``, or those of a kind and holder when it is None."""

    patient_id: int
    actor: str
    at: datetime
    key: int | None
    kind: str
    holder: str


def _note(
    connection: sqlite3.Connection,
    done: NewRight | EndedRight,
    event: str,
    facts: Mapping[str, str],
) -> None:
    row = connection.execute(
        "SELECT structure_id FROM patient WHERE id = ?", (done.patient_id,)
    ).fetchone()
    subject = f"patient:{done.patient_id}"
    noted = AuditEvent(event, done.at, done.actor, str(row[0]), subject, dict(facts))
    append(connection, TRAIL, [noted])


def give(connection: sqlite3.Connection, right: NewRight) -> int:
    """Keep one right, and give its id; the same one for the same person is ended by the new one.

    Raises:
        RecordStateError: there are as many in force, or on offer, as can be kept.
    """
    at = micros(right.at)
    if right.holder:
        connection.execute(
            "UPDATE access_right SET ended_at = ?, ended_by = ?"
            " WHERE patient_id = ? AND kind = ? AND holder = ? AND ended_at IS NULL",
            (at, right.actor, right.patient_id, right.kind.value, right.holder),
        )
    count = connection.execute(
        "SELECT count(*) FROM access_right WHERE patient_id = ? AND ended_at IS NULL"
        " AND (until_at IS NULL OR until_at > ?) AND (holder <> '' OR since_at > ?)",
        (right.patient_id, at, micros(right.at - OFFERED_FOR)),
    ).fetchone()[0]
    if count >= MAX_RIGHTS:
        raise RecordStateError("too_many")
    key = insert(
        connection,
        "access_right",
        {
            "patient_id": right.patient_id,
            "kind": right.kind.value,
            "holder": right.holder,
            "parts": "" if right.parts == EVERYTHING else words(right.parts),
            "name": right.facts.get("name", ""),
            "reason": right.facts.get("reason", ""),
            "code": right.code,
            "said_by": right.actor,
            "since_at": at,
            "until_at": None if right.until is None else micros(right.until),
        },
    )
    event = "emergency_opened" if right.kind in EMERGENCIES else "right_given"
    told = {"right": right.kind.value, "holder": right.holder}
    if right.facts.get("reason"):
        told["reason"] = right.facts["reason"][:200]
    _note(connection, right, event, told)
    return key


def end(connection: sqlite3.Connection, ended: EndedRight) -> None:
    """End what holds.

    Raises:
        RecordStateError: there is nothing to end.
    """
    wanted = "id = :key" if ended.key is not None else "kind = :kind AND holder = :holder"
    values = {
        "patient": ended.patient_id,
        "key": ended.key,
        "kind": ended.kind,
        "holder": ended.holder,
        "at": micros(ended.at),
        "actor": ended.actor,
    }
    rows = connection.execute(
        f"SELECT kind, holder FROM access_right WHERE {wanted}"  # noqa: S608 - constants
        " AND patient_id = :patient AND ended_at IS NULL",
        values,
    ).fetchall()
    if not rows:
        raise RecordStateError("no_such_right")
    connection.execute(
        f"UPDATE access_right SET ended_at = :at, ended_by = :actor WHERE {wanted}"  # noqa: S608
        " AND patient_id = :patient AND ended_at IS NULL",
        values,
    )
    for kind, holder in rows:
        _note(connection, ended, "right_ended", {"right": str(kind), "holder": str(holder)})


def told_now(connection: sqlite3.Connection, value: tuple[int, datetime]) -> None:
    """Note that an emergency was told; the first time counts."""
    key, at = value
    connection.execute(
        "UPDATE access_right SET told_at = ? WHERE id = ? AND told_at IS NULL", (micros(at), key)
    )


def take(connection: sqlite3.Connection, value: tuple[tuple[bytes, int, str], datetime]) -> int:
    """Give an offered delegation to the patient who has its code; give whose record it is.

    It holds from now on: a split ends what was taken up while a record was one (``merging``).

    Raises:
        RecordStateError: the code opens nothing: unknown, used, too old, or one's own.
    """
    (digest, holder, actor), at = value
    row = connection.execute(
        "SELECT r.id, r.patient_id FROM access_right r JOIN patient p ON p.id = r.patient_id"
        " JOIN patient h ON h.id = :holder AND h.structure_id = p.structure_id"
        " WHERE r.code = :code AND r.holder = '' AND r.ended_at IS NULL AND r.since_at > :since"
        " AND r.patient_id <> :holder AND r.until_at > :at",
        {
            "code": digest,
            "holder": holder,
            "since": micros(at - OFFERED_FOR),
            "at": micros(at),
        },
    ).fetchone()
    if row is None:
        raise RecordStateError("no_such_code")
    key, patient_id = int(row[0]), int(row[1])
    connection.execute(
        "UPDATE access_right SET holder = ?, code = NULL, since_at = ? WHERE id = ?",
        (str(holder), micros(at), key),
    )
    taken = NewRight(patient_id, actor, at, GrantKind.DELEGATE, str(holder))
    _note(connection, taken, "right_given", {"right": "delegate", "holder": str(holder)})
    return patient_id
