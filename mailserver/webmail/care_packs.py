"""Admission packs for professionals: prepare, send, see what came back, remind, close.

For whoever may open the patient's record, an emergency excepted; every look is in the trail, and
its patient reads it. What is sent does not change; what came back is read here and stays the
patient's file.

Source: RULES §7, RULES §13, MSS-FACTS §7.1.
"""

import base64
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mailserver.webmail.care_notices import tell_of_admission
from mailserver.webmail.care_pages import CareRecord, note_care, wanted_care
from mailserver.webmail.commanding import ask, run
from mailserver.webmail.files import download, uploaded
from mailserver.webmail.life_text import PACK_REFUSALS
from mailserver.webmail.pages import again, refusal_of, render, typed_in
from mailserver.webmail.session import Visitor, field_of, services_of, signed_in
from mailserver.webmail.text_fr import today
from record_bridge.life import ENDINGS, MAX_TITLE
from record_bridge.pack_queries import Pack, PackItem

MAX_KEY: Final = 12
_STEPS: Final = {"envoyer": "pack_send", "rappeler": "pack_remind", "clore": "pack_close"}
_TOLD: Final = frozenset({"pack_send", "pack_remind"})
"""Steps of which the patient is told by a message."""


async def _packs(request: Request, visitor: Visitor) -> Response:
    return await _page(request, visitor, await _wanted(request, visitor))


async def _page(request: Request, visitor: Visitor, found: CareRecord) -> Response:
    await note_care(request, found, ("pack_read", None))
    values = {
        "section": "care",
        "found": found,
        "packs": await _given(request, found),
        "refusal": PACK_REFUSALS.get(refusal_of(request), ""),
        "done": request.query_params.get("fait") == "1",
        "today": today(services_of(request).clock()),
        "max_title": MAX_TITLE,
        "typed": typed_in(request),
    }
    return render("care_admission.html", visitor, values)


async def _create(request: Request, visitor: Visitor) -> Response:
    found = await _wanted(request, visitor)
    typed = {
        "title": await field_of(request, "title", MAX_TITLE),
        "due": await field_of(request, "due", 10),
    }
    answer = await _tried(request, found, "pack_create", {"patient_id": found.patient.id, **typed})
    return await again(request, visitor, answer, typed, partial(_page, found=found))


async def _add(request: Request, visitor: Visitor) -> Response:
    """Put a file into a pack that is in the making; the form says whose, and which pack."""
    number = await field_of(request, "patient", MAX_KEY)
    key = await field_of(request, "pack", MAX_KEY)
    if not (number.isdecimal() and key.isdecimal()):
        raise HTTPException(404)
    found = await _wanted(request, visitor, int(number))
    pack = await _pack(request, found, int(key))
    typed = {
        "kind": await field_of(request, "kind", 20),
        "title": await field_of(request, "title", MAX_TITLE),
    }
    file, refused = await uploaded(request)
    if refused:
        answer = _back(found, f"refus={refused}")
    else:
        answer = await _tried(request, found, "pack_add", {"id": pack.id, **typed, **file})
    typed["pack"] = str(pack.id)
    return await again(request, visitor, answer, typed, partial(_page, found=found))


async def _step(request: Request, visitor: Visitor) -> Response:
    """Send a pack, remind its patient of it, or close it."""
    found = await _wanted(request, visitor)
    pack = await _pack(request, found, int(request.path_params["pack"]))
    command = _STEPS.get(await field_of(request, "action", 20))
    if command is None:
        raise HTTPException(404)
    answer = await _tried(request, found, command, {"id": pack.id})
    if command not in _TOLD or "refus=" in answer.headers["location"]:
        return answer
    told = await tell_of_admission(services_of(request), found.professional, found.patient)
    return answer if told else _back(found, "refus=not_told")


async def _file(request: Request, visitor: Visitor) -> Response:
    """Give what was sent."""
    found, item = await _wanted_item(request, visitor)
    await note_care(request, found, ("pack_read", None))
    content = await services_of(request).queries.packs.content(item.id)
    return download(content, f"{item.title}.{ENDINGS[item.media_type][0]}")


async def _returned(request: Request, visitor: Visitor) -> Response:
    """Give what came back; the command notes it."""
    found, item = await _wanted_item(request, visitor)
    arguments = {"id": item.id, **_who(found)}
    told = await run(services_of(request), "pack_returned", arguments)
    return download(base64.b64decode(told["content"]), told["name"])


async def _wanted(request: Request, visitor: Visitor, patient_id: int | None = None) -> CareRecord:
    """Give a record whose patient the visitor may give packs to.

    Raises:
        HTTPException: 404 for any other; the refusal is in the trail.
    """
    found = await wanted_care(request, visitor, patient_id)
    if not found.prepares:
        await note_care(request, found, ("access_refused", None))
        raise HTTPException(404)
    return found


async def _given(request: Request, found: CareRecord) -> list[Pack]:
    return [*await services_of(request).queries.packs.of_patients([found.patient.id])]


async def _pack(request: Request, found: CareRecord, key: int) -> Pack:
    """Give a pack of this patient.

    Raises:
        HTTPException: 404 when it is none of theirs.
    """
    for pack in await _given(request, found):
        if pack.id == key:
            return pack
    raise HTTPException(404)


async def _wanted_item(request: Request, visitor: Visitor) -> tuple[CareRecord, PackItem]:
    found = await _wanted(request, visitor)
    key = int(request.path_params["item"])
    for pack in await _given(request, found):
        for item in pack.items:
            if item.id == key:
                return found, item
    raise HTTPException(404)


async def _tried(
    request: Request, found: CareRecord, command: str, arguments: Mapping[str, Any]
) -> RedirectResponse:
    """Have the record changed, and go back to the page, with what was refused if it was.

    Raises:
        HTTPException: 404 for what is not there, 503 when the record's writer does not answer.
    """
    _, refused = await ask(services_of(request), command, {**arguments, **_who(found)})
    if refused and refused not in PACK_REFUSALS:
        raise HTTPException(404)
    return _back(found, f"refus={refused}" if refused else "fait=1")


def _who(found: CareRecord) -> dict[str, str]:
    return {"structure": found.patient.structure_id, "actor": found.professional.actor}


def _back(found: CareRecord, query: str) -> RedirectResponse:
    address = f"/patients/{found.patient.id}/admission?{query}"
    return RedirectResponse(address, status_code=303)


packs = signed_in(_packs)
create = signed_in(_create)
add = signed_in(_add, files=1)
step = signed_in(_step)
file = signed_in(_file)
returned = signed_in(_returned)
