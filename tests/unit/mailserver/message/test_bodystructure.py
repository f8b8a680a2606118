"""ENVELOPE, BODY and BODYSTRUCTURE as sent.

Source: RFC 3501 §7.4.2, RFC 9051 §7.5.2.
"""

import pytest

from certs.mime import scan
from mailserver.message.bodystructure import envelope, nstring, string, structures
from mailserver.message.index import index


def crlf(text: str) -> bytes:
    return text.lstrip("\n").replace("\n", "\r\n").encode("utf-8")


def envelope_of(text: str) -> bytes:
    return envelope(scan(crlf(text)).header)


def test_the_envelope_of_the_rfc_example():
    # RFC 9051 §7.5.2
    raw = """
Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)
From: Terry Gray <gray@cac.washington.edu>
Subject: IMAP4rev2 WG mtg summary and minutes
To: imap@cac.washington.edu
Cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>
Message-Id: <B27397-0100000@cac.washington.edu>

body
"""

    assert envelope_of(raw) == (
        b'("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" "IMAP4rev2 WG mtg summary and minutes" '
        b'(("Terry Gray" NIL "gray" "cac.washington.edu")) '
        b'(("Terry Gray" NIL "gray" "cac.washington.edu")) '
        b'(("Terry Gray" NIL "gray" "cac.washington.edu")) '
        b'((NIL NIL "imap" "cac.washington.edu")) '
        b'((NIL NIL "minutes" "CNRI.Reston.VA.US")("John Klensin" NIL "KLENSIN" "MIT.EDU")) '
        b'NIL NIL "<B27397-0100000@cac.washington.edu>")'
    )


def test_an_empty_header_has_an_envelope_of_nothing():
    assert envelope_of("\nbody") == b"(" + b" ".join([b"NIL"] * 10) + b")"


@pytest.mark.parametrize(
    ("to", "wire"),
    [
        ("a@b.c", b'((NIL NIL "a" "b.c"))'),
        ('"Doe, J \\"x\\"" <j@d.e>', b'(("Doe, J \\"x\\"" NIL "j" "d.e"))'),
        ("=?utf-8?q?Zo=C3=A9?= <z@b.c>", b'(("=?utf-8?q?Zo=C3=A9?=" NIL "z" "b.c"))'),
        ("Zoé <z@b.c>", '(({4}\r\nZoé NIL "z" "b.c"))'.encode()),
        ("z@b.c (Zoe)", b'(("Zoe" NIL "z" "b.c"))'),
        (
            "g: a@b.c, d@e.f;",
            b'((NIL NIL "g" NIL)(NIL NIL "a" "b.c")(NIL NIL "d" "e.f")(NIL NIL NIL NIL))',
        ),
        ("undisclosed-recipients:;", b'((NIL NIL "undisclosed-recipients" NIL)(NIL NIL NIL NIL))'),
        ("g: a@b.c", b'((NIL NIL "g" NIL)(NIL NIL "a" "b.c")(NIL NIL NIL NIL))'),
        ("<@r.x:a@b.c>", b'((NIL "@r.x" "a" "b.c"))'),
        ("nobody", b'((NIL NIL "nobody" ""))'),
        (", ,a@b.c,,", b'((NIL NIL "a" "b.c"))'),
        ("<>", b'((NIL NIL "" ""))'),
        ("a @ b.c", b'((NIL NIL "a" "b.c"))'),
        ("", b"NIL"),
    ],
)
def test_addresses_are_shown_as_well_as_they_can_be(to, wire):
    assert envelope_of(f"To: {to}\n\n") == b"(NIL NIL NIL NIL NIL %b NIL NIL NIL NIL)" % wire


def test_sender_and_reply_to_fall_back_on_from_when_absent_or_empty():
    wire = envelope_of("From: a@b.c\nSender:\nReply-To: d@e.f\n\n")

    assert wire == (
        b'(NIL NIL ((NIL NIL "a" "b.c")) ((NIL NIL "a" "b.c")) ((NIL NIL "d" "e.f"))'
        b" NIL NIL NIL NIL NIL)"
    )


def test_a_folded_subject_is_one_line():
    assert b'"one two\tthree"' in envelope_of("Subject: one\n two\n\tthree\n\n")


def test_a_thousand_addresses_are_shown_and_no_more():
    wire = envelope_of("To: " + ",".join(["a@b.c"] * 5000) + "\n\n")

    assert wire.count(b'"b.c"') == 1000


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (b"", b'""'),
        (b"a b", b'"a b"'),
        (b'a"b\\c', b'"a\\"b\\\\c"'),
        (b"\xc3\xa9", b"{2}\r\n\xc3\xa9"),
        (b"a\tb", b'"a\tb"'),
        (b"a\x1bb", b"{3}\r\na\x1bb"),
        (b"a\0b", b"{2}\r\nab"),
        (b"x" * 1000, b'"%b"' % (b"x" * 1000)),
        (b"x" * 1001, b"{1001}\r\n%b" % (b"x" * 1001)),
    ],
)
def test_a_string_is_quoted_when_it_can_be(value, wire):
    assert string(value) == wire
    assert nstring(value) == wire


