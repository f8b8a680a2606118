"""The MIME tree of one message as values: offsets into the raw bytes, never copies of bodies.

Invariants: offsets count octets of the message that was scanned; a child lies inside the body of
its parent; what was odd about the message is named in ``anomalies``, never raised. The tree can be
written into a database row and read back (``encode_outline``, ``decode_outline``), with the octets
of the top header, so that headers are served without reading the body.

Source: RFC 2045 §5, RFC 2046 §5, RFC 9051 §6.4.5.1.
"""

import enum
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from certs.errors import MalformedMessageError
from certs.mime_words import decode_header, decode_parameter


class Anomaly(enum.Enum):
    """Something in a message that two readers may read in two ways, or that breaks a limit."""

    BARE_CR = "bare-cr"
    BARE_LF = "bare-lf"
    NUL = "nul"
    HEADER_TOO_LONG = "header-too-long"
    TOO_MANY_FIELDS = "too-many-fields"
    MALFORMED_FIELD = "malformed-field"
    SPACE_BEFORE_COLON = "space-before-colon"
    DUPLICATE_FIELD = "duplicate-field"
    BAD_CONTENT_TYPE = "bad-content-type"
    DUPLICATE_PARAMETER = "duplicate-parameter"
    TOO_MANY_PARAMETERS = "too-many-parameters"
    BAD_DISPOSITION = "bad-disposition"
    BAD_ENCODING = "bad-encoding"
    BAD_BOUNDARY = "bad-boundary"
    MISSING_BOUNDARY = "missing-boundary"
    UNCLOSED_MULTIPART = "unclosed-multipart"
    OPENED_BY_SOME = "opened-by-some"
    TOO_MANY_PARTS = "too-many-parts"
    TOO_DEEP = "too-deep"


AMBIGUOUS: Final = frozenset(Anomaly) - {
    Anomaly.MALFORMED_FIELD,
    Anomaly.BAD_DISPOSITION,
    Anomaly.BAD_ENCODING,
    Anomaly.UNCLOSED_MULTIPART,
}
"""Anomalies for which two correct readers could see two different trees."""


@dataclass(frozen=True, slots=True)
class HeaderField:
    """One header field: its name as written, its raw value and where it lies.

    ``value`` keeps its folding and its leading blank; ``start`` and ``end`` enclose the whole
    field, line end included.
    """

    name: str
    value: bytes
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Part:
    """One body part. ``section`` is its IMAP part number; () for the message itself.

    ``type`` is lower case. ``params`` and ``disposition_params`` are the pairs as written, their
    quotes removed, one character per octet; ``param`` and ``filename`` decode them. ``lines`` is
    counted for text and message parts only. A message/rfc822 part has one child: the message
    inside, whose ``section`` is that of the part that holds it.
    """

    section: tuple[int, ...]
    header_start: int
    body_start: int
    body_end: int
    lines: int = 0
    type: str = "text/plain"
    params: tuple[tuple[str, str], ...] = ()
    encoding: str = "7bit"
    disposition: str | None = None
    disposition_params: tuple[tuple[str, str], ...] = ()
    content_id: str | None = None
    description: str | None = None
    language: str | None = None
    location: str | None = None
    md5: str | None = None
    children: tuple["Part", ...] = ()

    @property
    def header_end(self) -> int:
        """Where the header ends, its blank line included."""
        return self.body_start

    @property
    def octets(self) -> int:
        """Size of the encoded body."""
        return self.body_end - self.body_start

    @property
    def is_multipart(self) -> bool:
        """Whether the part is of a multipart type."""
        return self.type.startswith("multipart/")

    @property
    def is_message(self) -> bool:
        """Whether the part holds another message that was scanned."""
        return self.type in MESSAGE_TYPES and bool(self.children)

    @property
    def charset(self) -> str | None:
        """The charset parameter, decoded."""
        return self.param("charset")

    @property
    def filename(self) -> str | None:
        """The file name the sender gave: that of the disposition, else the name parameter."""
        found = decode_parameter(self.disposition_params, "filename")
        return found if found is not None else decode_parameter(self.params, "name")

    def param(self, name: str) -> str | None:
        """Give one parameter of Content-Type, RFC 2231 and RFC 2047 decoded."""
        return decode_parameter(self.params, name)


MESSAGE_TYPES: Final = frozenset({"message/rfc822", "message/global"})


@dataclass(frozen=True, slots=True)
class Outline:
    """The whole message: its tree, the fields of its header, what was odd, its size."""

    root: Part
    header: tuple[HeaderField, ...]
    anomalies: frozenset[Anomaly]
    octets: int

    @property
    def ambiguous(self) -> bool:
        """Whether two correct readers could see two different messages (never filed alone)."""
        return not AMBIGUOUS.isdisjoint(self.anomalies)

    def fields(self, name: str) -> list[HeaderField]:
        """Give the fields of that name, any case, in order."""
        wanted = name.lower()
        return [field for field in self.header if field.name.lower() == wanted]

    def text(self, name: str) -> str:
        """Give the first field of that name unfolded and RFC 2047 decoded; "" when absent."""
        wanted = name.lower()
        for field in self.header:
            if field.name.lower() == wanted:
                return decode_header(field.value)
        return ""


