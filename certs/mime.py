"""The one MIME scanner: a message's raw octets to its tree of offsets, and a part to its content.

Every reader of a message in Pli (gate, bridge, IMAP, webmail, S/MIME) uses this one, so that all
see the same message (threats S20). Invariants: nothing is copied but header fields; work is
bounded by ``MimeLimits`` whatever the input; ``scan`` never raises, what it refuses to enter stays
a leaf and is named among the anomalies. Delimiter lines are found by ``bytes.find``; an outer
boundary ends every part inside it.

Source: RFC 2045 §5, RFC 2046 §5.1, RFC 5322 §2.2.
"""

import binascii
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pybase64

from certs.errors import MalformedMessageError
from certs.mime_outline import (
    AMBIGUOUS,
    MESSAGE_TYPES,
    Anomaly,
    HeaderField,
    Outline,
    Part,
    decode_outline,
    encode_outline,
    find_named,
    find_section,
    is_named,
    walk,
)
from certs.mime_words import (
    MAX_PARAMETERS,
    decode_charset,
    decode_header,
    encode_header,
    encode_parameter,
    parse_parameters,
    unfold,
)

__all__ = [
    "AMBIGUOUS",
    "DEFAULT",
    "MESSAGE_TYPES",
    "Anomaly",
    "HeaderField",
    "MimeLimits",
    "Outline",
    "Part",
    "decode_body",
    "decode_charset",
    "decode_header",
    "decode_outline",
    "decode_strictly",
    "decode_text",
    "encode_header",
    "encode_outline",
    "encode_parameter",
    "fields_of",
    "find_named",
    "find_section",
    "header_block",
    "is_named",
    "scan",
    "walk",
]


@dataclass(frozen=True, slots=True)
class MimeLimits:
    """How much of a message is entered.

    Attributes:
        parts: body parts in all, multiparts and messages included.
        depth: how many multiparts or messages may enclose a part.
        header_octets: octets of one header that are read; the rest is ignored.
        fields: fields of one header that are kept.
        all_fields: fields of all headers together; then no part is entered any more.
        candidates: lines that begin like a delimiter and are looked at, in all.
    """

    parts: int = 1000
    depth: int = 30
    header_octets: int = 512 * 1024
    fields: int = 2000
    all_fields: int = 20_000
    candidates: int = 20_000


DEFAULT: Final = MimeLimits()

