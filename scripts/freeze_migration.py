"""Write what a package's tables have become since 0001 into its migration 0002, as SQL text.

A released migration never changes and never reads the live ``schema.METADATA``: 0001 is as it
was released. Until the next release this writes ``versions/0002_*.py`` anew, as the difference; a
test holds both together to the schema. A table whose columns changed is rebuilt with its rows
(Source: SQLite, ALTER TABLE §7), so a new column must be nullable or have a ``server_default``.

Usage: python scripts/freeze_migration.py directory mailserver.store record_bridge
"""

import importlib
import re
import runpy
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from sqlalchemy import create_engine

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = '''"""What the {what} database has got since its first schema, as text."""

from alembic import op

revision = "0002"
down_revision = "0001"
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
Master = dict[tuple[str, str], str]
"""(kind, name) -> SQL, in the order of creation."""


def master_of(connection: sqlite3.Connection) -> Master:
    """Read what makes the schema, without what SQLite makes by itself."""
    rows = connection.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"
        " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid"
    ).fetchall()
    virtual = tuple(f"{name}_" for _, name, sql in rows if sql.startswith("CREATE VIRTUAL"))
    return {(kind, name): sql for kind, name, sql in rows if not name.startswith(virtual or "\0")}


def released(package: str) -> sqlite3.Connection:
    """Make the tables of 0001 in memory."""
    path = ROOT.joinpath(*package.split("."), "migrations", "versions", "0001_initial.py")
    connection = sqlite3.connect(":memory:")
    for statement in runpy.run_path(str(path))["STATEMENTS"]:
        connection.execute(statement)
    return connection


def of_today(package: str) -> Master:
    """Give what the schema module makes."""
    with closing(sqlite3.connect(":memory:")) as connection:
        engine = create_engine("sqlite://", creator=lambda: connection)
        importlib.import_module(f"{package}.schema").METADATA.create_all(engine)
        return master_of(connection)


def statements(package: str) -> Iterator[str]:
    """Give the SQL from 0001 to today, in order."""
    with closing(released(package)) as connection:
        old, new = master_of(connection), of_today(package)
        kept = {key for key, sql in new.items() if one_line(old.get(key, "")) == one_line(sql)}
        rebuilt = [
            name for kind, name in new if kind == "table" and (kind, name) in old.keys() - kept
        ]
        gone = set(old) - kept
        # A rebuilt table takes its indexes and triggers along; a trigger that names it would
        # be checked while the table is away.
        again = {
            key
            for key in kept
            if key[0] != "table" and any(re.search(rf"\b{t}\b", new[key]) for t in rebuilt)
        }
        for kind, name in sorted(gone | again):
            if kind in {"trigger", "index"}:
                yield f"DROP {kind.upper()} {name}"
        for (kind, name), sql in new.items():
            if kind != "table" or (kind, name) in kept:
                continue
            if name not in rebuilt:
                yield sql
                continue
            yield re.sub(rf"CREATE TABLE {name}\b", f"CREATE TABLE {name}_next", sql, count=1)
            yield from refill(connection, name, sql)
        for kind, name in sorted(gone - set(new)):
            if kind == "table":
                yield f"DROP TABLE {name}"
        for key, sql in sorted(new.items()):  # SQLAlchemy gives indexes in no order
            if key[0] != "table" and (key not in kept or key in again):
                yield sql
    if new != old:
        yield from getattr(importlib.import_module(f"{package}.schema"), "AFTER_UPGRADE", ())


def refill(connection: sqlite3.Connection, name: str, sql: str) -> Iterator[str]:
    """Carry a rebuilt table's rows over and give it its name."""
    with closing(sqlite3.connect(":memory:")) as scratch:
        scratch.execute(sql)
        now = [row[1] for row in scratch.execute(f"PRAGMA table_info({name})")]
    before = {row[1] for row in connection.execute(f"PRAGMA table_info({name})")}
    columns = ",\n    ".join(column for column in now if column in before)
    yield (f"INSERT INTO {name}_next (\n    {columns}\n)\nSELECT\n    {columns}\nFROM {name}")
    if "AUTOINCREMENT" in sql:  # a number once given is never given again
        yield f"DELETE FROM sqlite_sequence WHERE name = '{name}_next'"  # noqa: S608
        yield (
            "INSERT INTO sqlite_sequence (name, seq)\n"
            f"SELECT '{name}_next', seq FROM sqlite_sequence WHERE name = '{name}'"
        )
    yield f"DROP TABLE {name}"
    yield f"ALTER TABLE {name}_next RENAME TO {name}"


def one_line(sql: str) -> str:
    """Give the SQL without its layout."""
    return " ".join(sql.split())


def tidy(sql: str) -> str:
    """Put one column a line, without tabs or trailing blanks."""
    lines = [re.sub(r"[ \t]+$", "", line) for line in sql.replace("\t", "    ").splitlines()]
    return "\n".join(line for line in lines if line)


def main(packages: list[str]) -> None:
    """Freeze each package; one without a change keeps 0001 alone."""
    for package in packages:
        versions = ROOT.joinpath(*package.split("."), "migrations", "versions")
        target = versions / "0002_second.py"
        texts = [tidy(sql) for sql in statements(package)]
        if not texts:
            target.unlink(missing_ok=True)
            continue
        written = "\n".join(f'    """\n{sql}\n""",' for sql in texts)
        target.write_text(TEMPLATE.format(what=NAMES[package], statements=written), "utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(sys.argv[1:] or list(NAMES))
