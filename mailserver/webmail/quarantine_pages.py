"""Quarantine for professionals: what came to their mailboxes and was not filed; decisions.

A professional sees the items that were addressed to one of their own mailboxes. Each look and each
decision is in the trail under their name; a decision has a reason and can be undone.

Source: RULES §5, RULES §9, RULES §13.
"""

from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mailserver.webmail.commanding import ask, run
from mailserver.webmail.pages import again, refusal_of, render, typed_in
from mailserver.webmail.professionals import Professional, wanted_professionals
from mailserver.webmail.quarantine_text import DECISIONS, REFUSALS, TRAITS
from mailserver.webmail.session import Visitor, field_of, services_of, signed_in

MAX_REASON: Final = 200


async def _list(request: Request, visitor: Visitor) -> Response:
    items = await _addressed(request, visitor, "quarantine_list")
    values = {
        "section": "quarantine",
        "items": sorted(items, key=lambda item: -item["age_hours"]),
        "decided": await _addressed(request, visitor, "quarantine_decided"),
        "decisions": DECISIONS,
    }
    return render("quarantine.html", visitor, values)


async def _addressed(request: Request, visitor: Visitor, command: str) -> list[dict[str, Any]]:
    """Give what a command lists of each structure, as far as it came to a mailbox of theirs."""
    items: dict[int, dict[str, Any]] = {}
    for professional in await wanted_professionals(request, visitor):
        arguments = {"structure": professional.viewer.structure_id, "actor": professional.actor}
        for item in await run(services_of(request), command, arguments):
            if _is_addressed(item, professional):
                items[item["id"]] = item
    return list(items.values())


async def _item(request: Request, visitor: Visitor) -> Response:
    _, item = await _found(request, visitor)
    refusal = REFUSALS.get(refusal_of(request), "")
    values = {"section": "quarantine", "item": item, "refusal": refusal, "traits": TRAITS}
    values["typed"], values["decisions"] = typed_in(request), DECISIONS
    return render("quarantine_item.html", visitor, values)


async def _decide(request: Request, visitor: Visitor) -> Response:
    professional, item = await _found(request, visitor)
    decision = await field_of(request, "decision", 20)
    patient = await field_of(request, "patient", 80)
    ins, _, oid = patient.partition(" ")
    arguments = {
        "id": item["id"],
        "structure": item["structure"],
        "actor": professional.actor,
        "decision": decision,
        "reason": await field_of(request, "reason", MAX_REASON),
        "ins": ins,
        "oid": oid,
    }
    typed = {"reason": arguments["reason"], "patient": patient}
    answer = await _tried(request, item, "quarantine_decide", arguments)
    return await again(request, visitor, answer, typed, _item)


async def _undo(request: Request, visitor: Visitor) -> Response:
    professional, item = await _found(request, visitor)
    arguments = {
        "id": item["id"],
        "structure": item["structure"],
        "actor": professional.actor,
        "reason": await field_of(request, "reason", MAX_REASON),
    }
    answer = await _tried(request, item, "quarantine_undo", arguments)
    return await again(request, visitor, answer, {"reason": arguments["reason"]}, _item)


async def _tried(
    request: Request, item: dict[str, Any], command: str, arguments: dict[str, Any]
) -> Response:
    page = f"/quarantaine/{item['id']}"
    _, refused = await ask(services_of(request), command, arguments)
    return RedirectResponse(f"{page}?refus={refused}" if refused else page, status_code=303)


async def _found(request: Request, visitor: Visitor) -> tuple[Professional, dict[str, Any]]:
    """Give an item that came to a mailbox of the visitor.

    Raises:
        HTTPException: 404 for any other.
    """
    key = int(request.path_params["item"])
    for professional in await wanted_professionals(request, visitor):
        arguments = {
            "structure": professional.viewer.structure_id,
            "actor": professional.actor,
            "id": key,
        }
        if await _is_mine(request, professional, arguments):
            return professional, await run(services_of(request), "quarantine_show", arguments)
    raise HTTPException(404)


async def _is_mine(
    request: Request, professional: Professional, arguments: dict[str, Any]
) -> bool:
    """Say whether an item came to this mailbox; it may be of another structure of theirs."""
    found, refused = await ask(services_of(request), "quarantine_addressed", arguments)
    return not refused and _is_addressed(found, professional)


def _is_addressed(item: dict[str, Any], professional: Professional) -> bool:
    return professional.mailbox.address.lower() in item["addressees"]


items = signed_in(_list)
item = signed_in(_item)
decide = signed_in(_decide)
undo = signed_in(_undo)
