"""Lines and literals, cut anywhere.

Source: RFC 3501 §4.3, RFC 7888 §3, RFC 7889 §5.
"""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap.errors import LineTooLongError, LiteralTooLongError
from mailserver.imap.wire import (
    BEFORE_LOGIN,
    Continue,
    Event,
    Framer,
    RawCommand,
    TooBig,
    WireLimits,
    after_login,
)

LIMITS = WireLimits(100, 20, 50, 100)


def drain(framer: Framer) -> list[Event]:
    events = []
    while (event := framer.next()) is not None:
        events.append(event)
    return events


def fed(pieces: list[bytes], limits: WireLimits = LIMITS) -> list[Event]:
    framer = Framer(limits)
    events = []
    for piece in pieces:
        framer.feed(piece)
        events += drain(framer)
    return events


STREAM = (
    b"a NOOP\r\n"
    b"b LOGIN {3}\r\nabc {4+}\r\n\r\n{}\r\n"
    b"c APPEND INBOX {50}\r\n" + b"x" * 50 + b"\r\n"
    b"d APPEND INBOX {60+}\r\n" + b"y" * 60 + b" (z)\r\n"
    b"e SEARCH {21}\r\n"
    b"f NOOP\r\n"
)
EVENTS = [
    RawCommand(b"a NOOP"),
    Continue(),
    RawCommand(b"b LOGIN {3}\r\n {4+}\r\n", (b"abc", b"\r\n{}")),
    Continue(),
    RawCommand(b"c APPEND INBOX {50}\r\n", (b"x" * 50,)),
    TooBig(b"d"),
    TooBig(b"e"),
    RawCommand(b"f NOOP"),
]


def test_commands_fed_whole_are_framed():
    assert fed([STREAM]) == EVENTS


def test_commands_fed_byte_by_byte_are_framed_the_same():
    assert fed([STREAM[at : at + 1] for at in range(len(STREAM))]) == EVENTS


@pytest.mark.parametrize("seed", range(20))
def test_commands_split_at_random_are_framed_the_same(seed):
    cut = random.Random(seed)
    pieces, at = [], 0
    while at < len(STREAM):
        size = cut.randint(1, 40)
        pieces.append(STREAM[at : at + size])
        at += size

    assert fed(pieces) == EVENTS


@pytest.mark.parametrize(("size", "accepted"), [(98, True), (99, False), (5000, False)])
def test_line_at_the_limit_is_taken_and_over_it_is_fatal(size, accepted):
    framer = Framer(LIMITS)
    framer.feed(b"a" * size + b"\r\n")

    if accepted:
        assert framer.next() == RawCommand(b"a" * size)
    else:
        with pytest.raises(LineTooLongError):
            framer.next()


def test_line_without_an_end_is_fatal_once_over_the_limit():
    framer = Framer(LIMITS)
    framer.feed(b"a" * 100)
    assert framer.next() is None
    framer.feed(b"a")

    with pytest.raises(LineTooLongError):
        framer.next()


@pytest.mark.parametrize(
    ("size", "accepted"), [(4096, True), (4097, False), (2147483647, False), (10**19, False)]
)
def test_literal_before_login_is_bracketed(size, accepted):
    framer = Framer(BEFORE_LOGIN)
    framer.feed(b"a LOGIN {%d}\r\n" % size)

    assert framer.next() == (Continue() if accepted else TooBig(b"a"))


@pytest.mark.parametrize("size", [4097, 2147483647, 10**19])
def test_unasked_literal_over_the_limit_before_login_ends_the_stream(size):
    framer = Framer(BEFORE_LOGIN)
    framer.feed(b"a LOGIN {%d+}\r\n" % size)

    with pytest.raises(LiteralTooLongError):
        framer.next()


