"""Who wants to know that a mailbox changed, and the writes that tell them.

A change is published after its commit, never before, and is published even when the caller that
wrote it was cancelled meanwhile (a peer that hung up on its 250). It is a hint without content:
whoever wakes reads the database. In one process; PostgreSQL's NOTIFY takes this place between
processes.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from typing import Self, TypeVar

from directory.database import Database

OUTBOX = 0
"""The channel of the outbound queue; no mailbox has this id."""
NOTIFY = -1
"""The channel of addresses that wait for their code, or chose reminders; no mailbox's id."""

V = TypeVar("V")
R = TypeVar("R")


class Subscription:
    """A wish to know about one mailbox. Changes between two waits are one wake-up.

    Attributes:
        wakes: how many changes were published to it so far.
    """

    def __init__(self, changes: "Changes", mailbox_id: int) -> None:
        self.wakes = 0
        self._changes = changes
        self._event = asyncio.Event()
        self.mailbox_id = mailbox_id
        self.also_id: int | None = None

    @property
    def mailbox_ids(self) -> tuple[int, ...]:
        """What it is about."""
        return (self.mailbox_id,) if self.also_id is None else (self.mailbox_id, self.also_id)

    @property
    def pending(self) -> bool:
        """True when ``wait`` would return at once."""
        return self._event.is_set()

    def clear(self) -> None:
        """Forget what was published so far; call it before reading the database."""
        self._event.clear()

    async def wait(self) -> None:
        """Return when the mailbox changed since the last ``wait`` or ``clear``."""
        await self._event.wait()
        self._event.clear()

    def also(self, mailbox_id: int) -> None:
        """Be told of a second mailbox, instead of the second one before; the first is none."""
        self._changes.forget(self)
        self.also_id = None if mailbox_id == self.mailbox_id else mailbox_id
        self._changes.add(self)

    def close(self) -> None:
        """Stop being told."""
        self._changes.forget(self)

    def wake(self) -> None:
        """Note a change; the publisher calls it."""
        self.wakes += 1
        self._event.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class Changes:
    """The subscriptions of one process."""

    def __init__(self) -> None:
        self._by_mailbox: dict[int, set[Subscription]] = {}

    def subscribe(self, mailbox_id: int) -> Subscription:
        """Be told of every change in a mailbox from now on, until ``close``."""
        subscription = Subscription(self, mailbox_id)
        self.add(subscription)
        return subscription

    def add(self, subscription: Subscription) -> None:
        """Note what a subscription wishes to know of."""
        for mailbox_id in subscription.mailbox_ids:
            self._by_mailbox.setdefault(mailbox_id, set()).add(subscription)

    def forget(self, subscription: Subscription) -> None:
        """Take a subscription away; nothing happens when it is not there."""
        for mailbox_id in subscription.mailbox_ids:
            waiting = self._by_mailbox.get(mailbox_id)
            if waiting is not None:
                waiting.discard(subscription)
                if not waiting:
                    del self._by_mailbox[mailbox_id]

    def publish(self, mailbox_ids: Iterable[int]) -> None:
        """Wake who waits for one of these mailboxes."""
        for mailbox_id in set(mailbox_ids):
            for subscription in self._by_mailbox.get(mailbox_id, ()):
                subscription.wake()


class Commits:
    """Writes whose changes are published whatever becomes of their caller."""

    def __init__(self, database: Database, changes: Changes) -> None:
        self.database = database
        self._changes = changes
        self._running: set[asyncio.Task[None]] = set()

    async def run(
        self,
        apply: Callable[[sqlite3.Connection, V], R],
        value: V,
        touched: Callable[[R], Iterable[int]],
        *,
        octets: int = 0,
    ) -> R:
        """Write, publish the mailboxes that ``touched`` finds in the result, and give it.

        Raises:
            Exception: what ``Database.write`` raises; nothing is published then.
        """
        outcome: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        # The task is kept here and awaited by ``settle``: a TaskGroup of the caller's would be
        # cancelled with it, and the change would be told to nobody.
        task = asyncio.create_task(self._write(apply, value, octets, (touched, outcome)))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await outcome

    async def _write(
        self,
        apply: Callable[[sqlite3.Connection, V], R],
        value: V,
        octets: int,
        told: tuple[Callable[[R], Iterable[int]], asyncio.Future[R]],
    ) -> None:
        touched, outcome = told
        try:
            result = await self.database.write(apply, value, octets=octets)
        except Exception as error:  # noqa: BLE001 - handed to the caller, who waits for it
            if not outcome.done():
                outcome.set_exception(error)
            return
        self._changes.publish(touched(result))
        if not outcome.done():
            outcome.set_result(result)

    async def settle(self) -> None:
        """Wait for the writes still under way; before the database closes."""
        while self._running:
            await asyncio.wait(self._running)
