"""Mailboxes that several people work in, and who may write as whom.

Invariants: only a structure's ORG and CAB mailboxes are shared, only with the holders of PER
mailboxes of the same structure, and patients' never; a change is one transaction with its trail
event, and wakes every session of the mailbox, so that what was taken away is gone at once; a
folder's own word on a person replaces the mailbox's. Source: RFC 4314 §3, RULES §13.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Select, bindparam, select

from directory import trail
from directory.audit_event import AuditEvent
from directory.database import Database
from directory.model import MailboxType
from mailserver.store.changes import Commits
from mailserver.store.devices import MAILBOX_COLUMNS, Revoked, mailbox_of
from mailserver.store.errors import NoSuchFolderError, NotSharableError
from mailserver.store.model import INBOX, Mailbox, to_micros
from mailserver.store.rights import NONE, Rights, RightsMode, changed, encode_rights
from mailserver.store.rows import fetch_all
from mailserver.store.schema import (
    FOLDER,
    FOLDER_SHARE,
    FOLDER_SUBSCRIPTION,
    MAILBOX,
    MAILBOX_SHARE,
    SEND_GRANT,
    TRAIL,
)

SHARED_TYPES: Final = frozenset({MailboxType.ORG, MailboxType.CAB})
"""Mailboxes that belong to a team (BAL ORG and CAB)."""
ShutOut = Callable[[Revoked | None], tuple[int, ...]]
_MAX_CACHED: Final = 20_000

_OPEN = MAILBOX.c.closed_at.is_(None)
"""A closed mailbox is nobody's: what was granted in it counts again when it is reopened."""
_MINE = (
    select(MAILBOX_SHARE.c.mailbox_id, MAILBOX_SHARE.c.rights)
    .select_from(MAILBOX_SHARE.join(MAILBOX, MAILBOX.c.id == MAILBOX_SHARE.c.mailbox_id))
    .where(MAILBOX_SHARE.c.person_id == bindparam("person_id"), _OPEN)
)
_MY_FOLDERS = (
    select(FOLDER_SHARE.c.folder_id, FOLDER.c.mailbox_id, FOLDER.c.name, FOLDER_SHARE.c.rights)
    .select_from(
        FOLDER_SHARE.join(FOLDER, FOLDER.c.id == FOLDER_SHARE.c.folder_id).join(
            MAILBOX, MAILBOX.c.id == FOLDER.c.mailbox_id
        )
    )
    .where(FOLDER_SHARE.c.person_id == bindparam("person_id"), _OPEN)
)
_MY_PRINCIPALS = (
    select(SEND_GRANT.c.mailbox_id)
    .select_from(SEND_GRANT.join(MAILBOX, MAILBOX.c.id == SEND_GRANT.c.mailbox_id))
    .where(SEND_GRANT.c.person_id == bindparam("person_id"), _OPEN)
)
_MY_SUBSCRIPTIONS = select(FOLDER_SUBSCRIPTION.c.folder_id).where(
    FOLDER_SUBSCRIPTION.c.person_id == bindparam("person_id")
)
_MEMBERS = (
    select(*MAILBOX_COLUMNS, MAILBOX_SHARE.c.rights)
    .select_from(MAILBOX_SHARE.join(MAILBOX, MAILBOX.c.id == MAILBOX_SHARE.c.person_id))
    .where(MAILBOX_SHARE.c.mailbox_id == bindparam("mailbox_id"))
    .order_by(MAILBOX.c.address)
)
_WORDS = (
    select(*MAILBOX_COLUMNS, FOLDER_SHARE.c.rights, FOLDER.c.name)
    .select_from(
        FOLDER_SHARE.join(FOLDER, FOLDER.c.id == FOLDER_SHARE.c.folder_id).join(
            MAILBOX, MAILBOX.c.id == FOLDER_SHARE.c.person_id
        )
    )
    .where(FOLDER.c.mailbox_id == bindparam("mailbox_id"))
    .order_by(FOLDER.c.id, MAILBOX.c.address)
)
_DELEGATES = (
    select(*MAILBOX_COLUMNS)
    .select_from(SEND_GRANT.join(MAILBOX, MAILBOX.c.id == SEND_GRANT.c.person_id))
    .where(SEND_GRANT.c.mailbox_id == bindparam("mailbox_id"))
    .order_by(MAILBOX.c.address)
)

