"""The ports that tests are given (tests/support/ports.py)."""

import subprocess
import sys

from tests.support.ports import PORT_OFFSETS, free_base

_TAKE = """
import sys
from tests.support.ports import free_base
print(*[free_base() for _ in range(100)], flush=True)
sys.stdin.read()
"""


def test_processes_side_by_side_are_never_given_the_same_port():
    takers = [
        subprocess.Popen(
            [sys.executable, "-c", _TAKE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    bases = [int(base) for each in takers for base in each.stdout.readline().split()]
    for each in takers:
        each.communicate()

    ports = [base + offset for base in bases for offset in PORT_OFFSETS]
    assert len(bases) == 300
    assert len(set(ports)) == len(ports)


def test_what_was_given_before_is_given_again_to_who_prefers_it():
    base = free_base()

    assert free_base(base) == base
    assert free_base() != base
