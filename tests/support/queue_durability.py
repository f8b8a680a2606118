"""Accounts that send outward while the server is killed under them, counted at the peer.

What a peer took and we had noted (a commit) must never be sent again; what it took in the instant
between its 250 and our commit may be, and is counted apart: SMTP leaves that instant open.

Source: RFC 5321 §4.5.3.2.6.
"""

import itertools
import json
import math
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from certs.tls import server_context
from tests.support import exchange
from tests.support.capture_peer import CapturePeer, capture_thread
from tests.support.exchange import Letter, Senders
from tests.support.site import DemoSite, pli, pli_result

_PAUSE_S = 0.05
_DRAIN_S = 1200
_NOTED = (
    "SELECT s.message_id FROM outbox_recipient AS r JOIN outbox_message AS m"
    " ON m.id = r.message_id JOIN sent_recipient AS s ON s.receipt_id = m.receipt_id"
    " WHERE r.state = 'sent'"
)


@dataclass(slots=True)
class Outcome:
    """What a run of kills left.

    Attributes:
        missing: accepted from an account, never taken by the peer.
        again: taken once more after the note of the first time was on disk.
        open_instant: taken twice, the first note was not on disk: unavoidable.
        held: set aside after three crashes, released at the end.
    """

    kills: int
    accepted: int
    missing: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    open_instant: list[str] = field(default_factory=list)
    held: int = 0
    audit: dict[str, object] = field(default_factory=dict)
    audit_exit: int = -1

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, nothing noted was sent again, and the books balance."""
        return self.accepted > 0 and not self.missing and not self.again and self.audit_exit == 0


def kill_the_queue(
    site: DemoSite,
    *,
    kills: int,
    senders: int = 4,
    seed: int = 1,
    until: float = math.inf,
    progress: Callable[[int, int], None] = lambda _kill, _accepted: None,
) -> Outcome:
    """Kill the server's process group ``kills`` times while mail leaves, then drain and count.

    Args:
        site: made, not started.
        kills: how often.
        senders: threads that submit.
        seed: of the moments of the kills.
        until: monotonic instant after which no more kills come.
        progress: told after each kill.
    """
    chance = random.Random(seed)
    person = site.demo["practitioners"][0]["address"]
    operator = site.demo["operators"][1]
    peer = CapturePeer()
    tls = server_context(
        Path(operator["certificate_file"]),
        Path(operator["key_file"]),
        client_ca=Path(site.demo["ca_file"]),
    )
    crowd = Senders(exchange.account(site), threads=senders, pause_s=_PAUSE_S)

    def letters() -> Iterator[Letter]:
        for number in itertools.count():
            name = f"<kill.{seed}.{number}@hopital-demo.mssante.test>"
            yield Letter(name, person, operator["sender"])

    again: set[str] = set()
    with capture_thread(peer, tls, int(operator["receiver"]["port"])):
        site.start()
        sending = threading.Thread(target=crowd.send, args=(letters(),))
        sending.start()
        noted: set[str] = set()
        mark = killed = 0
        try:
            for kill in range(kills):
                time.sleep(chance.uniform(0.05, 1.5))
                site.kill()
                # What was noted by the kill before must not have come since; the peer's own list
                # is read once its connections are seen to be gone.
                time.sleep(0.1)
                again |= _names(peer, mark) & noted
                noted, mark = _noted(site), len(peer.taken)
                site.start()
                killed = kill + 1
                progress(killed, len(crowd.accepted))
                if time.monotonic() > until:
                    break
        finally:
            crowd.stopping.set()
            sending.join(timeout=120)
        held = _drain(site)
    again |= _names(peer, mark) & noted
    code, output, _errors = pli_result(
        "audit", "verify", str(site.root), "--json", timeout=_DRAIN_S
    )
    site.stop()
    found = Counter(each.message_id for each in peer.taken)
    return Outcome(
        kills=killed,
        accepted=len(crowd.accepted),
        missing=[name for name in crowd.accepted if not found[name]],
        again=sorted(again),
        open_instant=[name for name, count in found.items() if count > 1 and name not in again],
        held=held,
        audit=_json(output),
        audit_exit=code,
    )


def _names(peer: CapturePeer, since: int) -> set[str]:
    return {each.message_id for each in peer.taken[since:]}


def _noted(site: DemoSite) -> set[str]:
    """Read from the stopped site's database what is noted as sent."""
    database = site.root / "data" / "mail.sqlite3"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return {row[0] for row in connection.execute(_NOTED)}


def _drain(site: DemoSite) -> int:
    """Wait until nothing is queued; release what was set aside, and count it."""
    held: set[int] = set()

    def done() -> bool:
        rows = exchange.queue(site)
        aside = [row["id"] for row in rows if row["state"] == "held"]
        if aside:
            held.update(aside)
            pli("queue", "release", str(site.root), *map(str, aside))
        return not rows

    if not exchange.until(done, _DRAIN_S):
        raise RuntimeError("the queue does not drain")
    return len(held)


def _json(output: str) -> dict[str, object]:
    try:
        found: dict[str, object] = json.loads(output)
    except json.JSONDecodeError:
        return {"said": output}
    return found
