"""Mail to another operator: mutual TLS, its certificate on the list, retries, bounces (S5)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from mailserver.delivery.errors import Reply
from mailserver.hospital import ReceiverSettings, received_files, serve_receiver
from mailserver.outbound.client import Client, Envelope, Transmission
from mailserver.outbound.errors import PeerReplyError, UnreachableError
from tests.support.mail_site import (
    DR,
    MailSite,
    Party,
    write_list,
)
from tests.support.outbound import submit, waiting, worker


def receiver(site: MailSite, party: Party, refuse: Reply | None = None) -> "ReceiverSettings":
    return ReceiverSettings(
        0, site.world.ca, party.cert, party.key, site.root / "received", refuse=refuse
    )


async def test_a_message_arrives_octet_for_octet(site: MailSite) -> None:
    async with serve_receiver(receiver(site, site.world.a)) as port:
        await submit(site, "x\r\n.\r\n..\r\n.end")
        (due,) = await site.store.outbox.due(site.now(), 1, 0)
        queued = await site.store.outbox.body(due.message_id)
        await worker(site, port).send_due()

    (file,) = received_files(site.root / "received")
    assert file.read_bytes() == queued
    assert await site.store.outbox.idle()


async def test_the_running_worker_wakes_on_new_mail(site: MailSite) -> None:
    async with serve_receiver(receiver(site, site.world.a)) as port:
        task = asyncio.create_task(worker(site, port, poll_s=60.0).run())
        await asyncio.sleep(0.05)
        await submit(site)
        async with asyncio.timeout(5):
            while not await site.store.outbox.idle():
                await asyncio.sleep(0.01)
        task.cancel()

    assert len(list(received_files(site.root / "received"))) == 1


async def test_a_worker_that_starts_sends_what_a_killed_one_had_taken(site: MailSite) -> None:
    await submit(site)
    assert len(await site.store.outbox.due(site.now(), 1, 900)) == 1
    async with serve_receiver(receiver(site, site.world.a)) as port:
        task = asyncio.create_task(worker(site, port).run())
        async with asyncio.timeout(5):
            while not await site.store.outbox.idle():
                await asyncio.sleep(0.01)
        task.cancel()

    assert len(list(received_files(site.root / "received"))) == 1


async def test_several_messages_go_on_one_connection(site: MailSite) -> None:
    async with serve_receiver(receiver(site, site.world.a)) as port:
        for number in range(5):
            await submit(site, f"no {number}")
        await worker(site, port).send_due()

    assert len(list(received_files(site.root / "received"))) == 5


@pytest.mark.parametrize("error", [UnreachableError, PeerReplyError, RuntimeError])
async def test_a_message_that_breaks_the_connection_does_not_hold_up_the_others(
    site: MailSite, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    real = Client.transmit

    async def fragile(self: Client, envelope: Envelope, octets: bytes) -> Transmission:
        if b"POISON" in octets:
            self.abort()
            raise error
        return await real(self, envelope, octets)

    monkeypatch.setattr(Client, "transmit", fragile)
    async with serve_receiver(receiver(site, site.world.a)) as port:
        for text in ("POISON 1", "first", "POISON 2", "second"):
            await submit(site, text)
        await worker(site, port).send_due()

    assert len(list(received_files(site.root / "received"))) == 2
    assert [attempts for attempts, _ in await waiting(site)] == [1, 1]


@pytest.mark.parametrize("who", ["b", "unlisted"])
async def test_a_server_that_is_not_listed_for_the_domain_gets_nothing(
    site: MailSite, who: str
) -> None:
    async with serve_receiver(receiver(site, getattr(site.world, who))) as port:
        await submit(site)
        await worker(site, port).send_due()

    assert not list(received_files(site.root / "received"))
    assert await waiting(site) == [(1, "454")]


async def test_a_server_of_another_authority_gets_nothing(site: MailSite) -> None:
    async with serve_receiver(receiver(site, site.world.foreign)) as port:
        await submit(site)
        await worker(site, port).send_due()

    assert await waiting(site) == [(1, "454")]


@asynccontextmanager
async def rogue(*script: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that answers each line with the next piece of its script."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pieces = iter(script)
        writer.write(next(pieces))
        while line := await reader.readline():
            heard.append(line)
            answer = next(pieces, None)
            if answer is None:
                break
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], heard
    server.close()
    await server.wait_closed()


HELLO = b"220 rogue ESMTP\r\n"
OFFER = b"250-rogue\r\n250-PIPELINING\r\n250 STARTTLS\r\n"


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ((HELLO, b"250-rogue\r\n250 PIPELINING\r\n"), "454"),
        ((HELLO, OFFER, b"454 4.7.0 no\r\n"), "454"),
        ((HELLO, OFFER, b"220 go\r\n250 injected\r\n"), "454"),
        ((HELLO, OFFER, b"220 go\r\nx"), "454"),
        ((b"554 go away\r\n",), "451"),
        ((b"PREAUTH\r\n",), "451"),
        ((b"220 " + b"x" * 100_000,), "451"),
        ((HELLO, b"250-a\r\n" * 100), "451"),
        ((HELLO,), "451"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value)[-30:],
)
async def test_nothing_is_ever_said_in_clear_but_hello(
    site: MailSite, script: tuple[bytes, ...], code: str
) -> None:
    async with rogue(*script) as (port, heard):
        await submit(site)
        await worker(site, port).send_due()

    assert not any(
        word in line.upper() for line in heard for word in (b"MAIL FROM", b"RCPT", b"DATA")
    )
    assert await waiting(site) == [(1, code)]


async def test_a_server_that_does_not_answer_is_tried_by_the_schedule(site: MailSite) -> None:
    async with rogue(HELLO) as (port, _):
        pass
    await submit(site)
    sender = worker(site, port)
    waits = []
    for minutes in (0, 1, 5, 15, 60, 60):
        site.shift += timedelta(minutes=minutes, seconds=-2)
        assert not minutes or not await sender.send_due()
        site.shift += timedelta(seconds=3)
        assert await sender.send_due()
        waits.append((await waiting(site))[0])

    assert waits == [(attempt, "451") for attempt in range(1, 7)]


async def test_a_temporary_refusal_is_tried_again_and_then_sent(site: MailSite) -> None:
    later = receiver(site, site.world.a, refuse=Reply(451, "4.3.0", "later"))
    async with serve_receiver(later) as port:
        await submit(site)
        await worker(site, port).send_due()
    assert await waiting(site) == [(1, "451")]

    async with serve_receiver(receiver(site, site.world.a)) as port:
        site.shift = timedelta(seconds=61)
        await worker(site, port).send_due()

    assert await site.store.outbox.idle()
    assert len(list(received_files(site.root / "received"))) == 1
    assert not await site.inbox(DR)


async def test_a_permanent_refusal_is_told_to_the_sender_once(site: MailSite) -> None:
    no = receiver(site, site.world.a, refuse=Reply(550, "5.2.1", "no"))
    async with serve_receiver(no) as port:
        await submit(site)
        await worker(site, port).send_due()
        await worker(site, port).send_due()

    assert await site.store.outbox.idle()
    assert len(await site.inbox(DR)) == 1
    notice = await site.raw(DR)
    assert b"report-type=delivery-status" in notice
    assert b"Status: 5.2.1" in notice
    assert b"550 5.2.1 no" in notice
    assert b"Remote-MTA: dns; 127.0.0.1" in notice


async def test_a_message_that_waited_five_days_comes_back(site: MailSite) -> None:
    async with rogue(HELLO) as (port, _):
        pass
    await submit(site)
    site.shift = timedelta(days=5)
    write_list(site.root / "list.xml", site.world, at=site.now())
    await site.directory.refresh_trust(site.now())

    await worker(site, port).send_due()

    assert await site.store.outbox.idle()
    assert len(await site.inbox(DR)) == 1


async def test_an_old_list_makes_mail_wait_and_a_lost_place_sends_it_back(
    site: MailSite,
) -> None:
    await submit(site)
    site.shift = timedelta(days=8, hours=1)
    async with serve_receiver(receiver(site, site.world.a)) as port:
        sender = worker(site, port, give_up_after=timedelta(days=30))
        await sender.send_due()
        assert await waiting(site) == [(1, "451")]

        site.directory.adoption.source.current = type(site.directory.trust)(site.now(), {})
        site.shift += timedelta(minutes=2)
        await sender.send_due()

    assert await site.store.outbox.idle()
    assert b"5.7.1" in await site.raw(DR)


async def test_a_crash_of_the_worker_leaves_the_message_due_again(site: MailSite) -> None:
    await submit(site)
    assert await site.store.outbox.due(site.now(), 10, 900)
    async with serve_receiver(receiver(site, site.world.a)) as port:
        await worker(site, port).send_due()
        assert not list(received_files(site.root / "received"))
        site.shift = timedelta(seconds=901)
        await worker(site, port).send_due()

    assert len(list(received_files(site.root / "received"))) == 1
