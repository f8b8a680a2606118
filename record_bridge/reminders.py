"""When a person is reminded of their agenda: on which day, and of which of its lines.

A line is told on the day before its own, or on its day when it came to the agenda late; once for
that day, together with what else is due then, and on one civil day in France at most once. What
is over is never told. A line is a number and a time here: what it says stays in the record.

Source: RULES §8, MSS-FACTS §7.2.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final

from record_bridge.formats.dtm import paris_day, paris_instant

_A_DAY: Final = timedelta(days=1)
Name = tuple[int, date]
"""What is remembered of a line that was told: its number and its day."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an agenda that may be reminded.

    Attributes:
        number: what tells it from the others of this agenda.
        day: civil day in France.
        start_at: aware UTC; None when it has no hour, then it is over with its day.
    """

    number: int
    day: date
    start_at: datetime | None = None

    @property
    def name(self) -> Name:
        """By what it is remembered: on another day it is told again."""
        return self.number, self.day


@dataclass(frozen=True, slots=True)
class Memory:
    """What a person was told: the civil day of the last reminder, and of which lines."""

    last: date | None = None
    told: Collection[Name] = frozenset()


@dataclass(frozen=True, slots=True)
class Reminder:
    """What is to be told now.

    Attributes:
        on: the civil day in France that now is.
        lines: empty for nothing.
        again_at: when there is more, if nothing changes; None for never.
    """

    on: date
    lines: frozenset[Name]
    again_at: datetime | None


def reminder(lines: Iterable[Line], memory: Memory, at: datetime, from_hour: int) -> Reminder:
    """Say what somebody is to be reminded of at a moment.

    Args:
        lines: of their agenda, as they see it at that moment.
        memory: what they were told before.
        at: aware UTC.
        from_hour: 0 to 23; nothing is told earlier in the day, in France.

    Source: RULES §8, MSS-FACTS §7.2.
    """
    moments = [(line.name, _moment(line, memory, at, from_hour)) for line in lines]
    later = [moment for _, moment in moments if moment is not None and moment > at]
    now = frozenset(name for name, moment in moments if moment is not None and moment <= at)
    return Reminder(paris_day(at), now, min(later, default=None))


def _moment(line: Line, memory: Memory, at: datetime, from_hour: int) -> datetime | None:
    """From when a line is told, None for never (any more)."""
    if line.name in memory.told:
        return None
    first = max(line.day - _A_DAY, paris_day(at))
    if first == memory.last:
        first += _A_DAY
    if first > line.day:
        return None
    moment = paris_instant(datetime.combine(first, time(from_hour)))
    is_over = line.start_at is not None and line.start_at <= max(moment, at)
    return None if is_over else moment
