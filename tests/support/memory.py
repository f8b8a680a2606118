"""How much memory a running site takes while many large messages come in."""

import os
import smtplib
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.site import DemoSite

_EVERY_S = 0.05
_TIMEOUT_S = 600.0
_LINE = b"0123456789ABCDEF" * 4 + b"0123456789\r\n"


@dataclass(slots=True)
class Seen:
    """What a run saw; sizes are proportional set sizes of all processes, in MB."""

    idle_mb: float = 0.0
    peak_mb: float = 0.0
    after_mb: float = 0.0
    accepted: int = 0
    seconds: float = 0.0
    parts: str = ""
    """The peak by process, largest first."""
    failures: list[str] = field(default_factory=list)

    @property
    def growth_mb(self) -> float:
        """What the messages took at the most, beside what an idle server takes."""
        return self.peak_mb - self.idle_mb


def sizes_mb(root: int) -> dict[int, float]:
    """Give the proportional set size of a process and of each of its descendants."""
    found: dict[int, float] = {}
    pending = [root]
    while pending:
        pid = pending.pop()
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            tasks = [task / "children" for task in Path(f"/proc/{pid}/task").iterdir()]
            pending += [int(child) for task in tasks for child in task.read_text().split()]
        except OSError:
            continue
        lines = [line.split() for line in rollup.splitlines()[1:]]
        found[pid] = sum(int(words[1]) for words in lines if words[0] == "Pss_Anon:") / 1000
    return found


def letter(number: int, octets: int, site: DemoSite) -> bytes:
    """Make a message of that many octets that no two senders share."""
    head = (
        f"From: <{site.demo['operators'][0]['sender']}>\r\nTo: <x@y.test>\r\nSubject: essai\r\n"
        f"Date: Mon, 02 Nov 2026 10:20:00 +0100\r\nMessage-ID: <{number}.{os.getpid()}@x.test>\r\n"
        "\r\n"
    ).encode()
    lines = (octets - len(head)) // len(_LINE)
    return head + _LINE * lines


def send_at_once(site: DemoSite, senders: int, octets: int) -> Seen:
    """Let so many operators' connections each send one message, all beginning together."""
    seen = Seen()
    time.sleep(1.0)
    seen.idle_mb = sum(sizes_mb(site.pid).values())
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_EVERY_S):
            parts = sizes_mb(site.pid)
            total = sum(parts.values())
            if total > seen.peak_mb:
                seen.peak_mb = total
                seen.parts = ", ".join(
                    f"{size:.0f}" for size in sorted(parts.values(), reverse=True)
                )

    start = threading.Barrier(senders)
    sender = site.demo["operators"][0]["sender"]
    to = site.demo["practitioners"][0]["address"]

    def send(number: int) -> None:
        start.wait()
        try:
            with smtplib.SMTP("localhost", site.port("smtp"), timeout=_TIMEOUT_S) as client:
                client.starttls(context=site.operator_tls())
                refused = client.sendmail(sender, [to], letter(number, octets, site))
            assert refused == {}
        except (OSError, AssertionError) as error:
            seen.failures.append(repr(error))
        else:
            seen.accepted += 1

    watcher = threading.Thread(target=watch)
    threads = [threading.Thread(target=send, args=(number,)) for number in range(senders)]
    began = time.perf_counter()
    for thread in (watcher, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    seen.seconds = time.perf_counter() - began
    done.set()
    watcher.join()
    seen.after_mb = sum(sizes_mb(site.pid).values())
    return seen
