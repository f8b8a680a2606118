"""What CalDAV clients ask, and the XML they are told; pure.

Requests come through the one safe parser; what is asked is counted. Names of properties are in
Clark notation (``{DAV:}getetag``).

Source: RFC 4918 §14, RFC 4791 §9, RFC 6578 §6.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

from lxml import etree

from mailserver.errors import DavRequestError
from record_bridge.errors import MalformedDocumentError
from record_bridge.formats.safe_xml import parse_xml

DAV: Final = "{DAV:}"
CAL: Final = "{urn:ietf:params:xml:ns:caldav}"
CS: Final = "{http://calendarserver.org/ns/}"
APPLE: Final = "{http://apple.com/ns/ical/}"
_NAMESPACES: Final = {"D": DAV[1:-1], "C": CAL[1:-1], "CS": CS[1:-1], "A": APPLE[1:-1]}
CALENDAR_DATA: Final = f"{CAL}calendar-data"
ETAG: Final = f"{DAV}getetag"
MAX_NAMES: Final = 100
MAX_HREFS: Final = 1000
MAX_HREF: Final = 1000
SYNC_PREFIX: Final = "urn:pli:sync:"

Value: TypeAlias = "str | tuple[etree._Element, ...]"  # noqa: SLF001 - lxml's one name for it
"""What a property holds: text, or elements made for this one answer."""


@dataclass(frozen=True, slots=True)
class PropFind:
    """Which properties; None: all that are shown unasked. ``names_only``: without values."""

    names: tuple[str, ...] | None
    names_only: bool = False


@dataclass(frozen=True, slots=True)
class CalendarQuery:
    """Objects by time and UID.

    Attributes:
        since: aware UTC, None for no beginning; ``until`` alike.
        uid: what the UID must hold, None for anything.
        impossible: no object here can match (other components).
    """

    names: tuple[str, ...]
    since: datetime | None = None
    until: datetime | None = None
    uid: str | None = None
    impossible: bool = False


@dataclass(frozen=True, slots=True)
class MultiGet:
    """Objects by address, as written."""

    names: tuple[str, ...]
    hrefs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SyncCollection:
    """What changed since a state; "" asks for everything. ``limit`` None: no bound."""

    names: tuple[str, ...]
    state: str
    limit: int | None = None


Report = CalendarQuery | MultiGet | SyncCollection


@dataclass(frozen=True, slots=True)
class Told:
    """One resource of an answer.

    Attributes:
        href: its address, percent-encoded.
        values: what it has of what was asked; None: it is gone or was never there (404).
    """

    href: str
    values: Mapping[str, Value] | None


def read_propfind(content: bytes) -> PropFind:
    """Read a PROPFIND; no body asks for all.

    Raises:
        DavRequestError: it is not one.

    Source: RFC 4918 §9.1.
    """
    if not content.strip():
        return PropFind(None)
    root = _root(content)
    if root.tag != f"{DAV}propfind":
        raise DavRequestError("not a propfind")
    if root.find(f"{DAV}propname") is not None:
        return PropFind(None, names_only=True)
    prop = root.find(f"{DAV}prop")
    return PropFind(None if prop is None else _names(root))


def read_proppatch(content: bytes) -> tuple[str, ...]:
    """Read which properties a PROPPATCH would change.

    Source: RFC 4918 §9.2.
    """
    root = _root(content)
    if root.tag != f"{DAV}propertyupdate":
        raise DavRequestError("not a propertyupdate")
    found = [element for prop in root.iter(f"{DAV}prop") for element in prop]
    if len(found) > MAX_NAMES:
        raise DavRequestError("too many properties")
    return tuple(str(element.tag) for element in found)


def read_report(content: bytes) -> Report:
    """Read a REPORT.

    Raises:
        DavRequestError: it is none of the three that are answered.

    Source: RFC 4791 §7.8, RFC 4791 §7.9, RFC 6578 §3.2.
    """
    root = _root(content)
    readers: Mapping[str, Callable[[etree._Element], Report]] = {
        f"{CAL}calendar-query": _query,
        f"{CAL}calendar-multiget": _multiget,
        f"{DAV}sync-collection": _sync,
    }
    reader = readers.get(str(root.tag))
    if reader is None:
        raise DavRequestError("report", f"{DAV}supported-report")
    return reader(root)


def multistatus(
    told: Sequence[Told], asked: PropFind, *, token: str = "", truncated: str = ""
) -> bytes:
    """Write a 207 answer.

    Args:
        told: the resources.
        asked: which properties; those that a resource has not are told as such.
        token: state for the next synchronisation, "" for none.
        truncated: address of a collection of which not everything is told (507).

    Source: RFC 4918 §13, RFC 6578 §3.6.
    """
    root = etree.Element(f"{DAV}multistatus", nsmap=_NAMESPACES)
    for each in told:
        _response(root, each, asked)
    if truncated:
        response = etree.SubElement(root, f"{DAV}response")
        etree.SubElement(response, f"{DAV}href").text = truncated
        etree.SubElement(response, f"{DAV}status").text = "HTTP/1.1 507 Insufficient Storage"
    if token:
        etree.SubElement(root, f"{DAV}sync-token").text = SYNC_PREFIX + token
    return _written(root)


def refused_properties(href: str, names: Sequence[str]) -> bytes:
    """Write that none of these properties can be changed.

    Source: RFC 4918 §9.2.1.
    """
    root = etree.Element(f"{DAV}multistatus", nsmap=_NAMESPACES)
    response = etree.SubElement(root, f"{DAV}response")
    etree.SubElement(response, f"{DAV}href").text = href
    _propstat(response, [etree.Element(name) for name in names], "403 Forbidden")
    return _written(root)


def error_body(precondition: str) -> bytes:
    """Write which precondition failed.

    Source: RFC 4918 §16.
    """
    root = etree.Element(f"{DAV}error", nsmap=_NAMESPACES)
    etree.SubElement(root, precondition)
    return _written(root)


def element(
    tag: str, /, *children: etree._Element, text: str = "", **attributes: str
) -> etree._Element:
    """Make an element."""
    made = etree.Element(tag, attributes, nsmap=_NAMESPACES)
    made.text = text or None
    made.extend(children)
    return made


def href(address: str) -> etree._Element:
    """Make the address of a resource."""
    return element(f"{DAV}href", text=address)


def _response(root: etree._Element, told: Told, asked: PropFind) -> None:
    response = etree.SubElement(root, f"{DAV}response")
    etree.SubElement(response, f"{DAV}href").text = told.href
    if told.values is None:
        etree.SubElement(response, f"{DAV}status").text = "HTTP/1.1 404 Not Found"
        return
    names = asked.names
    if names is None:
        names = tuple(name for name in told.values if name != CALENDAR_DATA)
    found, missing = [], []
    for name in names:
        made = etree.Element(name)
        if name not in told.values:
            missing.append(made)
            continue
        found.append(made)
        value = told.values[name]
        if asked.names_only:
            continue
        if isinstance(value, str):
            made.text = value
        else:
            made.extend(value)
    if found or not missing:
        _propstat(response, found, "200 OK")
    if missing:
        _propstat(response, missing, "404 Not Found")


def _propstat(response: etree._Element, properties: Sequence[etree._Element], status: str) -> None:
    propstat = etree.SubElement(response, f"{DAV}propstat")
    etree.SubElement(propstat, f"{DAV}prop").extend(properties)
    etree.SubElement(propstat, f"{DAV}status").text = f"HTTP/1.1 {status}"


def _written(root: etree._Element) -> bytes:
    etree.cleanup_namespaces(root, keep_ns_prefixes=["D", "C"])
    written: bytes = etree.tostring(root, xml_declaration=True, encoding="utf-8")
    return written


def _root(content: bytes) -> etree._Element:
    try:
        return parse_xml(content, MalformedDocumentError)
    except MalformedDocumentError as error:
        raise DavRequestError(error.reason) from None


def _names(root: etree._Element) -> tuple[str, ...]:
    prop = root.find(f"{DAV}prop")
    found = [] if prop is None else [str(each.tag) for each in prop]
    if len(found) > MAX_NAMES:
        raise DavRequestError("too many properties")
    if any(not name.startswith("{") for name in found):
        raise DavRequestError("no namespace")
    return tuple(dict.fromkeys(found))


def _query(root: etree._Element) -> CalendarQuery:
    names = _names(root)
    outer = root.find(f"{CAL}filter/{CAL}comp-filter")
    if outer is None or outer.get("name") != "VCALENDAR":
        raise DavRequestError("filter", f"{CAL}valid-filter")
    inner = outer.findall(f"{CAL}comp-filter")
    if not inner:
        return CalendarQuery(names)
    if (
        len(inner) > 1
        or inner[0].get("name") != "VEVENT"
        or inner[0].find(f"{CAL}is-not-defined") is not None
    ):
        return CalendarQuery(names, impossible=True)
    since = until = None
    span = inner[0].find(f"{CAL}time-range")
    if span is not None:
        since, until = _instant(span.get("start")), _instant(span.get("end"))
    uid = None
    for condition in inner[0].findall(f"{CAL}prop-filter"):
        match = condition.find(f"{CAL}text-match")
        if (
            condition.get("name") != "UID"
            or match is None
            or match.get("negate-condition") == "yes"
        ):
            raise DavRequestError("filter", f"{CAL}supported-filter")
        uid = (match.text or "")[:MAX_HREF]
    return CalendarQuery(names, since, until, uid)


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise DavRequestError("time", f"{CAL}valid-filter") from None


def _multiget(root: etree._Element) -> MultiGet:
    hrefs = [(each.text or "").strip() for each in root.findall(f"{DAV}href")]
    if len(hrefs) > MAX_HREFS or any(len(each) > MAX_HREF for each in hrefs):
        raise DavRequestError("too many addresses", f"{DAV}number-of-matches-within-limits")
    return MultiGet(_names(root), tuple(hrefs))


def _sync(root: etree._Element) -> SyncCollection:
    token = (root.findtext(f"{DAV}sync-token") or "").strip()
    if token and not token.startswith(SYNC_PREFIX):
        raise DavRequestError("token", f"{DAV}valid-sync-token")
    if (root.findtext(f"{DAV}sync-level") or "1").strip() not in ("1", "infinite"):
        raise DavRequestError("level")
    limit = root.findtext(f"{DAV}limit/{DAV}nresults")
    if limit is not None and not (limit.strip().isascii() and limit.strip().isdigit()):
        raise DavRequestError("limit")
    number = None if limit is None else max(1, int(limit.strip()[:9]))
    return SyncCollection(_names(root), token.removeprefix(SYNC_PREFIX), number)
