"""The commands as clients write them, and what is refused.

Source: RFC 3501 §9, RFC 2971 §3.1, RFC 4731 §3.1, RFC 5161 §3.1.
"""

import time
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.imap import commands as c
from mailserver.imap import commands_messages as cm
from mailserver.imap import commands_search as cs
from mailserver.imap import search_keys as k
from mailserver.imap.errors import BadCommandError, Code, RefusedError
from mailserver.imap.grammar import UntaggedError, read_command, read_tag
from mailserver.imap.grammar_search import DEPTH_MAX, KEYS_MAX
from mailserver.imap.sets import Numbering, SequenceSet, Window
from mailserver.imap.wire import RawCommand

SEQ, UID = Numbering.SEQUENCE, Numbering.UID
ONE = SequenceSet(((1, 1),))
EVERY = SequenceSet(((1, 0),))
NONE: frozenset[bytes] = frozenset()


def read(text: bytes, *literals: bytes) -> c.Command:
    _, cursor = read_tag(RawCommand(b"a " + text, literals))
    return read_command(cursor)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        (b"CAPABILITY", c.Capability()),
        (b"noop", c.Noop()),
        (b"LoGoUt", c.Logout()),
        (b"STARTTLS", c.StartTls()),
        (b"ID NIL", c.Id()),
        (b'ID ("name" "x" "version" NIL)', c.Id()),
        (b"AUTHENTICATE PLAIN", c.Authenticate("PLAIN", None)),
        (b"AUTHENTICATE plain AGEAYg==", c.Authenticate("PLAIN", b"AGEAYg==")),
        (b"AUTHENTICATE PLAIN =", c.Authenticate("PLAIN", b"=")),
        (b'LOGIN a@b "p \\"\\\\"', c.Login(b"a@b", b'p "\\')),
        (b"ENABLE CONDSTORE x", c.Enable((b"CONDSTORE", b"X"))),
        (b"SELECT inbox", c.Select("INBOX", c.Access.READ_WRITE, condstore=False)),
        (b"EXAMINE a (CONDSTORE)", c.Select("a", c.Access.READ_ONLY, condstore=True)),
        (b"CREATE a/b/", c.Create("a/b")),
        (b"DELETE a", c.Delete("a")),
        (b'RENAME a "b c"', c.Rename("a", "b c")),
        (b"SUBSCRIBE a", c.Subscribe("a")),
        (b"UNSUBSCRIBE a", c.Unsubscribe("a")),
        (b'LIST "" *', c.List("", ("*",))),
        (b'LSUB "" "%"', c.Lsub("", "%")),
        (b"NAMESPACE", c.Namespace()),
        (
            b"STATUS a (MESSAGES SIZE)",
            c.Status("a", (c.StatusItem.MESSAGES, c.StatusItem.SIZE)),
        ),
        (b"IDLE", c.Idle()),
        (b"CHECK", c.Check()),
        (b"CLOSE", c.Close()),
        (b"UNSELECT", c.Unselect()),
        (b"EXPUNGE", c.Expunge()),
        (b"UID EXPUNGE 1:*", c.Expunge(EVERY)),
        (b"COPY 1 a", cm.Copy(ONE, "a", SEQ)),
        (b"UID COPY 1 a", cm.Copy(ONE, "a", UID)),
        (b"MOVE 1 a", cm.Move(ONE, "a", SEQ)),
        (b"UID MOVE 1 a", cm.Move(ONE, "a", UID)),
        (
            b"STORE 1 +FLAGS (\\Seen $x)",
            cm.Store(ONE, cm.StoreMode.ADD, ("\\Seen", "$x"), False, SEQ, None),
        ),
        (
            b"UID STORE 1 (UNCHANGEDSINCE 7) -flags.silent \\Seen x",
            cm.Store(ONE, cm.StoreMode.REMOVE, ("\\Seen", "x"), True, UID, 7),
        ),
        (b"STORE 1 FLAGS ()", cm.Store(ONE, cm.StoreMode.REPLACE, (), False, SEQ, None)),
    ],
)
def test_commands_are_read(text, command):
    assert read(text) == command


