"""The same conversation on asyncio's loop and on uvloop: STARTTLS and DATA swap protocols."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from tests.support.mail_site import (
    BOB,
    DR,
    SECRET,
    A,
    Line,
    World,
    mail_site,
    message,
    operator_line,
)

LOOPS = [
    pytest.param(asyncio.SelectorEventLoop, id="asyncio"),
    pytest.param(uvloop.new_event_loop, id="uvloop"),
]


async def _deliver(where: World, root: Path) -> None:
    async with mail_site(where, root) as site:
        line = await operator_line(site, where.a)
        for body in (b"", (b"x" * 76 + b"\r\n") * 60_000):
            line.write(f"MAIL FROM:<s@{A}>\r\nRCPT TO:<{DR}>\r\nDATA\r\n".encode())
            assert [(await line.reply())[:3] for _ in range(3)] == ["250", "250", "354"]
            line.write(message(f"s@{A}", DR) + body + b".\r\nNOOP\r\n")
            assert (await line.reply()).startswith("250 2.0.0 ")
            assert (await line.reply()).startswith("250 2.0.0 OK")
        assert len(await site.inbox(DR)) == 2
        assert len(await site.raw(DR)) > 4_600_000


async def _inject(where: World, root: Path) -> None:
    async with mail_site(where, root) as site:
        for injected in (b"STARTTLS\r\nNOOP\r\n", b"STARTTLS\r\nEHLO x.test\r\n"):
            line = await Line.open(site.smtp)
            await line.say("EHLO x.test")
            line.write(injected)
            assert (await line.reply()).startswith("554 5.5.0")
            assert await line.ended()
        line = await Line.open(site.smtp)
        await line.say("EHLO x.test")
        assert (await line.say("STARTTLS")).startswith("220")
        line.write(b"NOOP\r\n")
        assert await line.ended()


async def _submit(where: World, root: Path) -> None:
    async with mail_site(where, root, plaintext_login_from=frozenset({"127.0.0.1"})) as site:
        line = await Line.open(site.submission)
        await line.say("EHLO x.test")
        await line.starttls(where.client_tls(None))
        await line.say("EHLO x.test")
        await line.say("AUTH LOGIN")
        await line.say("ZHIubWFydGluQGNhYmluZXQubXNzYW50ZS50ZXN0")
        assert (await line.say(_b64(SECRET))).startswith("235")
        await line.say(f"MAIL FROM:<{DR}>")
        await line.say(f"RCPT TO:<{BOB}>")
        await line.say("DATA")
        line.write(message(DR, BOB) + b".\r\n")
        assert (await line.reply()).startswith("250")


def _b64(text: str) -> str:
    return __import__("base64").b64encode(text.encode()).decode()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("scenario", [_deliver, _inject, _submit])
def test_both_loops_behave_alike(
    where: World, tmp_path: Path, scenario: Callable[..., object], loop: Callable[[], object]
) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type]
        runner.run(scenario(where, tmp_path))  # type: ignore[arg-type]
