"""What the commands about a mailbox share: how it is named, and who did what to it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from directory.audit_event import AuditEvent
from directory.model import MailboxType
from mailserver.errors import CommandError
from mailserver.store.database import MailStore
from mailserver.store.model import Mailbox

Args = Mapping[str, Any]


async def named_mailbox(store: MailStore, address: object) -> Mailbox:
    """Give the mailbox of an address.

    Raises:
        CommandError: there is none.
    """
    mailbox = await store.accounts.mailbox(str(address))
    if mailbox is None:
        raise CommandError("no_mailbox", "No such mailbox; see 'pli account list DIR'.")
    return mailbox


async def professional_mailbox(store: MailStore, address: object) -> Mailbox:
    """Give the mailbox of an address that is no patient's.

    Raises:
        CommandError: there is none.
    """
    mailbox = await named_mailbox(store, address)
    if mailbox.type is MailboxType.PAT:
        raise CommandError("no_mailbox", "No such mailbox; see 'pli account list DIR'.")
    return mailbox


def mailbox_event(
    kind: str, at: datetime, args: Args, mailbox: Mailbox, **facts: str | int
) -> AuditEvent:
    """Say what a command does to a mailbox, and whose command it is."""
    actor = str(args.get("actor", "cli"))
    return AuditEvent(kind, at, actor, mailbox.structure_id, f"mailbox:{mailbox.id}", facts)
