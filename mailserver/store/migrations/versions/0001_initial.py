"""The first schema of the mail database, as text."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    """
CREATE TABLE mailbox (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    address TEXT NOT NULL,
    type TEXT NOT NULL,
    structure_id TEXT NOT NULL,
    display_name TEXT NOT NULL,
    rpps TEXT,
    filing INTEGER NOT NULL,
    next_uidvalidity INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (address)
)
""",
    """
CREATE INDEX mailbox_structure ON mailbox (structure_id)
""",
    """
CREATE TABLE account (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    login TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    totp_secret TEXT,
    patient_ref TEXT,
    created_at INTEGER NOT NULL,
    UNIQUE (login)
)
""",
    """
CREATE TABLE login_failure (
    login_mac BLOB NOT NULL,
    failures INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    PRIMARY KEY (login_mac)
)
 WITHOUT ROWID
""",
    """
CREATE TABLE blob (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    octets INTEGER NOT NULL,
    state INTEGER NOT NULL
)
""",
    """
CREATE INDEX blob_unsettled ON blob (id) WHERE state != 0
""",
    """
CREATE TABLE blob_chunk (
    id INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (id)
)
""",
    """
CREATE TABLE receipt (
    receipt_id TEXT NOT NULL,
    sha256 BLOB NOT NULL,
    octets INTEGER NOT NULL,
    peer_dn TEXT NOT NULL,
    reverse_path TEXT NOT NULL,
    occurrences INTEGER NOT NULL,
    retry_of TEXT,
    received_at INTEGER NOT NULL,
    PRIMARY KEY (receipt_id)
)
 WITHOUT ROWID
""",
    """
CREATE TABLE receipt_key (
    "key" TEXT NOT NULL,
    receipt_id TEXT NOT NULL,
    kept_at INTEGER NOT NULL,
    PRIMARY KEY ("key")
)
 WITHOUT ROWID
""",
    """
CREATE INDEX receipt_key_kept ON receipt_key (kept_at)
""",
    """
CREATE TABLE trail_event (
    event_id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    sequence INTEGER,
    leaf BLOB,
    salt BLOB,
    kind TEXT,
    at BIGINT,
    actor TEXT,
    structure_id TEXT,
    subject TEXT,
    facts TEXT,
    UNIQUE (sequence)
)
""",
    """
CREATE INDEX trail_event_subject ON trail_event (subject, event_id)
""",
    """
CREATE INDEX trail_event_unsealed ON trail_event (event_id) WHERE sequence IS NULL
""",
    """
CREATE TRIGGER trail_event_sealed BEFORE UPDATE ON trail_event
WHEN OLD.sequence IS NOT NULL AND NOT (
  NEW.sequence IS OLD.sequence AND NEW.leaf IS OLD.leaf AND NEW.salt IS NULL
  AND NEW.kind IS NULL AND NEW.facts IS NULL)
BEGIN SELECT RAISE(ABORT, 'a sealed event is never changed'); END
""",
    """
CREATE TRIGGER trail_event_kept BEFORE DELETE ON trail_event
BEGIN SELECT RAISE(ABORT, 'the trail is never shortened'); END
""",
    """
CREATE TABLE trail_root (
    size INTEGER NOT NULL,
    root BLOB NOT NULL,
    at BIGINT NOT NULL,
    signature BLOB NOT NULL,
    peaks BLOB NOT NULL,
    PRIMARY KEY (size)
)
""",
    """
CREATE TRIGGER trail_root_kept BEFORE DELETE ON trail_root
BEGIN SELECT RAISE(ABORT, 'the trail is never shortened'); END
""",
    """
CREATE TABLE account_mailbox (
    account_id INTEGER NOT NULL,
    mailbox_id INTEGER NOT NULL,
    PRIMARY KEY (account_id, mailbox_id),
    FOREIGN KEY(account_id) REFERENCES account (id),
    FOREIGN KEY(mailbox_id) REFERENCES mailbox (id)
)
 WITHOUT ROWID
""",
    """
CREATE TABLE device_password (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    mailbox_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    secret_mac BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    last_used_at INTEGER,
    revoked_at INTEGER,
    FOREIGN KEY(mailbox_id) REFERENCES mailbox (id)
)
""",
    """
