"""Reads what FETCH is asked for.

Source: RFC 9051 §6.4.5, §9 ``fetch``, RFC 7162 §3.1.4.
"""

from mailserver.imap.commands_messages import BodySection, Fetch, FetchItem, SectionKind, Simple
from mailserver.imap.errors import BadCommandError
from mailserver.imap.sets import Numbering, Window
from mailserver.imap.tokens import NUMBER64_MAX, Cursor

PART_LEVELS_MAX = 100
"""Threat I5; the deepest part of a scanned message has fewer levels."""
FIELDS_MAX = 500
ITEMS_MAX = 200

_NONE: frozenset[bytes] = frozenset()
_ALL = (Simple.FLAGS, Simple.INTERNALDATE, Simple.SIZE, Simple.ENVELOPE)
_MACROS: dict[bytes, tuple[FetchItem, ...]] = {
    b"ALL": _ALL,
    b"FAST": (Simple.FLAGS, Simple.INTERNALDATE, Simple.SIZE),
    b"FULL": (*_ALL, Simple.BODY),
}
_OLD: dict[bytes, BodySection] = {
    b"RFC822": BodySection(b"RFC822", (), SectionKind.WHOLE, _NONE, None, peek=False),
    b"RFC822.HEADER": BodySection(
        b"RFC822.HEADER", (), SectionKind.HEADER, _NONE, None, peek=True
    ),
    b"RFC822.TEXT": BodySection(b"RFC822.TEXT", (), SectionKind.TEXT, _NONE, None, peek=False),
}
_SIMPLE = {item.value: item for item in Simple}
_KINDS = {
    b"HEADER": SectionKind.HEADER,
    b"HEADER.FIELDS": SectionKind.FIELDS,
    b"HEADER.FIELDS.NOT": SectionKind.FIELDS_NOT,
    b"TEXT": SectionKind.TEXT,
    b"MIME": SectionKind.MIME,
}


def read_fetch(cursor: Cursor, numbering: Numbering) -> Fetch:
    """Read the arguments of FETCH, from the space before the set."""
    cursor.space()
    numbers = cursor.numbers()
    cursor.space()
    items = _items(cursor)
    changedsince, vanished, partial = _modifiers(cursor, numbering)
    if changedsince is not None and Simple.MODSEQ not in items:
        items = (*items, Simple.MODSEQ)
    return Fetch(numbers, items, numbering, changedsince, vanished, partial)


def _modifiers(cursor: Cursor, numbering: Numbering) -> tuple[int | None, bool, Window | None]:
    """``fetch-modifiers``: CHANGEDSINCE, VANISHED and PARTIAL, each once, in whichever order."""
    changedsince: int | None = None
    vanished, partial = False, None
    if cursor.at_end:
        return changedsince, vanished, partial
    cursor.space()
    cursor.expect(b"(")
    while True:
        name = cursor.keyword()
        if name == b"CHANGEDSINCE" and changedsince is None:
            cursor.space()
            changedsince = cursor.number(most=NUMBER64_MAX)
            if changedsince == 0:
                raise BadCommandError("Number out of range")
        elif numbering is not Numbering.UID:
            raise BadCommandError("This modifier is for UID FETCH")
        elif name == b"VANISHED" and not vanished:
            vanished = True
        elif name == b"PARTIAL" and partial is None:
            cursor.space()
            partial = cursor.window()
        else:
            raise BadCommandError("Unknown modifier")
        if cursor.maybe(b")"):
            break
        cursor.space()
    if vanished and changedsince is None:
        raise BadCommandError("VANISHED needs CHANGEDSINCE")
    return changedsince, vanished, partial


def _items(cursor: Cursor) -> tuple[FetchItem, ...]:
    if not cursor.maybe(b"("):
        start = cursor.position
        macro = _MACROS.get(cursor.keyword())
        if macro is not None:
            return macro
        cursor.position = start
        return (_item(cursor),)
    return read_items(cursor)


def read_items(cursor: Cursor) -> tuple[FetchItem, ...]:
    """Read a list of items from behind its bracket, each of them once."""
    items: list[FetchItem] = []
    while True:
        item = _item(cursor)
        if item not in items:
            items.append(item)
        if len(items) > ITEMS_MAX:
            raise BadCommandError("Too many items")
        if cursor.maybe(b")"):
            return tuple(items)
        cursor.space()


