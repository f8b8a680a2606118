"""Telling people that something is new: who is due, what is news to them, and sending it.

Invariants: what is news is asked of the same pages' decisions at the moment of sending, so that
what is held, hidden or hidden meanwhile causes nothing; that question is put only where something
changed since it was last answered, and to everybody a few times a day, because a mark cannot know
of what time alone changes; marks move after the relay's answer, so a
crash tells twice rather than never; a failure is kept with its address and touches no mail.

Source: RULES §7, RULES §14.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from mailserver.errors import RelayError
from mailserver.notify.relay import Relay
from mailserver.notify.texts import (
    CODE_LIVES,
    CODE_SIGNS,
    CONFIRM_SUBJECT,
    SUBJECT,
    Letter,
    Letterhead,
    News,
    code_digest,
    code_of,
    confirmation,
    encode,
    is_over,
    next_try,
    notification,
)
from mailserver.store.changes import NOTIFY
from mailserver.store.database import MailStore
from mailserver.store.notify import Marks, NotifyAddress, SentCode, Settlement

log = structlog.get_logger("mailserver.notify")

POLL_S = 30.0
AT_A_TIME = 500
"""Addresses that are asked about in one round, the next round goes on after them; and addresses
whose marks are read together, of which a round takes all."""
ASKED_AGAIN = timedelta(hours=6)
"""An address is asked about so long after the last time, although nothing changed."""

RecordMarks = Callable[[Sequence[str]], Awaitable[Mapping[str, Hashable]]]
"""Gives, by mailbox address, a mark that changes when what the holder is shown may be more."""
Shown = Callable[[int], Awaitable[frozenset[int]]]
"""Gives the documents that a mailbox's holder may see in their record; empty without one."""


@dataclass(frozen=True, slots=True)
class Views:
    """What people are shown in their records: by mark, for many, and itself, for one."""

    marks: RecordMarks
    shown: Shown


@dataclass(frozen=True, slots=True)
class _Asked:
    """When an address was last asked about, and what its mailbox and record were like then."""

    mark: Hashable
    at: datetime


@dataclass(frozen=True, slots=True)
class NotifierSettings:
    """By which relay, under which head, and how often one person is told at most.

    Attributes:
        at_a_time: addresses that a round asks about at most.
    """

    relay: Relay
    head: Letterhead
    every: timedelta
    at_a_time: int = AT_A_TIME


class Notifier:
    """The worker; ``run`` until cancelled."""

    def __init__(
        self,
        store: MailStore,
        settings: NotifierSettings,
        *,
        views: Views,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._settings = settings
        self._views = views
        self._clock = clock
        self._after = 0
        self._asked: dict[int, _Asked] = {}

    async def run(self) -> None:
        """Look at who is due now, each half minute, and when an address was registered."""
        with self._store.changes.subscribe(NOTIFY) as news:
            while True:
                news.clear()
                try:
                    await self.look()
                except Exception as error:
                    log.exception("notify_broken", error_type=type(error).__name__)
                try:
                    async with asyncio.timeout(POLL_S):
                        await news.wait()
                except TimeoutError:
                    continue

    async def look(self) -> None:
        """Go once through those who are due, and end early when the relay is not there."""
        at, many, after = self._clock(), self._settings.at_a_time, self._after
        left = many
        while True:
            rows = await self._store.notify.due(at, after=after, many=many)
            candidates = await self._candidates(rows, at)
            for row, asked in candidates[:left]:
                try:
                    await self._serve(row)
                    self._asked[row.mailbox_id] = asked
                except RelayError as error:
                    await self._failed(row, error)
                    if not error.reply:
                        return
            if len(candidates) >= left:
                self._after = candidates[left - 1][0].mailbox_id
                return
            if len(rows) < many:
                self._after = 0
                return
            left -= len(candidates)
            after = rows[-1].mailbox_id

    async def _candidates(
        self, rows: Sequence[NotifyAddress], at: datetime
    ) -> list[tuple[NotifyAddress, _Asked]]:
        """Give those of them that may have news, with what is remembered when they are served."""
        inboxes = await self._store.notify.inboxes(row.mailbox_id for row in rows)
        records = await self._views.marks([each.address for each in inboxes.values()])
        found = []
        for row in rows:
            inbox = inboxes.get(row.mailbox_id)
            mark = (inbox, None if inbox is None else records.get(inbox.address))
            before = self._asked.get(row.mailbox_id)
            if (
                row.confirmed_at is None
                or before is None
                or before.mark != mark
                or at - before.at >= ASKED_AGAIN
            ):
                found.append((row, _Asked(mark, at)))
        return found

    async def _serve(self, row: NotifyAddress) -> None:
        if row.confirmed_at is None:
            await self._send_code(row)
            return
        news, marks = await self._news(row)
        if news and await self._stands(row):
            text = notification(news, self._settings.head)
            await self._send(row, SUBJECT, text)
            await self._settle(row, marks)
            log.info("notified", mailbox_id=row.mailbox_id)

    async def _news(self, row: NotifyAddress) -> tuple[News, Marks]:
        uid, unread = await self._store.notify.inbox(row.mailbox_id, row.inbox_uid)
        shown = await self._views.shown(row.mailbox_id)
        fresh = shown - await self._store.notify.known(row.mailbox_id) if shown else shown
        return News(unread, len(fresh)), Marks(uid, fresh)

    async def _stands(self, row: NotifyAddress) -> bool:
        """Say whether the address was not withdrawn or changed meanwhile."""
        found = await self._store.notify.find(row.mailbox_id)
        return found is not None and found.address == row.address

    async def _send_code(self, row: NotifyAddress) -> None:
        code = code_of(secrets.token_bytes(CODE_SIGNS))
        if await self._stands(row):
            await self._send(row, CONFIRM_SUBJECT, confirmation(code, self._settings.head))
            until = self._clock() + CODE_LIVES
            await self._store.notify.keep_code(SentCode(row, code_digest(code), until))

    async def _send(self, row: NotifyAddress, subject: str, text: str) -> None:
        head = self._settings.head
        letter = Letter(row.address, subject, text, secrets.token_hex(16), self._clock())
        await self._settings.relay.send(head.sender, row.address, encode(letter, head))

    async def _settle(
        self, row: NotifyAddress, marks: Marks, failed_at: datetime | None = None
    ) -> None:
        next_at = self._clock() + self._settings.every
        await self._store.notify.settle(Settlement(row, marks, next_at, failed_at))

    async def _failed(self, row: NotifyAddress, error: RelayError) -> None:
        at = self._clock()
        attempts = row.attempts + 1
        if not error.refused and not is_over(row.failing_since, at):
            log.warning(
                "notify_put_off", mailbox_id=row.mailbox_id, attempts=attempts, code=error.reply
            )
            await self._store.notify.put_off(row, at, next_try(at, attempts))
            return
        log.warning("notify_given_up", mailbox_id=row.mailbox_id, code=error.reply)
        if row.confirmed_at is None:
            await self._store.notify.keep_code(SentCode(row, b"", at, at))
            return
        _, marks = await self._news(row)
        await self._settle(row, marks, at)
