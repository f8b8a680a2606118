"""The bridge's IMAP client: one application mailbox, read by UID over TLS.

Invariants: a message is asked for only by UID and only above the cursor; at most ``BATCH_ITEMS``
messages or ``BATCH_OCTETS`` octets are in memory at once; every failure names its phase; nothing
read from the server enters a log or an exception text.

aioimaplib's own reader formats every chunk for a debug line, recurses once per response line
(a thousand lines end in a swallowed RecursionError) and leaves commands waiting when the
connection is lost, those begun after it too, so the reading half of its protocol is replaced here
(DESIGN §7).

Source: RFC 9051 §6.4.9, RFC 2177 §3, RFC 4315 §3.
"""

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

import aioimaplib
from aioimaplib import aioimaplib as library

logging.getLogger("aioimaplib.aioimaplib").disabled = True  # prints raw server lines at INFO

BATCH_ITEMS = 32
"""Messages of one FETCH and of one filing transaction (DESIGN §3 row 13, §7: at most 50)."""
BATCH_OCTETS = 16 * 1024 * 1024
MAX_LITERAL_OCTETS = 257 * 1024 * 1024
"""The largest message that a site may be set to take, with what its server writes before it."""
MAX_LINE_OCTETS = 1024 * 1024
COMMAND_TIMEOUT_S = 120.0
"""DESIGN §7."""

_LITERAL = re.compile(rb"\{(\d{1,10})\}$")
_UID = re.compile(rb"\bUID (\d{1,10})")
_SIZE = re.compile(rb"\bRFC822\.SIZE (\d{1,10})")
_UIDVALIDITY = re.compile(rb"\[UIDVALIDITY (\d{1,10})\]", re.IGNORECASE)
_QUOTED = re.compile(rb'\bBODY\[\] "((?:[^"\\\r\n]|\\.)*)"', re.IGNORECASE)
_EMPTY = re.compile(rb"\bBODY\[\] \{0\}$", re.IGNORECASE)
_EXPUNGED = re.compile(rb"\[EXPUNGEISSUED\]", re.IGNORECASE)
_EXISTS = re.compile(rb"\* \d{1,10} EXISTS$", re.IGNORECASE)


class Phase(Enum):
    """What the bridge was doing with the mailbox when something failed."""

    CONNECT = "connect"
    LOGIN = "login"
    SELECT = "select"
    LIST = "list"
    FETCH = "fetch"
    CLAIM = "claim"
    OPEN = "open"
    FILE = "file"
    MARK = "mark"
    PURGE = "purge"
    REPLY = "reply"
    IDLE = "idle"


class InboxError(Exception):
    """The mailbox cannot be used now; reconnect and go on.

    Attributes:
        phase: what was being done.
    """

    def __init__(self, phase: Phase) -> None:
        super().__init__("the application mailbox cannot be used now")
        self.phase = phase


