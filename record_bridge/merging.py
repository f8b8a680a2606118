"""Two identities of one person, one record: merged on a person's word, and split again.

A merge moves what a record holds to the identity that is kept and notes each row that it moved;
a split moves exactly those back, and every document goes to the identity that it names. The
merged identity stays: its number, its traits and its mailbox go on being this person's, so what
comes under it is judged by the same rules and filed in the record that was kept.

Who may open the record was said, while it was one, by one of two persons, and nobody knows which
any more: a split ends what was given then, and a block or an opposition of then holds for both.

Runs on the writer's thread, one transaction each. Source: RULES §5.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from record_bridge.errors import RecordStateError
from record_bridge.identity import differences
from record_bridge.model import IdentityStatus, InsTraits, Sex
from record_bridge.repository import insert, micros
from record_bridge.schema import METADATA

_BY_DOCUMENT: Final = frozenset({"document", "agenda_entry"})
"""These follow the identity that each document names, not the place they were in."""
_HELD: Final = {
    "access_right.holder": (
        (
            "UPDATE access_right SET holder = ? WHERE holder = ?"
            " AND kind IN ('representative', 'delegate') RETURNING id"
        ),
        "UPDATE access_right SET holder = ? WHERE id = ?",
    ),
    "calendar_key.holder": (
        "UPDATE calendar_key SET holder = ? WHERE holder = ? RETURNING id",
        "UPDATE calendar_key SET holder = ? WHERE id = ?",
    ),
}
"""What a person has of others' records, by the name that a merge notes it under: what gives it to
the identity that is kept, and one row of it back."""
_SAID: Final = "kind, holder, parts, name, reason, said_by, since_at, until_at"
_CLOSE_BOTH: Final = (
    (
        f"INSERT INTO access_right (patient_id, {_SAID}) SELECT :merged, {_SAID} FROM access_right"  # noqa: S608 - ours
        " WHERE patient_id = :kept AND kind = 'block' AND since_at > :since AND ended_at IS NULL"
    ),
    (
        "INSERT OR IGNORE INTO opposition (patient_id, scope, said_by, since_at)"
        " SELECT :merged, scope, said_by, since_at FROM opposition"
        " WHERE patient_id = :kept AND since_at > :since AND until_at IS NULL"
    ),
)
_END_GIVEN: Final = (
    (
        "UPDATE access_right SET ended_at = :at, ended_by = :actor WHERE ended_at IS NULL"
        " AND since_at > :since AND (patient_id = :kept AND kind <> 'block'"
        " OR holder = :holder AND kind IN ('representative', 'delegate'))"
    ),
    (
        "UPDATE calendar_key SET stopped_at = :at WHERE (patient_id = :kept OR holder = :holder)"
        " AND created_at > :since AND stopped_at IS NULL"
    ),
    (
        "UPDATE api_token SET stopped_at = :at"
        " WHERE patient_id = :kept AND created_at > :since AND stopped_at IS NULL"
    ),
)


@dataclass(frozen=True, slots=True)
class Merge:
    """What a person decided about two identities of one structure."""

    kept_id: int
    merged_id: int
    actor: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Split:
    """What a person decided about an identity that was merged."""

    merged_id: int
    actor: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Moved:
    """What a merge or a split did.

    Attributes:
        kept_id: the identity that keeps the record, or kept it.
        documents: how many changed their record.
        rows: how many other rows did.
        left: rows that stay under the merged identity because the record has their like.
        revived: documents whose newer version is another person's now: they are current again.
        ended: rights and keys that a split ended, because they were given while it was one record.
    """

    kept_id: int
    documents: int
    rows: int
    left: int = 0
    revived: tuple[int, ...] = ()
    ended: int = 0


def merge(connection: sqlite3.Connection, wanted: Merge) -> Moved:
    """Bring the record of one identity into that of another.

    Raises:
        RecordStateError: they cannot be one person's record (``same_identity``,
            ``other_structure``, ``merged_already``, ``holds_others``, ``one_is_closed``,
            ``keep_the_qualified``, ``traits_differ``).
    """
    kept, merged = _person(connection, wanted.kept_id), _person(connection, wanted.merged_id)
    _may_merge(connection, kept, merged)
    merge_id = insert(
        connection,
        "patient_merge",
        {
            "structure_id": kept["structure_id"],
            "kept_id": kept["id"],
            "merged_id": merged["id"],
            "merged_by": wanted.actor,
            "merged_at": micros(wanted.at),
            "reason": wanted.reason,
        },
    )
    ids = {"kept": kept["id"], "merged": merged["id"]}
    # What was filed before identities were noted was filed under the record's own.
    connection.execute(
        "UPDATE document SET identity_id = patient_id"
        " WHERE identity_id IS NULL AND patient_id IN (:kept, :merged)",
        ids,
    )
    documents = connection.execute(
        "UPDATE document SET patient_id = :kept WHERE patient_id = :merged", ids
    ).rowcount
    connection.execute(
        "UPDATE agenda_entry SET patient_id = :kept WHERE patient_id = :merged", ids
    )
    _renumber_directives(connection, kept["id"], merged["id"])
    rows = left = 0
    for table in _following():
        moved, stayed = _move(connection, table, merge_id, ids)
        rows, left = rows + moved, left + stayed
    rows += _move_held(connection, merge_id, ids)
    connection.execute("UPDATE patient SET merged_into = :kept WHERE id = :merged", ids)
    return Moved(kept["id"], documents, rows, left)


def split(connection: sqlite3.Connection, wanted: Split) -> Moved:
    """Give a merged identity its record back: every document goes where its identity says.

    A record that was closed while it was one is two closed records; a person opens them again.

    Raises:
        RecordStateError: it is not merged (``not_merged``).
    """
    row = connection.execute(
        "SELECT id, kept_id, merged_at FROM patient_merge"
        " WHERE merged_id = ? AND split_at IS NULL",
        (wanted.merged_id,),
    ).fetchone()
    if row is None:
        raise RecordStateError("not_merged")
    merge_id, ids = int(row[0]), {"kept": int(row[1]), "merged": wanted.merged_id}
    connection.execute(
        "UPDATE patient SET merged_into = NULL, (closed_at, died_on) = (SELECT"
        " coalesce(patient.closed_at, k.closed_at), coalesce(patient.died_on, k.died_on)"
        " FROM patient AS k WHERE k.id = :kept AND k.closed_at IS NOT NULL) WHERE id = :merged",
        ids,
    )
    documents = connection.execute(
        "UPDATE document SET patient_id = :merged"
        " WHERE patient_id = :kept AND identity_id = :merged",
        ids,
    ).rowcount
    connection.execute(
        "UPDATE agenda_entry SET patient_id = :merged WHERE patient_id = :kept"
        " AND document_id IN (SELECT id FROM document WHERE patient_id = :merged)",
        ids,
    )
    rows = 0
    for table in _following():
        rows += connection.execute(
            f"UPDATE OR IGNORE {table} SET patient_id = :merged"  # noqa: S608 - our tables
            " WHERE patient_id = :kept AND rowid IN (SELECT row_id FROM patient_merge_row"
            " WHERE merge_id = :merge AND table_name = :table)",
            {**ids, "merge": merge_id, "table": table},
        ).rowcount
    rows += _give_back_held(connection, merge_id, wanted.merged_id)
    _renumber_directives(connection, None, wanted.merged_id)
    ended = _part_rights(connection, wanted, (ids["kept"], int(row[2])))
    connection.execute(
        "UPDATE patient_merge SET split_by = ?, split_at = ?, split_reason = ? WHERE id = ?",
        (wanted.actor, micros(wanted.at), wanted.reason, merge_id),
    )
    return Moved(ids["kept"], documents, rows, revived=_revive(connection, ids), ended=ended)


def _following() -> list[str]:
    """The tables whose rows a patient has, besides documents and what comes from them."""
    return [
        table.name
        for table in METADATA.sorted_tables
        if "patient_id" in table.c and table.name not in _BY_DOCUMENT
    ]


def _person(connection: sqlite3.Connection, patient_id: int) -> sqlite3.Row:
    cursor = connection.execute("SELECT * FROM patient WHERE id = ?", (patient_id,))
    cursor.row_factory = sqlite3.Row
    row: sqlite3.Row | None = cursor.fetchone()
    if row is None:
        raise RecordStateError("no_such_patient")
    return row


def _may_merge(connection: sqlite3.Connection, kept: sqlite3.Row, merged: sqlite3.Row) -> None:
    if kept["id"] == merged["id"]:
        raise RecordStateError("same_identity")
    if kept["structure_id"] != merged["structure_id"]:
        raise RecordStateError("other_structure")
    if kept["merged_into"] is not None or merged["merged_into"] is not None:
        raise RecordStateError("merged_already")
    if connection.execute(
        "SELECT 1 FROM patient WHERE merged_into = ?", (merged["id"],)
    ).fetchone():
        raise RecordStateError("holds_others")
    # A closed record is its patient's alone: what is in it must not open with another's.
    if (kept["closed_at"] is None) != (merged["closed_at"] is None):
        raise RecordStateError("one_is_closed")
    qualified = IdentityStatus.QUALIFIEE.value
    if merged["status"] == qualified and kept["status"] != qualified:
        raise RecordStateError("keep_the_qualified")
    # Two qualified identities are one person's only when nothing but the number differs.
    if merged["status"] == qualified and differences(_traits(kept), _traits(merged)):
        raise RecordStateError("traits_differ")


def _traits(row: sqlite3.Row) -> InsTraits:
    names = ("family", "given", "birth_date", "sex", "birth_place")
    family, given, birth_date, sex, birth_place = (row[name] for name in names)
    return InsTraits(family, given, birth_date, Sex(sex), birth_place)


def _move(
    connection: sqlite3.Connection, table: str, merge_id: int, ids: dict[str, int]
) -> tuple[int, int]:
    """Move the rows of one table; those that the record has already stay where they are."""
    moved = left = 0
    for (row_id,) in connection.execute(
        f"SELECT rowid FROM {table} WHERE patient_id = ?",  # noqa: S608 - our tables
        (ids["merged"],),
    ).fetchall():
        cursor = connection.execute(
            f"UPDATE OR IGNORE {table} SET patient_id = ? WHERE rowid = ?",  # noqa: S608
            (ids["kept"], row_id),
        )
        if cursor.rowcount == 1:
            connection.execute(
                "INSERT INTO patient_merge_row (merge_id, table_name, row_id) VALUES (?, ?, ?)",
                (merge_id, table, row_id),
            )
            moved += 1
        else:
            left += 1
    return moved, left


def _move_held(connection: sqlite3.Connection, merge_id: int, ids: dict[str, int]) -> int:
    """What this person may see of others' records is theirs under either number."""
    moved = 0
    for name, (give, _) in _HELD.items():
        rows = connection.execute(give, (str(ids["kept"]), str(ids["merged"]))).fetchall()
        connection.executemany(
            "INSERT INTO patient_merge_row (merge_id, table_name, row_id) VALUES (?, ?, ?)",
            [(merge_id, name, int(row[0])) for row in rows],
        )
        moved += len(rows)
    return moved


