"""The transactions of APPEND, COPY, MOVE and EXPUNGE.

Invariants: a copy keeps the body, the prefix and the receipt, so that the outcome of the filing
reaches it too; what leaves a folder is written into ``expunged`` under the modseq of its leaving
(RFC 7162 §3.2.10); a body goes with its last entry.
"""

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from mailserver.store.blobs import bury, put_blob
from mailserver.store.deliveries import INSERT_ENTRY
from mailserver.store.errors import NoSuchEntryError, NoSuchFolderError, OverQuotaError
from mailserver.store.model import AppendUid, Copied, Flag, NewMessage, Quota, to_micros
from mailserver.store.rows import (
    OpenFolder,
    as_list,
    client_keywords,
    close_folders,
    encode_keywords,
    open_folder,
)

_NAMED = (
    "SELECT id, uid, blob_id, octets FROM entry WHERE folder_id = :folder_id"
    " AND uid IN (SELECT value FROM json_each(:uids)) ORDER BY uid"
)
_DELETED = (
    "SELECT id, uid, blob_id FROM entry WHERE folder_id = :folder_id AND uid > 0"
    " AND flags & :deleted != 0 AND (:every OR uid IN (SELECT value FROM json_each(:uids)))"
    " ORDER BY uid"
)
_COPY = (
    "INSERT INTO entry (folder_id, uid, modseq, flags, keywords, octets, internal_at, blob_id,"
    " receipt_id, prefix, saved_at, has_package, origin_id) SELECT :folder_id, :uid, :modseq,"
    " flags, keywords, octets, internal_at, blob_id, receipt_id, prefix, :saved_at, has_package,"
    " coalesce(origin_id, id) FROM entry WHERE id = :id"
)
_MOVE = (
    "UPDATE entry SET folder_id = :folder_id, uid = :uid, modseq = :modseq, saved_at = :saved_at"
    " WHERE id = :id"
)
_LONG_LOGS = "SELECT folder_id, count(*) FROM expunged GROUP BY folder_id HAVING count(*) > :keep"
_LOG_NTH = (
    "SELECT modseq FROM expunged WHERE folder_id = :id"
    " ORDER BY modseq DESC, uid DESC LIMIT 1 OFFSET :keep"
)
_CUT_LOG = "DELETE FROM expunged WHERE folder_id = :id AND modseq <= :floor"
_RAISE_FLOOR = "UPDATE folder SET expunged_floor = :floor WHERE id = :id"
_USAGE = "SELECT octets, messages FROM mailbox_usage WHERE mailbox_id = ?"
_USE = (
    "INSERT INTO mailbox_usage (mailbox_id, octets, messages) VALUES (?, ?, ?)"
    " ON CONFLICT (mailbox_id) DO UPDATE"
    " SET octets = octets + excluded.octets, messages = messages + excluded.messages"
)
_LOG = "INSERT INTO expunged (folder_id, modseq, uid) VALUES (?, ?, ?)"
_DELETE = "DELETE FROM entry WHERE id IN (SELECT value FROM json_each(:ids))"


@dataclass(frozen=True, slots=True)
class Transfer:
    """Entries to copy or move within one mailbox, at an instant."""

    folder_id: int
    uids: tuple[int, ...]
    target_folder_id: int
    at: datetime
    quota: Quota | None = None


@dataclass(frozen=True, slots=True)
class Expunge:
    """Entries to remove: those with the Deleted flag, among ``uids`` when it is given."""

    folder_id: int
    uids: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Moved:
    """What a transaction of this module made, and the mailbox to wake."""

    copied: Copied
    mailbox_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Replacement:
    """A message that takes the place of an entry, maybe in another folder."""

    folder_id: int
    uid: int
    message: NewMessage


@dataclass(frozen=True, slots=True)
class Appended:
    """The new UIDs, in the order of the messages, and the mailboxes to wake."""

    uids: tuple[AppendUid, ...]
    mailbox_ids: tuple[int, ...]
    more: bool = False


