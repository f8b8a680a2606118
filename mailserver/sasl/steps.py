"""What an exchange is made of: challenges, claims, and the lines they travel in.

Invariants: a response is strict base64 in its one spelling, and bounded before it is decoded; no
value here shows a secret when it is printed.

Source: RFC 4422 §3, RFC 4954 §4, RFC 9051 §6.2.2, RFC 4959 §3.
"""

import binascii
import re
from abc import ABC, abstractmethod
from base64 import b64encode
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import ClassVar, Final

from mailserver.sasl.errors import AbortedError, MalformedError

RESPONSE_OCTETS: Final = 6144
"""Decoded, of one response: a signed token of an identity provider takes two to four thousand."""
NAME_OCTETS: Final = 255
"""RFC 4616 §2: a name and a password have up to 255 octets each."""
_LINE: Final = RESPONSE_OCTETS // 3 * 4
_CANCEL: Final = b"*"
_EMPTY: Final = b"="
_ESCAPED: Final = re.compile(r"=(2C|3D)")
_STRAY: Final = re.compile(r"=(?!2C|3D)")


@dataclass(frozen=True, slots=True)
class Channel:
    """What a connection gives a mechanism to work with.

    Attributes:
        binding: digest of our certificate for ``tls-server-end-point``, None without TLS.
        fingerprint: of the client's verified certificate, None when it showed none.
    """

    binding: bytes | None = None
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Attempt:
    """What a client begins with.

    Attributes:
        mechanism: its name, upper case.
        initial: the initial response, still base64, None when absent.
        channel: of its connection.
        host: its network address.
    """

    mechanism: str
    initial: bytes | None
    channel: Channel
    host: str


class Outcome(Enum):
    """What became of an attempt."""

    ACCEPTED = auto()
    REFUSED = auto()
    LATER = auto()
    """Too many have failed: this one was not looked at."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """Send it and come back with the response."""

    octets: bytes


@dataclass(frozen=True, slots=True, repr=False)
class PasswordClaim:
    """Who says what."""

    refusal: ClassVar[bytes] = b""
    login: str
    secret: str


@dataclass(frozen=True, slots=True, repr=False)
class ScramClaim:
    """Who proves to know a secret; ``scram.match`` holds it against the keys that were kept.

    Attributes:
        message: what the two sides sign, the AuthMessage of RFC 5802 §3.
        proof: the client's.
    """

    refusal: ClassVar[bytes] = b""
    login: str
    message: bytes
    proof: bytes


@dataclass(frozen=True, slots=True)
class CertificateClaim:
    """The bearer of a certificate; ``login`` is whom it asks to be, empty to leave it to us."""

    refusal: ClassVar[bytes] = b""
    login: str
    fingerprint: str


@dataclass(frozen=True, slots=True, repr=False)
class TokenClaim:
    """The bearer of a token; ``login`` as for a certificate.

    Attributes:
        refusal: a last challenge that tells the client why, before it is refused.
    """

    login: str
    token: str
    refusal: bytes = field(kw_only=True)


Claim = PasswordClaim | ScramClaim | CertificateClaim | TokenClaim
"""Who somebody says to be; a claim with a ``refusal`` is told it before the refusal itself."""


class Mechanism(ABC):
    """One exchange, seen from the server; it serves once."""

    @abstractmethod
    def respond(self, response: bytes | None) -> Challenge | Claim:
        """Take the next response, None when the client began without one.

        Raises:
            MalformedError: it is not of this mechanism's shape.
            ForbiddenError: it is, and nobody may have it.
        """


def decode_response(line: bytes) -> bytes:
    """Decode the answer to a challenge.

    Raises:
        AbortedError: the client cancelled.
        MalformedError: too long, or not base64 in its one spelling.
    """
    if line == _CANCEL:
        raise AbortedError
    if len(line) > _LINE:
        raise MalformedError
    try:
        response = binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error:
        raise MalformedError from None
    if b64encode(response) != line:  # unused bits set: two spellings of one response
        raise MalformedError
    return response


def decode_initial(line: bytes) -> bytes:
    """Decode an initial response, where ``=`` stands for an empty one.

    Raises:
        AbortedError, MalformedError: as ``decode_response``.

    Source: RFC 4954 §4, RFC 4959 §3.
    """
    return b"" if line == _EMPTY else decode_response(line)


def encode_challenge(octets: bytes) -> bytes:
    """Write a challenge as it goes on the wire."""
    return b64encode(octets)


def name(octets: bytes) -> str:
    """Read a name or a password.

    Raises:
        MalformedError: empty, over 255 octets, not UTF-8, or with a NUL.
    """
    if not octets or len(octets) > NAME_OCTETS or b"\0" in octets:
        raise MalformedError
    return text(octets)


def saslname(written: str) -> str:
    """Read a name in which a comma is written ``=2C`` and an equals sign ``=3D``.

    Raises:
        MalformedError: any other ``=``, or as ``name``.

    Source: RFC 5801 §4, RFC 5802 §5.1.
    """
    if _STRAY.search(written):
        raise MalformedError
    plain = _ESCAPED.sub(lambda found: "," if found[1] == "2C" else "=", written)
    return name(plain.encode("utf-8"))


def text(octets: bytes) -> str:
    """Read UTF-8.

    Raises:
        MalformedError: it is none.
    """
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedError from None


def same_name(authzid: str, login: str) -> bool:
    """Say whether somebody asks to act as whom it logs in as, or leaves it open."""
    return authzid.lower() in {"", login.lower()}
