"""Tokens of the one configured provider are believed, and no other.

The signatures of RFC 7515 appendix A.3 (ES256) and RFC 8037 appendix A.4 (Ed25519) are official
vectors; the others are made by ``tests.support.tokens`` with ``cryptography``. Source: RFC 7515
§5.2, RFC 7519 §4.1, RFC 8725 §3.1, RFC 8725 §3.8; threats O1.
"""

import hmac
import json
from base64 import urlsafe_b64decode
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from mailserver.sasl.tokens import LEEWAY_S, SUBJECT_CHARACTERS, TokenIssuer, TokenKeyError
from tests.support.tokens import AUDIENCE, ISSUER, b64url, mint, public_pem, signature

AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NOW = int(AT.timestamp())
KEY = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
ED = ed25519.Ed25519PrivateKey.generate()
SUBJECT = "f:550e8400:899700218896"
CLAIMS: dict[str, Any] = {
    "iss": ISSUER, "aud": AUDIENCE, "sub": SUBJECT, "exp": NOW + 300, "iat": NOW, "nbf": NOW,
}  # fmt: skip


def issuer(key: Any = KEY) -> TokenIssuer:
    return TokenIssuer.from_pem(ISSUER, AUDIENCE, public_pem(key))


def decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_the_ecdsa_example_of_rfc_7515_verifies() -> None:
    x = int.from_bytes(decoded("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"))
    y = int.from_bytes(decoded("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"))
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    signed = (
        "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQog"
        "Imh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    )
    made = decoded(
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    )
    check = TokenIssuer.from_pem("joe", "x", pem).check

    check(made, signed.encode())
    with pytest.raises(InvalidSignature):
        check(made, signed.encode() + b"x")


def test_the_ed25519_example_of_rfc_8037_verifies() -> None:
    key = ed25519.Ed25519PublicKey.from_public_bytes(
        decoded("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
    )
    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    made = decoded(
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    )
    known = TokenIssuer.from_pem("i", "a", pem)

    assert known.algorithm == "EdDSA"
    known.check(made, b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc")


@pytest.mark.parametrize("key", [KEY, RSA, ED], ids=["ES256", "RS256", "EdDSA"])
def test_a_token_of_the_provider_says_who(key: Any) -> None:
    assert issuer(key).subject(mint(key, CLAIMS), AT) == SUBJECT


@pytest.mark.parametrize(
    "change",
    [
        {"aud": ["other", AUDIENCE]}, {"nbf": NOW + LEEWAY_S}, {"exp": NOW - LEEWAY_S + 1},
        {"exp": NOW + 0.5}, {"sub": "s" * SUBJECT_CHARACTERS}, {"email": "dr@a.test"},
    ],
)  # fmt: skip
def test_what_may_differ(change: dict[str, Any]) -> None:
    assert issuer().subject(mint(KEY, CLAIMS | change), AT) is not None


@pytest.mark.parametrize("absent", ["iss", "aud", "exp", "sub"])
def test_what_must_be_there(absent: str) -> None:
    claims = {key: value for key, value in CLAIMS.items() if key != absent}
    assert issuer().subject(mint(KEY, claims), AT) is None


@pytest.mark.parametrize(
    "change",
    [
        {"iss": ISSUER + "/"}, {"iss": ISSUER.upper()}, {"iss": [ISSUER]},
        {"aud": "other"}, {"aud": []}, {"aud": ["other"]}, {"aud": {AUDIENCE: 1}}, {"aud": None},
        {"exp": NOW - LEEWAY_S}, {"exp": 0}, {"exp": str(NOW + 300)}, {"exp": True},
        {"exp": None}, {"exp": float("inf")}, {"exp": float("nan")}, {"exp": 10**400},
        {"nbf": NOW + LEEWAY_S + 1}, {"nbf": "0"}, {"iat": NOW + LEEWAY_S + 1}, {"iat": "x"},
        {"sub": ""}, {"sub": 7}, {"sub": None}, {"sub": "s" * (SUBJECT_CHARACTERS + 1)},
    ],
    ids=str,
)  # fmt: skip
def test_a_claim_that_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    assert issuer().subject(mint(KEY, CLAIMS | change), AT) is None


@pytest.mark.parametrize(
    "header",
    [
        {}, {"alg": "none"}, {"alg": "HS256"}, {"alg": "RS256"}, {"alg": "es256"},
        {"alg": ["ES256"]}, {"alg": "ES256", "crit": ["exp"]}, {"alg": "ES256", "jwk": {}},
        {"alg": "ES256", "jku": "https://evil.test"}, {"alg": "ES256", "x5u": "x"},
        {"alg": "ES256", "x5c": []}, {"alg": "ES256", "b64": False}, {"alg": "ES256", "zip": "DEF"},
        {"alg": "ES256", "typ": "logout+jwt"}, {"alg": "ES256", "typ": 7},
    ],
    ids=str,
)  # fmt: skip
def test_the_algorithm_is_ours_to_choose(header: dict[str, Any]) -> None:
    assert issuer().subject(mint(KEY, CLAIMS, {"alg": "ES256", "kid": "../x"}), AT) == SUBJECT
    assert issuer().subject(mint(KEY, CLAIMS, header), AT) is None


def test_a_public_key_taken_as_a_shared_secret_signs_nothing() -> None:
    head = b64url(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    signed = f"{head}.{b64url(json.dumps(CLAIMS).encode())}"
    forged = f"{signed}.{b64url(hmac.digest(public_pem(RSA), signed.encode(), 'sha256'))}"

    assert issuer(RSA).subject(forged, AT) is None


def test_a_token_without_a_signature_is_none() -> None:
    whole = mint(KEY, CLAIMS)
    head, body, made = whole.split(".")
    for token in (
        f"{head}.{body}.", f"{head}.{body}", f"{head}..{made}", f".{body}.{made}", whole + ".x",
        whole + "=", whole + "\n", " " + whole, whole.replace(".", "..", 1), "", "..", "a.b.c",
    ):  # fmt: skip
        assert issuer().subject(token, AT) is None


def test_every_altered_letter_is_seen() -> None:
    whole = mint(KEY, CLAIMS)
    for at, letter in enumerate(whole):
        other = "A" if letter != "A" else "B"
        assert issuer().subject(whole[:at] + other + whole[at + 1 :], AT) is None


def test_another_key_and_another_signature_of_a_token_are_refused() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    head, body, _ = mint(KEY, CLAIMS).split(".")

    assert issuer().subject(mint(other, CLAIMS), AT) is None
    for made in (b"\0" * 64, b"\0" * 63, b"\0" * 65, signature(KEY, b"else"), b"\xff" * 64):
        assert issuer().subject(f"{head}.{body}.{b64url(made)}", AT) is None


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"7", b'"x"', b"{", b"\xff", b"[" * 5000, b'{"a":' * 2000,
     json.dumps(CLAIMS).encode()[:-1] + b', "sub": "other"}'],
    ids=lambda body: body[:12],
)  # fmt: skip
def test_a_body_that_is_no_object_of_unique_names_is_refused(body: bytes) -> None:
    assert issuer().subject(mint(KEY, body), AT) is None


def test_a_token_lives_as_long_as_it_says() -> None:
    token = mint(KEY, CLAIMS)
    end = AT + timedelta(seconds=300 + LEEWAY_S)

    assert issuer().subject(token, end - timedelta(seconds=1)) == SUBJECT
    assert issuer().subject(token, end) is None
    assert issuer().subject(token, AT - timedelta(seconds=LEEWAY_S + 1)) is None


@pytest.mark.parametrize(
    "pem",
    [
        b"", b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        public_pem(rsa.generate_private_key(65537, 1024)),  # noqa: S505
        public_pem(ec.generate_private_key(ec.SECP384R1())),
        public_pem(ed448.Ed448PrivateKey.generate()),  # type: ignore[arg-type]
    ],
    ids=["nothing", "empty", "no certificate", "RSA 1024", "P-384", "Ed448"],
)  # fmt: skip
def test_a_key_of_another_kind_is_refused(pem: bytes) -> None:
    with pytest.raises(TokenKeyError):
        TokenIssuer.from_pem(ISSUER, AUDIENCE, pem)