LETTER = c.Appending((), None, b"x")


@pytest.mark.parametrize(
    ("text", "literals", "command"),
    [
        (b"APPEND a {1}\r\n", 1, c.Append("a", (LETTER,))),
        (b"APPEND a {1}\r\n ~{1+}\r\n {1}\r\n", 3, c.Append("a", (LETTER,) * 3)),
        (
            b"APPEND a (\\Seen) {1}\r\n () UTF8 (~{1}\r\n)",
            2,
            c.Append("a", (replace(LETTER, flags=("\\Seen",)), replace(LETTER, utf8=True))),
        ),
        (b"REPLACE 4 inbox {1}\r\n", 1, c.Replace(SequenceSet(((4, 4),)), "INBOX", LETTER, SEQ)),
        (b"UID REPLACE * a {1}\r\n", 1, c.Replace(SequenceSet(((0, 0),)), "a", LETTER, UID)),
    ],
)
def test_messages_to_add_are_read(text, literals, command):
    # RFC 3502 §7, RFC 8508 §5
    assert read(text, *[b"x"] * literals) == command


@pytest.mark.parametrize(
    "text",
    [
        b"APPEND a {1}\r\n ",
        b"APPEND a {1}\r\n x",
        b"APPEND a {1}\r\n {1}\r\n)",
        b"REPLACE 1:2 a {1}\r\n",
        b"REPLACE 1,2 a {1}\r\n",
        b"REPLACE 0 a {1}\r\n",
        b"REPLACE 1 a",
        b"REPLACE 1 a {1}\r\n {1}\r\n",
        b"SEARCH EMAILID",
        b"SEARCH EMAILID (M1)",
        b"SEARCH EMAILID M.1",
        b"SEARCH THREADID " + b"a" * 256,
        b"SEARCH SAVEDON yesterday",
    ],
)
def test_what_later_extensions_do_not_have_is_bad(text):
    with pytest.raises(BadCommandError):
        read(text, b"x", b"x")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (b"EMAILID M6d99ac3275bb4e", k.EmailId(b"M6d99ac3275bb4e")),
        (b"EMAILID " + b"a" * 255, k.EmailId(b"a" * 255)),
        (b"THREADID T64b478a75b7ea9", k.Nothing()),
        (b"SAVEDATESUPPORTED", k.All()),
        (b"SAVEDBEFORE 1-Jan-2026", k.SavedDate(k.Compare.BEFORE, date(2026, 1, 1))),
        (b'SAVEDON "1-Jan-2026"', k.SavedDate(k.Compare.ON, date(2026, 1, 1))),
        (b"NOT SAVEDSINCE 1-Jan-2026", k.Not(k.SavedDate(k.Compare.SINCE, date(2026, 1, 1)))),
    ],
)
def test_keys_of_later_extensions_are_read(text, key):
    # RFC 8474 §6, RFC 8514 §4.3
    assert read(b"SEARCH " + text) == cs.Search(key, SEQ, None)


def test_append_is_read_with_flags_date_and_literal():
    command = read(b'APPEND INBOX (\\Seen) " 2-Mar-2026 10:00:00 +0100" {3}\r\n', b"\0\r\n")

    at = datetime(2026, 3, 2, 9, tzinfo=UTC)
    assert command == c.Append("INBOX", (c.Appending(("\\Seen",), at, b"\0\r\n"),))


def test_list_extended_is_read():
    command = read(
        b'LIST (SUBSCRIBED RECURSIVEMATCH) "" ("a" b%) RETURN (CHILDREN STATUS (UNSEEN))'
    )

    assert command == c.List(
        "",
        ("a", "b%"),
        frozenset({c.ListSelect.SUBSCRIBED, c.ListSelect.RECURSIVEMATCH}),
        frozenset({c.ListReturn.CHILDREN, c.ListReturn.STATUS}),
        (c.StatusItem.UNSEEN,),
        extended=True,
    )


def section(label, part=(), kind=cm.SectionKind.WHOLE, fields=NONE, partial=None, *, peek=False):
    return cm.BodySection(label, part, kind, frozenset(fields), partial, peek)


