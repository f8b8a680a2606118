"""The Merkle tree of the audit trail, and the signature of its roots.

Pure. A tree over ordered leaves has one root per size; an inclusion proof shows that one leaf is
in it, a consistency proof that an older tree is the beginning of a newer one, so that a trail that
was cut or rewritten cannot be hidden from whoever keeps an old root. Leaves and inner nodes are
hashed under different prefixes, so that one can never stand for the other.

Source: RFC 9162 §2.1, RULES §13.
"""

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

EMPTY_ROOT = hashlib.sha256(b"").digest()
_CONTEXT = b"pli-audit-root-v1\0"


def leaf_hash(entry: bytes) -> bytes:
    """Hash of one leaf: SHA-256(0x00 || entry); the trail's entry is salt || canonical event.

    Source: RFC 9162 §2.1.1, RULES §13.
    """
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of one inner node: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """A tree's right edge: all that is needed to append to it and to know its root.

    Attributes:
        size: how many leaves.
        peaks: roots of the complete subtrees that make the tree, largest first; one for each
            bit set in ``size``.
    """

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> "Frontier":
        """The frontier after one more leaf hash."""
        peaks = list(self.peaks)
        node, size = leaf, self.size
        while size & 1:
            node = node_hash(peaks.pop(), node)
            size >>= 1
        return Frontier(self.size + 1, (*peaks, node))

    def extend(self, leaves: Iterable[bytes]) -> "Frontier":
        """The frontier after several more leaf hashes."""
        frontier = self
        for leaf in leaves:
            frontier = frontier.append(leaf)
        return frontier

    @property
    def root(self) -> bytes:
        """The tree's root.

        Source: RFC 9162 §2.1.1.
        """
        if not self.peaks:
            return EMPTY_ROOT
        node = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            node = node_hash(peak, node)
        return node


class MerkleTree:
    """A tree with all its leaf hashes, for proofs.

    Complete subtrees are kept as they fill, so that a proof costs the logarithm of the size
    squared, and an append a constant on average.
    """

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [[]]
        for leaf in leaves:
            self.append(leaf)

    @property
    def size(self) -> int:
        """How many leaves."""
        return len(self._levels[0])

    def append(self, leaf: bytes) -> int:
        """Add one leaf hash; returns its index."""
        self._levels[0].append(leaf)
        level = 0
        while len(self._levels[level]) % 2 == 0:
            if level + 1 == len(self._levels):
                self._levels.append([])
            left, right = self._levels[level][-2:]
            self._levels[level + 1].append(node_hash(left, right))
            level += 1
        return self.size - 1

    def root(self, size: int | None = None) -> bytes:
        """Root of the first ``size`` leaves, or of all.

        Raises:
            ValueError: the tree has fewer leaves.
        """
        size = self.size if size is None else size
        self._check(size)
        return self._range(0, size) if size else EMPTY_ROOT

    def inclusion(self, index: int, size: int | None = None) -> tuple[bytes, ...]:
        """Proof that leaf ``index`` is in the tree of the first ``size`` leaves.

        Raises:
            ValueError: there is no such leaf in that tree.

        Source: RFC 9162 §2.1.3.1.
        """
        size = self.size if size is None else size
        self._check(size)
        if not 0 <= index < size:
            raise ValueError("no such leaf in the tree")
        proof: list[bytes] = []
        start, end = 0, size
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                proof.append(self._range(middle, end))
                end = middle
            else:
                proof.append(self._range(start, middle))
                start = middle
        return tuple(reversed(proof))

    def consistency(self, old: int, new: int | None = None) -> tuple[bytes, ...]:
        """Proof that the tree of ``old`` leaves is the beginning of the tree of ``new``.

        Raises:
            ValueError: not 0 < old <= new <= size.

        Source: RFC 9162 §2.1.4.1.
        """
        new = self.size if new is None else new
        self._check(new)
        if not 0 < old <= new:
            raise ValueError("the older tree must be a beginning of the newer")
        proof: list[bytes] = []
        start, end, whole = 0, new, True
        while old != end:
            middle = start + _split(end - start)
            if old <= middle:
                proof.append(self._range(middle, end))
                end = middle
            else:
                proof.append(self._range(start, middle))
                start, whole = middle, False
        if not whole:
            proof.append(self._range(start, end))
        return tuple(reversed(proof))

    def _check(self, size: int) -> None:
        if not 0 <= size <= self.size:
            raise ValueError("the tree has fewer leaves")

    def _range(self, start: int, end: int) -> bytes:
        """Hash of the subtree over leaves [start, end); start is a multiple of its width."""
        count = end - start
        if count & (count - 1) == 0:
            level = count.bit_length() - 1
            return self._levels[level][start >> level]
        middle = start + _split(count)
        return node_hash(self._range(start, middle), self._range(middle, end))


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> bool:
    """Whether a proof shows that a leaf hash stands at ``index`` in the tree of that root.

    Source: RFC 9162 §2.1.3.2.
    """
    if not 0 <= index < size:
        return False
    fn, sn, node = index, size - 1, leaf
    for step in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            node = node_hash(step, node)
            while not fn & 1 and fn:
                fn >>= 1
                sn >>= 1
        else:
            node = node_hash(node, step)
        fn >>= 1
        sn >>= 1
    return sn == 0 and node == root


@dataclass(frozen=True, slots=True)
class TreeHead:
    """A tree's size and root."""

    size: int
    root: bytes


def verify_consistency(old: TreeHead, new: TreeHead, proof: Sequence[bytes]) -> bool:
    """Whether a proof shows that one tree is the beginning of another.

    Source: RFC 9162 §2.1.4.2.
    """
    if not 0 < old.size <= new.size:
        return False
    if old.size == new.size:
        return not proof and old.root == new.root
    steps = list(proof)
    if old.size & (old.size - 1) == 0:
        steps.insert(0, old.root)
    if not steps:
        return False
    fn, sn = old.size - 1, new.size - 1
    while fn & 1:
        fn >>= 1
        sn >>= 1
    first = second = steps[0]
    for step in steps[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            first = node_hash(step, first)
            second = node_hash(step, second)
            while not fn & 1 and fn:
                fn >>= 1
                sn >>= 1
        else:
            second = node_hash(second, step)
        fn >>= 1
        sn >>= 1
    return sn == 0 and first == old.root and second == new.root


def sign_root(key: Ed25519PrivateKey, head: TreeHead, at: datetime) -> bytes:
    """Sign a tree head with its instant; 64 octets.

    Source: RFC 8032 §5.1.6, RULES §13.
    """
    return key.sign(_signed_octets(head, at))


def verify_root(key: Ed25519PublicKey, head: TreeHead, at: datetime, signature: bytes) -> bool:
    """Whether a signature is this key's over this head and instant."""
    try:
        key.verify(signature, _signed_octets(head, at))
    except InvalidSignature:
        return False
    return True


def _signed_octets(head: TreeHead, at: datetime) -> bytes:
    microseconds = round(at.timestamp() * 1_000_000)
    return _CONTEXT + struct.pack("!Qq", head.size, microseconds) + head.root


def _split(count: int) -> int:
    """The largest power of two smaller than ``count``."""
    return 1 << ((count - 1).bit_length() - 1)
