"""The messages: folders and lists, one message, its files, an answer.

Invariants: the verdict on the sender is drawn by us, outside the frame that shows strangers'
words (C7); opening a message is an event of the trail (RULES §13). Held messages are in no
answer of the store, so no page can show them.
"""

import asyncio
import re
import secrets
from dataclasses import dataclass
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from certs.addresses import Address, parse_mailbox
from certs.addresses import Mailbox as NamedAddress
from certs.errors import CertsError
from certs.mime import scan
from directory.codes import MailboxType
from directory.trail import AuditEvent
from mailserver.delivery.submission import SubmissionMessage, Submitted, Via
from mailserver.message.compose import Draft, compose
from mailserver.message.headers import message_ids, value_of
from mailserver.message.progress import Progress
from mailserver.store.model import EntryDetail, Flag, FlagChange, FlagMode, Mailbox
from mailserver.webmail import invitations, keeping, offering
from mailserver.webmail.files import download
from mailserver.webmail.life_text import REFUSALS
from mailserver.webmail.pages import render
from mailserver.webmail.places import Place, entry_of, own_place, readable_place
from mailserver.webmail.reading import OpenedMessage
from mailserver.webmail.sanitise import ShownSender, body_text, plain, safe_html, shown_sender
from mailserver.webmail.services import WebmailServices
from mailserver.webmail.session import Visitor, field_of, services_of, signed_in
from record_bridge.formats import auth_results

