"""Hand each filed document to the structure's own software: MDM over MLLP, or a watched folder.

Invariants: what is handed over was committed as filed first; a try that fails is tried again, the
same octets under the same control id, until the software answers or five days have passed; one
message at a time, in the order of filing. MLLP has no password: beside the machine itself TLS
with certificates on both sides is the caller's to give.

Source: CI-SIS §HL7-LPS (1.1), MSS-FACTS §9, HL7, Transport Specification: MLLP, release 1.
"""

import asyncio
import os
import sqlite3
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from directory.database import Database
from record_bridge import handover_queue
from record_bridge.errors import MalformedHl7Error
from record_bridge.formats.hl7v2 import Acknowledgement, Hl7Code, Parties
from record_bridge.formats.hl7v2_write import HandoverFacts, encode_handover
from record_bridge.handover_queue import Due, Settled
from record_bridge.mllp_client import MAX_ANSWER_OCTETS, MllpClient, checked
from record_bridge.model import ErrorCode

log = structlog.get_logger("record_bridge")

POLL_S = 1.0
BACKOFF_S = (1.0, 5.0, 30.0, 60.0)
FILE_AGAIN_AFTER = timedelta(days=1)
"""A file that the software took without an answer is put there again after so long."""
_CODES = frozenset(code.value for code in ErrorCode)


@dataclass(frozen=True, slots=True)
class HandoverTarget:
    """Where one structure's software takes documents.

    Attributes:
        address: (host, port) of its MLLP listener, or None.
        tls: for that connection; None on the loopback address only.
        folder: messages are put into ``out``, answers taken from ``in``; or None.
        answers: its answer is the sender's (RULES §9).
    """

    structure_id: str
    address: tuple[str, int] | None
    tls: ssl.SSLContext | None
    folder: Path | None
    answers: bool


