"""One client of a stress run: it does what mail programs do, and shows the model every answer.

Each has one connection, one keyword that only it sets, and chance of its own.
"""

import asyncio
import random
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tests.support.imap_model import (
    ANSWERED,
    DELETED,
    EITHER,
    Asked,
    Fault,
    FolderTruth,
    World,
    content,
)
from tests.support.imap_replies import Reply, fetched, numbers, read
from tests.support.imap_site import ALICE, SECRET, ImapSite
from tests.support.imap_view import Row, View
from tests.support.imap_wire import Gone, Wire, settled_part

FOLDERS = ("INBOX", "Archive", "Sent")
EVENTS = "MessageNew MessageExpunge FlagChange"
ANSWER_S = 30.0
"""A command that takes longer is stuck."""
FEW, MANY = 12, 70
"""A folder is filled up to the one and emptied from the other on."""


class Style(Enum):
    """What a client asked the server to tell it."""

    PLAIN = "plain"
    CONDSTORE = "condstore"
    QRESYNC = "qresync"


@dataclass(frozen=True, slots=True)
class Load:
    """A run.

    Attributes:
        seed: of every choice; what the event loop makes of them still differs.
        wanted: the fault that ends the run; any does when it is None.
    """

    clients: int
    seconds: float
    seed: int
    wanted: Fault | None = None


@dataclass
class Stress:
    """What the clients of a run share."""

    site: ImapSite
    load: Load
    world: World = field(default_factory=World)
    commands: Counter[str] = field(default_factory=Counter)
    tokens: int = 0

    @property
    def over(self) -> bool:
        """The fault that ends the run was seen."""
        wanted = self.load.wanted
        return any(wanted in {None, each.fault} for each in self.world.violations)

    def next_token(self) -> int:
        """Give the number of the next message."""
        self.tokens += 1
        return self.tokens


