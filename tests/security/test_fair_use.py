"""Greedy and slow peers are told to come back later, and nobody else waits for them.

Source: threats S9, S10, S19.
"""

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mailserver.fairness import FairLimits, Fairness, Rate
from mailserver.smtp.conversation import Deadlines
from mailserver.smtp.data import DataLimits
from mailserver.smtp.receiving import Reception
from tests.support.mail_site import (
    APP,
    BOB,
    DR,
    SECRET,
    A,
    B,
    Line,
    MailSite,
    World,
    mail_site,
    message,
    operator_line,
)


def fair(**limits: object) -> Fairness:
    return Fairness(FairLimits(**limits), time.monotonic)  # type: ignore[arg-type]


async def deliver(line: Line, sender: str, text: str = "x", to: str = DR) -> str:
    reply = await line.say(f"MAIL FROM:<{sender}>")
    if reply.startswith("250"):
        reply = await line.say(f"RCPT TO:<{to}>")
    if not reply.startswith("250"):
        await line.say("RSET")
        return reply
    await line.say("DATA")
    line.write(message(sender, to, text) + b".\r\n")
    return await line.reply()


async def logged_in(site: MailSite, address: str, secret: str = SECRET) -> tuple[Line, str]:
    line = await Line.open(site.submission)
    await line.say("EHLO client.test")
    await line.starttls(site.world.client_tls(None))
    await line.say("EHLO client.test")
    plain = base64.b64encode(f"\0{address}\0{secret}".encode()).decode()
    return line, await line.say(f"AUTH PLAIN {plain}")


async def test_a_greedy_operator_waits_and_another_does_not(where: World, tmp_path: Path) -> None:
    fairness = fair(operator_messages=Rate(3, 600.0))
    async with mail_site(where, tmp_path, fairness=fairness) as site:
        greedy, other = [await operator_line(site, each) for each in (where.a, where.b)]
        said = [await deliver(greedy, f"x@{A}", str(n)) for n in range(5)]
        again = await operator_line(site, where.a)

        assert [reply[:9] for reply in said] == ["250 2.0.0"] * 3 + ["450 4.7.1"] * 2
        assert (await deliver(again, f"x@{A}", "9")).startswith("450 4.7.1")
        assert (await deliver(other, f"x@{B}")).startswith("250")
        assert len(await site.inbox(DR)) == 4


@pytest.mark.parametrize("sender", ["", f"x@{A}"])
async def test_recipients_of_an_operator_are_counted_even_when_they_are_nobody(
    where: World, tmp_path: Path, sender: str
) -> None:
    fairness = fair(operator_recipients=Rate(2, 600.0))
    async with mail_site(where, tmp_path, fairness=fairness) as site:
        line = await operator_line(site, where.a)
        await line.say(f"MAIL FROM:<{sender}>")
        nobody = f"nobody@{DR.partition('@')[2]}"

        said = [await line.say(f"RCPT TO:<{each}>") for each in (nobody, DR, BOB)]

    assert [reply[:9] for reply in said] == ["550 5.1.1", "250 2.1.5", "450 4.7.1"]


async def test_connections_of_an_operator_are_counted_by_its_certificate(
    where: World, tmp_path: Path
) -> None:
    async with mail_site(where, tmp_path, fairness=fair(operator_connections=2)) as site:
        lines = [await operator_line(site, where.a) for _ in range(2)]
        third = await Line.open(site.smtp)
        await third.say("EHLO smtp.a.test")
        await third.starttls(where.client_tls(where.a))

        assert (await third.reply()).startswith("421 4.7.0")
        assert await third.reply() == ""
        other = await operator_line(site, where.b)
        assert (await deliver(other, f"x@{B}")).startswith("250")
        assert (await lines[0].say("QUIT")).startswith("221")
        await asyncio.sleep(0.05)
        assert (await deliver(await operator_line(site, where.a), f"x@{A}")).startswith("250")