def test_none_is_nil():
    assert nstring(None) == b"NIL"


MIXED = crlf(
    """
From: a@b.test
Content-Type: multipart/mixed; boundary="o"; x=y
Content-Language: fr, en

--o
Content-Type: text/plain; charset=utf-8
Content-ID: <id@b.test>
Content-Description: a "text"
Content-Transfer-Encoding: quoted-printable
Content-Language: fr

one
two
--o
Content-Type: message/rfc822
Content-Disposition: attachment; filename=x.eml

From: c@d.test
Subject: in
Content-Type: text/html

<p>
--o
Content-Type: application/zip
Content-Transfer-Encoding: BASE64
Content-Disposition: attachment; filename*0*=utf-8''IHE; filename*1="_XDM.zip"
Content-MD5: Q2hlY2s=
Content-Location: http://x/

UEsDBA==
--o--
"""
)


def test_body_and_bodystructure_of_a_message_in_a_message():
    body, full = structures(MIXED, scan(MIXED).root)

    inner = (
        b'(NIL "in" ((NIL NIL "c" "d.test")) ((NIL NIL "c" "d.test")) ((NIL NIL "c" "d.test"))'
        b" NIL NIL NIL NIL NIL)"
    )
    assert body == (
        b'(("text" "plain" ("charset" "utf-8") "<id@b.test>" "a \\"text\\"" "quoted-printable" 8 1)'
        b'("message" "rfc822" NIL NIL NIL "7bit" 59 ' + inner + b" "
        b'("text" "html" NIL NIL NIL "7bit" 3 0) 4)'
        b'("application" "zip" NIL NIL NIL "base64" 8) "mixed")'
    )
    assert full == (
        b'(("text" "plain" ("charset" "utf-8") "<id@b.test>" "a \\"text\\"" "quoted-printable" 8 1'
        b' NIL NIL "fr" NIL)'
        b'("message" "rfc822" NIL NIL NIL "7bit" 59 ' + inner + b" "
        b'("text" "html" NIL NIL NIL "7bit" 3 0 NIL NIL NIL NIL) 4'
        b' NIL ("attachment" ("filename" "x.eml")) NIL NIL)'
        b'("application" "zip" NIL NIL NIL "base64" 8 "Q2hlY2s="'
        b' ("attachment" ("filename*0*" "utf-8\'\'IHE" "filename*1" "_XDM.zip")) NIL "http://x/")'
        b' "mixed" ("boundary" "o" "x" "y") NIL ("fr" "en") NIL)'
    )


def test_a_multipart_without_parts_shows_one_empty_text():
    raw = b"Content-Type: multipart/mixed\r\n\r\nx"

    assert structures(raw, scan(raw).root) == (
        b'(("text" "plain" NIL NIL NIL "7bit" 0 0) "mixed")',
        b'(("text" "plain" NIL NIL NIL "7bit" 0 0 NIL NIL NIL NIL) "mixed" NIL NIL NIL NIL)',
    )


def test_an_encoded_message_inside_shows_an_empty_one():
    raw = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nQQ=="
    body, full = structures(raw, scan(raw).root)

    nils = b"(" + b" ".join([b"NIL"] * 10) + b")"
    assert body == (
        b'("message" "rfc822" NIL NIL NIL "base64" 4 '
        + nils
        + b' ("text" "plain" NIL NIL NIL "7bit" 0 0) 0)'
    )
    assert full.endswith(b" 0 NIL NIL NIL NIL)")


def test_a_plain_message_is_one_text():
    raw = crlf("Subject: x\n\none\ntwo\n")

    assert structures(raw, scan(raw).root)[0] == b'("text" "plain" NIL NIL NIL "7bit" 10 2)'


def test_the_index_holds_what_lists_show():
    raw = crlf(
        """
From: =?utf-8?q?Zo=C3=A9?= <z@b.test>, c@d.test
To: "Doe, J" <j@b.test>
Cc: g: k@b.test;
Subject: =?utf-8?b?w6l0w6k=?=
Date: Thu, 1 Jan 2026 01:00:00 +0100
Message-ID: <1@b.test> (comment)
Content-Type: multipart/mixed; boundary=b

--b
Content-Disposition: attachment; filename="IHE_XDM.zip"

x
--b--
"""
    )
    made = index(raw)

    assert made.subject == "été"
    assert made.from_ == "Zoé <z@b.test>, c@d.test"
    assert made.to == "Doe, J <j@b.test>, k@b.test"
    assert made.date_at == 1767225600 * 1_000_000
    assert made.message_id == "<1@b.test>"
    assert made.has_package
    assert raw[made.header_octets - 4 : made.header_octets] == b"\r\n\r\n"


def test_the_index_of_nothing_is_empty():
    made = index(b"")

    assert (made.subject, made.from_, made.to, made.date_at, made.message_id) == (
        *("", "", ""),
        None,
        "",
    )
    assert not made.has_package
