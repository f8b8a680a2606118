"""ENVELOPE, BODY and BODYSTRUCTURE as wire octets, ready to be sent in FETCH.

Computed once, at delivery (DESIGN §5). Invariants: every result is one well-formed IMAP value;
what a quoted string cannot carry is a literal; NUL never leaves.

Source: RFC 9051 §7.5.2, RFC 9051 §9, RFC 3501 §7.4.2.
"""

from collections.abc import Iterable
from typing import Final

from certs.mime import MESSAGE_TYPES, HeaderField, Part, fields_of
from mailserver.message.headers import (
    MAX_ADDRESSES,
    ListedAddress,
    first_values,
    list_addresses,
)

_QUOTABLE: Final = frozenset({0x09, *range(0x20, 0x7F)})
_NOT_QUOTABLE: Final = bytes(set(range(256)) - _QUOTABLE)
_MAX_QUOTED: Final = 1000  # longer strings are literals: some clients read lines into 1 kB
MAX_LISTED: Final = 5000
"""Addresses shown of one message in all, its attached messages included."""
_EMPTY_ENVELOPE: Final = b"(" + b" ".join([b"NIL"] * 10) + b")"
_EMPTY_TEXT: Final = b'("text" "plain" NIL NIL NIL "7bit" 0 0'


def string(value: bytes) -> bytes:
    """Write a string: quoted when it can be, else a literal.

    Source: RFC 9051 §4.3.
    """
    if len(value) <= _MAX_QUOTED and len(value.translate(None, _NOT_QUOTABLE)) == len(value):
        if b"\\" in value or b'"' in value:
            value = value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        return b'"%b"' % value
    value = value.replace(b"\0", b"")
    return b"{%d}\r\n%b" % (len(value), value)


def nstring(value: bytes | None) -> bytes:
    """Write a string, or NIL for None."""
    return b"NIL" if value is None else string(value)


class _Budget:
    """How many addresses the envelopes of one message still show, nested ones included.

    A thousand attached messages of two thousand addresses each took two seconds.
    """

    def __init__(self) -> None:
        self._left = MAX_LISTED

    def addresses(self, value: bytes | None) -> bytes:
        """Write an address list, or NIL."""
        if not value or self._left <= 0:
            return b"NIL"
        found = list_addresses(value, min(self._left, MAX_ADDRESSES))
        self._left -= len(found)
        if not found:
            return b"NIL"
        return b"(" + b"".join(map(_address, found)) + b")"


def _address(item: ListedAddress) -> bytes:
    # address = "(" addr-name SP addr-adl SP addr-mailbox SP addr-host ")"
    return b"(%b %b %b %b)" % (
        nstring(item.name),
        nstring(item.route),
        nstring(item.mailbox),
        nstring(item.host),
    )


def envelope(fields: Iterable[HeaderField]) -> bytes:
    """Write the ENVELOPE of a header; Sender and Reply-To fall back on From.

    Source: RFC 9051 §7.5.2.
    """
    return _envelope(fields, _Budget())


def _envelope(fields: Iterable[HeaderField], budget: _Budget) -> bytes:
    values = first_values(fields)
    author = budget.addresses(values.get("from"))
    sender = budget.addresses(values.get("sender"))
    reply_to = budget.addresses(values.get("reply-to"))
    return b"(%b %b %b %b %b %b %b %b %b %b)" % (
        nstring(values.get("date")),
        nstring(values.get("subject")),
        author,
        author if sender == b"NIL" else sender,
        author if reply_to == b"NIL" else reply_to,
        budget.addresses(values.get("to")),
        budget.addresses(values.get("cc")),
        budget.addresses(values.get("bcc")),
        nstring(values.get("in-reply-to")),
        nstring(values.get("message-id")),
    )


def structures(raw: bytes, root: Part) -> tuple[bytes, bytes]:
    """Write BODY and BODYSTRUCTURE of a message.

    Source: RFC 9051 §9 (body, body-type-1part, body-type-mpart).
    """
    return _body(raw, root, _Budget())


def _body(raw: bytes, part: Part, budget: _Budget) -> tuple[bytes, bytes]:
    kind, _, subtype = part.type.partition("/")
    if kind == "multipart":
        return _multipart(raw, part, budget)
    head = b"(%b %b %b %b %b %b %d" % (
        string(kind.encode("latin-1")),
        string(subtype.encode("latin-1")),
        _params(part.params),
        _text(part.content_id),
        _text(part.description),
        string(part.encoding.encode("latin-1")),
        part.octets,
    )
    tail = b" %b %b %b %b)" % (
        _text(part.md5),
        _disposition(part),
        _language(part.language),
        _text(part.location),
    )
    if kind == "text":
        head = b"%b %d" % (head, part.lines)
    elif part.type in MESSAGE_TYPES:
        inner, inner_body, inner_full = _EMPTY_ENVELOPE, _EMPTY_TEXT + b")", _EMPTY_TEXT
        inner_full += b" NIL NIL NIL NIL)"
        if part.children:
            child = part.children[0]
            inner = _envelope(fields_of(raw, child), budget)
            inner_body, inner_full = _body(raw, child, budget)
        return (
            b"%b %b %b %d)" % (head, inner, inner_body, part.lines),
            b"%b %b %b %d%b" % (head, inner, inner_full, part.lines, tail),
        )
    return head + b")", head + tail


def _multipart(raw: bytes, part: Part, budget: _Budget) -> tuple[bytes, bytes]:
    # A multipart in which no part was found shows one empty text: the grammar asks for one.
    pairs = [_body(raw, child, budget) for child in part.children]
    if not pairs:
        pairs = [(_EMPTY_TEXT + b")", _EMPTY_TEXT + b" NIL NIL NIL NIL)")]
    name = string(part.type.partition("/")[2].encode("latin-1"))
    short = b"".join(pair[0] for pair in pairs)
    full = b"".join(pair[1] for pair in pairs)
    return (
        b"(%b %b)" % (short, name),
        b"(%b %b %b %b %b %b)"
        % (
            full,
            name,
            _params(part.params),
            _disposition(part),
            _language(part.language),
            _text(part.location),
        ),
    )


def _text(value: str | None) -> bytes:
    if value is None:
        return b"NIL"
    return string(value.replace("\r", "").replace("\n", "").encode("latin-1"))


def _params(params: tuple[tuple[str, str], ...]) -> bytes:
    if not params:
        return b"NIL"
    return b"(%b)" % b" ".join(string(text.encode("latin-1")) for pair in params for text in pair)


def _disposition(part: Part) -> bytes:
    if part.disposition is None:
        return b"NIL"
    name = string(part.disposition.encode("latin-1"))
    return b"(%b %b)" % (name, _params(part.disposition_params))


def _language(value: str | None) -> bytes:
    if value is None:
        return b"NIL"
    tags = [tag.strip().encode("latin-1") for tag in value.split(",") if tag.strip()]
    if not tags:
        return b"NIL"
    if len(tags) == 1:
        return string(tags[0])
    return b"(%b)" % b" ".join(map(string, tags))
