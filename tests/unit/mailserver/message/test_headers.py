"""The forgiving reader of header fields.

Source: RFC 5322 §3.3.
"""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from mailserver.message.headers import display_list, encode_date, message_ids, parse_date


@pytest.mark.parametrize(
    ("value", "at"),
    [
        (b"Thu, 01 Jan 2026 12:30:05 +0100", datetime(2026, 1, 1, 11, 30, 5, tzinfo=UTC)),
        (b"1 Jan 2026 12:30 -0530", datetime(2026, 1, 1, 18, 0, tzinfo=UTC)),
        (b"Thu, 1 Jan 26 12:30:05 GMT", datetime(2026, 1, 1, 12, 30, 5, tzinfo=UTC)),
        (b"Thu, 1 Jan 126 12:30:05 EST", datetime(2026, 1, 1, 17, 30, 5, tzinfo=UTC)),
        (b"Thu, 1 Jan 99 12:30:05 (PST) +0000", datetime(1999, 1, 1, 12, 30, 5, tzinfo=UTC)),
        (b"1-Jan-2026 23:59:60 +0000", datetime(2026, 1, 1, 23, 59, 59, tzinfo=UTC)),
        (b"Thu Jan 1 12:30:05 2026", None),
        (b"32 Jan 2026 12:30:05 +0000", None),
        (b"1 Foo 2026 12:30:05 +0000", None),
        (b"1 Jan 0001 00:00:00 +2359", None),
        (b"", None),
        (None, None),
        (b"\xff" * 300, None),
    ],
)
def test_a_date_is_read_or_is_none(value, at):
    assert parse_date(value) == at


@pytest.mark.parametrize("minutes", [0, 60, -330, 765])
def test_a_date_written_reads_back(minutes):
    at = datetime(2026, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(minutes=minutes)))

    assert parse_date(encode_date(at)) == at


def test_a_date_is_written_in_its_own_offset():
    at = datetime(2026, 2, 3, 4, 5, 6, tzinfo=timezone(timedelta(hours=-5, minutes=-30)))

    assert encode_date(at) == b"Tue, 03 Feb 2026 04:05:06 -0530"


def test_identifiers_are_found_among_comments():
    assert message_ids(b"<a@b> (x) <c@d>\t<not one> junk") == ("<a@b>", "<c@d>")
    assert message_ids(None) == ()


def test_a_list_for_people_has_no_group_marks():
    assert display_list(b"g: A <a@b.c>;, d@e.f") == "A <a@b.c>, d@e.f"
    assert display_list(None) == ""
