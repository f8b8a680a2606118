"""The lines of an agenda as pages show them: what documents say, and what the patient notes."""

from dataclasses import dataclass
from datetime import date

from mailserver.webmail.services import WebmailServices
from mailserver.webmail.text_fr import day, today
from record_bridge.admission import AGENDA_KIND, reads_packs
from record_bridge.life_queries import OwnEntry
from record_bridge.model import Viewer
from record_bridge.pack_queries import Pack
from record_bridge.queries import AgendaView
from record_bridge.rights import Part

OWN = "own"
INVITED = "invited"


@dataclass(frozen=True, slots=True)
class AgendaOf:
    """Whose agenda, and who looks."""

    patient_id: int
    viewer: Viewer


async def whole_agenda(services: WebmailServices, of: AgendaOf) -> list[AgendaView]:
    """List every line of an agenda by date; one's own are the patient's own business."""
    entries = list(await services.queries.agenda(of.patient_id, of.viewer))
    now = today(services.clock())
    opening = await services.queries.rights.may_open(of.patient_id, of.viewer, Part.AGENDA)
    if opening is None or not opening.is_shown:
        return []
    own = await services.queries.life.own_entries(of.patient_id)
    entries += [_shown(entry, now) for entry in own]
    if reads_packs(of.viewer):
        waiting = await services.queries.packs.waiting(of.patient_id)
        entries += [_due(pack, now) for pack in waiting]
    entries.sort(
        key=lambda entry: (
            entry.day is None,
            entry.day or date.min,
            entry.start_at.timestamp() if entry.start_at is not None else 0,
        )
    )
    return entries


def is_upcoming(entry: AgendaView, now: date) -> bool:
    """Say whether a line is still to come, on this civil day."""
    return entry.status in ("proposed", "noted") and entry.day is not None and entry.day >= now


def _shown(entry: OwnEntry, now: date) -> AgendaView:
    last = entry.last_day or entry.day
    return AgendaView(
        id=entry.id,
        kind=INVITED if entry.organizer else OWN,
        status="noted" if last >= now else "history",
        title=entry.title,
        place=entry.place,
        day=max(entry.day, now) if entry.day < now <= last else entry.day,
        start_at=entry.start_at,
        end_at=entry.end_at,
        reminder="",
        document_id=0,
        source_unique_id="",
        source_superseded=False,
        decided=False,
    )


def _due(pack: Pack, now: date) -> AgendaView:
    """An admission that waits; once its day is over it stays, on today, until it is done."""
    late = f"C'était à faire avant le {day(pack.due)}\u00a0: faites-le dès que possible."
    return AgendaView(
        id=pack.id,
        kind=AGENDA_KIND,
        status="noted",
        title=pack.title,
        place="",
        day=max(pack.due, now),
        start_at=None,
        end_at=None,
        reminder=late if pack.due < now else "À lire et à rendre au plus tard ce jour-là.",
        document_id=0,
        source_unique_id=f"admission pack {pack.id}",
        source_superseded=False,
        decided=False,
    )
