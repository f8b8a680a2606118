"""Reads search programs.

Invariants: nesting is counted and bounded, brackets, NOT and OR alike (threats I2); the number
of keys is bounded.

Source: RFC 9051 §6.4.4, §9 ``search``, RFC 4731 §3.1, RFC 7162 §3.1.5, RFC 8474 §6, RFC 8514 §4.3.
"""

import re
from collections.abc import Callable

from mailserver.imap.commands_search import (
    MultiSearch,
    Returns,
    Scope,
    Search,
    SearchReturn,
    Sort,
    Thread,
    ThreadAlgorithm,
    Watched,
)
from mailserver.imap.errors import BadCommandError, Code, RefusedError, UnsavedSearchError
from mailserver.imap.grammar_scopes import read_scope
from mailserver.imap.ordering import SortBy, SortKey
from mailserver.imap.search_keys import (
    All,
    And,
    BodyHas,
    Compare,
    EmailId,
    HasFlag,
    HeaderHas,
    InternalDate,
    Larger,
    ModseqFrom,
    Not,
    Nothing,
    NumberIn,
    Older,
    Or,
    SavedDate,
    SearchKey,
    SentDate,
    Smaller,
    TextHas,
    UidIn,
)
from mailserver.imap.sets import Numbering
from mailserver.imap.tokens import NUMBER64_MAX, Cursor

DEPTH_MAX = 50
"""Threats I2."""
KEYS_MAX = 1000
"""mbsync and Thunderbird ask for fewer than 20; a long OR chain of senders has a few hundred."""

_NOTHING = Nothing()
_SIMPLE: dict[bytes, SearchKey] = {
    b"ALL": All(),
    b"OLD": All(),
    b"SAVEDATESUPPORTED": All(),
    b"NEW": _NOTHING,
    b"RECENT": _NOTHING,
}
for _flag in ("Answered", "Deleted", "Draft", "Flagged", "Seen"):
    _SIMPLE[_flag.upper().encode()] = HasFlag(f"\\{_flag}")
    _SIMPLE[b"UN" + _flag.upper().encode()] = Not(HasFlag(f"\\{_flag}"))
_FIELDS = {b"BCC": "bcc", b"CC": "cc", b"FROM": "from", b"SUBJECT": "subject", b"TO": "to"}
_DATES: dict[bytes, tuple[type[InternalDate | SavedDate | SentDate], Compare]] = {
    b"BEFORE": (InternalDate, Compare.BEFORE),
    b"ON": (InternalDate, Compare.ON),
    b"SINCE": (InternalDate, Compare.SINCE),
    b"SAVEDBEFORE": (SavedDate, Compare.BEFORE),
    b"SAVEDON": (SavedDate, Compare.ON),
    b"SAVEDSINCE": (SavedDate, Compare.SINCE),
    b"SENTBEFORE": (SentDate, Compare.BEFORE),
    b"SENTON": (SentDate, Compare.ON),
    b"SENTSINCE": (SentDate, Compare.SINCE),
}
_OBJECT_ID = re.compile(rb"[A-Za-z0-9_-]{1,255}\Z")
_CHARSETS = {b"UTF-8": "utf-8", b"US-ASCII": "ascii"}
CRITERIA_MAX = 20
SCOPES_MAX = 50
"""Filters of one ESEARCH."""
_SORT_KEYS = {key.value: key for key in SortKey}
_ALGORITHMS = {algorithm.value: algorithm for algorithm in ThreadAlgorithm}
_RETURNS = {option.value: option for option in SearchReturn}


def read_search(cursor: Cursor, numbering: Numbering) -> Search:
    """Read the arguments of SEARCH, from the space before the first."""
    cursor.space()
    return _search(cursor, numbering)


def _search(cursor: Cursor, numbering: Numbering) -> Search:
    returns = None
    if cursor.maybe(b"RETURN "):
        returns = _returns(cursor)
        cursor.space()
    charset, names_charset = "utf-8", cursor.maybe(b"CHARSET ")
    if names_charset:
        name = cursor.astring().upper()
        if name not in _CHARSETS:
            if returns is not None and SearchReturn.SAVE in returns:
                raise UnsavedSearchError(Code.BADCHARSET, "Unknown charset")
            raise RefusedError(Code.BADCHARSET, "Unknown charset")
        charset = _CHARSETS[name]
        cursor.space()
    return Search(_program(cursor, charset), numbering, returns, names_charset)


