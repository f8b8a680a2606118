"""What SEARCH and SORT answer with, and what ``$`` stands for.

Source: RFC 4731 §3, RFC 5182 §2.
"""

from mailserver.imap import commands as c
from mailserver.imap.context import Context
from mailserver.imap.sets import SAVED, SequenceSet, encode_set


def saved_positions(context: Context) -> list[int]:
    """Give the positions of what the last search saved and is still there."""
    view = context.opened
    return [at for uid in context.saved if (at := view.position(uid)) is not None]


def positions_of(context: Context, numbers: SequenceSet, numbering: c.Numbering) -> list[int]:
    """Give the positions that a command names in the open folder.

    Raises:
        BadCommandError: a message number that there is not.
    """
    view = context.opened
    if numbers is SAVED:
        return saved_positions(context)
    if numbering is c.Numbering.UID:
        return numbers.positions_of_uids(view.uids)
    return numbers.positions(len(view))


def ends(returns: frozenset[c.SearchReturn], positions: list[int]) -> list[int]:
    """Give what SAVE keeps: MIN and MAX alone, unless ALL or COUNT asked for everything.

    Source: RFC 5182 §2.4.
    """
    asked = returns - {c.SearchReturn.SAVE}
    if not asked or not positions or asked & {c.SearchReturn.ALL, c.SearchReturn.COUNT}:
        return positions
    ends = {c.SearchReturn.MIN: positions[0], c.SearchReturn.MAX: positions[-1]}
    return sorted({ends[option] for option in asked})


def esearch(
    tag: bytes,
    numbering: c.Numbering,
    wanted: frozenset[c.SearchReturn],
    found: tuple[list[int], int],
) -> bytes:
    """Write an ESEARCH response. Source: RFC 4731 §3.1, RFC 7162 §3.1.10."""
    numbers, highest = found
    parts = [b'* ESEARCH (TAG "%b")' % tag]
    if numbering is c.Numbering.UID:
        parts.append(b"UID")
    if numbers and c.SearchReturn.MIN in wanted:
        parts.append(b"MIN %d" % numbers[0])
    if numbers and c.SearchReturn.MAX in wanted:
        parts.append(b"MAX %d" % numbers[-1])
    if numbers and c.SearchReturn.ALL in wanted:
        # SORT gives them in its own order, as a list of ranges all the same (RFC 5267 §3.1).
        parts.append(b"ALL " + encode_set(numbers))
    if c.SearchReturn.COUNT in wanted:
        parts.append(b"COUNT %d" % len(numbers))
    if highest:
        parts.append(b"MODSEQ %d" % highest)
    return b" ".join(parts) + b"\r\n"
