"""The tables of the mail database.

Invariants: ``entry.uid`` is NULL while the entry is held; (folder, uid) never repeats, because
``uidnext`` only grows; a blob's chunks are numbered ``blob_id * CHUNKS_PER_BLOB + n`` and all but
the last are CHUNK_OCTETS long; ids of blobs and entries are never used twice (AUTOINCREMENT), so
that a reader who kept one can never be shown another person's message.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    and_,
    literal_column,
)

from directory.sqlite_statements import run_after_creating
from directory.trail import trail_tables

METADATA = MetaData()

CHUNK_OCTETS = 256 * 1024
"""Size of a chunk row (DESIGN D5b: slicing one 25 MB row took 567 ms, chunk rows 6 ms)."""
CHUNKS_PER_BLOB = 1 << 16
"""Room for 16 GB in one blob."""

_ID = BigInteger().with_variant(Integer, "sqlite")

BLOB_STORED = 0
BLOB_OPEN = 1
"""Being staged; nothing refers to it; swept when the store opens."""
BLOB_DEAD = 2
"""Its last entry is gone; its chunks are being deleted."""

SEARCH_WHOLE = 1
"""``search_text`` holds all of it; 0: it was not read yet."""
SEARCH_CUT = 2
"""``search_text`` holds a part; each search looks at the body itself."""

MAILBOX = Table(
    "mailbox",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("address", Text, nullable=False, unique=True),  # lower case
    Column("type", Text, nullable=False),
    Column("structure_id", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("rpps", Text),
    Column("filing", Integer, nullable=False),
    Column("next_uidvalidity", Integer, nullable=False),
    Column("created_at", _ID, nullable=False),
    Column("closed_at", _ID),  # since when nothing comes in or leaves (RULES §11); NULL: open
    sqlite_autoincrement=True,
)
Index("mailbox_structure", MAILBOX.c.structure_id, MAILBOX.c.type)
Index("mailbox_rpps", MAILBOX.c.rpps, sqlite_where=MAILBOX.c.rpps.is_not(None))

ACCOUNT = Table(
    "account",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("login", Text, nullable=False, unique=True),
    Column("password_hash", Text, nullable=False),
    Column("totp_secret", Text),
    Column("patient_ref", Text),
    Column("created_at", _ID, nullable=False),
    sqlite_autoincrement=True,
)

ACCOUNT_MAILBOX = Table(
    "account_mailbox",
    METADATA,
    Column("account_id", ForeignKey("account.id"), primary_key=True),
    Column("mailbox_id", ForeignKey("mailbox.id"), primary_key=True),
    sqlite_with_rowid=False,
)

DEVICE_PASSWORD = Table(
    "device_password",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("mailbox_id", ForeignKey("mailbox.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("secret_mac", LargeBinary, nullable=False),
    Column("created_at", _ID, nullable=False),
    Column("expires_at", _ID),
    Column("last_used_at", _ID),
    Column("revoked_at", _ID),
    Column("person_id", ForeignKey("mailbox.id")),  # who holds it, on a shared mailbox
    Column("kind", Text, nullable=False, server_default="password"),  # what secret_mac is of
    Column("stored_key", LargeBinary),  # SCRAM's, NULL when the secret cannot be used with it
    Column("server_key", LargeBinary),
    sqlite_autoincrement=True,
)
Index("device_password_mailbox", DEVICE_PASSWORD.c.mailbox_id)
Index("device_password_mac", DEVICE_PASSWORD.c.secret_mac)

MAILBOX_SHARE = Table(
    "mailbox_share",
    METADATA,
    Column("mailbox_id", ForeignKey("mailbox.id"), primary_key=True),
    Column("person_id", ForeignKey("mailbox.id"), primary_key=True),
    Column("rights", Text, nullable=False),  # RFC 4314 letters, for every folder but those below
    Column("created_at", _ID, nullable=False),
    sqlite_with_rowid=False,
)
Index("mailbox_share_person", MAILBOX_SHARE.c.person_id)

SEND_GRANT = Table(
    "send_grant",
    METADATA,
    Column("mailbox_id", ForeignKey("mailbox.id"), primary_key=True),
    Column("person_id", ForeignKey("mailbox.id"), primary_key=True),
    Column("created_at", _ID, nullable=False),
    sqlite_with_rowid=False,
)
"""Recorded delegations: this person may write as that mailbox, and Sender says who did."""
Index("send_grant_person", SEND_GRANT.c.person_id)

WEB_SESSION = Table(
    "web_session",
    METADATA,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("account_id", ForeignKey("account.id"), nullable=False),
    Column("created_at", _ID, nullable=False),
    Column("expires_at", _ID, nullable=False),
    sqlite_with_rowid=False,
)
Index("web_session_account", WEB_SESSION.c.account_id)

TOTP_USE = Table(
    "totp_use",
    METADATA,
    Column("account_id", ForeignKey("account.id"), primary_key=True),
    Column("counter", _ID, nullable=False),
)

LOGIN_FAILURE = Table(
    "login_failure",
    METADATA,
    Column("login_mac", LargeBinary, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("last_at", _ID, nullable=False),
    sqlite_with_rowid=False,
)

FOLDER = Table(
    "folder",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("mailbox_id", ForeignKey("mailbox.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("uidvalidity", Integer, nullable=False),
    Column("uidnext", Integer, nullable=False),
    Column("highestmodseq", _ID, nullable=False),
    Column("special_use", Text),
    Column("subscribed", Integer, nullable=False),
    Column("expunged_floor", _ID, nullable=False, server_default="0"),  # the log begins after it
    UniqueConstraint("mailbox_id", "name"),
    sqlite_autoincrement=True,
)

FOLDER_SHARE = Table(
    "folder_share",
    METADATA,
    Column("folder_id", ForeignKey("folder.id"), primary_key=True),
    Column("person_id", ForeignKey("mailbox.id"), primary_key=True),
    Column("rights", Text, nullable=False),  # instead of the mailbox's
    sqlite_with_rowid=False,
)
Index("folder_share_person", FOLDER_SHARE.c.person_id)

FOLDER_SUBSCRIPTION = Table(
    "folder_subscription",
    METADATA,
    Column("folder_id", ForeignKey("folder.id"), primary_key=True),
    Column("person_id", ForeignKey("mailbox.id"), primary_key=True),
    sqlite_with_rowid=False,
)
"""What a person lists of others' folders; of one's own, ``folder.subscribed`` says it."""

BLOB = Table(
    "blob",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("octets", _ID, nullable=False),
    Column("state", Integer, nullable=False),
    Column("searchable", Integer, nullable=False, server_default="0"),
    sqlite_autoincrement=True,
)
Index(
    "blob_unsettled", BLOB.c.id, sqlite_where=BLOB.c.state != 0, postgresql_where=BLOB.c.state != 0
)

BLOB_CHUNK = Table(
    "blob_chunk",
    METADATA,
    Column("id", _ID, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)

MESSAGE_INDEX = Table(
    "message_index",
    METADATA,
    Column("blob_id", _ID, ForeignKey("blob.id"), primary_key=True, autoincrement=False),
    Column("header_octets", Integer, nullable=False),
    Column("date_at", _ID),
    Column("has_package", Integer, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("from_", Text, nullable=False),
    Column("to", Text, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("bodystructure", LargeBinary, nullable=False),
    Column("outline", LargeBinary, nullable=False),
)

SEARCH_TEXT = Table(
    "search_text",
    METADATA,
    Column("blob_id", _ID, ForeignKey("blob.id"), primary_key=True, autoincrement=False),
    Column("header", Text, nullable=False),  # folded, one field after each U+001F
    Column("body", Text, nullable=False),  # folded, one part after each U+001F
)
"""What searches look at; written off the delivery path. Health data like the messages."""

run_after_creating(
    SEARCH_TEXT,
    (
        "CREATE VIRTUAL TABLE search_trigram USING"
        " fts5(text, content='', tokenize='trigram case_sensitive 1', detail=none)"
    ),
    (
        "CREATE TRIGGER search_text_led_to AFTER INSERT ON search_text BEGIN"
        " INSERT INTO search_trigram (rowid, text)"
        " VALUES (NEW.blob_id, NEW.header || NEW.body); END"
    ),
    (
        "CREATE TRIGGER search_text_gone AFTER DELETE ON search_text BEGIN"
        " INSERT INTO search_trigram (search_trigram, rowid, text)"
        " VALUES ('delete', OLD.blob_id, OLD.header || OLD.body); END"
    ),
    (
        "CREATE TRIGGER message_index_gone AFTER DELETE ON message_index BEGIN"
        " DELETE FROM search_text WHERE blob_id = OLD.blob_id; END"
    ),
)
SEARCH_TEXT.add_is_dependent_on(MESSAGE_INDEX)

RECEIPT = Table(
    "receipt",
    METADATA,
    Column("receipt_id", Text, primary_key=True),
    Column("sha256", LargeBinary, nullable=False),
    Column("octets", _ID, nullable=False),
    Column("peer_dn", Text, nullable=False),
    Column("reverse_path", Text, nullable=False),
    Column("occurrences", Integer, nullable=False),
    Column("retry_of", Text),
    Column("received_at", _ID, nullable=False),
    sqlite_with_rowid=False,
)

RECEIPT_FILING = Table(
    "receipt_filing",
    METADATA,
    Column("structure_id", Text, primary_key=True),
    Column("receipt_id", ForeignKey("receipt.receipt_id"), primary_key=True),
    sqlite_with_rowid=False,
)

RECEIPT_KEY = Table(
    "receipt_key",
    METADATA,
    Column("key", Text, primary_key=True),  # hexadecimal
    Column("receipt_id", Text, nullable=False),
    Column("kept_at", _ID, nullable=False),
    sqlite_with_rowid=False,
)
Index("receipt_key_kept", RECEIPT_KEY.c.kept_at)

ENTRY = Table(
    "entry",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("folder_id", ForeignKey("folder.id"), nullable=False),
    Column("uid", Integer),  # NULL while held
    Column("modseq", _ID, nullable=False),
    Column("flags", Integer, nullable=False),
    Column("keywords", Text, nullable=False),  # sorted, one space between
    Column("octets", _ID, nullable=False),  # prefix and blob
    Column("internal_at", _ID, nullable=False),
    Column("blob_id", ForeignKey("blob.id"), nullable=False),
    Column("receipt_id", Text),
    Column("prefix", LargeBinary, nullable=False),
    Column("saved_at", _ID),  # when it came into its folder; NULL: not known, see internal_at
    Column("origin_id", _ID),  # the entry that it is a copy of, over whatever copies between
    Column("has_package", Integer, nullable=False, server_default="0"),  # as message_index has it
    UniqueConstraint("folder_id", "uid"),
    sqlite_autoincrement=True,
)
Index("entry_blob", ENTRY.c.blob_id, ENTRY.c.folder_id)
Index("entry_modseq", ENTRY.c.folder_id, ENTRY.c.modseq)
Index(
    "entry_receipt",
    ENTRY.c.receipt_id,
    sqlite_where=ENTRY.c.receipt_id.is_not(None),
    postgresql_where=ENTRY.c.receipt_id.is_not(None),
)

UNREAD_PACKAGE = and_(
    ENTRY.c.uid > literal_column("0"),
    ENTRY.c.has_package == literal_column("1"),
    ENTRY.c.flags.op("&")(literal_column("1")) == literal_column("0"),
)
"""A visible entry without \\Seen that holds a package. SQLite takes the index for these words,
so whoever asks takes them from here."""
Index(
    "entry_unread_package",
    ENTRY.c.folder_id,
    ENTRY.c.internal_at,
    sqlite_where=UNREAD_PACKAGE,
    postgresql_where=UNREAD_PACKAGE,
)

MAILBOX_USAGE = Table(
    "mailbox_usage",
    METADATA,
    Column("mailbox_id", ForeignKey("mailbox.id"), primary_key=True),
    Column("octets", _ID, nullable=False),
    Column("messages", _ID, nullable=False),
    sqlite_with_rowid=False,
)
"""What the visible entries of a mailbox take. Triggers keep it, so that no statement that adds or
removes entries can forget it; held entries (RULES §7) count nowhere."""

_USE = """INSERT INTO mailbox_usage (mailbox_id, octets, messages)
    SELECT mailbox_id, {sign}{row}.octets, {sign}1 FROM folder WHERE id = {row}.folder_id
    ON CONFLICT (mailbox_id) DO UPDATE
    SET octets = octets + excluded.octets, messages = messages + excluded.messages;"""
_MORE, _LESS = _USE.format(row="NEW", sign=""), _USE.format(row="OLD", sign="-")
run_after_creating(
    MAILBOX_USAGE,
    f"CREATE TRIGGER entry_counted AFTER INSERT ON entry WHEN NEW.uid > 0\nBEGIN {_MORE} END",
    f"CREATE TRIGGER entry_uncounted AFTER DELETE ON entry WHEN OLD.uid > 0\nBEGIN {_LESS} END",
    (
        "CREATE TRIGGER entry_released AFTER UPDATE OF uid ON entry"
        f" WHEN OLD.uid IS NULL AND NEW.uid > 0\nBEGIN {_MORE} END"
    ),
    (
        "CREATE TRIGGER entry_withheld AFTER UPDATE OF uid ON entry"
        f" WHEN OLD.uid > 0 AND NEW.uid IS NULL\nBEGIN {_LESS} END"
    ),
)
MAILBOX_USAGE.add_is_dependent_on(ENTRY)

AFTER_UPGRADE = (
    """INSERT INTO mailbox_usage (mailbox_id, octets, messages)
    SELECT folder.mailbox_id, sum(entry.octets), count(*)
    FROM entry JOIN folder ON folder.id = entry.folder_id WHERE entry.uid > 0
    GROUP BY folder.mailbox_id""",
    """UPDATE entry SET has_package = 1
    WHERE blob_id IN (SELECT blob_id FROM message_index WHERE has_package = 1)""",
)
"""What 0002 does when the tables are there."""

EXPUNGED = Table(
    "expunged",
    METADATA,
    Column("folder_id", ForeignKey("folder.id"), primary_key=True),
    Column("modseq", _ID, primary_key=True),
    Column("uid", Integer, primary_key=True),
    sqlite_with_rowid=False,
)

OUTBOX_MESSAGE = Table(
    "outbox_message",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("receipt_id", Text, nullable=False),
    Column("mailbox_id", ForeignKey("mailbox.id")),
    Column("reverse_path", Text, nullable=False),
    Column("octets", _ID, nullable=False),
    Column("blob_id", ForeignKey("blob.id")),  # NULL once nothing is left to send
    Column("prefix", LargeBinary, nullable=False),
    Column("queued_at", _ID, nullable=False),
    Column("ret", Text, nullable=False, server_default=""),  # RET, ENVID: RFC 3461 §4.3, §4.4
    Column("envid", Text, nullable=False, server_default=""),
    Column("require_tls", Integer, nullable=False, server_default="0"),
    Column("smtputf8", Integer, nullable=False, server_default="0"),
    sqlite_autoincrement=True,
)
Index("outbox_message_blob", OUTBOX_MESSAGE.c.blob_id)

OUTBOX_RECIPIENT = Table(
    "outbox_recipient",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("message_id", ForeignKey("outbox_message.id"), nullable=False),
    Column("forward_path", Text, nullable=False),
    Column("domain", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", _ID, nullable=False),  # when leased: when the lease ends
    Column("reply", Text, nullable=False),
    Column("notify", Text, nullable=False, server_default=""),  # NOTIFY, ORCPT: RFC 3461 §4.1
    Column("orcpt", Text, nullable=False, server_default=""),
    Column("crashes", Integer, nullable=False, server_default="0"),
    Column("delayed_at", _ID),  # when its sender was told that it waits
    sqlite_autoincrement=True,
)
Index("outbox_recipient_message", OUTBOX_RECIPIENT.c.message_id)
Index(
    "outbox_recipient_waiting",
    OUTBOX_RECIPIENT.c.next_at,
    sqlite_where=OUTBOX_RECIPIENT.c.state.in_(("queued", "leased")),
    postgresql_where=OUTBOX_RECIPIENT.c.state.in_(("queued", "leased")),
)

OUTBOX_DOMAIN = Table(
    "outbox_domain",
    METADATA,
    Column("domain", Text, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("next_at", _ID, nullable=False),  # nothing is tried before
    Column("reply", Text, nullable=False),
    sqlite_with_rowid=False,
)

SEAL_REQUEST = Table(
    "seal_request",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("sha256", LargeBinary, nullable=False),  # of the MIME entity to be signed
    Column("author_id", ForeignKey("mailbox.id"), nullable=False),  # whose seal
    Column("asked_at", _ID, nullable=False),
    sqlite_autoincrement=True,
)
"""Messages that wait for their signature; the process that holds the keys signs nothing else."""

RECIPIENT_CERTIFICATE = Table(
    "recipient_certificate",
    METADATA,
    Column("address", Text, primary_key=True),  # lower case, of another operator
    Column("der", LargeBinary, nullable=False),
    Column("cipherment", Text, nullable=False),
    Column("recorded_at", _ID, nullable=False),
    sqlite_with_rowid=False,
)

ENCRYPTING_MAILBOX = Table(
    "encrypting_mailbox",
    METADATA,
    Column("mailbox_id", ForeignKey("mailbox.id"), primary_key=True),
    sqlite_with_rowid=False,
)
"""Mailboxes whose mail leaves encrypted where the recipient's certificate is recorded."""

