"""Whoever was shut out is out: no session, password, token or page outlives it.

Source: RULES §7, RULES §12, RULES §13.
"""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from directory.audit_event import AuditEvent
from directory.codes import MailboxType
from mailserver.people_commands import PeopleCommands
from mailserver.store.model import NewDevice, NewMailbox
from tests.support.imap_peer import ImapPeer
from tests.support.imap_site import ALICE, AT, BOB, SECRET, ImapSite, serve
from tests.support.mail_site import BOB as BOB_HERE
from tests.support.mail_site import (
    DR,
    OURS,
    A,
    Line,
    MailSite,
    message,
    operator_line,
)
from tests.support.mailsite import DOCTOR, RPPS
from tests.support.submitting import client, send
from tests.support.webmail import Webmail, webmail

DESK = "accueil@chu-a.mssante.test"
SHORT = "zyxwvutsrqponmlkjihgfedcba765432"
GONE = b"* BYE This device may not be used any more\r\n"


@pytest.fixture
async def pages(tmp_path: Path) -> AsyncIterator[Webmail]:
    async with webmail(tmp_path) as opened:
        yield opened


def closing(mailbox_id: int) -> AuditEvent:
    return AuditEvent("mailbox_closed", AT, "cli:test", "chu-a", f"mailbox:{mailbox_id}")


async def revoke(site: ImapSite) -> None:
    (device,) = await site.store.accounts.devices(site.alice.id)
    assert await site.store.accounts.revoke_device(device.id, closing(device.mailbox_id))


async def test_a_revoked_device_reads_nothing_more_on_the_connection_it_has() -> None:
    async with serve() as site:
        peer, other = await ImapPeer.login(site), await ImapPeer.login(site, BOB)
        await peer.ok("SELECT INBOX")

        await revoke(site)

        peer.send(b"x FETCH 1:* (BODY[])\r\n")
        assert await peer.line() == GONE
        assert await peer.raw_line() == b""
        await other.ok("SELECT INBOX")


async def test_a_revoked_device_that_idles_is_told_nothing_more() -> None:
    async with serve() as site:
        peer = await ImapPeer.login(site)
        await peer.ok("SELECT INBOX")
        peer.send(b"x IDLE\r\n")
        assert (await peer.line()).startswith(b"+")

        await revoke(site)
        assert await peer.line() == GONE
        assert await peer.raw_line() == b""


async def test_a_device_past_its_time_reads_nothing_more_on_the_connection_it_has() -> None:
    async with serve() as site:
        site.now = AT - timedelta(days=2)
        await site.store.accounts.add_device(
            NewDevice(site.alice.id, "short", site.now, AT - timedelta(days=1)), SHORT
        )
        peer = await ImapPeer.connect(site.tls_port, site.client_tls)
        await peer.ok(f'LOGIN {ALICE} "{SHORT}"')
        other = await ImapPeer.login(site)
        await peer.ok("SELECT INBOX")

        site.now = AT

        peer.send(b"x NOOP\r\n")
        assert await peer.line() == GONE
        assert await peer.raw_line() == b""
        await other.ok("SELECT INBOX")


async def test_whoever_a_mailbox_is_shared_with_no_more_is_out_of_it_for_good() -> None:
    async with serve() as site:
        accounts, sharing = site.store.accounts, site.store.sharing
        desk = await accounts.add_mailbox(
            NewMailbox(DESK, MailboxType.ORG, "chu-a", "Accueil", None, False, AT)
        )
        await sharing.share(desk.id, site.alice.id, frozenset("lr"), closing(desk.id))
        await accounts.add_device(NewDevice(desk.id, "x", AT, None, site.alice.id), SECRET)
        peer, idle = await ImapPeer.login(site, DESK), await ImapPeer.login(site, DESK)
        idle.send(b"x IDLE\r\n")
        assert (await idle.line()).startswith(b"+")

        await sharing.unshare(desk.id, site.alice.id, closing(desk.id))
        await sharing.share(desk.id, site.alice.id, frozenset("lr"), closing(desk.id))

        assert await idle.line() == GONE
        peer.send(b"x SELECT INBOX\r\n")
        assert await peer.line() == GONE


