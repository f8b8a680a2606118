"""What opens a mailbox for one device, in SQL: how it is made, kept, checked and taken away.

A device password opens one mailbox for one device, and for one person where several share it. The
server makes it from 120 random bits, so that a keyed digest keeps it well enough and a login
needs no slow hash. A certificate or an identity provider's subject is kept as a keyed digest too,
in the same place. Source: RULES §12.
"""

import secrets
import sqlite3
from base64 import b32encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import bindparam, func, select

from directory import trail
from directory.audit_event import AuditEvent
from directory.model import MailboxType
from mailserver.sasl.scram import ScramKeys
from mailserver.store.errors import NoSuchMailboxError
from mailserver.store.model import (
    DeviceKind,
    DevicePassword,
    Login,
    Mailbox,
    NewDevice,
    from_micros,
    to_micros,
)
from mailserver.store.schema import DEVICE_PASSWORD, MAILBOX, TRAIL

SECRET_BYTES: Final = 15
"""120 random bits, 24 letters of base32. Source: RULES §12."""
SECRET_LETTERS: Final = 24
MIN_GIVEN_SECRET: Final = 20
"""Twenty letters of five bits: the 100 bits of RULES §12, for a secret that a caller made."""
LAST_USED_STEP: Final = timedelta(hours=1)
"""``last_used_at`` moves at most this often: a login must not cost a commit."""

_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
MAILBOX_COLUMNS = (
    MAILBOX.c.id,
    MAILBOX.c.address,
    MAILBOX.c.type,
    MAILBOX.c.structure_id,
    MAILBOX.c.display_name,
    MAILBOX.c.rpps,
    MAILBOX.c.filing,
    MAILBOX.c.closed_at,
)
_PERSON = MAILBOX.alias("person")
_PERSON_COLUMNS = tuple(_PERSON.c[column.name] for column in MAILBOX_COLUMNS)
_DEVICE_COLUMNS = (
    DEVICE_PASSWORD.c.id,
    DEVICE_PASSWORD.c.mailbox_id,
    DEVICE_PASSWORD.c.name,
    DEVICE_PASSWORD.c.created_at,
    DEVICE_PASSWORD.c.expires_at,
    DEVICE_PASSWORD.c.last_used_at,
    DEVICE_PASSWORD.c.person_id,
    DEVICE_PASSWORD.c.kind,
    DEVICE_PASSWORD.c.stored_key,
)
OF_MAILBOX = (
    select(*_DEVICE_COLUMNS)
    .where(
        DEVICE_PASSWORD.c.mailbox_id == bindparam("mailbox_id"),
        DEVICE_PASSWORD.c.revoked_at.is_(None),
    )
    .order_by(DEVICE_PASSWORD.c.id)
)
_ALIVE = (
    select(
        DEVICE_PASSWORD.c.id,
        DEVICE_PASSWORD.c.last_used_at,
        DEVICE_PASSWORD.c.secret_mac,
        DEVICE_PASSWORD.c.stored_key,
        DEVICE_PASSWORD.c.server_key,
        DEVICE_PASSWORD.c.expires_at,
        *MAILBOX_COLUMNS,
        *_PERSON_COLUMNS,
    )
    .select_from(
        DEVICE_PASSWORD.join(MAILBOX, MAILBOX.c.id == DEVICE_PASSWORD.c.mailbox_id).outerjoin(
            _PERSON, _PERSON.c.id == DEVICE_PASSWORD.c.person_id
        )
    )
    .where(
        DEVICE_PASSWORD.c.revoked_at.is_(None),
        func.coalesce(DEVICE_PASSWORD.c.expires_at > bindparam("at"), True),
        # A patient whose address is closed still reads; whoever left a structure does not.
        MAILBOX.c.closed_at.is_(None) | (MAILBOX.c.type == MailboxType.PAT.value),
        _PERSON.c.closed_at.is_(None),
    )
    .order_by(DEVICE_PASSWORD.c.id)
)
BY_ADDRESS = _ALIVE.where(MAILBOX.c.address == bindparam("address"))
BY_MAC = _ALIVE.where(DEVICE_PASSWORD.c.secret_mac == bindparam("mac"))
COUNT_PASSWORDS = select(
    func.count(DEVICE_PASSWORD.c.id), func.count(DEVICE_PASSWORD.c.stored_key)
).where(
    DEVICE_PASSWORD.c.kind == DeviceKind.PASSWORD.value,
    DEVICE_PASSWORD.c.revoked_at.is_(None),
    func.coalesce(DEVICE_PASSWORD.c.expires_at > bindparam("at"), True),
)
_INSERT_DEVICE = (
    "INSERT INTO device_password (mailbox_id, name, secret_mac, created_at, expires_at, person_id,"
    " kind, stored_key, server_key) VALUES (:mailbox_id, :name, :mac, :at, :expires_at,"
    " :person_id, :kind, :stored_key, :server_key)"
)
_USED = "UPDATE device_password SET last_used_at = :at WHERE id = :id"
_REVOKE = (
    "UPDATE device_password SET revoked_at = :at WHERE id = :id AND revoked_at IS NULL"
    " RETURNING mailbox_id"
)
_REVOKE_ALL = (
    "UPDATE device_password SET revoked_at = :at WHERE :mailbox IN (mailbox_id, person_id)"
    " AND revoked_at IS NULL RETURNING id"
)


