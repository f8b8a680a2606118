"""Strangers' words made safe to show: header text, plain text, HTML mail; pure.

HTML mail keeps words and structure only: no script, style, link target, form, image or SVG, and
no attribute that loads anything (threats W1, W2). What comes out is still shown in a sandboxed
frame with its own policy, so that two things must fail at once.
"""

import unicodedata
from dataclasses import dataclass
from typing import Final

import nh3

from certs.addresses import parse_mailbox
from certs.errors import CertsError

MAX_HTML_OCTETS: Final = 2 * 1024 * 1024
MAX_TEXT_CHARACTERS: Final = 1_000_000
MAX_NAME_CHARACTERS: Final = 120

_TAGS: Final = frozenset(
    [
        "a",
        "abbr",
        "article",
        "b",
        "bdi",
        "bdo",
        "blockquote",
        "br",
        "caption",
        "center",
        "cite",
        "code",
        "col",
        "colgroup",
        "dd",
        "del",
        "details",
        "dfn",
        "div",
        "dl",
        "dt",
        "em",
        "figcaption",
        "figure",
        "font",
        "footer",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "i",
        "ins",
        "kbd",
        "li",
        "main",
        "mark",
        "ol",
        "p",
        "pre",
        "q",
        "s",
        "samp",
        "section",
        "small",
        "span",
        "strong",
        "sub",
        "summary",
        "sup",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "time",
        "tr",
        "tt",
        "u",
        "ul",
        "var",
    ]
)
_CLEAN_CONTENT: Final = {
    "script", "style", "svg", "math", "title", "template", "noscript", "iframe", "object",
    "embed", "textarea", "select", "xmp", "noembed", "noframes", "head",
}  # fmt: skip
_ATTRIBUTES: Final[dict[str, set[str]]] = {
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan"},
    "ol": {"start"},
    "*": {"dir", "lang"},
}
# Bidirectional controls, zero-width and invisible characters: they make a name read as another
# (threat C15).
_INVISIBLE: Final = frozenset(
    chr(code)
    for start, end in (
        (0x00AD, 0x00AD),
        (0x034F, 0x034F),
        (0x061C, 0x061C),
        (0x180E, 0x180E),
        (0x200B, 0x200F),
        (0x202A, 0x202E),
        (0x2060, 0x2069),
        (0xFEFF, 0xFEFF),
    )
    for code in range(start, end + 1)
)
_SCRIPTS: Final = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "HEBREW", "ARABIC", "CHEROKEE")


def plain(text: str, limit: int = 400) -> str:
    """Give header text on one line: no control, bidirectional or invisible character."""
    kept = "".join(
        " " if unicodedata.category(character) in ("Cc", "Zl", "Zp") else character
        for character in text[: 4 * limit]
        if character not in _INVISIBLE
    )
    short = " ".join(kept.split())
    return short if len(short) <= limit else short[: limit - 1] + "…"


def named_address(text: str) -> tuple[str, str]:
    """Split ``name <address>`` for a list; an address alone, or several people, is the name."""
    name, mark, address = text.partition(" <")
    if not mark or not address.endswith(">") or "<" in address:
        return text, ""
    return name.strip('"'), address[:-1]


def body_text(text: str) -> str:
    """Give a plain text body: its line ends kept, every other control character dropped."""
    lines = text[:MAX_TEXT_CHARACTERS].replace("\r\n", "\n").replace("\r", "\n")
    return "".join(
        character
        for character in lines
        if character in "\n\t"
        or (unicodedata.category(character) != "Cc" and character not in _INVISIBLE)
    )


def mixed_scripts(text: str) -> bool:
    """Say whether one word mixes alphabets, as look-alike names do."""
    for word in text.split():
        found: set[str] = set()
        for character in word:
            if character.isalpha():
                name = unicodedata.name(character, "")
                found.update(script for script in _SCRIPTS if name.startswith(script))
        if len(found) > 1:
            return True
    return False


def safe_html(text: str) -> str:
    """Keep the words and the structure of an HTML mail.

    Blocking: a large mail takes tens of milliseconds; call it in a thread.
    """
    return nh3.clean(
        text[:MAX_HTML_OCTETS],
        tags=set(_TAGS),
        clean_content_tags=set(_CLEAN_CONTENT),
        attributes=_ATTRIBUTES,
        strip_comments=True,
        link_rel=None,
        url_schemes=set(),
    )


@dataclass(frozen=True, slots=True)
class ShownSender:
    """An author as a page shows one: never a name without its address.

    Attributes:
        name: what to show first; the annuaire's name when the address is there.
        address: "" when it cannot be read.
        doubtful: the name mixes alphabets, or looks like another address.
    """

    name: str
    address: str
    doubtful: bool = False


def shown_sender(value: bytes, directory_name: str | None = None) -> ShownSender:
    """Read a From field for people.

    Args:
        value: the raw field value.
        directory_name: the annuaire's name for that address, when it has one.
    """
    try:
        mailbox = parse_mailbox(value)
    except CertsError:
        return ShownSender("Expéditeur illisible", "", doubtful=True)
    address = mailbox.address.text
    name = plain(mailbox.display, MAX_NAME_CHARACTERS)
    if directory_name:
        return ShownSender(plain(directory_name, MAX_NAME_CHARACTERS), address)
    doubtful = mixed_scripts(name) or ("@" in name and name.lower() != address.lower())
    return ShownSender(name or address, address, doubtful=doubtful)