async def test_new_connections_of_an_address_have_a_rate(where: World, tmp_path: Path) -> None:
    async with mail_site(where, tmp_path, fairness=fair(address_rate=Rate(3, 600.0))) as site:
        for _ in range(3):
            await Line.open(site.smtp)
        late = Line(*await asyncio.open_connection("127.0.0.1", site.smtp))

        assert (await late.reply()).startswith("421 4.7.0 Too many connections")
        assert await late.reply() == ""


async def test_handshakes_that_do_not_come_are_counted(where: World, tmp_path: Path) -> None:
    async with mail_site(where, tmp_path, fairness=fair(address_connections=3)) as site:
        for _ in range(3):
            await _half_handshake_first(site)
        late = Line(*await asyncio.open_connection("127.0.0.1", site.submissions))

        assert await late.reply() == "", "no room, and no word in clear"


async def test_an_account_has_a_share_and_the_sites_own_software_all(
    where: World, tmp_path: Path
) -> None:
    limits = fair(account_messages=Rate(2, 600.0), account_recipients=Rate(9, 600.0))
    async with mail_site(where, tmp_path, fairness=limits) as site:
        line, _ = await logged_in(site, DR)
        said = [await deliver(line, DR, str(n), BOB) for n in range(3)]
        own, _ = await logged_in(site, APP)
        answers = [await deliver(own, APP, str(n), BOB) for n in range(4)]

    assert [reply[:9] for reply in said] == ["250 2.0.0"] * 2 + ["450 4.7.1"]
    assert [reply[:3] for reply in answers] == ["250"] * 4


async def test_an_account_names_only_so_many_recipients(where: World, tmp_path: Path) -> None:
    async with mail_site(where, tmp_path, fairness=fair(account_recipients=Rate(1, 60.0))) as site:
        line, _ = await logged_in(site, DR)
        await line.say(f"MAIL FROM:<{DR}>")

        assert (await line.say(f"RCPT TO:<{BOB}>")).startswith("250")
        assert (await line.say(f"RCPT TO:<{BOB}>")).startswith("450 4.7.1")


async def test_failed_logins_end_in_a_temporary_refusal_even_of_the_right_secret(
    where: World, tmp_path: Path
) -> None:
    async with mail_site(
        where,
        tmp_path,
        fairness=fair(account_failures=Rate(2, 600.0)),
        deadlines=Deadlines(login_delay_s=0.001),
    ) as site:
        said = [(await logged_in(site, DR, "wrong"))[1] for _ in range(3)]

        assert [reply[:9] for reply in said] == ["535 5.7.8", "535 5.7.8", "454 4.7.0"]
        assert (await logged_in(site, DR))[1].startswith("454 4.7.0")
        assert (await logged_in(site, BOB))[1].startswith("235")
        unknown = [(await logged_in(site, "nobody@x.test", "wrong"))[1] for _ in range(3)]
        assert unknown == said, "an unknown name is told the same"


# -- deadlines --------------------------------------------------------------------------------


async def test_a_session_ends_after_the_message_that_is_coming_in(
    where: World, tmp_path: Path
) -> None:
    async with mail_site(where, tmp_path, deadlines=Deadlines(session_s=0.5)) as site:
        line = await operator_line(site, where.a)
        for command in (f"MAIL FROM:<x@{A}>", f"RCPT TO:<{DR}>", "DATA"):
            await line.say(command)
        await asyncio.sleep(0.6)
        line.write(message(f"x@{A}", DR, "late") + b".\r\n")

        assert (await line.reply()).startswith("250")
        assert (await line.reply()).startswith("421 4.4.2 Session too long")
        assert await line.reply() == ""


async def test_a_busy_session_ends_too(where: World, tmp_path: Path) -> None:
    async with mail_site(where, tmp_path, deadlines=Deadlines(session_s=0.3)) as site:
        line = await operator_line(site, where.a)
        started = time.monotonic()
        while (reply := await line.say("NOOP")).startswith("250"):
            assert time.monotonic() - started < 5

    assert reply.startswith("421 4.4.2")