_KIND = "SELECT type, structure_id FROM mailbox WHERE id = ?"
_SHARE = (
    "INSERT INTO mailbox_share (mailbox_id, person_id, rights, created_at)"
    " VALUES (:mailbox_id, :person_id, :rights, :at)"
    " ON CONFLICT (mailbox_id, person_id) DO UPDATE SET rights = excluded.rights"
)
_UNSHARE = (
    "DELETE FROM mailbox_share WHERE mailbox_id = :mailbox_id AND person_id = :person_id",
    (
        "DELETE FROM folder_share WHERE person_id = :person_id AND folder_id IN"
        " (SELECT id FROM folder WHERE mailbox_id = :mailbox_id)"
    ),
    (
        "DELETE FROM folder_subscription WHERE person_id = :person_id AND folder_id IN"
        " (SELECT id FROM folder WHERE mailbox_id = :mailbox_id)"
    ),
)
"""With the share go the person's own words on folders."""
_REVOKE = (
    "UPDATE device_password SET revoked_at = :at WHERE mailbox_id = :mailbox_id"
    " AND person_id = :person_id AND revoked_at IS NULL RETURNING id"
)
_DEFAULT = "SELECT rights FROM mailbox_share WHERE mailbox_id = ? AND person_id = ?"
_WORD = "SELECT rights FROM folder_share WHERE folder_id = ? AND person_id = ?"
_SET_WORD = (
    "INSERT INTO folder_share (folder_id, person_id, rights) VALUES (?, ?, ?)"
    " ON CONFLICT (folder_id, person_id) DO UPDATE SET rights = excluded.rights"
)
_DROP_WORD = "DELETE FROM folder_share WHERE folder_id = ? AND person_id = ?"
_HOME = "SELECT mailbox_id FROM folder WHERE id = ?"
_GRANT = (
    "INSERT INTO send_grant (mailbox_id, person_id, created_at) VALUES (?, ?, ?)"
    " ON CONFLICT (mailbox_id, person_id) DO NOTHING"
)
_WITHDRAW = "DELETE FROM send_grant WHERE mailbox_id = ? AND person_id = ?"
_SUBSCRIBE = (
    "INSERT INTO folder_subscription (folder_id, person_id) VALUES (?, ?)"
    " ON CONFLICT (folder_id, person_id) DO NOTHING"
)
_UNSUBSCRIBE = "DELETE FROM folder_subscription WHERE folder_id = ? AND person_id = ?"


@dataclass(frozen=True, slots=True)
class Grants:
    """What one person may do in the mailboxes of others.

    Attributes:
        mailboxes: rights by mailbox, in every folder that has no word of its own.
        folders: rights by folder, instead of those.
        homes: the mailbox of each of these folders.
        inboxes: those of these folders that are an INBOX.
        principals: mailboxes of others that the person may write as.
        subscribed: folders of others that the person's clients list.
    """

    mailboxes: Mapping[int, Rights]
    folders: Mapping[int, Rights]
    homes: Mapping[int, int]
    inboxes: frozenset[int]
    principals: frozenset[int]
    subscribed: frozenset[int]

    def on(self, mailbox_id: int, folder_id: int) -> Rights:
        """Give the rights on a folder of a mailbox."""
        word = self.folders.get(folder_id)
        return self.mailboxes.get(mailbox_id, NONE) if word is None else word

    @property
    def reached(self) -> frozenset[int]:
        """The mailboxes in which there is a right on anything."""
        named = {self.homes[folder] for folder, rights in self.folders.items() if rights}
        return frozenset(named | {each for each, rights in self.mailboxes.items() if rights})

    @property
    def posting(self) -> frozenset[int]:
        """The shared mailboxes whose address the person sends under: ``p`` on their INBOX."""
        words = {self.homes[folder]: self.folders[folder] for folder in self.inboxes}
        return frozenset(
            mailbox
            for mailbox in self.reached
            if "p" in words.get(mailbox, self.mailboxes.get(mailbox, NONE))
        )


NO_GRANTS: Final = Grants({}, {}, {}, frozenset(), frozenset(), frozenset())


@dataclass(frozen=True, slots=True)
class Member:
    """A person and what they may do; ``folder`` is None for the mailbox's own word."""

    person: Mailbox
    rights: Rights
    folder: str | None = None


@dataclass(frozen=True, slots=True)
class _Sharing:
    mailbox_id: int
    person_id: int
    rights: Rights
    event: AuditEvent


@dataclass(frozen=True, slots=True)
class FolderWord:
    """What SETACL or DELETEACL says of a person in a folder."""

    folder_id: int
    person_id: int
    mode: RightsMode
    rights: Rights


@dataclass(frozen=True, slots=True)
class _Wording:
    word: FolderWord
    event: AuditEvent