@pytest.mark.parametrize(("size", "fatal"), [(2000, False), (2001, True), (10**12, True)])
def test_unasked_message_is_discarded_up_to_twice_the_append_limit(size, fatal):
    framer = Framer(after_login(1000))
    framer.feed(b"a APPEND x {%d+}\r\n" % size)

    if fatal:
        with pytest.raises(LiteralTooLongError):
            framer.next()
    else:
        assert framer.next() is None
        for _ in range(20):
            framer.feed(b"y" * 100)
            assert framer.buffered == 0
        framer.feed(b"\r\nb NOOP\r\n")
        assert drain(framer) == [TooBig(b"a"), RawCommand(b"b NOOP")]


@pytest.mark.parametrize("command", [b"APPEND x", b"REPLACE 1 x", b"uid  replace 1 x"])
@pytest.mark.parametrize(("size", "accepted"), [(1000, True), (1001, False), (50000, False)])
def test_appended_message_is_bracketed_by_the_append_limit(size, accepted, command):
    framer = Framer(after_login(1000))
    framer.feed(b"a %b {%d}\r\n" % (command, size))

    assert framer.next() == (Continue() if accepted else TooBig(b"a"))


def test_literals_of_other_commands_share_one_small_budget():
    framer = Framer(LIMITS)
    framer.feed(b"a SEARCH {20+}\r\n" + b"x" * 20 + b" {1}\r\n")

    assert framer.next() == TooBig(b"a")


def test_append_cannot_be_used_to_send_many_large_literals():
    framer = Framer(LIMITS)
    framer.feed(b"a APPEND {50+}\r\n" + b"x" * 50 + b" {50}\r\n")

    assert framer.next() == TooBig(b"a")


def test_a_hundred_thousand_tiny_literals_end_the_stream():
    framer = Framer(BEFORE_LOGIN)
    framer.feed(b"a LOGIN " + b"{1+}\r\nx " * 100_000)

    with pytest.raises((LineTooLongError, LiteralTooLongError)):
        framer.next()


def test_nothing_is_allocated_before_a_literal_arrives():
    framer = Framer(after_login(10**9))
    framer.feed(b"a APPEND x {900000000}\r\n")

    assert framer.next() == Continue()
    assert framer.next() is None
    assert framer.buffered == 0
    assert framer.wanted == 900000000


@pytest.mark.parametrize("size", [b"-1", b"1e3", b"", b"99999999999999999999999"])
def test_a_malformed_literal_is_no_literal(size):
    framer = Framer(BEFORE_LOGIN)
    framer.feed(b"a LOGIN {" + size + b"}\r\n")

    assert framer.next() == RawCommand(b"a LOGIN {" + size + b"}")


def test_a_bare_line_feed_stays_in_the_text():
    assert fed([b"a NOOP\nb NOOP\r\n"]) == [RawCommand(b"a NOOP\n"), RawCommand(b"b NOOP")]


def test_clearing_forgets_what_was_fed():
    framer = Framer()
    framer.feed(b"a LOGIN {3}\r\n")
    framer.next()
    framer.feed(b"ab")
    framer.clear()
    framer.feed(b"b NOOP\r\n")

    assert framer.next() == RawCommand(b"b NOOP")


def test_a_bare_line_is_no_command():
    framer = Framer()
    framer.feed(b"DONE {3}\r\nrest")

    assert framer.next_line() == b"DONE {3}"
    assert framer.next_line() is None
    assert framer.buffered == 4


def test_much_pipelined_input_is_framed_in_linear_time():
    framer = Framer(after_login(1000))
    framer.feed(b"a NOOP\r\n" * 100_000)

    assert len(drain(framer)) == 100_000


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_any_octets_give_events_or_a_fatal_error_and_nothing_else(pieces):
    framer = Framer(LIMITS)
    try:
        for piece in pieces:
            framer.feed(piece)
            drain(framer)
            assert framer.buffered <= LIMITS.message_octets + LIMITS.text_octets + 200
    except (LineTooLongError, LiteralTooLongError):
        return
