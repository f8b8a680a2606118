"""Mailboxes, their device passwords, and the accounts of the webmail.

Invariants: no password is kept as it is: a device password as a keyed digest (it has 100 random
bits, so no slow hash is needed, RULES §12), an account's as the argon2 text its caller made, a
session's token as a digest; an unknown login costs the same statement and digest as a known one.
"""

import hashlib
import hmac
import sqlite3
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, bindparam, select

from directory.audit_event import AuditEvent
from directory.codes import MailboxType
from directory.database import Database
from mailserver.sasl import scram
from mailserver.sasl.scram import ScramKeys
from mailserver.sasl.steps import ScramClaim
from mailserver.store import devices, leaving, logins
from mailserver.store.changes import Commits
from mailserver.store.devices import MAILBOX_COLUMNS, AliveDevice, KnownDevice, Revoked, mailbox_of
from mailserver.store.errors import (
    MailboxExistsError,
    NoSuchMailboxError,
    WeakSecretError,
)
from mailserver.store.folders import insert_folder
from mailserver.store.model import (
    SPECIAL_FOLDERS,
    Account,
    Bearer,
    DevicePassword,
    Login,
    Mailbox,
    NewAccount,
    NewDevice,
    NewMailbox,
    from_micros,
    to_micros,
)
from mailserver.store.rows import fetch_all, fetch_first
from mailserver.store.schema import MAILBOX

_MAX_CACHED: Final = 20_000

_BY_ADDRESS = select(*MAILBOX_COLUMNS).where(MAILBOX.c.address == bindparam("address"))
_BY_ID = select(*MAILBOX_COLUMNS).where(MAILBOX.c.id == bindparam("mailbox_id"))
_ALL = select(*MAILBOX_COLUMNS).order_by(MAILBOX.c.id)
_OF_STRUCTURE = _ALL.where(MAILBOX.c.structure_id == bindparam("structure_id"))
_PROFESSIONAL = select(MAILBOX.c.id).where(
    MAILBOX.c.rpps == bindparam("rpps"),
    MAILBOX.c.structure_id == bindparam("structure_id"),
    MAILBOX.c.type == MailboxType.PER.value,
    MAILBOX.c.closed_at.is_(None),
)
_INSERT_MAILBOX = (
    "INSERT INTO mailbox (address, type, structure_id, display_name, rpps, filing,"
    " next_uidvalidity, created_at) VALUES (:address, :type, :structure_id, :display_name, :rpps,"
    " :filing, :uidvalidity, :at)"
)
_SET_FILING = "UPDATE mailbox SET filing = :filing WHERE id = :id"


