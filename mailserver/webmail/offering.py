"""What came without a package, filed from its message: "Ranger dans un dossier".

A professional sees it on the PDF and HPRIM Médecin text of a message to a mailbox whose filing is
on, when no package came with it: a package is for the rules. What the file says only suggests
patients; the professional chooses one, a type and a title, and the document is filed under their
name. Sending the form again files nothing more.

Source: RULES §3, RULES §4, RULES §13.
"""

import base64
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from directory.codes import MailboxType, known_types, type_label
from mailserver.store.model import EntryDetail, Mailbox
from mailserver.webmail.commanding import ask
from mailserver.webmail.life_text import REFUSALS as FILE_REFUSALS
from mailserver.webmail.pages import again, refusal_of, render, typed_in
from mailserver.webmail.professionals import Professional, professionals_of
from mailserver.webmail.reading import OpenedMessage
from mailserver.webmail.sanitise import shown_sender
from mailserver.webmail.session import Visitor, field_of, services_of
from record_bridge.life import MAX_TITLE
from record_bridge.offers import MAX_PACKED, may_be_offered
from record_bridge.receipts import receipt_of

REFUSALS: Final = {
    "file_empty": "Ce fichier est vide.",
    "file_too_large": FILE_REFUSALS["file_too_large"],
    "not_offered": "Ce fichier n'est ni un PDF ni un texte HPRIM Médecin\u00a0: il ne se"
    " range pas.",
    "several_patients": "Ce texte concerne plusieurs patients\u00a0: demandez à"
    " l'expéditeur un message"
    " par patient.",
    "say_whose": "Choisissez le patient, ou écrivez son matricule INS.",
    "no_such_patient": "Ce patient n'est pas enregistré dans votre structure.",
    "which_oid": "Plusieurs patients ont ce matricule\u00a0: voyez avec qui les enregistre.",
    "record_closed": "Le dossier de ce patient est fermé.",
    "not_qualified": "Seule une identité qualifiée, non douteuse, peut recevoir un document.",
    "no_such_type": "Choisissez le type du document.",
    "no_title": "Écrivez un titre.",
    "opposed": "Ce patient s'oppose à l'ajout de documents dans son dossier.",
    "withdrawn_here": "Ce fichier a été retiré de ce dossier\u00a0: il ne s'y range pas de"
    " nouveau.",
}
TOLD: Final = "Le document est rangé dans le dossier. Le même fichier ne s'y range qu'une fois."
"""Whoever files is not told whether somebody else had filed it: that may be hidden from them."""
FIELDS: Final = ("patient", "ins", "type", "title", "visible")
_MAILBOXES: Final = (MailboxType.PER, MailboxType.ORG)


@dataclass(frozen=True, slots=True)
class Offered:
    """One part of a message that a professional looks at.

    Attributes:
        number: the part.
        path: the message's page.
    """

    mailbox: Mailbox
    detail: EntryDetail
    message: OpenedMessage
    number: int
    path: str

    @property
    def page(self) -> str:
        """The form's address."""
        return f"{self.path}/piece/{self.number}/ranger"


async def offered_parts(
    request: Request, visitor: Visitor, mailbox: Mailbox, message: OpenedMessage
) -> frozenset[int]:
    """Give the parts of a message that the visitor may file; none when it is not theirs to."""
    if await _author(request, visitor, mailbox) is None:
        return frozenset()
    if any(each.package for each in message.attachments()):
        return frozenset()
    return frozenset(
        number
        for number, part in message.leaves()
        if may_be_offered(part.type, part.filename or "")
    )


async def _author(request: Request, visitor: Visitor, mailbox: Mailbox) -> Professional | None:
    """Who of the mailbox's structure the visitor is."""
    if not mailbox.filing or mailbox.type not in _MAILBOXES:
        return None
    for professional in await professionals_of(services_of(request), visitor):
        if professional.mailbox.structure_id == mailbox.structure_id and (
            mailbox.type is MailboxType.ORG or professional.mailbox.id == mailbox.id
        ):
            return professional
    return None


