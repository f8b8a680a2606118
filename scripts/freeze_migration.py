"""Write a package's tables, as they are now, into its first migration as SQL text.

A released migration never changes: it must not read the live ``schema.METADATA``. Until the
first release this writes ``versions/0001_initial.py`` anew; a test holds it to the schema.

Usage: python scripts/freeze_migration.py directory mailserver.store record_bridge
"""

import importlib
import re
import sys
from pathlib import Path

from sqlalchemy import create_engine

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = '''"""The first schema of the {what} database, as text."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = (
{statements}
)


def upgrade() -> None:
    connection = op.get_bind()
    for statement in STATEMENTS:
        connection.exec_driver_sql(statement)
'''
NAMES = {"directory": "directory", "mailserver.store": "mail", "record_bridge": "record"}


def statements(package: str) -> list[str]:
    """Give the SQL that makes the package's tables, indexes and triggers, in order."""
    metadata = importlib.import_module(f"{package}.schema").METADATA
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        metadata.create_all(connection)
        rows = connection.exec_driver_sql(
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%'"
            " ESCAPE '\\' ORDER BY rowid"
        ).all()
    engine.dispose()
    return [tidy(str(row[0])) for row in rows]


def tidy(sql: str) -> str:
    """Put one column a line, without tabs or trailing blanks."""
    lines = [re.sub(r"[ \t]+$", "", line) for line in sql.replace("\t", "    ").splitlines()]
    return "\n".join(line for line in lines if line)


def main(packages: list[str]) -> None:
    """Freeze each package."""
    for package in packages:
        target = ROOT.joinpath(*package.split("."), "migrations", "versions", "0001_initial.py")
        written = "\n".join(f'    """\n{sql}\n""",' for sql in statements(package))
        target.write_text(TEMPLATE.format(what=NAMES[package], statements=written), "utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(sys.argv[1:] or list(NAMES))
