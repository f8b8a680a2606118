"""Sequence sets, folder names and patterns.

Source: RFC 3501 §5.1.3.
"""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap.errors import BadCommandError, RefusedError
from mailserver.imap.names import (
    LEVELS_MAX,
    NAME_MAX,
    Pattern,
    canonical,
    decode_mutf7,
    encode_mutf7,
    require_creatable,
)
from mailserver.imap.sets import SequenceSet, Window, batches, encode_set, gaps, parse_set


@pytest.mark.parametrize(
    ("text", "count", "positions"),
    [
        (b"1", 3, [0]),
        (b"1:3", 3, [0, 1, 2]),
        (b"3:1", 3, [0, 1, 2]),
        (b"*", 3, [2]),
        (b"*:1", 3, [0, 1, 2]),
        (b"2:*", 3, [1, 2]),
        (b"1,3,1", 3, [0, 2]),
        (b"1:2,2:3", 3, [0, 1, 2]),
        (b"1:*", 0, []),
        (b"*", 0, []),
    ],
)
def test_message_numbers_are_resolved(text, count, positions):
    assert parse_set(text).positions(count) == positions


@pytest.mark.parametrize(
    ("text", "count"), [(b"4", 3), (b"1:4", 3), (b"1:4294967295", 3), (b"1", 0), (b"2:*", 0)]
)
def test_a_message_number_past_the_end_is_bad(text, count):
    with pytest.raises(BadCommandError):
        parse_set(text).positions(count)


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        (b"1:4294967295", [0, 1, 2]),
        (b"10", [1]),
        (b"11:19", []),
        (b"*", [2]),
        (b"500:*", [2]),
        (b"5,20", [0, 2]),
        (b"4294967295", []),
    ],
)
def test_uids_are_resolved_against_those_there(text, positions):
    assert parse_set(text).positions_of_uids([5, 10, 20]) == positions


def test_uids_of_an_empty_folder_are_none():
    assert parse_set(b"1:*").positions_of_uids([]) == []


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"0",
        b"1:0",
        b"4294967296",
        b"1,",
        b",1",
        b"1:2:3",
        b"-1",
        b"a",
        b"1;2",
        b"99999999999",
        b"**",
    ],
)
def test_what_is_no_set_is_bad(text):
    with pytest.raises(BadCommandError):
        parse_set(text)


def test_a_set_of_many_items_costs_little():
    text = b",".join(b"%d" % n for n in range(1, 30_000, 2))
    started = time.process_time()

    assert len(parse_set(text).positions_of_uids(list(range(1, 30_000)))) == 15_000 - 0
    assert time.process_time() - started < 1


@given(st.sets(st.integers(1, 500)))
def test_a_written_set_reads_back(numbers):
    text = encode_set(sorted(numbers))

    if numbers:
        uids = list(range(1, 501))
        assert {p + 1 for p in parse_set(text).positions_of_uids(uids)} == numbers
    else:
        assert text == b""


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_modified_utf7_reads_back(name):
    assert decode_mutf7(encode_mutf7(name)) == name


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"Entw&APw-rfe", "Entwürfe"),
        (b"&U,BTFw-", "台北"),
        (b"Tom &- Jerry", "Tom & Jerry"),
        (b"~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"),
        ("Envoyés".encode(), "Envoyés"),
    ],
)
def test_names_are_decoded(raw, name):
    assert decode_mutf7(raw) == name


@pytest.mark.parametrize(
    "raw", [b"&", b"&AAA", b"&!!!!-", b"&AC4ALg-", b"&AGE-", b"a&b", b"\xff\xfe", b"&2AA-"]
)
def test_names_with_two_spellings_or_none_are_bad(raw):
    with pytest.raises(BadCommandError):
        decode_mutf7(raw)


@pytest.mark.parametrize("raw", [b"inbox", b"InBoX", b"INBOX"])
def test_inbox_has_no_case(raw):
    assert canonical(decode_mutf7(raw)) == "INBOX"