_NAME: Final = re.compile(rb"[!-9;-~]{1,255}")  # field-name of RFC 5322 §2.2
_TYPE: Final = re.compile(
    rb"[ \t\r\n]*(?:\([^()]*\)[ \t\r\n]*)*([!#$%&'*+.^_`|~0-9A-Za-z-]{1,127})[ \t]*/"
    rb"[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]{1,127})"
)
_OPENED_BY_SOME: Final = frozenset({"message/partial", "message/external-body"})
"""What some readers put together or fetch, and others do not. Source: RFC 2046 §5.2."""
_PACKED: Final = frozenset({"base64", "quoted-printable"})
"""Not allowed for a message, which is why some readers open it then and others do not."""
_SALVAGED_NAME: Final = re.compile(rb"\bfilename[ \t]*=[ \t]*\"?([^\";]{1,500})", re.IGNORECASE)
_TOKEN: Final = re.compile(rb"[ \t\r\n]*([!#$%&'*+.^_`|~0-9A-Za-z-]{1,127})")
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,200}[0-9A-Za-z'()+_,./:=?-]")
_ENCODINGS: Final = frozenset({"7bit", "8bit", "binary", "base64", "quoted-printable"})
_IDENTITY: Final = frozenset({"7bit", "8bit", "binary"})
_MAX_PADDING: Final = 1000
_SINGLE: Final = frozenset(
    {
        "content-type",
        "content-transfer-encoding",
        "content-disposition",
        "content-id",
        "mime-version",
        "from",
        "sender",
        "reply-to",
        "to",
        "cc",
        "date",
        "message-id",
        "subject",
    }
)
"""Fields that may stand once: a second one is what two readers would choose between."""


def header_block(raw: bytes, start: int, end: int) -> tuple[int, int]:
    """Find the end of a header's fields and the start of the body after its blank line."""
    if raw.startswith(b"\r\n", start, end):
        return start, start + 2
    if raw.startswith(b"\n", start, end):
        return start, start + 1
    crlf = raw.find(b"\n\r\n", start, end)
    # A header of bare line feeds can only come before the first CRLF blank line.
    bare = raw.find(b"\n\n", start, end if crlf < 0 else crlf + 1)
    if bare >= 0:
        return bare + 1, bare + 2
    if crlf >= 0:
        return crlf + 1, crlf + 3
    return end, end


class _Scan:
    """The state of one scan: what is left of the limits, and what was odd."""

    def __init__(self, raw: bytes, limits: MimeLimits) -> None:
        self.raw = raw
        self.limits = limits
        self.anomalies: set[Anomaly] = set()
        self.parts = 0
        self.candidates = 0
        self.field_count = 0

    def fields(self, start: int, end: int) -> tuple[HeaderField, ...]:
        """Split a header block into its fields."""
        raw = self.raw
        if end - start > self.limits.header_octets:
            self.anomalies.add(Anomaly.HEADER_TOO_LONG)
            end = start + self.limits.header_octets
        found: list[HeaderField] = []
        at = start
        while at < end:
            line_end = at
            while True:  # the field's lines: the next one begins without a blank
                line_end = raw.find(b"\n", line_end, end) + 1
                if line_end == 0:
                    line_end = end
                    break
                if raw[line_end : line_end + 1] not in {b" ", b"\t"} or line_end >= end:
                    break
            field = self._field(at, line_end)
            if field is not None:
                if len(found) >= self.limits.fields:
                    self.anomalies.add(Anomaly.TOO_MANY_FIELDS)
                    break
                found.append(field)
            at = line_end
        self.field_count += len(found)
        return tuple(found)

    def _field(self, start: int, end: int) -> HeaderField | None:
        raw = self.raw
        colon = raw.find(b":", start, min(end, start + 300))
        name = raw[start:colon] if colon > start else b""
        stripped = name.rstrip(b" \t\r\n")
        if _NAME.fullmatch(stripped) is None:
            self.anomalies.add(Anomaly.MALFORMED_FIELD)
            return None
        if stripped != name:
            self.anomalies.add(Anomaly.SPACE_BEFORE_COLON)
        value = raw[colon + 1 : end]
        value = value[:-2] if value.endswith(b"\r\n") else value.removesuffix(b"\n")
        return HeaderField(stripped.decode("ascii"), value, start, end)

    def part(
        self, section: tuple[int, ...], bounds: tuple[int, int], depth: int, default: str
    ) -> tuple[Part, tuple[HeaderField, ...]]:
        """Scan one part, header first, and what it encloses."""
        start, end = bounds
        self.parts += 1
        header_end, body_start = header_block(self.raw, start, end)
        fields = self.fields(start, header_end)
        described = self._described(fields, default)
        kind, params, encoding = described.type, described.params, described.encoding
        children: tuple[Part, ...] = ()
        if kind.startswith("multipart/"):
            if encoding not in _IDENTITY:
                self.anomalies.add(Anomaly.BAD_ENCODING)
            if self._may_enter(depth):
                inner = "message/rfc822" if kind == "multipart/digest" else "text/plain"
                boundary = next((value for key, value in params if key == "boundary"), None)
                children = self._multipart(section, (body_start, end, depth), boundary, inner)
        elif kind in MESSAGE_TYPES:
            if encoding not in _IDENTITY:
                self.anomalies.add(Anomaly.BAD_ENCODING)
            elif self._may_enter(depth):
                child, _ = self.part(section, (body_start, end), depth + 1, "text/plain")
                children = (child,)
        lines = 0
        if kind.startswith(("text/", "message/")):
            # A last line without its end does not count, as deployed servers count.
            lines = self.raw.count(b"\n", body_start, end)
        return (
            Part(
                section,
                start,
                body_start,
                end,
                lines,
                kind,
                params,
                encoding,
                described.disposition,
                described.disposition_params,
                described.content_id,
                described.description,
                described.language,
                described.location,
                described.md5,
                children,
            ),
            fields,
        )

    def _may_enter(self, depth: int) -> bool:
        if depth >= self.limits.depth:
            self.anomalies.add(Anomaly.TOO_DEEP)
            return False
        if self._is_spent():
            self.anomalies.add(Anomaly.TOO_MANY_PARTS)
            return False
        return True

    def _is_spent(self) -> bool:
        return self.parts >= self.limits.parts or self.field_count >= self.limits.all_fields

    def _multipart(
        self,
        section: tuple[int, ...],
        where: tuple[int, int, int],
        boundary: str | None,
        default: str,
    ) -> tuple[Part, ...]:
        if boundary is None or not boundary:
            self.anomalies.add(Anomaly.MISSING_BOUNDARY)
            return ()
        if _BOUNDARY.fullmatch(boundary) is None:
            self.anomalies.add(Anomaly.BAD_BOUNDARY)
            return ()
        start, end, depth = where
        regions = self._regions(boundary.encode("latin-1"), start, end)
        if not regions:
            self.anomalies.add(Anomaly.MISSING_BOUNDARY)
        children: list[Part] = []
        for number, bounds in enumerate(regions, 1):
            if self._is_spent():
                self.anomalies.add(Anomaly.TOO_MANY_PARTS)
                break
            child, _ = self.part((*section, number), bounds, depth + 1, default)
            children.append(child)
        return tuple(children)

    def _regions(self, boundary: bytes, start: int, end: int) -> list[tuple[int, int]]:
        """Find the parts between the delimiter lines of one boundary."""
        regions: list[tuple[int, int]] = []
        opened = -1
        for at, after, closing in self._delimiters(b"--" + boundary, start, end):
            if opened >= 0:
                regions.append((opened, max(opened, _before_line(self.raw, at))))
            if closing:
                return regions
            if len(regions) > self.limits.parts:
                return regions
            opened = after
        if opened >= 0:
            regions.append((opened, end))
            self.anomalies.add(Anomaly.UNCLOSED_MULTIPART)
        return regions

    def _delimiters(self, marker: bytes, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """Give each delimiter line: where it starts, where the next line does, if it closes.

        delimiter := CRLF "--" boundary ; transport-padding := *LWSP-char  (RFC 2046 §5.1.1)
        """
        raw = self.raw
        at = start if raw.startswith(marker, start, end) else _line_of(raw, marker, start, end)
        while at > 0:
            self.candidates += 1
            if self.candidates > self.limits.candidates:
                self.anomalies.add(Anomaly.TOO_MANY_PARTS)
                return
            after = at + len(marker)
            line_end = raw.find(b"\n", after, end)
            if line_end < 0:
                line_end = end
            rest = raw[after : min(line_end, after + _MAX_PADDING)]
            closing = rest.startswith(b"--")
            if not rest.removeprefix(b"--").strip(b" \t\r"):
                yield at, min(line_end + 1, end), closing
            # The line end of one delimiter may be the CRLF that opens the next one.
            at = _line_of(raw, marker, after, end)

    def _described(self, fields: tuple[HeaderField, ...], default: str) -> Part:
        """Read the fields that describe a part; the first of a name counts."""
        seen: dict[str, bytes] = {}
        for field in fields:
            name = field.name.lower()
            if name in _SINGLE and name in seen:
                self.anomalies.add(Anomaly.DUPLICATE_FIELD)
            seen.setdefault(name, field.value)
        kind = default
        params: tuple[tuple[str, str], ...] = ()
        if "content-type" in seen:
            kind, params = self._content_type(seen["content-type"], default)
        encoding = "7bit"
        if "content-transfer-encoding" in seen:
            token = unfold(seen["content-transfer-encoding"]).strip(b" \t\r\n")
            encoding = token.decode("latin-1").lower()
            if encoding not in _ENCODINGS:
                self.anomalies.add(Anomaly.BAD_ENCODING)
                match = _TOKEN.fullmatch(token)
                encoding = "binary" if match is None else encoding
        if kind in _OPENED_BY_SOME or (kind in MESSAGE_TYPES and encoding in _PACKED):
            self.anomalies.add(Anomaly.OPENED_BY_SOME)
        disposition: str | None = None
        disposition_params: tuple[tuple[str, str], ...] = ()
        if "content-disposition" in seen:
            disposition, disposition_params = self._disposition(seen["content-disposition"])

        def text(name: str) -> str | None:
            value = seen.get(name)
            return None if value is None else unfold(value).strip().decode("latin-1")

        return Part(
            (),
            0,
            0,
            0,
            type=kind,
            params=params,
            encoding=encoding,
            disposition=disposition,
            disposition_params=disposition_params,
            content_id=text("content-id"),
            description=text("content-description"),
            language=text("content-language"),
            location=text("content-location"),
            md5=text("content-md5"),
        )

    def _content_type(self, value: bytes, default: str) -> tuple[str, tuple[tuple[str, str], ...]]:
        match = _TYPE.match(value)
        if match is None:
            # RFC 2045 §5.2: what cannot be read is the default type.
            self.anomalies.add(Anomaly.BAD_CONTENT_TYPE)
            return default, ()
        kind = b"%b/%b" % (match[1].lower(), match[2].lower())
        params, complete = self._parameters(value, match.end())
        if not complete:
            self.anomalies.add(Anomaly.BAD_CONTENT_TYPE)
        return kind.decode("ascii"), params

    def _disposition(self, value: bytes) -> tuple[str | None, tuple[tuple[str, str], ...]]:
        match = _TOKEN.match(value)
        if match is None:
            self.anomalies.add(Anomaly.BAD_DISPOSITION)
            return None, ()
        params, complete = self._parameters(value, match.end())
        if not complete:
            self.anomalies.add(Anomaly.BAD_DISPOSITION)
            params = _with_salvaged_name(value, params)
        return match[1].decode("ascii").lower(), params

    def _parameters(self, value: bytes, at: int) -> tuple[tuple[tuple[str, str], ...], bool]:
        pairs, complete = parse_parameters(value, at)
        if len(pairs) > MAX_PARAMETERS:
            self.anomalies.add(Anomaly.TOO_MANY_PARAMETERS)
            return pairs[:MAX_PARAMETERS], True
        if len({key for key, _ in pairs}) != len(pairs):
            self.anomalies.add(Anomaly.DUPLICATE_PARAMETER)
        return pairs, complete


_HYPHENS: Final = 32
"""Looked at one by one before a search for the whole marker."""


def _line_of(raw: bytes, marker: bytes, start: int, end: int) -> int:
    """Give where a line that begins with a marker of two hyphens starts, 0 when none does.

    Base64 has no hyphen: a search for one octet passes over an attachment twenty times as fast
    as one for a word.
    """
    at = start
    for _ in range(_HYPHENS):
        at = raw.find(b"-", at + 1, end)
        if at < 0:
            return 0
        if raw[at - 1] == 0x0A and raw.startswith(marker, at, end):
            return at
    return raw.find(b"\n" + marker, at, end) + 1


def _with_salvaged_name(
    value: bytes, read: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    """Add the file name of a disposition that breaks off before it, as lenient readers have it.

    A name that only others read would hide a file from whoever looks for it (threats S20).
    """
    if any(text for name, text in read if name == "filename"):
        return read
    match = _SALVAGED_NAME.search(value)
    if match is None:
        return read
    name = ("filename", unfold(match[1]).strip().decode("latin-1"))
    return (*(pair for pair in read if pair[0] != "filename"), name)


def _before_line(raw: bytes, at: int) -> int:
    """Give the end of the line before the one at ``at``: its line end belongs to the delimiter."""
    if raw[at - 2 : at] == b"\r\n":
        return at - 2
    return at - 1


_AT_ONCE: Final = 256 * 1024


def line_ends(raw: bytes) -> frozenset[str]:
    """Give which of CRLF, a bare LF and a bare CR end lines here.

    The standard library's newline decoder notes them in C: 2.7 GB/s, where counting CR, LF and
    CRLF and comparing runs at 0.7 GB/s.
    """
    decoder = io.IncrementalNewlineDecoder(None, translate=False)
    for at in range(0, len(raw), _AT_ONCE):  # never a second copy of a large message
        decoder.decode(raw[at : at + _AT_ONCE].decode("latin-1"))
    decoder.decode("", final=True)
    seen: str | tuple[str, ...] | None = decoder.newlines
    if seen is None:
        return frozenset()
    return frozenset((seen,) if isinstance(seen, str) else seen)


def scan(raw: bytes, limits: MimeLimits = DEFAULT) -> Outline:
    """Find the tree of a message.

    Args:
        raw: the whole message. CRLF line ends are expected; bare ones are named as anomalies.
        limits: how much of it is entered.

    Returns:
        The outline; every oddity is in its ``anomalies``, nothing is raised.
    """
    state = _Scan(raw, limits)
    ends = line_ends(raw)
    if "\n" in ends:
        state.anomalies.add(Anomaly.BARE_LF)
    if "\r" in ends:
        state.anomalies.add(Anomaly.BARE_CR)
    if b"\0" in raw:
        state.anomalies.add(Anomaly.NUL)
    root, header = state.part((), (0, len(raw)), 0, "text/plain")
    return Outline(root, header, frozenset(state.anomalies), len(raw))


def fields_of(raw: bytes, part: Part, limits: MimeLimits = DEFAULT) -> tuple[HeaderField, ...]:
    """Give the header fields of one part: those of the message inside, for the child of one."""
    end, _ = header_block(raw, part.header_start, part.body_end)
    return _Scan(raw, limits).fields(part.header_start, end)


_BLANKS: Final = b" \t\r\n"


def decode_body(raw: bytes, part: Part) -> bytes:
    """Give a part's content with its transfer encoding undone, as far as it can be.

    Base64 skips what is not of its alphabet and stops at the first padding, as readers do.

    Source: RFC 2045 §6.
    """
    body = raw[part.body_start : part.body_end]
    if part.encoding == "base64":
        packed = body.translate(None, _BLANKS)
        try:
            return pybase64.b64decode(packed, validate=True)
        except (binascii.Error, ValueError):
            return _decode_loosely(packed)
    if part.encoding == "quoted-printable":
        return binascii.a2b_qp(body, header=False)
    return body


_NOT_BASE64: Final = bytes(
    octet
    for octet in range(256)
    if octet not in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
)


def _decode_loosely(packed: bytes) -> bytes:
    kept = packed.translate(None, _NOT_BASE64).partition(b"=")[0]
    kept = kept[: len(kept) - (len(kept) % 4 == 1)]
    return pybase64.b64decode(kept + b"=" * (-len(kept) % 4))


def decode_strictly(raw: bytes, part: Part) -> bytes:
    """Give a part's content, or refuse when two readers could decode it in two ways.

    For content that is acted on (a package that is filed), where ``decode_body`` would guess.
    Padding that was left off is no guess: the length says what it was.

    Raises:
        MalformedMessageError: junk in base64, an unknown encoding.
    """
    if part.encoding == "base64":
        packed = raw[part.body_start : part.body_end].translate(None, _BLANKS)
        try:
            return pybase64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
        except (binascii.Error, ValueError) as error:
            raise MalformedMessageError from error
    if part.encoding not in _ENCODINGS:
        raise MalformedMessageError
    return decode_body(raw, part)


def decode_text(raw: bytes, part: Part) -> str:
    """Give a text part's characters; what its charset cannot read is replaced."""
    return decode_charset(decode_body(raw, part), part.charset)
