"""Judging again what waits, when a patient was registered, qualified or corrected.

The same rules decide, on the same message opened again as of its reception; what is then filed
says so, its mailbox entries are told, and the sender is not answered a second time (RULES §5,
RULES §9). What is filed may be what others wait for: they follow.
"""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from certs.errors import SandboxError
from directory.database import Database
from directory.model import Structure
from record_bridge import quarantine
from record_bridge.documents import Decided
from record_bridge.filing import FilingBatch, FilingItem, ItemResult, file_batch
from record_bridge.model import InsMatricule, Opened
from record_bridge.opener import Opener
from record_bridge.quarantine import WaitingItem
from record_bridge.repository import archived

log = structlog.get_logger("record_bridge")


@dataclass(frozen=True, slots=True)
class Rematcher:
    """Judges waiting messages again."""

    record: Database
    opener: Opener
    clock: Callable[[], datetime]

    async def rematch(self, structure: Structure, ins: InsMatricule) -> int:
        """Judge what waits for this identity, then what waits for what was filed.

        Returns:
            How many documents were filed.
        """
        return await self._judge_all(
            structure, await self.record.write(_waiting_for, (structure.id, ins))
        )

    async def follow(self, structure: Structure, unique_ids: Sequence[str]) -> int:
        """Judge what waits for documents that wait no longer, filed or not.

        Returns:
            How many documents were filed.
        """
        following = (structure.id, tuple(unique_ids))
        return await self._judge_all(
            structure, await self.record.write(_waiting_for_parents, following)
        )

    async def _judge_all(self, structure: Structure, waiting: Sequence[WaitingItem]) -> int:
        """Judge these, then what waits for what was filed."""
        count = 0
        done: set[int] = set()
        while waiting:
            filed: list[str] = []
            for item in waiting:
                done.add(item.item_id)
                result = await self._judge(structure, item)
                if result is not None:
                    filed += result.filed
            count += len(filed)
            following = await self.record.write(_waiting_for_parents, (structure.id, tuple(filed)))
            waiting = [each for each in following if each.item_id not in done]
        return count

    async def decide(
        self, structure: Structure, item: WaitingItem, decided: Decided
    ) -> ItemResult | None:
        """Judge one message with the patient whom a person names; None: it cannot be opened."""
        return await self._judge(structure, item, decided)

    async def open(self, item: WaitingItem) -> Opened:
        """Open a waiting message as it was received, to show it.

        Raises:
            SandboxError: it cannot be opened.
        """
        raw = await self.record.write(_archived, item.archive_id)
        return await self.opener.open(raw, item.received_at)

    async def _judge(
        self, structure: Structure, item: WaitingItem, decided: Decided | None = None
    ) -> ItemResult | None:
        raw = await self.record.write(_archived, item.archive_id)
        try:
            opened = await self.opener.open(raw, item.received_at)
        except SandboxError as error:
            log.warning(
                "rematch_failed", item=item.item_id, error_type=type(error).__name__, phase="open"
            )
            return None
        batch = FilingBatch(
            structure,
            self.opener.environment,
            (
                FilingItem(
                    item_id=item.item_id,
                    uid=item.uid,
                    attempts=1,
                    receipt=item.receipt,
                    raw=raw,
                    opened=opened,
                    origin=self.opener.origin(structure, opened),
                    received_at=item.received_at,
                    recipient_ids=await self.opener.recipients(structure, opened),
                    again=True,
                    decided=decided,
                ),
            ),
            self.clock(),
        )
        result = (await self.record.write(file_batch, batch, octets=len(raw)))[0]
        log.info("message_judged_again", item=item.item_id, verdict=result.outcome.value)
        return result


def _waiting_for(
    connection: sqlite3.Connection, value: tuple[str, InsMatricule]
) -> list[WaitingItem]:
    return quarantine.waiting_for(connection, *value)


def _waiting_for_parents(
    connection: sqlite3.Connection, value: tuple[str, tuple[str, ...]]
) -> list[WaitingItem]:
    return quarantine.waiting_for_parents(connection, *value) if value[1] else []


def _archived(connection: sqlite3.Connection, archive_id: int) -> bytes:
    return archived(connection, archive_id)
