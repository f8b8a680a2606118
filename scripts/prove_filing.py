"""A kill at every statement of delivery and filing; short: tests/e2e/test_filing_durability.py."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.support.filing_durability import UNTRIED, Child, prove_filing

DELIVERY_STEPS = 31
"""A delivery to three mailboxes runs about 20 statements; later ones kill nothing."""
FILING_STEPS = 110
"""A message of three documents runs about 100."""


def main() -> int:
    """Run and print; exit 0 when the promise held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2 * FILING_STEPS)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    moments = [
        (number % DELIVERY_STEPS + 1, number % FILING_STEPS + 1) if number % 2 else (UNTRIED,) * 2
        for number in range(options.rounds)
    ]

    def progress(number: int, mail: Child, bridge: Child) -> None:
        if (number + 1) % 10 == 0:
            print(f"round {number + 1}: {mail.kills} + {bridge.kills} kills", flush=True)

    with tempfile.TemporaryDirectory(prefix="pli-filing-") as folder:
        proof = prove_filing(Path(folder), moments, seed=options.seed, progress=progress)
    for role, killed in proof.killed_at.items():
        spared = sorted(proof.passed[role] - set(killed))
        print(f"{role}: {sum(killed.values())} kills at {len(killed)} statements:")
        for name, count in sorted(killed.items()):
            print(f"  {count:4} {name}")
        print(f"  never at: {', '.join(spared) or 'none is left'}")
    print(f"messages {proof.messages}: {dict(sorted(proof.kinds.items()))}")
    print(f"recount: { {key: proof.recount[key] for key in _COUNTS} }")
    for each in proof.differences:
        print(f"differs: {each}")
    print(f"kills {proof.kills}, differences {len(proof.differences)}, exits {proof.exits}")
    print("holds" if proof.holds else "DOES NOT HOLD")
    return 0 if proof.holds else 1


_COUNTS = ("received", "filed", "quarantined", "duplicates", "other", "balanced", "agrees")

if __name__ == "__main__":
    sys.exit(main())
