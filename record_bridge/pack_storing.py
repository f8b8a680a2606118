"""Transactions about admission packs, and the rows that they are made of.

Runs on the writer's thread. Source: RULES §7, RULES §13.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from directory.audit_event import AuditEvent
from directory.trail import append
from record_bridge import identity_storing, life
from record_bridge.admission import (
    MAX_OPEN_PACKS,
    MAX_PACK_ITEMS,
    REMIND_EVERY,
    ItemProgress,
    PackItemKind,
    PackState,
    may_be_acknowledged,
    state_of,
)
from record_bridge.errors import RecordStateError
from record_bridge.life_commands import Change, add_deposit
from record_bridge.repository import content_of, insert, micros, store_chunks
from record_bridge.schema import TRAIL


@dataclass(frozen=True, slots=True)
class PackStep:
    """Something done with a pack or an item of it.

    Attributes:
        key: of the pack or of the item.
        structure_id: whose pack it must be; "" when its patient does it.
        patient_id: whose pack it must be; 0 when the structure does it.
    """

    key: int
    actor: str
    at: datetime
    structure_id: str = ""
    patient_id: int = 0
    values: Mapping[str, Any] = field(default_factory=dict)
    content: bytes = b""


def create(connection: sqlite3.Connection, step: PackStep) -> int:
    """Begin a pack; give its key."""
    _takes_packs(connection, step.patient_id)
    count = connection.execute(
        "SELECT count(*) FROM admission_pack WHERE patient_id = ? AND closed_at IS NULL",
        (step.patient_id,),
    ).fetchone()[0]
    if count >= MAX_OPEN_PACKS:
        raise RecordStateError("too_many")
    values = {
        **step.values,
        "patient_id": step.patient_id,
        "created_by": step.actor,
        "created_at": micros(step.at),
    }
    key = insert(connection, "admission_pack", values)
    _note(connection, step, "pack_created", key)
    return key


def add(connection: sqlite3.Connection, step: PackStep) -> int:
    """Put a file into a pack that is in the making; give its key."""
    pack = _pack(connection, step)
    if _state(pack) is not PackState.DRAFT:
        raise RecordStateError("pack_sent")
    if len(_progress(connection, pack["id"])) >= MAX_PACK_ITEMS:
        raise RecordStateError("too_many")
    values = {**step.values, "pack_id": pack["id"], "patient_id": pack["patient_id"]}
    key = insert(connection, "pack_item", values)
    store_chunks(connection, "pack_item_chunk", "pack_item_id", (key, step.content))
    _note(connection, step, "pack_item_added", pack["id"])
    return key


def send(connection: sqlite3.Connection, step: PackStep) -> None:
    """Show a pack to its patient."""
    pack = _pack(connection, step)
    _takes_packs(connection, pack["patient_id"])
    if _state(pack) is not PackState.DRAFT:
        raise RecordStateError("pack_sent")
    if not _progress(connection, pack["id"]):
        raise RecordStateError("pack_empty")
    _set(connection, pack["id"], "sent_at = ?", (micros(step.at),))
    _note(connection, step, "pack_sent", pack["id"])


def remind(connection: sqlite3.Connection, step: PackStep) -> None:
    """Note that a patient is reminded of what they have not done."""
    pack = _pack(connection, step)
    if _state(pack) is not PackState.SENT:
        raise RecordStateError("nothing_to_remind")
    last = pack["reminded_at"] or 0
    if micros(step.at) - last < REMIND_EVERY // timedelta(microseconds=1):
        raise RecordStateError("reminded_today")
    _set(connection, pack["id"], "reminded_at = ?", (micros(step.at),))
    _note(connection, step, "pack_reminded", pack["id"])


def close(connection: sqlite3.Connection, step: PackStep) -> None:
    """Take a pack out of its patient's sight."""
    pack = _pack(connection, step)
    _set(connection, pack["id"], "closed_at = ?", (micros(step.at),))
    _note(connection, step, "pack_closed", pack["id"])


def returned(connection: sqlite3.Connection, step: PackStep) -> tuple[str, bytes]:
    """Give the name and octets of a form that was given back."""
    item = _item(connection, step)
    row = connection.execute(
        "SELECT title, media_type FROM deposit WHERE id = ? AND withdrawn_at IS NULL",
        (item["deposit_id"],),
    ).fetchone()
    if row is None:
        raise RecordStateError("not_returned")
    _note(connection, step, "pack_form_read", item["pack_id"])
    name = f"{row[0]}.{life.ENDINGS[row[1]][0]}"
    return name, content_of(connection, "deposit", int(item["deposit_id"]))


def acknowledge_item(connection: sqlite3.Connection, step: PackStep) -> None:
    """Note that an item was read."""
    item = _item(connection, step)
    if item["acknowledged_at"] is None:
        _item_read(connection, step, item["id"])
        _note(connection, step, "pack_item_acknowledged", item["pack_id"])


