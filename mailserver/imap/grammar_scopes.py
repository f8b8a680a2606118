"""Reads of which mailboxes a NOTIFY or an ESEARCH speaks.

Source: RFC 5465 §8 ``filter-mailboxes``, RFC 7377 §3.
"""

from mailserver.imap import commands_search as cs
from mailserver.imap.errors import BadCommandError, Code, RefusedError
from mailserver.imap.tokens import Cursor

MAILBOXES_MAX = 500
"""Mailboxes named in one command."""
_WATCHED = {watched.value: watched for watched in cs.Watched}
_NAMED = frozenset({cs.Watched.SUBTREE, cs.Watched.SUBTREE_ONE, cs.Watched.MAILBOXES})


def read_scope(cursor: Cursor, refusal: Code) -> cs.Scope:
    """``filter-mailboxes``; too many names are refused with a code."""
    watched = _WATCHED.get(cursor.keyword())
    if watched is None:
        raise BadCommandError("Unknown filter")
    if watched not in _NAMED:
        return cs.Scope(watched)
    if not cursor.maybe(b" ("):
        return cs.Scope(watched, (cursor.mailbox(),))
    names = [cursor.bare_mailbox()]
    while not cursor.maybe(b")"):
        names.append(cursor.mailbox())
        if len(names) > MAILBOXES_MAX:
            raise RefusedError(refusal, "Too many mailboxes")
    return cs.Scope(watched, tuple(names))