async def show(request: Request, visitor: Visitor, wanted: Offered) -> Response:
    """Show the form, with the patients that the file suggests.

    Raises:
        HTTPException: 404 for what is not theirs to file, 503 when the bridge cannot be asked.
    """
    author, arguments = await _file(request, visitor, wanted)
    refusal, found, typed = refusal_of(request), None, typed_in(request)
    if arguments is None:
        refusal = "file_too_large"
    else:
        found, problem = await _asked(request, "offer_suggest", arguments)
        refusal = problem or refusal
    hints = {} if found is None else found["hints"]
    values = {
        "section": "mail",
        "offered": wanted,
        "author": author,
        "found": found,
        "refusal": REFUSALS.get(refusal, ""),
        "types": sorted(((code, type_label(code)) for code in known_types()), key=_label),
        "chosen_type": typed.get("type") or hints.get("type_code", ""),
        "title": typed.get("title") or type_label(hints.get("type_code", "")) or "",
        "typed": typed,
        "max_title": MAX_TITLE,
    }
    return render("offer.html", visitor, values)


def _label(pair: tuple[str, str | None]) -> str:
    return (pair[1] or "").casefold()


async def decide(request: Request, visitor: Visitor, wanted: Offered) -> Response:
    """File the part as the form says.

    Raises:
        HTTPException: see ``show``.
    """
    author, arguments = await _file(request, visitor, wanted)
    if arguments is None:
        return RedirectResponse(f"{wanted.page}?refus=file_too_large", status_code=303)
    typed = {name: await field_of(request, name, MAX_TITLE) for name in FIELDS}
    ins, _, oid = typed["patient"].partition(" ")
    given = "".join(typed["ins"].split())
    arguments |= {
        "rpps": author.viewer.ref,
        "ins": given or ins,
        "oid": None if given else oid,
        "type_code": typed["type"],
        "title": typed["title"],
        "visible": typed["visible"] == "oui",
        "receipt": receipt_of(wanted.detail.prefix + b"\r\n"),
        "sender": _sender(wanted.message),
        "received_at": wanted.detail.row.internal_at.isoformat(),
    }
    done, problem = await _asked(request, "offer_file", arguments)
    if done is None:
        answer = RedirectResponse(f"{wanted.page}?refus={problem}", status_code=303)
        return await again(request, visitor, answer, typed, partial(show, wanted=wanted))
    return RedirectResponse(f"{wanted.path}?range=oui", status_code=303)


async def _file(
    request: Request, visitor: Visitor, wanted: Offered
) -> tuple[Professional, dict[str, Any] | None]:
    """Give who decides and what the bridge is told of the file; None when it is too large."""
    author = await _author(request, visitor, wanted.mailbox)
    numbers = await offered_parts(request, visitor, wanted.mailbox, wanted.message)
    part = next(
        (part for number, part in wanted.message.leaves() if number == wanted.number), None
    )
    if author is None or part is None or wanted.number not in numbers:
        raise HTTPException(404)
    if part.octets > MAX_PACKED:
        return author, None
    found = await wanted.message.file(wanted.number)
    if found is None:
        raise HTTPException(404)
    content, name = found
    header = wanted.message.header
    return author, {
        "structure": wanted.mailbox.structure_id,
        "actor": author.actor,
        "content": base64.b64encode(content).decode("ascii"),
        "name": name,
        "subject": header.text("subject")[:300],
        "codes": header.text("x-mss-codecda")[:300],
    }


def _sender(message: OpenedMessage) -> str:
    fields = message.header.fields("from")
    return shown_sender(fields[0].value).address if len(fields) == 1 else ""


async def _asked(
    request: Request, command: str, arguments: dict[str, Any]
) -> tuple[dict[str, Any] | None, str]:
    """Have the bridge do something; give its result, or why it refused."""
    done, refused = await ask(services_of(request), command, arguments)
    return done, refused if not refused or refused in REFUSALS else "no_such_patient"
