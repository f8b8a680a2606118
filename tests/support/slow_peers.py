"""Peers that hold connections open and say next to nothing, while an operator sends (threats S9).

Every kind begins again when the server ends it, from addresses of its own, as many to an address
as fair use lets in. Source: threats S9.
"""

import asyncio
import contextlib
import itertools
import ssl
import time
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import tomli_w

from tests.support.memory import sizes_mb
from tests.support.site import DemoSite

PER_ADDRESS = 200
"""What fair use lets in of one address (``FairUse.connections_per_address``)."""
DATA_AT_ONCE = 40
"""Of one operator, under what fair use lets in (``FairUse.connections_per_operator``)."""
BYTE_EVERY_S = 20.0
_HALF_HELLO = b"\x16\x03\x01\x02\x00\x01\x00"
_SETTLE_S = 2.0
_EVERY_S = 0.25
_WEIGH_EVERY_S = 1.0

_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_Hold = Callable[[str], Awaitable[None]]


@dataclass(slots=True)
class Attack:
    """What a run saw; seconds and MB.

    Attributes:
        open: connections that the slow peers had at the end of the run.
        begun: how often one of them was opened.
        spent: of each message of the operator, from connecting to its 250.
        failures: of the operator.
    """

    open: int = 0
    begun: int = 0
    spent: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    idle_mb: float = 0.0
    peak_mb: float = 0.0

    def share(self, percent: int) -> float:
        """Give a percentile of what the operator's messages took."""
        ordered = sorted(self.spent)
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def with_fair_use(site: DemoSite) -> None:
    """Give a demo site the bounds of a real one; a demo's operators are load generators."""
    path = site.root / "pli.toml"
    settings = tomllib.loads(path.read_text())
    settings.pop("fair_use")
    path.write_text(tomli_w.dumps(settings))


async def attack(site: DemoSite, connections: int, seconds: float) -> Attack:
    """Hold so many slow connections for so long, while an operator sends one message after another.

    Args:
        site: started, with fair use.
        connections: slow ones, in all; a fiftieth of them, up to ``DATA_AT_ONCE``, are in DATA.
        seconds: how long the operator sends.
    """
    seen = Attack(idle_mb=sum(sizes_mb(site.pid).values()))
    async with _held(_kinds(site, connections), seen), _weighed(site, seen):
        await asyncio.sleep(_SETTLE_S)
        until = time.monotonic() + seconds
        for number in itertools.count():
            began = time.monotonic()
            if began > until:
                break
            try:
                await asyncio.wait_for(_send(site, number), 30.0)
            except (OSError, TimeoutError, AssertionError, asyncio.IncompleteReadError) as error:
                seen.failures.append(repr(error))
            seen.spent.append(time.monotonic() - began)
            await asyncio.sleep(max(0.0, began + _EVERY_S - time.monotonic()))
    return seen


@contextlib.asynccontextmanager
async def _weighed(site: DemoSite, seen: Attack) -> AsyncIterator[None]:
    async def weigh() -> None:
        while True:
            sizes = await asyncio.to_thread(sizes_mb, site.pid)
            seen.peak_mb = max(seen.peak_mb, sum(sizes.values()))
            await asyncio.sleep(_WEIGH_EVERY_S)

    task = asyncio.create_task(weigh())
    try:
        yield
    finally:
        task.cancel()


def _kinds(site: DemoSite, connections: int) -> Sequence[_Hold]:
    """Share the connections out: half say a byte now and then, the others stop in a handshake."""
    in_data = min(DATA_AT_ONCE, connections // 50)
    kinds = itertools.cycle(
        [
            partial(_bytes, site),
            partial(_bytes, site),
            partial(_starttls, site),
            partial(_tls, site),
        ]
    )
    return [partial(_data, site)] * in_data + list(itertools.islice(kinds, connections - in_data))


@contextlib.asynccontextmanager
async def _held(kinds: Sequence[_Hold], seen: Attack) -> AsyncIterator[None]:
    open_now: set[int] = set()

    async def hold(number: int, kind: _Hold) -> None:
        # 127.0.0.1 is the operator's.
        address = f"127.0.0.{2 + number // PER_ADDRESS}"
        while True:
            seen.begun += 1
            open_now.add(number)
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await kind(address)
            open_now.discard(number)
            await asyncio.sleep(1.0)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(hold(*each)) for each in enumerate(kinds)]
        yield
        seen.open = len(open_now)
        for task in tasks:
            task.cancel()


