"""The webmail's accounts in SQL: sessions, one-time codes, failed logins.

The throttle: five failures are free, each further one doubles the wait from thirty seconds up to
fifteen minutes, and an hour without any forgets them. It counts by login, known or not, under a
keyed digest, so that the table tells no login.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import bindparam, select

from directory import trail
from mailserver.store.errors import AccountExistsError, NoSuchMailboxError
from mailserver.store.model import Account, NewAccount, to_micros
from mailserver.store.schema import ACCOUNT, ACCOUNT_MAILBOX, LOGIN_FAILURE, TRAIL, WEB_SESSION

FREE_FAILURES: Final = 5
FIRST_WAIT: Final = timedelta(seconds=30)
LONGEST_WAIT: Final = timedelta(minutes=15)
FORGOTTEN_AFTER: Final = timedelta(hours=1)

_ACCOUNTS = (
    select(
        ACCOUNT.c.id,
        ACCOUNT.c.login,
        ACCOUNT.c.password_hash,
        ACCOUNT.c.totp_secret,
        ACCOUNT.c.patient_ref,
        ACCOUNT_MAILBOX.c.mailbox_id,
    )
    .select_from(ACCOUNT.outerjoin(ACCOUNT_MAILBOX, ACCOUNT_MAILBOX.c.account_id == ACCOUNT.c.id))
    .order_by(ACCOUNT_MAILBOX.c.mailbox_id)
)
BY_LOGIN = _ACCOUNTS.where(ACCOUNT.c.login == bindparam("login"))
BY_ID = _ACCOUNTS.where(ACCOUNT.c.id == bindparam("account_id"))
BY_SESSION = _ACCOUNTS.where(
    ACCOUNT.c.id.in_(
        select(WEB_SESSION.c.account_id).where(
            WEB_SESSION.c.token_hash == bindparam("token_hash"),
            WEB_SESSION.c.expires_at > bindparam("at"),
        )
    )
)
FAILURES = select(LOGIN_FAILURE.c.failures, LOGIN_FAILURE.c.last_at).where(
    LOGIN_FAILURE.c.login_mac == bindparam("login_mac")
)

_INSERT_ACCOUNT = (
    "INSERT INTO account (login, password_hash, totp_secret, patient_ref, created_at)"
    " VALUES (:login, :password_hash, :totp_secret, :patient_ref, :at)"
)
_INSERT_TIE = "INSERT INTO account_mailbox (account_id, mailbox_id) VALUES (?, ?)"
_REPLACE_HASH = (
    "UPDATE account SET password_hash = :password_hash, totp_secret = :totp_secret WHERE id = :id"
)
_CLOSE_ALL = "DELETE FROM web_session WHERE account_id = :id"
_FORGET_OVER = "DELETE FROM web_session WHERE expires_at <= :at"
_INSERT_SESSION = (
    "INSERT INTO web_session (token_hash, account_id, created_at, expires_at)"
    " VALUES (:token_hash, :account_id, :at, :expires_at)"
)
_CLOSE = "DELETE FROM web_session WHERE token_hash = :token_hash"
_USE_TOTP = (
    "INSERT INTO totp_use (account_id, counter) VALUES (:account_id, :counter)"
    " ON CONFLICT (account_id) DO UPDATE SET counter = excluded.counter"
    " WHERE totp_use.counter < excluded.counter"
)
_NOTE_FAILURE = (
    "INSERT INTO login_failure (login_mac, failures, last_at) VALUES (:login_mac, 1, :at)"
    " ON CONFLICT (login_mac) DO UPDATE SET last_at = :at, failures ="
    " CASE WHEN login_failure.last_at <= :before THEN 1 ELSE login_failure.failures + 1 END"
)
_FORGET_OLD_FAILURES = "DELETE FROM login_failure WHERE last_at <= :before"
_FORGET_FAILURES = "DELETE FROM login_failure WHERE login_mac = :login_mac"


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session to keep; instants in microseconds."""

    account_id: int
    token_hash: bytes
    at: int
    expires_at: int


def account_of(rows: Sequence[Sequence[Any]]) -> Account | None:
    """Build an account from its rows, one for each mailbox."""
    if not rows:
        return None
    first = rows[0]
    mailbox_ids = tuple(row[5] for row in rows if row[5] is not None)
    return Account(first[0], first[1], first[2], first[3], mailbox_ids, first[4])


def may_try(failures: int, last_at: datetime, at: datetime) -> bool:
    """Say whether a login with so many failures, the last one then, may be tried now."""
    if failures < FREE_FAILURES:
        return True
    doublings = min(failures - FREE_FAILURES, 10)
    return at - last_at >= min(FIRST_WAIT * (1 << doublings), LONGEST_WAIT)


# What follows runs on the writer's thread, inside its transaction.


def add_account(connection: sqlite3.Connection, new: NewAccount) -> int:
    """Insert an account with its mailboxes and give its id.

    Raises:
        AccountExistsError: the login is taken.
        NoSuchMailboxError: one of the mailboxes does not exist.
    """
    value = {
        "login": new.login.lower(),
        "password_hash": new.password_hash,
        "totp_secret": new.totp_secret,
        "patient_ref": new.patient_ref,
        "at": to_micros(new.at),
    }
    try:
        account_id = connection.execute(_INSERT_ACCOUNT, value).lastrowid
    except sqlite3.IntegrityError as error:
        raise AccountExistsError from error
    if account_id is None:
        raise AccountExistsError
    try:
        connection.executemany(
            _INSERT_TIE, [(account_id, mailbox_id) for mailbox_id in new.mailbox_ids]
        )
    except sqlite3.IntegrityError as error:
        raise NoSuchMailboxError from error
    if new.event is not None:
        trail.append(connection, TRAIL, [new.event])
    return account_id


def set_password(connection: sqlite3.Connection, value: tuple[int, str, str | None]) -> None:
    """Replace the password's text and the second factor, and close every session."""
    account_id, password_hash, totp_secret = value
    connection.execute(
        _REPLACE_HASH,
        {"id": account_id, "password_hash": password_hash, "totp_secret": totp_secret},
    )
    connection.execute(_CLOSE_ALL, {"id": account_id})


def open_session(connection: sqlite3.Connection, new: NewSession) -> None:
    """Insert a session, and forget those that are over."""
    connection.execute(_FORGET_OVER, {"at": new.at})
    connection.execute(
        _INSERT_SESSION,
        {
            "token_hash": new.token_hash,
            "account_id": new.account_id,
            "at": new.at,
            "expires_at": new.expires_at,
        },
    )


def close_session(connection: sqlite3.Connection, token_hash: bytes) -> None:
    """Delete a session."""
    connection.execute(_CLOSE, {"token_hash": token_hash})


def use_totp(connection: sqlite3.Connection, value: tuple[int, int]) -> bool:
    """Keep the counter when it is above every one used before, and say whether it was."""
    account_id, counter = value
    done = connection.execute(_USE_TOTP, {"account_id": account_id, "counter": counter})
    return done.rowcount == 1


def note_failure(connection: sqlite3.Connection, value: tuple[bytes, int]) -> None:
    """Count a failure, and forget the old ones of every login."""
    login_mac, at = value
    before = at - FORGOTTEN_AFTER // timedelta(microseconds=1)
    connection.execute(_FORGET_OLD_FAILURES, {"before": before})
    connection.execute(_NOTE_FAILURE, {"login_mac": login_mac, "at": at, "before": before})


def forget_failures(connection: sqlite3.Connection, login_mac: bytes) -> None:
    """Forget the failures of one login."""
    connection.execute(_FORGET_FAILURES, {"login_mac": login_mac})