def _give_back_held(connection: sqlite3.Connection, merge_id: int, merged_id: int) -> int:
    moved = 0
    for name, (_, give_back) in _HELD.items():
        rows = connection.execute(
            "SELECT row_id FROM patient_merge_row WHERE merge_id = ? AND table_name = ?",
            (merge_id, name),
        ).fetchall()
        connection.executemany(give_back, [(str(merged_id), row[0]) for row in rows])
        moved += len(rows)
    return moved


def _part_rights(connection: sqlite3.Connection, wanted: Split, since: tuple[int, int]) -> int:
    """End what was given while two records were one (kept, merged_at), and close both alike."""
    values = {
        "kept": since[0],
        "holder": str(since[0]),
        "merged": wanted.merged_id,
        "since": since[1],
        "at": micros(wanted.at),
        "actor": wanted.actor,
    }
    for statement in _CLOSE_BOTH:
        connection.execute(statement, values)
    return sum(connection.execute(statement, values).rowcount for statement in _END_GIVEN)


def _renumber_directives(
    connection: sqlite3.Connection, before_id: int | None, patient_id: int
) -> None:
    """Number the versions of a person's wishes from those of another record on, or from 1."""
    for (kind,) in connection.execute(
        "SELECT DISTINCT kind FROM directive WHERE patient_id = ?", (patient_id,)
    ).fetchall():
        first, highest = connection.execute(
            "SELECT min(version), (SELECT coalesce(max(version), 0) FROM directive"
            " WHERE patient_id = ? AND kind = ?) FROM directive WHERE patient_id = ? AND kind = ?",
            (before_id, kind, patient_id, kind),
        ).fetchone()
        shift = highest + 1 - first
        order = "DESC" if shift > 0 else "ASC"  # no two versions are ever the same
        for row_id, version in connection.execute(
            f"SELECT id, version FROM directive WHERE patient_id = ? AND kind = ?"  # noqa: S608
            f" ORDER BY version {order}",
            (patient_id, kind),
        ).fetchall():
            connection.execute(
                "UPDATE directive SET version = ? WHERE id = ?", (version + shift, row_id)
            )


def _revive(connection: sqlite3.Connection, ids: dict[str, int]) -> tuple[int, ...]:
    """Make current again what was replaced by a document that is another person's now."""
    rows = connection.execute(
        "UPDATE document SET status = 'current', superseded_by = NULL, moved = 1"
        " WHERE status = 'superseded' AND patient_id IN (:kept, :merged) AND EXISTS"
        " (SELECT 1 FROM document n WHERE n.id = document.superseded_by"
        "  AND n.patient_id IS NOT document.patient_id) RETURNING id",
        ids,
    ).fetchall()
    return tuple(sorted(int(row[0]) for row in rows))
