"""What the tests of real listeners share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.notifying import Relaying, issue
from tests.support.sites import site, where

__all__ = ["site", "where"]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authority and the certificate of a relay of notifications."""
    return issue(tmp_path_factory.mktemp("relay"))


@pytest.fixture
async def relaying(certificates: Path) -> AsyncIterator[Relaying]:
    """A relay that takes notifications."""
    relaying = Relaying(certificates)
    async with relaying.listening():
        yield relaying
