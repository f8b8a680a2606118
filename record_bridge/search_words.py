"""Which words a document is found by, and which words are asked for; pure.

A document is found by tokens of its title, type, author, custodian and date; every word that is
asked for must begin one of them. Tokens are folded (no accents, no case, ``œ`` as ``oe``). A long
word of the title or type is a token from its third letter on as well (``scopie`` finds
``coloscopie``); a day is a token that nobody can type, ``=20260312``, so that a month is the
beginning of its days.

Source: RULES §6 (search rows), DESIGN §5.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from itertools import islice
from typing import Final

from directory.codes import type_label
from record_bridge.formats.dtm import paris_day

MAX_ASKED: Final = 8
"""Words of one search; the rest is not looked at."""
MAX_WORD: Final = 40
"""Letters of a token; longer ones are cut, asked for or found."""
MAX_TITLE: Final = 48
MAX_OTHERS: Final = 16
"""Tokens of the title, and of each other text: a stranger's title must not fill the index."""
LONG: Final = 9
"""Letters from which a word is found by its inside too."""
INSIDE: Final = 6
"""Letters that the inside of a word has at least."""
MONTHS: Final = (
    "janvier", "fevrier", "mars", "avril", "mai", "juin",
    "juillet", "aout", "septembre", "octobre", "novembre", "decembre",
)  # fmt: skip
_EMPTY: Final = frozenset(
    {"a", "au", "aux", "d", "de", "des", "du", "en", "et", "l", "la", "le", "les", "par", "pour",
     "s", "sur", "un", "une"}
)  # fmt: skip
"""Words that nearly every title has: no tokens, and asked for only when nothing else is."""
_ALIKE: Final = str.maketrans({"œ": "oe", "æ": "ae", "ø": "o", "ł": "l"})
_WORD: Final = re.compile(r"[^\W_]+")
_NAMED: Final = "|".join(MONTHS)
_DATE: Final = re.compile(
    r"(?<![^\W_])(?:"
    r"(?P<y1>\d{4})-(?P<m1>\d{1,2})(?:-(?P<d1>\d{1,2}))?"
    r"|(?:(?P<d2>\d{1,2})[/.-])?(?P<m2>\d{1,2})[/.-](?P<y2>\d{4})"
    rf"|(?:(?P<d3>\d{{1,2}})(?:er)?\s+)?(?P<m3>{_NAMED})\s+(?P<y3>\d{{4}})"
    r")(?![^\W_])"
)


@dataclass(frozen=True, slots=True)
class Described:
    """What a document is found by.

    Attributes:
        at: when it was made, or else came; aware.
    """

    title: str
    type_code: str
    author: str
    custodian: str
    at: datetime


def tokens(document: Described) -> tuple[str, ...]:
    """The tokens of a document, each once."""
    found = dict.fromkeys(_with_insides(document.title, MAX_TITLE))
    found |= dict.fromkeys(_of_type(document.type_code))
    for text in (document.author, document.custodian):
        found |= dict.fromkeys(_plain(fold(text), MAX_OTHERS))
    found |= dict.fromkeys(_of_day(document.at))
    return tuple(found)


def kept(document: Described) -> str:
    """The tokens as one column: each after a blank, so that `` scop`` is a beginning."""
    return "".join(f" {token}" for token in tokens(document))


def asked(text: str) -> tuple[str, ...]:
    """The words that are asked for, each once, at most ``MAX_ASKED``; dates as their tokens."""
    folded = fold(text)
    dates = []
    for written, token in _dates(folded):
        dates.append(token)
        folded = folded.replace(written, " ", 1)
    words = [word[:MAX_WORD] for word in _WORD.findall(folded)]
    telling = [word for word in words if word not in _EMPTY]
    return tuple(dict.fromkeys([*dates, *(telling or (words if not dates else ()))]))[:MAX_ASKED]


def matches(words: tuple[str, ...], text: str) -> bool:
    """Say whether every word begins a word of this text, or is inside a long one."""
    found = _with_insides(text, MAX_TITLE)
    return all(any(token.startswith(word) for token in found) for word in words)


def fold(text: str) -> str:
    """A text as it is compared: ``Réglé`` is ``regle``."""
    if text.isascii():
        return text.lower()
    bare = unicodedata.normalize("NFKD", text.casefold().translate(_ALIKE))
    return "".join(c for c in bare if not unicodedata.combining(c)).casefold()


def _with_insides(text: str, most: int) -> list[str]:
    """The tokens of a text, the insides of its long words and the dates in it."""
    folded = fold(text)
    plain = _plain(folded, most)
    insides = [inside for word in plain if len(word) >= LONG for inside in _insides(word)]
    return plain + insides + [token for _, token in _dates(folded)][:most]


@lru_cache(maxsize=512)
def _of_type(type_code: str) -> tuple[str, ...]:
    return tuple(_with_insides(type_label(type_code) or "", MAX_OTHERS))


def _of_day(at: datetime) -> tuple[str, ...]:
    try:
        day = paris_day(at)
    except OverflowError:  # the last hours of the year 9999, which somebody writes for "never"
        return ()
    return MONTHS[day.month - 1], f"{day.year:04}", _day_token(day)


def _plain(folded: str, most: int) -> list[str]:
    words = (match[0][:MAX_WORD] for match in _WORD.finditer(folded))
    return list(islice((word for word in words if word not in _EMPTY), most))


def _insides(word: str) -> list[str]:
    if not word.isalpha():
        return []
    return [word[start:] for start in range(2, len(word) - INSIDE + 1)]


def _dates(folded: str) -> Iterator[tuple[str, str]]:
    """Each date in a text, as it is written and as a token: a day's, or the start of a month's."""
    for match in _DATE.finditer(folded):
        year, month, day = (
            next((match[f"{name}{form}"] for form in "123" if match[f"{name}{form}"]), "")
            for name in "ymd"
        )
        number = MONTHS.index(month) + 1 if month in MONTHS else int(month)
        try:
            first = date(int(year), number, int(day or 1))
        except ValueError:
            continue
        yield match[0], _day_token(first) if day else _day_token(first)[:-2]


def _day_token(day: date) -> str:
    return f"={day.year:04}{day.month:02}{day.day:02}"
