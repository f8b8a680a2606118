"""The agenda: what comes, what is to be scheduled, what is done; "déjà fait" is one tap.

Entries come from documents the patient may see (RULES §7), and from the national prevention
calendar unless the structure switched it off (RULES §8); a decision goes to the bridge, the only
writer of the record (DESIGN D2).
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mailserver.webmail.agenda_entries import AgendaOf, is_upcoming, whole_agenda
from mailserver.webmail.commanding import run
from mailserver.webmail.life_pages import tried
from mailserver.webmail.life_text import REFUSALS
from mailserver.webmail.pages import refusal_of, render, typed_in
from mailserver.webmail.record_pages import (
    OwnRecord,
    note_access,
    own_record,
    wanted_record,
)
from mailserver.webmail.services import WebmailServices
from mailserver.webmail.session import Visitor, field_of, services_of, signed_in
from mailserver.webmail.text_fr import today
from record_bridge.prevention import PreventionItem, PreventionState
from record_bridge.prevention_record import prevention

HISTORY_SHOWN: Final = 50
PREVENTION_AHEAD: Final = timedelta(days=366)
"""What the calendar proposes later than this is not shown yet."""
MAX_RULE: Final = 40
DECIDABLE: Final = frozenset({"proposed", "to_schedule"})


async def agenda_page(request: Request, visitor: Visitor) -> Response:
    """Show the agenda; the form of an appointment that was refused keeps what was typed."""
    services = services_of(request)
    record = await own_record(request, visitor)
    if record is None:
        return render("no_record.html", visitor, {"section": "agenda"})
    await note_access(request, record, "agenda", None)
    entries = await whole_agenda(services, AgendaOf(record.patient.id, record.viewer))
    shown = [entry for entry in entries if entry.status != "dismissed"]
    upcoming = [entry for entry in shown if is_upcoming(entry, today(services.clock()))]
    to_schedule = [entry for entry in shown if entry.status == "to_schedule"]
    chosen = {entry.number for entry in (*upcoming, *to_schedule)}
    history = [entry for entry in shown if entry.number not in chosen]
    history.sort(key=lambda entry: entry.day or date.min, reverse=True)
    prevention = await _prevention(services, record)
    values = {
        "section": "agenda",
        "prevention": prevention,
        "record": record,
        "upcoming": upcoming,
        "to_schedule": to_schedule,
        "history": history[:HISTORY_SHOWN],
        "decidable": DECIDABLE,
        "done": request.query_params.get("fait") == "1",
        "undone": request.query_params.get("annule") == "1",
        "noted": request.query_params.get("note") == "1",
        "removed": request.query_params.get("supprime") == "1",
        "not_noted": refusal_of(request) == "rendez-vous",
        "refusal": REFUSALS.get(refusal_of(request), ""),
        "today": today(services.clock()),
        "typed": typed_in(request),
        # the reminders are of the visitor's own agenda
        "notifies": services.settings.notifies and visitor.chosen is None,
    }
    return render("agenda.html", visitor, values)


@dataclass(frozen=True, slots=True)
class _Prevention:
    """The part of the calendar that is shown now.

    Attributes:
        wanted: due or not noted at its age; coming: within a year; noted: done, newest first.
        declared: (rule, ordinal) of what a person said, which they may take back.
    """

    wanted: list[PreventionItem]
    coming: list[PreventionItem]
    noted: list[PreventionItem]
    declared: frozenset[tuple[str, int]]


async def _prevention(services: WebmailServices, record: OwnRecord) -> _Prevention | None:
    if record.patient.structure_id in services.settings.prevention_off:
        return None
    now = today(services.clock())
    items = await prevention(services.queries, record.patient, record.viewer, now)
    said = await services.queries.declared(record.patient.id)
    return _Prevention(
        wanted=[i for i in items if i.state in (PreventionState.DUE, PreventionState.MISSED)],
        coming=[
            item
            for item in items
            if item.state is PreventionState.UPCOMING and item.due_from <= now + PREVENTION_AHEAD
        ],
        noted=sorted(
            (item for item in items if item.state is PreventionState.DONE),
            key=lambda item: item.done_on or date.min,
            reverse=True,
        )[:HISTORY_SHOWN],
        declared=frozenset((each.rule_id, each.ordinal) for each in said),
    )


async def _done(request: Request, visitor: Visitor) -> Response:
    services = services_of(request)
    record = await wanted_record(request, visitor)
    entry_id = int(request.path_params["entry"])
    entries = await services.queries.agenda(record.patient.id, record.viewer)
    wanted = (entry for entry in entries if entry_id in (entry.id, entry.number))
    found = next((entry for entry in wanted if entry.status in DECIDABLE), None)
    if found is None:
        raise HTTPException(404)
    arguments = {
        "patient_id": record.patient.id,
        "entry_id": found.id,
        "decision": "confirmed",
        "actor": record.actor,
    }
    await run(services, "agenda_decide", arguments)
    return RedirectResponse("/agenda?fait=1", status_code=303)


async def _declare(request: Request, visitor: Visitor) -> Response:
    """Note a line of the calendar as done, on the day given or today."""
    line = await _line(request, visitor)
    said = line | {"day": await field_of(request, "day", 10)}
    return await tried(request, visitor, "/agenda", ("prevention_declare", said))


async def _take_back(request: Request, visitor: Visitor) -> Response:
    arguments = await _line(request, visitor)
    await run(services_of(request), "prevention_undo", arguments)
    return RedirectResponse("/agenda?annule=1", status_code=303)


async def _line(request: Request, visitor: Visitor) -> dict[str, Any]:
    """Name one line of the visitor's calendar.

    Raises:
        HTTPException: 404 when it is not shown to them.
    """
    services = services_of(request)
    record = await wanted_record(request, visitor)
    if record.patient.structure_id in services.settings.prevention_off:
        raise HTTPException(404)
    return {
        "patient_id": record.patient.id,
        "rule_id": str(request.path_params["rule"])[:MAX_RULE],
        "ordinal": int(request.path_params["ordinal"]),
        "actor": record.actor,
    }


agenda = signed_in(agenda_page)
done = signed_in(_done)
declare = signed_in(_declare)
take_back = signed_in(_take_back)
