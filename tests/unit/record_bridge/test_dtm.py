"""HL7 timestamps and French legal time."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from record_bridge.formats.dtm import encode_dtm, paris_clock, parse_dtm


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("20260115103000", datetime(2026, 1, 15, 9, 30, tzinfo=UTC)),
        ("20260715103000", datetime(2026, 7, 15, 8, 30, tzinfo=UTC)),
        ("202603290159", datetime(2026, 3, 29, 0, 59, tzinfo=UTC)),
        ("202603290300", datetime(2026, 3, 29, 1, 0, tzinfo=UTC)),
        ("202610250159", datetime(2026, 10, 24, 23, 59, tzinfo=UTC)),
        ("202610250300", datetime(2026, 10, 25, 2, 0, tzinfo=UTC)),
        ("20260715103000+0000", datetime(2026, 7, 15, 10, 30, tzinfo=UTC)),
        ("20260715103000-0330", datetime(2026, 7, 15, 14, 0, tzinfo=UTC)),
        ("20260715103000Z", datetime(2026, 7, 15, 10, 30, tzinfo=UTC)),
        ("2026071510", datetime(2026, 7, 15, 8, 0, tzinfo=UTC)),
        ("20260715103000.123+0200", datetime(2026, 7, 15, 8, 30, tzinfo=UTC)),
        ("20260715103000.1234567+0200", datetime(2026, 7, 15, 8, 30, tzinfo=UTC)),
        ("20260715103000+02", datetime(2026, 7, 15, 8, 30, tzinfo=UTC)),
        ("20260715103000+200", datetime(2026, 7, 15, 8, 30, tzinfo=UTC)),
        ("20260715103000-03:30", datetime(2026, 7, 15, 14, 0, tzinfo=UTC)),
    ],
)
def test_instants(text: str, at: datetime):
    found = parse_dtm(text)

    assert found is not None
    assert found.at == at


def test_a_day_has_no_instant():
    found = parse_dtm("20260115")

    assert found is not None
    assert (found.day, found.at) == (date(2026, 1, 15), None)


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("20260115", datetime(2026, 1, 14, 23, tzinfo=UTC)),
        ("20260715", datetime(2026, 7, 14, 22, tzinfo=UTC)),
        ("20260715103000+0200", datetime(2026, 7, 15, 8, 30, tzinfo=UTC)),
        ("202607", None),
    ],
)
def test_a_day_starts_at_midnight_in_france(text: str, start: datetime | None):
    found = parse_dtm(text)

    assert found is not None
    assert found.start == start


def test_the_day_of_an_instant_is_the_day_in_france():
    found = parse_dtm("20260115233000+0000")

    assert found is not None
    assert found.day == date(2026, 1, 16)


@pytest.mark.parametrize("text", ["2026", "202601"])
def test_a_year_or_a_month_has_no_day(text: str):
    found = parse_dtm(text)

    assert found is not None
    assert (found.day, found.at) == (None, None)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "2026-01-15",
        "20261301",
        "20260230",
        "00000101",
        "202601152500",
        "20260115103000+9900",
        "20260115103000+1",
        "20260115103000+02000",
        "x",
    ],
)
def test_other_texts_are_none(text: str | None):
    assert parse_dtm(text) is None


@given(st.text(max_size=30) | st.from_regex(r"\d{4,14}([+-]\d{4})?", fullmatch=True))
def test_any_text_is_a_time_or_none(text: str):
    parse_dtm(text)


@given(st.integers(-631_152_000, 5_680_281_600))
def test_what_is_shown_reads_back_to_the_same_instant(seconds: int):
    at = datetime.fromtimestamp(seconds, UTC)
    found = parse_dtm(paris_clock(at).strftime("%Y%m%d%H%M%S%z"))

    assert found is not None
    assert found.at == at


def test_metadata_times_are_utc():
    assert encode_dtm(paris_clock(datetime(2026, 7, 1, 10, tzinfo=UTC))) == "20260701100000"
