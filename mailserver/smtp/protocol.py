"""The SMTP conversation on one connection, over aiosmtpd's protocol.

aiosmtpd gives the stream, the session and the timer; its command loop, its verbs and its STARTTLS
are replaced, each for a reason in DECISIONS.md. Invariants: a command ends with CRLF and holds no
other control; replies are fixed texts from ``replies`` and never echo input; nothing that came
before STARTTLS counts after it, and octets that came with it end the connection; DATA, EHLO, AUTH
and STARTTLS are the last of what was sent, or the connection ends (RFC 2920 §3.1); BDAT is not
offered; every wait has a deadline; what was not foreseen is ``451 4.3.0``.

Source: RFC 5321 §4.1, RFC 3207 §4, RFC 4954 §4, RFC 2920 §3.1, RFC 1870 §4, RFC 2034 §4,
RFC 6531 §3.1, RFC 8689 §3, RFC 9422 §3.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, cast

import structlog
from aiosmtpd.smtp import SMTP

from certs.tls import PeerIdentity, end_point, peer_identity, peer_standing
from certs.verdict import Standing
from mailserver.delivery.errors import Reply
from mailserver.sasl.errors import AbortedError, MalformedError, UnknownMechanismError
from mailserver.sasl.steps import Attempt, Channel, Outcome
from mailserver.smtp import replies
from mailserver.smtp.address import (
    Extensions,
    MailCommand,
    PathError,
    RcptCommand,
    is_helo_name,
    parse_mail,
    parse_rcpt,
)
from mailserver.smtp.data import DataFault
from mailserver.smtp.receiving import (
    DataReceiver,
    EndlessError,
    ReceivedMessage,
    Reception,
    TooSlowError,
)
from mailserver.smtp.room import Room

# It prints commands at INFO and whole bodies at DEBUG (STYLE §4.6).
logging.getLogger("mail.log").disabled = True
log = structlog.get_logger("mailserver")

COMMAND_OCTETS = 512  # RFC 5321 §4.5.3.1.4
LONG_COMMAND_OCTETS: Final = {"MAIL": 1200, "RCPT": 1100, "AUTH": 12288}
"""RFC 1870 §3, RFC 6152 §2, RFC 4954 §3, RFC 3461 §4 add to MAIL and RCPT; AUTH: RFC 4954 §4."""
MAX_UNKNOWN = 3
"""Commands that are none, then the connection ends (threats S7)."""
MAX_ERRORS = 20
MAX_ERRORS_TRUSTED = 250
"""Negative replies, a hundred unknown recipients of two messages included."""
MAX_LOGINS = 5  # threats S10
_HTTP_VERBS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "PATCH"})
_UTF8_VERBS: Final = frozenset({"MAIL", "RCPT", "VRFY"})
_FAULTS: Final = {
    DataFault.BARE_CONTROL: replies.BARE_CONTROL,
    DataFault.TOO_BIG: replies.TOO_BIG,
}


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds; each wait has one. Source: RFC 5321 §4.5.3.2.7, threats S9."""

    handshake_s: float = 10.0
    untrusted_s: float = 60.0
    """From the connection to the proof of who the peer is, whatever it sends meanwhile."""
    command_s: float = 300.0
    delivery_s: float = 150.0
    """For the delivery of one message: a sender waits ten minutes for the reply to its dot."""
    session_s: float = 3600.0
    """From the connection on; the message that is coming in then may still end."""
    reply_s: float = 30.0
    """For a peer to take what was said to it, a last reply included."""
    login_delay_s: float = 0.2
    """Before the answer to a wrong login, doubled each time."""


@dataclass(frozen=True, slots=True)
class Caller:
    """What is known of the peer when a command is judged."""

    secure: bool
    identity: PeerIdentity | None
    helo: str
    host: str
    """Its network address."""
    standing: Standing = Standing.GOOD
    """Whether its certificate is still good, as of the last MAIL."""


Ask = Callable[[bytes], Awaitable[bytes]]
"""Sends a challenge in base64 and gives the line that comes back."""


