"""Every limit of what an IMAP client may send: at it, one over, far over.

The limits of connections and logins are in test_imap_threats, those of watched and searched
mailboxes beside their grammars. Source: RFC 7888 §4, §5, RFC 7889 §2, threats I1 to I5.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from mailserver.imap.appending import KEYWORD_MAX
from mailserver.imap.errors import BadCommandError, LineTooLongError
from mailserver.imap.grammar import ID_PAIRS_MAX, PATTERNS_MAX, read_command, read_tag
from mailserver.imap.grammar_fetch import FIELDS_MAX, ITEMS_MAX, PART_LEVELS_MAX
from mailserver.imap.grammar_search import CRITERIA_MAX, DEPTH_MAX, KEYS_MAX
from mailserver.imap.names import LEVELS_MAX, NAME_MAX
from mailserver.imap.tokens import FLAGS_MAX, TAG_MAX
from mailserver.imap.wire import (
    BEFORE_LOGIN,
    LITERALS_PER_COMMAND,
    Continue,
    Framer,
    RawCommand,
    TooBig,
    after_login,
)
from tests.support.imap_peer import ImapPeer
from tests.support.imap_site import QUICK, serve

FAR = 20
"""Far over is so many times the limit."""
BRACKET = pytest.mark.parametrize(
    ("over", "taken"),
    [(lambda most: most, True), (lambda most: most + 1, False), (lambda most: most * FAR, False)],
    ids=["at", "one-over", "far-over"],
)
Over = Callable[[int], int]


def read(text: bytes) -> None:
    read_command(read_tag(RawCommand(text))[1])


def listed(word: bytes, count: int) -> bytes:
    return b" ".join([word] * count)


GRAMMAR: dict[str, tuple[int, Callable[[int], bytes]]] = {
    "tag": (TAG_MAX, lambda n: b"t" * n + b" NOOP"),
    "patterns of LIST": (PATTERNS_MAX, lambda n: b't LIST "" (%b)' % listed(b"a", n)),
    "fields of ID": (ID_PAIRS_MAX, lambda n: b"t ID (%b)" % listed(b'"a" "b"', n)),
    "flags of STORE in brackets": (
        FLAGS_MAX,
        lambda n: b"t STORE 1 FLAGS (%b)" % listed(b"a", n),
    ),
    "flags of STORE without": (FLAGS_MAX, lambda n: b"t STORE 1 FLAGS %b" % listed(b"a", n)),
    "uses of CREATE": (FLAGS_MAX, lambda n: b"t CREATE a (USE (%b))" % listed(b"\\Sent", n)),
    "levels of a section": (
        PART_LEVELS_MAX,
        lambda n: b"t FETCH 1 BODY[%b]" % b".".join([b"1"] * n),
    ),
    "levels of a binary section": (
        PART_LEVELS_MAX,
        lambda n: b"t FETCH 1 BINARY[%b]" % b".".join([b"1"] * n),
    ),
    "header fields": (
        FIELDS_MAX,
        lambda n: b"t FETCH 1 BODY[HEADER.FIELDS (%b)]" % listed(b"a", n),
    ),
    "items of FETCH": (
        ITEMS_MAX,
        lambda n: b"t FETCH 1 (%b)" % b" ".join(b"BODY[%d]" % at for at in range(1, n + 1)),
    ),
    "criteria of SORT": (CRITERIA_MAX, lambda n: b"t SORT (%b) UTF-8 ALL" % listed(b"DATE", n)),
    "keys": (KEYS_MAX, lambda n: b"t SEARCH %b" % listed(b"ALL", n)),
    "keys of ESEARCH": (KEYS_MAX, lambda n: b"t ESEARCH %b" % listed(b"ALL", n)),
    "keys of THREAD": (
        KEYS_MAX,
        lambda n: b"t THREAD REFERENCES UTF-8 %b" % listed(b"ALL", n),
    ),
    "nesting of NOT": (DEPTH_MAX, lambda n: b"t SEARCH " + b"NOT " * n + b"ALL"),
    "nesting of OR": (DEPTH_MAX, lambda n: b"t SEARCH " + b"OR ALL " * n + b"ALL"),
    "nesting of brackets": (DEPTH_MAX, lambda n: b"t SEARCH " + b"(" * n + b"ALL" + b")" * n),
    "nesting of both": (
        DEPTH_MAX,
        lambda n: (
            b"t SEARCH " + b"(NOT " * (n // 2) + b"(" * (n % 2) + b"ALL" + b")" * (-(-n // 2))
        ),
    ),
    "a number": (4294967295, lambda n: b"t FETCH %d FLAGS" % n),
    "the end of a set": (4294967295, lambda n: b"t FETCH 1:%d FLAGS" % n),
    "a modseq": (9223372036854775807, lambda n: b"t SEARCH MODSEQ %d" % n),
    "an identifier": (255, lambda n: b"t SEARCH EMAILID " + b"a" * n),
}


@BRACKET
@pytest.mark.parametrize("name", GRAMMAR)
def test_what_a_command_may_name_is_bracketed(name, over: Over, taken):
    most, text = GRAMMAR[name]
    if taken:
        read(text(over(most)))
    else:
        with pytest.raises(BadCommandError):
            read(text(over(most)))


@pytest.mark.parametrize("opening", [b"(", b")", b"[", b"]", b"{", b"}", b"<", b">"])
@pytest.mark.parametrize("command", [b"NOOP ", b"SEARCH ", b"LIST ", b"FETCH 1 ", b"NOTIFY SET "])
def test_no_bracket_of_any_kind_nests_beyond_the_limit(opening, command):
    # CVE-2026-42006: a fix that knew one kind only.
    for count in (DEPTH_MAX + 1, 4000, 30_000):
        with pytest.raises(BadCommandError):
            read(b"t " + command + opening * count)


@BRACKET
@pytest.mark.parametrize("limits", [BEFORE_LOGIN, after_login(1000)], ids=["before", "after"])
def test_a_line_is_bracketed_before_and_after_login(limits, over: Over, taken):
    framer = Framer(limits)
    framer.feed(b"a" * (over(limits.text_octets) - 2) + b"\r\n")
    if taken:
        assert isinstance(framer.next(), RawCommand)
    else:
        with pytest.raises(LineTooLongError):
            framer.next()


@BRACKET
def test_the_lines_of_one_command_are_bracketed_together(over: Over, taken):
    limits = after_login(1000)
    framer = Framer(limits)
    piece = b"t SEARCH SUBJECT {1+}\r\nx "
    framer.feed(piece)
    room = over(limits.text_octets) - (len(piece) - 1) - 2
    framer.feed(b"y" * room + b"\r\n")
    if taken:
        assert isinstance(framer.next(), RawCommand)
    else:
        with pytest.raises(LineTooLongError):
            framer.next()


@BRACKET
@pytest.mark.parametrize(
    ("limits", "command"),
    [
        (BEFORE_LOGIN, b"t LOGIN "),
        (after_login(1000), b"t SEARCH SUBJECT "),
        (after_login(1000), b"t NOTIFY SET (subtree "),
    ],
    ids=["before", "after", "notify"],
)
def test_a_literal_is_bracketed_before_and_after_login(limits, command, over: Over, taken):
    framer = Framer(limits)
    framer.feed(command + b"{%d}\r\n" % over(limits.literal_octets))
    assert framer.next() == (Continue() if taken else TooBig(b"t"))


@BRACKET
def test_literals_of_one_command_are_counted(over: Over, taken):
    framer = Framer(after_login(100_000))
    framer.feed(b"t SEARCH " + b"{1+}\r\nx " * over(LITERALS_PER_COMMAND) + b"\r\n")
    event = framer.next()
    assert isinstance(event, RawCommand) is taken
    assert taken or event == TooBig(b"t")


@BRACKET
def test_the_messages_of_one_append_share_their_limit(over: Over, taken):
    most = 1000 + after_login(1000).literal_octets
    framer = Framer(after_login(1000))
    whole, rest = divmod(over(most), 1000)
    if whole >= LITERALS_PER_COMMAND:
        whole = LITERALS_PER_COMMAND - 1
    framer.feed(b"t APPEND x " + (b"{1000+}\r\n" + b"y" * 1000 + b" ") * whole)
    framer.feed(b"{%d+}\r\n%b\r\n" % (rest, b"z" * rest))
    event = framer.next()
    assert isinstance(event, RawCommand) is taken


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (1000, b"OK [APPENDUID"),
        (1001, b"NO [TOOBIG]"),
        (2000, b"NO [TOOBIG]"),
    ],
)
async def test_a_message_over_the_limit_is_thrown_away_and_the_stream_stays_in_step(size, said):
    async with serve(replace(QUICK, append_octets=1000)) as site:
        peer = await ImapPeer.login(site)
        head = b"Subject: x\r\n\r\n"
        tag = peer.start(b"APPEND INBOX {%d+}\r\n%b" % (size, head + b"y" * (size - len(head))))
        _, reply = await peer.until(tag)
        assert reply.startswith(said)
        assert await peer.ok("STATUS INBOX (MESSAGES)") == [
            b"* STATUS INBOX (MESSAGES %d)\r\n" % said.startswith(b"OK")
        ]
        await peer.close()


@pytest.mark.parametrize("size", [2001, 1_000_000, 10**18])
async def test_a_message_over_twice_the_limit_ends_the_connection(size):
    async with serve(replace(QUICK, append_octets=1000)) as site:
        peer = await ImapPeer.login(site)
        peer.start(b"APPEND INBOX {%d+}" % size)
        said = await peer.eof()
        assert b"* BYE" in said
        assert b"OK" not in said


@pytest.mark.parametrize("size", [1001, 2001, 10**18])
async def test_a_message_that_is_announced_is_refused_before_it_comes(size):
    async with serve(replace(QUICK, append_octets=1000)) as site:
        peer = await ImapPeer.login(site)
        for command in (b"APPEND INBOX", b"APPEND INBOX (\\Seen)"):
            _, reply = await peer.do(command + b" {%d}" % size)
            assert reply.startswith(b"NO [TOOBIG]")
        await peer.ok("NOOP")
        await peer.close()


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("x" * NAME_MAX, True),
        ("x" * (NAME_MAX + 1), False),
        ("x" * NAME_MAX * FAR, False),
        ("/".join("x" * LEVELS_MAX), True),
        ("/".join("x" * (LEVELS_MAX + 1)), False),
        ("/".join("x" * LEVELS_MAX * FAR), False),
    ],
    ids=["length-at", "length-over", "length-far", "levels-at", "levels-over", "levels-far"],
)
async def test_names_are_bracketed(name, taken):
    async with serve() as site:
        peer = await ImapPeer.login(site)
        await peer.ok("CREATE Before")
        for command in (f"RENAME Before {name}", f"CREATE {name}"):
            _, reply = await peer.do(command)
            assert reply.startswith(b"OK" if taken else b"NO [CANNOT]")
            if taken:
                await peer.ok(f"DELETE {name}")
        await peer.close()


@BRACKET
async def test_keywords_are_bracketed(over: Over, taken):
    async with serve() as site:
        await site.put(b"Subject: x\r\n\r\ny")
        peer = await ImapPeer.login(site)
        await peer.ok("SELECT INBOX")
        _, reply = await peer.do("STORE 1 +FLAGS (" + "k" * over(KEYWORD_MAX) + ")")
        assert reply.startswith(b"OK" if taken else b"NO [LIMIT]")
        await peer.close()


async def test_commands_that_cannot_be_read_are_counted_after_login_too():
    async with serve(replace(QUICK, bad_commands=5)) as site:
        peer = await ImapPeer.login(site)
        for _ in range(4):
            assert (await peer.do("BOGUS"))[1].startswith(b"BAD")
        await peer.ok("NOOP")  # one that is right begins the count anew
        for _ in range(5):
            assert (await peer.do("BOGUS"))[1].startswith(b"BAD")
        assert await peer.eof() == b"* BYE Too many errors\r\n"
