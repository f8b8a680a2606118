"""Public holidays against a table written from the law, and three working days to the second."""

import tomllib
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from mailserver.working_days import (
    UNREAD_AFTER,
    Holidays,
    is_working_day,
    overdue_before,
    public_holidays,
    unread_before,
)
from tests.support.mailsite import CABINET

TABLE = tomllib.loads(
    (Path(__file__).parents[2] / "vectors" / "working_days" / "holidays.toml").read_text("utf-8")
)
SECOND = timedelta(seconds=1)


def days_of(year: str, *written: str) -> set[date]:
    return {date.fromisoformat(f"{year}-{day}") for day in written}


@pytest.mark.parametrize("year", TABLE["moving"])
def test_the_holidays_of_a_year_are_those_of_the_legal_list(year: str) -> None:
    *moving, good_friday = TABLE["moving"][year]
    national = days_of(year, *TABLE["fixed"], *moving)
    local = national | days_of(year, good_friday, *TABLE["alsace_moselle_fixed"])

    assert public_holidays(int(year), Holidays.NATIONAL) == national
    assert public_holidays(int(year), Holidays.ALSACE_MOSELLE) == local


@pytest.mark.parametrize(
    ("day", "national", "local"),
    [
        pytest.param(date(2026, 11, 20), True, True, id="friday"),
        pytest.param(date(2026, 11, 21), False, False, id="saturday"),
        pytest.param(date(2026, 11, 22), False, False, id="sunday"),
        pytest.param(date(2026, 11, 11), False, False, id="armistice"),
        pytest.param(date(2026, 5, 25), False, False, id="whit monday"),
        pytest.param(date(2026, 4, 3), True, False, id="good friday"),
        pytest.param(date(2025, 12, 26), True, False, id="saint stephen"),
        pytest.param(date(2026, 12, 24), True, True, id="christmas eve"),
    ],
)
def test_a_working_day_is_monday_to_friday_and_no_holiday(
    day: date, *, national: bool, local: bool
) -> None:
    assert is_working_day(day, Holidays.NATIONAL) is national
    assert is_working_day(day, Holidays.ALSACE_MOSELLE) is local


@pytest.mark.parametrize(
    ("now", "ends"),
    [
        pytest.param("2026-11-26T00:00:00+01:00", "2026-11-23T00:00:00+01:00", id="midnight"),
        pytest.param("2026-11-25T23:59:59+01:00", "2026-11-20T00:00:00+01:00", id="before it"),
        pytest.param("2026-11-26T23:59:59+01:00", "2026-11-23T00:00:00+01:00", id="all day"),
        pytest.param("2026-11-28T12:00:00+01:00", "2026-11-25T00:00:00+01:00", id="saturday"),
        pytest.param("2026-11-30T12:00:00+01:00", "2026-11-25T00:00:00+01:00", id="monday"),
        pytest.param("2026-05-15T12:00:00+02:00", "2026-05-11T00:00:00+02:00", id="ascension"),
        pytest.param("2026-05-12T12:00:00+02:00", "2026-05-06T00:00:00+02:00", id="8 may"),
        pytest.param("2026-01-05T12:00:00+01:00", "2025-12-30T00:00:00+01:00", id="new year"),
        pytest.param("2026-03-31T12:00:00+02:00", "2026-03-26T00:00:00+01:00", id="over spring"),
        pytest.param("2026-04-02T12:00:00+02:00", "2026-03-30T00:00:00+02:00", id="after spring"),
        pytest.param("2026-10-28T12:00:00+01:00", "2026-10-23T00:00:00+02:00", id="over autumn"),
        pytest.param("2026-10-29T12:00:00+01:00", "2026-10-26T00:00:00+01:00", id="after autumn"),
    ],
)
def test_three_working_days_ago(now: str, ends: str) -> None:
    at = datetime.fromisoformat(now).astimezone(UTC)

    found = overdue_before(at, UNREAD_AFTER, Holidays.NATIONAL)

    assert found == datetime.fromisoformat(ends)
    assert found.utcoffset() == timedelta(0)


def test_what_came_at_the_first_moment_of_a_day_has_had_that_day() -> None:
    monday = datetime(2026, 11, 23, tzinfo=UTC) - timedelta(hours=1)  # midnight in Paris
    thursday = monday + timedelta(days=3)

    for now, overdue in ((thursday - SECOND, False), (thursday, True), (thursday + SECOND, True)):
        before = overdue_before(now, 3, Holidays.NATIONAL)
        assert (monday <= before) is overdue
        assert (monday + SECOND <= before) is False
    assert monday + SECOND <= overdue_before(thursday + timedelta(days=1), 3, Holidays.NATIONAL)


def test_each_structure_has_the_holidays_of_its_place() -> None:
    at = datetime(2026, 4, 8, 10, tzinfo=UTC)  # the Wednesday after Easter

    structures = [replace(CABINET, id="lyon"), replace(CABINET, id="metz")]

    found = unread_before(at, structures, frozenset({"metz", "gone"}))

    assert found == {
        "lyon": datetime(2026, 4, 1, 22, tzinfo=UTC),
        "metz": datetime(2026, 3, 31, 22, tzinfo=UTC),
    }
