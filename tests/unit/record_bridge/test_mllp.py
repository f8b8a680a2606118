"""MLLP blocks: whole, octet by octet and cut anywhere, at the limit and over it."""

import random

import pytest

from record_bridge.errors import MalformedHl7Error
from record_bridge.formats.mllp import Blocks, block

MESSAGES = [b"MSH|^~\\&|A\r", b"MSH|^~\\&|B\rOBX|1|ED|x\x1cy\r", b""]
STREAM = b"".join(map(block, MESSAGES))


def test_a_stream_fed_whole_gives_every_message() -> None:
    assert Blocks(100).feed(STREAM) == MESSAGES


def test_a_stream_fed_octet_by_octet_gives_every_message() -> None:
    blocks = Blocks(100)

    assert [m for octet in STREAM for m in blocks.feed(bytes([octet]))] == MESSAGES
    assert not blocks.amid


@pytest.mark.parametrize("seed", range(20))
def test_a_stream_cut_at_random_gives_every_message(seed: int) -> None:
    chance = random.Random(seed)
    blocks = Blocks(100)
    found, at = [], 0
    while at < len(STREAM):
        step = chance.randint(1, 9)
        found += blocks.feed(STREAM[at : at + step])
        at += step

    assert found == MESSAGES


def test_a_message_of_just_the_limit_passes() -> None:
    assert Blocks(100).feed(block(b"x" * 100)) == [b"x" * 100]
    assert Blocks(100).feed(b"\x0b" + b"x" * 100 + b"\x1c") == []


@pytest.mark.parametrize(
    "stream",
    [block(b"x" * 101), b"\x0b" + b"x" * 102, block(b"x" * 10_000), b"\x0b" + b"x" * 10_000],
)
def test_a_message_over_the_limit_ends_the_stream(stream: bytes) -> None:
    with pytest.raises(MalformedHl7Error, match="too large"):
        Blocks(100).feed(stream)


@pytest.mark.parametrize("stream", [b"x", b"\r", b"MSH|", block(b"a") + b"x", b"\x1c\r"])
def test_octets_outside_a_block_are_an_error(stream: bytes) -> None:
    with pytest.raises(MalformedHl7Error, match="outside a block"):
        Blocks(100).feed(stream)


def test_a_message_that_has_begun_is_known() -> None:
    blocks = Blocks(100)
    blocks.feed(b"\x0bMSH")

    assert blocks.amid
