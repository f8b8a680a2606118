import asyncio
import email
import email.policy
import hashlib
import sqlite3
from contextlib import closing

import pytest

from mailserver.imap import shared
from mailserver.imap.sets import encode_sets
from mailserver.store.model import Flag
from tests.support.imap_peer import ImapPeer
from tests.support.imap_site import ALICE, serve

BOUNDARY = b"----=_b"
BIG = (
    b"From: a@b.test\r\nTo: c@d.test\r\nSubject: big\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="----=_b"\r\n\r\n------=_b\r\n'
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    b"H=C3=A9moglobine\r\n------=_b\r\nContent-Type: application/octet-stream\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\n"
    + b"QUJDREVGR0g=\r\n" * 200_000
    + b"------=_b--\r\n"
)
SMALL = b"From: a@b.test\r\nSubject: s\r\nDate: Sun, 1 Mar 2026 23:30:00 -0500\r\n\r\nbody\r\n"


def content(line: bytes) -> bytes:
    start = line.index(b"}\r\n") + 3
    size = int(line[line.index(b"{") + 1 : start - 3])
    return line[start : start + size]


async def opened(site, **options) -> ImapPeer:
    peer = await ImapPeer.login(site, **options)
    await peer.ok("SELECT INBOX")
    return peer


async def test_a_large_body_arrives_whole_and_in_every_slice():
    async with serve() as site:
        peer = await ImapPeer.login(site)
        assert b"APPENDUID" in await peer.append("INBOX", BIG)
        await peer.ok("SELECT INBOX")
        (whole,) = await peer.ok("FETCH 1 BODY.PEEK[]")
        assert hashlib.sha256(content(whole)).digest() == hashlib.sha256(BIG).digest()
        (size,) = await peer.ok("FETCH 1 RFC822.SIZE")
        assert size == b"* 1 FETCH (RFC822.SIZE %d)\r\n" % len(BIG)
        for first, count in ((0, 10), (262_143, 2), (262_144, 700_000), (len(BIG) - 5, 100)):
            (line,) = await peer.ok(f"FETCH 1 BODY.PEEK[]<{first}.{count}>")
            assert content(line) == BIG[first : first + count]
        (part,) = await peer.ok("FETCH 1 BODY.PEEK[2]")
        message = email.message_from_bytes(BIG, policy=email.policy.compat32)
        assert content(part) == message.get_payload(1).get_payload().encode()
        await peer.close()


async def test_a_large_literal_without_asking_is_stored_too():
    async with serve() as site:
        peer = await ImapPeer.login(site)
        tag = peer.start(b"APPEND INBOX {%d+}\r\n%b" % (len(BIG), BIG))
        assert (await peer.until(tag))[1].startswith(b"OK [APPENDUID")
        await peer.close()


async def test_many_bodies_are_each_their_own():
    async with serve() as site:
        for number in range(150):
            await site.put(b"Subject: %d\r\n\r\n" % number + b"%d " % number * 2000)
        peer = await opened(site)
        lines = await peer.ok("UID FETCH 1:* (FLAGS BODY.PEEK[TEXT])")
        assert [content(line) for line in lines] == [b"%d " % n * 2000 for n in range(150)]
        await peer.close()


async def test_reading_content_is_in_the_trail_once_a_command_and_looking_at_lists_is_not():
    async with serve() as site:
        for _ in range(3):
            await site.put(SMALL)
        peer = await opened(site)
        await peer.ok("FETCH 1:* (FLAGS ENVELOPE BODYSTRUCTURE RFC822.SIZE)")
        await peer.ok("FETCH 1:2 BODY.PEEK[]")
        await peer.ok("UID FETCH 3 (BODY.PEEK[1] BODY[TEXT])")
        await peer.ok("FETCH 1:3 (PREVIEW SAVEDATE EMAILID)")
        await peer.close()
        events = await site.store.audit.events(subject=f"mailbox:{site.alice.id}")
        reads = [stored.event for stored in events if stored.event.kind == "imap_read"]
        assert sorted(str(event.facts["uids"]) for event in reads) == ["1:2", "1:3", "3"]
        assert {event.actor for event in reads} == {f"mailbox:{site.alice.id}"}


