"""The commands, as values.

Source: RFC 9051 §6 and the extensions named at each class.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from mailserver.imap.ordering import SortBy
from mailserver.imap.search_keys import SearchKey
from mailserver.imap.sets import SequenceSet, Window
from mailserver.store.rights import Rights, RightsMode


class Numbering(Enum):
    """Whether a command speaks of message numbers or UIDs."""

    SEQUENCE = "sequence"
    UID = "uid"


class Access(Enum):
    """How a folder is opened."""

    READ_WRITE = "SELECT"
    READ_ONLY = "EXAMINE"


@dataclass(frozen=True, slots=True)
class Capability:
    """CAPABILITY (RFC 9051 §6.1.1)."""


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP (RFC 9051 §6.1.2)."""


@dataclass(frozen=True, slots=True)
class Logout:
    """LOGOUT (RFC 9051 §6.1.3)."""


@dataclass(frozen=True, slots=True)
class Id:
    """ID (RFC 2971 §3.1); what the client says of itself is not kept."""


@dataclass(frozen=True, slots=True)
class StartTls:
    """STARTTLS (RFC 9051 §6.2.1)."""


@dataclass(frozen=True, slots=True)
class Authenticate:
    """AUTHENTICATE (RFC 9051 §6.2.2); ``initial`` is still base64, None when absent."""

    mechanism: str
    initial: bytes | None


@dataclass(frozen=True, slots=True, repr=False)
class Login:
    """LOGIN (RFC 9051 §6.2.3)."""

    user: bytes
    password: bytes


@dataclass(frozen=True, slots=True)
class Enable:
    """ENABLE (RFC 5161 §3.1)."""

    names: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """What a client that comes back says of its cache (RFC 7162 §3.2.5).

    Attributes:
        uidvalidity: of the folder when the cache was made; modseq: up to which it is whole.
        uids: those it knows, None for all.
        matched: it also told which message numbers had which UIDs.
    """

    uidvalidity: int
    modseq: int
    uids: SequenceSet | None = None
    matched: bool = False


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT or EXAMINE (RFC 9051 §6.3.2, §6.3.3; RFC 7162 §3.1.8, §3.2.5)."""

    mailbox: str
    access: Access
    condstore: bool
    known: Known | None = None


@dataclass(frozen=True, slots=True)
class Create:
    """CREATE (RFC 9051 §6.3.4); ``uses`` are special uses asked for (RFC 6154 §3)."""

    mailbox: str
    uses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GetAcl:
    """GETACL (RFC 4314 §3.3)."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class SetAcl:
    """SETACL (RFC 4314 §3.1); ``identifier`` is a person's address."""

    mailbox: str
    identifier: bytes
    mode: RightsMode
    rights: Rights


@dataclass(frozen=True, slots=True)
class DeleteAcl:
    """DELETEACL (RFC 4314 §3.2)."""

    mailbox: str
    identifier: bytes


@dataclass(frozen=True, slots=True)
class ListRights:
    """LISTRIGHTS (RFC 4314 §3.4)."""

    mailbox: str
    identifier: bytes


@dataclass(frozen=True, slots=True)
class MyRights:
    """MYRIGHTS (RFC 4314 §3.5)."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class GetQuota:
    """GETQUOTA (RFC 9208 §4.1.1)."""

    root: str


@dataclass(frozen=True, slots=True)
class GetQuotaRoot:
    """GETQUOTAROOT (RFC 9208 §4.1.2)."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class Compress:
    """COMPRESS DEFLATE (RFC 4978 §3)."""


