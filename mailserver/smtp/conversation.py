"""The conversation on one SMTP connection, over aiosmtpd's protocol: all but the verbs.

aiosmtpd gives the stream, the session and the timer; its command loop, its verbs and its STARTTLS
are replaced, each for a reason in DECISIONS.md. Invariants: a command ends with CRLF and holds no
other control; replies are fixed texts from ``replies`` and never echo input; nothing that came
before STARTTLS counts after it; every wait has a deadline; what was not foreseen is ``451 4.3.0``.

Source: RFC 5321 §4.1, RFC 3207 §4, RFC 2034 §4.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast

import structlog
from aiosmtpd.smtp import SMTP

from certs.tls import PeerIdentity, peer_identity
from certs.verdict import Standing
from mailserver.delivery.errors import Reply
from mailserver.sasl.steps import Attempt, Channel, Outcome
from mailserver.smtp import replies
from mailserver.smtp.address import MailCommand, PathError, RcptCommand
from mailserver.smtp.receiving import ReceivedMessage, Reception
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
_HTTP_VERBS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "PATCH"})
_UTF8_VERBS: Final = frozenset({"MAIL", "RCPT", "VRFY"})


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

    def admit(self, connection: "Conversation", host: str) -> bool:
        """Count a connection; False when there are too many."""

    def admit_operator(self, connection: "Conversation", dn: str) -> bool:
        """Count a connection for the operator it proved to be; False when it has too many."""

    def leave(self, connection: "Conversation", host: str) -> None:
        """Forget a connection."""


class Hangup(Exception):  # noqa: N818 (it ends a conversation, it is no error)
    """The connection must end now; what had to be said was said."""


class _NoHooks:
    """aiosmtpd's handler object, which it searches for hooks at each connection."""

    def __dir__(self) -> list[str]:
        """Give nothing to search."""
        return []


_NO_HOOKS = _NoHooks()
Verb = Callable[[str], Awaitable[Reply | None]]


class Conversation(SMTP):
    """One connection, whatever its verbs do.

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
        self._opened_at = loop.time()
        self._caller = Caller(secure=False, identity=None, helo="", host="")
        self._errors = 0
        self._unknown = 0
        self._end: asyncio.TimerHandle | None = None
        self.busy = False
        """A command is being obeyed or a message comes in: a stop waits for it."""
        self._verbs: dict[str, Verb] = {}
        """What answers each verb; filled by who knows them."""

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
        if reply.code == 421:  # RFC 5321 §3.8: the connection ends with it
            raise Hangup
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
        transport = cast("asyncio.WriteTransport | None", self.transport)
        if transport is not None and not transport.get_write_buffer_size():
            return  # the usual case: the kernel has it all
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

    def _reset(self) -> None:
        """Forget the message in progress."""
        self._transaction.reset()

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
        self._learn_peer(transport, self._caller.host)


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
