"""A strict reader of delivery status notifications: what the ABNF does not allow is an error.

Written from the specification alone, without the product's reader or writer, so that a
notification the product makes is judged by somebody else.

Source: RFC 3464 §2, RFC 3462 §1, RFC 6533 §3, RFC 5322 §2.1.1.
"""

import email
import email.message
import email.policy
import re
from dataclasses import dataclass

_DATE = (
    r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), )?\d{1,2}"
    r" (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d\d:\d\d(?::\d\d)? [+-]\d{4}"
)
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_TYPED = rf"{_ATOM}; ?[ -~]+"
_NAMED_HOST = r"dns; ?[A-Za-z0-9.\[\]:-]+"
_PER_MESSAGE = (
    ("Original-Envelope-Id", r"[ -~]+", False),
    ("Reporting-MTA", _NAMED_HOST, True),
    ("DSN-Gateway", _TYPED, False),
    ("Received-From-MTA", _TYPED, False),
    ("Arrival-Date", _DATE, False),
)
_PER_RECIPIENT = (
    ("Original-Recipient", _TYPED, False),
    ("Final-Recipient", rf"(?:{_TYPED}|utf-8; ?.+)", True),
    ("Action", r"failed|delayed|delivered|relayed|expanded", True),
    ("Status", r"[245]\.\d{1,3}\.\d{1,3}", True),
    ("Remote-MTA", _TYPED, False),
    ("Diagnostic-Code", _TYPED, False),
    ("Last-Attempt-Date", _DATE, False),
    ("Final-Log-ID", r"[ -~]+", False),
    ("Will-Retry-Until", _DATE, False),
)
_CLASSES = {"failed": "45", "delayed": "4", "delivered": "2", "relayed": "2", "expanded": "2"}


class NotADsnError(ValueError):
    """What is wrong."""


@dataclass(frozen=True, slots=True)
class Dsn:
    """A notification: its header, its groups of fields, and what it returns of the original."""

    header: email.message.Message
    message: dict[str, str]
    recipients: tuple[dict[str, str], ...]
    returned: bytes


def read_dsn(raw: bytes) -> Dsn:
    """Read a whole message as a notification.

    Raises:
        NotADsnError: it is none, or breaks a rule.
    """
    head, separator, _ = raw.partition(b"\r\n\r\n")
    _must(bool(separator), "no empty line")
    _must(not re.search(rb"(?<!\r)\n|\r(?!\n)", raw), "a line end that is not CRLF")
    _must(all(len(line) <= 998 for line in raw.split(b"\r\n")), "a line too long")
    _must(head.isascii(), "a header that is not ASCII")
    try:
        parsed = email.message_from_bytes(
            raw, policy=email.policy.compat32.clone(raise_on_defect=True)
        )
    except email.errors.MessageError as error:
        raise NotADsnError("MIME") from error
    for name in ("From", "To", "Date", "Message-ID", "Subject", "MIME-Version"):
        _must(len(parsed.get_all(name, [])) == 1, f"not one {name}")
    _must(parsed["Auto-Submitted"] == "auto-replied", "Auto-Submitted")
    _must(parsed.get_content_type() == "multipart/report", "not multipart/report")
    _must(parsed.get_param("report-type") == "delivery-status", "report-type")
    payload = parsed.get_payload()
    parts = [each for each in payload if not isinstance(each, str)]
    _must(len(parts) in (2, 3), "not two or three parts")
    _must(parts[0].get_content_maintype() == "text", "no text first")
    kind = parts[1].get_content_type()
    _must(
        kind in ("message/delivery-status", "message/global-delivery-status"), "no status second"
    )
    section = _second(raw, parsed.get_boundary() or "")
    _must(kind.startswith("message/global") or section.isascii(), "status that is not ASCII")
    first, *rest = _groups(section)
    recipients = tuple(_fields(group, _PER_RECIPIENT) for group in rest)
    _must(bool(recipients), "no recipient")
    for each in recipients:
        _must(each["Status"][0] in _CLASSES[each["Action"]], "a status of another class")
        _must("Will-Retry-Until" not in each or each["Action"] == "delayed", "a retry of no delay")
    returned = b""
    if len(parts) == 3:
        _must(
            parts[2].get_content_type() in ("text/rfc822-headers", "message/rfc822"),
            "third part",
        )
        returned = str(parts[2].get_payload()).encode()
    return Dsn(parsed, _fields(first, _PER_MESSAGE), recipients, returned)


def _must(holds: bool, what: str) -> None:  # noqa: FBT001 (an assertion)
    if not holds:
        raise NotADsnError(what)


def _second(raw: bytes, boundary: str) -> bytes:
    pieces = raw.split(b"\r\n--" + boundary.encode())
    _must(len(pieces) >= 4, "boundaries")
    return pieces[2].removeprefix(b"\r\n").partition(b"\r\n\r\n")[2]


def _groups(section: bytes) -> list[str]:
    text = section.decode("utf-8").strip("\r\n")
    groups = text.split("\r\n\r\n")
    _must(len(groups) >= 2, "no group for a recipient")
    return groups


def _fields(group: str, grammar: tuple[tuple[str, str, bool], ...]) -> dict[str, str]:
    """Read one group: each field once, in the order of the ABNF, required ones there."""
    names = [name for name, _, _ in grammar]
    found: dict[str, str] = {}
    last = -1
    for line in group.split("\r\n"):
        name, colon, value = line.partition(": ")
        _must(bool(colon) and name in names and name not in found, "a field of another kind")
        _must(names.index(name) > last, "fields out of order")
        last = names.index(name)
        found[name] = value.strip()
    for name, pattern, required in grammar:
        _must(name in found or not required, f"no {name}")
        _must(name not in found or re.fullmatch(pattern, found[name]) is not None, f"bad {name}")
    return found
