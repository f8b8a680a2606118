"""The hospital's side of the main job: send reports to a site, receive what comes back.

These are the tools behind ``pli report send`` and ``pli hospital serve``: a stand-in for a
hospital's operator, for demonstrations, tests and measures.

Invariants: nothing leaves without mutual TLS; with ``repeat``, each message is another one (its
own Message-ID, package and document ids); the receiver answers 250 once the file is on disk.

Source: MSS-OP §3.1, RFC 5321 §4.1.1.4.
"""

import asyncio
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from certs import smime
from certs.addresses import Mailbox, parse_addr_spec
from certs.cms_sign import Signer
from certs.errors import KeyStoreError, MalformedAddressError
from certs.tls import client_context, server_context
from mailserver.delivery.errors import Reply
from mailserver.outbound.client import (
    Client,
    Target,
    Transmission,
    connect,
    is_one_message,
    is_path,
)
from mailserver.outbound.errors import SendError, TlsError, UnreachableError
from mailserver.report_message import (
    Envelope,
    Identifiers,
    Refusal,
    RefusedReportError,
    Report,
    build,
    check,
    read_report,
)
from mailserver.sasl.steps import Attempt, Channel, Outcome
from mailserver.settings import write_whole
from mailserver.smtp import replies
from mailserver.smtp.address import MailCommand, RcptCommand
from mailserver.smtp.conversation import Ask, Caller, ProtocolSettings
from mailserver.smtp.data import DataLimits
from mailserver.smtp.listener import SmtpBind, listen
from mailserver.smtp.receiving import ReceivedMessage, Reception

__all__ = [
    "ReceiverSettings", "RefusedReportError", "SendRequest", "SendResult", "TlsFailureError",
    "send_report", "serve_receiver",
]  # fmt: skip

RECEIVER_SIZE_LIMIT = 64 * 1024 * 1024


class TlsFailureError(Exception):
    """No mutual TLS with the server: the certificate files, the handshake, or no STARTTLS."""

    def __init__(self) -> None:
        super().__init__("no mutual TLS with the server: check --ca, --cert, --key and the host")


@dataclass(frozen=True, slots=True)
class SendRequest:
    """What to send, where, as whom.

    Args:
        ca: PEM of whom we believe.
        cert: our certificate with its intermediates; with ``key``, for TLS.
        smime_cert: the seal; without one the message is not signed.
        files: clinical documents, one message for all; an IHE_XDM.zip goes as it is.
        raw: a whole message, sent octet for octet instead of ``files``.
        as_is: send what the rules forbid.
        repeat: how many messages, over ``connections`` connections kept open.
        per_connection: messages before a connection is closed; 0 keeps it.
    """

    host: str
    port: int
    ca: Path
    cert: Path
    key: Path
    sender: str
    recipients: tuple[str, ...]
    files: tuple[Path, ...] = ()
    raw: Path | None = None
    smime_cert: Path | None = None
    smime_key: Path | None = None
    as_is: bool = False
    repeat: int = 1
    connections: int = 1
    per_connection: int = 0
    display: str = ""
    nil: str | None = None
    acknowledge: bool = True


@dataclass(frozen=True, slots=True)
class RecipientResult:
    """What the server said of one recipient."""

    address: str
    accepted: bool
    reply: str


@dataclass(frozen=True, slots=True)
class SendResult:
    """What became of a request; of several messages, the last one's receipt and replies."""

    receipt: str | None
    recipients: tuple[RecipientResult, ...]
    sent: int = 1
    accepted: int = 0
    duration_s: float = 0.0

    @property
    def any_accepted(self) -> bool:
        """Whether at least one recipient of one message was accepted."""
        return self.accepted > 0

    def to_json(self) -> dict[str, Any]:
        """Give the result as JSON values; Any: that is what JSON is."""
        result: dict[str, Any] = {
            "receipt": self.receipt,
            "recipients": [
                {"address": each.address, "accepted": each.accepted, "reply": each.reply}
                for each in self.recipients
            ],
        }
        if self.sent > 1:
            result |= {
                "sent": self.sent,
                "accepted": self.accepted,
                "duration_s": round(self.duration_s, 3),
            }
        return result


