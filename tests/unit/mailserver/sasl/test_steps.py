"""Lines of an exchange: strict base64, bounded, and nothing that shows a secret.

Source: RFC 4954 §4, RFC 4959 §3, RFC 4422 §3.5.
"""

from base64 import b64encode

import pytest

from mailserver.sasl.errors import AbortedError, MalformedError
from mailserver.sasl.steps import (
    NAME_OCTETS,
    RESPONSE_OCTETS,
    Attempt,
    Channel,
    PasswordClaim,
    ScramClaim,
    TokenClaim,
    decode_initial,
    decode_response,
    encode_challenge,
    name,
    same_name,
    saslname,
)


@pytest.mark.parametrize(
    "line",
    [b"!", b"a", b"YQ", b"a=b=", b"\xe9", b"YQ==x", b"YQ==\n", b" YQ==", b"Y Q==", b"=", b"YR=="],
)
def test_what_is_not_strict_base64_is_refused(line: bytes) -> None:
    with pytest.raises(MalformedError):
        decode_response(line)


def test_a_star_cancels_before_and_after_the_beginning() -> None:
    for decode in (decode_initial, decode_response):
        with pytest.raises(AbortedError):
            decode(b"*")


def test_an_equals_sign_is_the_empty_initial_response_and_no_line_the_empty_response() -> None:
    assert decode_initial(b"=") == b""
    assert decode_response(b"") == b""
    assert decode_initial(encode_challenge(b"x")) == b"x"


@pytest.mark.parametrize("octets", [RESPONSE_OCTETS + 1, RESPONSE_OCTETS * 100])
def test_a_response_has_a_greatest_length(octets: int) -> None:
    assert len(decode_response(b64encode(b"x" * RESPONSE_OCTETS))) == RESPONSE_OCTETS
    with pytest.raises(MalformedError):
        decode_response(b64encode(b"x" * octets))


@pytest.mark.parametrize("octets", [NAME_OCTETS + 1, NAME_OCTETS * 20])
def test_a_name_has_a_greatest_length(octets: int) -> None:
    assert len(name(b"x" * NAME_OCTETS)) == NAME_OCTETS
    with pytest.raises(MalformedError):
        name(b"x" * octets)


@pytest.mark.parametrize("octets", [b"", b"a\0b", b"\xff", b"\xc3", b"\xed\xa0\x80"])
def test_a_name_is_utf8_without_nul(octets: bytes) -> None:
    assert name("é".encode()) == "é"
    with pytest.raises(MalformedError):
        name(octets)


def test_a_saslname_has_two_escapes_and_no_other_equals_sign() -> None:
    assert saslname("a=2Cb=3D2C") == "a,b=2C"
    for written in ("a=2cb", "a=", "=2", "a=3E"):
        with pytest.raises(MalformedError):
            saslname(written)


def test_somebody_acts_as_nobody_else() -> None:
    assert same_name("", "dr@a.test")
    assert same_name("DR@a.test", "dr@A.test")
    assert not same_name("bob@a.test", "dr@a.test")


def test_no_value_shows_a_secret() -> None:
    values = (
        PasswordClaim("canary", "canary"),
        ScramClaim("canary", b"canary", b"canary"),
        TokenClaim("canary", "canary", refusal=b""),
        Attempt("PLAIN", b"canary", Channel(), "canary"),
    )
    for value in values:
        assert "canary" not in repr(value)
    for error in (MalformedError(), AbortedError()):
        assert "canary" not in str(error)
