"""Hand messages to another server: STARTTLS with our certificate, then exactly these octets.

Invariants: nothing but EHLO and STARTTLS is ever written in clear; octets that the server sends
between its 220 and the handshake end the connection (threats S5); the message goes out octet for
octet, with transparency dots and a last line end only, so a signature made here is the one that
arrives; every wait has a deadline.

Not aiosmtplib: it discards injected octets where we refuse them, and rewrites line ends.

Source: RFC 5321 §4.5.3.2, RFC 3207 §4, RFC 2920 §3.1, RFC 1870 §6.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from certs.mime import line_ends
from certs.tls import PeerIdentity, peer_identity
from mailserver.message.envelope import (
    PLAIN_MAIL,
    PLAIN_RECIPIENT,
    MailOptions,
    RecipientOptions,
    mail_parameters,
    recipient_parameters,
)
from mailserver.outbound.errors import PeerReplyError, TlsError, UnreachableError

CONNECT_S = 30.0
HANDSHAKE_S = 15.0
COMMAND_S = 300.0  # RFC 5321 §4.5.3.2.2
DATA_END_S = 600.0  # RFC 5321 §4.5.3.2.6
_QUIT_S = 5.0
_SLICE = 256 * 1024
_MAX_REPLY_LINES = 64
_MAX_REPLY_OCTETS = 4096
_MAX_TEXT = 400
_REPLY_LINE = re.compile(rb"([2345]\d\d)(?:([ -])([^\r\n]*))?\r\n")
_CRLF_ONLY = frozenset({"\r\n"})
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")


@dataclass(frozen=True, slots=True)
class ServerReply:
    """What a server said; ``text`` is printable ASCII of one line, at most 400 characters."""

    code: int
    text: str

    @property
    def positive(self) -> bool:
        """Whether it is a 2yz."""
        return 200 <= self.code < 300

    @property
    def permanent(self) -> bool:
        """Whether it is a 5yz."""
        return self.code >= 500

    @property
    def line(self) -> str:
        """The reply as one line."""
        return f"{self.code} {self.text}".rstrip()


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect, and with what.

    Args:
        tls: our certificate and whom we believe; None is for submission tests only.
        ehlo_name: what we call ourselves.
        server_name: the name TLS asks for; the host when empty.
    """

    host: str
    port: int
    tls: ssl.SSLContext
    ehlo_name: str
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Whom a message is from and for.

    Args:
        reverse_path: without brackets, "" for the null one.
        recipients: forward paths without brackets, at least one, each with its parameters.
    """

    reverse_path: str
    recipients: tuple[tuple[str, RecipientOptions], ...]
    options: MailOptions = PLAIN_MAIL


@dataclass(frozen=True, slots=True)
class Offer:
    """What a server offers after EHLO under TLS; keywords in upper case with their parameters."""

    keywords: Mapping[str, str]

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.keywords

    @property
    def size(self) -> int | None:
        """The most octets it takes, None when it does not say. Source: RFC 1870 §4."""
        text = self.keywords.get("SIZE", "")
        return int(text) if text.isascii() and text.isdigit() and int(text) else None

    def limit(self, name: str) -> int | None:
        """One of its LIMITS, None when it does not say. Source: RFC 9422 §3."""
        for word in self.keywords.get("LIMITS", "").upper().split():
            key, _, value = word.partition("=")
            if key == name and value.isascii() and value.isdigit() and int(value):
                return int(value)
        return None


@dataclass(frozen=True, slots=True)
class Transmission:
    """What became of one message: a reply to MAIL, to each RCPT and to the dot."""

    mail: ServerReply
    recipients: tuple[ServerReply, ...]
    data: ServerReply | None

    def outcome(self, recipient: int) -> ServerReply:
        """Give the reply that settles one recipient."""
        if not self.mail.positive:
            return self.mail
        if not self.recipients[recipient].positive or self.data is None:
            return self.recipients[recipient]
        return self.data


class Client:
    """An open connection, TLS established and EHLO said; made by ``connect``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.offer = Offer({})
        self._last_lines: list[str] = []
        self._transmitted = 0

    @property
    def spent(self) -> bool:
        """Whether the server takes no more messages on this connection.

        Source: RFC 9422 §3.
        """
        most = self.offer.limit("MAILMAX")
        return most is not None and self._transmitted >= most

    @property
    def identity(self) -> PeerIdentity | None:
        """Who the server's certificate says it is."""
        return peer_identity(self._writer.get_extra_info("ssl_object"))

    @property
    def alive(self) -> bool:
        """Whether the server had not closed the connection when last heard of."""
        return not (self._writer.transport.is_closing() or self._reader.at_eof())

    async def send(
        self, reverse_path: str, recipients: Sequence[str], message: bytes
    ) -> Transmission:
        """Send one message that asks for nothing; see ``transmit``."""
        plain = tuple((each, PLAIN_RECIPIENT) for each in recipients)
        return await self.transmit(Envelope(reverse_path, plain), message)

    async def transmit(self, envelope: Envelope, message: bytes) -> Transmission:
        """Send one message; what the envelope asks for is said where the server offers it.

        Args:
            envelope: whom it is from and for.
            message: its octets; transparency dots are added here.

        Raises:
            UnreachableError, PeerReplyError: it is not known what became of the message.
            ValueError: a path could end its command (threats S11) or needs a server that this one
                is not, or the message could be two to another server (threats S2); nothing was
                written.
        """
        paths = [path for path, _ in envelope.recipients]
        if not all(map(is_path, (envelope.reverse_path, *paths))):
            raise ValueError("a path holds what would end a command")
        if "SMTPUTF8" not in self.offer and not all(map(str.isascii, paths)):
            raise ValueError("the server takes no such path")
        if not is_one_message(message):
            raise ValueError("the message holds a control that is no line end")
        commands = [_mail(envelope, message, self.offer)]
        commands += [_rcpt(path, options, self.offer) for path, options in envelope.recipients]
        commands.append(b"DATA")
        self._transmitted += 1
        answers = await self._begin(commands)
        mail, *accepted, ready = answers
        if ready.code != 354:
            if 200 <= ready.code < 400:
                raise PeerReplyError
            with suppress(UnreachableError, PeerReplyError):
                await self._command(b"RSET")
            wanted = mail.positive and any(each.positive for each in accepted)
            return Transmission(mail, tuple(accepted), ready if wanted else None)
        if not any(each.positive for each in accepted):
            # A server that takes DATA for nobody (RFC 2920 §3.1): give it an empty message.
            await self._write(b".\r\n")
            await self._reply(DATA_END_S)
            return Transmission(mail, tuple(accepted), None)
        await self._write(stuffed(message))
        return Transmission(mail, tuple(accepted), await self._reply(DATA_END_S))

    async def _begin(self, commands: Sequence[bytes]) -> list[ServerReply]:
        """Say MAIL, each RCPT and DATA; give the answers, a 503 of ours for what was not said."""
        if "PIPELINING" in self.offer:
            await self._write(b"".join(each + b"\r\n" for each in commands))
            return [await self._reply(COMMAND_S) for _ in commands]
        answers = [await self._command(each) for each in commands[:-1]]
        refused = not answers[0].positive or not any(a.positive for a in answers[1:])
        answers.append(ServerReply(503, "") if refused else await self._command(commands[-1]))
        return answers

    async def _command(self, line: bytes) -> ServerReply:
        await self._write(line + b"\r\n")
        return await self._reply(COMMAND_S)

    async def _write(self, octets: bytes) -> None:
        try:
            async with asyncio.timeout(DATA_END_S):
                for start in range(0, len(octets), _SLICE):
                    self._writer.write(octets[start : start + _SLICE])
                    await self._writer.drain()
        except (OSError, TimeoutError):
            raise UnreachableError from None

    async def _reply(self, seconds: float) -> ServerReply:
        code = 0
        texts: list[str] = []
        try:
            async with asyncio.timeout(seconds):
                for _ in range(_MAX_REPLY_LINES):
                    match = _REPLY_LINE.fullmatch(await self._reader.readuntil(b"\r\n"))
                    if match is None or (code and int(match[1]) != code):
                        raise PeerReplyError
                    code = int(match[1])
                    texts.append((match[3] or b"").decode("ascii", "replace"))
                    if match[2] != b"-":
                        self._last_lines = texts
                        text = _UNPRINTABLE.sub("?", " ".join(texts))[:_MAX_TEXT]
                        return ServerReply(code, text.strip())
        except asyncio.LimitOverrunError:
            raise PeerReplyError from None
        except (OSError, EOFError, TimeoutError):
            raise UnreachableError from None
        raise PeerReplyError

    async def _hello(self, name: str) -> None:
        reply = await self._command(b"EHLO " + name.encode("ascii"))
        if not reply.positive:
            raise PeerReplyError
        words = [line.partition(" ") for line in self._last_lines[1:]]
        self.offer = Offer({keyword.upper(): value.strip() for keyword, _, value in words})

    async def start(self, target: Target) -> None:
        """Read the greeting, begin TLS, say EHLO.

        Raises:
            UnreachableError, TlsError, PeerReplyError: the connection is of no use.
        """
        if not (await self._reply(COMMAND_S)).positive:
            raise UnreachableError
        await self._hello(target.ehlo_name)
        if "STARTTLS" not in self.offer:
            raise TlsError
        if (await self._command(b"STARTTLS")).code != 220:
            raise TlsError
        if self._reader._buffer:  # type: ignore[attr-defined] # noqa: SLF001
            raise TlsError
        try:
            await self._writer.start_tls(
                target.tls,
                server_hostname=target.server_name or target.host,
                ssl_handshake_timeout=HANDSHAKE_S,
            )
        except (OSError, TimeoutError):
            raise TlsError from None
        try:
            # With TLS 1.3 a server that refuses our certificate says so after the handshake.
            await self._hello(target.ehlo_name)
        except UnreachableError:
            raise TlsError from None

    async def quit(self) -> None:
        """Say goodbye; nothing depends on the answer."""
        with suppress(UnreachableError, PeerReplyError):
            await self._write(b"QUIT\r\n")
            await self._reply(_QUIT_S)

    def abort(self) -> None:
        """Let the connection go at once."""
        self._writer.transport.abort()


