"""What of a record's agenda its patient is reminded of.

Only what they see (RULES §7) and have still to do: proposed lines that have a reminder (none for
the past, none for as-needed items), appointments that they noted or accepted, admission packs
that wait, and lines of the prevention calendar that are not noted as done.

Source: RULES §7, RULES §8, MSS-FACTS §7.2.
"""

from collections.abc import Collection, Sequence
from datetime import date, datetime
from typing import Final

from record_bridge.formats.dtm import paris_day
from record_bridge.model import Viewer, ViewerKind
from record_bridge.prevention import PreventionState
from record_bridge.prevention_record import planned
from record_bridge.queries import AgendaView, PatientView, RecordQueries
from record_bridge.reminders import Line
from record_bridge.repository import number_of

_TO_DO: Final = frozenset({PreventionState.UPCOMING, PreventionState.DUE})


async def remindable(
    queries: RecordQueries, patient: PatientView, at: datetime, prevention_off: Collection[str]
) -> list[Line]:
    """List the lines that a patient may be reminded of; what is over is not left out yet.

    Args:
        queries: the record.
        patient: whose; nothing of a closed record, which nobody keeps any more.
        at: aware UTC now.
        prevention_off: structures that do not show the prevention calendar.
    """
    record = await queries.rights.facts(patient.id)
    if record is None or record.closed:
        return []
    entries = await queries.agenda(patient.id, Viewer(ViewerKind.PATIENT, str(patient.id)))
    lines = [
        Line(entry.number, entry.day, entry.start_at)
        for entry in entries
        if entry.is_reminded and entry.day is not None
    ]
    lines += [
        Line(number_of(f"own {entry.uid}"), entry.day, entry.start_at)
        for entry in await queries.life.own_entries(patient.id)
        if not entry.cancelled
    ]
    lines += [
        Line(number_of(f"admission pack {pack.id}"), pack.due)
        for pack in await queries.packs.waiting(patient.id)
    ]
    if patient.structure_id not in prevention_off:
        lines += await _prevention(queries, patient, entries, paris_day(at))
    return lines


async def _prevention(
    queries: RecordQueries, patient: PatientView, entries: Sequence[AgendaView], today: date
) -> list[Line]:
    """Its first day is reminded, once: what was missed or is past is nobody's reminder."""
    items = planned(patient, entries, await queries.declared(patient.id), today)
    return [
        Line(number_of(f"prevention {item.rule_id} {item.ordinal}"), item.due_from)
        for item in items
        if item.state in _TO_DO
    ]
