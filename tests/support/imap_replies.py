"""Reads IMAP response lines into values, for clients of tests that check what a server says.

Only what such clients ask for is read: numbered responses, FETCH items, VANISHED, SEARCH,
ESEARCH, STATUS and response codes. Source: RFC 9051 §7, §9; RFC 7162 §7.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_TOKEN = re.compile(
    rb'"(?P<quoted>(?:[^"\\]|\\.)*)"|\{(?P<size>\d+)\}\r\n|(?P<mark>[()])'
    rb"|(?P<atom>[^\s()\[\]\"]*\[[^\]]*\][^\s()]*|[^\s()\"]+)"
)
_ESCAPED = re.compile(rb"\\(.)")
_CODE = re.compile(rb"\[([A-Z0-9-]+)(?: ([^\]]*))?\]")

Value = bytes | list["Value"]


def values(text: bytes) -> list[Value]:
    """Read a line's words; parentheses give lists, literals and quoted strings their octets."""
    stack: list[list[Value]] = [[]]
    at = 0
    while (match := _TOKEN.search(text, at)) is not None:
        at = match.end()
        if match["size"] is not None:
            size = int(match["size"])
            stack[-1].append(text[at : at + size])
            at += size
        elif match["quoted"] is not None:
            stack[-1].append(_ESCAPED.sub(rb"\1", match["quoted"]))
        elif match["mark"] == b"(":
            stack.append([])
        elif match["mark"] == b")":
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(match["atom"])
    return stack[0]


def numbers(text: bytes) -> Iterator[int]:
    """Give the members of a sequence set without ``*``."""
    for span in text.split(b","):
        low, _, high = span.partition(b":")
        first, last = int(low), int(high or low)
        yield from range(min(first, last), max(first, last) + 1)


@dataclass(frozen=True, slots=True)
class Fetched:
    """One FETCH response; ``None`` is what it did not say.

    Attributes:
        flags: without ``\\Recent``.
        body: the octets of the one body section that was asked for.
    """

    number: int
    uid: int | None = None
    flags: frozenset[str] | None = None
    modseq: int | None = None
    size: int | None = None
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """One line of a server.

    Attributes:
        kind: of an untagged response, upper case: EXISTS, FETCH, OK, SEARCH...; else the status.
        number: of a numbered response.
        code: of a status response, with its argument.
        rest: the words after the kind.
    """

    tag: bytes
    kind: bytes
    number: int = 0
    code: bytes = b""
    argument: bytes = b""
    rest: list[Value] = field(default_factory=list)
    text: bytes = b""


def read(line: bytes) -> Reply:
    """Read a response line with its literals."""
    tag, _, rest = line.removesuffix(b"\r\n").partition(b" ")
    word, _, after = rest.partition(b" ")
    if word.isdigit():
        kind, _, after = after.partition(b" ")
        return Reply(tag, kind.upper(), int(word), rest=values(after))
    kind = word.upper()
    if kind in {b"OK", b"NO", b"BAD", b"BYE", b"PREAUTH"}:
        match = _CODE.match(after)
        if match is None:
            return Reply(tag, kind, text=after)
        return Reply(tag, kind, code=match[1], argument=match[2] or b"", text=after)
    return Reply(tag, kind, rest=values(after))


def fetched(reply: Reply) -> Fetched:
    """Read the items of a FETCH response."""
    items = reply.rest[0]
    assert isinstance(items, list)
    found = {
        name: value
        for name, value in zip(items[::2], items[1::2], strict=True)
        if isinstance(name, bytes)
    }
    uid, size, modseq = found.get(b"UID"), found.get(b"RFC822.SIZE"), found.get(b"MODSEQ")
    flags = found.get(b"FLAGS")
    body = next((value for name, value in found.items() if name.startswith(b"BODY[")), None)
    return Fetched(
        reply.number,
        int(uid) if isinstance(uid, bytes) else None,
        None if flags is None else _flags(flags),
        int(modseq[0]) if isinstance(modseq, list) and isinstance(modseq[0], bytes) else None,
        int(size) if isinstance(size, bytes) else None,
        body if isinstance(body, bytes) else None,
    )


def _flags(value: Value) -> frozenset[str]:
    return frozenset(
        word.decode("ascii") for word in value if isinstance(word, bytes) and word != b"\\Recent"
    )
