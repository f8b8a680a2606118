"""Say HL7 v2 messages to a software that listens, over MLLP, one at a time.

Source: HL7, Transport Specification: MLLP, release 1.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from record_bridge.errors import MalformedHl7Error
from record_bridge.formats.hl7v2 import Acknowledgement, Hl7Code
from record_bridge.formats.mllp import Blocks, block

CONNECT_S = 10.0
ANSWER_S = 60.0
MAX_ANSWER_OCTETS = 64 * 1024


class MllpClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, address: tuple[str, int], tls: ssl.SSLContext | None
    ) -> AsyncIterator[Self]:
        """Connect to (host, port) until the block ends.

        Raises:
            OSError, TimeoutError: nobody is there.
        """
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(
                *address, ssl=tls, limit=MAX_ANSWER_OCTETS
            )
        try:
            yield cls(reader, writer)
        finally:
            writer.transport.abort()

    async def say(self, raw: bytes, control_id: str) -> Acknowledgement:
        """Send one message, give its answer.

        Raises:
            OSError, TimeoutError, EOFError: the connection ended first.
            MalformedHl7Error: no answer, or to another message.
        """
        async with asyncio.timeout(ANSWER_S):
            self._writer.write(block(raw))
            await self._writer.drain()
            blocks = Blocks(MAX_ANSWER_OCTETS)
            while True:
                octets = await self._reader.read(MAX_ANSWER_OCTETS)
                if not octets:
                    raise EOFError
                for answer in blocks.feed(octets):
                    return checked(answer, control_id)


def checked(raw: bytes, control_id: str) -> Acknowledgement:
    """Read the answer to one message.

    Raises:
        MalformedHl7Error: no answer, or to another message.
    """
    # Imported here: an extra, which sites that hand nothing over do not install.
    from record_bridge.formats.hl7v2_read import parse_acknowledgement  # noqa: PLC0415

    answer = parse_acknowledgement(raw)
    if answer.control_id != control_id:
        raise MalformedHl7Error(Hl7Code.UNKNOWN_VALUE.value, "an answer to another message")
    return answer
