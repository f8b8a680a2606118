"""The webmail's application and its listener: routes, security headers, uvicorn on one socket.

Invariants: every answer carries the same set of security headers and ``no-store`` (W7); a body
is bounded before it is read; an error page holds nothing of the request; the access log does not
exist. uvicorn takes no signal: the process's root decides when to stop.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from certs.tls import server_context
from mailserver.webmail import (
    admission_pages,
    agenda_pages,
    application_pages,
    archive_page,
    autoconfig,
    caldav,
    calendar_pages,
    care_packs,
    care_pages,
    family_pages,
    fhir,
    life_pages,
    login,
    mail_pages,
    medication_pages,
    notify_pages,
    operations,
    quarantine_pages,
    record_pages,
    rights_pages,
    trend_pages,
    unread_pages,
)
from mailserver.webmail.pages import STATIC, error_page
from mailserver.webmail.services import (
    SANDBOXED,
    MailService,
    RecordCommand,
    WebmailServices,
    WebmailSettings,
)
from mailserver.webmail.snapshots import Snapshots
from record_bridge.life import MAX_FILE

__all__ = [
    "SANDBOXED",
    "MailService",
    "RecordCommand",
    "WebBind",
    "WebmailServices",
    "WebmailSettings",
    "build_app",
    "serve_web",
]

log = structlog.get_logger("mailserver")

MAX_BODY: Final = 256 * 1024
"""No form is longer: an answer has at most 20,000 characters, each at most 9 octets encoded."""
POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-src 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), interest-cohort=()",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Robots-Tag": "noindex, nofollow",
}
REQUEST_WITHIN_S: Final = 20
"""A connection whose first request is not whole by then is closed."""
BODY_WITHIN_S: Final = 30
UPLOAD_PATH: Final = "/dossier/fichiers"
CARE_UPLOAD_PATH: Final = "/patients/admission"
UPLOAD_PATHS: Final = frozenset({UPLOAD_PATH, CARE_UPLOAD_PATH})
"""The two forms that carry a file; it is read after its sender has signed in."""
MAX_UPLOAD: Final = MAX_FILE + 64 * 1024
UPLOAD_WITHIN_S: Final = 180
FHIR_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
"""All of them: what only writes is refused in FHIR's own words."""
KEEP_ALIVE_S: Final = 15
STOP_WITHIN_S: Final = 5


class _Key(Convertor[int]):
    """A key or a number in a page's address: one that no table can hold names no page."""

    regex = "[0-9]{1,18}"

    def convert(self, value: str) -> int:
        """Give the number; it is below 2**63."""
        return int(value)

    def to_string(self, value: int) -> str:
        """Write it back."""
        return str(value)


# In place of Starlette's own, which takes digits without end: SQLite and int() do not.
register_url_convertor("int", _Key())