@pytest.mark.parametrize(
    ("text", "items"),
    [
        (b"FLAGS", (cm.Simple.FLAGS,)),
        (b"(UID FLAGS UID)", (cm.Simple.UID, cm.Simple.FLAGS)),
        (b"FAST", (cm.Simple.FLAGS, cm.Simple.INTERNALDATE, cm.Simple.SIZE)),
        (b"BODY", (cm.Simple.BODY,)),
        (b"BODY[]", (section(b"BODY[]"),)),
        (b"body.peek[]<5.10>", (section(b"BODY[]", partial=(5, 10), peek=True),)),
        (b"BODY[1.2]", (section(b"BODY[1.2]", (1, 2)),)),
        (b"BODY[TEXT]", (section(b"BODY[TEXT]", kind=cm.SectionKind.TEXT),)),
        (b"BODY[2.mime]", (section(b"BODY[2.MIME]", (2,), cm.SectionKind.MIME),)),
        (
            b'BODY[1.HEADER.FIELDS (From "X-(")]',
            (
                section(
                    b'BODY[1.HEADER.FIELDS (From "X-(")]',
                    (1,),
                    cm.SectionKind.FIELDS,
                    {b"from", b"x-("},
                ),
            ),
        ),
        (b"RFC822.TEXT", (section(b"RFC822.TEXT", kind=cm.SectionKind.TEXT),)),
        (b"RFC822.HEADER", (section(b"RFC822.HEADER", kind=cm.SectionKind.HEADER, peek=True),)),
    ],
)
def test_fetch_items_are_read(text, items):
    assert read(b"FETCH 1 " + text) == cm.Fetch(ONE, items, SEQ, None)


def test_changedsince_always_gives_the_modseq():
    command = read(b"UID FETCH 1 FLAGS (CHANGEDSINCE 12)")

    assert command == cm.Fetch(ONE, (cm.Simple.FLAGS, cm.Simple.MODSEQ), UID, 12)


@pytest.mark.parametrize(
    ("modifiers", "since", "vanished", "partial"),
    [
        (b"PARTIAL 1:50", None, False, Window(1, 50)),
        (b"partial -1:-4294967295", None, False, Window(-1, -4294967295)),
        (b"PARTIAL 500:400", None, False, Window(500, 400)),
        (b"PARTIAL 1:3 CHANGEDSINCE 7", 7, False, Window(1, 3)),
        (b"CHANGEDSINCE 7 VANISHED PARTIAL -1:-3", 7, True, Window(-1, -3)),
    ],
)
def test_modifiers_of_uid_fetch_come_in_whichever_order(modifiers, since, vanished, partial):
    # RFC 9394 §3.3
    items = (cm.Simple.FLAGS, *([cm.Simple.MODSEQ] if since else []))
    expected = cm.Fetch(ONE, items, UID, since, vanished, partial)
    assert read(b"UID FETCH 1 FLAGS (" + modifiers + b")") == expected


