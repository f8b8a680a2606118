"""Listen for operators (port 25) and for mail clients (587, 465).

A listener is an ``async with``: it is up inside, and on the way out it takes no new connection,
tells idle ones 421, lets messages in progress end within ``drain_s``, then cuts the rest.

Source: RFC 5321 §3.8, RFC 8314 §3.3.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog

from mailserver.fairness import Fairness, unlimited
from mailserver.smtp.conversation import Conversation, Deadlines, ProtocolSettings, Transaction
from mailserver.smtp.data import DataLimits
from mailserver.smtp.handler import InboundTransaction, SmtpServices
from mailserver.smtp.protocol import SmtpConnection
from mailserver.smtp.receiving import Reception
from mailserver.smtp.room import Room
from mailserver.smtp.submission import SubmissionTransaction

log = structlog.get_logger("mailserver")

BACKLOG = 2048
DRAIN_S = 10.0
_ACCEPT_AGAIN_S = 0.5
DEFAULT_SIZE_LIMIT = 25 * 1024 * 1024
"""What Mon espace santé takes (facts §1.2)."""


@dataclass(frozen=True, slots=True)
class SmtpBind:
    """Where and how one listener listens.

    Args:
        host: network address to bind.
        port: 0 takes any free one.
        tls: our certificate, and for port 25 who may vouch for operators.
        hostname: our name in the greeting.
        size_limit: octets of a message, as announced by SIZE.
        plaintext_login_from: network addresses that may log in without TLS (conformance tools).
        fairness: what each address and each operator may ask for (threats S9).
        spool_directory: where large messages are kept while they come in.
        room: in memory for large messages; one for all listeners of a process.
    """

    host: str
    port: int
    tls: ssl.SSLContext
    hostname: str
    size_limit: int = DEFAULT_SIZE_LIMIT
    max_recipients: int = 100
    max_connections: int = 2000
    fairness: Fairness = field(default_factory=unlimited)
    plaintext_login_from: frozenset[str] = frozenset()
    spool_directory: Path | None = None
    deadlines: Deadlines = field(default_factory=Deadlines)
    reception: Reception | None = None
    """Overrides limits and deadlines of DATA."""
    room: Room = field(default_factory=Room)
    drain_s: float = DRAIN_S


@dataclass(frozen=True, slots=True)
class _Open:
    """An open connection: from where, and how it is ended at once."""

    host: str
    end: Callable[[], None]


class Connections:
    """The open connections of one listener.

    When no room is left, the oldest that has proved nothing ends for the one that comes: slow
    peers from many addresses, each within its share, would keep operators out otherwise (S9).
    """

    def __init__(self, bind: SmtpBind) -> None:
        self.closing = False
        self._bind = bind
        self._open: dict[Conversation, _Open] = {}
        self._operators: dict[Conversation, str] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def admit(
        self, connection: Conversation, host: str, end: Callable[[], None] | None = None
    ) -> bool:
        """Count a connection; False when there are too many in all or from its host.

        Args:
            connection: that has come.
            host: its address.
            end: how it is ended at once while it has no transport yet.
        """
        if connection in self._open:
            return True
        if self.closing or not self._bind.fairness.connect(host):
            return False
        if len(self._open) >= self._bind.max_connections and not self._make_room():
            self._bind.fairness.disconnect(host)
            return False
        self._open[connection] = _Open(host, end or connection.abort)
        self._empty.clear()
        return True

    def _make_room(self) -> bool:
        """End the oldest connection that proved nothing; False when all have."""
        for connection, known in self._open.items():
            if not connection.proven:
                log.debug("smtp_pushed_out")
                known.end()
                self.leave(connection, known.host)
                return True
        return False

    def admit_operator(self, connection: Conversation, dn: str) -> bool:
        """Count a connection for the operator it proved to be; False when it has too many."""
        if not self._bind.fairness.operators.take(dn):
            return False
        self._operators[connection] = dn
        return True

    def leave(self, connection: Conversation, host: str) -> None:
        """Forget a connection."""
        if connection not in self._open:
            return
        del self._open[connection]
        self._bind.fairness.disconnect(host)
        operator = self._operators.pop(connection, None)
        if operator is not None:
            self._bind.fairness.operators.give(operator)
        if not self._open:
            self._empty.set()

    async def drain(self, seconds: float) -> None:
        """End every connection, those in the middle of a message last."""
        self.closing = True
        for connection in tuple(self._open):
            connection.stop()
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            log.warning("smtp_connections_cut", count=len(self._open))
            for connection in tuple(self._open):
                connection.abort()


@asynccontextmanager
async def serve_smtp(services: SmtpServices, bind: SmtpBind) -> AsyncIterator[int]:
    """Listen for other operators: STARTTLS, client certificates, the trust list.

    Yields:
        The bound port.
    """
    settings = _settings(bind, starttls=bind.tls)
    async with listen(settings, lambda: InboundTransaction(services), bind) as port:
        yield port


@asynccontextmanager
async def serve_submission(
    services: SmtpServices, bind: SmtpBind, *, implicit_tls: bool
) -> AsyncIterator[int]:
    """Listen for mail clients: AUTH under TLS, own address only.

    Args:
        services: of the site.
        bind: where; its ``tls`` asks for no client certificate.
        implicit_tls: TLS comes first (465), else by STARTTLS (587).

    Yields:
        The bound port.
    """
    settings = _settings(bind, starttls=None if implicit_tls else bind.tls)
    how = listen_with_tls if implicit_tls else listen
    async with how(settings, lambda: SubmissionTransaction(services), bind) as port:
        yield port


def _settings(bind: SmtpBind, starttls: ssl.SSLContext | None) -> ProtocolSettings:
    return ProtocolSettings(
        hostname=bind.hostname,
        reception=bind.reception
        or Reception(DataLimits(bind.size_limit), spool_directory=bind.spool_directory),
        starttls=starttls,
        plaintext_login_from=bind.plaintext_login_from,
        max_recipients=bind.max_recipients,
        deadlines=bind.deadlines,
        room=bind.room,
    )


@asynccontextmanager
async def listen(
    settings: ProtocolSettings,
    transaction: Callable[[], Transaction],
    bind: SmtpBind,
) -> AsyncIterator[int]:
    """Listen, with a transaction of its own for each connection.

    Yields:
        The bound port.
    """
    loop = asyncio.get_running_loop()
    connections = Connections(bind)
    server = await loop.create_server(
        lambda: SmtpConnection(settings, transaction(), connections, loop),
        bind.host,
        bind.port,
        backlog=BACKLOG,
    )
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await connections.drain(bind.drain_s)


@asynccontextmanager
async def listen_with_tls(
    settings: ProtocolSettings, transaction: Callable[[], Transaction], bind: SmtpBind
) -> AsyncIterator[int]:
    """Listen where TLS comes first; a connection counts from before its handshake.

    asyncio's own server with TLS shows a connection only after its handshake, so that those that
    never come would hold sockets which nobody counts (threats S9).

    Yields:
        The bound port.
    """
    loop = asyncio.get_running_loop()
    connections = Connections(bind)
    listening = _listening_socket(bind)

    async def handshake(conversation: Conversation, accepted: socket.socket, host: str) -> None:
        try:
            await loop.connect_accepted_socket(
                lambda: conversation,
                accepted,
                ssl=bind.tls,
                ssl_handshake_timeout=settings.deadlines.handshake_s,
            )
        except (OSError, TimeoutError):
            connections.leave(conversation, host)

    async def accept(group: asyncio.TaskGroup) -> None:
        while True:
            try:
                accepted, peer = await loop.sock_accept(listening)
            except OSError as error:  # no descriptor left: the others end some day
                log.warning("smtp_accept_failed", error_type=type(error).__name__)
                await asyncio.sleep(_ACCEPT_AGAIN_S)
                continue
            conversation = SmtpConnection(settings, transaction(), connections, loop)
            end = partial(_end_accepted, conversation, accepted)
            if connections.admit(conversation, peer[0], end):
                group.create_task(handshake(conversation, accepted, peer[0]))
            else:
                accepted.close()

    failure: BaseException | None = None
    async with asyncio.TaskGroup() as group:
        accepting = group.create_task(accept(group))
        try:
            yield int(listening.getsockname()[1])
        except BaseException as error:  # noqa: BLE001 - raised again below, not in a group of one
            failure = error
        accepting.cancel()
        await asyncio.wait([accepting])
        listening.close()
        await connections.drain(bind.drain_s)
    if failure is not None:
        raise failure


def _end_accepted(conversation: Conversation, accepted: socket.socket) -> None:
    """End a connection whose handshake may not be over."""
    if conversation.transport is not None:
        conversation.abort()
        return
    with suppress(OSError):  # gone already
        accepted.shutdown(socket.SHUT_RDWR)


def _listening_socket(bind: SmtpBind) -> socket.socket:
    family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
    listening = socket.create_server((bind.host, bind.port), family=family, backlog=BACKLOG)
    listening.setblocking(False)
    return listening
