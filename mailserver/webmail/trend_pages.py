"""Laboratory results over time: the patient's page and that of professionals.

Both ask ``LabQueries``, where the decision that shows a document shows its results (RULES §7).
The look is in the trail before anything is shown; addresses name no analysis.

Source: RULES §7, RULES §8, RULES §13.
"""

from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from mailserver.webmail.care_pages import care_lists, note_care, wanted_care
from mailserver.webmail.pages import render
from mailserver.webmail.record_pages import OWN_LISTS, note_access, page_number, wanted_record
from mailserver.webmail.session import Visitor, services_of, signed_in
from mailserver.webmail.trend_chart import Chart, chart_of
from record_bridge.lab_queries import Trends
from record_bridge.queries import number_of
from record_bridge.trends import Series

PAGE: Final = 20
OPENED: Final = 3
"""So few series are opened at once."""


async def _own(request: Request, visitor: Visitor) -> Response:
    record = await wanted_record(request, visitor)
    trends = await services_of(request).queries.labs.trends(record.patient.id, record.viewer)
    number = page_number(request)
    await note_access(request, record, "results", None, _documents(trends, number))
    return render("trends.html", visitor, {**OWN_LISTS, **_shown(trends, number)})


async def _care(request: Request, visitor: Visitor) -> Response:
    found = await wanted_care(request, visitor)
    queries = services_of(request).queries
    trends = await queries.labs.trends(found.patient.id, found.professional.viewer)
    number = page_number(request)
    await note_care(request, found, ("results_read", None), _documents(trends, number))
    return render("trends.html", visitor, {**care_lists(found), **_shown(trends, number)})


def _shown(trends: Trends, number: int) -> Mapping[str, object]:
    """One page of series, each with its drawing."""
    shown: list[tuple[Series, Chart | None]] = [
        (each, chart_of(each)) for each in _page(trends, number)
    ]
    return {
        "shown": shown,
        "cut": trends.cut,
        "opened": len(trends.series) <= OPENED,
        "before": number - 1,
        "after": number + 1 if number * PAGE < len(trends.series) else 0,
        "number_of": number_of,
    }


def _page(trends: Trends, number: int) -> tuple[Series, ...]:
    return trends.series[(number - 1) * PAGE : number * PAGE]


def _documents(trends: Trends, number: int) -> frozenset[str]:
    """The documents whose results a page shows."""
    return frozenset[str]().union(*(each.documents for each in _page(trends, number)))


own = signed_in(_own)
care = signed_in(_care)
