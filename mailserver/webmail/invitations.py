"""Invitations in messages to a patient: shown, accepted or declined, answered in the trust space.

An invitation counts only when who sent the message organizes it and the patient's own address is
invited; anything else is shown and not answered. The answer tells the organizer one thing: yes or
no, from this address; it goes only where this mailbox may write (RULES §11), and the agenda has
the appointment either way. A call-off takes away what the same organizer's invitation made.

Source: RFC 5546 §3.2, RFC 6047 §2, RULES §8.
"""

import asyncio
import secrets
from dataclasses import dataclass
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from certs.addresses import Address, parse_mailbox
from certs.addresses import Mailbox as NamedAddress
from certs.errors import CertsError
from certs.mime_outline import Part
from directory.codes import MailboxType
from mailserver.delivery.submission import SubmissionMessage, Submitted, Via
from mailserver.message.compose import Draft, compose
from mailserver.message.headers import message_ids, value_of
from mailserver.store.model import Mailbox
from mailserver.webmail.commanding import ask
from mailserver.webmail.life_text import REFUSALS
from mailserver.webmail.reading import OpenedMessage
from mailserver.webmail.sanitise import plain
from mailserver.webmail.services import WebmailServices
from mailserver.webmail.session import Visitor, field_of, services_of
from record_bridge.errors import MalformedIcalendarError
from record_bridge.formats.ical import MAX_OCTETS, Appointment, read_calendar, write_reply

_METHODS: Final = frozenset({"REQUEST", "CANCEL"})
_PARTSTAT: Final = {"accepted": "ACCEPTED", "declined": "DECLINED"}
_WORDS: Final = {"accepted": "Accepté", "declined": "Décliné"}


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation, as its message's page shows it.

    Attributes:
        ics: the object, as text.
        called_off: its organizer calls the appointment off.
        answer: what became of it: ``accepted``, ``declined``, ``cancelled``, "" for nothing.
        outdated: a later version of it was answered.
        answerable: the patient may answer or note it here.
        reachable: the organizer can be told.
    """

    appointment: Appointment
    ics: str
    called_off: bool
    answer: str
    outdated: bool
    answerable: bool
    reachable: bool


async def invitation_of(
    services: WebmailServices, mailbox: Mailbox, message: OpenedMessage
) -> Invitation | None:
    """Give the invitation of a message to a patient, None when there is none that can be read."""
    if mailbox.type is not MailboxType.PAT:
        return None
    part = _calendar_part(message)
    patient = await services.queries.patient_by_address(mailbox.structure_id, mailbox.address)
    if part is None or patient is None:
        return None
    text, cut = await message.text_of(part)
    try:
        read = await asyncio.to_thread(read_calendar, text.encode("utf-8", "replace"))
    except MalformedIcalendarError:
        return None
    stated = (part.param("method") or read.method).upper()
    if cut or len(read.appointments) != 1 or read.method not in _METHODS or stated != read.method:
        return None
    invited = read.appointments[0]
    known = await services.queries.life.invitation(patient.id, invited.organizer, invited.uid)
    own = mailbox.address.lower()
    fits = (
        bool(invited.organizer)
        and invited.organizer == _sender(message)
        and not invited.single
        and (own in invited.attendees or read.method == "CANCEL")
    )
    return Invitation(
        appointment=invited,
        ics=text,
        called_off=read.method == "CANCEL",
        answer="" if known is None or known.sequence < invited.sequence else known.answer,
        outdated=known is not None and known.sequence > invited.sequence,
        answerable=fits,
        reachable=fits and services.submissions.reaches(mailbox, invited.organizer),
    )


def _calendar_part(message: OpenedMessage) -> Part | None:
    for _, part in message.leaves():
        if part.type == "text/calendar" and part.octets <= 2 * MAX_OCTETS:
            return part
    return None


def _sender(message: OpenedMessage) -> str:
    fields = message.header.fields("from")
    if len(fields) != 1:
        return ""
    try:
        return parse_mailbox(fields[0].value).address.text.lower()
    except CertsError:
        return ""


@dataclass(frozen=True, slots=True)
class Answered:
    """The page of a message, and the message itself."""

    path: str
    mailbox: Mailbox
    message: OpenedMessage


async def answer(request: Request, visitor: Visitor, where: Answered) -> Response:
    """Note the patient's answer in the agenda, then tell the organizer.

    What a closed record refuses is not told: the page says so, and the patient may decline.
    """
    services = services_of(request)
    found = await invitation_of(services, where.mailbox, where.message)
    given = await field_of(request, "answer", 10)
    allowed = ("cancelled",) if found is not None and found.called_off else tuple(_PARTSTAT)
    if found is None or not found.answerable or found.outdated or given not in allowed:
        raise HTTPException(404)
    patient = await services.queries.patient_by_address(
        where.mailbox.structure_id, where.mailbox.address
    )
    if patient is None:
        raise HTTPException(404)
    arguments = {
        "patient_id": patient.id,
        "ics": found.ics,
        "answer": given,
        "actor": visitor.actor,
    }
    _, refused = await ask(services, "invitation_answer", arguments)
    if refused in REFUSALS:
        return RedirectResponse(f"{where.path}?invitation={refused}", status_code=303)
    if refused:
        raise HTTPException(404)
    told = "non"
    may = services.fairness.account_message(where.mailbox.id)
    if given in _PARTSTAT and found.reachable and may:
        sent = await services.submissions.submit(_reply(services, where, found, given))
        told = "oui" if isinstance(sent, Submitted) else "non"
    return RedirectResponse(f"{where.path}?invitation={told}", status_code=303)


def _reply(
    services: WebmailServices, where: Answered, found: Invitation, given: str
) -> SubmissionMessage:
    """Source: RFC 6047 §2.4, RFC 5546 §3.2.3."""
    at = services.clock()
    address = where.mailbox.address
    local, _, domain = address.rpartition("@")
    to_local, _, to_domain = found.appointment.organizer.rpartition("@")
    asked = message_ids(value_of(where.message.header.header, "message-id"))
    title = plain(found.appointment.summary, 150)
    draft = Draft(
        author=NamedAddress(where.mailbox.display_name, Address(local, domain)),
        to=(NamedAddress("", Address(to_local, to_domain)),),
        subject=f"{_WORDS[given]}\u00a0: {title}",
        text=f"{_WORDS[given]}\u00a0: {title}\n",
        message_id=f"<{secrets.token_hex(16)}@{services.settings.host}>",
        at=at,
        in_reply_to=asked[0] if asked else None,
        references=asked,
        reply=write_reply(found.appointment, address, _PARTSTAT[given], at),
    )
    return SubmissionMessage(
        compose(draft), address, (found.appointment.organizer,), where.mailbox, at, Via.WEBMAIL
    )
