"""Who writes for a team, or for a doctor, and how it is told afterwards.

Source: threat S16; RFC 5322 §3.6.2, RFC 4314 §2.1; RULES §12, §13.
"""

import sqlite3
from contextlib import closing

import pytest

from certs.mime import scan
from directory.audit_event import AuditEvent
from mailserver.store.model import NewDevice
from mailserver.store.rights import ALL, COLLEAGUE
from tests.support import submitting
from tests.support.mail_site import BOB, DR, OURS, SECRET, Line, MailSite
from tests.support.submitting import client, stored

DESK = f"secretariat@{OURS}"
NOT_YOURS = "553 5.7.1 Not an address of yours"


async def send(line: Line, path: str, raw: bytes) -> str:
    """Write to the colleague."""
    return await submitting.send(line, path, raw, BOB)


def event(site: MailSite) -> AuditEvent:
    return AuditEvent("test", site.now(), "cli:test")


async def share(site: MailSite, rights: str, person: str = DR) -> None:
    """Let a person into the desk's mailbox."""
    ids = [site.mailboxes[each].id for each in (DESK, person)]
    await site.store.sharing.share(ids[0], ids[1], frozenset(rights), event(site))


async def delegate(site: MailSite, principal: str = BOB, person: str = DR) -> None:
    """Record a delegation."""
    ids = [site.mailboxes[each].id for each in (principal, person)]
    await site.store.sharing.delegate(ids[0], ids[1], event(site))


def letter(author: str, extra: str = "", number: int = 1) -> bytes:
    return (
        f"From: Quelqu'un <{author}>\r\n{extra}To: <{BOB}>\r\n"
        f"Date: Sun, 22 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{number}@client.test>\r\n\r\nx\r\n"
    ).encode()


def submissions(site: MailSite) -> list[tuple[str, str]]:
    """Give (actor, facts) of every message taken."""
    with closing(sqlite3.connect(site.root / "mail.sqlite3")) as connection:
        return connection.execute(
            "SELECT actor, facts FROM trail_event WHERE kind = 'message_submitted' ORDER BY 1"
        ).fetchall()


async def test_who_posts_for_a_team_writes_under_its_address(site: MailSite) -> None:
    await share(site, "lrp")
    line = await client(site, "465")

    assert (await send(line, DESK, letter(DESK))).startswith("250")

    outline = scan(await site.raw(BOB))
    assert outline.text("from") == DESK
    assert not outline.fields("sender")
    desk, dr = site.mailboxes[DESK].id, site.mailboxes[DR].id
    ((actor, facts),) = submissions(site)
    assert actor == f"mailbox:{dr}"
    assert f'"as":"mailbox:{desk}"' in facts.replace(" ", "")
    (tracked,) = await site.store.tracking.message("<1@client.test>")
    assert (tracked.sender, tracked.person) == (DESK, DR)


async def test_the_team_is_the_signer_of_its_mail(site: MailSite) -> None:
    await share(site, "lrp")
    line = await client(site, "587")

    await send(line, DR, letter(DESK))

    (entry,) = await site.inbox(BOB)
    assert "$SignatureValid" in entry.row.keywords
    assert f"header.b={DESK}" in entry.prefix.decode() or DESK in entry.prefix.decode()


@pytest.mark.parametrize("rights", ["", "lr", "".join(sorted(ALL - {"p"}))])
async def test_without_the_right_to_post_nobody_writes_for_a_team(
    site: MailSite, rights: str
) -> None:
    await share(site, rights)
    line = await client(site, "465")

    assert await send(line, DESK, letter(DESK)) == NOT_YOURS
    assert await send(line, DR, letter(DESK)) == NOT_YOURS
    assert stored(site) == (0, 0, 0, 0, 0)


async def test_a_right_that_is_taken_away_is_gone_on_an_open_connection(site: MailSite) -> None:
    await share(site, "lrp")
    line = await client(site, "465")
    assert (await send(line, DESK, letter(DESK))).startswith("250")

    await share(site, "lr")

    assert await send(line, DESK, letter(DESK, number=2)) == NOT_YOURS


