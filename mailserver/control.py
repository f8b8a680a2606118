"""Commands that reach a running child: one JSON line in, one JSON line out, over a 0600 socket.

Invariants: only the site's own user can connect (the socket lies in a 0700 folder and is 0600);
one command a connection; a request line is at most 8 MiB. When nothing listens, the caller opens
the databases itself under the same lock that the child holds, so that there is one writer.
"""

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import structlog

from mailserver.errors import CommandError, SiteError

log = structlog.get_logger("mailserver.control")


class Owner(Enum):
    """Which process owns what a command works on; in the order in which they start."""

    SEAL = "seal"
    MAIL = "mail"
    BRIDGE = "bridge"


MAX_LINE = 8 * 1024 * 1024
"""A patient's own file has up to 5 MB, a third more in base64."""
COMMAND_TIMEOUT_S = 120

Command = Callable[[Mapping[str, Any]], Awaitable[Any]]
"""Takes JSON-able arguments and gives a JSON-able result; raises CommandError to refuse."""


@asynccontextmanager
async def serve_control(path: Path, commands: Mapping[str, Command]) -> AsyncIterator[None]:
    """Listen on ``path`` until the block ends."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_S):
                reply = await _run(commands, await reader.readline())
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError, TimeoutError):
            log.warning("control_dropped")
        finally:
            writer.close()

    path.unlink(missing_ok=True)
    mask = os.umask(0o177)
    try:
        server = await asyncio.start_unix_server(answer, path, limit=MAX_LINE)
    finally:
        os.umask(mask)
    try:
        async with server:
            yield
    finally:
        path.unlink(missing_ok=True)


async def _run(commands: Mapping[str, Command], line: bytes) -> dict[str, Any]:
    request = json.loads(line)
    command = commands.get(request.get("command", ""))
    if command is None:
        return {"error": "unknown", "text": "The server does not know this command."}
    try:
        return {"result": await command(request.get("arguments", {}))}
    except CommandError as refusal:
        return {"error": refusal.code, "text": refusal.text}
    except Exception as error:
        log.exception("command_failed", exc_info=error)
        return {"error": "internal", "text": "The server could not do this; see its log."}


async def call(path: Path, command: str, arguments: Mapping[str, Any]) -> Any:
    """Run a command in the child that listens on ``path``.

    Raises:
        ConnectionError: nothing listens there.
        CommandError: the child refused.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=16 * MAX_LINE)
    except FileNotFoundError as error:
        raise ConnectionRefusedError from error
    try:
        writer.write(json.dumps({"command": command, "arguments": arguments}).encode() + b"\n")
        await writer.drain()
        line = await reader.readline()
    finally:
        writer.close()
    if not line:
        raise ConnectionResetError
    reply = json.loads(line)
    if "error" in reply:
        raise CommandError(reply["error"], reply["text"])
    return reply["result"]


@contextmanager
def sole_owner(path: Path) -> Iterator[None]:
    """Hold the lock that says who writes a database; the kernel frees it at any death.

    Raises:
        SiteError: another process holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            text = "another pli process is using this site; try again, or stop 'pli serve' first"
            raise SiteError(text) from error
        yield
    finally:
        os.close(descriptor)
