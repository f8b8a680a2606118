"""Finding words in what a page may show; pure."""

import unicodedata
from typing import Final

MAX_WORDS: Final = 8


def words_of(asked: str) -> tuple[str, ...]:
    """The words asked for, without accents and case; at most eight."""
    return tuple(bare(asked).split())[:MAX_WORDS]


def matches(words: tuple[str, ...], *texts: str) -> bool:
    """Say whether these texts together hold every word, or the beginning of one."""
    whole = " ".join(bare(text) for text in texts)
    return all(word in whole for word in words)


def bare(text: str) -> str:
    """A text as it is compared: ``Réglé`` is ``regle``."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))