async def test_a_delegate_writes_for_a_doctor_and_is_named(site: MailSite) -> None:
    await delegate(site)
    line = await client(site, "465")

    for number, path in enumerate((BOB, DR, "")):
        reply = await send(line, path, letter(BOB, number=number))
        assert reply.startswith("250"), reply

    for number in range(3):
        outline = scan(await site.raw(BOB, number))
        assert (outline.text("from"), outline.text("sender")) == (BOB, DR)
    (tracked,) = await site.store.tracking.message("<0@client.test>")
    assert (tracked.sender, tracked.person) == (BOB, DR)
    (tracked,) = await site.store.tracking.message("<1@client.test>")
    assert (tracked.sender, tracked.person) == (DR, None)


@pytest.mark.parametrize(
    ("sender", "count"),
    [
        (f"Sender: Dr <{DR}>\r\n", 1),
        (f"Sender: <{BOB}>\r\n", 0),
        (f"Sender: <{DESK}>\r\n", 0),
        (f"Sender: <{DR}>, <{BOB}>\r\n", 0),
        (f"Resent-From: <{BOB}>\r\n", 0),
        (f"Resent-Sender: <{BOB}>\r\n", 0),
    ],
)
async def test_what_a_delegate_writes_as_sender_is_checked(
    site: MailSite, sender: str, count: int
) -> None:
    await delegate(site)
    line = await client(site, "465")

    reply = await send(line, BOB, letter(BOB, sender))

    assert reply.startswith("250") if count else reply == NOT_YOURS
    assert len(await site.inbox(BOB)) == count


async def test_a_delegation_goes_one_way_and_ends(site: MailSite) -> None:
    await delegate(site)
    bob, dr = await client(site, "465", BOB), await client(site, "465")
    assert await send(bob, DR, letter(DR)) == NOT_YOURS
    assert await send(dr, DESK, letter(BOB)) == NOT_YOURS

    ids = [site.mailboxes[each].id for each in (BOB, DR)]
    await site.store.sharing.withdraw(ids[0], ids[1], event(site))

    assert await send(dr, BOB, letter(BOB)) == NOT_YOURS
    assert stored(site) == (0, 0, 0, 0, 0)


async def test_a_persons_own_password_of_a_team_opens_that_address_alone(site: MailSite) -> None:
    await share(site, "".join(COLLEAGUE))
    await delegate(site)
    desk, dr = site.mailboxes[DESK], site.mailboxes[DR]
    secret = SECRET[::-1]
    await site.store.accounts.add_device(
        NewDevice(desk.id, "poste", site.now(), None, dr.id), secret
    )
    line = await client(site, "465", DESK, secret)

    assert (await send(line, DESK, letter(DESK))).startswith("250")
    assert await send(line, DESK, letter(DR)) == NOT_YOURS
    assert await send(line, DR, letter(DR)) == NOT_YOURS
    assert await send(line, DESK, letter(BOB)) == NOT_YOURS
    ((actor, _),) = submissions(site)
    assert actor == f"mailbox:{dr.id}"
    (tracked,) = await site.store.tracking.message("<1@client.test>")
    assert (tracked.sender, tracked.person) == (DESK, DR)

    await share(site, "lr")
    assert await send(line, DESK, letter(DESK, number=2)) == NOT_YOURS


async def test_a_bounce_comes_back_to_the_address_it_was_sent_under(site: MailSite) -> None:
    await share(site, "lrp")
    line = await client(site, "465")
    await line.say(f"MAIL FROM:<{DESK}>")
    await line.say("RCPT TO:<x@chu-a.mssante.test>")
    await line.say("DATA")
    line.write(letter(DESK) + b".\r\n")
    assert (await line.reply()).startswith("250")

    with closing(sqlite3.connect(site.root / "mail.sqlite3")) as connection:
        rows = connection.execute("SELECT mailbox_id, reverse_path FROM outbox_message").fetchall()
    assert rows == [(site.mailboxes[DESK].id, DESK)]