async def test_a_message_that_comes_fast_enough_but_never_ends_is_given_up(
    where: World, tmp_path: Path
) -> None:
    reception = Reception(DataLimits(10**9), longest_s=0.2)
    async with mail_site(where, tmp_path, reception=reception) as site:
        line = await operator_line(site, where.a)
        for command in (f"MAIL FROM:<x@{A}>", f"RCPT TO:<{DR}>", "DATA"):
            await line.say(command)

        async def pour() -> None:
            while not line.writer.is_closing():
                line.write(b"x" * 70 + b"\r\n")
                await asyncio.sleep(0.005)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(pour())
            assert (await line.reply()).startswith("421 4.4.2")
            task.cancel()


async def test_a_peer_that_does_not_read_is_let_go(where: World, tmp_path: Path) -> None:
    deadlines = Deadlines(reply_s=0.3)
    async with mail_site(where, tmp_path, deadlines=deadlines) as site:
        line = await operator_line(site, where.a)
        line.reader._transport.pause_reading()  # type: ignore[attr-defined]

        async def ask() -> None:
            try:
                for _ in range(10_000):
                    line.write(b"NOOP\r\n" * 400)
                    await line.writer.drain()
            except ConnectionError:
                return
            raise AssertionError("it still listens")

        async with asyncio.timeout(15):
            await ask()


# -- slow peers while another sends -------------------------------------------------------------


async def _half_handshake(site: MailSite) -> None:
    line = await Line.open(site.smtp)
    await line.say("EHLO slow.test")
    await line.say("STARTTLS")
    line.write(b"\x16\x03\x01\x02\x00")


async def _half_handshake_first(site: MailSite) -> None:
    line = Line(*await asyncio.open_connection("127.0.0.1", site.submissions))
    line.write(b"\x16\x03\x01\x02\x00")


async def _half_command(site: MailSite) -> None:
    (await Line.open(site.smtp)).write(b"EHLO sl")


async def _half_message(site: MailSite) -> None:
    line = await operator_line(site, site.world.b)
    for command in (f"MAIL FROM:<x@{B}>", f"RCPT TO:<{BOB}>", "DATA"):
        await line.say(command)
    line.write(b"From: x")


async def _deaf(site: MailSite) -> None:
    line = await operator_line(site, site.world.b)
    line.reader._transport.pause_reading()  # type: ignore[attr-defined]
    line.write(b"NOOP\r\n" * 2000)


async def _half_login(site: MailSite) -> None:
    line = await Line.open(site.submission)
    await line.say("EHLO slow.test")
    await line.starttls(site.world.client_tls(None))
    await line.say("EHLO slow.test")
    await line.say("AUTH LOGIN")


SLOW = [
    pytest.param(_half_handshake, id="half a handshake after STARTTLS"),
    pytest.param(_half_handshake_first, id="half a handshake on 465"),
    pytest.param(_half_command, id="half a command"),
    pytest.param(_half_message, id="half a message"),
    pytest.param(_deaf, id="replies that nobody reads"),
    pytest.param(_half_login, id="half a login"),
]


@pytest.mark.parametrize("slow", SLOW)
async def test_messages_of_another_go_through_while_slow_peers_hang(
    where: World, tmp_path: Path, slow: Callable[[MailSite], Awaitable[None]]
) -> None:
    async with mail_site(where, tmp_path, drain_s=0.1) as site:
        for _ in range(50):
            await slow(site)
        line = await operator_line(site, where.a)
        started = time.perf_counter()

        said = [await deliver(line, f"x@{A}", str(n)) for n in range(10)]

        assert [reply[:3] for reply in said] == ["250"] * 10
        assert len(await site.inbox(DR)) == 10
        assert time.perf_counter() - started < 10
