"""The first words of a message. Source: RFC 8970 §3.2, §3.3."""

import base64
import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.mime import scan
from mailserver.message.preview import PREVIEW_MAX, READ_OCTETS, preview, shown_part


def of(raw: bytes) -> str:
    part = shown_part(scan(raw))
    if part is None:
        return ""
    return preview(raw[part.body_start : part.body_end][:READ_OCTETS], part)


def text(body: bytes, type_: str = "text/plain; charset=utf-8", encoding: str = "8bit") -> bytes:
    return (
        f"Content-Type: {type_}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode() + body
    )


def multipart(kind: str, *parts: bytes) -> bytes:
    inner = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts)
    return f"Content-Type: multipart/{kind}; boundary=b\r\n\r\n".encode() + inner + b"--b--\r\n"


def test_blanks_and_line_ends_are_one_space():
    assert of(text("Bonjour,\r\n\r\n  voici\tle résumé.\r\n".encode())) == (
        "Bonjour, voici le résumé."
    )


def test_what_is_quoted_is_left_out():
    assert of(text(b"> You wrote\r\n> that\r\nYes.\r\n")) == "Yes."


@pytest.mark.parametrize(("length", "shown"), [(200, 200), (201, 200), (5000, 200)])
def test_at_most_two_hundred_characters_are_shown(length, shown):
    assert PREVIEW_MAX == 200
    assert of(text("é".encode() * length)) == "é" * shown


def test_transfer_encodings_are_undone_also_when_the_part_is_cut():
    words = "Ligne numéro un du compte rendu. " * 800
    packed = base64.encodebytes(words.encode()).replace(b"\n", b"\r\n")
    quoted = quopri.encodestring(words.encode()).replace(b"\n", b"\r\n")
    assert of(text(packed, encoding="base64")) == words[:PREVIEW_MAX].rstrip()
    assert of(text(quoted, encoding="quoted-printable")) == words[:PREVIEW_MAX].rstrip()


@pytest.mark.parametrize("pad", range(4))
def test_a_character_that_the_cut_halves_is_left_out(pad):
    body = b" " * (READ_OCTETS - 10 + pad) + "€€€€€€€€".encode()
    assert set(of(text(body))) == {"€"}
    assert set(of(text(body, "text/plain"))) == {"€"}


def test_html_is_read_without_its_tags_styles_and_scripts():
    html = (
        b"<html><head><title>T</title><style>p{color:red}</style></head>"
        b"<body><p>Hello&nbsp;<b>you</b></p><script>x()</script>&lt;all&gt;</body></html>"
    )
    assert of(text(html, "text/html")) == "Hello you <all>"


def test_the_first_plain_text_is_taken_before_html():
    both = multipart("alternative", text(b"<p>html", "text/html"), text(b"plain"))
    assert of(both) == "plain"
    assert of(multipart("related", text(b"<p>html", "text/html"))) == "html"


@pytest.mark.parametrize(
    "raw",
    [
        text(b"MIIB", "application/pkcs7-mime; smime-type=enveloped-data", "base64"),
        multipart(
            "mixed", b"Content-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nx"
        ),
        multipart("mixed", b"Content-Type: message/rfc822\r\n\r\n" + text(b"inner")),
        text(b""),
        b"",
    ],
    ids=["encrypted", "attached", "enclosed", "empty", "nothing"],
)
def test_without_a_text_of_its_own_the_preview_is_empty(raw):
    assert of(raw) == ""


@given(st.binary(max_size=400))
def test_whatever_html_there_is_a_preview(html):
    # Nothing is raised, and no more than PREVIEW_MAX characters on one line come out.
    shown = of(text(b"<![" + html, "text/html"))
    assert len(shown) <= PREVIEW_MAX
    assert not {"\r", "\n"} & set(shown)


@pytest.mark.parametrize(
    "html", [b"a<![x", b"a<![foo[b]]>", b"a<!DOCTYPE [", b"a<!-", b"a<?", b"a<!x"]
)
def test_declarations_that_are_none_end_the_text_at_worst(html):
    assert of(text(html, "text/html")).startswith("a")


def test_broken_html_costs_little():
    assert of(text(b"<" * 8192, "text/html")) is not None
    assert of(text(b"<!--" * 2048, "text/html")) is not None
