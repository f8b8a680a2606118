"""Who is signed in: the session cookie, its renewal, the token every form carries.

The cookie holds four fields joined by dots: a random token, a random family, when the chain of
sessions began and when this one ends. Only its SHA-256 is stored, so none of the four can be
altered. Every sign-in and every renewal gives a new cookie and closes the old session; the family
stays through renewals, so that a form opened before one still works. The form token is an HMAC of
the family, which no page and no other site can read (threat W4).
"""

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from directory.codes import MailboxType
from mailserver.store.model import Account, Mailbox
from mailserver.webmail.services import WebmailServices
from mailserver.webmail.whose import CHOSEN_COOKIE, Relative, chosen
from record_bridge.model import ViewerKind

COOKIE = "__Host-pli"
LONGEST_SESSION = timedelta(hours=8)
_FORM_CONTEXT = b"pli form token v1"
MAX_FORM_FIELDS = 20


@dataclass(frozen=True, slots=True)
class Ticket:
    """What the cookie holds."""

    token: str
    family: str
    started_at: datetime
    expires_at: datetime

    def encode(self) -> str:
        """Give the cookie's value."""
        start, end = int(self.started_at.timestamp()), int(self.expires_at.timestamp())
        return f"{self.token}.{self.family}.{start}.{end}"

    @classmethod
    def parse(cls, text: str) -> "Ticket | None":
        """Read a cookie; None when it is not of this form."""
        fields = text.split(".")
        if len(text) > 200 or len(fields) != 4 or not all(fields):
            return None
        if not all(value.isascii() and value.isdigit() for value in fields[2:]):
            return None
        try:
            moments = [datetime.fromtimestamp(int(value), UTC) for value in fields[2:]]
        except (ValueError, OverflowError, OSError):
            return None
        return cls(fields[0], fields[1], *moments)

    @property
    def digest(self) -> bytes:
        """What is stored of it."""
        return hashlib.sha256(self.encode().encode()).digest()

    @property
    def form_token(self) -> str:
        """What every form carries before signing in."""
        return self.token_for(None)

    def token_for(self, patient_id: int | None) -> str:
        """What every form carries that is about one record: another's, or None for one's own."""
        about = b"" if patient_id is None else f" {patient_id}".encode()
        return hmac.new(self.family.encode(), _FORM_CONTEXT + about, hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Visitor:
    """A signed-in account and its mailboxes, and whose record it opened besides its own."""

    ticket: Ticket
    account: Account
    mailboxes: tuple[Mailbox, ...]
    chosen: Relative | None = None

    @property
    def form_token(self) -> str:
        """What every form of this visitor carries, as long as they read this record."""
        return self.ticket.token_for(None if self.chosen is None else self.chosen.patient.id)

    @property
    def reads_only(self) -> bool:
        """Whether they read the record of somebody whom they help, and change nothing in it."""
        return self.chosen is not None and self.chosen.viewer.kind == ViewerKind.DELEGATE

    @property
    def is_professional(self) -> bool:
        """Whether one of the mailboxes is that of a professional who is named."""
        return any(mailbox.type is MailboxType.PER and mailbox.rpps for mailbox in self.mailboxes)

    @property
    def is_patient(self) -> bool:
        """Whether one of the mailboxes is a patient's."""
        return any(mailbox.type is MailboxType.PAT for mailbox in self.mailboxes)

    @property
    def actor(self) -> str:
        """The name in the trail: never the login, never an address."""
        return f"account:{self.account.id}"

    def mailbox(self, mailbox_id: int) -> Mailbox:
        """Give one of their mailboxes.

        Raises:
            HTTPException: 404, the same for another's and for none (threat W5).
        """
        for mailbox in self.mailboxes:
            if mailbox.id == mailbox_id:
                return mailbox
        raise HTTPException(404)


def new_ticket(at: datetime, lifetime: timedelta, before: Ticket | None = None) -> Ticket:
    """Make a ticket: of a new family, or the next one of the same."""
    family = secrets.token_urlsafe(32) if before is None else before.family
    started_at = at if before is None else before.started_at
    ends_at = min(at + lifetime, started_at + LONGEST_SESSION)
    return Ticket(secrets.token_urlsafe(32), family, started_at, ends_at)


def set_cookie(response: Response, ticket: Ticket) -> None:
    """Send the cookie: this host only, HTTPS only, out of reach of scripts and other sites."""
    response.set_cookie(
        COOKIE, ticket.encode(), path="/", secure=True, httponly=True, samesite="strict"
    )


def clear_cookie(response: Response) -> None:
    """Take the cookie away."""
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")


def keep_chosen(response: Response, patient_id: int | None) -> None:
    """Say whose record is read from now on: another's, or one's own again."""
    if patient_id is None:
        response.delete_cookie(
            CHOSEN_COOKIE, path="/", secure=True, httponly=True, samesite="strict"
        )
        return
    response.set_cookie(
        CHOSEN_COOKIE, str(patient_id), path="/", secure=True, httponly=True, samesite="strict"
    )


def ticket_of(request: Request) -> Ticket | None:
    """Give the request's ticket, whether or not it opens anything."""
    return Ticket.parse(request.cookies.get(COOKIE, ""))


def services_of(request: Request) -> WebmailServices:
    """Give what the application was built with."""
    services = request.app.state.services
    if not isinstance(services, WebmailServices):
        raise TypeError("the application was not built by build_app")
    return services


async def visitor_of(request: Request) -> Visitor | None:
    """Give who is signed in, or None."""
    ticket = ticket_of(request)
    services = services_of(request)
    at = services.clock()
    if ticket is None or ticket.expires_at <= at:
        return None
    account = await services.store.accounts.session(ticket.digest, at)
    if account is None:
        return None
    found = [await services.store.accounts.mailbox_by_id(key) for key in account.mailbox_ids]
    # A patient whose address is closed still reads; whoever left a structure does not.
    mailboxes = tuple(
        mailbox
        for mailbox in found
        if mailbox is not None and (mailbox.type is MailboxType.PAT or not mailbox.closed)
    )
    wish = request.cookies.get(CHOSEN_COOKIE, "")
    relative = await chosen(services, mailboxes, wish) if wish else None
    return Visitor(ticket, account, mailboxes, relative)


Page = Callable[[Request, Visitor], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


def signed_in(page: Page, *, files: int = 0) -> Endpoint:
    """Make an endpoint of a page for signed-in visitors only; others go to the sign-in page.

    Args:
        page: what it shows or does.
        files: how many files its form may carry.

    A state change (POST) needs the form token. A whole page opened in the second half of the
    session's life renews it.
    """

    @wraps(page)
    async def endpoint(request: Request) -> Response:
        visitor = await visitor_of(request)
        if visitor is None:
            return RedirectResponse("/connexion", status_code=303)
        try:
            if request.method == "POST":
                await check_form(request, visitor.form_token, files=files)
            response = await page(request, visitor)
        finally:
            await request.close()  # what a form carried is forgotten
        if request.method == "GET" and response.media_type == "text/html":
            await _renew(request, visitor, response)
        return response

    return endpoint


async def check_form(request: Request, token: str, *, files: int = 0) -> None:
    """Refuse a state change without the visitor's own form token.

    Raises:
        HTTPException: 403.
    """
    if not _sent_from_here(request):
        raise HTTPException(403)
    form = await request.form(max_files=files, max_fields=MAX_FORM_FIELDS)
    given = form.get("csrf")
    if not isinstance(given, str):
        raise HTTPException(403)
    if not hmac.compare_digest(given.encode("utf-8", "replace"), token.encode()):
        raise HTTPException(403)


def _sent_from_here(request: Request) -> bool:
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site")
    if site not in (None, "same-origin", "none"):
        return False
    if origin == "null":
        # Under our Referrer-Policy (no-referrer) Chromium sends "null" for our own forms; only a
        # browser that also says "same-origin" is believed (seen in 2026).
        return site == "same-origin"
    return origin is None or origin == f"https://{request.headers.get('host', '')}"


async def field_of(request: Request, name: str, limit: int) -> str:
    """Give one text field of a form already checked, cut at a limit; "" when absent.

    A browser counts the end of a line as one character, and sends two.
    """
    form = await request.form(max_files=0, max_fields=MAX_FORM_FIELDS)
    value = form.get(name)
    return value.replace("\r\n", "\n")[:limit] if isinstance(value, str) else ""


async def _renew(request: Request, visitor: Visitor, response: Response) -> None:
    services = services_of(request)
    lifetime = timedelta(minutes=services.settings.session_minutes)
    at = services.clock()
    if request.headers.get("sec-fetch-dest", "document") != "document":
        return
    if visitor.ticket.expires_at - at > lifetime / 2:
        return
    ticket = new_ticket(at, lifetime, visitor.ticket)
    if ticket.expires_at <= visitor.ticket.expires_at:
        return
    await services.store.accounts.open_session(
        visitor.account.id, ticket.digest, at, ticket.expires_at
    )
    await services.store.accounts.close_session(visitor.ticket.digest)
    set_cookie(response, ticket)