def _program(cursor: Cursor, charset: str) -> SearchKey:
    reader = _Reader(cursor, charset)
    keys = [reader.key(0)]
    while not cursor.at_end:
        cursor.space()
        keys.append(reader.key(0))
    return keys[0] if len(keys) == 1 else And(tuple(keys))


def read_multi_search(cursor: Cursor) -> MultiSearch:
    """Read the arguments of ESEARCH, from the space before the first. Source: RFC 7377 §3."""
    cursor.space()
    scopes: list[Scope] = []
    if cursor.maybe(b"IN ("):
        while True:
            scopes.append(read_scope(cursor, Code.LIMIT))
            if scopes[-1].watched is Watched.SELECTED_DELAYED:
                raise BadCommandError("Unknown filter")
            if len(scopes) > SCOPES_MAX:
                raise RefusedError(Code.LIMIT, "Too many mailboxes")
            if cursor.maybe(b")"):
                break
            cursor.space()
        cursor.space()
    searched = _search(cursor, Numbering.UID)
    returns = searched.returns or Returns.of(SearchReturn.ALL)
    return MultiSearch(tuple(scopes), searched.key, returns, searched.names_charset)


def read_sort(cursor: Cursor, numbering: Numbering) -> Sort:
    """Read the arguments of SORT, from the space before the first. Source: RFC 5256 §5."""
    cursor.space()
    returns = None
    if cursor.maybe(b"RETURN "):
        returns = _returns(cursor)
        cursor.space()
    cursor.expect(b"(")
    by: list[SortBy] = []
    while True:
        reverse = cursor.maybe(b"REVERSE ")
        key = _SORT_KEYS.get(cursor.keyword())
        if key is None or len(by) >= CRITERIA_MAX:
            raise BadCommandError("Unknown sort criterion")
        by.append(SortBy(key, reverse))
        if cursor.maybe(b")"):
            break
        cursor.space()
    charset = _charset(cursor)
    return Sort(tuple(by), _program(cursor, charset), numbering, returns)


def read_thread(cursor: Cursor, numbering: Numbering) -> Thread:
    """Read the arguments of THREAD, from the space before the first. Source: RFC 5256 §5."""
    cursor.space()
    algorithm = _ALGORITHMS.get(cursor.keyword())
    if algorithm is None:
        raise BadCommandError("Unknown algorithm")
    charset = _charset(cursor)
    return Thread(algorithm, _program(cursor, charset), numbering)


def _charset(cursor: Cursor) -> str:
    """Read the charset that SORT and THREAD must name."""
    cursor.space()
    charset = _CHARSETS.get(cursor.astring().upper())
    if charset is None:
        raise RefusedError(Code.BADCHARSET, "Unknown charset")
    cursor.space()
    return charset


def _returns(cursor: Cursor) -> Returns:
    """``"(" [search-return-opt *(SP search-return-opt)] ")"``."""
    cursor.expect(b"(")
    options: set[SearchReturn] = set()
    partial = None
    while not cursor.maybe(b")"):
        if options:
            cursor.space()
        option = _RETURNS.get(cursor.keyword())
        if option is None:
            raise BadCommandError("Unknown result option")
        if option is SearchReturn.PARTIAL:
            if partial is not None:
                raise BadCommandError("One PARTIAL is enough")
            cursor.space()
            partial = cursor.window()
        options.add(option)
    if {SearchReturn.PARTIAL, SearchReturn.ALL} <= options:
        raise BadCommandError("ALL or PARTIAL")  # RFC 9394 §3.1
    return Returns(frozenset(options or {SearchReturn.ALL}), partial)


