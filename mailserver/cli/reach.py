"""Where a command runs: in the child that owns the database, or here when nothing serves.

Invariants: a database has one writer; the lock beside the socket says who it is (DESIGN D5).
"""

import asyncio
import getpass
import os
from collections.abc import Mapping
from typing import Any

from mailserver.control import Owner, call, sole_owner
from mailserver.errors import SiteError
from mailserver.settings import Site

_START_UP_S = 10.0
_RETRY_S = 0.2


async def ask(site: Site, owner: Owner, command: str, arguments: Mapping[str, Any]) -> Any:
    """Run a command of ``owner``, as the person at this terminal, and give its result.

    Raises:
        CommandError: the command was refused.
        SiteError: another process holds the database and does not answer.
    """
    arguments = {**arguments, "actor": f"cli:{_person()}"}
    deadline = asyncio.get_running_loop().time() + _START_UP_S
    while True:
        try:
            return await call(site.run / f"{owner.value}.sock", command, arguments)
        except ConnectionError:
            pass
        try:
            with sole_owner(site.run / f"{owner.value}.lock"):
                # Only now: the whole server is imported for it, which takes most of a second.
                from mailserver.app import local_commands  # noqa: PLC0415

                async with local_commands(site, owner) as commands:
                    return await commands[command](arguments)
        except SiteError:
            # A child that is starting or stopping holds the lock without listening yet.
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(_RETRY_S)


def _person() -> str:
    """Name the system account of who types, also behind ``sudo -u`` of the site's own user."""
    return os.environ.get("SUDO_USER") or getpass.getuser()
