"""The first schema of the record database, as text."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    """
CREATE TABLE patient (
    id INTEGER NOT NULL,
    structure_id TEXT NOT NULL,
    matricule TEXT NOT NULL,
    oid TEXT NOT NULL,
    family TEXT NOT NULL,
    given TEXT NOT NULL,
    birth_date TEXT NOT NULL,
    sex TEXT NOT NULL,
    birth_place TEXT,
    status TEXT NOT NULL,
    doubtful INTEGER DEFAULT '0' NOT NULL,
    fictitious INTEGER DEFAULT '0' NOT NULL,
    address TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT patient_identity UNIQUE (structure_id, matricule, oid),
    CONSTRAINT patient_address UNIQUE (address)
)
""",
    """
CREATE TABLE inbox_item (
    id INTEGER NOT NULL,
    structure_id TEXT NOT NULL,
    uidvalidity INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    receipt TEXT,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    lease_until_at INTEGER NOT NULL,
    outcome TEXT,
    code TEXT,
    origin TEXT,
    keywords TEXT,
    told TEXT,
    marked_at INTEGER,
    done_at INTEGER,
    purged_at INTEGER,
    PRIMARY KEY (id),
    CONSTRAINT inbox_item_uid UNIQUE (structure_id, uidvalidity, uid)
)
""",
    """
CREATE INDEX inbox_item_receipt ON inbox_item (structure_id, receipt)
""",
    """
CREATE INDEX inbox_item_origin ON inbox_item (origin, done_at) WHERE code IN ('902', '904')
""",
    """
CREATE INDEX inbox_item_claimed ON inbox_item (structure_id) WHERE state = 'claimed'
""",
    """
CREATE INDEX inbox_item_unpurged ON inbox_item (structure_id, uidvalidity, uid) WHERE state = 'done' AND purged_at IS NULL
""",
    """
CREATE INDEX inbox_item_unmarked ON inbox_item (structure_id) WHERE state = 'done' AND marked_at IS NULL
""",
    """
CREATE TABLE cursor (
    structure_id TEXT NOT NULL,
    uidvalidity INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    PRIMARY KEY (structure_id)
)
""",
    """
CREATE TABLE archive (
    id INTEGER NOT NULL,
    structure_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    sha256 BLOB NOT NULL,
    octets INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT archive_content UNIQUE (structure_id, kind, sha256)
)
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
CREATE INDEX trail_event_unsealed ON trail_event (event_id) WHERE sequence IS NULL
""",
    """
CREATE INDEX trail_event_subject ON trail_event (subject, event_id)
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
CREATE TABLE archive_chunk (
    archive_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (archive_id, position),
    FOREIGN KEY(archive_id) REFERENCES archive (id) ON DELETE CASCADE
)
""",
    """
CREATE TABLE document (
    id INTEGER NOT NULL,
    structure_id TEXT NOT NULL,
    patient_id INTEGER NOT NULL,
    unique_id TEXT NOT NULL,
    sha256 BLOB NOT NULL,
    octets INTEGER NOT NULL,
    set_id TEXT DEFAULT '' NOT NULL,
    version_number INTEGER,
    parent_unique_id TEXT,
    superseded_by INTEGER,
    type_code TEXT NOT NULL,
    class_code TEXT NOT NULL,
    title TEXT NOT NULL,
    effective_at INTEGER,
    status TEXT NOT NULL,
    visibility TEXT NOT NULL,
    released_at INTEGER,
    release_at INTEGER,
    marks TEXT NOT NULL,
    author TEXT DEFAULT '' NOT NULL,
    author_ids TEXT DEFAULT '' NOT NULL,
    organization_ids TEXT NOT NULL,
    may_replace INTEGER NOT NULL,
    custodian TEXT DEFAULT '' NOT NULL,
    recipient_ids TEXT DEFAULT '' NOT NULL,
    attending_ids TEXT DEFAULT '' NOT NULL,
    media_type TEXT DEFAULT '' NOT NULL,
    sender TEXT NOT NULL,
    origin TEXT NOT NULL,
    signer TEXT DEFAULT '' NOT NULL,
    forwarded_by TEXT DEFAULT '' NOT NULL,
    package_id INTEGER NOT NULL,
    receipt TEXT NOT NULL,
    position INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    filed_at INTEGER NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT document_unique_id UNIQUE (structure_id, unique_id),
    CONSTRAINT document_occurrence UNIQUE (structure_id, receipt, position),
    FOREIGN KEY(patient_id) REFERENCES patient (id),
    FOREIGN KEY(superseded_by) REFERENCES document (id),
    FOREIGN KEY(package_id) REFERENCES archive (id)
)
""",
    """
