"""PLAIN, LOGIN, EXTERNAL, OAUTHBEARER and XOAUTH2, well and badly said; what is offered when.

Source: RFC 4616 §2, RFC 4422 §A, RFC 7628 §3.1, RFC 7628 §4, RFC 5802 §6.
"""

import pytest

from mailserver.sasl.bearers import INVALID_TOKEN, External, OAuthBearer, XOAuth2
from mailserver.sasl.errors import ForbiddenError, MalformedError, UnknownMechanismError
from mailserver.sasl.offer import Offer
from mailserver.sasl.passwords import Login, Plain
from mailserver.sasl.steps import (
    CertificateClaim,
    Challenge,
    Channel,
    PasswordClaim,
    TokenClaim,
)

# RFC 7628 §4.1, with its token shortened as printed there.
RFC_TOKEN = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="
RFC_BEARER = (
    b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01"
    b"auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
)


@pytest.mark.parametrize("authzid", [b"", b"dr@a.test", b"DR@a.test"])
def test_plain_names_who_logs_in_and_nobody_else(authzid: bytes) -> None:
    assert Plain().respond(None) == Challenge(b"")
    assert Plain().respond(authzid + b"\0dr@a.test\0secret") == PasswordClaim(
        "dr@a.test", "secret"
    )


@pytest.mark.parametrize(
    "response",
    [b"", b"\0\0", b"\0a\0", b"\0\0b", b"a", b"a\0b", b"\0a\0b\0c", b"\0\xff\0b", b"\xff\0a\0b",
     b"\0" + b"a" * 256 + b"\0b", b"\0a\0" + b"b" * 256],
)  # fmt: skip
def test_what_is_no_plain_message_is_malformed(response: bytes) -> None:
    with pytest.raises(MalformedError):
        Plain().respond(response)


def test_plain_for_somebody_else_is_forbidden() -> None:
    with pytest.raises(ForbiddenError):
        Plain().respond(b"bob\0alice\0secret")


@pytest.mark.parametrize("initial", [True, False])
def test_login_asks_for_what_is_missing(initial: bool) -> None:  # noqa: FBT001
    login = Login()
    if not initial:
        assert login.respond(None) == Challenge(b"Username:")
    assert login.respond(b"dr@a.test") == Challenge(b"Password:")
    assert login.respond(b"secret") == PasswordClaim("dr@a.test", "secret")


@pytest.mark.parametrize("name", [b"", b"\xff", b"a\0"])
def test_login_without_a_name_or_a_password_is_malformed(name: bytes) -> None:
    login = Login()
    with pytest.raises(MalformedError):
        login.respond(name)
    login.respond(b"dr@a.test")
    with pytest.raises(MalformedError):
        login.respond(name)


def test_external_bears_the_certificate_of_the_handshake() -> None:
    channel = Channel(None, "f" * 64)

    assert External(channel).respond(None) == Challenge(b"")
    assert External(channel).respond(b"") == CertificateClaim("", "f" * 64)
    assert External(channel).respond(b"dr@a.test") == CertificateClaim("dr@a.test", "f" * 64)


def test_external_without_a_certificate_is_forbidden() -> None:
    with pytest.raises(ForbiddenError):
        External(Channel()).respond(b"dr@a.test")
    for response in (b"\xff", b"a\0", b"a" * 256):
        with pytest.raises(MalformedError):
            External(Channel(None, "f")).respond(response)


def test_oauthbearer_reads_the_example_of_its_rfc() -> None:
    assert OAuthBearer().respond(None) == Challenge(b"")
    assert OAuthBearer().respond(RFC_BEARER) == TokenClaim(
        "user@example.com", RFC_TOKEN, refusal=INVALID_TOKEN
    )


def test_oauthbearer_may_name_nobody_and_bear_nothing() -> None:
    assert OAuthBearer().respond(b"n,,\x01auth=Bearer abc\x01\x01") == TokenClaim(
        "", "abc", refusal=INVALID_TOKEN
    )
    empty = OAuthBearer().respond(b"n,a=user@example.com,\x01auth=\x01\x01")  # RFC 7628 §4.3
    assert isinstance(empty, TokenClaim)
    assert empty.token == ""


@pytest.mark.parametrize(
    "response",
    [
        b"", b"\x01", b"n,,", b"n,,\x01", b"p=tls-unique,,\x01auth=Bearer a\x01\x01",
        b"x,,\x01auth=Bearer a\x01\x01", b"n,a=,\x01auth=Bearer a\x01\x01",
        b"n,a=a=b,\x01auth=Bearer a\x01\x01", b"n,,\x01auth=Bearer a\x01",
        b"n,,\x01auth=Bearer a\x01\x01\x01", b"n,,\x01auth=Bearer a\x01auth=Bearer b\x01\x01",
        b"n,,\x01auth=Basic a\x01\x01", b"n,,\x01auth=Bearer a b\x01\x01", b"n,,\x01auth\x01\x01",
        b"n,,\x01auth=Bearer \xc3\xa9\x01\x01", b"n,,\x01auth=Bearer\x01\x01",
        b"n,a=\xff,\x01auth=Bearer a\x01\x01", b"n,,\x01au-th=Bearer a\x01\x01",
    ],
)  # fmt: skip
def test_what_is_no_oauthbearer_message_is_malformed(response: bytes) -> None:
    with pytest.raises(MalformedError):
        OAuthBearer().respond(response)


def test_xoauth2_is_read_as_clients_write_it() -> None:
    assert XOAuth2().respond(None) == Challenge(b"")
    claim = XOAuth2().respond(b"user=dr@a.test\x01auth=Bearer a.b.c\x01\x01")
    assert isinstance(claim, TokenClaim)
    assert (claim.login, claim.token) == ("dr@a.test", "a.b.c")
    assert claim.refusal


@pytest.mark.parametrize(
    "response",
    [b"", b"user=a\x01auth=Bearer b\x01", b"user=\x01auth=Bearer b\x01\x01",
     b"auth=Bearer b\x01user=a\x01\x01", b"user=a\x01auth=b\x01\x01", b"user=a\0\x01auth=Bearer b\x01\x01"],
)  # fmt: skip
def test_what_is_no_xoauth2_message_is_malformed(response: bytes) -> None:
    with pytest.raises(MalformedError):
        XOAuth2().respond(response)


@pytest.mark.parametrize(
    ("channel", "tokens", "names"),
    [
        (Channel(), False, "SCRAM-SHA-256 PLAIN LOGIN"),
        (Channel(b"x"), False, "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"),
        (Channel(None, "f"), False, "SCRAM-SHA-256 EXTERNAL PLAIN LOGIN"),
        (Channel(b"x", "f"), True, "SCRAM-SHA-256-PLUS SCRAM-SHA-256 EXTERNAL OAUTHBEARER XOAUTH2 PLAIN LOGIN"),
    ],
)  # fmt: skip
def test_what_is_offered_can_be_begun_and_nothing_else(
    channel: Channel, tokens: bool, names: str  # noqa: FBT001
) -> None:  # fmt: skip
    offer = Offer(lambda _login: b"salt", tokens=tokens)

    assert offer.names(channel) == tuple(names.split())
    for known in (
        "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "EXTERNAL", "OAUTHBEARER", "XOAUTH2", "PLAIN",
        "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "ANONYMOUS", "plain", "",
    ):  # fmt: skip
        if known in names.split():
            assert offer.begin(known, channel, "n").respond(None) in {
                Challenge(b""), Challenge(b"Username:"),
            }  # fmt: skip
        else:
            with pytest.raises(UnknownMechanismError):
                offer.begin(known, channel, "n")
