"""What the command line asks about mailboxes: who shares one, writes as whom, has read there.

Every command takes JSON-able arguments and gives a JSON-able result, like the others of the
process that owns the mail database.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from directory.audit_event import AuditEvent
from directory.model import MailboxType
from mailserver.control import Command
from mailserver.errors import CommandError
from mailserver.mailbox_commands import mailbox_event, named_mailbox, professional_mailbox
from mailserver.store.database import MailStore
from mailserver.store.errors import NotSharableError, UnknownRightError
from mailserver.store.model import Mailbox
from mailserver.store.rights import COLLEAGUE, encode_rights, parse_rights
from mailserver.store.sharing import SHARED_TYPES

Args = Mapping[str, Any]

_NOT_SHARED = CommandError(
    "not_sharable",
    "Only ORG and CAB mailboxes are shared, with holders of PER mailboxes of their structure.",
)


@dataclass(frozen=True, slots=True)
class SharingCommands:
    """Shares, delegations, and who read."""

    store: MailStore
    clock: Callable[[], datetime]

    def table(self) -> dict[str, Command]:
        """Give every command by name."""
        return {
            "mailbox_share": self.share,
            "mailbox_unshare": self.unshare,
            "mailbox_rights": self.rights,
            "mailbox_readings": self.readings,
            "mailbox_list": self.list,
            "mailbox_delegate": self.delegate,
            "mailbox_withdraw": self.withdraw,
        }

    async def share(self, args: Args) -> dict[str, Any]:
        """Let a person into a team's mailbox, or change what they may do there."""
        mailbox, person = await self._named(args)
        letters = args.get("rights")
        try:
            rights = COLLEAGUE if letters is None else parse_rights(letters)
        except UnknownRightError as error:
            raise CommandError(
                "bad_rights", "The rights are letters of lrswipkxtea (RFC 4314)."
            ) from error
        event = self._event("mailbox_shared", args, (mailbox, person), encode_rights(rights))
        try:
            await self.store.sharing.share(mailbox.id, person.id, rights, event)
        except NotSharableError as error:
            raise _NOT_SHARED from error
        return {
            "address": mailbox.address,
            "person": person.address,
            "rights": encode_rights(rights),
        }

    async def unshare(self, args: Args) -> None:
        """Take a person out, with the device passwords that opened the mailbox for them."""
        mailbox, person = await self._named(args)
        event = self._event("mailbox_unshared", args, (mailbox, person), "")
        if not await self.store.sharing.unshare(mailbox.id, person.id, event):
            raise CommandError("not_shared", "This mailbox is not shared with this person.")

    async def rights(self, args: Args) -> list[dict[str, Any]]:
        """Say who may do what in a mailbox, and who writes as it by delegation."""
        mailbox = await professional_mailbox(self.store, args["address"])
        rows = [
            {
                "person": member.person.address,
                "folder": member.folder,
                "rights": encode_rights(member.rights),
                "delegate": False,
            }
            for member in await self.store.sharing.members(mailbox.id)
        ]
        delegates = await self.store.sharing.delegates(mailbox.id)
        return rows + [
            {"person": each.address, "folder": None, "rights": "", "delegate": True}
            for each in delegates
        ]

    async def readings(self, args: Args) -> list[dict[str, Any]]:
        """Say who read messages of a mailbox, a patient's too, the newest first."""
        mailbox = await named_mailbox(self.store, args["address"])
        people = {f"mailbox:{each.id}": each for each in await self.store.accounts.mailboxes()}
        return [
            {
                "at": each.at.isoformat(timespec="seconds"),
                "who": people[each.actor].address if each.actor in people else each.actor,
                "via": each.via,
                "messages": each.messages,
            }
            for each in await self.store.audit.readings(mailbox.id)
        ]

    async def list(self, _args: Args) -> list[dict[str, Any]]:
        """List the mailboxes that teams share, and those that somebody writes for."""
        rows = []
        for mailbox in await self.store.accounts.mailboxes():
            if mailbox.type is MailboxType.PAT:
                continue
            members = await self.store.sharing.members(mailbox.id)
            delegates = await self.store.sharing.delegates(mailbox.id)
            if mailbox.type in SHARED_TYPES or delegates:
                rows.append(
                    {
                        "address": mailbox.address,
                        "type": mailbox.type.value,
                        "structure": mailbox.structure_id,
                        "people": len({member.person.id for member in members}),
                        "delegates": len(delegates),
                    }
                )
        return rows

    async def delegate(self, args: Args) -> dict[str, Any]:
        """Record that a person may write as a mailbox; their messages say so (Sender)."""
        mailbox, person = await self._named(args)
        event = self._event("mailbox_delegated", args, (mailbox, person), "")
        try:
            await self.store.sharing.delegate(mailbox.id, person.id, event)
        except NotSharableError as error:
            raise CommandError(
                "not_delegable", "A delegate holds a PER mailbox of the same structure."
            ) from error
        return {"address": mailbox.address, "person": person.address}

    async def withdraw(self, args: Args) -> None:
        """End a delegation."""
        mailbox, person = await self._named(args)
        event = self._event("mailbox_delegation_ended", args, (mailbox, person), "")
        if not await self.store.sharing.withdraw(mailbox.id, person.id, event):
            raise CommandError("not_delegated", "This person does not write for this mailbox.")

    async def _named(self, args: Args) -> tuple[Mailbox, Mailbox]:
        """Give the mailbox and the person's own."""
        return (
            await professional_mailbox(self.store, args["address"]),
            await professional_mailbox(self.store, args["person"]),
        )

    def _event(
        self, kind: str, args: Args, who: tuple[Mailbox, Mailbox], rights: str
    ) -> AuditEvent:
        mailbox, person = who
        facts = {"person": f"mailbox:{person.id}", "rights": rights}
        return mailbox_event(kind, self.clock(), args, mailbox, **facts)


async def holder(store: MailStore, mailbox: Mailbox, address: str | None) -> int | None:
    """Give who will hold a device password of a mailbox, None for a mailbox of one person.

    Raises:
        CommandError: a team's mailbox without a person, or one whom it is not shared with.
    """
    if mailbox.type not in SHARED_TYPES:
        if address is not None:
            raise CommandError("one_holder", "Only a password of an ORG or CAB mailbox names who.")
        return None
    if address is None:
        raise CommandError("which_person", "Several share this mailbox: say whose with --person.")
    person = await store.accounts.mailbox(address)
    members = {member.person.id for member in await store.sharing.members(mailbox.id)}
    if person is None or person.id not in members:
        raise CommandError(
            "not_shared", "Share the mailbox with this person first: 'pli mailbox share'."
        )
    return person.id
