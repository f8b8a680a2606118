"""What NOTIFY is asked, and what is refused. Source: RFC 5465 §5, §8."""

import pytest

from mailserver.imap import commands as c
from mailserver.imap import commands_messages as cm
from mailserver.imap import commands_search as cs
from mailserver.imap.errors import BadCommandError, Code, RefusedError
from mailserver.imap.grammar import read_command, read_tag
from mailserver.imap.grammar_notify import GROUPS_MAX
from mailserver.imap.grammar_scopes import MAILBOXES_MAX
from mailserver.imap.wire import RawCommand

BOTH = frozenset({cs.Event.MESSAGE_NEW, cs.Event.MESSAGE_EXPUNGE})
NONE: frozenset[cs.Event] = frozenset()


def read(text: bytes, *literals: bytes) -> c.Command:
    _, cursor = read_tag(RawCommand(b"a " + text, literals))
    return read_command(cursor)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        (b"NOTIFY NONE", cs.Notify(())),
        (
            b"notify set (selected none)",
            cs.Notify((cs.EventGroup(cs.Scope(cs.Watched.SELECTED), NONE),)),
        ),
        (
            b"NOTIFY SET STATUS (personal (MessageNew MessageExpunge))",
            cs.Notify((cs.EventGroup(cs.Scope(cs.Watched.PERSONAL), BOTH),), status=True),
        ),
        (
            b"NOTIFY SET (selected-delayed (MessageExpunge MessageNew (UID FLAGS)))",
            cs.Notify(
                (
                    cs.EventGroup(
                        cs.Scope(cs.Watched.SELECTED_DELAYED),
                        BOTH,
                        (cm.Simple.UID, cm.Simple.FLAGS),
                    ),
                )
            ),
        ),
        (
            b"NOTIFY SET (subtree {4}\r\n NONE) (mailboxes (inbox a/b) (SubscriptionChange))",
            cs.Notify(
                (
                    cs.EventGroup(cs.Scope(cs.Watched.SUBTREE, ("List",)), NONE),
                    cs.EventGroup(
                        cs.Scope(cs.Watched.MAILBOXES, ("INBOX", "a/b")),
                        frozenset({cs.Event.SUBSCRIPTION_CHANGE}),
                    ),
                )
            ),
        ),
        (
            b"NOTIFY SET (inboxes (MailboxName)) (subscribed NONE)",
            cs.Notify(
                (
                    cs.EventGroup(
                        cs.Scope(cs.Watched.INBOXES), frozenset({cs.Event.MAILBOX_NAME})
                    ),
                    cs.EventGroup(cs.Scope(cs.Watched.SUBSCRIBED), NONE),
                )
            ),
        ),
    ],
)
def test_what_is_watched_is_read(text, command):
    assert read(text, b"List") == command


@pytest.mark.parametrize(
    "text",
    [
        b"NOTIFY",
        b"NOTIFY SET",
        b"NOTIFY SET STATUS",
        b"NOTIFY NONE x",
        b"NOTIFY SET (selected)",
        b"NOTIFY SET (selected ())",
        b"NOTIFY SET (nobody NONE)",
        b"NOTIFY SET (mailboxes NONE)",
        b"NOTIFY SET (mailboxes () NONE)",
        b"NOTIFY SET (personal (Bogus))",
        b"NOTIFY SET (personal (MessageNew))",
        b"NOTIFY SET (personal (FlagChange))",
        b"NOTIFY SET (personal (MessageNew MessageExpunge)",
        b"NOTIFY SET (personal (MessageNew (UID) MessageExpunge))",
        b"NOTIFY SET (selected (MailboxName))",
        b"NOTIFY SET (selected NONE) (selected NONE)",
        b"NOTIFY SET (selected (MessageNew (BOGUS) MessageExpunge))",
    ],
)
def test_what_is_not_well_formed_is_bad(text):
    with pytest.raises(BadCommandError):
        read(text)


@pytest.mark.parametrize(
    "event", [b"AnnotationChange", b"MailboxMetadataChange", b"ServerMetadataChange"]
)
def test_an_event_that_is_not_told_here_is_refused_with_those_that_are(event):
    with pytest.raises(RefusedError) as caught:
        read(b"NOTIFY SET (personal (" + event + b"))")
    assert caught.value.code is Code.BADEVENT


@pytest.mark.parametrize(("count", "taken"), [(0, True), (1, False), (900, False)])
def test_groups_and_names_are_bracketed(count, taken):
    groups = b"NOTIFY SET" + b" (personal NONE)" * (GROUPS_MAX + count)
    names = b"NOTIFY SET (mailboxes (a%b) NONE)" % (b" a" * (MAILBOXES_MAX - 1 + count))
    several = b"NOTIFY SET (mailboxes (a%b) NONE) (subtree a NONE)" % (
        b" a" * (MAILBOXES_MAX - 2 + count)
    )
    for text in (groups, names, several):
        if taken:
            assert isinstance(read(text), cs.Notify)
        else:
            with pytest.raises(RefusedError) as caught:
                read(text)
            assert caught.value.code is Code.NOTIFICATIONOVERFLOW
