"""The prevention calendar of one record: what it shows, and what a person says is "déjà fait".

Evidence comes only from entries that the viewer may see (RULES §7), so a hidden vaccination
changes no line of theirs.

Source: RULES §7, RULES §8.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from importlib.resources import files
from typing import Any, Final

from directory.audit_event import AuditEvent
from directory.database import Database
from directory.trail import append
from record_bridge import identity_storing
from record_bridge.errors import RecordStateError
from record_bridge.formats.dtm import paris_day
from record_bridge.model import ActKind, Viewer
from record_bridge.prevention import Declared, Dose, Evidence, Person, PreventionItem, plan
from record_bridge.prevention_calendar import Calendar, parse_calendar
from record_bridge.queries import AgendaView, PatientView, RecordQueries
from record_bridge.repository import micros
from record_bridge.schema import TRAIL

Arguments = Mapping[str, Any]
MAX_ORDINAL: Final = 9999


@cache
def national_calendar() -> Calendar:
    """Read the calendar that comes with this program, once."""
    text = files("record_bridge").joinpath("calendars", "prevention_2025.toml").read_text("utf-8")
    return parse_calendar(text)


async def prevention(
    queries: RecordQueries, patient: PatientView, viewer: Viewer, today: date
) -> tuple[PreventionItem, ...]:
    """Every line of the calendar for one patient, as this viewer may know it."""
    entries = await queries.agenda(patient.id, viewer)
    return planned(patient, entries, await queries.declared(patient.id), today)


def planned(
    patient: PatientView, entries: Iterable[AgendaView], said: Iterable[Declared], today: date
) -> tuple[PreventionItem, ...]:
    """The same from what was read: the agenda as a viewer sees it, and what was declared."""
    calendar = national_calendar()
    doses, certificates = [], {}
    for entry in entries:
        if entry.kind == ActKind.VACCINATION.value:
            doses.append(Dose(calendar.antigens.get(entry.atc, frozenset()), entry.day))
        elif entry.kind == ActKind.CERTIFICATE.value and entry.day is not None:
            certificates[entry.code] = entry.day
    evidence = Evidence(doses=tuple(doses), declared=tuple(said), certificates=certificates)
    born = date.fromisoformat(patient.birth_date)
    return plan(calendar, Person(born, patient.sex), evidence, today)


@dataclass(frozen=True, slots=True)
class _Declaration:
    patient_id: int
    rule_id: str
    ordinal: int
    day: date
    actor: str
    at: datetime


class PreventionCommands:
    """What the record's only writer does for the calendar.

    | command | arguments | result |
    |---|---|---|
    | prevention_declare | patient_id, rule_id, ordinal, day, actor | ``declared`` |
    | prevention_undo | patient_id, rule_id, ordinal, actor | ``undone`` |
    """

    def __init__(self, record: Database, clock: Callable[[], datetime]) -> None:
        self._record = record
        self._clock = clock

    def table(self) -> dict[str, Callable[[Arguments], Awaitable[Any]]]:
        """Give every command by name."""
        return {
            "prevention_declare": self.prevention_declare,
            "prevention_undo": self.prevention_undo,
        }

    async def prevention_declare(self, arguments: Arguments) -> dict[str, Any]:
        """Note that a line is "déjà fait"; saying it again corrects the day.

        Raises:
            RecordStateError: no such patient or line, a day before birth or to come, or a closed
                record.
        """
        await self._record.write(_declare, self._declaration(arguments))
        return {"declared": True}

    async def prevention_undo(self, arguments: Arguments) -> dict[str, Any]:
        """Take back what was said of a line.

        Raises:
            RecordStateError: nothing was said of it.
        """
        await self._record.write(_undo, self._declaration(arguments))
        return {"undone": True}

    def _declaration(self, arguments: Arguments) -> _Declaration:
        at = self._clock()
        ordinal = int(arguments["ordinal"])
        rule_id = str(arguments["rule_id"])
        if rule_id not in {rule.id for rule in national_calendar().rules}:
            raise RecordStateError("no_such_entry")
        if not 1 <= ordinal <= MAX_ORDINAL:
            raise RecordStateError("no_such_entry")
        try:
            day = date.fromisoformat(arguments.get("day") or paris_day(at).isoformat())
        except ValueError:
            raise RecordStateError("no_such_day") from None
        if day > paris_day(at):
            raise RecordStateError("no_such_day")
        return _Declaration(
            int(arguments["patient_id"]), rule_id, ordinal, day, str(arguments["actor"]), at
        )


def _declare(connection: sqlite3.Connection, said: _Declaration) -> None:
    row = connection.execute(
        "SELECT structure_id, birth_date FROM patient WHERE id = ?", (said.patient_id,)
    ).fetchone()
    if row is None:
        raise RecordStateError("no_such_entry")
    identity_storing.takes_more(connection, said.patient_id)
    if said.day < date.fromisoformat(row[1]):
        raise RecordStateError("no_such_day")
    connection.execute(
        "INSERT INTO prevention_declared (patient_id, rule_id, ordinal, day, declared_by,"
        " declared_at) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (patient_id, rule_id, ordinal)"
        " DO UPDATE SET day = excluded.day, declared_by = excluded.declared_by,"
        " declared_at = excluded.declared_at",
        (
            said.patient_id,
            said.rule_id,
            said.ordinal,
            said.day.isoformat(),
            said.actor,
            micros(said.at),
        ),
    )
    _note(connection, "prevention_declared", said, row[0])


def _undo(connection: sqlite3.Connection, said: _Declaration) -> None:
    row = connection.execute(
        "DELETE FROM prevention_declared WHERE patient_id = ? AND rule_id = ? AND ordinal = ?"
        " RETURNING (SELECT structure_id FROM patient WHERE id = patient_id)",
        (said.patient_id, said.rule_id, said.ordinal),
    ).fetchone()
    if row is None:
        raise RecordStateError("no_such_entry")
    _note(connection, "prevention_undone", said, row[0])


def _note(
    connection: sqlite3.Connection, kind: str, said: _Declaration, structure_id: str
) -> None:
    subject = f"patient:{said.patient_id}"
    append(connection, TRAIL, [AuditEvent(kind, said.at, said.actor, structure_id, subject)])
