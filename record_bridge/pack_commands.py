"""Admission packs by command: made, filled, sent and closed by a structure, done by its patient.

| command | arguments (with actor) | result |
|---|---|---|
| pack_create | a patient, title, due (AAAA-MM-JJ) | ``id`` |
| pack_add | structure, id, kind, title, name, content (base64) | ``id`` of the item |
| pack_send | structure, id | ``sent`` |
| pack_list | structure, or a patient | packs that are not closed |
| pack_returned | structure, id (of an item) | ``name``, ``content`` (base64) |
| pack_close | structure, id | ``closed`` |
| pack_item_acknowledge | patient_id, id | ``acknowledged`` |
| pack_form_return | patient_id, id, name, content (base64) | ``id`` of the deposit |
| pack_acknowledge | patient_id, id | ``acknowledged`` |

The last three are the patient's, or of who represents them. Nothing is changed in a pack once it
is sent: it is closed, and another one is made.

Source: RULES §7, RULES §13, MSS-FACTS §7.1.
"""

import base64
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from directory.audit_event import AuditEvent
from directory.trail import append
from record_bridge import life
from record_bridge.admission import (
    MAX_OPEN_PACKS,
    MAX_PACK_ITEMS,
    ItemProgress,
    PackItemKind,
    PackState,
    due_day,
    may_be_acknowledged,
    state_of,
)
from record_bridge.commands import RecordCommands
from record_bridge.errors import RecordStateError
from record_bridge.formats.dtm import paris_day
from record_bridge.life_commands import Change, add_deposit, given_file
from record_bridge.pack_queries import Pack, PackQueries
from record_bridge.repository import content_of, insert, micros, store_chunks
from record_bridge.schema import TRAIL

Arguments = Mapping[str, Any]
PDF: Final = "application/pdf"


@dataclass(frozen=True, slots=True)
class _Step:
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


class PackCommands:
    """Admission packs, by command."""

    def __init__(self, commands: RecordCommands) -> None:
        self._commands = commands

    def table(self) -> dict[str, Callable[[Arguments], Awaitable[Any]]]:
        """Give every command by name."""
        return {
            "pack_create": self.pack_create,
            "pack_add": self.pack_add,
            "pack_send": self.pack_send,
            "pack_list": self.pack_list,
            "pack_returned": self.pack_returned,
            "pack_close": self.pack_close,
            "pack_item_acknowledge": self.pack_item_acknowledge,
            "pack_form_return": self.pack_form_return,
            "pack_acknowledge": self.pack_acknowledge,
        }

    # --- the structure's -----------------------------------------------------------------------

    async def pack_create(self, arguments: Arguments) -> dict[str, Any]:
        """Begin a pack; its patient does not see it before it is sent.

        Raises:
            RecordStateError: no title, a day that cannot be, a closed record, or too many.
        """
        person = await self._commands.find(arguments)
        if person["closed_at"] is not None:
            raise RecordStateError("record_closed")
        title = life.line(arguments.get("title"), life.MAX_TITLE)
        if not title:
            raise RecordStateError("no_title")
        due = due_day(arguments["due"], paris_day(self._commands.now()))
        values = {"title": title, "due": due.isoformat()}
        patient_id = int(person["merged_into"] or person["id"])
        step = self._step(arguments, 0, patient_id=patient_id, values=values)
        return {"id": await self._commands.write(_create, step)}

    async def pack_add(self, arguments: Arguments) -> dict[str, Any]:
        """Put a document or a form into a pack that is in the making; a form is a PDF.

        Raises:
            RecordStateError: there is no such pack, or the file is not one that may be kept.
        """
        try:
            kind = PackItemKind(str(arguments["kind"]))
        except ValueError:
            raise RecordStateError("no_such_kind") from None
        values, content = given_file(arguments)
        if kind is PackItemKind.FORM and values["media_type"] != PDF:
            raise RecordStateError("form_is_pdf")
        values |= {"kind": kind.value}
        step = self._of_structure(arguments, values=values, content=content)
        return {"id": await self._commands.write(_add, step)}

    async def pack_send(self, arguments: Arguments) -> dict[str, Any]:
        """Show a pack to its patient.

        Raises:
            RecordStateError: there is no such pack, nothing is in it, or it was sent.
        """
        await self._commands.write(_send, self._of_structure(arguments))
        return {"sent": True}

    async def pack_list(self, arguments: Arguments) -> list[dict[str, Any]]:
        """List the packs that are not closed, and what was done with each; it is in the trail."""
        patient_id, subject = None, "pack"
        structure_id = None
        if arguments.get("ins") or arguments.get("patient_id") is not None:
            person = await self._commands.find(arguments)
            patient_id = int(person["merged_into"] or person["id"])
            subject, structure_id = f"patient:{patient_id}", person["structure_id"]
        structure_id = structure_id or self._commands.structure_of(arguments).id
        found = await PackQueries(self._commands.database).of_structure(structure_id, patient_id)
        await self._commands.note("pack_listed", arguments, subject)
        return [_told(pack) for pack in found]

    async def pack_returned(self, arguments: Arguments) -> dict[str, Any]:
        """Give a form as it was given back; the look is in the trail.

        Raises:
            RecordStateError: it was not given back.
        """
        name, content = await self._commands.write(_returned, self._of_structure(arguments))
        return {"name": name, "content": base64.b64encode(content).decode("ascii")}

    async def pack_close(self, arguments: Arguments) -> dict[str, Any]:
        """Take a pack out of its patient's sight; what was given back stays among their files.

        Raises:
            RecordStateError: there is no such pack.
        """
        await self._commands.write(_close, self._of_structure(arguments))
        return {"closed": True}

    # --- the patient's -------------------------------------------------------------------------

    async def pack_item_acknowledge(self, arguments: Arguments) -> dict[str, Any]:
        """Note that an item was read; saying it twice changes nothing.

        Raises:
            RecordStateError: the patient is shown no such item.
        """
        await self._commands.write(_acknowledge_item, self._of_patient(arguments))
        return {"acknowledged": True}

    async def pack_form_return(self, arguments: Arguments) -> dict[str, Any]:
        """Keep a filled form among the patient's files, tied to the pack; it was read, too.

        Raises:
            RecordStateError: there is no such form, or the file is not one that may be kept.
        """
        values, content = given_file({**arguments, "title": ""})
        step = self._of_patient(arguments, values=values, content=content)
        return {"id": await self._commands.write(_return, step)}

    async def pack_acknowledge(self, arguments: Arguments) -> dict[str, Any]:
        """Say that a pack is done; it leaves the agenda.

        Raises:
            RecordStateError: there is none, or something of it is left to do.
        """
        await self._commands.write(_acknowledge, self._of_patient(arguments))
        return {"acknowledged": True}

    def _step(self, arguments: Arguments, key: int, **more: Any) -> _Step:
        return _Step(key, str(arguments["actor"]), self._commands.now(), **more)

    def _of_structure(self, arguments: Arguments, **more: Any) -> _Step:
        structure_id = self._commands.structure_of(arguments).id
        return self._step(arguments, int(arguments["id"]), structure_id=structure_id, **more)

    def _of_patient(self, arguments: Arguments, **more: Any) -> _Step:
        patient_id = int(arguments["patient_id"])
        return self._step(arguments, int(arguments["id"]), patient_id=patient_id, **more)


