"""The receive path beside Postfix and Dovecot: messages per second, and p99 of the last 250.

The same unsigned messages (a text and an attachment in base64) go over the same mutual TLS to Pli
and to Postfix delivering to Dovecot over LMTP, one after the other in each round. Pli's 250 says
that the message lies in the mailbox; Postfix's that it is queued, so for the pair two rates are
given: accepted, and delivered until Dovecot has the last one. Medians of the rounds.
"""

import argparse
import base64
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_load import Load, Target, run_load
from bench_peer import Peer, beside

from tests.support.site import DemoSite

PLI, PAIR = "pli", "postfix+dovecot"
DRAIN_S = 120.0
ROW_OCTETS = 200_000_000
"""Sent to each side in one row, at most; at least one message for each connection."""
LARGEST_COUNT = 400
WARM_UP = 4
"""Messages of each size to each side before the first round, not counted."""
_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Row:
    """One side's figures for one size and number of connections, in one round."""

    who: str
    size_kb: int
    connections: int
    accepted_rate: float
    delivered_rate: float
    p50_ms: float
    p99_ms: float


def count_of(size_kb: int, connections: int, share: float) -> int:
    """Give how many messages one row sends."""
    fitting = min(LARGEST_COUNT, ROW_OCTETS // (size_kb * 1000))
    return max(int(fitting * share), connections, 10)


def letters(target: Target, size_kb: int, count: int) -> Iterator[bytes]:
    """Make messages of about so many kB on the wire, no two alike."""
    chance = random.Random(size_kb)
    attachment = base64.encodebytes(
        chance.randbytes(max(0, size_kb * 1000 - 800) * 3 // 4 * 76 // 78)
    )
    lines = attachment.replace(b"\n", b"\r\n")
    for number in range(count):
        yield (
            (
                f"From: <{target.sender}>\r\nTo: <{target.recipient}>\r\nSubject: Compte rendu\r\n"
                f"Date: Mon, 02 Nov 2026 10:20:00 +0100\r\n"
                f"Message-ID: <{number}.{time.time_ns()}@bench.mssante.test>\r\n"
                "MIME-Version: 1.0\r\n"
                'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
                "--b\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
                "Veuillez trouver le document ci-joint. Bien cordialement.\r\n"
                "--b\r\nContent-Type: application/octet-stream; name=document.bin\r\n"
                "Content-Transfer-Encoding: base64\r\n\r\n"
            ).encode()
            + lines
            + b"--b--\r\n"
        )


def measure(target: Target, row: tuple[int, int], count: int, peer: Peer | None) -> Row:
    """Send one row to Pli, or to the pair when there is a peer.

    Args:
        target: where to send.
        row: kB of a message, connections.
        count: messages.
        peer: whose Maildirs are counted.
    """
    size_kb, connections = row
    before = peer.delivered() if peer else 0
    raw = letters(target, size_kb, count)
    load, ended = _timed(target, raw, connections)
    if load.refused:
        raise RuntimeError(f"{len(load.refused)} refused: {load.refused[0]}")
    started = ended - load.wall_s
    while peer and peer.delivered() < before + load.sent:
        if time.perf_counter() - started > DRAIN_S:
            raise RuntimeError("Dovecot did not get everything in time")
        time.sleep(_POLL_S)
    delivered_s = time.perf_counter() - started if peer else load.wall_s
    return Row(
        PAIR if peer else PLI,
        size_kb,
        connections,
        load.sent / load.wall_s,
        load.sent / delivered_s,
        load.percentile_ms(50),
        load.percentile_ms(99),
    )


def _timed(target: Target, raw: Iterator[bytes], connections: int) -> tuple[Load, float]:
    load = run_load(target, raw, connections=connections, kept=True)
    return load, time.perf_counter()


def show(rows: list[Row]) -> None:
    """Print medians; a ratio over 1 is Pli ahead (for p99 too: the pair's divided by Pli's)."""
    print(
        "   size  conn | pli msg/s    p50    p99 ms | pair accepted delivered    p50    p99 ms"
        " | ratio accepted delivered  p99"
    )
    for size_kb, connections in sorted({(row.size_kb, row.connections) for row in rows}):
        found: dict[str, Row] = {}
        for who in (PLI, PAIR):
            same = [
                row
                for row in rows
                if (row.who, row.size_kb, row.connections) == (who, size_kb, connections)
            ]
            if same:
                middle = (
                    statistics.median(getattr(row, name) for row in same)
                    for name in ("accepted_rate", "delivered_rate", "p50_ms", "p99_ms")
                )
                found[who] = Row(who, size_kb, connections, *middle)
        pli = found[PLI]
        line = (
            f"{size_kb:5} kB {connections:5} | {pli.accepted_rate:9.1f} {pli.p50_ms:6.1f} "
            f"{pli.p99_ms:6.1f}   "
        )
        if pair := found.get(PAIR):
            line += (
                f" | {pair.accepted_rate:13.1f} {pair.delivered_rate:9.1f} {pair.p50_ms:6.1f} "
                f"{pair.p99_ms:6.1f}    | {pli.accepted_rate / pair.accepted_rate:14.2f} "
                f"{pli.accepted_rate / pair.delivered_rate:9.2f} {pair.p99_ms / pli.p99_ms:4.1f}"
            )
        print(line)


def _numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=_numbers, default=[5, 100, 1000, 10_000], help="kB")
    parser.add_argument("--connections", type=_numbers, default=[1, 10, 50])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--share", type=float, default=1.0, help="of a row's messages: 0.3 is short"
    )
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    options = parser.parse_args()
    rows: list[Row] = []
    place = Path(tempfile.mkdtemp(prefix="pli-bench-"))
    place.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        site = DemoSite.create(place / "site")
        site.start()
        stack.callback(site.stop)
        sides: list[tuple[int, Peer | None]] = [(site.port("smtp"), None)]
        if not options.no_peer:
            peer = stack.enter_context(beside(site, place / "peer"))
            sides.append((peer.port, peer))
        for round_number in range(options.rounds):
            for size_kb in options.sizes:
                for connections in options.connections:
                    for port, peer_or_none in sides:
                        target = Target(
                            port,
                            site.operator_tls(),
                            site.demo["operators"][0]["sender"],
                            site.demo["practitioners"][0]["address"],
                        )
                        row = (size_kb, connections)
                        if round_number == 0:
                            measure(target, row, WARM_UP, peer_or_none)
                        count = count_of(size_kb, connections, options.share)
                        rows.append(measure(target, row, count, peer_or_none))
        show(rows)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
