"""Writes responses: values in, wire bytes out.

Invariant: a string that came from outside is always quoted or sent as a literal, so that no
response can be forged through it.

Source: RFC 9051 §7, §9.
r
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime

from mailserver.imap.commands import StatusItem
from mailserver.imap.names import encode_mutf7

SYSTEM_FLAGS = (
    (2, b"\\Answered"),
    (4, b"\\Flagged"),
    (8, b"\\Deleted"),
    (1, b"\\Seen"),
    (16, b"\\Draft"),
)
"""Bits of ``mailserver.store.model.Flag`` (a test holds them together) and their names."""
_ATOM = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\\]]+\Z")
_QUOTABLE = re.compile(rb"[^\x00\r\n\x80-\xff]{0,1000}\Z")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

BASE = (
    b"IMAP4rev1",
    b"IMAP4rev2",
    b"SASL-IR",
    b"ID",
    b"ENABLE",
    b"IDLE",
    b"NAMESPACE",
    b"UNSELECT",
    b"UIDPLUS",
    b"MOVE",
    b"CHILDREN",
    b"LIST-EXTENDED",
    b"LIST-STATUS",
    b"SPECIAL-USE",
    b"CREATE-SPECIAL-USE",
    b"STATUS=SIZE",
    b"ESEARCH",
    b"SEARCHRES",
    b"BINARY",
    b"CONDSTORE",
    b"QRESYNC",
    b"UTF8=ACCEPT",
    b"SORT",
    b"SORT=DISPLAY",
    b"ESORT",
    b"THREAD=ORDEREDSUBJECT",
    b"THREAD=REFERENCES",
    b"WITHIN",
    b"ACL",
    b"RIGHTS=kxte",
    b"LIST-MYRIGHTS",
    b"QUOTA",
    b"QUOTA=RES-STORAGE",
    b"QUOTA=RES-MESSAGE",
    b"MULTIAPPEND",
    b"REPLACE",
    b"OBJECTID",
    b"SAVEDATE",
    b"PARTIAL",
    b"UIDBATCHES",
    b"UIDONLY",
    b"PREVIEW",
    b"NOTIFY",
    b"MULTISEARCH",
    b"INPROGRESS",
)
"""What is announced in every state; each of them works in full."""


def capabilities(
    *,
    before_login: bool,
    mechanisms: Iterable[str],
    tls_offered: bool,
    compressed: bool,
    limit: int,
) -> bytes:
    """Give the capability list of a moment in a connection.

    Args:
        before_login: nobody has logged in yet.
        mechanisms: what a client may log in by now; none before TLS.
        tls_offered: STARTTLS would work now.
        compressed: COMPRESS was given already.
        limit: APPENDLIMIT in octets.

    Source: RFC 9051 §6.1.1, §7.2.2, RFC 7888 §6, RFC 7889 §2.
    """
    words = list(BASE)
    if before_login:
        words.append(b"LITERAL-")
        if tls_offered:
            words.append(b"STARTTLS")
        words += [b"AUTH=" + each.encode("ascii") for each in mechanisms] or [b"LOGINDISABLED"]
    else:
        words.append(b"LITERAL+")
        if not compressed:
            words.append(b"COMPRESS=DEFLATE")
    words.append(b"APPENDLIMIT=%d" % limit)
    return b" ".join(words)


def quoted(octets: bytes) -> bytes:
    """Write a string: quoted when it can be, else as a literal."""
    if _QUOTABLE.match(octets):
        return b'"' + octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return literal(octets)


def literal(octets: bytes) -> bytes:
    """Write a literal."""
    return b"{%d}\r\n%b" % (len(octets), octets)


def mailbox_name(name: str) -> bytes:
    """Write a folder's name as an astring."""
    raw = encode_mutf7(name)
    if _ATOM.match(raw) and raw.upper() != b"NIL":
        return raw
    return quoted(raw)


def mailbox_name_utf8(name: str) -> bytes:
    """Write a folder's name for a client that enabled UTF-8. Source: RFC 6855 §3."""
    raw = name.encode("utf-8")
    if raw.isascii():
        return raw if _ATOM.match(raw) and raw.upper() != b"NIL" else quoted(raw)
    return b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def flag_list(flags: int, keywords: Iterable[str]) -> bytes:
    r"""Write ``(\Seen $Forwarded)``; keywords in a fixed order."""
    words = [word for flag, word in SYSTEM_FLAGS if flags & flag]
    words.extend(keyword.encode("ascii") for keyword in sorted(keywords))
    return b"(" + b" ".join(words) + b")"


class FlagText:
    """Flag lists already written, for the few sets of flags that occur in a folder."""

    _MOST = 4096

    def __init__(self) -> None:
        self._known: dict[tuple[int, frozenset[str]], bytes] = {}

    def of(self, flags: int, keywords: frozenset[str]) -> bytes:
        """Give ``FLAGS (...)``."""
        key = (flags, keywords)
        text = self._known.get(key)
        if text is None:
            if len(self._known) >= self._MOST:
                self._known.clear()
            text = self._known[key] = b"FLAGS " + flag_list(flags, keywords)
        return text


def date_time(at: datetime) -> bytes:
    """Write an internal date, in UTC.

    Source: RFC 9051 §9 ``date-time``.
    """
    return (
        f'"{at.day:2d}-{_MONTHS[at.month - 1]}-{at.year:04d}'
        f' {at.hour:02d}:{at.minute:02d}:{at.second:02d} +0000"'
    ).encode("ascii")


def email_id(entry_id: int) -> bytes:
    """Write the identifier of a message's content. Source: RFC 8474 §5.1."""
    return b"M%d" % entry_id


def mailbox_id(folder_id: int) -> bytes:
    """Write a folder's identifier, which a new name does not change. Source: RFC 8474 §4."""
    return b"F%d" % folder_id


def list_response(
    word: bytes, attributes: Iterable[bytes], name: bytes, extra: bytes = b""
) -> bytes:
    """Write one LIST or LSUB line; the name is as it goes on the wire."""
    return b'* %b (%b) "/" %b%b\r\n' % (word, b" ".join(attributes), name, extra)


def status_response(
    name: bytes, values: Mapping[StatusItem, int | bytes], items: Iterable[StatusItem]
) -> bytes:
    """Write one STATUS line; the name is as it goes on the wire.

    Source: RFC 9051 §7.3.4.
    """
    listed = b" ".join(b"%b %b" % (item.value, _value(values[item])) for item in items)
    return b"* STATUS %b (%b)\r\n" % (name, listed)


def _value(value: int | bytes) -> bytes:
    return b"(%b)" % value if isinstance(value, bytes) else b"%d" % value