def _told(pack: Pack) -> dict[str, Any]:
    return {
        "id": pack.id,
        "patient": pack.matricule,
        "title": pack.title,
        "due": pack.due.isoformat(),
        "state": pack.state.value,
        "done": f"{pack.done}/{len(pack.items)}",
        "items": [
            {
                "id": item.id,
                "kind": item.kind.value,
                "title": item.title,
                "acknowledged": item.progress.acknowledged,
                "returned": item.progress.returned,
            }
            for item in pack.items
        ],
    }


# --- transactions ----------------------------------------------------------------------------


def _create(connection: sqlite3.Connection, step: _Step) -> int:
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


def _add(connection: sqlite3.Connection, step: _Step) -> int:
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


def _send(connection: sqlite3.Connection, step: _Step) -> None:
    pack = _pack(connection, step)
    if _state(pack) is not PackState.DRAFT:
        raise RecordStateError("pack_sent")
    if not _progress(connection, pack["id"]):
        raise RecordStateError("pack_empty")
    _set(connection, pack["id"], "sent_at = ?", (micros(step.at),))
    _note(connection, step, "pack_sent", pack["id"])


def _close(connection: sqlite3.Connection, step: _Step) -> None:
    pack = _pack(connection, step)
    _set(connection, pack["id"], "closed_at = ?", (micros(step.at),))
    _note(connection, step, "pack_closed", pack["id"])


def _returned(connection: sqlite3.Connection, step: _Step) -> tuple[str, bytes]:
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


def _acknowledge_item(connection: sqlite3.Connection, step: _Step) -> None:
    item = _item(connection, step)
    if item["acknowledged_at"] is None:
        _item_read(connection, step, item["id"])
        _note(connection, step, "pack_item_acknowledged", item["pack_id"])


def _return(connection: sqlite3.Connection, step: _Step) -> int:
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


def _acknowledge(connection: sqlite3.Connection, step: _Step) -> None:
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


def _pack(connection: sqlite3.Connection, step: _Step) -> sqlite3.Row:
    """The pack that the step names, when it is not closed and theirs to change."""
    return _row(
        connection, "SELECT p.* FROM admission_pack p JOIN patient ON patient.id = p.patient_id"
        " WHERE p.id = :key", step,
    )  # fmt: skip


def _item(connection: sqlite3.Connection, step: _Step) -> sqlite3.Row:
    """The item that the step names, of a pack that is not closed and theirs."""
    return _row(
        connection, "SELECT i.* FROM pack_item i JOIN admission_pack p ON p.id = i.pack_id"
        " JOIN patient ON patient.id = p.patient_id WHERE i.id = :key", step,
    )  # fmt: skip


def _row(connection: sqlite3.Connection, query: str, step: _Step) -> sqlite3.Row:
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


def _item_read(connection: sqlite3.Connection, step: _Step, item_id: int) -> None:
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


def _note(connection: sqlite3.Connection, step: _Step, kind: str, pack_id: int) -> None:
    patient_id, structure_id = connection.execute(
        "SELECT patient.id, patient.structure_id FROM admission_pack p"
        " JOIN patient ON patient.id = p.patient_id WHERE p.id = ?",
        (pack_id,),
    ).fetchone()
    event = AuditEvent(
        kind, step.at, step.actor, structure_id, f"patient:{patient_id}", {"pack_id": pack_id}
    )
    append(connection, TRAIL, [event])
