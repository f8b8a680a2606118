"""What NOTIFY pushes, and what it never tells. Source: RFC 5465 §3, RULES §7."""

import pytest

from mailserver.message.index import index
from mailserver.store.model import NO_FLAGS, Delivery, NewEntry
from tests.support.imap_peer import ImapPeer
from tests.support.imap_site import AT, ImapSite, serve

MESSAGE = b"Subject: held\r\n\r\nx\r\n"


def delivery(site: ImapSite, number: int, *, held: bool) -> Delivery:
    keywords: frozenset[str] = frozenset()
    entry = NewEntry(site.alice.id, "INBOX", b"", NO_FLAGS, keywords, held, AT)
    return Delivery(
        f"r{number}", b"s" * 32, MESSAGE, index(MESSAGE), (entry,), (), "", "", (), 0, (), AT
    )


@pytest.mark.parametrize("selected", [True, False])
async def test_a_held_message_is_told_of_in_no_way(selected):
    async with serve() as site:
        peer = await ImapPeer.login(site)
        if selected:
            await peer.ok("SELECT INBOX")
            await peer.ok("NOTIFY SET (selected (MessageNew (UID) MessageExpunge FlagChange))")
        else:
            await peer.ok("NOTIFY SET STATUS (personal (MessageNew MessageExpunge FlagChange))")
        await site.store.messages.deliver(delivery(site, 1, held=True))
        assert await peer.ok("STATUS INBOX (MESSAGES UIDNEXT)") == [
            b"* STATUS INBOX (MESSAGES 0 UIDNEXT 1)\r\n"
        ]
        # The next thing that it is told is the message that it may know of, as the first one.
        await site.store.messages.deliver(delivery(site, 2, held=False))
        first = await peer.line()
        assert first.startswith(
            b"* 1 EXISTS" if selected else b"* STATUS INBOX (MESSAGES 1 UIDNEXT 2"
        )
        for key in ("EMAILID M1", "SAVEDON 2-Mar-2026", "ALL"):
            await peer.ok("SELECT INBOX")
            (found,) = await peer.ok(f"UID SEARCH RETURN (COUNT) {key}")
            assert found.endswith(b"COUNT 0\r\n" if key.startswith("EMAILID") else b"COUNT 1\r\n")
        await peer.close()


async def test_uidonly_is_told_in_uids():
    async with serve() as site:
        peer, other = await ImapPeer.login(site), await ImapPeer.login(site)
        await site.put(MESSAGE)
        await site.put(MESSAGE)
        await peer.ok("ENABLE UIDONLY")
        await peer.ok("SELECT INBOX")
        await other.ok("SELECT INBOX")
        await peer.ok("NOTIFY SET (selected (MessageNew (FLAGS) MessageExpunge FlagChange))")
        await other.ok("STORE 1 +FLAGS (\\Deleted)")
        assert await peer.line() == b"* 1 UIDFETCH (FLAGS (\\Deleted))\r\n"
        await other.ok("EXPUNGE")
        assert await peer.line() == b"* VANISHED 1\r\n"
        await site.put(MESSAGE)
        assert await peer.line() == b"* 2 EXISTS\r\n"
        assert await peer.line() == b"* 3 UIDFETCH (FLAGS ())\r\n"
        for one in (peer, other):
            await one.close()


async def test_nothing_is_said_in_the_middle_of_a_command():
    async with serve() as site:
        peer = await ImapPeer.login(site)
        await peer.ok("SELECT INBOX")
        await peer.ok("NOTIFY SET (selected (MessageNew MessageExpunge))")
        peer.send(b"a SEARCH SUBJECT {4}\r\n")
        assert (await peer.line()).startswith(b"+")
        await site.put(MESSAGE)
        peer.send(b"held\r\n")
        # The search ran before what came meanwhile was told.
        assert await peer.line() == b"* SEARCH\r\n"
        assert await peer.line() == b"* 1 EXISTS\r\n"
        assert (await peer.line()).startswith(b"a OK")
        await peer.close()


async def test_a_selected_folder_that_is_deleted_ends_the_session_at_once():
    async with serve() as site:
        peer, other = await ImapPeer.login(site), await ImapPeer.login(site)
        await other.ok("CREATE Brief")
        await peer.ok("SELECT Brief")
        await peer.ok("NOTIFY SET (selected (MessageNew MessageExpunge))")
        await other.ok("DELETE Brief")
        assert b"* BYE" in await peer.eof()
        await other.close()


async def test_reading_what_notify_shows_is_in_the_trail():
    async with serve() as site:
        peer = await ImapPeer.login(site)
        await peer.ok("SELECT INBOX")
        await peer.ok("NOTIFY SET (selected (MessageNew (UID PREVIEW) MessageExpunge))")
        await site.put(MESSAGE)
        assert await peer.line() == b"* 1 EXISTS\r\n"
        assert await peer.line() == b'* 1 FETCH (UID 1 PREVIEW "x")\r\n'
        events = await site.store.audit.events(subject=f"mailbox:{site.alice.id}")
        reads = [stored.event for stored in events if stored.event.kind == "imap_read"]
        assert [event.facts["uids"] for event in reads] == ["1"]
        await peer.close()


async def test_idle_and_notify_go_together():
    async with serve() as site:
        peer = await ImapPeer.login(site)
        await peer.ok("SELECT INBOX")
        await peer.ok(
            "NOTIFY SET (selected (MessageNew MessageExpunge)) (mailboxes Sent (MessageNew MessageExpunge))"
        )
        tag = peer.start("IDLE")
        assert (await peer.line()).startswith(b"+")
        await site.put(MESSAGE)
        assert await peer.line() == b"* 1 EXISTS\r\n"
        await site.put(MESSAGE, folder="Sent")
        assert (await peer.line()).startswith(b"* STATUS Sent (MESSAGES 1")
        peer.send(b"DONE\r\n")
        await peer.until(tag)
        await peer.close()
