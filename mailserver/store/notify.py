"""Addresses outside the trust space where people are told that something is new.

Invariants: an address is used once its code was typed, and forgotten when it is withdrawn; what is
news is what lies beyond the marks (the INBOX's last UID told of, the documents known), and the
marks move only when it was told or given up, so nothing is lost to a crash; so does what is known
of reminders (the day of the last one, the lines it told); registering, confirming, choosing and
withdrawing are each one transaction with its trail event, which holds no address.

Source: RULES §14.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import bindparam, func, select

from directory import trail
from directory.audit_event import AuditEvent
from directory.database import Database
from mailserver.store.changes import NOTIFY, Commits
from mailserver.store.model import Flag, from_micros, to_micros
from mailserver.store.rows import among, as_list, fetch_all, fetch_first
from mailserver.store.schema import (
    ENTRY,
    FOLDER,
    MAILBOX,
    NOTIFY_ADDRESS,
    NOTIFY_KNOWN,
    NOTIFY_REMINDED,
    TRAIL,
)

_ASKS_WITHIN: Final = timedelta(days=1)
_TABLE = NOTIFY_ADDRESS.c
_COLUMNS = (
    _TABLE.mailbox_id,
    _TABLE.address,
    _TABLE.confirmed_at,
    _TABLE.code_digest,
    _TABLE.code_until,
    _TABLE.wrong,
    _TABLE.inbox_uid,
    _TABLE.attempts,
    _TABLE.failing_since,
    _TABLE.next_at,
    _TABLE.failed_at,
    _TABLE.reminds,
    _TABLE.reminded_on,
)
_ONE = select(*_COLUMNS).where(
    _TABLE.mailbox_id == bindparam("mailbox_id"), _TABLE.address.is_not(None)
)
_DUE = (
    select(*_COLUMNS)
    .where(
        _TABLE.address.is_not(None),
        (_TABLE.next_at <= bindparam("at")) | ((_TABLE.reminds == 1) & (_TABLE.attempts == 0)),
        _TABLE.mailbox_id > bindparam("after"),
        _TABLE.confirmed_at.is_not(None) | _TABLE.code_digest.is_(None),
    )
    .order_by(_TABLE.mailbox_id)
    .limit(bindparam("many"))
)
_WAITING = select(func.count()).where(_TABLE.address.is_not(None), _TABLE.attempts > 0)
_INBOX = (
    select(
        func.max(ENTRY.c.uid),
        func.count().filter(
            ENTRY.c.uid > bindparam("told"), ENTRY.c.flags.op("&")(int(Flag.SEEN)) == 0
        ),
    )
    .select_from(ENTRY.join(FOLDER, FOLDER.c.id == ENTRY.c.folder_id))
    .where(FOLDER.c.mailbox_id == bindparam("mailbox_id"), FOLDER.c.name == "INBOX")
    .where(ENTRY.c.uid > 0)
)
_MARKS = (
    select(MAILBOX.c.id, MAILBOX.c.address, FOLDER.c.highestmodseq)
    .select_from(MAILBOX.join(FOLDER, FOLDER.c.mailbox_id == MAILBOX.c.id))
    .where(among(MAILBOX.c.id, "mailboxes"), FOLDER.c.name == "INBOX")
)
_KNOWN = select(NOTIFY_KNOWN.c.document_id).where(
    NOTIFY_KNOWN.c.mailbox_id == bindparam("mailbox_id")
)
_REMINDED = select(NOTIFY_REMINDED.c.line, NOTIFY_REMINDED.c.day).where(
    NOTIFY_REMINDED.c.mailbox_id == bindparam("mailbox_id")
)

_ASKED: Final = "SELECT asks, asks_from FROM notify_address WHERE mailbox_id = ?"
_REGISTER: Final = (
    "INSERT INTO notify_address (mailbox_id, address, wrong, asks, asks_from, inbox_uid, attempts,"
    " next_at) VALUES (:mailbox_id, :address, 0, :asks, :asks_from, 0, 0, :at)"
    " ON CONFLICT (mailbox_id) DO UPDATE SET address = excluded.address, confirmed_at = NULL,"
    " code_digest = NULL, code_until = NULL, wrong = 0, asks = excluded.asks,"
    " asks_from = excluded.asks_from, inbox_uid = 0, attempts = 0, failing_since = NULL,"
    " next_at = excluded.next_at, failed_at = NULL"
)
_CODE: Final = (
    "UPDATE notify_address SET code_digest = :digest, code_until = :until, wrong = 0,"
    " attempts = 0, failing_since = NULL, failed_at = :failed_at"
    " WHERE mailbox_id = :mailbox_id AND address = :address AND confirmed_at IS NULL"
)
_PENDING: Final = (
    "SELECT code_digest, code_until, wrong FROM notify_address"
    " WHERE mailbox_id = ? AND address IS NOT NULL AND confirmed_at IS NULL"
)
_WRONG: Final = "UPDATE notify_address SET wrong = wrong + 1 WHERE mailbox_id = ?"
_CONFIRM: Final = (
    "UPDATE notify_address SET confirmed_at = :at, code_digest = NULL, code_until = NULL,"
    " inbox_uid = :uid, attempts = 0, failing_since = NULL, next_at = :at, failed_at = NULL"
    " WHERE mailbox_id = :mailbox_id"
)
_WITHDRAW: Final = (
    "UPDATE notify_address SET address = NULL, confirmed_at = NULL, code_digest = NULL,"
    " code_until = NULL, attempts = 0, failing_since = NULL, failed_at = NULL, reminds = 0,"
    " reminded_on = NULL WHERE mailbox_id = ? AND address IS NOT NULL"
)
_CHOICE: Final = (
    "SELECT reminds FROM notify_address WHERE mailbox_id = ? AND confirmed_at IS NOT NULL"
)
_CHOOSE: Final = "UPDATE notify_address SET reminds = ? WHERE mailbox_id = ?"
_FORGET: Final = (
    "UPDATE notify_address SET address = NULL, code_digest = NULL, code_until = NULL,"
    " failed_at = NULL, reminds = 0 WHERE confirmed_at IS NULL AND code_until < ?"
)
_FORGET_KNOWN: Final = "DELETE FROM notify_known WHERE mailbox_id = ?"
_FORGET_REMINDED: Final = "DELETE FROM notify_reminded WHERE mailbox_id = ?"
_FORGET_PAST: Final = "DELETE FROM notify_reminded WHERE day < ?"
_LEARN: Final = (
    "INSERT INTO notify_known (mailbox_id, document_id) SELECT :mailbox_id, value"
    " FROM json_each(:documents) WHERE true ON CONFLICT DO NOTHING"
)
_REMIND: Final = (
    "INSERT INTO notify_reminded (mailbox_id, line, day) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
)
_SETTLE: Final = (
    "UPDATE notify_address SET inbox_uid = max(inbox_uid, :uid), attempts = 0,"
    " failing_since = NULL, next_at = :next_at, failed_at = :failed_at,"
    " reminded_on = coalesce(:reminded_on, reminded_on)"
    " WHERE mailbox_id = :mailbox_id AND address = :address"
)
_PUT_OFF: Final = (
    "UPDATE notify_address SET attempts = attempts + 1, next_at = :next_at,"
    " failing_since = coalesce(failing_since, :at)"
    " WHERE mailbox_id = :mailbox_id AND address = :address"
)


@dataclass(frozen=True, slots=True)
class NotifyAddress:
    """Where a mailbox's holder is told.

    Attributes:
        code_digest: None until a code was sent.
        next_at: nothing new is told before; a reminder is, unless something could not be sent.
        reminds: whether they asked to be reminded of their agenda.
        reminded_on: civil day in France of the last reminder.
    """

    mailbox_id: int
    address: str
    confirmed_at: datetime | None
    code_digest: bytes | None
    code_until: datetime | None
    wrong: int
    inbox_uid: int
    attempts: int
    failing_since: datetime | None
    next_at: datetime
    failed_at: datetime | None
    reminds: bool
    reminded_on: date | None


@dataclass(frozen=True, slots=True)
class Registration:
    """An address to register; ``asks`` bounds how many a mailbox has in a day."""

    mailbox_id: int
    address: str
    asks: int
    event: AuditEvent


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A code that was typed; ``tries`` bounds the wrong ones, ``marks`` is what is no news."""

    mailbox_id: int
    digest: bytes
    tries: int
    marks: "Marks"
    event: AuditEvent


