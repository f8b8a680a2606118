"""What SEARCH and SORT answer with, and what ``$`` stands for.

Source: RFC 4731 §3, RFC 5182 §2.
"""

from mailserver.imap import commands_search as cs
from mailserver.imap.context import Context
from mailserver.imap.sets import SAVED, Numbering, SequenceSet, encode_set


def saved_positions(context: Context) -> list[int]:
    """Give the positions of what the last search saved and is still there."""
    view = context.opened
    return [at for uid in context.saved if (at := view.position(uid)) is not None]


def positions_of(context: Context, numbers: SequenceSet, numbering: Numbering) -> list[int]:
    """Give the positions that a command names in the open folder.

    Raises:
        BadCommandError: a message number that there is not.
    """
    view = context.opened
    if numbers is SAVED:
        return saved_positions(context)
    if numbering is Numbering.UID:
        return numbers.positions_of_uids(view.uids)
    return numbers.positions(len(view))


def ends(returns: cs.Returns, positions: list[int]) -> list[int]:
    """Give what SAVE keeps: what is answered alone, unless ALL or COUNT asked for everything.

    Source: RFC 5182 §2.4, RFC 9394 §3.2.
    """
    asked = returns.options - {cs.SearchReturn.SAVE}
    if not asked or not positions or asked & {cs.SearchReturn.ALL, cs.SearchReturn.COUNT}:
        return positions
    kept: set[int] = set()
    if cs.SearchReturn.MIN in asked:
        kept.add(positions[0])
    if cs.SearchReturn.MAX in asked:
        kept.add(positions[-1])
    if returns.partial is not None:
        kept.update(returns.partial.of(positions))
    return sorted(kept)


def esearch(
    tag: bytes,
    numbering: Numbering,
    wanted: cs.Returns,
    found: tuple[list[int], int],
) -> bytes:
    """Write an ESEARCH response. Source: RFC 4731 §3.1, RFC 7162 §3.1.10, RFC 9394 §3.1."""
    parts = [b'* ESEARCH (TAG "%b")' % tag]
    if numbering is Numbering.UID:
        parts.append(b"UID")
    return b" ".join([*parts, *found_texts(wanted, *found)]) + b"\r\n"


def found_texts(wanted: cs.Returns, numbers: list[int], highest: int) -> list[bytes]:
    """Write what an ESEARCH response says of the numbers found."""
    parts = []
    if numbers and cs.SearchReturn.MIN in wanted:
        parts.append(b"MIN %d" % numbers[0])
    if numbers and cs.SearchReturn.MAX in wanted:
        parts.append(b"MAX %d" % numbers[-1])
    if numbers and cs.SearchReturn.ALL in wanted:
        # SORT gives them in its own order, as a list of ranges all the same (RFC 5267 §3.1).
        parts.append(b"ALL " + encode_set(numbers))
    if cs.SearchReturn.COUNT in wanted:
        parts.append(b"COUNT %d" % len(numbers))
    if wanted.partial is not None:
        window = wanted.partial
        parts.append(
            b"PARTIAL (%b %b)" % (window.encode(), encode_set(window.of(numbers)) or b"NIL")
        )
    if highest:
        parts.append(b"MODSEQ %d" % highest)
    return parts
