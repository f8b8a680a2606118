"""A DNS server on loopback that knows what a test tells it, over UDP and TCP.

Source: RFC 1035 §4.2.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset


@dataclass(slots=True)
class Zone:
    """What is known: (name, type) -> records, or the failure to answer with.

    Attributes:
        records: a name that is in no key does not exist (NXDOMAIN).
        failing: names, or ``name type``, answered SERVFAIL; names in ``silent`` are not answered at all.
        truncated: over UDP every answer is cut, so the client must come back over TCP.
        asked: the questions that came.
    """

    records: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    failing: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    truncated: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)

    def answer(self, wire: bytes, *, stream: bool) -> bytes | None:
        """Give the answer to one query, None for silence."""
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        if name in self.silent:
            return None
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if self.failing & {name, f"{name} {kind}"}:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif self.truncated and not stream:
            response.flags |= dns.flags.TC
        elif texts := self.records.get((name, kind)):
            response.answer.append(
                dns.rrset.from_text(question.name, 60, dns.rdataclass.IN, kind, *texts)
            )
        elif not any(known == name for known, _ in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response.to_wire()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._zone.answer(data, stream=False)
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)


@asynccontextmanager
async def name_server(zone: Zone) -> AsyncIterator[int]:
    """Answer on 127.0.0.1 until the block ends; give the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(2), "big")
        answer = zone.answer(await reader.readexactly(length), stream=True)
        if answer is not None:
            writer.write(len(answer).to_bytes(2, "big") + answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Udp(zone), local_addr=("127.0.0.1", port)
    )
    try:
        yield port
    finally:
        udp.close()
        server.close()
        await server.wait_closed()
