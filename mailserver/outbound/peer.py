"""Find a server that may take a domain's mail: on the list, with the listed certificate.

Invariants: the server's certificate is held against the list for the recipient's domain before
MAIL is said, and again before each message; no connection, no TLS, the wrong certificate, no
answer from DNS or an old list make the mail wait, and nothing is ever sent in clear.

Source: MSS-OP §3.1, MSS-OP §3.2, RFC 5321 §5.1.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from certs.names import ComparedName
from directory.lookup import Directory
from directory.trust_list import Freshness
from mailserver.outbound.client import Client, ServerReply, Target, connect
from mailserver.outbound.errors import (
    LookupFailedError,
    NoMailError,
    PeerReplyError,
    SendError,
    TlsError,
)
from mailserver.outbound.resolver import DnsResolver, Resolver
from mailserver.outbound.route import Judgement, Route, judge_domain, static_route
from mailserver.outbound.schedule import DELAY_NOTICE_AFTER, DELAYS_S, GIVE_UP_AFTER

log = structlog.get_logger("mailserver")

POLL_S = 5.0
OPEN_S = 660.0
"""For all servers of a domain together: two that keep silent, each for the five minutes that a
greeting may take, and the look-up. Source: RFC 5321 §4.5.3.2.1, RFC 5321 §5.1."""

NOT_LISTED = ServerReply(550, "5.7.1 The recipient's domain is not on the list of operators")
LIST_TOO_OLD = ServerReply(451, "4.7.5 The list of operators is too old to be relied upon")
WRONG_CERTIFICATE = ServerReply(454, "4.7.5 The server's certificate is not listed for the domain")
NO_TLS = ServerReply(454, "4.7.0 No mutual TLS with the server")
UNREACHABLE = ServerReply(451, "4.4.1 The server does not answer")
NOT_SMTP = ServerReply(451, "4.5.0 The server does not answer as SMTP")
NO_LOOKUP = ServerReply(451, "4.4.3 The servers of the domain cannot be looked up")


@dataclass(frozen=True, slots=True)
class OutboundSettings:
    """How this site sends.

    Args:
        routes: domain -> (host, port), instead of what DNS says.
        tls: our certificate, and whom we believe.
        ehlo_name: our name.
        schedule_s: seconds before each retry.
        jitter: the most that chance adds to a retry's delay, as a part of it.
        connections: how many at once in all.
        per_domain: how many at once to one domain.
        per_connection: messages before a connection is closed.
        idle_s: how long a connection waits for one more message.
    """

    routes: Mapping[str, tuple[str, int]]
    tls: ssl.SSLContext
    ehlo_name: str
    schedule_s: tuple[int, ...] = DELAYS_S
    give_up_after: timedelta = GIVE_UP_AFTER
    notice_after: timedelta = DELAY_NOTICE_AFTER
    poll_s: float = POLL_S
    jitter: float = 0.0
    connections: int = 20
    per_domain: int = 4
    per_connection: int = 100
    idle_s: float = 2.0
    resolver: Resolver = field(default_factory=DnsResolver)


class UnusableError(Exception):
    """No server of a domain can be used now; ``reply`` says why."""

    def __init__(self, reply: ServerReply) -> None:
        super().__init__("no server of the domain can be used")
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Peer:
    """An open connection to a server that may take the domain's mail."""

    client: Client
    host: str


class Peers:
    """Opens connections to domains."""

    def __init__(
        self, directory: Directory, settings: OutboundSettings, clock: Callable[[], datetime]
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._clock = clock

    async def open(self, domain: str, stack: AsyncExitStack) -> Peer:
        """Connect to the first server of a domain that may take its mail.

        Args:
            domain: lower-case A-labels.
            stack: closes the connection.

        Raises:
            UnusableError: there is none now, or none for ever.
        """
        freshness = self._directory.trust_freshness(self._clock())
        match judge_domain(domain, self._directory.trust, freshness):
            case Judgement.WAIT:
                raise UnusableError(LIST_TOO_OLD)
            case Judgement.GIVE_UP:
                raise UnusableError(NOT_LISTED)
            case Judgement.SEND:
                pass
        try:
            async with asyncio.timeout(OPEN_S):
                return await self._first(domain, stack)
        except TimeoutError:
            raise UnusableError(UNREACHABLE) from None

    async def _first(self, domain: str, stack: AsyncExitStack) -> Peer:
        reason = UNREACHABLE
        for server in await self._servers(domain):
            opened = AsyncExitStack()
            try:
                client = await opened.enter_async_context(connect(self._target(server)))
            except TlsError:
                log.warning("outbound_no_tls", operator=domain)
                reason = NO_TLS
                continue
            except PeerReplyError:
                reason = NOT_SMTP
                continue
            except SendError:
                continue
            if self.believed(domain, client):
                await stack.enter_async_context(opened)
                return Peer(client, server.host)
            log.warning("outbound_wrong_certificate", operator=domain)
            reason = WRONG_CERTIFICATE
            await opened.aclose()
        raise UnusableError(reason)

    def believed(self, domain: str, client: Client) -> bool:
        """Say whether a server's certificate is on the list for the domain, as both are now."""
        identity = client.identity
        if identity is None or not self._directory.trust.allows(domain, identity.dn):
            return False
        return self._directory.trust_freshness(self._clock()) is not Freshness.EXPIRED

    def names(self, domain: str) -> frozenset[ComparedName]:
        """Give whose certificates the list names for a domain, nobody's when it is not there."""
        return self._directory.trust.entries.get(domain, frozenset())

    async def _servers(self, domain: str) -> tuple[Route, ...]:
        written = static_route(domain, self._settings.routes)
        if written is not None:
            return (written,)
        try:
            return await self._settings.resolver.servers(domain)
        except LookupFailedError:
            raise UnusableError(NO_LOOKUP) from None
        except NoMailError as error:
            code, _, text = error.reply.partition(" ")
            raise UnusableError(ServerReply(int(code), text)) from None

    def _target(self, server: Route) -> Target:
        return Target(
            server.address or server.host,
            server.port,
            self._settings.tls,
            self._settings.ehlo_name,
            server_name=server.host,
        )
