"""How soon a child that dies is started again, and how many files it may open."""

import subprocess
import sys
from collections import deque
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mailserver.supervisor import LONGEST_PAUSE_S, RESTARTS_AT_ONCE, _pause_after_death


def child_with(deaths: list[float]) -> Any:
    return cast("Any", SimpleNamespace(deaths=deque(deaths)))


@pytest.mark.parametrize(
    ("earlier", "pause"),
    [
        pytest.param(0, 0.0, id="the first death"),
        pytest.param(RESTARTS_AT_ONCE - 1, 0.0, id="the last that is answered at once"),
        pytest.param(RESTARTS_AT_ONCE, 2.0, id="one more"),
        pytest.param(RESTARTS_AT_ONCE + 1, 4.0, id="two more"),
        pytest.param(50, LONGEST_PAUSE_S, id="far more"),
    ],
)
def test_deaths_within_a_minute_make_pauses_that_grow(earlier: int, pause: float) -> None:
    assert pause == _pause_after_death(child_with([100.0] * earlier), 110.0)


def test_deaths_of_long_ago_are_forgotten() -> None:
    child = child_with([1.0] * 20)

    assert _pause_after_death(child, 100.0) == 0.0
    assert list(child.deaths) == [100.0]


@pytest.mark.parametrize(
    ("soft", "hard", "after"),
    [
        pytest.param(256, 512, "512 512", id="to what the system allows"),
        pytest.param(512, 512, "512 512", id="there already"),
    ],
)
def test_a_child_takes_the_open_files_that_it_may_have(soft: int, hard: int, after: str) -> None:
    program = (
        "import resource as r; from mailserver.supervisor import open_many_files as more;"
        f" r.setrlimit(r.RLIMIT_NOFILE, ({soft}, {hard})); more();"
        " print(*r.getrlimit(r.RLIMIT_NOFILE))"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == after
