"""Schemas: a migrated database is what the code expects; any other is refused or upgraded."""

import re
import runpy
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, create_engine

import directory.schema
import mailserver.store.schema
import record_bridge.schema
from directory.database import Database, check_schema, migrate
from directory.errors import SchemaMismatchError

ROOT = Path(__file__).parents[2]
SCHEMAS = {
    "directory": (ROOT / "directory" / "migrations", directory.schema.METADATA),
    "mail": (ROOT / "mailserver" / "store" / "migrations", mailserver.store.schema.METADATA),
    "record": (ROOT / "record_bridge" / "migrations", record_bridge.schema.METADATA),
}
NEXT = """
from alembic import op

revision = "later"
down_revision = "{head}"
branch_labels = None
depends_on = None


def upgrade():
    op.get_bind().exec_driver_sql("CREATE TABLE added (id INTEGER PRIMARY KEY)")
"""


@pytest.fixture(params=SCHEMAS)
def schema(request: pytest.FixtureRequest) -> tuple[Path, MetaData]:
    return SCHEMAS[request.param]


@pytest.fixture
def migrations(schema: tuple[Path, MetaData]) -> Path:
    return schema[0]


def master(path: Path) -> dict[tuple[str, str], str]:
    """Give (kind, name) -> SQL without its layout."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    return {
        (kind, name): re.sub(r"\s*([(),])\s*", r"\1", " ".join((sql or "").split())).replace(
            f'CREATE TABLE "{name}"', f"CREATE TABLE {name}"
        )
        for kind, name, sql in rows
        if name != "alembic_version" and not name.startswith("sqlite_autoindex_alembic")
    }


def revision(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def stamp(path: Path, wanted: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (wanted,))


@pytest.fixture
def later(migrations: Path, tmp_path: Path) -> Path:
    """The migrations of a program one revision further."""
    folder = tmp_path / "later"
    shutil.copytree(migrations, folder, ignore=shutil.ignore_patterns("__pycache__"))
    head = ScriptDirectory(str(migrations)).get_current_head()
    (folder / "versions" / "later_next.py").write_text(NEXT.format(head=head))
    return folder


def test_a_migrated_database_is_what_the_code_would_make(
    schema: tuple[Path, MetaData], tmp_path: Path
) -> None:
    migrations, metadata = schema
    engine = create_engine(f"sqlite:///{tmp_path / 'made'}")
    metadata.create_all(engine)
    engine.dispose()

    migrate(tmp_path / "migrated", migrations)

    assert master(tmp_path / "migrated") == master(tmp_path / "made")


def test_the_first_migration_is_text_that_no_table_of_today_changes(migrations: Path) -> None:
    for script in (migrations / "versions").glob("*.py"):
        source = script.read_text("utf-8")

        assert "METADATA" not in source
        assert re.findall(r"^(?:from|import) (\S+)", source, re.MULTILINE) == ["alembic"]


def test_a_new_database_is_for_its_owner_alone(migrations: Path, tmp_path: Path) -> None:
    migrate(tmp_path / "database", migrations)

    assert (tmp_path / "database").stat().st_mode & 0o777 == 0o600
    check_schema(tmp_path / "database", migrations)


def test_migrating_again_changes_nothing(migrations: Path, tmp_path: Path) -> None:
    migrate(tmp_path / "database", migrations)
    before = master(tmp_path / "database")

    migrate(tmp_path / "database", migrations)

    assert master(tmp_path / "database") == before


async def test_a_newer_database_is_refused_and_left_alone(
    migrations: Path, later: Path, tmp_path: Path
) -> None:
    path = tmp_path / "database"
    migrate(path, later)
    before = master(path)

    with pytest.raises(SchemaMismatchError):
        migrate(path, migrations)
    with pytest.raises(SchemaMismatchError):
        await Database.open(path, migrations=migrations)

    assert master(path) == before
    assert revision(path) == "later"


async def test_an_older_database_is_refused_until_it_is_migrated(
    migrations: Path, later: Path, tmp_path: Path
) -> None:
    path = tmp_path / "database"
    migrate(path, migrations)
    with pytest.raises(SchemaMismatchError):
        await Database.open(path, migrations=later)

    migrate(path, later)

    assert revision(path) == "later"
    assert ("table", "added") in master(path)
    database = await Database.open(path, migrations=later)
    await database.close()


def test_a_revision_that_nobody_knows_is_refused(migrations: Path, tmp_path: Path) -> None:
    path = tmp_path / "database"
    migrate(path, migrations)
    stamp(path, "ffff")

    with pytest.raises(SchemaMismatchError):
        check_schema(path, migrations)
    with pytest.raises(SchemaMismatchError):
        migrate(path, migrations)


async def test_a_missing_database_is_refused_and_not_made(
    migrations: Path, tmp_path: Path
) -> None:
    with pytest.raises(SchemaMismatchError):
        await Database.open(tmp_path / "none", migrations=migrations)

    assert not (tmp_path / "none").exists()


def test_an_empty_file_is_no_database(migrations: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()

    with pytest.raises(SchemaMismatchError):
        check_schema(tmp_path / "empty", migrations)


def test_an_upgrade_learns_which_messages_hold_a_package(tmp_path: Path) -> None:
    migrations, _ = SCHEMAS["mail"]
    path = tmp_path / "mail.sqlite3"
    first = runpy.run_path(str(migrations / "versions" / "0001_initial.py"))
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in (
            *first["STATEMENTS"],
            "CREATE TABLE alembic_version (version_num TEXT NOT NULL PRIMARY KEY)",
            "INSERT INTO alembic_version VALUES ('0001')",
        ):
            connection.execute(statement)
        for table, values in (
            ("mailbox", {"id": 1, "address": "dr@cab.test", "type": "PER"}),
            ("folder", {"id": 1, "mailbox_id": 1, "name": "INBOX"}),
            *(("blob", {"id": key, "octets": 9, "state": 0}) for key in (1, 2)),
            ("message_index", {"blob_id": 1, "has_package": 1}),
            ("message_index", {"blob_id": 2, "has_package": 0}),
            *(
                ("entry", {"id": key, "folder_id": 1, "uid": key, "blob_id": key, "octets": 9})
                for key in (1, 2)
            ),
        ):
            row = _blank(connection, table) | values
            connection.execute(
                f"INSERT INTO {table} ({', '.join(map(_quoted, row))})"  # noqa: S608 - ours
                f" VALUES ({', '.join('?' * len(row))})",
                tuple(row.values()),
            )

    migrate(path, migrations)

    with closing(sqlite3.connect(path)) as connection:
        kept = connection.execute("SELECT uid, has_package FROM entry ORDER BY id").fetchall()
        usage = connection.execute("SELECT octets, messages FROM mailbox_usage").fetchall()
    assert kept == [(1, 1), (2, 0)]
    assert usage == [(18, 2)]


def _blank(connection: sqlite3.Connection, table: str) -> dict[str, object]:
    """Something in every column that must hold something."""
    columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
    return {
        name: {"TEXT": "", "BLOB": b""}.get(kind, 0)
        for _, name, kind, required, default, key in columns
        if required and default is None and not key
    }


def _quoted(name: str) -> str:
    return f'"{name}"'
