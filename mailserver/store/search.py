"""The folded texts of messages, and the trigrams that lead to them.

Written off the delivery path by one task; a body without a row here has not been read yet, and is
looked at itself. Invariants: ``search_trigram`` holds exactly the rows of ``search_text`` (by
triggers); a row goes when its body goes; what the trigrams give is only a candidate, confirmed on
the folded text.

Source: DESIGN §5, RFC 9051 §6.4.4; SQLite, FTS5 §4.3.4 (trigram), §4.6 (detail).
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import TextClause, text

from directory.database import Database
from mailserver.message.search_text import SearchText, trigrams
from mailserver.store.rows import fetch_all

MAX_TRIGRAMS = 24
"""Of a needle: enough to be rare."""

_PUT = (
    "INSERT INTO search_text (blob_id, header, body, whole)"
    " SELECT :blob_id, :header, :body, :whole"
    " WHERE EXISTS (SELECT 1 FROM message_index WHERE blob_id = :blob_id)"
    " ON CONFLICT (blob_id) DO NOTHING"
)
_UNREAD = text(
    "SELECT i.blob_id, b.octets FROM message_index AS i JOIN blob AS b ON b.id = i.blob_id"
    " LEFT JOIN search_text AS s ON s.blob_id = i.blob_id"
    " WHERE i.blob_id > :after AND s.blob_id IS NULL AND b.state = 0"
    " ORDER BY i.blob_id LIMIT :limit"
)
_UNREAD_IN = text(
    "SELECT e.blob_id FROM entry AS e LEFT JOIN search_text AS s ON s.blob_id = e.blob_id"
    " WHERE e.folder_id = :folder_id AND e.uid > 0 AND coalesce(s.whole, 0) = 0"
)
_SCANNED = (
    "SELECT s.blob_id{header} FROM entry AS e JOIN search_text AS s ON s.blob_id = e.blob_id"
    " WHERE e.folder_id = :folder_id AND e.uid > 0 AND ({test})"
)
_LED_TO = (
    "SELECT s.blob_id{header} FROM search_trigram AS t"
    " JOIN search_text AS s ON s.blob_id = t.rowid"
    " JOIN entry AS e ON e.blob_id = s.blob_id"
    " WHERE t.text MATCH :trigrams AND t.rowid BETWEEN"
    " (SELECT min(blob_id) FROM entry WHERE folder_id = :folder_id AND uid > 0)"
    " AND (SELECT max(blob_id) FROM entry WHERE folder_id = :folder_id AND uid > 0)"
    " AND e.folder_id = :folder_id AND e.uid > 0 AND ({test})"
)
_IN_HEADER, _IN_BODY = "instr(s.header, :needle) > 0", "instr(s.body, :needle) > 0"
_IN_PREFIX = text(
    "SELECT uid FROM entry WHERE folder_id = :folder_id AND uid > 0"
    " AND instr(lower(replace(CAST(prefix AS TEXT), char(13, 10), '')), :needle) > 0"
)


def _both(test: str, header: str = "") -> tuple[TextClause, TextClause]:
    """Give the statement for short needles and the one for needles with a trigram."""
    return (
        text(_SCANNED.format(test=test, header=header)),
        text(_LED_TO.format(test=test, header=header)),
    )


_BODY = _both(_IN_BODY)
_TEXT = _both(f"{_IN_HEADER} OR {_IN_BODY}")
_FIELD = _both(_IN_HEADER, ", s.header")


@dataclass(frozen=True, slots=True)
class ReadMessage:
    """A body that was read for searching."""

    blob_id: int
    text: SearchText


class Search:
    """The search index."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def unread(self, after: int, limit: int) -> list[tuple[int, int]]:
        """Give (id, octets) of bodies that were not read yet, in order."""
        rows = await fetch_all(self._database, _UNREAD, {"after": after, "limit": limit})
        return [(row[0], row[1]) for row in rows]

    async def put(self, messages: Sequence[ReadMessage]) -> None:
        """Keep what was read, in one transaction; a body that is gone is left out."""
        octets = sum(len(each.text.header) + len(each.text.body) for each in messages)
        await self._database.write(_put, tuple(messages), octets=octets)

    async def unread_in(self, folder_id: int) -> set[int]:
        """Give the bodies of a folder whose rows are not there, or not whole."""
        rows = await fetch_all(self._database, _UNREAD_IN, {"folder_id": folder_id})
        return {row[0] for row in rows}

    async def bodies_with(self, folder_id: int, needle: str) -> set[int]:
        """Give the bodies of a folder whose text holds a folded needle."""
        return {row[0] for row in await self._find(_BODY, folder_id, needle)}

    async def texts_with(self, folder_id: int, needle: str) -> set[int]:
        """Like ``bodies_with``, or their header does."""
        return {row[0] for row in await self._find(_TEXT, folder_id, needle)}

    async def headers_with(self, folder_id: int, needle: str) -> list[tuple[int, str]]:
        """Give (body, header) where the header holds a folded needle, in whatever field."""
        rows = await self._find(_FIELD, folder_id, needle)
        return [(row[0], row[1]) for row in rows]

    async def prefixes_with(self, folder_id: int, needle: str) -> set[int]:
        """Give the UIDs whose prefix, the fields that this server wrote, holds a needle."""
        parameters = {"folder_id": folder_id, "needle": needle}
        return {row[0] for row in await fetch_all(self._database, _IN_PREFIX, parameters)}

    async def _find(
        self, statements: tuple[TextClause, TextClause], folder_id: int, needle: str
    ) -> Sequence[Sequence[Any]]:
        parameters: dict[str, Any] = {"folder_id": folder_id, "needle": needle}
        runs = trigrams(needle)
        if not runs:
            return await fetch_all(self._database, statements[0], parameters)
        chosen = runs[:: max(1, len(runs) // MAX_TRIGRAMS)][:MAX_TRIGRAMS]
        quoted = ('"' + run.replace('"', '""') + '"' for run in chosen)
        parameters["trigrams"] = " AND ".join(quoted)
        return await fetch_all(self._database, statements[1], parameters)


def _put(connection: sqlite3.Connection, messages: tuple[ReadMessage, ...]) -> None:
    connection.executemany(
        _PUT,
        [
            {
                "blob_id": each.blob_id,
                "header": each.text.header,
                "body": each.text.body,
                "whole": each.text.whole,
            }
            for each in messages
        ],
    )
