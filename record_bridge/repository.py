"""The SQL that several services of the record share: opening, patients, content, moments.

Functions that take a ``sqlite3.Connection`` run on the writer's thread inside its transaction;
they are raw SQL because they stand in the path of every document (DESIGN §5).
"""

import hashlib
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from directory.database import Database, migrate
from record_bridge.schema import CHUNK_OCTETS

MIGRATIONS = Path(__file__).parent / "migrations"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def create_record(path: Path) -> None:
    """Create the record database or bring it to this program's schema. Blocking."""
    migrate(path, MIGRATIONS)


async def open_record(path: Path, *, read_only: bool = False) -> Database:
    """Open the record database; one process opens it for writing, the bridge child."""
    return await Database.open(path, migrations=MIGRATIONS, read_only=read_only)


def micros(at: datetime) -> int:
    """An aware moment as tables hold it."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def moment(at: int) -> datetime:
    """A moment as programs hold it."""
    return _EPOCH + timedelta(microseconds=at)


def moment_or_none(at: int | None) -> datetime | None:
    """Like ``moment``, for a nullable column."""
    return None if at is None else moment(at)


def words(values: frozenset[str] | set[str] | tuple[str, ...]) -> str:
    """A set of codes as one column."""
    return " ".join(sorted(values))


def insert(connection: sqlite3.Connection, table: str, values: Mapping[str, object]) -> int:
    """Insert one row and give its id. Table and column names are constants of this package."""
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    cursor = connection.execute(
        f"INSERT INTO {table} ({names}) VALUES ({marks})",  # noqa: S608 - constants
        values,
    )
    assert cursor.lastrowid is not None  # noqa: S101 - an INSERT that did not raise has one
    return cursor.lastrowid


def store_chunks(
    connection: sqlite3.Connection, table: str, key: str, value: tuple[int, bytes]
) -> None:
    """Store content as rows of at most CHUNK_OCTETS."""
    owner, data = value
    connection.executemany(
        f"INSERT INTO {table} ({key}, position, data) VALUES (?, ?, ?)",  # noqa: S608 - constants
        [
            (owner, position, data[start : start + CHUNK_OCTETS])
            for position, start in enumerate(range(0, max(len(data), 1), CHUNK_OCTETS))
        ],
    )


@dataclass(frozen=True, slots=True)
class Archived:
    """Bytes to keep: a package, or a whole message until somebody decided about it."""

    structure_id: str
    kind: str
    data: bytes
    at: datetime


def archive(connection: sqlite3.Connection, archived: Archived) -> int:
    """Keep bytes once per structure and kind; give the id of the copy."""
    sha256 = hashlib.sha256(archived.data).digest()
    row = connection.execute(
        "SELECT id FROM archive WHERE structure_id = ? AND kind = ? AND sha256 = ?",
        (archived.structure_id, archived.kind, sha256),
    ).fetchone()
    if row is not None:
        return int(row[0])
    archive_id = insert(
        connection,
        "archive",
        {
            "structure_id": archived.structure_id,
            "kind": archived.kind,
            "sha256": sha256,
            "octets": len(archived.data),
            "at": micros(archived.at),
        },
    )
    store_chunks(connection, "archive_chunk", "archive_id", (archive_id, archived.data))
    return archive_id


def archived(connection: sqlite3.Connection, archive_id: int) -> bytes:
    """Give back what ``archive`` kept."""
    return content_of(connection, "archive", archive_id)


def content_of(connection: sqlite3.Connection, table: str, key: int) -> bytes:
    """The octets of a row of ``table``, from its chunks. Table names are of this package."""
    rows = connection.execute(
        f"SELECT data FROM {table}_chunk WHERE {table}_id = ? ORDER BY position",  # noqa: S608
        (key,),
    )
    return b"".join(row[0] for row in rows)


def shown_packs(connection: sqlite3.Connection, patient_id: int) -> frozenset[int]:
    """The admission packs that their patient sees: sent, and not closed."""
    rows = connection.execute(
        "SELECT id FROM admission_pack"
        " WHERE patient_id = ? AND sent_at IS NOT NULL AND closed_at IS NULL",
        (patient_id,),
    )
    return frozenset(int(row[0]) for row in rows)
