"""Listens for IMAP connections and runs a session for each.

Invariants: every task lives in one task group; connections are counted, in all and by address;
stopping refuses new ones, lets the command in hand finish, then says BYE.

Source: RFC 9051 §2.1, RFC 8314 §3.2, RFC 7817 §2.
"""

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from mailserver.fairness import address_key
from mailserver.imap.connection import HANDSHAKE_DEADLINE_S, Connection
from mailserver.imap.context import Context
from mailserver.imap.session import Session
from mailserver.imap.shared import ImapBind, ImapLimits, ImapServices, Shared

__all__ = ["ImapBind", "ImapLimits", "ImapServices", "serve_imap"]

log = structlog.get_logger("mailserver")

BACKLOG = 1024


class _Listener:
    """The connections of one listener."""

    def __init__(self, shared: Shared, bind: ImapBind) -> None:
        self._shared = shared
        self._bind = bind
        self._addresses: Counter[str] = Counter()
        self._tasks: dict[asyncio.Task[None], Connection] = {}
        self.stopping = False

    def protocol(self) -> Connection:
        """Make the protocol of a new connection."""
        return Connection(self._accept)

    def _accept(self, connection: Connection) -> None:
        limits = self._bind.limits
        address = address_key(connection.peer)
        full = (
            len(self._tasks) >= limits.connections
            or self._addresses[address] >= limits.connections_per_address
        )
        if full or self.stopping:
            connection.write(b"* BYE Too many connections\r\n")
            connection.close()
            log.debug("imap_connection_refused", count=len(self._tasks))
            return
        self._addresses[address] += 1
        task = self._shared.spawn(Session(Context(self._shared, self._bind, connection)).run())
        self._tasks[task] = connection

        def ended(done: asyncio.Task[None]) -> None:
            del self._tasks[done]
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]

        task.add_done_callback(ended)

    async def stop(self) -> None:
        """End the sessions: each after its command in hand, or after the grace."""
        self.stopping = True
        for connection in self._tasks.values():
            connection.stop()
        if self._tasks:
            grace = self._bind.limits.stop_grace_s
            _, late = await asyncio.wait(list(self._tasks), timeout=grace)
            for task in late:
                task.cancel()


@asynccontextmanager
async def serve_imap(services: ImapServices, bind: ImapBind) -> AsyncIterator[int]:
    """Serve IMAP until the context ends; yields the port that was bound.

    Args:
        services: the store and the clock.
        bind: address, TLS and limits; port 0 takes a free one.
    """
    shared = Shared(services)
    listener = _Listener(shared, bind)
    failure: BaseException | None = None
    async with asyncio.TaskGroup() as group:
        shared.attach(group)
        auditor = group.create_task(shared.audit.run())
        server = await _listen(listener, bind)
        try:
            yield server.sockets[0].getsockname()[1]
        except BaseException as error:  # noqa: BLE001 - raised again below, not in a group of one
            failure = error
        finally:
            server.close()
            await listener.stop()
            auditor.cancel()
    if failure is not None:
        raise failure


async def _listen(listener: _Listener, bind: ImapBind) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    context: ssl.SSLContext | None = bind.tls if bind.implicit_tls else None
    return await loop.create_server(
        listener.protocol,
        bind.host,
        bind.port,
        ssl=context,
        backlog=BACKLOG,
        ssl_handshake_timeout=HANDSHAKE_DEADLINE_S if context else None,
    )
