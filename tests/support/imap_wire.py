"""Response lines off a socket, for clients that look at every one of them.

Source: RFC 9051 §4.3, §6.3.2.
"""

import asyncio
from collections.abc import Sequence

from tests.support.imap_replies import Reply


class Gone(Exception):  # noqa: N818 - not an error: clients hang up
    """The connection is over."""


class Wire(asyncio.Protocol):
    """Response lines with their literals, and whether some came unasked."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._wake = asyncio.Event()
        self._lost = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Take octets."""
        self._buffer += data
        self._wake.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        del exc
        self._lost = True
        self._wake.set()

    def send(self, octets: bytes) -> None:
        """Send octets."""
        assert self._transport is not None
        self._transport.write(octets)

    def abort(self) -> None:
        """Hang up at once."""
        assert self._transport is not None
        self._transport.abort()

    def taken(self) -> bytes | None:
        """Give a whole line that is there."""
        at = 0
        while (end := self._buffer.find(b"\r\n", at)) >= 0:
            if (
                self._buffer[end - 1 : end] == b"}"
                and (start := self._buffer.rfind(b"{", at, end)) >= 0
            ):
                at = end + 2 + int(self._buffer[start + 1 : end - 1])
                if at > len(self._buffer):
                    return None
                continue
            line = bytes(self._buffer[: end + 2])
            del self._buffer[: end + 2]
            return line
        return None

    async def line(self) -> bytes:
        """Wait for a line."""
        while (line := self.taken()) is None:
            if self._lost:
                raise Gone
            self._wake.clear()
            await self._wake.wait()
        return line


def settled_part(told: Sequence[Reply]) -> tuple[Sequence[Reply], Sequence[Reply]]:
    """Part what SELECT said of the folder from what happened while it was said."""
    exists = 0
    for at, reply in enumerate(told):
        exists += reply.kind == b"EXISTS"
        live = reply.kind == b"VANISHED" and isinstance(reply.rest[0], bytes)
        if exists > 1 or live or reply.kind == b"EXPUNGE":
            return told[:at], told[at:]
    return told, ()
