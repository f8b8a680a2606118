"""A running server tells people outside: its death in the middle of it loses nothing of it.

Source: RULES §14.
"""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from certs.tls import server_context
from directory.audit_event import AuditEvent
from mailserver.databases import now, open_store
from mailserver.notify.texts import code_digest
from mailserver.settings import NotifySettings, Site
from mailserver.store.notify import Confirmation, Marks, Registration, SentCode
from tests.support import phi
from tests.support.capture_peer import CapturePeer, Odd, Taken, capture_thread
from tests.support.exchange import account, letter, until
from tests.support.ports import free_base
from tests.support.site import DemoSite, pli

OUTSIDE = "zzcanary.nom@ailleurs.example"


async def subscribe(site: Site, address: str) -> None:
    """Register and confirm an address of a stopped site, as its pages do."""
    async with await open_store(site, read_only=False) as store:
        mailbox = await store.accounts.mailbox(address)
        assert mailbox is not None
        event = AuditEvent("notify_asked", now(), "account:1")
        assert await store.notify.register(Registration(mailbox.id, OUTSIDE, 5, event))
        row = await store.notify.find(mailbox.id)
        assert row is not None
        digest = code_digest("A" * 10)
        await store.notify.keep_code(SentCode(row, digest, now().replace(year=2099)))
        marks = Marks(0, frozenset())
        assert await store.notify.confirm(Confirmation(mailbox.id, digest, 10, marks, event))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoSite]:
    made = DemoSite.create(tmp_path_factory.mktemp("notify") / "site")
    yield made
    made.stop()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_kill_while_the_relay_hangs_loses_no_notification_and_no_mail(site: DemoSite) -> None:
    place, port = Site(site.root), free_base() + 25
    sender, recipient = (each["address"] for each in site.demo["practitioners"][:2])
    settings = place.settings()
    relay = NotifySettings(
        host="localhost",
        port=port,
        authority=str(place.pki / "root.pem"),
        sender="prevenir@operateur.example",
    )
    place.write_settings(settings.model_copy(update={"notify": relay}))
    asyncio.run(subscribe(place, recipient))
    tls = server_context(place.pki / "server.pem", place.pki / "server.key")
    asked = threading.Event()

    def hang(_: Taken) -> Odd:
        asked.set()
        return Odd.HANG

    peer = CapturePeer(dot=hang)
    with capture_thread(peer, tls, port):
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
