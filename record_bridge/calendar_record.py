"""Personal calendars of a record: what each one holds.

Two calendars: what documents say, which only documents change, and what the patient notes, which
the patient writes.

Source: RULES §8, RULES §14, RFC 4791 §5.3.2.
"""

import hashlib
from collections.abc import Sequence

from record_bridge.admission import reads_packs
from record_bridge.calendar_objects import CalendarObject, Dated, entry_uid, stored_object
from record_bridge.formats.ical import Appointment
from record_bridge.life_queries import OwnEntry
from record_bridge.model import Viewer
from record_bridge.queries import RecordQueries


async def document_calendar(
    queries: RecordQueries, patient_id: int, viewer: Viewer
) -> tuple[Dated, ...]:
    """What the documents that this viewer sees say of days, and the packs that wait for them.

    Dismissed lines are left out.
    """
    found = []
    for entry in await queries.agenda(patient_id, viewer):
        if entry.day is None or entry.changed_at is None or entry.status == "dismissed":
            continue
        found.append(
            Dated(
                Appointment(
                    uid=entry_uid(entry.source_unique_id, entry.ordinal),
                    summary=entry.title,
                    day=entry.day,
                    start_at=entry.start_at,
                    end_at=entry.end_at,
                    place=entry.place,
                    tentative=entry.status == "proposed",
                    reminded=entry.is_reminded,
                ),
                entry.changed_at,
            )
        )
    if reads_packs(viewer):
        found += [
            Dated(
                Appointment(
                    uid=entry_uid("admission pack", pack.id),
                    summary=pack.title,
                    day=pack.due,
                    reminded=True,
                ),
                pack.sent_at,
            )
            for pack in await queries.packs.waiting(patient_id)
        ]
    return tuple(found)


def own_calendar(entries: Sequence[OwnEntry]) -> tuple[Dated, ...]:
    """The patient's own appointments."""
    return tuple(Dated(_appointment(each), each.changed_at) for each in entries)


def own_objects(entries: Sequence[OwnEntry]) -> tuple[CalendarObject, ...]:
    """The same as resources: the octets that were put."""
    return tuple(stored_object(each.name, each.ics, _appointment(each)) for each in entries)


def _appointment(entry: OwnEntry) -> Appointment:
    return Appointment(
        uid=entry.uid,
        summary=entry.title,
        day=entry.day,
        start_at=entry.start_at,
        end_at=entry.end_at,
        last_day=entry.last_day,
        place=entry.place,
        cancelled=entry.cancelled,
    )


def key_digest(secret: str) -> bytes:
    """What is kept of a secret of at least 120 random bits: no slow hash is needed."""
    return hashlib.sha256(b"pli calendar key\x00" + secret.strip().encode()).digest()
