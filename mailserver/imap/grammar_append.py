"""Reads what APPEND and REPLACE are given.

Source: RFC 9051 §6.3.12, §9 ``append``, RFC 3502 §7, RFC 6855 §4, RFC 8508 §5.
"""

from mailserver.imap import commands as c
from mailserver.imap.errors import BadCommandError
from mailserver.imap.sets import Numbering
from mailserver.imap.tokens import Cursor


def read_append(cursor: Cursor) -> c.Append:
    """``append = "APPEND" SP mailbox 1*append-message``, from the space before the mailbox."""
    mailbox = cursor.mailbox()
    messages = [_message(cursor)]
    while not cursor.at_end:
        messages.append(_message(cursor))
    return c.Append(mailbox, tuple(messages))


def read_replace(cursor: Cursor, numbering: Numbering) -> c.Replace:
    """``replace = "REPLACE" SP seq-number SP mailbox append-message``, from the first space."""
    cursor.space()
    number = cursor.sequence_set()
    if len(number.ranges) != 1 or number.ranges[0][0] != number.ranges[0][1]:
        raise BadCommandError("One message is replaced")
    return c.Replace(number, cursor.mailbox(), _message(cursor), numbering)


def _message(cursor: Cursor) -> c.Appending:
    """``append-message = [SP flag-list] [SP date-time] SP append-data``."""
    cursor.space()
    flags: tuple[str, ...] = ()
    internal_at = None
    if cursor.peek() == b"(":
        flags = cursor.flag_list()
        cursor.space()
    if cursor.peek() == b'"':
        internal_at = cursor.date_time()
        cursor.space()
    if cursor.maybe(b"UTF8 ("):
        message = cursor.message()
        cursor.expect(b")")
        return c.Appending(flags, internal_at, message, utf8=True)
    return c.Appending(flags, internal_at, cursor.message())
