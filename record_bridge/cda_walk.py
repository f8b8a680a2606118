"""Walk the entries of a CDA body, carrying down whether what encloses them is void.

An act that did not or will not happen is never visited: ``negationInd="true"`` on it or around
it, a nullFlavor on itself, or a status that voids it or what encloses it.

Source: CDA R2 §4.3, RULES §8.
"""

from collections.abc import Callable
from typing import Final

from lxml import etree

from record_bridge.formats.cda_header import HL7

Visit = Callable[[etree._Element, str], bool]  # noqa: SLF001 - the type of an element
"""Gets an act that counts and the code of its section; says whether to look inside it."""

ASKED: Final = frozenset({"ARQ", "INT", "RQO", "PRP", "PRMS", "APT"})
"""Moods of what is wanted, asked for, proposed, promised or appointed."""
_VOID_STATUS: Final = frozenset({"cancelled", "aborted", "nullified", "suspended"})
_ACTS: Final = frozenset(
    HL7 + name
    for name in (
        "act",
        "encounter",
        "observation",
        "organizer",
        "procedure",
        "substanceAdministration",
        "supply",
    )
)
_LINKS: Final = frozenset(
    HL7 + name for name in ("entry", "entryRelationship", "component", "section")
)
_FOLLOWED: Final = tuple(_LINKS | _ACTS)


def walk(document: etree._Element, visit: Visit) -> None:
    """Visit every act of a level 3 body that counts, in document order."""
    body = document.find(f"{HL7}component/{HL7}structuredBody")
    stack: list[tuple[etree._Element, bool, str]] = [] if body is None else [(body, False, "")]
    while stack:
        element, void, section = stack.pop()
        inside: list[tuple[etree._Element, bool, str]] = []
        for child in element.iterchildren(*_FOLLOWED):  # filtered in C: half the time
            tag = child.tag
            if tag in _LINKS:
                code = _section_code(child) if tag == HL7 + "section" else section
                inside.append((child, void or _is_negated(child), code))
                continue
            denied = void or _is_void(child)
            counts = not denied and child.get("nullFlavor") is None
            if not counts or visit(child, section):
                inside.append((child, denied, section))
        stack.extend(reversed(inside))


def templates(element: etree._Element) -> frozenset[str]:
    """The templates that an element says it follows."""
    return frozenset(t.get("root") or "" for t in element.iterfind(HL7 + "templateId"))


def time_of(element: etree._Element | None) -> str | None:
    """The ``value`` of a time as written, at most 40 characters."""
    value = None if element is None else element.get("value")
    return value.strip()[:40] if value and value.strip() else None


def period_of(element: etree._Element) -> tuple[str | None, str | None]:
    """Start and end as written, from the first effectiveTime that says either."""
    for when in element.iterfind(HL7 + "effectiveTime"):
        low = time_of(when) or time_of(when.find(HL7 + "low"))
        low = low or time_of(when.find(HL7 + "center"))
        high = time_of(when.find(HL7 + "high"))
        if low or high:
            return low, high
    return None, None


def _is_negated(element: etree._Element) -> bool:
    """Whether negationInd holds; ``1`` is true as well (XML Schema 2 §3.2.2.1)."""
    return (element.get("negationInd") or "").strip() in ("true", "1")


def _is_void(element: etree._Element) -> bool:
    if _is_negated(element):
        return True
    status = element.find(HL7 + "statusCode")
    return status is not None and (status.get("code") or "").lower() in _VOID_STATUS


def _section_code(section: etree._Element) -> str:
    code = section.find(HL7 + "code")
    return "" if code is None else code.get("code") or ""
