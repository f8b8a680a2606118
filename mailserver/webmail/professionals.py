"""Professionals as pages know them: who is signed in, and what others are called."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request

from directory.codes import MailboxType, profession_label
from mailserver.store.model import Mailbox
from mailserver.webmail.services import WebmailServices
from mailserver.webmail.session import Visitor, services_of
from record_bridge.model import Viewer, ViewerKind


@dataclass(frozen=True, slots=True)
class Professional:
    """The visitor as a professional of one structure."""

    mailbox: Mailbox
    viewer: Viewer

    @property
    def actor(self) -> str:
        """The name in the trail: patients are told who opened their record."""
        return f"practitioner:{self.viewer.ref}"


async def professionals_of(services: WebmailServices, visitor: Visitor) -> list[Professional]:
    """List what the visitor is, a professional of each structure that gave them a mailbox."""
    found = []
    for mailbox in visitor.mailboxes:
        if mailbox.type is not MailboxType.PER or not mailbox.rpps:
            continue
        known = await services.directory.practitioner(mailbox.rpps)
        if known is not None:
            viewer = Viewer(
                ViewerKind.PRACTITIONER,
                known.rpps,
                known.profession,
                mailbox.structure_id,
                known.specialty,
            )
            found.append(Professional(mailbox, viewer))
    return found


async def wanted_professionals(request: Request, visitor: Visitor) -> list[Professional]:
    """Give what the visitor is.

    Raises:
        HTTPException: 404 when they are no professional: the page does not exist for them.
    """
    found = await professionals_of(services_of(request), visitor)
    if not found:
        raise HTTPException(404)
    return found


def practitioners_in(actors: Iterable[str]) -> frozenset[str]:
    """Give the RPPS of the professionals among names of the trail."""
    prefix = "practitioner:"
    return frozenset(each.removeprefix(prefix) for each in actors if each.startswith(prefix))


async def names_of(services: WebmailServices, rpps: Iterable[str]) -> Mapping[str, str]:
    """Give what professionals are called: name and profession; those that are known."""
    names = {}
    for each in sorted(set(rpps)):
        known = await services.directory.practitioner(each)
        if known is not None:
            label = profession_label(known.profession)
            names[each] = f"{known.display_name}, {label}" if label else known.display_name
    return names
