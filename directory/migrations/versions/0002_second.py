"""What the directory database has got since its first schema, as text."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
DROP INDEX mailbox_rpps
""",
    """
DROP INDEX mailbox_structure
""",
    """
CREATE TABLE trust_departed (
    domain TEXT NOT NULL,
    dn TEXT NOT NULL,
    at BIGINT NOT NULL,
    vouched BOOLEAN NOT NULL,
    PRIMARY KEY (domain, dn)
)
""",
    """
CREATE TABLE trust_alarm (
    id INTEGER NOT NULL,
    at BIGINT NOT NULL,
    domain TEXT NOT NULL,
    dn TEXT NOT NULL,
    seen_at BIGINT,
    seen_by TEXT,
    PRIMARY KEY (id)
)
""",
    """
CREATE TABLE trust_proposal (
    id INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    reason TEXT NOT NULL,
    actor TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (id)
)
""",
    """
CREATE TABLE mailbox_next (
    address TEXT NOT NULL,
    type TEXT NOT NULL,
    structure_id TEXT NOT NULL,
    display_name TEXT NOT NULL,
    rpps TEXT,
    unlisted BOOLEAN NOT NULL,
    closed BOOLEAN DEFAULT '0' NOT NULL,
    PRIMARY KEY (address),
    FOREIGN KEY(structure_id) REFERENCES structure (id)
)
""",
    """
INSERT INTO mailbox_next (
    address,
    type,
    structure_id,
    display_name,
    rpps,
    unlisted
)
SELECT
    address,
    type,
    structure_id,
    display_name,
    rpps,
    unlisted
FROM mailbox
""",
    """
DROP TABLE mailbox
""",
    """
ALTER TABLE mailbox_next RENAME TO mailbox
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