@dataclass(frozen=True, slots=True)
class Marks:
    """Up to where all is known: the INBOX's last UID, and documents of the record."""

    uid: int
    documents: frozenset[int]


@dataclass(frozen=True, slots=True)
class InboxMark:
    """An INBOX up to its last change, and the address of its mailbox."""

    address: str
    modseq: int


@dataclass(frozen=True, slots=True)
class SentCode:
    """A code that was sent, or, with an empty digest, one that could not be."""

    row: NotifyAddress
    digest: bytes
    until: datetime
    failed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Reminded:
    """A reminder: the civil day on which it was told, and the lines, each a number and a day."""

    on: date
    lines: frozenset[tuple[int, date]]


@dataclass(frozen=True, slots=True)
class Settlement:
    """Something told or given up: the new marks, and before when nothing new is sent."""

    row: NotifyAddress
    marks: Marks
    next_at: datetime
    failed_at: datetime | None = None
    reminded: Reminded | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether the holder of a mailbox is reminded of their agenda from now on."""

    mailbox_id: int
    reminds: bool
    event: AuditEvent


class NotifyAddresses:
    """The addresses of one mail database. All methods are coroutines."""

    def __init__(self, database: Database, commits: Commits) -> None:
        self._database = database
        self._commits = commits

    async def find(self, mailbox_id: int) -> NotifyAddress | None:
        """Give a mailbox's address, confirmed or not."""
        row = await fetch_first(self._database, _ONE, {"mailbox_id": mailbox_id})
        return None if row is None else _address(row)

    async def due(self, at: datetime, *, after: int, many: int) -> list[NotifyAddress]:
        """Give addresses to look at: confirmed ones, and those whose code is to be sent.

        Args:
            at: aware UTC now.
            after: mailboxes above this id.
            many: at most.
        """
        values = {"at": to_micros(at), "after": after, "many": many}
        return [_address(row) for row in await fetch_all(self._database, _DUE, values)]

    async def waiting(self) -> int:
        """Count the addresses to which something could not be sent yet."""
        row = await fetch_first(self._database, _WAITING)
        return 0 if row is None else int(row[0])

    async def inbox(self, mailbox_id: int, told: int) -> tuple[int, int]:
        """Give the last visible UID of an INBOX, and how many unread ones are above ``told``."""
        row = await fetch_first(self._database, _INBOX, {"mailbox_id": mailbox_id, "told": told})
        return (0, 0) if row is None else (int(row[0] or 0), int(row[1]))

    async def inboxes(self, mailbox_ids: Iterable[int]) -> dict[int, InboxMark]:
        """Give how far the INBOX of each mailbox has come, in one statement."""
        values = {"mailboxes": as_list(mailbox_ids)}
        rows = await fetch_all(self._database, _MARKS, values)
        return {row[0]: InboxMark(row[1], row[2]) for row in rows}

    async def known(self, mailbox_id: int) -> frozenset[int]:
        """Give the documents that are no news."""
        rows = await fetch_all(self._database, _KNOWN, {"mailbox_id": mailbox_id})
        return frozenset(int(row[0]) for row in rows)

    async def reminded(self, mailbox_id: int) -> frozenset[tuple[int, date]]:
        """Give the lines of the agenda that were told: each a number and its day."""
        rows = await fetch_all(self._database, _REMINDED, {"mailbox_id": mailbox_id})
        return frozenset((int(row[0]), date.fromisoformat(row[1])) for row in rows)

    async def register(self, wanted: Registration) -> bool:
        """Take an address in place of the one before; False when too many were asked for."""
        return await self._commits.run(_register, wanted, lambda done: (NOTIFY,) if done else ())

    async def keep_code(self, sent: SentCode) -> None:
        """Note the code that was sent; the one before opens nothing any more."""
        await self._database.write(_keep_code, sent)

    async def confirm(self, typed: Confirmation) -> bool:
        """Confirm an address by its code; False when it is wrong, too late or tried too often."""
        return await self._database.write(_confirm, typed)

    async def choose(self, choice: Choice) -> bool:
        """Note who is reminded of their agenda; False for a mailbox without confirmed address."""
        return await self._commits.run(_choose, choice, lambda done: (NOTIFY,) if done else ())

    async def withdraw(self, mailbox_id: int, event: AuditEvent) -> bool:
        """Forget a mailbox's address, and say whether there was one."""
        return await self._database.write(_withdraw, (mailbox_id, event))

    async def forget(self, before: datetime) -> None:
        """Let go of addresses whose code nobody typed while it was good, and of past days."""
        await self._database.write(_forget, before)

    async def settle(self, told: Settlement) -> None:
        """Note that something was told or given up."""
        await self._database.write(_settle, told)

    async def put_off(self, row: NotifyAddress, at: datetime, next_at: datetime) -> None:
        """Note that something could not be sent."""
        values = {
            "at": to_micros(at),
            "next_at": to_micros(next_at),
            "mailbox_id": row.mailbox_id,
            "address": row.address,
        }
        await self._database.write(_run, (_PUT_OFF, values))


