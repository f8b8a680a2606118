"""Nothing that is sent from here is two messages to anybody (threats S2).

Each sequence of the published scanner is submitted as a user would, and handed to the queue past
every gate as a fault of ours would; what another operator then sees on its wire is taken down
octet for octet.

Source: RFC 5321 §4.5.2, RFC 5321 §2.3.8; SMTP smuggling (CVE-2023-51764, -51765, -51766).
"""

import asyncio
import base64
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from certs.tls import operator_context
from mailserver.delivery.errors import Refused
from mailserver.delivery.submission import SubmissionMessage, Via
from mailserver.outbound.client import Target, connect, stuffed
from mailserver.outbound.peer import OutboundSettings
from mailserver.outbound.worker import OutboundWorker
from tests.support.mail_site import (
    DR,
    SECRET,
    A,
    Line,
    MailSite,
    World,
)

TO = f"service@{A}"
SEQUENCES = [
    b"\n.\n", b"\n.\r", b"\r.\n", b"\r.\r", b"\n.\r\n", b"\r.\r\n", b"\r\n\0.\r\n", b"\r\n.\n",
    b"\r\n.\r", b"\r\n.\0\r\n", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\n", b"\r", b"\0",
]  # fmt: skip
EVIL = f"MAIL FROM:<chef@{A}>\r\nRCPT TO:<{TO}>\r\nDATA\r\nFrom: chef@{A}\r\n\r\nevil\r\n.\r\n"
each_sequence = pytest.mark.parametrize("sequence", SEQUENCES, ids=repr)


class Wire:
    """Another operator that takes everything down and ends a message at CRLF "." CRLF alone."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.commands: list[bytes] = []

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 capture ESMTP\r\n")
        while line := await reader.readline():
            verb = line.split()[0].upper() if line.split() else b""
            self.commands.append(line)
            match verb:
                case b"EHLO":
                    secure = writer.get_extra_info("ssl_object") is not None
                    offer = b"" if secure else b"250-STARTTLS\r\n"
                    writer.write(b"250-capture\r\n" + offer + b"250 8BITMIME\r\n")
                case b"STARTTLS":
                    writer.write(b"220 go\r\n")
                    await writer.start_tls(self.tls)
                case b"DATA":
                    writer.write(b"354 go\r\n")
                    self.messages.append(await reader.readuntil(b"\r\n.\r\n"))
                    writer.write(b"250 2.0.0 taken\r\n")
                case b"QUIT":
                    writer.write(b"221 bye\r\n")
                    break
                case _:
                    writer.write(b"250 ok\r\n")
        writer.close()

    tls: ssl.SSLContext


@asynccontextmanager
async def capture(where: World) -> AsyncIterator[tuple[Wire, int]]:
    wire = Wire()
    wire.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    wire.tls.load_cert_chain(where.a.cert, where.a.key)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await wire.converse(reader, writer)
        except (OSError, EOFError):
            writer.close()

    async with await asyncio.start_server(converse, "127.0.0.1", 0) as server:
        yield wire, server.sockets[0].getsockname()[1]


def our_tls(where: World) -> ssl.SSLContext:
    return operator_context(
        where.client_ca, where.ours.cert, where.ours.key, crls=where.root / "pki"
    )


def body(sequence: bytes) -> bytes:
    return (
        (
            f"From: <{DR}>\r\nTo: <{TO}>\r\nSubject: x\r\nMessage-ID: <1@x.test>\r\n"
            "Date: Mon, 02 Nov 2026 10:20:00 +0100\r\n\r\n.dots\r\n..\r\n"
        ).encode()
        + b"text"
        + sequence
        + EVIL.encode()
    )


def check(wire: Wire) -> None:
    """One message at the most, lines that end with CRLF, and every dot at a line's start twice."""
    assert len(wire.messages) <= 1
    assert sum(line.upper().startswith(b"MAIL") for line in wire.commands) <= 1
    for octets in wire.messages:
        assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\0", octets)
        lines = octets.removesuffix(b".\r\n").split(b"\r\n")
        assert all(line.startswith(b"..") for line in lines if line.startswith(b"."))


async def leave(site: MailSite) -> Wire:
    """Let the queue send what it holds."""
    async with capture(site.world) as (wire, port):
        settings = OutboundSettings(
            {A: ("127.0.0.1", port)}, our_tls(site.world), "mail.pli.test", idle_s=0.0
        )
        worker = OutboundWorker(
            site.store, site.directory, settings, bounces=site.bounces, clock=site.now
        )
        await worker.send_due()
    check(wire)
    return wire


@each_sequence
@pytest.mark.parametrize("port", ["submission", "submissions"])
async def test_a_client_cannot_submit_it(site: MailSite, sequence: bytes, port: str) -> None:
    implicit = port == "submissions"
    tls = site.world.client_tls(None)
    line = await Line.open(*((site.submissions, tls) if implicit else (site.submission,)))
    await line.say("EHLO client.test")
    if not implicit:
        await line.starttls(tls)
        await line.say("EHLO client.test")
    plain = base64.b64encode(f"\0{DR}\0{SECRET}".encode()).decode()
    for command in (f"AUTH PLAIN {plain}", f"MAIL FROM:<{DR}>", f"RCPT TO:<{TO}>", "DATA"):
        assert (await line.say(command))[:3] in {"235", "250", "354"}
    line.write(body(sequence) + b"\r\n.\r\n")

    assert (await line.reply()).startswith("554 5.6.0")
    assert not await site.store.queue.items()
    assert (await leave(site)).messages == []


@each_sequence
@pytest.mark.parametrize("via", list(Via), ids=lambda via: via.value)
async def test_no_other_way_in_lets_it_out_as_two(
    site: MailSite, sequence: bytes, via: Via
) -> None:
    outcome = await site.services.submissions.submit(
        SubmissionMessage(body(sequence), DR, (TO,), site.mailboxes[DR], site.now(), via)
    )

    assert isinstance(outcome, Refused)
    assert outcome.reply.code == 554
    assert (await leave(site)).messages == []


@each_sequence
async def test_the_sender_itself_refuses_to_write_it(where: World, sequence: bytes) -> None:
    async with capture(where) as (wire, port):
        target = Target("127.0.0.1", port, our_tls(where), "mail.pli.test")
        with pytest.raises(ValueError, match="no line end"):
            async with connect(target) as client:
                await client.send(DR, [TO], body(sequence))

    assert not wire.messages
    assert not any(line.upper().startswith(b"MAIL") for line in wire.commands)


@pytest.mark.parametrize(
    "text",
    [
        b".\r\n", b"..\r\n.\r\n", b"x\r\n.\r\nMAIL FROM:<a@b.test>\r\n", b".", b"x\r\n.",
        b"\r\n.\r\n" * 3, b".x\r\n..x\r\n...x\r\n", b"",
    ],
    ids=repr,
)  # fmt: skip
async def test_dots_are_doubled_and_come_back_single(site: MailSite, text: bytes) -> None:
    header = body(b"").partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    await site.services.submissions.submit(
        SubmissionMessage(header + text, DR, (TO,), site.mailboxes[DR], site.now())
    )

    (octets,) = (await leave(site)).messages

    plain = octets.removesuffix(b".\r\n").replace(b"\r\n.", b"\r\n")
    assert stuffed(plain) == octets
    assert text.removesuffix(b"\r\n") in plain
