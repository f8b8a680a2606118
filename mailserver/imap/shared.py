"""What the sessions of one server share: services, limits, and the cache of message indexes.

Invariants: the cache is keyed by blob and holds only what a blob can never change; a blob's id is
reached only through an entry of a folder that the session opened (threat I6); it is bounded in
octets.
"""

import asyncio
import sqlite3
import ssl
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from weakref import WeakValueDictionary

import structlog

from certs.mime import Outline, decode_outline
from directory.trail import AuditEvent
from mailserver.authentication import Authentication
from mailserver.fairness import Fairness, unlimited
from mailserver.imap.previews import PreviewCache
from mailserver.imap.view import Snapshot
from mailserver.message.index import MessageIndex
from mailserver.sasl.tokens import TokenIssuer
from mailserver.store.changes import Subscription
from mailserver.store.database import MailStore
from mailserver.store.model import Changes, EntryRow, Folder

log = structlog.get_logger("mailserver")

AUDIT_AGAIN_S = 5.0
"""How long logins wait for the trail when the database could not write them."""
APPEND_LIMIT = 35 * 1024 * 1024
"""Octets of one appended message: 25 MB of attachments in base64."""
CACHE_OCTETS = 256 * 1024 * 1024
"""Of message indexes: a folder of 100,000 letters takes 200 MB, and is answered from memory."""
HISTORY = 64
"""Readings of changes that are remembered for sessions that have not taken them yet."""
CACHE_ROWS = 500_000
"""Rows of folders kept in memory, about 300 octets each."""
INDEX_BATCH = 500
"""Blob ids of one read of indexes."""
SEARCHES_AT_ONCE = 2
"""Steps of searches that run together; the others wait their turn, step by step (threat I8)."""


@dataclass(slots=True)
class Progress:
    """How far a command has come; ``goal`` is None while that is not known."""

    done: int = 0
    goal: int | None = None

    def encode(self, tag: bytes) -> bytes:
        """Write it as INPROGRESS has it. Source: RFC 9585 §4."""
        if not self.goal:
            return b'"%b" NIL NIL' % tag
        return b'"%b" %d %d' % (tag, min(self.done, self.goal - 1), self.goal)


@dataclass(frozen=True, slots=True)
class ImapLimits:
    """Named limits, each bracketed by a test (threats S9, S10, I1)."""

    append_octets: int = APPEND_LIMIT
    connections: int = 4000
    connections_per_address: int = 2500
    login_deadline_s: float = 60.0
    """From the connection to the login."""
    idle_deadline_s: float = 1800.0
    """RFC 9051 §5.4: at least 30 minutes once logged in."""
    bad_commands: int = 20
    """Commands that cannot be read, in a row; three before login (threat S7)."""
    bad_before_login: int = 3
    login_attempts: int = 5
    login_delay_s: float = 0.5
    """After the first failed attempt; doubled by each one more."""
    search_deadline_s: float = 20.0
    search_slice: int = 64
    progress_interval_s: float = 10.0
    """RFC 9585 §3: no more often than every 10 to 15 seconds."""
    stop_grace_s: float = 5.0
    quota_octets: int = 20 * 1024**3
    """What a mailbox may hold before APPEND and COPY are refused; deliveries never are."""
    quota_messages: int = 1_000_000


@dataclass(frozen=True, slots=True)
class ImapBind:
    """Where one listener listens, and how.

    Attributes:
        implicit_tls: TLS from the first octet; else STARTTLS is offered.
        plaintext_login_from: addresses that may log in without TLS (conformance tools).
    """

    host: str
    port: int
    tls: ssl.SSLContext
    implicit_tls: bool
    plaintext_login_from: frozenset[str] = frozenset()
    limits: ImapLimits = field(default_factory=ImapLimits)


class IndexCache:
    """Message indexes by blob, those that came first dropped first."""

    def __init__(self, store: MailStore, most: int = CACHE_OCTETS) -> None:
        self._store = store
        self._most = most
        self._octets = 0
        self._known: OrderedDict[int, MessageIndex] = OrderedDict()

    async def get(self, blob_ids: Sequence[int]) -> dict[int, MessageIndex]:
        """Give the indexes of these blobs; those that are gone are missing."""
        known = self._known
        found: dict[int, MessageIndex] = {}
        missing: list[int] = []
        for blob_id in blob_ids:
            index = known.get(blob_id)
            if index is None:
                missing.append(blob_id)
            else:
                found[blob_id] = index
        for at in range(0, len(missing), INDEX_BATCH):
            fresh = await self._store.messages.indexes(missing[at : at + INDEX_BATCH])
            for blob_id, index in fresh.items():
                found[blob_id] = index
                self._put(blob_id, index)
        return found

    def _put(self, blob_id: int, index: MessageIndex) -> None:
        if blob_id not in self._known:
            self._octets += _weight(index)
        self._known[blob_id] = index
        while self._octets > self._most and self._known:
            _, dropped = self._known.popitem(last=False)
            self._octets -= _weight(dropped)


