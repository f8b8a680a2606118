"""What machines ask: ``/healthz`` for everyone, ``/metrics`` for this machine alone.

No label ever holds an address, a name or an identifier (threat L3).
"""

from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})


class WebMetrics:
    """Counters of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.responses = Counter(
            "pli_web_responses", "Answers by status class", ["status"], registry=self.registry
        )


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
    return Response(generate_latest(counted.registry), media_type=CONTENT_TYPE_LATEST)
