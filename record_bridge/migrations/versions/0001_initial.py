"""The record's first schema."""

from alembic import op

from record_bridge import schema

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema.METADATA.create_all(op.get_bind())
