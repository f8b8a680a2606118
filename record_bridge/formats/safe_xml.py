"""The one way in which XML of strangers becomes a tree.

No DOCTYPE is ever read, so there are no entities to expand; no network, no file, no XInclude, no
style sheet; only encodings in which ``<!DOCTYPE`` cannot hide; size, number of tags and depth are
bounded before or while parsing. Comments and processing instructions are dropped.

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
_ENCODINGS = frozenset(
    {b"utf-8", b"us-ascii", b"ascii", b"iso-8859-1", b"iso-8859-15", b"windows-1252", b"latin1"}
)
_TOO_DEEP = etree.XPath("boolean(" + "/*" * (MAX_DEPTH + 1) + ")")


def _parser(*, huge: bool) -> etree.XMLParser:
    return etree.XMLParser(
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
    refuse_unsafe(content, error)
    try:
        root = etree.fromstring(content, _parser(huge=len(content) > _PLAIN_TEXT_OCTETS))
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
    if len(content) > MAX_OCTETS:
        raise error("too large")
    start = content[3:] if content.startswith(b"\xef\xbb\xbf") else content
    if not start.lstrip(b" \t\r\n").startswith(b"<") or b"\x00" in content:
        raise error("not XML text")
    declared = _DECLARATION.match(start)
    if declared is not None:
        if declared[1].lower() not in _ENCODINGS:
            raise error("encoding")
    elif start.startswith(b"<?xml") and b"encoding" in start[:200].split(b"?>", 1)[0]:
        raise error("encoding")
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise error("doctype")
    if content.count(b"<") > MAX_TAGS:
        raise error("too many tags")


def local_name(element: etree._Element) -> str:
    """The element's name without its namespace, or without its undeclared prefix."""
    tag = element.tag
    return _bare(tag) if isinstance(tag, str) else ""


@lru_cache(maxsize=256)
def _bare(tag: str) -> str:
    return tag.rpartition("}")[2].rpartition(":")[2]


def text_of(element: etree._Element | None, limit: int = 1000) -> str:
    """All text inside an element, blanks squeezed, cut at a limit; "" for None."""
    if element is None:
        return ""
    if not len(element):  # a leaf, most often
        return " ".join((element.text or "").split())[:limit]
    return " ".join("".join(map(str, element.itertext())).split())[:limit]
