"""Filings per second and CPU per document; a record's pages at 10, 1,000 and 20,000 documents.

The mail child takes the reports while the bridge child is stopped (SIGSTOP); then the bridge alone
is timed, from the first message to the last filed, with one and with two of its workers (the
sandbox processes that open documents). Pages are asked for as a browser does, in process; the CPU
time is the whole request's, the median of five runs.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import signal
import smtplib
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench import messages
from bench_peer import tree_cpu_s

from mailserver import app
from record_bridge import worker
from tests.support.record_load import PAGES, Cost, cost, loaded
from tests.support.site import DemoSite

SIZES = {60: 200, 400: 60, 3000: 12}
"""Size in kB and how many reports of it."""
RECORDS = (10, 1_000, 20_000)
WARM_UP = 8
ROUNDS = 5
REQUESTS = 30
"""Of a page, in a round."""
_POLL_S = 0.01
_WAIT_S = 300.0


def child(role: str, root: str, announce: Any, workers: int) -> None:
    """Be a child of the site, with so many workers of the bridge."""
    worker.POOL_SIZE = workers
    os.dup2(os.open(f"{root}.{role}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
    descriptor = os.dup(announce.fileno())
    announce.close()
    sys.exit(app.main([role, root, str(descriptor)]))


def start(site: DemoSite, role: str, workers: int = 2) -> Any:
    """Start a child and wait until it is up."""
    context = multiprocessing.get_context("spawn")
    reading, writing = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(role, str(site.root), writing, workers))
    process.start()
    writing.close()
    os.read(reading.fileno(), 65536)
    return process


def filings(kilobytes: int, count: int, workers: int) -> tuple[float, float]:
    """Give filings per second and ms of CPU per document, of the bridge alone."""
    with tempfile.TemporaryDirectory(prefix="pli-bench-record-") as folder:
        site = DemoSite.create(Path(folder) / "site")
        made = messages(site, kilobytes, WARM_UP + count, f"record{kilobytes}")
        mail, bridge = start(site, "mail"), start(site, "bridge", workers)
        try:
            send(site, made[:WARM_UP])
            wait_filed(site, WARM_UP)
            os.kill(bridge.pid, signal.SIGSTOP)
            send(site, made[WARM_UP:])
            before = tree_cpu_s(bridge.pid)
            started = time.perf_counter()
            os.kill(bridge.pid, signal.SIGCONT)
            wait_filed(site, WARM_UP + count)
            spent = time.perf_counter() - started
            used = tree_cpu_s(bridge.pid) - before
        finally:
            for process in (bridge, mail):
                process.terminate()
                process.join()
    return count / spent, used * 1000 / count


def send(site: DemoSite, raws: list[bytes]) -> None:
    """Send over one connection."""
    sender, recipient = (
        site.demo["operators"][0]["sender"],
        site.demo["practitioners"][0]["address"],
    )
    with smtplib.SMTP("localhost", site.port("smtp"), timeout=60) as client:
        client.starttls(context=site.operator_tls())
        for raw in raws:
            client.sendmail(sender, [recipient], raw)


def wait_filed(site: DemoSite, count: int) -> None:
    """Wait until so many documents are in records."""
    until = time.monotonic() + _WAIT_S
    path = f"file:{site.root}/data/record.sqlite3?mode=ro"
    with closing(sqlite3.connect(path, uri=True)) as record:
        while record.execute("SELECT count(*) FROM document").fetchone()[0] < count:
            if time.monotonic() > until:
                raise TimeoutError
            time.sleep(_POLL_S)


async def pages() -> list[dict[str, Any]]:
    """Give statements per request and ms of CPU of each page, for a record of each size.

    The sizes take turns, so that what else the machine does falls on all of them alike.
    """
    found = []
    with tempfile.TemporaryDirectory(prefix="pli-bench-record-") as folder:
        async with AsyncExitStack() as stack:
            sites = {}
            for count in RECORDS:
                (place := Path(folder) / str(count)).mkdir()
                sites[count] = await stack.enter_async_context(loaded(place, count))
            for page in PAGES:
                runs: dict[int, list[Cost]] = {count: [] for count in RECORDS}
                for turn in range(1 + ROUNDS):
                    for count, (site, client) in sites.items():
                        run = await cost(site, client, page, REQUESTS)
                        if turn:  # the first warms up
                            runs[count].append(run)
                for count, row in runs.items():
                    cpu = round(statistics.median(run.cpu_ms for run in row), 1)
                    figures = {"statements": row[0].statements, "cpu_ms": cpu}
                    found.append({"documents": count, "page": page, **figures})
    return found


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=("filings", "pages"))
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of the filings")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures: dict[str, Any] = {"filings": [], "pages": []}
    if options.only != "pages":
        for kilobytes, count in SIZES.items():
            for workers in (1, 2):
                runs = [filings(kilobytes, count, workers) for _ in range(options.rounds)]
                rate, cpu = (statistics.median(column) for column in zip(*runs, strict=True))
                row = {
                    "kB": kilobytes,
                    "workers": workers,
                    "per_s": round(rate, 1),
                    "cpu_ms": round(cpu, 2),
                }
                figures["filings"].append(row)
                if not options.json:
                    print(row, flush=True)
    if options.only != "filings":
        for row in asyncio.run(pages()):
            figures["pages"].append(row)
            if not options.json:
                print(row, flush=True)
    if options.json:
        print(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
