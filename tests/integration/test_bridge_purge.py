"""Mail is not an archive: what is settled leaves the application mailbox, and the audit balances."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mailserver.audit import received_mail
from record_bridge import accounting
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
from tests.support.xdm import mail


@pytest.fixture
async def site(where: World, tmp_path: Path) -> AsyncIterator[BridgeSite]:
    async with bridge_site(where, tmp_path) as opened:
        yield opened


async def _audit(site: BridgeSite, bridge: BridgeWorker) -> accounting.AuditReport:
    return await accounting.verify(
        bridge.record,
        lambda: received_mail(site.mail.store, ("cabinet",)),
        bridge.opener.list_occurrences,
    )


async def test_what_is_settled_leaves_after_its_days_and_the_audit_still_balances(
    site: BridgeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filed twice in one message, a duplicate, a broken archive, one unknown patient."""
    async with running(site) as bridge:
        await register(bridge)
        await site.receive(letter(1, report(1), report(2), notify_to=SENDER), DR, PATIENT)
        await site.receive(letter(2, report(1)))
        await site.receive(mail(b"not a zip", sender=SENDER, to=DR), DR)
        await site.receive(letter(4, report(4, patients=())))
        await settled(site, bridge)
        kept = await _audit(site, bridge)
        listed = await documents(bridge)
        entries = len(await site.entries(APP))

    for days, left in ((29, 4), (31, 2)):
        now = datetime.now(UTC) + timedelta(days=days)
        monkeypatch.setattr("record_bridge.worker._now", lambda now=now: now)
        async with running(site) as bridge:
            await settled(site, bridge)
            assert len(await site.entries(APP)) == left
            audit = await _audit(site, bridge)
            assert audit.to_json() == kept.to_json()
            assert await documents(bridge) == listed
    assert entries == 4
    assert (kept.received, kept.filed, kept.duplicates, kept.quarantined) == (5, 2, 1, 2)
    assert kept.exit_code == 0
    assert len(await site.entries(DR)) == 4


async def test_what_waited_in_quarantine_is_told_before_it_leaves(site: BridgeSite) -> None:
    """A patient registered later still finds the mail: its entry here had to be told."""
    settings = replace(site.settings, purge_after_days=0)
    hasty = BridgeSite(site.mail, settings, site.imaps)
    async with running(hasty) as bridge:
        await site.receive(letter(1, report(1)), DR, PATIENT)
        await settled(site, bridge)
    async with running(hasty) as bridge:
        await settled(site, bridge)
        assert len(await site.entries(APP)) == 1
        assert await site.entries(PATIENT) == []

        await register(bridge)
        await settled(site, bridge)
    async with running(hasty) as bridge:
        await settled(site, bridge)
        audit = await _audit(site, bridge)
    assert len(await site.entries(PATIENT)) == 1
    assert await site.entries(APP) == []
    assert (audit.filed, audit.exit_code) == (1, 0)
