"""Send what is queued for other operators, one worker for the site.

Invariants: a row of the queue is leased before it is sent and settled after, so a crash makes it
be sent again, never lost; the server's certificate is checked against the list for the
recipient's domain before MAIL is said; a permanent refusal reaches the sender as one notification
before the row is closed; no connection, no TLS, the wrong certificate or an old list make the
message wait.

Source: RFC 5321 §4.5.4, RFC 3464 §2, MSS-OP §3.1; DESIGN D5.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from directory.lookup import Directory
from mailserver.delivery.bounce import Bounces
from mailserver.outbound.client import Client, ServerReply, Target, connect
from mailserver.outbound.errors import PeerReplyError, SendError, TlsError
from mailserver.outbound.route import Judgement, judge_domain, route
from mailserver.outbound.schedule import DELAYS_S, GIVE_UP_AFTER, Schedule
from mailserver.store.changes import OUTBOX
from mailserver.store.database import MailStore
from mailserver.store.model import Outgoing

log = structlog.get_logger("mailserver")

BATCH = 32
LEASE_S = 900
BATCH_S = 600.0
"""A batch ends before its leases do."""
POLL_S = 5.0
_AFTER_FAILURE_S = 5.0

NOT_LISTED = ServerReply(550, "5.7.1 The recipient's domain is not on the list of operators")
LIST_TOO_OLD = ServerReply(451, "4.7.5 The list of operators is too old to be relied upon")
WRONG_CERTIFICATE = ServerReply(454, "4.7.5 The server's certificate is not listed for the domain")
NO_TLS = ServerReply(454, "4.7.0 No mutual TLS with the server")
UNREACHABLE = ServerReply(451, "4.4.1 The server does not answer")
NOT_SMTP = ServerReply(451, "4.5.0 The server does not answer as SMTP")
TOO_LONG = ServerReply(451, "4.4.2 The server is too slow")


@dataclass(frozen=True, slots=True)
class OutboundSettings:
    """How this site sends.

    Args:
        routes: domain -> (host, port), instead of the domain itself.
        tls: our certificate, and whom we believe.
        ehlo_name: our name.
        schedule_s: seconds before each retry.
    """

    routes: Mapping[str, tuple[str, int]]
    tls: ssl.SSLContext
    ehlo_name: str
    schedule_s: tuple[int, ...] = DELAYS_S
    give_up_after: timedelta = field(default=GIVE_UP_AFTER)
    poll_s: float = POLL_S


@dataclass(slots=True)
class _Batch:
    """The messages for one domain, and the one on the wire.

    Attributes:
        until: when all of it ends, by the loop's clock.
    """

    waiting: list[Outgoing]
    until: float
    sending: Outgoing | None = None


class OutboundWorker:
    """The worker; ``run`` until cancelled."""

    def __init__(
        self,
        store: MailStore,
        directory: Directory,
        settings: OutboundSettings,
        *,
        bounces: Bounces,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._directory = directory
        self._settings = settings
        self._bounces = bounces
        self._clock = clock
        self._schedule = Schedule(settings.schedule_s, settings.give_up_after)

    async def run(self) -> None:
        """Take back what an earlier run left leased, send what is due, wait for more, for ever."""
        fresh = True
        with self._store.changes.subscribe(OUTBOX) as news:
            while True:
                news.clear()
                try:
                    if fresh:
                        await self._store.outbox.take_back(self._clock())
                        fresh = False
                    busy = await self.send_due()
                except Exception as error:
                    log.exception(
                        "outbound_failed", phase="queue", error_type=type(error).__name__
                    )
                    await asyncio.sleep(_AFTER_FAILURE_S)
                    continue
                if busy:
                    continue
                try:
                    async with asyncio.timeout(self._settings.poll_s):
                        await news.wait()
                except TimeoutError:
                    continue

    async def send_due(self) -> bool:
        """Send one batch of what is due; False when there was nothing."""
        due = await self._store.outbox.due(self._clock(), BATCH, LEASE_S)
        by_domain: dict[str, list[Outgoing]] = {}
        for item in due:
            by_domain.setdefault(item.domain, []).append(item)
        async with asyncio.TaskGroup() as group:
            for domain, items in by_domain.items():
                group.create_task(self._send_domain(domain, items))
        return bool(due)

    async def _send_domain(self, domain: str, items: Sequence[Outgoing]) -> None:
        """Send the messages for one domain; one that breaks its connection spares the others.

        The others go on over a new connection: were they to wait with it, it would be first again
        at each try, and hold them up until they expire together.
        """
        batch = _Batch(list(items), asyncio.get_running_loop().time() + BATCH_S)
        while batch.waiting:
            try:
                reason = await self._try_domain(domain, batch)
            except Exception as error:
                log.exception("outbound_failed", phase="domain", error_type=type(error).__name__)
                reason = UNREACHABLE
            if batch.sending is None or reason is TOO_LONG:
                for item in (batch.sending, *batch.waiting):
                    if item is not None:
                        await self._settle(item, reason)
                return
            await self._settle(batch.sending, reason)
            batch.sending = None

    async def _try_domain(self, domain: str, batch: _Batch) -> ServerReply:
        """Take from the batch what was settled; say why the rest was not."""
        trust = self._directory.trust
        match judge_domain(domain, trust, self._directory.trust_freshness(self._clock())):
            case Judgement.WAIT:
                return LIST_TOO_OLD
            case Judgement.GIVE_UP:
                return NOT_LISTED
            case Judgement.SEND:
                server = route(domain, self._settings.routes)
        target = Target(server.host, server.port, self._settings.tls, self._settings.ehlo_name)
        try:
            async with asyncio.timeout_at(batch.until), connect(target) as client:
                identity = client.identity
                if identity is None or not trust.allows(domain, identity.dn):
                    log.warning("outbound_wrong_certificate", operator=domain)
                    return WRONG_CERTIFICATE
                while batch.waiting:
                    batch.sending = batch.waiting.pop(0)
                    reply = await self._send(client, batch.sending)
                    sent, batch.sending = batch.sending, None
                    await self._settle(sent, reply, said_by=server.host)
        except TlsError:
            log.warning("outbound_no_tls", operator=domain)
            return NO_TLS
        except PeerReplyError:
            return NOT_SMTP
        except SendError:
            return UNREACHABLE
        except TimeoutError:
            return TOO_LONG
        return UNREACHABLE

    async def _send(self, client: Client, item: Outgoing) -> ServerReply:
        body = await self._store.outbox.body(item.message_id)
        sent = await client.send(item.reverse_path, (item.forward_path,), body)
        return sent.outcome(0)

    async def _settle(self, item: Outgoing, reply: ServerReply, *, said_by: str = "") -> None:
        at = self._clock()
        attempts = item.attempts + 1
        if reply.positive:
            await self._store.outbox.done(item.id, reply.line, at)
            log.info("outbound_sent", item=item.id, reply=reply.code, octets=item.octets)
            return
        next_at = self._schedule.next_try(attempts=attempts, queued_at=item.queued_at, at=at)
        if reply.permanent or next_at is None:
            await self._bounces.deliver(item, reply.line, at, remote_mta=said_by)
            await self._store.outbox.failed(item.id, reply.line, at)
            log.warning("outbound_refused", item=item.id, reply=reply.code, attempts=attempts)
            return
        await self._store.outbox.later(item.id, reply.line, next_at)
        log.info("outbound_waits", item=item.id, reply=reply.code, attempts=attempts)
