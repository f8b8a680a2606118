"""The agenda: what comes, what is to be scheduled, what is done; "déjà fait" is one tap.

Entries come from documents the patient may see (RULES §7); a decision goes to the bridge, the
only writer of the record (DESIGN D2).
"""

from datetime import date
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mailserver.errors import CommandError, MailServerError
from mailserver.webmail.pages import render
from mailserver.webmail.record_pages import (
    is_upcoming,
    note_access,
    own_record,
    wanted_record,
)
from mailserver.webmail.session import Visitor, services_of, signed_in
from mailserver.webmail.text_fr import today
from record_bridge.errors import RecordBridgeError

HISTORY_SHOWN: Final = 50
DECIDABLE: Final = frozenset({"proposed", "to_schedule"})


async def _agenda(request: Request, visitor: Visitor) -> Response:
    services = services_of(request)
    record = await own_record(services, visitor)
    if record is None:
        return render("no_record.html", visitor, {"section": "agenda"})
    await note_access(request, visitor, record, "agenda", None)
    entries = await services.queries.agenda(record.patient.id, record.viewer)
    shown = [entry for entry in entries if entry.status != "dismissed"]
    upcoming = [entry for entry in shown if is_upcoming(entry, today(services.clock()))]
    to_schedule = [entry for entry in shown if entry.status == "to_schedule"]
    chosen = {entry.id for entry in (*upcoming, *to_schedule)}
    history = [entry for entry in shown if entry.id not in chosen]
    history.sort(key=lambda entry: entry.day or date.min, reverse=True)
    values = {
        "section": "agenda",
        "record": record,
        "upcoming": upcoming,
        "to_schedule": to_schedule,
        "history": history[:HISTORY_SHOWN],
        "decidable": DECIDABLE,
        "done": request.query_params.get("fait") == "1",
    }
    return render("agenda.html", visitor, values)


async def _done(request: Request, visitor: Visitor) -> Response:
    services = services_of(request)
    record = await wanted_record(request, visitor)
    entry_id = int(request.path_params["entry"])
    entries = await services.queries.agenda(record.patient.id, record.viewer)
    if not any(entry.id == entry_id and entry.status in DECIDABLE for entry in entries):
        raise HTTPException(404)
    try:
        await services.record(
            "agenda_decide",
            {
                "patient_id": record.patient.id,
                "entry_id": entry_id,
                "decision": "confirmed",
                "actor": visitor.actor,
            },
        )
    except (CommandError, RecordBridgeError) as error:
        raise HTTPException(404) from error
    except (OSError, MailServerError) as error:
        raise HTTPException(503) from error
    return RedirectResponse("/agenda?fait=1", status_code=303)


agenda = signed_in(_agenda)
done = signed_in(_done)