def _address(row: Sequence[Any]) -> NotifyAddress:
    """Any: columns."""
    mailbox_id, address, confirmed, digest, until, wrong, uid, attempts, *rest = row
    since, next_at, failed, reminds, reminded_on = rest
    return NotifyAddress(
        mailbox_id,
        address,
        _moment(confirmed),
        digest,
        _moment(until),
        wrong,
        uid,
        attempts,
        _moment(since),
        from_micros(next_at),
        _moment(failed),
        bool(reminds),
        None if reminded_on is None else date.fromisoformat(reminded_on),
    )


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)


def _run(connection: sqlite3.Connection, value: tuple[str, dict[str, Any]]) -> None:
    """Any: parameters."""
    connection.execute(*value)


def _keep_code(connection: sqlite3.Connection, sent: SentCode) -> None:
    values = {
        "digest": sent.digest,
        "until": to_micros(sent.until),
        "failed_at": None if sent.failed_at is None else to_micros(sent.failed_at),
        "mailbox_id": sent.row.mailbox_id,
        "address": sent.row.address,
    }
    connection.execute(_CODE, values)


def _register(connection: sqlite3.Connection, wanted: Registration) -> bool:
    at = to_micros(wanted.event.at)
    asks, since = connection.execute(_ASKED, (wanted.mailbox_id,)).fetchone() or (0, at)
    if at - since >= _ASKS_WITHIN // timedelta(microseconds=1):
        asks, since = 0, at
    if asks >= wanted.asks:
        return False
    values = {
        "mailbox_id": wanted.mailbox_id,
        "address": wanted.address,
        "asks": asks + 1,
        "asks_from": since,
        "at": at,
    }
    connection.execute(_REGISTER, values)
    connection.execute(_FORGET_KNOWN, (wanted.mailbox_id,))
    trail.append(connection, TRAIL, (wanted.event,))
    return True


