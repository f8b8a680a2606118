"""AUTH responses (S10).

Source: RFC 4616 §2, RFC 4954 §4.
"""

from base64 import b64encode

import pytest

from mailserver.smtp.sasl import (
    MAX_RESPONSE_OCTETS,
    Credentials,
    SaslError,
    decode,
    parse_plain,
    text,
)


@pytest.mark.parametrize("response", [b"\0dr@a.test\0secret", b"dr@a.test\0dr@a.test\0secret"])
def test_plain_is_read(response: bytes) -> None:
    assert Credentials("dr@a.test", "secret") == parse_plain(response)


@pytest.mark.parametrize(
    "response",
    [b"", b"\0", b"\0\0", b"\0a\0", b"\0\0b", b"other\0a\0b", b"\0a\0b\0c", b"\0\xff\0b", b"a\0b"],
)
def test_another_shape_is_refused(response: bytes) -> None:
    with pytest.raises(SaslError):
        parse_plain(response)


@pytest.mark.parametrize("response", [b"*", b"a", b"a=b=", b"\xe9", b"YQ==\n", b" YQ=="])
def test_what_is_not_base64_is_refused(response: bytes) -> None:
    with pytest.raises(SaslError):
        decode(response)


def test_an_equals_sign_alone_is_the_empty_response() -> None:
    assert decode(b"=") == b""


def test_the_length_of_a_response_is_bounded() -> None:
    assert len(decode(b64encode(b"x" * MAX_RESPONSE_OCTETS))) == MAX_RESPONSE_OCTETS
    with pytest.raises(SaslError):
        decode(b64encode(b"x" * (MAX_RESPONSE_OCTETS + 6)))


def test_a_secret_does_not_show() -> None:
    assert "secret" not in repr(Credentials("dr", "secret"))


def test_a_nul_in_a_name_is_refused() -> None:
    with pytest.raises(SaslError):
        text(b"a\0b")
