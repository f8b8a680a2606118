"""The keys of a search program, as values.

Source: RFC 9051 §6.4.4 and the extensions named at each class.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import Enum

from mailserver.imap.sets import SAVED, SequenceSet


@dataclass(frozen=True, slots=True)
class All:
    r"""Search key ALL; OLD: no message here is ever ``\Recent``; SAVEDATESUPPORTED: it is."""


@dataclass(frozen=True, slots=True)
class Nothing:
    r"""Search keys that no message matches.

    RECENT and NEW: none here is ever ``\Recent``. THREADID: none has one (RFC 8474 §5.2).
    """


@dataclass(frozen=True, slots=True)
class And:
    """Every key matches."""

    keys: tuple["SearchKey", ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One of two matches."""

    left: "SearchKey"
    right: "SearchKey"


@dataclass(frozen=True, slots=True)
class Not:
    """It does not match."""

    key: "SearchKey"


@dataclass(frozen=True, slots=True)
class HasFlag:
    """A system flag or keyword is set."""

    flag: str


class Compare(Enum):
    """How a date or size is compared."""

    BEFORE = "before"
    ON = "on"
    SINCE = "since"


@dataclass(frozen=True, slots=True)
class InternalDate:
    """BEFORE, ON, SINCE: the internal date, its time and zone disregarded."""

    compare: Compare
    day: date


@dataclass(frozen=True, slots=True)
class SavedDate:
    """SAVEDBEFORE, SAVEDON, SAVEDSINCE (RFC 8514 §4.3): when it came into its folder."""

    compare: Compare
    day: date


@dataclass(frozen=True, slots=True)
class EmailId:
    """EMAILID as a key (RFC 8474 §6)."""

    value: bytes


@dataclass(frozen=True, slots=True)
class SentDate:
    """SENTBEFORE, SENTON, SENTSINCE: the Date field's day as written there."""

    compare: Compare
    day: date


@dataclass(frozen=True, slots=True)
class Larger:
    """LARGER."""

    octets: int


@dataclass(frozen=True, slots=True)
class Smaller:
    """SMALLER."""

    octets: int


@dataclass(frozen=True, slots=True)
class HeaderHas:
    """HEADER, FROM, TO, CC, BCC, SUBJECT: substring of a field; empty tests its presence."""

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class BodyHas:
    """BODY: substring of the text of the body."""

    value: str


@dataclass(frozen=True, slots=True)
class TextHas:
    """TEXT: substring of the header or of the text of the body."""

    value: str


@dataclass(frozen=True, slots=True)
class NumberIn:
    """A sequence set as a key."""

    numbers: SequenceSet


@dataclass(frozen=True, slots=True)
class UidIn:
    """UID."""

    numbers: SequenceSet


@dataclass(frozen=True, slots=True)
class ModseqFrom:
    """MODSEQ (RFC 7162 §3.1.5)."""

    modseq: int


@dataclass(frozen=True, slots=True)
class Older:
    """Search keys OLDER and, negated, YOUNGER (RFC 5032 §3)."""

    seconds: int


SearchKey = (
    All
    | Nothing
    | And
    | Or
    | Not
    | HasFlag
    | InternalDate
    | SavedDate
    | EmailId
    | SentDate
    | Larger
    | Smaller
    | HeaderHas
    | BodyHas
    | TextHas
    | NumberIn
    | UidIn
    | ModseqFrom
    | Older
)


def any_key(key: SearchKey, test: Callable[[SearchKey], bool]) -> bool:
    """Whether one of the keys of a program, however nested, passes a test."""
    match key:
        case Not(inner):
            return any_key(inner, test)
        case Or(left, right):
            return any_key(left, test) or any_key(right, test)
        case And(keys):
            return any(any_key(part, test) for part in keys)
        case _:
            return test(key)


def names_numbers(key: SearchKey) -> bool:
    """Whether message numbers are among the keys."""
    return any_key(key, lambda one: isinstance(one, NumberIn) and one.numbers is not SAVED)


def names_saved(key: SearchKey) -> bool:
    """Whether ``$`` is among the keys."""
    return any_key(key, lambda one: isinstance(one, NumberIn | UidIn) and one.numbers is SAVED)
