"""Reads the signed tokens of one identity provider; strict, and with one algorithm.

Invariants: the key that the site was given decides the algorithm, never the token; a token that
names another algorithm, a key of its own or a critical extension is refused; a claim of the wrong
JSON type is refused, never converted; nothing is believed before the signature holds.

Source: RFC 7515 §5.2, RFC 7515 §7.1, RFC 7518 §3.1, RFC 7519 §4.1, RFC 8725 §3.1, RFC 8725 §3.8.
"""

import binascii
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

LEEWAY_S: Final = 30.0
"""How far the provider's clock may be from ours."""
SUBJECT_CHARACTERS: Final = 255  # RFC 7519 leaves it open; OpenID Connect Core 1.0 §2
_MIN_RSA_BITS: Final = 2048  # RFC 7518 §3.3
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
"""RFC 8725 §3.11, RFC 9068 §2.1: a token made for something else is not taken for this one."""
_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_FORBIDDEN_HEADERS: Final = frozenset({"crit", "jku", "jwk", "x5u", "x5c", "b64", "zip"})
_Json = Mapping[str, Any]
"""Any: each use checks the type of what it takes."""
_Check = Callable[[bytes, bytes], None]


class TokenKeyError(ValueError):
    """The provider's key cannot be used."""

    def __init__(self) -> None:
        super().__init__("not a public key of P-256, Ed25519 or RSA of 2048 bits and more")


@dataclass(frozen=True, slots=True)
class TokenIssuer:
    """One identity provider.

    Attributes:
        issuer: what its tokens call it.
        audience: what they must call us.
        algorithm: the one it signs with.
        check: raises InvalidSignature unless (signature, signed octets) fit its key.
    """

    issuer: str
    audience: str
    algorithm: str
    check: _Check

    @classmethod
    def from_pem(cls, issuer: str, audience: str, pem: bytes) -> "TokenIssuer":
        """Take its public key, or a certificate that holds it.

        Raises:
            TokenKeyError: neither, or a key of another kind or too short.
        """
        try:
            if b"BEGIN CERTIFICATE" in pem:
                key: Any = x509.load_pem_x509_certificate(pem).public_key()
            else:
                key = serialization.load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise TokenKeyError from error
        algorithm, check = _algorithm(key)
        return cls(issuer, audience, algorithm, check)

    def subject(self, token: str, at: datetime) -> str | None:
        """Give whom a token speaks of, None when it must not be believed.

        Args:
            token: as it came, a compact JWS.
            at: aware UTC now.
        """
        read = _COMPACT.fullmatch(token)
        if read is None:
            return None
        header, claims, signature = (_decoded(part) for part in read.groups())
        if signature is None or not self._names_our_algorithm(_json(header)):
            return None
        try:
            self.check(signature, token.rpartition(".")[0].encode("ascii"))
        except InvalidSignature:
            return None
        return self._believed(_json(claims), at.timestamp())

    def _names_our_algorithm(self, header: _Json | None) -> bool:
        return (
            header is not None
            and header.get("alg") == self.algorithm
            and not _FORBIDDEN_HEADERS & header.keys()
            and str(header.get("typ", "jwt")).lower() in _TYPES
        )

    def _believed(self, claims: _Json | None, now: float) -> str | None:
        if claims is None or claims.get("iss") != self.issuer:
            return None
        audience = claims.get("aud")
        if audience != self.audience and not (
            isinstance(audience, list) and self.audience in audience
        ):
            return None
        until = _instant(claims, "exp", None)
        since = _instant(claims, "nbf", now)
        made = _instant(claims, "iat", now)
        if until is None or since is None or made is None:
            return None
        if now >= until + LEEWAY_S or max(since, made) > now + LEEWAY_S:
            return None
        subject = claims.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT_CHARACTERS:
            return None
        return subject


def _algorithm(key: Any) -> tuple[str, _Check]:
    """Give the name of the one algorithm of a key, and what checks it.

    Any: what ``cryptography`` loads is a union of all its keys.
    """
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return "ES256", lambda signature, signed: _check_ec(key, signature, signed)
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "EdDSA", key.verify
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS:
        return "RS256", lambda signature, signed: key.verify(
            signature, signed, padding.PKCS1v15(), hashes.SHA256()
        )
    raise TokenKeyError


def _check_ec(key: ec.EllipticCurvePublicKey, signature: bytes, signed: bytes) -> None:
    """Check R and S of 32 octets each. Source: RFC 7518 §3.4."""
    if len(signature) != 64:
        raise InvalidSignature
    halves = (int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    key.verify(encode_dss_signature(*halves), signed, ec.ECDSA(hashes.SHA256()))


def _decoded(part: str) -> bytes | None:
    """Decode base64url without padding, in its one spelling. Source: RFC 7515 §2."""
    try:
        octets = urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        return None
    return octets if urlsafe_b64encode(octets).rstrip(b"=") == part.encode("ascii") else None


def _json(octets: bytes | None) -> _Json | None:
    """Read one JSON object, each of its names once. Source: RFC 7515 §4, RFC 7519 §4."""
    if octets is None:
        return None
    try:
        found = json.loads(octets.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _instant(claims: _Json, key: str, absent: float | None) -> float | None:
    """Give a NumericDate; None when it is none."""
    if key not in claims:
        return absent
    value = claims[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if abs(seconds) < 1e12 else None
