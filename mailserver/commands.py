"""What ``pli`` asks of the process that owns the mail and directory databases.

Every command takes JSON-able arguments and gives a JSON-able result, over the control socket or
in the command line's own process when nothing serves. A refusal is a ``CommandError`` whose text
holds no personal data.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pyotp
from argon2 import PasswordHasher

from certs.addresses import parse_addr_spec
from certs.errors import CertsError
from certs.keystore import KeyStore
from directory.errors import DirectoryError
from directory.identifiers import Rpps
from directory.lookup import Directory
from directory.model import DirectoryMailbox, MailboxType, Practitioner, Structure
from mailserver.authentication import subject_bearer
from mailserver.certificates import CertificateJudge
from mailserver.control import Command
from mailserver.encryption_commands import EncryptionCommands
from mailserver.errors import CommandError
from mailserver.login_authorities import client_certificate
from mailserver.mailbox_commands import mailbox_event, named_mailbox
from mailserver.offer_reading import OfferReading
from mailserver.people_commands import PeopleCommands, checked_profession, new_password
from mailserver.queue_commands import QueueCommands
from mailserver.reminder_commands import ReminderCommands
from mailserver.sasl.tokens import SUBJECT_CHARACTERS
from mailserver.settings import Environment, Settings, Site, write_private
from mailserver.sharing_commands import SharingCommands, holder
from mailserver.store.database import MailStore
from mailserver.store.errors import StoreError
from mailserver.store.model import (
    Bearer,
    DeviceKind,
    DevicePassword,
    Mailbox,
    NewAccount,
    NewDevice,
    NewMailbox,
)
from mailserver.trust_commands import TrustCommands
from mailserver.unread_commands import UnreadCommands

Args = Mapping[str, Any]

DEVICE_LIFE = timedelta(days=365)
APPLICATION_DEVICE = "record_bridge"
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_ORGANIZATION = re.compile(r"[0-9][0-9AB][0-9]{7}|[0-9]{14}")
_TRUE = frozenset({"", "true", "yes", "1", "oui", "o"})
_FALSE = frozenset({"false", "no", "0", "non", "n"})
_LOGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{2,63}")
_MATRICULE_DIGITS = re.compile(r"[0-9]{13,15}")


@dataclass(frozen=True, slots=True)
class MailCommands:
    """The commands of the mail child."""

    site: Site
    settings: Settings
    store: MailStore
    directory: Directory
    clock: Callable[[], datetime]

    def table(self) -> dict[str, Command]:
        """Give every command by name."""
        return {
            "status": self.status,
            "idle": self.idle,
            "structure_add": self.structure_add,
            "structure_list": self.structure_list,
            "structure_resolve": self.structure_resolve,
            "account_add": self.account_add,
            "account_import": self.account_import,
            "account_list": self.account_list,
            "device_add": self.device_add,
            "device_list": self.device_list,
            "device_revoke": self.device_revoke,
            "login_free": self.login_free,
            "patient_mailbox": self.patient_mailbox,
            "patient_open": self.patient_open,
            "patient_close": self.patient_close,
            **PeopleCommands(self.store, self.directory, self.clock).table(),
            **SharingCommands(self.store, self.clock).table(),
            **self._unread.table(),
            **ReminderCommands(self.store, self._structure, self.clock).table(),
            **OfferReading(self.store, self.clock).table(),
            **QueueCommands(self.store, self.clock).table(),
            **EncryptionCommands(
                self.store,
                CertificateJudge(KeyStore(self.site.pki, clock=self.clock), self.clock),
                self.clock,
            ).table(),
            **TrustCommands(
                self.site, self.settings, self.store, self.directory, self.clock
            ).table(),
        }

    async def status(self, _args: Args) -> dict[str, Any]:
        """Say that the child lives, and what it holds."""
        return {
            "running": True,
            "structures": len(self.directory.structures()),
            "queued": sum((await self.store.outbox.counts()).values()),
            "new_operator_names": len(await self.directory.adoption.alarms()),
            "notifications_waiting": await self.store.notify.waiting(),
            "awaiting_the_bridge": await self.store.filings.awaiting_outcome(),
            "unread_reports": await self._unread.count(),
        }

    @property
    def _unread(self) -> UnreadCommands:
        local = frozenset(self.settings.alsace_moselle)
        return UnreadCommands(self.store, self.directory, self.clock, local)

    async def idle(self, _args: Args) -> dict[str, Any]:
        """Say whether no mail waits to leave and none waits for the bridge."""
        waiting = await self.store.filings.awaiting_outcome()
        return {"idle": waiting == 0 and await self.store.outbox.idle(), "waiting": waiting}

    async def structure_add(self, args: Args) -> dict[str, Any]:
        """Host a structure: its domains, its application mailbox, the bridge's password for it."""
        structure = self._new_structure(args)
        await self.directory.add_structure(structure)
        mailbox = await self._open_mailbox(
            structure.application_address, MailboxType.APP, structure.id, structure.name
        )
        device = await self.store.accounts.add_device(
            NewDevice(mailbox.id, APPLICATION_DEVICE, self.clock(), None)
        )
        known = json.loads(self.site.applications.read_text())
        known[structure.id] = {"address": mailbox.address, "password": device.secret}
        write_private(self.site.applications, json.dumps(known).encode())
        return _structure_row(structure)

    def _new_structure(self, args: Args) -> Structure:
        """Check what ``structure_add`` was given."""
        identifier, organization = args["id"], args["organization"].replace(" ", "")
        if not _SLUG.fullmatch(identifier):
            raise CommandError("bad_id", "The id takes a-z, 0-9 and hyphens, 32 characters.")
        if not _ORGANIZATION.fullmatch(organization):
            raise CommandError("bad_organization", "Give a FINESS (9) or a SIRET (14 digits).")
        domain, patient_domain = args["domain"].lower(), args["patient_domain"].lower()
        if domain == patient_domain:
            raise CommandError("same_domain", "Patients need a domain of their own.")
        if patient_domain == "mssante.fr" or patient_domain.endswith(".mssante.fr"):
            raise CommandError("national_domain", "A patients' domain is never under mssante.fr.")
        application = f"bal-app@{domain}"
        for candidate in (application, f"x@{patient_domain}"):
            try:
                _checked_address(candidate)
            except CommandError as error:
                raise CommandError(
                    "bad_domain", "A domain is written like cabinet.example.org."
                ) from error
        taken = {domain, patient_domain} & {
            name
            for known in self.directory.structures()
            for name in (known.domain, known.patient_domain)
        }
        if taken or self.directory.structure(identifier) is not None:
            raise CommandError("exists", "This id or one of these domains is taken.")
        return Structure(
            id=identifier,
            name=args["name"],
            organization=organization,
            domain=domain,
            patient_domain=patient_domain,
            application_address=application,
        )

    async def structure_list(self, _args: Args) -> list[dict[str, Any]]:
        """List the structures."""
        return [_structure_row(structure) for structure in self.directory.structures()]

    async def structure_resolve(self, args: Args) -> dict[str, Any]:
        """Give the structure named, or the only one there is."""
        return _structure_row(self._structure(args.get("structure")))

    def _structure(self, identifier: str | None) -> Structure:
        if identifier is not None:
            structure = self.directory.structure(identifier)
            if structure is None:
                raise CommandError(
                    "no_structure", "No such structure; see 'pli structure list DIR'."
                )
            return structure
        known = self.directory.structures()
        if len(known) != 1:
            raise CommandError("which_structure", "Say which structure with --structure ID.")
        return known[0]

    async def account_add(self, args: Args) -> dict[str, Any]:
        """Open a professional mailbox and publish it."""
        structure = self._structure(args["structure"])
        address = _checked_address(args["address"])
        try:
            kind = MailboxType(args["type"])
        except ValueError as error:
            raise CommandError("bad_type", "The type is PER, ORG, APP or CAB.") from error
        if kind is MailboxType.PAT:
            raise CommandError("bad_type", "Patients are registered with 'pli patient add'.")
        if address.rpartition("@")[2] != structure.domain:
            raise CommandError("wrong_domain", "The address is not in the structure's domain.")
        name = args.get("name") or address.partition("@")[0]
        rpps = self._rpps(args.get("rpps"), kind)
        profession, specialty = checked_profession(args)
        mailbox = await self._open_mailbox(
            address, kind, structure.id, name, rpps=rpps, filing=bool(args.get("filing", True))
        )
        if rpps is not None:
            given, _, family = name.rpartition(" ")
            await self.directory.add_practitioner(
                Practitioner(rpps, family, given, profession, specialty)
            )
        await self.directory.add_mailbox(DirectoryMailbox(address, kind, structure.id, name, rpps))
        return _mailbox_row(mailbox)

    def _rpps(self, text: str | None, kind: MailboxType) -> str | None:
        if not text:
            if kind is MailboxType.PER:
                raise CommandError("rpps_missing", "A PER mailbox needs the holder's --rpps.")
            return None
        try:
            if self.settings.environment is Environment.PRODUCTION:
                return Rpps.parse(text).value
            return Rpps.lenient(text).value
        except DirectoryError as error:
            raise CommandError("bad_rpps", "The RPPS is not well formed (11 digits).") from error

    async def _open_mailbox(
        self,
        address: str,
        kind: MailboxType,
        structure_id: str,
        name: str,
        *,
        rpps: str | None = None,
        filing: bool = False,
    ) -> Mailbox:
        try:
            return await self.store.accounts.add_mailbox(
                NewMailbox(address, kind, structure_id, name, rpps, filing, self.clock())
            )
        except StoreError as error:
            raise CommandError("exists", "This address is taken.") from error

    async def account_import(self, args: Args) -> list[dict[str, Any]]:
        """Open many mailboxes; each line succeeds or fails alone."""
        results: list[dict[str, Any]] = []
        for number, row in enumerate(args["rows"], start=2):
            try:
                await self.account_add({**row, "filing": _yes(row.get("filing"))})
            except CommandError as refusal:
                results.append({"line": number, "outcome": refusal.code, "text": refusal.text})
            else:
                results.append({"line": number, "outcome": "added", "text": ""})
        return results

    async def account_list(self, _args: Args) -> list[dict[str, Any]]:
        """List the mailboxes that are not patients'."""
        return [
            _mailbox_row(mailbox)
            for mailbox in await self.store.accounts.mailboxes()
            if mailbox.type is not MailboxType.PAT
        ]

    async def device_add(self, args: Args) -> dict[str, Any]:
        """Let a device in: by a password, in this answer only, or by what it will show."""
        mailbox = await named_mailbox(self.store, args["address"])
        if mailbox.closed and mailbox.type is not MailboxType.PAT:
            raise CommandError("closed", "This mailbox is closed: see 'pli account reopen'.")
        now = self.clock()
        person_id = await holder(self.store, mailbox, args.get("person"))
        event = mailbox_event("device_added", now, args, mailbox)
        new = NewDevice(mailbox.id, args["name"], now, now + DEVICE_LIFE, person_id, event)
        if args.get("certificate") is not None:
            fingerprint, until = client_certificate(self.site, args["certificate"], now)
            new = replace(new, expires_at=min(until, now + DEVICE_LIFE))
            bearer = Bearer(DeviceKind.CERTIFICATE, fingerprint)
            device = await self.store.accounts.add_bearer(new, bearer)
        elif args.get("subject") is not None:
            device = await self.store.accounts.add_bearer(new, self._subject(args["subject"]))
        else:
            device = await self._add_password(new, args.get("secret"))
        return {
            "id": device.id,
            "login": mailbox.address,
            "password": device.secret,
            "expires_at": _date(device.expires_at),
        }

    async def _add_password(self, new: NewDevice, secret: str | None) -> DevicePassword:
        try:
            return await self.store.accounts.add_device(new, secret)
        except StoreError as error:
            raise CommandError(
                "weak_password",
                "A device password needs 20 characters or more: give another, or let pli make it.",
            ) from error

    def _subject(self, subject: str) -> Bearer:
        if self.settings.tokens is None:
            raise CommandError(
                "no_token_issuer", "No identity provider: write [tokens] in pli.toml first."
            )
        if not 0 < len(subject) <= SUBJECT_CHARACTERS:
            raise CommandError("bad_subject", "A subject has 1 to 255 characters.")
        return subject_bearer(self.settings.tokens.issuer, subject)

    async def device_list(self, args: Args) -> list[dict[str, Any]]:
        """List a mailbox's devices."""
        mailbox = await named_mailbox(self.store, args["address"])
        people = {each.id: each.address for each in await self.store.accounts.mailboxes()}
        return [
            {
                "id": device.id,
                "name": device.name,
                "by": device.kind.value,
                "scram": device.scram,
                "person": None if device.person_id is None else people.get(device.person_id),
                "created_at": _date(device.created_at),
                "expires_at": _date(device.expires_at),
            }
            for device in await self.store.accounts.devices(mailbox.id)
        ]

    async def device_revoke(self, args: Args) -> None:
        """Take a device password away."""
        mailbox = await named_mailbox(self.store, args["address"])
        if args["id"] not in {d.id for d in await self.store.accounts.devices(mailbox.id)}:
            raise CommandError("no_device", "No such device; see 'pli device list DIR ADDRESS'.")
        event = mailbox_event("device_revoked", self.clock(), args, mailbox, device=args["id"])
        await self.store.accounts.revoke_device(args["id"], event)

    async def login_free(self, args: Args) -> None:
        """Refuse a webmail login that is taken or that is an INS (RULES §11)."""
        login = args["login"]
        if not _LOGIN.fullmatch(login) or _MATRICULE_DIGITS.search(login):
            raise CommandError(
                "bad_login", "The login takes 3 to 64 letters, digits or . _ @ + -; never the INS."
            )
        if await self.store.accounts.account(login) is not None:
            raise CommandError("exists", "This login is taken.")

    async def patient_mailbox(self, args: Args) -> dict[str, Any]:
        """Say whether a patient's mailbox is open."""
        structure = self._structure(args["structure"])
        address = _checked_address(f"{args['ins']}@{structure.patient_domain}")
        return {"exists": await self.store.accounts.mailbox(address) is not None}

    async def patient_open(self, args: Args) -> dict[str, Any]:
        """Open a patient's mailbox, and the webmail account when a login is given.

        Only for a qualified identity (RULES §11): who asks has the record's word for it.
        """
        structure = self._structure(args["structure"])
        address = _checked_address(f"{args['ins']}@{structure.patient_domain}")
        mailbox = await self.store.accounts.mailbox(address)
        if mailbox is None:
            mailbox = await self._open_mailbox(
                address, MailboxType.PAT, structure.id, "", filing=True
            )
        await self.store.accounts.reopen_mailbox(mailbox.id)
        result: dict[str, Any] = {"address": address}
        login = args.get("login")
        if login is not None:
            await self.login_free({"login": login})
            password = new_password()
            secret = pyotp.random_base32()
            await self.store.accounts.add_account(
                NewAccount(
                    login, PasswordHasher().hash(password), secret, (mailbox.id,), self.clock()
                )
            )
            result |= {
                "webmail_login": login,
                "webmail_password": password,
                "webmail_totp_secret": secret,
            }
        return result

    async def patient_close(self, args: Args) -> dict[str, Any]:
        """Close the mailbox of an identity that is not qualified, when there is one."""
        structure = self._structure(args["structure"])
        mailbox = await self.store.accounts.mailbox(
            _checked_address(f"{args['ins']}@{structure.patient_domain}")
        )
        if mailbox is not None:
            await self.store.accounts.close_mailbox(mailbox.id, self.clock())
        return {"address": None}


def _yes(text: str | None) -> bool:
    """Read a yes or no of a spreadsheet; nothing is yes."""
    word = (text or "").strip().lower()
    if word not in _TRUE | _FALSE:
        raise CommandError("bad_filing", "The column filing takes yes or no.")
    return word in _TRUE


def _checked_address(text: str) -> str:
    try:
        return parse_addr_spec(text).key
    except CertsError as error:
        raise CommandError("bad_address", "This is not a mail address.") from error


def _structure_row(structure: Structure) -> dict[str, Any]:
    return {
        "id": structure.id,
        "name": structure.name,
        "organization": structure.organization,
        "domain": structure.domain,
        "patient_domain": structure.patient_domain,
        "application_address": structure.application_address,
    }


def _mailbox_row(mailbox: Mailbox) -> dict[str, Any]:
    return {
        "address": mailbox.address,
        "type": mailbox.type.value,
        "structure": mailbox.structure_id,
        "name": mailbox.display_name,
        "rpps": mailbox.rpps,
        "filing": mailbox.filing,
        "closed": mailbox.closed,
    }


def _date(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")
