"""The PLAIN mechanism, pure.

Source: RFC 4616 §2, RFC 4959 §3.
"""

import binascii
from dataclasses import dataclass

from mailserver.imap.errors import BadCommandError, Code, RefusedError

CANCEL = b"*"
RESPONSE_MAX = 4096
"""Octets of base64; a login and a device password need a few dozen."""


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """Who says what; never printed."""

    login: str
    secret: str


def decode_response(line: bytes) -> bytes:
    """Decode one answer to a challenge.

    Raises:
        BadCommandError: cancelled, too long, or not strict base64.
    """
    if line == CANCEL:
        raise BadCommandError("Cancelled")
    if len(line) > RESPONSE_MAX:
        raise BadCommandError("Response too long")
    try:
        return binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error:
        raise BadCommandError("Invalid base64") from None


def decode_initial(line: bytes) -> bytes:
    """Decode an initial response, where ``=`` stands for an empty one (RFC 4959 §3)."""
    return b"" if line == b"=" else decode_response(line)


def parse_plain(message: bytes) -> Credentials:
    """Read a PLAIN message.

    ``message = [authzid] UTF8NUL authcid UTF8NUL passwd``

    Raises:
        BadCommandError: not of this form.
        RefusedError: it asks to act as someone else than it logs in as.
    """
    parts = message.split(b"\0")
    if len(parts) != 3 or not parts[1] or not parts[2]:
        raise BadCommandError("Invalid PLAIN message")
    try:
        authzid, login, secret = (part.decode("utf-8") for part in parts)
    except UnicodeDecodeError:
        raise BadCommandError("Invalid PLAIN message") from None
    if authzid not in ("", login):
        raise RefusedError(Code.AUTHENTICATIONFAILED, "Authentication failed")
    return Credentials(login, secret)


def from_login(user: bytes, password: bytes) -> Credentials:
    """Read the arguments of LOGIN."""
    try:
        return Credentials(user.decode("utf-8"), password.decode("utf-8"))
    except UnicodeDecodeError:
        raise RefusedError(Code.AUTHENTICATIONFAILED, "Authentication failed") from None
