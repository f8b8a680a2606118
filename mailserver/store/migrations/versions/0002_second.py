"""What the mail database has got since its first schema, as text."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
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
)


def upgrade() -> None:
    connection = op.get_bind()
    for statement in STATEMENTS:
        connection.exec_driver_sql(statement)
