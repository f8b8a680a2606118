"""Whose record a visitor reads: their own, or one that they opened as a representative.

Another's record is opened by a form, kept in a cookie of its own, and asked for again at every
request: the cookie is a wish, never a right. Forms of one record are refused in another, because
the form token depends on it; so a page left open in another tab changes nobody else's record.

Source: RULES §7, MSS-FACTS §7.3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from starlette.exceptions import HTTPException

from directory.codes import MailboxType
from mailserver.store.model import Mailbox
from mailserver.webmail.services import WebmailServices
from record_bridge.model import Viewer, ViewerKind
from record_bridge.queries import PatientView
from record_bridge.rights import EVERYTHING, GrantKind, Part

CHOSEN_COOKIE: Final = "__Host-pli-dossier"
_MAX_KEY: Final = 12
_KINDS: Final = {
    GrantKind.REPRESENTATIVE: ViewerKind.REPRESENTATIVE,
    GrantKind.DELEGATE: ViewerKind.DELEGATE,
}
RELATIVES_PAGES: Final = {
    "/accueil": EVERYTHING,
    "/dossier": frozenset({Part.DOCUMENTS}),
    "/dossier/categorie": frozenset({Part.DOCUMENTS}),
    "/dossier/document": frozenset({Part.DOCUMENTS}),
    "/dossier/recherche": frozenset({Part.DOCUMENTS}),
    "/dossier/biologie": frozenset({Part.DOCUMENTS}),
    "/dossier/medicaments": frozenset({Part.DOCUMENTS}),
    "/agenda": frozenset({Part.AGENDA}),
}
"""What a relative may open, and what their delegation must cover; they change nothing."""


PATIENT_ONLY: Final = frozenset({"/dossier/applications"})
"""What nobody does for a patient: a key of an application reads all that the patient reads, also
what is hidden from representatives, and outlives majority."""


@dataclass(frozen=True, slots=True)
class Relative:
    """Somebody whose record the visitor may open: a child, or who asked for their help."""

    patient: PatientView
    viewer: Viewer
    parts: frozenset[Part]


async def own_patient(
    services: WebmailServices, mailboxes: Sequence[Mailbox]
) -> tuple[Mailbox, PatientView] | None:
    """Give the patient whose mailbox this account has; a professional's has none."""
    for mailbox in mailboxes:
        if mailbox.type is not MailboxType.PAT:
            continue
        patient = await services.queries.patient_by_address(mailbox.structure_id, mailbox.address)
        if patient is not None:
            return mailbox, patient
    return None


async def relatives(services: WebmailServices, mailboxes: Sequence[Mailbox]) -> list[Relative]:
    """List whose records this account may open besides its own, children first."""
    own = await own_patient(services, mailboxes)
    if own is None:
        return []
    found: dict[int, Relative] = {}
    held = await services.queries.rights.held_by(Viewer(ViewerKind.PATIENT, str(own[1].id)))
    for wanted in _KINDS:
        for right in held:
            if right.kind is not wanted or right.patient_id in found:
                continue
            viewer = Viewer(_KINDS[wanted], str(own[1].id))
            parts = await _open_parts(services, right.patient_id, viewer)
            patient = await services.queries.patient(right.patient_id)
            if parts and patient is not None:
                found[right.patient_id] = Relative(patient, viewer, parts)
    return list(found.values())


async def chosen(
    services: WebmailServices, mailboxes: Sequence[Mailbox], wish: str
) -> Relative | None:
    """Give the record that the cookie names, None when it may not be opened (any more)."""
    if not wish.isdecimal() or len(wish) > _MAX_KEY:
        return None
    known = await relatives(services, mailboxes)
    return next((each for each in known if each.patient.id == int(wish)), None)


async def _open_parts(
    services: WebmailServices, patient_id: int, viewer: Viewer
) -> frozenset[Part]:
    opened = set()
    for part in Part:
        decision = await services.queries.rights.may_open(patient_id, viewer, part)
        if decision is not None and decision.is_shown:
            opened.add(part)
    return frozenset(opened)


def refuse_a_relative(relative: Relative, method: str, path: str) -> None:
    """Keep a relative to what they may read, and a representative from keys of applications.

    Raises:
        HTTPException: 404 for a page that is not theirs, 403 for a change.
    """
    page = "/".join(path.split("/")[:3])
    if page in PATIENT_ONLY:
        raise HTTPException(404)
    if relative.viewer.kind != ViewerKind.DELEGATE:
        return
    if not RELATIVES_PAGES.get(page, frozenset()) & relative.parts:
        raise HTTPException(404)
    if method == "POST" and page != "/dossier/recherche":
        raise HTTPException(403)
