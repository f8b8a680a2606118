"""What the server writes before a message, and what it cuts out of a stranger's; pure.

Invariants: after ``cut``, no field of the message bears our authserv-id, and none is a
Return-Path or a Delivered-To; every other octet is as it came. A prefix is whole CRLF lines and
holds nothing that the peer chose but its HELO name, reduced to the letters of a host name, and
the reverse path. No recipient is in Received (RULES §11: an address can be an INS).

Source: RFC 5321 §4.4, RFC 8601 §5, DESIGN D5b, threats S17.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from certs.mime import HeaderField, Outline
from mailserver.message.headers import encode_date
from record_bridge.formats.auth_results import AuthResults, encode, names_authserv_id

CUT_FIELDS: Final = frozenset({"return-path", "delivered-to"})
_TRACE_FIELDS: Final = CUT_FIELDS | {"authentication-results", "received"}
_HOST: Final = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")


@dataclass(frozen=True, slots=True)
class Trace:
    """How a message came in.

    Attributes:
        reverse_path: without angle brackets, "" for the null one.
        helo: what the client called itself; None when it did not connect by SMTP.
        protocol: the ``with`` keyword: ESMTPS, ESMTPSA, UTF8SMTPS, UTF8SMTPSA, HTTPS, LOCAL.
    """

    receipt_id: str
    host: str
    reverse_path: str
    helo: str | None
    protocol: str
    results: AuthResults | None
    at: datetime


def with_keyword(protocol: str, *, smtputf8: bool) -> str:
    """Give the ``with`` keyword of a transaction. Source: RFC 6531 §4.3."""
    return protocol.replace("ESMTP", "UTF8SMTP", 1) if smtputf8 else protocol


def received(trace: Trace) -> bytes:
    """Write the Received field, without a ``for`` clause.

    Source: RFC 5321 §4.4, RFC 3848 §1.
    """
    source = ""
    if trace.helo is not None:
        source = f"from {trace.helo if _HOST.fullmatch(trace.helo) else 'unknown'} "
    return (
        f"Received: {source}by {trace.host}\r\n"
        f" with {trace.protocol} id {trace.receipt_id};\r\n {encode_date(trace.at).decode()}\r\n"
    ).encode("ascii", "replace")


def prefix(trace: Trace, delivered_to: Iterable[str]) -> bytes:
    """Write the prefix of one folder entry (DESIGN D5b)."""
    lines = [f"Return-Path: <{trace.reverse_path}>\r\n".encode("utf-8", "replace")]
    lines.extend(
        f"Delivered-To: {address}\r\n".encode("ascii", "replace") for address in delivered_to
    )
    lines.append(received(trace))
    if trace.results is not None:
        lines.append(encode(trace.results))
    return b"".join(lines)


def is_stranger(authserv_id: str) -> Callable[[HeaderField], bool]:
    """Give the test of the fields that only this server may have written."""

    def test(field: HeaderField) -> bool:
        name = field.name.lower()
        if name in CUT_FIELDS:
            return True
        return name == "authentication-results" and names_authserv_id(field.value, authserv_id)

    return test


def is_trace(field: HeaderField) -> bool:
    """Whether a field says how a message came: none may in what nobody delivered (RULES §4)."""
    return field.name.lower() in _TRACE_FIELDS


def cut(raw: bytes, outline: Outline, unwanted: Callable[[HeaderField], bool]) -> bytes:
    """Take whole header fields out of a message; the same object when there is none to take."""
    pieces: list[bytes] = []
    at = 0
    for field in outline.header:
        if unwanted(field):
            pieces.append(raw[at : field.start])
            at = field.end
    if not at:
        return raw
    pieces.append(raw[at:])
    return b"".join(pieces)
