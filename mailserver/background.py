"""The tasks that run as long as a process does, under one roof with one end."""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Self


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