@pytest.mark.parametrize(
    "text",
    [
        b"FETCH 1 FLAGS (PARTIAL 1:2)",
        b"UID FETCH 1 FLAGS (PARTIAL 1:2 PARTIAL 1:2)",
        b"UID FETCH 1 FLAGS (VANISHED)",
        b"UID FETCH 1 FLAGS ()",
        b"UID FETCH 1 FLAGS (PARTIAL 1:-2)",
        b"UID FETCH 1 FLAGS (PARTIAL -1:2)",
        b"UID FETCH 1 FLAGS (PARTIAL 0:2)",
        b"UID FETCH 1 FLAGS (PARTIAL 1:4294967296)",
        b"UID FETCH 1 FLAGS (PARTIAL 1:*)",
        b"UID FETCH 1 FLAGS (PARTIAL 1)",
        b"SEARCH RETURN (PARTIAL) ALL",
        b"SEARCH RETURN (PARTIAL 1:2 ALL) ALL",
        b"SEARCH RETURN (PARTIAL 1:2 PARTIAL 3:4) ALL",
        b"UIDBATCHES",
        b"UIDBATCHES 0",
        b"UIDBATCHES 4294967296",
        b"UIDBATCHES 500 1",
        b"UIDBATCHES 500 2:1",
        b"UIDBATCHES 500 1:2 3",
    ],
)
def test_windows_and_batches_that_are_none_are_bad(text):
    with pytest.raises(BadCommandError):
        read(text)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        (b"UIDBATCHES 500", cs.UidBatches(500)),
        (b"uidbatches 4294967295 1:1", cs.UidBatches(4294967295, 1, 1)),
        (b"UIDBATCHES 2000 3:7", cs.UidBatches(2000, 3, 7)),
    ],
)
def test_batches_are_read(text, command):
    # RFC 10022 §4
    assert read(text) == command


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (b"ALL", k.All()),
        (b"UNSEEN", k.Not(k.HasFlag("\\Seen"))),
        (b"NEW", k.Nothing()),
        (b"1:*", k.NumberIn(EVERY)),
        (b"UID 1", k.UidIn(ONE)),
        (b"KEYWORD $x", k.HasFlag("$x")),
        (b"UNKEYWORD $x", k.Not(k.HasFlag("$x"))),
        (
            b'FROM a SUBJECT "b c"',
            k.And((k.HeaderHas("from", "a"), k.HeaderHas("subject", "b c"))),
        ),
        (b'HEADER X-Y ""', k.HeaderHas("x-y", "")),
        (
            b"OR SEEN (DELETED TEXT x)",
            k.Or(k.HasFlag("\\Seen"), k.And((k.HasFlag("\\Deleted"), k.TextHas("x")))),
        ),
        (b"NOT BODY x", k.Not(k.BodyHas("x"))),
        (b"SINCE 1-Feb-2026", k.InternalDate(k.Compare.SINCE, date(2026, 2, 1))),
        (b'SENTBEFORE "01-Feb-2026"', k.SentDate(k.Compare.BEFORE, date(2026, 2, 1))),
        (b"LARGER 5 SMALLER 9", k.And((k.Larger(5), k.Smaller(9)))),
        (b"MODSEQ 7", k.ModseqFrom(7)),
        (b'MODSEQ "/flags/\\\\draft" all 7', k.ModseqFrom(7)),
        (b"CHARSET UTF-8 TEXT caf\xc3\xa9", None),
    ],
)
def test_search_programs_are_read(text, key):
    if key is None:
        with pytest.raises(BadCommandError):
            read(b"SEARCH " + text)
    else:
        assert read(b"SEARCH " + text) == cs.Search(key, SEQ, None)


def test_search_text_in_utf8_is_read_from_strings_and_literals():
    quoted = read('UID SEARCH CHARSET UTF-8 TEXT "café"'.encode())
    literal = read(b"UID SEARCH CHARSET UTF-8 TEXT {5}\r\n", "café".encode())

    assert quoted == literal == cs.Search(k.TextHas("café"), UID, None, names_charset=True)


def test_search_return_options_are_read():
    command = read(b"SEARCH RETURN () ALL")
    assert command == cs.Search(k.All(), SEQ, cs.Returns.of(cs.SearchReturn.ALL))
    command = read(b"UID SORT RETURN (PARTIAL -1:-9 COUNT) (DATE) UTF-8 ALL")
    options = frozenset({cs.SearchReturn.PARTIAL, cs.SearchReturn.COUNT})
    assert command.returns == cs.Returns(options, Window(-1, -9))


