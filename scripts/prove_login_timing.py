"""Measure that an unknown name and a wrong secret are answered after the same time (threat S10).

For each front end and mechanism, wrong logins of a known and of an unknown name alternate, on
connections of their own, so that each is a first one and waits as long; the medians must differ
by less than 5 ms and a rank test must not tell the two apart (p over 0.01).

Usage: scripts/prove_login_timing [--count 500]
"""

import argparse
import asyncio
import math
import statistics
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mailserver import logs
from tests.support.login_line import FRONTS, Door, LoginLine, doors
from tests.support.scram import ScramClient

MAX_DIFFERENCE_S = 0.005
MIN_P = 0.01
DELAY_S = 0.05
"""A tenth of what IMAP waits, an eighth of submission's, to measure in a minute or two."""
UNKNOWN = "nobody@nowhere.test"
WRONG = "x" * 24


async def wrong_login(line: LoginLine, login: str, mechanism: str) -> bytes | str:
    """Fail once; gives the last line."""
    if mechanism == "PLAIN":
        return await line.begin("PLAIN", f"\0{login}\0{WRONG}".encode())
    if mechanism == "LOGIN":
        await line.begin("LOGIN", login.encode())
        return await line.answer(WRONG.encode())
    client = ScramClient(login, WRONG)
    challenge = await line.begin("SCRAM-SHA-256", client.first())
    if isinstance(challenge, str):
        raise SystemExit("SCRAM was not begun")
    return await line.answer(client.final(challenge))


async def measure(door: Door, mechanism: str, count: int) -> tuple[list[float], list[float]]:
    """Give the seconds of ``count`` refusals of a known name and of an unknown one."""
    known: list[float] = []
    unknown: list[float] = []
    for _ in range(count):
        for login, took in ((door.login, known), (UNKNOWN, unknown)):
            line = await door.line()
            started = time.perf_counter()
            said = await wrong_login(line, login, mechanism)
            took.append(time.perf_counter() - started)
            if not line.refused(str(said)):
                raise SystemExit(f"{mechanism}: not the answer of a wrong login")
            await door.forget()
    return known, unknown


def rank_test(first: list[float], second: list[float]) -> float:
    """Give the two-sided p of Mann and Whitney's test, by its normal approximation."""
    ranked = sorted(chain(((value, 0) for value in first), ((value, 1) for value in second)))
    ranks = sum(place for place, (_, side) in enumerate(ranked, start=1) if side == 0)
    n, m = len(first), len(second)
    mean = n * (n + m + 1) / 2
    deviation = math.sqrt(n * m * (n + m + 1) / 12)
    return math.erfc(abs(ranks - mean) / deviation / math.sqrt(2))


async def prove(count: int) -> bool:
    """Measure everything, print a line for each, and say whether all of it holds."""
    sound = True
    for front in FRONTS:
        with tempfile.TemporaryDirectory() as folder:
            async with doors(front, Path(folder), delay_s=DELAY_S) as door:
                for mechanism in ("PLAIN", "LOGIN", "SCRAM-SHA-256"):
                    known, unknown = await measure(door, mechanism, count)
                    medians = statistics.median(known), statistics.median(unknown)
                    difference, p = abs(medians[0] - medians[1]), rank_test(known, unknown)
                    good = difference < MAX_DIFFERENCE_S and p > MIN_P
                    sound = sound and good
                    print(
                        f"{front} {mechanism:14} known {medians[0] * 1000:.3f} ms, "
                        f"unknown {medians[1] * 1000:.3f} ms, "
                        f"difference {difference * 1000:.3f} ms, p {p:.3f}"
                        f"{'' if good else '   TOLD APART'}"
                    )
    return sound


def main() -> int:
    """Prove it; 1 when the two can be told apart."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--count", type=int, default=500, help="of each name (default 500)")
    options = parser.parse_args()
    logs.configure(level="WARNING")
    return 0 if asyncio.run(prove(options.count)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
