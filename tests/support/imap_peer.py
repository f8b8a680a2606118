"""A raw IMAP client that hides nothing: it sends octets and gives back response lines."""

import asyncio
import re
import ssl
from typing import Self

from tests.support.imap_site import ALICE, SECRET, ImapSite

_LITERAL = re.compile(rb"\{(\d+)\}\r\n\Z")


class RefusedError(AssertionError):
    """A command was not answered OK."""


class ImapPeer:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._count = 0

    @classmethod
    async def connect(cls, port: int, tls: ssl.SSLContext | None = None) -> Self:
        """Connect and read the greeting."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, limit=1 << 22)
        peer = cls(reader, writer)
        peer.greeting = await peer.line()
        return peer

    @classmethod
    async def login(cls, site: ImapSite, address: str = ALICE) -> Self:
        """Connect over TLS and log in."""
        peer = await cls.connect(site.tls_port, site.client_tls)
        await peer.ok(f'LOGIN {address} "{SECRET}"')
        return peer

    greeting: bytes = b""

    async def line(self) -> bytes:
        """Read one response line, its literals included."""
        async with asyncio.timeout(10):
            whole = b""
            while True:
                part = await self.reader.readuntil(b"\r\n")
                whole += part
                match = _LITERAL.search(part)
                if match is None:
                    return whole
                whole += await self.reader.readexactly(int(match[1]))

    async def raw_line(self) -> bytes:
        """Read up to the next CRLF, wherever it stands; empty when the server closed."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.readuntil(b"\r\n")
            except asyncio.IncompleteReadError as error:
                return error.partial

    def send(self, octets: bytes) -> None:
        """Send octets as they are."""
        self.writer.write(octets)

    def start(self, command: str | bytes) -> bytes:
        """Send a command; gives its tag."""
        self._count += 1
        tag = b"t%d" % self._count
        text = command if isinstance(command, bytes) else command.encode()
        self.send(tag + b" " + text + b"\r\n")
        return tag

    async def until(self, tag: bytes) -> tuple[list[bytes], bytes]:
        """Read to a tagged reply; gives the untagged lines and the reply without its tag."""
        lines: list[bytes] = []
        while True:
            line = await self.line()
            if line.startswith(tag + b" "):
                return lines, line[len(tag) + 1 :]
            lines.append(line)

    async def do(self, command: str | bytes) -> tuple[list[bytes], bytes]:
        """Run a command."""
        return await self.until(self.start(command))

    async def ok(self, command: str | bytes) -> list[bytes]:
        """Run a command that must succeed."""
        lines, reply = await self.do(command)
        if not reply.startswith(b"OK"):
            raise RefusedError(reply)
        return lines

    async def append(self, folder: str, raw: bytes, options: str = "") -> bytes:
        """APPEND with a synchronising literal; gives the reply."""
        tag = self.start(f"APPEND {folder} {options}{{{len(raw)}}}")
        first = await self.line()
        if not first.startswith(b"+"):
            return first[len(tag) + 1 :]
        self.send(raw + b"\r\n")
        return (await self.until(tag))[1]

    async def eof(self) -> bytes:
        """Read until the server closes, then close; gives what it still said."""
        said = b""
        async with asyncio.timeout(10):
            try:
                while piece := await self.reader.read(65536):
                    said += piece
            except (ConnectionError, ssl.SSLError):
                pass
        await self.close()
        return said

    async def close(self) -> None:
        """Close the connection."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            return