@pytest.mark.parametrize("how", ["revoked", "closed", "expired"])
async def test_a_device_that_is_shut_out_sends_nothing_more(site: MailSite, how: str) -> None:
    accounts = site.store.accounts
    mailbox = await accounts.mailbox(DR)
    assert mailbox is not None
    device = await accounts.add_device(
        NewDevice(mailbox.id, "short", site.now(), site.now() + timedelta(days=1)), SHORT
    )
    line = await Line.open(site.submissions, site.world.client_tls(None))
    await line.say("EHLO poste.test")
    given = b64encode(f"\0{DR}\0{SHORT}".encode()).decode()
    assert (await line.say(f"AUTH PLAIN {given}")).startswith("235")
    if how == "revoked":
        await accounts.revoke_device(device.id, closing(device.mailbox_id))
    elif how == "closed":
        await accounts.leave(mailbox.id, closing(mailbox.id))
    else:
        site.shift = timedelta(days=2)

    assert (await line.say(f"MAIL FROM:<{DR}>")).startswith("421")
    assert await line.reader.read() == b""


async def test_a_closed_mailbox_lets_nobody_in_and_says_who_closed_it() -> None:
    async with serve() as site:
        peer = await ImapPeer.login(site)

        await site.store.accounts.leave(site.alice.id, closing(site.alice.id))

        peer.send(b"x NOOP\r\n")
        assert await peer.line() == GONE
        again = await ImapPeer.connect(site.tls_port, site.client_tls)
        assert (await again.do(f'LOGIN {ALICE} "{SECRET}"'))[1].startswith(b"NO")
        device = await site.store.accounts.add_device(NewDevice(site.alice.id, "new", AT, None))
        assert await site.store.accounts.check_device(ALICE, device.secret or "", AT) is None
        await site.store.accounts.reopen_mailbox(site.alice.id)
        assert await site.store.accounts.check_device(ALICE, device.secret or "", AT) is not None


async def test_whoever_left_opens_no_page_and_no_record(pages: Webmail) -> None:
    patient = pages.patients["patient"]
    await pages.tell("right_give", kind="care_team", holder=RPPS[DOCTOR])
    async with pages.signed_in("doctor") as doctor:
        assert (await doctor.get(f"/patients/{patient}")).status_code == 200
        commands = PeopleCommands(pages.mail.store, pages.mail.directory, pages.clock)

        await commands.account_close({"address": DOCTOR, "actor": "cli:test"})

        assert (await doctor.get(f"/patients/{patient}")).status_code == 303
    async with pages.signed_in("doctor") as doctor:
        mailbox = await pages.mail.mailbox(DOCTOR)
        for page in (f"/patients/{patient}", "/quarantaine", f"/messagerie/{mailbox.id}"):
            assert (await doctor.get(page)).status_code == 404, page


async def test_the_software_of_whoever_left_reads_nothing(pages: Webmail) -> None:
    await pages.tell("right_give", kind="care_team", holder=RPPS[DOCTOR])
    made = await pages.commands_table["api_token_make"](
        {"name": "App", "actor": "x", "structure": "cabinet", "rpps": RPPS[DOCTOR]}
    )
    asked = f"/fhir/Patient/{pages.patients['patient']}"
    headers = {"Authorization": f"Bearer {made['token']}"}
    async with pages.client() as software:
        assert (await software.get(asked, headers=headers)).status_code == 200
        commands = PeopleCommands(pages.mail.store, pages.mail.directory, pages.clock)

        await commands.account_close({"address": DOCTOR, "actor": "cli:test"})

        assert (await software.get(asked, headers=headers)).status_code == 401
        await commands.account_reopen({"address": DOCTOR, "actor": "cli:test"})
        assert (await software.get(asked, headers=headers)).status_code == 200


