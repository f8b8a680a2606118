"""The promise of RULES §2 under kill -9 at single statements; the long run: scripts/prove_filing."""

from pathlib import Path

import pytest

from tests.support.filing_durability import UNTRIED, SplitCommit, prove_filing


@pytest.mark.timeout(400)
def test_kills_at_statements_of_delivery_and_filing_change_nothing(tmp_path: Path) -> None:
    numbered = [(2 + 5 * number, 3 + 9 * number) for number in range(4)]
    moments = [each for numbers in numbered for each in ((UNTRIED, UNTRIED), numbers)]

    proof = prove_filing(tmp_path, moments, seed=20261130)

    assert proof.differences == []
    assert proof.holds, (proof.exits, proof.recount)
    assert min(sum(each.values()) for each in proof.killed_at.values()) >= 4


@pytest.mark.timeout(400)
@pytest.mark.parametrize("role", ["mail", "bridge"])
def test_a_commit_broken_in_two_is_caught(tmp_path: Path, role: str) -> None:
    moments = [(step, 400) if role == "mail" else (400, step) for step in range(10, 50, 5)]

    proof = prove_filing(tmp_path, moments, seed=5, connect={role: SplitCommit})

    assert not proof.holds
    assert proof.differences