@dataclass(frozen=True, slots=True)
class Delete:
    """DELETE (RFC 9051 §6.3.5)."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class Rename:
    """RENAME (RFC 9051 §6.3.6)."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Subscribe:
    """SUBSCRIBE (RFC 9051 §6.3.7)."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """UNSUBSCRIBE (RFC 9051 §6.3.8)."""

    mailbox: str


class ListSelect(Enum):
    """LIST selection options (RFC 5258 §3.1, RFC 6154 §2)."""

    SUBSCRIBED = b"SUBSCRIBED"
    REMOTE = b"REMOTE"
    RECURSIVEMATCH = b"RECURSIVEMATCH"
    SPECIAL_USE = b"SPECIAL-USE"


class ListReturn(Enum):
    """LIST return options (RFC 5258 §3.2, RFC 6154 §2, RFC 5819 §2, RFC 8440 §3)."""

    SUBSCRIBED = b"SUBSCRIBED"
    CHILDREN = b"CHILDREN"
    SPECIAL_USE = b"SPECIAL-USE"
    STATUS = b"STATUS"
    MYRIGHTS = b"MYRIGHTS"


class StatusItem(Enum):
    """What STATUS can be asked (RFC 9051 §6.3.11, RFC 7162 §3.1.7, RFC 7889 §3)."""

    MESSAGES = b"MESSAGES"
    RECENT = b"RECENT"
    UIDNEXT = b"UIDNEXT"
    UIDVALIDITY = b"UIDVALIDITY"
    UNSEEN = b"UNSEEN"
    DELETED = b"DELETED"
    DELETED_STORAGE = b"DELETED-STORAGE"
    SIZE = b"SIZE"
    HIGHESTMODSEQ = b"HIGHESTMODSEQ"
    MAILBOXID = b"MAILBOXID"
    APPENDLIMIT = b"APPENDLIMIT"


@dataclass(frozen=True, slots=True)
class List:
    """LIST (RFC 9051 §6.3.9, RFC 5258, RFC 5819)."""

    reference: str
    patterns: tuple[str, ...]
    select: frozenset[ListSelect] = frozenset()
    returns: frozenset[ListReturn] = frozenset()
    status: tuple[StatusItem, ...] = ()
    extended: bool = False


@dataclass(frozen=True, slots=True)
class Lsub:
    """LSUB (RFC 3501 §6.3.9)."""

    reference: str
    pattern: str


@dataclass(frozen=True, slots=True)
class Namespace:
    """NAMESPACE (RFC 2342 §5)."""


@dataclass(frozen=True, slots=True)
class Status:
    """STATUS (RFC 9051 §6.3.11)."""

    mailbox: str
    items: tuple[StatusItem, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Appending:
    """One message of an APPEND or REPLACE; ``utf8``: as RFC 6855 §4 writes it."""

    flags: tuple[str, ...]
    internal_at: datetime | None
    message: bytes
    utf8: bool = False


@dataclass(frozen=True, slots=True)
class Append:
    """APPEND (RFC 9051 §6.3.12), of several messages at once (RFC 3502 §6.3.11)."""

    mailbox: str
    messages: tuple[Appending, ...]


@dataclass(frozen=True, slots=True)
class Replace:
    """REPLACE (RFC 8508 §3)."""

    number: SequenceSet
    mailbox: str
    message: Appending
    numbering: Numbering


@dataclass(frozen=True, slots=True)
class Idle:
    """IDLE (RFC 2177)."""


@dataclass(frozen=True, slots=True)
class Check:
    """CHECK (RFC 3501 §6.4.1)."""


@dataclass(frozen=True, slots=True)
class Close:
    """CLOSE (RFC 9051 §6.4.1)."""


@dataclass(frozen=True, slots=True)
class Unselect:
    """UNSELECT (RFC 3691 §2)."""


@dataclass(frozen=True, slots=True)
class Expunge:
    """EXPUNGE (RFC 9051 §6.4.3), or UID EXPUNGE when ``uids`` is given (RFC 4315 §2.1)."""

    uids: SequenceSet | None = None


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


class SearchReturn(Enum):
    """ESEARCH result options (RFC 4731 §3.1, RFC 5182 §2, RFC 9394 §3.1)."""

    MIN = b"MIN"
    MAX = b"MAX"
    ALL = b"ALL"
    COUNT = b"COUNT"
    SAVE = b"SAVE"
    PARTIAL = b"PARTIAL"


@dataclass(frozen=True, slots=True)
class Returns:
    """What a search is asked to answer with; ``partial`` is given with PARTIAL."""

    options: frozenset[SearchReturn]
    partial: Window | None = None

    @classmethod
    def of(cls, *options: SearchReturn) -> "Returns":
        """Build one without PARTIAL."""
        return cls(frozenset(options))

    def __contains__(self, option: SearchReturn) -> bool:
        return option in self.options

    @property
    def only_saves(self) -> bool:
        """Nothing is to be answered (RFC 5182 §2.1)."""
        return self.options == {SearchReturn.SAVE}


@dataclass(frozen=True, slots=True)
class Search:
    """SEARCH (RFC 9051 §6.4.4); ``returns`` is None for the old response."""

    key: SearchKey
    numbering: Numbering
    returns: Returns | None
    names_charset: bool = False


@dataclass(frozen=True, slots=True)
class UidBatches:
    """UIDBATCHES (RFC 10022 §3.1); the batches from ``first`` to ``last``, None for all."""

    size: int
    first: int = 1
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Sort:
    """SORT (RFC 5256 §3; ``returns``: RFC 5267 §3.1)."""

    by: tuple[SortBy, ...]
    key: SearchKey
    numbering: Numbering
    returns: Returns | None


class Watched(Enum):
    """Of which mailboxes NOTIFY and ESEARCH speak. Source: RFC 5465 §6, RFC 7377 §2.2."""

    SELECTED = b"SELECTED"
    SELECTED_DELAYED = b"SELECTED-DELAYED"
    INBOXES = b"INBOXES"
    PERSONAL = b"PERSONAL"
    SUBSCRIBED = b"SUBSCRIBED"
    SUBTREE = b"SUBTREE"
    SUBTREE_ONE = b"SUBTREE-ONE"
    MAILBOXES = b"MAILBOXES"


class Event(Enum):
    """What NOTIFY can tell here. Source: RFC 5465 §5."""

    MESSAGE_NEW = b"MESSAGENEW"
    MESSAGE_EXPUNGE = b"MESSAGEEXPUNGE"
    FLAG_CHANGE = b"FLAGCHANGE"
    MAILBOX_NAME = b"MAILBOXNAME"
    SUBSCRIPTION_CHANGE = b"SUBSCRIPTIONCHANGE"


@dataclass(frozen=True, slots=True)
class Scope:
    """Some mailboxes; ``mailboxes`` are the names that MAILBOXES and the subtrees come with."""

    watched: Watched
    mailboxes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EventGroup:
    """Events of some mailboxes; ``items`` are what FETCH tells of a new message."""

    scope: Scope
    events: frozenset[Event]
    items: tuple[FetchItem, ...] = ()


@dataclass(frozen=True, slots=True)
class Notify:
    """NOTIFY (RFC 5465 §3); NONE has no groups, ``status`` asks for the counts of now."""

    groups: tuple[EventGroup, ...]
    status: bool = False


@dataclass(frozen=True, slots=True)
class MultiSearch:
    """ESEARCH (RFC 7377 §2.1); without scopes in the selected mailbox."""

    scopes: tuple[Scope, ...]
    key: SearchKey
    returns: Returns
    names_charset: bool = False


class ThreadAlgorithm(Enum):
    """Threading algorithms (RFC 5256 §3)."""

    ORDEREDSUBJECT = b"ORDEREDSUBJECT"
    REFERENCES = b"REFERENCES"


@dataclass(frozen=True, slots=True)
class Thread:
    """THREAD (RFC 5256 §3)."""

    algorithm: ThreadAlgorithm
    key: SearchKey
    numbering: Numbering


Command = (
    Capability
    | Noop
    | Logout
    | Id
    | StartTls
    | Authenticate
    | Login
    | Enable
    | Select
    | Create
    | Delete
    | Rename
    | Subscribe
    | Unsubscribe
    | List
    | Lsub
    | Namespace
    | Status
    | Append
    | Replace
    | Idle
    | Compress
    | GetQuota
    | GetQuotaRoot
    | GetAcl
    | SetAcl
    | DeleteAcl
    | ListRights
    | MyRights
    | Notify
    | MultiSearch
    | Check
    | Close
    | Unselect
    | Expunge
    | Fetch
    | Store
    | Copy
    | Move
    | Search
    | UidBatches
    | Sort
    | Thread
)
