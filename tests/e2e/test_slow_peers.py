"""Slow peers from many addresses do not slow an operator down (threats S9).

The long version is ``scripts/prove_slow``: two thousand connections for two minutes.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.site import DemoSite
from tests.support.slow_peers import attack, with_fair_use

pytestmark = pytest.mark.timeout(180)
CONNECTIONS = 500
SECONDS = 12.0
"""Longer than a handshake may take: some peers were cut off and have begun again."""
BOUND_S = 2.0
BOUND_MB = 100


@pytest.fixture
def site(tmp_path: Path) -> Iterator[DemoSite]:
    site = DemoSite.create(tmp_path / "site")
    with_fair_use(site)
    site.start()
    yield site
    site.stop()


def test_an_operator_sends_in_time_among_five_hundred_slow_connections(site: DemoSite) -> None:
    seen = asyncio.run(attack(site, CONNECTIONS, SECONDS))

    assert seen.failures == []
    assert seen.begun > CONNECTIONS
    assert seen.open > CONNECTIONS * 9 // 10
    assert seen.share(95) < BOUND_S
    assert seen.peak_mb - seen.idle_mb < BOUND_MB
