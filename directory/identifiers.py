"""National identifiers of professionals and structures as value types.

``parse`` enforces the check digit; ``lenient`` enforces the shape only, because the identifiers of
the published test material mostly fail their check digits (facts: CI-SIS samples). A value, once
made, is well formed; nothing here says that it exists.
Source: facts §4.3 (identifiers of the published samples).
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Self

from directory.errors import IdentifierError, IdentifierReason

PS_ROOT = "1.2.250.1.71.4.2.1"
"""OID of the national identifier of a professional (IdNat_PS)."""
STRUCTURE_ROOT = "1.2.250.1.71.4.2.2"
"""OID of the national identifier of a structure (IdNat_Struct)."""
LA_POSTE = "356000000"
"""The one SIREN whose SIRETs need not satisfy Luhn; the sum of their digits is a multiple of 5."""

_RPPS = re.compile(r"[0-9]{11}")
_FINESS = re.compile(r"[0-9](?:[0-9]|[AB])[0-9]{7}")
_SIRET = re.compile(r"[0-9]{14}")
_OTHER = re.compile(r"[0-9A-Za-z][0-9A-Za-z/.-]{0,63}")


def luhn(digits: str) -> bool:
    """Say whether the last digit is the Luhn key of the others."""
    total = 0
    for position, character in enumerate(reversed(digits)):
        value = int(character)
        if position % 2:
            value *= 2
            if value > 9:
                value -= 9
        total += value
    return total % 10 == 0


@dataclass(frozen=True, slots=True, order=True)
class Rpps:
    """A professional's number: eleven digits, the last a Luhn key."""

    value: str

    @classmethod
    def lenient(cls, text: str) -> Self:
        """Read the shape only, for test sites.

        Raises:
            IdentifierError: not eleven digits.
        """
        if _RPPS.fullmatch(text) is None:
            raise IdentifierError(IdentifierReason.SHAPE)
        return cls(text)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a number and check its key.

        Raises:
            IdentifierError: not eleven digits, or a wrong key.
        """
        value = cls.lenient(text)
        if not luhn(text):
            raise IdentifierError(IdentifierReason.KEY)
        return value

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, order=True)
class Finess:
    """A health establishment's number: nine characters, the last a Luhn key.

    Corsican numbers hold a letter (``2A``, ``2B``); no published text was found on how the letter
    enters the key, so their key is not checked.
    """

    value: str

    @classmethod
    def lenient(cls, text: str) -> Self:
        """Read the shape only, for test sites.

        Raises:
            IdentifierError: not of nine characters of the right kind.
        """
        upper = text.upper()
        if _FINESS.fullmatch(upper) is None:
            raise IdentifierError(IdentifierReason.SHAPE)
        return cls(upper)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a number and check its key.

        Raises:
            IdentifierError: wrong shape or key.
        """
        finess = cls.lenient(text)
        if finess.value.isdigit() and not luhn(finess.value):
            raise IdentifierError(IdentifierReason.KEY)
        return finess

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, order=True)
class Siret:
    """An establishment's number: fourteen digits, the last a Luhn key (La Poste excepted)."""

    value: str

    @classmethod
    def lenient(cls, text: str) -> Self:
        """Read the shape only, for test sites.

        Raises:
            IdentifierError: not fourteen digits.
        """
        if _SIRET.fullmatch(text) is None:
            raise IdentifierError(IdentifierReason.SHAPE)
        return cls(text)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a number and check its key.

        Raises:
            IdentifierError: wrong shape or key.
        """
        siret = cls.lenient(text)
        post_office = text.startswith(LA_POSTE) and sum(map(int, text)) % 5 == 0
        if not luhn(text) and not post_office:
            raise IdentifierError(IdentifierReason.KEY)
        return siret

    @property
    def siren(self) -> str:
        """The nine digits of the legal unit."""
        return self.value[:9]

    def __str__(self) -> str:
        return self.value


class PsKind(Enum):
    """The type digit of a professional's national identifier."""

    ADELI = "0"
    FINESS_INTERNAL = "3"
    SIREN_INTERNAL = "4"
    SIRET_INTERNAL = "5"
    RPPS = "8"


class StructKind(Enum):
    """The type digit of a structure's national identifier."""

    ADELI_RANK = "0"
    FINESS = "1"
    SIREN = "2"
    SIRET = "3"
    RPPS_RANK = "4"


@dataclass(frozen=True, slots=True)
class IdNatPs:
    """A professional as documents name one: a type digit and an identifier. Root ``PS_ROOT``."""

    kind: PsKind
    value: str

    @classmethod
    def lenient(cls, text: str) -> Self:
        """Read the shape only.

        Raises:
            IdentifierError: unknown type digit, or not the shape of its kind.
        """
        try:
            kind = PsKind(text[:1])
        except ValueError as error:
            raise IdentifierError(IdentifierReason.KIND) from error
        rest = text[1:]
        if kind is PsKind.RPPS:
            return cls(kind, Rpps.lenient(rest).value)
        if _OTHER.fullmatch(rest) is None:
            raise IdentifierError(IdentifierReason.SHAPE)
        return cls(kind, rest)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an identifier and check the key where its kind has one.

        Raises:
            IdentifierError: as ``lenient``, or a wrong key.
        """
        value = cls.lenient(text)
        if value.kind is PsKind.RPPS:
            Rpps.parse(value.value)
        return value

    @property
    def rpps(self) -> Rpps | None:
        """The RPPS number, when that is what it holds."""
        return Rpps(self.value) if self.kind is PsKind.RPPS else None

    def __str__(self) -> str:
        return f"{self.kind.value}{self.value}"


@dataclass(frozen=True, slots=True)
class IdNatStruct:
    """A structure as documents name one: type digit, identifier. Root ``STRUCTURE_ROOT``."""

    kind: StructKind
    value: str

    @classmethod
    def lenient(cls, text: str) -> Self:
        """Read the shape only.

        Raises:
            IdentifierError: unknown type digit, or not the shape of its kind.
        """
        try:
            kind = StructKind(text[:1])
        except ValueError as error:
            raise IdentifierError(IdentifierReason.KIND) from error
        rest = text[1:]
        match kind:
            case StructKind.FINESS:
                rest = Finess.lenient(rest).value
            case StructKind.SIRET:
                rest = Siret.lenient(rest).value
            case _:
                if _OTHER.fullmatch(rest) is None:
                    raise IdentifierError(IdentifierReason.SHAPE)
        return cls(kind, rest)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an identifier and check the key where its kind has one.

        Raises:
            IdentifierError: as ``lenient``, or a wrong key.
        """
        value = cls.lenient(text)
        match value.kind:
            case StructKind.FINESS:
                Finess.parse(value.value)
            case StructKind.SIRET:
                Siret.parse(value.value)
            case StructKind.SIREN:
                if not (len(value.value) == 9 and value.value.isdigit() and luhn(value.value)):
                    raise IdentifierError(IdentifierReason.KEY)
            case _:
                pass
        return value

    @classmethod
    def of_organization(cls, organization: str) -> Self:
        """Give the national form of a bare FINESS or SIRET.

        Raises:
            IdentifierError: neither nine characters of a FINESS nor fourteen digits.
        """
        if len(organization) == 14:
            return cls(StructKind.SIRET, Siret.lenient(organization).value)
        return cls(StructKind.FINESS, Finess.lenient(organization).value)

    def __str__(self) -> str:
        return f"{self.kind.value}{self.value}"
