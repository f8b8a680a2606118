"""What people's commands change in a record: identities, releases, lines of the agenda.

Each change writes its event in the same transaction. Runs on the writer's thread.

Source: RULES §5, RULES §7, RULES §13.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from directory.trail import AuditEvent, append
from record_bridge import release_storing
from record_bridge.errors import RecordStateError
from record_bridge.model import AgendaStatus, IdentityStatus, InsMatricule, InsTraits
from record_bridge.repository import insert, micros
from record_bridge.schema import TRAIL


@dataclass(frozen=True, slots=True)
class NewPatient:
    """An identity to register, beside whom nobody of the structure has its number."""

    structure_id: str
    ins: InsMatricule
    traits: InsTraits
    status: IdentityStatus
    address: str
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ChangedPatient:
    """An identity as it is to be from now on."""

    patient_id: int
    structure_id: str
    traits: InsTraits
    status: IdentityStatus
    doubtful: bool
    fictitious: bool
    actor: str
    at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Release:
    """A document that a professional shows to its patient; ``reason`` may be empty."""

    structure_id: str
    unique_id: str
    actor: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class AgendaDecision:
    """What a patient says of a line of their agenda."""

    patient_id: int
    entry_id: int
    status: AgendaStatus
    actor: str
    at: datetime


def add_patient(connection: sqlite3.Connection, new: NewPatient) -> int:
    """Register an identity; give its key.

    Raises:
        RecordStateError: its number or its address is taken (``patient_exists``).
    """
    taken = connection.execute(
        "SELECT 1 FROM patient WHERE (structure_id = ? AND matricule = ? AND oid = ?)"
        " OR address = ?",
        (new.structure_id, new.ins.value, new.ins.oid, new.address),
    ).fetchone()
    if taken is not None:
        raise RecordStateError("patient_exists")
    at = micros(new.at)
    patient_id = insert(
        connection,
        "patient",
        {
            "structure_id": new.structure_id,
            "matricule": new.ins.value,
            "oid": new.ins.oid,
            **_traits(new.traits),
            "status": new.status.value,
            "address": new.address,
            "created_at": at,
            "changed_at": at,
        },
    )
    _event(connection, "patient_registered", new, f"patient:{patient_id}", new.structure_id)
    return patient_id


def change_patient(connection: sqlite3.Connection, changed: ChangedPatient) -> None:
    """Correct or qualify an identity."""
    values = {
        **_traits(changed.traits),
        "status": changed.status.value,
        "doubtful": int(changed.doubtful),
        "fictitious": int(changed.fictitious),
        "changed_at": micros(changed.at),
    }
    assignments = ", ".join(f"{name} = :{name}" for name in values)
    connection.execute(
        f"UPDATE patient SET {assignments} WHERE id = :id",  # noqa: S608 - constants
        {**values, "id": changed.patient_id},
    )
    event = AuditEvent(
        "patient_changed",
        changed.at,
        changed.actor,
        changed.structure_id,
        f"patient:{changed.patient_id}",
        {"reason": changed.reason} if changed.reason else {},
    )
    append(connection, TRAIL, [event])


def _traits(traits: InsTraits) -> dict[str, str | None]:
    return {
        "family": traits.birth_family,
        "given": traits.first_birth_given,
        "birth_date": traits.birth_date,
        "sex": traits.sex.value,
        "birth_place": traits.birth_place,
    }


def release(connection: sqlite3.Connection, wanted: Release) -> None:
    """Show a document to its patient.

    Raises:
        RecordStateError: it is not there (``no_such_document``), or seen already
            (``visible_already``).
    """
    row = connection.execute(
        "SELECT id FROM document WHERE structure_id = ? AND unique_id = ?"
        " AND patient_id IS NOT NULL",
        (wanted.structure_id, wanted.unique_id),
    ).fetchone()
    if row is None:
        raise RecordStateError("no_such_document")
    done = release_storing.release(connection, wanted.structure_id, int(row[0]), wanted.at)
    if done is None:
        raise RecordStateError("visible_already")
    facts: dict[str, str | int | bool] = {"document_id": done.document_id}
    if wanted.reason:
        facts["reason"] = wanted.reason
    append(
        connection,
        TRAIL,
        [
            AuditEvent(
                "document_released",
                wanted.at,
                wanted.actor,
                wanted.structure_id,
                f"patient:{done.patient_id}",
                facts,
            )
        ],
    )


def decide(connection: sqlite3.Connection, decision: AgendaDecision) -> None:
    """Note a decision about a line.

    Raises:
        RecordStateError: it is not theirs (``no_such_entry``).
    """
    cursor = connection.execute(
        "UPDATE agenda_entry SET status = ?, decided_by = ?, decided_at = ?"
        " WHERE id = ? AND patient_id = ?",
        (
            decision.status.value,
            decision.actor,
            micros(decision.at),
            decision.entry_id,
            decision.patient_id,
        ),
    )
    if cursor.rowcount != 1:
        raise RecordStateError("no_such_entry")
    _event(connection, "agenda_decided", decision, f"patient:{decision.patient_id}", None)


def _event(
    connection: sqlite3.Connection,
    kind: str,
    done: NewPatient | AgendaDecision,
    subject: str,
    structure_id: str | None,
) -> None:
    append(connection, TRAIL, [AuditEvent(kind, done.at, done.actor, structure_id, subject)])
