"""The commands that add messages: APPEND and REPLACE.

Invariants: every message of a command is looked at before any is stored, and they are stored in
one transaction; what a client adds never bears the server's own words (RULES §4, §10).

Source: RFC 9051 §6.3.12, RFC 3502 §6.3.11, RFC 8508 §3.
"""

import asyncio
from collections.abc import Sequence

from certs.mime import scan
from directory.codes import MailboxType
from mailserver.delivery.rules import refusal
from mailserver.delivery.trace import cut, is_trace
from mailserver.imap import commands as c
from mailserver.imap.context import Context
from mailserver.imap.errors import BadCommandError, Code, RefusedError
from mailserver.imap.permissions import flags_within
from mailserver.imap.responses import SYSTEM_FLAGS
from mailserver.imap.results import positions_of
from mailserver.imap.sets import encode_set
from mailserver.message.index import index
from mailserver.store.model import Flag, Folder, NewMessage
from mailserver.store.moves import Replacement

KEYWORD_MAX = 100
"""Characters of a keyword; the longest in use has 30."""
_INDEX_OFF_LOOP_OCTETS = 65536
_SYSTEM = {name.lower().decode("ascii"): Flag(bit) for bit, name in SYSTEM_FLAGS}


def split_flags(names: Sequence[str]) -> tuple[Flag, frozenset[str]]:
    r"""Split system flags from keywords; ``\Recent`` is the server's and falls away.

    Raises:
        RefusedError: CANNOT, LIMIT: a system flag that there is not, too long a keyword.
    """
    flags = Flag(0)
    keywords: set[str] = set()
    for name in names:
        if name.startswith("\\"):
            if name.lower() == "\\recent":
                continue
            known = _SYSTEM.get(name.lower())
            if known is None:
                raise RefusedError(Code.CANNOT, "Unknown system flag")
            flags |= known
        elif len(name) > KEYWORD_MAX:
            raise RefusedError(Code.LIMIT, "Keyword too long")
        else:
            keywords.add(name)
    return flags, frozenset(keywords)


def by_application(context: Context) -> bool:
    """Whether this login is a structure's application mailbox."""
    return context.logged_in.type is MailboxType.APP


def _undelivered(raw: bytes) -> bytes:
    """Give a message without what says how it came: nobody delivered it.

    An application mailbox is where the bridge believes this server's own words about a sender; a
    client must not be able to write them there (RULES §4: APPEND has no trusted header).
    """
    outline = scan(raw)
    if refusal(raw, outline) is not None:
        raise RefusedError(Code.CANNOT, "Malformed message")
    return cut(raw, outline, is_trace)


async def append(context: Context, command: c.Append) -> bytes:
    """Answer APPEND."""
    folder = await context.folder(command.mailbox, Code.TRYCREATE)
    new = [await _new(context, folder, message) for message in command.messages]
    appended = await context.store.messages.append_all(new)
    uids = encode_set(each.uid for each in appended)
    return b"OK [APPENDUID %d %b] APPEND completed" % (appended[0].uidvalidity, uids)


async def replace(context: Context, command: c.Replace) -> bytes:
    """Answer REPLACE and UID REPLACE."""
    view = context.opened
    positions = positions_of(context, command.number, command.numbering)
    target = await context.folder(command.mailbox, Code.TRYCREATE)
    if not positions:
        raise RefusedError(Code.NONE, "No such message")
    uid = view.uids[positions[0]]
    message = await _new(context, target, command.message)
    made = await context.store.messages.replace(Replacement(view.folder.id, uid, message))
    # RFC 8508 §3.3: the code goes ahead of the EXPUNGE of what was replaced.
    context.write(b"* OK [APPENDUID %d %d] Replacement stored\r\n" % (made.uidvalidity, made.uid))
    view.note_gone((uid,))
    return b"OK REPLACE completed"


async def _new(context: Context, folder: Folder, message: c.Appending) -> NewMessage:
    """Look at one message, and index it.

    Raises:
        BadCommandError, RefusedError: it is not taken.
    """
    flags, keywords = split_flags(message.flags)
    mask = flags_within(await context.rights_on(folder))
    flags, keywords = flags & mask, keywords if mask & Flag.FLAGGED else frozenset()
    raw = message.message
    if message.utf8 and not context.accepts_utf8:
        raise BadCommandError("UTF8 is not enabled")
    if b"\0" in raw:
        raise RefusedError(Code.UNKNOWN_CTE, "NUL in a message")
    if not raw:
        raise RefusedError(Code.CANNOT, "Empty message")
    if by_application(context):
        raw = await asyncio.to_thread(_undelivered, raw)
    if len(raw) > _INDEX_OFF_LOOP_OCTETS:
        facts = await asyncio.to_thread(index, raw)
    else:
        facts = index(raw)
    at = context.shared.now()
    return NewMessage(
        folder_id=folder.id,
        raw=raw,
        index=facts,
        flags=flags,
        keywords=keywords,
        internal_at=message.internal_at or at,
        quota=context.quota,
        saved_at=at,
    )
