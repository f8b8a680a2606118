"""Room in memory for large messages: who finds none waits, first come first served.

A large message lies in a file while it comes in; it is read whole only to be scanned, verified and
stored, and only so many octets of messages are read at a time, whatever the number of senders.

Source: DESIGN D5b; threats S19.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

ROOM_OCTETS = 32 * 1024 * 1024
"""One message of the largest usual size at a time, or several smaller ones: both cores are busy
with it, and more at once would only take more memory."""


class Room:
    """So many octets of messages at a time.

    Args:
        octets: a message that is larger than all of it waits until it is alone.
    """

    def __init__(self, octets: int = ROOM_OCTETS) -> None:
        self._octets = octets
        self._free = octets
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, octets: int) -> AsyncIterator[None]:
        """Wait for room and keep it until the block ends."""
        need = min(octets, self._octets)
        if self._waiting or need > self._free:
            await self._wait(need)
        else:
            self._free -= need
        try:
            yield
        finally:
            self._give(need)

    async def _wait(self, need: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((need, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give(need)  # the room came and the waiter went, in the same instant
            else:
                with suppress(ValueError):  # it was passed over already
                    self._waiting.remove((need, turn))
                self._give(0)
            raise

    def _give(self, octets: int) -> None:
        self._free += octets
        while self._waiting and self._waiting[0][0] <= self._free:
            need, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= need
                turn.set_result(None)
