"""Delivery status notifications: what a sender is told when a message could not be delivered.

Invariants: one notification speaks of one recipient, and names no other (RULES §11); the original
comes back as four header fields, never its body; the text a peer gave is kept in printable ASCII.

Source: RFC 3464 §2, RFC 3462 §1, RFC 3834 §3.1.4.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from certs.addresses import Mailbox
from certs.mime import Outline
from certs.mime_words import unfold
from mailserver.message.compose import encode_mailbox, field, multipart, text_part
from mailserver.message.headers import encode_date

RETURNED_FIELDS: Final = ("From", "Date", "Message-ID", "Subject")
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")
_STATUS: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_MAX_DIAGNOSTIC: Final = 400


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one recipient was not reached.

    Attributes:
        recipient: the forward path given at submission.
        reply: the peer's last SMTP reply, or ours; "" when there was none.
        remote_mta: host name of the server that said so, "" when it was us.
    """

    recipient: str
    reply: str
    remote_mta: str = ""

    @property
    def status(self) -> str:
        """The enhanced status code in the reply, else what its first digit allows."""
        found = _STATUS.search(self.reply)
        if found is not None and found[0][0] in "45":
            return "5" + found[0][1:]
        return "5.0.0"


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification to write, and to whom.

    Attributes:
        sender: shown as author: the postmaster of this site.
        to: the reverse path of the original.
        reporting_mta: this host's name.
        original: outline of the message that failed; None when it cannot be read any more.
    """

    sender: Mailbox
    to: Mailbox
    message_id: str
    reporting_mta: str
    arrived_at: datetime
    at: datetime
    failure: Failure
    original: Outline | None


def build(notification: Notification) -> bytes:
    """Write the notification as a whole message.

    Source: RFC 3464 §2.1.
    """
    original_id = _returned(notification.original, "Message-ID")
    head = b"".join(
        (
            field("From", encode_mailbox(notification.sender)),
            field("To", encode_mailbox(notification.to)),
            b"Subject: =?utf-8?q?Message_non_distribu=C3=A9?=\r\n",
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
        b"Content-Type: message/delivery-status\r\n\r\n" + _status(notification),
        b"Content-Type: text/rfc822-headers\r\n\r\n" + _headers(notification.original),
    ]
    return head + multipart("report", parts, params=b" report-type=delivery-status;")


def _text(failure: Failure) -> str:
    reason = _printable(failure.reply) or "aucune réponse du serveur destinataire"
    return (
        "Votre message n'a pas pu être remis au destinataire suivant :\n\n"
        f"    {_printable(failure.recipient)}\n\n"
        f"Réponse du serveur : {reason}\n\n"
        "Aucune nouvelle tentative ne sera faite.\n"
    )


def _status(notification: Notification) -> bytes:
    # per-message-fields CRLF per-recipient-fields (RFC 3464 §2.1)
    failure = notification.failure
    lines = [
        f"Reporting-MTA: dns; {_printable(notification.reporting_mta)}",
        f"Arrival-Date: {encode_date(notification.arrived_at).decode('ascii')}",
        "",
        f"Final-Recipient: rfc822; {_printable(failure.recipient)}",
        "Action: failed",
        f"Status: {failure.status}",
    ]
    if failure.remote_mta:
        lines.append(f"Remote-MTA: dns; {_printable(failure.remote_mta)}")
    if failure.reply:
        lines.append(f"Diagnostic-Code: smtp; {_printable(failure.reply)}")
    lines.append(f"Last-Attempt-Date: {encode_date(notification.at).decode('ascii')}")
    return ("\r\n".join(lines) + "\r\n").encode("ascii")


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


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub(" ", text).strip()[:_MAX_DIAGNOSTIC]
