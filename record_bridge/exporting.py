"""Writing a whole record as one archive: documents, metadata, agenda, accesses, consents.

Blocking: it reads one snapshot of the database through a connection of its own, so that nothing
waits for it. The patient's own archive holds what they see, no more: documents that are hidden
change no octet of it but the time it was made (RULES §7).

Source: RULES §7, RULES §13.
"""

import hashlib
import json
import sqlite3
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final

from record_bridge import archive_form as form
from record_bridge.errors import RecordStateError
from record_bridge.repository import content_of, micros, shown_packs

README: Final = (
    "Ce fichier contient une copie d'un dossier tenu par Pli : les documents (CDA, XML),\r\n"
    "les fichiers ajoutés, et des tables (JSON). Gardez-le en lieu sûr : ce sont des données\r\n"
    "de santé. Un autre site Pli peut le reprendre avec « pli record import ».\r\n"
)
_STAMP: Final = (1980, 1, 1, 0, 0, 0)
_ENDINGS: Final = {
    "application/pdf": "pdf",
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/tiff": "tif",
    "application/rtf": "rtf",
    "text/plain": "txt",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to export.

    Attributes:
        documents: the ones its patient sees; None for the whole record.
        accesses: who opened it as its patient is shown (``at`` aware), with ``documents``.
    """

    patient_id: int
    at: datetime
    documents: frozenset[int] | None = None
    accesses: Sequence[Mapping[str, Any]] = ()

    @property
    def kind(self) -> str:
        """Whole, or the patient's own."""
        return form.WHOLE if self.documents is None else form.OWN


@dataclass(slots=True)
class _Written:
    """The archive under way: digest of each file, and place of each row by table and key."""

    archive: zipfile.ZipFile
    digests: dict[str, str] = field(default_factory=dict)
    places: dict[str, dict[int, int]] = field(default_factory=dict)

    def add(self, name: str, content: bytes) -> None:
        """Add a file."""
        self.digests[name] = hashlib.sha256(content).hexdigest()
        info = zipfile.ZipInfo(name, _STAMP)
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = 0o600 << 16
        self.archive.writestr(info, content)


def export_record(database: Path, wanted: Wanted, out: IO[bytes]) -> dict[str, int]:
    """Write an archive.

    Args:
        database: the record database's file.
        wanted: whose record, and how much of it.
        out: where to; seekable.

    Returns:
        Rows of each table.

    Raises:
        RecordStateError: there is no such patient.
    """
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN")
        person = connection.execute(
            "SELECT * FROM patient WHERE id = ?", (wanted.patient_id,)
        ).fetchone()
        if person is None:
            raise RecordStateError("no_such_patient")
        with zipfile.ZipFile(out, "w") as archive:
            return _write(connection, wanted, person, _Written(archive))


def _write(
    connection: sqlite3.Connection, wanted: Wanted, person: sqlite3.Row, written: _Written
) -> dict[str, int]:
    counts: dict[str, int] = {}
    written.add("LISEZMOI.txt", README.encode())
    for table in form.tables():
        rows = _rows(connection, wanted, table.name)
        written.places[table.name] = {row["id"]: place for place, row in enumerate(rows)}
        if table.name == "document" and wanted.kind == form.WHOLE:
            _add_packages(connection, rows, written)
        links = form.links(table)
        told = []
        for row in rows:
            names = form.columns(table, wanted.kind)
            values = {name: form.encoded(row[name]) for name in names}
            for name in ("id", "patient_id", "identity_id", "structure_id"):
                values.pop(name, None)
            for name, other in links.items():
                if name in values:
                    values[name] = written.places.get(other, {}).get(row[name])
            told.append(values)
        counts[table.name] = len(told)
        written.add(f"tables/{table.name}.json", _json(told))
        _add_contents(connection, table.name, rows, written)
    events = _events(connection, wanted)
    counts["events"] = len(events)
    written.add("events.json", _json(events))
    manifest = {
        "format": form.FORMAT,
        "version": form.VERSION,
        "kind": wanted.kind,
        "made_at": wanted.at.isoformat(),
        "patient": {
            name: person[name]
            for name in ("matricule", "oid", "family", "given", "birth_date", "sex", "birth_place")
        },
        "files": written.digests,
    }
    info = zipfile.ZipInfo("manifest.json", _STAMP)
    info.external_attr = 0o600 << 16
    written.archive.writestr(info, _json(manifest))
    return counts


def _rows(connection: sqlite3.Connection, wanted: Wanted, table: str) -> list[sqlite3.Row]:
    rows = connection.execute(
        f"SELECT * FROM {table} WHERE patient_id = ? ORDER BY id",  # noqa: S608 - our table
        (wanted.patient_id,),
    ).fetchall()
    if table == "access_right":
        return [row for row in rows if row["kind"] in form.RIGHTS]
    if wanted.documents is None:
        return rows
    if table == "document":
        return [row for row in rows if row["id"] in wanted.documents]
    if table in ("admission_pack", "pack_item"):
        shown = shown_packs(connection, wanted.patient_id)
        column = "id" if table == "admission_pack" else "pack_id"
        return [row for row in rows if row[column] in shown]
    if rows and "document_id" in rows[0].keys():  # noqa: SIM118 - a Row is no mapping
        return [row for row in rows if row["document_id"] in wanted.documents]
    return rows


def _add_packages(
    connection: sqlite3.Connection, rows: Iterable[sqlite3.Row], written: _Written
) -> None:
    places = written.places.setdefault("archive", {})
    for row in rows:
        if row["package_id"] not in places:
            places[row["package_id"]] = len(places)
            content = content_of(connection, "archive", row["package_id"])
            written.add(f"packages/{places[row['package_id']]}.zip", content)


def _add_contents(
    connection: sqlite3.Connection, table: str, rows: Iterable[sqlite3.Row], written: _Written
) -> None:
    if table not in form.WITH_CONTENT:
        return
    for place, row in enumerate(rows):
        ending = "xml" if table == "document" else _ENDINGS[row["media_type"]]
        written.add(f"{table}s/{place}.{ending}", content_of(connection, table, row["id"]))


def _events(connection: sqlite3.Connection, wanted: Wanted) -> list[Mapping[str, Any]]:
    """What was done with the record; documents are named by their unique id."""
    if wanted.documents is not None:
        return [{**each, "at": micros(each["at"])} for each in wanted.accesses]
    names = dict(
        connection.execute(
            "SELECT id, unique_id FROM document WHERE patient_id = ?", (wanted.patient_id,)
        ).fetchall()
    )
    found: list[Mapping[str, Any]] = [
        {"at": at, "actor": actor, "kind": kind, "facts": json.loads(facts)}
        for at, actor, kind, facts in connection.execute(
            "SELECT at, actor, kind, facts FROM imported_event WHERE patient_id = ? ORDER BY id",
            (wanted.patient_id,),
        )
    ]
    for at, actor, kind, facts in connection.execute(
        "SELECT at, actor, kind, facts FROM trail_event WHERE subject IN (SELECT 'patient:' || id"
        " FROM patient WHERE :id IN (id, merged_into)) ORDER BY event_id",
        {"id": wanted.patient_id},
    ):
        told = json.loads(facts) if facts else {}
        if "document_id" in told:
            told["document"] = names.get(int(told.pop("document_id")), "")
        found.append({"at": at, "actor": actor, "kind": kind, "facts": told})
    return found


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True).encode()
