"""Bodies: chunk rows of at most 256 kB, written once, deleted with their last entry.

Invariants: every chunk but the last is exactly CHUNK_OCTETS long; a blob that nothing refers to is
open (being staged) or dead (being deleted), never stored; no transaction writes or deletes more
than 4 MB of chunks beside a delivery's own body. Source: DESIGN D5b.
"""

import asyncio
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

from sqlalchemy import bindparam, select

from directory.database import Database, Query
from mailserver.message.index import MessageIndex
from mailserver.store.errors import BlobSizeError, NoSuchBlobError
from mailserver.store.model import StagedBlob
from mailserver.store.schema import (
    BLOB,
    BLOB_OPEN,
    BLOB_STORED,
    CHUNK_OCTETS,
    CHUNKS_PER_BLOB,
)

BATCH_CHUNKS = 16
"""Chunks one commit stages or deletes: 4 MB (DESIGN D5b)."""
INLINE_OCTETS = BATCH_CHUNKS * CHUNK_OCTETS
"""A body up to this size goes in with its entries; a larger one is staged first."""

Source = bytes | BinaryIO | Iterable[bytes]
"""What ``stage`` reads: octets, a binary file at its first octet, or pieces of any size."""

_INSERT_BLOB = "INSERT INTO blob (octets, state) VALUES (:octets, :state)"
_INSERT_CHUNK = "INSERT INTO blob_chunk (id, body) VALUES (?, ?)"
_SETTLE_BLOB = "UPDATE blob SET state = 0 WHERE id = :id AND state = 1"
_INSERT_INDEX = (
    "INSERT INTO message_index (blob_id, header_octets, date_at, has_package, message_id,"
    ' subject, from_, "to", envelope, body, bodystructure, outline) VALUES (:blob_id,'
    " :header_octets, :date_at, :has_package, :message_id, :subject, :from_, :to, :envelope,"
    " :body, :bodystructure, :outline)"
)
_MARK_DEAD = (
    "UPDATE blob SET state = 2 WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 0"
    " AND NOT EXISTS (SELECT 1 FROM entry WHERE entry.blob_id = blob.id)"
    " AND NOT EXISTS (SELECT 1 FROM outbox_message WHERE outbox_message.blob_id = blob.id)"
)
_DROP_STAGED = "UPDATE blob SET state = 2 WHERE id = :id AND state = 1"
_DROP_ALL_STAGED = "UPDATE blob SET state = 2 WHERE state = 1"
_DEAD = "SELECT id FROM blob WHERE state != 0 AND state = 2 ORDER BY id LIMIT 1"
_LAST_CHUNKS = (
    "SELECT id FROM blob_chunk WHERE id >= :first AND id < :end ORDER BY id DESC LIMIT :room"
)
_DELETE_CHUNKS = "DELETE FROM blob_chunk WHERE id >= :first AND id < :end"
_DELETE_INDEX = "DELETE FROM message_index WHERE blob_id = :id"
_DELETE_BLOB = "DELETE FROM blob WHERE id = :id"

_OCTETS = Query.of(
    select(BLOB.c.octets).where(BLOB.c.id == bindparam("blob_id"), BLOB.c.state == BLOB_STORED)
)
_READ_SLICE = "SELECT substr(body, ?, ?) FROM blob_chunk WHERE id = ?"


@dataclass(frozen=True, slots=True)
class _Batch:
    blob_id: int | None
    octets: int
    first: int
    chunks: tuple[bytes, ...]


