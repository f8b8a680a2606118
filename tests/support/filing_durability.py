"""The two children of a site, each killed at a chosen statement of its transactions.

The mail child and the bridge child are the real ones (``mailserver.app``), started from a
fork server that has everything imported. In each, the connection that writes is watched: once
armed with ``n``, the process sends itself SIGKILL before its n-th statement, or between the
commit and the answer. Whatever was killed starts again, the sender says its message again until
it hears 250, and nothing may be lost, twice, or other than on a twin site that nobody killed.

Source: DESIGN §1, RULES §2.
"""

import asyncio
import json
import multiprocessing
import os
import re
import signal
import smtplib
import sqlite3
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from mailserver.control import call
from tests.support.filing_streams import Stream, StreamMessage
from tests.support.site import DemoSite, pli_result

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["mailserver.app", "tests.support.filing_durability"])
_WRITES = {"mail": "mail.sqlite3", "bridge": "record.sqlite3"}
_BEGINS = {"mail": "SELECT RECEIPT_KEY", "bridge": "INSERT INTO INBOX_ITEM"}
"""From which statement on they are counted: what seals the trail every second is none."""
_RECONNECT_S = 0.05
_START_S = 60.0
_SETTLE_S = 120.0
_TRIES = 30
_LOOK_S = 0.02
_HEAD = re.compile(
    r"(SAVEPOINT|RELEASE|ROLLBACK TO|BEGIN|COMMIT|ROLLBACK)|"
    r"(INSERT INTO|INSERT OR \w+ INTO|UPDATE|DELETE FROM) \"?(\w+)|SELECT.*? FROM \"?(\w+)",
    re.IGNORECASE | re.DOTALL,
)
UNTRIED = -1
"""Instead of a number: die at the first kind of statement that nobody was killed at yet."""
ANSWER = "answer"
"""The step between a commit and its being told."""
RECOUNT = Path(__file__).parents[2] / "scripts" / "recount"


def head_of(statement: str) -> str:
    """Name a statement by its verb and table: never a value."""
    found = _HEAD.match(statement.strip())
    if found is None:
        return "other"
    return f"{found[1] or found[2] or 'SELECT'} {found[3] or found[4] or ''}".strip().upper()