@asynccontextmanager
async def connect(target: Target) -> AsyncIterator[Client]:
    """Open a connection with TLS and EHLO done, and close it on the way out.

    Raises:
        UnreachableError, TlsError, PeerReplyError: there is no such connection.
    """
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(
                target.host, target.port, limit=_MAX_REPLY_OCTETS
            )
    except (OSError, TimeoutError):
        raise UnreachableError from None
    client = Client(reader, writer)
    try:
        await client.start(target)
        yield client
        await client.quit()
    finally:
        client.abort()


def stuffed(message: bytes) -> bytes:
    """Give a message as DATA carries it: dots doubled at line starts, ended.

    Source: RFC 5321 §4.5.2.
    """
    doubled = message.replace(b"\r\n.", b"\r\n..")
    if doubled.startswith(b"."):
        doubled = b"." + doubled
    return doubled + (b".\r\n" if doubled.endswith(b"\r\n") or not doubled else b"\r\n.\r\n")


def is_one_message(message: bytes) -> bool:
    """Say whether every server finds one end in a message: no CR or LF alone, no NUL."""
    return line_ends(message) <= _CRLF_ONLY and b"\0" not in message


def is_path(text: str) -> bool:
    """Say whether a text can stand between the angles of a path without ending its command.

    UTF-8 can, but for blanks and controls; the server must offer SMTPUTF8 for it.
    """
    return all(c not in " <>" and c.isprintable() for c in text)


