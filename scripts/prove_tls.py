"""All sections of testssl.sh on each listener; tests/interop/test_testssl.py is the short one."""

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.site import DemoSite
from tests.support.testssl import ACCEPTED, LISTENERS, SUITES, WHOLE, examine, suites


def main() -> int:
    """Run and print; exit 0 when nothing is found that is not accepted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--timeout", type=float, default=1200, help="seconds for each listener")
    options = parser.parse_args()
    if shutil.which("testssl") is None:
        print("testssl.sh is not installed (Debian: testssl.sh)", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="pli-tls-") as folder:
        site = DemoSite.create(Path(folder) / "site")
        site.start()
        try:
            findings = examine(site, WHOLE, timeout=options.timeout)
        finally:
            site.stop()
    wrong = [finding for finding in findings if not finding.accepted]
    for listener in LISTENERS:
        mine = [finding for finding in findings if finding.listener == listener]
        counts = Counter(finding.severity for finding in mine)
        taken = suites(findings, listener)
        print(f"{listener}: {dict(counts)}; suites {', '.join(sorted(taken))}")
        wrong += [finding for finding in mine if not taken or not taken <= SUITES][:1]
    for name in sorted({finding.id for finding in findings if finding.severity != "OK"}):
        if name in ACCEPTED:
            print(f"accepted: {name}: {ACCEPTED[name]}")
    for finding in wrong:
        print(f"NOT ACCEPTED: {finding.listener} {finding.severity} {finding.id}: {finding.text}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
