"""The folded texts of messages, and the trigrams that lead to them.

Written off the delivery path by one task; ``blob.searchable`` says which bodies it has read.
Invariants: ``search_trigram`` holds exactly the rows of ``search_text`` (by triggers); a row goes
when its body goes; what the trigrams give is only a candidate, confirmed on the folded text; a
search names the bodies it looks among, and no other body is ever in its answer.

Source: DESIGN §5, RFC 9051 §6.4.4; SQLite, FTS5 §4.3.4 (trigram), §4.6 (detail).
"""

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import text

from directory.database import Database, Query
from mailserver.message.search_text import SearchText, header_field_has, trigrams
from mailserver.store.rows import as_list, fetch_all
from mailserver.store.schema import SEARCH_CUT, SEARCH_WHOLE

MAX_TRIGRAMS = 8
"""Of a needle: each costs a walk through the numbers of the messages that hold it."""


def _query(sql: str) -> Query:
    return Query.of(text(sql))


_PUT = (
    "INSERT INTO search_text (blob_id, header, body)"
    " SELECT :blob_id, :header, :body"
    " WHERE EXISTS (SELECT 1 FROM message_index WHERE blob_id = :blob_id)"
    " ON CONFLICT (blob_id) DO NOTHING"
)
_NOTE = "UPDATE blob SET searchable = :searchable WHERE id = :blob_id AND searchable = 0"
_UNREAD = text(
    "SELECT b.id, b.octets FROM blob AS b WHERE b.id > :after AND b.searchable = 0"
    " AND b.state = 0 AND EXISTS (SELECT 1 FROM message_index WHERE blob_id = b.id)"
    " ORDER BY b.id LIMIT :limit"
)
_NOT_WHOLE = _query(
    "SELECT id FROM blob WHERE searchable != 1 AND id IN (SELECT value FROM json_each(:blob_ids))"
)
_LED_TO = _query(
    "SELECT rowid FROM search_trigram WHERE search_trigram MATCH :trigrams LIMIT :most"
)
_IN_BODY = _query(
    "SELECT blob_id FROM search_text WHERE instr(body, :needle) > 0"
    " AND blob_id IN (SELECT value FROM json_each(:blob_ids))"
)
_IN_TEXT = _query(
    "SELECT blob_id FROM search_text"
    " WHERE (instr(header, :needle) > 0 OR instr(body, :needle) > 0)"
    " AND blob_id IN (SELECT value FROM json_each(:blob_ids))"
)
_IN_HEADER = _query(
    "SELECT blob_id, header FROM search_text WHERE instr(header, :needle) > 0"
    " AND blob_id IN (SELECT value FROM json_each(:blob_ids))"
)
_IN_PREFIX = text(
    "SELECT uid FROM entry WHERE folder_id = :folder_id AND uid > 0"
    " AND instr(lower(replace(CAST(prefix AS TEXT), char(13, 10), '')), :needle) > 0"
)
"""Prefixes are ASCII lines of our own, folded by CRLF and one blank (``delivery.trace``)."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the index knows of the bodies that a search looks among.

    Attributes:
        bodies: those that hold the needle.
        unread: those that must be looked at themselves: not read yet, or not whole.
    """

    bodies: set[int]
    unread: set[int]


@dataclass(frozen=True, slots=True)
class _Sought:
    query: Query
    blob_ids: Collection[int]
    needle: str
    field: str = ""


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

    async def bodies_with(self, blob_ids: Collection[int], needle: str) -> Found:
        """Look for a folded needle in the texts of these bodies."""
        return await self._database.read(_find, _Sought(_IN_BODY, blob_ids, needle))

    async def texts_with(self, blob_ids: Collection[int], needle: str) -> Found:
        """Like ``bodies_with``, and in their headers."""
        return await self._database.read(_find, _Sought(_IN_TEXT, blob_ids, needle))

    async def headers_with(self, blob_ids: Collection[int], field: str, needle: str) -> Found:
        """Look for a folded needle in the fields of one name (lower case) of these bodies."""
        return await self._database.read(_find, _Sought(_IN_HEADER, blob_ids, needle, field))

    async def prefixes_with(self, folder_id: int, needle: str) -> set[int]:
        """Give the UIDs whose prefix, the fields that this server wrote, holds a needle."""
        parameters = {"folder_id": folder_id, "needle": needle}
        return {row[0] for row in await fetch_all(self._database, _IN_PREFIX, parameters)}


def _find(connection: sqlite3.Connection, sought: _Sought) -> Found:
    """Look on a reader's thread, in one snapshot: there a body was read or it was not."""
    connection.execute("BEGIN")
    unread = _NOT_WHOLE.on(connection, {"blob_ids": as_list(sought.blob_ids)})
    among = _led_to(connection, sought)
    rows = sought.query.on(connection, {"blob_ids": as_list(among), "needle": sought.needle})
    if sought.field:
        rows = [row for row in rows if header_field_has(row[1], sought.field, sought.needle)]
    bodies = {row[0] for row in rows}
    return Found(bodies, {row[0] for row in unread} - bodies)


def _led_to(connection: sqlite3.Connection, sought: _Sought) -> Collection[int]:
    """Narrow the bodies to those that hold the needle's trigrams, when that is fewer."""
    runs = trigrams(sought.needle)
    if not runs:
        return sought.blob_ids
    chosen = runs[:: -(-len(runs) // MAX_TRIGRAMS)]
    quoted = " AND ".join('"' + run.replace('"', '""') + '"' for run in chosen)
    most = len(sought.blob_ids)
    led = _LED_TO.on(connection, {"trigrams": quoted, "most": most})
    if len(led) == most:  # reading the texts is as quick
        return sought.blob_ids
    return {row[0] for row in led}.intersection(sought.blob_ids)


def _put(connection: sqlite3.Connection, messages: tuple[ReadMessage, ...]) -> None:
    connection.executemany(
        _PUT,
        [
            {"blob_id": each.blob_id, "header": each.text.header, "body": each.text.body}
            for each in messages
        ],
    )
    connection.executemany(
        _NOTE,
        [
            {
                "blob_id": each.blob_id,
                "searchable": SEARCH_WHOLE if each.text.whole else SEARCH_CUT,
            }
            for each in messages
        ],
    )
