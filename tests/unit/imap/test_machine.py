"""The table of states and commands.

Source: RFC 3501 §3.
"""

import pytest

from mailserver.imap import commands as c
from mailserver.imap import commands_messages as cm
from mailserver.imap import commands_search as cs
from mailserver.imap import search_keys as k
from mailserver.imap.machine import (
    ALLOWED,
    COMMANDS,
    State,
    allowed,
    expunge_allowed,
    speaks_numbers,
)
from mailserver.imap.responses import SYSTEM_FLAGS, capabilities, flag_list, mailbox_name, quoted
from mailserver.imap.session import HANDLERS
from mailserver.imap.sets import SAVED, Numbering, SequenceSet
from mailserver.store.model import Flag

ANY = {"Capability", "Noop", "Logout", "Id"}
BEFORE = {"StartTls", "Authenticate", "Login"}
AFTER = {
    "Enable", "Select", "Create", "Delete", "Rename", "Subscribe", "Unsubscribe", "List", "Lsub",
    "Namespace", "Status", "Append", "Idle", "Compress", "GetQuota", "GetQuotaRoot", "GetAcl", "SetAcl", "DeleteAcl", "ListRights", "MyRights", "Notify", "MultiSearch",
}  # fmt: skip
OPEN = {"Check", "Close", "Unselect", "Expunge", "Fetch", "Store", "Copy", "Move", "Search",
        "Sort", "Thread", "Replace", "UidBatches"}  # fmt: skip
TABLE = {
    State.NOT_AUTHENTICATED: ANY | BEFORE,
    State.AUTHENTICATED: ANY | AFTER,
    State.SELECTED: ANY | AFTER | OPEN,
    State.LOGOUT: set(),
}


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_every_command_is_allowed_or_refused_in_every_state(state, command):
    assert allowed(state, command) is (command.__name__ in TABLE[state])


def test_the_table_speaks_of_every_command_and_every_state():
    assert set(COMMANDS) == set(c.Command.__args__)
    assert set(ALLOWED) == set(State)


def test_every_command_is_answered_by_somebody():
    own = {c.Noop, c.Check, c.Logout, c.Enable, c.StartTls, c.Idle, c.Compress}
    assert set(HANDLERS) | own == set(COMMANDS)


@pytest.mark.parametrize(
    ("command", "may"),
    [
        (c.Noop(), True),
        (cs.Search(k.All(), Numbering.SEQUENCE, None), False),
        (cs.Search(k.All(), Numbering.UID, None), True),
        (cm.Fetch(SequenceSet(((1, 1),)), (), Numbering.SEQUENCE, None), False),
        (cm.Copy(SequenceSet(((1, 1),)), "a", Numbering.SEQUENCE), True),
    ],
)
def test_expunge_is_not_told_while_message_numbers_are_spoken(command, may):
    assert expunge_allowed(command) is may


NUMBERED, SAVED_KEY = k.NumberIn(SequenceSet(((1, 1),))), k.NumberIn(SAVED)


@pytest.mark.parametrize(
    ("command", "speaks"),
    [
        (c.Noop(), False),
        (cs.Search(k.All(), Numbering.SEQUENCE, None), True),
        (cs.Search(k.All(), Numbering.UID, None), False),
        (cs.Search(k.Or(k.All(), k.Not(NUMBERED)), Numbering.UID, None), True),
        (cs.Search(k.And((k.All(), SAVED_KEY)), Numbering.UID, None), False),
        (cs.Sort((), NUMBERED, Numbering.UID, None), True),
        (cs.Thread(cs.ThreadAlgorithm.REFERENCES, NUMBERED, Numbering.UID), True),
        (c.Select("a", c.Access.READ_WRITE, False, c.Known(1, 1, None, True)), True),
        (c.Select("a", c.Access.READ_WRITE, False, c.Known(1, 1)), False),
        (c.Expunge(), False),
        (cs.UidBatches(500), False),
    ],
)
def test_what_speaks_in_message_numbers_is_known(command, speaks):
    # RFC 9586 §3
    assert speaks_numbers(command) is speaks


def test_flag_bits_are_those_of_the_store():
    assert {name.decode()[1:].upper(): bit for bit, name in SYSTEM_FLAGS} == {
        flag.name: flag.value for flag in Flag
    }
    assert flag_list(Flag.SEEN | Flag.DELETED, {"b", "a"}) == b"(\\Deleted \\Seen a b)"


def test_credentials_are_never_shown():
    assert "secret" not in repr(c.Login(b"alice", b"secret"))


def test_capabilities_say_what_can_be_done_now():
    def listed(**change):
        facts = {
            "before_login": True,
            "mechanisms": ("PLAIN",),
            "tls_offered": False,
            "compressed": False,
            "limit": 7,
        }
        return set(capabilities(**(facts | change)).split())

    assert {b"AUTH=PLAIN", b"LITERAL-", b"APPENDLIMIT=7"} <= listed()
    assert b"LOGINDISABLED" in listed(mechanisms=(), tls_offered=True)
    assert b"AUTH=PLAIN" not in listed(mechanisms=())
    assert b"STARTTLS" in listed(tls_offered=True)
    assert b"STARTTLS" not in listed(before_login=False)
    assert b"LITERAL+" in listed(before_login=False)


@pytest.mark.parametrize(
    ("octets", "written"),
    [
        (b"a", b'"a"'),
        (b'a"\\', b'"a\\"\\\\"'),
        (b"a\r\n* OK", b"{7}\r\na\r\n* OK"),
        (b"\xc3\xa9", b"{2}\r\n\xc3\xa9"),
        (b"x" * 1001, b"{1001}\r\n" + b"x" * 1001),
    ],
)
def test_strings_cannot_forge_a_response(octets, written):
    assert quoted(octets) == written


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("INBOX", b"INBOX"),
        ("a b", b'"a b"'),
        ("Été", b"&AMk-t&AOk-"),
        ("NIL", b'"NIL"'),
        ("a&", b"a&-"),
    ],
)
def test_folder_names_are_written_as_astrings(name, written):
    assert mailbox_name(name) == written


def test_what_apple_mail_wants_before_it_turns_uidonly_on_is_there():
    words = capabilities(
        before_login=False, mechanisms=(), tls_offered=False, compressed=False, limit=7
    ).split()
    assert {b"PARTIAL", b"UIDBATCHES", b"ENABLE", b"UIDONLY", b"ESEARCH"} <= set(words)
