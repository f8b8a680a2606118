"""Who may see my record: the patient's page, and its forms.

Professionals who may open it, those who are blocked, the two emergency switches, representatives
and relatives; masking one document. What is decided goes to the record's writer (DESIGN D2).

Source: RULES §7, MSS-FACTS §6.3, MSS-FACTS §6.4, MSS-FACTS §7.3.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mailserver.webmail.commanding import ask
from mailserver.webmail.pages import again, refusal_of, render, typed_in
from mailserver.webmail.professionals import names_of
from mailserver.webmail.record_pages import OwnRecord, note_access, wanted_record
from mailserver.webmail.rights_text import REFUSALS
from mailserver.webmail.session import Visitor, field_of, services_of, signed_in
from mailserver.webmail.text_fr import today
from record_bridge.rights import EMERGENCIES, PROFESSIONAL, GrantKind, Part
from record_bridge.rights_record import RightRow

PAGE: Final = "/dossier/droits"
MAX_FIELD: Final = 100
EMERGENCIES_SHOWN: Final = timedelta(days=90)
SWITCHES: Final = frozenset(scope.value for scope in EMERGENCIES.values())


async def _rights(request: Request, visitor: Visitor) -> Response:
    record = await wanted_record(request, visitor)
    await note_access(request, record, "record", None)
    return await _page(request, visitor, record, {})


async def _page(
    request: Request, visitor: Visitor, record: OwnRecord, more: Mapping[str, object]
) -> Response:
    services = services_of(request)
    now = services.clock()
    rights = await services.queries.rights.of(record.patient.id)
    holding = [right for right in rights if right.grant.holds(now)]
    emergencies = [
        right
        for right in rights
        if right.kind in EMERGENCIES and right.since > now - EMERGENCIES_SHOWN
    ]
    members = await services.directory.mailboxes(record.patient.structure_id)
    names = await names_of(services, [*(r.holder for r in rights), *_rpps_of(members)])
    blocked = [right for right in holding if right.kind is GrantKind.BLOCK]
    values = {
        "section": "record",
        "record": record,
        "professionals": [
            right
            for right in holding
            if right.kind in PROFESSIONAL and right.kind not in {GrantKind.BLOCK, *EMERGENCIES}
        ],
        "blocked": blocked,
        "emergencies": emergencies,
        "representatives": [r for r in holding if r.kind is GrantKind.REPRESENTATIVE],
        "relatives": [r for r in holding if r.kind is GrantKind.DELEGATE],
        "may_be_blocked": {
            rpps: name
            for rpps, name in names.items()
            if rpps in _rpps_of(members) and rpps not in {right.holder for right in blocked}
        },
        "names": names,
        "opposed": await services.queries.life.oppositions(record.patient.id),
        "refusal": REFUSALS.get(refusal_of(request), ""),
        "done": request.query_params.get("fait") == "1",
        "typed": typed_in(request),
        "tomorrow": today(now) + timedelta(days=1),
        "code": "",
        **more,
    }
    return render("rights.html", visitor, values)


def _rpps_of(members: Any) -> frozenset[str]:
    return frozenset(member.rpps for member in members if member.rpps)


async def _asked(
    request: Request, record: OwnRecord, command: str, arguments: Mapping[str, Any]
) -> tuple[Any, str]:
    """Have the record changed; give its result, or why it refuses, "" when it does not.

    Raises:
        HTTPException: 404 for what cannot be meant, 503 when the record cannot be asked.
    """
    whole = {**arguments, "patient_id": record.patient.id, "actor": record.actor}
    done, refused = await ask(services_of(request), command, whole)
    if refused and refused not in REFUSALS:
        raise HTTPException(404)
    return done, refused


async def _tried(
    request: Request, visitor: Visitor, command: str, arguments: Mapping[str, Any]
) -> Response:
    record = await wanted_record(request, visitor)
    _, refused = await _asked(request, record, command, arguments)
    answer = f"refus={refused}" if refused else "fait=1"
    return RedirectResponse(f"{PAGE}?{answer}", status_code=303)


async def _block(request: Request, visitor: Visitor) -> Response:
    arguments = {"kind": GrantKind.BLOCK.value, "holder": await field_of(request, "rpps", 20)}
    return await _tried(request, visitor, "right_give", arguments)


async def _end(request: Request, visitor: Visitor) -> Response:
    """End a right, lift a block; a representative is the structure's to name and to end."""
    record = await wanted_record(request, visitor)
    right = await _right(request, record)
    if right.kind is GrantKind.REPRESENTATIVE:
        raise HTTPException(404)
    return await _tried(request, visitor, "right_end", {"id": right.id})


async def _right(request: Request, record: OwnRecord) -> RightRow:
    key = int(request.path_params["right"])
    rights = await services_of(request).queries.rights.of(record.patient.id)
    found = next((right for right in rights if right.id == key), None)
    if found is None:
        raise HTTPException(404)
    return found


async def _switch(request: Request, visitor: Visitor) -> Response:
    """Allow or refuse one of the two ways of opening the record in an emergency."""
    scope = await field_of(request, "scope", 20)
    if scope not in SWITCHES:
        raise HTTPException(404)
    arguments = {"scope": scope, "opposed": await field_of(request, "opposed", 3) == "oui"}
    return await _tried(request, visitor, "opposition_set", arguments)


async def _relative(request: Request, visitor: Visitor) -> Response:
    """Offer a relative a delegation, and show its code, this once."""
    record = await wanted_record(request, visitor)
    chosen = [part.value for part in Part if await field_of(request, part.value, 3) == "oui"]
    typed = {
        "name": await field_of(request, "name", MAX_FIELD),
        "until": await field_of(request, "until", 10),
    }
    arguments = {**typed, "parts": chosen}
    made, refused = await _asked(request, record, "delegation_offer", arguments)
    if refused:
        answer = RedirectResponse(f"{PAGE}?refus={refused}", status_code=303)
        return await again(request, visitor, answer, typed, _rights)
    code = made["code"]
    grouped = " ".join(code[at : at + 5] for at in range(0, len(code), 5))
    return await _page(request, visitor, record, {"code": grouped})


async def _mask(request: Request, visitor: Visitor) -> Response:
    """Hide one document from professionals; a minor may hide it from representatives too."""
    record = await wanted_record(request, visitor)
    services = services_of(request)
    key = int(request.path_params["document"])
    found = await services.queries.document(record.patient.id, record.viewer, key)
    mask = await field_of(request, "mask", 30)
    if found is None or mask not in record.masks(today(services.clock())):
        raise HTTPException(404)
    command = "record_mask" if await field_of(request, "hide", 3) == "oui" else "record_unmask"
    await _asked(request, record, command, {"document": found.document.unique_id, "mask": mask})
    return RedirectResponse(f"/dossier/document/{key}?fait=1", status_code=303)


rights = signed_in(_rights)
block = signed_in(_block)
end = signed_in(_end)
switch = signed_in(_switch)
relative = signed_in(_relative)
mask = signed_in(_mask)
