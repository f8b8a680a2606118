"""The commands on messages: FETCH, STORE, COPY, MOVE, EXPUNGE, SEARCH, CLOSE.

Invariants: numbers are resolved against the session's own view, and only UIDs reach the store;
what a command changed is told from the rows that its commit gave back.

Source: RFC 9051 §6.3.12, §6.4.
"""

import sys
from collections.abc import Sequence

from mailserver.imap import commands as c
from mailserver.imap import commands_messages as cm
from mailserver.imap import commands_search as cs
from mailserver.imap.appending import by_application, split_flags
from mailserver.imap.context import Context
from mailserver.imap.errors import BadCommandError, Code, RefusedError
from mailserver.imap.fetching import Fetcher, reads_content
from mailserver.imap.permissions import flags_within, refusal
from mailserver.imap.results import ends, esearch, positions_of, saved_positions
from mailserver.imap.search import Searcher
from mailserver.imap.sets import SAVED, Numbering, batches, encode_set
from mailserver.store.model import (
    EntryRow,
    Flag,
    FlagChange,
    FlagMode,
    server_keyword,
)
from mailserver.store.moves import Transfer

BATCH_MIN = 500
"""RFC 10022 §3.1.3.2: smaller ones would give message numbers back."""
BATCHED_MAX = 100_000
"""Messages in the batches that are named; all of a folder may be asked for by naming none."""
_MODES = {
    cm.StoreMode.REPLACE: FlagMode.REPLACE,
    cm.StoreMode.ADD: FlagMode.ADD,
    cm.StoreMode.REMOVE: FlagMode.REMOVE,
}


async def fetch(context: Context, command: cm.Fetch) -> bytes:
    """Answer FETCH."""
    view = context.opened
    items = list(command.items)
    if command.numbering is Numbering.UID and not context.uidonly and cm.Simple.UID not in items:
        items.insert(0, cm.Simple.UID)
    if command.changedsince is not None or cm.Simple.MODSEQ in items:
        context.condstore = True
    positions = await _chosen(context, command)
    if positions:
        sections = [item for item in items if isinstance(item, cm.BodySection)]
        if reads_content(items):
            await context.record_access(positions)
        marks = context.access is c.Access.READ_WRITE and "s" in context.rights
        if marks and any(not item.peek for item in sections):
            await _mark_seen(context, positions, items)
    fetcher = Fetcher(context.shared, context.connection, view, context.naming)
    missing = await fetcher.run(positions, items)
    if fetcher.undecoded:
        raise RefusedError(Code.UNKNOWN_CTE, "A transfer encoding is not known")
    if missing:
        raise RefusedError(Code.EXPUNGEISSUED, "Some messages are gone")
    return b"OK FETCH completed"


async def _chosen(context: Context, command: cm.Fetch) -> list[int]:
    """Give the positions that the set and the modifiers leave. Source: RFC 9394 §3.3."""
    positions = positions_of(context, command.numbers, command.numbering)
    if command.vanished:
        await _tell_vanished(context, command)
    if command.changedsince is not None:
        rows, since = context.opened.rows, command.changedsince
        positions = [at for at in positions if rows[at].modseq > since]
    if command.partial is not None:
        positions = list(command.partial.of(positions))
    return positions


async def _tell_vanished(context: Context, command: cm.Fetch) -> None:
    """Answer the VANISHED modifier. Source: RFC 7162 §3.2.6."""
    if not context.qresync:
        raise BadCommandError("QRESYNC is not enabled")
    if command.numbers is SAVED:
        raise BadCommandError("VANISHED needs a set")
    named = command.numbers.closed(context.opened.folder.uidnext)
    await context.tell_vanished(command.changedsince or 0, named)


async def _mark_seen(
    context: Context, positions: Sequence[int], items: list[cm.FetchItem]
) -> None:
    r"""Set ``\Seen`` where it is missing, and have FETCH show it (RFC 9051 §6.4.5)."""
    view = context.opened
    unseen = tuple(view.uids[at] for at in positions if not view.rows[at].flags & Flag.SEEN)
    if not unseen:
        return
    change = FlagChange(view.folder.id, unseen, FlagMode.ADD, Flag.SEEN, frozenset())
    changed = view.apply(await context.store.messages.store_flags(change))
    if changed and cm.Simple.FLAGS not in items:
        items.insert(0, cm.Simple.FLAGS)
    if context.condstore and cm.Simple.MODSEQ not in items:
        items.append(cm.Simple.MODSEQ)


def _shown(row: EntryRow) -> tuple[Flag, frozenset[str]]:
    return row.flags, row.keywords


