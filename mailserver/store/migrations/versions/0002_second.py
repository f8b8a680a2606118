"""What the mail database has got since its first schema, as text."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
DROP INDEX blob_unsettled
""",
    """
DROP INDEX device_password_mailbox
""",
    """
DROP INDEX entry_blob
""",
    """
DROP INDEX entry_modseq
""",
    """
DROP INDEX entry_receipt
""",
    """
DROP INDEX mailbox_structure
""",
    """
DROP INDEX outbox_message_blob
""",
    """
DROP INDEX outbox_recipient_message
""",
    """
DROP INDEX outbox_recipient_waiting
""",
    """
CREATE TABLE mailbox_next (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    address TEXT NOT NULL,
    type TEXT NOT NULL,
    structure_id TEXT NOT NULL,
    display_name TEXT NOT NULL,
    rpps TEXT,
    filing INTEGER NOT NULL,
    next_uidvalidity INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    closed_at INTEGER,
    UNIQUE (address)
)
""",
    """
INSERT INTO mailbox_next (
    id,
    address,
    type,
    structure_id,
    display_name,
    rpps,
    filing,
    next_uidvalidity,
    created_at
)
SELECT
    id,
    address,
    type,
    structure_id,
    display_name,
    rpps,
    filing,
    next_uidvalidity,
    created_at
FROM mailbox
""",
    """
DELETE FROM sqlite_sequence WHERE name = 'mailbox_next'
""",
    """
INSERT INTO sqlite_sequence (name, seq)
SELECT 'mailbox_next', seq FROM sqlite_sequence WHERE name = 'mailbox'
""",
    """
DROP TABLE mailbox
""",
    """
ALTER TABLE mailbox_next RENAME TO mailbox
""",
    """
CREATE TABLE blob_next (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    octets INTEGER NOT NULL,
    state INTEGER NOT NULL,
    searchable INTEGER DEFAULT '0' NOT NULL
)
""",
    """
INSERT INTO blob_next (
    id,
    octets,
    state
)
SELECT
    id,
    octets,
    state
FROM blob
""",
    """
DELETE FROM sqlite_sequence WHERE name = 'blob_next'
""",
    """
INSERT INTO sqlite_sequence (name, seq)
SELECT 'blob_next', seq FROM sqlite_sequence WHERE name = 'blob'
""",
    """
DROP TABLE blob
""",
    """
ALTER TABLE blob_next RENAME TO blob
""",
    """
CREATE TABLE outbox_domain (
    domain TEXT NOT NULL,
    failures INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    reply TEXT NOT NULL,
    PRIMARY KEY (domain)
)
 WITHOUT ROWID
""",
    """
CREATE TABLE recipient_certificate (
    address TEXT NOT NULL,
    der BLOB NOT NULL,
    cipherment TEXT NOT NULL,
    recorded_at INTEGER NOT NULL,
    PRIMARY KEY (address)
)
 WITHOUT ROWID
""",
    """
CREATE TABLE device_password_next (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    mailbox_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    secret_mac BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    last_used_at INTEGER,
    revoked_at INTEGER,
    person_id INTEGER,
    kind TEXT DEFAULT 'password' NOT NULL,
    stored_key BLOB,
    server_key BLOB,
    FOREIGN KEY(mailbox_id) REFERENCES mailbox (id),
    FOREIGN KEY(person_id) REFERENCES mailbox (id)
)
""",
    """
INSERT INTO device_password_next (
    id,
    mailbox_id,
    name,
    secret_mac,
    created_at,
    expires_at,
    last_used_at,
    revoked_at
)
SELECT
    id,
    mailbox_id,
    name,
    secret_mac,
    created_at,
    expires_at,
    last_used_at,
    revoked_at
FROM device_password
""",
    """
DELETE FROM sqlite_sequence WHERE name = 'device_password_next'
""",
    """
INSERT INTO sqlite_sequence (name, seq)
SELECT 'device_password_next', seq FROM sqlite_sequence WHERE name = 'device_password'
""",
    """
DROP TABLE device_password
""",
    """
ALTER TABLE device_password_next RENAME TO device_password
""",
    """
CREATE TABLE mailbox_share (
    mailbox_id INTEGER NOT NULL,
    person_id INTEGER NOT NULL,
    rights TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (mailbox_id, person_id),
    FOREIGN KEY(mailbox_id) REFERENCES mailbox (id),
    FOREIGN KEY(person_id) REFERENCES mailbox (id)
)
 WITHOUT ROWID
""",
    """
CREATE TABLE send_grant (
    mailbox_id INTEGER NOT NULL,
    person_id INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (mailbox_id, person_id),
    FOREIGN KEY(mailbox_id) REFERENCES mailbox (id),
    FOREIGN KEY(person_id) REFERENCES mailbox (id)
)
 WITHOUT ROWID
""",
    """
CREATE TABLE folder_next (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    mailbox_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    uidvalidity INTEGER NOT NULL,
    uidnext INTEGER NOT NULL,
    highestmodseq INTEGER NOT NULL,
    special_use TEXT,
    subscribed INTEGER NOT NULL,
    expunged_floor INTEGER DEFAULT '0' NOT NULL,
    UNIQUE (mailbox_id, name),
    FOREIGN KEY(mailbox_id) REFERENCES mailbox (id)
)
""",
    """
INSERT INTO folder_next (
    id,
    mailbox_id,
    name,
    uidvalidity,
    uidnext,
    highestmodseq,
    special_use,
    subscribed
)
SELECT
    id,
    mailbox_id,
    name,
    uidvalidity,
    uidnext,
    highestmodseq,
    special_use,
    subscribed
FROM folder
""",
    """
DELETE FROM sqlite_sequence WHERE name = 'folder_next'
""",
    """
INSERT INTO sqlite_sequence (name, seq)
SELECT 'folder_next', seq FROM sqlite_sequence WHERE name = 'folder'
""",
    """
DROP TABLE folder
""",
    """
ALTER TABLE folder_next RENAME TO folder
""",
    """
CREATE TABLE outbox_message_next (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    receipt_id TEXT NOT NULL,
    mailbox_id INTEGER,
    reverse_path TEXT NOT NULL,
    octets INTEGER NOT NULL,
    blob_id INTEGER,
    prefix BLOB NOT NULL,
    queued_at INTEGER NOT NULL,
    ret TEXT DEFAULT '' NOT NULL,
    envid TEXT DEFAULT '' NOT NULL,
    require_tls INTEGER DEFAULT '0' NOT NULL,
    smtputf8 INTEGER DEFAULT '0' NOT NULL,
    FOREIGN KEY(mailbox_id) REFERENCES mailbox (id),
    FOREIGN KEY(blob_id) REFERENCES blob (id)
)
""",
    """
INSERT INTO outbox_message_next (
    id,
    receipt_id,
    mailbox_id,
    reverse_path,
    octets,
    blob_id,
    prefix,
    queued_at
)
SELECT
    id,
    receipt_id,
    mailbox_id,
    reverse_path,
    octets,
    blob_id,
    prefix,
    queued_at
FROM outbox_message
""",
    """
DELETE FROM sqlite_sequence WHERE name = 'outbox_message_next'
""",
    """
INSERT INTO sqlite_sequence (name, seq)
SELECT 'outbox_message_next', seq FROM sqlite_sequence WHERE name = 'outbox_message'
""",
    """
DROP TABLE outbox_message
""",
    """
ALTER TABLE outbox_message_next RENAME TO outbox_message
""",
    """
CREATE TABLE seal_request (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    sha256 BLOB NOT NULL,
    author_id INTEGER NOT NULL,
    asked_at INTEGER NOT NULL,
    FOREIGN KEY(author_id) REFERENCES mailbox (id)
)
""",
    """
CREATE TABLE encrypting_mailbox (
    mailbox_id INTEGER NOT NULL,
    PRIMARY KEY (mailbox_id),
    FOREIGN KEY(mailbox_id) REFERENCES mailbox (id)
)
 WITHOUT ROWID
""",
    """
CREATE TABLE notify_address (
    mailbox_id INTEGER NOT NULL,
    address TEXT,
    confirmed_at INTEGER,
    code_digest BLOB,
    code_until INTEGER,
    wrong INTEGER NOT NULL,
    asks INTEGER NOT NULL,
    asks_from INTEGER NOT NULL,
    inbox_uid INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    failing_since INTEGER,
    next_at INTEGER NOT NULL,
    failed_at INTEGER,
    reminds INTEGER DEFAULT '0' NOT NULL,
    reminded_on TEXT,
    PRIMARY KEY (mailbox_id),
    FOREIGN KEY(mailbox_id) REFERENCES mailbox (id)
)
 WITHOUT ROWID
""",
    """
CREATE TABLE notify_known (
    mailbox_id INTEGER NOT NULL,
    document_id INTEGER NOT NULL,
    PRIMARY KEY (mailbox_id, document_id),
    FOREIGN KEY(mailbox_id) REFERENCES mailbox (id)
)
 WITHOUT ROWID
""",
    """
CREATE TABLE notify_reminded (
    mailbox_id INTEGER NOT NULL,
    day TEXT NOT NULL,
    line INTEGER NOT NULL,
    PRIMARY KEY (mailbox_id, day, line),
    FOREIGN KEY(mailbox_id) REFERENCES mailbox (id)
)
 WITHOUT ROWID
""",
    """
CREATE TABLE sent_recipient (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    receipt_id TEXT NOT NULL,
    mailbox_id INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    address TEXT NOT NULL,
    transport TEXT NOT NULL,
    verdict TEXT NOT NULL,
    code TEXT NOT NULL,
    displayed INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    person_id INTEGER,
    FOREIGN KEY(receipt_id) REFERENCES receipt (receipt_id),
    FOREIGN KEY(mailbox_id) REFERENCES mailbox (id),
    FOREIGN KEY(person_id) REFERENCES mailbox (id)
)
""",
    """
CREATE TABLE hl7_order (
    receipt_id TEXT NOT NULL,
    structure_id TEXT NOT NULL,
    control_id TEXT NOT NULL,
    sending_application TEXT NOT NULL,
    sending_facility TEXT NOT NULL,
    receiving_application TEXT NOT NULL,
    receiving_facility TEXT NOT NULL,
    processing TEXT NOT NULL,
    reception INTEGER NOT NULL,
    reading INTEGER NOT NULL,
    PRIMARY KEY (receipt_id),
    FOREIGN KEY(receipt_id) REFERENCES receipt (receipt_id)
)
 WITHOUT ROWID
""",
    """
CREATE TABLE folder_share (
    folder_id INTEGER NOT NULL,
    person_id INTEGER NOT NULL,
    rights TEXT NOT NULL,
    PRIMARY KEY (folder_id, person_id),
    FOREIGN KEY(folder_id) REFERENCES folder (id),
    FOREIGN KEY(person_id) REFERENCES mailbox (id)
)
 WITHOUT ROWID
""",
    """
CREATE TABLE folder_subscription (
    folder_id INTEGER NOT NULL,
    person_id INTEGER NOT NULL,
    PRIMARY KEY (folder_id, person_id),
    FOREIGN KEY(folder_id) REFERENCES folder (id),
    FOREIGN KEY(person_id) REFERENCES mailbox (id)
)
 WITHOUT ROWID
""",
    """
CREATE TABLE search_text (
    blob_id INTEGER NOT NULL,
    header TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (blob_id),
    FOREIGN KEY(blob_id) REFERENCES blob (id)
)
""",
    """
CREATE VIRTUAL TABLE search_trigram USING fts5(text, content='', tokenize='trigram case_sensitive 1', detail=none)
""",
    """
CREATE TABLE entry_next (
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
    saved_at INTEGER,
    origin_id INTEGER,
    has_package INTEGER DEFAULT '0' NOT NULL,
    UNIQUE (folder_id, uid),
    FOREIGN KEY(folder_id) REFERENCES folder (id),
    FOREIGN KEY(blob_id) REFERENCES blob (id)
)
""",
    """
INSERT INTO entry_next (
    id,
    folder_id,
    uid,
    modseq,
    flags,
    keywords,
    octets,
    internal_at,
    blob_id,
    receipt_id,
    prefix
)
SELECT
    id,
    folder_id,
    uid,
    modseq,
    flags,
    keywords,
    octets,
    internal_at,
    blob_id,
    receipt_id,
    prefix
FROM entry
""",
    """
DELETE FROM sqlite_sequence WHERE name = 'entry_next'
""",
    """
INSERT INTO sqlite_sequence (name, seq)
SELECT 'entry_next', seq FROM sqlite_sequence WHERE name = 'entry'
""",
    """
DROP TABLE entry
""",
    """
ALTER TABLE entry_next RENAME TO entry
""",
    """
CREATE TABLE outbox_recipient_next (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    message_id INTEGER NOT NULL,
    forward_path TEXT NOT NULL,
    domain TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    reply TEXT NOT NULL,
    notify TEXT DEFAULT '' NOT NULL,
    orcpt TEXT DEFAULT '' NOT NULL,
    crashes INTEGER DEFAULT '0' NOT NULL,
    delayed_at INTEGER,
    FOREIGN KEY(message_id) REFERENCES outbox_message (id)
)
""",
    """
INSERT INTO outbox_recipient_next (
    id,
    message_id,
    forward_path,
    domain,
    state,
    attempts,
    next_at,
    reply
)
SELECT
    id,
    message_id,
    forward_path,
    domain,
    state,
    attempts,
    next_at,
    reply
FROM outbox_recipient
""",
    """
DELETE FROM sqlite_sequence WHERE name = 'outbox_recipient_next'
""",
    """
INSERT INTO sqlite_sequence (name, seq)
SELECT 'outbox_recipient_next', seq FROM sqlite_sequence WHERE name = 'outbox_recipient'
""",
    """
DROP TABLE outbox_recipient
""",
    """
ALTER TABLE outbox_recipient_next RENAME TO outbox_recipient
""",
    """
CREATE TABLE business_ack (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    recipient_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    success INTEGER NOT NULL,
    code TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    CONSTRAINT business_ack_once UNIQUE (recipient_id, kind, success),
    FOREIGN KEY(recipient_id) REFERENCES sent_recipient (id)
)
""",
    """
CREATE TABLE mailbox_usage (
    mailbox_id INTEGER NOT NULL,
    octets INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    PRIMARY KEY (mailbox_id),
    FOREIGN KEY(mailbox_id) REFERENCES mailbox (id)
)
 WITHOUT ROWID
""",
    """
CREATE INDEX blob_unsettled ON blob (id) WHERE state != 0
""",
    """
CREATE INDEX business_ack_due ON business_ack (next_at) WHERE state = 'waiting'
""",
    """
CREATE INDEX device_password_mac ON device_password (secret_mac)
""",
    """
CREATE INDEX device_password_mailbox ON device_password (mailbox_id)
""",
    """
CREATE INDEX entry_blob ON entry (blob_id, folder_id)
""",
    """
CREATE INDEX entry_modseq ON entry (folder_id, modseq)
""",
    """
CREATE INDEX entry_receipt ON entry (receipt_id) WHERE receipt_id IS NOT NULL
""",
    """
CREATE INDEX entry_unread_package ON entry (folder_id, internal_at) WHERE uid > 0 AND has_package = 1 AND (flags & 1) = 0
""",
    """
CREATE INDEX folder_share_person ON folder_share (person_id)
""",
    """
CREATE INDEX mailbox_rpps ON mailbox (rpps) WHERE rpps IS NOT NULL
""",
    """
CREATE INDEX mailbox_share_person ON mailbox_share (person_id)
""",
    """
CREATE INDEX mailbox_structure ON mailbox (structure_id, type)
""",
    """
CREATE INDEX notify_address_due ON notify_address (next_at)
""",
    """
CREATE INDEX outbox_message_blob ON outbox_message (blob_id)
""",
    """
CREATE INDEX outbox_recipient_message ON outbox_recipient (message_id)
""",
    """
CREATE INDEX outbox_recipient_waiting ON outbox_recipient (next_at) WHERE state IN ('queued', 'leased')
""",
    """
CREATE INDEX send_grant_person ON send_grant (person_id)
""",
    """
CREATE INDEX sent_recipient_message ON sent_recipient (mailbox_id, message_id)
""",
    """
CREATE INDEX sent_recipient_receipt ON sent_recipient (receipt_id)
""",
    """
CREATE TRIGGER entry_counted AFTER INSERT ON entry WHEN NEW.uid > 0
BEGIN INSERT INTO mailbox_usage (mailbox_id, octets, messages)
    SELECT mailbox_id, NEW.octets, 1 FROM folder WHERE id = NEW.folder_id
    ON CONFLICT (mailbox_id) DO UPDATE
    SET octets = octets + excluded.octets, messages = messages + excluded.messages; END
""",
    """
CREATE TRIGGER entry_released AFTER UPDATE OF uid ON entry WHEN OLD.uid IS NULL AND NEW.uid > 0
BEGIN INSERT INTO mailbox_usage (mailbox_id, octets, messages)
    SELECT mailbox_id, NEW.octets, 1 FROM folder WHERE id = NEW.folder_id
    ON CONFLICT (mailbox_id) DO UPDATE
    SET octets = octets + excluded.octets, messages = messages + excluded.messages; END
""",
    """
CREATE TRIGGER entry_uncounted AFTER DELETE ON entry WHEN OLD.uid > 0
BEGIN INSERT INTO mailbox_usage (mailbox_id, octets, messages)
    SELECT mailbox_id, -OLD.octets, -1 FROM folder WHERE id = OLD.folder_id
    ON CONFLICT (mailbox_id) DO UPDATE
    SET octets = octets + excluded.octets, messages = messages + excluded.messages; END
""",
    """
CREATE TRIGGER entry_withheld AFTER UPDATE OF uid ON entry WHEN OLD.uid > 0 AND NEW.uid IS NULL
BEGIN INSERT INTO mailbox_usage (mailbox_id, octets, messages)
    SELECT mailbox_id, -OLD.octets, -1 FROM folder WHERE id = OLD.folder_id
    ON CONFLICT (mailbox_id) DO UPDATE
    SET octets = octets + excluded.octets, messages = messages + excluded.messages; END
""",
    """
CREATE TRIGGER message_index_gone AFTER DELETE ON message_index BEGIN DELETE FROM search_text WHERE blob_id = OLD.blob_id; END
""",
    """
CREATE TRIGGER search_text_gone AFTER DELETE ON search_text BEGIN INSERT INTO search_trigram (search_trigram, rowid, text) VALUES ('delete', OLD.blob_id, OLD.header || OLD.body); END
""",
    """
CREATE TRIGGER search_text_led_to AFTER INSERT ON search_text BEGIN INSERT INTO search_trigram (rowid, text) VALUES (NEW.blob_id, NEW.header || NEW.body); END
""",
    """
INSERT INTO mailbox_usage (mailbox_id, octets, messages)
    SELECT folder.mailbox_id, sum(entry.octets), count(*)
    FROM entry JOIN folder ON folder.id = entry.folder_id WHERE entry.uid > 0
    GROUP BY folder.mailbox_id
""",
    """
UPDATE entry SET has_package = 1
    WHERE blob_id IN (SELECT blob_id FROM message_index WHERE has_package = 1)
""",
)


def upgrade() -> None:
    connection = op.get_bind()
    for statement in STATEMENTS:
        connection.exec_driver_sql(statement)
