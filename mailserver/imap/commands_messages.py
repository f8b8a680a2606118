"""The commands about messages of a folder: FETCH, STORE, COPY, MOVE, as values.

Source: RFC 9051 §6 and the extensions named at each class.
"""

from dataclasses import dataclass
from enum import Enum

from mailserver.imap.sets import Numbering, SequenceSet, Window


class Simple(Enum):
    """FETCH items without arguments; the value is their name on the wire."""

    FLAGS = b"FLAGS"
    UID = b"UID"
    INTERNALDATE = b"INTERNALDATE"
    SIZE = b"RFC822.SIZE"
    ENVELOPE = b"ENVELOPE"
    BODY = b"BODY"
    BODYSTRUCTURE = b"BODYSTRUCTURE"
    MODSEQ = b"MODSEQ"
    EMAILID = b"EMAILID"
    THREADID = b"THREADID"
    SAVEDATE = b"SAVEDATE"
    PREVIEW = b"PREVIEW"


class SectionKind(Enum):
    """Which octets of a part. Source: RFC 9051 §6.4.5.1."""

    WHOLE = "whole"
    HEADER = "header"
    FIELDS = "fields"
    FIELDS_NOT = "fields_not"
    TEXT = "text"
    MIME = "mime"
    DECODED = "decoded"
    DECODED_SIZE = "decoded_size"


@dataclass(frozen=True, slots=True)
class BodySection:
    r"""BODY[section]<partial>, its older spellings, and BINARY (RFC 3516 §4.2).

    Attributes:
        label: the item's name as the response repeats it, the origin octet excepted.
        part: section numbers; empty is the message itself.
        fields: header names in lower case for FIELDS and FIELDS_NOT.
        partial: first octet and the greatest count, or None.
        peek: fetching it does not set ``\Seen``.
    """

    label: bytes
    part: tuple[int, ...]
    kind: SectionKind
    fields: frozenset[bytes]
    partial: tuple[int, int] | None
    peek: bool


FetchItem = Simple | BodySection


@dataclass(frozen=True, slots=True)
class Fetch:
    """FETCH (RFC 9051 §6.4.5; CHANGEDSINCE, VANISHED: RFC 7162 §3.1.4.1, §3.2.6).

    Attributes:
        partial: which of the messages that are left then (RFC 9394 §3.2).
    """

    numbers: SequenceSet
    items: tuple[FetchItem, ...]
    numbering: Numbering
    changedsince: int | None
    vanished: bool = False
    partial: Window | None = None


class StoreMode(Enum):
    """What STORE does with its flags."""

    REPLACE = "replace"
    ADD = "add"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Store:
    """STORE (RFC 9051 §6.4.6; UNCHANGEDSINCE: RFC 7162 §3.1.3)."""

    numbers: SequenceSet
    mode: StoreMode
    flags: tuple[str, ...]
    silent: bool
    numbering: Numbering
    unchangedsince: int | None


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY (RFC 9051 §6.4.7)."""

    numbers: SequenceSet
    mailbox: str
    numbering: Numbering


@dataclass(frozen=True, slots=True)
class Move:
    """MOVE (RFC 9051 §6.4.8)."""

    numbers: SequenceSet
    mailbox: str
    numbering: Numbering
