"""Admission packs by command: made, filled, sent and closed by a structure, done by its patient.

| command | arguments (with actor) | result |
|---|---|---|
| pack_create | a patient, title, due (AAAA-MM-JJ) | ``id`` |
| pack_add | structure, id, kind, title, name, content (base64) | ``id`` of the item |
| pack_send | structure, id | ``sent`` |
| pack_list | structure, or a patient | packs that are not closed |
| pack_returned | structure, id (of an item) | ``name``, ``content`` (base64) |
| pack_remind | structure, id | ``reminded`` |
| pack_close | structure, id | ``closed`` |
| pack_item_acknowledge | patient_id, id | ``acknowledged`` |
| pack_form_return | patient_id, id, name, content (base64) | ``id`` of the deposit |
| pack_acknowledge | patient_id, id | ``acknowledged`` |

The last three are the patient's, or of who represents them. Nothing is changed in a pack once it
is sent: it is closed, and another one is made.

Source: RULES §7, RULES §13, MSS-FACTS §7.1.
"""

import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from record_bridge import life, pack_storing
from record_bridge.admission import PackItemKind, due_day
from record_bridge.command_desk import CommandDesk
from record_bridge.errors import RecordStateError
from record_bridge.formats.dtm import paris_day
from record_bridge.life_commands import given_file
from record_bridge.pack_queries import Pack, PackQueries
from record_bridge.pack_storing import PackStep

Arguments = Mapping[str, Any]
PDF: Final = "application/pdf"


class PackCommands:
    """Admission packs, by command."""

    def __init__(self, commands: CommandDesk) -> None:
        self._commands = commands

    def table(self) -> dict[str, Callable[[Arguments], Awaitable[Any]]]:
        """Give every command by name."""
        return {
            "pack_create": self.pack_create,
            "pack_add": self.pack_add,
            "pack_send": self.pack_send,
            "pack_list": self.pack_list,
            "pack_returned": self.pack_returned,
            "pack_remind": self.pack_remind,
            "pack_close": self.pack_close,
            "pack_item_acknowledge": self.pack_item_acknowledge,
            "pack_form_return": self.pack_form_return,
            "pack_acknowledge": self.pack_acknowledge,
        }

    # --- the structure's -----------------------------------------------------------------------

    async def pack_create(self, arguments: Arguments) -> dict[str, Any]:
        """Begin a pack; its patient does not see it before it is sent.

        Raises:
            RecordStateError: no title, a day that cannot be, or too many; a closed record, or
                a patient who opposes what others put into it.
        """
        person = await self._commands.record_of(arguments)
        title = life.line(arguments.get("title"), life.MAX_TITLE)
        if not title:
            raise RecordStateError("no_title")
        due = due_day(arguments["due"], paris_day(self._commands.now()))
        values = {"title": title, "due": due.isoformat()}
        patient_id = int(person["id"])
        step = self._step(arguments, 0, patient_id=patient_id, values=values)
        return {"id": await self._commands.write(pack_storing.create, step)}

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
        return {"id": await self._commands.write(pack_storing.add, step)}

    async def pack_send(self, arguments: Arguments) -> dict[str, Any]:
        """Show a pack to its patient.

        Raises:
            RecordStateError: there is no such pack, nothing is in it, or it was sent; the record
                was closed, or its patient opposes what others put into it.
        """
        await self._commands.write(pack_storing.send, self._of_structure(arguments))
        return {"sent": True}

    async def pack_list(self, arguments: Arguments) -> list[dict[str, Any]]:
        """List the packs that are not closed, and what was done with each; it is in the trail."""
        patient_id, subject = None, "pack"
        structure_id = None
        if arguments.get("ins") or arguments.get("patient_id") is not None:
            person = await self._commands.record_of(arguments)
            patient_id = int(person["id"])
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
        step = self._of_structure(arguments)
        name, content = await self._commands.write(pack_storing.returned, step)
        return {"name": name, "content": base64.b64encode(content).decode("ascii")}

    async def pack_remind(self, arguments: Arguments) -> dict[str, Any]:
        """Note that a patient is reminded of a pack: once a day at most.

        Raises:
            RecordStateError: there is no such pack, nothing of it waits for its patient, or they
                were reminded within a day.
        """
        await self._commands.write(pack_storing.remind, self._of_structure(arguments))
        return {"reminded": True}

    async def pack_close(self, arguments: Arguments) -> dict[str, Any]:
        """Take a pack out of its patient's sight; what was given back stays among their files.

        Raises:
            RecordStateError: there is no such pack.
        """
        await self._commands.write(pack_storing.close, self._of_structure(arguments))
        return {"closed": True}

    # --- the patient's -------------------------------------------------------------------------

    async def pack_item_acknowledge(self, arguments: Arguments) -> dict[str, Any]:
        """Note that an item was read; saying it twice changes nothing.

        Raises:
            RecordStateError: the patient is shown no such item.
        """
        await self._commands.write(pack_storing.acknowledge_item, self._of_patient(arguments))
        return {"acknowledged": True}

    async def pack_form_return(self, arguments: Arguments) -> dict[str, Any]:
        """Keep a filled form among the patient's files, tied to the pack; it was read, too.

        Raises:
            RecordStateError: there is no such form, or the file is not one that may be kept.
        """
        values, content = given_file({**arguments, "title": ""})
        step = self._of_patient(arguments, values=values, content=content)
        return {"id": await self._commands.write(pack_storing.give_back, step)}

    async def pack_acknowledge(self, arguments: Arguments) -> dict[str, Any]:
        """Say that a pack is done; it leaves the agenda.

        Raises:
            RecordStateError: there is none, or something of it is left to do.
        """
        await self._commands.write(pack_storing.acknowledge, self._of_patient(arguments))
        return {"acknowledged": True}

    def _step(self, arguments: Arguments, key: int, **more: Any) -> PackStep:
        return PackStep(key, str(arguments["actor"]), self._commands.now(), **more)

    def _of_structure(self, arguments: Arguments, **more: Any) -> PackStep:
        structure_id = self._commands.structure_of(arguments).id
        return self._step(arguments, int(arguments["id"]), structure_id=structure_id, **more)

    def _of_patient(self, arguments: Arguments, **more: Any) -> PackStep:
        patient_id = int(arguments["patient_id"])
        return self._step(arguments, int(arguments["id"]), patient_id=patient_id, **more)


def _told(pack: Pack) -> dict[str, Any]:
    return {
        "id": pack.id,
        "patient": pack.matricule,
        "title": pack.title,
        "due": pack.due.isoformat(),
        "state": pack.state.value,
        "reminded": None if pack.reminded_at is None else pack.reminded_at.isoformat(),
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
