"""The SQL of whose record a document goes to, and of what that record takes.

Runs on the writer's thread inside the transaction that files or adds, so that nothing is judged on
a stale read. Source: RULES §5, MSS-FACTS §6.4.
"""

import sqlite3
from dataclasses import dataclass

from record_bridge.errors import RecordStateError
from record_bridge.model import IdentityStatus, InsIdentity, InsMatricule, InsTraits, Sex

_LOCAL = (
    "SELECT id, matricule, oid, family, given, birth_date, sex, birth_place,"
    " coalesce((SELECT k.status FROM patient k"
    " WHERE k.id = patient.merged_into AND k.status <> 'qualifiee'), status),"
    " doubtful OR (SELECT k.doubtful FROM patient k WHERE k.id = patient.merged_into) IS 1,"
    " fictitious OR (SELECT k.fictitious FROM patient k WHERE k.id = patient.merged_into) IS 1,"
    " coalesce(merged_into, id) FROM patient WHERE "
)


@dataclass(frozen=True, slots=True)
class LocalPatient:
    """A registered identity, and the record that its documents go to.

    It is in doubt when it is, or the one that it was merged into; qualified when both are.

    Attributes:
        record_id: the identity's own, or that of the one it was merged into.
        addresses: the patient's own mailboxes: one for each identity of the record.
    """

    identity: InsIdentity
    record_id: int
    addresses: frozenset[str]


def candidates(
    connection: sqlite3.Connection, structure_id: str, ins: InsMatricule
) -> list[LocalPatient]:
    """The identities of the structure with exactly this matricule and OID."""
    rows = connection.execute(
        _LOCAL + "structure_id = ? AND matricule = ? AND oid = ?",
        (structure_id, ins.value, ins.oid),
    )
    return [_local(connection, row) for row in rows.fetchall()]


def local(connection: sqlite3.Connection, patient_id: int) -> LocalPatient:
    """One registered identity."""
    return _local(connection, connection.execute(_LOCAL + "id = ?", (patient_id,)).fetchone())


def _local(connection: sqlite3.Connection, row: sqlite3.Row) -> LocalPatient:
    return LocalPatient(
        InsIdentity(
            patient_id=int(row[0]),
            ins=InsMatricule(row[1], row[2]),
            traits=InsTraits(row[3], row[4], row[5], Sex(row[6]), row[7]),
            status=IdentityStatus(row[8]),
            doubtful=bool(row[9]),
            fictitious=bool(row[10]),
        ),
        int(row[11]),
        addresses_of_record(connection, int(row[11])),
    )


def numbers_of_record(connection: sqlite3.Connection, record_id: int) -> frozenset[InsMatricule]:
    """The INS of every identity of one record."""
    rows = connection.execute(
        "SELECT matricule, oid FROM patient WHERE id = :id UNION ALL"
        " SELECT matricule, oid FROM patient WHERE merged_into = :id",
        {"id": record_id},
    )
    return frozenset(InsMatricule(str(row[0]), str(row[1])) for row in rows)


def addresses_of_record(connection: sqlite3.Connection, record_id: int) -> frozenset[str]:
    """The patient's own mailboxes of one record: those of merged identities stay theirs."""
    rows = connection.execute(
        "SELECT address FROM patient WHERE id = :id UNION ALL"
        " SELECT address FROM patient WHERE merged_into = :id",
        {"id": record_id},
    )
    return frozenset(str(row[0]) for row in rows)


def is_opposed(connection: sqlite3.Connection, patient_id: int) -> bool:
    """Say whether a patient opposes that documents enter their record (MSS-FACTS §6.4)."""
    row = connection.execute(
        "SELECT 1 FROM opposition WHERE patient_id = ? AND scope = 'deposit' AND until_at IS NULL",
        (patient_id,),
    ).fetchone()
    return row is not None


def is_closed(connection: sqlite3.Connection, patient_id: int) -> bool:
    """Say whether a record is closed: kept, and nothing enters it any more."""
    row = connection.execute(
        "SELECT 1 FROM patient WHERE id = ? AND closed_at IS NOT NULL", (patient_id,)
    ).fetchone()
    return row is not None


def takes_more(connection: sqlite3.Connection, patient_id: int) -> None:
    """Hold what a person adds to a record against its being closed.

    Raises:
        RecordStateError: it is (``record_closed``).
    """
    if is_closed(connection, patient_id):
        raise RecordStateError("record_closed")