class Guard:
    """Bounds what comes in and dresses what goes out."""

    def __init__(self, app: ASGIApp, metrics: operations.WebMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        read, whole = 0, False
        is_upload = scope["path"] in UPLOAD_PATHS
        longest = MAX_UPLOAD if is_upload else MAX_BODY
        within = UPLOAD_WITHIN_S if is_upload else BODY_WITHIN_S
        deadline = asyncio.get_running_loop().time() + within

        async def bounded() -> Message:
            nonlocal read, whole
            try:
                async with asyncio.timeout_at(None if whole else deadline):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(408) from error
            read += len(message.get("body", b""))
            whole = whole or not message.get("more_body", False)
            if read > longest:
                raise HTTPException(413)
            return message

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/static/"):
                    # The sandboxed frame of an HTML mail has no origin, and needs its style.
                    headers["Cross-Origin-Resource-Policy"] = "cross-origin"
                if "frame-ancestors 'self'" in headers["Content-Security-Policy"]:
                    headers["X-Frame-Options"] = "SAMEORIGIN"
                self._metrics.responses.labels(f"{message['status'] // 100}xx").inc()
            await send(message)

        await self._app(scope, bounded, dressed)


async def _root(request: Request) -> Response:
    del request
    return RedirectResponse("/accueil", status_code=303)


async def _refused(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return error_page(request, status)


async def _failed(request: Request, error: Exception) -> Response:
    # Starlette raises the error again behind us; uvicorn's logger is silent, so it is said here.
    log.error("web_failed", error_type=type(error).__name__, phase=_phase(request))
    if request.url.path.startswith("/fhir/"):
        return fhir.failure()
    return error_page(request, 500)


def _phase(request: Request) -> str:
    # The first step of the path, which is one of our own words.
    first = request.url.path.strip("/").partition("/")[0]
    return first if first.isalpha() and len(first) < 20 else "other"


def build_app(services: WebmailServices) -> Starlette:
    """Make the application."""
    metrics = operations.WebMetrics()
    # a person's file stays in memory: nothing of it is ever written beside the record
    MultiPartParser.spool_max_size = MAX_UPLOAD
    prevention = "/agenda/prevention/{rule}/{ordinal:int}"
    care_document = "/patients/{patient:int}/document/{document:int}"
    care_packs_at = "/patients/{patient:int}/admission"
    entry = "/messagerie/{mailbox:int}/{folder:int}/{uid:int}"
    app = Starlette(
        routes=[
            Route("/", _root),
            Route("/connexion", login.sign_in_page, methods=["GET"]),
            Route("/connexion", login.sign_in, methods=["POST"]),
            Route("/deconnexion", login.sign_out, methods=["POST"]),
            Route("/accueil", record_pages.home),
            Route("/prevenir", notify_pages.notify, methods=["GET"]),
            Route("/prevenir", notify_pages.register, methods=["POST"]),
            Route("/prevenir/confirmer", notify_pages.confirm, methods=["POST"]),
            Route("/prevenir/rappels", notify_pages.choose, methods=["POST"]),
            Route("/prevenir/arreter", notify_pages.withdraw, methods=["POST"]),
            Route("/messagerie", mail_pages.start),
            Route("/messagerie/non-lus", unread_pages.reports),
            Route("/messagerie/{mailbox:int}", mail_pages.mailbox),
            Route("/messagerie/{mailbox:int}/{folder:int}", mail_pages.folder),
            Route(entry, mail_pages.message, methods=["GET"]),
            Route(entry + "/contenu", mail_pages.html_body),
            Route(entry + "/piece/{number:int}", mail_pages.attachment),
            Route(entry + "/piece/{number:int}/garder", mail_pages.keep, methods=["POST"]),
            Route(entry + "/piece/{number:int}/ranger", mail_pages.offer, methods=["GET"]),
            Route(entry + "/piece/{number:int}/ranger", mail_pages.offer_decide,
                  methods=["POST"]),
            Route(entry + "/repondre", mail_pages.answer, methods=["POST"]),
            Route(entry + "/invitation", mail_pages.invitation, methods=["POST"]),
            Route("/dossier", record_pages.record),
            Route("/dossier/categorie/{code}", record_pages.category),
            Route("/dossier/document/{document:int}", record_pages.document),
            Route("/dossier/document/{document:int}/fichier/{number:int}",
                  record_pages.document_file),
            Route("/dossier/document/{document:int}/masquer", rights_pages.mask,
                  methods=["POST"]),
            Route("/dossier/droits", rights_pages.rights),
            Route("/dossier/droits/bloquer", rights_pages.block, methods=["POST"]),
            Route("/dossier/droits/urgence", rights_pages.switch, methods=["POST"]),
            Route("/dossier/droits/proche", rights_pages.relative, methods=["POST"]),
            Route("/dossier/droits/{right:int}/retirer", rights_pages.end, methods=["POST"]),
            Route("/famille", family_pages.family),
            Route("/famille/code", family_pages.code, methods=["POST"]),
            Route("/famille/retour", family_pages.back, methods=["POST"]),
            Route("/famille/{patient:int}/ouvrir", family_pages.open_record, methods=["POST"]),
            Route("/avis/{notice:int}", record_pages.notice_seen, methods=["POST"]),
            Route("/quarantaine", quarantine_pages.items),
            Route("/quarantaine/{item:int}", quarantine_pages.item, methods=["GET"]),
            Route("/quarantaine/{item:int}", quarantine_pages.decide, methods=["POST"]),
            Route("/quarantaine/{item:int}/annuler", quarantine_pages.undo, methods=["POST"]),
            Route("/patients", care_pages.patients, methods=["GET"]),
            Route("/patients", care_pages.find, methods=["POST"]),
            Route("/patients/ouvrir", care_pages.declare, methods=["POST"]),
            Route("/patients/{patient:int}", care_pages.patient),
            Route("/patients/{patient:int}/recherche", care_pages.search, methods=["POST"]),
            Route("/patients/{patient:int}/biologie", trend_pages.care),
            Route("/patients/{patient:int}/medicaments", medication_pages.care),
            Route(care_document, care_pages.document),
            Route(care_document + "/fichier/{number:int}", care_pages.document_file),
            Route(care_document + "/liberer", care_pages.release, methods=["POST"]),
            Route(CARE_UPLOAD_PATH, care_packs.add, methods=["POST"]),
            Route(care_packs_at, care_packs.packs, methods=["GET"]),
            Route(care_packs_at, care_packs.create, methods=["POST"]),
            Route(care_packs_at + "/{pack:int}", care_packs.step, methods=["POST"]),
            Route(care_packs_at + "/{item:int}/fichier", care_packs.file),
            Route(care_packs_at + "/{item:int}/rendu", care_packs.returned),
            Route("/dossier/profil", life_pages.profile, methods=["GET"]),
            Route("/dossier/profil", life_pages.profile_add, methods=["POST"]),
            Route("/dossier/profil/{item:int}/retirer", life_pages.profile_remove,
                  methods=["POST"]),
            Route("/dossier/volontes", life_pages.wishes, methods=["GET"]),
            Route("/dossier/volontes", life_pages.wish, methods=["POST"]),
            Route("/dossier/volontes/{directive:int}/retirer", life_pages.wish_withdraw,
                  methods=["POST"]),
            Route("/dossier/oppositions", life_pages.oppose, methods=["POST"]),
            Route("/dossier/urgence", life_pages.emergency),
            Route(UPLOAD_PATH, life_pages.deposits, methods=["GET"]),
            Route(UPLOAD_PATH, life_pages.deposit, methods=["POST"]),
            Route(UPLOAD_PATH + "/{deposit:int}", life_pages.deposit_file),
            Route(UPLOAD_PATH + "/{deposit:int}/retirer", life_pages.deposit_withdraw,
                  methods=["POST"]),
            Route("/dossier/admission", admission_pages.packs),
            Route("/dossier/admission/{pack:int}/terminer", admission_pages.acknowledge,
                  methods=["POST"]),
            Route("/dossier/admission/{pack:int}/{item:int}", admission_pages.item_file),
            Route("/dossier/admission/{pack:int}/{item:int}/lu", admission_pages.item_read,
                  methods=["POST"]),
            Route("/dossier/biologie", trend_pages.own),
            Route("/dossier/medicaments", medication_pages.own),
            Route("/dossier/recherche", life_pages.search_page, methods=["GET"]),
            Route("/dossier/recherche", life_pages.search, methods=["POST"]),
            Route("/dossier/historique", life_pages.history),
            Route("/dossier/archive", archive_page.archive),
            Route("/dossier/acces", record_pages.accesses),
            Route("/dossier/acces/preuves", record_pages.access_proofs),
            Route("/agenda", agenda_pages.agenda),
            Route("/agenda/{entry:int}/fait", agenda_pages.done, methods=["POST"]),
            Route(prevention, agenda_pages.declare, methods=["POST"]),
            Route(prevention + "/annuler", agenda_pages.take_back, methods=["POST"]),
            Route("/agenda/calendriers", calendar_pages.calendars),
            Route("/agenda/calendriers/nouveau", calendar_pages.make, methods=["POST"]),
            Route("/agenda/calendriers/{key:int}/arreter", calendar_pages.stop, methods=["POST"]),
            Route("/agenda/rendez-vous", calendar_pages.add, methods=["POST"]),
            Route("/agenda/rendez-vous/{entry:int}/supprimer", calendar_pages.delete,
                  methods=["POST"]),
            Route("/calendrier/{secret}", calendar_pages.feed_file),
            Route("/.well-known/caldav", caldav.well_known, methods=[*caldav.METHODS]),
            Route("/caldav", caldav.serve, methods=[*caldav.METHODS]),
            Route("/caldav/{path:path}", caldav.serve, methods=[*caldav.METHODS]),
            Route("/dossier/applications", application_pages.applications, methods=["GET"]),
            Route("/dossier/applications", application_pages.make, methods=["POST"]),
            Route("/dossier/applications/{token:int}/arreter", application_pages.stop,
                  methods=["POST"]),
            Route("/fhir", fhir.serve, methods=[*FHIR_METHODS]),
            Route("/fhir/{path:path}", fhir.serve, methods=[*FHIR_METHODS]),
            Route("/.well-known/autoconfig/mail/config-v1.1.xml", autoconfig.config),
            Route("/mail/config-v1.1.xml", autoconfig.config),
            Route("/autodiscover/autodiscover.xml", autoconfig.autodiscover, methods=["POST"]),
            Route("/Autodiscover/Autodiscover.xml", autoconfig.autodiscover, methods=["POST"]),
            Route("/pli.mobileconfig", autoconfig.profile),
            Route("/healthz", operations.health),
            Route("/metrics", operations.metrics),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(Guard, metrics=metrics)],
        exception_handlers={HTTPException: _refused, Exception: _failed},
    )  # fmt: skip
    app.state.services = services
    app.state.metrics = metrics
    app.state.attempts = login.Attempts()
    app.state.snapshots = Snapshots()
    app.state.archives = asyncio.Semaphore(archive_page.AT_A_TIME)
    return app


@dataclass(frozen=True, slots=True)
class WebBind:
    """Where to listen; port 0 takes any free one."""

    host: str
    port: int


class _Protocol(H11Protocol):
    """uvicorn's HTTP/1.1, which does not wait for ever for a first request (threat S9)."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the first request's time."""
        super().connection_made(transport)
        self.loop.call_later(REQUEST_WITHIN_S, self._first_is_due)

    def _first_is_due(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: SIGTERM belongs to the process's root."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Take no signal."""
        yield


@asynccontextmanager
async def serve_web(
    app: Starlette, bind: WebBind, certfile: Path, keyfile: Path
) -> AsyncIterator[int]:
    """Serve over TLS until the block ends, and give the port.

    Answers in flight get a few seconds to end.
    """
    family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
    # IPPROTO_TCP is said, not 0: asyncio sets TCP_NODELAY only then (44 ms a request, DESIGN §7).
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((bind.host, bind.port))
        listener.listen(128)
        listener.setblocking(False)
        port: int = listener.getsockname()[1]
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_WITHIN_S,
            limit_concurrency=500,
        )
        config.load()
        config.ssl = await asyncio.to_thread(
            server_context, certfile, keyfile, client_ca=None, crls=None
        )
        server = _Server(config)
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(server.serve(sockets=[listener]))
            try:
                # uvicorn has no event that says it listens.
                while not server.started and not serving.done():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                yield port
            finally:
                server.should_exit = True
    finally:
        listener.close()