class Handover:
    """Hands over the documents of one structure until it is stopped.

    Args:
        record: open for writing.
        target: of the structure.
        clock: gives the time.
        wake: called when an answer to a sender may leave.
    """

    def __init__(
        self,
        record: Database,
        target: HandoverTarget,
        clock: Callable[[], datetime],
        wake: Callable[[], None],
    ) -> None:
        self._wake = wake
        self._record = record
        self._target = target
        self._clock = clock
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Finish the message in flight, then let ``run`` return."""
        self._stopping.set()

    async def run(self) -> None:
        """Hand over until ``stop``; a failure is logged with its phase and tried again."""
        failures = 0
        while not self._stopping.is_set():
            phase = "queue"
            try:
                due = await self._record.write(
                    handover_queue.take_in, (self._target.structure_id, self._clock())
                )
                phase = "hand_over"
                if due and self._target.address is not None:
                    await self._over_mllp(due, self._target.address)
                elif due and self._target.folder is not None:
                    await self._by_folder(due, self._target.folder)
                if await self._record.write(
                    handover_queue.release_answers, (self._target.structure_id, self._clock())
                ):
                    self._wake()
                failures = 0
            except (OSError, TimeoutError, EOFError, MalformedHl7Error, sqlite3.Error) as error:
                failures += 1
                log.warning(
                    "handover_failed",
                    structure_id=self._target.structure_id,
                    phase=phase,
                    error_type=type(error).__name__,
                )
            except Exception as error:
                failures += 1
                log.exception(
                    "handover_failed",
                    structure_id=self._target.structure_id,
                    phase=phase,
                    error_type=type(error).__name__,
                )
            await self._pause(BACKOFF_S[min(failures, len(BACKOFF_S)) - 1] if failures else POLL_S)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _over_mllp(self, due: list[Due], address: tuple[str, int]) -> None:
        async with MllpClient.connect(address, self._target.tls) as software:
            for each in due:
                if self._stopping.is_set():
                    return
                raw = await self._message(each)
                try:
                    answer = await software.say(raw, each.control_id)
                except (OSError, TimeoutError, EOFError, MalformedHl7Error):
                    # It may be this message that it dies on: the others come before it next time.
                    await self._settle(Settled(each, "waiting", self._clock()))
                    raise
                await self._settle(_judged(each, answer, self._clock()))

    async def _by_folder(self, due: list[Due], root: Path) -> None:
        await asyncio.to_thread(_prepare, root)
        for each in due:
            at = self._clock()
            answer = await asyncio.to_thread(_answered, root, each)
            if answer is not None:
                await self._settle(_judged(each, answer, at))
                await asyncio.to_thread(_clear, root, each)
                continue
            if await asyncio.to_thread(_must_write, root, each, at):
                raw = await self._message(each)
                await asyncio.to_thread(_put, root, each, raw)
            if at - each.queued_at > handover_queue.GIVE_UP_AFTER:
                await self._settle(Settled(each, "waiting", at))
            else:
                again = at + timedelta(seconds=POLL_S)
                await self._record.write(handover_queue.look_again, (each.id, again))

    async def _message(self, due: Due) -> bytes:
        document = await self._record.write(handover_queue.content, due.document_id)
        facts = HandoverFacts(
            parties=Parties(
                ("PLI", self._target.structure_id), ("LPS", self._target.structure_id)
            ),
            at=due.filed_at,  # the same octets at every try, but for who may see it by then
            control_id=due.control_id,
            action=due.action,
            ins=due.ins,
            traits=due.traits,
            type_code=due.type_code,
            type_label=due.type_label,
            unique_id=due.unique_id,
            parent_unique_id=due.parent_unique_id,
            document=document,
            hidden=due.hidden,
        )
        return await asyncio.to_thread(encode_handover, facts)

    async def _settle(self, settled: Settled) -> None:
        if await self._record.write(handover_queue.settle, settled):
            self._wake()
        log.info(
            "document_handed_over",
            structure_id=self._target.structure_id,
            item=settled.due.id,
            verdict=settled.state,
            code=None if settled.code is None else settled.code.value,
        )


def _judged(due: Due, answer: Acknowledgement, at: datetime) -> Settled:
    """What an answer says: taken, later (207), or refused with 900 to 906; 906 without a code.

    Source: MSS-FACTS §9 (errors -> MDN 900 to 906).
    """
    if answer.accepted:
        return Settled(due, "accepted", at)
    if answer.code == Hl7Code.INTERNAL.value:
        return Settled(due, "waiting", at)
    known = answer.code.isdigit() and int(answer.code) in _CODES
    return Settled(due, "refused", at, ErrorCode(int(answer.code)) if known else ErrorCode.OTHER)


def _prepare(root: Path) -> None:
    for name in ("in", "out", "out/.sent"):
        (root / name).mkdir(mode=0o700, parents=True, exist_ok=True)


def _answered(root: Path, due: Due) -> Acknowledgement | None:
    """Give the answer that lies in ``in``; one that cannot be read is as good as none."""
    path = root / "in" / f"{due.control_id}.ack"
    if not path.is_file() or path.stat().st_size > MAX_ANSWER_OCTETS:
        return None
    try:
        return checked(path.read_bytes(), due.control_id)
    except MalformedHl7Error:
        log.warning("handover_failed", phase="answer", error_type="MalformedHl7Error")
        return None


def _must_write(root: Path, due: Due, at: datetime) -> bool:
    sent = root / "out" / ".sent" / due.control_id
    if not sent.exists():
        return True
    return at.timestamp() - sent.stat().st_mtime > FILE_AGAIN_AFTER.total_seconds()


def _put(root: Path, due: Due, raw: bytes) -> None:
    _write(root / "out" / f"{due.control_id}.hl7", raw)
    (root / "out" / ".sent" / due.control_id).touch(mode=0o600)


def _clear(root: Path, due: Due) -> None:
    for path in (
        root / "in" / f"{due.control_id}.ack",
        root / "out" / ".sent" / due.control_id,
        root / "out" / f"{due.control_id}.hl7",
    ):
        path.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    """Write a file that is whole or absent."""
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
