"""Show one event of the trail to whoever it concerns, with the proof that it is in there; pure.

An event is proved against the first signed root that covers it: its path is made of the peaks of
the root before and the few leaves sealed with it, so a proof costs the same in a trail of any
length. Invariant: a proof of one event tells nothing of another but hashes, which the salt keeps
from being guessed.

Source: RFC 9162 §2.1.3, RULES §13.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from certs.merkle import node_hash
from directory.trail import SignedRoot


@dataclass(frozen=True, slots=True)
class SealedBatch:
    """What one signed root covers beyond the root before it.

    Attributes:
        root: the signed root; ``root.size`` leaves.
        before: leaves that the earlier root covers.
        peaks: of the tree of ``before`` leaves, largest first.
        leaves: the leaf hashes from ``before`` to ``root.size``.
    """

    root: SignedRoot
    before: int
    peaks: Sequence[bytes]
    leaves: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class ProvedEvent:
    """An event and its proof.

    Attributes:
        sequence: its place in the trail.
        leaf: its hash.
        payload: (salt, the six fields that are hashed), or None where the reader may know only
            that something was noted.
        path: the sibling hashes from the leaf up.
        root: what the path leads to.
    """

    sequence: int
    leaf: bytes
    payload: tuple[bytes, tuple[Any, ...]] | None
    path: tuple[bytes, ...]
    root: SignedRoot

    def as_json(self, number: int) -> dict[str, Any]:
        """Give what is exported; ``number`` counts the reader's own events."""
        told: dict[str, Any] = {"number": number, "sequence": self.sequence}
        if self.payload is None:
            told["leaf"] = self.leaf.hex()
        else:
            salt, fields = self.payload
            told |= {"salt": salt.hex(), "event": list(fields)}
        return told | {
            "path": [step.hex() for step in self.path],
            "root": json.loads(self.root.encode()),
        }


def path(batch: SealedBatch, sequence: int) -> tuple[bytes, ...]:
    """Give the sibling hashes of one leaf of the batch, from the leaf up.

    Raises:
        ValueError: the batch does not hold that leaf, or is not whole.

    Source: RFC 9162 §2.1.3.1.
    """
    tree = _Tree(batch)
    if not batch.before <= sequence < batch.root.size:
        raise ValueError("the leaf is not in the batch")
    found: list[bytes] = []
    start, end = 0, batch.root.size
    while end - start > 1:
        middle = start + _split(end - start)
        if sequence < middle:
            found.append(tree.node(middle, end))
            end = middle
        else:
            found.append(tree.node(start, middle))
            start = middle
    return tuple(reversed(found))


class _Tree:
    """Hashes of the subtrees that a path out of the batch can need."""

    def __init__(self, batch: SealedBatch) -> None:
        self._batch = batch
        widths = [1 << bit for bit in reversed(range(batch.before.bit_length()))]
        widths = [width for width in widths if batch.before & width]
        if len(widths) != len(batch.peaks) or len(batch.leaves) != batch.root.size - batch.before:
            raise ValueError("the batch is not whole")
        self._peaks: dict[tuple[int, int], bytes] = {}
        start = 0
        for width, peak in zip(widths, batch.peaks, strict=True):
            self._peaks[start, start + width] = peak
            start += width

    def node(self, start: int, end: int) -> bytes:
        """Hash the subtree over the leaves [start, end)."""
        if (start, end) in self._peaks:
            return self._peaks[start, end]
        if end - start == 1:
            return self._batch.leaves[start - self._batch.before]
        middle = start + _split(end - start)
        return node_hash(self.node(start, middle), self.node(middle, end))


def _split(count: int) -> int:
    """The largest power of two smaller than ``count``, at least 2."""
    return 1 << (count - 1).bit_length() - 1
