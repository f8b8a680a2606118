"""Proofs of single events: what any batch gives is what the whole tree would give.

Source: RFC 9162 §2.1.3.
"""

import hashlib
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certs.merkle import MerkleTree, verify_inclusion
from directory.trail import CompactRange, SignedRoot
from directory.trail_proof import ProvedEvent, SealedBatch, path

AT = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


def leaf(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def batch(before: int, size: int) -> SealedBatch:
    whole = CompactRange()
    for number in range(before):
        whole.append(leaf(number))
    octets = whole.peaks()
    peaks = [octets[at : at + 32] for at in range(0, len(octets), 32)]
    leaves = [leaf(number) for number in range(before, size)]
    for each in leaves:
        whole.append(each)
    return SealedBatch(SignedRoot(size, whole.root(), AT, b""), before, peaks, leaves)


@settings(deadline=None)
@given(st.integers(0, 200), st.integers(1, 80))
def test_every_leaf_of_a_batch_is_proved_as_the_whole_tree_would(before: int, count: int) -> None:
    size = before + count
    sealed = batch(before, size)
    tree = MerkleTree(leaf(number) for number in range(size))

    for number in range(before, size):
        found = path(sealed, number)
        assert found == tree.inclusion(number)
        assert verify_inclusion(leaf(number), number, size, found, sealed.root.root)


@pytest.mark.parametrize("sequence", [-1, 4, 9, 100])
def test_a_leaf_outside_the_batch_has_no_proof_from_it(sequence: int) -> None:
    with pytest.raises(ValueError, match="not in the batch"):
        path(batch(5, 9), sequence)


def test_a_batch_that_misses_a_leaf_or_a_peak_is_refused() -> None:
    whole = batch(5, 9)
    for broken in (
        SealedBatch(whole.root, whole.before, whole.peaks[1:], whole.leaves),
        SealedBatch(whole.root, whole.before, whole.peaks, whole.leaves[:-1]),
    ):
        with pytest.raises(ValueError, match="not whole"):
            path(broken, 6)


def test_what_may_not_be_known_yet_is_told_as_its_hash_alone() -> None:
    root = batch(0, 1).root
    told = ProvedEvent(0, leaf(0), None, (), root).as_json(1)
    known = ProvedEvent(0, leaf(0), (b"salt", ("document_read", 1)), (), root).as_json(2)

    assert told["leaf"] == leaf(0).hex()
    assert "event" not in told
    assert known["event"] == ["document_read", 1]
    assert known["salt"] == b"salt".hex()
    assert "leaf" not in known
    assert (told["number"], known["number"]) == (1, 2)
