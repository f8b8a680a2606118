"""Telling a patient, and the attending physician, that a record was opened in an emergency.

The message says that it happened and where the rest is read: no name, reason or document. When it
cannot be sent, the opening stands and the record's own page tells it; ``pli access list`` shows
which ones were not told.

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
        message = _message(services, professional, recipient)
        result = await services.submissions.submit(message)
        sent += isinstance(result, Submitted)
    if sent != len(recipients):
        log.warning("emergency_not_told", phase="care")
        return
    arguments = {"id": right_id, "actor": professional.actor}
    try:
        await services.record("emergency_told", arguments)
    except (OSError, MailServerError, RecordBridgeError) as error:
        log.warning("emergency_not_noted", error_type=type(error).__name__, phase="care")


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
    services: WebmailServices, professional: Professional, recipient: str
) -> SubmissionMessage:
    at = services.clock()
    mailbox = professional.mailbox
    local, _, domain = mailbox.address.rpartition("@")
    to_local, _, to_domain = recipient.rpartition("@")
    draft = Draft(
        author=NamedAddress(mailbox.display_name, Address(local, domain)),
        to=(NamedAddress("", Address(to_local, to_domain)),),
        subject=TOLD_SUBJECT,
        text=TOLD_TEXT,
        message_id=f"<{secrets.token_hex(16)}@{services.settings.host}>",
        at=at,
    )
    return SubmissionMessage(
        compose(draft), mailbox.address, (recipient,), mailbox, at, Via.WEBMAIL
    )
