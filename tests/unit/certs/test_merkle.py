"""The Merkle tree: RFC 9162's shapes, proofs of every leaf and every size, signed roots."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from certs.merkle import (
    EMPTY_ROOT,
    Frontier,
    MerkleTree,
    TreeHead,
    leaf_hash,
    sign_root,
    verify_consistency,
    verify_inclusion,
    verify_root,
)

LEAVES = [leaf_hash(b"%d" % index) for index in range(70)]
AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def reference(leaves: list[bytes]) -> bytes:
    """The recursive definition of RFC 9162 §2.1.1, written apart."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = reference(leaves[:split]), reference(leaves[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


def test_the_known_roots_of_certificate_transparency():
    # Test vectors of the RFC 6962 reference implementation (google/certificate-transparency).
    entries = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ]
    tree = MerkleTree(map(leaf_hash, entries))

    assert tree.root(1).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert tree.root().hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    assert (
        MerkleTree().root().hex()
        == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )


@pytest.mark.parametrize("size", range(len(LEAVES) + 1))
def test_tree_and_frontier_give_the_defined_root(size):
    expected = reference(LEAVES[:size])

    assert MerkleTree(LEAVES).root(size) == expected
    assert Frontier().extend(LEAVES[:size]).root == expected
    assert (size > 0) or expected == EMPTY_ROOT


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 33])
def test_every_leaf_of_a_tree_can_be_proved_and_no_other(size):
    tree = MerkleTree(LEAVES)
    root = tree.root(size)

    for index in range(size):
        proof = tree.inclusion(index, size)
        assert verify_inclusion(LEAVES[index], index, size, proof, root)
        assert not verify_inclusion(LEAVES[index + 1], index, size, proof, root)
        assert not verify_inclusion(LEAVES[index], index, size, (*proof, root), root)
        assert not verify_inclusion(LEAVES[index], index, size, proof[:-1], root) or not proof
        assert not verify_inclusion(LEAVES[index], size, size, proof, root)
    with pytest.raises(ValueError, match="leaf"):
        tree.inclusion(size, size)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70))
def test_an_older_tree_is_proved_the_beginning_of_a_newer(first, second):
    old, new = sorted((first, second))
    tree = MerkleTree(LEAVES)
    before, after = TreeHead(old, tree.root(old)), TreeHead(new, tree.root(new))
    proof = tree.consistency(old, new)

    assert verify_consistency(before, after, proof)
    if old < new:
        cut = MerkleTree([*LEAVES[: old - 1], leaf_hash(b"rewritten"), *LEAVES[old:]])
        assert not verify_consistency(before, TreeHead(new, cut.root(new)), proof)
        assert not verify_consistency(
            before, TreeHead(new, cut.root(new)), cut.consistency(old, new)
        )
        assert not verify_consistency(after, before, proof)


def test_a_root_is_signed_with_its_size_and_instant():
    key = Ed25519PrivateKey.generate()
    head = TreeHead(3, MerkleTree(LEAVES).root(3))
    signature = sign_root(key, head, AT)

    assert verify_root(key.public_key(), head, AT, signature)
    assert not verify_root(key.public_key(), TreeHead(4, head.root), AT, signature)
    assert not verify_root(key.public_key(), head, AT + timedelta(microseconds=1), signature)
    assert not verify_root(Ed25519PrivateKey.generate().public_key(), head, AT, signature)