class _Reader:
    def __init__(self, cursor: Cursor, charset: str) -> None:
        self._cursor = cursor
        self._charset = charset
        self._count = 0

    def key(self, depth: int) -> SearchKey:
        """Read one key. Recursion is bounded by ``DEPTH_MAX``."""
        cursor = self._cursor
        self._count += 1
        if depth > DEPTH_MAX or self._count > KEYS_MAX:
            raise BadCommandError("Search program too large")
        first = cursor.peek()
        if first == b"(":
            return self._group(depth)
        if first.isdigit() or first in (b"*", b"$"):
            return NumberIn(cursor.numbers())
        word = cursor.keyword()
        simple = _SIMPLE.get(word)
        if simple is not None:
            return simple
        cursor.space()
        if word == b"NOT":
            return Not(self.key(depth + 1))
        if word == b"OR":
            left = self.key(depth + 1)
            cursor.space()
            return Or(left, self.key(depth + 1))
        return self._with_argument(word)

    def _group(self, depth: int) -> SearchKey:
        cursor = self._cursor
        cursor.position += 1
        keys = [self.key(depth + 1)]
        while not cursor.maybe(b")"):
            cursor.space()
            keys.append(self.key(depth + 1))
        return keys[0] if len(keys) == 1 else And(tuple(keys))

    def _with_argument(self, word: bytes) -> SearchKey:
        cursor = self._cursor
        if word in _FIELDS:
            return HeaderHas(_FIELDS[word], self._text())
        if word in _DATES:
            kind, compare = _DATES[word]
            return kind(compare, cursor.date())
        reader = _ARGUMENTS.get(word)
        if reader is None:
            raise BadCommandError("Unknown search key")
        return reader(self)

    def _text(self) -> str:
        try:
            return self._cursor.astring().decode(self._charset)
        except UnicodeDecodeError:
            raise BadCommandError("Text is not in the charset") from None

    def _header(self) -> SearchKey:
        name = self._cursor.astring()
        if not name.isascii():
            raise BadCommandError("Invalid header name")
        self._cursor.space()
        return HeaderHas(name.decode("ascii").lower(), self._text())

    def _object_id(self) -> bytes:
        """``objectid = 1*255(ALPHA / DIGIT / "_" / "-")``."""
        value = self._cursor.atom()
        if not _OBJECT_ID.match(value):
            raise BadCommandError("Invalid identifier")
        return value

    def _thread_id(self) -> SearchKey:
        self._object_id()
        return _NOTHING

    def _modseq(self) -> SearchKey:
        """``"MODSEQ" [SP entry-name SP entry-type-req] SP mod-sequence-valzer``."""
        cursor = self._cursor
        if cursor.peek() == b'"':
            cursor.string()
            cursor.space()
            if cursor.keyword() not in (b"PRIV", b"SHARED", b"ALL"):
                raise BadCommandError
            cursor.space()
        return ModseqFrom(cursor.number(most=NUMBER64_MAX))


_ARGUMENTS: dict[bytes, Callable[[_Reader], SearchKey]] = {
    b"BODY": lambda reader: BodyHas(reader._text()),  # noqa: SLF001 - this module's own
    b"TEXT": lambda reader: TextHas(reader._text()),  # noqa: SLF001
    b"HEADER": lambda reader: reader._header(),  # noqa: SLF001
    b"MODSEQ": lambda reader: reader._modseq(),  # noqa: SLF001
    b"KEYWORD": lambda reader: HasFlag(reader._cursor.atom().decode("ascii")),  # noqa: SLF001
    b"UNKEYWORD": lambda reader: Not(HasFlag(reader._cursor.atom().decode("ascii"))),  # noqa: SLF001
    b"LARGER": lambda reader: Larger(reader._cursor.number(most=NUMBER64_MAX)),  # noqa: SLF001
    b"SMALLER": lambda reader: Smaller(reader._cursor.number(most=NUMBER64_MAX)),  # noqa: SLF001
    b"OLDER": lambda reader: Older(reader._cursor.nz_number()),  # noqa: SLF001
    b"YOUNGER": lambda reader: Not(Older(reader._cursor.nz_number())),  # noqa: SLF001
    b"EMAILID": lambda reader: EmailId(reader._object_id()),  # noqa: SLF001
    b"THREADID": lambda reader: reader._thread_id(),  # noqa: SLF001
    b"UID": lambda reader: UidIn(reader._cursor.numbers()),  # noqa: SLF001
}
