"""How a mailbox closes and opens again, and how a professional leaves: nothing opens theirs.

Runs on the writer's thread, one transaction with its event in the trail (RULES §13).
"""

import sqlite3
from typing import Final

from directory import trail
from directory.audit_event import AuditEvent
from mailserver.store.devices import Revoked, revoke_all
from mailserver.store.errors import NoSuchMailboxError
from mailserver.store.model import to_micros
from mailserver.store.schema import TRAIL

_CLOSE: Final = "UPDATE mailbox SET closed_at = coalesce(closed_at, :at) WHERE id = :id"
_REOPEN: Final = "UPDATE mailbox SET closed_at = NULL WHERE id = :id"
_SIGN_OUT: Final = (
    "DELETE FROM web_session WHERE account_id IN"
    " (SELECT account_id FROM account_mailbox WHERE mailbox_id = :id)"
)


def close(connection: sqlite3.Connection, value: tuple[int, int]) -> int:
    """Close a mailbox, in microseconds from when on; it stays closed since the first time.

    Raises:
        NoSuchMailboxError: there is no such mailbox.
    """
    mailbox_id, at = value
    if connection.execute(_CLOSE, {"id": mailbox_id, "at": at}).rowcount != 1:
        raise NoSuchMailboxError
    return mailbox_id


def reopen(connection: sqlite3.Connection, value: tuple[int, AuditEvent | None]) -> int:
    """Open a mailbox again.

    Raises:
        NoSuchMailboxError: there is no such mailbox.
    """
    mailbox_id, event = value
    if connection.execute(_REOPEN, {"id": mailbox_id}).rowcount != 1:
        raise NoSuchMailboxError
    if event is not None:
        trail.append(connection, TRAIL, [event])
    return mailbox_id


def leave(connection: sqlite3.Connection, value: tuple[int, AuditEvent]) -> Revoked:
    """Close a mailbox, refuse what opened it or others for its holder, end their web sessions.

    Raises:
        NoSuchMailboxError: there is no such mailbox.
    """
    mailbox_id, event = value
    at = to_micros(event.at)
    close(connection, (mailbox_id, at))
    connection.execute(_SIGN_OUT, {"id": mailbox_id})
    revoked = revoke_all(connection, mailbox_id, at)
    trail.append(connection, TRAIL, [event])
    return revoked
