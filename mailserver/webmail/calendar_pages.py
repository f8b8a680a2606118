"""Personal calendars and one's own appointments: the page, its forms, and the feed itself.

The address of a feed is a secret that is shown once, stopped or replaced at will, and written
nowhere: not in a log (there is no access log, and errors tell the first step of a path only), not
in a referrer, kept as a digest alone (RULES §14).

Source: RFC 5545 §3.4, RULES §8, RULES §12, RULES §14.
"""

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mailserver.webmail.agenda_pages import agenda_page
from mailserver.webmail.commanding import run
from mailserver.webmail.life_pages import tried
from mailserver.webmail.pages import again, render
from mailserver.webmail.record_pages import OwnRecord, wanted_record
from mailserver.webmail.services import WebmailServices
from mailserver.webmail.session import Visitor, field_of, services_of, signed_in
from record_bridge.calendar_objects import Detail, etag_of, feed
from record_bridge.calendar_record import document_calendar, key_digest, own_calendar
from record_bridge.formats.dtm import paris_instant
from record_bridge.life_queries import CalendarKey
from record_bridge.model import ViewerKind
from record_bridge.rights import Part

MAX_FIELD: Final = 200
APPOINTMENT: Final = timedelta(minutes=30)
"""How long an appointment lasts when nothing else is said."""
APPOINTMENT_FIELDS: Final = ("title", "day", "time", "place")


async def _calendars(request: Request, visitor: Visitor) -> Response:
    return await _page(request, visitor, await wanted_record(request, visitor), {})


async def _page(
    request: Request, visitor: Visitor, record: OwnRecord, made: Mapping[str, object]
) -> Response:
    services = services_of(request)
    keys = await services.queries.life.calendar_keys(record.patient.id, services.clock())
    values = {
        "section": "agenda",
        "record": record,
        "feed": next((key for key in keys if key.kind == "feed"), None),
        "devices": [key for key in keys if key.kind == "device"],
        "server": _base(services),
        "stopped": request.query_params.get("arrete") == "1",
        "feed_address": "",
        "login": "",
        "secret": "",
        **made,
    }
    return render("calendars.html", visitor, values)


def _base(services: WebmailServices) -> str:
    mail = services.settings.mail
    return f"https://{mail.host}" + ("" if mail.https == 443 else f":{mail.https}")


async def _make(request: Request, visitor: Visitor) -> Response:
    """Make a key and show its secret, this once."""
    record = await wanted_record(request, visitor)
    services = services_of(request)
    kind = await field_of(request, "kind", 10)
    detail = await field_of(request, "detail", 10)
    arguments = {
        "patient_id": record.patient.id,
        "kind": kind,
        "name": await field_of(request, "name", 60),
        "detail": Detail.TITLES if detail == Detail.TITLES else Detail.PLAIN,
        "holder": "" if record.viewer.kind == ViewerKind.PATIENT else record.viewer.ref,
        "actor": record.actor,
    }
    made = await run(services, "calendar_key_make", arguments)
    if kind == "feed":
        address = f"{_base(services)}/calendrier/{made['secret']}.ics"
        return await _page(request, visitor, record, {"feed_address": address})
    return await _page(
        request, visitor, record, {"login": made["login"], "secret": made["secret"]}
    )


async def _stop(request: Request, visitor: Visitor) -> Response:
    record = await wanted_record(request, visitor)
    arguments = {
        "patient_id": record.patient.id,
        "id": int(request.path_params["key"]),
        "actor": record.actor,
    }
    await run(services_of(request), "calendar_key_stop", arguments)
    return RedirectResponse("/agenda/calendriers?arrete=1", status_code=303)


async def feed_file(request: Request) -> Response:
    """Give a feed to whoever has its address; any other address is not found."""
    services = services_of(request)
    secret = str(request.path_params["secret"]).removesuffix(".ics")
    key = await services.queries.life.calendar_key(key_digest(secret), "feed", services.clock())
    if key is None or not await still_opens(services, key):
        raise HTTPException(404)
    documents = await document_calendar(services.queries, key.patient_id, key.viewer)
    own = own_calendar(await services.queries.life.own_entries(key.patient_id))
    shown = [each for each in (*documents, *own) if not each.appointment.cancelled]
    content = feed(shown, key.detail)
    tag = f'"{etag_of(content)}"'
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": tag})
    arguments = {
        "patient_id": key.patient_id,
        "kind": "calendar_read",
        "actor": f"calendar:{key.id}",
    }
    await run(services, "note_access", arguments)
    headers = {
        "ETag": tag,
        "Content-Type": "text/calendar; charset=utf-8",
        "Content-Disposition": 'attachment; filename="agenda.ics"',
    }
    return Response(content, headers=headers)


async def still_opens(services: WebmailServices, key: CalendarKey) -> bool:
    """Say whether whoever made a key may open the agenda now: a parent's child comes of age."""
    decision = await services.queries.rights.may_open(key.patient_id, key.viewer, Part.AGENDA)
    return decision is not None and decision.is_shown


async def _add(request: Request, visitor: Visitor) -> Response:
    """Note an appointment of one's own."""
    typed = {name: await field_of(request, name, MAX_FIELD) for name in APPOINTMENT_FIELDS}
    title = typed["title"].strip()
    refused = RedirectResponse("/agenda?refus=rendez-vous", status_code=303)
    try:
        day = date.fromisoformat(typed["day"])
        clock = time.fromisoformat(typed["time"]) if typed["time"] else None
    except ValueError:
        return await again(request, visitor, refused, typed, agenda_page)
    now = services_of(request).clock().date()
    if not title or abs((day - now).days) > 3660:
        return await again(request, visitor, refused, typed, agenda_page)
    noted = {"title": title, "place": typed["place"], "day": day.isoformat()}
    if clock is not None:
        start_at = paris_instant(datetime.combine(day, clock.replace(tzinfo=None)))
        noted["start_at"] = start_at.isoformat()
        noted["end_at"] = (start_at + APPOINTMENT).isoformat()
    answer = await tried(request, visitor, "/agenda", ("own_entry_add", noted), done="note")
    return await again(request, visitor, answer, typed, agenda_page)


async def _delete(request: Request, visitor: Visitor) -> Response:
    record = await wanted_record(request, visitor)
    services = services_of(request)
    entry_id = int(request.path_params["entry"])
    entries = await services.queries.life.own_entries(record.patient.id)
    found = next((entry for entry in entries if entry.id == entry_id), None)
    if found is None:
        raise HTTPException(404)
    arguments = {"patient_id": record.patient.id, "name": found.name, "actor": record.actor}
    await run(services, "own_entry_delete", arguments)
    return RedirectResponse("/agenda?supprime=1", status_code=303)


calendars = signed_in(_calendars)
make = signed_in(_make)
stop = signed_in(_stop)
add = signed_in(_add)
delete = signed_in(_delete)
