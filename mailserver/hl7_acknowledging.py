"""Tell a structure's own software what became of what it handed over: ZAM over MLLP, or a folder.

Invariants: what is told was committed as owed first (``store.business_acks``) and is told again,
the same octets under the same control id, until it is answered AA or given up; one at a time. A
file counts as taken once it is in the folder: nobody answers there.

Source: CI-SIS §HL7V2 (2.1, business acknowledgements), MSS-FACTS §9.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from mailserver.settings import write_whole
from mailserver.store.business_acks import RECEPTION, BusinessAcks, DueAck
from record_bridge.errors import MalformedHl7Error
from record_bridge.formats.hl7v2 import Parties
from record_bridge.formats.hl7v2_zam import (
    AckKind,
    BusinessAck,
    ZamHeader,
    encode_zam,
    smtp_error,
)
from record_bridge.mllp_client import MllpClient
from record_bridge.model import ErrorCode

log = structlog.get_logger("mailserver")

EXPECTED = (OSError, TimeoutError, EOFError, MalformedHl7Error)
POLL_S = 1.0
AGAIN_S = 30.0
"""After nobody was there."""
_CODES = frozenset(str(code.value) for code in ErrorCode)


@dataclass(frozen=True, slots=True)
class AckTarget:
    """Where one structure's software takes acknowledgements.

    Attributes:
        address: (host, port) of its MLLP listener, or None.
        tls: for that connection; None on the loopback address only.
        folder: files are put into its ``out`` when there is no address.
    """

    structure_id: str
    address: tuple[str, int] | None
    tls: ssl.SSLContext | None
    folder: Path | None


class Acknowledging:
    """Sends one structure's acknowledgements."""

    def __init__(
        self, acks: BusinessAcks, target: AckTarget, clock: Callable[[], datetime]
    ) -> None:
        self._acks = acks
        self._target = target
        self._clock = clock

    async def run(self) -> None:
        """Send what is due for ever; a failure is logged and tried again."""
        while True:
            pause = POLL_S
            try:
                await self.sweep()
            except Exception as error:
                pause = AGAIN_S
                log.warning(
                    "business_ack_failed",
                    structure_id=self._target.structure_id,
                    error_type=type(error).__name__,
                    exc_info=not isinstance(error, EXPECTED),
                )
            await asyncio.sleep(pause)

    async def sweep(self) -> None:
        """Send what is due now.

        Raises:
            OSError, TimeoutError, EOFError, MalformedHl7Error: the software is not there, or
                answers no HL7.
        """
        due = await self._acks.due(self._target.structure_id, self._clock())
        if not due:
            return
        if self._target.address is not None:
            await self._over_mllp(due, self._target.address)
        elif self._target.folder is not None:
            for each in due:
                await asyncio.to_thread(_put, self._target.folder / "out", *zam(each))
                await self._acks.done(each.id)
                self._said(each, "written")

    async def _over_mllp(self, due: list[DueAck], address: tuple[str, int]) -> None:
        async with MllpClient.connect(address, self._target.tls) as software:
            for each in due:
                control_id, raw = zam(each)
                try:
                    answer = await software.say(raw, control_id)
                except EXPECTED:
                    # It may be this one that it dies on: the others come before it next time.
                    await self._again(each, refused=False)
                    raise
                if answer.accepted:
                    await self._acks.done(each.id)
                    self._said(each, "accepted")
                else:
                    await self._again(each, refused=True)

    async def _again(self, due: DueAck, *, refused: bool) -> None:
        last = await self._acks.again(due.id, self._clock(), refused=refused)
        self._said(due, "given_up" if last else "refused" if refused else "unanswered")

    def _said(self, due: DueAck, verdict: str) -> None:
        log.info(
            "business_ack_told",
            structure_id=self._target.structure_id,
            item=due.id,
            code=due.kind,
            verdict=verdict,
        )


def zam(due: DueAck) -> tuple[str, bytes]:
    """Give the control id and the octets of an acknowledgement. Pure."""
    control_id = f"PLI-ZAM-{due.id}"
    code = ""
    if not due.success and due.kind == RECEPTION:
        code = smtp_error(due.code)
    elif not due.success:
        code = due.code if due.code in _CODES else str(ErrorCode.OTHER.value)
    ack = BusinessAck(AckKind(due.kind), due.original_id, due.address, due.success, code)
    parties = Parties(due.receiving, due.sending)
    return control_id, encode_zam(ZamHeader(parties, due.since, control_id, due.processing), ack)


def _put(folder: Path, control_id: str, raw: bytes) -> None:
    """Write a message into the folder; again after a crash, over itself."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(folder / f"{control_id}.hl7", raw)