class Blobs:
    """Reading and staging of bodies."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def stage(self, source: Source, octets: int) -> StagedBlob:
        """Write a body before the transaction that gives it an entry, 4 MB a commit.

        Args:
            source: the body; a file is read off the event loop, from where it stands.
            octets: its announced size.

        Raises:
            BlobSizeError: it is not of that size; what was written is dropped.
        """
        pieces = _chunks(_pieces(source))
        blob_id: int | None = None
        chunk = written = 0
        try:
            while written <= octets:
                batch = tuple(await asyncio.to_thread(_take, pieces))
                if blob_id is not None and not batch:
                    break
                size = sum(map(len, batch))
                value = _Batch(blob_id, octets, chunk, batch)
                blob_id = await self._database.write(_stage, value, octets=size)
                chunk += len(batch)
                written += size
        except BaseException:
            # What cannot be dropped here any more is dropped at the next start.
            if blob_id is not None:
                await self._database.write(_drop_staged, blob_id)
            raise
        if written != octets or blob_id is None:
            if blob_id is not None:
                await self.discard(StagedBlob(blob_id, octets))
            raise BlobSizeError
        return StagedBlob(blob_id, octets)

    async def discard(self, staged: StagedBlob) -> None:
        """Drop a staged body that no delivery took; nothing happens to one that was taken."""
        await self._database.write(_drop_staged, staged.blob_id)
        await self.reap()

    async def octets(self, blob_id: int) -> int:
        """Give a body's size.

        Raises:
            NoSuchBlobError: it was expunged.
        """
        rows = await self._database.read(_OCTETS.on, {"blob_id": blob_id})
        if not rows:
            raise NoSuchBlobError
        return int(rows[0][0])

    async def read(self, blob_id: int, start: int, length: int) -> bytes:
        """Give ``length`` octets of a body from ``start``, fewer at its end.

        Raises:
            NoSuchBlobError: it was expunged.
        """
        return (await self.read_many([(blob_id, start, length)]))[0]

    async def read_many(self, slices: Sequence[tuple[int, int, int]]) -> list[bytes]:
        """Give several (blob id, start, length) slices, as of one moment.

        Raises:
            NoSuchBlobError: one of the bodies was expunged.
        """
        return await self._database.read(_read_slices, slices)

    async def reap(self) -> None:
        """Delete the chunks of dead bodies, 4 MB a commit, until none is left."""
        while await self._database.write(reap, BATCH_CHUNKS):
            pass

    async def sweep(self) -> None:
        """Drop every staged body: at start, before anything is accepted, none is wanted."""
        await self._database.write(_drop_all_staged, None)
        await self.reap()


def _read_slices(
    connection: sqlite3.Connection, slices: Sequence[tuple[int, int, int]]
) -> list[bytes]:
    """Read on a reader's thread, in one snapshot."""
    connection.execute("BEGIN")
    return [_read_slice(connection, *slice_) for slice_ in slices]


def _read_slice(connection: sqlite3.Connection, blob_id: int, start: int, length: int) -> bytes:
    base = blob_id * CHUNKS_PER_BLOB
    pieces: list[bytes] = []
    while length > 0 or not pieces:
        number, skip = divmod(start, CHUNK_OCTETS)
        room = min(length, CHUNK_OCTETS - skip)
        row = connection.execute(_READ_SLICE, (skip + 1, room, base + number)).fetchone()
        if row is None:
            break
        pieces.append(row[0])
        start += room
        length -= room
    if not pieces and not _OCTETS.on(connection, {"blob_id": blob_id}):
        raise NoSuchBlobError
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _pieces(source: Source) -> Iterator[bytes]:
    if isinstance(source, bytes | bytearray | memoryview):
        yield bytes(source)
    elif hasattr(source, "read"):
        while piece := source.read(CHUNK_OCTETS):
            yield piece
    else:
        yield from source


def _chunks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    kept: list[bytes] = []
    size = 0
    for piece in pieces:
        kept.append(piece)
        size += len(piece)
        if size < CHUNK_OCTETS:
            continue
        whole = b"".join(kept)
        full = size - size % CHUNK_OCTETS
        yield from (whole[at : at + CHUNK_OCTETS] for at in range(0, full, CHUNK_OCTETS))
        kept = [whole[full:]]
        size -= full
    if size:
        yield b"".join(kept)


def _take(pieces: Iterator[bytes]) -> list[bytes]:
    return list(islice(pieces, BATCH_CHUNKS))


# What follows runs on the writer's thread, inside its transaction.


