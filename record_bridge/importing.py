"""Taking a record back from an archive: everything checked first, then one transaction.

The patient is registered here already, with the same identity (RULES §5 is nobody else's to
decide), their record takes documents, and it is empty. A document that bears somebody else's
number, and that nobody moved here against it, refuses the whole archive. What came by mail
elsewhere is not counted as received here; what was done elsewhere is kept as it was told, apart
from this site's own trail.

Source: RULES §2, RULES §5, RULES §13.
"""

import hashlib
import json
import sqlite3
import zipfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Table

from directory.audit_event import AuditEvent
from directory.trail import append
from record_bridge import archive_form as form
from record_bridge import identity_storing, withdrawing
from record_bridge.errors import MalformedArchiveError, RecordStateError
from record_bridge.life import MAX_FILE
from record_bridge.model import InsMatricule, Mark
from record_bridge.repository import (
    Archived,
    archive,
    insert,
    insert_document,
    micros,
    store_chunks,
    words,
)
from record_bridge.rights import EMERGENCIES, GrantKind
from record_bridge.schema import METADATA, TRAIL

MAX_ENTRIES: Final = 200_000
MAX_JSON: Final = 256 * 1024 * 1024
MAX_DOCUMENT: Final = 64 * 1024 * 1024
MAX_TOTAL: Final = 16 * 1024 * 1024 * 1024
_BRIEF: Final = frozenset({GrantKind.CONSENT, *EMERGENCIES})
_TRAITS: Final = ("matricule", "oid", "family", "given", "birth_date", "sex")


@dataclass(frozen=True, slots=True)
class Import:
    """What to import, and for whom.

    Attributes:
        person: the registered patient's row.
        numbers: that each document bears, by its SHA-256, as read in the sandbox.
    """

    path: Path
    person: Mapping[str, Any]
    actor: str
    at: datetime
    numbers: Mapping[bytes, Sequence[InsMatricule]]


def documents(path: Path) -> Generator[bytes, None, None]:
    """Give the octets of each document of an archive, one after the other.

    Raises:
        MalformedArchiveError: it is no archive of a record, or not what its manifest says.
    """
    with _opened(path) as packed:
        reader = _Reader(packed)
        for name in sorted(reader.names):
            if name.startswith("documents/"):
                yield reader.content(name, MAX_DOCUMENT)


def import_record(connection: sqlite3.Connection, wanted: Import) -> dict[str, int]:
    """Fill an empty record; for ``Database.write``.

    Returns:
        Rows of each table.

    Raises:
        MalformedArchiveError: it is no archive of a record, or something in it is not what its
            manifest says.
        RecordStateError: it, or a document in it, is another person's (``archive_of_another``,
            ``document_of_another``), or the record here is not empty; or it is no record that
            takes documents: closed, or of an identity that is merged or not qualified.
    """
    try:
        with _opened(wanted.path) as packed:
            return _fill(connection, wanted, _Reader(packed))
    except sqlite3.IntegrityError as error:
        raise RecordStateError("archive_conflicts") from error


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as packed:
            yield packed
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile, EOFError) as error:
        raise MalformedArchiveError("not an archive") from error


