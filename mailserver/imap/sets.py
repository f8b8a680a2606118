"""Sequence sets: parsed once, resolved in time linear in the set and the folder.

Invariant: no number value, however large, costs more than its digits (threat I3).

Source: RFC 9051 §4.1.1, §9.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from mailserver.imap.errors import BadCommandError

_MOST = 4294967295
V = TypeVar("V")
STAR = 0
"""Stands for ``*``, which no number can be."""


class Numbering(Enum):
    """Whether a command speaks of message numbers or UIDs."""

    SEQUENCE = "sequence"
    UID = "uid"


@dataclass(frozen=True, slots=True)
class SequenceSet:
    """Ranges as they were written; ``STAR`` is the largest number in use."""

    ranges: tuple[tuple[int, int], ...]

    def _merged(self, largest: int) -> list[tuple[int, int]]:
        spans = []
        for first, last in self.ranges:
            low, high = first or largest, last or largest
            spans.append((low, high) if low <= high else (high, low))
        spans.sort()
        merged: list[tuple[int, int]] = []
        for low, high in spans:
            if merged and low <= merged[-1][1] + 1:
                if high > merged[-1][1]:
                    merged[-1] = (merged[-1][0], high)
            else:
                merged.append((low, high))
        return merged

    def positions(self, count: int) -> list[int]:
        """Give the 0-based positions of these message numbers in a folder of ``count``.

        Raises:
            BadCommandError: a number is past the end. ``*`` (and ``1:*``) in an empty folder is
                no message instead: many clients ask for it without looking.
        """
        if count == 0:
            if all(last == STAR and first in (1, STAR) for first, last in self.ranges):
                return []
            raise BadCommandError("No such message")
        merged = self._merged(count)
        if merged[-1][1] > count:
            raise BadCommandError("No such message")
        if len(merged) == 1:
            return list(range(merged[0][0] - 1, merged[0][1]))
        return [p for low, high in merged for p in range(low - 1, high)]

    def positions_of_uids(self, uids: Sequence[int]) -> list[int]:
        """Give the positions of the UIDs of this set among ``uids`` (ascending)."""
        if not uids:
            return []
        found: list[int] = []
        for low, high in self._merged(uids[-1]):
            found.extend(range(bisect_left(uids, low), bisect_right(uids, high)))
        return found

    def closed(self, largest: int) -> "SequenceSet":
        """Give the same set with ``*`` as a number."""
        return SequenceSet(tuple((low or largest, high or largest) for low, high in self.ranges))

    @property
    def has_star(self) -> bool:
        """Whether it speaks of the largest number in use."""
        return any(STAR in pair for pair in self.ranges)

    def overlap(self, spans: Iterable[tuple[int, int]]) -> "SequenceSet":
        """Give what this set, which holds no ``*``, has in common with ascending spans."""
        own = self._merged(_MOST)
        common = []
        at = 0
        for low, high in spans:
            while at < len(own) and own[at][1] < low:
                at += 1
            here = at
            while here < len(own) and own[here][0] <= high:
                common.append((max(low, own[here][0]), min(high, own[here][1])))
                here += 1
        return SequenceSet(tuple(common))

    def encode(self) -> bytes:
        """Write the set."""
        texts = (str(low) if low == high else f"{low}:{high}" for low, high in self.ranges)
        return ",".join(texts).encode("ascii")

    def among(self, numbers: Iterable[int]) -> list[int]:
        """Give those of ascending numbers that are in this set, which holds no ``*``."""
        spans = self._merged(_MOST)
        lows = [low for low, _ in spans]
        found = []
        for number in numbers:
            at = bisect_right(lows, number) - 1
            if at >= 0 and number <= spans[at][1]:
                found.append(number)
        return found

    def holds(self, number: int, largest: int) -> bool:
        """Say whether one number is in the set."""
        return any(low <= number <= high for low, high in self._merged(largest))


SAVED = SequenceSet(())
"""``$``: what the last search with SAVE found; known by identity. Source: RFC 5182 §2.1."""


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a result, counted from its beginning, or from its end when negative.

    Source: RFC 9394 §3.1 ``partial-range``; the two ends in whichever order.
    """

    first: int
    last: int

    def of(self, found: Sequence[V]) -> Sequence[V]:
        """Give what lies in the window."""
        near, far = sorted((abs(self.first), abs(self.last)))
        if self.first > 0:
            return found[near - 1 : far]
        count = len(found)
        return found[max(0, count - far) : max(0, count - near + 1)]

    def encode(self) -> bytes:
        """Write it as it was written."""
        return b"%d:%d" % (self.first, self.last)


def batches(uids: Sequence[int], size: int, last: int) -> list[tuple[int, int]]:
    """Cut a folder into spans of UIDs that leave no gap, the newest first.

    Args:
        uids: ascending.
        size: messages of one batch; the last may have fewer.
        last: how many batches are wanted; the one that holds the oldest goes down to 1.

    Source: RFC 10022 §3.1.3.
    """
    spans: list[tuple[int, int]] = []
    high = uids[-1] if uids else 0
    for end in range(len(uids), 0, -size):
        if len(spans) >= last:
            break
        low = uids[end - size] if end > size else 1
        spans.append((high, low))
        high = low - 1
    return spans


def _number(digits: bytes) -> int:
    if digits == b"*":
        return STAR
    if not digits.isdigit() or len(digits) > 10:
        raise BadCommandError("Invalid sequence set")
    value = int(digits)
    if not 1 <= value <= _MOST:
        raise BadCommandError("Invalid sequence set")
    return value


def parse_set(text: bytes) -> SequenceSet:
    """Read a sequence-set.

    Raises:
        BadCommandError: it is not one, or a number is 0 or over 32 bits.

    Source: RFC 9051 §9 ``sequence-set = (seq-number / seq-range) ["," sequence-set]``.
    """
    ranges = []
    for part in text.split(b","):
        first, colon, last = part.partition(b":")
        low = _number(first)
        ranges.append((low, _number(last) if colon else low))
    return SequenceSet(tuple(ranges))


def gaps(numbers: Sequence[int], last: int) -> list[tuple[int, int]]:
    """Give the spans of 1 to ``last`` that ascending numbers leave out."""
    spans = []
    following = 1
    for number in numbers:
        if number > following:
            spans.append((following, min(number - 1, last)))
        following = number + 1
    if following <= last:
        spans.append((following, last))
    return spans


def encode_sets(numbers: Iterable[int], longest: int) -> Iterator[bytes]:
    """Write ascending numbers as sets of at most ``longest`` octets each; none for none."""
    part = b""
    for each in filter(None, encode_set(numbers).split(b",")):
        if part and len(part) + 1 + len(each) > longest:
            yield part
            part = b""
        part = part + b"," + each if part else each
    if part:
        yield part


def encode_set(numbers: Iterable[int]) -> bytes:
    """Write ascending numbers as the shortest set; empty for none."""
    parts: list[str] = []
    start = previous = None
    for number in numbers:
        if previous is not None and number == previous + 1:
            previous = number
            continue
        if start is not None:
            parts.append(str(start) if start == previous else f"{start}:{previous}")
        start = previous = number
    if start is not None:
        parts.append(str(start) if start == previous else f"{start}:{previous}")
    return ",".join(parts).encode("ascii")
