"""What came with a message, kept among the patient's own files ("enregistrer dans mes documents").

The file is judged by its octets like any deposit, is marked as the patient's, and the message
stays as it is. A package for software is never kept so: its documents are filed by the rules.

Source: MSS-FACTS §7.1.
"""

import base64
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from directory.codes import MailboxType
from mailserver.store.model import Mailbox
from mailserver.webmail.commanding import ask
from mailserver.webmail.reading import OpenedMessage, ShownAttachment
from mailserver.webmail.session import Visitor, services_of
from record_bridge.life import ENDINGS, MAX_FILE


@dataclass(frozen=True, slots=True)
class Kept:
    """One file of a message to a patient.

    Attributes:
        number: its part.
        path: the message's page.
    """

    mailbox: Mailbox
    message: OpenedMessage
    number: int
    path: str


def may_be_kept(file: ShownAttachment) -> bool:
    """Say whether a file is worth offering: by its name alone, its octets decide when it comes."""
    ending = file.name.rpartition(".")[2].lower()
    return not file.package and any(ending in endings for endings in ENDINGS.values())


async def keep(request: Request, visitor: Visitor, wanted: Kept) -> Response:
    """Have a file kept in the record of the patient whose mailbox it came to.

    Raises:
        HTTPException: 404 for what is no file of a patient's message, 503 when the bridge cannot
            be asked.
    """
    services = services_of(request)
    listed = {each.number for each in wanted.message.attachments() if not each.package}
    patient = None
    if wanted.mailbox.type is MailboxType.PAT and wanted.number in listed:
        patient = await services.queries.patient_by_address(
            wanted.mailbox.structure_id, wanted.mailbox.address
        )
    found = None if patient is None else await wanted.message.file(wanted.number)
    if patient is None or found is None:
        raise HTTPException(404)
    content, name = found
    if len(content) > MAX_FILE:
        return _back(wanted, "file_too_large")
    arguments = {
        "patient_id": patient.id,
        "actor": visitor.actor,
        "title": name.rpartition(".")[0] or name,
        "name": name,
        "content": base64.b64encode(content).decode("ascii"),
    }
    _, refused = await ask(services, "deposit_add", arguments)
    return _back(wanted, refused or "oui")


def _back(wanted: Kept, told: str) -> Response:
    return RedirectResponse(f"{wanted.path}?garde={told}", status_code=303)
