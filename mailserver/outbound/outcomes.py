"""What became of what is sent: noted in the queue, and told to its sender.

Invariants: what a server took is noted before anybody is told, and kept in mind until it can be
noted, so it is never offered twice; a permanent refusal reaches the sender as one notification
before the row is closed; what fails over the notice of one message holds up no other.

Source: RFC 5321 §4.5.4, RFC 3461 §5, RFC 3464 §2.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import structlog

from mailserver.delivery.bounce import Bounces
from mailserver.message.dsn import Action, Failure
from mailserver.message.envelope import Notify
from mailserver.outbound.client import ServerReply
from mailserver.outbound.peer import Peer
from mailserver.outbound.schedule import Schedule
from mailserver.store.database import MailStore
from mailserver.store.model import OutboxState, Outgoing, Settled

log = structlog.get_logger("mailserver")

UPKEEP_ROWS = 200

EXPIRED = ServerReply(451, "4.4.7 The message waited too long")
WAITING = ServerReply(451, "4.4.1 The message still waits")


@dataclass(frozen=True, slots=True)
class _Taken:
    """A recipient for whom a server took the message.

    Attributes:
        at: when it did.
        silent: the server's name where it tells the sender nothing; "" where it knows DSN.
        header: of the message, which the queue need not have any more once this is noted.
    """

    item: Outgoing
    reply: ServerReply
    at: datetime
    silent: str
    header: bytes

    @property
    def settled(self) -> Settled:
        """What the queue keeps of it."""
        return Settled(self.item.id, OutboxState.SENT, self.reply.line, self.at)

    @property
    def relayed(self) -> Failure:
        """What the sender is told of it."""
        original = self.item.options.orcpt
        return Failure(
            self.item.forward_path, self.reply.line, self.silent, Action.RELAYED, original
        )


class Outcomes:
    """Notes and tells what became of recipients.

    Attributes:
        in_hand: the rows that are dispatched and not noted yet.
    """

    def __init__(
        self,
        store: MailStore,
        bounces: Bounces,
        schedule: Schedule,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._bounces = bounces
        self._schedule = schedule
        self._clock = clock
        self.in_hand: set[int] = set()
        self._unnoted: list[_Taken] = []

    async def upkeep(self) -> None:
        """Tell the senders of what waits too long, and send back what waited for too long."""
        at = self._clock()
        await self.note([])
        expired = await self._store.outbox.expired(at - self._schedule.give_up_after, UPKEEP_ROWS)
        for item in expired:
            with _apart():
                if item.id not in self.in_hand:
                    await self.end((item,), EXPIRED)
        untold = await self._store.outbox.untold(at - self._schedule.notice_after, UPKEEP_ROWS)
        for item in untold:
            with _apart():
                await self._tell_of_delay(item, at)

    async def _tell_of_delay(self, item: Outgoing, at: datetime) -> None:
        failure = Failure(
            item.forward_path,
            WAITING.line,
            action=Action.DELAYED,
            original=item.options.orcpt,
            retry_until=item.queued_at + self._schedule.give_up_after,
        )
        await self._bounces.tell(item, failure, at)
        await self._store.outbox.told(item.id, at)
        log.info("outbound_delayed", item=item.id, attempts=item.attempts)

    def let_go(self, items: Iterable[Outgoing]) -> None:
        """Leave to its lease what has an end that could not be noted, but for what was taken."""
        self.in_hand.difference_update(item.id for item in items)
        self.in_hand.update(each.item.id for each in self._unnoted)

    async def taken(
        self, items: list[Outgoing], reply: ServerReply | None, peer: Peer, body: bytes
    ) -> None:
        """Note that a server took a message for these recipients."""
        if not items or reply is None:
            return
        at = self._clock()
        silent = "" if "DSN" in peer.client.offer else peer.host
        header = body.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        await self.note([_Taken(item, reply, at, silent, header) for item in items])

    async def note(self, taken: list[_Taken]) -> None:
        """Note what servers took, with what could not be noted before; it is not sent again.

        Noted before anybody is told: a crash between the two costs a notice, not a second copy.
        """
        taken = self._unnoted + taken
        self._unnoted = []
        if not taken:
            return
        try:
            await self._store.outbox.settle([each.settled for each in taken])
        except BaseException:
            self._unnoted = taken + self._unnoted
            raise
        self.in_hand.difference_update(each.item.id for each in taken)
        for each in taken:
            log.info(
                "outbound_sent",
                item=each.item.id,
                reply=each.reply.code,
                octets=each.item.octets,
            )
        for each in taken:
            # RFC 3461 §5.2.2: who hands over to a server without DSN says so.
            options = each.item.options
            if each.silent and options.notify is not None and options.wants(Notify.SUCCESS):
                with _apart():
                    await self._bounces.tell(each.item, each.relayed, each.at, body=each.header)

    async def end(
        self, items: Iterable[Outgoing], reply: ServerReply, *, said_by: str = ""
    ) -> None:
        """Note a refusal: for good when it is permanent or too late, else until the next try."""
        at = self._clock()
        for item in list(items):
            expired = item.queued_at + self._schedule.give_up_after <= at
            if not reply.permanent and not expired and self._try_at(item, at) is not None:
                await self.later([item], reply)
                continue
            await self._bounces.deliver(item, reply.line, at, remote_mta=said_by)
            await self._store.outbox.failed(item.id, reply.line, at)
            self.in_hand.discard(item.id)
            log.warning(
                "outbound_refused", item=item.id, reply=reply.code, attempts=item.attempts + 1
            )

    def _try_at(self, item: Outgoing, at: datetime) -> datetime | None:
        return self._schedule.next_try(
            attempts=item.attempts + 1,
            queued_at=item.queued_at,
            at=at,
            chance=random.random(),  # noqa: S311 (spreads tries, guards nothing)
        )

    async def later(
        self, items: list[Outgoing], reply: ServerReply, *, crashed: bool = False
    ) -> None:
        """Leave a message for the next try."""
        at = self._clock()
        settled = [
            Settled(item.id, OutboxState.QUEUED, reply.line, self._try_at(item, at) or at)
            for item in items
        ]
        await self._store.outbox.settle(settled, crashed=crashed)
        for item in items:
            self.in_hand.discard(item.id)
            log.info("outbound_waits", item=item.id, reply=reply.code, attempts=item.attempts + 1)


@contextmanager
def _apart() -> Iterator[None]:
    """Let what fails over one message be logged, so that it holds up no other."""
    try:
        yield
    except Exception as error:
        log.exception("outbound_failed", phase="notice", error_type=type(error).__name__)
