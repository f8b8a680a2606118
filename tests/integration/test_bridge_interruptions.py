"""The bridge when the network, the disk or the mailbox fails it: nothing lost, nobody blamed."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from mailserver.audit import received_mail
from mailserver.store.model import Flag, FlagChange, FlagMode
from record_bridge import accounting, watcher
from record_bridge.inbox import Fetched, Inbox, Listed
from record_bridge.progress import MAX_ATTEMPTS
from record_bridge.worker import BridgeWorker
from tests.support.bridge_site import (
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
from tests.support.mail_site import APP, DR, PATIENT, World


@pytest.fixture
async def site(
    where: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[BridgeSite]:
    monkeypatch.setattr(watcher, "BACKOFF_S", (0.01,))
    monkeypatch.setattr(watcher, "WITHHELD_S", 0.05)
    async with bridge_site(where, tmp_path) as opened:
        yield opened


async def _audit(site: BridgeSite, bridge: BridgeWorker) -> accounting.AuditReport:
    return await accounting.verify(
        bridge.record,
        lambda: received_mail(site.mail.store, ("cabinet",)),
        bridge.opener.list_occurrences,
    )


def _rows(site: BridgeSite, statement: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(site.settings.record)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize("failures", [MAX_ATTEMPTS, MAX_ATTEMPTS + 1, 4 * MAX_ATTEMPTS])
async def test_a_connection_that_breaks_while_fetching_is_no_fault_of_the_messages(
    site: BridgeSite, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    fetch = Inbox.fetch
    calls = 0

    async def breaks(self: Inbox, uids: Sequence[int]) -> list[Fetched]:
        nonlocal calls
        calls += 1
        if calls <= failures:
            transport = self._client.protocol.transport
            assert transport is not None
            transport.abort()
        return await fetch(self, uids)

    monkeypatch.setattr(Inbox, "fetch", breaks)
    for number in range(3):
        await site.receive(letter(number, report(number)))
    async with running(site) as bridge:
        await register(bridge)
        await settled(site, bridge)

        assert len(await documents(bridge)) == 3
        assert (await _audit(site, bridge)).exit_code == 0
    assert calls > failures
    assert _rows(site, "SELECT count(*) FROM quarantine") == [(0,)]


async def test_a_full_disk_keeps_the_messages_waiting_and_blames_none(site: BridgeSite) -> None:
    """The record may not grow; claims still fit into its last page, what is filed does not."""
    for number in range(3):
        await site.receive(letter(number, report(number, octets=200_000)))
    async with running(site) as bridge:
        await register(bridge)
        await bridge.record.write(_limit_pages, 0)
        await site.receive(letter(9, report(9, octets=200_000)))
        with capture_logs() as lines:
            async with asyncio.timeout(20):
                while sum(line["event"] == "bridge_database_failed" for line in lines) < 12:
                    await asyncio.sleep(0.01)
        attempts = _rows(site, "SELECT max(attempts) FROM inbox_item WHERE state = 'claimed'")
        quarantined = _rows(site, "SELECT count(*) FROM quarantine")

        await bridge.record.write(_limit_pages, 1 << 30)
        await settled(site, bridge)

        assert len(await documents(bridge)) == 4
        assert (await _audit(site, bridge)).exit_code == 0
    assert attempts[0][0] in (None, 0, 1)
    assert quarantined == [(0,)]


def _limit_pages(connection: sqlite3.Connection, pages: int) -> None:
    connection.execute(f"PRAGMA max_page_count = {pages or 1}")


async def test_what_the_server_lists_and_does_not_give_is_asked_for_again(
    site: BridgeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = Inbox.fetch
    refused = 0

    async def withholds(self: Inbox, uids: Sequence[int]) -> list[Fetched]:
        nonlocal refused
        found = await fetch(self, uids)
        if refused == 2 * MAX_ATTEMPTS:
            return found
        refused += any(each.uid == 2 for each in found)
        return [each for each in found if each.uid != 2]

    monkeypatch.setattr(Inbox, "fetch", withholds)
    for number in range(3):
        await site.receive(letter(number, report(number)))
    with capture_logs() as lines:
        async with running(site) as bridge:
            await register(bridge)
            await settled(site, bridge)

            assert len(await documents(bridge)) == 3
            assert (await _audit(site, bridge)).exit_code == 0
    assert "messages_not_given" in {line["event"] for line in lines}
    assert _rows(site, "SELECT uid, outcome, attempts FROM inbox_item ORDER BY uid") == [
        (1, "filed", 1),
        (2, "filed", 1),
        (3, "filed", 1),
    ]


async def test_what_left_the_mailbox_unopened_is_said_in_the_log_and_named_by_the_audit(
    site: BridgeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_after = Inbox.list_after
    receipts = [await site.receive(letter(number, report(number))) for number in range(2)]
    folder = await site.mail.store.folders.get(site.mail.mailboxes[APP].id, "INBOX")
    assert folder is not None
    folder_id = folder.id

    async def then_expunged(self: Inbox, uid: int) -> list[Listed]:
        found = await list_after(self, uid)
        if any(each.uid == 2 for each in found):
            await _expunge(site, folder_id, 2)
        return found

    monkeypatch.setattr(Inbox, "list_after", then_expunged)
    with capture_logs() as lines:
        async with running(site) as bridge:
            await register(bridge)
            async with asyncio.timeout(20):
                while not await documents(bridge) or not bridge.idle:
                    await asyncio.sleep(0.02)

            audit = await _audit(site, bridge)
    assert "messages_gone_unopened" in {line["event"] for line in lines}
    assert (audit.gone, audit.filed, audit.exit_code) == (1, 1, 1)
    assert [(each.kind, each.receipt_id) for each in audit.problems] == [("in_none", receipts[1])]


async def test_what_was_taken_for_gone_is_opened_when_the_server_lists_it(
    site: BridgeSite,
) -> None:
    await site.receive(letter(1, report(1)))
    async with running(site) as bridge:
        await settled(site, bridge)
    _change(
        site.settings.record,
        "DELETE FROM quarantine",
        "UPDATE inbox_item SET outcome = 'gone', receipt = NULL, keywords = NULL, told = NULL",
    )
    async with running(site) as bridge:
        await register(bridge)
        await settled(site, bridge)

        assert len(await documents(bridge)) == 1
        assert (await _audit(site, bridge)).exit_code == 0


async def test_a_new_uidvalidity_brings_every_message_again_and_changes_nothing(
    site: BridgeSite, tmp_path: Path
) -> None:
    numbers = range(40)
    for number in numbers:
        await site.receive(letter(number, report(number % 35), notify_to=SENDER))
    await site.receive(letter(90, report(90), notify_to=SENDER), DR, PATIENT)
    await site.receive(letter(91, report(91, patients=()), notify_to=SENDER))
    async with running(site) as bridge:
        await register(bridge)
        await settled(site, bridge)
        before = await documents(bridge)
        first = (await _audit(site, bridge)).to_json()
    answers = len(await site.mail.store.queue.items())
    keywords = [row.keywords for row in await site.entries(APP)]
    _change(
        tmp_path / "mail.sqlite3",
        "UPDATE folder SET uidvalidity = uidvalidity + 7 WHERE name = 'INBOX' AND mailbox_id ="  # noqa: S608 - ours
        f" (SELECT id FROM mailbox WHERE address = '{APP}')",
    )

    async with running(site) as bridge:
        async with asyncio.timeout(20):
            while len(_rows(site, _REPEATED)) < 42:
                await asyncio.sleep(0.02)
        await settled(site, bridge)
        after = await documents(bridge)
        second = (await _audit(site, bridge)).to_json()

    assert (before, first) == (after, second)
    assert (first["filed"], first["duplicates"], first["quarantined"]) == (36, 5, 1)
    assert first["balanced"]
    assert answers == len(await site.mail.store.queue.items()) == 43
    assert keywords == [row.keywords for row in await site.entries(APP)]


_REPEATED = "SELECT 1 FROM inbox_item WHERE outcome = 'repeated'"


async def _expunge(site: BridgeSite, folder_id: int, uid: int) -> None:
    await site.mail.store.messages.store_flags(
        FlagChange(folder_id, (uid,), FlagMode.ADD, Flag.DELETED, frozenset())
    )
    await site.mail.store.messages.expunge(folder_id, (uid,))


def _change(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, timeout=10)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
