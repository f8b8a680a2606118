"""A session's own idea of the folder it has open: message numbers, flags, what it was told.

Invariants: message numbers change only in ``take_expunges``, which only the caller that may send
EXPUNGE calls; UIDs are ascending; rows are shared between sessions and never altered, a changed
message is another row.

Source: RFC 9051 §2.3.1.2, §5.2, §7.5; RFC 7162 §3.1.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from mailserver.store.model import EntryRow, Flag, Folder

_uid = attrgetter("uid")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A folder as of one modseq (or later); shared between sessions, never altered."""

    rows: list[EntryRow]
    uids: list[int]
    keywords: frozenset[str]
    """All that are in use, and some that were."""
    modseq: int

    @classmethod
    def of(cls, rows: list[EntryRow], modseq: int) -> "Snapshot":
        """Take the rows of a folder, in UID order."""
        keywords = frozenset().union(*{row.keywords for row in rows})
        return cls(rows, [row.uid for row in rows], keywords, modseq)

    def merged(self, rows: Iterable[EntryRow], vanished: Iterable[int], modseq: int) -> "Snapshot":
        """Give the snapshot after what changed since ``modseq`` of this one.

        Its rows may be newer than its modseq: an older row takes nothing back.
        """
        kept, uids, keywords = list(self.rows), self.uids, self.keywords
        fresh = []
        for row in rows:
            at = bisect_left(uids, row.uid)
            if at < len(uids) and uids[at] == row.uid:
                if row.modseq >= kept[at].modseq:
                    kept[at] = row
            else:
                fresh.append(row)
            if not row.keywords <= keywords:
                keywords |= row.keywords
        gone = set(vanished)
        if fresh or gone:
            kept.extend(fresh)
            kept.sort(key=_uid)  # what is new is newest: as good as sorted already
            kept = [row for row in kept if row.uid not in gone]
            uids = [row.uid for row in kept]
        return Snapshot(kept, uids, keywords, modseq)


@dataclass(frozen=True, slots=True)
class Told:
    """What a session must be told, in the order it must be told.

    Attributes:
        expunged: message numbers, each as it is when the ones before it are gone.
        vanished: the UIDs of these.
        exists: the new count, None when it did not grow.
        changed: positions whose flags changed.
    """

    expunged: tuple[int, ...]
    vanished: tuple[int, ...]
    exists: int | None
    changed: tuple[int, ...]


class FolderView:
    """One open folder of one session."""

    def __init__(self, folder: Folder, snapshot: Snapshot) -> None:
        self.folder = folder
        self.modseq = snapshot.modseq
        self.rows = snapshot.rows
        self.uids = snapshot.uids
        self.keywords = snapshot.keywords
        self._shared = True
        self._gone: set[int] = set()
        self._seen_max = self.uids[-1] if self.uids else 0

    def _own(self) -> None:
        """Stop sharing the snapshot's lists before the first change."""
        if self._shared:
            self.rows = list(self.rows)
            self.uids = list(self.uids)
            self._shared = False

    def __len__(self) -> int:
        return len(self.rows)

    def position(self, uid: int) -> int | None:
        """Give the position of a UID, or None."""
        at = bisect_left(self.uids, uid)
        return at if at < len(self.uids) and self.uids[at] == uid else None

    @property
    def gone(self) -> frozenset[int]:
        """UIDs that are no more, and that the client was not yet told of."""
        return frozenset(self._gone)

    def first_unseen(self) -> int | None:
        r"""Give the number of the first message without ``\Seen``."""
        for number, row in enumerate(self.rows, 1):
            if not row.flags & Flag.SEEN:
                return number
        return None

    def apply(self, rows: Iterable[EntryRow]) -> list[int]:
        """Take rows that this session just wrote or read; gives the positions that changed.

        Messages it does not know yet are left to ``absorb``.
        """
        changed = []
        for row in rows:
            at = self.position(row.uid)
            if at is not None and row.modseq > self.rows[at].modseq:
                self._own()
                self.rows[at] = row
                self.keywords |= row.keywords
                changed.append(at)
        return changed

    def absorb(self, rows: Sequence[EntryRow], vanished: Iterable[int], modseq: int) -> Told:
        """Take what happened since ``modseq``; expunges are kept for ``take_expunges``."""
        changed = self.apply(rows)
        fresh = sorted((row for row in rows if row.uid > self._seen_max), key=lambda row: row.uid)
        if fresh:
            self._own()
        for row in fresh:
            self.rows.append(row)
            self.uids.append(row.uid)
            self.keywords |= row.keywords
        if fresh:
            self._seen_max = fresh[-1].uid
        for uid in vanished:
            if self.position(uid) is not None:
                self._gone.add(uid)
        self.modseq = max(self.modseq, modseq)
        changed = [at for at in changed if self.uids[at] not in self._gone]
        return Told((), (), len(self.rows) if fresh else None, tuple(changed))

    def note_gone(self, uids: Iterable[int]) -> None:
        """Note messages this session expunged or moved away itself."""
        self._gone.update(uid for uid in uids if self.position(uid) is not None)

    def take_expunges(self) -> Told:
        """Drop what is gone; the caller sends the EXPUNGE responses."""
        if not self._gone:
            return Told((), (), None, ())
        positions = sorted(at for uid in self._gone if (at := self.position(uid)) is not None)
        numbers = tuple(at + 1 - earlier for earlier, at in enumerate(positions))
        vanished = tuple(self.uids[at] for at in positions)
        gone = self._gone
        self.rows = [row for row in self.rows if row.uid not in gone]
        self.uids = [row.uid for row in self.rows]
        self._gone = set()
        self._shared = False
        return Told(numbers, vanished, None, ())

    def between(self, low: int, high: int) -> range:
        """Give the positions of the UIDs from ``low`` to ``high``."""
        return range(bisect_left(self.uids, low), bisect_right(self.uids, high))
