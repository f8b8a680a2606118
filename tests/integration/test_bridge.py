"""The bridge against the real IMAP server and the real submission service."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from record_bridge import accounting, inbox, mdn, watcher, worker
from record_bridge.inbox import Inbox, InboxError, InboxLogin, Phase
from record_bridge.watcher import Watcher
from tests.support.bridge_site import (
    DEADLY,
    SENDER,
    BridgeSite,
    bridge_site,
    documents,
    letter,
    register,
    report,
    running,
    settled,
)
from tests.support.mail_site import APP, DR, PATIENT, SECRET, World


@pytest.fixture
async def site(where: World, tmp_path: Path) -> AsyncIterator[BridgeSite]:
    async with bridge_site(where, tmp_path) as opened:
        yield opened


def _keywords(entries: list[Any]) -> list[set[str]]:
    return [set(each.keywords) & {"$Filed", "$Quarantined", "$Duplicate"} for each in entries]


async def test_a_report_is_filed_and_every_entry_of_it_is_told(site: BridgeSite) -> None:
    async with running(site) as bridge:
        await register(bridge)
        await site.receive(letter(1, report(1)), DR, PATIENT)
        assert await site.entries(PATIENT) == []

        await settled(site, bridge)

        assert [row["visibility"] for row in await documents(bridge)] == ["visible"]
    assert [{"$Filed"}] == _keywords(await site.entries(DR))
    assert [{"$Filed"}] == _keywords(await site.entries(APP))
    assert [{"$Filed"}] == _keywords(await site.entries(PATIENT))


async def test_a_report_of_nobody_known_stays_held_until_the_patient_is_registered(
    site: BridgeSite,
) -> None:
    async with running(site) as bridge:
        await site.receive(letter(1, report(1)), DR, PATIENT)
        await settled(site, bridge)
        assert [{"$Quarantined"}] == _keywords(await site.entries(DR))
        assert await site.entries(PATIENT) == []

        registered = await register(bridge)
        await settled(site, bridge)

        assert registered["filed"] == 1
    assert [{"$Filed"}] == _keywords(await site.entries(DR))
    assert [{"$Filed"}] == _keywords(await site.entries(PATIENT))


async def test_what_is_released_does_not_wait_for_results_that_are_read_late(
    site: BridgeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, end = asyncio.Event(), asyncio.Event()

    async def slow(*_: object) -> int:
        reading.set()
        await end.wait()
        return 0

    monkeypatch.setattr(worker, "read_late_lists", slow)
    monkeypatch.setattr(worker, "REFRESH_S", 0.05)
    async with running(site) as bridge:
        await register(bridge)
        await site.receive(letter(1, report(1)), DR)
        await settled(site, bridge)
        async with asyncio.timeout(10):
            await reading.wait()
        with closing(sqlite3.connect(site.settings.record)) as record, record:
            record.execute("UPDATE document SET release_at = 1")

        try:
            async with asyncio.timeout(10):
                while [row["visibility"] for row in await documents(bridge)] != ["visible"]:
                    await asyncio.sleep(0.02)
        finally:
            end.set()


async def test_a_hundred_reports_that_waited_for_the_bridge_are_filed_once(
    site: BridgeSite,
) -> None:
    for number in range(100):
        await site.receive(letter(number, report(number % 80)))
    async with running(site) as bridge:
        await register(bridge)
        await settled(site, bridge)

        assert len(await documents(bridge)) == 80
        audit = await accounting.verify(
            bridge.record, site.received, bridge.opener.list_occurrences
        )
    assert (audit.received, audit.filed, audit.duplicates, audit.exit_code) == (100, 80, 20, 0)


async def test_the_sender_who_asked_is_answered_from_the_addressed_mailbox(
    site: BridgeSite,
) -> None:
    async with running(site) as bridge:
        await register(bridge)
        await site.receive(letter(1, report(1), notify_to=SENDER))
        await site.receive(letter(2, report(2, patients=()), notify_to=SENDER))
        await settled(site, bridge)

    reports = []
    for outgoing in await site.mail.store.outbox.due(site.mail.now(), 10, 60):
        body = await site.mail.store.outbox.body(outgoing.message_id)
        found = mdn.parse(body)
        assert found is not None
        reports.append((outgoing.forward_path, found.final_recipient, found.code or 0))
        assert outgoing.reverse_path.encode() == b""
        assert APP.encode() not in body
    assert sorted(reports) == [(SENDER, DR, 0), (SENDER, DR, 903)]


async def test_a_retry_with_a_recipient_more_is_answered_for_that_one_only(
    site: BridgeSite,
) -> None:
    """RULES §9: one notification for each message and final recipient."""
    raw = letter(1, report(1), notify_to=SENDER)
    async with running(site) as bridge:
        await register(bridge)
        await site.receive(raw, DR)
        await settled(site, bridge)
        await site.receive(raw, DR, PATIENT)
        await settled(site, bridge)

        assert len(await documents(bridge)) == 1
    answered = []
    for outgoing in await site.mail.store.outbox.due(site.mail.now(), 10, 60):
        found = mdn.parse(await site.mail.store.outbox.body(outgoing.message_id))
        assert found is not None
        answered.append((found.final_recipient, found.code))
    assert sorted(answered) == sorted([(DR, None), (PATIENT, None)])


async def test_a_crash_between_filing_and_telling_leaves_one_document_and_one_answer(
    site: BridgeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Inbox.mark
    calls = 0

    async def breaks(self: Inbox, *arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls <= 2:
            raise InboxError(Phase.MARK)
        await told(self, *arguments)

    monkeypatch.setattr(Inbox, "mark", breaks)
    monkeypatch.setattr("record_bridge.watcher.BACKOFF_S", (0.01,))
    await site.receive(letter(1, report(1), notify_to=SENDER))
    async with running(site) as bridge:
        await register(bridge)
        await settled(site, bridge)

        assert len(await documents(bridge)) == 1
    async with running(site) as bridge:
        await settled(site, bridge)
    assert calls == 3
    assert len(await site.mail.store.queue.items()) == 1
    assert [{"$Filed"}] == _keywords(await site.entries(DR))


async def test_a_message_that_kills_its_worker_three_times_is_quarantined_and_no_other(
    site: BridgeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadly = "tests.support.bridge_site:open_or_die"
    monkeypatch.setattr("record_bridge.opener.OPEN", deadly)
    monkeypatch.setattr(
        "record_bridge.worker.FUNCTIONS", (deadly, "record_bridge.opening:list_occurrences")
    )
    await site.receive(letter(1, report(1)))
    await site.receive(letter(2, report(2)).replace(b"Bonjour", DEADLY), DR)
    await site.receive(letter(3, report(3)))
    async with running(site) as bridge:
        await register(bridge)
        await settled(site, bridge)

        rows = await bridge.commands.quarantine_list({"actor": "test"})
        audit = await accounting.verify(
            bridge.record, site.received, bridge.opener.list_occurrences
        )
    assert [(row["code"], row["reason"]) for row in rows] == [("906", "opening_failed")]
    assert (audit.received, audit.filed, audit.quarantined, audit.balanced) == (3, 2, 1, True)


async def test_a_server_that_goes_away_is_found_again(
    site: BridgeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("record_bridge.watcher.BACKOFF_S", (0.01,))
    async with running(site) as bridge:
        await register(bridge)
        await settled(site, bridge)
        watchers: list[Watcher] = bridge._watchers
        current = watchers[0]._inbox
        assert current is not None
        current._client.protocol.transport.abort()

        await site.receive(letter(1, report(1)))
        async with asyncio.timeout(10):
            while not await documents(bridge):
                await asyncio.sleep(0.02)


async def test_a_wrong_password_names_the_phase(site: BridgeSite) -> None:
    login = InboxLogin(
        "127.0.0.1", site.imaps, site.mail.world.client_tls(None), APP, "x" + SECRET
    )

    with pytest.raises(InboxError) as raised:
        async with Inbox.open(login):
            pass

    assert Phase.LOGIN is raised.value.phase


async def test_the_client_reads_a_thousand_messages_and_one_of_a_megabyte(
    site: BridgeSite,
) -> None:
    for number in range(60):
        await site.receive(letter(number, report(number)))
    await site.receive(letter(99, report(99, octets=1_000_000)))
    login = InboxLogin("127.0.0.1", site.imaps, site.mail.world.client_tls(None), APP, SECRET)

    async with Inbox.open(login) as opened:
        listed = await opened.list_after(0)
        found = await opened.fetch([each.uid for each in listed])
        none = await opened.list_after(listed[-1].uid)

    assert len(listed) == 61
    assert [each.octets for each in listed] == [len(each.raw) for each in found]
    assert none == []
    raws = [await site.mail.raw(APP, number) for number in range(61)]
    assert raws == [each.raw for each in found]
    assert len(listed) > inbox.BATCH_ITEMS


async def test_a_stopped_bridge_leaves_nothing_half_done(site: BridgeSite) -> None:
    for number in range(40):
        await site.receive(letter(number, report(number)))
    async with running(site) as bridge:
        await register(bridge)
        async with asyncio.timeout(10):
            while not await documents(bridge):
                await asyncio.sleep(0.005)
    async with running(site) as bridge:
        await settled(site, bridge)
        assert len(await documents(bridge)) == 40


async def test_a_mailbox_that_fails_does_not_count_against_its_messages(
    site: BridgeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five lost connections in FETCH are no crash on a message: it is opened, not given up."""
    real, failures = Inbox.fetch, [Phase.FETCH] * 5

    async def flapping(self: Inbox, uids: Sequence[int]) -> list[inbox.Fetched]:
        if failures:
            raise InboxError(failures.pop())
        return await real(self, uids)

    monkeypatch.setattr(Inbox, "fetch", flapping)
    monkeypatch.setattr(watcher, "BACKOFF_S", (0.01,))
    async with running(site) as bridge:
        await register(bridge)
        await site.receive(letter(1, report(1)), DR)
        await settled(site, bridge)

        assert len(await documents(bridge)) == 1
    assert not failures
    assert [{"$Filed"}] == _keywords(await site.entries(DR))