class _OpenFolder:
    """One folder in memory: a snapshot, and what happened since it was taken."""

    def __init__(self, snapshot: Snapshot, subscription: Subscription) -> None:
        self.snapshot = snapshot
        self.modseq = snapshot.modseq
        self.subscription = subscription
        self.history: deque[tuple[int, Changes]] = deque()

    def note(self, changes: Changes) -> None:
        """Keep what one reading found."""
        if changes.highestmodseq <= self.modseq:
            return
        self.history.append((self.modseq, changes))
        self.modseq = changes.highestmodseq
        if len(self.history) > HISTORY:
            if self.snapshot.modseq < self.history[0][1].highestmodseq:
                self.current()  # takes all of it, so that the next ones can go without
            self.history.popleft()

    def current(self) -> Snapshot:
        """Give the snapshot brought up to date."""
        if self.snapshot.modseq < self.modseq:
            told = self.since(self.snapshot.modseq)
            if told is not None:
                vanished = set(told.vanished)
                rows = [row for row in told.rows if row.uid not in vanished]
                self.snapshot = self.snapshot.merged(rows, vanished, self.modseq)
        return self.snapshot

    def since(self, modseq: int) -> Changes | None:
        """Give what happened since a modseq, None when that is not remembered."""
        if modseq >= self.modseq:
            return Changes([], [], self.modseq)
        if not self.history or modseq < self.history[0][0]:
            return None
        later = [changes for _, changes in self.history if changes.highestmodseq > modseq]
        if len(later) == 1:
            return later[0]
        # A message that changed several times is told once, as it is last.
        rows: dict[int, EntryRow] = {}
        for row in (row for changes in later for row in changes.rows):
            if row.uid not in rows or row.modseq >= rows[row.uid].modseq:
                rows[row.uid] = row
        vanished = [uid for changes in later for uid in changes.vanished]
        return Changes(list(rows.values()), vanished, self.modseq)


class FolderCache:
    """The folders opened lately, brought up to date by what changed since.

    However many sessions have a folder open, each change of it is read once. A folder is reached
    only by one that the login's own mailbox gave (threat I6).
    """

    def __init__(self, store: MailStore, most: int = CACHE_ROWS) -> None:
        self._store = store
        self._most = most
        self._known: OrderedDict[int, _OpenFolder] = OrderedDict()
        self._locks: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()

    async def snapshot(self, folder: Folder) -> Snapshot:
        """Give a folder's messages, as of ``folder.highestmodseq`` at least.

        Raises:
            NoSuchFolderError: it was deleted.
        """
        async with self._locks.setdefault(folder.id, asyncio.Lock()):
            known = self._known.get(folder.id)
            if known is None:
                subscription = self._store.changes.subscribe(folder.mailbox_id)
                # The rows are read after the modseq: what is newer will be told again.
                rows = await self._store.messages.entries(folder.id)
                known = _OpenFolder(Snapshot.of(rows, folder.highestmodseq), subscription)
                self._known[folder.id] = known
            elif known.modseq < folder.highestmodseq or known.subscription.pending:
                await self._read(folder.id, known)
            self._known.move_to_end(folder.id)
            self._shrink()
            return known.current()

    async def changed_since(self, folder_id: int, modseq: int) -> Changes:
        """Give what happened in an open folder since a modseq.

        Raises:
            NoSuchFolderError: it was deleted.
        """
        known = self._known.get(folder_id)
        if known is not None:
            lock = self._locks.setdefault(folder_id, asyncio.Lock())
            # A reading under way may be the one of the change that woke this session.
            if known.subscription.pending or lock.locked():
                async with lock:
                    if known.subscription.pending:
                        await self._read(folder_id, known)
            told = known.since(modseq)
            if told is not None:
                return told
        return await self._store.messages.changed_since(folder_id, modseq)

    def mark(self, folder_id: int) -> int | None:
        """Take a mark for ``took`` before a write; None when the copy is not up to date."""
        known = self._known.get(folder_id)
        return None if known is None or known.subscription.pending else known.subscription.wakes

    def took(self, folder_id: int, mark: int | None, rows: Sequence[EntryRow]) -> None:
        """Take in what a change of flags gave back, which saves the reading that it calls for.

        Only when that change was the next one of the folder and nothing else was published since
        ``mark``; else the reading happens.
        """
        known = self._known.get(folder_id)
        if known is None or mark is None or known.subscription.wakes != mark + 1:
            return
        changed = [row for row in rows if row.modseq > known.modseq]
        if changed and all(row.modseq == known.modseq + 1 for row in changed):
            known.note(Changes(changed, [], known.modseq + 1))
            known.subscription.clear()

    async def _read(self, folder_id: int, known: _OpenFolder) -> None:
        known.subscription.clear()
        try:
            known.note(await self._store.messages.changed_since(folder_id, known.modseq))
        except BaseException:
            # Deleted, or not read: the next session starts from the database.
            known.subscription.close()
            self._known.pop(folder_id, None)
            raise

    def _shrink(self) -> None:
        rows = sum(len(known.snapshot.rows) for known in self._known.values())
        while len(self._known) > 1 and rows > self._most:
            _, dropped = self._known.popitem(last=False)
            dropped.subscription.close()
            rows -= len(dropped.snapshot.rows)


