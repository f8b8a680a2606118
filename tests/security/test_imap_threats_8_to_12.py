"""Threats I5 and I8 to I12 against a running server, and that each of I1 to I12 has its tests.

The budget of searches (I8) is tested in integration/imap/test_search_index, bombs in COMPRESS (I9)
in integration/imap/test_compress too. Source: RFC 9051 §6.4.4, RFC 4978 §3, RFC 7377 §2.
"""

import base64
import re
import time
import zlib
from pathlib import Path

import pytest

from mailserver.imap.ordering import BaseSubject, Threaded, encode_threads, references
from tests.support.imap_peer import ImapPeer
from tests.support.imap_site import BOB, serve

TESTS = Path(__file__).parents[1]
ONE_KB_OF_BOMB = 1024
ODD = [
    b"FETCH 1 BODY[",
    b"FETCH 1 BODY[]<",
    b"FETCH 1 (((((",
    b"FETCH 1 BODY[HEADER.FIELDS (",
    b'SEARCH SUBJECT "',
    b'SEARCH SUBJECT "\\',
    b"STORE 1 FLAGS (\\",
    b"LIST (((",
    b"NOTIFY SET (mailboxes (((",
    b"ESEARCH IN (subtree (",
    b"UID FETCH 1 (FLAGS) (PARTIAL",
    b"APPEND INBOX (\\Seen",
    b"\xff\xfe\xfd",
    b"FETCH 1 BODY[1." + b"1." * 5000 + b"]",
    b"SORT (" + b"REVERSE " * 5000 + b"DATE) UTF-8 ALL",
]


@pytest.mark.parametrize("command", ODD, ids=range(len(ODD)))
async def test_i5_no_half_of_a_command_keeps_the_parser(command):
    async with serve() as site:
        peer = await ImapPeer.login(site)
        await peer.ok("SELECT INBOX")
        started = time.process_time()
        _, reply = await peer.do(command)
        assert reply.startswith(b"BAD")
        assert time.process_time() - started < 1
        await peer.ok("NOOP")
        await peer.close()


def test_i8_a_circle_of_a_hundred_thousand_references_is_threaded_in_a_moment():
    count = 100_000
    messages = [
        Threaded(n + 1, f"<{n}@x>", (f"<{(n + 1) % count}@x>",), n, BaseSubject(f"s{n}", False))
        for n in range(count)
    ]
    started = time.process_time()
    said = encode_threads(references(messages))

    assert time.process_time() - started < 15
    assert len(re.findall(rb"\d+", said)) == count


@pytest.mark.parametrize("what", ["line", "literal", "message"])
async def test_i9_what_inflates_counts_as_if_it_had_come_so(what):
    async with serve() as site:
        peer = await ImapPeer.login(site)
        await peer.ok("COMPRESS DEFLATE")
        squeezer = zlib.compressobj(wbits=-15)
        lead = {
            "line": b"a NOOP ",
            "literal": b"a SEARCH SUBJECT {900000000+}\r\n",
            "message": b"a APPEND INBOX {73400321+}\r\n",
        }[what]
        octets = squeezer.compress(lead + b"x" * 100_000_000)
        octets += squeezer.flush(zlib.Z_SYNC_FLUSH)
        assert len(octets) < 200 * ONE_KB_OF_BOMB
        started = time.process_time()
        peer.send(octets)
        said = zlib.decompressobj(wbits=-15).decompress(await peer.eof())

        assert b"* BYE" in said
        assert time.process_time() - started < 5


async def test_i10_an_altered_ciphertext_changes_no_metadata():
    body = bytearray(range(256)) * 40
    head = (
        b"From: a@b.test\r\nSubject: secret\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name="smime.p7m"\r\n'
        b"Content-Transfer-Encoding: base64\r\n\r\n"
    )
    async with serve() as site:
        for at in (None, 0, 5000, len(body) - 1):
            altered = bytearray(body)
            if at is not None:
                altered[at] ^= 0xFF
            packed = base64.encodebytes(bytes(altered)).replace(b"\n", b"\r\n")
            await site.put(head + packed)
        peer = await ImapPeer.login(site)
        await peer.ok("SELECT INBOX")
        lines = await peer.ok("FETCH 1:* (ENVELOPE BODYSTRUCTURE BODY RFC822.SIZE PREVIEW)")
        told = {re.sub(rb"^\* \d+ ", b"", line) for line in lines}
        found = await peer.ok('SEARCH RETURN (COUNT) TEXT "secret"')
        await peer.close()

    assert len(lines) == 4
    assert len(told) == 1
    assert b'PREVIEW ""' in told.pop()
    assert found[0].endswith(b"COUNT 4\r\n")