def _asked(
    before: EntryRow, wanted: tuple[cm.StoreMode, Flag, frozenset[str]]
) -> tuple[Flag, frozenset[str]]:
    """Give the flags that a client believes in after its own change."""
    mode, flags, keywords = wanted
    match mode:
        case cm.StoreMode.ADD:
            return before.flags | flags, before.keywords | keywords
        case cm.StoreMode.REMOVE:
            return before.flags & ~flags, before.keywords - keywords
        case cm.StoreMode.REPLACE:
            return flags, keywords


async def store(context: Context, command: cm.Store) -> bytes:
    """Answer STORE."""
    view = context.opened
    positions = positions_of(context, command.numbers, command.numbering)
    flags, keywords = split_flags(command.flags)
    application = by_application(context)
    if not application and any(server_keyword(keyword) for keyword in keywords):
        raise RefusedError(Code.NOPERM, "The server alone sets this keyword")
    mask = flags_within(context.rights)
    if (flags or keywords) and not flags & mask and not (keywords and mask & Flag.FLAGGED):
        raise refusal(context.rights)
    if command.unchangedsince is not None:
        context.condstore = True
    uids = tuple(view.uids[at] for at in positions)
    before = {view.uids[at]: view.rows[at] for at in positions} if command.silent else {}
    folders = context.shared.folders
    mark = folders.mark(view.folder.id)
    rows = await context.store.messages.store_flags(
        FlagChange(
            folder_id=view.folder.id,
            uids=uids,
            mode=_MODES[command.mode],
            flags=flags,
            keywords=keywords,
            unchangedsince=command.unchangedsince,
            by_application=application,
            mask=mask,
        )
    )
    folders.took(view.folder.id, mark, rows)
    view.apply(rows)
    if flags & mask & Flag.ANSWERED and command.mode is not cm.StoreMode.REMOVE:
        await context.record("imap_answered", [row.uid for row in rows])
    context.show_keywords()
    by_uid = command.numbering is Numbering.UID
    answered = [at for row in rows if (at := view.position(row.uid)) is not None]
    if not command.silent:
        context.tell_flags(answered, uid=by_uid)
    else:
        wanted = (command.mode, flags, keywords)
        foreign = {row.uid for row in rows if _shown(row) != _asked(before[row.uid], wanted)}
        # What others changed is told all the same (RFC 9051 §6.4.6).
        context.tell_flags([at for at in answered if view.uids[at] in foreign], uid=by_uid)
        if context.condstore:
            own = [at for at in answered if view.uids[at] not in foreign]
            context.tell_modseqs(own, uid=by_uid)
    done = {row.uid for row in rows}
    left = [at for at in positions if view.uids[at] not in done]
    if left and command.unchangedsince is not None:
        numbers = [view.uids[at] if by_uid else at + 1 for at in left]
        return b"OK [MODIFIED %b] Some were changed meanwhile" % encode_set(numbers)
    if left and not command.silent:
        # A client that asked for silence believes an OK and nothing else (RFC 2180 §4.2.1).
        raise RefusedError(Code.EXPUNGEISSUED, "Some messages are gone")
    return b"OK STORE completed"


async def copy(context: Context, command: cm.Copy) -> bytes:
    """Answer COPY."""
    view = context.opened
    positions = positions_of(context, command.numbers, command.numbering)
    target = await context.folder(command.mailbox, Code.TRYCREATE)
    if not positions:
        return b"OK COPY completed"
    uids = tuple(view.uids[at] for at in positions)
    if target.mailbox_id != view.folder.mailbox_id:
        await context.record("imap_copied", uids)
    copied = await context.store.messages.copy(
        Transfer(view.folder.id, uids, target.id, context.shared.now(), context.quota)
    )
    if not copied.source_uids:
        raise RefusedError(Code.EXPUNGEISSUED, "The messages are gone")
    return b"OK [COPYUID %d %b %b] COPY completed" % (
        copied.uidvalidity,
        encode_set(copied.source_uids),
        encode_set(copied.target_uids),
    )


async def move(context: Context, command: cm.Move) -> bytes:
    """Answer MOVE. Source: RFC 6851 §3.3, RFC 9051 §6.4.8."""
    view = context.opened
    positions = positions_of(context, command.numbers, command.numbering)
    target = await context.folder(command.mailbox, Code.TRYCREATE)
    if not positions:
        return b"OK MOVE completed"
    if target.id == view.folder.id:
        raise RefusedError(Code.CANNOT, "The messages are there already")
    uids = tuple(view.uids[at] for at in positions)
    if target.mailbox_id != view.folder.mailbox_id:
        await context.record("imap_moved", uids)
    moved = await context.store.messages.move(
        Transfer(view.folder.id, uids, target.id, context.shared.now())
    )
    if not moved.source_uids:
        raise RefusedError(Code.EXPUNGEISSUED, "The messages are gone")
    context.write(
        b"* OK [COPYUID %d %b %b] Moved\r\n"
        % (moved.uidvalidity, encode_set(moved.source_uids), encode_set(moved.target_uids))
    )
    view.note_gone(moved.source_uids)
    return b"OK MOVE completed"