@dataclass(frozen=True, slots=True)
class _Source:
    """What messages are made of."""

    request: SendRequest
    documents: tuple[bytes, ...]
    archive: bytes | None
    raw: bytes | None
    signer: Signer | None

    def message(self, *, fresh: bool) -> bytes:
        """Write one message; blocking, about 10 ms for 60 kB with a signature."""
        if self.raw is not None:
            return self.raw
        request = self.request
        reports = [self._report(each, fresh=fresh) for each in self.documents]
        if not request.as_is:
            check(reports)
        author = parse_addr_spec(request.sender)
        envelope = Envelope(
            Mailbox(request.display, author),
            tuple(Mailbox("", parse_addr_spec(each)) for each in request.recipients),
            request.nil,
            request.acknowledge,
        )
        identifiers = Identifiers(
            at=datetime.now(UTC),
            message_id=f"<{secrets.token_hex(16)}@{author.domain}>",
            set_id=_fresh_oid(),
            source_id=f"2.25.{uuid.uuid5(uuid.NAMESPACE_DNS, author.domain).int}",
        )
        written = build(reports, envelope, identifiers, self.archive)
        return written if self.signer is None else smime.sign(written, self.signer)

    @staticmethod
    def _report(document: bytes, *, fresh: bool) -> Report:
        return read_report(document, _fresh_oid() if fresh else None)


def _fresh_oid() -> str:
    """Give an OID nobody else has. Source: ITU X.667 §7."""
    return f"2.25.{uuid.uuid4().int}"


async def send_report(request: SendRequest) -> SendResult:
    """Send what a request asks for.

    Raises:
        RefusedReportError: the rules forbid it, or an address or the seal is of no use.
        TlsFailureError: no mutual TLS.
        SendError: the server cannot be reached, or is no SMTP server.
    """
    try:
        source = await asyncio.to_thread(_load, request)
        first = await asyncio.to_thread(source.message, fresh=request.repeat > 1)
        target = await asyncio.to_thread(_target, request)
    except MalformedAddressError:
        raise RefusedReportError(Refusal.BAD_ADDRESS) from None
    run = _Run(source, target, first)
    started = time.perf_counter()
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(request.connections, request.repeat)):
                group.create_task(run.connection())
    except BaseExceptionGroup as failures:
        # Not except*: Python before 3.11.4 (Debian 12 has 3.11.2) wraps what that raises.
        if failures.subgroup(TlsError) is not None:
            raise TlsFailureError from failures
        if failures.subgroup(SendError) is not None:
            raise UnreachableError from failures
        raise
    return run.result(time.perf_counter() - started)


def _load(request: SendRequest) -> _Source:
    paths = (request.sender, *request.recipients)
    if not all(path.isascii() and is_path(path) for path in paths):
        raise RefusedReportError(Refusal.BAD_ADDRESS)
    contents = [each.read_bytes() for each in request.files]
    archives = [each for each in contents if each.startswith(b"PK")]
    documents = tuple(each for each in contents if not each.startswith(b"PK"))
    raw = request.raw.read_bytes() if request.raw is not None else None
    if raw is not None and not is_one_message(raw):
        raise RefusedReportError(Refusal.NOT_ONE_MESSAGE)
    if raw is None and archives and not request.as_is:
        raise RefusedReportError(Refusal.UNREADABLE)
    signer = None
    if request.smime_cert is not None and request.smime_key is not None:
        pems = request.smime_cert.read_bytes(), request.smime_key.read_bytes()
        try:
            signer = Signer.from_pem(*pems)
        except KeyStoreError:
            raise RefusedReportError(Refusal.BAD_SEAL) from None
    return _Source(request, documents, archives[0] if archives else None, raw, signer)


def _target(request: SendRequest) -> Target:
    try:
        tls = client_context(request.ca, request.cert, request.key)
    except KeyStoreError:
        raise TlsFailureError from None
    name = parse_addr_spec(request.sender).domain
    return Target(request.host, request.port, tls, ehlo_name=name)