async def test_a_login_is_in_the_trail():
    async with serve() as site:
        peer = await ImapPeer.login(site)
        await peer.close()
        subject = f"mailbox:{site.alice.id}"
        async with asyncio.timeout(5):
            while not (events := await site.store.audit.events(subject=subject)):
                await asyncio.sleep(0.01)
        assert [stored.event.kind for stored in events] == ["imap_login"]


async def test_reading_a_body_marks_it_seen_for_everyone_and_peeking_does_not():
    async with serve() as site:
        await site.put(SMALL)
        one, two = await opened(site), await opened(site)
        await one.ok("FETCH 1 BODY.PEEK[]")
        assert await two.ok("NOOP") == []
        (line,) = await one.ok("FETCH 1 (BODY[TEXT])")
        assert line.startswith(b"* 1 FETCH (FLAGS (\\Seen) BODY[TEXT] {6}")
        assert await two.ok("NOOP") == [b"* 1 FETCH (FLAGS (\\Seen))\r\n"]
        for peer in (one, two):
            await peer.close()


@pytest.mark.parametrize(
    ("program", "uids"),
    [
        ("TEXT hémoglobine", b" 2"),
        ("BODY HÉMOGLOBINE", b" 2"),
        ("BODY QUJD", b""),
        ("TEXT body", b" 1"),
        ("SENTON 1-Mar-2026", b" 1"),
        ("SENTON 2-Mar-2026", b""),
        ("NOT FROM a@b.test", b""),
        ("HEADER Content-Type multipart", b" 2"),
        ("SEEN", b" 2"),
        ("OR SUBJECT big SUBJECT s", b" 1 2"),
        ("LARGER 100000", b" 2"),
    ],
)
async def test_search_reads_decoded_text(program, uids):
    async with serve() as site:
        await site.put(SMALL)
        await site.put(BIG, flags=Flag.SEEN)
        peer = await opened(site)
        literal = program.encode()
        words = literal.split(b" ")
        if not words[-1].isascii():
            literal = b" ".join(words[:-1]) + b" {%d+}\r\n" % len(words[-1]) + words[-1]
        lines = await peer.ok(b"UID SEARCH CHARSET UTF-8 " + literal)
        assert lines == [b"* SEARCH" + uids + b"\r\n"]
        await peer.close()


async def test_an_append_wakes_an_idle_client_within_moments():
    async with serve() as site:
        idler, writer = await opened(site), await ImapPeer.login(site)
        tag = idler.start("IDLE")
        assert (await idler.line()).startswith(b"+")
        for number in (1, 2, 3):
            await writer.append("INBOX", SMALL)
            async with asyncio.timeout(1):
                assert await idler.line() == b"* %d EXISTS\r\n" % number
        idler.send(b"DONE\r\n")
        assert (await idler.until(tag))[1].startswith(b"OK")
        for peer in (idler, writer):
            await peer.close()


async def test_fifty_writers_on_one_folder_give_unique_ascending_uids():
    async with serve() as site:
        watcher = await opened(site)
        writers = [await ImapPeer.login(site) for _ in range(10)]

        async def write(peer: ImapPeer) -> list[int]:
            uids = []
            for _ in range(5):
                reply = await peer.append("INBOX", SMALL)
                uids.append(int(reply.split(b"]")[0].split()[-1]))
            return uids

        given = await asyncio.gather(*map(write, writers))
        assert sorted(uid for uids in given for uid in uids) == list(range(1, 51))
        await watcher.ok("NOOP")
        lines = await watcher.ok("FETCH 1:* UID")
        assert lines == [b"* %d FETCH (UID %d)\r\n" % (n, n) for n in range(1, 51)]
        for peer in (watcher, *writers):
            await peer.close()


