"""Where the octets of a section lie: the stored outline in, spans out; pure.

A message is ``prefix`` + blob (DESIGN D5b): the prefix is the beginning of its header. Nothing
here parses mail; header fields are cut out by the outline's offsets.

Source: RFC 9051 §6.4.5.1.
"""

from collections.abc import Callable
from dataclasses import dataclass

from certs.mime import Outline, Part, decode_body, fields_of, find_section
from mailserver.imap.commands_messages import BodySection, SectionKind


@dataclass(frozen=True, slots=True)
class Span:
    """``head`` followed by ``length`` octets of the blob from ``start``."""

    head: bytes
    start: int
    length: int

    @property
    def octets(self) -> int:
        """Size of the whole."""
        return len(self.head) + self.length

    def cut(self, first: int, count: int) -> "Span":
        """Give the octets from ``first``, ``count`` at most (RFC 9051 §6.4.5 partial)."""
        head = self.head[first : first + count]
        into = max(0, first - len(self.head))
        left = count - len(head)
        length = max(0, min(self.length - into, left))
        return Span(head, self.start + into, length)


@dataclass(frozen=True, slots=True)
class Filtered:
    """A header in the blob of which only some fields are wanted."""

    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """A part's body in the blob, to be given without its transfer encoding."""

    start: int
    length: int
    encoding: str


Place = Span | Filtered | Encoded
"""Where a section's octets are."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as sections are found in it.

    Attributes:
        header_octets: size of the blob's header, its blank line included.
        octets: size of the blob.
        outline: gives the stored tree; asked only when a section needs it.
    """

    prefix: bytes
    header_octets: int
    octets: int
    outline: Callable[[], Outline]


def locate(section: BodySection, message: Stored) -> Place | None:
    """Find a section; None when the message has no such part (NIL on the wire)."""
    if not section.part:
        return _of_message(section, message)
    outline = message.outline()
    part = find_section(outline, section.part)
    if part is None:
        return None
    kind = section.kind
    if kind in (SectionKind.DECODED, SectionKind.DECODED_SIZE):
        return Encoded(part.body_start, part.body_end - part.body_start, part.encoding)
    if kind is SectionKind.WHOLE:
        return Span(b"", part.body_start, part.body_end - part.body_start)
    if kind is SectionKind.MIME:
        head = message.prefix if part is outline.root else b""
        return Span(head, part.header_start, part.body_start - part.header_start)
    if not part.is_message:
        return None
    inner = part.children[0]
    if kind is SectionKind.HEADER:
        return Span(b"", inner.header_start, inner.body_start - inner.header_start)
    if kind is SectionKind.TEXT:
        return Span(b"", inner.body_start, inner.body_end - inner.body_start)
    return Filtered(inner.header_start, inner.body_start - inner.header_start)


def _of_message(section: BodySection, message: Stored) -> Span | Filtered:
    header = message.header_octets
    match section.kind:
        case SectionKind.WHOLE | SectionKind.DECODED | SectionKind.DECODED_SIZE:
            # A message as such has no transfer encoding to undo (RFC 3516 §4.2).
            return Span(message.prefix, 0, message.octets)
        case SectionKind.HEADER:
            return Span(message.prefix, 0, header)
        case SectionKind.TEXT:
            return Span(b"", header, message.octets - header)
        case _:
            return _from_outline(section, message.prefix, message.outline())


def _from_outline(section: BodySection, prefix: bytes, outline: Outline) -> Span | Filtered:
    """Rebuild the fields of the top header from the outline, which keeps their values."""
    wanted = section.kind is SectionKind.FIELDS
    chosen = [select_fields(prefix, section)]
    for field in outline.header:
        if (field.name.lower().encode("latin-1") in section.fields) is not wanted:
            continue
        name = field.name.encode("latin-1")
        if field.end - field.start != len(name) + 1 + len(field.value) + 2:
            # Not "Name:value CRLF" to the octet (an odd field): read it as it is.
            return Filtered(0, outline.root.body_start)
        chosen.append(b"%b:%b\r\n" % (name, field.value))
    return Span(b"".join(chosen) + b"\r\n", 0, 0)


def select_fields(header: bytes, section: BodySection) -> bytes:
    """Keep the fields that HEADER.FIELDS or HEADER.FIELDS.NOT asks for, blank line excepted."""
    if not header:
        return b""
    wanted = section.kind is SectionKind.FIELDS
    part = Part((), 0, len(header), len(header))
    return b"".join(
        header[field.start : field.end]
        for field in fields_of(header, part)
        if (field.name.lower().encode("latin-1") in section.fields) is wanted
    )


KNOWN_ENCODINGS = frozenset({"7bit", "8bit", "binary", "base64", "quoted-printable"})


def decoded(body: bytes, encoding: str) -> bytes:
    """Undo a transfer encoding of ``KNOWN_ENCODINGS``. Source: RFC 3516 §4.2."""
    return decode_body(body, Part((), 0, 0, len(body), encoding=encoding))
