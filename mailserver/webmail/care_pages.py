"""Patients' records for professionals: finding one, opening it, its documents, its releases.

A record is found by the qualified INS that the professional has before them, in the structure of
their mailbox; there is no list of patients but of those whose care team they are in. Every
opening, and every refusal, is in the trail before anything is shown: its patient reads it within
a minute. What a professional declares (care team, consent, emergency) is kept with their name.

Source: RULES §7, RULES §13, MSS-FACTS §6.2, MSS-FACTS §6.4.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mailserver.errors import MailServerError
from mailserver.webmail.care_notices import tell_of_emergency
from mailserver.webmail.commanding import ask
from mailserver.webmail.files import download
from mailserver.webmail.pages import render, typed_in
from mailserver.webmail.professionals import Professional, wanted_professionals
from mailserver.webmail.record_pages import (
    file_title,
    neighbours,
    page_number,
    readable_document,
)
from mailserver.webmail.rights_text import REFUSALS
from mailserver.webmail.search import searched
from mailserver.webmail.session import Visitor, field_of, services_of, signed_in
from mailserver.webmail.text_fr import today
from record_bridge.admission import may_prepare
from record_bridge.errors import RecordBridgeError
from record_bridge.life import MEASURES, DirectiveKind, ProfileKind
from record_bridge.model import IdentityStatus
from record_bridge.queries import DocumentDetail, PatientView, Wanted
from record_bridge.rights import (
    EMERGENCIES,
    Decision,
    GrantKind,
    Part,
    emergency_refusal,
    may_open,
    refusal,
)

MAX_INS: Final = 15
MAX_REASON: Final = 500
EMERGENCIES_SHOWN: Final = 20
DECLARED: Final = (GrantKind.CARE_TEAM, GrantKind.CONSENT, *EMERGENCIES)
"""What a professional may declare of themselves."""


@dataclass(frozen=True, slots=True)
class CareRecord:
    """A record as one professional has it before them.

    Attributes:
        is_open: whether there is something of it for them: the record, or a document of theirs.
    """

    professional: Professional
    patient: PatientView
    opening: Decision
    is_open: bool

    @property
    def prepares(self) -> bool:
        """Whether they may give its patient admission packs."""
        return may_prepare(self.opening)


async def _patients(request: Request, visitor: Visitor) -> Response:
    """Show the search, and whose care team the visitor is in."""
    return await _list(request, visitor, {})


async def _list(request: Request, visitor: Visitor, more: Mapping[str, object]) -> Response:
    services = services_of(request)
    followed: dict[int, PatientView] = {}
    prepared: dict[int, CareRecord] = {}
    emergencies = []
    for professional in await wanted_professionals(request, visitor):
        for right in await services.queries.rights.held_by(professional.viewer):
            key = right.patient_id
            opening = await services.queries.rights.may_open(key, professional.viewer)
            known = followed.get(key) or await services.queries.patient(key)
            if known is None or opening is None or not opening.is_shown:
                continue
            followed[key] = known
            if may_prepare(opening):
                prepared[key] = CareRecord(professional, known, opening, is_open=True)
            if right.kind is GrantKind.ATTENDING:
                rights = await services.queries.rights.of(key)
                emergencies += [(known, each) for each in rights if each.kind in EMERGENCIES]
    packs = await services.queries.packs.of_patients(prepared)
    for key in sorted({pack.patient_id for pack in packs}):
        await note_care(request, prepared[key], ("pack_read", None))
    emergencies.sort(key=lambda told: told[1].since, reverse=True)
    values = {
        "section": "care",
        "patients": sorted(followed.values(), key=lambda each: (each.family, each.given)),
        "emergencies": emergencies[:EMERGENCIES_SHOWN],
        "packs": [(pack, followed[pack.patient_id]) for pack in packs],
        "today": today(services.clock()),
        "refusal": REFUSALS.get(request.query_params.get("refus", ""), ""),
        "ins": "",
        **more,
    }
    return render("patients.html", visitor, values)


async def _find(request: Request, visitor: Visitor) -> Response:
    """Find a record by its INS: open it, or say what would open it."""
    ins = "".join((await field_of(request, "ins", 40)).split()).upper()[:MAX_INS]
    found = await _found(request, visitor, ins)
    if found is None:
        values = {"refusal": REFUSALS["no_such_patient"], "ins": ins}
        return await _list(request, visitor, values)
    if found.is_open:
        return RedirectResponse(f"/patients/{found.patient.id}", status_code=303)
    await note_care(request, found, ("access_refused", None))
    return await _closed_page(request, visitor, found, "")


async def _closed_page(
    request: Request, visitor: Visitor, found: CareRecord, refused: str
) -> Response:
    facts = await services_of(request).queries.rights.facts(found.patient.id)
    viewer = found.professional.viewer
    allowed = []
    if facts is not None and refusal(facts, viewer) is None:
        allowed = [GrantKind.CARE_TEAM, GrantKind.CONSENT]
        allowed += [k for k in EMERGENCIES if emergency_refusal(facts, viewer, k) is None]
    values = {
        "section": "care",
        "ins": found.patient.matricule,
        "rule": found.opening.rule.value,
        "allowed": [kind.value for kind in allowed],
        "refusal": REFUSALS.get(refused, ""),
        "typed": typed_in(request),
    }
    return render("patient_closed.html", visitor, values, status=422 if refused else 200)


async def _declare(request: Request, visitor: Visitor) -> Response:
    """Open a record by what the professional declares: care team, consent, emergency."""
    ins = "".join((await field_of(request, "ins", 40)).split()).upper()[:MAX_INS]
    found = await _found(request, visitor, ins)
    kind = next((k for k in DECLARED if k.value == request.query_params.get("acces")), None)
    if found is None or kind is None:
        raise HTTPException(404)
    reason = await field_of(request, "reason", MAX_REASON)
    refused = "" if await field_of(request, "statement", 3) == "oui" else "no_statement"
    if not refused:
        refused = await _give(request, found, kind, reason)
    if refused:
        await note_care(request, found, ("access_refused", None))
        request.state.typed = {kind.value: reason}
        return await _closed_page(request, visitor, found, refused)
    return RedirectResponse(f"/patients/{found.patient.id}", status_code=303)


async def _give(request: Request, found: CareRecord, kind: GrantKind, reason: str) -> str:
    """Keep what was declared; give why it is refused, "" when it is not."""
    services = services_of(request)
    facts = await services.queries.rights.facts(found.patient.id)
    if facts is None or refusal(facts, found.professional.viewer) is not None:
        return "emergency_refused" if kind in EMERGENCIES else "no_such_kind"
    command = "emergency_open" if kind in EMERGENCIES else "right_give"
    arguments = {
        "patient_id": found.patient.id,
        "structure": found.professional.mailbox.structure_id,
        "kind": kind.value,
        "holder": found.professional.viewer.ref,
        "reason": reason,
        "actor": found.professional.actor,
    }
    given, refused = await ask(services, command, arguments)
    if refused:
        return refused if refused in REFUSALS else "no_such_kind"
    if kind in EMERGENCIES:
        await tell_of_emergency(services, found.professional, found.patient, int(given["id"]))
    return ""


# --- one record ------------------------------------------------------------------------------


async def _found(request: Request, visitor: Visitor, ins: str) -> CareRecord | None:
    """Give the record of a qualified identity of one of the visitor's structures."""
    services = services_of(request)
    for professional in await wanted_professionals(request, visitor):
        structure_id = professional.mailbox.structure_id
        for patient in await services.queries.patients_by_matricule(structure_id, ins):
            if patient.status == IdentityStatus.QUALIFIEE.value:
                return await _record(request, professional, patient.id)
    return None


