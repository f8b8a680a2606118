"""One client's idea of one folder, and the judgement of everything it is told about it.

Pure. Source: RFC 9051 §2.3.1.2, §7.5; RFC 7162 §3.1, §3.2.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.support.imap_model import EITHER, Entry, Fault, FolderTruth, World, content, token_of
from tests.support.imap_replies import Fetched


@dataclass(slots=True, eq=False)
class Row:
    """One message of a view; ``None`` is what the client was not told yet."""

    uid: int | None = None
    flags: frozenset[str] | None = None
    modseq: int = 0


class View:
    """One client's idea of the folder it has open.

    Attributes:
        modseq: up to where this client knows everything, expunges too (RFC 7162 §3.2.5).
    """

    def __init__(self, world: World, folder: FolderTruth, who: str, start: int) -> None:
        self.world = world
        self.folder = folder
        self.who = who
        self.rows: list[Row] = []
        self.by_uid: dict[int, Row] = {}
        self.tombs: set[int] = set()
        self.modseq = 0
        self.start = start
        self.since = start
        self._purged = start
        self._seen_modseq = 0
        self._may_expunge = False
        self._cursors = [
            bisect_left(folder.made, (start,)),
            bisect_left(folder.gone, (start,)),
            bisect_left(folder.written, (start,)),
        ]

    def blame(self, fault: Fault, what: str) -> None:
        """Note a fault that this client saw."""
        self.world.blame(fault, self.who, f"{self.folder.name}: {what}")

    # What a client is told ------------------------------------------------------------------

    def exists(self, count: int) -> None:
        """Take EXISTS."""
        if count < len(self.rows):
            self.blame(Fault.WRONG_NUMBER, f"EXISTS fell from {len(self.rows)} to {count}")
        self.rows += [Row() for _ in range(count - len(self.rows))]

    def expunge(self, number: int) -> None:
        """Take EXPUNGE."""
        if not self._may_expunge:
            self.blame(Fault.EARLY_EXPUNGE, f"number {number}")
        if not 1 <= number <= len(self.rows):
            self.blame(Fault.WRONG_NUMBER, f"EXPUNGE {number} of {len(self.rows)}")
            return
        row = self.rows.pop(number - 1)
        if row.uid is not None:
            self._gone(row.uid)

    def vanished(self, uids: Iterable[int]) -> None:
        """Take VANISHED."""
        if not self._may_expunge:
            self.blame(Fault.EARLY_EXPUNGE, "VANISHED")
        for uid in uids:
            row = self.by_uid.get(uid) or self._unknown(uid)
            if row is None:
                self.blame(Fault.WRONG_NUMBER, f"VANISHED {uid} is not in the view")
                continue
            self.rows.remove(row)
            self._gone(uid)

    def _unknown(self, uid: int) -> Row | None:
        """Give a message that was announced, and that may bear this UID."""
        candidate: Row | None = None
        for row in self.rows:
            if row.uid is None:
                candidate = candidate or row
            elif row.uid > uid:
                break
            else:
                candidate = None
        return candidate

    def _gone(self, uid: int) -> None:
        self.by_uid.pop(uid, None)
        self.tombs.add(uid)
        if self.folder.entry(uid).must_be_there:
            self.blame(Fault.LOST_MESSAGE, f"UID {uid} was expunged, and nobody asked for it")
        self.world.removed(self.folder, uid)

    def fetched(self, told: Fetched) -> None:
        """Take a FETCH response."""
        if not 1 <= told.number <= len(self.rows):
            self.blame(Fault.WRONG_NUMBER, f"FETCH {told.number} of {len(self.rows)}")
            return
        row = self.rows[told.number - 1]
        if told.uid is not None and row.uid != told.uid and not self._named(row, told):
            return
        if row.uid is None:
            return
        entry = self.folder.entry(row.uid)
        if told.body is not None:
            self._content(entry, told.body)
        if told.modseq is not None:
            if told.modseq < row.modseq:
                self.blame(Fault.WRONG_MODSEQ, f"UID {row.uid}: {told.modseq} after {row.modseq}")
            row.modseq = told.modseq
            self._seen_modseq = max(self._seen_modseq, told.modseq)
        if told.flags is not None:
            row.flags = told.flags
            state = entry.states.setdefault(told.modseq or 0, told.flags)
            if told.modseq is not None and state != told.flags:
                self.blame(Fault.WRONG_MODSEQ, f"UID {row.uid}: two states of {told.modseq}")
            for flag in entry.registers:
                self._judge(entry, flag, row, self.since)

    def _named(self, row: Row, told: Fetched) -> bool:
        """Learn a message's UID; False when it cannot be this one."""
        uid, at = told.uid, told.number - 1
        assert uid is not None
        before = next((r.uid for r in reversed(self.rows[:at]) if r.uid is not None), 0)
        after = next((r.uid for r in self.rows[at + 1 :] if r.uid is not None), uid + 1)
        if row.uid is not None or not before < uid < after or uid in self.by_uid:
            self.blame(Fault.WRONG_NUMBER, f"number {told.number} is UID {uid}, was {row.uid}")
            return False
        entry = self.folder.entry(uid)
        if uid in self.tombs or (entry.removed is not None and entry.removed < self._purged):
            self.blame(Fault.RISEN, f"UID {uid}")
        row.uid = uid
        self.by_uid[uid] = row
        return True

    def _content(self, entry: Entry, body: bytes) -> None:
        token = token_of(body)
        if body != content(token):
            self.blame(Fault.WRONG_CONTENT, f"UID {entry.uid}: not what was stored")
        elif entry.token is None:
            entry.token = token
        elif entry.token != token:
            self.blame(Fault.WRONG_CONTENT, f"UID {entry.uid}: of another message")

    def _judge(self, entry: Entry, flag: str, row: Row, since: int) -> None:
        if row.flags is None or not entry.must_be_there:
            # What is being removed may show what it had when it left.
            return
        value = flag in row.flags
        if value not in entry.register(flag).possible(since, self.world.clock):
            word = "shown" if value else "missing"
            self.blame(Fault.LOST_FLAG, f"UID {entry.uid} {flag} is {word}")

    def highest_modseq(self, modseq: int) -> None:
        """Take HIGHESTMODSEQ."""
        self._seen_modseq = max(self._seen_modseq, modseq)

    # The life of a command ------------------------------------------------------------------

    def begin(self, *, may_expunge: bool) -> None:
        """A command is about to be sent."""
        self.start = self.world.tick()
        self._may_expunge = may_expunge

    def finish(self) -> None:
        """A command was answered: what was acknowledged before it was sent must be known now."""
        self._check_made()
        self._check_written()
        if self._may_expunge:
            self._check_gone()
            self._purged = self.start
            self.modseq = max(self.modseq, self._seen_modseq)
        self.since = self.start
        self._may_expunge = False

    @property
    def unknown(self) -> bool:
        """Messages were announced of which nothing is known yet."""
        return any(row.uid is None for row in self.rows)

    def _check_made(self) -> None:
        made = self.folder.made
        while self._cursors[0] < len(made) and made[self._cursors[0]][0] < self.start:
            uid = made[self._cursors[0]][1]
            there = uid in self.by_uid or uid in self.tombs
            if not there and self.folder.entry(uid).must_be_there:
                if self.unknown:
                    return
                self.blame(Fault.LOST_MESSAGE, f"UID {uid} was not announced")
            self._cursors[0] += 1

    def _check_gone(self) -> None:
        gone = self.folder.gone
        while self._cursors[1] < len(gone) and gone[self._cursors[1]][0] < self.start:
            uid = gone[self._cursors[1]][1]
            if uid in self.by_uid:
                self.blame(Fault.LATE_EXPUNGE, f"UID {uid}")
            self._cursors[1] += 1

    def _check_written(self) -> None:
        written = self.folder.written
        while self._cursors[2] < len(written) and written[self._cursors[2]][0] < self.start:
            _, uid, flag = written[self._cursors[2]]
            row = self.by_uid.get(uid)
            if row is not None:
                self._judge(self.folder.entry(uid), flag, row, self.start)
            self._cursors[2] += 1

    def check_complete(self, opened: int) -> None:
        """After everything was fetched: every message acknowledged before the SELECT is there."""
        for uid in self.folder.live - self.by_uid.keys() - self.tombs:
            entry = self.folder.entry(uid)
            if entry.must_be_there and entry.created is not None and entry.created < opened:
                self.blame(Fault.LOST_MESSAGE, f"UID {uid} is not there")

    # Searches -------------------------------------------------------------------------------

    def check_search(
        self, matches: "Mapping[int, frozenset[bool]]", found: Sequence[int], keys: str
    ) -> None:
        """Judge a search over the messages that were known when it was sent.

        Args:
            matches: by UID, whether it may match and whether it may not.
            found: UIDs.
            keys: what was searched for.
        """
        for uid in found:
            if True not in matches.get(uid, EITHER):
                self.blame(Fault.WRONG_SEARCH, f"UID {uid} was found by {keys}")
        for uid in matches.keys() - set(found):
            if False not in matches[uid] and self.folder.entry(uid).must_be_there:
                self.blame(Fault.WRONG_SEARCH, f"UID {uid} was not found by {keys}")

    # Resynchronisation ----------------------------------------------------------------------

    def resumed(self, old: "View", vanished: Iterable[int], told: Sequence[Fetched]) -> None:
        """Take over an earlier view after ``SELECT (QRESYNC ...)``; EXISTS was taken already."""
        left = set(vanished)
        rows = {uid: row for uid, row in old.by_uid.items() if uid not in left}
        self.tombs = old.tombs | (old.by_uid.keys() & left)
        for each in told:
            if each.uid is not None:
                rows.setdefault(each.uid, Row(each.uid))
        if len(rows) != len(self.rows):
            what = f"{len(rows)} messages are known, {len(self.rows)} exist"
            self.blame(Fault.LOST_CHANGE, what)
            return
        self.rows = [rows[uid] for uid in sorted(rows)]
        self.by_uid = rows
        for uid in old.by_uid.keys() & left:
            if self.folder.entry(uid).must_be_there:
                self.blame(Fault.LOST_MESSAGE, f"UID {uid} vanished, and nobody asked for it")
            self.world.removed(self.folder, uid)
        for each in told:
            self.fetched(each)

    def believed(self) -> dict[int, Row]:
        """Give a copy of what this client knows, by UID."""
        return {uid: Row(uid, row.flags, row.modseq) for uid, row in self.by_uid.items()}

    def check_resumed(self, believed: Mapping[int, Row], highest: int) -> None:
        """Compare what a resumed client believed with what it was told when it asked for all.

        Args:
            highest: what SELECT said; later changes are left out.
        """
        for uid, old in believed.items():
            row = self.by_uid.get(uid)
            if row is not None and old.modseq < row.modseq <= highest and old.flags != row.flags:
                self.blame(Fault.LOST_CHANGE, f"UID {uid}")
