"""The tasks that run as long as a process does, under one roof with one end."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Self

import structlog

log = structlog.get_logger("mailserver.background")


async def every(seconds: float, work: Callable[[], Awaitable[object]], phase: str) -> None:
    """Do ``work`` now and every so many seconds; when it fails say so, and try again then.

    For upkeep, whose failure (a full disk, a file half written) must not take the mail down with
    it: a process that ends for it would end again at once, and the whole server after five times.
    """
    while True:
        try:
            await work()
        except Exception as error:
            log.exception("upkeep_failed", phase=phase, error_type=type(error).__name__)
        await asyncio.sleep(seconds)


class Background:
    """An ``async with`` group: its tasks are cancelled when the block ends.

    A task that fails ends the whole process by cancelling the block (the supervisor starts it
    again): nothing goes on without its sealer or its queue.
    """

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    def start(self, work: Coroutine[object, object, None]) -> None:
        """Run ``work`` until the block ends."""
        self._tasks.append(self._group.create_task(work))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(kind, error, trace)
