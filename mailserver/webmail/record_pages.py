"""The patient's record: home, categories, one document and its files, who opened it.

Everything shown comes from ``RecordQueries``, where one rule decides what this viewer may see
(RULES §7). Every opening is noted by the bridge *before* anything is shown; when it cannot be
noted, nothing is shown (RULES §13). A document is rendered by our own renderer; its files are
downloads.
"""

import asyncio
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from certs.errors import CertsError
from mailserver.errors import MailServerError
from mailserver.store.audit import Reading
from mailserver.webmail.agenda_entries import AgendaOf, is_upcoming, whole_agenda
from mailserver.webmail.commanding import run
from mailserver.webmail.files import download
from mailserver.webmail.narrative import ReadableDocument, read_document
from mailserver.webmail.pages import render
from mailserver.webmail.professionals import names_of, practitioners_in, professionals_of
from mailserver.webmail.services import WebmailServices
from mailserver.webmail.session import Visitor, services_of, signed_in
from mailserver.webmail.text_fr import today
from mailserver.webmail.unread_pages import unread_reports
from mailserver.webmail.whose import own_patient, refuse_a_relative
from record_bridge.admission import reads_packs
from record_bridge.errors import RecordBridgeError
from record_bridge.life_queries import Notice
from record_bridge.model import Viewer, ViewerKind
from record_bridge.queries import DocumentDetail, DocumentView, PatientView, RecordPage, Wanted
from record_bridge.rights import EMERGENCIES, majority_day
from record_bridge.rights_record import RightRow

HOME_DOCUMENTS: Final = 3
HOME_ENTRIES: Final = 3
EMERGENCIES_TOLD: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class OwnRecord:
    """The record that the visitor reads: their own, or the one that they opened.

    Attributes:
        actor: the visitor's name in the trail of this record.
    """

    patient: PatientView
    viewer: Viewer
    actor: str

    def masks(self, now: date) -> frozenset[str]:
        """The masks that the visitor may set and lift on this civil day.

        A minor may hide a document from representatives; a relative changes nothing.
        """
        born = date.fromisoformat(self.patient.birth_date)
        masks = set()
        if self.viewer.kind != ViewerKind.DELEGATE:
            masks.add("masked_ps")
        if self.viewer.kind == ViewerKind.PATIENT and now < majority_day(born):
            masks.add("invisible_representatives")
        return frozenset(masks)


async def own_record(request: Request, visitor: Visitor) -> OwnRecord | None:
    """Give the record that the visitor reads; a professional's account has none here.

    Raises:
        HTTPException: 404 for a page that is not for a relative, 403 for what they may not change.
    """
    relative = visitor.chosen
    if relative is not None:
        refuse_a_relative(relative, request.method, request.url.path)
        viewer = relative.viewer
        return OwnRecord(relative.patient, viewer, f"{viewer.kind}:{viewer.ref}")
    own = await own_patient(services_of(request), visitor.mailboxes)
    if own is None:
        return None
    viewer = Viewer(ViewerKind.PATIENT, str(own[1].id))
    return OwnRecord(own[1], viewer, visitor.actor)


async def wanted_record(request: Request, visitor: Visitor) -> OwnRecord:
    """Give the record that the visitor reads.

    Raises:
        HTTPException: 404 when they have none; see ``own_record``.
    """
    record = await own_record(request, visitor)
    if record is None:
        raise HTTPException(404)
    return record


OWN_LISTS: Final = {
    "section": "record",
    "back": ("/dossier", "mes documents"),
    "base": "/dossier",
    "whose": "",
}
"""What the patient's pages of what documents list have in common."""


async def note_access(
    request: Request,
    record: OwnRecord,
    page: str,
    document_id: int | None,
    documents: Collection[str] = (),
) -> None:
    """Have the opening written to the trail, before anything is shown.

    Args:
        request: for the services.
        record: whose record, and who opens it.
        page: ``record``, ``agenda``, ``results``, ``medications``, ``document`` or ``file``.
        document_id: the document, when it is about one.
        documents: unique ids of those that it shows together.

    Raises:
        HTTPException: 503 when it cannot be written.
    """
    arguments = {"patient_id": record.patient.id, "page": page, "actor": record.actor}
    if document_id is not None:
        arguments["document_id"] = document_id
    if page in ("agenda", "results", "medications"):
        arguments["kind"] = f"{page}_read"
    if documents:
        arguments["documents"] = sorted(documents)
    try:
        await services_of(request).record("note_access", arguments)
    except (OSError, MailServerError, RecordBridgeError) as error:
        raise HTTPException(503) from error


