"""The bridge, unchanged, against Debian's Dovecot holding the application mailbox (DESIGN D1)."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from record_bridge import accounting, watcher
from record_bridge.receipts import receipt_of
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
)
from tests.support.dovecot import Dovecot, dovecot
from tests.support.mail_site import APP, SECRET, World

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(shutil.which("dovecot") is None, reason="dovecot-imapd is not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root starts Dovecot"),
]


@pytest.fixture
def other(where: World) -> Iterator[Dovecot]:
    """The other operator's server, in a folder that its own users may enter."""
    with (
        tempfile.TemporaryDirectory(prefix="pli-dovecot-") as folder,
        dovecot(Path(folder) / "home", where, SECRET) as opened,
    ):
        yield opened


@pytest.fixture
async def site(
    where: World, other: Dovecot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[BridgeSite]:
    """A site whose bridge reads its application mailbox at the other operator's."""
    monkeypatch.setattr(watcher, "BACKOFF_S", (0.05,) * 5)
    async with bridge_site(where, tmp_path) as opened:
        (inbox,) = opened.settings.inboxes
        there = replace(inbox, imap_port=other.port)
        settings = replace(opened.settings, inboxes=(there,))
        yield BridgeSite(opened.mail, settings, other.port)


async def arrive(site: BridgeSite, other: Dovecot, raw: bytes) -> bytes:
    """Take a message here, and put what was delivered into the mailbox over there."""
    await site.receive(raw)
    delivered = await site.mail.raw(APP)
    other.put(APP, delivered)
    return delivered


async def done(site: BridgeSite, bridge: BridgeWorker, other: Dovecot, count: int) -> None:
    """Wait until so many messages over there bear their outcome and nothing is left to do."""
    async with asyncio.timeout(40):
        while True:
            told = [flags for flags in other.flags(APP) if any(b"$" in each for each in flags)]
            idle = (await bridge.commands.idle({}))["idle"]
            if len(told) == count and idle and bridge.idle:
                return
            await asyncio.sleep(0.05)


async def test_reports_are_filed_told_and_answered(site: BridgeSite, other: Dovecot) -> None:
    async with running(site) as bridge:
        await register(bridge)
        raws = [await arrive(site, other, letter(1, report(1), notify_to=SENDER))]
        raws.append(await arrive(site, other, letter(2, report(1))))
        raws.append(await arrive(site, other, letter(3, report(3, patients=()))))
        await done(site, bridge, other, 3)
        found = await documents(bridge)

        async def received() -> AsyncIterator[accounting.ReceivedMail]:
            for raw in raws:
                yield accounting.ReceivedMail("cabinet", receipt_of(raw), raw)

        audit = await accounting.verify(bridge.record, received, bridge.opener.list_occurrences)

    assert [each["unique_id"] for each in found] == ["1.2.250.1.213.999.1"]
    assert (audit.filed, audit.duplicates, audit.quarantined) == (1, 1, 1)
    assert audit.exit_code == 0
    outcomes = [{word for word in flags if word.startswith(b"$")} for flags in other.flags(APP)]
    assert outcomes == [{b"$Filed"}, {b"$Duplicate"}, {b"$Quarantined"}]
    assert len(await site.mail.store.queue.items()) == 1


async def test_what_comes_while_it_waits_or_is_away_is_filed(
    site: BridgeSite, other: Dovecot
) -> None:
    async with running(site) as bridge:
        await register(bridge)
        await arrive(site, other, letter(1, report(1)))
        await done(site, bridge, other, 1)
        await arrive(site, other, letter(2, report(2)))  # it is in IDLE
        await done(site, bridge, other, 2)
    for number in range(3, 60):
        await site.receive(letter(number, report(number)))
        with other.client(APP) as box:
            box.append("INBOX", "", "", await site.mail.raw(APP))
    async with running(site) as bridge:
        await done(site, bridge, other, 59)

        assert len(await documents(bridge)) == 59