class Client:
    """One mail program."""

    def __init__(self, stress: Stress, number: int, style: Style) -> None:
        self.stress = stress
        self.world = stress.world
        self.who = f"client {number}"
        self.keyword = f"k{number}"
        self.style = style
        self.rng = random.Random(stress.load.seed * 1000 + number)
        self.tls = number % 2 == 0
        self.wire = Wire()
        self.view: View | None = None
        self._tag = 0

    @property
    def opened(self) -> View:
        """The open folder."""
        assert self.view is not None
        return self.view

    # The wire -------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Connect, log in, and say how much to be told."""
        site = self.stress.site
        context: ssl.SSLContext | None = site.client_tls if self.tls else None
        port = site.tls_port if self.tls else site.port
        loop = asyncio.get_running_loop()
        _, self.wire = await loop.create_connection(Wire, "127.0.0.1", port, ssl=context)
        await self.wire.line()
        await self.ok(f"LOGIN {ALICE} {SECRET}")
        if self.style is Style.QRESYNC:
            await self.ok("ENABLE QRESYNC")
        if self.style is Style.CONDSTORE:
            # News come between its commands too; EXPUNGE does not.
            await self.ok(f"NOTIFY SET (selected-delayed ({EVENTS}))")

    def start(self, command: str) -> bytes:
        """Send a command."""
        self._tag += 1
        tag = b"a%d" % self._tag
        self.stress.commands[
            " ".join(command.split(" ", 2)[: 1 + command.startswith("UID ")])
        ] += 1
        self.wire.send(tag + b" " + command.encode("latin-1") + b"\r\n")
        return tag

    async def until(self, tag: bytes, take: Callable[[Reply], None]) -> Reply:
        """Read to the tagged reply."""
        async with asyncio.timeout(ANSWER_S):
            while True:
                reply = read(await self.wire.line())
                if reply.tag == tag:
                    return reply
                if reply.kind == b"BYE":
                    raise Gone
                take(reply)

    async def ok(self, command: str) -> list[Reply]:
        """Run a command outside a folder that must succeed; gives what it was told."""
        told: list[Reply] = []
        self.must(await self.until(self.start(command), told.append), command)
        return told

    def must(self, reply: Reply, command: str) -> None:
        """A command that must succeed did."""
        if reply.kind != b"OK":
            words = f"{command[:60]}: {reply.kind.decode()} {reply.text.decode('latin-1')}"
            self.world.blame(Fault.REFUSED, self.who, words)

    def tell(self, reply: Reply) -> None:
        """Show the view an untagged response."""
        match reply.kind:
            case b"EXISTS":
                self.opened.exists(reply.number)
            case b"EXPUNGE":
                self.opened.expunge(reply.number)
            case b"VANISHED" if isinstance(reply.rest[0], bytes):
                self.opened.vanished(numbers(reply.rest[0]))
            case b"FETCH":
                self.opened.fetched(fetched(reply))

    async def run(
        self, command: str, take: Callable[[Reply], None] | None = None, *, numbered: bool = False
    ) -> Reply:
        """Run a command in the open folder.

        Args:
            numbered: message numbers are in it: none may change meanwhile.
        """
        while (line := self.wire.taken()) is not None:
            self.tell(read(line))  # between two commands: no EXPUNGE
        view = self.opened
        view.begin(may_expunge=not numbered)

        def both(reply: Reply) -> None:
            self.tell(reply)
            if take is not None:
                take(reply)

        reply = await self.until(self.start(command), both)
        if reply.code == b"HIGHESTMODSEQ":
            view.highest_modseq(int(reply.argument))
        view.finish()
        return reply

    # Choices --------------------------------------------------------------------------------

    def some(self, most: int = 4) -> list[int]:
        """Choose UIDs of the view, ascending."""
        uids = list(self.opened.by_uid)
        return sorted(self.rng.sample(uids, min(len(uids), self.rng.randint(1, most))))

    def numbers_of(self, uids: Iterable[int]) -> str:
        """Give message numbers."""
        at = {row.uid: number for number, row in enumerate(self.opened.rows, 1)}
        return ",".join(str(at[uid]) for uid in uids)

    def items(self) -> str:
        """What to ask of FETCH so that flags are known."""
        return "UID FLAGS" if self.style is Style.PLAIN else "UID FLAGS MODSEQ"

    # What clients do ------------------------------------------------------------------------

    async def select(self, name: str, old: View | None = None) -> None:
        """Open a folder, resuming an earlier view where that is possible; then fetch all."""
        parameters = {Style.PLAIN: "", Style.CONDSTORE: " (CONDSTORE)", Style.QRESYNC: ""}
        command = f"SELECT {name}{parameters[self.style]}"
        resumes = self.style is Style.QRESYNC and old is not None and old.folder.name == name
        if resumes and old is not None:
            command += f" (QRESYNC ({old.folder.uidvalidity} {old.modseq}))"
        self.view = None
        start = self.world.tick()
        told: list[Reply] = []
        self.must(await self.until(self.start(command), told.append), command)
        closed = next((at for at, each in enumerate(told) if each.code == b"CLOSED"), -1)
        told = told[closed + 1 :]  # what came before is of the folder that was open
        codes = {reply.code: reply for reply in told if reply.kind == b"OK"}
        folder = self.world.folder(name, int(codes[b"UIDVALIDITY"].argument), self.who)
        highest = int(codes[b"HIGHESTMODSEQ"].argument)
        view = self.view = View(self.world, folder, self.who, start)
        view.highest_modseq(highest)
        view.modseq = highest
        first, later = settled_part(told)
        view.exists(next(reply.number for reply in first if reply.kind == b"EXISTS"))
        believed: dict[int, Row] = {}
        if resumes and old is not None:
            view.resumed(
                old,
                [
                    uid
                    for reply in first
                    if reply.kind == b"VANISHED" and isinstance(reply.rest[1], bytes)
                    for uid in numbers(reply.rest[1])
                ],
                [fetched(reply) for reply in first if reply.kind == b"FETCH"],
            )
        view.begin(may_expunge=True)
        view.start = start  # the folder is as it was when SELECT was sent, or later
        for reply in later:
            self.tell(reply)
        view.finish()
        if resumes:
            believed = view.believed()
            if self.rng.random() < 0.5:
                return
        self.must(await self.run(f"UID FETCH 1:* ({self.items()})"), "UID FETCH 1:*")
        view.check_complete(start)
        view.check_resumed(believed, highest)

    async def learn(self) -> None:
        """Ask which messages were announced."""
        view = self.opened
        if view.unknown:
            first = next(at for at, row in enumerate(view.rows, 1) if row.uid is None)
            reply = await self.run(f"FETCH {first}:* ({self.items()})", numbered=True)
            self.passed(reply, "FETCH")

    def passed(self, reply: Reply, command: str) -> bool:
        """Whether a command succeeded; it may only fail because messages are gone."""
        if reply.kind == b"NO" and reply.code == b"EXPUNGEISSUED":
            return False
        self.must(reply, command)
        return reply.kind == b"OK"

    def any_folder(self) -> str:
        """Choose a folder that somebody opened already."""
        name = self.rng.choice(FOLDERS)
        return name if name in self.world.folders else self.opened.folder.name

    def new_message(self) -> tuple[int, frozenset[str], str]:
        """Give the token and flags of a message to add, and how APPEND and REPLACE have it."""
        token = self.stress.next_token()
        flags = self.rng.choice([frozenset[str](), frozenset({self.keyword, "\\Seen"})])
        raw = content(token).decode("ascii")
        return token, flags, f" ({' '.join(flags)}) {{{len(raw)}+}}\r\n{raw}"

    async def append(self) -> None:
        """Store one or more new messages, in any folder."""
        name = self.any_folder()
        new = [self.new_message() for _ in range(self.rng.choice([1, 1, 1, 3]))]
        asked = self.world.ask(name)
        reply = await self.run(f"APPEND {name}" + "".join(words for _, _, words in new))
        self.must(reply, "APPEND")
        if reply.code == b"APPENDUID":
            uids = numbers(reply.argument.split()[1])
            for uid, (token, flags, _) in zip(uids, new, strict=True):
                self.world.appended(asked, uid, token, flags)

    async def replace(self) -> None:
        """Put a new message in another's place, in any folder."""
        view, (uid,) = self.opened, self.some(1)
        name = self.any_folder()
        token, flags, words = self.new_message()
        asked = self.world.ask(name)
        entry = view.folder.entry(uid)
        entry.movable = entry.movable or asked.start
        told: list[Reply] = []
        reply = await self.run(f"UID REPLACE {uid} {name}{words}", told.append)
        if self.passed(reply, "REPLACE"):
            made = next(each for each in told if each.code == b"APPENDUID")
            self.world.appended(asked, int(made.argument.split()[1]), token, flags)
            self.world.removed(view.folder, uid)

    async def store(self) -> None:
        """Set or clear this client's keyword, or add what everybody only adds."""
        view, uids = self.opened, self.some()
        flag, value = self.rng.choice(
            [(self.keyword, True), (self.keyword, False), (ANSWERED, True)]
        )
        by_uid = self.rng.random() < 0.5
        unchanged = ""
        if self.style is not Style.PLAIN and self.rng.random() < 0.2:
            unchanged = f" (UNCHANGEDSINCE {view.modseq})"
        silent = self.rng.choice(["", ".SILENT"])
        lead = f"UID STORE {commas(uids)}" if by_uid else f"STORE {self.numbers_of(uids)}"
        writes = self.world.write(view.folder, uids, flag, value=value)
        at_number = dict(enumerate([row.uid for row in view.rows], 1))
        words = f"{lead}{unchanged} {'+' if value else '-'}FLAGS{silent} ({flag})"
        reply = await self.run(words, numbered=not by_uid)
        self.passed(reply, "STORE")
        refused = frozenset[int]()
        if reply.code == b"MODIFIED":
            named = numbers(reply.argument)
            refused = frozenset(n if by_uid else at_number[n] or 0 for n in named)
        writes.done(refused)
        if silent:
            # The client knows its own change; to others it is told.
            for uid in set(uids) - refused:
                row = view.by_uid.get(uid)
                if row is not None and row.flags is not None and reply.kind == b"OK":
                    row.flags = row.flags | {flag} if value else row.flags - {flag}

    async def toggle(self) -> None:
        """Change what everybody changes."""
        sign, flag = self.rng.choice("+-"), self.rng.choice(["\\Flagged", "\\Seen", "shared"])
        reply = await self.run(f"UID STORE {commas(self.some())} {sign}FLAGS ({flag})")
        self.passed(reply, "STORE")

    async def fetch(self) -> None:
        """Read flags or whole messages, by number or UID."""
        uids = self.some(10)
        by_uid = self.rng.random() < 0.5
        lead = f"UID FETCH {commas(uids)}" if by_uid else f"FETCH {self.numbers_of(uids)}"
        items = self.rng.choice([self.items(), f"{self.items()} BODY.PEEK[]"])
        self.passed(await self.run(f"{lead} ({items})", numbered=not by_uid), "FETCH")

    async def search(self) -> None:
        """Search for a flag or a word, by number or UID."""
        view = self.opened
        folder, since = view.folder, view.since
        uids = view.by_uid.keys()
        by_uid = self.rng.random() < 0.5
        at_number = dict(enumerate([row.uid for row in view.rows], 1))
        found: list[int] = []

        def take(reply: Reply) -> None:
            if reply.kind == b"SEARCH":
                words = [int(word) for word in reply.rest if isinstance(word, bytes)]
                # One that was announced meanwhile may be among them (NOTIFY).
                known = [row.uid or 0 for row in view.rows]
                found.extend(words if by_uid else [known[number - 1] for number in words])

        token = folder.entry(self.rng.choice(list(uids))).token
        flag = self.rng.choice([self.keyword, "ANSWERED"])
        text = token is not None and self.rng.random() < 0.5
        keys = f"SUBJECT token{token}" if text else f"KEYWORD {flag}"
        if flag == "ANSWERED" and not text:
            keys = flag
        reply = await self.run(f"{'UID ' * by_uid}SEARCH {keys}", take, numbered=not by_uid)
        self.must(reply, "SEARCH")
        matches = {}
        for uid in at_number.values():
            if uid is None:
                continue
            entry = folder.entry(uid)
            if not text and not entry.must_be_there:
                # Gone, and not told yet: a silent STORE of it was answered OK and changed
                # nothing, so it is found with what it had when it left (RFC 2180 §4.2.1).
                matches[uid] = EITHER
            elif not text:
                name = ANSWERED if flag == "ANSWERED" else flag
                matches[uid] = entry.register(name).possible(since, self.world.clock)
            elif entry.token is None:
                matches[uid] = EITHER
            else:
                # A subject key is a substring: token1 is in token12.
                matches[uid] = frozenset({str(entry.token).startswith(str(token))})
        view.check_search(matches, [uid for uid in found if uid], keys)

    async def remove(self) -> None:
        """Delete and expunge."""
        view, uids = self.opened, self.some(6)
        writes = self.world.write(view.folder, uids, DELETED, value=True)
        reply = await self.run(f"UID STORE {commas(uids)} +FLAGS.SILENT ({DELETED})")
        self.passed(reply, "STORE")
        writes.done()
        every = self.rng.random() < 0.3
        command = "EXPUNGE" if every else f"UID EXPUNGE {commas(uids)}"
        self.must(await self.run(command), command)
        for uid in uids:
            self.world.removed(view.folder, uid)

    async def transfer(self) -> None:
        """Copy or move to another folder."""
        view, uids = self.opened, self.some()
        source = view.folder
        targets = [name for name in FOLDERS if name != source.name and name in self.world.folders]
        if not targets:
            return
        target, moves = self.rng.choice(targets), self.rng.random() < 0.5
        asked = self.world.ask(target)
        by_uid = self.rng.random() < 0.5
        if moves:
            for uid in uids:
                entry = source.entry(uid)
                entry.movable = entry.movable or asked.start
        verb = "MOVE" if moves else "COPY"
        lead = f"UID {verb} {commas(uids)}" if by_uid else f"{verb} {self.numbers_of(uids)}"
        told: list[Reply] = []
        reply = await self.run(f"{lead} {target}", told.append)
        if self.passed(reply, verb):
            self._copied(
                next(each for each in (*told, reply) if each.code == b"COPYUID"),
                (source, moves),
                asked,
            )

    def _copied(self, reply: Reply, source: tuple[FolderTruth, bool], asked: Asked) -> None:
        folder, moves = source
        _, old, new = reply.argument.split()
        pairs = list(zip(numbers(old), numbers(new), strict=True))
        self.world.copied(asked, folder, pairs)
        if moves:
            for uid, _ in pairs:
                self.world.removed(folder, uid)

    async def idle(self) -> None:
        """Wait to be told."""
        view = self.opened
        while (line := self.wire.taken()) is not None:
            self.tell(read(line))
        view.begin(may_expunge=True)
        tag = self.start("IDLE")
        going = asyncio.create_task(self.until(tag, self.tell))
        try:
            await asyncio.sleep(self.rng.uniform(0.01, 0.2))
            self.wire.send(b"DONE\r\n")
            self.must(await going, "IDLE")
        finally:
            going.cancel()
        view.finish()

    async def noop(self) -> None:
        """Ask for news only."""
        self.must(await self.run("NOOP"), "NOOP")

    async def change_folder(self) -> None:
        """Open another folder."""
        await self.select(self.rng.choice(FOLDERS))

    async def reconnect(self) -> None:
        """Hang up, now or in the middle of a command, and come back."""
        view = self.opened
        how = self.rng.random()
        if how < 0.4 and view.by_uid:
            # The server may or may not do it: the write stays open for ever.
            self.world.write(view.folder, uids := self.some(), self.keyword, value=True)
            self.start(f"UID STORE {commas(uids)} +FLAGS ({self.keyword})")
            await asyncio.sleep(self.rng.choice([0, 0.001, 0.01]))
        elif how < 0.6:
            raw = content(self.stress.next_token()).decode("ascii")
            self.start(
                f"APPEND {view.folder.name} {{{len(raw)}+}}\r\n{raw[: self.rng.randint(1, len(raw))]}"
            )
            await asyncio.sleep(self.rng.choice([0, 0.001]))
        self.wire.abort()
        await self.connect()
        await self.select(view.folder.name, view)

    # ----------------------------------------------------------------------------------------

    async def work(self) -> None:
        """Do one thing."""
        await self.learn()
        size = len(self.opened.by_uid)
        if size < FEW:
            await self.append()
            return
        actions: list[tuple[Callable[[], Coroutine[Any, Any, None]], int]] = [
            (self.append, 6 if size < MANY else 0),
            (self.replace, 2),
            (self.store, 16),
            (self.toggle, 6),
            (self.fetch, 14),
            (self.search, 8),
            (self.remove, 3 if size < MANY else 30),
            (self.transfer, 6),
            (self.idle, 3),
            (self.noop, 4),
            (self.change_folder, 2),
            (self.reconnect, 2),
        ]
        action = self.rng.choices([a for a, _ in actions], [w for _, w in actions])[0]
        await action()

    async def live(self, until: float) -> None:
        """Work until a time of the loop's clock, then wait for news once more."""
        loop = asyncio.get_running_loop()
        try:
            await self.connect()
            await self.select(self.rng.choice(FOLDERS))
            while loop.time() < until and not self.stress.over:
                try:
                    await self.work()
                except (LookupError, ValueError):
                    if not self.world.violations:
                        raise
                    # Nothing follows from a view that is wrong already: begin afresh.
                    self.wire.abort()
                    await self.connect()
                    await self.select(self.rng.choice(FOLDERS))
        except TimeoutError:
            self.world.blame(Fault.STUCK, self.who, "no answer")
        except Gone:
            self.world.blame(Fault.REFUSED, self.who, "the server hung up")


def commas(numbers_: Iterable[int]) -> str:
    """Write a set."""
    return ",".join(map(str, numbers_))