class _Reader:
    """An archive whose files are what its manifest says, or nothing."""

    def __init__(self, packed: zipfile.ZipFile) -> None:
        self._packed = packed
        infos = packed.infolist()
        if len(infos) > MAX_ENTRIES or sum(info.file_size for info in infos) > MAX_TOTAL:
            raise MalformedArchiveError("too large")
        if len({info.filename for info in infos}) != len(infos):
            raise MalformedArchiveError("two files of one name")
        manifest = self._json("manifest.json", self._raw("manifest.json", MAX_JSON))
        if not isinstance(manifest, dict) or manifest.get("format") != form.FORMAT:
            raise MalformedArchiveError("manifest")
        if manifest.get("version") != form.VERSION:
            raise MalformedArchiveError("version")
        person, digests = manifest.get("patient"), manifest.get("files")
        if not isinstance(digests, dict) or not isinstance(person, dict):
            raise MalformedArchiveError("manifest")
        self.person: Mapping[str, Any] = person
        self._digests: Mapping[str, Any] = digests
        if {info.filename for info in infos} != {"manifest.json", *self._digests}:
            raise MalformedArchiveError("files")
        self.names = frozenset(self._digests)

    def content(self, name: str, limit: int) -> bytes:
        """Give a file's octets, once they are those of the manifest."""
        content = self._raw(name, limit)
        if hashlib.sha256(content).hexdigest() != self._digests.get(name):
            raise MalformedArchiveError("digest")
        return content

    def rows(self, name: str) -> Sequence[Mapping[str, Any]]:
        """Give the rows of a JSON file, none when it is not there."""
        if name not in self.names:
            return ()
        return form.checked_rows(self._json(name, self.content(name, MAX_JSON)))

    def _raw(self, name: str, limit: int) -> bytes:
        try:
            with self._packed.open(name) as file:
                content = file.read(limit + 1)
        except (KeyError, RuntimeError, NotImplementedError) as error:
            raise MalformedArchiveError("files") from error
        if len(content) > limit:
            raise MalformedArchiveError("too large")
        return content

    @staticmethod
    def _json(name: str, content: bytes) -> Any:
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise MalformedArchiveError(name.rpartition("/")[2]) from error


def _fill(connection: sqlite3.Connection, wanted: Import, reader: _Reader) -> dict[str, int]:
    _fits(connection, wanted, reader)
    keys: dict[str, list[int]] = {"archive": _packages(connection, wanted, reader)}
    counts = {
        table.name: _fill_table(connection, wanted, reader, (table, keys))
        for table in form.tables()
    }
    counts["events"] = _events(connection, int(wanted.person["id"]), reader)
    event = AuditEvent(
        "record_imported",
        wanted.at,
        wanted.actor,
        wanted.person["structure_id"],
        f"patient:{wanted.person['id']}",
        {"documents": counts["document"]},
    )
    append(connection, TRAIL, [event])
    return counts


def _fits(connection: sqlite3.Connection, wanted: Import, reader: _Reader) -> None:
    if any(reader.person.get(name) != wanted.person[name] for name in _TRAITS):
        raise RecordStateError("archive_of_another")
    withdrawing.may_take(connection, wanted.person["structure_id"], int(wanted.person["id"]))
    for table in form.tables():
        if connection.execute(
            f"SELECT 1 FROM {table.name} WHERE patient_id = ?",  # noqa: S608 - our table
            (wanted.person["id"],),
        ).fetchone():
            raise RecordStateError("record_not_empty")


def _fill_table(
    connection: sqlite3.Connection,
    wanted: Import,
    reader: _Reader,
    where: tuple[Table, dict[str, list[int]]],
) -> int:
    """Fill one table; ``where`` holds it and the keys of the rows filled before, by table."""
    table, keys = where
    name, links = table.name, form.links(table)
    mine = keys.setdefault(name, [])
    later: list[tuple[int, str, Any]] = []
    rows = [form.decoded(table, row) for row in reader.rows(f"tables/{name}.json")]
    for place, row in enumerate(rows):
        values = _local(name, row, wanted, place)
        for column, other in links.items():
            given = values.pop(column, None)
            if other == name and given is not None:
                later.append((place, column, given))
            elif given is not None:
                values[column] = _key(keys.get(other, []), given)
        if name == "document" and "package_id" not in values:
            values["package_id"] = _no_package(connection, wanted)
        content = _content(name, place, row, reader)
        if name == "document":
            _is_theirs(connection, wanted, row)
        mine.append(_put(connection, name, values))
        if content is not None:
            store_chunks(connection, f"{name}_chunk", f"{name}_id", (mine[-1], content))
    for place, column, given in later:
        connection.execute(
            f"UPDATE {name} SET {column} = ? WHERE id = ?",  # noqa: S608 - our columns
            (_key(mine, given), mine[place]),
        )
    return len(rows)


