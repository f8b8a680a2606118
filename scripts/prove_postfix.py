"""Ten thousand messages each way with Postfix, then peers that refuse, defer, hang and vanish.

Every figure printed is counted at both ends: names the senders saw accepted, names that lie in the
receiving mailbox. The short version is tests/interop/test_postfix.py.
"""

import argparse
import itertools
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from certs.tls import server_context
from tests.support import exchange
from tests.support.capture_peer import OK, CapturePeer, Odd, Taken, capture_thread
from tests.support.exchange import Letter, Senders, Tally, letter, tally
from tests.support.postfix import LATER, REFUSED, Postfix, missing, postfix
from tests.support.site import DemoSite, pli

HANG_S = 5.0
_PATIENCE_S = 7200


class Proof:
    """The runs, each of which says whether it holds."""

    def __init__(self, site: DemoSite, other: Postfix) -> None:
        self.site = site
        self.other = other
        self.person = site.demo["practitioners"][0]["address"]
        self.failures = 0

    def report(self, what: str, result: Tally, *more: tuple[str, bool]) -> None:
        """Print one line, and what else must hold."""
        holds = result.holds and all(held for _, held in more)
        self.failures += not holds
        extra = "".join(f"; {text}" for text, _ in more)
        print(f"{'ok  ' if holds else 'FAIL'} {what}: {result}{extra}", flush=True)

    def inward(self, count: int) -> None:
        """Postfix sends to us."""
        names = [f"<in.{number}@{self.other.domain}>" for number in range(count)]
        started = time.monotonic()
        senders = Senders(exchange.in_clear(self.other.inject_port), threads=8)
        senders.send(Letter(name, f"service@{self.other.domain}", self.person) for name in names)
        exchange.until(lambda: self.other.queued() == 0, _PATIENCE_S)
        seconds = time.monotonic() - started
        self.report("Postfix to Pli", tally(names, exchange.inbox(self.site), seconds))

    def outward(self, count: int) -> None:
        """An account here sends to Postfix."""
        names = self._names("out", count)
        started = time.monotonic()
        accepted = self._submit((name, f"service@{self.other.domain}") for name in names)
        taken_s = time.monotonic() - started
        exchange.until(self._drained, _PATIENCE_S, 3.0)
        seconds = time.monotonic() - started
        self.report(
            "Pli to Postfix",
            tally(names, self.other.received(), seconds),
            (f"{accepted} accepted from the account in {taken_s:.0f} s", accepted == count),
        )

    def refusing_and_deferring(self, count: int) -> None:
        """Postfix says 550 to one third, 451 and then yes to another, yes to the rest."""
        self.other.reload([REFUSED], [LATER])
        names = {local: self._names(local, count // 3) for local in ("ok", REFUSED, LATER)}
        self._submit(
            (name, f"{local}@{self.other.domain}")
            for group in zip(*names.values(), strict=True)
            for local, name in zip(names, group, strict=True)
        )
        deferred = count // 3
        exchange.until(lambda: len(exchange.queue(self.site)) == deferred, _PATIENCE_S, 3.0)
        waited = len(exchange.queue(self.site))
        self.other.reload([REFUSED], [])
        pli("queue", "retry", str(self.site.root), "--domain", self.other.domain)
        exchange.until(self._drained, _PATIENCE_S, 3.0)
        found = self.other.received()
        wanted = [*names["ok"], *names[LATER]]
        self.report(
            "Pli to Postfix that defers, then takes",
            tally(wanted, found),
            (f"{waited} waited", waited == deferred),
        )
        told = Counter(
            _original(each.returned)
            for each in exchange.notices(self.site)
            if each.recipients[0]["Status"] == "5.1.1"
        )
        self.report(
            "senders told of refusals, by notifications read strictly",
            tally(names[REFUSED], told),
            ("none arrived", not any(name in found for name in names[REFUSED])),
        )

    def faulty(self, count: int) -> None:
        """A peer that cuts, at once or after hanging, at the first try of some messages."""
        tried: set[str] = set()
        ways: tuple[str | Odd, ...] = (OK, Odd.DROP, OK, OK, Odd.DROP, OK, OK, OK, OK, OK)
        chance = itertools.cycle(ways)
        hangs = itertools.count()

        def dot(taken: Taken) -> str | Odd:
            if taken.message_id in tried:
                return OK
            tried.add(taken.message_id)
            if next(hangs) % (count // 10) == 7:
                return Odd.HANG
            return next(chance)

        peer = CapturePeer(dot=dot, hang_s=HANG_S)
        names = self._names("faulty", count)
        operator = self.site.demo["operators"][1]
        with self._listening(peer):
            self._submit((name, operator["sender"]) for name in names)
            self._drain(operator["domain"])
        self.report(
            f"Pli to a peer that drops the link or hangs {HANG_S:.0f} s after the dot",
            tally(names, Counter(each.message_id for each in peer.taken)),
            (f"{peer.seen - len(peer.taken)} tries cut", peer.seen > len(peer.taken)),
        )

    def lost_replies(self, count: int) -> None:
        """A peer that takes a message and cuts before its 250: SMTP's own open instant."""
        tried: set[str] = set()

        def dot(taken: Taken) -> str | Odd:
            first = taken.message_id not in tried
            tried.add(taken.message_id)
            return Odd.TAKE_AND_DROP if first and len(tried) % 10 == 0 else OK

        peer = CapturePeer(dot=dot)
        names = self._names("lost", count)
        operator = self.site.demo["operators"][1]
        with self._listening(peer):
            self._submit((name, operator["sender"]) for name in names)
            self._drain(operator["domain"])
        found = Counter(each.message_id for each in peer.taken)
        lost = {each.message_id for each in peer.lost_replies}
        clean = [name for name in names if name not in lost]
        twice = sum(found[name] == 2 for name in lost)
        self.report(
            "Pli to a peer that takes and loses its 250: those it answered",
            tally(clean, found),
            (f"of {len(lost)} it did not answer, {twice} twice (unavoidable)", bool(lost)),
            ("none lost", all(found[name] for name in names)),
        )

    def repeated_inward(self, count: int) -> None:
        """A peer that cuts the link after its final dot and sends again."""
        operator = self.site.demo["operators"][1]
        names = [f"<again.{number}@{operator['domain']}>" for number in range(count)]
        connect = exchange.operator(self.site, 1)
        for name in names:
            client = connect()
            client.ehlo()
            for command in (f"mail FROM:<{operator['sender']}>", f"rcpt TO:<{self.person}>"):
                client.docmd(command)
            client.docmd("data")
            client.send(letter(name, operator["sender"], self.person) + b".\r\n")
            if client.sock is not None:
                client.sock.shutdown(socket.SHUT_RDWR)
            client.close()
        senders = Senders(connect, threads=4)
        senders.send(Letter(name, operator["sender"], self.person) for name in names)
        self.report(
            "a peer that drops the link before our 250 and sends again",
            tally(names, exchange.inbox(self.site)),
        )

    def _names(self, kind: str, count: int) -> list[str]:
        return [f"<{kind}.{number}@hopital-demo.mssante.test>" for number in range(count)]

    def _submit(self, pairs: Iterator[tuple[str, str]]) -> int:
        senders = Senders(exchange.account(self.site), threads=8)
        senders.send(Letter(name, self.person, recipient) for name, recipient in pairs)
        return len(senders.accepted)

    def _listening(self, peer: CapturePeer) -> AbstractContextManager[None]:
        operator = self.site.demo["operators"][1]
        tls = server_context(
            Path(operator["certificate_file"]),
            Path(operator["key_file"]),
            client_ca=Path(self.site.demo["ca_file"]),
        )
        return capture_thread(peer, tls, int(operator["receiver"]["port"]))

    def _drain(self, domain: str) -> None:
        """Retry at once what waits, until nothing does: the schedule would take its minutes."""

        def done() -> bool:
            if not exchange.queue(self.site):
                return True
            pli("queue", "retry", str(self.site.root), "--domain", domain)
            return False

        exchange.until(done, _PATIENCE_S, 3.0)

    def _drained(self) -> bool:
        return not exchange.queue(self.site)


def _original(returned: bytes) -> str:
    for line in returned.splitlines():
        if line.lower().startswith(b"message-id:"):
            return line.split(b":", 1)[1].strip().decode("ascii", "replace")
    return ""


def main() -> int:
    """Run and print; exit 0 when everything holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--faulty", type=int, default=1000)
    options = parser.parse_args()
    reason = missing()
    if reason is not None:
        print(f"not run: {reason}")
        return 2
    with tempfile.TemporaryDirectory(prefix="pli-proof-") as folder:
        site = DemoSite.create(Path(folder) / "site")
        site.start()
        try:
            with postfix(site) as other:
                proof = Proof(site, other)
                proof.refusing_and_deferring(options.faulty)
                proof.faulty(options.faulty)
                proof.lost_replies(options.faulty // 5)
                proof.repeated_inward(options.faulty // 5)
                proof.inward(options.count)
                proof.outward(options.count)
        finally:
            site.stop()
    print("holds" if not proof.failures else "DOES NOT HOLD")
    return 1 if proof.failures else 0


if __name__ == "__main__":
    sys.exit(main())
