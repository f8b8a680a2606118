"""One application mailbox: fetch, claim, open, file, tell, answer, wait.

Broad exceptions are caught at the tops of the two loops, watching and answering, and nowhere else.

Invariants: a message is opened only after its row is written and its attempt counted; an attempt
that failed for the network's, the disk's or the database's sake is given back; the mailbox is told
only what the filing transaction committed; after a crash, what was claimed is tried alone. A
message that three times breaks its opening or its filing is quarantined (906).
"""

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from certs.errors import SandboxError
from directory.database import Database
from directory.lookup import Directory
from directory.model import Structure
from record_bridge import progress, purging
from record_bridge.filing import FilingBatch, FilingItem, ItemOutcome, ItemResult, file_batch
from record_bridge.inbox import (
    BATCH_ITEMS,
    BATCH_OCTETS,
    Inbox,
    InboxError,
    InboxLogin,
    Listed,
    Phase,
)
from record_bridge.model import Opened
from record_bridge.opener import Opener
from record_bridge.progress import MAX_ATTEMPTS, Claimed
from record_bridge.receipts import receipt_of, received_at
from record_bridge.reply import DueReply, Originals, ReplySender, next_due

log = structlog.get_logger("record_bridge")

BACKOFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Pauses before the mailbox is opened again; the last one repeats."""
IDLE_S = 600.0
"""IDLE is renewed well before servers end it (RFC 2177 §3: 29 minutes)."""
WITHHELD_S = 60.0
"""What the server lists and does not give is asked for again after this."""
PURGE_EVERY = timedelta(hours=1)
REPLY_POLL_S = 30.0


@dataclass(frozen=True, slots=True)
class WatcherParts:
    """What a watcher is built from."""

    record: Database
    opener: Opener
    directory: Directory
    structure_id: str
    login: InboxLogin
    sender: ReplySender
    clock: Callable[[], datetime]
    purge_after: timedelta


class Watcher:
    """Brings one application mailbox into the records of its structure."""

    def __init__(self, parts: WatcherParts) -> None:
        self._parts = parts
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._answers = asyncio.Event()
        self._originals = Originals()
        self._inbox: Inbox | None = None
        self._unspent: set[int] = set()
        self._withheld = False
        self._purged_at: datetime | None = None
        self.idle = False

    def wake(self) -> None:
        """There is something to tell or to answer."""
        self._wake.set()
        self._answers.set()

    def stop(self) -> None:
        """Finish the batch in flight, then let ``run`` return."""
        self._stopping.set()
        self.wake()

    async def run(self) -> None:
        """Watch until ``stop``; every failure is logged with its phase, then tried again."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_always())
            group.create_task(self._answer_always())

    async def _watch_always(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                async with Inbox.open(self._parts.login) as inbox:
                    self._inbox = inbox
                    await self._watch(inbox)
                failures = 0
            except InboxError as error:
                self._note_failure("bridge_disconnected", error, error.phase)
            except sqlite3.Error as error:
                self._note_failure("bridge_database_failed", error, Phase.FILE)
            except Exception as error:
                log.exception(
                    "bridge_failed",
                    structure_id=self._parts.structure_id,
                    error_type=type(error).__name__,
                )
            self.idle = False
            failures = 0 if self._stopping.is_set() else failures + 1
            if failures:
                await self._pause(BACKOFF_S[min(failures, len(BACKOFF_S)) - 1])

    def _note_failure(self, event: str, error: Exception, phase: Phase) -> None:
        log.warning(
            event,
            structure_id=self._parts.structure_id,
            phase=phase.value,
            error_type=type(error.__cause__ or error).__name__,
        )

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _watch(self, inbox: Inbox) -> None:
        parts = self._parts
        where = await progress.position(
            parts.record, parts.structure_id, inbox.uidvalidity, parts.clock()
        )
        log.info("bridge_connected", structure_id=parts.structure_id, count=where.uid)
        await self._take_back_gone(inbox, where)
        await self._resume(inbox, where)
        await self._tell_rest(inbox)
        cursor = where.uid
        while not self._stopping.is_set():
            listed = await inbox.list_after(cursor)
            for batch in batches(listed):
                self.idle = False
                await self._round_until_done(inbox, [each.uid for each in batch])
                cursor = batch[-1].uid
                if self._stopping.is_set():
                    return
            if listed:
                continue
            if self._wake.is_set():
                self._wake.clear()
                await self._tell_rest(inbox)
            await self._purge(inbox)
            self.idle = True
            await inbox.wait(self._wake, WITHHELD_S if self._withheld else IDLE_S)
            self.idle = False
            if self._withheld:
                await self._resume(inbox, where)

    async def _purge(self, inbox: Inbox) -> None:
        """Take out of the mailbox what is settled and was told long ago (RULES §3)."""
        parts, at = self._parts, self._parts.clock()
        if self._purged_at is not None and at - self._purged_at < PURGE_EVERY:
            return
        self._purged_at = at
        purge = purging.Purge(parts.structure_id, inbox.uidvalidity, at - parts.purge_after)
        while due := await parts.record.write(purging.due, purge):
            if self._stopping.is_set() or not await inbox.remove([uid for _, uid in due]):
                return
            items = tuple(item_id for item_id, _ in due)
            await parts.record.write(purging.purged, (items, at))
            log.info("messages_purged", structure_id=parts.structure_id, count=len(items))

    async def _take_back_gone(self, inbox: Inbox, where: progress.Position) -> None:
        """Try again what had left unopened, when the server lists it after all."""
        parts = self._parts
        gone = await parts.record.write(progress.gone_uids, where)
        back = await inbox.present(gone) if gone else frozenset()
        if back:
            again = progress.Claim(
                where.structure_id, where.uidvalidity, tuple(sorted(back)), parts.clock()
            )
            await parts.record.write(progress.reopen, again)

    async def _resume(self, inbox: Inbox, where: progress.Position) -> None:
        """Try alone each message that an earlier round left open."""
        self._withheld = False
        for uid in await self._parts.record.write(progress.interrupted, where):
            if self._stopping.is_set():
                return
            await self._round_until_done(inbox, [uid])

    async def _round_until_done(self, inbox: Inbox, uids: Sequence[int]) -> None:
        """A batch, then alone and again whatever our own code failed on."""
        failed = await self._round(inbox, uids)
        while failed:
            alone, failed = failed, []
            for uid in alone:
                failed += await self._round(inbox, [uid])

    async def _round(self, inbox: Inbox, uids: Sequence[int]) -> list[int]:
        """Fetch, claim, open, file and tell one batch; give the UIDs that failed."""
        parts = self._parts
        structure = parts.directory.structure(parts.structure_id)
        if structure is None:
            raise InboxError(Phase.CLAIM)
        fetched = {each.uid: each.raw for each in await inbox.fetch(uids)}
        claim = progress.Claim(
            structure.id,
            inbox.uidvalidity,
            tuple(uids),
            parts.clock(),
            frozenset(uids) - fetched.keys(),
            tuple(self._unspent),
        )
        claimed = await parts.record.write(progress.claim, claim)
        self._unspent.difference_update(claim.unspent)
        if claim.absent:
            await self._note_absent(inbox, claim)
        if not claimed:
            return []
        try:
            items, results = await self._judge(structure, claimed, fetched, claim.at)
        except Exception as error:
            if progress.is_outside(error):
                await self._give_back(claimed)
            raise
        self._note(items, results)
        done = [each for each in results if each.outcome is not ItemOutcome.FAILED]
        await self._tell(
            inbox,
            [
                progress.Outstanding(
                    each.item_id, inbox.uidvalidity, each.uid, each.keywords, frozenset()
                )
                for each in done
            ],
        )
        return [each.uid for each in results if each.outcome is ItemOutcome.FAILED]

    async def _judge(
        self,
        structure: Structure,
        claimed: Sequence[Claimed],
        fetched: Mapping[int, bytes],
        at: datetime,
    ) -> tuple[Sequence[FilingItem], Sequence[ItemResult]]:
        """Open the messages side by side, and file them in one transaction."""
        parts = self._parts
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._item(structure, each, fetched[each.uid], at))
                for each in claimed
            ]
        items = tuple(task.result() for task in tasks)
        batch = FilingBatch(structure, parts.opener.environment, items, parts.clock())
        octets = sum(len(item.raw) for item in items)
        return items, await parts.record.write(file_batch, batch, octets=octets)

    async def _note_absent(self, inbox: Inbox, claim: progress.Claim) -> None:
        """Close what left the mailbox unopened; what is still listed is asked for again."""
        there = await inbox.present(sorted(claim.absent))
        lost = tuple(sorted(claim.absent - there))
        if lost:
            closed = replace(claim, uids=lost, absent=frozenset(), unspent=())
            await self._parts.record.write(progress.gone, closed)
            log.error("messages_gone_unopened", structure_id=claim.structure_id, count=len(lost))
        if there:
            self._withheld = True
            log.warning(
                "messages_not_given",
                structure_id=claim.structure_id,
                phase=Phase.FETCH.value,
                count=len(there),
            )

    async def _give_back(self, claimed: Sequence[Claimed]) -> None:
        """Uncount this attempt now, or with the next claim when the database cannot."""
        self._unspent.update(each.item_id for each in claimed)
        items = tuple(self._unspent)
        try:
            await self._parts.record.write(progress.give_back, items)
        except sqlite3.Error:
            return
        self._unspent.difference_update(items)

    async def _item(
        self, structure: Structure, claimed: Claimed, raw: bytes, at: datetime
    ) -> FilingItem:
        opener = self._parts.opener
        received = received_at(raw, at)
        opened = await self._open(claimed, raw, received)
        return FilingItem(
            item_id=claimed.item_id,
            uid=claimed.uid,
            attempts=claimed.attempts,
            receipt=receipt_of(raw),
            raw=raw,
            opened=opened,
            origin=opener.origin(structure, opened),
            received_at=received,
            recipient_ids=await opener.recipients(structure, opened),
        )

    async def _open(self, claimed: Claimed, raw: bytes, received: datetime) -> Opened | None:
        """Open a message; None when it crashed its worker too often."""
        attempts = claimed.attempts
        while attempts <= MAX_ATTEMPTS:
            try:
                return await self._parts.opener.open(raw, received)
            except SandboxError as error:
                log.warning(
                    "opening_failed",
                    item=claimed.item_id,
                    phase=Phase.OPEN.value,
                    error_type=type(error).__name__,
                    count=attempts,
                )
            attempts = await self._parts.record.write(progress.attempt_failed, claimed.item_id)
        return None

    def _note(self, items: Sequence[FilingItem], results: Sequence[ItemResult]) -> None:
        """One line per message, and what the answers need."""
        for item, result in zip(items, results, strict=True):
            log.info(
                "message_judged",
                structure_id=self._parts.structure_id,
                item=result.item_id,
                receipt_id=item.receipt,
                verdict=result.outcome.value,
                code=None if result.code is None else result.code.value,
                octets=len(item.raw),
            )
            if result.error_type:
                log.error(
                    "filing_failed",
                    item=result.item_id,
                    phase=Phase.FILE.value,
                    error_type=result.error_type,
                    count=item.attempts,
                )
            for alarm in result.alarms:
                log.error("alarm_raised", item=result.item_id, verdict=alarm)
            if result.answers:
                self._originals.keep(item.item_id, item.raw)
                self._answers.set()

    async def _tell_rest(self, inbox: Inbox) -> None:
        """Tell the mailbox what an earlier run, a release or a new match decided."""
        parts = self._parts
        while rest := await parts.record.write(progress.outstanding, parts.structure_id):
            mine = [each for each in rest if each.uidvalidity == inbox.uidvalidity]
            if not mine:
                return
            await self._tell(inbox, mine)

    async def _tell(self, inbox: Inbox, entries: Sequence[progress.Outstanding]) -> None:
        groups: defaultdict[tuple[frozenset[str], frozenset[str]], list[int]] = defaultdict(list)
        for each in entries:
            groups[each.keywords, each.told - each.keywords].append(each.uid)
        for (keywords, cleared), uids in groups.items():
            await inbox.mark(uids, keywords, cleared)
        if entries:
            await self._parts.record.write(progress.marked, (tuple(entries), self._parts.clock()))

    async def _answer_always(self) -> None:
        """Send the answers that are due, until ``stop``."""
        parts = self._parts
        while not self._stopping.is_set():
            self._answers.clear()
            wait = REPLY_POLL_S
            try:
                while await parts.sender.send_due(self._original):
                    pass
                due = await parts.record.write(next_due, parts.structure_id)
                if due is not None:
                    wait = min(wait, max(0.5, (due - parts.clock()).total_seconds()))
            except InboxError as error:
                self._note_failure("reply_failed", error, error.phase)
            except Exception as error:
                log.exception(
                    "reply_failed",
                    structure_id=parts.structure_id,
                    phase=Phase.REPLY.value,
                    error_type=type(error).__name__,
                )
            try:
                async with asyncio.timeout(wait):
                    await self._answers.wait()
            except TimeoutError:
                continue

    async def _original(self, reply: DueReply) -> bytes:
        """The message that is answered; b"" when it left the mailbox."""
        kept = self._originals.take(reply.item_id)
        if kept is not None:
            return kept
        async with Inbox.open(self._parts.login) as inbox:
            if inbox.uidvalidity != reply.uidvalidity:
                return b""
            fetched = await inbox.fetch([reply.uid])
        return fetched[0].raw if fetched else b""


def batches(listed: Sequence[Listed]) -> Iterator[list[Listed]]:
    """Cut what is there into batches by number and by octets, in order."""
    batch: list[Listed] = []
    octets = 0
    for each in listed:
        if batch and (len(batch) == BATCH_ITEMS or octets + each.octets > BATCH_OCTETS):
            yield batch
            batch, octets = [], 0
        batch.append(each)
        octets += each.octets
    if batch:
        yield batch
