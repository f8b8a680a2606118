"""HL7 timestamps (``AAAAMMJJ[HHMM[SS[.s]]][+zzzz]``) as values.

A timestamp without offset means legal time in France; the rule of that clock is written here
(last Sundays of March and October, 01:00 UTC), so that no file of time zones is needed.

Source: HL7 V3 DTR §TS, ITI TF-3 §4.2.3.1.7, RULES §8.
"""

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone

_DTM = re.compile(
    r"(?P<day>\d{4}(?:\d{2}(?:\d{2})?)?)(?P<time>\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,9})?)?)?)?"
    r"(?P<offset>[+-]\d{2}(?::?\d{2})?|[+-]\d{3}|Z)?",
    re.ASCII,
)
_MAX_OFFSET_MIN = 14 * 60


@dataclass(frozen=True, slots=True)
class Dtm:
    """A point in time as precise as it was written.

    Attributes:
        text: as written.
        day: the civil day in France; None when only a year or a month was written.
        at: aware UTC instant, None when the hour was not written.
    """

    text: str
    day: date | None
    at: datetime | None

    @property
    def start(self) -> datetime | None:
        """The instant, or that at which its day begins in France; None without a day."""
        if self.at is not None or self.day is None:
            return self.at
        return paris_midnight(self.day)


def parse_dtm(text: str | None) -> Dtm | None:
    """Read one timestamp; None when it is absent or not one.

    Source: RULES §8 (no offset means Europe/Paris).
    """
    match = _DTM.fullmatch((text or "").strip()[:40])
    if match is None:
        return None
    day_text, time_text, offset = match["day"], match["time"], match["offset"]
    try:
        if len(day_text) < len("AAAAMMJJ"):
            return None if time_text else _coarse(text or "", day_text)
        day = date(int(day_text[:4]), int(day_text[4:6]), int(day_text[6:8]))
        if time_text is None:
            return Dtm(text or "", day, None)
        seconds = min(int(time_text[4:6] or 0), 59)
        clock = datetime(
            day.year, day.month, day.day, int(time_text[:2]), int(time_text[2:4] or 0), seconds,
            tzinfo=UTC,
        )  # fmt: skip
        at = clock - paris_offset_of_local(clock) if offset is None else clock - _offset(offset)
        return Dtm(text or "", paris_day(at), at)
    except (ValueError, OverflowError):
        return None


def paris_offset(at: datetime) -> timedelta:
    """How far legal time in France is ahead of UTC at an instant."""
    summer = _last_sunday(at.year, 3) <= at < _last_sunday(at.year, 10)
    return timedelta(hours=2 if summer else 1)


def paris_offset_of_local(clock: datetime) -> timedelta:
    """The same for a wall clock reading (given as if it were UTC); the earlier when twofold."""
    summer = timedelta(hours=2)
    return summer if paris_offset(clock - summer) == summer else timedelta(hours=1)


def paris_day(at: datetime) -> date:
    """The civil day in France at an instant."""
    return (at + paris_offset(at)).date()


def paris_instant(clock: datetime) -> datetime:
    """The instant of a naive wall clock reading in France; the earlier when twofold."""
    reading = clock.replace(tzinfo=UTC)
    return reading - paris_offset_of_local(reading)


def paris_midnight(day: date) -> datetime:
    """The instant, in UTC, at which a civil day begins in France."""
    return paris_instant(datetime.combine(day, time()))


def paris_clock(at: datetime) -> datetime:
    """The instant with France's offset, for display."""
    return at.astimezone(timezone(paris_offset(at)))


def encode_dtm(at: datetime) -> str:
    """An instant as registry metadata wants it: ``AAAAMMJJHHMMSS`` in UTC."""
    return at.astimezone(UTC).strftime("%Y%m%d%H%M%S")


def _coarse(text: str, day_text: str) -> Dtm:
    date(int(day_text[:4]), int(day_text[4:6] or 1), 1)  # raises when there is no such month
    return Dtm(text, None, None)


def _offset(text: str) -> timedelta:
    if text == "Z":
        return timedelta()
    digits = text[1:].replace(":", "")
    if len(digits) == len("HHM"):  # the hour's zero left out: seen in published documents
        digits = "0" + digits
    minutes = int(digits[:2]) * 60 + int(digits[2:] or 0)
    if minutes > _MAX_OFFSET_MIN:
        raise ValueError
    return timedelta(minutes=minutes if text[0] == "+" else -minutes)


def _last_sunday(year: int, month: int) -> datetime:
    last = calendar.monthrange(year, month)[1]
    back = (datetime(year, month, last, tzinfo=UTC).weekday() + 1) % 7
    return datetime(year, month, last - back, 1, tzinfo=UTC)