async def _home(request: Request, visitor: Visitor) -> Response:
    services = services_of(request)
    record = await own_record(request, visitor)
    unread = []
    for mailbox in visitor.mailboxes:
        inbox = await services.store.folders.get(mailbox.id, "INBOX")
        if inbox is not None:
            status = await services.store.folders.status(inbox.id)
            unread.append((mailbox, inbox, status.unseen))
    values: dict[str, object] = {
        "section": "home", "record": record, "unread": unread, "documents": [], "entries": [],
        "emergencies": [], "names": {}, "packs": [],
        "notices": await _notices(request, visitor, record),
        "notifies": services.settings.notifies,
        "waiting": len(await unread_reports(services, visitor)),
        "undecided": await services.queries.waiting(
            each.mailbox.address.lower() for each in await professionals_of(services, visitor)
        ),
    }  # fmt: skip
    if record is not None:
        await note_access(request, record, "record", None)
        newest = Wanted(many=HOME_DOCUMENTS)
        page = await services.queries.page(record.patient.id, record.viewer, newest)
        values["documents"] = page.documents
        if record.viewer.kind != ViewerKind.DELEGATE:  # a reason may say what was not shared
            values["emergencies"] = await _emergencies(services, record)
        if reads_packs(record.viewer):
            values["packs"] = await services.queries.packs.waiting(record.patient.id)
        now = today(services.clock())
        entries = await whole_agenda(services, AgendaOf(record.patient.id, record.viewer))
        values["entries"] = [e for e in entries if is_upcoming(e, now)][:HOME_ENTRIES]
    return render("home.html", visitor, values)


async def _notices(
    request: Request, visitor: Visitor, record: OwnRecord | None
) -> Sequence[Notice]:
    """What the visitor is to know of documents that they had opened, and that have left."""
    names = await _names(request, visitor, record)
    return await services_of(request).queries.life.notices(names)


async def _names(request: Request, visitor: Visitor, record: OwnRecord | None) -> list[str]:
    """Whoever the visitor is in the trail, their applications too."""
    professionals = await professionals_of(services_of(request), visitor)
    own = [visitor.actor] if record is None else [visitor.actor, record.actor]
    if record is not None and record.viewer.kind == ViewerKind.PATIENT:
        own += await services_of(request).queries.life.applications(record.patient.id)
    return list(dict.fromkeys([*own, *(each.actor for each in professionals)]))


async def _notice_seen(request: Request, visitor: Visitor) -> Response:
    services = services_of(request)
    key = int(request.path_params["notice"])
    for name in await _names(request, visitor, await own_record(request, visitor)):
        if any(each.id == key for each in await services.queries.life.notices([name])):
            await run(services, "notice_seen", {"id": key, "actor": name})
            return RedirectResponse("/accueil", status_code=303)
    raise HTTPException(404)


async def _emergencies(services: WebmailServices, record: OwnRecord) -> list[RightRow]:
    """Give who opened the record in an emergency these days: the patient is told first of all."""
    since = services.clock() - EMERGENCIES_TOLD
    rights = await services.queries.rights.of(record.patient.id)
    return [each for each in rights if each.kind in EMERGENCIES and each.since > since]


async def _record(request: Request, visitor: Visitor) -> Response:
    services = services_of(request)
    record = await own_record(request, visitor)
    if record is None:
        return render("no_record.html", visitor, {"section": "record"})
    await note_access(request, record, "record", None)
    wanted = Wanted(page_number(request))
    page = await services.queries.page(record.patient.id, record.viewer, wanted)
    values = {
        "section": "record",
        "record": record,
        "structure": services.directory.structure(record.patient.structure_id),
        "page": page,
        "pages": neighbours(page, wanted),
        "category": None,
        "kept": await services.queries.retention.told_to(record.patient.id, services.clock()),
    }
    return render("record.html", visitor, values)


def page_number(request: Request) -> int:
    """Give the page that is asked for; anything but a small whole number is the first."""
    text = request.query_params.get("page", "1")
    return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) < 6 else 1


def neighbours(page: RecordPage, wanted: Wanted) -> dict[str, int]:
    """Give the numbers of the pages before and after; 0 for none."""
    is_last = wanted.number * wanted.many >= page.total
    return {"newer": wanted.number - 1, "older": 0 if is_last else wanted.number + 1}


async def _category(request: Request, visitor: Visitor) -> Response:
    services = services_of(request)
    record = await wanted_record(request, visitor)
    code = request.path_params["code"]
    wanted = Wanted(page_number(request), class_code=code)
    page = await services.queries.page(record.patient.id, record.viewer, wanted)
    category = next((known for known in page.categories if known.code == code), None)
    if category is None:
        raise HTTPException(404)
    await note_access(request, record, "record", None)
    values = {
        "section": "record",
        "record": record,
        "structure": services.directory.structure(record.patient.structure_id),
        "page": page,
        "pages": neighbours(page, wanted),
        "category": category,
        "kept": None,
    }
    return render("record.html", visitor, values)