async def _record(
    request: Request, professional: Professional, patient_id: int
) -> CareRecord | None:
    queries = services_of(request).queries
    facts = await queries.rights.facts(patient_id)
    patient = await queries.patient(patient_id)
    if facts is None or patient is None:
        return None
    viewer = professional.viewer
    opening = may_open(facts, viewer, Part.DOCUMENTS)
    is_open = opening.is_shown or await queries.sees_any(patient_id, viewer)
    return CareRecord(professional, patient, opening, is_open)


async def wanted_care(
    request: Request, visitor: Visitor, patient_id: int | None = None
) -> CareRecord:
    """Give the record of the page's address, or the one that a form names.

    Raises:
        HTTPException: 404 when there is none for the visitor; the refusal is in the trail.
    """
    if patient_id is None:
        patient_id = int(request.path_params["patient"])
    refused = None
    for professional in await wanted_professionals(request, visitor):
        found = await _record(request, professional, patient_id)
        if found is not None and found.is_open:
            return found
        if found is not None and found.patient.structure_id == professional.mailbox.structure_id:
            refused = found
    if refused is not None:
        await note_care(request, refused, ("access_refused", None))
    raise HTTPException(404)


def care_lists(found: CareRecord) -> Mapping[str, object]:
    """Give what a professional's pages of what documents list have in common."""
    base = f"/patients/{found.patient.id}"
    return {
        "section": "care",
        "back": (base, "dossier du patient"),
        "base": base,
        "whose": f"{found.patient.family} {found.patient.given}",
    }


async def note_care(
    request: Request,
    found: CareRecord,
    what: tuple[str, int | None],
    documents: Collection[str] = (),
) -> None:
    """Have an opening or a refusal written to the trail.

    Args:
        request: for the services.
        found: whose record, and who opens it.
        what: the event, and the document when it is about one.
        documents: unique ids of those that it shows together.

    Raises:
        HTTPException: 503 when it cannot be written.
    """
    kind, document_id = what
    arguments: dict[str, Any] = {
        "patient_id": found.patient.id,
        "structure": found.patient.structure_id,
        "kind": kind,
        "actor": found.professional.actor,
    }
    if document_id is not None:
        arguments["document_id"] = document_id
    if documents:
        arguments["documents"] = sorted(documents)
    try:
        await services_of(request).record("note_access", arguments)
    except (OSError, MailServerError, RecordBridgeError) as error:
        raise HTTPException(503) from error


