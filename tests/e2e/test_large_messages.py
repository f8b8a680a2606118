"""Large messages that come all at once are all taken, in little memory (DESIGN D5b).

The long version is ``scripts/prove_memory``: fifty senders of 25 MB.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.memory import send_at_once
from tests.support.site import DemoSite

pytestmark = pytest.mark.timeout(180)
SENDERS = 8
OCTETS = 25_000_000
BOUND_MB = 300


@pytest.fixture
def site(tmp_path: Path) -> Iterator[DemoSite]:
    site = DemoSite.create(tmp_path / "site")
    site.start()
    yield site
    site.stop()


def test_eight_messages_of_25_mb_at_once_are_taken_in_bounded_memory(site: DemoSite) -> None:
    seen = send_at_once(site, SENDERS, OCTETS)

    assert seen.failures == []
    assert seen.accepted == SENDERS
    assert seen.growth_mb < BOUND_MB, seen
