"""The main job as a newcomer plays it: ``scripts/demo --check`` on this checkout."""

import subprocess
import sys
from pathlib import Path

import pytest

PLAY = Path(__file__).parents[2] / "scripts" / "play.py"


@pytest.mark.timeout(180)
def test_the_demo_plays_the_main_job_and_verifies_it_from_outside(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(PLAY), "--check", "--dir", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "pli audit verify: received 1 = filed 1, balanced" in done.stdout
    assert "the MDN says: processed" in done.stdout