async def test_the_annuaire_offers_nobody_who_left(pages: Webmail) -> None:
    directory = pages.mail.directory
    commands = PeopleCommands(pages.mail.store, directory, pages.clock)

    async def offered() -> set[bool]:
        found = (await directory.search(DOCTOR), await directory.mailboxes("cabinet"))
        return {DOCTOR in {each.address for each in those} for those in found}

    assert await offered() == {True}

    await commands.account_close({"address": DOCTOR, "actor": "cli:test"})

    assert await offered() == {False}
    assert await directory.mailbox(DOCTOR) is not None, "mail they sent still shows their name"
    await commands.account_reopen({"address": DOCTOR, "actor": "cli:test"})
    assert await offered() == {True}


async def test_every_session_of_the_one_who_left_is_told(pages: Webmail) -> None:
    mailbox = await pages.mail.mailbox(DOCTOR)
    subscription = pages.mail.store.changes.subscribe(mailbox.id)
    commands = PeopleCommands(pages.mail.store, pages.mail.directory, pages.clock)

    await commands.account_close({"address": DOCTOR, "actor": "cli:test"})

    async with asyncio.timeout(5):
        await subscription.wait()


async def test_nobody_writes_any_more_for_the_one_who_left(site: MailSite) -> None:
    accounts = site.store.accounts
    bob, dr = await accounts.mailbox(BOB_HERE), await accounts.mailbox(DR)
    assert bob is not None
    assert dr is not None
    await site.store.sharing.delegate(bob.id, dr.id, closing(bob.id))
    line = await client(site, "587", DR)
    assert (await line.say(f"MAIL FROM:<{BOB_HERE}>")).startswith("250")
    await line.say("RSET")

    await accounts.leave(bob.id, closing(bob.id))

    assert (await line.say(f"MAIL FROM:<{BOB_HERE}>")).startswith("5")
    assert (await line.say(f"MAIL FROM:<{DR}>")).startswith("250")


@pytest.mark.parametrize("recipient", ["postmaster", f"postmaster@{OURS}"])
async def test_mail_to_postmaster_is_taken_for_somebody_who_is_there(
    site: MailSite, recipient: str
) -> None:
    accounts = site.store.accounts
    team = await accounts.mailbox(f"secretariat@{OURS}")
    own = await accounts.add_mailbox(
        NewMailbox(f"postmaster@{OURS}", MailboxType.ORG, "cabinet", "Poste", None, False, AT)
    )
    assert team is not None
    for left in (team, own):
        await accounts.leave(left.id, closing(left.id))
    operator, user = await operator_line(site, site.world.a), await client(site, "587", DR)

    for line, sender in ((operator, f"service@{A}"), (user, DR)):
        raw = message(sender, f"postmaster@{OURS}")
        assert (await send(line, sender, raw, recipient)).startswith("250")

    assert len(await site.inbox(DR)) == 2


async def test_a_team_s_closed_mailbox_is_listed_to_nobody() -> None:
    async with serve() as site:
        desk = await site.store.accounts.add_mailbox(
            NewMailbox(DESK, MailboxType.ORG, "chu-a", "Accueil", None, False, AT)
        )
        await site.store.sharing.share(desk.id, site.alice.id, frozenset("lr"), closing(desk.id))
        peer = await ImapPeer.login(site)
        assert any(DESK.encode() in line for line in await peer.ok('LIST "" "*"'))
        reading = await ImapPeer.login(site)
        await reading.ok(f'SELECT "Other Users/{DESK}/INBOX"')

        await site.store.accounts.leave(desk.id, closing(desk.id))

        assert not any(DESK.encode() in line for line in await peer.ok('LIST "" "*"'))
        assert (await peer.do(f'SELECT "Other Users/{DESK}/INBOX"'))[1].startswith(b"NO")
        await peer.close()
        reading.send(b"x NOOP\r\n")
        assert (await reading.line()).startswith(b"* BYE")
        assert not (await site.store.sharing.grants(site.alice.id)).reached
        await site.store.accounts.reopen_mailbox(desk.id)
        assert (await site.store.sharing.grants(site.alice.id)).reached == {desk.id}
