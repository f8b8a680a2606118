"""For whom mail can be encrypted, and whose mail is: recorded certificates and mailboxes' wishes.

Invariants: one certificate an address; another one takes its place only when it is named as the
replacement, and each change is one transaction with its trail event (threat C14).

Source: RULES §12, RULES §13.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, select

from certs.cms_envelope import Cipherment
from directory import trail
from directory.audit_event import AuditEvent
from directory.database import Database
from mailserver.store.model import from_micros, to_micros
from mailserver.store.rows import fetch_all, fetch_first
from mailserver.store.schema import ENCRYPTING_MAILBOX, RECIPIENT_CERTIFICATE, TRAIL

_COLUMNS = (
    RECIPIENT_CERTIFICATE.c.address,
    RECIPIENT_CERTIFICATE.c.der,
    RECIPIENT_CERTIFICATE.c.cipherment,
    RECIPIENT_CERTIFICATE.c.recorded_at,
)
_ALL = select(*_COLUMNS).order_by(RECIPIENT_CERTIFICATE.c.address)
_ONE = select(*_COLUMNS).where(RECIPIENT_CERTIFICATE.c.address == bindparam("address"))
_WISH = select(ENCRYPTING_MAILBOX.c.mailbox_id).where(
    ENCRYPTING_MAILBOX.c.mailbox_id == bindparam("mailbox_id")
)
_HELD: Final = "SELECT der FROM recipient_certificate WHERE address = ?"
_RECORD: Final = (
    "INSERT INTO recipient_certificate (address, der, cipherment, recorded_at) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (address) DO UPDATE SET der = excluded.der, cipherment = excluded.cipherment,"
    " recorded_at = excluded.recorded_at"
)
_FORGET: Final = "DELETE FROM recipient_certificate WHERE address = ?"
_ASK: Final = (
    "INSERT INTO encrypting_mailbox (mailbox_id) VALUES (?) ON CONFLICT (mailbox_id) DO NOTHING"
)
_NO_MORE: Final = "DELETE FROM encrypting_mailbox WHERE mailbox_id = ?"


@dataclass(frozen=True, slots=True)
class RecipientCertificate:
    """A certificate for which mail to an address is encrypted; ``address`` is lower case."""

    address: str
    der: bytes
    cipherment: Cipherment
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Recording:
    """A certificate to record; ``replaces`` lets it take another one's place."""

    certificate: RecipientCertificate
    replaces: bool
    event: AuditEvent


class Encryption:
    """The certificates and wishes of one mail database. All methods are coroutines."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def certificate(self, address: str) -> RecipientCertificate | None:
        """Give the certificate recorded for an address."""
        row = await fetch_first(self._database, _ONE, {"address": address.lower()})
        return None if row is None else _certificate(row)

    async def certificates(self) -> list[RecipientCertificate]:
        """Give every certificate recorded."""
        return [_certificate(row) for row in await fetch_all(self._database, _ALL)]

    async def record(self, recording: Recording) -> bool:
        """Record a certificate; False when another one is there and it does not replace it."""
        return await self._database.write(_record, recording)

    async def forget(self, address: str, event: AuditEvent) -> bool:
        """Let go of an address's certificate, and say whether there was one."""
        return await self._database.write(_forget, (address.lower(), event))

    async def wants(self, mailbox_id: int) -> bool:
        """Say whether a mailbox asks for encryption."""
        return await fetch_first(self._database, _WISH, {"mailbox_id": mailbox_id}) is not None

    async def ask(self, mailbox_id: int, event: AuditEvent, *, wanted: bool) -> None:
        """Note whether a mailbox asks for encryption."""
        await self._database.write(_ask, (_ASK if wanted else _NO_MORE, mailbox_id, event))


def _certificate(row: Sequence[object]) -> RecipientCertificate:
    address, der, cipherment, at = row
    return RecipientCertificate(
        str(address),
        bytes(der),  # type: ignore[call-overload] # a column of octets
        Cipherment(cipherment),
        from_micros(int(at)),  # type: ignore[call-overload] # a column of integers
    )


def _record(connection: sqlite3.Connection, recording: Recording) -> bool:
    new = recording.certificate
    held = connection.execute(_HELD, (new.address,)).fetchone()
    if held is not None and held[0] != new.der and not recording.replaces:
        return False
    connection.execute(
        _RECORD, (new.address, new.der, new.cipherment.value, to_micros(new.recorded_at))
    )
    trail.append(connection, TRAIL, (recording.event,))
    return True


def _forget(connection: sqlite3.Connection, value: tuple[str, AuditEvent]) -> bool:
    address, event = value
    if not connection.execute(_FORGET, (address,)).rowcount:
        return False
    trail.append(connection, TRAIL, (event,))
    return True


def _ask(connection: sqlite3.Connection, value: tuple[str, int, AuditEvent]) -> None:
    statement, mailbox_id, event = value
    connection.execute(statement, (mailbox_id,))
    trail.append(connection, TRAIL, (event,))