def _weight(index: MessageIndex) -> int:
    """Give what an index takes: 900 for its objects and its place in the cache, and its octets."""
    return (
        900
        + len(index.outline)
        + len(index.envelope)
        + len(index.body)
        + len(index.bodystructure)
        + 2 * (len(index.subject) + len(index.from_) + len(index.to))
    )


@dataclass(frozen=True, slots=True)
class ImapServices:
    """What the IMAP server works with; the listeners of one process share one of these.

    Attributes:
        clock: gives the current aware UTC instant.
        fairness: what each account and each address may ask for.
        tokens: the identity provider's whose tokens open mailboxes, None without one.
        indexes: the cache of message indexes; one per store.
        previews: the cache of previews; one per store.
        folders: the cache of open folders; one per store.
    """

    store: MailStore
    clock: Callable[[], datetime]
    fairness: Fairness = field(default_factory=unlimited)
    tokens: TokenIssuer | None = None
    indexes: IndexCache = field(init=False)
    previews: PreviewCache = field(init=False)
    folders: FolderCache = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "indexes", IndexCache(self.store))
        object.__setattr__(self, "previews", PreviewCache(self.store.blobs))
        object.__setattr__(self, "folders", FolderCache(self.store))


def outline_of(index: MessageIndex) -> Outline:
    """Give the stored MIME tree."""
    return decode_outline(index.outline)


class AuditQueue:
    """Trail events that no answer waits for (logins), written in groups."""

    def __init__(self, store: MailStore) -> None:
        self._store = store
        self._events: list[AuditEvent] = []
        self._wake = asyncio.Event()

    def put(self, event: AuditEvent) -> None:
        """Note an event; it is written within moments."""
        self._events.append(event)
        self._wake.set()

    async def run(self) -> None:
        """Write what comes until cancelled, then write what is left.

        A database that cannot write ends no connection: what waits is written later.
        """
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                if not await self._write():
                    await asyncio.sleep(AUDIT_AGAIN_S)
                    self._wake.set()
        finally:
            await self._write()

    async def _write(self) -> bool:
        """Write what is waiting; it waits on, and False is given, when the database cannot."""
        # Taken first: a write whose caller is cancelled goes on, and must not be asked for again.
        events, self._events = self._events, []
        try:
            if events:
                await self._store.audit.record(events)
        except (OSError, sqlite3.Error) as error:
            log.exception("audit_failed", count=len(events), error_type=type(error).__name__)
            self._events[:0] = events
            return False
        return True


class Shared:
    """One server's common state."""

    def __init__(self, services: ImapServices) -> None:
        self.services = services
        self.store = services.store
        self.indexes = services.indexes
        self.previews = services.previews
        self.folders = services.folders
        self.authentication = Authentication(
            services.store.accounts, services.fairness, services.tokens
        )
        self.audit = AuditQueue(services.store)
        self.search_turns = asyncio.Semaphore(SEARCHES_AT_ONCE)
        self._group: asyncio.TaskGroup | None = None

    def attach(self, group: asyncio.TaskGroup) -> None:
        """Take the task group in which everything of this server runs."""
        self._group = group

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something in the server's task group."""
        if self._group is None:
            raise RuntimeError("not serving")
        return self._group.create_task(work)

    def now(self) -> datetime:
        """Give the current instant."""
        return self.services.clock()
