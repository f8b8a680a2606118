"""Frames commands: bytes in, whole commands (a text and its literals) out.

Invariants: no octet is asked for before its size was accepted; nothing is allocated for a
literal before its octets arrive; the work done is linear in the octets fed, however they are cut;
the caller pulls, so that a command is never framed before the one ahead of it was answered.

Source: RFC 9051 §4.3, RFC 7888 §3, §4, §5.
"""

import re
from dataclasses import dataclass

from mailserver.imap.errors import LineTooLongError, LiteralTooLongError

LITERAL_AT_END = re.compile(rb"\{(\d{1,20})(\+?)\}\Z")
"""RFC 9051 §9: literal = "{" number64 ["+"] "}" CRLF *CHAR8"""
LITERALS_PER_COMMAND = 256
_APPEND = re.compile(rb"\A\S+ +(?:APPEND|(?:UID +)?REPLACE) ", re.IGNORECASE)
_TAG = re.compile(rb"\A([^\x00-\x20\x7f-\xff(){%*\"\\+]{1,64}) ")


@dataclass(frozen=True, slots=True)
class WireLimits:
    """How much one command may hold.

    Attributes:
        text_octets: all its lines together, the literals' contents not counted.
        literal_octets: the contents of its literals together, an APPEND's messages excepted.
        message_octets: the messages of an APPEND or REPLACE, together; 0 means that these are
            no exception.
        discard_octets: a non-synchronising literal up to here is read and thrown away, and the
            command refused; past it the connection is closed.
    """

    text_octets: int
    literal_octets: int
    message_octets: int
    discard_octets: int


BEFORE_LOGIN = WireLimits(8192, 4096, 0, 0)
"""RFC 7888 §5 lets a client send 4096 octets unasked (LITERAL-); a login needs no more (I1)."""


def after_login(append_limit: int) -> WireLimits:
    """Give the limits that hold once somebody has logged in (RFC 7889 §2)."""
    return WireLimits(65536, 65536, append_limit, 2 * append_limit)


@dataclass(frozen=True, slots=True)
class RawCommand:
    r"""One command.

    Attributes:
        text: its lines joined; each literal's ``{n}CRLF`` stays where it was, without the content.
        literals: their contents, in order.
    """

    text: bytes
    literals: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Continue:
    """The client waits for ``+`` before it sends a literal."""


@dataclass(frozen=True, slots=True)
class TooBig:
    """A literal was over its limit; the stream is in step, the command is to be refused."""

    tag: bytes | None


Event = RawCommand | Continue | TooBig


class Framer:
    """One connection's input."""

    def __init__(self, limits: WireLimits = BEFORE_LOGIN) -> None:
        self.limits = limits
        self._buffer = bytearray()
        self._start = 0
        self._searched = 0
        self._text: list[bytes] = []
        self._literals: list[bytes] = []
        self._text_octets = 0
        self._literal_octets = 0
        self._wanted: int | None = None
        self._discard = 0
        self._refused = False

    @property
    def buffered(self) -> int:
        """Octets that were fed and not yet framed."""
        return len(self._buffer) - self._start

    @property
    def between_commands(self) -> bool:
        """Nothing of a next command has come yet."""
        return not (self.buffered or self._text or self._discard)

    @property
    def wanted(self) -> int:
        """Octets still missing of the literal that is being read, else 0."""
        if self._discard:
            return self._discard
        return max(0, (self._wanted or 0) - self.buffered)

    def feed(self, data: bytes) -> None:
        """Take octets as they arrive."""
        if self._discard:
            drop = min(self._discard, len(data))
            self._discard -= drop
            data = data[drop:]
        self._buffer += data

    def clear(self) -> None:
        """Forget everything (the other side of a STARTTLS is another stream)."""
        self.__init__(self.limits)  # type: ignore[misc]  # back to the first state, same limits

    def next(self) -> Event | None:
        """Give the next event, or None when more octets are needed.

        Raises:
            LineTooLongError: the lines of this command passed the limit.
            LiteralTooLongError: a literal on its way is too large even to discard.
        """
        while not self._discard:
            if self._wanted is not None:
                if self.buffered < self._wanted:
                    return None
                self._literals.append(self._take(self._wanted))
                self._wanted = None
            line = self._line(self.limits.text_octets - self._text_octets)
            if line is None:
                return None
            self._text_octets += len(line) + 2
            match = LITERAL_AT_END.search(line)
            if match is None:
                self._text.append(line)
                return self._finish()
            self._text.append(line + b"\r\n")
            event = self._open_literal(int(match[1]), waits=not match[2])
            if event is not None:
                return event
        return None

    def next_line(self) -> bytes | None:
        """Give one bare line (an answer to a challenge, ``DONE``), or None.

        Raises:
            LineTooLongError: it passed the limit.
        """
        return self._line(self.limits.text_octets)

    def _open_literal(self, size: int, *, waits: bool) -> Event | None:
        first = self._text[0]
        limits = self.limits
        one = total = limits.literal_octets
        if limits.message_octets and _APPEND.match(first):
            one = limits.message_octets
            total = one + limits.literal_octets
        limit = min(one, total - self._literal_octets)
        if size <= limit and len(self._literals) < LITERALS_PER_COMMAND and not self._refused:
            self._wanted = size
            self._literal_octets += size
            return Continue() if waits else None
        tag = _TAG.match(first)
        if waits:
            self._reset()
            return TooBig(tag[1] if tag else None)
        if size > self.limits.discard_octets:
            raise LiteralTooLongError
        self._refused = True
        self._discard = size
        held = min(size, self.buffered)
        self._take(held)
        self._discard -= held
        return None

    def _finish(self) -> Event:
        first = self._text[0]
        if self._refused:
            tag = _TAG.match(first)
            self._reset()
            return TooBig(tag[1] if tag else None)
        text = first if len(self._text) == 1 else b"".join(self._text)
        command = RawCommand(text, tuple(self._literals))
        self._reset()
        return command

    def _reset(self) -> None:
        self._text = []
        self._literals = []
        self._text_octets = 0
        self._literal_octets = 0
        self._wanted = None
        self._refused = False

    def _line(self, limit: int) -> bytes | None:
        end = self._buffer.find(b"\n", max(self._searched, self._start))
        if end < 0:
            self._searched = len(self._buffer)
            if self.buffered > limit:
                raise LineTooLongError
            return None
        if end - self._start + 1 > limit:
            raise LineTooLongError
        line = self._take(end + 1 - self._start)
        # A bare LF is kept in the line, where no token of the grammar can hold it.
        return line[:-2] if line.endswith(b"\r\n") else line

    def _take(self, count: int) -> bytes:
        end = self._start + count
        with memoryview(self._buffer) as view:
            taken = bytes(view[self._start : end])
        if end == len(self._buffer):
            self._buffer = bytearray()
            self._start = 0
        elif end > 65536:
            del self._buffer[:end]
            self._start = 0
        else:
            self._start = end
        self._searched = self._start
        return taken
