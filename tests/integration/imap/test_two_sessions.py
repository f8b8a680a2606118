"""What one session does is told to another, once, in order, and whatever the other was doing.

Source: RFC 9051 §5.2, §6.4.6, §7.5; RFC 2180 §4.2.
"""

from tests.support.imap_peer import ImapPeer
from tests.support.imap_site import ImapSite, serve

RAW = b"From: <a@b.test>\r\nSubject: x\r\n\r\ntext\r\n"


async def opened(site: ImapSite, command: str = "SELECT INBOX") -> ImapPeer:
    peer = await ImapPeer.login(site)
    await peer.ok(command)
    return peer


async def test_a_message_that_changed_twice_while_nobody_looked_is_one_message():
    async with serve() as site:
        late, reader = await opened(site), await opened(site)
        await site.put(RAW)
        assert await reader.ok("NOOP") == [b"* 1 EXISTS\r\n"]
        await reader.ok("STORE 1 +FLAGS (first)")
        await reader.ok("NOOP")
        await reader.ok("STORE 1 +FLAGS (second)")
        await reader.ok("NOOP")

        assert (await late.ok("NOOP"))[0] == b"* 1 EXISTS\r\n"
        assert await late.ok("FETCH 1:* (UID FLAGS)") == [
            b"* 1 FETCH (UID 1 FLAGS (first second))\r\n"
        ]


async def test_a_silent_store_still_tells_what_others_changed():
    async with serve() as site:
        await site.put(RAW)
        await site.put(RAW)
        mine, other = await opened(site), await opened(site)
        await other.ok("STORE 2 +FLAGS (theirs)")

        told = await mine.ok(r"STORE 1:2 +FLAGS.SILENT (\Flagged)")

        assert [line for line in told if b"FETCH" in line] == [
            b"* 2 FETCH (FLAGS (\\Flagged theirs))\r\n"
        ]


async def test_a_silent_store_under_condstore_tells_others_changes_and_its_own_modseq():
    async with serve() as site:
        await site.put(RAW)
        await site.put(RAW)
        mine, other = await opened(site, "SELECT INBOX (CONDSTORE)"), await opened(site)
        await other.ok("STORE 2 +FLAGS (theirs)")

        told = await mine.ok(r"STORE 1:2 +FLAGS.SILENT (\Flagged)")

        assert [line for line in told if b"FETCH" in line] == [
            b"* 2 FETCH (UID 2 FLAGS (\\Flagged theirs) MODSEQ (5))\r\n",
            b"* 1 FETCH (MODSEQ (5))\r\n",
        ]


async def test_a_silent_store_succeeds_for_the_messages_that_are_left():
    async with serve() as site:
        await site.put(RAW)
        await site.put(RAW)
        mine, other = await opened(site), await opened(site)
        await other.ok(r"STORE 1 +FLAGS (\Deleted)")
        await other.ok("EXPUNGE")

        assert (await mine.do("STORE 1:2 +FLAGS.SILENT (mine)"))[1].startswith(b"OK")
        assert (await mine.do("STORE 1:2 +FLAGS (more)"))[1].startswith(b"NO [EXPUNGEISSUED]")
        assert await mine.ok("NOOP") == [b"* 1 EXPUNGE\r\n"]
        assert await mine.ok("FETCH 1 (FLAGS)") == [b"* 1 FETCH (FLAGS (mine more))\r\n"]


async def test_a_done_that_comes_at_once_does_not_silence_what_happened_before():
    async with serve() as site:
        for _ in range(2):
            await site.put(b"Subject: x\r\n\r\ny")
        peer, other = await ImapPeer.login(site), await ImapPeer.login(site)
        await peer.ok("SELECT INBOX")
        await other.ok("SELECT INBOX")
        await other.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        await other.ok("EXPUNGE")
        peer.send(b"a IDLE\r\nDONE\r\n")
        lines, reply = await peer.until(b"a")
        assert lines == [b"+ idling\r\n", b"* 1 EXPUNGE\r\n"]
        assert reply.startswith(b"OK")
        for one in (peer, other):
            await one.close()
