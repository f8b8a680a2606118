"""How entries are kept in columns, and the few writes that several transactions share; pure SQL.

Keywords are one text, sorted, with a space between; they are compared without case and keep the
case they came with (RFC 9051 §2.3.2).
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, func, select
from sqlalchemy.sql import ClauseElement

from directory.database import Database, Query
from mailserver.message.index import MessageIndex
from mailserver.store.errors import NoSuchFolderError, TooManyKeywordsError
from mailserver.store.model import (
    MAX_KEYWORDS,
    EntryRow,
    Flag,
    from_micros,
    server_keyword,
)
from mailserver.store.schema import ENTRY, MESSAGE_INDEX

ROW_COLUMNS = (
    ENTRY.c.id,
    ENTRY.c.uid,
    ENTRY.c.modseq,
    ENTRY.c.flags,
    ENTRY.c.keywords,
    ENTRY.c.octets,
    ENTRY.c.internal_at,
    ENTRY.c.blob_id,
)
INDEX_COLUMNS = (
    MESSAGE_INDEX.c.outline,
    MESSAGE_INDEX.c.envelope,
    MESSAGE_INDEX.c.body,
    MESSAGE_INDEX.c.bodystructure,
    MESSAGE_INDEX.c.header_octets,
    MESSAGE_INDEX.c.subject,
    MESSAGE_INDEX.c.from_,
    MESSAGE_INDEX.c.to,
    MESSAGE_INDEX.c.date_at,
    MESSAGE_INDEX.c.message_id,
    MESSAGE_INDEX.c.has_package,
)
_FLAGS = tuple(Flag(bits) for bits in range(32))
_FOLDER = (
    "SELECT f.id, f.mailbox_id, f.name, f.uidvalidity, f.uidnext, f.highestmodseq, m.type,"
    " m.structure_id FROM folder AS f JOIN mailbox AS m ON m.id = f.mailbox_id WHERE f.id = :id"
)
_BUMP = "UPDATE folder SET uidnext = :uidnext, highestmodseq = :modseq WHERE id = :id"


def flag_of(bits: int) -> Flag:
    """Give the flags of a column's number, without building an enum member each time."""
    return _FLAGS[bits & 31]


@lru_cache(maxsize=4096)
def keywords_of(text: str) -> frozenset[str]:
    """Read a column of keywords."""
    return frozenset(text.split(" ")) if text else frozenset()


def encode_keywords(keywords: Iterable[str]) -> str:
    """Write a column of keywords: one of each, whatever its case.

    Raises:
        TooManyKeywordsError: more than MAX_KEYWORDS.
    """
    kept: dict[str, str] = {}
    for keyword in sorted(keywords):
        kept.setdefault(keyword.lower(), server_keyword(keyword) or keyword)
    if len(kept) > MAX_KEYWORDS:
        raise TooManyKeywordsError
    return " ".join(sorted(kept.values()))


def without(keywords: Iterable[str], taken: Iterable[str]) -> frozenset[str]:
    """Give the first keywords less the second, compared without case."""
    lower = {keyword.lower() for keyword in taken}
    return frozenset(keyword for keyword in keywords if keyword.lower() not in lower)


def client_keywords(keywords: Iterable[str]) -> frozenset[str]:
    """Give the keywords less those that only the server sets (RULES §10)."""
    return frozenset(keyword for keyword in keywords if server_keyword(keyword) is None)


def entry_row(row: Sequence[Any]) -> EntryRow:
    """Build the value from a row that starts with ROW_COLUMNS, SQLAlchemy's or sqlite3's."""
    return EntryRow(
        row[0],
        row[1],
        row[2],
        _FLAGS[row[3]],
        keywords_of(row[4]),
        row[5],
        from_micros(row[6]),
        row[7],
    )


def message_index(row: Sequence[Any]) -> MessageIndex:
    """Build the index from INDEX_COLUMNS."""
    return MessageIndex._make((*row[:10], bool(row[10])))


def among(column: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
    """Say that a column is in a JSON list: one parameter, whatever its length.

    On PostgreSQL this one place becomes ``= ANY(:list)``.
    """
    values = func.json_each(bindparam(parameter)).table_valued("value")
    return column.in_(select(values.c.value))


def select_rows() -> Select[Any]:
    """Start a select of the visible entries of ``:folder_id``, in UID order."""
    return (
        select(*ROW_COLUMNS)
        .where(ENTRY.c.folder_id == bindparam("folder_id"), ENTRY.c.uid > 0)
        .order_by(ENTRY.c.uid)
    )


async def fetch_all(
    database: Database,
    statement: ClauseElement,
    parameters: Mapping[str, Any] | None = None,
) -> Sequence[Sequence[Any]]:
    """Run one select; rows as sequences, because no type says the columns of a built select."""
    return await database.read(_all, (_query(statement), parameters or {}))


async def fetch_first(
    database: Database,
    statement: ClauseElement,
    parameters: Mapping[str, Any] | None = None,
) -> Sequence[Any] | None:
    """Run one select and give its first row."""
    return await database.read(_first, (_query(statement), parameters or {}))


@lru_cache(maxsize=512)
def _query(statement: ClauseElement) -> Query:
    """Compile a statement when it is first run; it is a constant of its module."""
    return Query.of(statement)


def _all(connection: sqlite3.Connection, asked: tuple[Query, Mapping[str, Any]]) -> list[Any]:
    query, parameters = asked
    return query.on(connection, parameters)


def _first(connection: sqlite3.Connection, asked: tuple[Query, Mapping[str, Any]]) -> Any:
    query, parameters = asked
    return connection.execute(query.sql, {**query.values, **parameters}).fetchone()


@dataclass(slots=True)
class OpenFolder:
    """A folder's counters while a transaction works on it."""

    id: int
    mailbox_id: int
    uidvalidity: int
    uidnext: int
    modseq: int
    type: str
    structure_id: str

    def take_uid(self) -> int:
        """Give the next UID."""
        uid = self.uidnext
        self.uidnext += 1
        return uid

    def take_modseq(self) -> int:
        """Give the next MODSEQ."""
        self.modseq += 1
        return self.modseq


def open_folder(connection: sqlite3.Connection, folder_id: int) -> OpenFolder:
    """Read a folder's counters in the writing transaction.

    Raises:
        NoSuchFolderError: it was deleted.
    """
    row = connection.execute(_FOLDER, {"id": folder_id}).fetchone()
    if row is None:
        raise NoSuchFolderError
    return folder_of(row)


def folder_of(row: Mapping[str, Any] | sqlite3.Row) -> OpenFolder:
    """Read the columns of a folder and its mailbox."""
    return OpenFolder(
        id=row["id"],
        mailbox_id=row["mailbox_id"],
        uidvalidity=row["uidvalidity"],
        uidnext=row["uidnext"],
        modseq=row["highestmodseq"],
        type=row["type"],
        structure_id=row["structure_id"],
    )


def close_folders(connection: sqlite3.Connection, folders: Iterable[OpenFolder]) -> None:
    """Write the counters back."""
    connection.executemany(
        _BUMP,
        [
            {"id": folder.id, "uidnext": folder.uidnext, "modseq": folder.modseq}
            for folder in folders
        ],
    )


def as_list(numbers: Iterable[int]) -> str:
    """Write numbers as the JSON list that ``json_each`` reads."""
    return json.dumps(list(numbers))
