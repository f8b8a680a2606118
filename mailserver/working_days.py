"""Which civil days people work in France, and how long ago three of them began; pure.

Invariants: a day is one of Europe/Paris, whatever the clock's own zone; a working day is Monday to
Friday and no public holiday; only whole days count, so what came in on a Monday morning has had
three when Thursday is over.

Source: Code du travail L3133-1 (the eleven holidays), L3134-13 (two more in Alsace-Moselle).
"""

from collections.abc import Collection, Iterable
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from typing import Final
from zoneinfo import ZoneInfo

from dateutil.easter import easter

from directory.model import Structure

UNREAD_AFTER: Final = 3
"""Whole working days after which an unread report is told of."""

_PARIS: Final = ZoneInfo("Europe/Paris")
_DAY: Final = timedelta(days=1)
_SATURDAY: Final = 5
_FIXED: Final = ((1, 1), (5, 1), (5, 8), (7, 14), (8, 15), (11, 1), (11, 11), (12, 25))
_AFTER_EASTER: Final = (1, 39, 50)
"""Easter Monday, Ascension, Whit Monday (a holiday, also where it is worked for solidarity)."""


class Holidays(Enum):
    """Whose public holidays: everybody's, or those of Bas-Rhin, Haut-Rhin and Moselle."""

    NATIONAL = "national"
    ALSACE_MOSELLE = "alsace_moselle"


def public_holidays(year: int, holidays: Holidays) -> frozenset[date]:
    """Give the public holidays of a year."""
    sunday = easter(year)
    found = {date(year, month, day) for month, day in _FIXED}
    found |= {sunday + days * _DAY for days in _AFTER_EASTER}
    if holidays is Holidays.ALSACE_MOSELLE:
        found |= {sunday - 2 * _DAY, date(year, 12, 26)}
    return frozenset(found)


def is_working_day(day: date, holidays: Holidays) -> bool:
    """Say whether people work on a day."""
    return day.weekday() < _SATURDAY and day not in public_holidays(day.year, holidays)


def overdue_before(at: datetime, days: int, holidays: Holidays) -> datetime:
    """Give the instant before which, or at which, something came that has had whole working days.

    Args:
        at: aware now.
        days: how many, at least one.
        holidays: whose.

    Returns:
        The first moment of the earliest of these days, in UTC.
    """
    day = at.astimezone(_PARIS).date()
    while days:
        day -= _DAY
        days -= is_working_day(day, holidays)
    return datetime.combine(day, time(), _PARIS).astimezone(UTC)


def unread_before(
    at: datetime, structures: Iterable[Structure], alsace_moselle: Collection[str]
) -> dict[str, datetime]:
    """Give, for each structure, what came so long ago that it should have been read.

    Args:
        at: aware now.
        structures: hosted here.
        alsace_moselle: ids of those that have its holidays.
    """
    ends = {each: overdue_before(at, UNREAD_AFTER, each) for each in Holidays}
    return {
        each.id: ends[Holidays.ALSACE_MOSELLE if each.id in alsace_moselle else Holidays.NATIONAL]
        for each in structures
    }
