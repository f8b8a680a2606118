"""What patients add to their record, and how it is checked; always marked as theirs.

Files are judged by their octets, never by what they are called; measurements have one unit and a
range in which a number can be meant.

Source: MSS-FACTS §7.1 (formats, 5 MB), RULES §7.
"""

import enum
import re
from dataclasses import dataclass
from datetime import date
from typing import Final

from record_bridge.errors import RecordStateError

MAX_FILE: Final = 5 * 1024 * 1024
MAX_TITLE: Final = 200
MAX_LINE: Final = 500
MAX_TEXT: Final = 10_000
MAX_DEPOSITS: Final = 500
MAX_ITEMS: Final = 500
_TAIL: Final = 2048
_TEXT_SAMPLE: Final = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
ENDINGS: Final = {
    "application/pdf": ("pdf",),
    "image/jpeg": ("jpg", "jpeg"),
    "image/png": ("png",),
    "image/tiff": ("tif", "tiff"),
    "application/rtf": ("rtf",),
    "text/plain": ("txt",),
}
"""What may be deposited, and how such a file's name ends."""


class ProfileKind(enum.StrEnum):
    """Kinds of lines of the medical profile, in the order in which an emergency needs them."""

    ALLERGY = "allergy"
    TREATMENT = "treatment"
    HISTORY = "history"
    MEASUREMENT = "measurement"


class DirectiveKind(enum.StrEnum):
    """What a person decides ahead; the first two things of an emergency view."""

    ADVANCE_DIRECTIVES = "advance_directives"
    TRUSTED_PERSON = "trusted_person"


@dataclass(frozen=True, slots=True)
class Measure:
    """A measurement that can be noted: its French name, its unit, and the range it can have."""

    label: str
    unit: str
    low: float
    high: float
    pair: bool = False


MEASURES: Final = {
    "weight": Measure("Poids", "kg", 0.3, 500),
    "height": Measure("Taille", "cm", 20, 260),
    "blood_pressure": Measure("Tension", "mmHg", 30, 300, pair=True),
    "heart_rate": Measure("Pouls", "/min", 20, 300),
    "temperature": Measure("Température", "°C", 25, 45),
    "glucose": Measure("Glycémie", "g/L", 0.1, 10),
    "oxygen": Measure("Oxygène (SpO2)", "%", 40, 100),
}


def sniff(content: bytes, name: str) -> str:
    """Say what a deposited file is.

    Args:
        content: its octets.
        name: what it is called; its ending must fit.

    Returns:
        A media type of ``ENDINGS``.

    Raises:
        RecordStateError: it is empty, too large, or none of them (``file_empty``,
            ``file_too_large``, ``file_type``, ``file_ending``).
    """
    if not content:
        raise RecordStateError("file_empty")
    if len(content) > MAX_FILE:
        raise RecordStateError("file_too_large")
    media_type = _type_of(content)
    if media_type is None:
        raise RecordStateError("file_type")
    ending = name.rpartition(".")[2].lower()
    if ending not in ENDINGS[media_type]:
        # what looks like text under the name of something else is something else
        is_known = any(ending in endings for endings in ENDINGS.values())
        is_other = media_type == "text/plain" and not is_known
        raise RecordStateError("file_type" if is_other else "file_ending")
    return media_type


def is_whole_pdf(content: bytes) -> bool:
    """Say whether a file begins and ends as a PDF does."""
    return content.startswith(b"%PDF-") and b"%%EOF" in content[-_TAIL:]


def _type_of(content: bytes) -> str | None:
    if is_whole_pdf(content):
        return "application/pdf"
    if content.startswith(b"\xff\xd8\xff") and b"\xff\xd9" in content[-_TAIL:]:
        return "image/jpeg"
    if content.startswith(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR") and b"IEND" in content[-64:]:
        return "image/png"
    if content[:4] in (b"II*\x00", b"MM\x00*"):
        return "image/tiff"
    if content.startswith(b"{\\rtf") and content.rstrip(b"\r\n\x00 ").endswith(b"}"):
        return "application/rtf"
    return "text/plain" if _is_text(content) else None


def _is_text(content: bytes) -> bool:
    if content.lstrip()[:1] in (b"<", b"%", b"{"):
        return False  # markup or a program in disguise
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
        if any("\x80" <= character < "\xa0" for character in text):
            return False
    return _TEXT_SAMPLE.search(text) is None


def line(text: object, limit: int = MAX_LINE) -> str:
    """One line of what a person writes; "" for nothing."""
    shown = "".join(c if c.isprintable() else " " for c in str(text or "")[: 4 * limit])
    return " ".join(shown.split())[:limit]


def paragraph(text: object, limit: int = MAX_TEXT) -> str:
    """Several lines of what a person writes, without other control characters."""
    lines = str(text or "")[: 2 * limit].replace("\r\n", "\n").replace("\r", "\n")
    kept = "".join(c for c in lines if c == "\n" or c.isprintable())
    return kept.strip()[:limit]


def civil_day(text: object, today: date, *, born: date | None = None) -> date:
    """A day that has been: not before birth, not to come.

    Raises:
        RecordStateError: ``no_such_day``.
    """
    try:
        day = date.fromisoformat(str(text))
    except ValueError:
        raise RecordStateError("no_such_day") from None
    if day > today or (born is not None and day < born):
        raise RecordStateError("no_such_day")
    return day


def measured(code: str, value: object) -> str:
    """The value of a measurement as it is kept: ``72,5`` or ``128/76``.

    Raises:
        RecordStateError: ``no_such_measure``, or ``no_such_value`` for what cannot be meant.
    """
    measure = MEASURES.get(code)
    if measure is None:
        raise RecordStateError("no_such_measure")
    text = "".join(str(value).split()).replace(".", ",")
    parts = text.split("/") if measure.pair else [text]
    if len(parts) != (2 if measure.pair else 1):
        raise RecordStateError("no_such_value")
    for part in parts:
        if re.fullmatch(r"[0-9]{1,3}(,[0-9]{1,2})?", part) is None:
            raise RecordStateError("no_such_value")
        if not measure.low <= float(part.replace(",", ".")) <= measure.high:
            raise RecordStateError("no_such_value")
    return "/".join(parts)