def needs_utf8(envelope: Envelope, *, eight_bit: bool) -> bool:
    """Say whether a transaction must ask for SMTPUTF8.

    A client says SMTPUTF8 of everything once it knows the word. What is ASCII throughout needs no
    such server. Source: RFC 6531 §3.6.
    """
    paths = (envelope.reverse_path, *(path for path, _ in envelope.recipients))
    return not all(map(str.isascii, paths)) or (envelope.options.smtputf8 and eight_bit)


def _mail(envelope: Envelope, message: bytes, offer: Offer) -> bytes:
    words = [f"MAIL FROM:<{envelope.reverse_path}>"]
    if "SIZE" in offer:
        words.append(f"SIZE={len(message)}")
    if "8BITMIME" in offer and not message.isascii():
        words.append("BODY=8BITMIME")
    if "REQUIRETLS" in offer and envelope.options.require_tls:
        words.append("REQUIRETLS")
    if "SMTPUTF8" in offer and needs_utf8(envelope, eight_bit=not message.isascii()):
        words.append("SMTPUTF8")
    if "DSN" in offer:
        words += mail_parameters(envelope.options)
    return " ".join(words).encode("utf-8")


def _rcpt(path: str, options: RecipientOptions, offer: Offer) -> bytes:
    words = [f"RCPT TO:<{path}>"]
    if "DSN" in offer:
        words += recipient_parameters(options)
    return " ".join(words).encode("utf-8")