CREATE INDEX device_password_mailbox ON device_password (mailbox_id)
""",
    """
CREATE TABLE web_session (
    token_hash BLOB NOT NULL,
    account_id INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (token_hash),
    FOREIGN KEY(account_id) REFERENCES account (id)
)
 WITHOUT ROWID
""",
    """
CREATE INDEX web_session_account ON web_session (account_id)
""",
    """
CREATE TABLE totp_use (
    account_id INTEGER NOT NULL,
    counter INTEGER NOT NULL,
    PRIMARY KEY (account_id),
    FOREIGN KEY(account_id) REFERENCES account (id)
)
""",
    """
CREATE TABLE folder (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    mailbox_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    uidvalidity INTEGER NOT NULL,
    uidnext INTEGER NOT NULL,
    highestmodseq INTEGER NOT NULL,
    special_use TEXT,
    subscribed INTEGER NOT NULL,
    UNIQUE (mailbox_id, name),
    FOREIGN KEY(mailbox_id) REFERENCES mailbox (id)
)
""",
    """
CREATE TABLE message_index (
    blob_id INTEGER NOT NULL,
    header_octets INTEGER NOT NULL,
    date_at INTEGER,
    has_package INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    subject TEXT NOT NULL,
    from_ TEXT NOT NULL,
    "to" TEXT NOT NULL,
    envelope BLOB NOT NULL,
    body BLOB NOT NULL,
    bodystructure BLOB NOT NULL,
    outline BLOB NOT NULL,
    PRIMARY KEY (blob_id),
    FOREIGN KEY(blob_id) REFERENCES blob (id)
)
""",
    """
CREATE TABLE receipt_filing (
    structure_id TEXT NOT NULL,
    receipt_id TEXT NOT NULL,
    PRIMARY KEY (structure_id, receipt_id),
    FOREIGN KEY(receipt_id) REFERENCES receipt (receipt_id)
)
 WITHOUT ROWID
""",
    """
CREATE TABLE outbox_message (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    receipt_id TEXT NOT NULL,
    mailbox_id INTEGER,
    reverse_path TEXT NOT NULL,
    octets INTEGER NOT NULL,
    blob_id INTEGER,
    prefix BLOB NOT NULL,
    queued_at INTEGER NOT NULL,
    FOREIGN KEY(mailbox_id) REFERENCES mailbox (id),
    FOREIGN KEY(blob_id) REFERENCES blob (id)
)
""",
    """
CREATE INDEX outbox_message_blob ON outbox_message (blob_id)
""",
    """
CREATE TABLE entry (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    folder_id INTEGER NOT NULL,
    uid INTEGER,
    modseq INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    keywords TEXT NOT NULL,
    octets INTEGER NOT NULL,
    internal_at INTEGER NOT NULL,
    blob_id INTEGER NOT NULL,
    receipt_id TEXT,
    prefix BLOB NOT NULL,
    UNIQUE (folder_id, uid),
    FOREIGN KEY(folder_id) REFERENCES folder (id),
    FOREIGN KEY(blob_id) REFERENCES blob (id)
)
""",
    """
CREATE INDEX entry_receipt ON entry (receipt_id) WHERE receipt_id IS NOT NULL
""",
    """
CREATE INDEX entry_blob ON entry (blob_id)
""",
    """
CREATE INDEX entry_modseq ON entry (folder_id, modseq)
""",
    """
CREATE TABLE expunged (
    folder_id INTEGER NOT NULL,
    modseq INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    PRIMARY KEY (folder_id, modseq, uid),
    FOREIGN KEY(folder_id) REFERENCES folder (id)
)
 WITHOUT ROWID
""",
    """
CREATE TABLE outbox_recipient (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    message_id INTEGER NOT NULL,
    forward_path TEXT NOT NULL,
    domain TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    reply TEXT NOT NULL,
    FOREIGN KEY(message_id) REFERENCES outbox_message (id)
)
""",
    """
CREATE INDEX outbox_recipient_message ON outbox_recipient (message_id)
""",
    """
CREATE INDEX outbox_recipient_waiting ON outbox_recipient (next_at) WHERE state IN ('queued', 'leased')
""",
)


def upgrade() -> None:
    connection = op.get_bind()
    for statement in STATEMENTS:
        connection.exec_driver_sql(statement)
