"""Answers SORT and THREAD: what matches, ordered off the loop.

Source: RFC 5256 §3, §4; RFC 5957 §3; RFC 5267 §3.1.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from certs.mime import decode_header, decode_outline
from mailserver.imap import commands_search as cs
from mailserver.imap import search_keys as k
from mailserver.imap.context import Context
from mailserver.imap.ordering import (
    SortKey,
    Threaded,
    base_subject,
    casemap,
    encode_threads,
    ordered_subject,
    references,
    sort_positions,
)
from mailserver.imap.results import ends, esearch, saved_positions
from mailserver.imap.search import Searcher
from mailserver.imap.sets import Numbering
from mailserver.message.headers import ListedAddress, list_addresses, message_ids
from mailserver.message.index import MessageIndex
from mailserver.store.model import EntryRow, to_micros

REFERENCES_KEPT: Final = 100
"""Of one message: its first and its latest ancestors; the ones between say nothing more."""

Facts = tuple[EntryRow, MessageIndex]
Value = Callable[[Facts], object]


async def sort(context: Context, command: cs.Sort) -> bytes:
    """Answer SORT."""
    positions, facts, modseq = await _matching(context, command.key)
    criteria = [(_at(_VALUES[each.key], facts), each.reverse) for each in command.by]
    ordered = await asyncio.to_thread(sort_positions, positions, criteria)
    view = context.opened
    by_uid = command.numbering is Numbering.UID
    numbers = [view.uids[at] if by_uid else at + 1 for at in ordered]
    if command.returns is None:
        listed = b"".join(b" %d" % number for number in numbers)
        context.write(b"* SORT%b%b\r\n" % (listed, _modseq(context, modseq, ordered)))
        return b"OK SORT completed"
    returns = command.returns
    if cs.SearchReturn.SAVE in returns:
        context.saved = tuple(sorted(view.uids[at] for at in ends(returns, ordered)))
    if not returns.only_saves:
        highest = max((view.rows[at].modseq for at in ordered), default=0) if modseq else 0
        context.write(esearch(context.tag, command.numbering, returns, (numbers, highest)))
    return b"OK SORT completed"


async def thread(context: Context, command: cs.Thread) -> bytes:
    """Answer THREAD."""
    positions, facts, _modseq_asked = await _matching(context, command.key)
    view = context.opened
    by_uid = command.numbering is Numbering.UID

    def threads() -> bytes:
        messages = [
            _threaded(view.uids[at] if by_uid else at + 1, facts[at])
            for at in positions
            if at in facts
        ]
        if command.algorithm is cs.ThreadAlgorithm.REFERENCES:
            return encode_threads(references(messages))
        return encode_threads(ordered_subject(messages))

    said = await asyncio.to_thread(threads)
    context.write(b"* THREAD%b\r\n" % (b" " + said if said else b""))
    return b"OK THREAD completed"


async def _matching(
    context: Context, key: k.SearchKey
) -> tuple[list[int], dict[int, Facts], bool]:
    """Give the positions that match, what is known of each, and whether MODSEQ was a key."""
    view = context.opened
    searcher = Searcher(
        context.shared, view, context.bind.limits, saved_positions(context), context.progress
    )
    positions, has_modseq = await searcher.run(key)
    if has_modseq:
        context.condstore = True
    rows = view.rows
    indexes = await context.shared.indexes.get([rows[at].blob_id for at in positions])
    facts = {
        at: (rows[at], indexes[rows[at].blob_id])
        for at in positions
        if rows[at].blob_id in indexes
    }
    return [at for at in positions if at in facts], facts, has_modseq


def _modseq(context: Context, asked: bool, positions: Sequence[int]) -> bytes:  # noqa: FBT001
    if not asked or not positions:
        return b""
    return b" (MODSEQ %d)" % max(context.opened.rows[at].modseq for at in positions)


def _at(value: Value, facts: dict[int, Facts]) -> Callable[[int], object]:
    known: dict[int, object] = {}

    def of(position: int) -> object:
        if position not in known:
            known[position] = value(facts[position])
        return known[position]

    return of


def _sent(facts: Facts) -> int:
    row, index = facts
    return to_micros(row.internal_at) if index.date_at is None else index.date_at


def _first(index: MessageIndex, name: str) -> ListedAddress | None:
    fields = decode_outline(index.outline).fields(name)
    listed = list_addresses(fields[0].value, 1) if fields else []
    return listed[0] if listed else None


def _mailbox(name: str) -> Value:
    """The local part of the first address. Source: RFC 5256 §3."""

    def value(facts: Facts) -> str:
        first = _first(facts[1], name)
        return casemap(decode_header(first.mailbox)) if first and first.mailbox else ""

    return value


def _display(name: str) -> Value:
    """The display name of the first address, else the address. Source: RFC 5957 §3."""

    def value(facts: Facts) -> str:
        first = _first(facts[1], name)
        if first is None:
            return ""
        if first.name:
            return casemap(decode_header(first.name))
        mailbox = first.mailbox or b""
        return casemap(decode_header(mailbox + b"@" + first.host if first.host else mailbox))

    return value


_VALUES: Final[dict[SortKey, Value]] = {
    SortKey.ARRIVAL: lambda facts: facts[0].internal_at,
    SortKey.CC: _mailbox("cc"),
    SortKey.DATE: _sent,
    SortKey.FROM: _mailbox("from"),
    SortKey.SIZE: lambda facts: facts[0].octets,
    SortKey.SUBJECT: lambda facts: casemap(base_subject(facts[1].subject).text),
    SortKey.TO: _mailbox("to"),
    SortKey.DISPLAYFROM: _display("from"),
    SortKey.DISPLAYTO: _display("to"),
}


def _threaded(number: int, facts: Facts) -> Threaded:
    index = facts[1]
    outline = decode_outline(index.outline)
    named: tuple[str, ...] = ()
    for name, most in (("references", None), ("in-reply-to", 1)):
        fields = outline.fields(name)
        named = message_ids(fields[0].value)[:most] if fields else ()
        if named:
            break
    if len(named) > REFERENCES_KEPT:
        named = (named[0], *named[1 - REFERENCES_KEPT :])
    return Threaded(number, index.message_id, named, _sent(facts), base_subject(index.subject))
