"""Applications that the patient lets read their record: the page and its forms.

A token is shown once and kept as a digest; stopped, it opens nothing the next instant.

Source: RULES §7, RULES §12, RFC 6750 §5.
"""

from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mailserver.webmail.commanding import run
from mailserver.webmail.fhir import base_of
from mailserver.webmail.pages import again, refusal_of, render, typed_in
from mailserver.webmail.record_pages import OwnRecord, wanted_record
from mailserver.webmail.session import Visitor, field_of, services_of, signed_in
from mailserver.webmail.text_fr import FHIR_SCOPES

REFUSALS: Final = {
    "no_name": "Écrivez le nom de l'application.",
    "no_scope": "Cochez au moins une chose que cette application peut lire.",
}


async def _applications(request: Request, visitor: Visitor) -> Response:
    return await _page(request, visitor, await wanted_record(request, visitor), {})


async def _page(
    request: Request, visitor: Visitor, record: OwnRecord, made: Mapping[str, object]
) -> Response:
    services = services_of(request)
    values = {
        "section": "record",
        "record": record,
        "tokens": await services.queries.life.api_tokens(record.patient.id, services.clock()),
        "scopes": FHIR_SCOPES,
        "server": base_of(services),
        "stopped": request.query_params.get("arrete") == "1",
        "token": "",
        "refusal": REFUSALS.get(refusal_of(request), ""),
        "typed": typed_in(request),
        **made,
    }
    return render("applications.html", visitor, values)


async def _make(request: Request, visitor: Visitor) -> Response:
    """Make a token and show it, this once."""
    record = await wanted_record(request, visitor)
    name = (await field_of(request, "name", 60)).strip()
    wanted = [scope for scope in FHIR_SCOPES if await field_of(request, scope, 3) == "oui"]
    if not name or not wanted:
        refused = "no_scope" if name else "no_name"
        answer = RedirectResponse(f"/dossier/applications?refus={refused}", status_code=303)
        typed = {"name": name} | dict.fromkeys(wanted, "oui")
        return await again(request, visitor, answer, typed, _applications)
    arguments = {
        "patient_id": record.patient.id,
        "name": name,
        "scopes": [*wanted, "Binary"] if "DocumentReference" in wanted else wanted,
        "actor": visitor.actor,
    }
    made = await run(services_of(request), "api_token_make", arguments)
    return await _page(request, visitor, record, {"token": made["token"]})


async def _stop(request: Request, visitor: Visitor) -> Response:
    record = await wanted_record(request, visitor)
    arguments = {
        "patient_id": record.patient.id,
        "id": int(request.path_params["token"]),
        "actor": visitor.actor,
    }
    await run(services_of(request), "api_token_stop", arguments)
    return RedirectResponse("/dossier/applications?arrete=1", status_code=303)


applications = signed_in(_applications)
make = signed_in(_make)
stop = signed_in(_stop)