def _confirm(connection: sqlite3.Connection, typed: Confirmation) -> bool:
    at = to_micros(typed.event.at)
    row = connection.execute(_PENDING, (typed.mailbox_id,)).fetchone()
    if row is None or row[0] is None or row[1] <= at or row[2] >= typed.tries:
        return False
    if row[0] != typed.digest:
        connection.execute(_WRONG, (typed.mailbox_id,))
        return False
    values = {"mailbox_id": typed.mailbox_id, "at": at, "uid": typed.marks.uid}
    connection.execute(_CONFIRM, values)
    _learn(connection, typed.mailbox_id, typed.marks)
    trail.append(connection, TRAIL, (typed.event,))
    return True


def _withdraw(connection: sqlite3.Connection, value: tuple[int, AuditEvent]) -> bool:
    mailbox_id, event = value
    if not connection.execute(_WITHDRAW, (mailbox_id,)).rowcount:
        return False
    connection.execute(_FORGET_KNOWN, (mailbox_id,))
    connection.execute(_FORGET_REMINDED, (mailbox_id,))
    trail.append(connection, TRAIL, (event,))
    return True


def _choose(connection: sqlite3.Connection, choice: Choice) -> bool:
    row = connection.execute(_CHOICE, (choice.mailbox_id,)).fetchone()
    if row is None:
        return False
    if bool(row[0]) != choice.reminds:
        connection.execute(_CHOOSE, (int(choice.reminds), choice.mailbox_id))
        trail.append(connection, TRAIL, (choice.event,))
    return True


def _forget(connection: sqlite3.Connection, before: datetime) -> None:
    connection.execute(_FORGET, (to_micros(before),))
    yesterday = (before - timedelta(days=1)).date()  # in UTC, behind France
    connection.execute(_FORGET_PAST, (yesterday.isoformat(),))


def _settle(connection: sqlite3.Connection, told: Settlement) -> None:
    reminded = told.reminded
    values = {
        "reminded_on": None if reminded is None else reminded.on.isoformat(),
        "uid": told.marks.uid,
        "next_at": to_micros(told.next_at),
        "failed_at": None if told.failed_at is None else to_micros(told.failed_at),
        "mailbox_id": told.row.mailbox_id,
        "address": told.row.address,
    }
    if connection.execute(_SETTLE, values).rowcount and told.row.confirmed_at is not None:
        _learn(connection, told.row.mailbox_id, told.marks)
        if reminded is not None:
            _remember(connection, told.row.mailbox_id, reminded)


def _learn(connection: sqlite3.Connection, mailbox_id: int, marks: Marks) -> None:
    values = {"mailbox_id": mailbox_id, "documents": json.dumps(sorted(marks.documents))}
    connection.execute(_LEARN, values)


def _remember(connection: sqlite3.Connection, mailbox_id: int, reminded: Reminded) -> None:
    rows = [(mailbox_id, line, day.isoformat()) for line, day in sorted(reminded.lines)]
    connection.executemany(_REMIND, rows)
