"""The scanner under any octets.

Invariant: it never raises, children lie inside their parents and in order, the outline survives
its row, and every reader of a part gives an answer.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from certs.addresses import parse_address_list
from certs.errors import MalformedAddressError
from certs.mime import (
    MimeLimits,
    Part,
    decode_body,
    decode_header,
    decode_outline,
    decode_text,
    encode_header,
    encode_outline,
    find_named,
    scan,
    walk,
)
from mailserver.message.index import index
from mailserver.message.reports import read_report

PIECES = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b"--b",
        b"--",
        b"\r\n--b\r\n",
        b"\r\n--b--\r\n",
        b"\r\n--c\r\n",
        b"Content-Type: multipart/mixed; boundary=b\r\n",
        b"Content-Type: multipart/digest; boundary=c\r\n",
        b"Content-Type: message/rfc822\r\n",
        b"Content-Type: multipart/report; boundary=b\r\n",
        b"Content-Type: message/disposition-notification\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b"Content-Transfer-Encoding: quoted-printable\r\n",
        b"Content-Disposition: attachment; filename*0*=''IHE_",
        b'; filename="IHE_XDM.zip"',
        b"From: ",
        b"a@b.test",
        b'"x" <',
        b">",
        b"(",
        b":",
        b";",
        b"=",
        b"\0",
        b"\xff",
        b"QUJD",
        b"=?utf-8?q?=C3?=",
    ]
)
MESSAGES = st.lists(st.one_of(PIECES, st.binary(max_size=8)), max_size=40).map(b"".join)


def check(part: Part, start: int, end: int) -> None:
    assert start <= part.header_start <= part.body_start <= part.body_end <= end
    at = part.body_start
    for child in part.children:
        check(child, at, part.body_end)
        at = child.body_end


@settings(max_examples=400, deadline=None)
@given(MESSAGES)
def test_any_octets_have_an_outline(raw):
    outline = scan(raw, MimeLimits(parts=20, depth=4, fields=20, candidates=50))

    check(outline.root, 0, len(raw))
    assert outline.root.body_end == len(raw)
    assert decode_outline(encode_outline(outline)) == outline
    find_named(outline, "IHE_XDM.zip")
    read_report(raw, outline)
    for part in walk(outline):
        decode_body(raw, part)
        decode_text(raw, part)
        _ = part.filename


@settings(max_examples=200, deadline=None)
@given(MESSAGES)
def test_any_octets_have_an_index_of_balanced_parentheses(raw):
    made = index(raw)

    for wire in (made.envelope, made.body, made.bodystructure):
        assert wire.startswith(b"(")
        assert wire.endswith(b")")
        assert b"\0" not in wire


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_makes_one_header_line(text):
    encoded = encode_header(text)

    lines = encoded.split(b"\r\n")
    assert all(line.startswith(b" ") for line in lines[1:])
    assert b"\n" not in b"".join(lines)
    assert b"\r" not in b"".join(lines)
    decode_header(encoded)


@settings(max_examples=300, deadline=None)
@given(MESSAGES)
def test_any_field_is_a_list_of_addresses_or_refused(raw):
    try:
        found = parse_address_list(raw)
    except MalformedAddressError:
        return
    assert all("@" in mailbox.address.text for mailbox in found)
