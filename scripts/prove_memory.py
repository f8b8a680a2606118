"""Fifty senders of 25 MB at once: every message is taken, and all of them cost less than 300 MB.

The anonymous memory (proportional set size) of the supervisor and of all that it started is read
twenty times a second, and its peak held against what the idle server takes.
tests/e2e/test_large_messages.py is the short version.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.memory import send_at_once
from tests.support.site import DemoSite


def main() -> int:
    """Run and print; exit 0 when it holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--senders", type=int, default=50)
    parser.add_argument("--megabytes", type=float, default=25)
    parser.add_argument("--bound", type=int, default=300, help="MB above idle, in all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pli-memory-") as folder:
        site = DemoSite.create(Path(folder) / "site")
        site.start()
        try:
            seen = send_at_once(site, options.senders, int(options.megabytes * 1_000_000))
        finally:
            site.stop()
    holds = seen.growth_mb <= options.bound and seen.accepted == options.senders
    print(
        f"{options.senders} senders of {options.megabytes:g} MB: {seen.accepted} accepted in "
        f"{seen.seconds:.1f} s; {seen.idle_mb:.0f} MB idle, +{seen.growth_mb:.0f} MB at the most "
        f"(processes: {seen.parts}), {seen.after_mb:.0f} MB after"
    )
    print("holds" if holds else "DOES NOT HOLD")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