class _Run:
    """The messages of one request, shared by its connections."""

    def __init__(self, source: _Source, target: Target, first: bytes) -> None:
        self._source = source
        self._target = target
        self._first: bytes | None = first
        self._left = source.request.repeat
        self._last: Transmission | None = None
        self._accepted = 0

    async def connection(self) -> None:
        """Send until nothing is left, on one connection after another."""
        while self._left > 0:
            async with connect(self._target) as client:
                sent = 0
                while self._left > 0:
                    await self._one(client)
                    sent += 1
                    if sent == self._source.request.per_connection:
                        break

    async def _one(self, client: Client) -> None:
        self._left -= 1
        message, self._first = self._first, None
        if message is None:
            message = await asyncio.to_thread(self._source.message, fresh=True)
        request = self._source.request
        sent = await client.send(request.sender, request.recipients, message)
        taken = [sent.outcome(n).positive for n in range(len(request.recipients))]
        self._accepted += any(taken) and sent.data is not None and sent.data.positive
        self._last = sent

    def result(self, duration_s: float) -> SendResult:
        """Sum up."""
        request = self._source.request
        if self._last is None:
            return SendResult(None, (), sent=0)
        last = self._last
        outcomes = [last.outcome(n) for n in range(len(request.recipients))]
        receipt = None
        if last.data is not None and last.data.positive:
            receipt = last.data.text.removeprefix("2.0.0 ")
        recipients = tuple(
            RecipientResult(address, receipt is not None and reply.positive, reply.line)
            for address, reply in zip(request.recipients, outcomes, strict=True)
        )
        return SendResult(receipt, recipients, request.repeat, self._accepted, duration_s)


@dataclass(frozen=True, slots=True)
class ReceiverSettings:
    """A hospital's small receiver.

    Args:
        directory: each message becomes a file ``<time>-<random>.eml`` in it.
        ca: PEM of who may connect.
    """

    port: int
    ca: Path
    cert: Path
    key: Path
    directory: Path
    host: str = "127.0.0.1"
    hostname: str = "localhost"
    refuse: Reply | None = field(default=None)
    """Answered to each message instead of 250, for tests."""


class _StoringTransaction:
    """Take everything from a peer that shows a certificate of the CA."""

    login_required = False

    def __init__(self, settings: ReceiverSettings) -> None:
        self._settings = settings
        self._from = ""
        self._to: list[str] = []

    def trusts(self, caller: Caller) -> bool:
        """Say whether the peer showed a certificate."""
        return caller.identity is not None

    def reset(self) -> None:
        """Forget the message in progress."""
        self._from = ""
        self._to.clear()

    def forget(self) -> None:
        """Nobody logs in here."""

    def mechanisms(self, channel: Channel) -> tuple[str, ...]:
        """Nobody logs in here."""
        del channel
        return ()

    async def log_in(self, attempt: Attempt, ask: Ask) -> Outcome:
        """Nobody logs in here."""
        del attempt, ask
        return Outcome.REFUSED

    async def mail(self, caller: Caller, command: MailCommand) -> Reply:
        """Take any sender of a peer with a certificate."""
        if not caller.secure:
            return replies.TLS_FIRST
        if caller.identity is None:
            return replies.CERTIFICATE_FIRST
        self._from = command.wire_path
        return replies.SENDER_OK

    async def recipient(self, caller: Caller, command: RcptCommand) -> Reply:
        """Take any recipient."""
        del caller, command
        return replies.RECIPIENT_OK

    async def message(self, caller: Caller, message: ReceivedMessage) -> Reply:
        """Store a message."""
        del caller
        if self._settings.refuse is not None:
            return self._settings.refuse
        body = message.body if isinstance(message.body, bytes) else message.body.read()
        name = f"{time.time_ns()}-{secrets.token_hex(8)}"
        await asyncio.to_thread(write_whole, self._settings.directory / f"{name}.eml", body)
        return replies.accepted(name)


@asynccontextmanager
async def serve_receiver(settings: ReceiverSettings) -> AsyncIterator[int]:
    """Receive until the block ends.

    Yields:
        The bound port.
    """
    await asyncio.to_thread(lambda: settings.directory.mkdir(parents=True, exist_ok=True))
    tls = server_context(settings.cert, settings.key, client_ca=settings.ca)
    bind = SmtpBind(settings.host, settings.port, tls, settings.hostname)
    protocol = ProtocolSettings(
        hostname=settings.hostname,
        reception=Reception(DataLimits(RECEIVER_SIZE_LIMIT)),
        starttls=tls,
    )
    async with listen(protocol, lambda: _StoringTransaction(settings), bind) as port:
        yield port


def received_files(directory: Path) -> Iterator[Path]:
    """Give the stored messages, oldest first."""
    yield from sorted(directory.glob("*.eml"))
