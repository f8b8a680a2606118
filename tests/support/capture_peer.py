"""A scripted operator: takes mail over mutual TLS, keeps what it took, and misbehaves on order.

Each answer comes from a function of the test, so a peer can refuse one recipient, hang after the
final dot, drop the link, or take a message and lose its own 250.
"""

import asyncio
import re
import ssl
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum

OFFER = ("PIPELINING", "8BITMIME", "SIZE 104857600", "ENHANCEDSTATUSCODES", "DSN")
OK = "250 2.0.0 ok"


class Odd(Enum):
    """What a peer does after the final dot instead of answering."""

    HANG = "hang"
    """Says nothing for ``hang_s``, then cuts the link; the message is not taken."""
    LATE = "late"
    """Says nothing for ``hang_s``, then takes it with a 250."""
    DROP = "drop"
    """Cuts the link; the message is not taken."""
    TAKE_AND_DROP = "take-and-drop"
    """Takes the message and cuts the link before the 250: SMTP's own open instant."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A message a peer took."""

    mail: str
    recipients: tuple[str, ...]
    octets: bytes

    @property
    def message_id(self) -> str:
        """Its Message-ID, "" without one."""
        found = re.search(rb"(?im)^Message-ID:\s*(<[^>\r\n]*>)", self.octets)
        return found[1].decode("ascii", "replace") if found else ""


def _always(_: str) -> str:
    return OK


def _answer(_: Taken) -> str | Odd:
    return OK


@dataclass(slots=True)
class CapturePeer:
    """What a peer answers, and what it got.

    Attributes:
        rcpt: gives the reply to each RCPT command line.
        dot: gives the reply to each message, or what happens instead of one.
        taken: messages answered 250 (or taken and dropped), in order.
        implicit_tls: TLS from the first octet; else STARTTLS.
        hang_s: how long a hanging peer says nothing.
        seen: messages whose final dot came, taken or not.
    """

    rcpt: Callable[[str], str] = _always
    dot: Callable[[Taken], str | Odd] = _answer
    offer: tuple[str, ...] = OFFER
    implicit_tls: bool = False
    hang_s: float = 3600.0
    taken: list[Taken] = field(default_factory=list)
    lost_replies: list[Taken] = field(default_factory=list)
    seen: int = 0
    connections: int = 0
    commands: deque[str] = field(default_factory=lambda: deque(maxlen=1000))


@asynccontextmanager
async def capture(peer: CapturePeer, tls: ssl.SSLContext, port: int = 0) -> AsyncIterator[int]:
    """Listen on 127.0.0.1 until the block ends; give the port."""
    open_tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_tasks.add(task)
        peer.connections += 1
        try:
            with suppress(OSError, EOFError, ssl.SSLError, asyncio.CancelledError):
                await _Conversation(peer, tls, reader, writer).run()
        finally:
            writer.transport.abort()
            open_tasks.discard(task)

    server = await asyncio.start_server(
        serve, "127.0.0.1", port, limit=2**20, ssl=tls if peer.implicit_tls else None
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(open_tasks):
            task.cancel()
        await asyncio.gather(*open_tasks, return_exceptions=True)
        await server.wait_closed()


@contextmanager
def capture_thread(peer: CapturePeer, tls: ssl.SSLContext, port: int) -> Iterator[None]:
    """Run a peer in a thread of its own until the block ends."""
    ready, stop = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        async with capture(peer, tls, port):
            loops.append(asyncio.get_running_loop())
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    if not ready.wait(10):
        raise RuntimeError("the peer does not listen")
    try:
        yield
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(10)


@dataclass(slots=True)
class _Conversation:
    """One connection."""

    peer: CapturePeer
    tls: ssl.SSLContext
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    mail: str = ""
    recipients: list[str] = field(default_factory=list)
    secure: bool = False

    def say(self, reply: str) -> None:
        self.writer.write(reply.encode() + b"\r\n")

    async def run(self) -> None:
        self.secure = self.peer.implicit_tls
        self.say("220 capture ESMTP")
        while line := await self.reader.readline():
            command = line.decode("utf-8").rstrip("\r\n")
            self.peer.commands.append(command)
            match command[:4].upper():
                case "EHLO":
                    words = self.peer.offer if self.secure else ("STARTTLS",)
                    self.say("\r\n".join(["250-capture", *(f"250-{w}" for w in words[:-1])]))
                    self.say(f"250 {words[-1]}")
                case "STAR":
                    self.say("220 2.0.0 go")
                    await self.writer.start_tls(self.tls)
                    self.secure = True
                case "AUTH":
                    self.say("235 2.7.0 ok")
                case "MAIL":
                    self.mail, self.recipients = command, []
                    self.say(OK)
                case "RCPT":
                    reply = self.peer.rcpt(command)
                    if reply.startswith("2"):
                        self.recipients.append(command)
                    self.say(reply)
                    if reply.startswith("421"):
                        return
                case "DATA":
                    if not await self.data():
                        return
                case "QUIT":
                    self.say("221 2.0.0 bye")
                    await self.writer.drain()
                    return
                case _:
                    self.say(OK)

    async def data(self) -> bool:
        """Take one message; False ends the connection."""
        if not self.recipients:
            self.say("554 5.5.1 no valid recipients")
            return True
        self.say("354 go on")
        lines = []
        while (line := await self.reader.readuntil(b"\r\n")) != b".\r\n":
            lines.append(line[1:] if line.startswith(b".") else line)
        taken = Taken(self.mail, tuple(self.recipients), b"".join(lines))
        self.peer.seen += 1
        answer = self.peer.dot(taken)
        if answer in {Odd.HANG, Odd.LATE}:
            await asyncio.sleep(self.peer.hang_s)
        if answer is Odd.LATE:
            answer = OK
        if answer is Odd.TAKE_AND_DROP:
            self.peer.taken.append(taken)
            self.peer.lost_replies.append(taken)
        if isinstance(answer, Odd):
            return False
        if answer.startswith("2"):
            self.peer.taken.append(taken)
        self.say(answer)
        await self.writer.drain()
        return not answer.startswith("421")