async def _open(site: DemoSite, port: str, address: str) -> _Stream:
    return await asyncio.open_connection("127.0.0.1", site.port(port), local_addr=(address, 0))


async def _until_ended(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await reader.read(4096):
            pass
    finally:
        writer.transport.abort()


async def _bytes(site: DemoSite, address: str) -> None:
    """Say one octet of a greeting every twenty seconds."""
    reader, writer = await _open(site, "smtp", address)
    await _reply(reader)  # who talks before it is cut off at once

    async def drip() -> None:
        for octet in itertools.cycle(b"EHLO x "):
            writer.write(bytes([octet]))
            await asyncio.sleep(BYTE_EVERY_S)

    await _dripping(reader, writer, drip())


async def _dripping(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, drip: Awaitable[None]
) -> None:
    task = asyncio.ensure_future(drip)
    try:
        await _until_ended(reader, writer)
    finally:
        task.cancel()


async def _starttls(site: DemoSite, address: str) -> None:
    """Begin a handshake after STARTTLS, and end there."""
    reader, writer = await _open(site, "smtp", address)
    for command in ("EHLO slow.test", "STARTTLS"):
        await _reply(reader)
        writer.write(command.encode() + b"\r\n")
    await _reply(reader)
    writer.write(_HALF_HELLO)
    await _until_ended(reader, writer)


async def _tls(site: DemoSite, address: str) -> None:
    """Begin a handshake where TLS comes first, and end there."""
    reader, writer = await _open(site, "submissions", address)
    writer.write(_HALF_HELLO)
    await _until_ended(reader, writer)


async def _data(site: DemoSite, address: str) -> None:
    """As the other operator: say one octet of a message a second."""
    reader, writer = await _to_data(site, 1, address)

    async def drip() -> None:
        for octet in itertools.cycle(b"Subject: lent\r\n"):
            writer.write(bytes([octet]))
            await asyncio.sleep(1.0)

    await _dripping(reader, writer, drip())


async def _to_data(site: DemoSite, operator: int, address: str) -> _Stream:
    reader, writer = await _open(site, "smtp", address)
    tls = _tls_of(site, operator)
    sender = site.demo["operators"][operator]["sender"]
    to = site.demo["practitioners"][0]["address"]
    for command in ("EHLO smtp.operator.test", "STARTTLS"):
        await _reply(reader)
        writer.write(command.encode() + b"\r\n")
    await _reply(reader)
    await writer.start_tls(tls, server_hostname="localhost")
    for command in ("EHLO smtp.operator.test", f"MAIL FROM:<{sender}>", f"RCPT TO:<{to}>", "DATA"):
        writer.write(command.encode() + b"\r\n")
        reply = await _reply(reader)
        assert reply[:1] in "23", reply
    return reader, writer


_CONTEXTS: dict[tuple[str, int], ssl.SSLContext] = {}


def _tls_of(site: DemoSite, operator: int) -> ssl.SSLContext:
    """One context an operator: loading a key costs more than the handshake."""
    key = (str(site.root), operator)
    if key not in _CONTEXTS:
        _CONTEXTS[key] = site.operator_tls(operator)
    return _CONTEXTS[key]


async def _send(site: DemoSite, number: int) -> None:
    """Send one message as the operator, on a connection of its own."""
    reader, writer = await _to_data(site, 0, "127.0.0.1")
    sender = site.demo["operators"][0]["sender"]
    writer.write(
        f"From: <{sender}>\r\nTo: <x@y.test>\r\nSubject: essai {number}\r\n"
        f"Date: Mon, 02 Nov 2026 10:20:00 +0100\r\nMessage-ID: <{number}.s9@x.test>\r\n\r\n"
        "Bonjour\r\n.\r\n".encode()
    )
    reply = await _reply(reader)
    writer.transport.abort()
    assert reply.startswith("250"), reply


async def _reply(reader: asyncio.StreamReader) -> str:
    """Read one reply, its last line."""
    while True:
        line = (await reader.readuntil(b"\r\n")).decode("ascii", "replace")
        if line[3:4] != "-":
            return line