def walk(outline: Outline) -> Iterator[Part]:
    """Give every part, parents before children, in the order of the message."""
    waiting = [outline.root]
    while waiting:
        part = waiting.pop()
        yield part
        waiting.extend(reversed(part.children))


def find_section(outline: Outline, section: tuple[int, ...]) -> Part | None:
    """Give the part that an IMAP part number names, or None.

    () is the message. Part 1 of a message that is not multipart is that message's own body.
    A multipart in which no part was found has none: BODYSTRUCTURE shows an empty text there.

    Source: RFC 9051 §6.4.5.1.
    """
    part = outline.root
    holder: Part | None = outline.root
    for number in section:
        if holder is None:
            return None
        if holder.is_multipart:
            if not 1 <= number <= len(holder.children):
                return None
            part = holder.children[number - 1]
        elif number == 1:
            part = holder
        else:
            return None
        holder = part if part.is_multipart else None
        if part.is_message:
            holder = part.children[0]
    return part


def is_named(part: Part, name: str) -> bool:
    """Whether a leaf part bears this file name, any case.

    Both the disposition's ``filename`` and the ``name`` parameter count, each as any reader could
    read it: a gate that read only one of them could be walked around (S20).
    """
    return not part.children and name.casefold() in _names_of(part)


def find_named(outline: Outline, name: str) -> tuple[Part, ...]:
    """Give the leaf parts that bear this file name, any case, at any depth."""
    return tuple(part for part in walk(outline) if is_named(part, name))


def _names_of(part: Part) -> set[str]:
    found: set[str] = set()
    for params, attribute in ((part.disposition_params, "filename"), (part.params, "name")):
        if params:
            decoded = decode_parameter(params, attribute)
            found.update(decode_header(v.encode("latin-1")) for k, v in params if k == attribute)
            if decoded is not None:
                found.add(decoded)
    # Windows drops dots and blanks at the end of a name when it is saved.
    return {_SEPARATORS.split(name)[-1].strip().rstrip(". ").casefold() for name in found}


_SEPARATORS = re.compile(r"[/\\]")


_VERSION = b"1"


def encode_outline(outline: Outline) -> bytes:
    """Write an outline compactly for a database row, the top header's values included."""
    header = [[field.name, field.start, field.end, len(field.value)] for field in outline.header]
    tree = json.dumps(
        [
            outline.octets,
            sorted(anomaly.value for anomaly in outline.anomalies),
            header,
            _to_list(outline.root),
        ],
        separators=(",", ":"),
    ).encode()
    values = b"".join(field.value for field in outline.header)
    return b"%b%d:%b%b" % (_VERSION, len(tree), tree, values)


def decode_outline(data: bytes) -> Outline:
    """Read what ``encode_outline`` wrote.

    Raises:
        MalformedMessageError: the row is not of this form.
    """
    try:
        if data[:1] != _VERSION:
            raise MalformedMessageError
        colon = data.index(b":", 1, 16)
        at = colon + 1 + int(data[1:colon])
        octets, anomalies, header, root = json.loads(data[colon + 1 : at])
        fields = []
        for name, start, end, length in header:
            fields.append(HeaderField(name, data[at : at + length], start, end))
            at += length
        return Outline(_from_list(root), tuple(fields), frozenset(map(Anomaly, anomalies)), octets)
    except (ValueError, TypeError, IndexError) as error:
        raise MalformedMessageError from error


def _to_list(part: Part) -> list[object]:
    row: list[object] = [
        list(part.section),
        part.header_start,
        part.body_start,
        part.body_end,
        part.lines,
        part.type,
        list(part.params),
        part.encoding,
        part.disposition,
        list(part.disposition_params),
        part.content_id,
        part.description,
        part.language,
        part.location,
        part.md5,
        [_to_list(child) for child in part.children],
    ]
    return row


def _from_list(row: Any) -> Part:  # Any: a row of JSON, as _to_list wrote it
    section, start, body, end, lines, kind, params, encoding, disposition, *rest = row
    disposition_params, content_id, description, language, location, md5, children = rest
    return Part(
        section=tuple(section),
        header_start=start,
        body_start=body,
        body_end=end,
        lines=lines,
        type=kind,
        params=tuple((name, value) for name, value in params),
        encoding=encoding,
        disposition=disposition,
        disposition_params=tuple((name, value) for name, value in disposition_params),
        content_id=content_id,
        description=description,
        language=language,
        location=location,
        md5=md5,
        children=tuple(_from_list(child) for child in children),
    )
