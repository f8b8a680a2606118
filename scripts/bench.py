"""Reports filed end to end per second, and CPU per report, beside Postfix and Dovecot.

The same signed messages go, over the same mutual TLS, to Pli (which verifies, stores, opens,
matches, files and answers) and to Postfix delivering to Dovecot over LMTP (which stores). Each
round measures one after the other; medians and the ratio of the same run are printed.
"""

import argparse
import asyncio
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_load import Load, Target, run_load
from bench_peer import Peer, beside, tree_cpu_s

from certs.cms_sign import Signer
from certs.smime import sign
from mailserver.control import call
from tests.support.cda import CdaSpec, acts, cda, follow_up
from tests.support.reports import patient_spec, unique_root
from tests.support.site import DemoSite
from tests.support.xdm import mail, package

DRAIN_S = 300.0
LARGEST_TEXT_KB = 100
"""Larger documents are a PDF in base64 (level 1), as the published ones are."""
_LETTERS = "etaoinsrlucdpm"
VOCABULARY = ["".join(random.Random(n).choices(_LETTERS, k=8)) for n in range(2000)]
WARM_UP = 32
"""Messages sent before each kind of run and not counted: caches, worker processes, files."""
_POLL_S = 0.02


@dataclass(frozen=True)
class Figure:
    """One measured run."""

    who: str
    size_kb: int
    kept: bool
    rate: float
    cpu_ms: float
    p50_ms: float
    p99_ms: float
    accepted_rate: float