def give_back(connection: sqlite3.Connection, step: PackStep) -> int:
    """Keep a filled form; give the key of the file."""
    item = _item(connection, step)
    if item["kind"] != PackItemKind.FORM.value:
        raise RecordStateError("no_such_pack")
    values = {**step.values, "title": item["title"], "visibility": "visible"}
    change = Change(step.patient_id, step.actor, step.at, "deposit_added", 0, values, step.content)
    key = add_deposit(connection, change)
    connection.execute("UPDATE pack_item SET deposit_id = ? WHERE id = ?", (key, item["id"]))
    if item["acknowledged_at"] is None:
        _item_read(connection, step, item["id"])
    _note(connection, step, "pack_form_returned", item["pack_id"])
    return key


def acknowledge(connection: sqlite3.Connection, step: PackStep) -> None:
    """Note that a pack is done."""
    pack = _pack(connection, step)
    if _state(pack) is PackState.ACKNOWLEDGED:
        return
    if not may_be_acknowledged(_progress(connection, pack["id"])):
        raise RecordStateError("pack_unfinished")
    _set(
        connection,
        pack["id"],
        "acknowledged_at = ?, acknowledged_by = ?",
        (micros(step.at), step.actor),
    )
    _note(connection, step, "pack_acknowledged", pack["id"])


# --- rows ------------------------------------------------------------------------------------


def _takes_packs(connection: sqlite3.Connection, patient_id: int) -> None:
    """Hold a pack against what its patient said: an opposition to deposits covers packs too."""
    identity_storing.takes_more(connection, patient_id)
    if identity_storing.is_opposed(connection, patient_id):
        raise RecordStateError("opposed")


def _pack(connection: sqlite3.Connection, step: PackStep) -> sqlite3.Row:
    """The pack that the step names, when it is not closed and theirs to change."""
    return _row(
        connection, "SELECT p.* FROM admission_pack p JOIN patient ON patient.id = p.patient_id"
        " WHERE p.id = :key", step,
    )  # fmt: skip


def _item(connection: sqlite3.Connection, step: PackStep) -> sqlite3.Row:
    """The item that the step names, of a pack that is not closed and theirs."""
    return _row(
        connection, "SELECT i.* FROM pack_item i JOIN admission_pack p ON p.id = i.pack_id"
        " JOIN patient ON patient.id = p.patient_id WHERE i.id = :key", step,
    )  # fmt: skip


def _row(connection: sqlite3.Connection, query: str, step: PackStep) -> sqlite3.Row:
    """A row of a structure's own patients, or of what this patient is shown."""
    theirs = (
        " AND p.patient_id = :patient AND p.sent_at IS NOT NULL"
        if step.patient_id
        else " AND patient.structure_id = :structure"
    )
    cursor = connection.execute(
        query + theirs + " AND p.closed_at IS NULL",
        {"key": step.key, "patient": step.patient_id, "structure": step.structure_id},
    )
    cursor.row_factory = sqlite3.Row
    row: sqlite3.Row | None = cursor.fetchone()
    if row is None:
        raise RecordStateError("no_such_pack")
    return row


def _state(pack: sqlite3.Row) -> PackState:
    return state_of(pack["sent_at"], pack["acknowledged_at"], pack["closed_at"])


def _progress(connection: sqlite3.Connection, pack_id: int) -> list[ItemProgress]:
    rows = connection.execute(
        "SELECT i.kind, i.acknowledged_at, d.id FROM pack_item i"
        " LEFT JOIN deposit d ON d.id = i.deposit_id AND d.withdrawn_at IS NULL"
        " WHERE i.pack_id = ?",
        (pack_id,),
    )
    return [ItemProgress(PackItemKind(k), at is not None, key is not None) for k, at, key in rows]


def _item_read(connection: sqlite3.Connection, step: PackStep, item_id: int) -> None:
    connection.execute(
        "UPDATE pack_item SET acknowledged_at = ?, acknowledged_by = ? WHERE id = ?",
        (micros(step.at), step.actor, item_id),
    )


def _set(
    connection: sqlite3.Connection, pack_id: int, columns: str, values: tuple[Any, ...]
) -> None:
    connection.execute(
        f"UPDATE admission_pack SET {columns} WHERE id = ?",  # noqa: S608 - constants
        (*values, pack_id),
    )


def _note(connection: sqlite3.Connection, step: PackStep, kind: str, pack_id: int) -> None:
    patient_id, structure_id = connection.execute(
        "SELECT patient.id, patient.structure_id FROM admission_pack p"
        " JOIN patient ON patient.id = p.patient_id WHERE p.id = ?",
        (pack_id,),
    ).fetchone()
    event = AuditEvent(
        kind, step.at, step.actor, structure_id, f"patient:{patient_id}", {"pack_id": pack_id}
    )
    append(connection, TRAIL, [event])
