"""Medicines and vaccinations that documents name: the patient's page and that of professionals.

Both ask the queries, where the decision that shows a document shows its lines (RULES §7). The look
is in the trail before anything is shown; addresses name no medicine.

Source: RULES §7, RULES §8, RULES §13.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from mailserver.webmail.care_pages import care_lists, note_care, wanted_care
from mailserver.webmail.pages import render
from mailserver.webmail.record_pages import OWN_LISTS, note_access, wanted_record
from mailserver.webmail.session import Visitor, services_of, signed_in
from record_bridge.medication_queries import Medications
from record_bridge.model import ActKind, AgendaStatus, Viewer
from record_bridge.queries import AgendaView, RecordQueries, number_of


async def _own(request: Request, visitor: Visitor) -> Response:
    record = await wanted_record(request, visitor)
    shown = await _shown(services_of(request).queries, record.patient.id, record.viewer)
    await note_access(request, record, "medications", None, shown.documents)
    return render("medications.html", visitor, {**OWN_LISTS, **shown.values})


async def _care(request: Request, visitor: Visitor) -> Response:
    found = await wanted_care(request, visitor)
    queries = services_of(request).queries
    shown = await _shown(queries, found.patient.id, found.professional.viewer)
    await note_care(request, found, ("medications_read", None), shown.documents)
    return render("medications.html", visitor, {**care_lists(found), **shown.values})


@dataclass(frozen=True, slots=True)
class _Shown:
    """What a page shows: medicines by document, and vaccinations, newest first."""

    medications: Medications
    vaccinations: Sequence[AgendaView]

    @property
    def documents(self) -> frozenset[str]:
        """The unique ids of those that say so."""
        named = {each.document for each in self.medications.documents}
        return frozenset(named.union(each.source_unique_id for each in self.vaccinations))

    @property
    def values(self) -> Mapping[str, object]:
        """The same for the page."""
        return {
            "found": self.medications,
            "vaccinations": self.vaccinations,
            "number_of": number_of,
        }


async def _shown(queries: RecordQueries, patient_id: int, viewer: Viewer) -> _Shown:
    """What the documents that this viewer sees name."""
    given = [
        each
        for each in reversed(await queries.agenda(patient_id, viewer))
        if each.kind == ActKind.VACCINATION.value and each.status != AgendaStatus.DISMISSED.value
    ]
    return _Shown(
        await queries.medications.medications(patient_id, viewer),
        sorted(given, key=lambda each: each.day is None),
    )


own = signed_in(_own)
care = signed_in(_care)
