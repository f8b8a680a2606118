"""Read the answers of AUTH PLAIN and AUTH LOGIN; pure.

Source: RFC 4954 §4, RFC 4616 §2.
"""

import binascii
from base64 import b64decode
from dataclasses import dataclass

MECHANISMS = ("PLAIN", "LOGIN")
MAX_RESPONSE_OCTETS = 1024
"""Decoded; RFC 4616 §2 lets a name and a password have 255 octets each."""
USERNAME_CHALLENGE = b"334 VXNlcm5hbWU6\r\n"
PASSWORD_CHALLENGE = b"334 UGFzc3dvcmQ6\r\n"
EMPTY_CHALLENGE = b"334 \r\n"


class SaslError(ValueError):
    """A response is not base64, too long or not of its mechanism's shape."""

    def __init__(self) -> None:
        super().__init__("not a well-formed response")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client says it is; never printed."""

    login: str
    secret: str

    def __repr__(self) -> str:
        return "Credentials()"


def decode(response: bytes) -> bytes:
    """Decode one base64 response; '=' alone is the empty one.

    Raises:
        SaslError: not base64, or too long.

    Source: RFC 4954 §4.
    """
    if response == b"=":
        return b""
    if len(response) > MAX_RESPONSE_OCTETS * 4 // 3 + 4:
        raise SaslError
    try:
        return b64decode(response, validate=True)
    except (binascii.Error, ValueError):
        raise SaslError from None


def text(octets: bytes) -> str:
    """Give a name or a password as text.

    Raises:
        SaslError: empty, not UTF-8, or with a NUL.
    """
    if not octets or b"\0" in octets:
        raise SaslError
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise SaslError from None


def parse_plain(response: bytes) -> Credentials:
    """Read ``[authzid] NUL authcid NUL passwd``; acting for another is not offered.

    Raises:
        SaslError: another shape, or an authzid that is not the authcid.
    """
    pieces = response.split(b"\0")
    if len(pieces) != 3 or pieces[0] not in {b"", pieces[1]}:
        raise SaslError
    return Credentials(text(pieces[1]), text(pieces[2]))
