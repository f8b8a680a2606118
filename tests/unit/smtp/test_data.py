"""The DATA scanner: one end, no bare control, the same answer however the stream is cut.

Source: RFC 5321 §4.5.2.
"""

import random
from collections.abc import Callable, Iterable

import pytest

from mailserver.smtp.data import DataFault, DataLimits, DataScanner

LIMITS = DataLimits(message_octets=100_000)
BODY = b"Subject: x\r\n\r\nfirst\r\n..two dots\r\n. one\r\nlast\r\n"
CLEAN = b"Subject: x\r\n\r\nfirst\r\n.two dots\r\n one\r\nlast\r\n"
END = b".\r\n"
NEXT = b"MAIL FROM:<smuggled@chu-a.mssante.test>\r\n"


def whole(stream: bytes) -> Iterable[bytes]:
    return [stream]


def octets(stream: bytes) -> Iterable[bytes]:
    return [stream[i : i + 1] for i in range(len(stream))]


def random_cuts(stream: bytes) -> Iterable[bytes]:
    source = random.Random(len(stream))
    position = 0
    while position < len(stream):
        size = source.randint(1, 9)
        yield stream[position : position + size]
        position += size


CUTS = [pytest.param(cut, id=cut.__name__) for cut in (whole, octets, random_cuts)]
Cut = Callable[[bytes], Iterable[bytes]]


def scan(
    stream: bytes, cut: Cut, limits: DataLimits = LIMITS
) -> tuple[bytes, bytes, DataFault | None, bool]:
    """Feed until done; what follows the end in later pieces is part of the rest."""
    scanner = DataScanner(limits)
    out, rest = [], []
    for piece in cut(stream):
        if scanner.done:
            rest.append(piece)
            continue
        out.append(scanner.feed(piece))
        rest.append(scanner.rest)
    return b"".join(out), b"".join(rest), scanner.fault, scanner.done


@pytest.mark.parametrize("cut", CUTS)
def test_a_message_ends_at_its_dot_and_loses_its_transparency_dots(cut: Cut) -> None:
    assert scan(BODY + END + NEXT, cut) == (CLEAN, NEXT, None, True)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("stream", "clean"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"...\r\n.\r\n", b"..\r\n"),
        (b".a\r\n.\r\n", b"a\r\n"),
        (b"a\r\n\r\n\r\n.\r\n", b"a\r\n\r\n\r\n"),
        (b"a.\r\n.\r\n", b"a.\r\n"),
        (b"a\r\n..\r\n..\r\n.\r\n", b"a\r\n.\r\n.\r\n"),
    ],
)
def test_dots_at_every_place(stream: bytes, clean: bytes, cut: Cut) -> None:
    assert (clean, NEXT, None, True) == scan(stream + NEXT, cut)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 77, 999, 4096])
def test_what_was_stuffed_comes_out_as_it_was(size: int, cut: Cut) -> None:
    source = random.Random(size)
    lines = [
        bytes(source.choice(b". ab\xe9\t") for _ in range(source.randint(0, 9)))
        for _ in range(size)
    ]
    message = b"".join(line + b"\r\n" for line in lines)
    stuffed = b"".join((b"." + line if line[:1] == b"." else line) + b"\r\n" for line in lines)

    assert (message, b"", None, True) == scan(stuffed + END, cut)


SMUGGLING = [
    b"\n.\n", b"\n.\r", b"\r.\n", b"\r.\r", b"\n.\r\n", b"\r.\r\n", b"\r\n\0.\r\n",
    b"\r\n.\n", b"\r\n.\r", b"\r\n.\0\r\n", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\r\n.\r\0\n",
    b"\n\n.\r\n", b"\0",
]  # fmt: skip


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("sequence", SMUGGLING, ids=repr)
def test_a_smuggling_sequence_condemns_the_message_and_starts_no_command(
    sequence: bytes, cut: Cut
) -> None:
    stream = b"Subject: a\r\n\r\nx" + sequence + NEXT + b"DATA\r\nevil\r\n.\r\nQUIT\r\n"

    _, rest, fault, done = scan(stream, cut)

    assert (rest, fault, done) == (b"QUIT\r\n", DataFault.BARE_CONTROL, True)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("position", [0, 1, 13, 14, 40])
@pytest.mark.parametrize("octet", [b"\r", b"\n", b"\0"])
def test_a_bare_control_is_seen_wherever_it_is(octet: bytes, position: int, cut: Cut) -> None:
    stream = BODY[:position] + octet + b"x" + BODY[position:]

    assert scan(stream + END, cut)[2] is DataFault.BARE_CONTROL


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("octets_sent", "fault"),
    [(999, None), (1000, None), (1001, DataFault.TOO_BIG), (3000, DataFault.TOO_BIG)],
)
def test_the_size_limit_is_exact(octets_sent: int, fault: DataFault | None, cut: Cut) -> None:
    lines, left = divmod(octets_sent - 200, 100)
    message = (b"x" * 98 + b"\r\n") * lines + b"x" * (left + 198) + b"\r\n"
    assert len(message) == octets_sent

    assert fault is scan(message + END, cut, DataLimits(message_octets=1000))[2]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("text", [997, 998, 999, 1001, 90_000])
@pytest.mark.parametrize("before", [b"", b"ab\r\n", b"y" * 700 + b"\r\n"])
def test_a_line_may_be_as_long_as_the_message(text: int, before: bytes, cut: Cut) -> None:
    message = before + b"." + b"x" * text + b"\r\n" + b"z\r\n" * 400

    out, _, fault, *_ = scan(before + b"." + message[len(before) :] + END, cut)

    assert (out, fault) == (message, None)


@pytest.mark.parametrize("cut", CUTS)
def test_the_worst_fault_is_told_whatever_came_first(cut: Cut) -> None:
    limits = DataLimits(message_octets=100)
    too_big = b"x" * 80 + b"\r\n" + b"x" * 80 + b"\r\n"

    assert scan(too_big + END, cut, limits)[2] is DataFault.TOO_BIG
    assert scan(too_big + b"\n" + END, cut, limits)[2] is DataFault.BARE_CONTROL
    assert scan(b"\n" + too_big + END, cut, limits)[2] is DataFault.BARE_CONTROL


def test_a_condemned_message_is_read_to_its_end_but_not_for_ever() -> None:
    scanner = DataScanner(DataLimits(message_octets=1000))
    line = b"x" * 498 + b"\r\n"
    for _ in range(8):
        scanner.feed(line)

    assert scanner.fault is DataFault.TOO_BIG
    assert not scanner.endless
    scanner.feed(line)
    assert scanner.endless


def test_feeding_after_the_end_is_a_programming_error() -> None:
    scanner = DataScanner(LIMITS)
    scanner.feed(b".\r\n")

    with pytest.raises(RuntimeError):
        scanner.feed(b"x")
