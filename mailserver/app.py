"""Composition roots: where the objects of one process are built, started and stopped.

``python -m mailserver.app seal|mail|bridge DIR FD`` is a child of the supervisor; FD is the pipe
on which it says that it listens. ``local_commands`` builds only what a command needs, in the
command line's own process, under the same lock as the child (DESIGN D4, D5). Each loads its own
part of the program.
"""

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import structlog
import uvloop

from mailserver import logs
from mailserver.control import Command, Owner
from mailserver.databases import now, open_directory, open_store
from mailserver.settings import Settings, Site
from mailserver.supervisor import announce, die_with_parent, open_many_files

log = structlog.get_logger("mailserver.app")

SWITCH_S: Final = 0.0005
"""How long the loop may keep the interpreter from the database's threads. With Python's 5 ms a
busy loop held up each statement of a commit: 10 to 15 % of the messages a second."""


@asynccontextmanager
async def local_commands(site: Site, owner: Owner) -> AsyncIterator[Mapping[str, Command]]:
    """Give the owner's commands on databases opened here; the caller holds the owner's lock."""
    settings = site.settings()
    async with AsyncExitStack() as stack:
        if owner is Owner.MAIL:
            from mailserver.commands import MailCommands  # noqa: PLC0415

            directory = await stack.enter_async_context(
                await open_directory(site, settings, read_only=False)
            )
            store = await stack.enter_async_context(await open_store(site, read_only=False))
            yield MailCommands(site, settings, store, directory, now).table()
        else:
            from mailserver.bridge_process import record_commands  # noqa: PLC0415

            directory = await stack.enter_async_context(
                await open_directory(site, settings, read_only=True)
            )
            yield await stack.enter_async_context(record_commands(site, settings, directory))


def main(arguments: list[str]) -> int:
    """Run one child of the supervisor.

    Args:
        arguments: role, site directory, descriptor of the pipe to announce on.
    """
    role, root, descriptor = Owner(arguments[0]), Path(arguments[1]), int(arguments[2])
    die_with_parent()
    open_many_files()
    logs.configure()
    sys.setswitchinterval(SWITCH_S)
    site = Site(root)
    try:
        settings = site.settings()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(role, site, settings, descriptor))
    except Exception:
        # Python's own last words would print the texts of exceptions that are not ours.
        log.exception("child_cannot_run", process=role.value)
        return 1


def _process(
    role: Owner,
) -> Callable[[Site, Settings], AbstractAsyncContextManager[dict[str, int]]]:
    if role is Owner.SEAL:
        from mailserver.seal_process import seal_process  # noqa: PLC0415

        return seal_process
    if role is Owner.MAIL:
        from mailserver.mail_process import mail_process  # noqa: PLC0415

        return mail_process
    from mailserver.bridge_process import bridge_process  # noqa: PLC0415

    return bridge_process


async def _serve(role: Owner, site: Site, settings: Settings, descriptor: int) -> int:
    """Run one child until SIGTERM."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    # Ctrl-C reaches the whole group of the terminal: the supervisor decides the order of the end.
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    async with _process(role)(site, settings) as ports:
        _settle_memory()
        announce(descriptor, ports)
        log.info("listening", process=role.value)
        await stopping.wait()
    return 0


def _settle_memory() -> None:
    """Take what was made to start (modules, statements) out of the collector's sight.

    A full collection looked at all of it, 80 to 90 ms in which nobody was served.
    """
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
