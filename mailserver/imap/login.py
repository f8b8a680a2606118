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
from mailserver.imap.sasl import (
    Credentials,
    decode_initial,
    decode_response,
    from_login,
    parse_plain,
)

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
    """Answer LOGIN."""
    _require_privacy(context)
    return await _check(context, from_login(command.user, command.password))


async def authenticate(context: Context, command: c.Authenticate) -> bytes:
    """Answer AUTHENTICATE. Source: RFC 9051 §6.2.2, RFC 4959 §3."""
    if command.mechanism != "PLAIN":
        raise RefusedError(Code.CANNOT, "Unsupported mechanism")
    _require_privacy(context)
    if command.initial is not None:
        message = decode_initial(command.initial)
    else:
        context.write(b"+ \r\n")
        await context.connection.flush()
        limits = context.bind.limits
        message = decode_response(await context.connection.next_line(limits.login_deadline_s))
    return await _check(context, parse_plain(message))


async def _check(context: Context, credentials: Credentials) -> bytes:
    limits, fairness = context.bind.limits, context.shared.services.fairness
    store = context.store
    at = context.shared.now()
    peer = context.connection.peer
    if not fairness.may_log_in(peer, credentials.login):
        raise RefusedError(Code.LIMIT, "Too many failed logins, try again later")
    opened = await store.accounts.check_device(credentials.login, credentials.secret, at)
    if opened is None:
        context.attempts += 1
        fairness.login_failed(peer, credentials.login)
        log.debug("imap_login_refused", count=context.attempts)
        await asyncio.sleep(limits.login_delay_s * 2 ** (context.attempts - 1))
        if context.attempts >= limits.login_attempts:
            context.state = State.LOGOUT
            context.ending = "attempts"
        raise RefusedError(Code.AUTHENTICATIONFAILED, "Authentication failed")
    fairness.logged_in(peer, credentials.login)
    mailbox = opened.mailbox
    if not fairness.accounts.take(mailbox.id):
        raise RefusedError(Code.LIMIT, "Too many connections of this account")
    context.mailbox = mailbox
    context.person = opened.person
    context.state = State.AUTHENTICATED
    context.connection.open_limits(limits.append_octets)
    context.subscription = store.changes.subscribe(mailbox.id)
    context.shared.audit.put(
        AuditEvent(
            kind="imap_login",
            at=at,
            actor=f"mailbox:{opened.who.id}",
            structure_id=mailbox.structure_id,
            subject=f"mailbox:{mailbox.id}",
        )
    )
    return b"OK [CAPABILITY %b] Logged in" % context.capabilities()