class Transaction(Protocol):
    """What one connection may do; told in the order of the commands."""

    login_required: bool
    """Whether MAIL needs AUTH, and so AUTH is offered."""

    def trusts(self, caller: Caller) -> bool:
        """Say whether the peer proved who it is (it may then take its time)."""

    def reset(self) -> None:
        """Forget the message in progress."""

    def forget(self) -> None:
        """Forget who logged in, too."""

    def mechanisms(self, channel: Channel) -> tuple[str, ...]:
        """Give what a client may log in by on a connection where secrets may be said."""

    async def log_in(self, attempt: Attempt, ask: Ask) -> Outcome:
        """Hold an exchange; ACCEPTED makes the connection that mailbox's.

        Raises:
            UnknownMechanismError: it is not offered here.
            AbortedError, MalformedError: the client cancelled, or sent what cannot be read.
        """

    async def mail(self, caller: Caller, command: MailCommand) -> Reply:
        """Judge MAIL."""

    async def recipient(self, caller: Caller, command: RcptCommand) -> Reply:
        """Judge RCPT."""

    async def message(self, caller: Caller, message: ReceivedMessage) -> Reply:
        """Take a whole message; a 250 makes it ours."""


@dataclass(frozen=True, slots=True)
class ProtocolSettings:
    """What is the same for every connection of a listener.

    Args:
        hostname: our name in the greeting.
        reception: limits of a message.
        starttls: the context STARTTLS takes; None when TLS came first or is not offered.
        plaintext_login_from: network addresses that may log in without TLS.
        room: for the messages that were spooled; one for all listeners of a process.
    """

    hostname: str
    reception: Reception
    starttls: ssl.SSLContext | None = None
    plaintext_login_from: frozenset[str] = frozenset()
    max_recipients: int = 100
    deadlines: Deadlines = field(default_factory=Deadlines)
    room: Room = field(default_factory=Room)


class Registry(Protocol):
    """Where connections are counted."""

    closing: bool
    """The listener stops: no further command."""

    def admit(self, connection: "SmtpConnection", host: str) -> bool:
        """Count a connection; False when there are too many."""

    def admit_operator(self, connection: "SmtpConnection", dn: str) -> bool:
        """Count a connection for the operator it proved to be; False when it has too many."""

    def leave(self, connection: "SmtpConnection", host: str) -> None:
        """Forget a connection."""


class Hangup(Exception):  # noqa: N818 (it ends a conversation, it is no error)
    """The connection must end now; what had to be said was said."""


class _NoHooks:
    """aiosmtpd's handler object, which it searches for hooks at each connection."""

    def __dir__(self) -> list[str]:
        """Give nothing to search."""
        return []


_NO_HOOKS = _NoHooks()
_Verb = Callable[[str], Awaitable[Reply | None]]