async def test_a_folder_deleted_by_another_client_ends_the_session_that_has_it_open():
    async with serve() as site:
        one, two = await ImapPeer.login(site), await ImapPeer.login(site)
        await one.ok("CREATE Gone")
        await one.ok("SELECT Gone")
        await two.ok("DELETE Gone")
        one.start("NOOP")
        assert b"BYE" in await one.eof()
        await two.close()


async def test_stopping_says_bye_to_idle_clients_and_finishes_the_command_in_hand():
    async with serve() as site:
        await site.put(SMALL)
        idler, quiet = await opened(site), await opened(site)
        idler.start("IDLE")
        await idler.line()
    for peer in (idler, quiet):
        assert b"BYE" in await peer.eof()


async def test_a_reader_that_does_not_read_holds_little_and_hinders_nobody():
    async with serve() as site:
        await site.put(BIG)
        slow, other = await opened(site), await ImapPeer.login(site)
        for _ in range(20):
            slow.start("FETCH 1 BODY.PEEK[]")
        for _ in range(20):
            async with asyncio.timeout(1):
                await other.ok("NOOP")
        for peer in (slow, other):
            peer.writer.transport.abort()


async def test_the_same_folder_opened_again_shows_what_changed_meanwhile():
    async with serve() as site:
        for _ in range(3):
            await site.put(SMALL)
        peer = await opened(site)
        await peer.ok("STORE 2 +FLAGS (\\Deleted kept)")
        await peer.ok("EXPUNGE")
        await peer.ok("STORE 1 +FLAGS (\\Flagged)")
        await site.put(SMALL)
        again = await ImapPeer.login(site, ALICE)
        lines = await again.ok("SELECT INBOX")
        assert b"* 3 EXISTS\r\n" in lines
        assert await again.ok("FETCH 1:* (UID FLAGS)") == [
            b"* 1 FETCH (UID 1 FLAGS (\\Flagged))\r\n",
            b"* 2 FETCH (UID 3 FLAGS ())\r\n",
            b"* 3 FETCH (UID 4 FLAGS ())\r\n",
        ]
        for one in (peer, again):
            await one.close()


async def test_a_set_of_many_gaps_is_read_and_is_in_the_trail_whole():
    async with serve() as site:
        for _ in range(2600):
            await site.put(SMALL)
        peer = await opened(site)
        uids = list(range(1, 2601, 2))
        await peer.ok("UID FETCH " + ",".join(map(str, uids)) + " BODY.PEEK[TEXT]")
        await peer.close()
        events = await site.store.audit.events(subject=f"mailbox:{site.alice.id}")
        told = [
            int(number)
            for stored in events
            if stored.event.kind == "imap_read"
            for number in str(stored.event.facts["uids"]).split(",")
        ]
        assert sorted(told) == uids


@pytest.mark.parametrize(
    ("longest", "sets"),
    [
        (7, [b"1,3:5,9"]),
        (6, [b"1,3:5", b"9"]),
        (5, [b"1,3:5", b"9"]),
        (4, [b"1", b"3:5", b"9"]),
    ],
)
def test_a_set_is_cut_where_it_would_be_too_long(longest, sets):
    assert list(encode_sets([1, 3, 4, 5, 9], longest)) == sets
    assert list(encode_sets([], longest)) == []


async def test_a_trail_that_cannot_be_written_ends_no_server_and_loses_no_login(monkeypatch):
    monkeypatch.setattr(shared, "AUDIT_AGAIN_S", 0.05)
    async with serve() as site:
        with closing(sqlite3.connect(site.path / "mail.sqlite3")) as other:
            other.execute(
                "CREATE TRIGGER full BEFORE INSERT ON trail_event"
                " BEGIN SELECT RAISE(ABORT, 'full'); END"
            )
            for _ in range(2):
                peer = await opened(site)
                await asyncio.sleep(0.1)
                await peer.ok("NOOP")
                await peer.close()
            other.execute("DROP TRIGGER full")
        subject = f"mailbox:{site.alice.id}"
        async with asyncio.timeout(10):
            while len(await site.store.audit.events(subject=subject)) < 2:
                await asyncio.sleep(0.05)
