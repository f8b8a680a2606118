"""A structure's software that listens for HL7 v2, on python-hl7's own MLLP server."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import hl7
from hl7.mllp import HL7StreamReader, HL7StreamWriter, start_hl7_server


def accept(message: hl7.Message) -> str:
    """The answer of a software that takes everything."""
    return _ack(message, "AA")


def refuse(code: str, kind: str = "103") -> Callable[[hl7.Message], str]:
    """The answer of one that takes nothing."""
    return lambda message: _ack(message, "AE", f"ERR|||{kind}^^HL70357|E|{code}^non\r")


def _ack(message: hl7.Message, said: str, error: str = "") -> str:
    control = str(message["MSH"][0][10])
    return (
        f"MSH|^~\\&|LPS|LPS|PLI|PLI|20261130||ACK^T02^ACK|A1|P|2.6\rMSA|{said}|{control}\r{error}"
    )


@dataclass
class Software:
    """A structure's software that listens, on python-hl7's own server."""

    answer: Callable[[hl7.Message], str | None] = accept
    heard: list[hl7.Message] = field(default_factory=list)
    port: int = 0

    async def converse(self, reader: HL7StreamReader, writer: HL7StreamWriter) -> None:
        try:
            while not writer.is_closing():
                message = await reader.readmessage()
                self.heard.append(message)
                answer = self.answer(message)
                if answer is None:
                    break
                writer.writemessage(hl7.parse(answer))
                await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    def kinds(self) -> list[str]:
        return [str(each["MSH"][0][9]) for each in self.heard]


@asynccontextmanager
async def listening(
    software: Software, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Software]:
    server = await start_hl7_server(
        software.converse, "127.0.0.1", software.port, encoding="utf-8", ssl=tls, limit=2**24
    )
    software.port = server.sockets[0].getsockname()[1]
    async with server:
        yield software
