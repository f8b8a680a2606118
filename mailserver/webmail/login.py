"""Signing in and out: password and one-time code in one form, one answer for every refusal.

Invariants: an unknown login costs the same argon2 as a known one and gets the same page; a code
is accepted once; a refused try is counted by login (known or not) and by network address; the
session's cookie is new at each sign-in (threats W4, W6, O2).
Source: RFC 6238 §5.2, RULES §12.
"""

import asyncio
import hmac
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Final

import pyotp
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from directory.trail import AuditEvent
from mailserver.store.model import Account
from mailserver.webmail import text_fr
from mailserver.webmail.pages import render
from mailserver.webmail.session import (
    Visitor,
    check_form,
    clear_cookie,
    field_of,
    keep_chosen,
    new_ticket,
    services_of,
    set_cookie,
    signed_in,
    ticket_of,
    visitor_of,
)

MAX_LOGIN: Final = 128
MAX_PASSWORD: Final = 256
CODE_STEP_S: Final = 30
CODE_DRIFT: Final = 1
"""Steps a phone's clock may be off, either way. Source: RFC 6238 §5.2."""
ADDRESS_TRIES: Final = 60
ADDRESS_WINDOW: Final = timedelta(minutes=15)
"""Refusals one network address may cause before it waits; a practice shares one address."""
_CONCURRENT_HASHES: Final = 2
_FORM_LIFETIME: Final = timedelta(hours=2)


class Attempts:
    """What sign-in keeps in memory: refusals by network address, and the hashing's bound."""

    def __init__(self) -> None:
        self.hashing = asyncio.Semaphore(_CONCURRENT_HASHES)
        self.hasher = PasswordHasher()
        # Verified against when the login is unknown, so that both answers take as long.
        self.decoy = self.hasher.hash("decoy")
        self._refusals: dict[str, list[datetime]] = {}

    def allowed(self, address: str, at: datetime) -> bool:
        """Say whether this network address may try now."""
        recent = [then for then in self._refusals.get(address, ()) if at - then < ADDRESS_WINDOW]
        if recent:
            self._refusals[address] = recent
        else:
            self._refusals.pop(address, None)
        return len(recent) < ADDRESS_TRIES

    def refused(self, address: str, at: datetime) -> None:
        """Count a refusal."""
        if len(self._refusals) > 10_000:
            self._refusals.clear()
        self._refusals.setdefault(address, []).append(at)


async def sign_in_page(request: Request) -> Response:
    """Show the form; a signed-in visitor goes home."""
    if await visitor_of(request) is not None:
        return RedirectResponse("/accueil", status_code=303)
    return _form(request, message="", status=200)


async def sign_in(request: Request) -> Response:
    """Check login, password and code together."""
    services = services_of(request)
    at = services.clock()
    ticket = ticket_of(request)
    if ticket is None or ticket.expires_at <= at:
        return _form(request, message=text_fr.PAGE_EXPIRED, status=403)
    await check_form(request, ticket.form_token)
    login = (await field_of(request, "login", MAX_LOGIN)).strip()
    password = await field_of(request, "password", MAX_PASSWORD)
    code = "".join((await field_of(request, "code", 20)).split())
    account = await _checked(request, (login, password, code), at)
    if account is None:
        return _form(request, message=text_fr.LOGIN_REFUSED, status=401, login=login)
    await services.store.accounts.close_session(ticket.digest)
    opened = new_ticket(at, timedelta(minutes=services.settings.session_minutes))
    await services.store.accounts.open_session(account.id, opened.digest, at, opened.expires_at)
    await services.store.audit.record([AuditEvent("web_sign_in", at, f"account:{account.id}")])
    response = RedirectResponse("/accueil", status_code=303)
    set_cookie(response, opened)
    keep_chosen(response, None)
    return response


async def _checked(request: Request, given: tuple[str, str, str], at: datetime) -> Account | None:
    services = services_of(request)
    attempts: Attempts = request.app.state.attempts
    accounts = services.store.accounts
    login, password, code = given
    address = _network(request.client.host if request.client is not None else "")
    if not attempts.allowed(address, at) or not await accounts.login_allowed(login, at):
        return None
    account = await accounts.account(login)
    right = await _password_holds(attempts, account, password)
    counter = _counter_of(account, code, at)
    if (
        account is not None
        and right
        and counter is not None
        and await accounts.use_totp(account.id, counter)
    ):
        await accounts.forget_failures(login)
        return account
    attempts.refused(address, at)
    await accounts.note_failure(login, at)
    actor = "web" if account is None else f"account:{account.id}"
    await services.store.audit.record([AuditEvent("web_sign_in_refused", at, actor)])
    return None


def _network(address: str) -> str:
    """Give what one person has: an IPv4 address, or an IPv6 network of 64 bits."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ip_network((int(parsed) >> 64 << 64, 64)))


async def _password_holds(attempts: Attempts, account: Account | None, password: str) -> bool:
    stored = attempts.decoy if account is None else account.password_hash

    def verify() -> bool:
        try:
            return attempts.hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    async with attempts.hashing:
        holds = await asyncio.to_thread(verify)
    return holds and account is not None


def _counter_of(account: Account | None, code: str, at: datetime) -> int | None:
    """Give the time step whose code this is, or None; no second factor means no sign-in."""
    secret = account.totp_secret if account is not None else None
    generator = pyotp.TOTP(secret or "A" * 32)
    now = int(at.timestamp()) // CODE_STEP_S
    found = None
    for counter in range(now - CODE_DRIFT, now + CODE_DRIFT + 1):
        expected = generator.generate_otp(counter)
        if hmac.compare_digest(expected.encode(), code.encode("utf-8", "replace")):
            found = counter
    return found if secret else None


def _form(request: Request, *, message: str, status: int, login: str = "") -> Response:
    at = services_of(request).clock()
    ticket = ticket_of(request)
    # The same ticket for every tab that shows the form; it opens nothing, and sign-in makes a
    # new one.
    if ticket is None or ticket.expires_at <= at:
        ticket = new_ticket(at, _FORM_LIFETIME)
    values = {
        "csrf": ticket.form_token,
        "message": message,
        "login": login,
        "goodbye": request.query_params.get("au-revoir") == "1" and not message,
    }
    response = render("sign_in.html", None, values, status=status)
    set_cookie(response, ticket)
    return response


async def _sign_out(request: Request, visitor: Visitor) -> Response:
    services = services_of(request)
    await services.store.accounts.close_session(visitor.ticket.digest)
    await services.store.audit.record(
        [AuditEvent("web_sign_out", services.clock(), visitor.actor)]
    )
    response = RedirectResponse("/connexion?au-revoir=1", status_code=303)
    clear_cookie(response)
    keep_chosen(response, None)
    response.headers["Clear-Site-Data"] = '"cache", "storage"'
    return response


sign_out = signed_in(_sign_out)