@dataclass(frozen=True, slots=True)
class Expunged:
    """What left; ``more`` says that dead bodies are left to reap."""

    uids: list[int]
    mailbox_ids: tuple[int, ...]
    more: bool


def append(connection: sqlite3.Connection, messages: tuple[NewMessage, ...]) -> Appended:
    """Add a client's own messages, all or none of them.

    Raises:
        NoSuchFolderError: it was deleted.
        NoSuchBlobError: the staged body is gone.
        OverQuotaError: the mailbox would hold more than it may.
    """
    made = [_append(connection, message) for message in messages]
    return Appended(tuple(uid for uid, _ in made), tuple({mailbox_id for _, mailbox_id in made}))


def replace(connection: sqlite3.Connection, value: Replacement) -> Appended:
    """Add a message and remove the one that it replaces; both or neither.

    Raises:
        NoSuchEntryError: there is nothing to replace.
        NoSuchFolderError, NoSuchBlobError, OverQuotaError: as ``append``.

    Source: RFC 8508 §3.
    """
    source = open_folder(connection, value.folder_id)
    names = {"folder_id": source.id, "uids": as_list((value.uid,))}
    rows = connection.execute(_NAMED, names).fetchall()
    if not rows:
        raise NoSuchEntryError
    more = _remove(connection, source, rows)
    close_folders(connection, (source,))
    uid, mailbox_id = _append(connection, value.message)
    return Appended((uid,), tuple({mailbox_id, source.mailbox_id}), more)


def _append(connection: sqlite3.Connection, message: NewMessage) -> tuple[AppendUid, int]:
    folder = open_folder(connection, message.folder_id)
    blob_id, octets = put_blob(connection, message.raw, message.index)
    _within(connection, message.quota, folder.mailbox_id, (octets, 1))
    uid = folder.take_uid()
    connection.execute(
        INSERT_ENTRY,
        {
            "folder_id": folder.id,
            "uid": uid,
            "modseq": folder.take_modseq(),
            "flags": int(message.flags),
            "keywords": encode_keywords(client_keywords(message.keywords)),
            "octets": octets,
            "internal_at": to_micros(message.internal_at),
            "blob_id": blob_id,
            "receipt_id": None,
            "prefix": b"",
            "saved_at": None if message.saved_at is None else to_micros(message.saved_at),
        },
    )
    close_folders(connection, (folder,))
    return AppendUid(folder.uidvalidity, uid), folder.mailbox_id


def copy(connection: sqlite3.Connection, transfer: Transfer) -> Moved:
    """Copy entries in UID order.

    Raises:
        NoSuchFolderError: one of the folders is gone, or the target is of another structure.
        OverQuotaError: the mailbox would hold more than it may.
    """
    source, target, rows = _open(connection, transfer)
    added = (sum(row["octets"] for row in rows), len(rows))
    _within(connection, transfer.quota, target.mailbox_id, added)
    copies = _taken(target, rows, transfer.at) if rows else []
    if copies:
        connection.executemany(_COPY, copies)
        close_folders(connection, (target,))
    return _moved((source, target), rows, copies)


def move(connection: sqlite3.Connection, transfer: Transfer) -> Moved:
    """Move entries in UID order; each keeps its id.

    Raises:
        NoSuchFolderError: one of the folders is gone, or the target is of another structure.

    Source: RFC 6851 §3.
    """
    source, target, rows = _open(connection, transfer)
    if not rows:
        return _moved((source, target), (), [])
    left = source.take_modseq()
    moves = _taken(target, rows, transfer.at)
    connection.executemany(_LOG, [(source.id, left, row["uid"]) for row in rows])
    connection.executemany(_MOVE, moves)
    if source.mailbox_id != target.mailbox_id:
        # The triggers that keep the usage see entries come and go, not change their mailbox.
        octets = sum(row["octets"] for row in rows)
        connection.execute(_USE, (source.mailbox_id, -octets, -len(rows)))
        connection.execute(_USE, (target.mailbox_id, octets, len(rows)))
    close_folders(connection, (source, target))
    return _moved((source, target), rows, moves)


