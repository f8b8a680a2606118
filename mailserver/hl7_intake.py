"""The door of a structure's own software: HL7 v2 over MLLP and from a watched folder.

Invariants: AA is said only when every message it stands for is stored (DESIGN §1); what is turned
away is answered with its code and leaves nothing behind; what fails here is answered AR, to be
sent again, and sending again sends nothing twice. MLLP has no password: beside the machine itself
only clients with a certificate of ``pki/hl7-clients.pem`` are heard.

Source: CI-SIS §HL7V2 (2.1), MSS-FACTS §9, HL7, Transport Specification: MLLP, release 1.
"""

import asyncio
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Protocol

import structlog

from certs.errors import SandboxError
from mailserver.delivery.errors import Refused
from mailserver.delivery.submission import SubmissionMessage, Submitted, Via
from mailserver.hl7_mail import Door, HospitalOrder, Turned
from mailserver.settings import write_whole
from mailserver.store.business_acks import Hl7Order
from mailserver.store.model import Mailbox
from record_bridge.errors import MalformedHl7Error
from record_bridge.formats.hl7v2 import Hl7Code, MessageHeader
from record_bridge.formats.hl7v2_read import MAX_OCTETS, parse_header
from record_bridge.formats.hl7v2_write import AckFacts, encode_ack
from record_bridge.formats.mllp import Blocks, block

log = structlog.get_logger("mailserver")

READ_OCTETS = 64 * 1024
IDLE_S = 600.0
AMID_S = 60.0
"""How long the next octets of a message that has begun may take."""
WRITE_S = 30.0
POLL_S = 2.0
MAX_CONNECTIONS = 32
SUFFIX = ".hl7"


class Poster(Protocol):
    """Takes mail from this site's own users."""

    async def submit(self, message: SubmissionMessage) -> Submitted | Refused:
        """See ``mailserver.delivery.submission``."""

    def reaches(self, mailbox: Mailbox, recipient: str) -> bool:
        """See ``mailserver.delivery.submission``."""


@dataclass(frozen=True, slots=True)
class IntakeParts:
    """What the door of one structure works with.

    Attributes:
        mailbox: gives the structure's application mailbox.
        read: reads a message in a worker that can be killed (``hl7_mail.to_order``).
        keep: notes the acknowledgements asked for; None where there is no way to give them.
    """

    door: Door
    submissions: Poster
    mailbox: Callable[[], Awaitable[Mailbox | None]]
    read: Callable[[bytes, Door, datetime], Awaitable[HospitalOrder]]
    clock: Callable[[], datetime]
    keep: Callable[[Hl7Order, datetime], Awaitable[None]] | None = None


class Outcome(Enum):
    """What became of a message."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    LATER = "later"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a message, and what to tell; ``raw`` is None when nobody can be told."""

    outcome: Outcome
    raw: bytes | None


class Intake:
    """Takes HL7 messages for one structure, gives their answers."""

    def __init__(self, parts: IntakeParts) -> None:
        self._parts = parts

    async def accept(self, raw: bytes) -> Answer:
        """Take one message."""
        at = self._parts.clock()
        try:
            order = await self._parts.read(raw, self._parts.door, at)
        except SandboxError as error:
            # The worker died on it, and so would the next one: it is the message.
            log.warning("hl7_failed", phase="read", error_type=type(error).__name__)
            order = _unreadable(raw)
        if order.header is None:
            log.warning("hl7_refused", code=order.code.value)
            return Answer(Outcome.REFUSED, None)
        if not order.mails:
            return self._answer(order.header, order.code, order.application_code, order.text)
        try:
            refused = await self._post(order, at)
        except Exception as error:
            log.exception("hl7_failed", phase="post", error_type=type(error).__name__)
            return self._answer(order.header, Hl7Code.INTERNAL, "", "try again later")
        if refused:
            why = Turned.REFUSED
            return self._answer(order.header, why.code, why.application_code, why.text)
        return self._answer(order.header, Hl7Code.ACCEPTED)

    async def _post(self, order: HospitalOrder, at: datetime) -> bool:
        """Submit every mail; True when a recipient is refused."""
        author = await self._parts.mailbox()
        if author is None:
            return True
        submissions = self._parts.submissions
        recipients = [each for mail in order.mails for each in mail.recipients]
        if not all(submissions.reaches(author, each) for each in recipients):
            return True
        receipts = []
        for mail in order.mails:
            message = SubmissionMessage(
                mail.raw, author.address, mail.recipients, author, at, Via.HL7
            )
            taken = await submissions.submit(message)
            if isinstance(taken, Refused):
                return True
            receipts.append(taken.receipt_id)
        await self._keep(order, author.structure_id, tuple(receipts))
        return False

    async def _keep(
        self, order: HospitalOrder, structure_id: str, receipt_ids: tuple[str, ...]
    ) -> None:
        """Note what its software wants to be told, before it hears that this was taken."""
        header, keep = order.header, self._parts.keep
        if header is None or keep is None or not (order.wants_reception or order.wants_reading):
            return
        kept = Hl7Order(
            receipt_ids,
            structure_id,
            header.control_id,
            header.parties.sending,
            header.parties.receiving,
            header.processing,
            order.wants_reception,
            order.wants_reading,
        )
        await keep(kept, self._parts.clock())

    def _answer(
        self, header: MessageHeader, code: Hl7Code, application_code: str = "", text: str = ""
    ) -> Answer:
        outcome = _OUTCOMES.get(code, Outcome.REFUSED)
        log.info("hl7_answered", code=code.value, verdict=outcome.value)
        accepted = outcome is Outcome.ACCEPTED
        facts = AckFacts(
            self._parts.clock(), secrets.token_hex(8), accepted, code, application_code, text
        )
        return Answer(outcome, encode_ack(header, facts))


