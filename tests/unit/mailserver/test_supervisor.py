"""How soon a child that dies is started again."""

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