NOTIFY_ADDRESS = Table(
    "notify_address",
    METADATA,
    Column("mailbox_id", ForeignKey("mailbox.id"), primary_key=True),
    Column("address", Text),  # outside the trust space; NULL once withdrawn
    Column("confirmed_at", _ID),
    Column("code_digest", LargeBinary),  # NULL until a code was sent
    Column("code_until", _ID),
    Column("wrong", Integer, nullable=False),  # codes typed that were not it
    Column("asks", Integer, nullable=False),  # since asks_from, withdrawn ones too
    Column("asks_from", _ID, nullable=False),
    Column("inbox_uid", Integer, nullable=False),  # what is above is news
    Column("attempts", Integer, nullable=False),
    Column("failing_since", _ID),
    Column("next_at", _ID, nullable=False),  # nothing is sent before
    Column("failed_at", _ID),  # when something was given up
    Column("reminds", Integer, nullable=False, server_default="0"),  # of the agenda, when asked
    Column("reminded_on", Text),  # AAAA-MM-JJ in France: one reminder a day
    sqlite_with_rowid=False,
)
"""Where the holder of a mailbox is told that something is new; one row a mailbox, kept when the
address is withdrawn so that nobody has more codes sent by withdrawing."""
Index("notify_address_due", NOTIFY_ADDRESS.c.next_at)

