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
CREATE TRIGGER entry_counted AFTER INSERT ON entry WHEN NEW.uid > 0
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
CREATE TRIGGER entry_released AFTER UPDATE OF uid ON entry WHEN OLD.uid IS NULL AND NEW.uid > 0
BEGIN INSERT INTO mailbox_usage (mailbox_id, octets, messages)
    SELECT mailbox_id, NEW.octets, 1 FROM folder WHERE id = NEW.folder_id
    ON CONFLICT (mailbox_id) DO UPDATE
    SET octets = octets + excluded.octets, messages = messages + excluded.messages; END
""",
    """
INSERT INTO mailbox_usage (mailbox_id, octets, messages)
    SELECT folder.mailbox_id, sum(entry.octets), count(*)
    FROM entry JOIN folder ON folder.id = entry.folder_id WHERE entry.uid > 0
    GROUP BY folder.mailbox_id
""",
)


def upgrade() -> None:
    connection = op.get_bind()
    for statement in STATEMENTS:
        connection.exec_driver_sql(statement)
