"""Signs tokens as an identity provider would, and as a liar would.

Source: RFC 7515 §7.1, RFC 7518 §3.
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

ISSUER = "https://identite.mssante.test/realms/pro"
AUDIENCE = "messagerie.pli.test"

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def b64url(octets: bytes) -> str:
    """Write base64url without padding."""
    return urlsafe_b64encode(octets).rstrip(b"=").decode()


def public_pem(key: PrivateKey) -> bytes:
    """Give what the site is told."""
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def signature(key: PrivateKey, signed: bytes) -> bytes:
    """Sign with the one algorithm of a key."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        halves = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))
        return b"".join(half.to_bytes(32) for half in halves)
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(signed)


def mint(
    key: PrivateKey, claims: Mapping[str, Any] | bytes, header: Mapping[str, Any] | None = None
) -> str:
    """Sign a token.

    Any: claims and header are JSON; octets instead of claims go in as they are.
    """
    algorithm = {
        ec.EllipticCurvePrivateKey: "ES256",
        rsa.RSAPrivateKey: "RS256",
        ed25519.Ed25519PrivateKey: "EdDSA",
    }
    name = next(value for kind, value in algorithm.items() if isinstance(key, kind))
    head = json.dumps(header if header is not None else {"alg": name, "typ": "JWT"}).encode()
    body = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    signed = f"{b64url(head)}.{b64url(body)}"
    return f"{signed}.{b64url(signature(key, signed.encode()))}"
