"""A client that costs little, and the mail that ``scripts/bench imap`` fills mailboxes with."""

import asyncio
import random
import re
import ssl
import time
from collections.abc import Awaitable

from bench_imap_servers import Server

_CHUNK = 1 << 20
_EXISTS = re.compile(rb"\* (\d+) EXISTS\r\n")
_LETTERS = "etaoinsrlucdpm"


class Client:
    """One connection; reads no more of the answers than it must."""

    def __init__(self) -> None:
        self._count = 0
        self._held = b""

    async def open(self, server: Server, *, tls: ssl.SSLContext | None = None) -> "Client":
        """Connect and log in."""
        port = server.tls_port if tls else server.port
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", port, limit=_CHUNK, ssl=tls, server_hostname="localhost" if tls else None
        )
        await self.until(b"\r\n")
        await self.run('LOGIN "{}" "{}"'.format(*server.login))
        return self

    async def until(self, mark: bytes) -> bytes:
        """Read up to and with a mark; what follows is kept."""
        pieces = [self._held]
        tail = self._held
        while mark not in tail:
            piece = await self.reader.read(_CHUNK)
            if not piece:
                raise ConnectionError("the server closed the connection")
            pieces.append(piece)
            tail = tail[-len(mark) :] + piece
        whole = b"".join(pieces)
        at = whole.index(mark) + len(mark)
        self._held = whole[at:]
        return whole[:at]

    def send(self, command: str) -> bytes:
        """Write one command; gives its tag."""
        self._count += 1
        tag = b"a%d" % self._count
        self.writer.write(tag + b" " + command.encode() + b"\r\n")
        return tag

    async def end(self, tag: bytes) -> bytes:
        """Read to the end of a command's answer, which is the last thing sent; it must be OK."""
        pieces = [self._held]
        last = self._held
        start = b"\r\n" + tag + b" "
        while not (last.endswith(b"\r\n") and (start in last or last.startswith(start[2:]))):
            piece = await self.reader.read(_CHUNK)
            if not piece:
                raise ConnectionError("the server closed the connection")
            pieces.append(piece)
            last = last[-200:] + piece if len(piece) < 200 else piece
        self._held = b""
        if tag + b" OK" not in last:
            raise RuntimeError(last[-200:].decode(errors="replace"))
        return b"".join(pieces)

    async def run(self, command: str) -> bytes:
        """Run one command."""
        return await self.end(self.send(command))

    async def append(self, box: str, message: bytes) -> None:
        """APPEND with a synchronising literal, as clients do."""
        tag = self.send(f"APPEND {box} {{{len(message)}}}")
        await self.until(b"\r\n")
        self.writer.write(message + b"\r\n")
        await self.end(tag)

    async def select(self, box: str) -> int:
        """SELECT; gives how many messages there are."""
        found = _EXISTS.search(await self.run(f"SELECT {box}"))
        return int(found[1]) if found else 0

    async def stop(self) -> None:
        """Leave IDLE and let it go."""
        self.writer.write(b"DONE\r\n")
        await self.until(b"\r\n")
        self.close()

    def close(self) -> None:
        """Let it go."""
        self.writer.transport.abort()


def message(number: int, octets: int) -> bytes:
    """Write a letter as professionals do, text and a small HTML part."""
    chance = random.Random(number)
    words = ["".join(chance.choices(_LETTERS, k=chance.randint(3, 9))) for _ in range(60)]
    lines = []
    size = 0
    while size < octets // 2:
        line = " ".join(chance.choices(words, k=11))
        lines.append(line)
        size += len(line) + 2
    if number % 50 == 0:
        lines.append("dosage de troponine")
    text = "\r\n".join(lines)
    return (
        f"From: Docteur {words[0]} <sender{number % 100}@bench.test>\r\n"
        f"To: <alice@bench.test>\r\nSubject: Compte rendu {words[1]} {number}\r\n"
        f"Date: Mon, 02 Nov 2026 10:{number % 60:02}:00 +0100\r\n"
        f"Message-ID: <{number}.{octets}@bench.test>\r\nMIME-Version: 1.0\r\n"
        "Content-Type: multipart/alternative; boundary=b\r\n\r\n"
        f"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n"
        f"--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>{text}</p>\r\n--b--\r\n"
    ).encode()


async def fill(server: Server, box: str, count: int, octets: int) -> None:
    """Put messages into a new folder over several connections."""
    clients = [await Client().open(server) for _ in range(8)]
    await clients[0].run(f"CREATE {box}")
    numbers = iter(range(count))

    async def some(client: Client) -> None:
        for number in numbers:
            await client.append(box, message(number, octets))

    await asyncio.gather(*map(some, clients))
    for client in clients:
        client.close()


async def timed(work: Awaitable[object]) -> float:
    """Give the seconds that something takes."""
    start = time.perf_counter()
    await work
    return time.perf_counter() - start
