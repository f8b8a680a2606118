"""What the record database has got since its first schema, as text."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
DROP INDEX agenda_entry_document
""",
    """
DROP INDEX agenda_entry_patient
""",
    """
DROP INDEX document_parent
""",
    """
DROP INDEX document_patient
""",
    """
DROP INDEX document_release
""",
    """
DROP INDEX quarantine_identity
""",
    """
DROP INDEX quarantine_item
""",
    """
DROP INDEX quarantine_parent
""",
    """
DROP INDEX quarantine_unique_id
""",
    """
CREATE TABLE patient_next (
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
    closed_at INTEGER,
    died_on TEXT,
    merged_into INTEGER,
    PRIMARY KEY (id),
    CONSTRAINT patient_identity UNIQUE (structure_id, matricule, oid),
    CONSTRAINT patient_address UNIQUE (address),
    FOREIGN KEY(merged_into) REFERENCES patient (id)
)
""",
    """
INSERT INTO patient_next (
    id,
    structure_id,
    matricule,
    oid,
    family,
    given,
    birth_date,
    sex,
    birth_place,
    status,
    doubtful,
    fictitious,
    address,
    created_at,
    changed_at
)
SELECT
    id,
    structure_id,
    matricule,
    oid,
    family,
    given,
    birth_date,
    sex,
    birth_place,
    status,
    doubtful,
    fictitious,
    address,
    created_at,
    changed_at
FROM patient
""",
    """
DROP TABLE patient
""",
    """
ALTER TABLE patient_next RENAME TO patient
""",
    """
CREATE TABLE document_cell (
    id INTEGER NOT NULL,
    record_id INTEGER NOT NULL,
    ref TEXT NOT NULL,
    status TEXT NOT NULL,
    class_code TEXT NOT NULL,
    type_code TEXT NOT NULL,
    visibility TEXT NOT NULL,
    roles TEXT NOT NULL,
    many INTEGER NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT document_cell_key UNIQUE (record_id, ref, status, class_code, type_code, visibility, roles)
)
""",
    """
CREATE TABLE cell_document (
    cell_id INTEGER NOT NULL,
    dated_at INTEGER NOT NULL,
    document_id INTEGER NOT NULL,
    PRIMARY KEY (cell_id, dated_at, document_id)
)
 WITHOUT ROWID
""",
    """
CREATE TABLE handover_choice (
    structure_id TEXT NOT NULL,
    begins_after INTEGER NOT NULL,
    taken_in INTEGER NOT NULL,
    answers INTEGER NOT NULL,
    PRIMARY KEY (structure_id)
)
""",
    """
CREATE TABLE retention_policy (
    id INTEGER NOT NULL,
    structure_id TEXT NOT NULL,
    text TEXT NOT NULL,
    set_by TEXT NOT NULL,
    set_at INTEGER NOT NULL,
    PRIMARY KEY (id)
)
""",
    """
CREATE TABLE patient_merge (
    id INTEGER NOT NULL,
    structure_id TEXT NOT NULL,
    kept_id INTEGER NOT NULL,
    merged_id INTEGER NOT NULL,
    merged_by TEXT NOT NULL,
    merged_at INTEGER NOT NULL,
    reason TEXT NOT NULL,
    split_by TEXT,
    split_at INTEGER,
    split_reason TEXT,
    PRIMARY KEY (id),
    FOREIGN KEY(kept_id) REFERENCES patient (id),
    FOREIGN KEY(merged_id) REFERENCES patient (id)
)
""",
    """
CREATE TABLE document_next (
    id INTEGER NOT NULL,
    structure_id TEXT NOT NULL,
    patient_id INTEGER,
    identity_id INTEGER,
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
    masked_here TEXT DEFAULT '' NOT NULL,
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
    filed_by TEXT,
    imported_at INTEGER,
    withdrawn_at INTEGER,
    moved INTEGER DEFAULT '0' NOT NULL,
    words TEXT DEFAULT '' NOT NULL,
    refs TEXT DEFAULT '' NOT NULL,
    number INTEGER,
    lists_read INTEGER DEFAULT '0' NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT document_unique_id UNIQUE (structure_id, unique_id),
    CONSTRAINT document_occurrence UNIQUE (structure_id, receipt, position),
    FOREIGN KEY(patient_id) REFERENCES patient (id),
    FOREIGN KEY(identity_id) REFERENCES patient (id),
    FOREIGN KEY(superseded_by) REFERENCES document (id),
    FOREIGN KEY(package_id) REFERENCES archive (id)
)
""",
    """
INSERT INTO document_next (
    id,
    structure_id,
    patient_id,
    unique_id,
    sha256,
    octets,
    set_id,
    version_number,
    parent_unique_id,
    superseded_by,
    type_code,
    class_code,
    title,
    effective_at,
    status,
    visibility,
    released_at,
    release_at,
    marks,
    author,
    author_ids,
    organization_ids,
    may_replace,
    custodian,
    recipient_ids,
    attending_ids,
    media_type,
    sender,
    origin,
    signer,
    forwarded_by,
    package_id,
    receipt,
    position,
    received_at,
    filed_at
)
SELECT
    id,
    structure_id,
    patient_id,
    unique_id,
    sha256,
    octets,
    set_id,
    version_number,
    parent_unique_id,
    superseded_by,
    type_code,
    class_code,
    title,
    effective_at,
    status,
    visibility,
    released_at,
    release_at,
    marks,
    author,
    author_ids,
    organization_ids,
    may_replace,
    custodian,
    recipient_ids,
    attending_ids,
    media_type,
    sender,
    origin,
    signer,
    forwarded_by,
    package_id,
    receipt,
    position,
    received_at,
    filed_at
FROM document
""",
    """
DROP TABLE document
""",
    """
ALTER TABLE document_next RENAME TO document
""",
    """
CREATE TABLE prevention_declared (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    patient_id INTEGER NOT NULL,
    rule_id TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    day TEXT NOT NULL,
    declared_by TEXT NOT NULL,
    declared_at INTEGER NOT NULL,
    UNIQUE (patient_id, rule_id, ordinal),
    FOREIGN KEY(patient_id) REFERENCES patient (id)
)
""",
    """
CREATE TABLE quarantine_next (
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
    type_code TEXT DEFAULT '' NOT NULL,
    addressees TEXT DEFAULT '' NOT NULL,
    sender TEXT DEFAULT '' NOT NULL,
    decision TEXT,
    decision_reason TEXT,
    PRIMARY KEY (id),
    CONSTRAINT quarantine_occurrence UNIQUE (structure_id, receipt, position),
    FOREIGN KEY(item_id) REFERENCES inbox_item (id),
    FOREIGN KEY(archive_id) REFERENCES archive (id)
)
""",
    """
INSERT INTO quarantine_next (
    id,
    structure_id,
    item_id,
    archive_id,
    receipt,
    position,
    unique_id,
    parent_unique_id,
    code,
    reason,
    matricule,
    oid,
    whole,
    state,
    received_at,
    created_at,
    closed_at,
    closed_by
)
SELECT
    id,
    structure_id,
    item_id,
    archive_id,
    receipt,
    position,
    unique_id,
    parent_unique_id,
    code,
    reason,
    matricule,
    oid,
    whole,
    state,
    received_at,
    created_at,
    closed_at,
    closed_by
FROM quarantine
""",
    """
DROP TABLE quarantine
""",
    """
ALTER TABLE quarantine_next RENAME TO quarantine
""",
    """
CREATE TABLE own_entry (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    patient_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    ics BLOB NOT NULL,
    title TEXT NOT NULL,
    place TEXT DEFAULT '' NOT NULL,
    day TEXT NOT NULL,
    last_day TEXT,
    start_at INTEGER,
    end_at INTEGER,
    organizer TEXT DEFAULT '' NOT NULL,
    cancelled INTEGER DEFAULT '0' NOT NULL,
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    CONSTRAINT own_entry_name UNIQUE (patient_id, name),
    CONSTRAINT own_entry_uid UNIQUE (patient_id, uid),
    FOREIGN KEY(patient_id) REFERENCES patient (id)
)
""",
    """
CREATE TABLE invitation (
    id INTEGER NOT NULL,
    patient_id INTEGER NOT NULL,
    organizer TEXT NOT NULL,
    uid TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    answer TEXT NOT NULL,
    answered_at INTEGER NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT invitation_once UNIQUE (patient_id, organizer, uid),
    FOREIGN KEY(patient_id) REFERENCES patient (id)
)
""",
    """
CREATE TABLE calendar_key (
    id INTEGER NOT NULL,
    patient_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    login TEXT NOT NULL,
    digest BLOB NOT NULL,
    name TEXT DEFAULT '' NOT NULL,
    detail TEXT NOT NULL,
    holder TEXT DEFAULT '' NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    stopped_at INTEGER,
    PRIMARY KEY (id),
    CONSTRAINT calendar_key_digest UNIQUE (digest),
    CONSTRAINT calendar_key_login UNIQUE (login),
    FOREIGN KEY(patient_id) REFERENCES patient (id)
)
""",
    """
CREATE TABLE api_token (
    id INTEGER NOT NULL,
    structure_id TEXT NOT NULL,
    patient_id INTEGER,
    rpps TEXT DEFAULT '' NOT NULL,
    digest BLOB NOT NULL,
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    stopped_at INTEGER,
    PRIMARY KEY (id),
    CONSTRAINT api_token_digest UNIQUE (digest),
    FOREIGN KEY(patient_id) REFERENCES patient (id)
)
""",
    """
CREATE TABLE deposit (
    id INTEGER NOT NULL,
    patient_id INTEGER NOT NULL,
    title TEXT NOT NULL,
    media_type TEXT NOT NULL,
    sha256 BLOB NOT NULL,
    octets INTEGER NOT NULL,
    visibility TEXT NOT NULL,
    deposited_by TEXT NOT NULL,
    deposited_at INTEGER NOT NULL,
    withdrawn_at INTEGER,
    PRIMARY KEY (id),
    FOREIGN KEY(patient_id) REFERENCES patient (id)
)
""",
    """
CREATE TABLE admission_pack (
    id INTEGER NOT NULL,
    patient_id INTEGER NOT NULL,
    title TEXT NOT NULL,
    due TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    sent_at INTEGER,
    reminded_at INTEGER,
    acknowledged_by TEXT,
    acknowledged_at INTEGER,
    closed_at INTEGER,
    PRIMARY KEY (id),
    FOREIGN KEY(patient_id) REFERENCES patient (id)
)
""",
    """
CREATE TABLE profile_item (
    id INTEGER NOT NULL,
    patient_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    value TEXT DEFAULT '' NOT NULL,
    unit TEXT DEFAULT '' NOT NULL,
    day TEXT,
    noted_by TEXT NOT NULL,
    noted_at INTEGER NOT NULL,
    removed_at INTEGER,
    PRIMARY KEY (id),
    FOREIGN KEY(patient_id) REFERENCES patient (id)
)
""",
    """
CREATE TABLE directive (
    id INTEGER NOT NULL,
    patient_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    version INTEGER NOT NULL,
    day TEXT NOT NULL,
    text TEXT NOT NULL,
    person TEXT DEFAULT '' NOT NULL,
    contact TEXT DEFAULT '' NOT NULL,
    noted_by TEXT NOT NULL,
    noted_at INTEGER NOT NULL,
    withdrawn_at INTEGER,
    PRIMARY KEY (id),
    CONSTRAINT directive_version UNIQUE (patient_id, kind, version),
    FOREIGN KEY(patient_id) REFERENCES patient (id)
)
""",
    """
CREATE TABLE opposition (
    id INTEGER NOT NULL,
    patient_id INTEGER NOT NULL,
    scope TEXT NOT NULL,
    said_by TEXT NOT NULL,
    since_at INTEGER NOT NULL,
    until_at INTEGER,
    PRIMARY KEY (id),
    FOREIGN KEY(patient_id) REFERENCES patient (id)
)
""",
    """
CREATE TABLE retention_hold (
    id INTEGER NOT NULL,
    patient_id INTEGER NOT NULL,
    said_by TEXT NOT NULL,
    since_at INTEGER NOT NULL,
    until_at INTEGER,
    PRIMARY KEY (id),
    FOREIGN KEY(patient_id) REFERENCES patient (id)
)
""",
    """
CREATE TABLE access_right (
    id INTEGER NOT NULL,
    patient_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    holder TEXT NOT NULL,
    parts TEXT DEFAULT '' NOT NULL,
    name TEXT DEFAULT '' NOT NULL,
    reason TEXT DEFAULT '' NOT NULL,
    code BLOB,
    said_by TEXT NOT NULL,
    since_at INTEGER NOT NULL,
    until_at INTEGER,
    ended_at INTEGER,
    ended_by TEXT,
    told_at INTEGER,
    PRIMARY KEY (id),
    FOREIGN KEY(patient_id) REFERENCES patient (id)
)
""",
    """
CREATE TABLE imported_event (
    id INTEGER NOT NULL,
    patient_id INTEGER NOT NULL,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    kind TEXT NOT NULL,
    facts TEXT NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(patient_id) REFERENCES patient (id)
)
""",
    """
CREATE TABLE patient_merge_row (
    merge_id INTEGER NOT NULL,
    table_name TEXT NOT NULL,
    row_id INTEGER NOT NULL,
    PRIMARY KEY (merge_id, table_name, row_id),
    FOREIGN KEY(merge_id) REFERENCES patient_merge (id)
)
""",
    """
CREATE TABLE document_word (
    cell_id INTEGER NOT NULL,
    word TEXT NOT NULL,
    dated_at INTEGER NOT NULL,
    document_id INTEGER NOT NULL,
    PRIMARY KEY (cell_id, word, dated_at, document_id)
)
 WITHOUT ROWID
""",
    """
CREATE TABLE record_change (
    record_id INTEGER NOT NULL,
    changes INTEGER NOT NULL,
    PRIMARY KEY (record_id)
)
""",
    """
CREATE TABLE agenda_entry_next (
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
    atc TEXT DEFAULT '' NOT NULL,
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
INSERT INTO agenda_entry_next (
    id,
    structure_id,
    patient_id,
    document_id,
    ordinal,
    kind,
    status,
    title,
    day,
    start_at,
    end_at,
    reminder,
    place,
    code,
    code_system,
    source_superseded,
    decided_at,
    decided_by,
    created_at
)
SELECT
    id,
    structure_id,
    patient_id,
    document_id,
    ordinal,
    kind,
    status,
    title,
    day,
    start_at,
    end_at,
    reminder,
    place,
    code,
    code_system,
    source_superseded,
    decided_at,
    decided_by,
    created_at
FROM agenda_entry
""",
    """
DROP TABLE agenda_entry
""",
    """
ALTER TABLE agenda_entry_next RENAME TO agenda_entry
""",
    """
CREATE TABLE lab_result (
    document_id INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    loinc TEXT NOT NULL,
    label TEXT NOT NULL,
    value TEXT,
    sign TEXT NOT NULL,
    unit TEXT NOT NULL,
    day TEXT,
    at INTEGER,
    PRIMARY KEY (document_id, ordinal),
    FOREIGN KEY(document_id) REFERENCES document (id) ON DELETE CASCADE
)
""",
    """
CREATE TABLE medication (
    document_id INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    kind TEXT NOT NULL,
    label TEXT NOT NULL,
    code TEXT NOT NULL,
    code_system TEXT NOT NULL,
    low TEXT,
    high TEXT,
    as_needed INTEGER NOT NULL,
    renewals INTEGER NOT NULL,
    PRIMARY KEY (document_id, ordinal),
    FOREIGN KEY(document_id) REFERENCES document (id) ON DELETE CASCADE
)
""",
    """
CREATE TABLE handover (
    id INTEGER NOT NULL,
    structure_id TEXT NOT NULL,
    document_id INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    identity_id INTEGER NOT NULL,
    action TEXT NOT NULL,
    control_id TEXT NOT NULL,
    state TEXT NOT NULL,
    code TEXT DEFAULT '' NOT NULL,
    attempts INTEGER DEFAULT '0' NOT NULL,
    created_at INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    answered_at INTEGER,
    begun_at INTEGER,
    PRIMARY KEY (id),
    CONSTRAINT handover_once UNIQUE (document_id, ordinal),
    FOREIGN KEY(document_id) REFERENCES document (id),
    FOREIGN KEY(identity_id) REFERENCES patient (id)
)
""",
    """
CREATE TABLE notice (
    id INTEGER NOT NULL,
    structure_id TEXT NOT NULL,
    patient_id INTEGER NOT NULL,
    document_id INTEGER NOT NULL,
    addressee TEXT NOT NULL,
    kind TEXT NOT NULL,
    at INTEGER NOT NULL,
    seen_at INTEGER,
    PRIMARY KEY (id),
    FOREIGN KEY(patient_id) REFERENCES patient (id),
    FOREIGN KEY(document_id) REFERENCES document (id)
)
""",
    """
CREATE TABLE document_reader (
    document_id INTEGER NOT NULL,
    actor TEXT NOT NULL,
    PRIMARY KEY (document_id, actor),
    FOREIGN KEY(document_id) REFERENCES document (id) ON DELETE CASCADE
)
 WITHOUT ROWID
""",
    """
CREATE TABLE deposit_chunk (
    deposit_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (deposit_id, position),
    FOREIGN KEY(deposit_id) REFERENCES deposit (id) ON DELETE CASCADE
)
""",
    """
CREATE TABLE pack_item (
    id INTEGER NOT NULL,
    pack_id INTEGER NOT NULL,
    patient_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    title TEXT NOT NULL,
    media_type TEXT NOT NULL,
    sha256 BLOB NOT NULL,
    octets INTEGER NOT NULL,
    acknowledged_by TEXT,
    acknowledged_at INTEGER,
    deposit_id INTEGER,
    PRIMARY KEY (id),
    FOREIGN KEY(pack_id) REFERENCES admission_pack (id),
    FOREIGN KEY(patient_id) REFERENCES patient (id),
    FOREIGN KEY(deposit_id) REFERENCES deposit (id)
)
""",
    """
CREATE TABLE pack_item_chunk (
    pack_item_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (pack_item_id, position),
    FOREIGN KEY(pack_item_id) REFERENCES pack_item (id) ON DELETE CASCADE
)
""",
    """
CREATE INDEX access_right_holder ON access_right (holder, kind)
""",
    """
CREATE INDEX access_right_patient ON access_right (patient_id)
""",
    """
CREATE INDEX admission_pack_patient ON admission_pack (patient_id)
""",
    """
CREATE INDEX agenda_entry_document ON agenda_entry (document_id)
""",
    """
CREATE INDEX agenda_entry_patient ON agenda_entry (patient_id, day)
""",
    """
CREATE INDEX api_token_holder ON api_token (structure_id, patient_id)
""",
    """
CREATE INDEX calendar_key_patient ON calendar_key (patient_id)
""",
    """
CREATE INDEX deposit_patient ON deposit (patient_id)
""",
    """
CREATE INDEX document_identity ON document (identity_id)
""",
    """
CREATE INDEX document_last ON document (patient_id, received_at)
""",
    """
CREATE INDEX document_lists ON document (id) WHERE lists_read = 0
""",
    """
CREATE INDEX document_moved ON document (structure_id) WHERE moved = 1
""",
    """
CREATE INDEX document_parent ON document (structure_id, parent_unique_id) WHERE parent_unique_id IS NOT NULL
""",
    """
CREATE INDEX document_patient ON document (patient_id, number)
""",
    """
CREATE INDEX document_release ON document (release_at) WHERE release_at IS NOT NULL
""",
    """
CREATE INDEX handover_due ON handover (structure_id, next_at) WHERE state = 'waiting'
""",
    """
CREATE INDEX imported_event_patient ON imported_event (patient_id)
""",
    """
CREATE INDEX notice_addressee ON notice (addressee) WHERE seen_at IS NULL
""",
    """
CREATE INDEX notice_document ON notice (document_id)
""",
    """
CREATE UNIQUE INDEX opposition_now ON opposition (patient_id, scope) WHERE until_at IS NULL
""",
    """
CREATE INDEX pack_item_pack ON pack_item (pack_id)
""",
    """
CREATE INDEX pack_item_patient ON pack_item (patient_id)
""",
    """
CREATE UNIQUE INDEX patient_merge_now ON patient_merge (merged_id) WHERE split_at IS NULL
""",
    """
CREATE INDEX patient_merged ON patient (merged_into) WHERE merged_into IS NOT NULL
""",
    """
CREATE INDEX profile_item_patient ON profile_item (patient_id)
""",
    """
CREATE INDEX quarantine_identity ON quarantine (structure_id, matricule) WHERE state = 'open'
""",
    """
CREATE INDEX quarantine_item ON quarantine (item_id)
""",
    """
CREATE INDEX quarantine_parent ON quarantine (structure_id, parent_unique_id) WHERE state = 'open' AND parent_unique_id IS NOT NULL
""",
    """
CREATE INDEX quarantine_unique_id ON quarantine (structure_id, unique_id) WHERE state = 'open'
""",
    """
CREATE INDEX quarantine_waiting ON quarantine (received_at) WHERE state = 'open'
""",
    """
CREATE INDEX reply_outbox_held ON reply_outbox (structure_id) WHERE state = 'held'
""",
    """
CREATE UNIQUE INDEX retention_hold_now ON retention_hold (patient_id) WHERE until_at IS NULL
""",
    """
CREATE INDEX retention_policy_structure ON retention_policy (structure_id)
""",
    """
CREATE TRIGGER cell_counted AFTER INSERT ON cell_document BEGIN UPDATE document_cell SET many = many + 1 WHERE id = NEW.cell_id; END
""",
    """
CREATE TRIGGER cell_uncounted AFTER DELETE ON cell_document BEGIN UPDATE document_cell SET many = many - 1 WHERE id = OLD.cell_id; DELETE FROM document_cell WHERE id = OLD.cell_id AND many = 0; END
""",
    """
CREATE TRIGGER document_came AFTER INSERT ON document WHEN NEW.patient_id IS NOT NULL
BEGIN INSERT INTO record_change (record_id, changes) VALUES (NEW.patient_id, 1)
    ON CONFLICT (record_id) DO UPDATE SET changes = changes + 1; END
""",
    """
CREATE TRIGGER document_changed AFTER UPDATE OF patient_id, status, visibility ON document WHEN NEW.patient_id IS NOT NULL
BEGIN INSERT INTO record_change (record_id, changes) VALUES (NEW.patient_id, 1)
    ON CONFLICT (record_id) DO UPDATE SET changes = changes + 1; END
""",
    """
CREATE TRIGGER document_enters AFTER INSERT ON document BEGIN
 INSERT INTO document_cell
  (record_id, ref, status, class_code, type_code, visibility, roles, many)
  SELECT NEW.patient_id, p.ref, NEW.status, NEW.class_code, NEW.type_code,
  NEW.visibility, p.roles, 0 FROM (SELECT '' AS ref, '' AS roles UNION ALL SELECT substr(value, 5), substr(value, 1, 3) FROM json_each('[' || replace(json_quote(trim(NEW.refs)), ' ', '","') || ']') WHERE value <> '') AS p WHERE NEW.patient_id IS NOT NULL
  ON CONFLICT DO NOTHING;
 INSERT INTO cell_document (cell_id, dated_at, document_id) SELECT c.id, coalesce(NEW.effective_at, NEW.received_at), NEW.id FROM (SELECT '' AS ref, '' AS roles UNION ALL SELECT substr(value, 5), substr(value, 1, 3) FROM json_each('[' || replace(json_quote(trim(NEW.refs)), ' ', '","') || ']') WHERE value <> '') AS p CROSS JOIN document_cell AS c WHERE c.record_id = NEW.patient_id AND c.status = NEW.status AND c.class_code = NEW.class_code AND c.type_code = NEW.type_code AND c.visibility = NEW.visibility AND c.ref = p.ref AND c.roles = p.roles ON CONFLICT DO NOTHING;
 INSERT INTO document_word (cell_id, word, dated_at, document_id) SELECT c.id, w.value, coalesce(NEW.effective_at, NEW.received_at), NEW.id FROM document_cell AS c CROSS JOIN json_each('[' || replace(json_quote(trim(NEW.words)), ' ', '","') || ']') AS w WHERE c.record_id = NEW.patient_id AND c.status = NEW.status AND c.class_code = NEW.class_code AND c.type_code = NEW.type_code AND c.visibility = NEW.visibility AND c.ref = '' AND c.roles = '' AND NEW.status = 'current' AND w.value <> '' ON CONFLICT DO NOTHING;
END
""",
    """
CREATE TRIGGER document_leaves AFTER DELETE ON document BEGIN
 DELETE FROM document_word WHERE (cell_id, word, dated_at, document_id) IN (SELECT c.id, w.value, coalesce(OLD.effective_at, OLD.received_at), OLD.id FROM document_cell AS c CROSS JOIN json_each('[' || replace(json_quote(trim(OLD.words)), ' ', '","') || ']') AS w WHERE c.record_id = OLD.patient_id AND c.status = OLD.status AND c.class_code = OLD.class_code AND c.type_code = OLD.type_code AND c.visibility = OLD.visibility AND c.ref = '' AND c.roles = '' AND OLD.status = 'current' AND w.value <> '');
 DELETE FROM cell_document WHERE (cell_id, dated_at, document_id) IN (SELECT c.id, coalesce(OLD.effective_at, OLD.received_at), OLD.id FROM (SELECT '' AS ref, '' AS roles UNION ALL SELECT substr(value, 5), substr(value, 1, 3) FROM json_each('[' || replace(json_quote(trim(OLD.refs)), ' ', '","') || ']') WHERE value <> '') AS p CROSS JOIN document_cell AS c WHERE c.record_id = OLD.patient_id AND c.status = OLD.status AND c.class_code = OLD.class_code AND c.type_code = OLD.type_code AND c.visibility = OLD.visibility AND c.ref = p.ref AND c.roles = p.roles);
END
""",
    """
CREATE TRIGGER document_moves AFTER UPDATE OF patient_id, status, class_code, type_code, visibility, effective_at, received_at, refs, words ON document
BEGIN
 DELETE FROM document_word WHERE (cell_id, word, dated_at, document_id) IN (SELECT c.id, w.value, coalesce(OLD.effective_at, OLD.received_at), OLD.id FROM document_cell AS c CROSS JOIN json_each('[' || replace(json_quote(trim(OLD.words)), ' ', '","') || ']') AS w WHERE c.record_id = OLD.patient_id AND c.status = OLD.status AND c.class_code = OLD.class_code AND c.type_code = OLD.type_code AND c.visibility = OLD.visibility AND c.ref = '' AND c.roles = '' AND OLD.status = 'current' AND w.value <> '');
 DELETE FROM cell_document WHERE (cell_id, dated_at, document_id) IN (SELECT c.id, coalesce(OLD.effective_at, OLD.received_at), OLD.id FROM (SELECT '' AS ref, '' AS roles UNION ALL SELECT substr(value, 5), substr(value, 1, 3) FROM json_each('[' || replace(json_quote(trim(OLD.refs)), ' ', '","') || ']') WHERE value <> '') AS p CROSS JOIN document_cell AS c WHERE c.record_id = OLD.patient_id AND c.status = OLD.status AND c.class_code = OLD.class_code AND c.type_code = OLD.type_code AND c.visibility = OLD.visibility AND c.ref = p.ref AND c.roles = p.roles);
 INSERT INTO document_cell
  (record_id, ref, status, class_code, type_code, visibility, roles, many)
  SELECT NEW.patient_id, p.ref, NEW.status, NEW.class_code, NEW.type_code,
  NEW.visibility, p.roles, 0 FROM (SELECT '' AS ref, '' AS roles UNION ALL SELECT substr(value, 5), substr(value, 1, 3) FROM json_each('[' || replace(json_quote(trim(NEW.refs)), ' ', '","') || ']') WHERE value <> '') AS p WHERE NEW.patient_id IS NOT NULL
  ON CONFLICT DO NOTHING;
 INSERT INTO cell_document (cell_id, dated_at, document_id) SELECT c.id, coalesce(NEW.effective_at, NEW.received_at), NEW.id FROM (SELECT '' AS ref, '' AS roles UNION ALL SELECT substr(value, 5), substr(value, 1, 3) FROM json_each('[' || replace(json_quote(trim(NEW.refs)), ' ', '","') || ']') WHERE value <> '') AS p CROSS JOIN document_cell AS c WHERE c.record_id = NEW.patient_id AND c.status = NEW.status AND c.class_code = NEW.class_code AND c.type_code = NEW.type_code AND c.visibility = NEW.visibility AND c.ref = p.ref AND c.roles = p.roles ON CONFLICT DO NOTHING;
 INSERT INTO document_word (cell_id, word, dated_at, document_id) SELECT c.id, w.value, coalesce(NEW.effective_at, NEW.received_at), NEW.id FROM document_cell AS c CROSS JOIN json_each('[' || replace(json_quote(trim(NEW.words)), ' ', '","') || ']') AS w WHERE c.record_id = NEW.patient_id AND c.status = NEW.status AND c.class_code = NEW.class_code AND c.type_code = NEW.type_code AND c.visibility = NEW.visibility AND c.ref = '' AND c.roles = '' AND NEW.status = 'current' AND w.value <> '' ON CONFLICT DO NOTHING;
END
""",
    """
UPDATE document SET words = ''
""",
)


def upgrade() -> None:
    connection = op.get_bind()
    for statement in STATEMENTS:
        connection.exec_driver_sql(statement)
