"""The answer to a sender who asked for one: a disposition notification with a business code.

It says what became of the message and nothing about anybody else: no local trait, no candidate,
no other patient, no other recipient. The original goes back without the lines that this site put
on top of it.

Source: RFC 8098 §3, RFC 6522 §3, CI-SIS §LPS-MSS, RULES §9.
"""

import quopri
import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final

from certs import mime
from certs.mime_words import encode_header
from record_bridge.model import ErrorCode, Opened

INTEGRATED: Final = (
    "Intégré automatiquement au dossier ; ce message ne prouve pas qu'un professionnel l'a lu"
)
MAX_ENUMERATIONS: Final = 20
"""Most outcomes 902 and 904 an hour told to one origin; beyond, answers say 906 (RULES §9)."""

_SENT: Final = "automatic-action/MDN-sent-automatically"
_MESSAGE_ID: Final = re.compile(r"<[!-;=?-~]{1,900}>", re.ASCII)
_ADDRESS: Final = re.compile(r"[!-;=?-~]{1,320}", re.ASCII)
_TOP_FIELDS: Final = frozenset({"return-path", "delivered-to"})
_ERROR: Final = re.compile(r"(9\d\d|\d{1,3})\^([^^|]*)\^(?:application|message)ErrorCondition")


@dataclass(frozen=True, slots=True)
class MdnRequest:
    """One answer to make.

    Attributes:
        final_recipient: the mailbox the message was addressed to, never the application one.
        send_to: who asked (equal to the return path).
        code: why it was not filed; None when it was.
        message_id: of the answer, with its angle brackets; derived from the item.
        boundary: a string that occurs in nothing that is sent; ASCII letters and digits.
        original: the message as fetched; b"" leaves the third part out.
        authserv_id: whose Authentication-Results is cut from the original.
    """

    final_recipient: str
    send_to: str
    code: ErrorCode | None
    message_id: str
    at: datetime
    boundary: str
    original_message_id: str = ""
    original_subject: str = ""
    original: bytes = b""
    authserv_id: str = ""


@dataclass(frozen=True, slots=True)
class MdnReport:
    """A notification that was read.

    Attributes:
        disposition: its type, lower case ("processed", "displayed").
        modifiers: its modifiers, lower case ("error").
        code: the business code, None without one.
        label: the text that came with the code, as the sender wrote it.
    """

    final_recipient: str
    original_message_id: str
    disposition: str
    modifiers: tuple[str, ...]
    code: int | None
    label: str


def asked_by(opened: Opened) -> str | None:
    """Whom to answer; None when nobody may be answered automatically.

    Source: RULES §9, RFC 8098 §2.1 (Disposition-Notification-To must equal the return path).
    """
    asked = opened.notify_to
    return asked if asked and asked == opened.return_path else None


def told(code: ErrorCode | None, enumerations: int) -> ErrorCode | None:
    """The code that is told, given how many 902 and 904 this origin had in the last hour.

    Args:
        code: of this outcome.
        enumerations: outcomes 902 and 904 of the origin in the last hour, this one included.

    Source: RULES §9 (a sender that guesses identities learns nothing more).
    """
    if code in (ErrorCode.UNKNOWN_PATIENT, ErrorCode.TRAITS_DIFFER):
        return code if enumerations <= MAX_ENUMERATIONS else ErrorCode.OTHER
    return code


def first_line(code: ErrorCode | None) -> str:
    """What a person reads first.

    Source: RULES §9.
    """
    return INTEGRATED if code is None else f"{code.value} - {code.label}"


def build(request: MdnRequest) -> bytes:
    """The whole answer as a message, CRLF line ends, without Bcc, ready for submission.

    Source: RFC 8098 §3, RULES §9.
    """
    original = without_prefix(request.original, request.authserv_id)
    is_eight_bit = not original.isascii()
    parts = [
        _part("text/plain; charset=utf-8", "quoted-printable", _text(request)),
        _part("message/disposition-notification", "7bit", _fields(request)),
    ]
    if original:
        parts.append(_part("message/rfc822", "8bit" if is_eight_bit else "7bit", original))
    boundary = request.boundary.encode("ascii")
    written = _header(request, is_eight_bit=is_eight_bit)
    for part in parts:
        written += b"--" + boundary + b"\r\n" + part + b"\r\n"
    return written + b"--" + boundary + b"--\r\n"


def parse(raw: bytes) -> MdnReport | None:
    """Read a notification; None when the message is not one.

    The business code is read from the ``Error`` field, and from the Disposition field where an
    older form puts it.

    Source: RFC 8098 §3.1, RULES §9.
    """
    outline = mime.scan(raw)
    for part in mime.walk(outline):
        if part.type == "message/disposition-notification":
            return _report(mime.decode_body(raw, part))
    return None


