"""The values the mail store takes and gives; pure.

A stored message is ``prefix`` + blob (DESIGN D5b): the prefix belongs to the folder entry, the
blob to every entry of the message. Times are aware UTC instants, kept to the microsecond.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, IntFlag, StrEnum
from typing import NamedTuple

from directory.audit_event import AuditEvent
from directory.model import MailboxType
from mailserver.message.envelope import (
    PLAIN_MAIL,
    PLAIN_RECIPIENT,
    MailOptions,
    RecipientOptions,
)
from mailserver.message.index import MessageIndex
from mailserver.message.progress import Event, Progress

INBOX = "INBOX"
SPECIAL_FOLDERS = (
    (INBOX, None),
    ("Sent", "\\Sent"),
    ("Drafts", "\\Drafts"),
    ("Trash", "\\Trash"),
    ("Junk", "\\Junk"),
    ("Archive", "\\Archive"),
)
"""What a new mailbox opens with. Source: RFC 6154 §2."""

FILING_KEYWORDS = frozenset({"$Filed", "$Quarantined", "$Duplicate", "$NoDocument"})
"""Outcomes of the bridge, mirrored to the sibling entries (RULES §10)."""
HELD_KEYWORD = "$Held"
"""Said by the application beside an outcome: the patients' entries stay held (RULES §7)."""
SERVER_KEYWORDS = FILING_KEYWORDS | {"$SignatureValid", "$SignatureInvalid", HELD_KEYWORD}
"""Keywords no client may set (RULES §10)."""
RETRY_KEY_DAYS = 5
"""How long a delivery is recognised when it is sent again (DESIGN §3 step 8)."""
MAX_KEYWORDS = 64
"""Keywords one entry may bear; clients use a handful, the largest seen set ten."""

_SERVER_BY_LOWER = {keyword.lower(): keyword for keyword in SERVER_KEYWORDS}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def server_keyword(keyword: str) -> str | None:
    """Give the canonical form of a server-owned keyword, None for any other.

    Keywords are compared without case. Source: RFC 9051 §2.3.2.
    """
    return _SERVER_BY_LOWER.get(keyword.lower())