@dataclass(frozen=True, slots=True, repr=False)
class KnownDevice:
    """A device to keep, with what it will be known by."""

    new: NewDevice
    mac: bytes
    kind: DeviceKind = DeviceKind.PASSWORD
    keys: ScramKeys | None = None


@dataclass(frozen=True, slots=True, repr=False)
class AliveDevice:
    """A device that is neither revoked nor over, with what it opens."""

    id: int
    last_used_at: int | None
    mac: bytes
    keys: ScramKeys | None
    login: Login


def mailbox_of(row: Sequence[Any]) -> Mailbox:
    """Build the value from MAILBOX_COLUMNS."""
    return Mailbox(
        row[0],
        row[1],
        MailboxType(row[2]),
        row[3],
        row[4],
        row[5],
        filing=bool(row[6]),
        closed=row[7] is not None,
    )


def device_of(row: Sequence[Any]) -> DevicePassword:
    """Build the value, without its secret."""
    return DevicePassword(
        row[0],
        row[1],
        row[2],
        None,
        from_micros(row[3]),
        None if row[4] is None else from_micros(row[4]),
        None if row[5] is None else from_micros(row[5]),
        row[6],
        DeviceKind(row[7]),
        scram=row[8] is not None,
    )


def alive_of(row: Sequence[Any]) -> AliveDevice:
    """Build the value from a row of BY_ADDRESS or BY_MAC."""
    keys = None if row[3] is None else ScramKeys(row[3], row[4])
    expires_at = None if row[5] is None else from_micros(row[5])
    opened = row[6:]
    columns = len(MAILBOX_COLUMNS)
    person = None if opened[columns] is None else mailbox_of(opened[columns:])
    login = Login(mailbox_of(opened[:columns]), person, row[0], expires_at)
    return AliveDevice(row[0], row[1], row[2], keys, login)


def new_secret() -> str:
    """Make a secret: six groups of four letters."""
    letters = b32encode(secrets.token_bytes(SECRET_BYTES)).decode("ascii")
    return "-".join(letters[at : at + 4] for at in range(0, SECRET_LETTERS, 4)).lower()


def canonical_secret(secret: str) -> str:
    """Read a made secret as people type it: any case, with or without its dashes."""
    letters = secret.replace("-", "").replace(" ", "").upper()
    made = len(letters) == SECRET_LETTERS and _ALPHABET.issuperset(letters)
    return letters if made else secret


# What follows runs on the writer's thread, inside its transaction.


def add(connection: sqlite3.Connection, device: KnownDevice) -> int:
    """Insert a device and give its id.

    Raises:
        NoSuchMailboxError: there is no such mailbox, or no such person.
    """
    new = device.new
    value = {
        "mailbox_id": new.mailbox_id,
        "name": new.name,
        "mac": device.mac,
        "at": to_micros(new.at),
        "expires_at": None if new.expires_at is None else to_micros(new.expires_at),
        "person_id": new.person_id,
        "kind": device.kind.value,
        "stored_key": None if device.keys is None else device.keys.stored,
        "server_key": None if device.keys is None else device.keys.server,
    }
    try:
        device_id = connection.execute(_INSERT_DEVICE, value).lastrowid
    except sqlite3.IntegrityError as error:
        raise NoSuchMailboxError from error
    if device_id is None:
        raise NoSuchMailboxError
    if new.event is not None:
        event = replace(new.event, facts={**new.event.facts, "device": device_id})
        trail.append(connection, TRAIL, [event])
    return device_id


def note_use(connection: sqlite3.Connection, value: tuple[int, int]) -> None:
    """Keep the instant of the last use."""
    device_id, at = value
    connection.execute(_USED, {"id": device_id, "at": at})


@dataclass(frozen=True, slots=True)
class Revoked:
    """Devices that open nothing any more, and the mailbox whose sessions are to know."""

    mailbox_id: int
    device_ids: tuple[int, ...]


def revoke(connection: sqlite3.Connection, value: tuple[int, AuditEvent]) -> Revoked | None:
    """Refuse a device from now on, with the event of who did so; None when it was already."""
    device_id, event = value
    parameters = {"id": device_id, "at": to_micros(event.at)}
    row = connection.execute(_REVOKE, parameters).fetchone()
    if row is None:
        return None
    trail.append(connection, TRAIL, [event])
    return Revoked(int(row[0]), (device_id,))


def revoke_all(connection: sqlite3.Connection, mailbox_id: int, at: int) -> Revoked:
    """Refuse every device of a mailbox, and every one that its holder has on others."""
    rows = connection.execute(_REVOKE_ALL, {"mailbox": mailbox_id, "at": at}).fetchall()
    return Revoked(mailbox_id, tuple(int(row[0]) for row in rows))
