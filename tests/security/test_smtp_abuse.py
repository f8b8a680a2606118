"""Port 25 under many idle or noisy connections, and a server that stops meanwhile (S9)."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from mailserver.smtp.listener import SmtpBind, serve_smtp, serve_submission
from tests.support.mail_site import (
    DR,
    A,
    Line,
    MailSite,
    World,
    mail_site,
    message,
    operator_line,
)

SENDER = f"service@{A}"


async def deliver(line: Line, text: str) -> str:
    await line.say(f"MAIL FROM:<{SENDER}>")
    await line.say(f"RCPT TO:<{DR}>")
    await line.say("DATA")
    line.write(message(SENDER, DR, text) + b".\r\n")
    return await line.reply()


async def test_three_hundred_slow_connections_do_not_slow_an_operator(
    where: World, tmp_path: Path
) -> None:
    async with mail_site(where, tmp_path) as site:
        slow = [await Line.open(site.smtp) for _ in range(300)]
        for line in slow:
            line.write(b"E")
        started = time.perf_counter()
        operator = await operator_line(site, where.a)
        for number in range(10):
            assert (await deliver(operator, f"no {number}")).startswith("250")
            for line in slow:
                line.write(b"H")
        spent = time.perf_counter() - started

    assert spent < 10


@pytest.mark.parametrize("door", ["smtp", "submission", "submissions"])
async def test_a_full_listener_ends_the_oldest_that_proved_nothing(
    where: World, tmp_path: Path, door: str
) -> None:
    async with mail_site(where, tmp_path) as site, _narrow(site, door) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        if door != "submissions":
            for reader, _ in silent:
                await reader.readline()
        await asyncio.sleep(0.1)
        more = await asyncio.open_connection("127.0.0.1", port)

        assert await silent[0][0].read() == b""
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(silent[1][0].read(1), 0.2)
        for _, writer in (*silent, more):
            writer.close()


async def test_operators_at_work_are_never_pushed_out(where: World, tmp_path: Path) -> None:
    async with mail_site(where, tmp_path) as site, _narrow(site, "smtp") as port:
        site.smtp = port
        at_work = [await operator_line(site, where.a) for _ in range(3)]
        late = Line(*await asyncio.open_connection("127.0.0.1", port))

        assert (await late.reply()).startswith("421")
        for number, line in enumerate(at_work):
            assert (await deliver(line, f"no {number}")).startswith("250")


async def test_a_listener_full_of_slow_peers_lets_an_operator_in(
    where: World, tmp_path: Path
) -> None:
    async with mail_site(where, tmp_path) as site, _narrow(site, "smtp") as port:
        site.smtp = port
        slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(9)]
        operator = await operator_line(site, where.a)

        assert (await deliver(operator, "in spite of them")).startswith("250")
        for _, writer in slow:
            writer.close()


@asynccontextmanager
async def _narrow(site: MailSite, door: str) -> AsyncIterator[int]:
    """Open a door that takes three connections."""
    tls = site.world.server_tls()
    bind = SmtpBind("127.0.0.1", 0, tls, "mail.pli.test", max_connections=3, drain_s=0.2)
    if door == "smtp":
        opened = serve_smtp(site.services, bind)
    else:
        opened = serve_submission(site.services, bind, implicit_tls=door == "submissions")
    async with opened as port:
        yield port


async def test_noise_on_a_connection_harms_nobody(where: World, tmp_path: Path) -> None:
    source = random.Random(25)
    async with mail_site(where, tmp_path) as site:
        for _ in range(60):
            _, writer = await asyncio.open_connection("127.0.0.1", site.smtp)
            for _ in range(source.randint(1, 4)):
                writer.write(source.randbytes(source.randint(1, 3000)))
                await asyncio.sleep(0)
            writer.close()
        operator = await operator_line(site, where.a)

        assert (await deliver(operator, "still here")).startswith("250")


async def test_noise_in_the_handshake_and_in_tls_harms_nobody(
    where: World, tmp_path: Path
) -> None:
    source = random.Random(26)
    async with mail_site(where, tmp_path) as site:
        for _ in range(20):
            line = await Line.open(site.smtp)
            await line.say("EHLO x.test")
            await line.say("STARTTLS")
            line.write(source.randbytes(500))
        for _ in range(10):
            line = await operator_line(site, where.a)
            line.write(source.randbytes(3000) + b"\r\n")
        operator = await operator_line(site, where.a)

        assert (await deliver(operator, "still here")).startswith("250")


async def _begin(site: MailSite) -> Line:
    line = await operator_line(site, site.world.a)
    await line.say(f"MAIL FROM:<{SENDER}>")
    await line.say(f"RCPT TO:<{DR}>")
    await line.say("DATA")
    return line


async def test_a_stop_lets_a_message_in_progress_end(where: World, tmp_path: Path) -> None:
    async with mail_site(where, tmp_path) as site:
        bind = SmtpBind("127.0.0.1", 0, where.server_tls(), "mail.pli.test", drain_s=5.0)
        async with AsyncExitStack() as stack:
            site.smtp = await stack.enter_async_context(serve_smtp(site.services, bind))
            line = await _begin(site)
            stop = asyncio.ensure_future(stack.aclose())
            await asyncio.sleep(0.1)
            line.write(message(SENDER, DR) + b".\r\n")
            replies = [(await line.reply())[:3] for _ in range(2)]
            await stop

        assert replies == ["250", "421"]
        assert len(await site.inbox(DR)) == 1


async def test_a_stop_cuts_what_does_not_end(where: World, tmp_path: Path) -> None:
    async with mail_site(where, tmp_path) as site:
        bind = SmtpBind("127.0.0.1", 0, where.server_tls(), "mail.pli.test", drain_s=0.2)
        async with serve_smtp(site.services, bind) as port:
            site.smtp = port
            line = await _begin(site)
            line.write(b"half a message")

        assert await line.ended()
        assert not await site.inbox(DR)