def put_blob(
    connection: sqlite3.Connection, body: bytes | StagedBlob, index: MessageIndex
) -> tuple[int, int]:
    """Store a body with its index.

    Returns:
        Its id and size.

    Raises:
        NoSuchBlobError: the staged body was swept or taken already.
    """
    if isinstance(body, StagedBlob):
        blob_id, octets = body.blob_id, body.octets
        if connection.execute(_SETTLE_BLOB, {"id": blob_id}).rowcount != 1:
            raise NoSuchBlobError
    else:
        octets = len(body)
        blob_id = _new_blob(connection, octets, BLOB_STORED)
        if octets <= CHUNK_OCTETS:
            connection.execute(_INSERT_CHUNK, (blob_id * CHUNKS_PER_BLOB, body))
        else:
            _put_chunks(connection, blob_id, 0, tuple(_chunks(iter((body,)))))
    connection.execute(
        _INSERT_INDEX,
        {
            "blob_id": blob_id,
            "header_octets": index.header_octets,
            "date_at": index.date_at,
            "has_package": int(index.has_package),
            "message_id": index.message_id,
            "subject": index.subject,
            "from_": index.from_,
            "to": index.to,
            "envelope": index.envelope,
            "body": index.body,
            "bodystructure": index.bodystructure,
            "outline": index.outline,
        },
    )
    return blob_id, octets


def drop_body(connection: sqlite3.Connection, body: bytes | StagedBlob) -> None:
    """Give up a body that was not needed; octets in memory cost nothing."""
    if isinstance(body, StagedBlob):
        _drop_staged(connection, body.blob_id)


def bury(connection: sqlite3.Connection, blob_ids: Iterable[int]) -> bool:
    """Mark as dead those of these bodies that nothing refers to, and delete a first 4 MB.

    Returns:
        True when more is left to ``reap``.
    """
    ids = sorted(set(blob_ids))
    if not ids:
        return False
    connection.execute(_MARK_DEAD, {"ids": json.dumps(ids)})
    return reap(connection, BATCH_CHUNKS)


def reap(connection: sqlite3.Connection, room: int) -> bool:
    """Delete up to ``room`` chunks of dead bodies, the last ones first.

    Returns:
        True when dead bodies are left.
    """
    while (row := connection.execute(_DEAD).fetchone()) is not None:
        if room <= 0:
            return True
        blob_id = row[0]
        end = (blob_id + 1) * CHUNKS_PER_BLOB
        found = connection.execute(
            _LAST_CHUNKS, {"first": blob_id * CHUNKS_PER_BLOB, "end": end, "room": room}
        ).fetchall()
        if found:
            connection.execute(_DELETE_CHUNKS, {"first": found[-1][0], "end": end})
        if len(found) < room or found[-1][0] == blob_id * CHUNKS_PER_BLOB:
            connection.execute(_DELETE_INDEX, {"id": blob_id})
            connection.execute(_DELETE_BLOB, {"id": blob_id})
        room -= max(1, len(found))
    return False


def _stage(connection: sqlite3.Connection, batch: _Batch) -> int:
    blob_id = batch.blob_id
    if blob_id is None:
        blob_id = _new_blob(connection, batch.octets, BLOB_OPEN)
    _put_chunks(connection, blob_id, batch.first, batch.chunks)
    return blob_id


def _new_blob(connection: sqlite3.Connection, octets: int, state: int) -> int:
    blob_id = connection.execute(_INSERT_BLOB, {"octets": octets, "state": state}).lastrowid
    if blob_id is None:
        raise NoSuchBlobError
    return blob_id


def _put_chunks(
    connection: sqlite3.Connection, blob_id: int, first: int, chunks: tuple[bytes, ...]
) -> None:
    base = blob_id * CHUNKS_PER_BLOB + first
    connection.executemany(
        _INSERT_CHUNK, [(base + number, chunk) for number, chunk in enumerate(chunks)]
    )


def _drop_staged(connection: sqlite3.Connection, blob_id: int) -> None:
    connection.execute(_DROP_STAGED, {"id": blob_id})


def _drop_all_staged(connection: sqlite3.Connection, _nothing: None) -> None:
    connection.execute(_DROP_ALL_STAGED)
