"""Encoded words and parameters, read and written.

Source: RFC 2047 §2, RFC 2231 §3.
"""

import pytest

from certs.mime_words import (
    clean,
    decode_charset,
    decode_header,
    decode_parameter,
    encode_header,
    encode_parameter,
    parse_parameters,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b" plain ", "plain"),
        (b"folded\r\n text", "folded text"),
        (b"=?utf-8?q?caf=C3=A9_noir?=", "café noir"),
        (b"=?UTF-8?B?w6l0w6k=?=", "été"),
        (b"=?UTF-8?B?w6l0w6k?=", "été"),
        (b"=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),
        (b"=?utf-8?q?a?=\r\n =?utf-8?q?b?= c", "ab c"),
        (b"=?utf-8?b?w6k=?= =?iso-8859-1?q?=E9?=", "éé"),
        (b"=?utf-8?q?=C3?= =?utf-8?q?=A9?=", "é"),
        (b"=?utf-8*fr?q?ok?=", "ok"),
        (b"a =?utf-8?x?b?= c", "a =?utf-8?x?b?= c"),
        (b"=?nonsense?q?=E9?=", "é"),
        (b"=?utf-7?q?+ADw-?=", "+ADw-"),
        (b"caf\xc3\xa9", "café"),
        (b"caf\xe9", "caf\ufffd"),
        (b"=?utf-8?q?a=0D=0ABcc:_x?=", "a  Bcc: x"),
        ("\u202eevil".encode(), "evil"),
    ],
)
def test_a_header_is_decoded_to_one_clean_line(value, text):
    assert decode_header(value) == text


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "été à Noël",
        "x" * 200,
        "mot " * 100 + "fin",
        "é" * 300,
        "=?utf-8?q?not_mine?=",
        "汉字" * 60,
        "",
    ],
)
def test_what_is_written_reads_back_in_short_lines(text):
    encoded = encode_header(text)

    assert decode_header(encoded) == text.strip()
    assert all(len(line) <= 78 for line in encoded.split(b"\r\n"))
    assert encoded.isascii()


@pytest.mark.parametrize("text", ["t\nBcc: x@y.z", "t\r\nBcc: x@y.z", "é\nBcc: x", "\x00\x0b"])
def test_no_line_break_passes_into_a_header(text):
    encoded = encode_header(text)

    assert b"\nBcc" not in encoded
    assert all(line.startswith(b" ") for line in encoded.split(b"\r\n")[1:])


def test_parameters_end_where_they_stop_being_parameters():
    assert parse_parameters(b'; a=1; b="x;\\"y" ;; junk', 0) == (
        (("a", "1"), ("b", 'x;"y')),
        False,
    )
    assert parse_parameters(b"; a=1 (comment); b=2;", 0) == ((("a", "1"), ("b", "2")), True)


@pytest.mark.parametrize(
    ("params", "value"),
    [
        ((("name", "x"),), "x"),
        ((("name", "\xc3\xa9"),), "é"),
        ((("name", "x"), ("name", "y")), "x"),
        ((("name*", "utf-8''%C3%A9"),), "é"),
        ((("name*", "%C3%A9"),), "é"),
        ((("name*0", "a"), ("name*1", "b"), ("name*3", "d")), "ab"),
        ((("name*0*", "utf-8'fr'%C3"), ("name*1*", "%A9")), "é"),
        ((("name*0*", "''x"), ("name*9999", "z")), "x"),
        ((("other", "x"),), None),
        ((("name*1", "x"),), None),
    ],
)
def test_a_parameter_is_decoded(params, value):
    assert decode_parameter(params, "name") == value


@pytest.mark.parametrize("name", ["a.pdf", "été.pdf", 'a"b\\c.pdf', "汉字.zip", "x\r\ny: z"])
def test_a_parameter_written_reads_back(name):
    encoded = b"; " + encode_parameter("filename", name)
    pairs, complete = parse_parameters(encoded, 0)

    assert complete
    assert decode_parameter(pairs, "filename") == clean(name)
    assert b"\n" not in encoded


@pytest.mark.parametrize(
    ("data", "charset", "text"),
    [
        (b"\xe9", "iso-8859-1", "é"),
        (b"\x80", "windows-1252", "€"),
        (b"\xe9", None, "é"),
        ("é".encode(), None, "é"),
        (b"\xe9", "utf-8", "\ufffd"),
        (b"\x8d\xff", "us-ascii", "\ufffdÿ"),
        (b"a\x00", "utf-16le", "a"),
        (b"\xa4", "iso-8859-15", "€"),
        (b"x", "iso-8859-99", "x"),
    ],
)
def test_text_is_decoded_by_what_its_charset_says(data, charset, text):
    assert decode_charset(data, charset) == text
