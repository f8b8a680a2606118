"""Two hundred kills while mail leaves; the short version is tests/e2e/test_durability.py."""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.queue_durability import kill_the_queue
from tests.support.site import DemoSite


def main() -> int:
    """Run and print; exit 0 when the promise held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--senders", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=1e6, help="after which kills end")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)

    def progress(kill: int, accepted: int) -> None:
        if kill % 10 == 0 or kill == options.kills:
            print(f"kill {kill}: {accepted} accepted so far", flush=True)

    with tempfile.TemporaryDirectory(prefix="pli-queue-") as folder:
        outcome = kill_the_queue(
            # Beside the ports that other runs on this machine choose from: at each kill, ours look
            # free for seconds.
            DemoSite.create(Path(folder) / "site", base=random.choice(range(8000, 9960, 40))),
            kills=options.kills,
            senders=options.senders,
            seed=options.seed,
            until=time.monotonic() + options.minutes * 60,
            progress=progress,
        )
    print(
        f"kills {outcome.kills}, accepted {outcome.accepted}, lost {len(outcome.missing)}, sent "
        f"again though noted {len(outcome.again)}, twice in the instant between the peer's 250 "
        f"and the note {len(outcome.open_instant)}, set aside {outcome.held}, audit exit "
        f"{outcome.audit_exit}"
    )
    print("holds" if outcome.holds else "DOES NOT HOLD")
    return 0 if outcome.holds else 1


if __name__ == "__main__":
    sys.exit(main())
