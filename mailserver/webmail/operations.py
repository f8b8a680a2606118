"""What machines ask: ``/healthz`` for everyone, ``/metrics`` for this machine alone.

No label ever holds an address, a name or an identifier (threat L3): what waits is counted for the
whole site, never for a mailbox or a person.
"""

from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    generate_latest,
)
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from mailserver.webmail.services import WebmailServices
from mailserver.webmail.session import services_of
from mailserver.webmail.unread_pages import overdue

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})


class WebMetrics:
    """Counters of one application, and what waits on the site when it is asked."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.responses = Counter(
            "pli_web_responses", "Answers by status class", ["status"], registry=self.registry
        )
        self._unread = self._gauge(
            "pli_unread_reports", "Reports that nobody has opened for three working days"
        )
        self._quarantine = Gauge(
            "pli_quarantine_late",
            "Items of quarantine without a decision for so many hours",
            ["hours"],
            registry=self.registry,
        )
        self._outbox = Gauge(
            "pli_outbox_recipients",
            "Recipients whose message has not left",
            ["state"],
            registry=self.registry,
        )
        self._bridge = self._gauge(
            "pli_awaiting_the_bridge", "Messages whose outcome the bridge has not said"
        )
        self._notify = self._gauge(
            "pli_notifications_waiting", "People who could not be told yet that something is new"
        )

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry)

    async def look(self, services: WebmailServices) -> None:
        """Count what waits now."""
        store = services.store
        self._unread.set(await store.unread.count(overdue(services)))
        for hours, count in (await services.queries.late()).items():
            self._quarantine.labels(str(hours)).set(count)
        for state, count in (await store.outbox.counts()).items():
            self._outbox.labels(state.value).set(count)
        self._bridge.set(await store.filings.awaiting_outcome())
        self._notify.set(await store.notify.waiting())


async def health(request: Request) -> Response:
    """Say that the process serves and reads its database."""
    services = request.app.state.services
    await services.store.accounts.mailbox_by_id(0)
    return PlainTextResponse("ok\n")


async def metrics(request: Request) -> Response:
    """Give the counters, to a client on this machine that no proxy speaks for."""
    client = request.client.host if request.client is not None else ""
    if client not in _LOOPBACK or "x-forwarded-for" in request.headers:
        return PlainTextResponse("not found\n", status_code=404)
    counted: WebMetrics = request.app.state.metrics
    await counted.look(services_of(request))
    return Response(generate_latest(counted.registry), media_type=CONTENT_TYPE_LATEST)
