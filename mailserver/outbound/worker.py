"""Send what is queued for other operators: one dispatcher, several connections for each domain.

Invariants: a row of the queue is leased before it is sent and settled after, so a crash makes it
be sent again, never lost; nothing but the commit lies between a peer's 250 and its note (SMTP
itself leaves that instant open, RFC 5321 §4.5.3.2.6: a crash in it sends twice); neither a domain
nor the operator behind it has more than its share of the connections, so a slow peer delays
nobody else. What became of it is ``outcomes``' business.

Source: RFC 5321 §4.5.4, RFC 3464 §2, MSS-OP §3.1; DESIGN D5.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from datetime import datetime

import structlog

from directory.lookup import Directory
from mailserver.delivery.bounce import Bounces
from mailserver.outbound.client import Envelope, ServerReply
from mailserver.outbound.errors import PeerReplyError, SendError
from mailserver.outbound.outcomes import Outcomes
from mailserver.outbound.peer import (
    NOT_SMTP,
    UNREACHABLE,
    OutboundSettings,
    Peer,
    Peers,
    UnusableError,
)
from mailserver.outbound.schedule import Schedule
from mailserver.outbound.shares import Domain, Shares
from mailserver.outbound.transaction import Job, jobs, portions, refused_here, too_many
from mailserver.store.changes import OUTBOX
from mailserver.store.database import MailStore
from mailserver.store.model import Outgoing

log = structlog.get_logger("mailserver")

BATCH = 64
LEASE_S = 3600
"""Longer than a job waits and lasts; what a dead worker held is taken back at the next start."""
JOB_S = 1500.0
UPKEEP_S = 60.0
DRAIN_S = 5.0
"""For what is on the wire when the process stops; well within the supervisor's patience."""
_AFTER_FAILURE_S = 5.0

