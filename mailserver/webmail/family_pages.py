"""The family: whose records the visitor may open besides their own, and opening one of them.

Opening another's record is a form of its own, written in the trail of that record; a banner says
on every page whose record is read. What the agendas show at a glance is an access like any other.

Source: RULES §7, RULES §13, MSS-FACTS §7.3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mailserver.webmail.agenda_entries import AgendaOf, is_upcoming, whole_agenda
from mailserver.webmail.commanding import ask
from mailserver.webmail.pages import again, refusal_of, render, typed_in
from mailserver.webmail.record_pages import OwnRecord, note_access
from mailserver.webmail.rights_text import REFUSALS
from mailserver.webmail.session import (
    Visitor,
    field_of,
    keep_chosen,
    services_of,
    signed_in,
)
from mailserver.webmail.text_fr import today
from mailserver.webmail.whose import Relative, own_patient, relatives
from record_bridge.queries import AgendaView
from record_bridge.rights import Part

ENTRIES: Final = 3
MAX_CODE: Final = 60


@dataclass(frozen=True, slots=True)
class _Member:
    """One of the family, and what comes next in their agenda."""

    relative: Relative
    entries: Sequence[AgendaView]


async def _family(request: Request, visitor: Visitor) -> Response:
    services = services_of(request)
    if await own_patient(services, visitor.mailboxes) is None:
        raise HTTPException(404)
    members = []
    for each in await relatives(services, visitor.mailboxes):
        entries: Sequence[AgendaView] = ()
        if Part.AGENDA in each.parts:
            await note_access(request, _record_of(each), "agenda", None)
            found = await whole_agenda(services, AgendaOf(each.patient.id, each.viewer))
            now = today(services.clock())
            entries = [entry for entry in found if is_upcoming(entry, now)][:ENTRIES]
        members.append(_Member(each, entries))
    values = {
        "section": "family",
        "members": members,
        "refusal": REFUSALS.get(refusal_of(request), ""),
        "done": request.query_params.get("fait") == "1",
        "typed": typed_in(request),
    }
    return render("family.html", visitor, values)


def _record_of(relative: Relative) -> OwnRecord:
    actor = f"{relative.viewer.kind}:{relative.viewer.ref}"
    return OwnRecord(relative.patient, relative.viewer, actor)


async def _open(request: Request, visitor: Visitor) -> Response:
    """Read another's record from now on."""
    services = services_of(request)
    key = int(request.path_params["patient"])
    known = await relatives(services, visitor.mailboxes)
    found = next((each for each in known if each.patient.id == key), None)
    if found is None:
        raise HTTPException(404)
    await note_access(request, _record_of(found), "record", None)
    response = RedirectResponse("/accueil", status_code=303)
    keep_chosen(response, found.patient.id)
    return response


async def _back(request: Request, visitor: Visitor) -> Response:
    """Read one's own record again."""
    del request, visitor
    response = RedirectResponse("/accueil", status_code=303)
    keep_chosen(response, None)
    return response


async def _code(request: Request, visitor: Visitor) -> Response:
    """Take up what a relative offered, with the code that they gave."""
    services = services_of(request)
    own = await own_patient(services, visitor.mailboxes)
    if own is None:
        raise HTTPException(404)
    typed = {"code": await field_of(request, "code", MAX_CODE)}
    arguments = {
        **typed,
        "holder": own[1].id,
        "actor": f"delegate:{own[1].id}",
    }
    _, refused = await ask(services, "delegation_take", arguments)
    said = "refus=no_such_code" if refused else "fait=1"
    answer = RedirectResponse(f"/famille?{said}", status_code=303)
    return await again(request, visitor, answer, typed, _family)


family = signed_in(_family)
open_record = signed_in(_open)
back = signed_in(_back)
code = signed_in(_code)
