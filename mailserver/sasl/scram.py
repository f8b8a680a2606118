"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the server's side, and the keys that are kept.

Invariants: the salt comes from the name by a keyed digest and the count of iterations is fixed, so
that a name nobody has is challenged like any other; a client that could have bound the exchange to
the TLS channel, and was kept from seeing that we can, is refused; nonce and channel binding of the
last message are held against the first.

A mailbox has one salt and several device passwords: a proof is held against each of them. Their
secrets are 120 random bits, so that neither a common salt nor 4096 iterations weaken them.

Source: RFC 5802 §3, RFC 5802 §5, RFC 5802 §6, RFC 5802 §7, RFC 7677 §3, RFC 5929 §4.
"""

import hashlib
import hmac
import re
from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from mailserver.sasl.errors import AbortedError, ForbiddenError, MalformedError
from mailserver.sasl.steps import (
    Challenge,
    Channel,
    Claim,
    Mechanism,
    ScramClaim,
    decode_response,
    same_name,
    saslname,
    text,
)

ITERATIONS: Final = 4096
"""RFC 7677 §4 asks for 4096 at least; the secrets are random, so more would only cost."""
SALT_OCTETS: Final = 16
BINDING: Final = "tls-server-end-point"
_HASH: Final = "sha256"
_NONCE = re.compile(r"[\x21-\x2b\x2d-\x7e]+")
_PRINTABLE = re.compile(r"[\x20-\x7e]+")

# gs2-header = gs2-cbind-flag "," [ authzid ] ","
# client-first-message-bare = [reserved-mext ","] username "," nonce ["," extensions]
# RFC 5802 §7; reserved-mext ("m=") matches nothing here: what it means is not known.
_FIRST = re.compile(
    r"(?P<header>(?P<flag>[ny]|p=(?P<binding>[A-Za-z0-9.-]+)),(?:a=(?P<authzid>[^,]+))?,)"
    r"(?P<bare>n=(?P<name>[^,]+),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)(?:,[A-Za-z]=[^,]+)*)"
)
# client-final-message = channel-binding "," nonce ["," extensions] "," proof
_FINAL = re.compile(
    r"(?P<bare>c=(?P<header>[A-Za-z0-9+/=]+),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)"
    r"(?:,[A-Za-z]=[^,]+)*?),p=(?P<proof>[A-Za-z0-9+/=]+)"
)


@dataclass(frozen=True, slots=True, repr=False)
class ScramKeys:
    """What is kept of a secret: it checks a proof and cannot make one."""

    stored: bytes
    server: bytes


@dataclass(frozen=True, slots=True)
class _First:
    """What the first message said."""

    header: bytes
    login: str
    bare: str
    nonce: str
    server_message: str


def derive(secret: str, salt: bytes, iterations: int = ITERATIONS) -> ScramKeys | None:
    """Make the keys of a secret; None for one that is not printable ASCII.

    For those alone SASLprep (RFC 4013 §2) changes nothing, whatever a client makes of it.

    Source: RFC 5802 §3.
    """
    if not _PRINTABLE.fullmatch(secret):
        return None
    salted = hashlib.pbkdf2_hmac(_HASH, secret.encode("ascii"), salt, iterations)
    client = hmac.digest(salted, b"Client Key", _HASH)
    return ScramKeys(hashlib.sha256(client).digest(), hmac.digest(salted, b"Server Key", _HASH))


def match(claim: ScramClaim, keys: Iterable[ScramKeys]) -> tuple[int, bytes] | None:
    """Find whose proof it is.

    Returns:
        The place of the keys, and the server's last message, which proves that we have them.
        Every key is held against the proof, and one when there is none.

    Source: RFC 5802 §3.
    """
    found = None
    for place, each in enumerate(keys):
        signature = hmac.digest(each.stored, claim.message, _HASH)
        client = bytes(a ^ b for a, b in zip(claim.proof, signature, strict=True))
        if hmac.compare_digest(hashlib.sha256(client).digest(), each.stored):
            found = place, hmac.digest(each.server, claim.message, _HASH)
    return None if found is None else (found[0], b"v=" + b64encode(found[1]))


class Scram(Mechanism):
    """One exchange.

    Args:
        channel: of the connection.
        plus: it was begun as SCRAM-SHA-256-PLUS.
        nonce: ours: random, printable, without a comma.
        salt: gives the salt of a name, known or not.
    """

    def __init__(
        self, channel: Channel, *, plus: bool, nonce: str, salt: Callable[[str], bytes]
    ) -> None:
        self._channel = channel
        self._plus = plus
        self._nonce = nonce
        self._salt = salt
        self._first: _First | None = None

    def respond(self, response: bytes | None) -> Challenge | Claim:
        """Take the first message, then the last."""
        if response is None:
            return Challenge(b"")
        if self._first is None:
            self._first = self._begin(text(response))
            return Challenge(self._first.server_message.encode("ascii"))
        return self._end(self._first, text(response))

    def _begin(self, message: str) -> _First:
        read = _FIRST.fullmatch(message)
        if read is None:
            raise MalformedError
        login = saslname(read["name"])
        authzid = saslname(read["authzid"]) if read["authzid"] else ""
        if not same_name(authzid, login):
            raise ForbiddenError(login)
        header = read["header"].encode("utf-8")
        if self._plus is not (read["binding"] is not None):
            raise MalformedError
        if read["binding"] is not None:
            if read["binding"] != BINDING or self._channel.binding is None:
                raise ForbiddenError(login)
            header += self._channel.binding
        # "y": it can bind, and believes that we cannot. We said that we can, so somebody between
        # us cut it out of the list. Source: RFC 5802 §6.
        if read["flag"] == "y" and self._channel.binding is not None:
            raise ForbiddenError(login)
        nonce = read["nonce"] + self._nonce
        salt = b64encode(self._salt(login)).decode("ascii")
        return _First(header, login, read["bare"], nonce, f"r={nonce},s={salt},i={ITERATIONS}")

    def _end(self, first: _First, message: str) -> Claim:
        read = _FINAL.fullmatch(message)
        if read is None:
            raise MalformedError
        proof = _octets(read["proof"])
        if len(proof) != hashlib.sha256().digest_size:
            raise MalformedError
        if read["nonce"] != first.nonce or _octets(read["header"]) != first.header:
            raise ForbiddenError(first.login)
        signed = ",".join((first.bare, first.server_message, read["bare"]))
        return ScramClaim(first.login, signed.encode("utf-8"), proof)


def _octets(base64: str) -> bytes:
    try:
        return decode_response(base64.encode("ascii"))
    except AbortedError:
        raise MalformedError from None
