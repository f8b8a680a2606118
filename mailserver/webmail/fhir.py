"""``/fhir``: FHIR R4 for reading, with a bearer token; IHE MHD's find and retrieve.

``GET /fhir/<Type>/<id>``, ``GET /fhir/<Type>?...`` and ``POST /fhir/<Type>/_search``. Invariants:
a token comes in the Authorization field only; everything shown comes from ``RecordQueries``,
where one rule decides what the token's holder may see (RULES §7): what they may not see is not
there, same answer as for what never was; every reading is in the trail before it is answered, and
is not answered when it cannot be (RULES §13); errors are OperationOutcomes with fixed texts.

Source: HL7 FHIR R4 (4.0.1), IHE-MHD §3.67 and §3.68, RFC 6750 §2.1, RFC 9110 §13.1.2.
"""

import base64
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mailserver.webmail import fhir_resources as resources
from mailserver.webmail import fhir_search
from mailserver.webmail.commanding import run
from mailserver.webmail.fhir_resources import Resource
from mailserver.webmail.fhir_search import Search, SearchError
from mailserver.webmail.services import WebmailServices
from mailserver.webmail.session import services_of
from record_bridge.api_token import ApiToken, application_actor, token_digest
from record_bridge.model import Viewer, ViewerKind
from record_bridge.queries import DocumentDetail, PatientView, Wanted

