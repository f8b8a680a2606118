"""What becomes of queued mail when a peer refuses, defers, hangs or vanishes, and who is told.

Source: RFC 5321 §4.5.4, RFC 3461 §5, RFC 3464 §2, RFC 9422 §3, RULES §9.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from directory.audit_event import AuditEvent
from mailserver.delivery.bounce import Bounces
from mailserver.message.envelope import MailOptions, Notify, RecipientOptions
from mailserver.outbound.client import Client, Envelope, Transmission
from mailserver.outbound.route import Route
from mailserver.outbound.worker import OutboundWorker
from mailserver.store.model import OutboxState, Outgoing
from mailserver.store.queue_control import Choice
from tests.support.capture_peer import OFFER, OK, CapturePeer, Odd, Taken, capture
from tests.support.dsn import Dsn, read_dsn
from tests.support.mail_site import (
    BOB,
    DR,
    A,
    B,
    MailSite,
    operator_line,
    write_list,
)
from tests.support.outbound import TO, peer_tls, states, submit, waiting, worker

ONE, TWO, THREE = (f"{name}@{A}" for name in ("un", "deux", "trois"))
EVERY = RecipientOptions(frozenset(Notify), "rfc822;Origine@chu-a.mssante.test")


def at_a(site: MailSite, peer: CapturePeer):
    return capture(peer, peer_tls(site, site.world.a))


def refusing(**replies: str):
    """Answer RCPT for these local parts so, for others 250."""

    def rcpt(command: str) -> str:
        local = command.partition("<")[2].partition("@")[0]
        return replies.get(local, OK)

    return rcpt


async def notices(site: MailSite) -> list[Dsn]:
    """Give the notifications in the doctor's INBOX; each must be one."""
    count = len(await site.inbox(DR))
    return [read_dsn(await site.raw(DR, number)) for number in range(count)]


async def test_one_message_to_several_recipients_of_a_domain_goes_once(site: MailSite) -> None:
    a, b = CapturePeer(), CapturePeer()
    async with at_a(site, a) as port, capture(b, peer_tls(site, site.world.b)) as other:
        sent = await submit(site, to=(ONE, TWO, f"labo@{B}", THREE))
        await worker(site, port, b=other).send_due()

    assert [len(each.recipients) for each in a.taken] == [3]
    assert [len(each.recipients) for each in b.taken] == [1]
    assert set((await states(site, sent)).values()) == {"relayed"}
    assert not await site.inbox(DR)


async def test_one_message_to_fifty_recipients_of_a_domain_goes_once(site: MailSite) -> None:
    peer = CapturePeer()
    async with at_a(site, peer) as port:
        sent = await submit(site, to=tuple(f"service{number}@{A}" for number in range(50)))
        await worker(site, port).send_due()

    assert [len(each.recipients) for each in peer.taken] == [50]
    assert list((await states(site, sent)).values()) == ["relayed"] * 50


async def test_each_recipient_has_its_own_fate(site: MailSite) -> None:
    peer = CapturePeer(rcpt=refusing(un="550 5.1.1 no", deux="451 4.2.1 later"))
    async with at_a(site, peer) as port:
        sent = await submit(site, to=(ONE, TWO, THREE))
        sender = worker(site, port)
        await sender.send_due()
        assert await states(site, sent) == {
            "un": "failed",
            "deux": "submitted",
            "trois": "relayed",
        }
        peer.rcpt = refusing()
        site.shift = timedelta(seconds=61)
        await sender.send_due()

    assert [each.recipients for each in peer.taken] == [
        (f"RCPT TO:<{THREE}>",),
        (f"RCPT TO:<{TWO}>",),
    ]
    assert (await states(site, sent))["deux"] == "relayed"
    (notice,) = await notices(site)
    (fields,) = notice.recipients
    assert fields["Final-Recipient"] == f"rfc822; {ONE}"
    assert (fields["Action"], fields["Status"]) == ("failed", "5.1.1")


