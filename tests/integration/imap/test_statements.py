"""What commands cost in statements, whatever the machine: counts, no timings."""

import asyncio

import pytest

from tests.support.imap_peer import ImapPeer
from tests.support.imap_site import ImapSite, serve
from tests.support.mailstore import watch_reads

LETTER = b"From: a@b.test\r\nSubject: s\r\n\r\ntext\r\n"


async def opened(site: ImapSite, count: int) -> ImapPeer:
    for _ in range(count):
        await site.put(LETTER)
    peer = await ImapPeer.login(site)
    await peer.ok("SELECT INBOX")
    return peer


@pytest.mark.parametrize(
    ("command", "warm", "most"),
    [
        pytest.param("NOOP", "NOOP", 0, id="nothing happened"),
        pytest.param("FETCH 1:* (UID FLAGS RFC822.SIZE INTERNALDATE)", "NOOP", 0, id="from rows"),
        pytest.param(
            "FETCH 1:* (ENVELOPE BODYSTRUCTURE)", "NOOP", 1, id="indexes, the first time"
        ),
        pytest.param(
            "FETCH 1:* (ENVELOPE BODYSTRUCTURE)",
            "FETCH 1:* (ENVELOPE)",
            0,
            id="indexes, from memory",
        ),
        pytest.param("SEARCH UNSEEN LARGER 1 SINCE 1-Jan-2020", "NOOP", 0, id="search of rows"),
        pytest.param(r"STORE 1:* +FLAGS (\Flagged)", "NOOP", 0, id="own change"),
        pytest.param(r"STORE 3 +FLAGS.SILENT (\Flagged)", "NOOP", 0, id="own silent change"),
    ],
)
async def test_a_command_reads_no_more_than_it_must(command: str, warm: str, most: int):
    async with serve() as site:
        peer = await opened(site, 40)
        await peer.ok(warm)
        statements = watch_reads(site.store)

        await peer.ok(command)

        assert [each for each in statements if each.startswith("SELECT")][most:] == []
        await peer.close()


@pytest.mark.parametrize("needle", ["from", "ab", "nowhere at all"])
async def test_a_search_for_text_reads_the_same_few_times_in_any_folder(needle: str):
    counts = []
    async with serve() as site:
        peer = await ImapPeer.login(site)
        for _ in range(2):
            for _ in range(10):
                await site.put(LETTER)
            await peer.ok("SELECT INBOX")
            statements = watch_reads(site.store)
            await peer.ok(f'SEARCH FROM "{needle}"')
            counts.append(len(statements))
        await peer.close()

    assert counts[0] == counts[1] <= 8


async def test_changes_of_two_sessions_at_once_reach_both():
    async with serve() as site:
        one, two = await opened(site, 20), await opened(site, 0)

        async def change(peer: ImapPeer, flag: str) -> None:
            for number in range(1, 21):
                await peer.ok(rf"STORE {number} +FLAGS.SILENT ({flag})")

        await asyncio.gather(change(one, r"\Flagged"), change(two, r"\Answered"))
        for peer in (one, two):
            await peer.ok("NOOP")
            lines = await peer.ok("FETCH 1:* (FLAGS)")
            assert all(b"\\Flagged" in line and b"\\Answered" in line for line in lines)
            await peer.close()
        fresh = await opened(site, 0)
        assert await fresh.ok("SEARCH FLAGGED ANSWERED") == [
            b"* SEARCH" + b"".join(b" %d" % number for number in range(1, 21)) + b"\r\n"
        ]
        await fresh.close()


async def test_a_change_that_another_session_made_first_is_not_passed_over():
    async with serve() as site:
        one, two = await opened(site, 3), await opened(site, 0)
        await two.ok(r"STORE 1 +FLAGS (\Deleted)")
        await two.ok("EXPUNGE")

        assert await one.ok(r"STORE 3 +FLAGS.SILENT (\Flagged)") == []
        assert await one.ok("NOOP") == [b"* 1 EXPUNGE\r\n"]
        assert await two.ok("NOOP") == [b"* 2 FETCH (FLAGS (\\Flagged))\r\n"]
        for peer in (one, two):
            await peer.close()
