"""Delivery status notifications: what a sender is told of a message that left their hands.

Invariants: one notification speaks of one recipient, and names no other (RULES §11); the original
comes back as four header fields, never its body, whatever RET asks; the text a peer gave is kept
in printable ASCII. A recipient that is not ASCII is written as RFC 6533 says.

Source: RFC 3464 §2, RFC 3461 §6, RFC 6533 §3, RFC 3462 §1, RFC 3834 §3.1.4.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from certs.addresses import Mailbox
from certs.mime import Outline, encode_header
from certs.mime_words import unfold
from mailserver.message.compose import encode_mailbox, field, multipart, text_part
from mailserver.message.headers import encode_date

RETURNED_FIELDS: Final = ("From", "Date", "Message-ID", "Subject")
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")
_STATUS: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_MAX_DIAGNOSTIC: Final = 400


class Action(Enum):
    """What became of the message for the recipient. Source: RFC 3464 §2.3.3."""

    FAILED = "failed"
    DELAYED = "delayed"
    RELAYED = "relayed"
    DELIVERED = "delivered"


_CLASS: Final = {Action.FAILED: "5", Action.DELAYED: "4"}
_SUBJECT: Final = {
    Action.FAILED: "Message non distribué",
    Action.DELAYED: "Message en attente de distribution",
    Action.RELAYED: "Message transmis",
    Action.DELIVERED: "Message distribué",
}
_OPENING: Final = {
    Action.FAILED: "Votre message n'a pas pu être remis au destinataire suivant :",
    Action.DELAYED: "Votre message n'a pas encore pu être remis au destinataire suivant :",
    Action.RELAYED: "Votre message a été transmis à l'opérateur du destinataire suivant, qui "
    "ne confirme pas la remise :",
    Action.DELIVERED: "Votre message a été remis dans la boîte du destinataire suivant :",
}
_CLOSING: Final = {
    Action.FAILED: "Aucune nouvelle tentative ne sera faite.",
    Action.DELAYED: "De nouvelles tentatives sont faites ; vous n'avez rien à faire.",
    Action.RELAYED: "Vous ne recevrez pas d'autre avis de remise.",
    Action.DELIVERED: "Cet avis ne prouve pas que le message a été lu.",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """What became of one recipient; a failure unless ``action`` says otherwise.

    Attributes:
        recipient: the forward path given at submission.
        reply: the peer's last SMTP reply, or ours; "" when there was none.
        remote_mta: host name of the server that said so, "" when it was us.
        original: ``type;address`` as the sender gave it in ORCPT, "" when not given.
        retry_until: until when a delayed message is tried.
    """

    recipient: str
    reply: str
    remote_mta: str = ""
    action: Action = Action.FAILED
    original: str = ""
    retry_until: datetime | None = None

    @property
    def status(self) -> str:
        """The enhanced status code in the reply, else what the action allows."""
        digit = _CLASS.get(self.action, "2")
        found = _STATUS.search(self.reply)
        if found is not None and (found[0][0] in "45") == (digit in "45"):
            return digit + found[0][1:]
        return f"{digit}.0.0"


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification to write, and to whom.

    Attributes:
        sender: shown as author: the postmaster of this site.
        to: the reverse path of the original.
        reporting_mta: this host's name.
        original: outline of the message spoken of; None when it cannot be read any more.
        envid: the sender's name for the envelope, "" when there is none.
    """

    sender: Mailbox
    to: Mailbox
    message_id: str
    reporting_mta: str
    arrived_at: datetime
    at: datetime
    failure: Failure
    original: Outline | None
    envid: str = ""


def build(notification: Notification) -> bytes:
    """Write the notification as a whole message.

    Source: RFC 3464 §2.1.
    """
    original_id = _returned(notification.original, "Message-ID")
    head = b"".join(
        (
            field("From", encode_mailbox(notification.sender)),
            field("To", encode_mailbox(notification.to)),
            field("Subject", encode_header(_SUBJECT[notification.failure.action])),
            field("Date", encode_date(notification.at)),
            field("Message-ID", notification.message_id.encode("ascii", "replace")),
            field("In-Reply-To", original_id),
            field("References", original_id),
            b"Auto-Submitted: auto-replied\r\n",
            b"MIME-Version: 1.0\r\n",
        )
    )
    parts = [
        text_part(_text(notification.failure)),
        _status_type(notification.failure) + _status(notification),
        b"Content-Type: text/rfc822-headers\r\n\r\n" + _headers(notification.original),
    ]
    return head + multipart("report", parts, params=b" report-type=delivery-status;")


def _status_type(failure: Failure) -> bytes:
    if failure.recipient.isascii():
        return b"Content-Type: message/delivery-status\r\n\r\n"
    return (
        b"Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )


def _text(failure: Failure) -> str:
    lines = [_OPENING[failure.action], "", f"    {_one_line(failure.recipient)}", ""]
    reason = _printable(failure.reply)
    if failure.action in _CLASS:
        lines += [f"Réponse du serveur : {reason or 'aucune réponse du destinataire'}", ""]
    lines.append(_CLOSING[failure.action])
    return "\n".join(lines) + "\n"


def _status(notification: Notification) -> bytes:
    # per-message-fields CRLF per-recipient-fields (RFC 3464 §2.1)
    failure = notification.failure
    lines = []
    if notification.envid:
        lines.append(f"Original-Envelope-Id: {_printable(notification.envid)}")
    lines += [
        f"Reporting-MTA: dns; {_printable(notification.reporting_mta)}",
        f"Arrival-Date: {encode_date(notification.arrived_at).decode('ascii')}",
        "",
    ]
    if failure.original:
        kind, _, address = failure.original.partition(";")
        lines.append(f"Original-Recipient: {kind}; {_printable(address)}")
    kind = "rfc822" if failure.recipient.isascii() else "utf-8"
    lines += [
        f"Final-Recipient: {kind}; {_one_line(failure.recipient)}",
        f"Action: {failure.action.value}",
        f"Status: {failure.status}",
    ]
    if failure.remote_mta:
        lines.append(f"Remote-MTA: dns; {_printable(failure.remote_mta)}")
    if failure.reply:
        lines.append(f"Diagnostic-Code: smtp; {_printable(failure.reply)}")
    lines.append(f"Last-Attempt-Date: {encode_date(notification.at).decode('ascii')}")
    if failure.retry_until is not None:
        lines.append(f"Will-Retry-Until: {encode_date(failure.retry_until).decode('ascii')}")
    return ("\r\n".join(lines) + "\r\n").encode("utf-8")


def _headers(original: Outline | None) -> bytes:
    return b"".join(field(name, _returned(original, name)) for name in RETURNED_FIELDS)


def _returned(original: Outline | None, name: str) -> bytes:
    found = original.fields(name) if original is not None else []
    if not found:
        return b""
    value = unfold(found[0].value).strip()
    if not value.isascii() or b"\r" in value or b"\n" in value:
        return b""
    return b"\r\n ".join(value[at : at + 900] for at in range(0, len(value[:9000]), 900))


def _one_line(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[:_MAX_DIAGNOSTIC]


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub(" ", text).strip()[:_MAX_DIAGNOSTIC]
