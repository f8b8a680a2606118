"""The first schema of the directory database, as text."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
    """
CREATE TABLE structure (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    organization TEXT NOT NULL,
    domain TEXT NOT NULL,
    patient_domain TEXT NOT NULL,
    application_address TEXT NOT NULL,
    release_delay_days INTEGER NOT NULL,
    prevention BOOLEAN NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (domain),
    UNIQUE (patient_domain)
)
""",
    """
CREATE TABLE practitioner (
    rpps TEXT NOT NULL,
    family TEXT NOT NULL,
    given TEXT NOT NULL,
    profession TEXT NOT NULL,
    specialty TEXT NOT NULL,
    PRIMARY KEY (rpps)
)
""",
    """
CREATE TABLE trust_copy (
    id INTEGER NOT NULL,
    content BLOB NOT NULL,
    adopted_at BIGINT NOT NULL,
    PRIMARY KEY (id)
)
""",
    """
CREATE TABLE practitioner_role (
    rpps TEXT NOT NULL,
    structure_id TEXT NOT NULL,
    PRIMARY KEY (rpps, structure_id),
    FOREIGN KEY(rpps) REFERENCES practitioner (rpps),
    FOREIGN KEY(structure_id) REFERENCES structure (id)
)
""",
    """
CREATE INDEX practitioner_role_structure ON practitioner_role (structure_id)
""",
    """
CREATE TABLE mailbox (
    address TEXT NOT NULL,
    type TEXT NOT NULL,
    structure_id TEXT NOT NULL,
    display_name TEXT NOT NULL,
    rpps TEXT,
    unlisted BOOLEAN NOT NULL,
    PRIMARY KEY (address),
    FOREIGN KEY(structure_id) REFERENCES structure (id)
)
""",
    """
CREATE INDEX mailbox_rpps ON mailbox (rpps)
""",
    """
CREATE INDEX mailbox_structure ON mailbox (structure_id)
""",
)


def upgrade() -> None:
    connection = op.get_bind()
    for statement in STATEMENTS:
        connection.exec_driver_sql(statement)
