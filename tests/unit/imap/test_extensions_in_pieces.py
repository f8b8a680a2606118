"""Commands of the extensions, cut into pieces as a network does: the same values come out.

Source: RFC 3502 §7, RFC 5465 §8, RFC 7377 §3, RFC 8474 §6, RFC 8508 §5, RFC 8514 §4.3,
RFC 8970 §3.1, RFC 9394 §3.1, RFC 10022 §4.
"""

import random

import pytest

from mailserver.imap import commands as c
from mailserver.imap import commands_messages as cm
from mailserver.imap import commands_search as cs
from mailserver.imap import search_keys as k
from mailserver.imap.errors import BadCommandError, Code, RefusedError
from mailserver.imap.grammar import READERS, read_command, read_tag
from mailserver.imap.grammar_scopes import MAILBOXES_MAX
from mailserver.imap.grammar_search import SCOPES_MAX
from mailserver.imap.sets import Numbering, SequenceSet, Window
from mailserver.imap.wire import Framer, RawCommand, after_login

ONE = SequenceSet(((1, 1),))
SEQ, UID = Numbering.SEQUENCE, Numbering.UID
NEW_AND_GONE = frozenset({cs.Event.MESSAGE_NEW, cs.Event.MESSAGE_EXPUNGE})
LETTER = b"Subject: a\r\n\r\n)(\r\n"
MESSAGE = c.Appending((), None, LETTER)
COMMANDS: list[tuple[bytes, c.Command]] = [
    (
        b"APPEND Drafts {18+}\r\n" + LETTER + b" (\\Seen) {18+}\r\n" + LETTER,
        c.Append("Drafts", (MESSAGE, c.Appending(("\\Seen",), None, LETTER))),
    ),
    (
        b"UID REPLACE 1 {6+}\r\nDrafts ~{18+}\r\n" + LETTER,
        c.Replace(ONE, "Drafts", MESSAGE, UID),
    ),
    (
        b"UID FETCH 1 (PREVIEW (LAZY) EMAILID THREADID SAVEDATE) (PARTIAL -1:-30)",
        cm.Fetch(
            ONE,
            (cm.Simple.PREVIEW, cm.Simple.EMAILID, cm.Simple.THREADID, cm.Simple.SAVEDATE),
            UID,
            None,
            partial=Window(-1, -30),
        ),
    ),
    (b"STATUS {1+}\r\na (MAILBOXID)", c.Status("a", (c.StatusItem.MAILBOXID,))),
    (
        b"SEARCH RETURN (PARTIAL 1:5 SAVE) EMAILID M1",
        cs.Search(
            k.EmailId(b"M1"),
            SEQ,
            cs.Returns(frozenset({cs.SearchReturn.PARTIAL, cs.SearchReturn.SAVE}), Window(1, 5)),
        ),
    ),
    (b"UIDBATCHES 500 1:7", cs.UidBatches(500, 1, 7)),
    (b"ENABLE UIDONLY", c.Enable((b"UIDONLY",))),
    (
        b"NOTIFY SET STATUS (mailboxes ({5+}\r\nINBOX {1+}\r\na) (MessageNew MessageExpunge))",
        cs.Notify(
            (cs.EventGroup(cs.Scope(cs.Watched.MAILBOXES, ("INBOX", "a")), NEW_AND_GONE),),
            status=True,
        ),
    ),
    (
        b"ESEARCH IN (selected subtree-one {1+}\r\na) RETURN (COUNT) SUBJECT {2+}\r\n)(",
        cs.MultiSearch(
            (cs.Scope(cs.Watched.SELECTED), cs.Scope(cs.Watched.SUBTREE_ONE, ("a",))),
            k.HeaderHas("subject", ")("),
            cs.Returns.of(cs.SearchReturn.COUNT),
        ),
    ),
    (b"ESEARCH ALL", cs.MultiSearch((), k.All(), cs.Returns.of(cs.SearchReturn.ALL))),
]
STREAM = b"".join(b"t " + text + b"\r\n" for text, _ in COMMANDS)


def values(pieces: list[bytes]) -> list[c.Command]:
    framer = Framer(after_login(1000))
    found = []
    for piece in pieces:
        framer.feed(piece)
        while (event := framer.next()) is not None:
            assert isinstance(event, RawCommand)
            found.append(read_command(read_tag(event)[1]))
    return found


def test_fed_whole():
    assert values([STREAM]) == [command for _, command in COMMANDS]


def test_fed_octet_by_octet():
    pieces = [STREAM[at : at + 1] for at in range(len(STREAM))]
    assert values(pieces) == [command for _, command in COMMANDS]


@pytest.mark.parametrize("seed", range(20))
def test_fed_in_random_pieces(seed):
    cut = random.Random(seed)
    pieces, at = [], 0
    while at < len(STREAM):
        size = cut.randint(1, 50)
        pieces.append(STREAM[at : at + size])
        at += size
    assert values(pieces) == [command for _, command in COMMANDS]


@pytest.mark.parametrize("text", [text for text, _ in COMMANDS], ids=lambda text: text[:12])
def test_cut_short_anywhere_it_is_refused_and_nothing_else(text):
    framer = Framer(after_login(1000))
    framer.feed(b"t " + text + b"\r\n")
    whole = framer.next()
    assert isinstance(whole, RawCommand)
    for end in range(len(whole.text)):
        short = RawCommand(whole.text[:end], whole.literals)
        try:
            read_command(read_tag(short)[1])
        except (BadCommandError, RefusedError):
            continue


@pytest.mark.parametrize(("count", "taken"), [(0, True), (1, False), (5000, False)])
def test_filters_and_names_of_esearch_are_bracketed(count, taken):
    scopes = b"ESEARCH IN (" + b" ".join([b"personal"] * (SCOPES_MAX + count)) + b") ALL"
    names = b"ESEARCH IN (mailboxes (a%b)) ALL" % (b" a" * (MAILBOXES_MAX - 1 + count))
    for text in (scopes, names):
        cursor = read_tag(RawCommand(b"t " + text))[1]
        if taken:
            assert isinstance(read_command(cursor), cs.MultiSearch)
        else:
            with pytest.raises(RefusedError) as caught:
                read_command(cursor)
            assert caught.value.code is Code.LIMIT


def test_every_command_class_can_be_read():
    # A command that no reader makes would be in the state table and nowhere else.
    assert len(READERS) >= len(c.Command.__args__)
