"""The SQL of putting documents into a record: versions, rows, results, agenda entries.

Every function runs on the writer's thread inside the filing transaction, so what it reads is
what the decision is made on: nothing is judged on a stale read (DESIGN §3 row 13).
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from record_bridge.formats.cda_header import PS_ROOT, CdaPerson
from record_bridge.list_storing import put_lists
from record_bridge.model import (
    AgendaEntry,
    DocumentStatus,
    Mark,
    OpenedDocument,
    Visibility,
)
from record_bridge.replacement import Provenance, StoredVersion
from record_bridge.repository import insert, insert_document, micros, store_chunks


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document that is already here, with its row."""

    id: int
    version: StoredVersion
    visibility: frozenset[Visibility]
    is_in_a_record: bool = True


@dataclass(frozen=True, slots=True)
class NewDocument:
    """One document that is filed, with everything that was decided about it.

    Attributes:
        filed_by: who filed it by hand; None when it came in a package, by the rules.
    """

    structure_id: str
    patient_id: int
    identity_id: int
    opened: OpenedDocument
    status: DocumentStatus
    superseded_by: int | None
    parent_unique_id: str | None
    visibility: frozenset[Visibility]
    masked_here: frozenset[Visibility]
    release_at: datetime | None
    marks: frozenset[Mark]
    class_code: str
    type_code: str
    title: str
    effective_at: datetime | None
    sender: str
    provenance: Provenance
    recipient_ids: frozenset[str]
    forwarded_by: str
    package_id: int
    receipt: str
    position: int
    received_at: datetime
    at: datetime
    filed_by: str | None = None


_DOCUMENT = (
    "SELECT id, unique_id, sha256, patient_id, status, origin, signer, organization_ids,"
    " may_replace, parent_unique_id, visibility FROM document WHERE structure_id = ? AND "
)
_MAX_ANCESTORS = 1000
"""Versions walked to find a loop; a chain that long is not a clinical document's."""


def stored(
    connection: sqlite3.Connection, structure_id: str, unique_id: str
) -> StoredDocument | None:
    """The document of this unique id, when the structure has it."""
    row = connection.execute(_DOCUMENT + "unique_id = ?", (structure_id, unique_id)).fetchone()
    return None if row is None else _stored(connection, structure_id, row)


def children(
    connection: sqlite3.Connection, structure_id: str, unique_id: str
) -> list[StoredDocument]:
    """The documents that say they replace this one, first filed first."""
    rows = connection.execute(
        _DOCUMENT + "parent_unique_id = ? ORDER BY id", (structure_id, unique_id)
    ).fetchall()
    return [_stored(connection, structure_id, row) for row in rows]


def in_quarantine(
    connection: sqlite3.Connection, structure_id: str, unique_id: str, receipt: str
) -> bool:
    """Whether an open quarantine row of another message waits for this document."""
    row = connection.execute(
        "SELECT 1 FROM quarantine WHERE structure_id = ? AND unique_id = ? AND state = 'open'"
        " AND receipt <> ?",
        (structure_id, unique_id, receipt),
    ).fetchone()
    return row is not None


def _stored(connection: sqlite3.Connection, structure_id: str, row: sqlite3.Row) -> StoredDocument:
    return StoredDocument(
        id=int(row[0]),
        version=StoredVersion(
            unique_id=str(row[1]),
            sha256=bytes(row[2]),
            patient_id=int(row[3] or 0),
            is_latest=row[4] == DocumentStatus.CURRENT.value,
            provenance=Provenance(
                domain=str(row[5]),
                signer=str(row[6]),
                organizations=frozenset(str(row[7]).split()),
                may_replace=bool(row[8]),
            ),
            ancestors=_ancestors(connection, structure_id, row[9]),
        ),
        visibility=frozenset(Visibility(code) for code in str(row[10]).split()),
        is_in_a_record=row[3] is not None,
    )


def _ancestors(
    connection: sqlite3.Connection, structure_id: str, parent: str | None
) -> tuple[str, ...]:
    found: dict[str, None] = {}
    while parent is not None and parent not in found and len(found) < _MAX_ANCESTORS:
        found[parent] = None
        row = connection.execute(
            "SELECT parent_unique_id FROM document WHERE structure_id = ? AND unique_id = ?",
            (structure_id, parent),
        ).fetchone()
        parent = None if row is None else row[0]
    return tuple(found)


def _codes(values: Iterable[Visibility | Mark]) -> str:
    return " ".join(sorted(value.value for value in values))


def _joined(ids: Iterable[str]) -> str:
    return " ".join(dict.fromkeys(text.replace(" ", "") for text in ids if text))


def _professionals(people: Iterable[CdaPerson]) -> list[str]:
    return [i.extension for person in people for i in person.ids if i.root == PS_ROOT]