def test_two_unicode_forms_of_a_name_are_one_folder():
    assert canonical("E\u0301te\u0301") == canonical("Été")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "/etc/passwd",
        "../bob/INBOX",
        "INBOX/../../x",
        "a//b",
        "a/",
        "~bob",
        "#shared",
        "..\\..",
        'a"b',
        "a*b",
        "a%b",
        "a\x00b",
        "a\nb",
        "a\u202eb",
        " a",
        "x" * (NAME_MAX + 1),
        "x" * 10_000,
        "/".join("x" * (LEVELS_MAX + 1)),
    ],
)
def test_names_that_lead_somewhere_or_look_like_others_cannot_be_made(name):
    with pytest.raises(RefusedError):
        require_creatable(name)


@pytest.mark.parametrize(
    "name", ["a", "Résultats 2026", "x" * NAME_MAX, "/".join("x" * LEVELS_MAX)]
)
def test_ordinary_names_can_be_made(name):
    require_creatable(name)


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("*", "a/b", True),
        ("%", "a/b", False),
        ("%", "a", True),
        ("a/%", "a/b", True),
        ("a/%", "a/b/c", False),
        ("a*c", "a/b/c", True),
        ("%/%", "a/b", True),
        ("*%", "a/b/c", True),
        ("", "", True),
        ("", "a", False),
        ("a", "A", False),
        ("a*b", "ab", True),
    ],
)
def test_patterns_match(pattern, name, matches):
    assert Pattern(pattern).matches(name) is matches


def test_a_pattern_of_sixty_stars_over_a_thousand_names_is_quick():
    pattern = Pattern("*a" * 60 + "*b")
    names = ["a" * 250 for _ in range(1000)]
    started = time.process_time()

    assert not any(pattern.matches(name) for name in names)
    assert time.process_time() - started < 0.5


@given(
    st.sets(st.integers(1, 60)),
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=6),
)
def test_what_a_client_knows_and_is_not_there_is_told_as_spans(held, ranges):
    last = 60
    known = SequenceSet(tuple(ranges))
    wanted = [n for n in range(1, last + 1) if n not in held and known.holds(n, last)]

    told = known.overlap(gaps(sorted(held), last))

    assert [n for low, high in told.ranges for n in range(low, high + 1)] == wanted
    assert known.among(sorted(set(range(1, last + 1)) - held)) == wanted
    assert told.encode() == b"" or parse_set(told.encode()).ranges == told.ranges


def test_the_largest_set_costs_no_more_than_its_digits():
    known = parse_set(b"1:4294967295")
    assert known.overlap(gaps([5], 4294967295)).encode() == b"1:4,6:4294967295"
    assert parse_set(b"2,5:*").closed(9).encode() == b"2,5:9"
    assert parse_set(b"2,5:*").has_star
    assert not known.has_star


@pytest.mark.parametrize(
    ("window", "found"),
    [
        (Window(1, 2), [10, 20]),
        (Window(2, 1), [10, 20]),
        (Window(3, 9), [30, 40]),
        (Window(5, 9), []),
        (Window(-1, -2), [30, 40]),
        (Window(-4, -9), [10]),
        (Window(-5, -9), []),
        (Window(1, 4294967295), [10, 20, 30, 40]),
        (Window(-1, -4294967295), [10, 20, 30, 40]),
    ],
)
def test_a_window_is_counted_from_either_end(window, found):
    # RFC 9394 §3.1
    assert list(window.of([10, 20, 30, 40])) == found
    assert list(window.of([])) == []


@given(
    st.sets(st.integers(1, 10_000), max_size=60).map(sorted),
    st.integers(1, 20),
    st.integers(1, 80),
)
def test_batches_leave_no_gap_and_are_full(uids, size, last):
    # RFC 10022 §3.1.3
    spans = batches(uids, size, last)
    whole = batches(uids, size, len(uids) + 1)

    assert spans == whole[:last]
    assert len(whole) == -(-len(uids) // size)
    assert all(above[1] == below[0] + 1 for above, below in pairwise(whole))
    if uids:
        assert (whole[0][0], whole[-1][1]) == (uids[-1], 1)
    held = [sum(low <= uid <= high for uid in uids) for high, low in whole]
    assert all(count == size for count in held[:-1])
    assert sum(held) == len(uids)
