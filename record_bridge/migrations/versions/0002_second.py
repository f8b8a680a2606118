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
CREATE TABLE prevention_declared (
    id INTEGER NOT NULL,
    patient_id INTEGER NOT NULL,
    rule_id TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    day TEXT NOT NULL,
    declared_by TEXT NOT NULL,
    declared_at INTEGER NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (patient_id, rule_id, ordinal),
    FOREIGN KEY(patient_id) REFERENCES patient (id)
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
CREATE INDEX agenda_entry_document ON agenda_entry (document_id)
""",
    """
CREATE INDEX agenda_entry_patient ON agenda_entry (patient_id, day)
""",
)


def upgrade() -> None:
    connection = op.get_bind()
    for statement in STATEMENTS:
        connection.exec_driver_sql(statement)