TOO_LONG = ServerReply(451, "4.4.2 The server is too slow")
BROKEN = ServerReply(451, "4.3.0 The message could not be handed over")
SERVICE_CLOSING = 421


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
        self._settings = settings
        self._clock = clock
        self._schedule = Schedule(
            settings.schedule_s,
            settings.give_up_after,
            notice_after=settings.notice_after,
            jitter=settings.jitter,
        )
        self._outcomes = Outcomes(store, bounces, self._schedule, clock)
        self._peers = Peers(directory, settings, clock)
        self._shares = Shares(settings, self._peers.names)
        self._answered: set[str] = set()
        self._idle_s = 0.0
        self._serving: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Take back what an earlier run left leased, send what is due, wait for more, for ever.

        Who cancels it stops it in order: what is on the wire may still end, the rest is given
        back, and none of it counts as a crash.
        """
        self._idle_s = self._settings.idle_s
        try:
            async with asyncio.TaskGroup() as group:
                try:
                    await self._go_on(group)
                except asyncio.CancelledError:
                    await self._drain()
                    raise
        except asyncio.CancelledError:
            await self._outcomes.note([])
            await self._store.outbox.give_back(self._clock())
            raise

    async def _go_on(self, group: asyncio.TaskGroup) -> None:
        fresh = True
        upkeep_at = 0.0
        loop = asyncio.get_running_loop()
        with self._store.changes.subscribe(OUTBOX) as news:
            while True:
                news.clear()
                try:
                    if fresh:
                        await self._store.outbox.take_back(self._clock())
                        fresh = False
                    if loop.time() >= upkeep_at:
                        await self.upkeep()
                        upkeep_at = loop.time() + UPKEEP_S
                    found = await self._dispatch(group)
                except Exception as error:
                    log.exception(
                        "outbound_failed", phase="queue", error_type=type(error).__name__
                    )
                    await asyncio.sleep(_AFTER_FAILURE_S)
                    continue
                if found:
                    continue
                try:
                    async with asyncio.timeout(self._settings.poll_s):
                        await news.wait()
                except TimeoutError:
                    continue

    async def _drain(self) -> None:
        """Begin nothing more, and wait for the replies that are due: a peer may say 250."""
        self._idle_s = 0.0
        for domain in self._shares.domains.values():
            domain.jobs.clear()
            domain.news.set()
        if self._serving:
            await asyncio.wait(self._serving, timeout=DRAIN_S)

    async def send_due(self) -> bool:
        """Send one batch of what is due and wait for its end; False when there was nothing."""
        async with asyncio.TaskGroup() as group:
            return await self._dispatch(group)

    async def upkeep(self) -> None:
        """Tell the senders of what waits too long, and send back what waited for too long."""
        await self._outcomes.upkeep()

    async def _dispatch(self, group: asyncio.TaskGroup) -> bool:
        """Hand what is due to connections; False when there was nothing new."""
        busy = self._shares.busy()
        due = await self._store.outbox.due(self._clock(), BATCH, LEASE_S, busy=busy)
        fresh = [item for item in due if item.id not in self._outcomes.in_hand]
        self._outcomes.in_hand.update(item.id for item in fresh)
        for name, found in jobs(fresh).items():
            domain = self._shares.domain(name)
            domain.jobs.extend(found)
            domain.news.set()
            while domain.connections < self._shares.wanted(domain):
                domain.connections += 1
                task = group.create_task(self._serve(domain))
                self._serving.add(task)
                task.add_done_callback(self._serving.discard)
        return bool(fresh)

    async def _serve(self, domain: Domain) -> None:
        """Send a domain's jobs, over one connection after another, until none is left."""
        try:
            while domain.jobs:
                async with self._shares.connection(domain):
                    if not domain.jobs or not await self._connection(domain):
                        break
        except Exception as error:
            log.exception("outbound_failed", phase="domain", error_type=type(error).__name__)
            await self._put_off(domain, UNREACHABLE)
        finally:
            domain.connections -= 1
            self._shares.forget(domain)

    async def _connection(self, domain: Domain) -> bool:
        """Send jobs over one connection; one that breaks it spares the others.

        The others go on over a new connection: were they to wait with it, it would be first again
        at each try, and hold them up until they expire together.

        Returns:
            Whether another connection is worth a try. When a server cannot be used, the last
            connection that tries puts its domain off, and the others leave it to that one.
        """
        async with AsyncExitStack() as stack:
            try:
                peer = await self._peers.open(domain.name, stack)
            except UnusableError as error:
                if domain.connections == 1 or error.reply.permanent:
                    await self._put_off(domain, error.reply)
                    return True
                return False
            await self._answers(domain.name)
            for _ in range(self._settings.per_connection):
                if peer.client.spent:
                    return True
                job = await self._next(domain)
                if job is None or not self._peers.believed(domain.name, peer.client):
                    if job is not None:
                        domain.jobs.appendleft(job)
                    return True
                if not peer.client.alive:
                    domain.jobs.appendleft(job)
                    return True
                try:
                    usable = await self._hand_over(peer, job, domain)
                except Exception:
                    # Its end could not even be noted: it is due again when its lease is over.
                    self._outcomes.let_go(job.items)
                    raise
                if not usable:
                    return True
        return True

    async def _next(self, domain: Domain) -> Job | None:
        """Give the next job, waiting a little for one: the connection is worth keeping."""
        if not domain.jobs and self._idle_s and not self._shares.others_wait(domain):
            domain.news.clear()
            try:
                async with asyncio.timeout(self._idle_s):
                    await domain.news.wait()
            except TimeoutError:
                return None
        return domain.jobs.popleft() if domain.jobs else None

    async def _hand_over(self, peer: Peer, job: Job, domain: Domain) -> bool:
        """Send one job and note its end; False when the connection is of no more use."""
        left = list(job.items)
        client = peer.client
        reply = BROKEN
        try:
            async with AsyncExitStack() as stack:
                room = self._shares.room(domain, job.first.octets)
                await stack.enter_async_context(room)
                await stack.enter_async_context(asyncio.timeout(JOB_S))
                if any(item.crashes for item in left):
                    await self._store.outbox.suspect([item.id for item in left])
                usable = await self._send(peer, left)
                if left:
                    domain.jobs.appendleft(Job(tuple(left)))
                return usable
        except PeerReplyError:
            reply = NOT_SMTP
        except SendError:
            reply = UNREACHABLE
        except TimeoutError:
            reply = TOO_LONG
        except Exception as error:
            log.exception("outbound_failed", phase="message", error_type=type(error).__name__)
            client.abort()
            await self._outcomes.later(left, BROKEN, crashed=True)
            return False
        client.abort()
        await self._outcomes.end(left, reply)
        return False

    async def _send(self, peer: Peer, left: list[Outgoing]) -> bool:
        """Send to all recipients; what is settled leaves ``left`` at once.

        What a server took leaves it before that is noted: it is not offered again, come what may.

        Returns:
            Whether the connection can be used again. What is ``left`` when it takes no more
            messages waits for the next connection.
        """
        client, host = peer.client, peer.host
        body = await self._store.outbox.body(left[0].message_id)
        await self._refuse_here(peer, left, body)
        pending = deque(portions(left, client.offer))
        usable = True
        while pending:
            if client.spent:
                return False
            items = pending.popleft()
            envelope = Envelope(
                items[0].reverse_path,
                tuple((item.forward_path, item.options) for item in items),
                items[0].mail,
            )
            sent = await client.transmit(envelope, body)
            replies = [sent.outcome(number) for number in range(len(items))]
            taken = [item for item, reply in zip(items, replies, strict=True) if reply.positive]
            await self._outcomes.taken(_take(left, taken), sent.data, peer, body)
            more = []
            for item, reply in zip(items, replies, strict=True):
                if reply.positive:
                    continue
                if taken and too_many(reply):
                    more.append(item)
                else:
                    await self._outcomes.end((item,), reply, said_by=host)
                    left.remove(item)
                    usable &= reply.code != SERVICE_CLOSING
            if more and usable:
                pending.appendleft(tuple(more))
            if not usable and left:
                await self._outcomes.end(left, UNREACHABLE)
                left.clear()
                break
        return usable

    async def _refuse_here(self, peer: Peer, left: list[Outgoing], body: bytes) -> None:
        """End the recipients for whom the server does not offer what the message needs."""
        eight_bit = not body.isascii()
        for item in list(left):
            refusal = refused_here(item, len(body), peer.client.offer, eight_bit=eight_bit)
            if refusal is not None:
                await self._outcomes.end((item,), refusal, said_by=peer.host)
                left.remove(item)

    async def _put_off(self, domain: Domain, reply: ServerReply) -> None:
        """Leave a domain alone for a while: its server cannot be used."""
        at = self._clock()
        if not reply.permanent:
            known = await self._store.outbox.domain(domain.name)
            failures = 1 if known is None else known.failures + 1
            until = at + self._schedule.delay(failures, 0.0)
            await self._store.outbox.domain_waits(domain.name, failures, reply.line, until)
            self._answered.discard(domain.name)
        while domain.jobs:
            await self._outcomes.end(domain.jobs.popleft().items, reply)

    async def _answers(self, domain: str) -> None:
        if domain not in self._answered:
            await self._store.outbox.domain_answers(domain)
            self._answered.add(domain)


def _take(left: list[Outgoing], items: Iterable[Outgoing]) -> list[Outgoing]:
    """Take items out of what is left, and give them."""
    taken = list(items)
    for item in taken:
        left.remove(item)
    return taken
