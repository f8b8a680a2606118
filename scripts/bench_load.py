"""The load generator of the bench: messages made beforehand, sent over STARTTLS by raw sockets.

Its own CPU is printed beside what it measures. Standard library only.
"""

import asyncio
import contextlib
import ssl
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Load:
    """What one run saw."""

    sent: int = 0
    refused: list[str] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    wall_s: float = 0.0

    def percentile_ms(self, percent: float) -> float:
        """Latency from the end of DATA to the final 250."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(percent / 100 * len(ordered)))] * 1000


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send, as whom, to whom."""

    port: int
    context: ssl.SSLContext
    sender: str
    recipient: str


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, target: Target) -> "_Connection":
        reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
        plain = cls(reader, writer)
        await plain._answer(b"220")
        await plain.say(b"EHLO bench.mssante.test", b"250")
        await plain.say(b"STARTTLS", b"220")
        await writer.start_tls(target.context, server_hostname="localhost")
        secure = cls(reader, writer)
        await secure.say(b"EHLO bench.mssante.test", b"250")
        return secure

    async def say(self, line: bytes, wanted: bytes) -> bytes:
        self._writer.write(line + b"\r\n")
        return await self._answer(wanted)

    async def send(self, target: Target, payload: bytes) -> float:
        await self.say(f"MAIL FROM:<{target.sender}>".encode(), b"250")
        await self.say(f"RCPT TO:<{target.recipient}>".encode(), b"250")
        await self.say(b"DATA", b"354")
        self._writer.write(payload)
        await self._writer.drain()
        ended = time.perf_counter()
        await self._answer(b"250")
        return time.perf_counter() - ended

    async def _answer(self, wanted: bytes) -> bytes:
        while True:
            line = await self._reader.readline()
            if line[3:4] != b"-":
                break
        if not line.startswith(wanted):
            raise ConnectionError(line.decode("ascii", "replace").strip() or "closed")
        return line

    async def close(self) -> None:
        with contextlib.suppress(OSError):
            await self.say(b"QUIT", b"221")
        self._writer.close()


def payload(raw: bytes) -> bytes:
    """Dot-stuff a message and end it. Source: RFC 5321 §4.5.2."""
    stuffed = raw.replace(b"\r\n.", b"\r\n..")
    return (
        (b"." if stuffed.startswith(b".") else b"")
        + stuffed
        + (b".\r\n" if stuffed.endswith(b"\r\n") else b"\r\n.\r\n")
    )


def run_load(target: Target, messages: Iterable[bytes], *, connections: int, kept: bool) -> Load:
    """Send every message once, over kept connections or one connection a message."""
    load = Load()
    payloads: Iterator[bytes] = iter([payload(raw) for raw in messages])

    async def worker() -> None:
        connection: _Connection | None = None
        for body in payloads:
            try:
                if connection is None:
                    connection = await _Connection.open(target)
                load.latencies_s.append(await connection.send(target, body))
                load.sent += 1
                if not kept:
                    await connection.close()
                    connection = None
            except OSError as error:
                load.refused.append(str(error))
                connection = None
        if connection is not None:
            await connection.close()

    async def everybody() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(worker())

    started = time.perf_counter()
    asyncio.run(everybody())
    load.wall_s = time.perf_counter() - started
    return load
