"""Searching a record by words, a page at a time, with work that does not grow with the record.

Only cells that the viewer sees are looked into (``record_bridge.listing``), so that a hidden
document changes neither what is found nor what finding costs. Each cell is led into by the rarest
of the words that are asked for, from the newest document on, and every word is confirmed on the
document's own tokens. A page says where the next one starts by the last date that it gave and how
many it gave of that instant: nothing in it is numbered by rows.

Source: RULES §6, RULES §7.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from sqlalchemy import text

from directory.database import Database
from record_bridge.listing import NEWEST, PAGE, Cell, Seen, shown_rows
from record_bridge.model import Viewer
from record_bridge.rights import RecordFacts
from record_bridge.rights_record import COLUMNS
from record_bridge.search_words import MAX_ASKED

MAX_LEADS: Final = 64
"""Words of a cell that one asked word may begin; when there are more, they lead nowhere."""
MAX_COUNT: Final = 256
"""How far the documents of a word are counted, to choose the rarest."""
_NEWEST_MICROS: Final = 1 << 62
_LAST: Final = "\U0010ffff"
_CURSOR: Final = re.compile(r"(-?[0-9]{1,18})\.([0-9]{1,6})")

_LEADS: Final = text(
    "WITH RECURSIVE key (place, cell_id, asked, word, depth) AS ("
    "SELECT a.key, c.value, a.value, (SELECT word FROM document_word WHERE cell_id = c.value"
    " AND word >= a.value AND word < a.value || :last ORDER BY word LIMIT 1), 1"
    " FROM json_each(:asked) AS a CROSS JOIN json_each(:cells) AS c UNION ALL "
    "SELECT key.place, key.cell_id, key.asked, (SELECT word FROM document_word AS w"
    " WHERE w.cell_id = key.cell_id AND w.word > key.word AND w.word < key.asked || :last"
    " ORDER BY w.word LIMIT 1), key.depth + 1 FROM key"
    " WHERE key.word IS NOT NULL AND key.depth <= :most) "
    "SELECT place, cell_id, word, (SELECT count(*) FROM (SELECT 1 FROM document_word AS w"
    " WHERE w.cell_id = key.cell_id AND w.word = key.word LIMIT :counted)) AS many"
    " FROM key WHERE word IS NOT NULL"
)
_HAS_ALL: Final = " AND ".join(f"instr(t.words, :word{n}) > 0" for n in range(MAX_ASKED))
_REST: Final = (
    f" CROSS JOIN document AS t ON t.id = x.document_id WHERE x.cell_id = p.value ->> 0"
    f" AND x.dated_at <= :until {{word}} AND {_HAS_ALL}"
    " ORDER BY x.dated_at DESC, x.document_id DESC LIMIT :upto)"
)
_FOUND: Final = text(
    f"SELECT {COLUMNS} FROM document AS d WHERE d.id IN (SELECT hit.id FROM ("  # noqa: S608 - ours
    "SELECT d.id, d.effective_at, d.received_at FROM json_each(:words) AS p"
    " CROSS JOIN document AS d ON d.id IN (SELECT x.document_id FROM document_word AS x"
    + _REST.format(word="AND x.word = p.value ->> 1")
    + " UNION SELECT d.id, d.effective_at, d.received_at FROM json_each(:whole) AS p"
    " CROSS JOIN document AS d ON d.id IN (SELECT x.document_id FROM cell_document AS x"
    + _REST.format(word="")
    + f") AS hit {NEWEST.format('hit')} LIMIT :many OFFSET :skipped) {NEWEST.format('d')}"
)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page starts: after ``skipped`` documents of this instant, in microseconds."""

    until: int = _NEWEST_MICROS
    skipped: int = 0

    @classmethod
    def read(cls, text: str) -> Self:
        """Read what a page gave; anything else is the first page."""
        found = _CURSOR.fullmatch(text)
        return cls() if found is None else cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.until}.{self.skipped}"


@dataclass(frozen=True, slots=True)
class Sought:
    """What to look for: words of ``search_words.asked``, from where on."""

    words: tuple[str, ...]
    start: Cursor = Cursor()


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of a page, newest first, and where the next one starts; None after the last."""

    rows: Sequence[Mapping[str, Any]]
    after: Cursor | None


async def search(
    database: Database, record: RecordFacts, viewer: Viewer, what: tuple[Seen, Sought]
) -> Found:
    """Give a page of the current documents that hold every word."""
    seen, sought = what
    if not sought.words:
        return Found((), None)
    plain = [cell.id for cell in seen.current if not cell.is_named]
    keys = await database.all(
        _LEADS,
        {
            "asked": json.dumps(sought.words),
            "cells": json.dumps(plain),
            "last": _LAST,
            "most": MAX_LEADS,
            "counted": MAX_COUNT,
        },
    )
    words, whole = _ways(sought.words, seen.current, keys)
    rows = await database.all(
        _FOUND,
        {
            "words": json.dumps(words),
            "whole": json.dumps(whole),
            "until": sought.start.until,
            "upto": PAGE + 1 + sought.start.skipped,
            "many": PAGE + 1,
            "skipped": sought.start.skipped,
            **{
                f"word{n}": f" {sought.words[n]}" if n < len(sought.words) else ""
                for n in range(MAX_ASKED)
            },
        },
    )
    shown = shown_rows(rows[:PAGE], viewer, record)
    return Found(shown, _after(rows[:PAGE], sought.start) if len(rows) > PAGE else None)


def _ways(
    asked: Sequence[str], cells: Sequence[Cell], keys: Sequence[Any]
) -> tuple[list[tuple[int, str]], list[tuple[int]]]:
    """Choose what leads into each cell: words of it, or all of it from the newest on.

    A date leads best of the frequent words: its documents lie together.
    """
    known: dict[tuple[int, int], list[tuple[str, int]]] = {}
    for key in keys:
        known.setdefault((key.cell_id, key.place), []).append((key.word, key.many))
    words: list[tuple[int, str]] = []
    whole: list[tuple[int]] = []
    for cell in cells:
        if cell.is_named:
            whole.append((cell.id,))
            continue
        found = [known.get((cell.id, place), []) for place in range(len(asked))]
        if not all(found):
            continue
        narrow = [each for each in found if len(each) <= MAX_LEADS]
        if not narrow:
            whole.append((cell.id,))
            continue
        chosen = min(narrow, key=_weight)
        words += [(cell.id, word) for word, _ in chosen]
    return words, whole


def _weight(keys: Sequence[tuple[str, int]]) -> tuple[int, bool, int]:
    """How much a word leads to: the least is the best way."""
    many = sum(count for _, count in keys)
    return min(many, MAX_COUNT), not keys[0][0].lstrip("=").isdigit(), many


def _after(rows: Sequence[Any], start: Cursor) -> Cursor:
    """Where the page after these rows starts; Any: rows of SQLAlchemy."""
    dates = [row.received_at if row.effective_at is None else row.effective_at for row in rows]
    last = dates[-1]
    again = start.skipped if last == start.until else 0
    return Cursor(last, dates.count(last) + again)
