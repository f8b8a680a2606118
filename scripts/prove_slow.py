"""Two thousand slow connections (threats S9): an operator's messages still take under two seconds.

They come from ten addresses and more, and begin again whenever the server ends them: octets of a
greeting every twenty seconds, handshakes that stop half way on ports 25 and 465, and an operator
that says a message one octet a second. tests/e2e/test_slow_peers.py is the short version.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.site import DemoSite
from tests.support.slow_peers import attack, with_fair_use


def main() -> int:
    """Run and print; exit 0 when it holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--bound", type=float, default=2.0, help="seconds, 95 %% of the messages")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pli-slow-") as folder:
        site = DemoSite.create(Path(folder) / "site")
        with_fair_use(site)
        site.start()
        try:
            seen = asyncio.run(attack(site, options.connections, options.seconds))
        finally:
            site.stop()
    holds = not seen.failures and seen.share(95) <= options.bound
    print(
        f"{options.connections} slow connections, {seen.open} open at the end, {seen.begun} begun:"
        f" {len(seen.spent)} messages, {len(seen.failures)} failed; median {seen.share(50):.2f} s,"
        f" 95 % {seen.share(95):.2f} s, longest {max(seen.spent):.2f} s;"
        f" {seen.idle_mb:.0f} MB idle, +{seen.peak_mb - seen.idle_mb:.0f} MB at the most"
    )
    for failure in seen.failures[:5]:
        print(failure)
    print("holds" if holds else "DOES NOT HOLD")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
