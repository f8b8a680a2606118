"""Read the header of HPRIM Médecin text: twelve lines that say who, then a letter; pure.

Laboratories and imaging centres send it for want of a package. Nothing in it proves who it is
about (no INS, no qualified trait, and every editor fills it differently), so what is read serves
to suggest, never to decide. Seen in the wild: a thirteenth line, blank lines first, DOS end of
file, days of two-digit years, several patients in one file.

Source: H.PR.I.M. Médecins 3.0 (March 1997), header of the medical text.
"""

import re
from dataclasses import dataclass
from datetime import date
from typing import Final

MAX_OCTETS: Final = 5 * 1024 * 1024
"""A longer file is no letter (MSS-FACTS §7.1 has the same limit for a person's file)."""
MAX_LINE: Final = 200
_HEADER: Final = 12
_FAMILY, _GIVEN, _BORN, _NUMBER, _SENDER = 1, 2, 6, 7, 10
_BLANKS_BEFORE: Final = 20
_END: Final = re.compile(r"^\*{4}FIN(?:FICHIER)?\*{3,4}[ \t]*$", re.MULTILINE)
_PATIENT_END: Final = re.compile(r"^\*{4}FIN\*{3,4}[ \t]*$", re.MULTILINE)
_DAY_TEXT: Final = re.compile(r"(\d{2})[/.\- ]?(\d{2})[/.\- ]?(\d{4}|\d{2})")
_NUMBER_TEXT: Final = re.compile(r"\d{5}(?:\d{2}|2[AB])\d{6}(?:\d{2})?", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class HprimText:
    """One file.

    Attributes:
        text: all of it, LF line ends.
        family: as written, "" when the line is empty; like the other lines, at most MAX_LINE.
        birth_date: AAAAMMJJ, "" when it is no day.
        number: social security number without blanks, 13 or 15 characters, or "".
        sender: who wrote it, as they name themselves.
        several: it holds more than one patient's letter, and so is nobody's.
    """

    text: str
    family: str
    given: str
    birth_date: str
    number: str
    sender: str
    several: bool


def parse_hprim(raw: bytes, today: date) -> HprimText | None:
    """Read a file; None for one that is not HPRIM Médecin text.

    Args:
        raw: its octets, UTF-8 or Latin-1 (Windows' letters too).
        today: by which a year of two digits is a year past.
    """
    text = text_of_letters(raw)
    if text is None:
        return None
    lines = text[: 40 * MAX_LINE].lstrip("\n").split("\n", _HEADER)
    if len(lines) < _HEADER or len(text) - len(text.lstrip("\n")) > _BLANKS_BEFORE:
        return None
    header = [" ".join(line.split())[:MAX_LINE] for line in lines[:_HEADER]]
    born = _day(header[_BORN], today)
    ends = _END.search(text) is not None
    if not header[_FAMILY] or not (ends or born):
        return None
    number = "".join(header[_NUMBER].split()).upper()
    return HprimText(
        text=text,
        family=header[_FAMILY],
        given=header[_GIVEN],
        birth_date=born,
        number=number if _NUMBER_TEXT.fullmatch(number) else "",
        sender=header[_SENDER],
        several=len(_PATIENT_END.findall(text)) > 1,
    )


def text_of_letters(raw: bytes) -> str | None:
    """The text of a file with LF line ends; None when it is no text, or too long."""
    raw = raw.rstrip(b"\x1a\x00")
    if not raw.strip() or len(raw) > MAX_OCTETS:
        return None
    for encoding in ("utf-8-sig", "cp1252", "latin-1"):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x0c", "\n")
        return None if _CONTROL.search(text) else text
    return None


def _day(text: str, today: date) -> str:
    """``JJ/MM/AAAA`` or ``JJ/MM/AA`` as AAAAMMJJ; "" for what is no day that has been."""
    found = _DAY_TEXT.fullmatch(text)
    if found is None or not text.isascii():
        return ""
    day, month, year = (int(each) for each in found.groups())
    if year < 100:
        year += today.year // 100 * 100
        year -= 100 if year > today.year else 0
    try:
        known = date(year, month, day)
    except ValueError:
        return ""
    return f"{known:%Y%m%d}" if known <= today and known.year > 1850 else ""
