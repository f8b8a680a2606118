"""Trail events that no answer waits for are written once, also when the server stops."""

import asyncio
from types import SimpleNamespace
from typing import Any

from directory.audit_event import AuditEvent
from mailserver.imap.shared import AuditQueue
from tests.support.imap_site import AT

EVENT = AuditEvent("imap_login", AT, "mailbox:1")


class Trail:
    """Writes at once, and answers when ``answers`` is set; fails first when ``broken``."""

    def __init__(self, *, broken: bool = False) -> None:
        self.written: list[AuditEvent] = []
        self.asked, self.answers = asyncio.Event(), asyncio.Event()
        self.broken = broken

    async def record(self, events: list[AuditEvent]) -> None:
        self.asked.set()
        if self.broken:
            self.broken = False
            raise OSError
        self.written += events
        await self.answers.wait()


def queue(trail: Trail) -> AuditQueue:
    store: Any = SimpleNamespace(audit=trail)
    return AuditQueue(store)


async def stopped(trail: Trail) -> None:
    waiting = queue(trail)
    task = asyncio.create_task(waiting.run())
    waiting.put(EVENT)
    await trail.asked.wait()
    task.cancel()
    trail.answers.set()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_is_being_written_when_the_server_stops_is_written_once() -> None:
    trail = Trail()

    await stopped(trail)

    assert trail.written == [EVENT]


async def test_what_could_not_be_written_is_written_before_the_server_stops() -> None:
    trail = Trail(broken=True)

    await stopped(trail)

    assert trail.written == [EVENT]