_OUTCOMES = {Hl7Code.ACCEPTED: Outcome.ACCEPTED, Hl7Code.INTERNAL: Outcome.LATER}


def _unreadable(raw: bytes) -> HospitalOrder:
    why = Turned.UNREADABLE
    try:
        header = parse_header(raw)
    except MalformedHl7Error:
        return HospitalOrder(None, code=why.code, text=why.text)
    return HospitalOrder(
        header, code=why.code, application_code=why.application_code, text=why.text
    )


@asynccontextmanager
async def serve_mllp(
    intake: Intake, address: tuple[str, int], tls: ssl.SSLContext | None
) -> AsyncIterator[int]:
    """Listen until the block ends; give the port.

    Args:
        intake: of the structure.
        address: (host, port).
        tls: asks clients for a certificate; None on the loopback address only.
    """
    open_now = 0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now
        if open_now >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        open_now += 1
        try:
            await _converse(intake, reader, writer)
        except (OSError, TimeoutError):
            log.info("hl7_connection_lost")
        except MalformedHl7Error as error:
            log.warning("hl7_refused", code=error.code)
        finally:
            open_now -= 1
            writer.transport.abort()

    server = await asyncio.start_server(connected, *address, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _converse(
    intake: Intake, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer messages in order, one at a time, until the client goes."""
    blocks = Blocks(MAX_OCTETS)
    while True:
        async with asyncio.timeout(AMID_S if blocks.amid else IDLE_S):
            octets = await reader.read(READ_OCTETS)
        if not octets:
            return
        for raw in blocks.feed(octets):
            answer = await intake.accept(raw)
            if answer.raw is None:
                return
            writer.write(block(answer.raw))
            async with asyncio.timeout(WRITE_S):
                await writer.drain()


class Folder:
    """A folder that a hospital's software writes into: ``in``, ``out``, ``done``, ``refused``.

    A file is taken once its name ends in ``.hl7`` (write it under another name, then rename). Its
    answer is put into ``out`` under the same name with ``.ack``; then it moves to ``done``, or to
    ``refused``. What failed here stays in ``in`` and is taken again.
    """

    def __init__(self, root: Path, intake: Intake) -> None:
        self._root = root
        self._intake = intake

    async def run(self) -> None:
        """Look for files for ever."""
        await asyncio.to_thread(self._prepare)
        while True:
            try:
                await self.sweep()
            except OSError as error:
                log.warning("hl7_failed", phase="folder", error_type=type(error).__name__)
            await asyncio.sleep(POLL_S)

    async def sweep(self) -> None:
        """Take every file that is there now, by name."""
        for path in await asyncio.to_thread(self._waiting):
            raw = await asyncio.to_thread(_read, path)
            answer = Answer(Outcome.REFUSED, None)
            if raw is not None:
                answer = await self._intake.accept(raw)
            if answer.outcome is not Outcome.LATER:
                await asyncio.to_thread(self._settle, path, answer)

    def _prepare(self) -> None:
        for name in ("in", "out", "done", "refused"):
            (self._root / name).mkdir(mode=0o700, parents=True, exist_ok=True)

    def _waiting(self) -> list[Path]:
        return sorted(each for each in (self._root / "in").iterdir() if each.suffix == SUFFIX)

    def _settle(self, path: Path, answer: Answer) -> None:
        if answer.raw is not None:
            write_whole(self._root / "out" / (path.stem + ".ack"), answer.raw)
        with suppress(FileNotFoundError):
            path.replace(self._root / _FOLDERS[answer.outcome] / path.name)


_FOLDERS = {Outcome.ACCEPTED: "done", Outcome.REFUSED: "refused"}


def _read(path: Path) -> bytes | None:
    """Give a file's octets; None for one that is no file, or over the limit."""
    if not path.is_file() or path.is_symlink() or path.stat().st_size > MAX_OCTETS:
        return None
    return path.read_bytes()
