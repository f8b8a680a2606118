"""``record_medications``: the medicines that a patient's documents name, for the command line.

| command | arguments (a patient by ``patient_id`` or ``ins``) | result |
|---|---|---|
| record_medications | as (the patient when absent) | one row a line, newest document first |

Source: RULES §7, RULES §8, RULES §13.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from record_bridge.command_desk import CommandDesk
from record_bridge.medication_queries import MedicationQueries, Named
from record_bridge.model import Medication, Viewer, ViewerKind

Arguments = Mapping[str, Any]
WhoIs = Callable[[str, Mapping[str, Any]], Awaitable[Viewer]]
"""Reads whom ``as`` names, for a patient's row."""


class MedicationCommands:
    """The medicines of documents, by command."""

    def __init__(self, commands: CommandDesk, who_is: WhoIs) -> None:
        self._commands = commands
        self._who_is = who_is
        self._queries = MedicationQueries(commands.database, commands.now)

    def table(self) -> dict[str, Callable[[Arguments], Awaitable[Any]]]:
        """Give every command by name."""
        return {"record_medications": self.record_medications}

    async def record_medications(self, arguments: Arguments) -> list[dict[str, Any]]:
        """List the medicines that somebody sees named; the look is in the trail.

        Raises:
            RecordStateError: there is no such patient or person.
        """
        person = await self._commands.record_of(arguments)
        viewer = await self._who_is(str(arguments.get("as") or ViewerKind.PATIENT), person)
        await self._commands.note("medications_read", arguments, f"patient:{person['id']}")
        found = await self._queries.medications(int(person["id"]), viewer)
        said = sorted(each.document for each in found.documents)
        await self._commands.note_shown(arguments, int(person["id"]), said)
        return [_row(each, line) for each in found.documents for line in each.medications]


def _row(named: Named, line: Medication) -> dict[str, Any]:
    """A line; days are as the document writes them."""
    return {
        "kind": line.kind.value,
        "name": line.label,
        "code": line.code,
        "code_system": line.code_system,
        "low": line.low,
        "high": line.high,
        "as_needed": line.as_needed,
        "renewals": line.renewals,
        "document": named.document,
        "written_at": None if named.at is None else named.at.isoformat(),
    }
