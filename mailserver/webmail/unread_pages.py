"""Reports that nobody has opened for three working days, for who answers for their mailbox.

One answers for one's own mailbox, and for a team's as ``Responsibility`` says. The list gives when
a report came, from whom and to which mailbox, and opens it; what it says, and about whom, is for
the message's own page, which writes the reading into the trail.

Source: RULES §13.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from directory.codes import MailboxType
from mailserver.store.unread import ANSWERED_FOR, UnreadReport
from mailserver.webmail.pages import render
from mailserver.webmail.services import WebmailServices
from mailserver.webmail.session import Visitor, services_of, signed_in
from mailserver.working_days import unread_before

MOST: Final = 1000
"""Reports that are counted; beyond, one more makes no difference to who reads the count."""
SHOWN: Final = 100


def overdue(services: WebmailServices) -> dict[str, datetime]:
    """Give, for each structure, what came so long ago that it should have been read."""
    structures = services.directory.structures()
    return unread_before(services.clock(), structures, services.settings.alsace_moselle)


async def unread_reports(services: WebmailServices, visitor: Visitor) -> list[UnreadReport]:
    """Give the unread reports that the visitor answers for, those that wait longest first."""
    own = {each.id for each in visitor.mailboxes if each.type in ANSWERED_FOR}
    if not own:
        return []
    persons = {each.id for each in visitor.mailboxes if each.type is MailboxType.PER}
    shared: set[int] = set()
    worded: set[int] = set()
    for person in persons:
        grants = await services.store.sharing.grants(person)
        shared |= grants.reached - own
        worded |= {grants.homes[folder] for folder in grants.folders}
    if not shared:
        return await services.store.unread.among(own, overdue(services), MOST)
    responsibility = await services.store.unread.responsibility(shared)
    # Others' reports must not take the places of those that the visitor answers for.
    answered = {each for each in shared if each in worded or responsibility.of(each) & persons}
    found = await services.store.unread.among(own | answered, overdue(services), MOST)
    return [
        each for each in found if each.mailbox_id in own or responsibility.persons(each) & persons
    ]


async def _list(request: Request, visitor: Visitor) -> Response:
    services = services_of(request)
    if not any(each.type in ANSWERED_FOR for each in visitor.mailboxes):
        raise HTTPException(404)
    reports = await unread_reports(services, visitor)
    shown = reports[:SHOWN]
    values = {
        "section": "mail",
        "count": len(reports),
        "many": len(reports) >= MOST,
        "reports": shown,
        "senders": await services.store.unread.senders(shown),
        "names": await _names(services, shown),
    }
    return render("unread.html", visitor, values)


async def _names(services: WebmailServices, reports: Sequence[UnreadReport]) -> dict[int, str]:
    """Give what the mailboxes are called."""
    names = {}
    for key in sorted({each.mailbox_id for each in reports}):
        mailbox = await services.store.accounts.mailbox_by_id(key)
        if mailbox is not None:
            names[key] = mailbox.display_name or mailbox.address
    return names


reports = signed_in(_list)
