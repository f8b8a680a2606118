"""New messages: text, attachments and threading, as octets ready to be sent.

Invariants: the result is 7-bit with CRLF line ends and lines within 998 octets; no value given
can open a header field or a part of its own (S11); the same draft gives the same octets.

Source: RFC 5322 §3.6, RFC 2045 §6, RFC 2046 §5.1, RFC 2183 §2.
"""

import binascii
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pybase64

from certs.addresses import Mailbox
from certs.mime import encode_header, encode_parameter
from mailserver.message.headers import encode_date

_ATOMS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]*")
_MEDIA_TYPE: Final = re.compile(
    r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}"
)
_FIELD_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,70}")
_MESSAGE_ID: Final = re.compile(r"<[!-;=?-~]+@[!-;=?-~]+>")
_NEWLINE: Final = re.compile(r"\r\n|\r|\n")
_MAX_LINE: Final = 998  # RFC 5322 §2.1.1
_MAX_REFERENCES: Final = 20
_LINE_OCTETS: Final = 57
_MAX_FILENAME: Final = 200


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file to send. ``type`` is a media type; one that is not well formed is sent as octets."""

    filename: str
    type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Draft:
    """A message to write.

    Attributes:
        message_id: with its brackets.
        in_reply_to: identifier of the message answered, with its brackets.
        references: identifiers of the thread, oldest first, with their brackets.
        extra: further fields, such as ("X-MSS-MES", "FIN").
        reply: an answer to an invitation (iCalendar, METHOD:REPLY); then there are no attachments.
    """

    author: Mailbox
    to: tuple[Mailbox, ...]
    subject: str
    text: str
    message_id: str
    at: datetime
    cc: tuple[Mailbox, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    in_reply_to: str | None = None
    references: tuple[str, ...] = ()
    extra: tuple[tuple[str, str], ...] = ()
    reply: bytes = b""


def compose(draft: Draft) -> bytes:
    """Write a message."""
    lines = [
        field("From", encode_mailbox(draft.author)),
        field("To", encode_mailboxes(draft.to)) if draft.to else b"",
        field("Cc", encode_mailboxes(draft.cc)) if draft.cc else b"",
        field("Subject", encode_header(draft.subject)),
        field("Date", encode_date(draft.at)),
        field("Message-ID", _identifiers((draft.message_id,))),
    ]
    if draft.in_reply_to is not None:
        lines.append(field("In-Reply-To", _identifiers((draft.in_reply_to,))))
    if draft.references:
        kept = draft.references
        if len(kept) > _MAX_REFERENCES:  # RFC 5322 §3.6.4: the first and the last ones matter
            kept = (kept[0], *kept[1 - _MAX_REFERENCES :])
        lines.append(field("References", _identifiers(kept)))
    lines.extend(
        field(name, encode_header(value))
        for name, value in draft.extra
        if _FIELD_NAME.fullmatch(name)
    )
    lines.append(b"MIME-Version: 1.0\r\n")
    text = text_part(draft.text)
    if draft.reply:
        return b"".join(lines) + multipart("alternative", [text, reply_part(draft.reply)])
    if draft.attachments:
        parts = [text, *(attachment_part(item) for item in draft.attachments)]
        return b"".join(lines) + multipart("mixed", parts)
    return b"".join(lines) + text


def field(name: str, value: bytes) -> bytes:
    """Write one field; an empty value gives nothing."""
    return b"%b: %b\r\n" % (name.encode("ascii"), value) if value else b""


def encode_mailbox(mailbox: Mailbox) -> bytes:
    """Write a mailbox: ``"display" <address>`` or the address alone."""
    address = mailbox.address.text.encode("ascii")
    display = mailbox.display.strip()
    if not display:
        return address
    if display.isascii() and _ATOMS.fullmatch(display) is None and "=?" not in display:
        plain = encode_header(display).replace(b"\r\n ", b" ")
        escaped = plain.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        return b'"%b" <%b>' % (escaped, address)
    return b"%b <%b>" % (encode_header(display), address)


def encode_mailboxes(mailboxes: tuple[Mailbox, ...]) -> bytes:
    """Write a list of mailboxes, one a line."""
    return b",\r\n ".join(encode_mailbox(mailbox) for mailbox in mailboxes)


def _identifiers(values: tuple[str, ...]) -> bytes:
    kept = [value for value in values if value.isascii() and _MESSAGE_ID.fullmatch(value)]
    return "\r\n ".join(kept).encode("ascii")


def text_part(text: str) -> bytes:
    """Write a text/plain part, header and body, in UTF-8.

    Source: RFC 2045 §6.7.
    """
    body = "\r\n".join(_NEWLINE.split(text)).replace("\0", "").encode("utf-8", "replace")
    if not body.endswith(b"\r\n"):
        body += b"\r\n"
    encoding = b"7bit"
    if not body.isascii() or any(len(line) > _MAX_LINE for line in body.split(b"\r\n")):
        body = binascii.b2a_qp(body, istext=True)
        body = body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        encoding = b"quoted-printable"
    return (
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: %b\r\n\r\n%b"
        % (encoding, body)
    )


def attachment_part(attachment: Attachment) -> bytes:
    """Write an attachment, header and body, in base64; a 7-bit message/rfc822 stays as it is."""
    media = attachment.type.lower()
    if _MEDIA_TYPE.fullmatch(media) is None or media.startswith("multipart/"):
        media = "application/octet-stream"
    encoding, body = b"base64", b""
    if media.startswith("message/"):
        if _is_plain(attachment.content):
            encoding, body = b"7bit", attachment.content
        else:  # RFC 2046 §5.2.1: no other encoding is allowed for a message
            media = "application/octet-stream"
    if encoding == b"base64":
        body = base64_lines(attachment.content)
    name = encode_parameter("filename", attachment.filename[:_MAX_FILENAME])
    return (
        b"Content-Type: %b\r\nContent-Transfer-Encoding: %b\r\n"
        b"Content-Disposition: attachment;\r\n %b\r\n\r\n%b"
    ) % (media.encode("ascii"), encoding, name, body)


def reply_part(content: bytes) -> bytes:
    """Write the answer to an invitation, header and body.

    Source: RFC 6047 §2.4.
    """
    return (
        b"Content-Type: text/calendar; method=REPLY; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n" + base64_lines(content)
    )


def _is_plain(content: bytes) -> bool:
    pairs = content.count(b"\r\n")
    if not content.isascii() or b"\0" in content:
        return False
    if content.count(b"\n") != pairs or content.count(b"\r") != pairs:
        return False
    return all(len(line) <= _MAX_LINE for line in content.split(b"\r\n"))


def base64_lines(content: bytes) -> bytes:
    """Write octets in base64, 76 characters a line."""
    encoded = pybase64.b64encode(content)
    width = _LINE_OCTETS * 4 // 3
    lines = [encoded[at : at + width] for at in range(0, len(encoded), width)]
    return b"\r\n".join(lines) + b"\r\n"


def multipart(subtype: str, parts: list[bytes], *, params: bytes = b"") -> bytes:
    """Write a multipart, its Content-Type field first; the boundary comes from the content.

    Source: RFC 2046 §5.1.1.
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    boundary = b"=_pli_" + digest.hexdigest()[:40].encode("ascii")
    head = b'Content-Type: multipart/%b;%b\r\n boundary="%b"\r\n\r\n' % (
        subtype.encode("ascii"),
        params,
        boundary,
    )
    body = b"".join(b"--%b\r\n%b\r\n" % (boundary, part) for part in parts)
    return b"%b%b--%b--\r\n" % (head, body, boundary)