def to_micros(at: datetime) -> int:
    """Give an aware instant as microseconds since 1970 UTC, as the tables keep it."""
    return (at - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """Give back the aware UTC instant of ``to_micros``."""
    return _EPOCH + timedelta(microseconds=micros)


class Flag(IntFlag):
    """System flags. Source: RFC 9051 §2.3.2."""

    SEEN = 1
    ANSWERED = 2
    FLAGGED = 4
    DELETED = 8
    DRAFT = 16


NO_FLAGS = Flag(0)
EVERY_FLAG = Flag(31)


class FlagMode(StrEnum):
    """What STORE does with the flags it names. Source: RFC 9051 §6.4.6."""

    ADD = "add"
    REMOVE = "remove"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An MSSanté address hosted here.

    Attributes:
        filing: whether its reports go to the bridge.
        closed: whether nothing comes in or leaves under it, because the identity whose number it
            bears is not qualified any more (RULES §11); what it holds stays readable.
    """

    id: int
    address: str
    type: MailboxType
    structure_id: str
    display_name: str
    rpps: str | None
    filing: bool
    closed: bool = False


@dataclass(frozen=True, slots=True)
class NewMailbox:
    """A mailbox to open."""

    address: str
    type: MailboxType
    structure_id: str
    display_name: str
    rpps: str | None
    filing: bool
    at: datetime


class DeviceKind(Enum):
    """By what a device opens its mailbox."""

    PASSWORD = "password"  # noqa: S105 - a kind, no secret
    CERTIFICATE = "certificate"
    SUBJECT = "subject"
    """Of an identity provider's tokens."""


@dataclass(frozen=True, slots=True, repr=False)
class Bearer:
    """What somebody shows instead of a password.

    Attributes:
        kind: not a password.
        value: a certificate's fingerprint; a provider's name, NUL, and the subject it names.
    """

    kind: DeviceKind
    value: str


@dataclass(frozen=True, slots=True)
class DevicePassword:
    """What opens a mailbox for one device.

    Attributes:
        secret: of a password, known only in the answer of ``add_device``.
        person_id: the mailbox of who holds it, where several share what it opens.
        scram: whether a password can be used with SCRAM.
    """

    id: int
    mailbox_id: int
    name: str
    secret: str | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    person_id: int | None = None
    kind: DeviceKind = DeviceKind.PASSWORD
    scram: bool = False


@dataclass(frozen=True, slots=True)
class NewDevice:
    """A device to let in.

    Attributes:
        mailbox_id: the one mailbox it opens.
        name: what its owner calls it.
        at: aware UTC instant of its making.
        expires_at: aware UTC instant from which it is refused; None for never.
        person_id: the mailbox of who holds it, on one that several share.
        event: of who let it in; the device's id is added to its facts.
    """

    mailbox_id: int
    name: str
    at: datetime
    expires_at: datetime | None
    person_id: int | None = None
    event: AuditEvent | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """Whom a device lets in.

    Attributes:
        mailbox: what it opens.
        person: who holds it, on a mailbox that several share; None: the mailbox's own holder.
        device_id: of the device that was let in, 0 when none is known.
        expires_at: aware UTC instant from which that device is refused; None for never.
    """

    mailbox: Mailbox
    person: Mailbox | None = None
    device_id: int = field(default=0, compare=False)
    expires_at: datetime | None = field(default=None, compare=False)

    @property
    def who(self) -> Mailbox:
        """Whose doing it is, as the trail says it."""
        return self.person or self.mailbox


@dataclass(frozen=True, slots=True)
class Account:
    """A login of the webmail, tied to mailboxes; ``patient_ref`` names a patient's record."""

    id: int
    login: str
    password_hash: str
    totp_secret: str | None
    mailbox_ids: tuple[int, ...]
    patient_ref: str | None


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account to make.

    Attributes:
        login: compared in any case.
        password_hash: the argon2 text its caller computed.
        totp_secret: the second factor's secret, None without.
        mailbox_ids: the mailboxes it opens.
        at: aware UTC now.
        patient_ref: what names a patient's record, for a patient.
    """

    login: str
    password_hash: str
    totp_secret: str | None
    mailbox_ids: tuple[int, ...]
    at: datetime
    patient_ref: str | None = None
    event: AuditEvent | None = None
    """Of who made it."""


@dataclass(frozen=True, slots=True)
class Folder:
    """What RFC 9051 calls a mailbox; ``name`` is unicode with '/' between levels."""

    id: int
    mailbox_id: int
    name: str
    uidvalidity: int
    uidnext: int
    highestmodseq: int
    special_use: str | None
    subscribed: bool


@dataclass(frozen=True, slots=True)
class FolderStatus:
    """Counts of one folder; held entries count nowhere. Source: RFC 9051 §6.3.11."""

    messages: int
    unseen: int
    deleted: int
    octets: int
    uidnext: int
    uidvalidity: int
    highestmodseq: int
    deleted_octets: int


class EntryRow(NamedTuple):
    """One message of an open folder, light.

    A named tuple and not a dataclass: a folder of 10,000 opens in a third of the time.
    """

    id: int
    uid: int
    modseq: int
    flags: Flag
    keywords: frozenset[str]
    octets: int
    internal_at: datetime
    blob_id: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an entry comes from.

    Attributes:
        entry_id: the first entry with these octets, its own id when it is no copy; a copy has
            that of its original, also when the original is gone (RFC 8474 §5.1).
        saved_at: when it came into its folder, None when that is not known (RFC 8514 §4).
    """

    entry_id: int
    saved_at: datetime | None


@dataclass(frozen=True, slots=True)
class EntryDetail:
    """An entry with what FETCH answers from; offsets of ``index`` are those of the blob alone."""

    row: EntryRow
    prefix: bytes
    index: MessageIndex


@dataclass(frozen=True, slots=True)
class EntrySummary:
    """An entry as a list of messages shows it."""

    row: EntryRow
    subject: str
    from_: str
    to: str
    date_at: datetime | None
    message_id: str
    has_package: bool


@dataclass(frozen=True, slots=True)
class StagedBlob:
    """A body already written in chunks, waiting for the transaction that gives it an entry."""

    blob_id: int
    octets: int


@dataclass(frozen=True, slots=True)
class NewEntry:
    """A folder entry to make in a delivery.

    Attributes:
        folder: its name; it must exist in the mailbox.
        prefix: header fields of this entry alone, whole CRLF lines, under 4 kB.
        held: stored without a UID until the bridge says what it is (RULES §7).
        on_behalf_of: for an application mailbox's entry, the mailboxes whose retry keys decide
            whether it is a repetition; empty means every recipient of the delivery.
    """

    mailbox_id: int
    folder: str
    prefix: bytes
    flags: Flag
    keywords: frozenset[str]
    held: bool
    internal_at: datetime
    on_behalf_of: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class NewOutgoing:
    """One remote recipient of a submitted message; ``domain`` is its A-label domain."""

    forward_path: str
    domain: str
    options: RecipientOptions = PLAIN_RECIPIENT


@dataclass(frozen=True, slots=True)
class OtherForm:
    """A body of a delivery beside its own, for recipients who get the message in another form."""

    blob: bytes | StagedBlob
    index: MessageIndex


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """A message for other operators: ``prefix`` + the delivery's blob, one reverse path.

    Attributes:
        reverse_path: as MAIL FROM takes it, empty for the null sender.
        mailbox_id: the sender's mailbox, which a bounce goes to; None for the null sender.
        form: what goes instead of the delivery's blob.
    """

    reverse_path: str
    prefix: bytes
    recipients: tuple[NewOutgoing, ...]
    mailbox_id: int | None
    options: MailOptions = PLAIN_MAIL
    form: OtherForm | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """Everything one 250 stands for, written in one transaction.

    Attributes:
        receipt_id: the new durable id; it is in each prefix's Received field.
        sha256: digest of the original DATA octets.
        octets: size of the original DATA.
        blob: the body after cuts, or its staged chunks when over 4 MB.
        retry_keys: (key, mailbox id) for each local recipient; empty when not from a peer.
        whole_key: key of the whole delivery (a submission's account and Message-ID, a bounce's
            recipient): a hit within 5 days makes nothing at all.
        occurrences: documents counted in its package (RULES §2).
        events: trail events, kept in the same transaction.
        outbox: what goes to other operators, one for each form of the message.
        tracked: recipients of a submission, whose progress its sender can ask for.
        observed: what a report that this delivery carries says of such recipients.
    """

    receipt_id: str
    sha256: bytes
    blob: bytes | StagedBlob
    index: MessageIndex
    entries: tuple[NewEntry, ...]
    retry_keys: tuple[tuple[bytes, int], ...]
    peer_dn: str
    reverse_path: str
    outbox: tuple[OutboxMessage, ...]
    occurrences: int
    events: tuple[AuditEvent, ...]
    at: datetime
    octets: int = 0
    whole_key: bytes | None = None
    tracked: tuple["Tracked", ...] = ()
    observed: tuple["Observed", ...] = ()

    @property
    def bodies(self) -> tuple[bytes | StagedBlob, ...]:
        """Every body that it brings."""
        return (self.blob, *(each.form.blob for each in self.outbox if each.form is not None))


@dataclass(frozen=True, slots=True)
class Tracked:
    """A recipient of a message this site's ``mailbox_id`` sent, where it stands at first.

    ``person_id`` is the mailbox of who wrote it, when that is not the holder of ``mailbox_id``.
    """

    mailbox_id: int
    message_id: str
    address: str
    progress: Progress
    person_id: int | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """What a report says: of whose message, of which recipient, what happened."""

    mailbox_id: int
    message_id: str
    address: str
    event: Event


@dataclass(frozen=True, slots=True)
class SentRecipient:
    """One recipient of a sent message and its progress, as its sender may see it.

    ``sender`` and ``person`` are addresses: whose mailbox it left, and who wrote it when that was
    somebody else.
    """

    receipt_id: str
    message_id: str
    address: str
    progress: Progress
    changed_at: datetime
    sender: str = ""
    person: str | None = None


@dataclass(frozen=True, slots=True)
class Delivered:
    """What a delivery made.

    Attributes:
        receipt_id: the first receipt's id when (a part of) it was a repetition.
        entry_ids: new entries, in the order of ``Delivery.entries`` less those dropped.
        folder_ids: the folder of each of them.
        new: False when nothing was written because all of it was a repetition.
        mailbox_ids: the mailboxes to wake, repetitions included.
    """

    receipt_id: str
    entry_ids: tuple[int, ...]
    folder_ids: tuple[int, ...]
    new: bool
    mailbox_ids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Quota:
    """How much one mailbox may hold, of what clients add (RFC 9208 §5)."""

    octets: int
    messages: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What one mailbox holds; held entries count nowhere."""

    octets: int
    messages: int


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message a client appends. Server-owned keywords are taken out by the store."""

    folder_id: int
    raw: bytes | StagedBlob
    index: MessageIndex
    flags: Flag
    keywords: frozenset[str]
    internal_at: datetime
    quota: Quota | None = None
    saved_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class AppendUid:
    """APPENDUID's values. Source: RFC 9051 §7.1."""

    uidvalidity: int
    uid: int


@dataclass(frozen=True, slots=True)
class FlagChange:
    """One STORE.

    Attributes:
        unchangedsince: entries with a greater modseq are left alone. Source: RFC 7162 §3.1.3.
        mask: the flags that the caller may change (RFC 4314 §4); keywords go with Flagged.
        by_application: the structure's application account speaks; it may set the filing
            keywords and ``$Held``, on its own mailbox (type APP) only.
    """

    folder_id: int
    uids: tuple[int, ...]
    mode: FlagMode
    flags: Flag
    keywords: frozenset[str]
    unchangedsince: int | None = None
    by_application: bool = False
    mask: Flag = EVERY_FLAG


@dataclass(frozen=True, slots=True)
class Copied:
    """COPYUID's values. Source: RFC 9051 §7.1."""

    uidvalidity: int
    source_uids: tuple[int, ...]
    target_uids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened in a folder since a modseq. Source: RFC 7162 §3.2.5."""

    rows: list[EntryRow]
    vanished: list[int]
    highestmodseq: int


class OutboxState(Enum):
    """Where one remote recipient of a message stands."""

    QUEUED = "queued"
    LEASED = "leased"
    HELD = "held"
    """By a person, or set aside because it ended its worker again and again."""
    SENT = "sent"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One recipient's transmission, leased to a worker; ``attempts`` counts the earlier ones.

    ``id`` and ``recipient_id`` are the same number.
    """

    id: int
    message_id: int
    recipient_id: int
    reverse_path: str
    forward_path: str
    domain: str
    attempts: int
    octets: int
    mailbox_id: int | None
    queued_at: datetime
    options: RecipientOptions = PLAIN_RECIPIENT
    mail: MailOptions = PLAIN_MAIL
    crashes: int = 0
    receipt_id: str = ""


@dataclass(frozen=True, slots=True)
class Settled:
    """How a try ended for one recipient.

    Attributes:
        state: SENT, FAILED, or QUEUED until ``at``.
        at: when it ended, or when it is tried again.
    """

    id: int
    state: OutboxState
    reply: str
    at: datetime


@dataclass(frozen=True, slots=True)
class DomainWait:
    """A domain whose server could not be used: nothing is tried before ``next_at``."""

    domain: str
    failures: int
    next_at: datetime
    reply_code: str


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """A line of ``pli queue list``: no address, only the reply's code."""

    id: int
    domain: str
    state: OutboxState
    attempts: int
    next_at: datetime
    reply_code: str
    queued_at: datetime
    octets: int
    crashes: int
    delayed_at: datetime | None
    receipt_id: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is kept of a delivery for ever: the promise behind a 250."""

    receipt_id: str
    sha256: bytes
    octets: int
    peer_dn: str
    reverse_path: str
    occurrences: int
    retry_of: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class FilingReceipt:
    """A delivery that reached a structure's application mailbox (RULES §2)."""

    receipt_id: str
    structure_id: str
    sha256: bytes
    occurrences: int
    at: datetime


@dataclass(frozen=True, slots=True)
class FilingMessage:
    """Raw mail of an application mailbox, for ``pli audit verify``."""

    entry_id: int
    mailbox_id: int
    folder_id: int
    uid: int
    receipt_id: str | None
    prefix: bytes
    blob_id: int
    octets: int
    keywords: frozenset[str]
    internal_at: datetime
