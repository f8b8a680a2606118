"""Reads the tokens of one framed command: atoms, strings, numbers, sets, dates, flags.

Invariants: every method either moves past exactly one token or raises; nothing here recurses;
a token never spans two literals. A method named ``maybe_*`` leaves the cursor where it was when
its token is not there.

Source: RFC 9051 §9, RFC 3501 §9.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone

from mailserver.imap.errors import BadCommandError
from mailserver.imap.names import canonical, decode_mutf7
from mailserver.imap.sets import SAVED, SequenceSet, Window, parse_set
from mailserver.imap.wire import RawCommand

NUMBER_MAX = 4294967295
"""RFC 9051 §9: number = 1*DIGIT ; Unsigned 32-bit integer (0 <= n < 4,294,967,296)"""
NUMBER64_MAX = 9223372036854775807

# ATOM-CHAR = <any CHAR except atom-specials>
# atom-specials = "(" / ")" / "{" / SP / CTL / list-wildcards / quoted-specials / resp-specials
_ATOM = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\\]]+")
_ASTRING = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\]+")
_TAG = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\+]+")
_LIST_ATOM = re.compile(rb"[^\x00-\x20\x7f-\xff(){\"\\]+")
_QUOTED = re.compile(rb'"((?:[^\x00\r\n"\\]|\\["\\])*)"')
_LITERAL = re.compile(rb"\{\d+\+?\}\r\n")
_DIGITS = re.compile(rb"[0-9]{1,20}")
_SET = re.compile(rb"[0-9*:,]+")
_FLAG = re.compile(rb"\\?[^\x00-\x20\x7f-\xff(){%*\"\\\]]+")
_DATE = re.compile(rb'"?(\d{1,2})-([A-Za-z]{3})-(\d{4})"?')
_DATE_TIME = re.compile(
    rb'"([ \d]\d)-([A-Za-z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)"'
)
_MONTHS = {
    name: number
    for number, name in enumerate(
        b"jan feb mar apr may jun jul aug sep oct nov dec".split(),
        1,
    )
}
FLAGS_MAX = 100
"""Flags named in one command."""
TAG_MAX = 64
"""RFC 9051 sets none; the longest tags seen in clients have 10 octets."""


class Cursor:
    """A place in a command."""

    __slots__ = ("_literals", "position", "read_name", "text")

    def __init__(
        self, command: RawCommand, read_name: Callable[[bytes], str] = decode_mutf7
    ) -> None:
        self.text = command.text
        self.read_name = read_name
        self.position = 0
        self._literals = list(reversed(command.literals))

    @property
    def at_end(self) -> bool:
        """Nothing is left."""
        return self.position >= len(self.text)

    def end(self) -> None:
        """Require that nothing is left."""
        if not self.at_end:
            raise BadCommandError("Unexpected text after the command")

    def peek(self) -> bytes:
        """Give the next octet, empty at the end."""
        return self.text[self.position : self.position + 1]

    def maybe(self, octets: bytes) -> bool:
        """Move past these octets, in any case, when they are next."""
        end = self.position + len(octets)
        if self.text[self.position : end].upper() == octets:
            self.position = end
            return True
        return False

    def expect(self, octets: bytes) -> None:
        """Require these octets (given in upper case)."""
        if not self.maybe(octets):
            raise BadCommandError

    def space(self) -> None:
        """Require one space; more are forgiven, as Dovecot and Cyrus do."""
        if self.peek() != b" ":
            raise BadCommandError("Missing argument")
        while self.peek() == b" ":
            self.position += 1

    def _match(self, pattern: re.Pattern[bytes]) -> re.Match[bytes]:
        match = pattern.match(self.text, self.position)
        if match is None:
            raise BadCommandError
        self.position = match.end()
        return match

    def tag(self) -> bytes:
        """Read a command's tag."""
        tag = self._match(_TAG)[0]
        if len(tag) > TAG_MAX:
            raise BadCommandError
        return tag

    def atom(self) -> bytes:
        """Read an atom."""
        return self._match(_ATOM)[0]

    def keyword(self) -> bytes:
        """Read an atom in upper case."""
        return self._match(_ATOM)[0].upper()

    def _string(self) -> bytes | None:
        first = self.peek()
        if first == b'"':
            raw = self._match(_QUOTED)[1]
            if b"\\" in raw:
                return re.sub(rb"\\(.)", rb"\1", raw, flags=re.DOTALL)
            return raw
        if first == b"{":
            self._match(_LITERAL)
            literal = self._literals.pop()
            if b"\0" in literal:
                raise BadCommandError("NUL in a literal")
            return literal
        return None

    def string(self) -> bytes:
        """Read a quoted string or literal. The result holds no NUL."""
        value = self._string()
        if value is None:
            raise BadCommandError
        return value

    def message(self) -> bytes:
        """Read a literal as it is, or a ``literal8``; NUL is the caller's to judge.

        Source: RFC 9051 §6.3.12, RFC 3516 §4.4.
        """
        self.maybe(b"~")
        self._match(_LITERAL)
        return self._literals.pop()

    def astring(self) -> bytes:
        """Read an atom or a string."""
        value = self._string()
        return self._match(_ASTRING)[0] if value is None else value

    def mailbox(self) -> str:
        """Read a space and a mailbox name, in its one form."""
        self.space()
        return self.bare_mailbox()

    def bare_mailbox(self) -> str:
        """Read a mailbox name, in its one form."""
        return canonical(self.read_name(self.astring()))

    def nstring(self) -> bytes | None:
        """Read a string or NIL."""
        value = self._string()
        if value is not None:
            return value
        self.expect(b"NIL")
        return None

    def list_mailbox(self) -> bytes:
        """Read a LIST pattern: ``list-mailbox = 1*list-char / string``."""
        value = self._string()
        return self._match(_LIST_ATOM)[0] if value is None else value

    def number(self, *, most: int = NUMBER_MAX) -> int:
        """Read a number from 0 to ``most``."""
        value = int(self._match(_DIGITS)[0])
        if value > most:
            raise BadCommandError("Number out of range")
        return value

    def nz_number(self) -> int:
        """Read a number of 32 bits that is not 0."""
        value = self.number()
        if value == 0:
            raise BadCommandError("Number out of range")
        return value

    def sequence_set(self) -> SequenceSet:
        """Read a sequence-set."""
        return parse_set(self._match(_SET)[0])

    def window(self) -> Window:
        """Read a partial-range: two numbers, both of them negative or neither.

        Source: RFC 9394 §3.1.
        """
        sign = -1 if self.peek() == b"-" else 1
        ends = []
        for lead in (b"", b":"):
            self.expect(lead + (b"-" if sign < 0 else b""))
            ends.append(sign * self.nz_number())
        return Window(*ends)

    def numbers(self) -> SequenceSet:
        """Read a sequence-set, or ``$`` for what the last search saved.

        Source: RFC 5182 §2.1, RFC 9051 §9 ``sequence-set =/ seq-last-command``.
        """
        if self.maybe(b"$"):
            return SAVED
        return self.sequence_set()

    def flag(self) -> str:
        """Read one flag or keyword, its case as written."""
        return self._match(_FLAG)[0].decode("ascii")

    def flag_list(self) -> tuple[str, ...]:
        """Read ``"(" [flag *(SP flag)] ")"``."""
        self.expect(b"(")
        flags: list[str] = []
        while self.peek() != b")":
            if flags:
                self.space()
            flags.append(self.flag())
            if len(flags) > FLAGS_MAX:
                raise BadCommandError("Too many flags")
        self.position += 1
        return tuple(flags)

    def date(self) -> date:
        """Read ``date = date-text / DQUOTE date-text DQUOTE``."""
        match = self._match(_DATE)
        if match[0].startswith(b'"') != match[0].endswith(b'"'):
            raise BadCommandError
        try:
            return date(int(match[3]), _MONTHS[match[2].lower()], int(match[1]))
        except (KeyError, ValueError):
            raise BadCommandError("No such date") from None

    def date_time(self) -> datetime:
        """Read a date-time as an aware UTC instant."""
        match = self._match(_DATE_TIME)
        minutes = int(match[8]) * 60 + int(match[9])
        try:
            zone = timezone(timedelta(minutes=-minutes if match[7] == b"-" else minutes))
            local = datetime(
                int(match[3]),
                _MONTHS[match[2].lower()],
                int(match[1]),
                int(match[4]),
                int(match[5]),
                min(int(match[6]), 59),
                tzinfo=zone,
            )
            return local.astimezone(UTC)
        except (KeyError, ValueError, OverflowError):
            raise BadCommandError("No such date") from None