class SmtpConnection(SMTP):
    """One connection.

    Args:
        settings: of the listener.
        transaction: what this connection may do.
        registry: the listener's.
        loop: the running loop.
    """

    # The stream reader's bound on a line, its end not included.
    line_length_limit = max(LONG_COMMAND_OCTETS.values())

    def __init__(
        self,
        settings: ProtocolSettings,
        transaction: Transaction,
        registry: Registry,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(
            _NO_HOOKS,
            data_size_limit=settings.reception.limits.message_octets,
            hostname=settings.hostname,
            timeout=settings.deadlines.command_s,
            loop=loop,
        )
        self._settings = settings
        self._transaction = transaction
        self._registry = registry
        self._extensions = Extensions(
            settings.reception.limits.message_octets, auth=transaction.login_required
        )
        self._opened_at = loop.time()
        self._caller = Caller(secure=False, identity=None, helo="", host="")
        self._extended = False
        self._mail: MailCommand | None = None
        self._accepted = 0
        self._errors = 0
        self._unknown = 0
        self._logins = 0
        self._heard_at = 0.0
        self._logged_in = False
        self._end: asyncio.TimerHandle | None = None
        self.busy = False
        """A command is being obeyed or a message comes in: a stop waits for it."""
        self._verbs: dict[str, _Verb] = {
            "EHLO": self.smtp_EHLO,
            "HELO": self.smtp_HELO,
            "MAIL": self.smtp_MAIL,
            "RCPT": self.smtp_RCPT,
            "DATA": self.smtp_DATA,
            "RSET": self.smtp_RSET,
            "NOOP": self.smtp_NOOP,
            "QUIT": self.smtp_QUIT,
            "VRFY": self.smtp_VRFY,
            "STARTTLS": self.smtp_STARTTLS,
            "BDAT": self._not_offered,
            "EXPN": self._not_offered,
            "HELP": self._not_offered,
        }
        if transaction.login_required:
            self._verbs["AUTH"] = self.smtp_AUTH

    def __dir__(self) -> list[str]:
        """Give nothing to search.

        aiosmtpd's constructor goes twice through every attribute for verbs and mechanisms, of
        which nothing here is used: 0.25 ms of each connection.
        """
        return []

    # -- the stream ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the conversation."""
        peer = transport.get_extra_info("peername")
        self._learn_peer(transport, host=peer[0] if isinstance(peer, tuple) else "")
        super().connection_made(transport)

    def eof_received(self) -> bool | None:
        """The peer sends nothing more: obey what it sent, then end."""
        self._reader.feed_eof()
        return not self._caller.secure

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the connection; what is being delivered is given up or was committed."""
        self._registry.leave(self, self._caller.host)
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(error)

    def data_ended(self, rest: bytes) -> None:
        """Take the transport back from the receiver of DATA."""
        if self.transport is not None:
            self.transport.set_protocol(self)
        if rest:
            self._reader.feed_data(rest)

    @property
    def proven(self) -> bool:
        """Whether the peer proved to be an operator, or logged in."""
        return self._transaction.trusts(self._caller)

    def stop(self) -> None:
        """End the connection now unless it is busy; then after what it does."""
        if not self.busy and self.transport is not None:
            self._writer.write(replies.encode(replies.SHUTTING_DOWN))
            self.transport.close()

    def abort(self) -> None:
        """End the connection now."""
        if self.transport is not None:
            cast("asyncio.WriteTransport", self.transport).abort()

    def _timeout_cb(self) -> None:
        if self.transport is not None:
            self._writer.write(replies.encode(replies.IDLE_TOO_LONG))
            self.transport.close()

    def _learn_peer(self, transport: asyncio.BaseTransport, host: str) -> None:
        tls = transport.get_extra_info("ssl_object")
        self._caller = Caller(
            secure=tls is not None, identity=peer_identity(tls), helo="", host=host
        )

    # -- the conversation ---------------------------------------------------------------------

    async def _handle_client(self) -> None:
        """Converse until one side ends it; the top of the connection's task."""
        try:
            if not self._registry.admit(self, self._caller.host):
                await self._say(replies.TOO_MANY_CONNECTIONS)
                return
            await self._greet()
            while True:
                await self._next_command()
        except (Hangup, ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            return
        finally:
            self._disarm_deadline()
            self._writer.close()
            # A peer that does not read its last reply would keep the socket for ever.
            self._end = self.loop.call_later(self._settings.deadlines.reply_s, self.abort)
            # A handshake that fails never calls connection_lost on this protocol.
            self._registry.leave(self, self._caller.host)

    async def _greet(self) -> None:
        # One turn of the loop lets a peer that talks first be seen (threats S6).
        await asyncio.sleep(0)
        self._refuse_early_octets()
        self._writer.write(f"220 {self._settings.hostname} ESMTP\r\n".encode("ascii"))
        await self._flush()

    def _refuse_early_octets(self) -> None:
        if _stream(self._reader)._buffer:  # noqa: SLF001
            self._writer.write(replies.encode(replies.PROTOCOL_ABUSE))
            log.debug("smtp_early_octets", phase="pipelining")
            raise Hangup

    async def _next_command(self) -> None:
        self.busy = False
        if self._registry.closing:
            await self._say(replies.SHUTTING_DOWN)
            raise Hangup
        if self.loop.time() - self._opened_at > self._settings.deadlines.session_s:
            await self._say(replies.SESSION_TOO_LONG)
            raise Hangup
        self._arm_deadline()
        try:
            line = (await self._reader.readuntil(b"\r\n"))[:-2]
        except asyncio.LimitOverrunError:
            await self._say(replies.COMMAND_TOO_LONG)
            raise Hangup from None
        self.busy = True
        self._disarm_deadline()
        verb = ""
        try:
            verb, argument = _split(line)
            reply = await self._verbs.get(verb, self._unknown_verb)(argument)
        except PathError as error:
            reply = error.reply
        except (Hangup, ConnectionError, asyncio.IncompleteReadError):
            raise
        except Exception as error:  # noqa: BLE001  (a loop top, STYLE §1)
            reply = self._unforeseen(error, verb)
        if reply is not None:
            await self._answer(reply)

    async def handle_exception(self, error: Exception) -> str:
        """Answer as the loop above does, where aiosmtpd would say 500 and the error's text."""
        reply = self._unforeseen(error, "")
        return f"{reply.code} {reply.enhanced} {reply.text}"

    def _unforeseen(self, error: Exception, phase: str) -> Reply:
        """Log what was not foreseen, forget the message, ask the peer to come back."""
        log.error("smtp_failed", phase=phase if phase in self._verbs else "", exc_info=error)
        self._reset()
        return replies.LOCAL_ERROR

    def _arm_deadline(self) -> None:
        deadlines = self._settings.deadlines
        spent = self.loop.time() - self._opened_at
        left = min(deadlines.command_s, deadlines.session_s - spent)
        if not self.proven:
            left = min(left, deadlines.untrusted_s - spent)
        self._reset_timeout(max(left, 0.001))

    def _disarm_deadline(self) -> None:
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()

    async def _answer(self, reply: Reply) -> None:
        await self._say(reply)
        if reply.code < 400:
            return
        self._errors += 1
        if self._errors >= (MAX_ERRORS_TRUSTED if self.proven else MAX_ERRORS):
            await self._say(replies.TOO_MANY_ERRORS)
            raise Hangup

    async def _say(self, reply: Reply) -> None:
        self._writer.write(replies.encode(reply))
        await self._flush()

    async def _flush(self) -> None:
        """Wait until the peer takes what was said, but not for ever."""
        try:
            async with asyncio.timeout(self._settings.deadlines.reply_s):
                await self._writer.drain()
        except TimeoutError:
            self.abort()
            raise Hangup from None

    async def _unknown_verb(self, _argument: str) -> Reply:
        self._unknown += 1
        if self._unknown >= MAX_UNKNOWN:
            await self._say(replies.TOO_MANY_ERRORS)
            raise Hangup
        return replies.UNKNOWN_COMMAND

    async def _not_offered(self, _argument: str) -> Reply:
        return replies.NOT_IMPLEMENTED

    def _reset(self) -> None:
        self._mail = None
        self._accepted = 0
        self._transaction.reset()

    # -- the verbs ----------------------------------------------------------------------------

    async def smtp_EHLO(self, argument: str) -> Reply | None:  # noqa: N802
        """Greet and say what is offered."""
        refusal = self._hello(argument, extended=True)
        if refusal is not None:
            return refusal
        offered = [
            self._settings.hostname,
            "PIPELINING",
            f"SIZE {self._settings.reception.limits.message_octets}",
            "8BITMIME",
            "SMTPUTF8",
            "DSN",
            f"LIMITS RCPTMAX={self._settings.max_recipients}",
        ]
        if self._caller.secure:
            offered.append("REQUIRETLS")
        if self._settings.starttls is not None and not self._caller.secure:
            offered.append("STARTTLS")
        if self._may_log_in() and not self._logged_in:
            offered.append("AUTH " + " ".join(self._transaction.mechanisms(self._channel())))
        lines = [f"250-{each}\r\n" for each in offered]
        self._writer.write("".join([*lines, "250 ENHANCEDSTATUSCODES\r\n"]).encode("ascii"))
        await self._flush()
        return None

    async def smtp_HELO(self, argument: str) -> Reply | None:  # noqa: N802
        """Greet a client of 1982."""
        refusal = self._hello(argument, extended=False)
        if refusal is not None:
            return refusal
        # No enhanced code here: RFC 2034 §4 exempts the greeting.
        self._writer.write(f"250 {self._settings.hostname}\r\n".encode("ascii"))
        await self._flush()
        return None

    def _hello(self, argument: str, *, extended: bool) -> Reply | None:
        self._refuse_early_octets()
        if not is_helo_name(argument):
            return replies.BAD_ARGUMENTS
        self._reset()
        self._extended = extended
        known = self._caller
        self._caller = Caller(known.secure, known.identity, argument, known.host)
        return None

    async def smtp_STARTTLS(self, argument: str) -> Reply | None:  # noqa: N802
        """Begin TLS, and begin the conversation again.

        ``loop.start_tls`` swaps the transport's protocol before it yields to the loop, so every
        octet that comes after the check below is read as TLS.
        """
        if argument:
            return replies.BAD_ARGUMENTS
        context = self._settings.starttls
        if context is None or self._caller.secure or self.transport is None:
            return replies.BAD_SEQUENCE
        self._refuse_early_octets()
        self._writer.write(replies.encode(replies.START_TLS))
        await self._begin_tls(context)
        return None

    async def _begin_tls(self, context: ssl.SSLContext) -> None:
        # uvloop's transports are no asyncio.Transport by class, so none is asked for.
        plain = cast("asyncio.WriteTransport | None", self.transport)
        if plain is None:
            raise Hangup
        try:
            transport = await self.loop.start_tls(
                plain,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=self._settings.deadlines.handshake_s,
            )
        except (OSError, TimeoutError) as error:
            log.info(
                "smtp_tls_failed",
                phase="handshake",
                error_type=type(error).__name__,
                code=getattr(error, "verify_code", None),  # OpenSSL's, for a certificate
            )
            raise Hangup from None
        if transport is None:  # the connection went away during the handshake
            raise Hangup
        self._continue_on(transport)
        identity = None if self._transaction.login_required else self._caller.identity
        if identity is not None and not self._registry.admit_operator(self, identity.dn):
            await self._say(replies.TOO_MANY_CONNECTIONS)
            raise Hangup

    def _continue_on(self, transport: asyncio.Transport) -> None:
        """Forget everything said in clear. Source: RFC 3207 §4.2."""
        self.transport = transport
        _stream(self._reader)._transport = transport  # noqa: SLF001
        # The same writer goes on: a dropped StreamWriter closes its transport since Python 3.12.
        _stream(self._writer)._transport = transport  # noqa: SLF001
        self._reset()
        self._transaction.forget()
        self._extended = False
        self._logged_in = False
        self._learn_peer(transport, self._caller.host)

    def _may_log_in(self) -> bool:
        return self._transaction.login_required and (
            self._caller.secure or self._caller.host in self._settings.plaintext_login_from
        )

    async def smtp_AUTH(self, argument: str) -> Reply | None:  # noqa: N802
        """Log in, at most ``MAX_LOGINS`` times, slower each time.

        Source: RFC 4954 §4.
        """
        if not self._extended or self._mail is not None:
            return replies.BAD_SEQUENCE
        if not self._may_log_in():
            return replies.ENCRYPTION_REQUIRED
        if self._logged_in:
            return replies.ALREADY_AUTHENTICATED
        self._refuse_early_octets()
        self._heard_at = self.loop.time()
        mechanism, _, initial = argument.partition(" ")
        attempt = Attempt(
            mechanism.upper(), initial.strip().encode() or None, self._channel(), self._caller.host
        )
        try:
            outcome = await self._transaction.log_in(attempt, self._challenge)
        except UnknownMechanismError:
            return replies.UNKNOWN_MECHANISM
        except AbortedError:
            return replies.AUTH_ABORTED
        except MalformedError:
            return replies.BAD_RESPONSE
        match outcome:
            case Outcome.ACCEPTED:
                self._logged_in = True
                return replies.AUTHENTICATED
            case Outcome.LATER:
                return replies.LOGIN_LATER
        self._logins += 1
        # From the client's last line on, so that how long the look took does not show.
        due = self._heard_at + self._settings.deadlines.login_delay_s * 2**self._logins
        await asyncio.sleep(due - self.loop.time())
        if self._logins >= MAX_LOGINS:
            await self._say(replies.TOO_MANY_ATTEMPTS)
            raise Hangup
        return replies.BAD_CREDENTIALS

    def _channel(self) -> Channel:
        """Give what the connection says of its two ends, by the revocation lists of now."""
        tls = self._writer.get_extra_info("ssl_object")
        identity = peer_identity(tls)
        return Channel(end_point(tls), None if identity is None else identity.fingerprint)

    async def _challenge(self, challenge: bytes) -> bytes:
        self._writer.write(b"334 " + challenge + b"\r\n")
        await self._flush()
        self._arm_deadline()
        try:
            line = (await self._reader.readuntil(b"\r\n"))[:-2]
        except asyncio.LimitOverrunError:
            await self._say(replies.COMMAND_TOO_LONG)
            raise Hangup from None
        finally:
            self._disarm_deadline()
        self._heard_at = self.loop.time()
        return line

    async def smtp_MAIL(self, argument: str) -> Reply | None:  # noqa: N802
        """Begin a message."""
        if not self._caller.helo or self._mail is not None:
            return replies.BAD_SEQUENCE
        if self._transaction.login_required and not self._logged_in:
            return replies.AUTHENTICATE_FIRST if self._may_log_in() else replies.TLS_FIRST
        command = parse_mail(argument, replace(self._extensions, require_tls=self._caller.secure))
        # The lists of now, not those of the handshake (threats S15).
        standing = peer_standing(self._writer.get_extra_info("ssl_object"))
        self._caller = replace(self._caller, standing=standing)
        reply = await self._transaction.mail(self._caller, command)
        if reply.code < 400:
            self._mail = command
        return reply

    async def smtp_RCPT(self, argument: str) -> Reply | None:  # noqa: N802
        """Add a recipient."""
        if self._mail is None:
            return replies.BAD_SEQUENCE
        if self._accepted >= self._settings.max_recipients:
            return replies.TOO_MANY_RECIPIENTS
        reply = await self._transaction.recipient(
            self._caller, parse_rcpt(argument, self._mail.options)
        )
        if reply.code < 400:
            self._accepted += 1
        return reply

    async def smtp_DATA(self, argument: str) -> Reply | None:  # noqa: N802
        """Receive the message and deliver it."""
        if argument:
            return replies.BAD_ARGUMENTS
        if not self._accepted:
            return replies.BAD_SEQUENCE
        self._refuse_early_octets()
        try:
            message = await self._receive()
        except TooSlowError:
            await self._say(replies.TOO_SLOW)
            raise Hangup from None
        except EndlessError:
            await self._say(replies.TOO_BIG)
            raise Hangup from None
        try:
            if message.fault is not None:
                return _FAULTS[message.fault]
            async with asyncio.timeout(self._settings.deadlines.delivery_s):
                if isinstance(message.body, bytes):
                    return await self._transaction.message(self._caller, message)
                async with self._settings.room.hold(message.octets):
                    return await self._transaction.message(self._caller, message)
        finally:
            if not isinstance(message.body, bytes):
                message.body.close()
            self._reset()

    async def _receive(self) -> ReceivedMessage:
        transport: Any = self.transport  # aiosmtpd has no types
        if transport is None:
            raise Hangup
        receiver = DataReceiver(self, self._settings.reception, self.loop)
        transport.set_protocol(receiver)
        self._writer.write(b"354 End data with <CR><LF>.<CR><LF>\r\n")
        return await receiver.message()

    async def smtp_RSET(self, argument: str) -> Reply | None:  # noqa: N802
        """Forget the message."""
        if argument:
            return replies.BAD_ARGUMENTS
        self._reset()
        return replies.OK

    async def smtp_NOOP(self, _argument: str) -> Reply | None:  # noqa: N802
        """Say that we are here."""
        return replies.OK

    async def smtp_VRFY(self, _argument: str) -> Reply | None:  # noqa: N802
        """Tell nothing about mailboxes. Source: RFC 5321 §7.3."""
        return replies.CANNOT_VERIFY

    async def smtp_QUIT(self, argument: str) -> Reply | None:  # noqa: N802
        """End."""
        if argument:
            return replies.BAD_ARGUMENTS
        await self._say(replies.GOODBYE)
        raise Hangup


def _stream(stream: asyncio.StreamReader | asyncio.StreamWriter) -> Any:
    """Give a stream for what asyncio has no public name for: its buffer, its transport.

    Any: those attributes are not in its stubs.
    """
    return stream


def _split(line: bytes) -> tuple[str, str]:
    """Take a command line apart into its verb, in upper case, and its argument.

    Raises:
        PathError: octets no command has, or a line too long for its verb.
        Hangup: a browser is talking (threats S7).
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise PathError(replies.SYNTAX_ERROR) from None
    if any(c < " " and c != "\t" for c in text) or "\x7f" in text:
        raise PathError(replies.SYNTAX_ERROR)
    verb, _, argument = text.partition(" ")
    if not text.isascii() and verb.upper() not in _UTF8_VERBS:
        raise PathError(replies.SYNTAX_ERROR)
    verb = verb.upper()
    if verb in _HTTP_VERBS:
        raise Hangup
    if len(line) + 2 > LONG_COMMAND_OCTETS.get(verb, COMMAND_OCTETS):
        raise PathError(replies.COMMAND_TOO_LONG)
    return verb, argument.strip(" \t")
