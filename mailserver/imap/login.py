"""The commands of a beginning: CAPABILITY, ID, STARTTLS, LOGIN, AUTHENTICATE.

Invariants: a secret is refused before it is looked at when it could be read on the way; the same
answer after the same time for an unknown login and a wrong secret; attempts are counted and
slowed.

Source: RFC 9051 §6.1, §6.2, RULES §12, threats S4, S10.
"""

import asyncio

import structlog

from directory.trail import AuditEvent
from mailserver.imap import commands as c
from mailserver.imap.context import Context
from mailserver.imap.errors import BadCommandError, Code, RefusedError
from mailserver.imap.machine import State
from mailserver.sasl.errors import AbortedError, MalformedError, UnknownMechanismError
from mailserver.sasl.steps import Attempt, Outcome, PasswordClaim, name
from mailserver.store.model import Login

log = structlog.get_logger("mailserver")


async def capability(context: Context, _command: c.Capability) -> bytes:
    """Answer CAPABILITY."""
    context.write(b"* CAPABILITY %b\r\n" % context.capabilities())
    return b"OK CAPABILITY completed"


async def identify(context: Context, _command: c.Id) -> bytes:
    """Answer ID. Source: RFC 2971 §3.1."""
    context.write(b'* ID ("name" "Pli")\r\n')
    return b"OK ID completed"


async def start_tls(context: Context, tag: bytes) -> None:
    """Do the handshake of STARTTLS.

    Raises:
        BadCommandError: TLS is up already, or octets came behind the command: whoever sent them
            wanted them read after the handshake (threat S4), so the connection is closed.
    """
    connection = context.connection
    if connection.tls:
        raise BadCommandError("TLS is already active")
    if connection.framer.buffered or connection.at_eof:
        context.state = State.LOGOUT
        context.ending = "injected"
        raise BadCommandError("Nothing may follow STARTTLS")
    await connection.start_tls(context.bind.tls, tag + b" OK Begin TLS negotiation now\r\n")


def _require_privacy(context: Context) -> None:
    if not context.login_allowed():
        raise RefusedError(Code.PRIVACYREQUIRED, "Log in over TLS")


async def login(context: Context, command: c.Login) -> bytes:
    """Answer LOGIN: the same check as PLAIN's."""
    _require_privacy(context)
    context.heard_at = asyncio.get_running_loop().time()
    try:
        claim = PasswordClaim(name(command.user), name(command.password))
    except MalformedError:
        return await _judged(context, Outcome.REFUSED, "LOGIN")
    found = await context.shared.authentication.check_password(
        claim, context.connection.peer, context.shared.now()
    )
    return await _judged(context, found, "LOGIN")


async def authenticate(context: Context, command: c.Authenticate) -> bytes:
    """Answer AUTHENTICATE. Source: RFC 9051 §6.2.2, RFC 4959 §3."""
    _require_privacy(context)
    context.heard_at = asyncio.get_running_loop().time()
    connection = context.connection
    limits = context.bind.limits

    async def ask(challenge: bytes) -> bytes:
        context.write(b"+ %b\r\n" % challenge)
        await connection.flush()
        line = await connection.next_line(limits.login_deadline_s)
        context.heard_at = asyncio.get_running_loop().time()
        return line

    attempt = Attempt(command.mechanism, command.initial, context.channel(), connection.peer)
    try:
        found = await context.shared.authentication.log_in(attempt, ask, context.shared.now())
    except UnknownMechanismError:
        raise RefusedError(Code.CANNOT, "Unsupported mechanism") from None
    except AbortedError:
        raise BadCommandError("Cancelled") from None
    except MalformedError:
        raise BadCommandError("Invalid response") from None
    return await _judged(context, found, command.mechanism)


async def _judged(context: Context, found: Login | Outcome, mechanism: str) -> bytes:
    """Open the mailbox, or say no: later each time, and the last time for good."""
    if found is Outcome.LATER:
        raise RefusedError(Code.LIMIT, "Too many failed logins, try again later")
    if isinstance(found, Outcome):
        limits = context.bind.limits
        context.attempts += 1
        log.debug("imap_login_refused", count=context.attempts)
        # From the client's last line on, so that how long the look took does not show.
        due = context.heard_at + limits.login_delay_s * 2 ** (context.attempts - 1)
        await asyncio.sleep(due - asyncio.get_running_loop().time())
        if context.attempts >= limits.login_attempts:
            context.state = State.LOGOUT
            context.ending = "attempts"
        raise RefusedError(Code.AUTHENTICATIONFAILED, "Authentication failed")
    return _open(context, found, mechanism)


def _open(context: Context, opened: Login, mechanism: str) -> bytes:
    mailbox = opened.mailbox
    if not context.shared.services.fairness.accounts.take(mailbox.id):
        raise RefusedError(Code.LIMIT, "Too many connections of this account")
    context.mailbox = mailbox
    context.person = opened.person
    context.login = opened
    context.state = State.AUTHENTICATED
    context.connection.open_limits(context.bind.limits.append_octets)
    context.subscription = context.store.changes.subscribe(mailbox.id)
    context.shared.audit.put(
        AuditEvent(
            kind="imap_login",
            at=context.shared.now(),
            actor=f"mailbox:{opened.who.id}",
            structure_id=mailbox.structure_id,
            subject=f"mailbox:{mailbox.id}",
            facts={"mechanism": mechanism},
        )
    )
    return b"OK [CAPABILITY %b] Logged in" % context.capabilities()
