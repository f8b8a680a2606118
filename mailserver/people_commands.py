"""What the command line asks about professionals: their profession, and their webmail account.

Every command takes JSON-able arguments and gives a JSON-able result, like the others of the
process that owns the mail and directory databases.
"""

import re
import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyotp
from argon2 import PasswordHasher

from directory.codes import PROFESSIONS, MailboxType
from directory.errors import DirectoryError
from directory.identifiers import Rpps
from directory.lookup import Directory
from directory.model import Practitioner
from mailserver.control import Command
from mailserver.errors import CommandError
from mailserver.mailbox_commands import mailbox_event, professional_mailbox
from mailserver.store.database import MailStore
from mailserver.store.errors import StoreError
from mailserver.store.model import NewAccount

Args = Mapping[str, Any]

PASSWORD_ALPHABET: Final = string.ascii_letters + string.digits
PASSWORD_LENGTH: Final = 20
_SPECIALTY: Final = re.compile(r"[A-Z]{2,3}[0-9]{2,3}|")


@dataclass(frozen=True, slots=True)
class PeopleCommands:
    """Professions and webmail accounts of professionals."""

    store: MailStore
    directory: Directory
    clock: Callable[[], datetime]

    def table(self) -> dict[str, Command]:
        """Give every command by name."""
        return {
            "account_login": self.account_login,
            "account_profession": self.account_profession,
            "account_close": self.account_close,
            "account_reopen": self.account_reopen,
        }

    async def account_profession(self, args: Args) -> dict[str, Any]:
        """Say what a professional is: what they may read of a record depends on it (RULES §7)."""
        try:
            known = await self.directory.practitioner(Rpps.lenient(args["rpps"]).value)
        except DirectoryError:
            known = None
        if known is None:
            raise CommandError(
                "no_professional", "No professional of this RPPS; see 'pli account list DIR'."
            )
        profession, specialty = checked_profession(args)
        await self.directory.describe_practitioner(
            Practitioner(known.rpps, known.family, known.given, profession, specialty)
        )
        return {"rpps": known.rpps, "profession": profession, "specialty": specialty}

    async def account_login(self, args: Args) -> dict[str, Any]:
        """Make the webmail account of a professional's mailbox; its secrets are given once."""
        mailbox = await professional_mailbox(self.store, args["address"])
        at = self.clock()
        password = new_password()
        secret = pyotp.random_base32()
        try:
            await self.store.accounts.add_account(
                NewAccount(
                    args["login"],
                    PasswordHasher().hash(password),
                    secret,
                    (mailbox.id,),
                    at,
                    event=mailbox_event("account_login_made", at, args, mailbox),
                )
            )
        except StoreError as error:
            raise CommandError("login_taken", "This login is taken.") from error
        return {
            "address": mailbox.address,
            "webmail_login": args["login"],
            "webmail_password": password,
            "webmail_totp_secret": secret,
        }

    async def account_close(self, args: Args) -> dict[str, Any]:
        """Close a mailbox whose holder leaves, with every password and session that opened it."""
        mailbox = await professional_mailbox(self.store, args["address"])
        if mailbox.type is MailboxType.APP:
            raise CommandError("application", "The bridge works in this mailbox: it stays open.")
        event = mailbox_event("mailbox_closed", self.clock(), args, mailbox)
        await self.store.accounts.leave(mailbox.id, event)
        await self.directory.close_mailbox(mailbox.address)
        return {"address": mailbox.address, "closed": True}

    async def account_reopen(self, args: Args) -> dict[str, Any]:
        """Open a closed mailbox again; device passwords are to be made anew."""
        mailbox = await professional_mailbox(self.store, args["address"])
        event = mailbox_event("mailbox_reopened", self.clock(), args, mailbox)
        await self.store.accounts.reopen_mailbox(mailbox.id, event)
        await self.directory.reopen_mailbox(mailbox.address)
        return {"address": mailbox.address, "closed": False}


def new_password() -> str:
    """Make a password of about 119 bits."""
    return "".join(secrets.choice(PASSWORD_ALPHABET) for _ in range(PASSWORD_LENGTH))


def checked_profession(args: Args) -> tuple[str, str]:
    """Give the profession and specialty that a command names, "" for what it does not say.

    Raises:
        CommandError: the codes are not of TRE_G15 and TRE_R38.
    """
    profession, specialty = args.get("profession") or "", args.get("specialty") or ""
    if profession and profession not in PROFESSIONS:
        raise CommandError("bad_profession", "The profession is a TRE_G15 code, 10 for médecin.")
    if not _SPECIALTY.fullmatch(specialty):
        raise CommandError("bad_specialty", "The specialty is a TRE_R38 code, e.g. SM26.")
    return profession, specialty
