"""Header fields as a mail reader needs them: lists of addresses, dates, message identifiers.

This is the forgiving reader, for display and for ENVELOPE: it never raises and never decides who
someone is (``certs.addresses`` does). Invariants: work is linear and bounded; no result holds a
line break.

Source: RFC 5322 §3.3, RFC 5322 §3.4, RFC 5322 §3.6.4, RFC 9051 §7.5.2.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from certs.mime import HeaderField, decode_header
from certs.mime_words import unfold

MAX_ADDRESSES: Final = 1000
"""Addresses of one field that are read; the rest is dropped (CVE-2024-23184)."""
MAX_FIELD_OCTETS: Final = 64 * 1024

_BLANK: Final = re.compile(rb"[ \t\r\n]+")
_ATOM: Final = re.compile(rb'[^\s",;:<>()]+|.', re.DOTALL)
_ENCLOSED: Final = {
    b'"': ("quoted", re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)),
    b"(": (
        "comment",
        re.compile(rb"\((?:[^()\\]|\\.|\((?:[^()\\]|\\.)*\))*\)", re.DOTALL),
    ),
    b"<": ("angle", re.compile(rb'<(?:"(?:[^"\\]|\\.)*"|[^<>"])*>', re.DOTALL)),
}
_QUOTED_PAIR: Final = re.compile(rb"\\(.)", re.DOTALL)
_ROUTE: Final = re.compile(rb"@[^:]*:")


@dataclass(frozen=True, slots=True)
class ListedAddress:
    """One address of a list as raw octets, or the start or end of a group.

    A group opens with ``mailbox`` its name and ``host`` None, and closes with both None.
    """

    name: bytes | None
    route: bytes | None
    mailbox: bytes | None
    host: bytes | None

    @property
    def text(self) -> str:
        """For people: ``name <mailbox@host>``, decoded; "" for the marks of a group."""
        if self.mailbox is None or self.host is None:
            return ""
        address = decode_header(self.mailbox + b"@" + self.host)
        name = decode_header(self.name or b"")
        return f"{name} <{address}>" if name else address


def value_of(fields: Iterable[HeaderField], name: str) -> bytes | None:
    """Give the first field of that name, unfolded and trimmed; None when absent."""
    for field in fields:
        if field.name.lower() == name:
            return unfold(field.value).replace(b"\r", b"").replace(b"\n", b"").strip(b" \t")
    return None


def first_values(fields: Iterable[HeaderField]) -> dict[str, bytes]:
    """Give the first value of each name (lower case), unfolded and trimmed."""
    found: dict[str, bytes] = {}
    for field in fields:
        name = field.name.lower()
        if name not in found:
            value = unfold(field.value).strip(b" \t\r\n")
            if b"\n" in value or b"\r" in value:
                value = value.replace(b"\r", b"").replace(b"\n", b"")
            found[name] = value
    return found


def _tokens(value: bytes) -> Iterator[tuple[str, bytes]]:
    """Cut a value into tokens: quoted, comment, angle, special, blank, atom.

    A kind of enclosure that once did not close is not looked for again: looking again at each
    of its opening characters took 24 seconds for 64 kB.
    """
    enclosed = dict(_ENCLOSED)
    at = 0
    while at < len(value):
        first = value[at : at + 1]
        if first in {b",", b";", b":"}:
            yield "special", first
            at += 1
            continue
        kind, pattern = enclosed.get(first, ("blank", _BLANK))
        match = pattern.match(value, at)
        if match is None:
            enclosed.pop(first, None)
            kind, match = "atom", _ATOM.match(value, at)
        if match is None:
            return
        yield kind, match[0]
        at = match.end()


def list_addresses(value: bytes, limit: int = MAX_ADDRESSES) -> list[ListedAddress]:
    """Read a list of addresses as well as it can be read; groups keep their marks.

    Args:
        value: a field's value.
        limit: how many addresses are read, at most.
    """
    found: list[ListedAddress] = []
    segment = _Segment()
    in_group = False
    for kind, token in _tokens(value[:MAX_FIELD_OCTETS]):
        if kind != "special":
            segment.add(kind, token)
            continue
        if token == b":" and not in_group and not segment.angle:
            found.append(ListedAddress(None, None, segment.phrase() or b"", None))
            in_group = True
            segment = _Segment()
            continue
        segment.close(found)
        segment = _Segment()
        if token == b";" and in_group:
            found.append(ListedAddress(None, None, None, None))
            in_group = False
        if len(found) >= limit:
            break
    segment.close(found)
    if in_group:
        found.append(ListedAddress(None, None, None, None))
    return found


class _Segment:
    """The tokens between two separators."""

    def __init__(self) -> None:
        self.words: list[bytes] = []
        self.plain: list[bytes] = []
        self.angle: bytes = b""
        self.comment: bytes = b""

    def add(self, kind: str, token: bytes) -> None:
        if kind == "blank":
            if self.words and self.words[-1] != b" ":
                self.words.append(b" ")
        elif kind == "comment":
            self.comment = self.comment or token[1:-1]
        elif kind == "angle":
            self.angle = self.angle or token
        elif not self.angle:
            self.words.append(_QUOTED_PAIR.sub(rb"\1", token[1:-1]) if kind == "quoted" else token)
            self.plain.append(token)

    def phrase(self) -> bytes | None:
        return b"".join(self.words).strip() or None

    def close(self, found: list[ListedAddress]) -> None:
        if self.angle:
            spec = self.angle[1:-1].strip()
            route = _ROUTE.match(spec)
            at = route.end() if route else 0
            name = self.phrase() or self.comment or None
            found.append(
                ListedAddress(name, spec[: at - 1] if at else None, *_split(spec[at:].strip()))
            )
        elif self.plain:
            spec = b"".join(self.plain)
            found.append(ListedAddress(self.comment or None, None, *_split(spec)))


def _split(spec: bytes) -> tuple[bytes, bytes]:
    local, at, host = spec.rpartition(b"@")
    if not at:
        return spec, b""
    return local.strip(), host.strip()


def display_list(value: bytes | None) -> str:
    """Give a list of addresses for people, decoded; "" when absent."""
    if not value:
        return ""
    return ", ".join(text for text in (item.text for item in list_addresses(value)) if text)


_DATE: Final = re.compile(
    r"(?:[A-Za-z]{3,9}\s*,?\s*)?(\d{1,2})[\s-]+([A-Za-z]{3})[A-Za-z]*[\s-]+(\d{2,4})\s+"
    r"(\d{1,2}):(\d{2})(?::(\d{2}))?(?:\.\d+)?\s*([+-]\d{4}|[A-Za-z]{1,5})?"
)
_MONTH_NAMES: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
_MONTHS: Final = {name.lower(): number for number, name in enumerate(_MONTH_NAMES, 1)}
_ZONES: Final[Mapping[str, int]] = {
    "ut": 0,
    "gmt": 0,
    "utc": 0,
    "z": 0,
    "est": -300,
    "edt": -240,
    "cst": -360,
    "cdt": -300,
    "mst": -420,
    "mdt": -360,
    "pst": -480,
    "pdt": -420,
    "cet": 60,
    "cest": 120,
}
_COMMENT: Final = re.compile(r"\([^()]*\)")


def parse_date(value: bytes | None) -> datetime | None:
    """Read a Date field, obsolete forms included; None when it is no date.

    Source: RFC 5322 §3.3, RFC 5322 §4.3.
    """
    if not value:
        return None
    text = _COMMENT.sub(" ", value[:200].decode("latin-1")).strip()
    match = _DATE.match(text)
    if match is None:
        return None
    day, month, year, hour, minute, second, zone = match.groups()
    number = _MONTHS.get(month.lower())
    if number is None:
        return None
    full_year = int(year)
    if len(year) < 4:
        full_year += 1900 if len(year) == 3 or full_year >= 50 else 2000
    minutes = 0
    if zone and zone[0] in "+-":
        minutes = (int(zone[1:3]) * 60 + int(zone[3:])) * (-1 if zone[0] == "-" else 1)
    elif zone:
        minutes = _ZONES.get(zone.lower(), 0)
    try:
        # A leap second is read as the second before it.
        local = datetime(
            full_year,
            number,
            int(day),
            int(hour),
            int(minute),
            min(int(second or 0), 59),
            tzinfo=UTC,
        )
        return local - timedelta(minutes=minutes)
    except (ValueError, OverflowError):
        return None


_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def encode_date(at: datetime) -> bytes:
    """Write an aware instant as a Date field's value, in its own offset.

    Source: RFC 5322 §3.3.
    """
    offset = at.utcoffset() or timedelta()
    minutes = int(offset.total_seconds() // 60)
    sign = "-" if minutes < 0 else "+"
    hours, rest = divmod(abs(minutes), 60)
    return (
        f"{_DAYS[at.weekday()]}, {at.day:02} {_MONTH_NAMES[at.month - 1]} {at.year:04} "
        f"{at.hour:02}:{at.minute:02}:{at.second:02} {sign}{hours:02}{rest:02}"
    ).encode("ascii")


_MESSAGE_ID: Final = re.compile(rb"<[!-;=?-~]{1,996}>")


def message_ids(value: bytes | None) -> tuple[str, ...]:
    """Give the identifiers of Message-ID, In-Reply-To or References, brackets kept."""
    if not value:
        return ()
    return tuple(item.decode("ascii") for item in _MESSAGE_ID.findall(value[:MAX_FIELD_OCTETS]))
