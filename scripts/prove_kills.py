"""A hundred kills under load; the short version of it is tests/e2e/test_kill_after_250.py."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.durability import kill_under_load
from tests.support.reports import report_maker
from tests.support.site import DemoSite


def main() -> int:
    """Run and print; exit 0 when the promise held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--senders", type=int, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)

    def progress(kill: int, acknowledged: int) -> None:
        if kill % 10 == 0 or kill == options.kills:
            print(f"kill {kill}: {acknowledged} acknowledged so far", flush=True)

    with tempfile.TemporaryDirectory(prefix="pli-kills-") as folder:
        site = DemoSite.create(Path(folder) / "site")
        outcome = kill_under_load(
            site,
            report_maker(site),
            kills=options.kills,
            senders=options.senders,
            seed=options.seed,
            progress=progress,
        )
    print(
        f"kills {outcome.kills}, acknowledged {outcome.acknowledged}, missing "
        f"{len(outcome.missing)}, more than once {len(outcome.repeated)}, audit exit "
        f"{outcome.audit_exit}: {outcome.audit}"
    )
    print("holds" if outcome.holds else "DOES NOT HOLD")
    return 0 if outcome.holds else 1


if __name__ == "__main__":
    sys.exit(main())
