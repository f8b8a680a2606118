"""Find the end of a message in a stream of octets and take out its transparency dots.

The scanner is fed what the wire gives, in pieces of any size, and answers with pieces of the
message. Invariants: the message ends at the first CRLF "." CRLF and nowhere else, so two servers
cannot disagree on it; any CR or LF that is not half of a CRLF, and any NUL, condemns the whole
message, which is then read to that one true end and not kept; the octets after the end are given
back untouched; what comes out does not depend on how the input was cut. A line may be as long as
the message (DECISIONS.md says why): nothing here holds a line.

Everything is a search or a count over bytes, never a loop over lines: counting runs at several
gigabytes a second, an expression at 50 MB/s (DESIGN §5).

Source: RFC 5321 §4.5.2, RFC 5321 §4.1.1.4, RFC 5321 §4.5.3.1.6, RFC 5321 §4.5.3.1.7.
"""

from dataclasses import dataclass
from enum import Enum

from certs.mime import line_ends

_CRLF_ONLY = frozenset({"\r\n"})
_END = b"\r\n.\r\n"
_STUFFED = b"\r\n."
_DRAIN_FACTOR = 4
"""A message is read to its end, so that the peer learns why it is refused, up to this many times
the size limit; RFC 5321 §4.5.3.1.10 wants the reply after the data."""


class DataFault(Enum):
    """Why a message cannot be taken, worst first."""

    BARE_CONTROL = "bare-control"
    """A CR or LF alone, or a NUL: message smuggling, or a broken client (threats S1)."""
    TOO_BIG = "too-big"


@dataclass(frozen=True, slots=True)
class DataLimits:
    """What a message may measure.

    Args:
        message_octets: octets after the dots were taken out, as RFC 1870 §5 counts but for the
            dots.
    """

    message_octets: int

    @property
    def wire_octets(self) -> int:
        """Octets after which a refused message is no longer read to its end."""
        return self.message_octets * _DRAIN_FACTOR


class DataScanner:
    """One message being received; feed it until ``done``.

    Attributes:
        done: the end was seen; ``rest`` is set and nothing more may be fed.
        rest: the octets that followed the end: commands of the next transaction.
        octets: octets of the message so far; of no meaning once a control is seen.
        fault: why the message must be refused, once known.
    """

    __slots__ = ("_held", "_limits", "_wire", "done", "fault", "octets", "rest")

    def __init__(self, limits: DataLimits) -> None:
        self._limits = limits
        # The CRLF of the DATA command counts as the one before a first line "." (§4.1.1.4).
        self._held = b"\r\n"
        self._wire = -2
        self.done = False
        self.rest = b""
        self.octets = 0
        self.fault: DataFault | None = None

    @property
    def endless(self) -> bool:
        """Whether the peer went so far past the limit that the connection should be dropped."""
        return self._wire > self._limits.wire_octets

    def feed(self, chunk: bytes) -> bytes:
        """Take the next octets of the stream.

        Returns:
            The next octets of the message, dots taken out; empty when there are none yet or when
            the message is condemned.
        """
        if self.done:
            raise RuntimeError("fed after the end")
        first = self._wire < 0
        buffer = self._held + chunk
        if self._find_end(buffer):
            text, self._held = buffer[: len(buffer) - len(self.rest) - 3], b""
        else:
            kept = _end_prefix(buffer)
            text = buffer[: len(buffer) - kept]
            self._held = buffer[len(buffer) - kept :]
        if first and not text:
            return b""
        # The two octets that were never received must not come out.
        skip = 2 if first else 0
        self._wire = max(self._wire, 0) + len(text) - skip
        return self._take(text, skip)

    def _find_end(self, buffer: bytes) -> bool:
        # base64 has no dot: one memchr settles most chunks of a large message.
        dot = buffer.find(b".")
        if dot < 0:
            return False
        end = buffer.find(_END, max(dot - 2, 0))
        if end < 0:
            return False
        self.rest = buffer[end + len(_END) :]
        self.done = True
        return True

    def _take(self, text: bytes, skip: int) -> bytes:
        if self.fault is DataFault.BARE_CONTROL:
            return b""
        if _has_bare_control(text):
            self.fault = DataFault.BARE_CONTROL
            return b""
        clean = text.replace(_STUFFED, b"\r\n") if b"." in text else text
        if skip:
            clean = clean[skip:]
        self.octets += len(clean)
        if self.octets > self._limits.message_octets:
            self.fault = DataFault.TOO_BIG
        return clean if self.fault is None else b""


def _has_bare_control(text: bytes) -> bool:
    return not line_ends(text) <= _CRLF_ONLY or b"\0" in text


def _end_prefix(buffer: bytes) -> int:
    """Count the last octets that may be the beginning of the end of the message."""
    for length in range(min(len(_END) - 1, len(buffer)), 0, -1):
        if buffer.endswith(_END[:length]):
            return length
    return 0
