"""Folders of a mailbox: names, UIDVALIDITY, counts.

Invariants: INBOX exists in every mailbox and is named in any case; a UIDVALIDITY is never used
twice in a mailbox; the folders that a mailbox opens with are neither deleted nor renamed (but
INBOX gives its messages away, RFC 9051 §6.3.6), because deliveries and the webmail need them.
"""

import sqlite3
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, func, select

from directory import trail
from directory.audit_event import AuditEvent
from directory.database import Database
from mailserver.store.blobs import Blobs, bury
from mailserver.store.changes import Commits
from mailserver.store.errors import (
    CannotError,
    FolderExistsError,
    NoSuchFolderError,
    NoSuchMailboxError,
)
from mailserver.store.model import INBOX, SPECIAL_FOLDERS, Flag, Folder, FolderStatus
from mailserver.store.rows import close_folders, fetch_all, fetch_first, open_folder
from mailserver.store.schema import ENTRY, FOLDER, TRAIL

MAX_NAME_OCTETS = 1000
"""Length of a folder's name in UTF-8; clients are known to send up to a few hundred."""

_COLUMNS = (
    FOLDER.c.id,
    FOLDER.c.mailbox_id,
    FOLDER.c.name,
    FOLDER.c.uidvalidity,
    FOLDER.c.uidnext,
    FOLDER.c.highestmodseq,
    FOLDER.c.special_use,
    FOLDER.c.subscribed,
)
_LIST = (
    select(*_COLUMNS).where(FOLDER.c.mailbox_id == bindparam("mailbox_id")).order_by(FOLDER.c.id)
)
_GET = select(*_COLUMNS).where(
    FOLDER.c.mailbox_id == bindparam("mailbox_id"), FOLDER.c.name == bindparam("name")
)
_BY_ID = select(*_COLUMNS).where(FOLDER.c.id == bindparam("folder_id"))
_SEEN = ENTRY.c.flags.op("&")(int(Flag.SEEN))
_DELETED = ENTRY.c.flags.op("&")(int(Flag.DELETED))
_STATUS = (
    select(
        func.count(ENTRY.c.id),
        func.count(ENTRY.c.id).filter(_SEEN == 0),
        func.count(ENTRY.c.id).filter(_DELETED != 0),
        func.coalesce(func.sum(ENTRY.c.octets), 0),
        FOLDER.c.uidnext,
        FOLDER.c.uidvalidity,
        FOLDER.c.highestmodseq,
        func.coalesce(func.sum(ENTRY.c.octets).filter(_DELETED != 0), 0),
    )
    .select_from(FOLDER.outerjoin(ENTRY, (ENTRY.c.folder_id == FOLDER.c.id) & (ENTRY.c.uid > 0)))
    .where(FOLDER.c.id == bindparam("folder_id"))
    .group_by(FOLDER.c.id)
)

_TAKE_UIDVALIDITY = (
    "UPDATE mailbox SET next_uidvalidity = next_uidvalidity + 1 WHERE id = :mailbox_id"
    " RETURNING next_uidvalidity - 1"
)
_INSERT = (
    "INSERT INTO folder (mailbox_id, name, uidvalidity, uidnext, highestmodseq, special_use,"
    " subscribed) VALUES (:mailbox_id, :name, :uidvalidity, 1, 1, :special_use, :subscribed)"
)
_OPENED_WITH = frozenset(name for name, _use in SPECIAL_FOLDERS)
_INHERIT = (
    "INSERT INTO folder_share (folder_id, person_id, rights) SELECT :id, s.person_id, s.rights"
    " FROM folder_share AS s JOIN folder AS f ON f.id = s.folder_id"
    " WHERE f.mailbox_id = :mailbox_id AND f.name = :above"
)
"""A new folder is no more open than the one above it. Source: RFC 4314 §3."""
_FIND = "SELECT id FROM folder WHERE mailbox_id = :mailbox_id AND name = :name"
_BODIES = "SELECT DISTINCT blob_id FROM entry WHERE folder_id = :id"
_EMPTY = (
    "DELETE FROM entry WHERE folder_id = :id",
    "DELETE FROM expunged WHERE folder_id = :id",
    "DELETE FROM folder_share WHERE folder_id = :id",
    "DELETE FROM folder_subscription WHERE folder_id = :id",
    "DELETE FROM folder WHERE id = :id",
)
_RENAME = (
    "UPDATE folder SET name = :to || substr(name, length(:name) + 1)"
    " WHERE mailbox_id = :mailbox_id"
    " AND (name = :name OR substr(name, 1, length(:name) + 1) = :name || '/')"
)
_SUBSCRIBE = (
    "UPDATE folder SET subscribed = :subscribed WHERE mailbox_id = :mailbox_id AND name = :name"
)
_VISIBLE = "SELECT id, uid FROM entry WHERE folder_id = :id AND uid > 0 ORDER BY uid"
_MOVE = "UPDATE entry SET folder_id = :folder_id, uid = :uid, modseq = :modseq WHERE id = :id"
_LOG = "INSERT INTO expunged (folder_id, modseq, uid) VALUES (?, ?, ?)"