class SplitCommit(sqlite3.Connection):
    """The control: a connection that commits in the middle of what should be one transaction."""

    split_after = re.compile(r"INSERT INTO (document|entry) ")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._savepoints: list[str] = []
        self._due = False

    def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
        """Run it; split before the one that follows the first insert."""
        if self._due and self.in_transaction:
            self._due = False
            super().execute("COMMIT")
            super().execute("BEGIN IMMEDIATE")
            for name in self._savepoints:
                super().execute(f"SAVEPOINT {name}")
        verb, _, name = statement.partition(" ")
        if verb == "SAVEPOINT":
            self._savepoints.append(name)
        elif verb == "RELEASE":
            self._savepoints.remove(name)
        elif verb in {"BEGIN", "COMMIT", "ROLLBACK"} and not name.startswith("TO"):
            self._savepoints.clear()
        self._due = self._due or self.split_after.match(statement) is not None
        return super().execute(statement, *arguments)

    def executemany(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
        """See ``execute``."""
        self._due = self._due or self.split_after.match(statement) is not None
        return super().executemany(statement, *arguments)


def _run_child(
    role: str, root: str, announce: Any, left: Any, steps: str, connect: type[sqlite3.Connection]
) -> None:
    """The child's life: watch the writer, then be what ``pli serve`` starts."""
    from directory import database
    from mailserver import app
    from record_bridge import watcher

    watcher.BACKOFF_S = (_RECONNECT_S,) * 5
    log = os.open(steps, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    errors = os.open(steps + ".log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(errors, 2)

    begun = False
    tried = Path(steps + ".killed")
    tried.touch()
    killed_at = set(tried.read_text().splitlines())

    def step(name: str) -> None:
        nonlocal begun
        begun = left.value != 0 and (begun or name == _BEGINS.get(role))
        if not begun:
            return
        os.write(log, f"{name}\n".encode())
        left.value -= left.value > 0
        if left.value == 0 or (left.value == UNTRIED and name not in killed_at):
            with tried.open("a") as file:
                file.write(f"{name}\n")
            os.kill(os.getpid(), signal.SIGKILL)

    open_writer = database._Writer._connect
    tell = database._tell

    def watched(writer: Any) -> sqlite3.Connection:
        if writer._path.name != _WRITES.get(role):
            return open_writer(writer)
        plain = sqlite3.connect
        sqlite3.connect = partial(plain, factory=connect)  # type: ignore[assignment]  # overloads
        try:
            connection = open_writer(writer)
        finally:
            sqlite3.connect = plain
        connection.set_trace_callback(lambda statement: step(head_of(statement)))
        return connection

    def told(jobs: Any) -> None:
        step(ANSWER)
        tell(jobs)

    database._Writer._connect = watched  # type: ignore[method-assign,assignment]  # the seam of this proof
    database._tell = told
    descriptor = os.dup(announce.fileno())
    announce.close()
    sys.exit(app.main([role, root, str(descriptor)]))


class Child:
    """One child of the site, started again whenever it died."""

    def __init__(
        self, site: DemoSite, role: str, connect: type[sqlite3.Connection] = sqlite3.Connection
    ) -> None:
        self._site = site
        self._role = role
        self._connect = connect
        self._left = _FORKS.Value("i", 0)
        self._steps = site.root.parent / f"{site.root.name}.{role}.steps"
        self._process: Any = None
        self.kills = 0
        self.killed_at: Counter[str] = Counter()

    def start(self) -> None:
        """Start it, unless it lives, and wait until it is up."""
        if self._process is not None and self._process.is_alive():
            return
        self._left.value = 0
        reading, writing = _FORKS.Pipe(duplex=False)
        self._process = _FORKS.Process(
            target=_run_child,
            args=(
                self._role,
                str(self._site.root),
                writing,
                self._left,
                str(self._steps),
                self._connect,
            ),
        )
        self._process.start()
        writing.close()
        if not reading.poll(_START_S) or not os.read(reading.fileno(), 65536):
            said = Path(f"{self._steps}.log").read_text().splitlines()[-10:]
            raise RuntimeError(
                "\n".join([f"the {self._role} child did not start; it said:", *said])
            )
        reading.close()

    def arm(self, number: int) -> None:
        """Die before the ``number``-th statement from now, or at one UNTRIED."""
        self._left.value = number

    @property
    def died(self) -> bool:
        """Whether it is dead; counted once."""
        if self._process is None or self._process.is_alive():
            return False
        self._process.join()
        self._process = None
        self.kills += 1
        self.killed_at[self.steps()[-1]] += 1
        return True

    def disarm(self) -> None:
        """Live on."""
        self._left.value = 0

    def steps(self) -> list[str]:
        """The steps that were taken while armed."""
        return self._steps.read_text().splitlines() if self._steps.exists() else [""]

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None and self._process.is_alive():
            self._process.terminate()
            self._process.join(60)
        self._process = None


@dataclass(slots=True)
class Proof:
    """What a run left.

    Attributes:
        differences: what is other than on the twin, by message id.
        recount: what ``scripts/recount`` printed, and its exit status.
        killed_at: at which statements each child was killed, and how often.
        passed: the statements that each child ran while it was armed.
    """

    messages: int
    kinds: Counter[str]
    differences: list[str] = field(default_factory=list)
    recount: Mapping[str, Any] = field(default_factory=dict)
    audit: Mapping[str, Any] = field(default_factory=dict)
    exits: tuple[int, int] = (-1, -1)
    killed_at: Mapping[str, Counter[str]] = field(default_factory=dict)
    passed: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def kills(self) -> int:
        """How many there were."""
        return sum(sum(each.values()) for each in self.killed_at.values())

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, doubled or changed, and both accounts say so."""
        return (
            not self.differences
            and self.exits == (0, 0)
            and bool(self.recount["balanced"])
            and self.recount["agrees"] is True
        )


@contextmanager
def children_of(
    site: DemoSite, connect: Mapping[str, type[sqlite3.Connection]] | None = None
) -> Iterator[tuple[Child, Child]]:
    """Run the children of a site until the block ends; the one that seals is left alone."""
    seal, mail, bridge = (
        Child(site, role, (connect or {}).get(role, sqlite3.Connection))
        for role in ("seal", "mail", "bridge")
    )
    try:
        seal.start()
        mail.start()
        bridge.start()
        yield mail, bridge
    finally:
        bridge.stop()
        mail.stop()
        seal.stop()


def prove_filing(
    folder: Path,
    moments: Sequence[tuple[int, int]],
    *,
    seed: int,
    connect: Mapping[str, type[sqlite3.Connection]] | None = None,
    progress: Callable[[int, Child, Child], None] = lambda _round, _mail, _bridge: None,
) -> Proof:
    """Send a stream; in each round kill the mail child and the bridge child once.

    Args:
        folder: for the site and its twin.
        moments: one round each: the statement of the delivery and that of the bridge to die at.
        seed: of the stream.
        connect: by role, the connection that writes instead of an honest one.
        progress: told after each round.
    """
    site = DemoSite.create(folder / "site")
    stream = Stream(site, Random(seed))
    sent: list[StreamMessage] = []
    refused: list[str] = []
    with children_of(site, connect) as (mail, bridge):
        for number, (at_delivery, at_filing) in enumerate(moments):
            message = stream.next()
            sent.append(message)
            bridge.arm(at_filing)
            mail.arm(at_delivery)
            if not send(site, message, mail):
                refused.append(f"{message.message_id} ({message.kind}): never accepted")
                break
            settle(site, mail, bridge)
            progress(number, mail, bridge)
        killed_at = {"mail": mail.killed_at, "bridge": bridge.killed_at}
        passed = {"mail": frozenset(mail.steps()), "bridge": frozenset(bridge.steps())}
        audit_exit, audit, _ = pli_result("audit", "verify", str(site.root), "--json")
    twin = DemoSite.create(folder / "twin")
    with children_of(twin) as (mail, bridge):
        for message in sent:
            send(twin, message, mail)
        settle(twin, mail, bridge)
    (folder / "audit.json").write_text(audit)
    recount = subprocess.run(
        [
            sys.executable,
            str(RECOUNT),
            str(site.root),
            "--json",
            "--audit",
            str(folder / "audit.json"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    ours, expected = state_of(site), state_of(twin)
    return Proof(
        messages=len(sent),
        kinds=Counter(each.kind for each in sent),
        differences=refused + _differences(sent, ours, expected),
        recount=json.loads(recount.stdout),
        audit=json.loads(audit),
        exits=(audit_exit, recount.returncode),
        killed_at=killed_at,
        passed=passed,
    )


def send(site: DemoSite, message: StreamMessage, mail: Child) -> bool:
    """Say a message until the server says 250; False when it never does."""
    context = site.operator_tls()
    sender = site.demo["operators"][0]["sender"]
    for _ in range(_TRIES):
        if mail.died:
            mail.start()
        try:
            with smtplib.SMTP("localhost", site.port("smtp"), timeout=20) as client:
                client.starttls(context=context)
                client.sendmail(sender, message.recipients, message.raw)
        except (OSError, smtplib.SMTPServerDisconnected):
            time.sleep(_LOOK_S)
            continue
        return True
    return False


def settle(site: DemoSite, mail: Child, bridge: Child) -> None:
    """Wait until nothing is left to do, starting again what died."""
    until = time.monotonic() + _SETTLE_S
    quiet = 0
    while quiet < 2:
        if time.monotonic() > until:
            raise AssertionError("never idle")
        if mail.died:
            mail.start()
        if bridge.died:
            bridge.start()
        quiet = quiet + 1 if _idle(site) else 0
        time.sleep(_LOOK_S)
    mail.disarm()
    bridge.disarm()


def _idle(site: DemoSite) -> bool:
    """Whether all is filed, told and answered; no operator listens, so answers stay queued."""
    try:
        answer = asyncio.run(call(site.root / "run" / "bridge.sock", "idle", {}))
        return bool(answer["idle"]) and _filed(site)
    except (OSError, ValueError):
        return False


def _filed(site: DemoSite) -> bool:
    """Whether every entry of the application mailboxes bears its outcome."""
    with closing(sqlite3.connect(f"file:{site.root}/data/mail.sqlite3?mode=ro", uri=True)) as mail:
        (waiting,) = mail.execute(
            "SELECT count(*) FROM entry AS e JOIN folder AS f ON f.id = e.folder_id"
            " JOIN mailbox AS m ON m.id = f.mailbox_id WHERE m.type = 'APP' AND e.keywords"
            " NOT LIKE '%$Filed%' AND e.keywords NOT LIKE '%$Quarantined%'"
            " AND e.keywords NOT LIKE '%$Duplicate%' AND e.keywords NOT LIKE '%$NoDocument%'"
        ).fetchone()
    return bool(waiting == 0)


State = Mapping[str, list[tuple[Any, ...]]]
"""By Message-ID, everything that both databases say of it, without times, ids and receipts."""

_ENTRIES = (
    "SELECT i.message_id, b.address, e.uid IS NULL, e.keywords FROM entry AS e"
    " JOIN message_index AS i ON i.blob_id = e.blob_id JOIN folder AS f ON f.id = e.folder_id"
    " JOIN mailbox AS b ON b.id = f.mailbox_id WHERE e.receipt_id IS NOT NULL"
)
_RECEIPTS = (
    "SELECT DISTINCT e.receipt_id, i.message_id FROM entry AS e"
    " JOIN message_index AS i ON i.blob_id = e.blob_id WHERE e.receipt_id IS NOT NULL"
)
_RECORD = {
    "document": "SELECT d.receipt, d.position, d.unique_id, hex(d.sha256), p.address, d.status,"
    " n.unique_id, d.visibility, d.marks, (SELECT count(*) FROM agenda_entry AS a"
    " WHERE a.document_id = d.id), (SELECT sum(length(c.data)) FROM document_chunk AS c"
    " WHERE c.document_id = d.id) FROM document AS d JOIN patient AS p ON p.id = d.patient_id"
    " LEFT JOIN document AS n ON n.id = d.superseded_by",
    "duplicate": "SELECT receipt, position, unique_id FROM duplicate",
    "quarantine": "SELECT receipt, position, unique_id, code, reason, state, archive_id IS NULL"
    " FROM quarantine",
    "answer": "SELECT i.receipt, r.final_recipient, r.send_to, r.code FROM reply_outbox AS r"
    " JOIN inbox_item AS i ON i.id = r.item_id",
    "trail": "SELECT json_extract(facts, '$.receipt_id'), kind, json_extract(facts, '$.position'),"
    " json_extract(facts, '$.code') FROM trail_event WHERE facts LIKE '%receipt_id%'",
}


def state_of(site: DemoSite) -> State:
    """Read both databases."""
    found: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    data = site.root / "data"
    with closing(sqlite3.connect(f"file:{data}/mail.sqlite3?mode=ro", uri=True)) as mail:
        names = dict(mail.execute(_RECEIPTS).fetchall())
        for message_id, *rest in mail.execute(_ENTRIES):
            found[message_id].append(("entry", *rest))
    with closing(sqlite3.connect(f"file:{data}/record.sqlite3?mode=ro", uri=True)) as record:
        for table, statement in _RECORD.items():
            for receipt, *rest in record.execute(statement):
                found[names.get(receipt, "of no message")].append((table, *rest))
    return {name: sorted(rows, key=repr) for name, rows in found.items()}


def _differences(sent: Sequence[StreamMessage], ours: State, expected: State) -> list[str]:
    """Name what differs, message by message, in words without a value."""
    kinds = {each.message_id: each.kind for each in sent}
    found = []
    for name in sorted({*ours, *expected, *kinds}):
        here, there = Counter(ours.get(name, ())), Counter(expected.get(name, ()))
        lost = sorted({row[0] for row in there - here})
        more = sorted({row[0] for row in here - there})
        if lost or more:
            found.append(f"{name} ({kinds.get(name, '?')}): lacks {lost}, has besides {more}")
    return found