TYPES: Final = (
    "DocumentReference",
    "Binary",
    "Patient",
    "Appointment",
    "Immunization",
    "AuditEvent",
)
MEDIA_TYPE: Final = "application/fhir+json"
FORM: Final = "application/x-www-form-urlencoded"
VERSION: Final = "4.0.1"
CDA_TYPE: Final = "text/xml"
MAX_PATH: Final = 200
MAX_PARAMETERS: Final = 50
_TEXTS: Final = {
    400: ("invalid", "the request is not understood"),
    401: ("login", "a bearer token is needed in the Authorization field"),
    403: ("forbidden", "the token is not for this"),
    404: ("not-found", "there is no such resource"),
    405: ("not-supported", "this interface is for reading"),
    406: ("not-supported", "JSON is the only format"),
    408: ("timeout", "the request did not come whole in time"),
    413: ("too-long", "the request is too large"),
    415: ("not-supported", "a search is posted as a form"),
    503: ("transient", "the record cannot be asked now"),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks, and from where."""

    services: WebmailServices
    token: ApiToken
    viewer: Viewer
    base: str

    @property
    def actor(self) -> str:
        """The name in the trail: patients are told who opened their record."""
        if self.token.patient_id is None:
            return f"practitioner:{self.token.rpps}"
        return application_actor(self.token.id)

    @property
    def missing(self) -> str:
        """What is noted when there is no such document for them: a refusal, but to its patient."""
        return "refused" if self.token.patient_id is None else "DocumentReference"


async def serve(request: Request) -> Response:
    """Answer one request."""
    try:
        return await _answer(request)
    except SearchError as error:
        return _json(resources.outcome(error.code, error.text), 400)
    except HTTPException as error:
        status = error.status_code if error.status_code in _TEXTS else 400
        response = _json(resources.outcome(*_TEXTS[status]), status)
        if status == 401:
            response.headers["WWW-Authenticate"] = 'Bearer realm="Pli FHIR"'
        if status == 405:
            response.headers["Allow"] = "GET, HEAD, POST"
        return response


def failure() -> Response:
    """Say that something unforeseen happened, and nothing of it."""
    return _json(resources.outcome("exception", "The server could not answer; see its log."), 500)


async def _answer(request: Request) -> Response:
    steps = request.url.path.removeprefix("/fhir").strip("/").split("/")
    if request.method not in {"GET", "HEAD", "POST"}:
        raise HTTPException(405)
    if len(request.url.path) > MAX_PATH:
        raise HTTPException(404)
    _check_accepted(request)
    services = services_of(request)
    base = base_of(services)
    if steps == ["metadata"]:
        return _json(_capabilities(services, base))
    asked = await _asked(request, services, base)
    kind = steps[0]
    if kind not in TYPES:
        raise HTTPException(404)
    if kind not in asked.token.scopes:
        raise HTTPException(403)
    if request.method == "POST":
        if len(steps) != 2 or steps[1] != "_search" or kind == "Binary":
            raise HTTPException(405)
        return await _search(request, asked, kind)
    if len(steps) == 1 and kind != "Binary":
        return await _search(request, asked, kind)
    if len(steps) == 2:
        return await _read(request, asked, kind, steps[1])
    raise HTTPException(404)


def base_of(services: WebmailServices) -> str:
    """Give the address of this interface."""
    mail = services.settings.mail
    return f"https://{mail.host}" + ("" if mail.https == 443 else f":{mail.https}") + "/fhir"


def _check_accepted(request: Request) -> None:
    """Refuse who wants nothing that this gives."""
    accepted = request.headers.get("accept", "*/*").lower()
    if not any(each in accepted for each in ("json", "*/*", "application/*", CDA_TYPE, "text/*")):
        raise HTTPException(406)


async def _asked(request: Request, services: WebmailServices, base: str) -> Asked:
    """Give who asks.

    Raises:
        HTTPException: 401 without a token that is in force.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise HTTPException(401)
    known = await services.queries.life.api_token(token_digest(token.strip()), services.clock())
    if known is None:
        raise HTTPException(401)
    if known.patient_id is not None:
        viewer = Viewer(ViewerKind.PATIENT, str(known.patient_id))
        return Asked(services, known, viewer, base)
    person = await services.directory.practitioner(known.rpps)
    here = await services.store.accounts.is_professional_of(known.structure_id, known.rpps)
    if person is None or not here:
        raise HTTPException(401)  # whoever left the structure reads nothing of it any more
    viewer = Viewer(
        ViewerKind.PRACTITIONER,
        person.rpps,
        person.profession,
        known.structure_id,
        person.specialty,
    )
    return Asked(services, known, viewer, base)


# --- reading one -----------------------------------------------------------------------------


async def _read(request: Request, asked: Asked, kind: str, resource_id: str) -> Response:
    person = await _person(asked, resources.patient_of(resource_id))
    if person is None:
        raise HTTPException(404)
    if kind == "Binary":
        return await _binary(request, asked, person, resource_id)
    if kind == "DocumentReference":
        detail = await _document(asked, person, resource_id)
        await _note(asked, person, kind if detail is not None else asked.missing)
        if detail is None:
            raise HTTPException(404)
        visible = {each.unique_id for each in detail.versions}
        return _tagged(
            request,
            resources.document_reference(detail.document, person.id, asked.base, visible),
        )
    await _note(asked, person, kind)
    for each in await _LISTS[kind](asked, person):
        if each["id"] == resource_id:
            return _tagged(request, each)
    raise HTTPException(404)


async def _document(asked: Asked, person: PatientView, resource_id: str) -> DocumentDetail | None:
    """Give the document of this id, None when it is not for the viewer."""
    number = resources.document_number(resource_id)
    found = await asked.services.queries.document(person.id, asked.viewer, number)
    if found is None:
        return None
    is_it = resource_id == resources.document_id(person.id, found.document.unique_id)
    return found if is_it else None


async def _binary(
    request: Request, asked: Asked, person: PatientView, resource_id: str
) -> Response:
    """Give a document as it came, or as a Binary to who asks for FHIR. Source: IHE-MHD §3.68."""
    detail = await _document(asked, person, resource_id)
    if detail is None:
        await _note(asked, person, asked.missing)
        raise HTTPException(404)
    view = detail.document
    await _note(asked, person, "Binary", view.id)
    tag = _tag(resources.document_id(person.id, view.unique_id) + str(view.octets))
    headers = {
        "ETag": tag,
        "Content-Disposition": 'attachment; filename="document.xml"',
        "Vary": "Accept, Authorization",
    }
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "json" in request.headers.get("accept", "").lower():
        content = base64.b64encode(detail.content).decode("ascii")
        body = {
            "resourceType": "Binary",
            "id": resource_id,
            "contentType": CDA_TYPE,
            "securityContext": {"reference": f"DocumentReference/{resource_id}"},
            "data": content,
        }
        response = _json(body)
        response.headers.update(headers)
        return response
    return Response(detail.content, media_type=CDA_TYPE, headers=headers)


def _tagged(request: Request, resource: Resource) -> Response:
    tag = _tag(str(resource["meta"]["versionId"]))
    headers = {"ETag": tag, "Vary": "Accept, Authorization"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    response = _json(resource)
    response.headers.update(headers)
    return response


def _tag(text: str) -> str:
    return f'W/"{text}"'


# --- searching -------------------------------------------------------------------------------


async def _search(request: Request, asked: Asked, kind: str) -> Response:
    search = await _parsed(request, asked, kind)
    wanted = search.patient if search.patient is not None else asked.token.patient_id
    person: PatientView | None = None
    if search.identifier is not None:
        oid, matricule = search.identifier
        person = await asked.services.queries.patient_by_identity(
            asked.token.structure_id, matricule, oid
        )
        if search.patient is not None and person is not None and person.id != search.patient:
            person = None
        person = await _person(asked, None if person is None else person.id)
    elif kind == "Patient" and wanted is None:
        person = await _person(asked, _wanted_id(search))
    elif wanted is None:
        raise SearchError("required", "say whose: patient, or patient.identifier by POST _search")
    else:
        person = await _person(asked, wanted)
    page: Sequence[Resource] = ()
    total = 0
    if person is not None:
        await _note(asked, person, kind)
        page, total = await _page(asked, person, search)
    whose = wanted if person is None else person.id
    links = fhir_search.links(search, whose, total, asked.base)
    return _json(resources.bundle(page, total, links, asked.base))


async def _page(
    asked: Asked, person: PatientView, search: Search
) -> tuple[Sequence[Resource], int]:
    """Give a page of what a search means, and how many that is in all."""
    is_wanted = fhir_search.kinds_of(search)
    if is_wanted is None:
        found = fhir_search.select(search, await _LISTS[search.kind](asked, person))
        return fhir_search.page_of(search, found), len(found)
    queries = asked.services.queries
    wanted = Wanted(search.page, search.count, is_wanted=is_wanted)
    page = await queries.page(person.id, asked.viewer, wanted)
    parents = {each.parent_unique_id for each in page.documents} - {""}
    visible = await queries.seen_of(person.id, asked.viewer, parents)
    return [
        resources.document_reference(each, person.id, asked.base, visible)
        for each in page.documents
    ], page.total


def _wanted_id(search: Search) -> int | None:
    """Give the one patient that a search of a software names by ``_id``.

    Raises:
        SearchError: it names none: patients are not listed.
    """
    named = [alternatives for name, alternatives in search.wanted if name == "_id"]
    if len(named) != 1 or len(named[0]) != 1:
        raise SearchError("required", "say whom: _id, or identifier by POST _search")
    return resources.patient_of(named[0][0])


async def _parsed(request: Request, asked: Asked, kind: str) -> Search:
    try:
        items = parse_qsl(
            request.url.query,
            keep_blank_values=True,
            strict_parsing=bool(request.url.query),
            max_num_fields=MAX_PARAMETERS,
        )
        posted = request.method == "POST"
        if posted:
            if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
                raise HTTPException(415)
            if items:
                raise SearchError("invalid", "a posted search has its parameters in the body")
            body = (await request.body()).decode("ascii")
            items = parse_qsl(
                body,
                keep_blank_values=True,
                strict_parsing=bool(body),
                max_num_fields=MAX_PARAMETERS,
            )
    except ValueError as error:
        raise SearchError("invalid", "the parameters are not well formed") from error
    lenient = "handling=lenient" in request.headers.get("prefer", "").replace(" ", "").lower()
    return fhir_search.parse(kind, items, base=asked.base, posted=posted, lenient=lenient)


# --- what a viewer sees ----------------------------------------------------------------------


async def _person(asked: Asked, patient_id: int | None) -> PatientView | None:
    """Give a patient of whose record the viewer may see anything; None for all others alike."""
    if patient_id is None:
        return None
    queries = asked.services.queries
    if asked.token.patient_id is not None:
        if patient_id != asked.token.patient_id:
            return None
        own = await queries.rights.may_open(patient_id, asked.viewer)
        return await queries.patient(patient_id) if own is not None and own.is_shown else None
    person = await queries.patient(patient_id)
    if person is None or person.structure_id != asked.token.structure_id:
        return None
    opening = await queries.rights.may_open(patient_id, asked.viewer)
    if opening is not None and opening.is_shown:
        return person
    # Who wrote or received a document sees it without being of the care team (RULES §7).
    if await queries.sees_any(patient_id, asked.viewer):
        return person
    await _note(asked, person, "refused")
    return None


async def _documents(asked: Asked, person: PatientView) -> list[Resource]:
    views = await asked.services.queries.documents(person.id, asked.viewer, superseded=True)
    visible = {each.unique_id for each in views}
    return [resources.document_reference(each, person.id, asked.base, visible) for each in views]


async def _patients(asked: Asked, person: PatientView) -> list[Resource]:
    del asked
    return [resources.patient(person)]


async def _appointments(asked: Asked, person: PatientView) -> list[Resource]:
    queries = asked.services.queries
    own = [] if asked.token.patient_id is None else await queries.life.own_entries(person.id)
    entries = await queries.agenda(person.id, asked.viewer)
    return resources.appointments(entries, own, person.id)


async def _immunizations(asked: Asked, person: PatientView) -> list[Resource]:
    entries = await asked.services.queries.agenda(person.id, asked.viewer)
    return resources.immunizations(entries, person.id)


async def _audit_events(asked: Asked, person: PatientView) -> list[Resource]:
    """Who opened the record is told to its patient only."""
    if asked.token.patient_id is None:
        raise HTTPException(403)
    return resources.audit_events(await asked.services.queries.accesses(person.id), person.id)


_LISTS: Final[dict[str, Callable[[Asked, PatientView], Awaitable[list[Resource]]]]] = {
    "DocumentReference": _documents,
    "Patient": _patients,
    "Appointment": _appointments,
    "Immunization": _immunizations,
    "AuditEvent": _audit_events,
}
_NOTED: Final = {
    "Binary": "document_read",
    "Appointment": "agenda_read",
    "refused": "access_refused",
}


async def _note(
    asked: Asked, person: PatientView, kind: str, document_id: int | None = None
) -> None:
    """Have the reading written to the trail.

    Raises:
        HTTPException: 503 when it cannot be.
    """
    arguments: dict[str, Any] = {
        "patient_id": person.id,
        "kind": _NOTED.get(kind, "record_read"),
        "actor": asked.actor,
    }
    if document_id is not None:
        arguments["document_id"] = document_id
    await run(asked.services, "note_access", arguments)


# --- saying ----------------------------------------------------------------------------------


def _json(body: Resource, status: int = 200) -> Response:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return Response(text, status_code=status, media_type=f"{MEDIA_TYPE}; charset=utf-8")


def _capabilities(services: WebmailServices, base: str) -> Resource:
    """Say what this interface can do. Source: HL7 FHIR R4, CapabilityStatement."""
    listed = []
    for kind in TYPES:
        entry: Resource = {
            "type": kind,
            "interaction": [{"code": "read"}],
            "versioning": "versioned",
            "readHistory": False,
        }
        if kind != "Binary":
            entry["interaction"].append({"code": "search-type"})
            entry["searchParam"] = [
                {"name": name, "type": of}
                for name, of in sorted(fhir_search.parameters(kind).items())
            ]
        listed.append(entry)
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": services.clock().date().isoformat(),
        "kind": "instance",
        "software": {"name": "Pli"},
        "implementation": {"description": "Pli, a health record for reading", "url": base},
        "fhirVersion": VERSION,
        "format": ["json"],
        "instantiates": [
            "https://profiles.ihe.net/ITI/MHD/CapabilityStatement/IHE.MHD.DocumentResponder"
        ],
        "rest": [
            {
                "mode": "server",
                "security": {
                    "cors": False,
                    "description": "A bearer token in the Authorization field (RFC 6750).",
                },
                "resource": listed,
            }
        ],
    }