def canonical_name(name: str) -> str:
    """Give the one form of a folder's name: NFC, INBOX in capitals, also as a first level.

    Raises:
        CannotError: it cannot be a name: empty, an empty level, a control character, too long.

    Source: RFC 9051 §5.1, RFC 9051 §6.3.4.
    """
    text = unicodedata.normalize("NFC", name)
    levels = text.split("/")
    if not all(levels) or len(text.encode("utf-8", "replace")) > MAX_NAME_OCTETS:
        raise CannotError
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in text):
        raise CannotError
    if levels[0].upper() == INBOX:
        levels[0] = INBOX
    return "/".join(levels)


@dataclass(frozen=True, slots=True)
class _Named:
    mailbox_id: int
    name: str


@dataclass(frozen=True, slots=True)
class _Creating:
    mailbox_id: int
    name: str
    special_use: str | None


@dataclass(frozen=True, slots=True)
class _Renaming:
    mailbox_id: int
    name: str
    to: str


@dataclass(frozen=True, slots=True)
class _Subscribing:
    mailbox_id: int
    name: str
    subscribed: int


class Folders:
    """The folders of every mailbox. All methods are coroutines; names are unicode."""

    def __init__(self, database: Database, commits: Commits, blobs: Blobs) -> None:
        self._database = database
        self._commits = commits
        self._blobs = blobs

    async def list(self, mailbox_id: int) -> list[Folder]:
        """Give the folders of a mailbox, the oldest first."""
        rows = await fetch_all(self._database, _LIST, {"mailbox_id": mailbox_id})
        return [_folder(row) for row in rows]

    async def get(self, mailbox_id: int, name: str) -> Folder | None:
        """Give a folder by its name, None when there is none; INBOX in any case."""
        try:
            wanted = canonical_name(name)
        except CannotError:
            return None
        row = await fetch_first(self._database, _GET, {"mailbox_id": mailbox_id, "name": wanted})
        return None if row is None else _folder(row)

    async def by_id(self, folder_id: int) -> Folder | None:
        """Give a folder by its id, None when it was deleted."""
        row = await fetch_first(self._database, _BY_ID, {"folder_id": folder_id})
        return None if row is None else _folder(row)

    async def status(self, folder_id: int) -> FolderStatus:
        """Count a folder, in one statement. Source: RFC 9051 §6.3.11.

        Raises:
            NoSuchFolderError: it was deleted.
        """
        row = await fetch_first(self._database, _STATUS, {"folder_id": folder_id})
        if row is None:
            raise NoSuchFolderError
        return FolderStatus(*row)

    async def create(self, mailbox_id: int, name: str, special_use: str | None = None) -> Folder:
        """Make an empty folder. Source: RFC 9051 §6.3.4, RFC 6154 §3.

        Raises:
            FolderExistsError: the name is taken.
            CannotError: it cannot be a name.
            NoSuchMailboxError: there is no such mailbox.
        """
        value = _Creating(mailbox_id, canonical_name(name), special_use)
        await self._commits.run(_create, value, lambda _made: (mailbox_id,))
        return await self._found(_Named(mailbox_id, value.name))

    async def delete(self, mailbox_id: int, name: str, event: AuditEvent | None = None) -> None:
        """Delete a folder with its messages; those below it stay. Source: RFC 9051 §6.3.5.

        Args:
            mailbox_id: whose.
            name: of the folder.
            event: of who did so, in a mailbox that several share.

        Raises:
            NoSuchFolderError: there is none of this name.
            CannotError: INBOX or a special-use folder.
        """
        value = (_Named(mailbox_id, canonical_name(name)), event)
        if await self._commits.run(_delete, value, lambda _more: (mailbox_id,)):
            await self._blobs.reap()

    async def rename(self, mailbox_id: int, name: str, to: str) -> Folder:
        """Rename a folder and those below it; INBOX gives its messages to a new folder.

        Raises:
            NoSuchFolderError: there is none of this name.
            FolderExistsError: the new name is taken.
            CannotError: a special-use folder, or a name that cannot be one.

        Source: RFC 9051 §6.3.6.
        """
        value = _Renaming(mailbox_id, canonical_name(name), canonical_name(to))
        await self._commits.run(_rename, value, lambda _nothing: (mailbox_id,))
        return await self._found(_Named(mailbox_id, value.to))

    async def subscribe(self, mailbox_id: int, name: str, *, subscribed: bool = True) -> None:
        """Note whether clients list the folder. Source: RFC 9051 §6.3.7.

        Raises:
            NoSuchFolderError: there is none of this name.
        """
        value = _Subscribing(mailbox_id, canonical_name(name), int(subscribed))
        await self._commits.run(_subscribe, value, lambda _nothing: (mailbox_id,))

    async def unsubscribe(self, mailbox_id: int, name: str) -> None:
        """Note that clients do not list the folder. Source: RFC 9051 §6.3.8.

        Raises:
            NoSuchFolderError: there is none of this name.
        """
        await self.subscribe(mailbox_id, name, subscribed=False)

    async def _found(self, named: _Named) -> Folder:
        folder = await self.get(named.mailbox_id, named.name)
        if folder is None:
            raise NoSuchFolderError
        return folder


