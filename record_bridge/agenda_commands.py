"""``agenda_at``: a patient's agenda as they are shown it on a day, prevention included.

| command | arguments | result |
|---|---|---|
| agenda_at | structure, ins, oid, day (AAAA-MM-JJ) | lines by day |

What is shown is what the patient's own pages would show on that day: rights and prevention are
judged then, by what the record holds now.

Source: RULES §7, RULES §8.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

from record_bridge.admission import AGENDA_KIND
from record_bridge.command_desk import CommandDesk
from record_bridge.errors import RecordStateError
from record_bridge.formats.dtm import paris_instant
from record_bridge.life_queries import OwnEntry
from record_bridge.model import AgendaStatus, Viewer, ViewerKind
from record_bridge.pack_queries import Pack
from record_bridge.prevention import PreventionItem
from record_bridge.prevention_record import prevention
from record_bridge.queries import AgendaView, RecordQueries

Arguments = Mapping[str, Any]


class AgendaCommands:
    """The agenda on a day, for the command line."""

    def __init__(self, commands: CommandDesk, path: Path) -> None:
        self._commands = commands
        self._path = path

    def table(self) -> dict[str, Callable[[Arguments], Awaitable[Any]]]:
        """Give every command by name."""
        return {"agenda_at": self.agenda_at}

    async def agenda_at(self, arguments: Arguments) -> list[dict[str, Any]]:
        """List an agenda as of a day; the look is in the trail.

        Raises:
            RecordStateError: there is no such patient, or no such day of their life.
        """
        person = await self._commands.record_of(arguments)
        patient_id = int(person["id"])
        day = _day(str(arguments["day"]))
        noon = paris_instant(datetime.combine(day, time(12))).astimezone(UTC)
        queries = RecordQueries(self._commands.database, self._path, lambda: noon)
        patient = await queries.patient(patient_id)
        if patient is None:
            raise RecordStateError("no_such_patient")
        if day < date.fromisoformat(patient.birth_date):
            raise RecordStateError("no_such_day")
        await self._commands.note("agenda_listed", arguments, f"patient:{patient_id}")
        viewer = Viewer(ViewerKind.PATIENT, str(patient_id))
        lines = [_line(each, day) for each in await queries.agenda(patient_id, viewer)]
        lines += [_own(each, day) for each in await queries.life.own_entries(patient_id)]
        lines += [_pack(each) for each in await queries.packs.waiting(patient_id)]
        lines += [_due(each) for each in await prevention(queries, patient, viewer, day)]
        return sorted(lines, key=lambda line: (line["start"] is None, line["start"] or ""))


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise RecordStateError("no_such_day") from None


def _line(view: AgendaView, day: date) -> dict[str, Any]:
    over = view.status == AgendaStatus.PROPOSED.value and view.day is not None and view.day < day
    return {
        "start": _start(view.day, view.start_at),
        "title": view.title,
        "kind": view.kind,
        "status": "past" if over else view.status,
        "source_unique_id": view.source_unique_id,
    }


def _own(entry: OwnEntry, day: date) -> dict[str, Any]:
    return {
        "start": _start(entry.day, entry.start_at),
        "title": entry.title,
        "kind": "own",
        "status": "past" if (entry.last_day or entry.day) < day else "noted",
        "source_unique_id": "",
    }


def _pack(pack: Pack) -> dict[str, Any]:
    return {
        "start": pack.due.isoformat(),
        "title": pack.title,
        "kind": AGENDA_KIND,
        "status": "noted",
        "source_unique_id": "",
    }


def _due(item: PreventionItem) -> dict[str, Any]:
    return {
        "start": item.due_from.isoformat(),
        "title": item.title,
        "kind": "prevention",
        "status": item.state.value,
        "source_unique_id": "",
        "until": None if item.due_until is None else item.due_until.isoformat(),
        "done_on": None if item.done_on is None else item.done_on.isoformat(),
        "rule": f"{item.rule_id}.{item.ordinal}",
        "source": item.source,
    }


def _start(day: date | None, start_at: datetime | None) -> str | None:
    if start_at is not None:
        return start_at.isoformat()
    return None if day is None else day.isoformat()
