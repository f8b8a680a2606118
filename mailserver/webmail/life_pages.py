"""What a patient adds to their record: profile, wishes, files; the emergency view; the history.

Every page is the patient's own and notes that the record was opened (RULES §13). What they write
is sent to the record's writer, which checks it; a refusal is said in plain words on the page.

Source: RULES §7, MSS-FACTS §6.4, MSS-FACTS §7.1.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mailserver.webmail.agenda_entries import AgendaOf, whole_agenda
from mailserver.webmail.commanding import ask
from mailserver.webmail.files import download, uploaded
from mailserver.webmail.life_text import REFUSALS
from mailserver.webmail.pages import again, refusal_of, render, typed_in
from mailserver.webmail.record_pages import OwnRecord, note_access, wanted_record
from mailserver.webmail.search import searched
from mailserver.webmail.services import WebmailServices
from mailserver.webmail.session import Visitor, field_of, services_of, signed_in
from mailserver.webmail.text_fr import today
from record_bridge.life import ENDINGS, MAX_TEXT, MEASURES, DirectiveKind, ProfileKind
from record_bridge.life_queries import Directive, ProfileItem
from record_bridge.model import ViewerKind
from record_bridge.queries import DocumentView
from record_bridge.search_words import asked, matches

MAX_FIELD: Final = 500
MAX_FOUND: Final = 100
MAX_KEY: Final = 12


async def page_values(request: Request, record: OwnRecord) -> dict[str, object]:
    """What every page of what a patient adds has in common."""
    return {
        "section": "record",
        "record": record,
        "refusal": REFUSALS.get(refusal_of(request), ""),
        "done": request.query_params.get("fait") == "1",
        "typed": typed_in(request),
        "today": today(services_of(request).clock()),
    }


async def opened(request: Request, visitor: Visitor) -> OwnRecord:
    """Give the record that the visitor reads, once the opening is in the trail.

    Raises:
        HTTPException: 404 when they have none, 503 when it cannot be noted.
    """
    record = await wanted_record(request, visitor)
    await note_access(request, record, "record", None)
    return record


async def tried(
    request: Request,
    visitor: Visitor,
    page: str,
    command: tuple[str, Mapping[str, Any]],
    done: str = "fait",
) -> Response:
    """Have the record changed, and go back to the page, with what was refused if it was.

    Args:
        request: for the services.
        visitor: who changes it.
        page: where to go back to.
        command: of the record, and its arguments but for the patient and the actor.
        done: what the page's address says when it was changed.

    Raises:
        HTTPException: 404 for what is not theirs, 503 when the record's writer does not answer.
    """
    record = await wanted_record(request, visitor)
    name, arguments = command
    whole = {**arguments, "patient_id": record.patient.id, "actor": record.actor}
    _, refused = await ask(services_of(request), name, whole)
    if refused and refused not in REFUSALS:
        raise HTTPException(404)
    if refused:
        return RedirectResponse(f"{page}?refus={refused}", status_code=303)
    return RedirectResponse(f"{page}?{done}=1", status_code=303)


# --- profile ---------------------------------------------------------------------------------


async def _profile(request: Request, visitor: Visitor) -> Response:
    record = await opened(request, visitor)
    items = await services_of(request).queries.life.profile(record.patient.id)
    values = await page_values(request, record) | {"groups": _groups(items), "measures": MEASURES}
    return render("profile.html", visitor, values)


def _groups(items: Any) -> list[tuple[str, list[ProfileItem]]]:
    return [(kind.value, [i for i in items if i.kind == kind.value]) for kind in ProfileKind]


async def _profile_add(request: Request, visitor: Visitor) -> Response:
    names = ("kind", "text", "measure", "value", "day")
    arguments = {name: await field_of(request, name, MAX_FIELD) for name in names}
    answer = await tried(request, visitor, "/dossier/profil", ("profile_add", arguments))
    return await again(request, visitor, answer, arguments, _profile)


async def _profile_remove(request: Request, visitor: Visitor) -> Response:
    arguments = {"id": int(request.path_params["item"])}
    return await tried(request, visitor, "/dossier/profil", ("profile_remove", arguments))


# --- wishes ----------------------------------------------------------------------------------


async def _wishes(request: Request, visitor: Visitor) -> Response:
    record = await opened(request, visitor)
    services = services_of(request)
    written = await services.queries.life.directives(record.patient.id)
    values = await page_values(request, record) | {
        "directives": _of_kind(written, DirectiveKind.ADVANCE_DIRECTIVES),
        "persons": _of_kind(written, DirectiveKind.TRUSTED_PERSON),
        "oppositions": await services.queries.life.oppositions(record.patient.id),
        "max_text": MAX_TEXT,
    }
    return render("wishes.html", visitor, values)


def _of_kind(written: Any, kind: DirectiveKind) -> list[Directive]:
    return [each for each in written if each.kind == kind.value]


async def _wish(request: Request, visitor: Visitor) -> Response:
    arguments = {
        name: await field_of(request, name, MAX_FIELD)
        for name in ("kind", "day", "person", "contact")
    }
    arguments["text"] = await field_of(request, "text", MAX_TEXT + 1)
    answer = await tried(request, visitor, "/dossier/volontes", ("directive_write", arguments))
    return await again(request, visitor, answer, arguments, _wishes)


async def _wish_withdraw(request: Request, visitor: Visitor) -> Response:
    arguments = {"id": int(request.path_params["directive"])}
    return await tried(request, visitor, "/dossier/volontes", ("directive_withdraw", arguments))


async def _oppose(request: Request, visitor: Visitor) -> Response:
    arguments = {
        "scope": await field_of(request, "scope", 20),
        "opposed": await field_of(request, "opposed", 3) == "oui",
    }
    return await tried(request, visitor, "/dossier/volontes", ("opposition_set", arguments))


async def _emergency(request: Request, visitor: Visitor) -> Response:
    """Show what comes first in an emergency: wishes, then what may harm or must go on."""
    record = await opened(request, visitor)
    life = services_of(request).queries.life
    written = await life.directives(record.patient.id)
    current = [each for each in written if each.withdrawn_at is None]
    values = await page_values(request, record) | {
        "directives": _of_kind(current, DirectiveKind.ADVANCE_DIRECTIVES),
        "persons": _of_kind(current, DirectiveKind.TRUSTED_PERSON),
        "groups": _groups(await life.profile(record.patient.id)),
        "measures": MEASURES,
    }
    return render("emergency.html", visitor, values)


# --- files -----------------------------------------------------------------------------------


async def _deposits(request: Request, visitor: Visitor) -> Response:
    record = await opened(request, visitor)
    found = await services_of(request).queries.life.deposits(record.patient.id)
    values = await page_values(request, record)
    return render("deposits.html", visitor, values | {"deposits": found})


async def _deposit(request: Request, visitor: Visitor) -> Response:
    """Keep a file; one that names a form of an admission pack is that form, given back."""
    form = await field_of(request, "form", MAX_KEY)
    page = "/dossier/admission" if form else "/dossier/fichiers"
    file, refused = await uploaded(request)
    if form and not form.isdecimal():
        raise HTTPException(404)
    typed = {"title": await field_of(request, "title", MAX_FIELD)}
    if refused:
        answer: Response = RedirectResponse(f"{page}?refus={refused}", status_code=303)
    elif form:
        command = ("pack_form_return", {**file, "id": int(form)})
        answer = await tried(request, visitor, page, command)
    else:
        answer = await tried(request, visitor, page, ("deposit_add", file | typed))
    return answer if form else await again(request, visitor, answer, typed, _deposits)


async def _deposit_file(request: Request, visitor: Visitor) -> Response:
    record = await wanted_record(request, visitor)
    life = services_of(request).queries.life
    number = int(request.path_params["deposit"])
    known = await life.deposits(record.patient.id)
    found = next((each for each in known if each.id == number), None)
    if found is None:
        raise HTTPException(404)
    await note_access(request, record, "file", None)
    content = await life.deposit_content(found.id)
    name = f"{found.title}.{ENDINGS[found.media_type][0]}"
    return download(content, name)


async def _deposit_withdraw(request: Request, visitor: Visitor) -> Response:
    arguments = {"id": int(request.path_params["deposit"])}
    return await tried(request, visitor, "/dossier/fichiers", ("deposit_withdraw", arguments))


# --- search and history ----------------------------------------------------------------------


async def _search_page(request: Request, visitor: Visitor) -> Response:
    record = await wanted_record(request, visitor)
    values = await page_values(request, record) | {"asked": "", "documents": [], "others": []}
    return render("search.html", visitor, values)


async def _search(request: Request, visitor: Visitor) -> Response:
    """Look for words in what this patient sees; they travel in the body, never in an address."""
    record = await opened(request, visitor)
    found = await searched(request, (record.patient.id, record.viewer))
    words = asked(str(found["asked"]))
    others = await _elsewhere(services_of(request), record) if words and found["is_first"] else []
    values = await page_values(request, record) | found
    values["others"] = [each for each in others if matches(words, each[1])][:MAX_FOUND]
    return render("search.html", visitor, values)


async def _elsewhere(services: WebmailServices, record: OwnRecord) -> list[tuple[str, str, str]]:
    """What else can be found: where it is, its words, its page."""
    life, patient_id = services.queries.life, record.patient.id
    entries = await whole_agenda(services, AgendaOf(patient_id, record.viewer))
    found = [("Agenda", f"{entry.title} {entry.place}", "/agenda") for entry in entries]
    if record.viewer.kind == ViewerKind.DELEGATE:
        return found
    for item in await life.profile(patient_id):
        label = MEASURES[item.text].label if item.kind == "measurement" else item.text
        found.append(("Profil médical", label, "/dossier/profil"))
    files = await life.deposits(patient_id)
    return found + [("Mes fichiers", file.title, "/dossier/fichiers") for file in files]


async def _history(request: Request, visitor: Visitor) -> Response:
    """Show what happened to the record: what came, and what was changed in it."""
    record = await opened(request, visitor)
    services = services_of(request)
    documents = await services.queries.documents(record.patient.id, record.viewer, superseded=True)
    events = await services.queries.life.history(record.patient.id)
    lines: list[tuple[datetime, str, str, DocumentView | None]] = [
        *((each.received_at, "", each.title, each) for each in documents),
        *((event.at, event.actor, event.kind, None) for event in events),
    ]
    lines.sort(key=lambda line: line[0], reverse=True)
    values = await page_values(request, record) | {"lines": lines[:MAX_FIELD], "own": record.actor}
    return render("history.html", visitor, values)


profile = signed_in(_profile)
profile_add = signed_in(_profile_add)
profile_remove = signed_in(_profile_remove)
wishes = signed_in(_wishes)
wish = signed_in(_wish)
wish_withdraw = signed_in(_wish_withdraw)
oppose = signed_in(_oppose)
emergency = signed_in(_emergency)
deposits = signed_in(_deposits)
deposit = signed_in(_deposit, files=1)
deposit_file = signed_in(_deposit_file)
deposit_withdraw = signed_in(_deposit_withdraw)
search_page = signed_in(_search_page)
search = signed_in(_search)
history = signed_in(_history)