def _is_theirs(connection: sqlite3.Connection, wanted: Import, row: Mapping[str, Any]) -> None:
    """Hold the number of a document against those of the record (RULES §5).

    What a person moved against its number stays what they said it is.
    """
    numbers = wanted.numbers.get(row["sha256"])
    if numbers is None:
        raise MalformedArchiveError("digest")  # another file than the one that was read
    if Mark.FILED_BY_PERSON.value in str(row.get("marks") or "").split():
        return
    if not identity_storing.numbers_of_record(connection, int(wanted.person["id"])).issuperset(
        numbers
    ):
        raise RecordStateError("document_of_another")


def _put(connection: sqlite3.Connection, table: str, values: Mapping[str, Any]) -> int:
    try:
        if table != "document":
            return insert(connection, table, values)
        return insert_document(connection, values)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise MalformedArchiveError("column") from error  # no title, or a day that is none


def _local(table: str, row: Mapping[str, Any], wanted: Import, place: int) -> dict[str, Any]:
    """A row as it stands here: this patient's, of this structure."""
    values = {**row, "patient_id": int(wanted.person["id"])}
    values.pop("id", None)
    columns = METADATA.tables[table].c
    if "structure_id" in columns:
        values["structure_id"] = wanted.person["structure_id"]
    if table == "document":
        values["identity_id"] = values["patient_id"]
        values["imported_at"] = micros(wanted.at)
        # An archive proves nothing of who wrote what is in it: whoever reads it is told.
        values["marks"] = words({*str(values.get("marks") or "").split(), Mark.IMPORTED.value})
        values.setdefault("receipt", f"import:{micros(wanted.at)}")
        values.setdefault("position", place)
        values.setdefault("filed_at", values.get("received_at"))
        for name in ("organization_ids", "sender", "origin"):
            values.setdefault(name, "")
        values.setdefault("may_replace", 0)
    if table == "access_right" and values.get("kind") in _BRIEF:
        # What is given for hours was given elsewhere, and is over.
        until = values.get("until_at")
        values["until_at"] = min(micros(wanted.at), micros(wanted.at) if until is None else until)
    return values


def _key(keys: Sequence[int], place: Any) -> int:
    if not isinstance(place, int) or not 0 <= place < len(keys):
        raise MalformedArchiveError("link")
    return keys[place]


def _content(table: str, place: int, row: Mapping[str, Any], reader: _Reader) -> bytes | None:
    """The octets of a document or another file, which are those of its row."""
    if table not in form.WITH_CONTENT:
        return None
    prefix = f"{table}s/{place}."
    name = next((name for name in reader.names if name.startswith(prefix)), "")
    limit = MAX_DOCUMENT if table == "document" else MAX_FILE
    content = reader.content(name, limit)
    if hashlib.sha256(content).digest() != row.get("sha256") or row.get("octets") != len(content):
        raise MalformedArchiveError("digest")
    return content


def _packages(connection: sqlite3.Connection, wanted: Import, reader: _Reader) -> list[int]:
    count = sum(name.startswith("packages/") for name in reader.names)
    return [
        archive(
            connection,
            Archived(
                wanted.person["structure_id"],
                "package",
                reader.content(f"packages/{place}.zip", MAX_DOCUMENT),
                wanted.at,
            ),
        )
        for place in range(count)
    ]


def _no_package(connection: sqlite3.Connection, wanted: Import) -> int:
    """What stands for the package of a document that came without."""
    nothing = Archived(wanted.person["structure_id"], "package", b"", wanted.at)
    return archive(connection, nothing)


def _events(connection: sqlite3.Connection, patient_id: int, reader: _Reader) -> int:
    events = reader.rows("events.json")
    for event in events:
        at, facts = event.get("at"), event.get("facts", {})
        if not isinstance(at, int) or not isinstance(facts, dict):
            raise MalformedArchiveError("events")
        values = {
            "patient_id": patient_id,
            "at": at,
            "actor": str(event.get("actor"))[:200],
            "kind": str(event.get("kind"))[:100],
            "facts": json.dumps(facts),
        }
        insert(connection, "imported_event", values)
    return len(events)