PAGE_MESSAGES: Final = 25
SENT: Final = "\\Sent"
NO_ANSWER: Final = "Il n'est pas possible de répondre à ce message."
NO_ANSWER_FOR_A_TEAM: Final = (
    "Cette messagerie est partagée\u00a0: répondez depuis votre logiciel de messagerie."
)
MAX_ANSWER: Final = 20_000
MAX_SUBJECT: Final = 200
FRAME_POLICY: Final = (
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'self'; sandbox"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the site says of a sender: never "document signé par" (RULES §12)."""

    level: str
    title: str
    text: str


async def _start(request: Request, visitor: Visitor) -> Response:
    del request
    if not visitor.mailboxes:
        raise HTTPException(404)
    return RedirectResponse(f"/messagerie/{visitor.mailboxes[0].id}", status_code=303)


async def _mailbox(request: Request, visitor: Visitor) -> Response:
    mailbox = visitor.mailbox(int(request.path_params["mailbox"]))
    folder = await services_of(request).store.folders.get(mailbox.id, "INBOX")
    if folder is None:
        raise HTTPException(404)
    return RedirectResponse(f"/messagerie/{mailbox.id}/{folder.id}", status_code=303)


async def _folder(request: Request, visitor: Visitor) -> Response:
    services = services_of(request)
    place = await own_place(request, visitor)
    before = request.query_params.get("avant", "")
    before_uid = (
        int(before) if before.isascii() and before.isdigit() and len(before) < 11 else None
    )
    found = await services.store.messages.summaries(place.folder.id, PAGE_MESSAGES + 1, before_uid)
    folders = [
        (folder, await services.store.folders.status(folder.id))
        for folder in await services.store.folders.list(place.mailbox.id)
    ]
    standings = {}
    if place.folder.special_use == SENT:
        names = {each.message_id for each in found if each.message_id}
        standings = await services.store.tracking.sent_among(place.mailbox.id, names)
    values = {
        "section": "mail",
        "place": place,
        "standings": standings,
        "folders": folders,
        "messages": found[:PAGE_MESSAGES],
        "next_uid": found[PAGE_MESSAGES - 1].row.uid if len(found) > PAGE_MESSAGES else None,
        "first_page": before_uid is None,
        "sent": request.query_params.get("envoye") == "1",
    }
    return render("folder.html", visitor, values)


async def _message(request: Request, visitor: Visitor) -> Response:
    place = await readable_place(request, visitor)
    detail = await entry_of(request, place)
    values = await _shown(request, visitor, place, detail)
    await _note_reading(request, visitor, place, detail)
    return render("message.html", visitor, values)


async def _shown(
    request: Request, visitor: Visitor, place: Place, detail: EntryDetail
) -> dict[str, object]:
    services = services_of(request)
    message = await OpenedMessage.open(services, detail)
    sender = await _sender(services, message)
    plain_part, html_part = message.text_part("text/plain"), message.text_part("text/html")
    formatted = html_part is not None and (
        plain_part is None or request.query_params.get("forme") == "html"
    )
    answer_to, no_answer = _whom_to_answer(services, place, message)
    text, cut = "", False
    if plain_part is not None and not formatted:
        text, cut = await message.text_of(plain_part)
    attachments = message.attachments()
    return {
        "section": "mail",
        "place": place,
        "detail": detail,
        "message": message,
        "sender": sender,
        "verdict": verdict_of(services, detail),
        "text": body_text(text),
        "cut": cut,
        "formatted": formatted,
        "has_html": html_part is not None,
        "has_text": plain_part is not None,
        "attachments": attachments,
        "kept_numbers": [each.number for each in attachments if keeping.may_be_kept(each)],
        "filed": "$Filed" in detail.row.keywords or "$Duplicate" in detail.row.keywords,
        "is_patient": place.mailbox.type is MailboxType.PAT,
        "answer_to": answer_to,
        "no_answer": no_answer,
        "answer": "",
        "answer_error": "",
        "nonce": secrets.token_hex(16),
        "offered": await _offerable(request, visitor, place, message),
        "text_number": message.number_of(plain_part),
        "offer_told": offering.TOLD if request.query_params.get("range") == "oui" else "",
        "invitation": await invitations.invitation_of(services, place.mailbox, message),
        "told": request.query_params.get("invitation", "") if request.method == "GET" else "",
        "not_answered": REFUSALS.get(request.query_params.get("invitation", ""), ""),
        "kept": request.query_params.get("garde", "") if request.method == "GET" else "",
        "keep_refusal": REFUSALS.get(request.query_params.get("garde", ""), ""),
        "to": _recipients(plain(detail.index.to, 1000), place.mailbox),
        "standings": await _standings(services, place, detail),
    }


async def _offerable(
    request: Request, visitor: Visitor, place: Place, message: OpenedMessage
) -> frozenset[int]:
    if place.is_shared:
        return frozenset()
    return await offering.offered_parts(request, visitor, place.mailbox, message)


def _whom_to_answer(
    services: WebmailServices, place: Place, message: OpenedMessage
) -> tuple[str, str]:
    """Give who an answer goes to, or "" and why there is none."""
    if place.is_shared:
        return "", NO_ANSWER_FOR_A_TEAM
    address = _answer_address(message, place.mailbox)
    if not address:
        return "", NO_ANSWER
    if not services.submissions.reaches(place.mailbox, address):
        return "", _unreachable(place.mailbox)
    return address, ""


async def _standings(
    services: WebmailServices, place: Place, detail: EntryDetail
) -> list[tuple[str, Progress]]:
    """Give (recipient, progress) of a message that this mailbox sent; nothing of another."""
    if place.folder.special_use != SENT:
        return []
    found = await services.store.tracking.sent_by(place.mailbox.id, detail.index.message_id)
    return [(_recipients(each.address, place.mailbox), each.progress) for each in found]


def _recipients(to: str, mailbox: Mailbox) -> str:
    """Show the reader as "vous": a patient's own address holds the INS (RULES §11)."""
    own = re.escape(mailbox.address)
    return re.sub(rf"(?:[^,<]*<)?{own}>?", "vous", to, flags=re.IGNORECASE)


def _unreachable(mailbox: Mailbox) -> str:
    if mailbox.closed:
        return (
            "Votre adresse ne peut pas servir pour le moment\u00a0: votre identité doit"
            " être vérifiée"
            " par votre structure. Contactez-la\u00a0; vos messages et votre dossier"
            " restent lisibles."
        )
    if mailbox.type is MailboxType.PAT:
        return (
            "Vous ne pouvez pas répondre d'ici à cet expéditeur\u00a0: votre messagerie écrit"
            " seulement aux professionnels de votre structure. Appelez-le, ou écrivez-leur."
        )
    return (
        "Cet expéditeur n'est pas joignable\u00a0: son domaine n'est pas dans l'espace de"
        " confiance."
    )


async def _note_reading(
    request: Request, visitor: Visitor, place: Place, detail: EntryDetail
) -> None:
    services = services_of(request)
    event = AuditEvent(
        "message_read",
        services.clock(),
        visitor.actor,
        place.mailbox.structure_id,
        f"mailbox:{place.mailbox.id}",
        {"folder": place.folder.id, "uids": str(detail.row.uid), "via": "webmail"},
    )
    await services.store.audit.record([event])
    if "s" in place.rights and not detail.row.flags & Flag.SEEN:
        change = FlagChange(
            place.folder.id, (detail.row.uid,), FlagMode.ADD, Flag.SEEN, frozenset()
        )
        await services.store.messages.store_flags(change)


async def _sender(services: WebmailServices, message: OpenedMessage) -> ShownSender:
    fields = message.header.fields("from")
    if len(fields) != 1:
        return ShownSender("Expéditeur illisible", "", doubtful=True)
    shown = shown_sender(fields[0].value)
    known = await services.directory.mailbox(shown.address) if shown.address else None
    return shown if known is None else shown_sender(fields[0].value, known.display_name)


def verdict_of(services: WebmailServices, detail: EntryDetail) -> Verdict:
    """Say what was judged at reception, from the field our own server wrote.

    Source: RFC 8601 §5, RULES §12.
    """
    fields = scan(detail.prefix + b"\r\n").fields(auth_results.FIELD_NAME)
    results = auth_results.parse([field.value for field in fields], services.settings.authserv_id)
    smime = "none" if results is None else results.smime
    if smime == "pass":
        return Verdict(
            "good",
            "Expéditeur vérifié",
            "La signature de ce message est valable et correspond à l'expéditeur affiché.",
        )
    if smime in ("fail", "permerror"):
        return Verdict(
            "bad",
            "Signature non valable",
            "Ce message a pu être modifié, ou ne vient pas de l'expéditeur affiché."
            " En cas de doute, appelez le professionnel.",
        )
    if smime in ("policy", "temperror", "neutral"):
        return Verdict(
            "unsure",
            "Signature non vérifiable",
            "Ce message est signé, mais l'identité du signataire n'a pas pu être vérifiée.",
        )
    if results is not None and (results.operator_dn or results.submitter):
        return Verdict(
            "plain",
            "Reçu par l'espace de confiance",
            "Ce message n'est pas signé\u00a0; il est arrivé par un opérateur de messagerie"
            " de santé"
            " reconnu.",
        )
    return Verdict(
        "plain", "Non signé", "Ce message ne porte pas de signature vérifiée par ce serveur."
    )


async def _html_body(request: Request, visitor: Visitor) -> Response:
    place = await readable_place(request, visitor)
    detail = await entry_of(request, place)
    message = await OpenedMessage.open(services_of(request), detail)
    part = message.text_part("text/html")
    if part is None:
        raise HTTPException(404)
    text, _ = await message.text_of(part)
    await _note_reading(request, visitor, place, detail)
    safe = await asyncio.to_thread(safe_html, text)
    page = (
        '<!doctype html><html lang="fr"><head><meta charset="utf-8"><title>Message</title>'
        '<link rel="stylesheet" href="/static/message.css"></head>'
        f"<body><main>{safe}</main></body></html>"
    )
    return HTMLResponse(page, headers={"Content-Security-Policy": FRAME_POLICY})


async def _attachment(request: Request, visitor: Visitor) -> Response:
    place = await readable_place(request, visitor)
    detail = await entry_of(request, place)
    message = await OpenedMessage.open(services_of(request), detail)
    number = int(request.path_params["number"])
    if number not in {shown.number for shown in message.attachments()}:
        raise HTTPException(404)
    found = await message.file(number)
    if found is None:
        raise HTTPException(404)
    await _note_reading(request, visitor, place, detail)
    return download(*found)


async def _keep(request: Request, visitor: Visitor) -> Response:
    place = await own_place(request, visitor)
    detail = await entry_of(request, place)
    message = await OpenedMessage.open(services_of(request), detail)
    number = int(request.path_params["number"])
    where = f"{place.path}/{detail.row.uid}"
    return await keeping.keep(
        request, visitor, keeping.Kept(place.mailbox, message, number, where)
    )


async def _offered(request: Request, visitor: Visitor) -> offering.Offered:
    """Give the part that a page is about; looking at it is reading the message."""
    place = await own_place(request, visitor)
    detail = await entry_of(request, place)
    message = await OpenedMessage.open(services_of(request), detail)
    await _note_reading(request, visitor, place, detail)
    number = int(request.path_params["number"])
    where = f"{place.path}/{detail.row.uid}"
    return offering.Offered(place.mailbox, detail, message, number, where)


async def _offer(request: Request, visitor: Visitor) -> Response:
    return await offering.show(request, visitor, await _offered(request, visitor))


async def _offer_decide(request: Request, visitor: Visitor) -> Response:
    return await offering.decide(request, visitor, await _offered(request, visitor))


def _answer_address(message: OpenedMessage, mailbox: Mailbox) -> str:
    """Give who an answer goes to; "" when the sender closed the conversation.

    "X-MSS-MES: FIN" and "[FIN]" close a conversation; Reply-To names who answers go to, as Mon
    espace santé reads them (facts §7.1).
    """
    header = message.header
    if header.text("x-mss-mes").strip().upper() == "FIN":
        return ""
    if header.text("subject").strip().upper() == "[FIN]":
        return ""
    for name in ("reply-to", "from"):
        fields = header.fields(name)
        if len(fields) != 1:
            continue
        try:
            address = parse_mailbox(fields[0].value).address
        except CertsError:
            continue
        if address.key != mailbox.address.lower():
            return address.text
    return ""


async def _answer(request: Request, visitor: Visitor) -> Response:
    services = services_of(request)
    place = await own_place(request, visitor)
    detail = await entry_of(request, place)
    message = await OpenedMessage.open(services, detail)
    to = _answer_address(message, place.mailbox)
    text = await field_of(request, "text", MAX_ANSWER + 1)
    nonce = await field_of(request, "nonce", 32)
    error = ""
    if not to:
        error = NO_ANSWER
    elif place.mailbox.closed:
        error = _unreachable(place.mailbox)
    elif not text.strip():
        error = "Écrivez votre réponse avant de l'envoyer."
    elif len(text) > MAX_ANSWER:
        error = "Votre réponse est trop longue\u00a0: 20 000 caractères au plus."
    elif not services.fairness.account_message(place.mailbox.id):
        error = "Vous avez envoyé beaucoup de messages\u00a0: réessayez dans quelques minutes."
    elif len(nonce) != 32 or not nonce.isalnum():
        raise HTTPException(403)
    if not error:
        outcome = await services.submissions.submit(
            _submission(services, place, message, (to, text, nonce))
        )
        if isinstance(outcome, Submitted):
            change = FlagChange(
                place.folder.id, (detail.row.uid,), FlagMode.ADD, Flag.ANSWERED, frozenset()
            )
            await services.store.messages.store_flags(change)
            return RedirectResponse(f"{place.path}?envoye=1", status_code=303)
        error = (
            "Votre réponse n'a pas pu être envoyée\u00a0: ce destinataire ne peut pas être"
            " joint d'ici."
        )
    values = await _shown(request, visitor, place, detail)
    await _note_reading(request, visitor, place, detail)
    # The form again, so that what was written is not lost.
    values |= {"answer": text[:MAX_ANSWER], "answer_error": error, "answer_to": to}
    return render("message.html", visitor, values, status=422)


async def _invitation(request: Request, visitor: Visitor) -> Response:
    """Answer the invitation of a message."""
    place = await own_place(request, visitor)
    detail = await entry_of(request, place)
    opened = await OpenedMessage.open(services_of(request), detail)
    where = invitations.Answered(f"{place.path}/{detail.row.uid}", place.mailbox, opened)
    return await invitations.answer(request, visitor, where)


def _submission(
    services: WebmailServices,
    place: Place,
    message: OpenedMessage,
    given: tuple[str, str, str],
) -> SubmissionMessage:
    to, text, nonce = given
    at = services.clock()
    header = message.header
    answered = message_ids(value_of(header.header, "message-id"))
    references = message_ids(value_of(header.header, "references"))
    subject = plain(header.text("subject"), MAX_SUBJECT)
    local, _, domain = place.mailbox.address.rpartition("@")
    to_local, _, to_domain = to.rpartition("@")
    draft = Draft(
        author=NamedAddress(place.mailbox.display_name, Address(local, domain)),
        to=(NamedAddress("", Address(to_local, to_domain)),),
        subject=subject if subject.lower().startswith("re:") else f"Re: {subject}",
        text=text,
        # The form's own number: sending the same form twice is one message (RULES §11: no INS).
        message_id=f"<{nonce}@{services.settings.host}>",
        at=at,
        in_reply_to=answered[0] if answered else None,
        references=(*references, *answered),
    )
    return SubmissionMessage(
        compose(draft), place.mailbox.address, (to,), place.mailbox, at, Via.WEBMAIL
    )


start = signed_in(_start)
mailbox = signed_in(_mailbox)
folder = signed_in(_folder)
message = signed_in(_message)
html_body = signed_in(_html_body)
attachment = signed_in(_attachment)
keep = signed_in(_keep)
offer = signed_in(_offer)
offer_decide = signed_in(_offer_decide)
answer = signed_in(_answer)
invitation = signed_in(_invitation)
