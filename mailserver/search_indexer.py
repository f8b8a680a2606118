"""Reads new messages for searching, off the delivery path.

Invariants: it never holds up a delivery: it reads a few bodies at a time, in a worker of its own,
and rests in proportion to what it worked; a message that breaks its worker is read without its
attachments; what it has not reached yet is found all the same, by looking at the message itself.

Source: DESIGN §5.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

import structlog

from certs.errors import SandboxError
from mailserver.message.search_text import SearchText
from mailserver.store.database import MailStore
from mailserver.store.errors import NoSuchBlobError
from mailserver.store.search import ReadMessage

log = structlog.get_logger("mailserver")

READ_MESSAGE: Final = "mailserver.attachment_text:read_message"
READ_PLAINLY: Final = "mailserver.attachment_text:read_plainly"
BATCH_MESSAGES = 16
BATCH_OCTETS = 2 * 1024 * 1024
WRITTEN_CHARACTERS = 100_000
"""In one transaction: the writer serves deliveries between two."""
POLL_S = 2.0
REST = 8.0
"""Seconds of rest for each second of work; with 2 it cost the receiving of 100 kB messages a third
of its rate on two cores. What waits is found all the same."""
LOOK_BACK = 20_000
"""A large message is given its number before smaller ones that are stored earlier."""

Run = Callable[[str, bytes], Awaitable[SearchText]]


class SearchIndexer:
    """The task; ``run`` until cancelled.

    Args:
        store: of the site.
        run: runs a named function of ``mailserver.attachment_text`` in the sandbox.
    """

    def __init__(self, store: MailStore, run: Run) -> None:
        self._store = store
        self._run = run
        self._after = 0
        self._last = 0

    async def run(self) -> None:
        """Read what comes, for ever."""
        while True:
            start = time.monotonic()
            try:
                found = await self.step()
            except Exception as error:
                log.exception("indexing_failed", error_type=type(error).__name__)
                found = 0
            spent = time.monotonic() - start
            await asyncio.sleep(spent * REST if found else POLL_S)

    async def step(self) -> int:
        """Read the next few messages; give how many there were."""
        waiting = await self._store.search.unread(self._after, BATCH_MESSAGES)
        if not waiting:
            self._after = max(0, self._last - LOOK_BACK)
            return 0
        chosen: list[tuple[int, int]] = []
        octets = 0
        for blob_id, size in waiting:
            if chosen and octets + size > BATCH_OCTETS:
                break
            chosen.append((blob_id, size))
            octets += size
        messages = [
            ReadMessage(blob_id, text)
            for blob_id, size in chosen
            if (text := await self._read(blob_id, size)) is not None
        ]
        await self._write(messages)
        self._after = chosen[-1][0]
        self._last = max(self._last, self._after)
        return len(chosen)

    async def _read(self, blob_id: int, octets: int) -> SearchText | None:
        try:
            raw = await self._store.blobs.read(blob_id, 0, octets)
        except NoSuchBlobError:
            return None
        try:
            return await self._run(READ_MESSAGE, raw)
        except SandboxError as error:
            log.warning("indexing_without_attachments", error_type=type(error).__name__)
        with suppress(SandboxError):
            return await self._run(READ_PLAINLY, raw)
        # Nothing can be read of it: an empty row that is not whole has it looked at each time.
        return SearchText("", "", whole=False)

    async def _write(self, messages: Sequence[ReadMessage]) -> None:
        batch: list[ReadMessage] = []
        characters = 0
        for each in messages:
            batch.append(each)
            characters += len(each.text.header) + len(each.text.body)
            if characters >= WRITTEN_CHARACTERS:
                await self._store.search.put(batch)
                batch, characters = [], 0
        if batch:
            await self._store.search.put(batch)
