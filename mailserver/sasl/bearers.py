"""EXTERNAL, OAUTHBEARER and XOAUTH2: who bears a certificate, or a token of an identity provider.

Source: RFC 4422 §A, RFC 7628 §3.1, RFC 7628 §3.2; XOAUTH2 as Google published it.
"""

import re
from typing import Final

from mailserver.sasl.errors import ForbiddenError, MalformedError
from mailserver.sasl.steps import (
    CertificateClaim,
    Challenge,
    Channel,
    Claim,
    Mechanism,
    TokenClaim,
    name,
    saslname,
    text,
)

INVALID_TOKEN: Final = b'{"status":"invalid_token"}'
"""Why, as RFC 7628 §3.2.2 writes it; the client acknowledges it and is then refused."""
UNAUTHORIZED: Final = b'{"status":"401","schemes":"bearer"}'
"""The same for XOAUTH2."""

# client-resp = (gs2-header kvsep *kvpair kvsep) / kvsep; kvpair = key "=" value kvsep
# RFC 7628 §3.1; "p" is no flag here: the mechanism binds no channel. A lone kvsep acknowledges an
# error, which we wait for after the claim only.
_OAUTHBEARER = re.compile(r"[ny],(?:a=(?P<name>[^,\x01]+))?,\x01(?P<pairs>(?:[^\x01]+\x01)*)\x01")
_PAIR = re.compile(r"(?P<key>[A-Za-z]+)=(?P<value>[\x20-\x7e\t\r\n]*)")
_XOAUTH2 = re.compile(r"user=(?P<name>[^\x01]+)\x01auth=(?P<auth>[^\x01]+)\x01\x01")
# b64token of RFC 6750 §2.1; the scheme's name in any case.
_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +(?P<token>[A-Za-z0-9._~+/-]+=*)")


class External(Mechanism):
    """EXTERNAL: the certificate of the TLS handshake."""

    def __init__(self, channel: Channel) -> None:
        self._fingerprint = channel.fingerprint

    def respond(self, response: bytes | None) -> Challenge | Claim:
        """Take whom to be, empty for whomever the certificate was recorded for."""
        if response is None:
            return Challenge(b"")
        login = name(response) if response else ""
        if self._fingerprint is None:
            raise ForbiddenError(login)
        return CertificateClaim(login, self._fingerprint)


class OAuthBearer(Mechanism):
    """OAUTHBEARER; host and port, which it may name, are read and mean nothing to a bearer."""

    def respond(self, response: bytes | None) -> Challenge | Claim:
        """Take the one message."""
        if response is None:
            return Challenge(b"")
        read = _OAUTHBEARER.fullmatch(text(response))
        if read is None:
            raise MalformedError
        login = saslname(read["name"]) if read["name"] else ""
        values: dict[str, str] = {}
        for pair in read["pairs"].split("\x01")[:-1]:
            found = _PAIR.fullmatch(pair)
            if found is None or found["key"] in values:
                raise MalformedError
            values[found["key"]] = found["value"]
        return TokenClaim(login, _token(values.get("auth", "")), refusal=INVALID_TOKEN)


class XOAuth2(Mechanism):
    """XOAUTH2, which clients knew before OAUTHBEARER had its RFC."""

    def respond(self, response: bytes | None) -> Challenge | Claim:
        """Take the one message."""
        if response is None:
            return Challenge(b"")
        read = _XOAUTH2.fullmatch(text(response))
        if read is None:
            raise MalformedError
        login = name(read["name"].encode("utf-8"))
        return TokenClaim(login, _token(read["auth"]), refusal=UNAUTHORIZED)


def _token(auth: str) -> str:
    """Read the credentials; an empty value asks what is wanted, and no token answers that."""
    if not auth:
        return ""
    read = _BEARER.fullmatch(auth)
    if read is None:
        raise MalformedError
    return read["token"]
