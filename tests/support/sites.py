"""Fixtures of whole families of tests: the trust space's world, and a mail site in it.

A folder's ``conftest.py`` offers them to its tests.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.mail_site import MailSite, World, mail_site, world


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two listed operators, us, and the authorities of all; one for the tests of a module."""
    return world(tmp_path_factory.mktemp("world"))


@pytest.fixture
async def site(where: World, tmp_path: Path) -> AsyncIterator[MailSite]:
    """A mail site of that world with its listeners; a module may have another ``site``."""
    async with mail_site(where, tmp_path) as opened:
        yield opened
