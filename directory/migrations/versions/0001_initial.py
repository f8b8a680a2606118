"""The first schema of the directory database."""

from alembic import op

from directory import schema

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema.METADATA.create_all(op.get_bind())