@dataclass(frozen=True, slots=True)
class InboxLogin:
    """Where an application mailbox is and how to open it.

    Attributes:
        tls: context that checks the server's certificate and name; implicit TLS.
    """

    host: str
    port: int
    tls: ssl.SSLContext
    user: str
    password: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A message that is there: its UID and how large it is."""

    uid: int
    octets: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """A message as the server gave it."""

    uid: int
    raw: bytes


class ClientProtocol(library.IMAP4ClientProtocol):  # type: ignore[misc]  # untyped library
    """aioimaplib's protocol with an iterative reader that knows literals.

    ``activity`` is set whenever the server says EXISTS, and when the connection is lost.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop, None)
        self.activity = asyncio.Event()
        self.lost = False
        self._line = bytearray()
        self._literal: bytearray | None = None
        self._missing = 0
        self._parts: list[bytes | bytearray] = []

    async def execute(self, command: library.Command, scrub: str | None = None) -> Any:
        """Run a command; at once an error when the connection is gone.

        The library would write into the closed transport and wait for the command's time to pass.
        Any: its responses are untyped.
        """
        if self.lost:
            raise library.Abort("connection lost")
        return await super().execute(command, scrub)

    def data_received(self, data: bytes) -> None:
        """Cut what came into responses; a literal is copied once."""
        at, end = 0, len(data)
        while at < end:
            if self._literal is not None:
                taken = min(self._missing, end - at)
                self._literal += memoryview(data)[at : at + taken]
                at += taken
                self._missing -= taken
                if self._missing == 0:
                    self._parts.append(self._literal)
                    self._literal = None
                continue
            stop = data.find(b"\n", at)
            if stop < 0:
                self._line += memoryview(data)[at:]
                if len(self._line) > MAX_LINE_OCTETS:
                    self._give_up()
                break
            self._line += memoryview(data)[at : stop + 1]
            at = stop + 1
            self._end_line()
        if self.pending_sync_command is not None:
            self.pending_sync_command.flush()

    def _end_line(self) -> None:
        line = bytes(self._line).rstrip(b"\r\n")
        self._line.clear()
        self._parts.append(line)
        literal = _LITERAL.search(line)
        if literal is None:
            parts, self._parts = self._parts, []
            self._response(parts)
            return
        self._missing = int(literal[1])
        if self._missing > MAX_LITERAL_OCTETS:
            self._give_up()
        elif self._missing:
            self._literal = bytearray()
        else:
            self._parts.append(b"")

    def _response(self, parts: Sequence[bytes | bytearray]) -> None:
        first = bytes(parts[0])
        if _EXISTS.match(first):
            self.activity.set()
        try:
            command = self._handle_line(first, None)
        except library.Error:
            self._give_up()
            return
        if command is not None:
            for part in parts[1:]:
                command.append_to_resp(part)

    def _give_up(self) -> None:
        """End a connection whose peer does not speak IMAP as we know it."""
        self._line.clear()
        self._literal = None
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake everyone who waits for an answer that will not come."""
        super().connection_lost(exc)
        self.lost = True
        self.activity.set()
        pending: Any = getattr(self, "pending_sync_command", None)
        waiting = [pending, *self.pending_async_commands.values()]
        self.pending_sync_command = None
        self.pending_async_commands.clear()
        for command in waiting:
            if command is not None:
                command._exception = library.Abort("connection lost")  # noqa: SLF001 - no setter
                command.close(b"", "KO")


class _Client(aioimaplib.IMAP4_SSL):  # type: ignore[misc]  # untyped library
    """aioimaplib's client over ``ClientProtocol``."""

    protocol: ClientProtocol

    def create_client(
        self,
        host: str,
        port: int,
        loop: asyncio.AbstractEventLoop | None,
        conn_lost_cb: Any = None,  # noqa: ARG002 - the library's signature
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Start to connect, as the library does, with our protocol."""
        running = loop or asyncio.get_running_loop()
        self.protocol = ClientProtocol(running)
        self._client_task = running.create_task(
            running.create_connection(lambda: self.protocol, host, port, ssl=ssl_context)
        )


class Inbox:
    """An application mailbox, logged in and selected."""

    def __init__(self, client: _Client, uidvalidity: int) -> None:
        self._client = client
        self.uidvalidity = uidvalidity

    @classmethod
    @asynccontextmanager
    async def open(cls, login: InboxLogin) -> "AsyncIterator[Inbox]":
        """Connect, log in and select INBOX; log out at the end.

        Raises:
            InboxError: with the phase that failed.
        """
        client = _Client(login.host, login.port, timeout=COMMAND_TIMEOUT_S, ssl_context=login.tls)
        try:
            async with _phase(Phase.CONNECT, deadline_s=20.0):
                await client.wait_hello_from_server()
            async with _phase(Phase.LOGIN, deadline_s=20.0):
                _expect(await client.login(_quoted(login.user), login.password))
            async with _phase(Phase.SELECT):
                selected = await client.select("INBOX")
                _expect(selected)
                found = [
                    match for line in selected.lines if (match := _UIDVALIDITY.search(bytes(line)))
                ]
                if len(found) != 1:
                    raise InboxError(Phase.SELECT)
            yield cls(client, int(found[0][1]))
            if not client.protocol.lost:
                async with _phase(Phase.IDLE, deadline_s=5.0):
                    await client.logout()
        finally:
            client._client_task.cancel()  # noqa: SLF001 - the library never ends it
            if client.protocol.transport is not None:
                client.protocol.transport.abort()

    async def list_after(self, uid: int) -> list[Listed]:
        """The messages above ``uid``, in UID order.

        ``n+1:*`` names the last message even when its UID is n or less: those are dropped.

        Source: RFC 9051 §9 (seq-range).
        """
        self._client.protocol.activity.clear()
        async with _phase(Phase.LIST):
            answer = await self._client.uid("fetch", f"{uid + 1}:*", "(UID RFC822.SIZE)")
            _expect(answer)
        found = {}
        for line in answer.lines:
            uid_at, size_at = _UID.search(line), _SIZE.search(line)
            if uid_at and size_at and int(uid_at[1]) > uid:
                found[int(uid_at[1])] = int(size_at[1])
        return [Listed(number, found[number]) for number in sorted(found)]

    async def fetch(self, uids: Sequence[int]) -> list[Fetched]:
        """The messages of these UIDs that the server gives, whole, in UID order; none is marked.

        One that it names without a body (NIL) is left out, like one that is gone: ``present``
        tells them apart.

        Source: RFC 9051 §6.4.5, RFC 9051 §4.5 (nstring).
        """
        async with _phase(Phase.FETCH):
            answer = await self._client.uid("fetch", _uid_set(uids), "(UID BODY.PEEK[])")
            if not _is_partial(answer):
                _expect(answer)
        found: dict[int, bytes] = {}
        wanted = frozenset(uids)
        uid, raw = 0, None
        for part in answer.lines:
            if isinstance(part, bytearray):
                raw = bytes(part)
                continue
            if b"FETCH (" in part:
                uid, raw = 0, None
            if match := _UID.search(part):
                uid = int(match[1])
            if _EMPTY.search(part):
                raw = b""
            elif match := _QUOTED.search(part):
                raw = re.sub(rb"\\(.)", rb"\1", match[1])
            if uid in wanted and raw is not None:
                found[uid] = raw
        return [Fetched(number, found[number]) for number in sorted(found)]

    async def present(self, uids: Sequence[int]) -> frozenset[int]:
        """Which of these UIDs the mailbox still lists.

        Source: RFC 9051 §6.4.9.
        """
        async with _phase(Phase.LIST):
            answer = await self._client.uid("fetch", _uid_set(uids), "(UID RFC822.SIZE)")
            _expect(answer)
        found = [int(match[1]) for line in answer.lines if (match := _UID.search(line))]
        return frozenset(found).intersection(uids)

    async def mark(
        self, uids: Sequence[int], keywords: Iterable[str], cleared: Iterable[str]
    ) -> None:
        """Clear and set keywords on these messages, silently.

        Source: RFC 9051 §6.4.6.
        """
        async with _phase(Phase.MARK):
            for sign, words in (("-", sorted(cleared)), ("+", sorted(keywords))):
                if words:
                    _expect(
                        await self._client.uid(
                            "store", _uid_set(uids), f"{sign}FLAGS.SILENT", f"({' '.join(words)})"
                        )
                    )

    async def remove(self, uids: Sequence[int]) -> bool:
        """Delete these messages, and no other that somebody marked.

        Returns:
            False when the server cannot expunge by UID: nothing was done.

        Source: RFC 4315 §2.1.
        """
        if not self._client.has_capability("UIDPLUS"):
            return False
        async with _phase(Phase.PURGE):
            named = _uid_set(uids)
            _expect(await self._client.uid("store", named, "+FLAGS.SILENT", r"(\Deleted)"))
            _expect(await self._client.uid("expunge", named))
        return True

    async def wait(self, wake: asyncio.Event, timeout_s: float) -> None:
        """IDLE until the server has news, ``wake`` is set, or the time is over.

        Source: RFC 2177 §3.
        """
        client, activity = self._client, self._client.protocol.activity
        if activity.is_set() or wake.is_set():
            return
        async with _phase(Phase.IDLE, deadline_s=timeout_s + 30.0):
            idle = await client.idle_start(timeout_s + 20.0)
            async with asyncio.TaskGroup() as group:
                waits = {group.create_task(activity.wait()), group.create_task(wake.wait())}
                await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
                for task in waits:
                    task.cancel()
            if client.protocol.lost:
                raise InboxError(Phase.IDLE)
            client.idle_done()
            _expect(await idle)
            while not client.protocol.idle_queue.empty():
                client.protocol.idle_queue.get_nowait()


@asynccontextmanager
async def _phase(phase: Phase, deadline_s: float = COMMAND_TIMEOUT_S) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(deadline_s):
            yield
    except InboxError as error:
        raise InboxError(phase) from error
    except (OSError, TimeoutError, library.AioImapException, EOFError) as error:
        raise InboxError(phase) from error


def _expect(answer: Any) -> None:
    if answer.result != "OK":
        raise InboxError(Phase.CONNECT)  # the enclosing phase replaces it


def _is_partial(answer: Any) -> bool:
    """Whether a FETCH gave all but what was expunged meanwhile. Source: RFC 5530 §3."""
    return answer.result == "NO" and any(
        _EXPUNGED.match(bytes(line)) for line in answer.lines[-1:]
    )


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _uid_set(uids: Sequence[int]) -> str:
    """A compact sequence set. Source: RFC 9051 §9 (sequence-set)."""
    runs: list[list[int]] = []
    for uid in sorted(uids):
        if runs and uid == runs[-1][1] + 1:
            runs[-1][1] = uid
        else:
            runs.append([uid, uid])
    return ",".join(str(a) if a == b else f"{a}:{b}" for a, b in runs)
