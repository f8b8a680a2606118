"""One TCP connection: octets to the framer, octets out under back-pressure, TLS in between.

Invariants: reading stops while more is buffered than the command in hand needs; every wait for
the peer has a deadline; nothing that came before a TLS handshake is ever read after it
(threat S4).
"""

import asyncio
import ssl
import zlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from mailserver.imap.errors import ConnectionGoneError, StoppingError
from mailserver.imap.wire import Event, Framer, after_login

if TYPE_CHECKING:
    from zlib import _Compress as _Deflater
    from zlib import _Decompress as _Inflater

COMPRESSION_LEVEL = 4
COMPRESSION_MEMORY = 6
"""About 100 kB a direction instead of 256: mail compresses as well."""
INFLATE_SLICE = 65_536
READ_AHEAD = 262_144
"""Octets taken in beyond what the command in hand needs, before reading stops."""
SLICE = 262_144
"""Output is written in pieces of about this size, each under back-pressure (DESIGN §5)."""
WRITE_DEADLINE_S = 300.0
"""A peer that takes nothing for so long is gone."""
HANDSHAKE_DEADLINE_S = 10.0
"""Threat S9."""
HIGH_WATER = 262_144
MIN_RATE_OCTETS = 1024
"""A literal that comes slower than this between two reads does not push its deadline back."""