def _folder(row: Sequence[Any]) -> Folder:
    return Folder(*[*row[:7], bool(row[7])])


# What follows runs on the writer's thread, inside its transaction.


def insert_folder(
    connection: sqlite3.Connection, mailbox_id: int, name: str, special_use: str | None
) -> int:
    """Make a folder under a UIDVALIDITY of its own and give its id.

    Raises:
        FolderExistsError: the name is taken.
        NoSuchMailboxError: there is no such mailbox.
    """
    row = connection.execute(_TAKE_UIDVALIDITY, {"mailbox_id": mailbox_id}).fetchone()
    if row is None:
        raise NoSuchMailboxError
    value = {
        "mailbox_id": mailbox_id,
        "name": name,
        "uidvalidity": row[0],
        "special_use": special_use,
        "subscribed": int(name == INBOX or special_use is not None),
    }
    try:
        folder_id = connection.execute(_INSERT, value).lastrowid
    except sqlite3.IntegrityError as error:
        raise FolderExistsError from error
    if folder_id is None:
        raise NoSuchFolderError
    return folder_id


def _create(connection: sqlite3.Connection, value: _Creating) -> int:
    folder_id = insert_folder(connection, value.mailbox_id, value.name, value.special_use)
    above, slash, _ = value.name.rpartition("/")
    if slash:
        connection.execute(
            _INHERIT, {"id": folder_id, "mailbox_id": value.mailbox_id, "above": above}
        )
    return folder_id


def _find(connection: sqlite3.Connection, mailbox_id: int, name: str) -> sqlite3.Row:
    row = connection.execute(_FIND, {"mailbox_id": mailbox_id, "name": name}).fetchone()
    if row is None:
        raise NoSuchFolderError
    found: sqlite3.Row = row
    return found


def _delete(connection: sqlite3.Connection, deleting: tuple[_Named, AuditEvent | None]) -> bool:
    value, event = deleting
    if value.name in _OPENED_WITH:
        raise CannotError
    folder = _find(connection, value.mailbox_id, value.name)
    bodies = [row[0] for row in connection.execute(_BODIES, {"id": folder["id"]})]
    for statement in _EMPTY:
        connection.execute(statement, {"id": folder["id"]})
    if event is not None:
        trail.append(connection, TRAIL, (event,))
    return bury(connection, bodies)


def _rename(connection: sqlite3.Connection, value: _Renaming) -> None:
    parameters = {"mailbox_id": value.mailbox_id, "name": value.name, "to": value.to}
    folder = _find(connection, value.mailbox_id, value.name)
    taken = {"mailbox_id": value.mailbox_id, "name": value.to}
    if connection.execute(_FIND, taken).fetchone() is not None:
        raise FolderExistsError
    if value.name == INBOX:
        _empty_inbox(connection, folder["id"], value)
        return
    # A folder cannot go below itself, nor one that the mailbox opened with away from its name.
    if value.to.startswith(value.name + "/") or value.name in _OPENED_WITH:
        raise CannotError
    try:
        connection.execute(_RENAME, parameters)
    except sqlite3.IntegrityError as error:
        raise FolderExistsError from error


def _empty_inbox(connection: sqlite3.Connection, inbox_id: int, value: _Renaming) -> None:
    target_id = insert_folder(connection, value.mailbox_id, value.to, None)
    source, target = open_folder(connection, inbox_id), open_folder(connection, target_id)
    rows = connection.execute(_VISIBLE, {"id": inbox_id}).fetchall()
    if not rows:
        return
    left, modseq = source.take_modseq(), target.take_modseq()
    connection.executemany(_LOG, [(inbox_id, left, row["uid"]) for row in rows])
    connection.executemany(
        _MOVE,
        [
            {"folder_id": target_id, "uid": target.take_uid(), "modseq": modseq, "id": row["id"]}
            for row in rows
        ],
    )
    close_folders(connection, (source, target))


def _subscribe(connection: sqlite3.Connection, value: _Subscribing) -> None:
    done = connection.execute(
        _SUBSCRIBE,
        {
            "mailbox_id": value.mailbox_id,
            "name": value.name,
            "subscribed": value.subscribed,
        },
    )
    if done.rowcount != 1:
        raise NoSuchFolderError
