"""BINARY: parts without their transfer encoding, small and large, and those nobody can undo.

Source: RFC 3516 §4, RFC 9051 §6.4.5.
"""

import base64

import pytest

from tests.support.imap_peer import ImapPeer
from tests.support.imap_site import serve

LETTER = (
    b"From: a@b.test\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nH=C3=A9mo=\r\nglobine\r\n"
    b"--b\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: BASE64\r\n\r\n%b\r\n"
    b"--b\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 x\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nplain\r\n"
    b"--b--\r\n"
)
PDF = bytes(range(256)) * 4
BIG = bytes(range(256)) * 4096


def letter(content: bytes) -> bytes:
    return LETTER % base64.encodebytes(content).replace(b"\n", b"\r\n")


async def opened(site, raw: bytes) -> ImapPeer:
    await site.put(raw)
    peer = await ImapPeer.login(site)
    await peer.ok("SELECT INBOX")
    return peer


async def told(peer: ImapPeer, item: str) -> bytes:
    (line,) = await peer.ok(f"FETCH 1 ({item})")
    return line.removeprefix(b"* 1 FETCH (").removesuffix(b")\r\n")


async def test_a_part_comes_without_its_transfer_encoding():
    async with serve() as site:
        peer = await opened(site, letter(PDF))

        text = "Hémoglobine".encode()
        assert await told(peer, "BINARY.PEEK[1]") == b"BINARY[1] ~{12}\r\n" + text
        assert await told(peer, "BINARY.PEEK[2]") == b"BINARY[2] ~{1024}\r\n" + PDF
        assert await told(peer, "BINARY.PEEK[2]<250.10>") == (
            b"BINARY[2]<250> ~{10}\r\n" + PDF[250:260]
        )
        assert await told(peer, "BINARY.PEEK[4]") == (
            b"BINARY[4] ~{25}\r\nSubject: inner\r\n\r\nplain\r\n"[:-2]
        ).replace(b"~{25}", b"~{23}")
        assert await told(peer, "BINARY.SIZE[1] BINARY.SIZE[2] BINARY.SIZE[9]") == (
            b"BINARY.SIZE[1] 12 BINARY.SIZE[2] 1024 BINARY.SIZE[9] 0"
        )
        assert await told(peer, "BINARY.PEEK[9]") == b"BINARY[9] NIL"
        await peer.close()


async def test_a_whole_message_has_no_encoding_to_undo_and_is_marked_as_read():
    async with serve() as site:
        raw = letter(PDF)
        peer = await opened(site, raw)

        assert await told(peer, "BINARY.SIZE[]") == b"BINARY.SIZE[] %d" % len(raw)
        whole = await told(peer, "BINARY[]")
        assert whole.startswith(b"FLAGS (\\Seen) BINARY[] {%d}\r\n" % len(raw))
        assert whole.endswith(raw)
        await peer.close()


async def test_a_large_part_is_decoded_whole():
    async with serve() as site:
        peer = await opened(site, letter(BIG))

        assert await told(peer, "BINARY.PEEK[2]") == b"BINARY[2] ~{%d}\r\n" % len(BIG) + BIG
        assert await told(peer, "BINARY.SIZE[2]") == b"BINARY.SIZE[2] %d" % len(BIG)
        await peer.close()


@pytest.mark.parametrize("item", ["BINARY.PEEK[3]", "BINARY.SIZE[3]"])
async def test_an_encoding_that_is_not_known_is_said(item):
    async with serve() as site:
        peer = await opened(site, letter(PDF))

        lines, reply = await peer.do(f"FETCH 1 ({item})")
        assert reply.startswith(b"NO [UNKNOWN-CTE]")
        assert lines == []
        await peer.close()


@pytest.mark.parametrize(
    "item", ["BINARY[1.MIME]", "BINARY[HEADER]", "BINARY[0]", "BINARY[1.]", "BINARY.SIZE[1]<0.1>"]
)
async def test_what_is_no_part_is_bad(item):
    async with serve() as site:
        peer = await opened(site, letter(PDF))
        assert (await peer.do(f"FETCH 1 ({item})"))[1].startswith(b"BAD")
        await peer.close()


async def test_octets_that_mail_cannot_hold_are_refused_and_nothing_is_stored():
    async with serve() as site:
        peer = await ImapPeer.login(site)
        tag = peer.start(b"APPEND INBOX ~{9+}\r\nA: b\r\n\r\n\0")
        assert (await peer.until(tag))[1].startswith(b"NO [UNKNOWN-CTE]")
        tag = peer.start(b"APPEND INBOX ~{9+}\r\nA: b\r\n\r\nc")
        assert (await peer.until(tag))[1].startswith(b"OK [APPENDUID")
        await peer.close()