async def test_what_becomes_of_a_recipient_in_utf8_is_known_whatever_its_case(
    site: MailSite,
) -> None:
    peer = CapturePeer(offer=(*OFFER, "SMTPUTF8"), rcpt=refusing(Élise="550 5.1.1 no"))
    async with at_a(site, peer) as port:
        sent = await submit(
            site,
            to=(f"Émile@{A}", f"Élise@{A}"),
            options=MailOptions(smtputf8=True),
        )
        await worker(site, port).send_due()

    assert await states(site, sent) == {"émile": "relayed", "élise": "failed"}


async def test_what_reached_nobody_can_be_sent_again_and_what_reached_somebody_is_absorbed(
    site: MailSite,
) -> None:
    peer = CapturePeer(rcpt=refusing(un="552 5.2.2 full"))
    async with at_a(site, peer) as port:
        sender = worker(site, port)
        first = await submit(site, to=ONE)
        assert await submit(site, to=ONE) == replace(first, new=False), "it is on its way"
        await sender.send_due()
        assert not peer.taken
        peer.rcpt = refusing(deux="552 5.2.2 full")
        again = await submit(site, to=ONE)
        await sender.send_due()
        assert await submit(site, to=ONE) == replace(again, new=False)
        both = await submit(site, "other", to=(ONE, TWO))
        await sender.send_due()
        assert await submit(site, "other", to=(ONE, TWO)) == replace(both, new=False)

    assert again.receipt_id != first.receipt_id
    assert await states(site, first) == {"un": "failed"}
    assert await states(site, again) == {"un": "relayed"}
    assert len(peer.taken) == 2


async def test_recipients_that_are_too_many_go_in_the_next_transaction(site: MailSite) -> None:
    peer = CapturePeer()
    count = 0

    def two_at_most(_command: str) -> str:
        nonlocal count
        count += 1
        return OK if count % 3 else "452 4.5.3 Too many recipients"

    peer.rcpt = two_at_most
    async with at_a(site, peer) as port:
        await submit(site, to=(ONE, TWO, THREE))
        await worker(site, port).send_due()

    assert [len(each.recipients) for each in peer.taken] == [2, 1]
    assert await site.store.outbox.idle()


@pytest.mark.parametrize(
    ("limits", "sizes", "connections"),
    [("RCPTMAX=2", [2, 1], 1), ("RCPTMAX=1 MAILMAX=2", [1, 1, 1], 2), ("MAILMAX=1", [3], 1)],
)
async def test_a_peer_s_limits_are_kept(
    site: MailSite, limits: str, sizes: list[int], connections: int
) -> None:
    peer = CapturePeer(offer=(*OFFER, f"LIMITS {limits}"))
    async with at_a(site, peer) as port:
        await submit(site, to=(ONE, TWO, THREE))
        await worker(site, port).send_due()

    assert [len(each.recipients) for each in peer.taken] == sizes
    assert peer.connections == connections
    assert await site.store.outbox.idle()


@pytest.mark.parametrize("pipelining", [True, False])
async def test_a_peer_that_closes_with_421_is_tried_again_and_nobody_is_told(
    site: MailSite,
    pipelining: bool,  # noqa: FBT001
) -> None:
    offer = OFFER if pipelining else tuple(each for each in OFFER if each != "PIPELINING")
    peer = CapturePeer(rcpt=refusing(deux="421 4.3.2 closing"), offer=offer)
    async with at_a(site, peer) as port:
        sender = worker(site, port)
        await submit(site, to=(ONE, TWO, THREE))
        await sender.send_due()
        assert {code for _, code in await waiting(site)} <= {"421", "451"}
        assert not peer.taken
        peer.rcpt = refusing()
        site.shift = timedelta(seconds=61)
        await sender.send_due()

    assert sum(len(each.recipients) for each in peer.taken) == 3
    assert await site.store.outbox.idle()
    assert not await site.inbox(DR)


