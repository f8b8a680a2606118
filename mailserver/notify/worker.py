"""Telling people that something is new, or due in their agenda: who, of what, and sending it.

Invariants: what is news is asked of the same pages' decisions at the moment of sending, so that
what is held, hidden or hidden meanwhile causes nothing; that question is put only where something
changed since it was last answered, where its answer said when to put it again, and to everybody a
few times a day, because a mark cannot know of what time alone changes; marks move after the
relay's answer, so a crash tells twice rather than never (a reminder then as the same message, by
its Message-ID); a failure is kept with its address and touches no mail.

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
    reminder_id,
)
from mailserver.store.changes import NOTIFY
from mailserver.store.database import MailStore
from mailserver.store.notify import Marks, NotifyAddress, Reminded, SentCode, Settlement
from record_bridge.reminders import Line, Memory, Reminder, reminder

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

Agenda = Callable[[int, datetime], Awaitable[Sequence[Line]]]
"""Gives the lines of which a mailbox's holder may be reminded at a moment; empty without any."""


@dataclass(frozen=True, slots=True)
class Views:
    """What people are shown in their records: by mark, for many, and itself, for one."""

    marks: RecordMarks
    shown: Shown
    agenda: Agenda


@dataclass(frozen=True, slots=True)
class _Asked:
    """What mailbox and record were like when asked about, and when to ask although unchanged."""

    mark: Hashable
    again_at: datetime


@dataclass(frozen=True, slots=True)
class _Found:
    """What somebody is to be told, what they know then, and when there may be more of it."""

    news: News
    marks: Marks
    reminded: Reminded | None
    again_at: datetime


@dataclass(frozen=True, slots=True)
class NotifierSettings:
    """By which relay, under which head, and how often one person is told at most.

    Attributes:
        remind_from_hour: 0 to 23, in France: nobody is reminded earlier in the day.
    """

    relay: Relay
    head: Letterhead
    every: timedelta
    remind_from_hour: int = 8


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
        at, many, after = self._clock(), AT_A_TIME, self._after
        left = many
        while True:
            rows = await self._store.notify.due(at, after=after, many=many)
            candidates = await self._candidates(rows, at)
            for row, mark in candidates[:left]:
                try:
                    again_at = await self._serve(row)
                    self._asked[row.mailbox_id] = _Asked(mark, again_at)
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
    ) -> list[tuple[NotifyAddress, Hashable]]:
        """Give those of them that may have news, with the mark by which that is known."""
        inboxes = await self._store.notify.inboxes(row.mailbox_id for row in rows)
        records = await self._views.marks([each.address for each in inboxes.values()])
        found: list[tuple[NotifyAddress, Hashable]] = []
        for row in rows:
            inbox = inboxes.get(row.mailbox_id)
            record = None if inbox is None else records.get(inbox.address)
            mark = (inbox, record, row.reminds)
            before = self._asked.get(row.mailbox_id)
            if (
                row.confirmed_at is None
                or before is None
                or before.mark != mark
                or at >= before.again_at
            ):
                found.append((row, mark))
        return found

    async def _serve(self, row: NotifyAddress) -> datetime:
        """Tell somebody what there is to tell, and say when there may be more."""
        if row.confirmed_at is None:
            await self._send_code(row)
            return self._clock() + ASKED_AGAIN
        found = await self._found(row)
        if found.news:
            if not await self._stands(row):
                return self._clock()
            name = self._message_id(row, found.reminded)
            await self._send(row, SUBJECT, notification(found.news, self._settings.head), name)
            await self._settle(row, found)
            log.info("notified", mailbox_id=row.mailbox_id)
        return found.again_at

    async def _found(self, row: NotifyAddress) -> _Found:
        """Ask what is news, unless that was told a short while ago, and what is due."""
        at = self._clock()
        again_at = [at + ASKED_AGAIN]
        unread, marks = 0, Marks(0, frozenset())
        if row.next_at <= at:
            uid, unread = await self._store.notify.inbox(row.mailbox_id, row.inbox_uid)
            shown = await self._views.shown(row.mailbox_id)
            known = await self._store.notify.known(row.mailbox_id) if shown else shown
            marks = Marks(uid, shown - known)
        else:
            again_at.append(row.next_at)
        due = await self._due(row, at)
        if due.again_at is not None:
            again_at.append(due.again_at)
        return _Found(
            News(unread, len(marks.documents), bool(due.lines)),
            marks,
            Reminded(due.on, due.lines) if due.lines else None,
            min(again_at),
        )

    async def _due(self, row: NotifyAddress, at: datetime) -> Reminder:
        lines = await self._views.agenda(row.mailbox_id, at) if row.reminds else ()
        told = await self._store.notify.reminded(row.mailbox_id) if lines else frozenset()
        memory = Memory(row.reminded_on, told)
        return reminder(lines, memory, at, self._settings.remind_from_hour)

    async def _stands(self, row: NotifyAddress) -> bool:
        """Say whether the address was not withdrawn or changed meanwhile, nor what it is for."""
        now = await self._store.notify.find(row.mailbox_id)
        return now is not None and (now.address, now.reminds) == (row.address, row.reminds)

    def _message_id(self, row: NotifyAddress, reminded: Reminded | None) -> str:
        if reminded is None:
            return secrets.token_hex(16)
        return reminder_id(self._settings.head, row.mailbox_id, reminded.on)

    async def _send_code(self, row: NotifyAddress) -> None:
        code = code_of(secrets.token_bytes(CODE_SIGNS))
        if await self._stands(row):
            text = confirmation(code, self._settings.head)
            await self._send(row, CONFIRM_SUBJECT, text, secrets.token_hex(16))
            until = self._clock() + CODE_LIVES
            await self._store.notify.keep_code(SentCode(row, code_digest(code), until))

    async def _send(self, row: NotifyAddress, subject: str, text: str, message_id: str) -> None:
        head = self._settings.head
        letter = Letter(row.address, subject, text, message_id, self._clock())
        await self._settings.relay.send(head.sender, row.address, encode(letter, head))

    async def _settle(
        self, row: NotifyAddress, found: _Found, failed_at: datetime | None = None
    ) -> None:
        at = self._clock()
        next_at = at + self._settings.every if row.next_at <= at else row.next_at
        told = Settlement(row, found.marks, next_at, failed_at, found.reminded)
        await self._store.notify.settle(told)

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
        await self._settle(row, await self._found(row), at)
