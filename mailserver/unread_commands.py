"""What the command line asks about reports that nobody has opened for three working days.

The one who runs a site sees mailboxes, counts and who answers for them; what the reports are is
for those who do, in the webmail.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from directory.lookup import Directory
from mailserver.control import Command
from mailserver.store.database import MailStore
from mailserver.store.model import Mailbox
from mailserver.store.unread import Responsibility, UnreadReport
from mailserver.working_days import unread_before

MOST: Final = 100_000
"""Reports that one answer counts."""


@dataclass(frozen=True, slots=True)
class UnreadCommands:
    """Unread reports of the whole site; ``alsace_moselle``: structures with its holidays."""

    store: MailStore
    directory: Directory
    clock: Callable[[], datetime]
    alsace_moselle: frozenset[str]

    def table(self) -> dict[str, Command]:
        """Give every command by name."""
        return {"account_unread": self.account_unread}

    async def count(self) -> int:
        """Count them."""
        return await self.store.unread.count(self._before())

    async def account_unread(self, _args: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Say which mailboxes have some, since when, and who answers; longest waiting first."""
        reports = await self.store.unread.everywhere(self._before(), MOST)
        known = {each.id: each for each in await self.store.accounts.mailboxes()}
        shared = await self.store.unread.responsibility({each.mailbox_id for each in reports})
        by_mailbox: dict[int, list[UnreadReport]] = {}
        for report in reports:
            by_mailbox.setdefault(report.mailbox_id, []).append(report)
        return [
            {
                "address": known[mailbox_id].address,
                "type": known[mailbox_id].type.value,
                "structure": known[mailbox_id].structure_id,
                "responsible": _responsible(known, shared, waiting),
                "unread": len(waiting),
                "oldest": waiting[0].received_at.isoformat(timespec="seconds"),
            }
            for mailbox_id, waiting in by_mailbox.items()
        ]

    def _before(self) -> dict[str, datetime]:
        return unread_before(self.clock(), self.directory.structures(), self.alsace_moselle)


def _responsible(
    known: Mapping[int, Mailbox], shared: Responsibility, reports: Iterable[UnreadReport]
) -> list[str]:
    """Name who answers for a mailbox's reports; whoever holds it when nobody shares it.

    Nobody for the mailbox of somebody who left: its reports are for the structure to give on.
    """
    found: set[str] = set()
    for report in reports:
        persons = shared.persons(report) or {report.mailbox_id}
        found |= {known[each].address for each in persons if not known[each].closed}
    return sorted(found)
