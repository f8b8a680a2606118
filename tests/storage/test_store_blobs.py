"""Bodies in chunks: staging, slices, and what is swept."""

import io
import random

import pytest

from mailserver.store.blobs import BATCH_CHUNKS
from mailserver.store.database import MailStore
from mailserver.store.errors import BlobSizeError, NoSuchBlobError
from mailserver.store.model import Flag, FlagChange, FlagMode
from mailserver.store.schema import CHUNK_OCTETS
from tests.support.mailstore import HASH_KEY, entry, open_practice


@pytest.fixture
async def practice(tmp_path):
    async with open_practice(tmp_path) as opened:
        yield opened


def body_of(octets: int) -> bytes:
    return random.Random(octets).randbytes(octets)


def pieces(body: bytes):
    generator = random.Random(7)
    at = 0
    while at < len(body):
        size = generator.randrange(0, 700_000)
        yield body[at : at + size]
        at += size


SIZES = [
    0,
    1,
    CHUNK_OCTETS - 1,
    CHUNK_OCTETS,
    CHUNK_OCTETS + 1,
    BATCH_CHUNKS * CHUNK_OCTETS,
    BATCH_CHUNKS * CHUNK_OCTETS + 1,
]


@pytest.mark.parametrize("octets", SIZES)
@pytest.mark.parametrize("kind", [bytes, io.BytesIO, pieces])
async def test_what_is_staged_reads_back_whole_and_in_slices(practice, octets, kind):
    body = body_of(octets)
    staged = await practice.store.blobs.stage(kind(body), octets)
    await practice.store.messages.deliver(practice.delivery([entry(practice.doctor)], blob=staged))

    assert await practice.store.blobs.octets(staged.blob_id) == octets
    slices = [(0, octets), (octets // 2, 100), (CHUNK_OCTETS - 3, 7), (octets, 5), (0, 0)]
    read = await practice.store.blobs.read_many(
        [(staged.blob_id, start, length) for start, length in slices]
    )
    assert read == [body[start : start + length] for start, length in slices]
    sizes = [len(chunk) for _id, chunk in practice.rows()["blob_chunk"]]
    assert all(size == CHUNK_OCTETS for size in sizes[:-1])


@pytest.mark.parametrize("announced", [0, 99_999, 100_001, 10_000_000])
async def test_a_body_of_another_size_is_refused_and_dropped(practice, announced):
    with pytest.raises(BlobSizeError):
        await practice.store.blobs.stage(body_of(100_000), announced)
    assert practice.count("blob") == 0
    assert practice.count("blob_chunk") == 0


async def test_a_body_that_breaks_off_is_dropped(practice):
    def broken():
        yield body_of(5 << 20)
        raise OSError

    with pytest.raises(OSError):
        await practice.store.blobs.stage(broken(), 6 << 20)
    await practice.store.blobs.reap()
    assert practice.count("blob") == 0


async def test_a_staged_body_is_not_readable_by_its_size_before_it_is_taken(practice):
    staged = await practice.store.blobs.stage(body_of(10), 10)
    with pytest.raises(NoSuchBlobError):
        await practice.store.blobs.octets(staged.blob_id)


async def test_a_discarded_body_is_gone_and_a_taken_one_is_not(practice):
    kept = await practice.store.blobs.stage(body_of(10), 10)
    dropped = await practice.store.blobs.stage(body_of(11), 11)
    await practice.store.messages.deliver(practice.delivery([entry(practice.doctor)], blob=kept))
    await practice.store.blobs.discard(kept)
    await practice.store.blobs.discard(dropped)

    assert await practice.store.blobs.read(kept.blob_id, 0, 10) == body_of(10)
    assert practice.count("blob") == 1


async def test_a_start_sweeps_what_a_crash_left(tmp_path):
    async with open_practice(tmp_path) as practice:
        await practice.fill(practice.doctor, 1)
        await practice.store.blobs.stage(body_of(9 << 20), 9 << 20)
        assert practice.count("blob") == 2
    async with await MailStore.open(practice.path, hash_key=HASH_KEY, read_only=True):
        assert practice.count("blob") == 2
    async with await MailStore.open(practice.path, hash_key=HASH_KEY):
        assert practice.count("blob") == 1
        assert practice.count("blob_chunk") == 1


async def test_many_large_bodies_are_deleted_in_small_commits(practice):
    octets = 3 << 20
    for _ in range(4):
        await practice.store.messages.deliver(
            practice.delivery([entry(practice.doctor)], blob=body_of(octets))
        )
    folder = await practice.inbox(practice.doctor)
    deleted = FlagChange(folder.id, (1, 2, 3, 4), FlagMode.ADD, Flag.DELETED, frozenset())
    await practice.store.messages.store_flags(deleted)

    assert await practice.store.messages.expunge(folder.id) == [1, 2, 3, 4]
    for table in ("blob", "blob_chunk", "message_index"):
        assert practice.count(table) == 0
