"""What a search looks at: a message's text, folded once, when it comes in or when it is sought.

Folding makes one of what people write in several ways: case, accents, ligatures (œ), typographic
apostrophes, line ends and runs of blanks. The needle is folded the same way, so a search stays a
search for a substring (RFC 9051 §6.4.4) of the folded text.

Source: RFC 9051 §6.4.4, RFC 5051 §2 (which this goes beyond: accents do not count).
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from certs.mime import (
    HeaderField,
    Outline,
    Part,
    decode_body,
    decode_charset,
    decode_header,
    decode_text,
    fields_of,
    walk,
)

BREAK: Final = "\x1f"
"""Between fields and between parts: no needle holds it, so none is found across."""
MAX_HEADER: Final = 64_000
MAX_BODY: Final = 400_000
"""Characters kept of a message; a longer one is looked at itself at each search."""
MAX_PART: Final = 4 * 1024 * 1024
"""Octets read of a text part for keeping, up to the last line end: folding holds several copies.
MAX_BODY characters of four octets each, in quoted-printable, take a little more."""
TRIGRAM: Final = 3
_ALIKE: Final = str.maketrans(
    {"œ": "oe", "æ": "ae", "’": "'", "‘": "'", "ʼ": "'", "′": "'", BREAK: " ", "\x00": " "}
    | dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff\ufffe")
)
"""The last ones are not seen: soft hyphens, joiners, and what PDFium writes for a hyphen."""
_BLANKS: Final = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class SearchText:
    """A message as a search sees it, folded.

    Attributes:
        header: ``BREAK name: value`` for each field.
        body: the text of each part after a BREAK: text parts, the headers of enclosed messages,
            and what was read of attachments.
        whole: False when something was cut off.
    """

    header: str
    body: str
    whole: bool = True


def fold(text: str) -> str:
    """Fold a text; one that is folded stays as it is."""
    if text.isascii():
        return _BLANKS.sub(" ", text.lower().replace(BREAK, " ").replace("\x00", " "))
    marked = unicodedata.normalize("NFKD", text.casefold()).translate(_ALIKE)
    bare = "".join(c for c in marked if not unicodedata.combining(c))
    return _BLANKS.sub(" ", bare.casefold().translate(_ALIKE))


def search_text(raw: bytes, outline: Outline, attached: Iterable[str] = ()) -> SearchText:
    """Read a message for keeping.

    Args:
        raw: the whole message.
        outline: of it.
        attached: texts read out of its attachments.
    """
    header = header_text(outline.header)
    pieces: list[str] = []
    room = MAX_BODY
    for text in chain(body_texts(raw, outline, _beginning), map(fold, attached)):
        pieces.append(text[:room])
        room -= len(text)
        if room < 0:
            break
    body = BREAK.join(pieces)
    cut_off = any(_is_text(part) and part.octets > MAX_PART for part in walk(outline))
    whole = room >= 0 and len(header) <= MAX_HEADER and not cut_off
    return SearchText(header[:MAX_HEADER], body, whole)


def header_text(fields: Iterable[HeaderField]) -> str:
    """Fold a header: ``BREAK name: value`` for each field."""
    return "".join(BREAK + _field_text(field) for field in fields)


def body_texts(
    raw: bytes, outline: Outline, read: Callable[[bytes, Part], str] = decode_text
) -> Iterator[str]:
    """Fold what a search looks at below the header, part by part.

    Args:
        raw: the whole message.
        outline: of it.
        read: gives the text of a part.
    """
    for part in walk(outline):
        if part.is_message:
            yield from map(_field_text, fields_of(raw, part.children[0]))
        elif _is_text(part):
            yield fold(read(raw, part))


def header_field_has(header: str, name: str, needle: str) -> bool:
    """Say whether, in the header of a ``SearchText``, a field of that name holds a folded text."""
    start = f"{name}:"
    return any(
        line.startswith(start) and needle in line[len(start) :].removeprefix(" ")
        for line in header.split(BREAK)
    )


def trigrams(needle: str) -> tuple[str, ...]:
    """Give the runs of three characters of a folded text, each once; none below three."""
    runs = (needle[at : at + TRIGRAM] for at in range(len(needle) - TRIGRAM + 1))
    return tuple(dict.fromkeys(runs))


def _is_text(part: Part) -> bool:
    return part.type.startswith("text/") and not part.children


def _beginning(raw: bytes, part: Part) -> str:
    """Give the text of a part; of a long one, what the first MAX_PART octets hold of its lines."""
    if part.octets <= MAX_PART:
        return decode_text(raw, part)
    octets = decode_body(raw, replace(part, body_end=part.body_start + MAX_PART))
    # The cut may have halved a character: none goes over a line end.
    return decode_charset(octets[: octets.rfind(b"\n") + 1] or octets, part.charset)


def _field_text(field: HeaderField) -> str:
    return f"{field.name.lower()}: {fold(decode_header(field.value).strip())}"