CREATE INDEX document_parent ON document (structure_id, parent_unique_id) WHERE parent_unique_id IS NOT NULL
""",
    """
CREATE INDEX document_patient ON document (patient_id, class_code)
""",
    """
CREATE INDEX document_release ON document (release_at) WHERE release_at IS NOT NULL
""",
    """
CREATE TABLE quarantine (
    id INTEGER NOT NULL,
    structure_id TEXT NOT NULL,
    item_id INTEGER NOT NULL,
    archive_id INTEGER,
    receipt TEXT NOT NULL,
    position INTEGER NOT NULL,
    unique_id TEXT DEFAULT '' NOT NULL,
    parent_unique_id TEXT,
    code TEXT NOT NULL,
    reason TEXT NOT NULL,
    matricule TEXT DEFAULT '' NOT NULL,
    oid TEXT DEFAULT '' NOT NULL,
    whole INTEGER NOT NULL,
    state TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    closed_at INTEGER,
    closed_by TEXT,
    PRIMARY KEY (id),
    CONSTRAINT quarantine_occurrence UNIQUE (structure_id, receipt, position),
    FOREIGN KEY(item_id) REFERENCES inbox_item (id),
    FOREIGN KEY(archive_id) REFERENCES archive (id)
)
""",
    """
CREATE INDEX quarantine_identity ON quarantine (structure_id, matricule) WHERE state = 'open'
""",
    """
CREATE INDEX quarantine_item ON quarantine (item_id)
""",
    """
CREATE INDEX quarantine_unique_id ON quarantine (structure_id, unique_id) WHERE state = 'open'
""",
    """
CREATE INDEX quarantine_parent ON quarantine (structure_id, parent_unique_id) WHERE state = 'open' AND parent_unique_id IS NOT NULL
""",
    """
CREATE TABLE reply_outbox (
    id INTEGER NOT NULL,
    structure_id TEXT NOT NULL,
    item_id INTEGER NOT NULL,
    final_recipient TEXT NOT NULL,
    send_to TEXT NOT NULL,
    message_id TEXT NOT NULL,
    code TEXT DEFAULT '' NOT NULL,
    original_message_id TEXT DEFAULT '' NOT NULL,
    at INTEGER NOT NULL,
    attempts INTEGER DEFAULT '0' NOT NULL,
    next_at INTEGER NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT reply_outbox_once UNIQUE (item_id, final_recipient),
    FOREIGN KEY(item_id) REFERENCES inbox_item (id)
)
""",
    """
CREATE INDEX reply_outbox_due ON reply_outbox (structure_id, next_at) WHERE state = 'waiting'
""",
    """
CREATE TABLE document_chunk (
    document_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (document_id, position),
    FOREIGN KEY(document_id) REFERENCES document (id) ON DELETE CASCADE
)
""",
    """
CREATE TABLE agenda_entry (
    id INTEGER NOT NULL,
    structure_id TEXT NOT NULL,
    patient_id INTEGER NOT NULL,
    document_id INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL,
    title TEXT NOT NULL,
    day TEXT,
    start_at INTEGER,
    end_at INTEGER,
    reminder TEXT DEFAULT '' NOT NULL,
    place TEXT,
    code TEXT DEFAULT '' NOT NULL,
    code_system TEXT DEFAULT '' NOT NULL,
    source_superseded INTEGER DEFAULT '0' NOT NULL,
    decided_at INTEGER,
    decided_by TEXT,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(patient_id) REFERENCES patient (id),
    FOREIGN KEY(document_id) REFERENCES document (id)
)
""",
    """
CREATE INDEX agenda_entry_document ON agenda_entry (document_id)
""",
    """
CREATE INDEX agenda_entry_patient ON agenda_entry (patient_id, day)
""",
    """
CREATE TABLE duplicate (
    id INTEGER NOT NULL,
    structure_id TEXT NOT NULL,
    document_id INTEGER NOT NULL,
    unique_id TEXT NOT NULL,
    receipt TEXT NOT NULL,
    position INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT duplicate_occurrence UNIQUE (structure_id, receipt, position),
    FOREIGN KEY(document_id) REFERENCES document (id)
)
""",
)


def upgrade() -> None:
    connection = op.get_bind()
    for statement in STATEMENTS:
        connection.exec_driver_sql(statement)