def test_unknown_charset_is_refused_with_the_ones_known():
    with pytest.raises(RefusedError) as caught:
        read(b"SEARCH CHARSET KOI8-R ALL")
    assert caught.value.code is Code.BADCHARSET


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"BOGUS",
        b"NOOP x",
        b"NOOP ((((",
        b"NOOP\n",
        b"CAPABILITY ",
        b"LOGIN a",
        b"LOGIN a b c",
        b"LOGIN a b\0",
        b"SELECT",
        b"SELECT a (BOGUS)",
        b"LIST",
        b'LIST ""',
        b'LIST (RECURSIVEMATCH) "" *',
        b'LIST (BOGUS) "" *',
        b'LIST "" * RETURN (BOGUS)',
        b"STATUS a ()",
        b"STATUS a (BOGUS)",
        b"FETCH 1",
        b"FETCH 0 FLAGS",
        b"FETCH 1 ()",
        b"FETCH 1 BOGUS",
        b"FETCH 1 (FLAGS",
        b"FETCH 1 BODY[",
        b"FETCH 1 BODY[0]",
        b"FETCH 1 BODY[1.]",
        b"FETCH 1 BODY[MIME]",
        b"FETCH 1 BODY[HEADER.FIELDS ()]",
        b"FETCH 1 BODY[HEADER.FIELDS]",
        b"FETCH 1 BODY[]<1>",
        b"FETCH 1 BODY[]<1.0>",
        b"FETCH 1 FLAGS (CHANGEDSINCE 0)",
        b"FETCH 1 BODY[" + b"1." * 10_000 + b"1]",
        b"STORE 1 BOGUS (x)",
        b"STORE 1 FLAGS. (x)",
        b"STORE 1 FLAGS (x",
        b"STORE 1 FLAGS (" + b"x " * 101 + b"y)",
        b"COPY 1",
        b"SEARCH",
        b"SEARCH BOGUS",
        b"SEARCH FROM",
        b"SEARCH OR SEEN",
        b"SEARCH (SEEN",
        b"SEARCH SINCE 31-Feb-2026",
        b"SEARCH RETURN (BOGUS) ALL",
        b"SEARCH " + b"(" * 4000,
        b"SEARCH " + b")" * 4000,
        b"SEARCH " + b"NOT " * 10_000 + b"ALL",
        b"SEARCH " + b"OR " * 10_000 + b"ALL",
        b"UID BOGUS 1",
        b"ID (" + b'"a" "b" ' * 31 + b'"a" "b")',
        b"APPEND INBOX text",
    ],
)
def test_what_breaks_the_grammar_is_bad_and_quickly_so(text):
    started = time.process_time()
    with pytest.raises(BadCommandError):
        read(text)
    assert time.process_time() - started < 0.2


@pytest.mark.parametrize(("depth", "accepted"), [(DEPTH_MAX, True), (DEPTH_MAX + 1, False)])
@pytest.mark.parametrize("shape", ["not", "brackets"])
def test_search_nesting_is_bracketed(depth, accepted, shape):
    text = b"NOT " * depth + b"ALL" if shape == "not" else b"(" * depth + b"ALL" + b")" * depth
    if accepted:
        read(b"SEARCH " + text)
    else:
        with pytest.raises(BadCommandError):
            read(b"SEARCH " + text)


@pytest.mark.parametrize(("count", "accepted"), [(KEYS_MAX, True), (KEYS_MAX + 1, False)])
def test_search_keys_are_bracketed(count, accepted):
    text = b"SEARCH" + b" ALL" * count
    if accepted:
        read(text)
    else:
        with pytest.raises(BadCommandError):
            read(text)


@pytest.mark.parametrize(
    "text", [b"", b"+ NOOP", b"a", b"(a) NOOP", b"\xff NOOP", b" NOOP", b"x" * 65 + b" NOOP"]
)
def test_a_line_without_a_tag_is_refused_as_such(text):
    with pytest.raises(UntaggedError):
        read_tag(RawCommand(text))


@given(st.binary(max_size=300))
def test_any_line_is_read_or_refused(text):
    try:
        read(text.replace(b"{", b"("))
    except (BadCommandError, RefusedError):
        return


@given(
    st.lists(
        st.sampled_from(
            [
                b"FETCH",
                b"1",
                b"(",
                b")",
                b"BODY[",
                b"]",
                b" ",
                b"HEADER.FIELDS",
                b"<0.1>",
                b"SEARCH",
                b"OR",
                b"NOT",
                b'"',
                b"*",
                b"1:2",
                b"UID",
                b"FLAGS",
            ]
        ),
        max_size=20,
    )
)
def test_any_mixture_of_tokens_is_read_or_refused(tokens):
    try:
        read(b"".join(tokens))
    except (BadCommandError, RefusedError):
        return