async def expunge(context: Context, command: c.Expunge) -> bytes:
    """Answer EXPUNGE and UID EXPUNGE."""
    view = context.opened
    uids = None
    if command.uids is not None:
        named = positions_of(context, command.uids, Numbering.UID)
        uids = [view.uids[at] for at in named]
    gone = await _removed(context, uids)
    view.note_gone(gone)
    if gone and context.condstore:
        await context.sync(expunge=True)
        return b"OK [HIGHESTMODSEQ %d] EXPUNGE completed" % view.modseq
    return b"OK EXPUNGE completed"


async def _removed(context: Context, uids: Sequence[int] | None) -> list[int]:
    """Expunge; what one of several people took from their mailbox is in the trail."""
    gone = await context.store.messages.expunge(context.opened.folder.id, uids)
    if context.is_shared(context.opened.folder):
        await context.record("imap_expunged", gone)
    return gone


async def search(context: Context, command: cs.Search) -> bytes:
    """Answer SEARCH. Source: RFC 9051 §6.4.4, RFC 4731 §3.1, RFC 5182 §2.1."""
    view = context.opened
    if command.names_charset and context.accepts_utf8:
        raise BadCommandError("UTF-8 is enabled: no charset is named")  # RFC 6855 §3
    returns = command.returns
    if returns is None and context.rev2:
        returns = cs.Returns.of(cs.SearchReturn.ALL)
    saves = returns is not None and cs.SearchReturn.SAVE in returns
    saved = saved_positions(context)
    searcher = Searcher(context.shared, view, context.bind.limits, saved, context.progress)
    try:
        positions, has_modseq = await searcher.run(command.key)
    except RefusedError:
        if saves:
            context.saved = ()
        raise
    if has_modseq:
        context.condstore = True
    if saves and returns is not None:
        context.saved = tuple(view.uids[at] for at in ends(returns, positions))
    by_uid = command.numbering is Numbering.UID
    numbers = [view.uids[at] for at in positions] if by_uid else [at + 1 for at in positions]
    highest = _highest(context, command, positions) if has_modseq and positions else 0
    if returns is None:
        modseq = b" (MODSEQ %d)" % highest if highest else b""
        listed = b"".join([b" %d" % number for number in numbers])
        context.write(b"* SEARCH%b%b\r\n" % (listed, modseq))
    elif not returns.only_saves:
        context.write(esearch(context.tag, command.numbering, returns, (numbers, highest)))
    return b"OK SEARCH completed"


async def uid_batches(context: Context, command: cs.UidBatches) -> bytes:
    """Answer UIDBATCHES. Source: RFC 10022 §3.1."""
    if command.size < BATCH_MIN:
        raise RefusedError(Code.TOOFEW, "Minimum batch size is 500")
    last = sys.maxsize if command.last is None else command.last
    if command.last is not None and command.size * (last - command.first + 1) > BATCHED_MAX:
        raise RefusedError(Code.TOOMANY, "That is more than 100000 messages")
    spans = batches(context.opened.uids, command.size, last)[command.first - 1 :]
    listed = b",".join(b"%d:%d" % span for span in spans)
    context.write(
        b'* UIDBATCHES (TAG "%b")%b\r\n' % (context.tag, b" " + listed if listed else b"")
    )
    return b"OK UIDBATCHES completed"


def _highest(context: Context, command: cs.Search, positions: list[int]) -> int:
    """Give the modseq of a search's response. Source: RFC 7162 §3.1.5, §3.1.10."""
    rows = context.opened.rows
    few = {cs.SearchReturn.MIN, cs.SearchReturn.MAX, cs.SearchReturn.PARTIAL}
    if command.returns is not None and command.returns.options <= few:
        positions = ends(command.returns, positions)
    return max(rows[at].modseq for at in positions)


async def close(context: Context, _command: c.Close) -> bytes:
    """Answer CLOSE: expunge silently, then leave the folder."""
    if context.access is c.Access.READ_WRITE and "e" in context.rights:
        await _removed(context, None)
    context.close_folder()
    return b"OK CLOSE completed"


async def unselect(context: Context, _command: c.Unselect) -> bytes:
    """Answer UNSELECT."""
    context.close_folder()
    return b"OK UNSELECT completed"
