"""The SQL that several services of the record share: opening, patients, content, moments.

Functions that take a ``sqlite3.Connection`` run on the writer's thread inside its transaction;
they are raw SQL because they stand in the path of every document (DESIGN §5).
"""

import hashlib
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from directory.database import Database, migrate
from record_bridge.schema import CHUNK_OCTETS
from record_bridge.search_words import Described, kept

MIGRATIONS = Path(__file__).parent / "migrations"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PEOPLE: Final = ("author_ids", "recipient_ids", "attending_ids")
_UNDESCRIBED: Final = (
    "SELECT id, unique_id, title, type_code, author, custodian, effective_at, received_at,"
    " author_ids, recipient_ids, attending_ids FROM document"
    " WHERE words = '' AND id > ? ORDER BY id LIMIT 500"
)
_TYPED_RPPS: Final = re.compile(r"8[0-9]{11}")


def create_record(path: Path) -> None:
    """Create the record database or bring it to this program's schema. Blocking."""
    migrate(path, MIGRATIONS)
    with closing(sqlite3.connect(path)) as connection, connection:
        describe_again(connection)


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


def insert_document(connection: sqlite3.Connection, values: Mapping[str, object]) -> int:
    """Insert a row of ``document`` with what it is found by; give its id."""
    return insert(connection, "document", {**values, **_described(values)})


def describe_again(connection: sqlite3.Connection) -> None:
    """Write anew what documents are found by, of those that have no words yet."""
    last, more = 0, True
    while more:
        rows = connection.execute(_UNDESCRIBED, (last,))
        names = [column[0] for column in rows.description]
        told = [dict(zip(names, row, strict=True)) for row in rows]
        connection.executemany(
            "UPDATE document SET words = :words, refs = :refs, number = :number WHERE id = :id",
            [_described(values) | {"id": values["id"]} for values in told],
        )
        more = bool(told)
        last = told[-1]["id"] if told else last


def number_of(name: str) -> int:
    """A number of at most 52 bits (JSON holds them), always the same for the same name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big") >> 4


def _described(values: Mapping[str, Any]) -> dict[str, object]:
    at = values.get("effective_at")
    described = Described(
        title=values["title"],
        type_code=values["type_code"],
        author=values.get("author", ""),
        custodian=values.get("custodian", ""),
        at=moment(values["received_at"] if at is None else at),
    )
    people = (str(values.get(name, "")).split() for name in _PEOPLE)
    return {
        "words": kept(described),
        "refs": _refs(*people),
        "number": number_of(values["unique_id"]),
    }


def _refs(*people: list[str]) -> str:
    """Who a document is for by name, as the cells have them: ``101:10001234567``, by number.

    A national identifier of a professional is the RPPS (eleven digits), or has 8 before it.
    """
    found: dict[str, list[str]] = {}
    for place, identifiers in enumerate(people):
        for identifier in identifiers:
            ref = identifier[1:] if _TYPED_RPPS.fullmatch(identifier) else identifier
            found.setdefault(ref, ["0"] * len(people))[place] = "1"
    return " ".join(f"{''.join(roles)}:{ref}" for ref, roles in sorted(found.items()))


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
