"""The one way in which XML of strangers becomes a tree.

No DOCTYPE is ever read, so there are no entities to expand; no network, no file, no XInclude, no
style sheet; only encodings in which ``<!DOCTYPE`` cannot hide, UTF-16 being read as UTF-8 before
anything is looked for; size, number of tags and depth are bounded before or while parsing.
Comments and processing instructions are dropped.

Source: XML 1.0 §2.8, XML 1.0 §4.3.3, threats X5 and X6.
"""

import re
from functools import lru_cache

from lxml import etree

from record_bridge.errors import MalformedDocumentError

MAX_OCTETS = 20 * 1024 * 1024
MAX_TAGS = 1_000_000
MAX_DEPTH = 200
_PLAIN_TEXT_OCTETS = 9_000_000
"""libxml2 refuses text nodes over 10 MB unless told that the document is huge."""

_DECLARATION = re.compile(rb"<\?xml\s[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9._:-]{1,40})[\"']")
_ENCODINGS = {
    **dict.fromkeys((b"utf8", b"usascii", b"ascii", b"utf16"), "UTF-8"),
    **dict.fromkeys((b"iso88591", b"latin1"), "ISO-8859-1"),
    b"iso885915": "ISO-8859-15",
    **dict.fromkeys((b"windows1252", b"cp1252"), "windows-1252"),
}
"""Names as senders spell them, lower case, without ``-`` and ``_``; what the parser calls them.

A text that can be read as far as the name ``utf-16`` in ASCII is none: .NET writes that name into
what is UTF-8.
"""

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_UTF16_NAME = re.compile(
    r"\A(\s*<\?xml\s[^>]{0,200}?encoding\s*=\s*[\"'])utf-?(?:16(?:le|be)?|8)(?=[\"'])",
    re.IGNORECASE,
)
_UTF8_MARK = b"\xef\xbb\xbf"
_ENDS = {b"<!--": b"-->", b"<![CDATA[": b"]]>", b"<?": b"?>"}
"""What may hold any words, a DOCTYPE among them that is none, and where it ends. Before the root,
where a real one stands, a parser takes them in the same order and to the same end."""

_OPENED = re.compile(rb"<!--|<!\[CDATA\[|<\?|<!DOCTYPE|<!ENTITY")
_TOO_DEEP = etree.XPath("boolean(" + "/*" * (MAX_DEPTH + 1) + ")")


def _parser(encoding: str | None, *, huge: bool) -> etree.XMLParser:
    return etree.XMLParser(
        encoding=encoding,
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        remove_comments=True,
        remove_pis=True,
        collect_ids=False,
        huge_tree=huge,
    )


def parse_xml(content: bytes, error: type[MalformedDocumentError]) -> etree._Element:
    """Parse strangers' XML.

    Args:
        content: the whole document.
        error: the class raised when it cannot be read.

    Returns:
        The root element.

    Raises:
        MalformedDocumentError: as ``error``, with a constant reason.

    Source: XML 1.0 §2.8, threats X5 and X6.
    """
    text, encoding = _checked(content, error)
    try:
        root = etree.fromstring(text, _parser(encoding, huge=len(text) > _PLAIN_TEXT_OCTETS))
    except (etree.XMLSyntaxError, ValueError):
        # parser messages quote the input: they never travel with our error
        raise error("not well formed") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise error("doctype")
    if _TOO_DEEP(root):
        raise error("too deep")
    return root


def refuse_unsafe(content: bytes, error: type[MalformedDocumentError]) -> None:
    """The checks that need no parser: size, encoding, DOCTYPE, number of tags."""
    _checked(content, error)


def ascii_based(content: bytes) -> bytes:
    """The text in an encoding that writes markup in ASCII, from its first ``<`` on.

    UTF-16 with its mark becomes UTF-8, and says so; marks and blanks around the text go, which
    senders leave there and parsers refuse. Anything else stays as it is.

    Source: XML 1.0 §F.1.
    """
    if content.startswith(_UTF16):
        try:
            decoded = content.decode("utf-16")
        except UnicodeDecodeError:
            return content
        renamed, count = _UTF16_NAME.subn(r"\1UTF-8", decoded, count=1)
        if not count and "encoding" in decoded[:200].partition("?>")[0]:
            return content  # it says that it is something else
        content = renamed.encode()
    return content.removeprefix(_UTF8_MARK).strip(b" \t\r\n")


def _checked(content: bytes, error: type[MalformedDocumentError]) -> tuple[bytes, str | None]:
    """The text to parse, and its encoding by the parser's name; None when it names none."""
    if len(content) > MAX_OCTETS:
        raise error("too large")
    text = ascii_based(content)
    if len(text) > MAX_OCTETS:
        raise error("too large")
    if not text.startswith(b"<") or b"\x00" in text:
        raise error("not XML text")
    declared = _DECLARATION.match(text)
    encoding = None
    if declared is not None:
        encoding = _ENCODINGS.get(re.sub(rb"[-_]", b"", declared[1].lower()))
        if encoding is None:
            raise error("encoding")
        if content.startswith(_UTF8_MARK):  # the mark is in the octets, the name only says so
            encoding = "UTF-8"
    elif text.startswith(b"<?xml") and b"encoding" in text[:200].split(b"?>", 1)[0]:
        raise error("encoding")
    if _has_doctype(text):
        raise error("doctype")
    if text.count(b"<") > MAX_TAGS:
        raise error("too many tags")
    return text, encoding


def _has_doctype(text: bytes) -> bool:
    """Whether a DOCTYPE or an entity is declared, or something before it never ends."""
    if b"<!DOCTYPE" not in text and b"<!ENTITY" not in text:
        return False
    at = 0
    while found := _OPENED.search(text, at):
        closing = _ENDS.get(found[0])
        end = -1 if closing is None else text.find(closing, found.end())
        if closing is None or end < 0:
            return True
        at = end + len(closing)
    return False


def local_name(element: etree._Element) -> str:
    """The element's name without its namespace, or without its undeclared prefix."""
    tag = element.tag
    return _bare(tag) if isinstance(tag, str) else ""


@lru_cache(maxsize=256)
def _bare(tag: str) -> str:
    return tag.rpartition("}")[2].rpartition(":")[2]


_BREAKS = frozenset(
    ("br", "caption", "item", "list", "paragraph", "table", "td", "text", "th", "title", "tr")
)
"""Elements of a narrative before and after which a word ends."""


def text_of(element: etree._Element | None, limit: int = 1000) -> str:
    """All text inside an element, blanks squeezed, cut at a limit; "" for None.

    Words of two cells, lines or items stay two words, though no blank is written between them.
    """
    if element is None:
        return ""
    if not len(element):  # a leaf, most often
        return " ".join((element.text or "").split())[:limit]
    pieces = []
    for event, inner in etree.iterwalk(element, events=("start", "end")):
        if local_name(inner) in _BREAKS:
            pieces.append(" ")
        if event == "start":
            pieces.append(inner.text or "")
        elif inner is not element:
            pieces.append(inner.tail or "")
    return " ".join("".join(map(str, pieces)).split())[:limit]