def words(chance: random.Random, octets: int) -> str:
    """Write text that compresses about as a real report does."""
    return " ".join(chance.choices(VOCABULARY, k=octets // 9))


def messages(site: DemoSite, kilobytes: int, count: int, tag: str) -> list[bytes]:
    """Make ``count`` signed messages, each with a fresh document of about so many kB."""
    operator = site.demo["operators"][0]
    signer = Signer.from_pem(
        Path(operator["smime_certificate_file"]).read_bytes(),
        Path(operator["smime_key_file"]).read_bytes(),
    )
    patient = patient_spec(site.demo["patients"][0])
    chance = random.Random(tag)
    made = []
    for number in range(count):
        name = f"{tag}.{number}"
        document = cda(
            CdaSpec(
                unique_id=unique_root(name),
                patients=(patient,),
                acts=acts(follow_up("202612150930+0100")),
                narrative=words(chance, kilobytes * 1000),
            )
            if kilobytes <= LARGEST_TEXT_KB
            else CdaSpec(
                unique_id=unique_root(name),
                patients=(patient,),
                pdf=b"%PDF-1.4\n" + chance.randbytes(kilobytes * 750),
            )
        )
        raw = mail(
            package(document),
            sender=operator["sender"],
            to=site.demo["practitioners"][0]["address"],
            message_id=f"<{name}@bench.mssante.test>",
        )
        made.append(sign(raw, signer))
    return made


def target(site: DemoSite, port: int) -> Target:
    """Send as the demo's hospital to the first professional."""
    return Target(
        port,
        site.operator_tls(),
        site.demo["operators"][0]["sender"],
        site.demo["practitioners"][0]["address"],
    )


def filed(site: DemoSite) -> int:
    """Count what the record holds, without any personal content."""
    answer = asyncio.run(call(site.root / "run" / "bridge.sock", "status", {}))
    return int(answer["filed"])


def measure_pli(
    site: DemoSite, raw: list[bytes], *, connections: int, kept: bool
) -> tuple[Load, float, float]:
    """Send to Pli; give the load, seconds until the last was filed, and CPU seconds used."""
    before = filed(site)
    cpu = tree_cpu_s(site.pid)
    started = time.perf_counter()
    load = run_load(target(site, site.port("smtp")), raw, connections=connections, kept=kept)
    while filed(site) < before + load.sent and time.perf_counter() - started < DRAIN_S:
        time.sleep(_POLL_S)
    wall = time.perf_counter() - started
    if filed(site) < before + load.sent:
        raise RuntimeError("not everything was filed in time")
    return load, wall, tree_cpu_s(site.pid) - cpu


def measure_peer(
    site: DemoSite, peer: Peer, raw: list[bytes], *, connections: int, kept: bool
) -> tuple[Load, float, float]:
    """Send to Postfix; give the load, seconds until Dovecot has the last, and CPU seconds."""
    before = peer.delivered()
    cpu = peer.cpu_s()
    started = time.perf_counter()
    load = run_load(target(site, peer.port), raw, connections=connections, kept=kept)
    while peer.delivered() < before + load.sent and time.perf_counter() - started < DRAIN_S:
        time.sleep(_POLL_S)
    wall = time.perf_counter() - started
    return load, wall, peer.cpu_s() - cpu


def figure(who: str, kilobytes: int, *, kept: bool, run: tuple[Load, float, float]) -> Figure:
    """Reduce one run."""
    load, wall, cpu = run
    if load.refused:
        raise RuntimeError(f"{who} refused {len(load.refused)}: {load.refused[0]}")
    return Figure(
        who,
        kilobytes,
        kept,
        load.sent / wall,
        cpu / load.sent * 1000,
        load.percentile_ms(50),
        load.percentile_ms(99),
        load.sent / load.wall_s,
    )


def show(figures: list[Figure]) -> None:
    """Print medians, and the ratio of Pli to the pair for each kind of run."""
    kinds = sorted({(f.size_kb, not f.kept) for f in figures})
    for size, apart in kinds:
        rates: dict[str, float] = {}
        for who in ("pli", "postfix+dovecot"):
            rows = [f for f in figures if f.who == who and f.size_kb == size and f.kept != apart]
            if not rows:
                continue
            rates[who] = statistics.median(f.rate for f in rows)
            print(
                f"{size:4} kB {'one connection each' if apart else 'kept connections   '} "
                f"{who:16} {rates[who]:7.1f}/s end to end, "
                f"{statistics.median(f.accepted_rate for f in rows):7.1f}/s accepted, "
                f"CPU {statistics.median(f.cpu_ms for f in rows):6.2f} ms each, 250 after "
                f"p50 {statistics.median(f.p50_ms for f in rows):6.1f} "
                f"p99 {statistics.median(f.p99_ms for f in rows):6.1f} ms"
            )
        if len(rates) == 2:
            ratio = rates["pli"] / rates["postfix+dovecot"]
            print(f"{'':8}ratio pli / postfix+dovecot: {ratio:.2f}")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=400, help="messages of a run")
    parser.add_argument("--sizes", default="60,400", help="kB of the CDA, comma-separated")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    options = parser.parse_args()
    figures: list[Figure] = []
    place = Path(tempfile.mkdtemp(prefix="pli-bench-"))
    place.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        site = DemoSite.create(place / "site")
        site.start()
        stack.callback(site.stop)
        peer = None
        if not options.no_peer:
            peer = stack.enter_context(beside(site, place / "peer"))
        for round_number in range(options.rounds):
            for size in (int(text) for text in options.sizes.split(",")):
                count = options.count if size <= 100 else max(20, options.count // 4)
                for kept in (True, False):
                    tag = f"{round_number}.{size}.{int(kept)}.{time.time_ns()}"
                    raw = messages(site, size, count, tag)
                    runs = {"connections": options.connections, "kept": kept}
                    if round_number == 0:
                        warm = messages(site, size, WARM_UP, f"{tag}.warm")
                        measure_pli(site, warm, **runs)
                        if peer is not None:
                            measure_peer(site, peer, warm, **runs)
                    figures.append(
                        figure("pli", size, kept=kept, run=measure_pli(site, raw, **runs))
                    )
                    if peer is not None:
                        figures.append(
                            figure(
                                "postfix+dovecot",
                                size,
                                kept=kept,
                                run=measure_peer(site, peer, raw, **runs),
                            )
                        )
        show(figures)
    if options.json is not None:
        options.json.write_text(json.dumps([vars(f) for f in figures], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
