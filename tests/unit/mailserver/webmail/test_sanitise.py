"""Strangers' words made safe: HTML mail, header text, names (W1, W2, C15)."""

import pytest

from mailserver.webmail.sanitise import (
    body_text,
    mixed_scripts,
    named_address,
    plain,
    safe_html,
    shown_sender,
)

PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<img srcset='https://evil.test/a 1x'>",
    "<svg><animate attributeName=href values=javascript:alert(1) /><a id=x><text>x</text></a></svg>",
    "<svg><style>@import 'https://evil.test/x.css'</style></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)></style></mglyph></table></mtext></math>",
    "<body background='https://evil.test/x'><p>a</p></body>",
    "<p style='background:url(https://evil.test/x)'>a</p>",
    "<style>p{background:image-set('https://evil.test/x' 1x)}</style>",
    "<link rel=stylesheet href=https://evil.test/x.css>",
    "<a href='javascript:alert(1)'>a</a>",
    "<a href='https://evil.test' ping='https://evil.test/p'>a</a>",
    "<form action=https://evil.test><input name=password><button>x</button></form>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data=https://evil.test></object><embed src=https://evil.test>",
    "<video poster=https://evil.test/x src=https://evil.test/y></video>",
    "<table background=https://evil.test/x><td background=https://evil.test/x>a</td></table>",
    "<meta http-equiv=refresh content='0;url=https://evil.test'>",
    "<base href=https://evil.test/>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'></noscript>",
    "<!--[if IE]><script>alert(1)</script><![endif]-->",
    "<details open ontoggle=alert(1)>a</details>",
    "<p/onclick=alert(1)>a",
    "<xmp><p title='</xmp><img src=x onerror=alert(1)>'></xmp>",
    "<div id=cookie name=getElementById class=card>a</div>",
]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_html_mail_keeps_no_payload(payload):
    safe = safe_html(payload).lower()

    for forbidden in (
        "<script", "<img", "<svg", "<math", "<style", "<form", "<input", "<iframe", "<object",
        "<link", "<meta", "<base", "<video", "evil.test", "alert(1)>", " on", "href", "style=",
        "src", "id=", "class=", "name=",
    ):  # fmt: skip
        assert forbidden not in safe


def test_html_mail_keeps_its_words_and_structure():
    safe = safe_html("<h1>T</h1><p>a <b>b</b></p><table><tr><td colspan=2>c</td></tr></table>")

    assert safe == (
        '<h1>T</h1><p>a <b>b</b></p><table><tbody><tr><td colspan="2">c</td></tr></tbody></table>'
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\r\nBcc: x", "a Bcc: x"),
        ("fac\u202egpj.exe", "facgpj.exe"),
        ("a\u200bb\u2066c", "abc"),
        ("x" * 500, "x" * 399 + "…"),
        ("x" * 400, "x" * 400),
        ("\0\x1b[31m", "[31m"),
        ("é 漢", "é 漢"),
    ],
)
def test_header_text_is_one_line_without_tricks(text, expected):
    assert plain(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dr Martin <m@a.test>", ("Dr Martin", "m@a.test")),
        ('"Martin, Claire" <m@a.test>', ("Martin, Claire", "m@a.test")),
        ("m@a.test", ("m@a.test", "")),
        ("A <a@a.test>, B <b@a.test>", ("A <a@a.test>, B <b@a.test>", "")),
        ("A <x@evil.test> <a@a.test>", ("A <x@evil.test> <a@a.test>", "")),
    ],
)
def test_a_listed_sender_is_split_only_when_it_is_one(text, expected):
    assert named_address(text) == expected


def test_body_text_keeps_its_lines_only():
    assert body_text("a\r\nb\rc\n\td\x00\x1b\u202e") == "a\nb\nc\n\td"


@pytest.mark.parametrize(
    ("text", "mixed"),
    [
        ("Dr Duроnt", True),
        ("Dr Dupont", False),
        ("Иван Dupont", False),
        ("Ράντος", False),
        ("", False),
    ],
)
def test_one_word_of_two_alphabets_is_seen(text, mixed):
    assert mixed is mixed_scripts(text)


@pytest.mark.parametrize(
    ("field", "doubtful"),
    [
        (b'"Dr Martin" <m@a.test>', False),
        (b'"chef@hopital.test" <m@a.test>', True),
        ("Dr Duроnt <m@a.test>".encode(), True),
        (b"m@a.test", False),
        (b"a@a.test, b@a.test", True),
        (b"nobody", True),
    ],
)
def test_a_sender_is_shown_with_the_address_and_a_doubt(field, doubtful):
    assert shown_sender(field).doubtful is doubtful


def test_the_annuaire_name_replaces_what_the_sender_claims():
    shown = shown_sender(b'"Le ministre" <m@a.test>', "Dr Claire Martin")

    assert (shown.name, shown.address, shown.doubtful) == ("Dr Claire Martin", "m@a.test", False)
