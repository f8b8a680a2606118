"""The commands, as values: those about the session, folders and rights, and all in one union.

Those about messages and those that search are in ``commands_messages`` and ``commands_search``.

Source: RFC 9051 §6 and the extensions named at each class.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from mailserver.imap.commands_messages import Copy, Fetch, Move, Store
from mailserver.imap.commands_search import MultiSearch, Notify, Search, Sort, Thread, UidBatches
from mailserver.imap.sets import Numbering, SequenceSet
from mailserver.store.rights import Rights, RightsMode


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
