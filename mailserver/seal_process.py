"""The seal child: holds the structures' keys, and signs what the mail child has queued.

Invariants: it reads the mail and directory databases and writes neither; it listens on the site's
own 0600 socket only. It also keeps the practice authorities' lists and certificates young, so that
no authority's key is read by a process that talks to strangers.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from certs.keystore import KeyStore
from mailserver.background import Background, every
from mailserver.control import Owner, serve_control, sole_owner
from mailserver.databases import now, open_directory, open_store
from mailserver.practice import keep_young
from mailserver.seal_desk import SealDesk
from mailserver.settings import Settings, Site

RENEW_EVERY_S = 600.0


@asynccontextmanager
async def seal_process(site: Site, settings: Settings) -> AsyncIterator[dict[str, int]]:
    """Run the seal child until the block ends; it has no port."""
    keystore = KeyStore(site.pki, clock=now)

    async def renew() -> None:
        await asyncio.to_thread(keystore.refresh_crls)
        await asyncio.to_thread(keep_young, site, now())

    async with AsyncExitStack() as stack:
        stack.enter_context(sole_owner(site.run / f"{Owner.SEAL.value}.lock"))
        await renew()
        directory = await stack.enter_async_context(
            await open_directory(site, settings, read_only=True)
        )
        store = await stack.enter_async_context(await open_store(site, read_only=True))
        desk = SealDesk(store, directory, keystore, now)
        await stack.enter_async_context(serve_control(site.seal_socket, desk.table()))
        tasks = await stack.enter_async_context(Background())
        tasks.start(every(RENEW_EVERY_S, renew, "renew"))
        yield {}
