"""What the directory database has got since its first schema, as text."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
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
)


def upgrade() -> None:
    connection = op.get_bind()
    for statement in STATEMENTS:
        connection.exec_driver_sql(statement)