async def test_a_sender_is_told_once_after_four_hours_that_mail_waits(site: MailSite) -> None:
    peer = CapturePeer(rcpt=refusing(un="451 4.2.1 later"))
    async with at_a(site, peer) as port:
        sender = worker(site, port)
        sent = await submit(site, to=ONE, options=MailOptions(envid="env=1"))
        for hours in (0, 3.99):
            site.shift = timedelta(hours=hours)
            await sender.upkeep()
            assert not await site.inbox(DR)
        for _ in range(2):
            site.shift = timedelta(hours=4)
            await sender.upkeep()

    (notice,) = await notices(site)
    assert notice.recipients[0]["Action"] == "delayed"
    assert notice.recipients[0]["Status"].startswith("4.")
    assert "Will-Retry-Until" in notice.recipients[0]
    assert notice.message["Original-Envelope-Id"] == "env=1"
    assert await states(site, sent) == {"un": "delayed"}


async def test_who_asked_for_nothing_is_told_nothing(site: MailSite) -> None:
    peer = CapturePeer(rcpt=refusing(un="550 5.1.1 no", deux="451 4.2.1 later"))
    never = RecipientOptions(frozenset())
    async with at_a(site, peer) as port:
        sender = worker(site, port)
        sent = await submit(site, to=(ONE, TWO), wishes={ONE: never, TWO: never})
        await sender.send_due()
        site.shift = timedelta(hours=5)
        await sender.upkeep()

    assert not await site.inbox(DR)
    assert await states(site, sent) == {"un": "failed", "deux": "delayed"}
    assert f"RCPT TO:<{ONE}> NOTIFY=NEVER" in peer.commands


async def test_what_the_null_sender_sent_is_never_answered(site: MailSite) -> None:
    peer = CapturePeer(rcpt=refusing(un="550 5.1.1 no"))
    async with at_a(site, peer) as port:
        await submit(site, to=ONE, reverse_path="", wishes={ONE: EVERY})
        await worker(site, port).send_due()

    assert await site.store.outbox.idle()
    assert not await site.inbox(DR)
    assert "MAIL FROM:<>" in peer.commands[[c[:4] for c in peer.commands].index("MAIL")]


async def test_a_peer_that_knows_notifications_is_asked_for_them(site: MailSite) -> None:
    peer = CapturePeer()
    async with at_a(site, peer) as port:
        await submit(site, to=ONE, options=MailOptions(envid="a b"), wishes={ONE: EVERY})
        await worker(site, port).send_due()

    (taken,) = peer.taken
    assert taken.mail.endswith(" ENVID=a+20b")
    assert taken.recipients[0].endswith(
        " NOTIFY=DELAY,FAILURE,SUCCESS ORCPT=rfc822;Origine@chu-a.mssante.test"
    )
    assert not await site.inbox(DR)


async def test_a_peer_that_knows_none_is_said_to_have_it(site: MailSite) -> None:
    peer = CapturePeer(offer=("PIPELINING", "8BITMIME"))
    async with at_a(site, peer) as port:
        await submit(site, to=(ONE, TWO), wishes={ONE: EVERY})
        await worker(site, port).send_due()

    assert not any("NOTIFY" in command for command in peer.commands)
    (notice,) = await notices(site)
    assert notice.recipients[0]["Action"] == "relayed"
    assert notice.recipients[0]["Final-Recipient"] == f"rfc822; {ONE}"
    assert notice.recipients[0]["Original-Recipient"] == "rfc822; Origine@chu-a.mssante.test"