@pytest.mark.parametrize(
    "command",
    [
        "SELECT {}",
        "EXAMINE {}",
        "STATUS {} (MESSAGES UIDNEXT)",
        "STATUS {} (MAILBOXID)",
        "DELETE {}",
        "RENAME {} Mine",
        "SUBSCRIBE {}",
        "GETQUOTAROOT {}",
        'LIST "" {}',
        "LIST {} *",
        'LIST "" {} RETURN (STATUS (MESSAGES))',
        "ESEARCH IN (mailboxes {}) ALL",
        "ESEARCH IN (subtree {}) RETURN (COUNT) ALL",
        "NOTIFY SET STATUS (mailboxes {} (MessageNew MessageExpunge))",
        "APPEND {} {{3+}}\r\nxyz",
    ],
)
async def test_i11_what_others_have_is_answered_like_what_is_not_there(command):
    async with serve() as site:
        other = await ImapPeer.login(site, BOB)
        await other.ok("CREATE Bob-only")
        await site.put(b"Subject: bob\r\n\r\ny", address=BOB, folder="Bob-only")
        peer = await ImapPeer.login(site)
        answers = [await peer.do(command.format(name)) for name in ("Bob-only", "Not-there")]
        for one in (peer, other):
            await one.close()

    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "command",
    [
        'GENURLAUTH "imap://bob/INBOX;uid=1" INTERNAL',
        'URLFETCH "imap://bob/INBOX;uid=1"',
        "RESETKEY",
        "LOCALDELETE INBOX",
        "XRESTORE INBOX",
    ],
)
async def test_i11_keys_to_others_mail_are_not_offered(command):
    async with serve() as site:
        peer = await ImapPeer.login(site)
        (told,) = await peer.ok("CAPABILITY")
        assert b"URLAUTH" not in told
        assert (await peer.do(command))[1].startswith(b"BAD")
        await peer.close()


async def test_i11_an_identifier_of_anothers_message_finds_nothing():
    async with serve() as site:
        await site.put(b"Subject: bob\r\n\r\ny", address=BOB)
        await site.put(b"Subject: mine\r\n\r\ny")
        peer = await ImapPeer.login(site)
        await peer.ok("SELECT INBOX")
        (own,) = await peer.ok("FETCH 1 EMAILID")
        assert own == b"* 1 FETCH (EMAILID (M2))\r\n"
        assert await peer.ok("SEARCH EMAILID M1") == [b"* SEARCH\r\n"]
        assert await peer.ok("ESEARCH IN (personal) EMAILID M1") == []
        await peer.close()


INJECTED = b'x" OR ALL\r\nA99 DELETE Victim\r\n'


@pytest.mark.parametrize(
    "command", [b"SEARCH SUBJECT %b", b"CREATE %b", b'LIST "" %b', b"UID SEARCH TEXT %b"]
)
async def test_i12_what_stands_in_a_literal_is_never_a_command(command):
    async with serve() as site:
        peer = await ImapPeer.login(site)
        await peer.ok("CREATE Victim")
        await peer.ok("SELECT INBOX")
        literal = b"{%d+}\r\n%b" % (len(INJECTED), INJECTED)
        tag = peer.start(command % literal)
        lines, _ = await peer.until(tag)
        assert not any(line.startswith(b"A99") for line in lines)
        assert len(await peer.ok('LIST "" Victim')) == 1
        # In quotes a line end is no part of a string: the rest is a command of its own, and bad.
        await peer.ok("NOOP")
        await peer.close()


def test_i12_the_webmail_speaks_no_imap():
    # Its search goes to the store as a value: there is no command to break out of.
    imports = re.compile(r"^\s*(?:from|import) \S*imap", re.MULTILINE)
    sources = (TESTS.parent / "mailserver" / "webmail").glob("*.py")
    assert [file.name for file in sources if imports.search(file.read_text("utf-8"))] == []


def test_every_threat_of_imap_has_a_test_of_its_name():
    named = set()
    for file in TESTS.rglob("test_*.py"):
        for match in re.finditer(r"def test((?:_i\d+)+)_", file.read_text("utf-8")):
            named |= {int(number) for number in re.findall(r"\d+", match[1])}
    assert named == set(range(1, 13))
