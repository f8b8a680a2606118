"""COMPRESS=DEFLATE: both ways, byte by byte, and against what inflates without end.

Source: RFC 4978 §3, threats I1.
"""

import asyncio
import zlib

import pytest

from mailserver.imap.connection import READ_AHEAD
from tests.support.imap_peer import ImapPeer
from tests.support.imap_site import serve


class Squeezed:
    """The client's side of a compressed connection."""

    def __init__(self, peer: ImapPeer) -> None:
        self.peer = peer
        self._in = zlib.decompressobj(-15)
        self._out = zlib.compressobj(9, zlib.DEFLATED, -15)
        self._said = b""

    def squeeze(self, octets: bytes) -> bytes:
        return self._out.compress(octets) + self._out.flush(zlib.Z_SYNC_FLUSH)

    async def until(self, end: bytes) -> bytes:
        async with asyncio.timeout(20):
            while end not in self._said:
                piece = await self.peer.reader.read(65536)
                assert piece, self._said
                self._said += self._in.decompress(piece)
        said, self._said = self._said, b""
        return said


async def squeezed(site) -> Squeezed:
    peer = await ImapPeer.login(site)
    assert (await peer.do("COMPRESS DEFLATE"))[1].startswith(b"OK")
    return Squeezed(peer)


@pytest.mark.parametrize("step", [1, 7, 100_000])
async def test_a_conversation_goes_on_compressed_however_it_is_cut(step):
    async with serve() as site:
        client = await squeezed(site)
        message = b"From: a@b.test\r\nSubject: x\r\n\r\n" + b"line of text\r\n" * 2000
        octets = client.squeeze(
            b"a APPEND INBOX {%d+}\r\n%b\r\nb SELECT INBOX\r\nc FETCH 1 BODY.PEEK[]\r\nd CAPABILITY\r\n"
            % (len(message), message)
        )
        for at in range(0, len(octets), step):
            client.peer.send(octets[at : at + step])
            if step == 1:
                await asyncio.sleep(0)
        said = await client.until(b"\r\nd OK")
        assert b"a OK [APPENDUID" in said
        assert b"{%d}\r\n%b)" % (len(message), message) in said
        assert b"COMPRESS=DEFLATE" not in said.split(b"* CAPABILITY")[1]
        await client.peer.close()


async def test_it_is_started_once_and_only_by_who_logged_in():
    async with serve() as site:
        peer = await ImapPeer.connect(site.tls_port, site.client_tls)
        assert b"COMPRESS" not in peer.greeting
        assert (await peer.do("COMPRESS DEFLATE"))[1].startswith(b"BAD")
        await peer.close()
        peer = await ImapPeer.login(site)
        assert (await peer.do("COMPRESS LZ4"))[1].startswith(b"BAD")
        await peer.close()
        client = await squeezed(site)
        client.peer.send(client.squeeze(b"a COMPRESS DEFLATE\r\n"))
        assert b"a NO [COMPRESSIONACTIVE]" in await client.until(b"\r\n")
        await client.peer.close()


async def test_a_command_sent_before_the_answer_is_refused_and_nothing_is_compressed():
    async with serve() as site:
        peer = await ImapPeer.login(site)
        peer.send(b"a COMPRESS DEFLATE\r\nb NOOP\r\n")
        assert (await peer.line()).startswith(b"a BAD")
        assert (await peer.line()).startswith(b"b OK")
        await peer.close()


async def test_what_inflates_without_end_meets_the_limit_of_a_line():
    async with serve() as site:
        client = await squeezed(site)
        bomb = client.squeeze(b"a NOOP" + b" " * 200_000_000)
        assert len(bomb) < READ_AHEAD
        client.peer.send(bomb)
        assert b"* BYE Too long" in await client.until(b"BYE Too long\r\n")
        await client.peer.close()


async def test_octets_that_are_not_deflate_end_the_connection():
    async with serve() as site:
        client = await squeezed(site)
        client.peer.send(b"\xff" * 100)
        assert await client.peer.eof() == b""
        other = await ImapPeer.login(site)
        await other.ok("NOOP")
        await other.close()
