"""Telling a patient by a message: of an opening in an emergency, of an admission to prepare.

The first goes to the attending physician too. A message says that it happened and where the rest
is read: no name, reason, title or document. When one about an emergency cannot be sent, the
opening stands and the record's own page tells it; ``pli access list`` shows which were not told.

Source: MSS-FACTS §6.4 (R1111-48), RULES §14.
"""

import secrets

import structlog

from certs.addresses import Address
from certs.addresses import Mailbox as NamedAddress
from directory.codes import MailboxType
from mailserver.delivery.submission import SubmissionMessage, Submitted, Via
from mailserver.errors import MailServerError
from mailserver.message.compose import Draft, compose
from mailserver.webmail.life_text import PACK_SUBJECT, PACK_TEXT
from mailserver.webmail.professionals import Professional
from mailserver.webmail.rights_text import TOLD_SUBJECT, TOLD_TEXT
from mailserver.webmail.services import WebmailServices
from record_bridge.errors import RecordBridgeError
from record_bridge.queries import PatientView
from record_bridge.rights import GrantKind

log = structlog.get_logger("mailserver")


async def tell_of_emergency(
    services: WebmailServices, professional: Professional, patient: PatientView, right_id: int
) -> None:
    """Write to the patient and their attending physician, and note that it was done."""
    sent = 0
    recipients = [patient.address, *await _attending(services, patient)]
    for recipient in recipients:
        message = _message(services, professional, recipient, (TOLD_SUBJECT, TOLD_TEXT))
        sent += await _submitted(services, message)
    if sent != len(recipients):
        log.warning("emergency_not_told", phase="care")
        return
    arguments = {"id": right_id, "actor": professional.actor}
    try:
        await services.record("emergency_told", arguments)
    except (OSError, MailServerError, RecordBridgeError) as error:
        log.warning("emergency_not_noted", error_type=type(error).__name__, phase="care")


async def tell_of_admission(
    services: WebmailServices, professional: Professional, patient: PatientView
) -> bool:
    """Write to a patient that something of an admission waits for them; say whether it left."""
    message = _message(services, professional, patient.address, (PACK_SUBJECT, PACK_TEXT))
    sent = await _submitted(services, message)
    if not sent:
        log.warning("admission_not_told", phase="care")
    return sent


async def _submitted(services: WebmailServices, message: SubmissionMessage) -> bool:
    """Submit a message; what refuses it, or cannot sign it, undoes nothing that was done."""
    try:
        return isinstance(await services.submissions.submit(message), Submitted)
    except (OSError, MailServerError) as error:
        log.warning("notice_not_sent", error_type=type(error).__name__, phase="care")
        return False


async def _attending(services: WebmailServices, patient: PatientView) -> list[str]:
    """The mailboxes of the attending physicians, where the structure has one."""
    at = services.clock()
    rights = await services.queries.rights.of(patient.id)
    holders = {
        right.holder
        for right in rights
        if right.kind is GrantKind.ATTENDING and right.grant.holds(at)
    }
    mailboxes = await services.directory.mailboxes(patient.structure_id)
    return [
        each.address for each in mailboxes if each.type is MailboxType.PER and each.rpps in holders
    ]


def _message(
    services: WebmailServices, professional: Professional, recipient: str, text: tuple[str, str]
) -> SubmissionMessage:
    """Write a fixed text (subject, body) from a professional's own mailbox."""
    at = services.clock()
    mailbox = professional.mailbox
    local, _, domain = mailbox.address.rpartition("@")
    to_local, _, to_domain = recipient.rpartition("@")
    draft = Draft(
        author=NamedAddress(mailbox.display_name, Address(local, domain)),
        to=(NamedAddress("", Address(to_local, to_domain)),),
        subject=text[0],
        text=text[1],
        message_id=f"<{secrets.token_hex(16)}@{services.settings.host}>",
        at=at,
    )
    return SubmissionMessage(
        compose(draft), mailbox.address, (recipient,), mailbox, at, Via.WEBMAIL
    )