async def _wanted_document(request: Request, record: OwnRecord) -> DocumentDetail:
    detail = await services_of(request).queries.document(
        record.patient.id, record.viewer, int(request.path_params["document"])
    )
    if detail is None:
        raise HTTPException(404)
    return detail


async def readable_document(
    services: WebmailServices, detail: DocumentDetail
) -> ReadableDocument | None:
    """Read a document in the sandbox; None when it cannot be read safely."""
    try:
        if services.sandbox is None:
            return await asyncio.to_thread(read_document, detail.content)
        found = await services.sandbox.run(
            "mailserver.webmail.narrative:read_document", detail.content
        )
    except (CertsError, RecordBridgeError):
        return None
    return found if isinstance(found, ReadableDocument) else None


async def _document(request: Request, visitor: Visitor) -> Response:
    services = services_of(request)
    record = await wanted_record(request, visitor)
    detail = await _wanted_document(request, record)
    await note_access(request, record, "document", detail.document.id)
    readable = await readable_document(services, detail)
    values = {
        "section": "record",
        "record": record,
        "document": detail.document,
        "versions": [v for v in detail.versions if v.id != detail.document.id],
        "readable": readable,
        "masks": record.masks(today(services.clock())),
        "done": request.query_params.get("fait") == "1",
        # Written by webmail.narrative alone: our tags around escaped text.
        "narrative": Markup(readable.html if readable is not None else ""),  # noqa: S704
    }
    return render("document.html", visitor, values)


async def _document_file(request: Request, visitor: Visitor) -> Response:
    record = await wanted_record(request, visitor)
    detail = await _wanted_document(request, record)
    readable = await readable_document(services_of(request), detail)
    number = int(request.path_params["number"])
    if readable is None or not 0 <= number < len(readable.files):
        raise HTTPException(404)
    await note_access(request, record, "file", detail.document.id)
    file = readable.files[number]
    return download(file.content, f"{file_title(detail.document)}.{file.extension}")


def file_title(document: DocumentView) -> str:
    """Give a downloaded file's name, without its ending."""
    # A file's name ends up in lists and screenshots: its kind and day, no name (RULES §11).
    day = document.effective_at or document.received_at
    return f"{document.type_label or 'Document'} {day:%Y-%m-%d}"


async def _journal_of(request: Request, visitor: Visitor) -> OwnRecord:
    """Give the record whose journal is read; that another reads it is in the journal too."""
    record = await wanted_record(request, visitor)
    if record.viewer.kind != ViewerKind.PATIENT:
        await note_access(request, record, "record", None)
    return record


async def _readings(services: WebmailServices, visitor: Visitor) -> Sequence[Reading]:
    """Give who read the visitor's own messages; nothing while they read another's record."""
    own = await own_patient(services, visitor.mailboxes)
    if own is None or visitor.chosen is not None:
        return ()
    return await services.store.audit.readings(own[0].id)


async def _accesses(request: Request, visitor: Visitor) -> Response:
    services = services_of(request)
    record = await _journal_of(request, visitor)
    accesses = await services.queries.accesses(record.patient.id, record.viewer)
    values = {
        "section": "record",
        "record": record,
        "accesses": accesses,
        "own_actor": record.actor,
        "readings": await _readings(services, visitor),
        "names": await names_of(services, practitioners_in(each.actor for each in accesses)),
    }
    return render("accesses.html", visitor, values)


async def _access_proofs(request: Request, visitor: Visitor) -> Response:
    """Give the journal as a file whose every line can be checked without this server."""
    services = services_of(request)
    record = await _journal_of(request, visitor)
    proofs = await services.queries.access_proofs(record.patient.id, record.viewer)
    told = {
        "format": "pli-accesses-1",
        "made_at": services.clock().isoformat(timespec="seconds"),
        "trail_key": services.settings.trail_key.hex(),
        "accesses": proofs,
    }
    headers = {"Content-Disposition": 'attachment; filename="acces.json"'}
    return Response(
        json.dumps(told, ensure_ascii=True, indent=1),
        media_type="application/json",
        headers=headers,
    )


home = signed_in(_home)
notice_seen = signed_in(_notice_seen)
record = signed_in(_record)
category = signed_in(_category)
document = signed_in(_document)
document_file = signed_in(_document_file)
accesses = signed_in(_accesses)
access_proofs = signed_in(_access_proofs)
