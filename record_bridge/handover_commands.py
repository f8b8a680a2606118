"""Commands on what is handed over to a structure's own software.

| command | arguments | result |
|---|---|---|
| handover_list | structure, actor, reason | rows |
| handover_retry | structure, actor | ``queued`` |
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from record_bridge import handover_queue
from record_bridge.command_desk import CommandDesk

Arguments = Mapping[str, Any]


class HandoverCommands:
    """The hand-over, for the command line."""

    def __init__(self, commands: CommandDesk) -> None:
        self._commands = commands

    def table(self) -> dict[str, Callable[[Arguments], Awaitable[Any]]]:
        """Give every command by name."""
        return {"handover_list": self.handover_list, "handover_retry": self.handover_retry}

    async def handover_list(self, arguments: Arguments) -> list[dict[str, object]]:
        """List the documents that the software has not taken; the look is in the trail."""
        rows = await self._commands.write(handover_queue.rows, arguments.get("structure"))
        await self._commands.note("handover_listed", arguments, "handover")
        return rows

    async def handover_retry(self, arguments: Arguments) -> dict[str, int]:
        """Hand over again what waits or was refused."""
        queued = await self._commands.write(
            handover_queue.retry, (arguments.get("structure"), self._commands.now())
        )
        await self._commands.note("handover_retried", arguments, "handover")
        return {"queued": queued}
