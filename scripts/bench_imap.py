"""IMAP beside Debian's Dovecot: the same mailboxes, the same commands, in the same run.

Both store with fsync and speak plain IMAP on the loopback address. Every round measures one after
the other; medians and the ratio Pli to Dovecot are printed (above 1: Pli is faster).
"""

import argparse
import asyncio
import resource
import shutil
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_imap_client import Client, fill, message, timed
from bench_imap_memory import held_memory, hostile, idle
from bench_imap_servers import Server, dovecot, indexed, pli_site, restarted
from bench_peer import tree_cpu_s

from tests.support.site import DemoSite

BIG, BODIES, SMALL = "Grand", "Corps", "Petit"

Measure = Callable[[Server], Awaitable[float]]


def appends(connections: int, count: int) -> Measure:
    """Messages of 3 kB a second over so many connections."""

    async def measure(server: Server) -> float:
        clients = [await Client().open(server) for _ in range(connections)]
        numbers = iter(range(count))

        async def some(client: Client) -> None:
            for number in numbers:
                await client.append(SMALL, message(number, 3000))

        seconds = await timed(asyncio.gather(*map(some, clients)))
        for client in clients:
            client.close()
        return count / seconds

    return measure


def command(box: str, text: str, per: str = "messages") -> Measure:
    """Messages a second, or runs a second, of one command on a selected folder."""

    async def measure(server: Server) -> float:
        client = await Client().open(server)
        count = await client.select(box)
        seconds = await timed(client.run(text))
        client.close()
        return (count if per == "messages" else 1) / seconds

    return measure


def logins(count: int) -> Measure:
    """Connect, LOGIN, SELECT and LOGOUT, one after the other, a second."""

    async def measure(server: Server) -> float:
        async def all_of_them() -> None:
            for _ in range(count):
                client = await Client().open(server)
                await client.select(BODIES)
                client.close()

        return count / await timed(all_of_them())

    return measure


def stores(count: int) -> Measure:
    """STORE one message at a time, a second."""

    async def measure(server: Server) -> float:
        client = await Client().open(server)
        await client.select(BODIES)
        await client.run(r"STORE 1:* -FLAGS.SILENT (\Flagged)")

        async def all_of_them() -> None:
            for number in range(1, count + 1):
                await client.run(rf"STORE {number} +FLAGS.SILENT (\Flagged)")

        rate = count / await timed(all_of_them())
        client.close()
        return rate

    return measure


def idle_delay(count: int) -> Measure:
    """One over the median seconds from an APPEND's OK to EXISTS at a client in IDLE."""

    async def measure(server: Server) -> float:
        idler, writer = await Client().open(server), await Client().open(server)
        await idler.select(SMALL)
        tag = idler.send("IDLE")
        await idler.until(b"+ ")
        await idler.until(b"\r\n")
        delays = []
        for number in range(count):
            waiting = asyncio.create_task(idler.until(b" EXISTS\r\n"))
            await writer.append(SMALL, message(number, 3000))
            told = time.perf_counter()
            await waiting
            delays.append(max(time.perf_counter() - told, 1e-5))
            await asyncio.sleep(0.05)
        idler.writer.write(b"DONE\r\n")
        await idler.end(tag)
        idler.close()
        writer.close()
        return 1 / statistics.median(delays)

    return measure


ROWS: tuple[tuple[str, str, Measure], ...] = (
    ("APPEND 3 kB, 1 connection", "/s", appends(1, 150)),
    ("APPEND 3 kB, 8 connections", "/s", appends(8, 600)),
    ("FETCH FLAGS of 10,000", "messages/s", command(BIG, "FETCH 1:* (FLAGS)")),
    (
        "FETCH ENVELOPE BODYSTRUCTURE of 10,000",
        "messages/s",
        command(BIG, "FETCH 1:* (ENVELOPE BODYSTRUCTURE)"),
    ),
    ("FETCH BODY[] of 2,000 x 20 kB", "messages/s", command(BODIES, "FETCH 1:* (BODY.PEEK[])")),
    ("connect, LOGIN, SELECT", "/s", logins(60)),
    ("SEARCH FROM of 10,000", "/s", command(BIG, "SEARCH FROM sender17@bench.test", "runs")),
    ("SEARCH TEXT of 10,000", "/s", command(BIG, "SEARCH TEXT troponine", "runs")),
    ("STORE one by one", "/s", stores(200)),
    ("IDLE delay (1/s)", "/s", idle_delay(10)),
)