NOTIFY_KNOWN = Table(
    "notify_known",
    METADATA,
    Column("mailbox_id", ForeignKey("mailbox.id"), primary_key=True),
    Column("document_id", _ID, primary_key=True),  # in the record database
    sqlite_with_rowid=False,
)
"""Documents that were visible to a mailbox's holder when they were last told."""

NOTIFY_REMINDED = Table(
    "notify_reminded",
    METADATA,
    Column("mailbox_id", ForeignKey("mailbox.id"), primary_key=True),
    Column("day", Text, primary_key=True),  # AAAA-MM-JJ, of the line
    Column("line", _ID, primary_key=True),  # its number in the agenda
    sqlite_with_rowid=False,
)
"""Lines of an agenda that its patient was reminded of, until their day is over."""

SENT_RECIPIENT = Table(
    "sent_recipient",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("receipt_id", ForeignKey("receipt.receipt_id"), nullable=False),
    Column("mailbox_id", ForeignKey("mailbox.id"), nullable=False),
    Column("message_id", Text, nullable=False),
    Column("address", Text, nullable=False),  # as a key: lower case
    Column("transport", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("displayed", Integer, nullable=False),
    Column("changed_at", _ID, nullable=False),
    Column("person_id", ForeignKey("mailbox.id")),  # who sent it, when not the mailbox's holder
    sqlite_autoincrement=True,
)
Index("sent_recipient_receipt", SENT_RECIPIENT.c.receipt_id)
Index("sent_recipient_message", SENT_RECIPIENT.c.mailbox_id, SENT_RECIPIENT.c.message_id)

HL7_ORDER = Table(
    "hl7_order",
    METADATA,
    Column("receipt_id", ForeignKey("receipt.receipt_id"), primary_key=True),
    Column("structure_id", Text, nullable=False),
    Column("control_id", Text, nullable=False),  # MSH-10
    Column("sending_application", Text, nullable=False),
    Column("sending_facility", Text, nullable=False),
    Column("receiving_application", Text, nullable=False),
    Column("receiving_facility", Text, nullable=False),
    Column("processing", Text, nullable=False),
    Column("reception", Integer, nullable=False),
    Column("reading", Integer, nullable=False),
    sqlite_with_rowid=False,
)
"""Mail that an HL7 v2 message became whose software wants acknowledgements."""

BUSINESS_ACK = Table(
    "business_ack",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("recipient_id", ForeignKey("sent_recipient.id"), nullable=False),
    Column("kind", Text, nullable=False),  # Z02, Z03
    Column("success", Integer, nullable=False),
    Column("code", Text, nullable=False),
    Column("state", Text, nullable=False),  # waiting, done, given_up
    Column("attempts", Integer, nullable=False),
    Column("created_at", _ID, nullable=False),
    Column("next_at", _ID, nullable=False),
    UniqueConstraint("recipient_id", "kind", "success", name="business_ack_once"),
    sqlite_autoincrement=True,
)
"""ZAM messages owed to the software that asked for them."""
Index(
    "business_ack_due",
    BUSINESS_ACK.c.next_at,
    sqlite_where=BUSINESS_ACK.c.state == "waiting",
)

TRAIL = trail_tables(METADATA)