async def _patient(request: Request, visitor: Visitor) -> Response:
    found = await wanted_care(request, visitor)
    await note_care(request, found, ("record_read", None))
    services = services_of(request)
    wanted = Wanted(page_number(request))
    page = await services.queries.page(found.patient.id, found.professional.viewer, wanted)
    values: dict[str, object] = {
        "section": "care",
        "found": found,
        "page": page,
        "pages": neighbours(page, wanted),
        "rule": found.opening.rule.value,
        "shared": await _emergency_view(request, found),
        "measures": MEASURES,
        "structure": services.directory.structure(found.patient.structure_id),
    }
    return render("patient.html", visitor, values)


async def _search(request: Request, visitor: Visitor) -> Response:
    """Look for words in what the visitor may read of a record."""
    found = await wanted_care(request, visitor)
    await note_care(request, found, ("record_read", None))
    search = await searched(request, (found.patient.id, found.professional.viewer))
    return render("patient_search.html", visitor, {"section": "care", "found": found, **search})


async def _emergency_view(request: Request, found: CareRecord) -> Mapping[str, object]:
    """What the patient wrote, as far as this professional may read such documents."""
    queries = services_of(request).queries
    patient_id, viewer = found.patient.id, found.professional.viewer
    shared: dict[str, object] = {"directives": [], "persons": [], "groups": []}
    if await queries.may_see_type(patient_id, viewer, "EXPPAT_3"):
        written = await queries.life.directives(patient_id)
        current = [each for each in written if each.withdrawn_at is None]
        for name, kind in (
            ("directives", DirectiveKind.ADVANCE_DIRECTIVES),
            ("persons", DirectiveKind.TRUSTED_PERSON),
        ):
            shared[name] = [each for each in current if each.kind == kind.value]
    if await queries.may_see_type(patient_id, viewer, "DOCPAT08"):
        items = await queries.life.profile(patient_id)
        groups = [(kind.value, [i for i in items if i.kind == kind.value]) for kind in ProfileKind]
        shared["groups"] = [(kind, lines) for kind, lines in groups if lines]
    return shared


async def _detail(request: Request, found: CareRecord) -> DocumentDetail:
    """Give the document of the page's address.

    Raises:
        HTTPException: 404 when there is none for the visitor; the refusal is in the trail.
    """
    key = int(request.path_params["document"])
    detail = await services_of(request).queries.document(
        found.patient.id, found.professional.viewer, key
    )
    if detail is None:
        await note_care(request, found, ("access_refused", key))
        raise HTTPException(404)
    return detail


async def _document(request: Request, visitor: Visitor) -> Response:
    found = await wanted_care(request, visitor)
    detail = await _detail(request, found)
    await note_care(request, found, ("document_read", detail.document.id))
    readable = await readable_document(services_of(request), detail)
    values = {
        "section": "care",
        "found": found,
        "document": detail.document,
        "versions": [v for v in detail.versions if v.id != detail.document.id],
        "readable": readable,
        # Written by webmail.narrative alone: our tags around escaped text.
        "narrative": Markup(readable.html if readable is not None else ""),  # noqa: S704
        "done": request.query_params.get("fait") == "1",
    }
    return render("patient_document.html", visitor, values)


async def _file(request: Request, visitor: Visitor) -> Response:
    found = await wanted_care(request, visitor)
    detail = await _detail(request, found)
    readable = await readable_document(services_of(request), detail)
    number = int(request.path_params["number"])
    if readable is None or not 0 <= number < len(readable.files):
        raise HTTPException(404)
    await note_care(request, found, ("document_read", detail.document.id))
    file = readable.files[number]
    return download(file.content, f"{file_title(detail.document)}.{file.extension}")


async def _release(request: Request, visitor: Visitor) -> Response:
    """Let the patient see a document that awaits release (RULES §7)."""
    found = await wanted_care(request, visitor)
    detail = await _detail(request, found)
    arguments = {
        "structure": found.patient.structure_id,
        "unique_id": detail.document.unique_id,
        "actor": found.professional.actor,
    }
    # What is refused is visible already.
    await ask(services_of(request), "record_release", arguments)
    address = f"/patients/{found.patient.id}/document/{detail.document.number}?fait=1"
    return RedirectResponse(address, status_code=303)


patients = signed_in(_patients)
find = signed_in(_find)
declare = signed_in(_declare)
patient = signed_in(_patient)
search = signed_in(_search)
document = signed_in(_document)
document_file = signed_in(_file)
release = signed_in(_release)
