"""What comes without a package, and whose it may be: hints that suggest, and decide nothing; pure.

A laboratory's HPRIM text and a bare PDF bear no qualified identity, so no rule can file them
(RULES §2, §5). Their header, the national file name and subject give hints; a person compares,
chooses the patient and the type, and the document is filed under that person's name.

Source: RULES §4, RULES §5, MSS-CL §2.1 (ECO.2.1.6), MSS-CL §3.1, MSS-CL §3.8.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final

from directory.codes import type_label
from record_bridge.errors import RecordStateError
from record_bridge.formats.hprim import parse_hprim
from record_bridge.identity import same_name
from record_bridge.life import MAX_FILE, is_whole_pdf

PDF: Final = "application/pdf"
TEXT: Final = "text/plain"
MAX_NAME: Final = 300
MAX_PACKED: Final = MAX_FILE * 4 // 3 + MAX_FILE // 20
"""Octets of the largest file in base64 with its line ends."""
MAX_SUGGESTED: Final = 20
_ENDINGS: Final = ("pdf", "hpr", "hpm", "hprim", "txt")
_SUBJECT: Final = re.compile(r"(\S{1,80}) (\S{1,80}) (\d{2})/(\d{2})/(\d{4})")
LOCAL: Final = 13
"""Characters of a matricule without its key."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a message says around a file.

    Attributes:
        name: the file's.
        codes: X-MSS-CODECDA, comma separated.
    """

    name: str = ""
    subject: str = ""
    codes: str = ""


@dataclass(frozen=True, slots=True)
class Hints:
    """Who a file may be about, as far as it says; "" for what it does not.

    Attributes:
        birth_date: AAAAMMJJ.
        number: social security number, which may be a parent's.
        type_code: of a known type.
    """

    family: str = ""
    given: str = ""
    birth_date: str = ""
    number: str = ""
    type_code: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """A file that a person may file.

    Attributes:
        content: its octets; a text's letters are in UTF-8, whatever they came in.
    """

    media_type: str
    content: bytes
    hints: Hints


def may_be_offered(media_type: str, name: str) -> bool:
    """Say whether a part of a message is worth looking into; its octets decide."""
    return media_type in (PDF, TEXT) or name.rpartition(".")[2].lower() in _ENDINGS


def read_offer(raw: bytes, told: Told, today: date) -> Offer:
    """Read a file by its octets, with what its message says.

    Raises:
        RecordStateError: it is empty, too large, or neither (``file_empty``, ``file_too_large``,
            ``not_offered``); or it holds letters about several patients (``several_patients``).
    """
    if not raw:
        raise RecordStateError("file_empty")
    if len(raw) > MAX_FILE:
        raise RecordStateError("file_too_large")
    around = _around(told)
    if raw.startswith(b"%PDF-"):
        if not is_whole_pdf(raw):
            raise RecordStateError("not_offered")
        return Offer(PDF, raw, around)
    letter = parse_hprim(raw, today)
    if letter is None:
        raise RecordStateError("not_offered")
    if letter.several:
        raise RecordStateError("several_patients")
    said = Hints(letter.family, letter.given, letter.birth_date, letter.number, around.type_code)
    return Offer(TEXT, letter.text.encode(), said)


def _around(told: Told) -> Hints:
    codes = (each.strip() for each in told.codes[:MAX_NAME].split(","))
    known = next((each for each in codes if type_label(each)), "")
    hints = Hints(type_code=known)
    pieces = told.name[:MAX_NAME].rpartition(".")[0].split("_")
    if len(pieces) >= 5:
        hints = replace(hints, family=_words(pieces[-3]), given=_words(pieces[-2]))
    found = _SUBJECT.search(told.subject[:MAX_NAME])
    if found is not None:
        family, given, *born = found.groups()
        hints = replace(
            hints,
            family=hints.family or family,
            given=hints.given or given,
            birth_date="".join(reversed(born)),
        )
    return hints


def _words(text: str) -> str:
    return " ".join(text.replace("-", " ").split())


def suggested(hints: Hints, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The identities that hints fit, best first.

    Args:
        hints: of one file.
        rows: of the patient table.
    """
    ranked = [(_fit(hints, row), row) for row in rows]
    found = sorted((pair for pair in ranked if pair[0]), key=lambda pair: -pair[0])
    return [row for _, row in found[:MAX_SUGGESTED]]


def _fit(hints: Hints, row: Mapping[str, Any]) -> int:
    """How many hints fit; 0 when they are too few to suggest anybody."""
    number = bool(hints.number) and hints.number[:LOCAL] == row["matricule"][:LOCAL]
    born = bool(hints.birth_date) and hints.birth_date == row["birth_date"]
    family = bool(hints.family) and same_name(hints.family, row["family"])
    given = bool(hints.given) and same_name(hints.given, row["given"])
    enough = number or (born and (family or given))
    if not hints.birth_date:
        enough = enough or (family and given)
    return number + born + family + given if enough else 0