class Accounts:
    """Mailboxes, device passwords, accounts and sessions. All methods are coroutines.

    Args:
        database: of the site.
        commits: of the same.
        hash_key: keys the digests of device passwords.
        cached: whether this process alone writes the file, so that memory can be believed.
        changed: called after each commit that changed a mailbox.
    """

    def __init__(
        self,
        database: Database,
        commits: Commits,
        hash_key: bytes,
        *,
        cached: bool,
        changed: Callable[[], None],
    ) -> None:
        self._database = database
        self._commits = commits
        self._hash_key = hash_key
        self._cached = cached
        self._changed = changed
        self._by_address: dict[str, Mailbox] = {}
        self._by_id: dict[int, Mailbox] = {}
        self._used: dict[int, datetime] = {}
        self._nobody = ScramKeys(hash_key[:32], hash_key[:32])
        self._changes = 0
        self._revoked: set[int] = set()

    # Mailboxes

    async def mailbox(self, address: str) -> Mailbox | None:
        """Give the mailbox of an address, in any case; from memory when it was asked before."""
        key = address.lower()
        found = self._by_address.get(key)
        return found or await self._one(_BY_ADDRESS, {"address": key})

    async def mailbox_by_id(self, mailbox_id: int) -> Mailbox | None:
        """Give a mailbox by its id, None when there is none."""
        found = self._by_id.get(mailbox_id)
        return found or await self._one(_BY_ID, {"mailbox_id": mailbox_id})

    async def mailboxes(self, structure_id: str | None = None) -> list[Mailbox]:
        """Give every mailbox, or those of one structure."""
        if structure_id is None:
            rows = await fetch_all(self._database, _ALL)
        else:
            rows = await fetch_all(self._database, _OF_STRUCTURE, {"structure_id": structure_id})
        return [mailbox_of(row) for row in rows]

    async def add_mailbox(self, new: NewMailbox) -> Mailbox:
        """Open a mailbox with INBOX and the special folders.

        Raises:
            MailboxExistsError: the address is taken.
        """
        mailbox_id = await self._database.write(_add_mailbox, new)
        return await self._wanted(mailbox_id)

    async def set_filing(self, mailbox_id: int, *, filing: bool) -> Mailbox:
        """Note the owner's choice: do reports that come in go to the bridge (RULES §3)?

        Raises:
            NoSuchMailboxError: there is no such mailbox.
        """
        await self._commits.run(_set_filing, (mailbox_id, int(filing)), self._forget)
        return await self._wanted(mailbox_id)

    async def close_mailbox(self, mailbox_id: int, at: datetime) -> None:
        """Let nothing in or out under an address from now on; closing it again changes nothing.

        Raises:
            NoSuchMailboxError: there is no such mailbox.
        """
        await self._commits.run(leaving.close, (mailbox_id, to_micros(at)), self._forget)

    async def reopen_mailbox(self, mailbox_id: int, event: AuditEvent | None = None) -> None:
        """Undo ``close_mailbox`` or ``leave``; an open one stays open.

        Args:
            mailbox_id: which.
            event: of who did so; a patient's address opens with an event in the record.

        Raises:
            NoSuchMailboxError: there is no such mailbox.
        """
        await self._commits.run(leaving.reopen, (mailbox_id, event), self._forget)

    async def leave(self, mailbox_id: int, event: AuditEvent) -> None:
        """Close a professional's mailbox and take away what opened it, or others for them.

        Their sessions end: those of the web at once, those of clients at their next command.

        Raises:
            NoSuchMailboxError: there is no such mailbox.
        """
        await self._commits.run(leaving.leave, (mailbox_id, event), self.shut_out)

    async def is_professional_of(self, structure_id: str, rpps: str) -> bool:
        """Say whether a professional has an open mailbox in a structure."""
        parameters = {"structure_id": structure_id, "rpps": rpps}
        return await fetch_first(self._database, _PROFESSIONAL, parameters) is not None

    # Device passwords

    async def add_device(self, new: NewDevice, secret: str | None = None) -> DevicePassword:
        """Make a device password.

        Args:
            new: for which device.
            secret: None to have one made (the rule); else at least MIN_GIVEN_SECRET characters.

        Returns:
            The only value that ever bears the secret.

        Raises:
            WeakSecretError: the given secret is too short.
            NoSuchMailboxError: there is no such mailbox.
        """
        if secret is None:
            secret = devices.new_secret()
        elif len(secret) < devices.MIN_GIVEN_SECRET:
            raise WeakSecretError
        mailbox = await self._wanted(new.mailbox_id)
        keys = scram.derive(secret, self.scram_salt(mailbox.address))
        device = KnownDevice(new, self._mac(secret), keys=keys)
        return await self._let_in(device, secret)

    async def add_bearer(self, new: NewDevice, bearer: Bearer) -> DevicePassword:
        """Let a certificate or a provider's subject open a mailbox.

        Raises:
            NoSuchMailboxError: there is no such mailbox.
        """
        return await self._let_in(KnownDevice(new, self._bearer_mac(bearer), bearer.kind), None)

    async def _let_in(self, device: KnownDevice, secret: str | None) -> DevicePassword:
        device_id = await self._database.write(devices.add, device)
        new = device.new
        return DevicePassword(
            device_id,
            new.mailbox_id,
            new.name,
            secret,
            new.at,
            new.expires_at,
            None,
            new.person_id,
            device.kind,
            scram=device.keys is not None,
        )

    async def check_device(self, login: str, secret: str, at: datetime) -> Login | None:
        """Give what this address and secret open, and to whom; None for every other pair.

        One statement and one digest whatever the login, and as many comparisons as the mailbox
        has devices: what an answer's time could tell is how many devices a mailbox has.
        """
        given = self._mac(secret)
        alive = await self._alive(login, at)
        opened = None
        for device in alive:
            if hmac.compare_digest(device.mac, given):
                opened = device
        if not alive:
            hmac.compare_digest(given, self._hash_key[:32])
        return None if opened is None else await self._opened(opened, at)

    def scram_salt(self, login: str) -> bytes:
        """Give the salt of a name: the same each time, whether anybody has this name or not."""
        text = b"scram\x00" + login.lower().encode("utf-8", "surrogatepass")
        return hmac.digest(self._hash_key, text, hashlib.sha256)[: scram.SALT_OCTETS]

    async def check_scram(self, claim: ScramClaim, at: datetime) -> tuple[Login, bytes] | None:
        """Give what a proof opens, and what proves to the client that we know it.

        Same statement and digests for an unknown login: its proof is held against keys of nobody.
        """
        known = [each for each in await self._alive(claim.login, at) if each.keys is not None]
        keys = [each.keys for each in known if each.keys is not None] or [self._nobody]
        found = scram.match(claim, keys)
        if found is None or not known:
            return None
        return await self._opened(known[found[0]], at), found[1]

    async def check_bearer(self, bearer: Bearer, login: str, at: datetime) -> Login | None:
        """Give what a certificate or a subject was recorded for.

        Args:
            bearer: what was shown and verified.
            login: the address it asks for, empty when it may only be one.
            at: aware UTC now.
        """
        parameters = {"mac": self._bearer_mac(bearer), "at": to_micros(at)}
        rows = await fetch_all(self._database, devices.BY_MAC, parameters)
        alive = [
            each
            for each in map(devices.alive_of, rows)
            if login.lower() in {"", each.login.mailbox.address}
        ]
        if len({each.login.mailbox.id for each in alive}) != 1:
            return None
        return await self._opened(alive[0], at)

    async def count_passwords(self, at: datetime) -> tuple[int, int]:
        """Say how many device passwords open something, and how many of them know SCRAM."""
        row = await fetch_first(self._database, devices.COUNT_PASSWORDS, {"at": to_micros(at)})
        return (0, 0) if row is None else (row[0], row[1])

    async def devices(self, mailbox_id: int) -> list[DevicePassword]:
        """List the device passwords of a mailbox, without their secrets."""
        rows = await fetch_all(self._database, devices.OF_MAILBOX, {"mailbox_id": mailbox_id})
        return [devices.device_of(row) for row in rows]

    async def revoke_device(self, device_id: int, event: AuditEvent) -> bool:
        """Refuse a device from now on; what it has open ends at its next command.

        Returns:
            False when there was none of this id to revoke.
        """
        value = (device_id, event)
        return await self._commits.run(devices.revoke, value, self.shut_out) is not None

    def is_over(self, login: Login, at: datetime) -> bool:
        """Say whether a device that was let in is refused by now: revoked, or past its time.

        Only the process that owns the file lets devices in, and it is told of each one here.
        """
        expired = login.expires_at is not None and login.expires_at <= at
        return expired or login.device_id in self._revoked

    def shut_out(self, revoked: Revoked | None) -> tuple[int, ...]:
        """Remember which devices are refused, after the commit that refused them.

        Returns:
            The mailboxes whose sessions are to be woken.
        """
        if revoked is None:
            return ()
        self._revoked.update(revoked.device_ids)
        return self._forget(revoked.mailbox_id)

    # Accounts of the webmail

    async def add_account(self, new: NewAccount) -> int:
        """Make an account and give its id.

        Raises:
            AccountExistsError: the login is taken.
            NoSuchMailboxError: one of the mailboxes does not exist.
        """
        return await self._database.write(logins.add_account, new)

    async def account(self, login: str) -> Account | None:
        """Give an account by its login, in any case."""
        return logins.account_of(
            await fetch_all(self._database, logins.BY_LOGIN, {"login": login.lower()})
        )

    async def account_by_id(self, account_id: int) -> Account | None:
        """Give an account by its id."""
        return logins.account_of(
            await fetch_all(self._database, logins.BY_ID, {"account_id": account_id})
        )

    async def set_password(
        self, account_id: int, password_hash: str, totp_secret: str | None
    ) -> None:
        """Replace an account's argon2 text and second factor, and close its sessions."""
        await self._database.write(logins.set_password, (account_id, password_hash, totp_secret))

    async def open_session(
        self, account_id: int, token_hash: bytes, at: datetime, expires_at: datetime
    ) -> None:
        """Keep a session under the digest of its token."""
        value = logins.NewSession(account_id, token_hash, to_micros(at), to_micros(expires_at))
        await self._database.write(logins.open_session, value)

    async def session(self, token_hash: bytes, at: datetime) -> Account | None:
        """Give the account of a session, None when it is unknown, closed or over."""
        parameters = {"token_hash": token_hash, "at": to_micros(at)}
        return logins.account_of(await fetch_all(self._database, logins.BY_SESSION, parameters))

    async def close_session(self, token_hash: bytes) -> None:
        """Forget a session."""
        await self._database.write(logins.close_session, token_hash)

    async def use_totp(self, account_id: int, counter: int) -> bool:
        """Note that a one-time code was used.

        Returns:
            False when this code, or one after it, was used before. Source: RFC 6238 §5.2.
        """
        return await self._database.write(logins.use_totp, (account_id, counter))

    async def note_failure(self, login: str, at: datetime) -> None:
        """Count a failed login, of an unknown login too."""
        value = (self._login_mac(login), to_micros(at))
        await self._database.write(logins.note_failure, value)

    async def forget_failures(self, login: str) -> None:
        """Forget the failed logins after a good one."""
        await self._database.write(logins.forget_failures, self._login_mac(login))

    async def login_allowed(self, login: str, at: datetime) -> bool:
        """Say whether a login may be tried now, after its failures."""
        row = await fetch_first(
            self._database, logins.FAILURES, {"login_mac": self._login_mac(login)}
        )
        return row is None or logins.may_try(row[0], from_micros(row[1]), at)

    def _mac(self, secret: str) -> bytes:
        text = b"device\x00" + devices.canonical_secret(secret).encode("utf-8", "surrogatepass")
        return hmac.digest(self._hash_key, text, hashlib.sha256)

    def _login_mac(self, login: str) -> bytes:
        text = b"login\x00" + login.lower().encode("utf-8", "surrogatepass")
        return hmac.digest(self._hash_key, text, hashlib.sha256)

    def _bearer_mac(self, bearer: Bearer) -> bytes:
        text = f"{bearer.kind.value}\x00{bearer.value}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._hash_key, text, hashlib.sha256)

    async def _alive(self, login: str, at: datetime) -> list[AliveDevice]:
        parameters = {"address": login.lower(), "at": to_micros(at)}
        rows = await fetch_all(self._database, devices.BY_ADDRESS, parameters)
        return [devices.alive_of(row) for row in rows]

    async def _opened(self, device: AliveDevice, at: datetime) -> Login:
        await self._note_use(device.id, device.last_used_at, at)
        return device.login

    async def _note_use(self, device_id: int, last: int | None, at: datetime) -> None:
        known = self._used.get(device_id) or (None if last is None else from_micros(last))
        if not self._cached or (known is not None and at - known < devices.LAST_USED_STEP):
            return
        self._used[device_id] = at
        await self._database.write(devices.note_use, (device_id, to_micros(at)))

    async def _one(
        self, statement: Select[Any], parameters: dict[str, int | str]
    ) -> Mailbox | None:
        changes = self._changes
        row = await fetch_first(self._database, statement, parameters)
        if row is None:
            return None
        mailbox = mailbox_of(row)
        # Another process's file may change behind our back: only its owner keeps a copy, and
        # only of what no write overtook while it was read.
        if self._cached and changes == self._changes:
            if len(self._by_id) >= _MAX_CACHED:
                self._by_id.clear()
                self._by_address.clear()
            self._by_id[mailbox.id] = mailbox
            self._by_address[mailbox.address] = mailbox
        return mailbox

    async def _wanted(self, mailbox_id: int) -> Mailbox:
        mailbox = await self.mailbox_by_id(mailbox_id)
        if mailbox is None:
            raise NoSuchMailboxError
        return mailbox

    def _forget(self, mailbox_id: int) -> tuple[int, ...]:
        """Drop what memory says of a mailbox, after the commit that changed it."""
        self._changes += 1
        known = self._by_id.pop(mailbox_id, None)
        if known is not None:
            self._by_address.pop(known.address, None)
        self._changed()
        return (mailbox_id,)


# What follows runs on the writer's thread, inside its transaction.


def _add_mailbox(connection: sqlite3.Connection, new: NewMailbox) -> int:
    value = {
        "address": new.address.lower(),
        "type": new.type.value,
        "structure_id": new.structure_id,
        "display_name": new.display_name,
        "rpps": new.rpps,
        "filing": int(new.filing),
        # Seconds, as RFC 9051 §2.3.1.1 proposes: a mailbox made anew starts above the old one.
        "uidvalidity": int(new.at.timestamp()),
        "at": to_micros(new.at),
    }
    try:
        mailbox_id = connection.execute(_INSERT_MAILBOX, value).lastrowid
    except sqlite3.IntegrityError as error:
        raise MailboxExistsError from error
    if mailbox_id is None:
        raise NoSuchMailboxError
    for name, special_use in SPECIAL_FOLDERS:
        insert_folder(connection, mailbox_id, name, special_use)
    return mailbox_id


def _set_filing(connection: sqlite3.Connection, value: tuple[int, int]) -> int:
    mailbox_id, filing = value
    if connection.execute(_SET_FILING, {"id": mailbox_id, "filing": filing}).rowcount != 1:
        raise NoSuchMailboxError
    return mailbox_id
