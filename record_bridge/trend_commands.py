"""``record_trends``: a patient's laboratory results as somebody sees them, for the command line.

| command | arguments (a patient by ``patient_id`` or ``ins``) | result |
|---|---|---|
| record_trends | as (the patient when absent) | one row a result, by analysis, newest first |

Source: RULES §7, RULES §8, RULES §13.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from record_bridge.command_desk import CommandDesk
from record_bridge.lab_queries import LabQueries
from record_bridge.model import Viewer, ViewerKind
from record_bridge.trends import Measured, Series

Arguments = Mapping[str, Any]
WhoIs = Callable[[str, Mapping[str, Any]], Awaitable[Viewer]]
"""Reads whom ``as`` names, for a patient's row."""


class TrendCommands:
    """Laboratory results over time, by command."""

    def __init__(self, commands: CommandDesk, who_is: WhoIs) -> None:
        self._commands = commands
        self._who_is = who_is
        self._labs = LabQueries(commands.database, commands.now)

    def table(self) -> dict[str, Callable[[Arguments], Awaitable[Any]]]:
        """Give every command by name."""
        return {"record_trends": self.record_trends}

    async def record_trends(self, arguments: Arguments) -> list[dict[str, Any]]:
        """List the laboratory results that somebody sees; the look is in the trail.

        Raises:
            RecordStateError: there is no such patient or person.
        """
        person = await self._commands.record_of(arguments)
        viewer = await self._who_is(str(arguments.get("as") or ViewerKind.PATIENT), person)
        await self._commands.note("results_read", arguments, f"patient:{person['id']}")
        trends = await self._labs.trends(int(person["id"]), viewer)
        said = frozenset[str]().union(*(each.documents for each in trends.series))
        await self._commands.note_shown(arguments, int(person["id"]), sorted(said))
        return [_row(each, result) for each in trends.series for result in each.results]


def _row(series: Series, result: Measured) -> dict[str, Any]:
    """A result; numbers are text, so that every digit is as it was told."""
    value, unit = result.told or (result.value, result.unit)
    return {
        "loinc": series.loinc,
        "name": series.name,
        "day": None if result.day is None else result.day.isoformat(),
        "at": None if result.at is None else result.at.isoformat(),
        "sign": result.sign,
        "value": None if result.value is None else format(result.value, "f"),
        "unit": result.unit,
        "told_value": None if value is None else format(value, "f"),
        "told_unit": unit,
        "document": result.document,
    }