def put_document(connection: sqlite3.Connection, new: NewDocument) -> int:
    """Insert one document with its content; give its id."""
    header = new.opened.header
    assert header is not None  # noqa: S101 - an unreadable document is never filed
    author = header.authors[0] if header.authors else None
    document_id = insert_document(
        connection,
        {
            "structure_id": new.structure_id,
            "patient_id": new.patient_id,
            "identity_id": new.identity_id,
            "unique_id": new.opened.unique_id,
            "sha256": new.opened.sha256,
            "octets": len(new.opened.content),
            "set_id": header.set_id,
            "version_number": header.version_number,
            "parent_unique_id": new.parent_unique_id,
            "superseded_by": new.superseded_by,
            "type_code": new.type_code,
            "class_code": new.class_code,
            "title": new.title,
            "effective_at": None if new.effective_at is None else micros(new.effective_at),
            "status": new.status.value,
            "visibility": _codes(new.visibility),
            "masked_here": _codes(new.masked_here),
            "release_at": None if new.release_at is None else micros(new.release_at),
            "marks": _codes(new.marks),
            "author": "" if author is None else author.shown_name,
            "author_ids": _joined(_professionals(header.authors)),
            "organization_ids": _joined(sorted(new.provenance.organizations)),
            "may_replace": int(new.provenance.may_replace),
            "custodian": header.custodian.name,
            "recipient_ids": _joined(
                [*_professionals(header.recipients), *sorted(new.recipient_ids)]
            ),
            "attending_ids": _joined(
                i.extension for i in header.attending_ids if i.root == PS_ROOT
            ),
            "media_type": new.opened.media_type,
            "sender": new.sender,
            "origin": new.provenance.domain,
            "signer": new.provenance.signer,
            "forwarded_by": new.forwarded_by,
            "package_id": new.package_id,
            "receipt": new.receipt,
            "position": new.position,
            "received_at": micros(new.received_at),
            "filed_at": micros(new.at),
            "filed_by": new.filed_by,
            "lists_read": 1,
        },
    )
    store_chunks(connection, "document_chunk", "document_id", (document_id, new.opened.content))
    put_lists(connection, document_id, new.opened.lists, new.received_at)
    return document_id


def masks_set_here(
    connection: sqlite3.Connection, version: StoredDocument | None
) -> frozenset[Visibility]:
    """The masks that people set on another version: no sender lifts them by replacing it."""
    if version is None:
        return frozenset()
    row = connection.execute(
        "SELECT masked_here FROM document WHERE id = ?", (version.id,)
    ).fetchone()
    return frozenset(Visibility(word) for word in str(row[0]).split())


def supersede(connection: sqlite3.Connection, old_id: int, new_id: int) -> None:
    """Put an older version behind a newer one; its undecided agenda entries leave (RULES §6)."""
    connection.execute(
        "UPDATE document SET status = 'superseded', superseded_by = ? WHERE id = ?",
        (new_id, old_id),
    )
    _leave_agenda(connection, old_id)


def _leave_agenda(connection: sqlite3.Connection, document_id: int) -> None:
    connection.execute(
        "DELETE FROM agenda_entry WHERE document_id = ? AND decided_at IS NULL", (document_id,)
    )
    connection.execute(
        "UPDATE agenda_entry SET source_superseded = 1 WHERE document_id = ?", (document_id,)
    )


def put_agenda(
    connection: sqlite3.Connection,
    document: tuple[str, int, int],
    entries: Sequence[AgendaEntry],
    at: datetime,
) -> None:
    """Insert the agenda entries of one document: (structure, patient, document)."""
    connection.executemany(
        "INSERT INTO agenda_entry (structure_id, patient_id, document_id, ordinal, kind, status,"
        " title, day, start_at, end_at, reminder, place, code, code_system, atc, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *document,
                entry.ordinal,
                entry.kind.value,
                entry.status.value,
                entry.title,
                None if entry.day is None else entry.day.isoformat(),
                None if entry.start_at is None else micros(entry.start_at),
                None if entry.end_at is None else micros(entry.end_at),
                entry.reminder,
                entry.place,
                entry.code,
                entry.code_system,
                entry.atc,
                micros(at),
            )
            for entry in entries
        ],
    )


def put_duplicate(
    connection: sqlite3.Connection,
    document: StoredDocument,
    occurrence: tuple[str, str, int, datetime],
) -> None:
    """Note that an occurrence was absorbed: (structure, receipt, position, at)."""
    structure_id, receipt, position, at = occurrence
    insert(
        connection,
        "duplicate",
        {
            "structure_id": structure_id,
            "document_id": document.id,
            "unique_id": document.version.unique_id,
            "receipt": receipt,
            "position": position,
            "at": micros(at),
        },
    )
