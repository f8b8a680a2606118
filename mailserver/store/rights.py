"""What a person may do in a folder, as letters; pure.

Invariants: a set of rights holds only the eleven letters of RFC 4314; the two older ones, ``c``
and ``d``, stand for several when they are read, and are shown beside them when they are written.

Source: RFC 4314 §2.1, RFC 4314 §2.1.1.
"""

from enum import Enum
from typing import Final

from mailserver.store.errors import UnknownRightError

Rights = frozenset[str]

LETTERS: Final = "lrswipkxtea"
"""lookup, read, seen, write, insert, post, create, delete folder, delete, expunge, administer."""
ALL: Final[Rights] = frozenset(LETTERS)
NONE: Final[Rights] = frozenset()
COLLEAGUE: Final[Rights] = frozenset("lrswipkte")
"""What sharing a mailbox gives unless said otherwise: all but deleting folders and sharing on."""
OLD: Final = {"c": frozenset("kx"), "d": frozenset("te")}
"""The older rights that became several. Source: RFC 4314 §2.1.1."""


class RightsMode(Enum):
    """What SETACL does with the rights it names. Source: RFC 4314 §3.1."""

    REPLACE = ""
    ADD = "+"
    REMOVE = "-"


def parse_rights(letters: str) -> Rights:
    """Read letters in any order, the old ones too.

    Raises:
        UnknownRightError: another letter.
    """
    found: set[str] = set()
    for letter in letters:
        if letter not in ALL and letter not in OLD:
            raise UnknownRightError
        found |= OLD.get(letter, {letter})
    return frozenset(found)


def encode_rights(rights: Rights) -> str:
    """Write rights in their one order, as they are kept."""
    return "".join(letter for letter in LETTERS if letter in rights)


def shown_rights(rights: Rights) -> str:
    """Write rights for clients: an old letter beside any of those that it stands for.

    Source: RFC 4314 §2.1.1.
    """
    old = "".join(letter for letter, meant in OLD.items() if meant & rights)
    return encode_rights(rights) + old


def changed(before: Rights, mode: RightsMode, named: Rights) -> Rights:
    """Give what SETACL makes of a set of rights."""
    match mode:
        case RightsMode.REPLACE:
            return named
        case RightsMode.ADD:
            return before | named
        case RightsMode.REMOVE:
            return before - named
