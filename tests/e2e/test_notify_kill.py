"""A running server tells people outside: its death in the middle of it loses nothing of it.

Source: RULES §14.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from email import message_from_bytes, policy

import pytest
from sqlalchemy import select

from certs.tls import server_context
from directory.audit_event import AuditEvent
from mailserver.databases import now, open_store
from mailserver.settings import NotifySettings, Site
from mailserver.store.notify import Choice
from record_bridge.calendar_commands import CalendarCommands
from record_bridge.formats.dtm import paris_day
from record_bridge.repository import open_record
from record_bridge.schema import patient
from tests.support import phi
from tests.support.capture_peer import CapturePeer, Odd, Taken, capture_thread
from tests.support.exchange import account, letter, until
from tests.support.notifying import OUTSIDE, confirm
from tests.support.ports import free_base
from tests.support.site import DemoSite, pli


async def subscribe(site: Site, *addresses: str, reminds: bool = False) -> None:
    """Give mailboxes of a stopped site an address that is confirmed, as its pages do."""
    async with await open_store(site, read_only=False) as store:
        for address in addresses:
            mailbox = await store.accounts.mailbox(address)
            assert mailbox is not None
            await confirm(store, mailbox.id, now())
            event = AuditEvent("reminders_asked", now(), "account:1")
            assert await store.notify.choose(Choice(mailbox.id, reminds, event))


async def appointment(site: Site, address: str) -> None:
    """Note an appointment of tomorrow in the agenda of a stopped site's patient."""
    record = await open_record(site.record_database)
    try:
        (row,) = await record.all(select(patient.c.id).where(patient.c.address == address))
        tomorrow = paris_day(now()) + timedelta(days=1)
        noted = {"patient_id": row.id, "title": "ZZCANARY", "day": tomorrow.isoformat()}
        await CalendarCommands(record, now).own_entry_add(noted | {"actor": "test"})
    finally:
        await record.close()


def relay_of(place: Site, port: int) -> NotifySettings:
    """A relay of this machine; reminders leave at any hour."""
    return NotifySettings(
        host="localhost",
        port=port,
        authority=str(place.pki / "root.pem"),
        sender="prevenir@operateur.example",
        remind_from_hour=0,
    )


@contextmanager
def hanging_relay(place: Site) -> Iterator[tuple[CapturePeer, threading.Event]]:
    """Listen as the relay of a stopped site, and say nothing to a message; tell when one came."""
    port, asked = free_base() + 25, threading.Event()
    settings = place.settings()
    place.write_settings(settings.model_copy(update={"notify": relay_of(place, port)}))

    def hang(_: Taken) -> Odd:
        asked.set()
        return Odd.HANG

    peer = CapturePeer(dot=hang)
    tls = server_context(place.pki / "server.pem", place.pki / "server.key")
    with capture_thread(peer, tls, port):
        yield peer, asked


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoSite]:
    made = DemoSite.create(tmp_path_factory.mktemp("notify") / "site")
    yield made
    made.stop()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_kill_while_the_relay_hangs_loses_no_notification_and_no_mail(site: DemoSite) -> None:
    place = Site(site.root)
    sender, recipient = (each["address"] for each in site.demo["practitioners"][:2])
    asyncio.run(subscribe(place, recipient))
    with hanging_relay(place) as (peer, asked):
        site.start()
        with account(site)() as client:
            client.sendmail(sender, [recipient], letter("<n-1@x.test>", sender, recipient))
        assert asked.wait(60), "the worker looks each half minute"
        checked = pli("check", str(site.root), "--json")
        assert [each["state"] for each in checked if each["check"] == "notifications"] == ["ok"]
        site.kill()
        peer.dot = lambda _: "250 ok"
        site.start()
        assert until(lambda: len(peer.taken) == 1, 60)
        waiting = pli("status", str(site.root), "--json")["mail"]["notifications_waiting"]

    assert waiting == 0
    assert b"canary" not in peer.taken[0].octets.replace(OUTSIDE.encode(), b"").lower()
    assert '"notified"' in site.log()
    assert phi.traces(site.log()) == []


@pytest.mark.slow
@pytest.mark.timeout(300)  # the server starts three times
def test_kills_lose_no_reminder_and_tell_none_twice(site: DemoSite) -> None:
    place = Site(site.root)
    one, two = site.demo["patients"][:2]
    first, second = one["address"], two["address"]
    site.stop()
    asyncio.run(subscribe(place, first, second, reminds=True))
    asyncio.run(appointment(place, first))
    with hanging_relay(place) as (peer, asked):
        site.start()
        assert asked.wait(60), "the worker looks when it starts"
        site.kill()
        peer.dot = lambda _: "250 ok"
        site.start()
        assert until(lambda: len(peer.taken) == 1, 60)
        words = ("agenda", "reminders", str(site.root), "--ins", one["ins"])
        words += ("--structure", one["structure"], "--json")
        assert until(lambda: pli(*words)["last"] is not None, 60)
        site.kill()
        asyncio.run(appointment(place, second))
        site.start()
        assert until(lambda: len(peer.taken) == 2, 60), "the other one, who is looked at later"

    assert len({taken.message_id for taken in peer.taken}) == 2
    for taken in peer.taken:
        (line,) = reminders_in(taken.octets)
        assert line == "Votre agenda de santé a un rappel. Connectez-vous pour le lire."
        assert b"canary" not in taken.octets.replace(OUTSIDE.encode(), b"").lower()
    assert phi.traces(site.log()) == []


def reminders_in(octets: bytes) -> list[str]:
    """The lines of a mail that speak of a reminder."""
    text = message_from_bytes(octets, policy=policy.default).get_content()
    return [line for line in text.splitlines() if "rappel" in line]
