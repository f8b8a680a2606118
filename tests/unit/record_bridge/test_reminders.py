"""On which day a line of an agenda is told, judged without a database.

Source: RULES §8, MSS-FACTS §7.2.
"""

from datetime import UTC, date, datetime, timedelta

import pytest

from record_bridge.reminders import Line, Memory, Reminder, reminder

DAY = date(2026, 12, 10)
EVE, NEXT = DAY - timedelta(days=1), DAY + timedelta(days=1)
LINE = Line(7, DAY)


def utc(day: date, hour: float) -> datetime:
    """An hour in UTC: in winter an hour later in France."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(hours=hour)


def at_ten(day: date) -> Line:
    """The same line at ten in the morning, UTC."""
    return Line(7, DAY, utc(day, 10))


@pytest.mark.parametrize(
    ("line", "memory", "at", "told", "again_at"),
    [
        (LINE, Memory(), utc(EVE, -20), False, utc(EVE, 7)),
        (LINE, Memory(), utc(EVE, 7) - timedelta(microseconds=1), False, utc(EVE, 7)),
        (LINE, Memory(), utc(EVE, 7), True, None),
        (LINE, Memory(), utc(EVE, 22.5), True, None),
        (LINE, Memory(), utc(EVE, 23), False, utc(DAY, 7)),
        (LINE, Memory(), utc(DAY, 7), True, None),
        (LINE, Memory(), utc(DAY, 22.9), True, None),
        (LINE, Memory(), utc(DAY, 23), False, None),
        (LINE, Memory(), utc(NEXT, 7), False, None),
        (LINE, Memory(EVE, {LINE.name}), utc(EVE, 9), False, None),
        (LINE, Memory(EVE, {LINE.name}), utc(DAY, 9), False, None),
        (LINE, Memory(EVE, {(7, NEXT), (8, DAY)}), utc(EVE, 9), False, utc(DAY, 7)),
        (LINE, Memory(EVE, {(7, NEXT), (8, DAY)}), utc(DAY, 7), True, None),
        (LINE, Memory(DAY, {(8, NEXT)}), utc(DAY, 9), False, None),
        (LINE, Memory(EVE - timedelta(days=1)), utc(EVE, 7), True, None),
        (at_ten(DAY), Memory(), utc(EVE, 7), True, None),
        (at_ten(DAY), Memory(), utc(DAY, 9.9), True, None),
        (at_ten(DAY), Memory(), utc(DAY, 10), False, None),
        (at_ten(DAY), Memory(EVE, {(8, DAY)}), utc(EVE, 9), False, utc(DAY, 7)),
        (Line(7, DAY, utc(DAY, 6)), Memory(), utc(EVE, 23), False, None),
        (Line(7, DAY, utc(DAY, 6)), Memory(EVE, {(8, DAY)}), utc(EVE, 9), False, None),
        (Line(7, DAY, utc(DAY, 6)), Memory(), utc(EVE, 22.9), True, None),
    ],
    ids=[
        "days before", "too early on the eve", "the eve", "late on the eve",
        "it came in the night", "it came late", "in its last minutes", "its day is over", "past",
        "told", "told the day before", "it came after the mail of the eve",
        "what came after is told on the day", "one a day, even when nothing is left of it",
        "yesterday's mail was of something else", "an hour does not change the eve",
        "its hour is to come", "its hour has come", "its hour lets it wait for the day",
        "it came in the night and is over before the hour", "the day's mail would come too late",
        "the eve's last minutes for an early hour",
    ],
)  # fmt: skip
def test_a_line_is_told_on_its_eve_or_on_its_day_and_once(
    line: Line, memory: Memory, at: datetime, *, told: bool, again_at: datetime | None
) -> None:
    found = reminder([line], memory, at, 8)

    assert found.lines == ({line.name} if told else set())
    assert found.again_at == again_at


def test_what_is_due_at_once_is_told_at_once_and_the_rest_has_its_moment() -> None:
    lines = [LINE, Line(8, NEXT), Line(9, DAY), Line(10, DAY + timedelta(days=9)), Line(11, EVE)]

    found = reminder(lines, Memory(), utc(EVE, 12), 8)

    assert found.lines == {(7, DAY), (9, DAY), (11, EVE)}
    assert found.again_at == utc(DAY, 7)


def test_a_line_that_moves_is_told_again_of_its_new_day() -> None:
    moved = Line(7, NEXT)

    assert reminder([moved], Memory(EVE, {LINE.name}), utc(DAY, 9), 8).lines == {moved.name}


@pytest.mark.parametrize(
    ("eve", "hour"), [(date(2026, 3, 28), 7), (date(2026, 3, 29), 6), (date(2026, 10, 25), 7)]
)
def test_the_hour_is_that_of_france_in_summer_too(eve: date, hour: int) -> None:
    line = Line(1, eve + timedelta(days=1))

    assert reminder([line], Memory(), utc(eve, 0), 8).again_at == utc(eve, hour)
    assert reminder([line], Memory(), utc(eve, hour), 8).lines == {line.name}


def test_nothing_is_due_of_an_empty_agenda() -> None:
    assert reminder([], Memory(DAY), utc(DAY, 23), 8) == Reminder(NEXT, frozenset(), None)


def test_over_a_season_each_line_is_told_once_and_a_day_has_at_most_one() -> None:
    """A look each hour, with lines that come and go; what is told is told in time."""
    lines = [Line(number, DAY + timedelta(days=number * number % 90)) for number in range(60)]
    memory, days = Memory(), []
    for hours in range(24 * 100):
        at = utc(EVE, 0) + timedelta(hours=hours)
        there = [line for line in lines if line.number % 5 or hours > 24 * (line.number % 40)]
        found = reminder(there, memory, at, 8)
        if found.lines:
            today = (at + timedelta(hours=1)).date()
            assert all(day - today in (timedelta(0), timedelta(days=1)) for _, day in found.lines)
            assert not found.lines & set(memory.told)
            days.append(today)
            memory = Memory(today, set(memory.told) | found.lines)

    assert len(days) == len(set(days))
    assert {line.name for line in lines if line.number % 5} <= set(memory.told)
