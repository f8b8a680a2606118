"""Reads of which mailboxes a NOTIFY or an ESEARCH speaks.

Source: RFC 5465 §8 ``filter-mailboxes``, RFC 7377 §3.
"""

from mailserver.imap import commands as c
from mailserver.imap.errors import BadCommandError, Code, RefusedError
from mailserver.imap.tokens import Cursor

MAILBOXES_MAX = 500
"""Mailboxes named in one command."""
_WATCHED = {watched.value: watched for watched in c.Watched}
_NAMED = frozenset({c.Watched.SUBTREE, c.Watched.SUBTREE_ONE, c.Watched.MAILBOXES})


def read_scope(cursor: Cursor, refusal: Code) -> c.Scope:
    """``filter-mailboxes``; too many names are refused with a code."""
    watched = _WATCHED.get(cursor.keyword())
    if watched is None:
        raise BadCommandError("Unknown filter")
    if watched not in _NAMED:
        return c.Scope(watched)
    if not cursor.maybe(b" ("):
        return c.Scope(watched, (cursor.mailbox(),))
    names = [cursor.bare_mailbox()]
    while not cursor.maybe(b")"):
        names.append(cursor.mailbox())
        if len(names) > MAILBOXES_MAX:
            raise RefusedError(refusal, "Too many mailboxes")
    return c.Scope(watched, tuple(names))
