"""The page « Être prévenu »: where the holder of a mailbox is told, outside, of what is new.

A patient chooses there to be reminded of their agenda too; nobody is without having asked.

An address is used once the code sent to it was typed here, signed in; it is shown to its holder
only, and is in no URL. The page is about the visitor's own mailbox, whatever record they read.

Source: RULES §14.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from directory.audit_event import AuditEvent
from directory.codes import MailboxType
from mailserver.notify.texts import (
    ASKS,
    MAX_ADDRESS,
    TRIES,
    NotPersonalAddressError,
    code_digest,
    personal_address,
)
from mailserver.store.database import MailStore
from mailserver.store.model import Mailbox
from mailserver.store.notify import Choice, Confirmation, Marks, Registration
from mailserver.webmail.pages import again, refusal_of, render, typed_in
from mailserver.webmail.services import WebmailServices
from mailserver.webmail.session import Visitor, field_of, services_of, signed_in
from record_bridge.queries import PatientView, RecordQueries, Viewer, ViewerKind
from record_bridge.reminder_record import remindable
from record_bridge.reminders import Line

PATH: Final = "/prevenir"
_SAID: Final = {
    "envoye": "Un code part vers cette adresse. Il est bon vingt-quatre heures.",
    "confirme": "C'est confirmé\u00a0: vous serez prévenu à cette adresse.",
    "arrete": "C'est arrêté\u00a0: votre adresse est effacée.",
    "rappels": "C'est noté\u00a0: vous recevrez un rappel la veille.",
    "sans-rappel": "C'est noté\u00a0: vous ne recevrez plus de rappel.",
}
REFUSALS: Final = {
    "adresse": "Cette adresse ne convient pas. Donnez votre adresse personnelle.",
    "trop": "Trop d'adresses ont été demandées aujourd'hui. Réessayez demain.",
    "code": "Ce code n'est pas le bon, ou n'est plus bon. Vérifiez le dernier reçu.",
    "rien": "Donnez et confirmez d'abord votre adresse.",
}


async def shown_documents(
    store: MailStore, queries: RecordQueries, mailbox_id: int
) -> frozenset[int]:
    """Give the documents that a mailbox's holder may see in their record (RULES §7).

    Args:
        store: the mail database.
        queries: the record, which decides.
        mailbox_id: a patient's; a professional's has no record, nor has an unknown one.
    """
    patient = await _patient(queries, await store.accounts.mailbox_by_id(mailbox_id))
    if patient is None:
        return frozenset()
    viewer = Viewer(ViewerKind.PATIENT, str(patient.id))
    return await queries.keys(patient.id, viewer)


async def reminded_lines(
    store: MailStore,
    queries: RecordQueries,
    prevention_off: Collection[str],
    mailbox_id: int,
    at: datetime,
) -> Sequence[Line]:
    """Give the lines of the agenda of which a mailbox's holder may be reminded (RULES §8).

    Args:
        store: the mail database.
        queries: the record, which decides.
        prevention_off: structures that do not show the prevention calendar.
        mailbox_id: like ``shown_documents``; a closed one is nobody's any more.
        at: aware UTC now.
    """
    mailbox = await store.accounts.mailbox_by_id(mailbox_id)
    patient = await _patient(queries, mailbox)
    if mailbox is None or mailbox.closed or patient is None:
        return ()
    return await remindable(queries, patient, at, prevention_off)


async def _patient(queries: RecordQueries, mailbox: Mailbox | None) -> PatientView | None:
    if mailbox is None or mailbox.type is not MailboxType.PAT:
        return None
    return await queries.patient_by_address(mailbox.structure_id, mailbox.address)


def _own_mailbox(services: WebmailServices, visitor: Visitor) -> Mailbox:
    """Give the visitor's own mailbox.

    Raises:
        HTTPException: 404 where nobody is notified, or for an account without one.
    """
    for wanted in (MailboxType.PAT, MailboxType.PER):
        for mailbox in visitor.mailboxes:
            if mailbox.type is wanted and services.settings.notifies:
                return mailbox
    raise HTTPException(404)


def _event(kind: str, at: datetime, visitor: Visitor, mailbox: Mailbox) -> AuditEvent:
    return AuditEvent(kind, at, visitor.actor, mailbox.structure_id, f"mailbox:{mailbox.id}")


def _back(said: str) -> Response:
    name = "refus" if said in REFUSALS else "dit"
    return RedirectResponse(f"{PATH}?{name}={said}", status_code=303)


async def _notify(request: Request, visitor: Visitor) -> Response:
    services = services_of(request)
    mailbox = _own_mailbox(services, visitor)
    values = {
        "section": "mail",
        "kept": await services.store.notify.find(mailbox.id),
        "said": _SAID.get(request.query_params.get("dit", ""), ""),
        "refusal": REFUSALS.get(refusal_of(request), ""),
        "typed": typed_in(request),
        "has_record": mailbox.type is MailboxType.PAT,
        "longest": MAX_ADDRESS,
    }
    return render("notify.html", visitor, values)


async def _register(request: Request, visitor: Visitor) -> Response:
    # one sign more than is allowed is read, so that nothing is cut into another address
    address = await field_of(request, "address", MAX_ADDRESS + 1)
    answer = _back(await _registered(request, visitor, address))
    return await again(request, visitor, answer, {"address": address}, _notify)


async def _registered(request: Request, visitor: Visitor, typed: str) -> str:
    """Have a code sent to an address; give what is said of it."""
    services = services_of(request)
    mailbox = _own_mailbox(services, visitor)
    hosted = services.directory.structures()
    ours = {each.domain for each in hosted} | {each.patient_domain for each in hosted}
    try:
        address = personal_address(typed, ours)
    except NotPersonalAddressError:
        return "adresse"
    event = _event("notify_asked", services.clock(), visitor, mailbox)
    taken = await services.store.notify.register(Registration(mailbox.id, address, ASKS, event))
    return "envoye" if taken else "trop"


async def _confirm(request: Request, visitor: Visitor) -> Response:
    services = services_of(request)
    mailbox = _own_mailbox(services, visitor)
    uid, _ = await services.store.notify.inbox(mailbox.id, 0)
    code = await field_of(request, "code", 40)
    given = Confirmation(
        mailbox.id,
        code_digest(code),
        TRIES,
        Marks(uid, await shown_documents(services.store, services.queries, mailbox.id)),
        _event("notify_confirmed", services.clock(), visitor, mailbox),
    )
    answer = _back("confirme" if await services.store.notify.confirm(given) else "code")
    return await again(request, visitor, answer, {"code": code}, _notify)


async def _withdraw(request: Request, visitor: Visitor) -> Response:
    services = services_of(request)
    mailbox = _own_mailbox(services, visitor)
    event = _event("notify_withdrawn", services.clock(), visitor, mailbox)
    await services.store.notify.withdraw(mailbox.id, event)
    return _back("arrete")


async def _choose(request: Request, visitor: Visitor) -> Response:
    """Be reminded of one's agenda from now on, or no more.

    Raises:
        HTTPException: 404 for a mailbox without an agenda.
    """
    services = services_of(request)
    mailbox = _own_mailbox(services, visitor)
    if mailbox.type is not MailboxType.PAT:
        raise HTTPException(404)
    reminds = await field_of(request, "rappels", 3) == "oui"
    kind = "reminders_asked" if reminds else "reminders_stopped"
    event = _event(kind, services.clock(), visitor, mailbox)
    if not await services.store.notify.choose(Choice(mailbox.id, reminds, event)):
        return _back("rien")
    return _back("rappels" if reminds else "sans-rappel")


notify = signed_in(_notify)
register = signed_in(_register)
confirm = signed_in(_confirm)
withdraw = signed_in(_withdraw)
choose = signed_in(_choose)
