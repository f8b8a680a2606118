"""Reads what NOTIFY asks for.

Invariants: groups and names are counted; what cannot be told is refused with the events that can.

Source: RFC 5465 §8.
"""

from mailserver.imap import commands_messages as cm
from mailserver.imap import commands_search as cs
from mailserver.imap.errors import BadCommandError, Code, RefusedError
from mailserver.imap.grammar_fetch import read_items
from mailserver.imap.grammar_scopes import MAILBOXES_MAX, read_scope
from mailserver.imap.tokens import Cursor

GROUPS_MAX = 50
"""Event groups of one command."""
_EVENTS = {event.value: event for event in cs.Event}
_UNKNOWN_HERE = frozenset({b"ANNOTATIONCHANGE", b"MAILBOXMETADATACHANGE", b"SERVERMETADATACHANGE"})
_SELECTED = frozenset({cs.Watched.SELECTED, cs.Watched.SELECTED_DELAYED})
_OF_MESSAGES = frozenset({cs.Event.MESSAGE_NEW, cs.Event.MESSAGE_EXPUNGE, cs.Event.FLAG_CHANGE})


def read_notify(cursor: Cursor) -> cs.Notify:
    """``notify = "NOTIFY" SP (notify-add / notify-none)``, from the first space.

    Raises:
        BadCommandError: it is not well formed, or asks for events that go together apart.
        RefusedError: BADEVENT, NOTIFICATIONOVERFLOW.
    """
    cursor.space()
    word = cursor.keyword()
    if word == b"NONE":
        return cs.Notify(())
    if word != b"SET":
        raise BadCommandError
    cursor.space()
    status = cursor.maybe(b"STATUS ")
    groups = [_group(cursor)]
    while not cursor.at_end:
        cursor.space()
        groups.append(_group(cursor))
        _count(groups)
    if sum(group.scope.watched in _SELECTED for group in groups) > 1:
        raise BadCommandError("One group is for the selected mailbox")
    return cs.Notify(tuple(groups), status)


def _count(groups: list[cs.EventGroup]) -> None:
    if (
        len(groups) > GROUPS_MAX
        or sum(len(group.scope.mailboxes) for group in groups) > MAILBOXES_MAX
    ):
        raise RefusedError(Code.NOTIFICATIONOVERFLOW, "That is too much to watch")


def _group(cursor: Cursor) -> cs.EventGroup:
    """``event-group = "(" filter-mailboxes SP events ")"``."""
    cursor.expect(b"(")
    scope = read_scope(cursor, Code.NOTIFICATIONOVERFLOW)
    cursor.space()
    events: frozenset[cs.Event] = frozenset()
    items: tuple[cm.FetchItem, ...] = ()
    if not cursor.maybe(b"NONE"):
        events, items = _events(cursor, scope.watched)
    cursor.expect(b")")
    return cs.EventGroup(scope, events, items)


def _events(
    cursor: Cursor, watched: cs.Watched
) -> tuple[frozenset[cs.Event], tuple[cm.FetchItem, ...]]:
    """``"(" event *(SP event) ")"``; which of them go together: RFC 5465 §5."""
    cursor.expect(b"(")
    events: set[cs.Event] = set()
    items: tuple[cm.FetchItem, ...] = ()
    unknown = False
    while True:
        word = cursor.keyword()
        event = _EVENTS.get(word)
        if event is None and word not in _UNKNOWN_HERE:
            raise BadCommandError("Unknown event")
        unknown = unknown or event is None
        if event is not None:
            events.add(event)
        if event is cs.Event.MESSAGE_NEW and cursor.maybe(b" ("):
            if watched not in _SELECTED:
                raise BadCommandError("Items are for the selected mailbox")
            items = read_items(cursor)
        if cursor.maybe(b")"):
            break
        cursor.space()
    of_messages = events & _OF_MESSAGES
    if of_messages and not {cs.Event.MESSAGE_NEW, cs.Event.MESSAGE_EXPUNGE} <= of_messages:
        raise BadCommandError("MessageNew and MessageExpunge go together")
    if watched in _SELECTED and events - _OF_MESSAGES:
        raise BadCommandError("Message events are for the selected mailbox")
    if unknown:
        raise RefusedError(Code.BADEVENT, "This event is not told here")
    return frozenset(events), items