async def compare(servers: list[Server], rounds: int, wanted: str) -> None:
    """Measure every row on every server, turn by turn, and print medians and ratios."""
    print(f"{'':42}{'Pli':>12}{'Dovecot':>12}{'ratio':>8}")
    for name, unit, measure in ROWS:
        if wanted and wanted.lower() not in name.lower():
            continue
        figures: dict[str, list[float]] = {server.name: [] for server in servers}
        for _ in range(rounds):
            for server in servers:
                figures[server.name].append(await measure(server))
        medians = [statistics.median(each) for each in figures.values()]
        told = "".join(f"{median:12,.1f}" for median in medians)
        ratio = f"{medians[0] / medians[1]:8.2f}" if len(medians) > 1 else ""
        print(f"{name:42}{told}{ratio}  {unit}", flush=True)


async def flatness(server: Server, sizes: list[int]) -> None:
    """Print what one message costs in folders of several sizes, once they were looked at."""
    for size in sizes:
        await fill(server, f"F{size}", size, 1500)
        await asyncio.to_thread(indexed, server)
    for items in ("FLAGS", "FLAGS ENVELOPE", "ENVELOPE BODYSTRUCTURE"):
        for size in sizes:
            client = await Client().open(server)
            await client.select(f"F{size}")
            await client.run(f"FETCH 1:* ({items})")
            runs = max(5, 2 * sizes[-1] // size)
            cpu = tree_cpu_s(server.pid)
            times = [await timed(client.run(f"FETCH 1:* ({items})")) for _ in range(runs)]
            cpu = tree_cpu_s(server.pid) - cpu
            client.close()
            print(
                f"FETCH {items}, {size:,} in the folder: {cpu / runs / size * 1e6:.2f} us of CPU"
                f" a message, {statistics.median(times) / size * 1e6:.2f} us in all",
                flush=True,
            )


async def fill_all(servers: list[Server]) -> None:
    """Make the folders that the rows look at."""
    for each in servers:
        for box, count, octets in ((BIG, 10_000, 3000), (BODIES, 2000, 20_000), (SMALL, 1, 3000)):
            await fill(each, box, count, octets)
    waited = await asyncio.to_thread(indexed, servers[0])
    print(f"the last message was read into the search index {waited:.0f} s later")


async def memory(server: Server, site: DemoSite, peer: Server | None, count: int) -> None:
    """Print what idle and hostile connections cost, each kind on a server that just started."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for kind, tls in (("plain", None), ("TLS", context)):
        cost = await held_memory(restarted(server, site), count, partial(idle, tls=tls))
        print(f"IDLE, {count:,} connections over {kind}: {cost:.1f} kB each", flush=True)
    for kind, octets in (("silent", b""), ("amid a command of 8,000 octets", b"a1 X" * 2000)):
        fresh = restarted(server, site)
        cost = await held_memory(fresh, 1000, partial(hostile, octets=octets))
        print(f"before LOGIN, 1,000 connections {kind}: {cost:.1f} kB each", flush=True)
    if peer is not None:
        cost = await held_memory(peer, 200, idle)
        print(f"Dovecot, 200 in IDLE: {cost:.1f} kB each", flush=True)


async def measure(
    options: argparse.Namespace, server: Server, site: DemoSite, peer: Server | None
) -> None:
    """Run what was asked for."""
    servers = [server] if peer is None else [server, peer]
    if options.rounds:
        await fill_all(servers)
        await compare(servers, options.rounds, options.row)
    if options.flat:
        await flatness(server, [1000, 10_000, options.flat])
    if options.idle:
        await memory(server, site, peer, options.idle)


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(prog="scripts/bench imap", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="0: no rows")
    parser.add_argument("--row", default="", help="only rows whose name holds this")
    parser.add_argument("--idle", type=int, default=0, help="memory of so many idle connections")
    parser.add_argument("--flat", type=int, default=0, help="cost up to a folder of this size")
    parser.add_argument("--no-peer", action="store_true")
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 16_384)), hard))
    folder = Path(tempfile.mkdtemp(prefix="pli-bench-"))
    folder.chmod(0o755)
    try:
        with ExitStack() as stack:
            server, site = stack.enter_context(pli_site(folder))
            peer = None if options.no_peer else stack.enter_context(dovecot(folder / "dovecot"))
            asyncio.run(measure(options, server, site, peer))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
