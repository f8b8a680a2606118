"""What the command line asks about reminders of the agenda: who is reminded, from when on.

The personal address itself is never told: it is its holder's, who gave and confirmed it in the
webmail (RULES §14).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from directory.audit_event import AuditEvent
from directory.model import Structure
from mailserver.control import Command
from mailserver.errors import CommandError
from mailserver.store.database import MailStore
from mailserver.store.notify import Choice

Args = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ReminderCommands:
    """Reminders of patients; ``structure`` gives the one that a command names."""

    store: MailStore
    structure: Callable[[str | None], Structure]
    clock: Callable[[], datetime]

    def table(self) -> dict[str, Command]:
        """Give every command by name."""
        return {"agenda_reminders": self.agenda_reminders}

    async def agenda_reminders(self, args: Args) -> dict[str, Any]:
        """Say whether a patient is reminded, after changing it when ``reminds`` is not None.

        Returns:
            ``confirmed``: they have an address that may be written to; ``reminders``: they are
            reminded at it; ``last``: civil day of the last one, or None.
        """
        structure = self.structure(args.get("structure"))
        address = f"{args['ins']}@{structure.patient_domain}".lower()
        mailbox = await self.store.accounts.mailbox(address)
        if mailbox is None:
            raise CommandError("no_mailbox", "No such patient's mailbox; see 'pli patient list'.")
        reminds = args.get("reminds")
        if reminds is not None:
            event = AuditEvent(
                "reminders_asked" if reminds else "reminders_stopped",
                self.clock(),
                str(args.get("actor", "cli")),
                structure.id,
                f"mailbox:{mailbox.id}",
                {"reason": str(args.get("reason") or "")},
            )
            if not await self.store.notify.choose(Choice(mailbox.id, bool(reminds), event)):
                raise CommandError(
                    "no_address",
                    "This patient has confirmed no address: that is done in the webmail, on the"
                    " page « Être prévenu ».",
                )
        kept = await self.store.notify.find(mailbox.id)
        last = None if kept is None else kept.reminded_on
        return {
            "ins": args["ins"],
            "structure": structure.id,
            "confirmed": kept is not None and kept.confirmed_at is not None,
            "reminders": kept is not None and kept.reminds,
            "last": None if last is None else last.isoformat(),
        }
