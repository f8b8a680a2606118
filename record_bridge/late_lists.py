"""Lines of lists from documents that were not read for them when they came.

Documents that come in an archive, and those of a database from before such lines were kept, are
read in the sandbox a few at a time. A document that cannot be read has none, and is not tried
again.

Source: RULES §8.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from certs.errors import SandboxError
from directory.database import Database
from record_bridge.list_storing import put_lists
from record_bridge.model import Lists
from record_bridge.opener import Opener
from record_bridge.repository import content_of, moment

AT_ONCE: Final = 20


@dataclass(frozen=True, slots=True)
class _Unread:
    document_id: int
    received_at: datetime
    content: bytes


@dataclass(frozen=True, slots=True)
class _Read:
    unread: _Unread
    lists: Lists


async def read_late_lists(record: Database, opener: Opener) -> int:
    """Read the next documents that wait; give how many, AT_ONCE when there may be more."""
    document_ids = await record.read(_waiting, AT_ONCE)
    for document_id in document_ids:
        unread = await record.read(_unread, document_id)
        try:
            lists = await opener.lists(unread.content)
        except SandboxError:
            lists = Lists()
        await record.write(_put, _Read(unread, lists))
    return len(document_ids)


def _waiting(connection: sqlite3.Connection, many: int) -> list[int]:
    rows = connection.execute(
        "SELECT id FROM document WHERE lists_read = 0 ORDER BY id LIMIT ?", (many,)
    )
    return [int(row[0]) for row in rows]


def _unread(connection: sqlite3.Connection, document_id: int) -> _Unread:
    (received_at,) = connection.execute(
        "SELECT received_at FROM document WHERE id = ?", (document_id,)
    ).fetchone()
    content = content_of(connection, "document", document_id)
    return _Unread(document_id, moment(int(received_at)), content)


def _put(connection: sqlite3.Connection, value: _Read) -> None:
    document_id = value.unread.document_id
    put_lists(connection, document_id, value.lists, value.unread.received_at)
    connection.execute("UPDATE document SET lists_read = 1 WHERE id = ?", (document_id,))
