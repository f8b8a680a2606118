"""Where a page of the messages stands: a mailbox, one of its folders, and by what right.

Invariants: a mailbox, folder or message that is neither the visitor's nor shared with them is a
404 like one that does not exist (W5). Others' mailboxes are read here, message by message, and
nothing else is done in them: for the rest there are mail clients.
"""

from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request

from directory.codes import MailboxType
from mailserver.store.model import EntryDetail, Folder, Mailbox
from mailserver.store.rights import ALL, NONE, Rights
from mailserver.webmail.session import Visitor, services_of


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page stands; ``rights`` are all in one's own mailbox, some in a team's."""

    mailbox: Mailbox
    folder: Folder
    rights: Rights = ALL
    is_shared: bool = False

    @property
    def path(self) -> str:
        """The folder's address."""
        return f"/messagerie/{self.mailbox.id}/{self.folder.id}"


async def own_place(request: Request, visitor: Visitor) -> Place:
    """Give the folder of the visitor that the address names.

    Raises:
        HTTPException: 404 for another's and for none.
    """
    return Place(visitor.mailbox(int(request.path_params["mailbox"])), await _folder(request))


async def readable_place(request: Request, visitor: Visitor) -> Place:
    """Give the folder that the address names: the visitor's, or one that they may read in.

    Raises:
        HTTPException: 404 for another's and for none.

    Source: RFC 4314 §2.1.
    """
    mailbox_id = int(request.path_params["mailbox"])
    if any(mailbox.id == mailbox_id for mailbox in visitor.mailboxes):
        return await own_place(request, visitor)
    folder = await _folder(request)
    mailbox = await services_of(request).store.accounts.mailbox_by_id(mailbox_id)
    rights = await _rights(request, visitor, folder)
    if mailbox is None or "r" not in rights:
        raise HTTPException(404)
    return Place(mailbox, folder, rights, is_shared=True)


async def entry_of(request: Request, place: Place) -> EntryDetail:
    """Give the message of a folder that the address names.

    Raises:
        HTTPException: 404 when there is none.
    """
    uid = int(request.path_params["uid"])
    found = await services_of(request).store.messages.detail(place.folder.id, [uid])
    if not found:
        raise HTTPException(404)
    return found[0]


async def _folder(request: Request) -> Folder:
    folder = await services_of(request).store.folders.by_id(int(request.path_params["folder"]))
    if folder is None or folder.mailbox_id != int(request.path_params["mailbox"]):
        raise HTTPException(404)
    return folder


async def _rights(request: Request, visitor: Visitor, folder: Folder) -> Rights:
    rights = NONE
    for person in visitor.mailboxes:
        if person.type is MailboxType.PER:
            grants = await services_of(request).store.sharing.grants(person.id)
            rights |= grants.on(folder.mailbox_id, folder.id)
    return rights
