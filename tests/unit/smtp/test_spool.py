"""A spool keeps small messages in memory, large ones in a file, and all of them in bounded memory."""

import hashlib
from pathlib import Path

import pytest

from mailserver.smtp.spool import Spool, SpoolMemory

PIECE = b"0123456789"


def written(tmp_path: Path, pieces: int, memory: SpoolMemory, limit: int = 100) -> Spool:
    spool = Spool(tmp_path, memory, limit)
    for _ in range(pieces):
        spool.write(PIECE)
    return spool


@pytest.mark.parametrize(("pieces", "filed"), [(0, False), (10, False), (11, True), (99, True)])
def test_a_message_over_its_limit_goes_to_a_file(tmp_path, pieces, filed):
    memory = SpoolMemory(10**6)
    spool = written(tmp_path, pieces, memory)
    assert memory.taken == (0 if filed else pieces * 10)

    body = spool.take()

    assert isinstance(body, bytes) is not filed
    if not isinstance(body, bytes):
        with body:
            body = body.read()
    assert body == PIECE * pieces
    assert (spool.octets, spool.sha256) == (len(body), hashlib.sha256(body).digest())
    assert memory.taken == 0
    assert not list(tmp_path.iterdir()), "the file has no name"


def test_messages_that_come_at_once_share_their_memory(tmp_path):
    memory = SpoolMemory(150)
    first, second = written(tmp_path, 9, memory), written(tmp_path, 9, memory)

    assert memory.taken == 90, "the second found no room and went to a file"
    assert isinstance(first.take(), bytes)
    body = second.take()
    assert not isinstance(body, bytes)
    with body:
        assert body.read() == PIECE * 9
    assert isinstance(written(tmp_path, 9, memory).take(), bytes)


def test_what_is_discarded_gives_its_memory_back(tmp_path):
    memory = SpoolMemory(100)
    for pieces in (3, 30):
        written(tmp_path, pieces, memory).discard()

    assert memory.taken == 0
