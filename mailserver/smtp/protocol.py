"""The verbs of SMTP on one connection.

Invariants: DATA, EHLO, AUTH and STARTTLS are the last of what was sent, or the connection ends
(RFC 2920 §3.1); BDAT is not offered; a verb out of its place changes nothing.

Source: RFC 5321 §4.1, RFC 3207 §4, RFC 4954 §4, RFC 2920 §3.1, RFC 1870 §4, RFC 2034 §4,
RFC 6531 §3.1, RFC 8689 §3, RFC 9422 §3.
"""

import asyncio
from dataclasses import replace
from typing import Any, Final

from certs.tls import end_point, peer_identity, peer_standing
from mailserver.delivery.errors import Reply
from mailserver.sasl.errors import AbortedError, MalformedError, UnknownMechanismError
from mailserver.sasl.steps import Attempt, Channel, Outcome
from mailserver.smtp import replies
from mailserver.smtp.address import Extensions, MailCommand, is_helo_name, parse_mail, parse_rcpt
from mailserver.smtp.conversation import (
    Caller,
    Conversation,
    Hangup,
    ProtocolSettings,
    Registry,
    Transaction,
)
from mailserver.smtp.data import DataFault
from mailserver.smtp.receiving import DataReceiver, EndlessError, ReceivedMessage, TooSlowError

MAX_LOGINS = 5  # threats S10
_FAULTS: Final = {
    DataFault.BARE_CONTROL: replies.BARE_CONTROL,
    DataFault.TOO_BIG: replies.TOO_BIG,
}


class SmtpConnection(Conversation):
    """One connection; arguments as ``Conversation``'s."""

    def __init__(
        self,
        settings: ProtocolSettings,
        transaction: Transaction,
        registry: Registry,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(settings, transaction, registry, loop)
        self._extensions = Extensions(
            settings.reception.limits.message_octets, auth=transaction.login_required
        )
        self._extended = False
        self._mail: MailCommand | None = None
        self._accepted = 0
        self._logins = 0
        self._heard_at = 0.0
        self._logged_in = False
        self._verbs = {
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

    def _reset(self) -> None:
        self._mail = None
        self._accepted = 0
        super()._reset()

    def _continue_on(self, transport: asyncio.Transport) -> None:
        super()._continue_on(transport)
        self._extended = False
        self._logged_in = False

    async def _not_offered(self, _argument: str) -> Reply:
        return replies.NOT_IMPLEMENTED

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