def expunge(connection: sqlite3.Connection, value: Expunge) -> Expunged:
    """Remove the entries that bear the Deleted flag, and the bodies that nothing keeps.

    Raises:
        NoSuchFolderError: it was deleted.

    Source: RFC 9051 §6.4.3, RFC 9051 §6.4.9.
    """
    folder = open_folder(connection, value.folder_id)
    rows = connection.execute(
        _DELETED,
        {
            "folder_id": folder.id,
            "deleted": int(Flag.DELETED),
            "every": value.uids is None,
            "uids": as_list(value.uids or ()),
        },
    ).fetchall()
    if not rows:
        return Expunged([], (), more=False)
    more = _remove(connection, folder, rows)
    close_folders(connection, (folder,))
    return Expunged([row["uid"] for row in rows], (folder.mailbox_id,), more=more)


def _remove(connection: sqlite3.Connection, folder: OpenFolder, rows: list[sqlite3.Row]) -> bool:
    """Take entries out of a folder; says whether dead bodies are left to reap."""
    modseq = folder.take_modseq()
    connection.executemany(_LOG, [(folder.id, modseq, row["uid"]) for row in rows])
    connection.execute(_DELETE, {"ids": as_list(row["id"] for row in rows)})
    return bury(connection, (row["blob_id"] for row in rows))


def _within(
    connection: sqlite3.Connection, quota: Quota | None, mailbox_id: int, added: tuple[int, int]
) -> None:
    if quota is None:
        return
    row = connection.execute(_USAGE, (mailbox_id,)).fetchone() or (0, 0)
    octets, messages = row[0] + added[0], row[1] + added[1]
    if octets > quota.octets or messages > quota.messages:
        raise OverQuotaError


def forget_expunged(connection: sqlite3.Connection, keep: int) -> int:
    """Keep the newest ``keep`` expunges of each folder, whole modseqs only.

    Returns:
        How many were forgotten.
    """
    forgotten = 0
    for folder_id, _count in connection.execute(_LONG_LOGS, {"keep": keep}).fetchall():
        floor = connection.execute(_LOG_NTH, {"id": folder_id, "keep": keep}).fetchone()[0]
        values = {"id": folder_id, "floor": floor}
        forgotten += connection.execute(_CUT_LOG, values).rowcount
        connection.execute(_RAISE_FLOOR, values)
    return forgotten


def _open(
    connection: sqlite3.Connection, transfer: Transfer
) -> tuple[OpenFolder, OpenFolder, list[sqlite3.Row]]:
    source = open_folder(connection, transfer.folder_id)
    target = source
    if transfer.target_folder_id != transfer.folder_id:
        target = open_folder(connection, transfer.target_folder_id)
    if source.structure_id != target.structure_id:
        raise NoSuchFolderError
    rows = connection.execute(
        _NAMED, {"folder_id": source.id, "uids": as_list(transfer.uids)}
    ).fetchall()
    return source, target, rows


def _taken(target: OpenFolder, rows: list[sqlite3.Row], at: datetime) -> list[dict[str, int]]:
    """Give each row its place in the target."""
    modseq, saved_at = target.take_modseq(), to_micros(at)
    return [
        {
            "id": row["id"],
            "folder_id": target.id,
            "uid": target.take_uid(),
            "modseq": modseq,
            "saved_at": saved_at,
        }
        for row in rows
    ]


def _moved(
    folders: tuple[OpenFolder, OpenFolder],
    rows: list[sqlite3.Row] | tuple[()],
    made: list[dict[str, int]],
) -> Moved:
    source, target = folders
    return Moved(
        Copied(
            target.uidvalidity,
            tuple(row["uid"] for row in rows),
            tuple(row["uid"] for row in made),
        ),
        tuple({source.mailbox_id, target.mailbox_id}),
    )