class Sharing:
    """Shares, delegations and others' folders. All methods are coroutines.

    Each change takes the trail event that says who made it and when.

    Args:
        database: of the site.
        commits: of the same.
        shut_out: told of the devices that went with a share; gives whose sessions to wake.
        cached: whether this process alone writes the file, so that memory can be believed.
    """

    def __init__(
        self, database: Database, commits: Commits, shut_out: ShutOut, *, cached: bool
    ) -> None:
        self._database = database
        self._commits = commits
        self._shut_out = shut_out
        self._cached = cached
        self._known: dict[int, Grants] = {}
        self._version = 0

    def forget(self) -> None:
        """Drop what memory says of every person: a share changed, or a mailbox closed."""
        self._version += 1
        self._known.clear()

    async def grants(self, person_id: int) -> Grants:
        """Give what a person may do in others' open mailboxes; from memory until a change."""
        found = self._known.get(person_id)
        if found is not None:
            return found
        version = self._version
        who = {"person_id": person_id}
        mine = await fetch_all(self._database, _MINE, who)
        folders = await fetch_all(self._database, _MY_FOLDERS, who)
        principals = await fetch_all(self._database, _MY_PRINCIPALS, who)
        subscribed = await fetch_all(self._database, _MY_SUBSCRIPTIONS, who)
        found = Grants(
            {row[0]: frozenset(row[1]) for row in mine},
            {row[0]: frozenset(row[3]) for row in folders},
            {row[0]: row[1] for row in folders},
            frozenset(row[0] for row in folders if row[2] == INBOX),
            frozenset(row[0] for row in principals),
            frozenset(row[0] for row in subscribed),
        )
        # Only what no write overtook while it was read is kept, and only by the file's owner.
        if self._cached and version == self._version:
            if len(self._known) >= _MAX_CACHED:
                self._known.clear()
            self._known[person_id] = found
        return found

    async def members(self, mailbox_id: int) -> list[Member]:
        """List who shares a mailbox, its own words first, then those of its folders."""
        own = await self._rows(_MEMBERS, mailbox_id)
        words = await self._rows(_WORDS, mailbox_id)
        columns = len(MAILBOX_COLUMNS)
        return [
            Member(mailbox_of(row[:columns]), frozenset(row[columns]), None) for row in own
        ] + [
            Member(mailbox_of(row[:columns]), frozenset(row[columns]), row[columns + 1])
            for row in words
        ]

    async def acl(self, mailbox_id: int, folder: str) -> list[tuple[Mailbox, Rights]]:
        """Give who may do anything in a folder, by its name in the mailbox.

        Source: RFC 4314 §3.3.
        """
        found: dict[int, tuple[Mailbox, Rights]] = {}
        for member in await self.members(mailbox_id):
            if member.folder in (None, folder):
                found[member.person.id] = (member.person, member.rights)
        return [(person, rights) for person, rights in found.values() if rights]

    async def share(
        self, mailbox_id: int, person_id: int, rights: Rights, event: AuditEvent
    ) -> None:
        """Let a person into a mailbox, or change what they may do there.

        Raises:
            NotSharableError: not an ORG or CAB mailbox, or nobody of its structure.
        """
        value = _Sharing(mailbox_id, person_id, rights, event)
        await self._commits.run(_share, value, self._forget)

    async def unshare(self, mailbox_id: int, person_id: int, event: AuditEvent) -> bool:
        """Take a person out of a mailbox, with the device passwords that opened it for them.

        Returns:
            False when they were not in it.
        """
        value = _Sharing(mailbox_id, person_id, NONE, event)
        return await self._commits.run(_unshare, value, self._shut_out) is not None

    async def set_word(self, word: FolderWord, event: AuditEvent) -> None:
        """Change what a person may do in one folder. Source: RFC 4314 §3.1, §3.2.

        Raises:
            NoSuchFolderError: it was deleted.
            NotSharableError: as for ``share``.
        """
        await self._commits.run(_set_word, _Wording(word, event), self._forget)

    async def delegates(self, mailbox_id: int) -> list[Mailbox]:
        """List who may write as a mailbox by delegation."""
        return [mailbox_of(row) for row in await self._rows(_DELEGATES, mailbox_id)]

    async def delegate(self, mailbox_id: int, person_id: int, event: AuditEvent) -> None:
        """Record that a person may write as a mailbox of a professional or a team.

        Raises:
            NotSharableError: not of one structure, the same one, or a patient's or application's.
        """
        value = _Sharing(mailbox_id, person_id, NONE, event)
        await self._commits.run(_delegate, value, self._forget)

    async def withdraw(self, mailbox_id: int, person_id: int, event: AuditEvent) -> bool:
        """End a delegation.

        Returns:
            False when there was none.
        """
        value = _Sharing(mailbox_id, person_id, NONE, event)
        return await self._commits.run(_withdraw, value, lambda _: self._forget(mailbox_id))

    async def subscribe(self, folder_id: int, person_id: int, *, subscribed: bool) -> None:
        """Note whether a person's clients list somebody else's folder."""
        statement = _SUBSCRIBE if subscribed else _UNSUBSCRIBE
        await self._database.write(_execute, (statement, (folder_id, person_id)))
        self._forget(0)

    async def _rows(self, statement: Select[Any], mailbox_id: int) -> Sequence[Sequence[Any]]:
        return await fetch_all(self._database, statement, {"mailbox_id": mailbox_id})

    def _forget(self, mailbox_id: int) -> tuple[int, ...]:
        """Drop what memory says, after the commit that changed it."""
        self.forget()
        return (mailbox_id,)