class Connection(asyncio.Protocol):
    """The shell around the framer; the session pulls from it."""

    def __init__(self, ready: "Callable[[Connection], None]") -> None:
        self._ready = ready
        self._transport: asyncio.Transport | None = None
        self._framer = Framer()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._paused = False
        self._eof = False
        self._stopping = False
        self._out: list[bytes] = []
        self._out_octets = 0
        self._inflater: _Inflater | None = None
        self._deflater: _Deflater | None = None
        self._squeezed = b""
        self.peer = ""
        self.tls = False

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """What TLS knows of the two ends, None in clear."""
        if self._transport is None:
            return None
        found: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
        return found

    @property
    def framer(self) -> Framer:
        """The input side."""
        return self._framer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start a session; after a STARTTLS only the transport is exchanged."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")  # noqa: S101
        first = self._transport is None
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no subclass
        transport.set_write_buffer_limits(high=HIGH_WATER)  # type: ignore[attr-defined]
        if first:
            name = transport.get_extra_info("peername")
            self.peer = str(name[0]) if name else ""
            self.tls = transport.get_extra_info("ssl_object") is not None
            self._ready(self)

    def data_received(self, data: bytes) -> None:
        """Take octets."""
        if self._inflater is None:
            self._framer.feed(data)
        else:
            self._squeezed += data
            self._inflate()
        ahead = self._framer.buffered > READ_AHEAD and not self._framer.wanted
        if (ahead or self._squeezed) and not self._paused:
            self._paused = True
            self._transport_now().pause_reading()
        self._wake.set()

    def _inflate(self) -> bool:
        """Inflate as much as the framer takes now; what is left waits, still compressed.

        However much a peer's octets inflate to, no more than ``READ_AHEAD`` and a slice is held.
        """
        inflater, framer = self._inflater, self._framer
        fed = False
        while inflater is not None and self._squeezed:
            if framer.buffered > READ_AHEAD and not framer.wanted:
                break
            try:
                plain = inflater.decompress(self._squeezed, INFLATE_SLICE)
            except zlib.error:
                self._squeezed = b""
                self.abort()
                break
            self._squeezed = inflater.unconsumed_tail
            framer.feed(plain)
            fed = fed or bool(plain)
            if inflater.eof:
                self._squeezed = b""
                self._eof = True
        return fed

    @property
    def compressed(self) -> bool:
        """COMPRESS is active."""
        return self._deflater is not None

    def compress(self) -> None:
        """Compress both ways from the next octet on. Source: RFC 4978 §3."""
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._deflater = zlib.compressobj(
            COMPRESSION_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, COMPRESSION_MEMORY
        )

    def eof_received(self) -> bool:
        """Note that the peer sends no more."""
        self._eof = True
        self._wake.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone, and let whoever waits find out."""
        del exc
        self._eof = True
        self._wake.set()
        self._room.set()

    def pause_writing(self) -> None:
        """The peer is slow."""
        self._room.clear()

    def resume_writing(self) -> None:
        """The peer caught up."""
        self._room.set()

    def _transport_now(self) -> asyncio.Transport:
        if self._transport is None:
            raise ConnectionGoneError
        return self._transport

    def open_limits(self, append_limit: int) -> None:
        """Somebody logged in: larger commands are taken from now on."""
        self._framer.limits = after_login(append_limit)

    def stop(self) -> None:
        """Have the session end when it next waits for its client."""
        self._stopping = True
        self._wake.set()

    def poke(self) -> None:
        """Wake whoever waits in ``wait``."""
        self._wake.set()

    async def wait(self, deadline_s: float) -> None:
        """Return when octets came or ``poke`` was called.

        Raises:
            ConnectionGoneError: the peer closed.
            StoppingError: the server stops.
            TimeoutError: nothing happened.
        """
        if self._stopping:
            raise StoppingError
        if self._squeezed and self._inflate():
            self._wake.set()
        if self._paused and not self._eof and not self._squeezed:
            self._paused = False
            self._transport_now().resume_reading()
        if not self._wake.is_set():
            if self._eof:
                raise ConnectionGoneError
            async with asyncio.timeout(deadline_s):
                await self._wake.wait()
        self._wake.clear()
        if self._stopping:
            raise StoppingError

    @property
    def at_eof(self) -> bool:
        """The peer sends no more."""
        return self._eof

    async def next_event(
        self, deadline_s: float, unasked: Callable[[], Awaitable[None]] | None = None
    ) -> Event:
        """Give the next event of the framer.

        Args:
            deadline_s: for the whole event, however slowly its octets come; a literal gets more
                by its size.
            unasked: says what there is to say while no command has begun; after each ``poke``.

        Raises:
            ConnectionGoneError, TimeoutError: as ``wait``.
            FatalWireError: as ``Framer.next``.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + deadline_s
        while True:
            event = self._framer.next()
            if event is not None:
                return event
            if self._eof:
                raise ConnectionGoneError
            if unasked is not None and self._framer.between_commands:
                await unasked()
            wanted = self._framer.wanted
            before = self._framer.buffered
            await self.wait(max(0.001, until - loop.time()))
            if wanted and self._framer.buffered - before >= MIN_RATE_OCTETS:
                # A large literal that keeps coming is not idleness.
                until = max(until, loop.time() + deadline_s / 4)

    async def next_line(self, deadline_s: float) -> bytes:
        """Give the next bare line.

        Raises:
            ConnectionGoneError, TimeoutError, FatalWireError: as ``next_event``.
        """
        until = asyncio.get_running_loop().time() + deadline_s
        while True:
            line = self._framer.next_line()
            if line is not None:
                return line
            if self._eof:
                raise ConnectionGoneError
            await self.wait(max(0.001, until - asyncio.get_running_loop().time()))

    def write(self, octets: bytes) -> None:
        """Queue output; ``flush`` or ``drain`` sends it."""
        self._out.append(octets)
        self._out_octets += len(octets)

    @property
    def full(self) -> bool:
        """Enough is queued to be sent."""
        return self._out_octets >= SLICE

    def send(self) -> None:
        """Hand what is queued to the transport, without waiting."""
        if self._out and self._transport is not None and not self._transport.is_closing():
            octets = b"".join(self._out)
            if self._deflater is not None:
                octets = self._deflater.compress(octets) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
            self._transport.write(octets)
        self._out.clear()
        self._out_octets = 0

    async def flush(self) -> None:
        """Send what is queued, and wait while the peer is slow.

        Raises:
            ConnectionGoneError: it is gone, or takes nothing any more.
        """
        self.send()
        if not self._room.is_set():
            try:
                async with asyncio.timeout(WRITE_DEADLINE_S):
                    await self._room.wait()
            except TimeoutError:
                self.abort()
                raise ConnectionGoneError from None
        if self._transport is None or self._transport.is_closing():
            raise ConnectionGoneError

    async def start_tls(self, context: ssl.SSLContext, go_ahead: bytes) -> None:
        """Send the go-ahead and do the handshake.

        The two happen without the loop turning in between: what the peer sent too early is read
        by the TLS layer, which fails on it, and never by the framer.

        Raises:
            ConnectionGoneError: the handshake failed.
        """
        transport = self._transport_now()
        self.write(go_ahead)
        self.send()
        self._framer.clear()
        loop = asyncio.get_running_loop()
        try:
            secured = await loop.start_tls(
                transport,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=HANDSHAKE_DEADLINE_S,
            )
        except (OSError, TimeoutError) as error:
            raise ConnectionGoneError from error
        if secured is None:
            raise ConnectionGoneError
        self._transport = secured
        secured.set_write_buffer_limits(high=HIGH_WATER)
        self.tls = True

    def close(self) -> None:
        """Send what is queued and close."""
        self.send()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()