async def test_a_notice_that_fails_costs_no_second_copy_and_holds_up_no_other(
    site: MailSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Bounces.tell

    async def fragile(self: Bounces, outgoing: Outgoing, *more: Any, **named: Any) -> None:
        if outgoing.forward_path == ONE:
            raise RuntimeError
        await real(self, outgoing, *more, **named)

    monkeypatch.setattr(Bounces, "tell", fragile)
    peer = CapturePeer(offer=("PIPELINING", "8BITMIME"))
    async with at_a(site, peer) as port:
        await submit(site, to=(ONE, TWO), wishes={ONE: EVERY, TWO: EVERY})
        await worker(site, port).send_due()
        assert await site.store.outbox.idle()
        await submit(site, "late", to=(ONE, TWO))
        site.shift = timedelta(hours=5)
        await stopped(worker(site, port), lambda: len(peer.taken) == 2)

    found = [notice.recipients[0] for notice in await notices(site)]
    assert [(each["Action"], each["Final-Recipient"]) for each in found] == [
        ("relayed", f"rfc822; {TWO}"),
        ("delayed", f"rfc822; {TWO}"),
    ]


async def test_a_refusal_that_cannot_be_told_is_tried_again_and_then_told(
    site: MailSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = CapturePeer(rcpt=refusing(un="550 5.1.1 no"))
    async with at_a(site, peer) as port:
        sent = await submit(site, to=(ONE, TWO))
        sender = worker(site, port)
        with monkeypatch.context() as broken:
            broken.setattr(Bounces, "deliver", lambda *_, **__: 1 / 0)
            await sender.send_due()
        site.shift = timedelta(seconds=61)
        await sender.send_due()

    assert await states(site, sent) == {"un": "failed", "deux": "relayed"}
    assert [each.recipients[0]["Final-Recipient"] for each in await notices(site)] == [
        f"rfc822; {ONE}"
    ]


async def test_what_could_not_be_noted_is_due_again_when_its_lease_is_over(
    site: MailSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = CapturePeer(dot=lambda _: Odd.DROP)
    async with at_a(site, peer) as port:
        await submit(site)
        sender = worker(site, port)
        with monkeypatch.context() as broken:
            broken.setattr(site.store.outbox, "settle", lambda *_, **__: 1 / 0)
            await sender.send_due()
        peer.dot = lambda _: OK
        site.shift = timedelta(hours=2)
        await sender.send_due()

    assert len(peer.taken) == 1


async def test_what_a_server_took_is_noted_once_it_can_be_and_not_sent_again(
    site: MailSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = CapturePeer()
    async with at_a(site, peer) as port:
        sent = await submit(site, to=ONE)
        sender = worker(site, port)
        with monkeypatch.context() as broken:
            broken.setattr(site.store.outbox, "settle", lambda *_, **__: 1 / 0)
            await sender.send_due()
        site.shift = timedelta(hours=2)
        await sender.send_due()
        assert await states(site, sent) != {"un": "relayed"}
        await sender.upkeep()
        await sender.send_due()

    assert len(peer.taken) == 1
    assert await states(site, sent) == {"un": "relayed"}


async def test_what_is_noted_late_is_told_as_if_at_once(
    site: MailSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = CapturePeer(offer=("PIPELINING", "8BITMIME"))
    async with at_a(site, peer) as port:
        await submit(site, to=(ONE, TWO), wishes={ONE: EVERY})
        sender = worker(site, port)
        with monkeypatch.context() as broken:
            broken.setattr(site.store.outbox, "settle", lambda *_, **__: 1 / 0)
            await sender.send_due()
        assert not await site.inbox(DR)

        with capture_logs() as lines:
            await sender.upkeep()

    (notice,) = await notices(site)
    assert notice.recipients[0]["Action"] == "relayed"
    assert notice.recipients[0]["Final-Recipient"] == f"rfc822; {ONE}"
    sent = [line for line in lines if line["event"] == "outbound_sent"]
    assert [line["reply"] for line in sent] == [250, 250]


async def test_servers_that_keep_silent_take_one_deadline_in_all(
    site: MailSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailserver.outbound.peer.OPEN_S", 0.2)
    silent = asyncio.Event()

    async def keep_silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.transport.abort()

    class Many:
        async def servers(self, _domain: str) -> tuple[Route, ...]:
            return (Route("mx.chu-a.mssante.test", port, "127.0.0.1"),) * 80

    async with await asyncio.start_server(keep_silent, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        await submit(site)
        async with asyncio.timeout(5):
            await worker(site, port, routes={}, resolver=Many()).send_due()
        silent.set()
        await asyncio.sleep(0)

    assert await waiting(site) == [(1, "451")]


async def test_an_arrival_here_is_told_to_who_asked(site: MailSite) -> None:
    await submit(site, to=BOB, wishes={BOB: EVERY})

    (notice,) = await notices(site)
    assert notice.recipients[0]["Action"] == "delivered"


async def test_mail_that_waited_five_days_comes_back_even_when_nobody_looked(
    site: MailSite,
) -> None:
    async with at_a(site, CapturePeer()) as port:
        pass
    sent = await submit(site, to=ONE)
    site.shift = timedelta(days=5, seconds=1)
    sender = worker(site, port)
    await sender.upkeep()
    await sender.upkeep()

    (notice,) = await notices(site)
    assert notice.recipients[0]["Status"] == "5.4.7"
    assert await states(site, sent) == {"un": "failed"}


async def test_many_messages_for_a_dead_server_are_put_off_together(site: MailSite) -> None:
    async with at_a(site, CapturePeer()) as port:
        pass
    for number in range(12):
        await submit(site, f"no {number}")
    sender = worker(site, port)
    async with asyncio.timeout(10):
        await sender.send_due()

    assert await waiting(site) == [(1, "451")] * 12
    (wait,) = await site.store.queue.domains()
    assert (wait.domain, wait.failures, wait.reply_code) == (A, 1, "451 4.4.1")
    site.shift = timedelta(seconds=59)
    assert not await sender.send_due()


async def test_a_server_that_takes_one_connection_gets_everything_on_it(site: MailSite) -> None:
    peer = CapturePeer()
    async with at_a(site, peer) as real:
        busy = 0

        async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal busy
            busy += 1
            if busy > 1:
                writer.write(b"421 4.7.0 too many connections\r\n")
            else:
                there, back = await asyncio.open_connection("127.0.0.1", real)
                await asyncio.gather(pipe(reader, back), pipe(there, writer))
            busy -= 1
            writer.close()

        async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while piece := await source.read(65536):
                sink.write(piece)
            sink.close()

        server = await asyncio.start_server(one, "127.0.0.1", 0)
        for number in range(12):
            await submit(site, f"no {number}")
        async with asyncio.timeout(10):
            await worker(site, server.sockets[0].getsockname()[1], idle_s=0.0).send_due()
        server.close()

    assert len(peer.taken) == 12
    assert await site.store.outbox.idle()


async def test_a_peer_that_hangs_after_the_dot_delays_no_other(
    site: MailSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailserver.outbound.client.DATA_END_S", 1.0)
    slow, quick = CapturePeer(dot=lambda _: Odd.HANG), CapturePeer()
    async with at_a(site, slow) as port, capture(quick, peer_tls(site, site.world.b)) as other:
        for number in range(3):
            await submit(site, f"no {number}", (ONE,))
        await submit(site, to=f"labo@{B}")
        sending = asyncio.create_task(worker(site, port, b=other, per_domain=1).send_due())
        async with asyncio.timeout(0.9):
            while not quick.taken:
                await asyncio.sleep(0.01)
        await sending

    assert slow.seen == 3
    assert await waiting(site) == [(1, "451")] * 3
    assert not await site.inbox(DR)


async def test_an_operator_of_many_domains_that_hangs_delays_no_other(
    site: MailSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailserver.outbound.client.DATA_END_S", 1.0)
    domains = [f"site{number}.mssante.test" for number in range(6)]
    write_list(site.root / "more.xml", site.world, at=site.now(), also_a=domains)
    await site.directory.adoption.offer((site.root / "more.xml").read_bytes(), site.now())
    slow, quick = CapturePeer(dot=lambda _: Odd.HANG), CapturePeer()
    async with at_a(site, slow) as port, capture(quick, peer_tls(site, site.world.b)) as other:
        await submit(site, to=tuple(f"x@{domain}" for domain in domains))
        await submit(site, "other", to=f"labo@{B}")
        sender = worker(site, port, b=other, also_a=domains, connections=4, per_domain=1)
        sending = asyncio.create_task(sender.send_due())
        async with asyncio.timeout(0.9):
            while not quick.taken:
                await asyncio.sleep(0.01)
        assert slow.seen <= 1
        sending.cancel()
        await asyncio.wait([sending])


async def test_large_messages_for_a_peer_that_hangs_delay_none_for_others(
    site: MailSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailserver.outbound.shares.BIG_OCTETS", 10)
    slow, quick = CapturePeer(dot=lambda _: Odd.HANG), CapturePeer()
    async with at_a(site, slow) as port, capture(quick, peer_tls(site, site.world.b)) as other:
        for number in range(16):
            await submit(site, f"no {number}")
        await submit(site, "other", to=f"labo@{B}")
        sending = asyncio.create_task(worker(site, port, b=other).send_due())
        async with asyncio.timeout(5):
            while not quick.taken:
                await asyncio.sleep(0.01)
        sending.cancel()
        await asyncio.wait([sending])


async def test_a_list_that_ends_during_a_connection_ends_its_use(site: MailSite) -> None:
    def dot(_: Taken) -> str:
        site.shift = timedelta(days=9)
        return OK

    peer = CapturePeer(dot=dot)
    async with at_a(site, peer) as port:
        for number in range(3):
            await submit(site, f"no {number}")
        await worker(site, port, per_domain=1).send_due()

    assert len(peer.taken) == 1


async def test_a_dropped_link_loses_nothing_and_only_a_lost_250_sends_twice(
    site: MailSite,
) -> None:
    answers = {"drop": Odd.DROP, "lost": Odd.TAKE_AND_DROP}

    def dot(taken: Taken) -> str | Odd:
        text = taken.octets.decode("utf-8", "replace")
        found = next((word for word in answers if word in text), "")
        return answers.pop(found) if found else OK

    peer = CapturePeer(dot=dot)
    async with at_a(site, peer) as port:
        for text in ("plain", "drop", "lost", "other"):
            await submit(site, text)
        sender = worker(site, port, per_domain=1)
        await sender.send_due()
        site.shift = timedelta(seconds=61)
        await sender.send_due()

    names = [each.message_id for each in peer.taken]
    lost = peer.lost_replies[0].message_id
    assert sorted(names) == sorted([*set(names), lost])
    assert len(set(names)) == 4
    assert await site.store.outbox.idle()
    assert not await site.inbox(DR)


def act(kind: str, site: MailSite) -> AuditEvent:
    return AuditEvent(kind, site.now(), "cli")


async def test_what_is_held_stays_until_it_is_released(site: MailSite) -> None:
    peer = CapturePeer()
    async with at_a(site, peer) as port:
        sender = worker(site, port)
        await submit(site)
        (line,) = await site.store.queue.items()
        assert await site.store.queue.hold(Choice((line.id,)), act("queue_held", site)) == (
            line.id,
        )
        await sender.send_due()
        assert not peer.taken
        await site.store.queue.release(Choice(domains=(A,)), act("queue_released", site))
        await sender.send_due()

    assert len(peer.taken) == 1


async def test_what_is_held_comes_back_like_the_rest_after_five_days(site: MailSite) -> None:
    sent = await submit(site)
    (line,) = await site.store.queue.items()
    await site.store.queue.hold(Choice((line.id,)), act("queue_held", site))
    sender = worker(site, 1)
    for days in (4, 6, 7):
        site.shift = timedelta(days=days)
        await sender.upkeep()

    assert [each.recipients[0]["Action"] for each in await notices(site)] == ["delayed", "failed"]
    assert await states(site, sent) == {"service": "failed"}
    assert await site.store.queue.items() == []


async def test_retry_sends_now_what_would_wait(site: MailSite) -> None:
    async with at_a(site, CapturePeer()) as port:
        pass
    await submit(site)
    await worker(site, port).send_due()
    peer = CapturePeer()
    async with at_a(site, peer) as port:
        sender = worker(site, port)
        assert not await sender.send_due()
        await site.store.queue.retry(Choice(domains=(A,)), act("queue_retried", site))
        await sender.send_due()

    assert len(peer.taken) == 1
    assert not await site.store.queue.domains()


async def test_what_is_deleted_is_never_sent_and_tracked_as_failed(site: MailSite) -> None:
    peer = CapturePeer()
    async with at_a(site, peer) as port:
        sent = await submit(site)
        (line,) = await site.store.queue.items()
        await site.store.queue.delete(Choice((line.id,)), act("queue_deleted", site))
        await worker(site, port).send_due()

    assert not peer.taken
    assert await states(site, sent) == {"service": "failed"}
    assert not await site.inbox(DR)


async def test_a_message_that_ends_its_worker_three_times_is_set_aside(
    site: MailSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Client.transmit

    async def fragile(self: Client, envelope: Envelope, octets: bytes) -> Transmission:
        if b"POISON" in octets:
            raise RuntimeError
        return await real(self, envelope, octets)

    monkeypatch.setattr(Client, "transmit", fragile)
    peer = CapturePeer()
    async with at_a(site, peer) as port:
        sender = worker(site, port)
        await submit(site, "POISON")
        await submit(site, "other")
        found = []
        for hours in range(5):
            site.shift = timedelta(hours=2 * hours)
            await sender.send_due()
            found += [(each.state, each.crashes) for each in await site.store.queue.items()]

    assert len(peer.taken) == 1
    assert found == [
        (OutboxState.QUEUED, 1),
        (OutboxState.QUEUED, 2),
        (OutboxState.HELD, 3),
        (OutboxState.HELD, 3),
        (OutboxState.HELD, 3),
    ]


async def stopped(sender: OutboundWorker, until: Callable[[], bool]) -> None:
    """Run a worker until something is so, then stop it in order."""
    task = asyncio.create_task(sender.run())
    async with asyncio.timeout(5):
        while not until():
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_message_that_is_on_its_way_at_each_stop_is_no_crash(
    site: MailSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailserver.outbound.worker.DRAIN_S", 0.05)
    peer = CapturePeer(dot=lambda _: Odd.HANG)
    async with at_a(site, peer) as port:
        await submit(site)
        for times in range(1, 5):
            await stopped(worker(site, port), lambda times=times: peer.seen == times)
            (line,) = await site.store.queue.items()
            assert (line.state, line.crashes, line.attempts) == (OutboxState.QUEUED, 0, 0)
        peer.dot = lambda _: OK
        await worker(site, port).send_due()

    assert len(peer.taken) == 1


async def test_a_stop_waits_for_the_reply_to_what_was_sent(site: MailSite) -> None:
    peer = CapturePeer(dot=lambda _: Odd.LATE, hang_s=0.3)
    async with at_a(site, peer) as port:
        for number in range(3):
            await submit(site, f"no {number}")
        await stopped(worker(site, port, per_domain=1), lambda: peer.seen == 1)
        assert (peer.seen, len(peer.taken)) == (1, 1)
        assert len(await site.store.queue.items()) == 2
        await worker(site, port).send_due()

    assert len({each.message_id for each in peer.taken}) == len(peer.taken) == 3


async def test_a_message_bigger_than_the_peer_takes_is_not_even_offered(site: MailSite) -> None:
    peer = CapturePeer(offer=("SIZE 2000", "8BITMIME"))
    async with at_a(site, peer) as port:
        await submit(site, "x" * 5000)
        await worker(site, port).send_due()

    assert not any(command.startswith("MAIL") for command in peer.commands)
    (notice,) = await notices(site)
    assert notice.recipients[0]["Status"] == "5.3.4"


async def test_reports_of_a_listed_peer_move_what_was_sent_and_those_of_others_do_not(
    site: MailSite,
) -> None:
    peer = CapturePeer()
    async with at_a(site, peer) as port:
        sent = await submit(site)
        await worker(site, port).send_due()

    found = []
    for domain, party in ((B, site.world.b), (A, site.world.a)):
        line = await operator_line(site, party)
        for command in (f"MAIL FROM:<postmaster@{domain}>", f"RCPT TO:<{DR}>", "DATA"):
            assert (await line.say(command))[0] in "23"
        line.write(_report(sent.message_id, domain) + b".\r\n")
        assert (await line.reply()).startswith("250")
        found.append((await states(site, sent))["service"])

    assert found == ["relayed", "delivered"]


def _report(message_id: str, domain: str) -> bytes:
    return (
        f"From: <postmaster@{domain}>\r\nTo: <{DR}>\r\nSubject: avis\r\n"
        f"Message-ID: <avis@{domain}>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
        "--b\r\nContent-Type: text/plain\r\n\r\narrived\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        f"Reporting-MTA: dns; smtp.{domain}\r\n\r\nFinal-Recipient: rfc822; {TO}\r\n"
        "Action: delivered\r\nStatus: 2.0.0\r\n"
        "\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\n"
        f"Message-ID: {message_id}\r\n\r\n--b--\r\n"
    ).encode()
