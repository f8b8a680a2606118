"""The INS number and its traits: how they are written, and the key of the number.

The key is enforced under the two production authorities only; the agency's own test identities
mostly fail it. Test authorities are refused on a production site.

Source: MSS-FACTS §5, CI-SIS §StructMin, RULES §5, RULES §11.
"""

import re
from dataclasses import dataclass
from typing import Final

from record_bridge.errors import InsError
from record_bridge.formats.cda_header import (
    INS_C,
    INS_C_TEST,
    INS_NIA,
    INS_NIR,
    INS_NIR_DEMO,
    INS_NIR_TEST,
    INS_ROOTS,
)
from record_bridge.model import Environment, InsMatricule, InsTraits, Sex

KEYED_OIDS: Final = frozenset({INS_NIR, INS_NIA})
TEST_OIDS: Final = frozenset({INS_NIR_TEST, INS_NIR_DEMO, INS_C, INS_C_TEST})
"""Authorities that a production site refuses (RULES §5)."""

_FORM: Final = re.compile(r"[1-8]\d{4}(?:\d\d|2[AB])\d{8}", re.ASCII)
_LOOSE_FORM: Final = re.compile(r"[0-9A-Z]{1,22}", re.ASCII)
_PLACE: Final = re.compile(r"\d{5}|2[AB]\d{3}", re.ASCII)
_DATES: Final = (
    re.compile(r"(?P<y>\d{4})(?P<m>\d\d)(?P<d>\d\d)", re.ASCII),
    re.compile(r"(?P<y>\d{4})-(?P<m>\d\d)-(?P<d>\d\d)", re.ASCII),
    re.compile(r"(?P<d>\d\d)/(?P<m>\d\d)/(?P<y>\d{4})", re.ASCII),
)


def key_of(number: str) -> str:
    """The two-digit key of the first thirteen characters of a matricule.

    Raises:
        InsError: not thirteen digits (2A and 2B allowed as a department).

    Source: MSS-FACTS §5 (97 less the number modulo 97; Corsica as 19 and 18).
    """
    if _FORM.fullmatch(number + "00") is None:
        raise InsError("form")
    department = {"2A": "19", "2B": "18"}.get(number[5:7], number[5:7])
    return f"{97 - int(number[:5] + department + number[7:]) % 97:02}"


def has_good_key(matricule: str) -> bool:
    """Whether a matricule is fifteen characters with the right key."""
    return _FORM.fullmatch(matricule) is not None and matricule[13:] == key_of(matricule[:13])


def parse_ins(value: str, oid: str, environment: Environment) -> InsMatricule:
    """The number under its authority, as this site takes it.

    Raises:
        InsError: ``form``, ``key``, ``authority`` (not an INS one), ``test`` (in production).

    Source: RULES §5.
    """
    ins = InsMatricule("".join(value.split()).upper(), oid.strip())
    if ins.oid not in INS_ROOTS:
        raise InsError("authority")
    if environment is Environment.PRODUCTION and ins.oid in TEST_OIDS:
        raise InsError("test")
    if ins.oid in KEYED_OIDS:
        if _FORM.fullmatch(ins.value) is None:
            raise InsError("form")
        if not has_good_key(ins.value):
            raise InsError("key")
    elif _LOOSE_FORM.fullmatch(ins.value) is None:
        raise InsError("form")
    return ins


@dataclass(frozen=True, slots=True)
class TraitsText:
    """The traits as a person typed them."""

    family: str
    given: str
    birth_date: str
    sex: str
    birth_place: str | None = None


def parse_traits(text: TraitsText) -> InsTraits:
    """The strict traits of a registration.

    Raises:
        InsError: ``name``, ``birth date``, ``sex`` or ``birth place``.

    Source: RULES §5.
    """
    family, given = " ".join(text.family.split()), " ".join(text.given.split())
    if not family or not given:
        raise InsError("name")
    place = (text.birth_place or "").strip().upper() or None
    if place is not None and not is_birth_place(place):
        raise InsError("birth place")
    return InsTraits(
        birth_family=family,
        first_birth_given=given,
        birth_date=parse_birth_date(text.birth_date),
        sex=parse_sex(text.sex),
        birth_place=place,
    )


def parse_birth_date(text: str) -> str:
    """Eight digits from AAAAMMJJ, AAAA-MM-JJ or JJ/MM/AAAA.

    Month and day are not checked against a calendar: unknown ones are written 00 by some
    authorities, and the date only serves to be compared.

    Raises:
        InsError: ``birth date``.
    """
    for form in _DATES:
        match = form.fullmatch(text.strip())
        if match is not None and int(match["m"]) <= 12 and int(match["d"]) <= 31:
            return match["y"] + match["m"] + match["d"]
    raise InsError("birth date")


def parse_sex(text: str) -> Sex:
    """M, F or U.

    Raises:
        InsError: ``sex``.
    """
    try:
        return Sex(text.strip().upper())
    except ValueError:
        raise InsError("sex") from None


def is_birth_place(text: str) -> bool:
    """Whether this is an INSEE code of a commune or a country: five characters."""
    return _PLACE.fullmatch(text) is not None


def compose(sex: Sex, birth_date: str, place: str, order: int) -> str:
    """A matricule with its key, for generated identities (communes 990 to 999, test OID).

    Args:
        sex: U counts as 3, which no register gives.
        birth_date: eight digits.
        place: five characters of the number, "99990" to "99999" for generated identities.
        order: 1 to 999.

    Raises:
        InsError: ``form``.

    Source: RULES §11.
    """
    digit = {Sex.MALE: "1", Sex.FEMALE: "2", Sex.UNKNOWN: "3"}[sex]
    number = f"{digit}{birth_date[2:6]}{place}{order:03}"
    return number + key_of(number)
