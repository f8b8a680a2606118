"""QUOTA: what a mailbox holds, and what happens at its limit.

Source: RFC 9208 §4, §5.
"""

import dataclasses

import pytest

from tests.support.imap_peer import ImapPeer
from tests.support.imap_site import ALICE, BOB, QUICK, serve

LETTER = b"Subject: x\r\n\r\n" + b"y" * 1010
SMALL = b"Subject: x\r\n\r\nz\r\n"


async def test_what_a_mailbox_holds_is_told_for_each_of_its_folders():
    async with serve() as site:
        peer = await ImapPeer.login(site)
        root, quota = await peer.ok("GETQUOTAROOT inbox")
        assert root == b'* QUOTAROOT INBOX ""\r\n'
        assert quota == b'* QUOTA "" (STORAGE 0 20971520 MESSAGE 0 1000000)\r\n'
        await peer.append("INBOX", LETTER)
        await peer.append("Archive", SMALL)
        await site.put(LETTER, address=BOB)
        (quota,) = await peer.ok('GETQUOTA ""')
        assert quota == b'* QUOTA "" (STORAGE 2 20971520 MESSAGE 2 1000000)\r\n'
        assert (await peer.do("GETQUOTA other"))[1].startswith(b"NO [NONEXISTENT]")
        assert (await peer.do("GETQUOTAROOT nowhere"))[1].startswith(b"NO [NONEXISTENT]")
        assert (await peer.do('SETQUOTA "" (STORAGE 512)'))[1].startswith(b"BAD")
        await peer.close()


@pytest.mark.parametrize("over", [0, 1, 5000])
async def test_at_its_limit_a_mailbox_takes_nothing_more_from_a_client(over):
    octets = 4 * len(LETTER) - 1 + (0 if over else 1)
    limits = dataclasses.replace(QUICK, quota_octets=octets)
    async with serve(limits) as site:
        peer = await ImapPeer.login(site)
        for _ in range(3):
            assert (await peer.append("INBOX", LETTER)).startswith(b"OK")
        last = LETTER + b"y" * max(0, over - 1)
        said = await peer.append("INBOX", last)
        await peer.ok("SELECT INBOX")
        copied = (await peer.do("COPY 1:2 Archive"))[1]
        moved = (await peer.do("MOVE 1 Archive"))[1]
        assert said.startswith(b"NO [OVERQUOTA]" if over else b"OK")
        assert copied.startswith(b"NO [OVERQUOTA]")
        assert moved.startswith(b"OK")  # it takes no more room there
        (status,) = await peer.ok("STATUS Archive (MESSAGES)")
        assert b"MESSAGES 1" in status
        # room comes back with an expunge
        await peer.ok("STORE 1:* +FLAGS.SILENT (\\Deleted)")
        await peer.ok("EXPUNGE")
        assert (await peer.append("INBOX", SMALL)).startswith(b"OK")
        await peer.close()


async def test_messages_are_counted_too():
    async with serve(dataclasses.replace(QUICK, quota_messages=2)) as site:
        peer = await ImapPeer.login(site)
        said = [await peer.append("INBOX", SMALL) for _ in range(4)]
        assert [each[:14] for each in said[2:]] == [b"NO [OVERQUOTA]"] * 2
        assert all(each.startswith(b"OK") for each in said[:2])
        await peer.close()


async def test_what_is_to_be_deleted_is_told_by_status():
    async with serve() as site:
        await site.put(SMALL)
        await site.put(LETTER)
        peer = await ImapPeer.login(site, ALICE)
        await peer.ok("SELECT INBOX")
        await peer.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
        (status,) = await peer.ok("STATUS INBOX (DELETED DELETED-STORAGE)")
        assert status == b"* STATUS INBOX (DELETED 1 DELETED-STORAGE %d)\r\n" % len(LETTER)
        await peer.close()
