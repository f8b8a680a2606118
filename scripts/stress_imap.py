"""The long IMAP stress run; the short one is tests/integration/imap/test_stress.py."""

import argparse
import asyncio
import logging
import sys
import time
from pathlib import Path

import structlog
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.imap_site import serve
from tests.support.imap_stress import Outcome, run
from tests.support.imap_stress_client import Load


async def stress(load: Load) -> Outcome:
    """Serve a fresh mailbox and let the clients at it."""
    async with serve(plaintext=frozenset({"127.0.0.1"})) as site:
        return await run(site, load)


def main() -> int:
    """Run and print; exit 0 when no fault was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    uvloop.install()
    outcome = asyncio.run(stress(Load(options.clients, options.minutes * 60, options.seed)))
    total = sum(outcome.commands.values())
    print(
        f"{options.clients} clients, {outcome.seconds:.0f} s, {outcome.messages} messages, "
        f"{total} commands: "
        + ", ".join(f"{name} {count}" for name, count in outcome.commands.most_common())
    )
    for violation in outcome.violations:
        print(f"{violation.fault.name} ({violation.where}): {violation.what}")
    print("holds" if not outcome.violations else "DOES NOT HOLD")
    return 0 if not outcome.violations else 1


if __name__ == "__main__":
    sys.exit(main())