def _item(cursor: Cursor) -> FetchItem:
    for name, peek in ((b"BODY[", False), (b"BODY.PEEK[", True)):
        if cursor.maybe(name):
            return _section(cursor, peek=peek)
    for name, peek in ((b"BINARY[", False), (b"BINARY.PEEK[", True)):
        if cursor.maybe(name):
            part = _part(cursor)
            label = b"BINARY[%b]" % _dotted(part)
            partial = _partial(cursor)
            return BodySection(label, part, SectionKind.DECODED, _NONE, partial, peek)
    if cursor.maybe(b"BINARY.SIZE["):
        part = _part(cursor)
        label = b"BINARY.SIZE[%b]" % _dotted(part)
        return BodySection(label, part, SectionKind.DECODED_SIZE, _NONE, None, peek=True)
    name = cursor.keyword()
    item = _SIMPLE.get(name) or _OLD.get(name)
    if item is None:
        raise BadCommandError("Unknown item")
    if item is Simple.PREVIEW:
        # RFC 8970 §3.1: LAZY would leave out what is dear; no preview is, here.
        cursor.maybe(b" (LAZY)")
    return item


def _section(cursor: Cursor, *, peek: bool) -> BodySection:
    """Read from after the bracket.

    ``section-spec = section-msgtext / (section-part ["." section-text])``
    """
    part: list[int] = []
    kind = SectionKind.WHOLE
    fields = _NONE
    spec = b""
    while cursor.peek().isdigit():
        part.append(cursor.nz_number())
        if len(part) > PART_LEVELS_MAX:
            raise BadCommandError("Too many levels")
        if not cursor.maybe(b"."):
            break
        if cursor.peek() == b"]":
            raise BadCommandError
    else:
        if cursor.peek() != b"]":
            word = cursor.keyword()
            found = _KINDS.get(word)
            if found is None or (found is SectionKind.MIME and not part):
                raise BadCommandError("Unknown section")
            kind = found
            spec = word
            if kind in (SectionKind.FIELDS, SectionKind.FIELDS_NOT):
                fields, listed = _fields(cursor)
                spec += b" " + listed
    cursor.expect(b"]")
    label = b"BODY[" + _dotted(tuple(part)) + (b"." if part and spec else b"") + spec + b"]"
    return BodySection(label, tuple(part), kind, fields, _partial(cursor), peek)


def _part(cursor: Cursor) -> tuple[int, ...]:
    """``section-binary = "[" [section-part] "]"``, from after the bracket.

    Source: RFC 3516 §7.
    """
    part: list[int] = []
    while not cursor.maybe(b"]"):
        if part:
            cursor.expect(b".")
        part.append(cursor.nz_number())
        if len(part) > PART_LEVELS_MAX:
            raise BadCommandError("Too many levels")
    return tuple(part)


def _dotted(part: tuple[int, ...]) -> bytes:
    return ".".join(map(str, part)).encode("ascii")


def _fields(cursor: Cursor) -> tuple[frozenset[bytes], bytes]:
    cursor.space()
    cursor.expect(b"(")
    names: list[bytes] = []
    while True:
        name = cursor.astring()
        if not name or not name.isascii() or any(octet <= 32 or octet == 58 for octet in name):
            raise BadCommandError("Invalid header name")
        names.append(name)
        if len(names) > FIELDS_MAX:
            raise BadCommandError("Too many header names")
        if cursor.maybe(b")"):
            break
        cursor.space()
    listed = b" ".join(_as_astring(name) for name in names)
    return frozenset(name.lower() for name in names), b"(" + listed + b")"


def _as_astring(name: bytes) -> bytes:
    if any(octet in b'(){%*"\\]' or octet == 127 for octet in name):
        return b'"' + name.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return name


def _partial(cursor: Cursor) -> tuple[int, int] | None:
    """``partial = "<" number64 "." nz-number64 ">"``."""
    if not cursor.maybe(b"<"):
        return None
    first = cursor.number(most=NUMBER64_MAX)
    cursor.expect(b".")
    count = cursor.number(most=NUMBER64_MAX)
    if count == 0:
        raise BadCommandError("Number out of range")
    cursor.expect(b">")
    return first, count