# What follows runs on the writer's thread, inside its transaction.


def require_sharable(connection: sqlite3.Connection, mailbox_id: int, person_id: int) -> None:
    """Refuse a share that is not of a team's mailbox with a person of its structure.

    Raises:
        NotSharableError: it is not.
    """
    shared = connection.execute(_KIND, (mailbox_id,)).fetchone()
    person = connection.execute(_KIND, (person_id,)).fetchone()
    if shared is None or person is None or shared[1] != person[1]:
        raise NotSharableError
    if MailboxType(shared[0]) not in SHARED_TYPES or person[0] != MailboxType.PER.value:
        raise NotSharableError


def _share(connection: sqlite3.Connection, value: _Sharing) -> int:
    require_sharable(connection, value.mailbox_id, value.person_id)
    connection.execute(
        _SHARE,
        {
            "mailbox_id": value.mailbox_id,
            "person_id": value.person_id,
            "rights": encode_rights(value.rights),
            "at": to_micros(value.event.at),
        },
    )
    trail.append(connection, TRAIL, (value.event,))
    return value.mailbox_id


def _unshare(connection: sqlite3.Connection, value: _Sharing) -> Revoked | None:
    parameters = {
        "mailbox_id": value.mailbox_id,
        "person_id": value.person_id,
        "at": to_micros(value.event.at),
    }
    gone = [connection.execute(statement, parameters).rowcount for statement in _UNSHARE]
    devices = connection.execute(_REVOKE, parameters).fetchall()
    if not devices and not any(gone):
        return None
    trail.append(connection, TRAIL, (value.event,))
    return Revoked(value.mailbox_id, tuple(int(row[0]) for row in devices))


def _set_word(connection: sqlite3.Connection, value: _Wording) -> int:
    word = value.word
    home = connection.execute(_HOME, (word.folder_id,)).fetchone()
    if home is None:
        raise NoSuchFolderError
    require_sharable(connection, home[0], word.person_id)
    default = connection.execute(_DEFAULT, (home[0], word.person_id)).fetchone()
    own = connection.execute(_WORD, (word.folder_id, word.person_id)).fetchone()
    before = frozenset((own or default or ("",))[0])
    after = changed(before, word.mode, word.rights)
    if not after and default is None:
        connection.execute(_DROP_WORD, (word.folder_id, word.person_id))
    else:
        connection.execute(_SET_WORD, (word.folder_id, word.person_id, encode_rights(after)))
    trail.append(connection, TRAIL, (value.event,))
    return int(home[0])


def _delegate(connection: sqlite3.Connection, value: _Sharing) -> int:
    principal = connection.execute(_KIND, (value.mailbox_id,)).fetchone()
    person = connection.execute(_KIND, (value.person_id,)).fetchone()
    if principal is None or person is None or value.mailbox_id == value.person_id:
        raise NotSharableError
    kinds = SHARED_TYPES | {MailboxType.PER}
    if MailboxType(principal[0]) not in kinds or person[0] != MailboxType.PER.value:
        raise NotSharableError
    if principal[1] != person[1]:
        raise NotSharableError
    connection.execute(_GRANT, (value.mailbox_id, value.person_id, to_micros(value.event.at)))
    trail.append(connection, TRAIL, (value.event,))
    return value.mailbox_id


def _withdraw(connection: sqlite3.Connection, value: _Sharing) -> bool:
    if connection.execute(_WITHDRAW, (value.mailbox_id, value.person_id)).rowcount != 1:
        return False
    trail.append(connection, TRAIL, (value.event,))
    return True


def _execute(connection: sqlite3.Connection, statement: tuple[str, tuple[int, ...]]) -> None:
    connection.execute(*statement)
