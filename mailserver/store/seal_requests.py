"""Messages that wait for the structure's seal, as the process that holds the keys sees them.

Invariants: a request is committed before it is asked for, so the signing process, which only
reads, signs nothing that the mail process did not queue; it names content by its digest.

Source: RULES §12.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, select

from directory.database import Database
from mailserver.store.model import from_micros, to_micros
from mailserver.store.rows import fetch_first
from mailserver.store.schema import SEAL_REQUEST

_INSERT: Final = (
    "INSERT INTO seal_request (sha256, author_id, asked_at) VALUES (:sha256, :author_id, :at)"
)
_FORGET: Final = "DELETE FROM seal_request WHERE asked_at < ?"
_ONE = select(SEAL_REQUEST.c.sha256, SEAL_REQUEST.c.author_id, SEAL_REQUEST.c.asked_at).where(
    SEAL_REQUEST.c.id == bindparam("id")
)


@dataclass(frozen=True, slots=True)
class SealRequest:
    """One message that waits: the digest of its entity, and the mailbox that wrote it."""

    sha256: bytes
    author_id: int
    asked_at: datetime


class SealRequests:
    """The requests of one mail database. All methods are coroutines."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, request: SealRequest) -> int:
        """Queue a message for its signature; durable when it returns its id."""
        return await self._database.write(_add, request)

    async def find(self, request_id: int) -> SealRequest | None:
        """Give what was queued under an id."""
        row = await fetch_first(self._database, _ONE, {"id": request_id})
        return None if row is None else SealRequest(row[0], row[1], from_micros(row[2]))

    async def forget(self, before: datetime) -> None:
        """Let go of old requests; each signature is in the trail."""
        await self._database.write(_forget, to_micros(before))


def _add(connection: sqlite3.Connection, request: SealRequest) -> int:
    values = {
        "sha256": request.sha256,
        "author_id": request.author_id,
        "at": to_micros(request.asked_at),
    }
    request_id = connection.execute(_INSERT, values).lastrowid
    if request_id is None:
        raise sqlite3.DatabaseError
    return request_id


def _forget(connection: sqlite3.Connection, before: int) -> None:
    connection.execute(_FORGET, (before,))
