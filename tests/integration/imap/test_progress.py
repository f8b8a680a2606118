"""What a long command says of itself. Source: RFC 9585 §3, §4."""

import re
from dataclasses import replace

import pytest

from mailserver.imap.shared import Progress
from tests.support.imap_peer import ImapPeer
from tests.support.imap_site import QUICK, serve

REPORT = re.compile(rb'\* OK \[INPROGRESS \("t\d+" (?:(\d+) (\d+)|NIL NIL)\)\] Still working\r\n')
OFTEN = replace(QUICK, progress_interval_s=0.002)


@pytest.mark.parametrize(
    ("progress", "written"),
    [
        (Progress(), b'"t" NIL NIL'),
        (Progress(0, 0), b'"t" NIL NIL'),
        (Progress(0, 5), b'"t" 0 5'),
        (Progress(4, 5), b'"t" 4 5'),
        (Progress(5, 5), b'"t" 4 5'),
    ],
)
def test_progress_is_below_its_goal(progress, written):
    assert progress.encode(b"t") == written


@pytest.mark.parametrize("command", ["SEARCH TEXT zzz", "ESEARCH IN (personal) TEXT zzz"])
async def test_a_long_search_says_how_far_it_is_and_then_answers(command):
    async with serve(OFTEN) as site:
        for number in range(40):
            await site.put(b"Subject: %d\r\n\r\n" % number + b"words and words\r\n" * 4000)
        peer = await ImapPeer.login(site)
        await peer.ok("SELECT INBOX")
        told = await peer.ok(command)
        reports = [found for line in told if (found := REPORT.match(line))]
        await peer.ok("NOOP")
        await peer.close()

    assert len(reports) > 1
    assert all(int(found[1]) < int(found[2]) for found in reports if found[1])
    if command.startswith("SEARCH"):
        assert {int(found[2]) for found in reports if found[1]} == {40}
        assert told[-1] == b"* SEARCH\r\n"


async def test_what_is_quick_says_nothing_of_itself():
    async with serve() as site:
        await site.put(b"Subject: a\r\n\r\nb")
        peer = await ImapPeer.login(site)
        await peer.ok("SELECT INBOX")
        assert await peer.ok("SEARCH TEXT b") == [b"* SEARCH 1\r\n"]
        await peer.close()


async def test_a_fetch_is_never_broken_into():
    async with serve(OFTEN) as site:
        body = b"Subject: a\r\n\r\n" + b"x" * 2_000_000
        for _ in range(3):
            await site.put(body)
        peer = await ImapPeer.login(site)
        await peer.ok("SELECT INBOX")
        lines = await peer.ok("FETCH 1:* BODY.PEEK[]")
        await peer.close()

    assert [line.count(b"INPROGRESS") for line in lines] == [0, 0, 0]