def without_prefix(raw: bytes, authserv_id: str) -> bytes:
    """The message less the fields that the receiving server put on top of it.

    Its Delivered-To fields name other recipients, a patient's address among them.

    Source: RULES §11, DESIGN §2 (D5b).
    """
    outline = mime.scan(raw)
    kept: list[bytes] = []
    at = 0
    is_on_top = True
    for field in outline.header:
        name = field.name.lower()
        trusted = name == "authentication-results" and authserv_id.encode() in field.value
        if name in _TOP_FIELDS or trusted or (name == "received" and is_on_top):
            kept.append(raw[at : field.start])
            at = field.end
            is_on_top = is_on_top and name != "received"
        else:
            is_on_top = False
    kept.append(raw[at:])
    return b"".join(kept)


def _header(request: MdnRequest, *, is_eight_bit: bool) -> bytes:
    subject = request.original_subject[:200]
    tag = f"[KO Intégration système !][{request.code.value}]" if request.code else "[Intégré]"
    answered = _MESSAGE_ID.fullmatch(request.original_message_id)
    fields = [
        ("From", f"<{_address(request.final_recipient)}>".encode("ascii")),
        ("To", f"<{_address(request.send_to)}>".encode("ascii")),
        ("Subject", encode_header(f"{tag} {subject}".strip())),
        ("Date", format_datetime(request.at.astimezone(UTC)).encode("ascii")),
        ("Message-ID", request.message_id.encode("ascii")),
    ]
    if answered:
        fields.append(("In-Reply-To", answered[0].encode("ascii")))
        fields.append(("References", answered[0].encode("ascii")))
    fields.extend(
        (
            ("Auto-Submitted", b"auto-replied"),
            ("MIME-Version", b"1.0"),
            (
                "Content-Type",
                b"multipart/report; report-type=disposition-notification;\r\n"
                b' boundary="' + request.boundary.encode("ascii") + b'"',
            ),
        )
    )
    if is_eight_bit:
        fields.append(("Content-Transfer-Encoding", b"8bit"))
    return b"".join(name.encode() + b": " + value + b"\r\n" for name, value in fields) + b"\r\n"


def _part(content_type: str, encoding: str, content: bytes) -> bytes:
    head = f"Content-Type: {content_type}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode("ascii") + content


def _text(request: MdnRequest) -> bytes:
    lines = [first_line(request.code)]
    if request.code is not None:
        lines.append("Le message n'a pas été intégré automatiquement ; un professionnel décidera.")
    text = "\n".join((*lines, "")).encode()
    return quopri.encodestring(text).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _fields(request: MdnRequest) -> bytes:
    """Source: RFC 8098 §3.1, MSS-FACTS §2.3."""
    domain = request.final_recipient.rpartition("@")[2]
    lines = [
        f"Reporting-UA: {domain}; Pli",
        f"Final-Recipient: rfc822;{_address(request.final_recipient)}",
    ]
    answered = _MESSAGE_ID.fullmatch(request.original_message_id)
    if answered:
        lines.append(f"Original-Message-ID: {answered[0]}")
    if request.code is None:
        lines.append(f"Disposition: {_SENT}; processed")
    else:
        label = unicodedata.normalize("NFKD", request.code.label).encode("ascii", "ignore")
        lines.append(f"Disposition: {_SENT}; processed/error")
        lines.append(
            f"Error: {request.code.value}^{label.decode('ascii')}"
            "^applicationErrorCondition|E^Error^errorSeverity"
        )
    return ("\r\n".join(lines) + "\r\n").encode("ascii")


def _address(text: str) -> str:
    """An address that cannot break a header line."""
    return text if _ADDRESS.fullmatch(text) else "invalid"


def _report(content: bytes) -> MdnReport | None:
    fields: dict[str, str] = {}
    unfolded = re.sub(rb"\r?\n[ \t]+", b" ", content[:16384])
    for line in unfolded.splitlines():
        name, colon, value = line.partition(b":")
        if colon:
            fields.setdefault(name.strip().lower().decode("latin-1"), _decoded(value))
    disposition = fields.get("disposition", "")
    if ";" not in disposition:
        return None
    kind, _, rest = disposition.partition(";")[2].strip().partition("/")
    error = _ERROR.search(fields.get("error", "")) or _ERROR.search(disposition)
    words = re.split(r"[,;:]", rest.partition("^")[0])
    modifiers = [w.strip().lower() for w in words if w.strip() and not w.strip().isdigit()]
    return MdnReport(
        final_recipient=fields.get("final-recipient", "").partition(";")[2].strip().lower(),
        original_message_id=fields.get("original-message-id", ""),
        disposition=re.split(r"[,;:]", kind)[0].strip().lower(),
        modifiers=tuple(modifiers),
        code=int(error[1]) if error else None,
        label=error[2].strip() if error else "",
    )


def _decoded(value: bytes) -> str:
    try:
        return value.decode("utf-8").strip()
    except UnicodeDecodeError:
        return value.decode("latin-1").strip()
