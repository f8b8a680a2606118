"""A model of an IMAP server's promises, against which clients check what they are told.

``World`` knows what was acknowledged and when; what one client is told is judged by
``imap_view.View``. All clients of a run share one logical clock, so that "acknowledged before it
was asked" means just that. What overlaps is judged generously, what does not overlap strictly: every fault is one.

Pure: no sockets, no time. Source: RFC 9051 §2.3.1, §5.2, §7.5; RFC 7162 §3; RFC 4315; RFC 6851.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

DELETED = "\\Deleted"
ANSWERED = "\\Answered"
EITHER = frozenset({False, True})


class Fault(Enum):
    """What a server can do wrong."""

    UID_REUSED = "a UID was given twice, or below one that was given before"
    LOST_FLAG = "a flag that was acknowledged is not shown, or one that nobody set is"
    EARLY_EXPUNGE = "EXPUNGE where message numbers may not change"
    WRONG_NUMBER = "a message number or UID names another message than it did"
    WRONG_CONTENT = "a message has the content of another"
    WRONG_MODSEQ = "a modseq went back, or stands for two states"
    WRONG_SEARCH = "a search left a message out, or found one that does not match"
    LOST_MESSAGE = "a message is not there, and nobody removed it"
    RISEN = "a message that was gone is shown again"
    LATE_EXPUNGE = "a removal that was acknowledged was not told where it had to be"
    LOST_CHANGE = "a resynchronisation left a change out"
    REFUSED = "a command was refused that must succeed"
    STUCK = "no answer in time"


@dataclass(frozen=True, slots=True)
class Violation:
    """One fault, and where it was seen."""

    fault: Fault
    where: str
    what: str


@dataclass(slots=True, eq=False)
class Write:
    """A change of one flag of one message; ``end`` is None while nobody answered."""

    value: bool
    start: int
    end: int | None = None


@dataclass(slots=True)
class Register:
    """One flag of one message, which is only ever set by one client, or only ever added."""

    initial: frozenset[bool]
    writes: list[Write] = field(default_factory=list)

    def possible(self, since: int, until: int) -> frozenset[bool]:
        """Give the values that may be shown by an answer given between two moments."""
        settled = self.initial
        open_: set[bool] = set()
        for write in self.writes:
            if write.end is not None and write.end < since:
                settled = frozenset({write.value})
            elif write.start <= until:
                open_.add(write.value)
        return settled | open_


@dataclass(slots=True)
class Entry:
    """One message in one folder.

    Attributes:
        known: the flags it began with; None while its making was not acknowledged.
        created: when its making was acknowledged.
        deletable, movable: since when somebody may have removed it.
        removed: when its removal was known.
    """

    uid: int
    token: int | None = None
    known: frozenset[str] | None = None
    created: int | None = None
    deletable: int | None = None
    movable: int | None = None
    removed: int | None = None
    registers: dict[str, Register] = field(default_factory=dict)
    states: dict[int, frozenset[str]] = field(default_factory=dict)

    @property
    def must_be_there(self) -> bool:
        """Its making was acknowledged, and nobody ever asked for its removal."""
        return self.known is not None and self.deletable is None and self.movable is None

    def register(self, flag: str) -> Register:
        """Give the register of a flag."""
        if flag not in self.registers:
            initial = EITHER if self.known is None else frozenset({flag in self.known})
            self.registers[flag] = Register(initial)
        return self.registers[flag]


@dataclass(slots=True)
class FolderTruth:
    """What is known of a folder under one UIDVALIDITY; the lists are in the order of the clock."""

    name: str
    uidvalidity: int
    entries: dict[int, Entry] = field(default_factory=dict)
    highest: int = 0
    modseq: int = 0
    live: set[int] = field(default_factory=set)
    made: list[tuple[int, int]] = field(default_factory=list)
    gone: list[tuple[int, int]] = field(default_factory=list)
    written: list[tuple[int, int, str]] = field(default_factory=list)

    def entry(self, uid: int) -> Entry:
        """Give a message, met now for the first time perhaps."""
        if uid not in self.entries:
            self.entries[uid] = Entry(uid)
        return self.entries[uid]


@dataclass(frozen=True, slots=True)
class Asked:
    """What stood when a command was sent that makes messages in a folder."""

    folder: FolderTruth
    start: int
    highest: int


class World:
    """Everything that was acknowledged to anybody."""

    def __init__(self) -> None:
        self.clock = 0
        self.violations: list[Violation] = []
        self.folders: dict[str, FolderTruth] = {}

    def tick(self) -> int:
        """Give the next moment."""
        self.clock += 1
        return self.clock

    def blame(self, fault: Fault, where: str, what: str) -> None:
        """Note a fault."""
        self.violations.append(Violation(fault, where, what))

    def folder(self, name: str, uidvalidity: int, where: str) -> FolderTruth:
        """Give a folder that was just opened."""
        known = self.folders.get(name)
        if known is None:
            known = self.folders[name] = FolderTruth(name, uidvalidity)
        if known.uidvalidity != uidvalidity:
            self.blame(Fault.UID_REUSED, where, f"UIDVALIDITY of {name} changed")
        return known

    def ask(self, name: str) -> Asked:
        """Note that messages are about to be made in a folder."""
        folder = self.folders[name]
        return Asked(folder, self.tick(), folder.highest)

    def made(self, asked: Asked, uid: int, token: int | None, where: str) -> Entry:
        """Take the acknowledgement of a new message."""
        folder, now = asked.folder, self.tick()
        entry = folder.entry(uid)
        if entry.created is not None or uid <= asked.highest:
            self.blame(Fault.UID_REUSED, where, f"{folder.name} UID {uid}")
        if None not in {token, entry.token} and token != entry.token:
            self.blame(Fault.WRONG_CONTENT, where, f"{folder.name} UID {uid}")
        entry.token = token if entry.token is None else entry.token
        entry.created = now
        folder.highest = max(folder.highest, uid)
        if entry.removed is None:
            folder.live.add(uid)
        folder.made.append((now, uid))
        return entry

    def appended(self, asked: Asked, uid: int, token: int, flags: frozenset[str]) -> None:
        """Take the acknowledgement of an APPEND."""
        entry = self.made(asked, uid, token, "APPEND")
        entry.known = flags
        for flag, register in entry.registers.items():
            register.initial = frozenset({flag in flags})

    def copied(self, asked: Asked, source: FolderTruth, pairs: Iterable[tuple[int, int]]) -> None:
        """Take the acknowledgement of a COPY or MOVE: pairs of UIDs there and here."""
        for old, new in pairs:
            origin = source.entry(old)
            entry = self.made(asked, new, origin.token, "COPY")
            entry.known = origin.known
            if origin.deletable is not None and entry.deletable is None:
                entry.deletable = asked.start
            for flag in {*origin.registers, *entry.registers}:
                possible = origin.register(flag).possible(asked.start, self.clock)
                entry.register(flag).initial = possible

    def removed(self, folder: FolderTruth, uid: int) -> None:
        """Note that a message is known to be gone."""
        entry = folder.entry(uid)
        if entry.removed is None:
            entry.removed = self.tick()
            folder.gone.append((entry.removed, uid))
            folder.live.discard(uid)

    def write(
        self, folder: FolderTruth, uids: Iterable[int], flag: str, *, value: bool
    ) -> "Writes":
        """Note that a STORE is about to be sent."""
        start = self.tick()
        writes = {}
        for uid in uids:
            entry = folder.entry(uid)
            writes[uid] = Write(value, start)
            entry.register(flag).writes.append(writes[uid])
            if flag == DELETED and entry.deletable is None:
                entry.deletable = start
        return Writes(self, folder, flag, writes)


@dataclass(frozen=True, slots=True)
class Writes:
    """A STORE under way."""

    world: World
    folder: FolderTruth
    flag: str
    by_uid: dict[int, Write]

    def done(self, refused: frozenset[int] = frozenset()) -> None:
        """Take the acknowledgement; ``refused`` were named by MODIFIED."""
        end = self.world.tick()
        for uid, write in self.by_uid.items():
            if uid in refused:
                self.folder.entry(uid).register(self.flag).writes.remove(write)
            else:
                write.end = end
                self.folder.written.append((end, uid, self.flag))


def token_of(raw: bytes) -> int:
    """Give the number that a message of a run bears; -1 when it has none."""
    digits = raw.partition(b"Subject: token")[2].partition(b"\r\n")[0]
    return int(digits) if digits.isdigit() else -1


def content(token: int) -> bytes:
    """Give the one message that bears a number."""
    return (
        b"From: <s%d@b.test>\r\nTo: <c@d.test>\r\nSubject: token%d\r\nMessage-ID: <%d@b.test>\r\n"
        b"Date: Mon, 2 Mar 2026 10:00:00 +0100\r\n\r\n" % (token % 7, token, token)
    ) + b"word%d of the text\r\n" % token * (1 + token * 7919 % 60)
