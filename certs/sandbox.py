"""A pool of our own worker processes, where strangers' bytes are judged.

``ProcessPoolExecutor`` breaks whole when one worker dies; here each worker is killed and
replaced by itself. Invariants: a worker runs one call at a time, of a function named when the
pool was made; a call that passes its deadline, is cancelled, or leaves the worker in doubt ends
that worker's life; what a worker sends back is unpickled with an allow-list of plain value
classes, because it may by then be the attacker's.

Bytes over 256 kB travel by memory file, not through the socket; a ``Shared`` argument travels
once per worker.
"""

import array
import asyncio
import contextlib
import dataclasses
import datetime as dt
import enum
import hashlib
import importlib
import io
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from certs import sandbox_worker
from certs.errors import SandboxCrashError, SandboxError, SandboxTimeoutError

DEFAULT_MEMORY_BYTES = 256 * 1024 * 1024
DEFAULT_CPU_S = 5.0  # threats C12 and X6; bounds on counts keep a signature far below 2 s
DEFAULT_DEADLINE_S = 15.0  # a busy machine must not make an honest message unreadable
_START_DEADLINE_S = 30.0
_CALLS_PER_WORKER = 20_000  # then it is replaced: libraries leak
_MAX_RESULT_BYTES = 256 * 1024 * 1024
_ERROR_MODULES = ("certs.errors", "record_bridge.errors")
_VALUE_PACKAGES = frozenset({"certs", "directory", "record_bridge", "mailserver"})
_ALLOWED: dict[tuple[str, str], object] = {
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "bytearray"): bytearray,
    ("datetime", "datetime"): dt.datetime,
    ("datetime", "date"): dt.date,
    ("datetime", "timedelta"): dt.timedelta,
    ("datetime", "timezone"): dt.timezone,
}


class Shared:
    """A value that several calls pass, sent to each worker once: trust anchors, CRLs.

    Keep one instance for as long as the value is current; it is pickled when made.
    """

    __slots__ = ("content", "digest")

    def __init__(self, value: object) -> None:
        self.content = pickle.dumps(value, protocol=5)
        self.digest = hashlib.sha256(self.content).digest()


class SandboxPool:
    """An ``async with`` pool of workers.

    Args:
        size: how many workers.
        functions: every ``module:function`` that may run; their modules are imported at start.
        memory_bytes: how much each worker's address space may grow after its imports.
        deadline_s: seconds one call may take, from when a worker takes it.
        cpu_s: seconds of CPU one call may use.
    """

    def __init__(
        self,
        size: int = 2,
        *,
        functions: Iterable[str],
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        deadline_s: float = DEFAULT_DEADLINE_S,
        cpu_s: float = DEFAULT_CPU_S,
    ) -> None:
        self._size = size
        self._functions = frozenset(functions)
        self._limits = {"memory_bytes": memory_bytes, "cpu_s": cpu_s}
        self._deadline_s = deadline_s
        self._idle: asyncio.LifoQueue[_Slot] = asyncio.LifoQueue()
        self._slots: list[_Slot] = []
        self._tasks = asyncio.TaskGroup()
        self._restarts: set[asyncio.Task[None]] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._slots = [_Slot() for _ in range(self._size)]
        try:
            async with asyncio.TaskGroup() as starting:
                for slot in self._slots:
                    starting.create_task(self._start(slot))
        except BaseExceptionGroup as group:
            # Not except*: Python before 3.11.4 (Debian 12 has 3.11.2) wraps what that raises.
            await self._close()
            if group.subgroup((SandboxError, OSError)) is None:
                raise
            raise SandboxCrashError("WorkerStart") from group
        for slot in self._slots:
            self._idle.put_nowait(slot)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._close()

    async def run(self, function: str, *args: object, deadline_s: float | None = None) -> Any:
        """Run one function in a worker and return what it returns.

        The result is whatever the named function returns, hence ``Any``: the name is a string.

        Args:
            function: a name of the pool's list.
            *args: picklable; ``bytes`` and ``Shared`` at this level travel cheaply.
            deadline_s: instead of the pool's.

        Raises:
            SandboxTimeoutError: the deadline or the CPU ran out; the worker was killed.
            SandboxCrashError: the worker died or ran out of memory.
            SandboxError: the function raised; errors of ``certs.errors`` and
                ``record_bridge.errors`` are raised here as they are.
            ValueError: the function is not on the pool's list.
        """
        if function not in self._functions:
            raise ValueError("the function is not on the pool's list")
        slot = await self._idle.get()
        healthy = False
        worker: _Worker | None = None
        try:
            if slot.worker is None:
                await self._start(slot)
            worker = slot.worker
            if worker is None:
                raise SandboxCrashError("WorkerStart")
            async with asyncio.timeout(deadline_s or self._deadline_s):
                kind, value = await worker.call(function, args)
            healthy = worker.calls < _CALLS_PER_WORKER
        except TimeoutError:
            raise SandboxTimeoutError from None
        except (OSError, EOFError) as error:
            if worker is not None and await worker.ran_out():
                raise SandboxTimeoutError from error
            raise SandboxCrashError from error
        finally:
            if healthy:
                self._idle.put_nowait(slot)
            else:
                self._replace(slot)
        if kind == sandbox_worker.RESULT:
            return value
        if kind == sandbox_worker.RAISED:
            raise _error(value)
        raise SandboxError(str(value)[:64])

    def _replace(self, slot: "_Slot") -> None:
        worker, slot.worker = slot.worker, None
        if worker is not None:
            worker.kill()
        if self._closed:
            if worker is not None:
                worker.process.wait()  # killed: at once
            return
        restart = self._tasks.create_task(self._restart(slot, worker))
        self._restarts.add(restart)
        restart.add_done_callback(self._restarts.discard)

    async def _restart(self, slot: "_Slot", dead: "_Worker | None") -> None:
        """Bury one worker and start the next; a failed start is tried again by the next call."""
        try:
            if dead is not None:
                await _bury(dead)
            with contextlib.suppress(SandboxError, OSError):
                await self._start(slot)
        finally:
            self._idle.put_nowait(slot)

    async def _start(self, slot: "_Slot") -> None:
        worker = _Worker(self._functions, self._limits)
        try:
            async with asyncio.timeout(_START_DEADLINE_S):
                await worker.start()
        except (TimeoutError, OSError, EOFError) as error:
            raise SandboxCrashError("WorkerStart") from error
        finally:
            if not worker.ready:
                worker.kill()
                await _bury(worker)
        slot.worker = worker

    async def _close(self) -> None:
        self._closed = True
        for restart in self._restarts:
            restart.cancel()
        await self._tasks.__aexit__(None, None, None)
        for slot in self._slots:
            if slot.worker is not None:
                slot.worker.kill()
                await _bury(slot.worker)
                slot.worker = None


class _Slot:
    """A place in the pool; its worker comes and goes."""

    __slots__ = ("worker",)

    def __init__(self) -> None:
        self.worker: _Worker | None = None


class _Worker:
    """One process and our end of its socket."""

    def __init__(self, functions: Iterable[str], limits: Mapping[str, float]) -> None:
        self.calls = 0
        self.ready = False
        self._hello = {
            "path": list(sys.path),
            "functions": sorted(functions),
            "error_modules": _ERROR_MODULES,
            **limits,
        }
        self._known: OrderedDict[bytes, None] = OrderedDict()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket = ours
        with theirs:
            ours.setblocking(False)
            # Our own program, by absolute path, with no input in its arguments.
            self.process = subprocess.Popen(  # noqa: S603
                [
                    sys.executable,
                    "-I",
                    str(Path(sandbox_worker.__file__).resolve()),
                    str(theirs.fileno()),
                    str(os.getpid()),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # a library's message may quote its input
                env={"LANG": "C.UTF-8", **sandbox_worker.ALLOCATOR},
                cwd="/",
            )

    async def start(self) -> None:
        """Say hello and wait until the worker has imported and confined itself."""
        await self._send(sandbox_worker.HELLO, pickle.dumps(self._hello), ())
        kind, _ = await self._receive()
        if kind != sandbox_worker.READY:
            raise EOFError
        self.ready = True

    async def call(self, function: str, args: Sequence[object]) -> tuple[int, object]:
        """Run one function; returns the kind of answer and its value."""
        self.calls += 1
        descriptors: list[int] = []
        try:
            slots = [await self._slot(each, descriptors) for each in args]
            request = pickle.dumps((function, slots), protocol=5)
            await self._send(sandbox_worker.CALL, request, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        kind, payload = await self._receive()
        return kind, _loads(payload)

    async def ran_out(self) -> bool:
        """Whether the process, of which we have lost the socket, was ended for its CPU."""
        self.kill()
        await _bury(self)
        return self.process.returncode == -signal.SIGPROF

    def kill(self) -> None:
        """End the process at once."""
        self.process.kill()
        self._socket.close()

    async def _slot(self, argument: object, descriptors: list[int]) -> tuple[object, ...]:
        if isinstance(argument, Shared):
            known = argument.digest in self._known
            self._known[argument.digest] = None
            self._known.move_to_end(argument.digest)
            if len(self._known) > sandbox_worker.SHARED_KEPT:
                self._known.popitem(last=False)
            if known:
                return ("shared", argument.digest, None)
            if len(argument.content) <= sandbox_worker.INLINE_BYTES:
                return ("shared", argument.digest, argument.content)
            return ("shared", argument.digest, await _spool(argument.content, descriptors))
        if isinstance(argument, bytes) and len(argument) > sandbox_worker.INLINE_BYTES:
            return ("file", await _spool(argument, descriptors))
        return ("value", argument)

    async def _send(self, kind: int, payload: bytes, descriptors: Sequence[int]) -> None:
        header = sandbox_worker.HEADER.pack(kind, len(payload), len(descriptors))
        # Between calls the socket's buffer is empty: ten bytes always fit.
        if descriptors:
            rights = array.array("i", descriptors)
            self._socket.sendmsg([header], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            view = memoryview(payload)
        else:
            view = memoryview(header + payload)
        loop = asyncio.get_running_loop()
        while view:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                await _ready(loop.add_writer, loop.remove_writer, self._socket)

    async def _receive(self) -> tuple[int, bytes]:
        space = socket.CMSG_SPACE(array.array("i").itemsize)
        loop = asyncio.get_running_loop()
        while True:
            await _ready(loop.add_reader, loop.remove_reader, self._socket)
            with contextlib.suppress(BlockingIOError):
                data, ancillary, _, _ = self._socket.recvmsg(sandbox_worker.HEADER.size, space)
                break
        descriptors = array.array("i")
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(content)
        try:
            header = data + await self._exactly(sandbox_worker.HEADER.size - len(data))
            kind, length, _ = sandbox_worker.HEADER.unpack(header)
            if descriptors:
                first = descriptors.pop(0)
                return kind, sandbox_worker.read_memory_file(first, _MAX_RESULT_BYTES)
            if not data or length > sandbox_worker.INLINE_BYTES:
                raise EOFError
            return kind, await self._exactly(length)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    async def _exactly(self, count: int) -> bytes:
        buffer = bytearray(count)
        view = memoryview(buffer)
        loop = asyncio.get_running_loop()
        while view:
            try:
                got = self._socket.recv_into(view)
            except BlockingIOError:
                await _ready(loop.add_reader, loop.remove_reader, self._socket)
                continue
            if not got:
                raise EOFError
            view = view[got:]
        return bytes(buffer)


class _ResultUnpickler(pickle.Unpickler):
    """Reads a worker's answer: plain values, and our own dataclasses, enums and errors."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse every global but those that only hold data."""
        known = _ALLOWED.get((module, name))
        if known is not None:
            return known
        if module.partition(".")[0] not in _VALUE_PACKAGES or module not in sys.modules:
            raise SandboxCrashError("WorkerProtocol")
        found: object = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        if not isinstance(found, type) or not (
            dataclasses.is_dataclass(found)
            or issubclass(found, enum.Enum)
            or (issubclass(found, tuple) and hasattr(found, "_fields"))
        ):
            raise SandboxCrashError("WorkerProtocol")
        _ALLOWED[module, name] = found
        return found


def _error(value: object) -> Exception:
    """Make again the error that a function raised, from its class's name and its facts."""
    match value:
        case (str(module), str(name), tuple(arguments), dict(facts)) if module in _ERROR_MODULES:
            found = getattr(sys.modules.get(module), name, None)
            if isinstance(found, type) and issubclass(found, Exception):
                error: Exception = found.__new__(found, *arguments)
                error.args = arguments
                vars(error).update(facts)
                return error
    return SandboxError("Exception")


def _loads(payload: bytes) -> object:
    try:
        return _ResultUnpickler(io.BytesIO(payload)).load()
    except SandboxCrashError:
        raise
    except Exception as error:
        # A broken pickle raises almost anything: one more reason to end this worker.
        raise EOFError from error


async def _bury(worker: _Worker) -> None:
    """Wait for a killed process to end, also when we are told to stop."""
    try:
        await asyncio.to_thread(worker.process.wait)
    except asyncio.CancelledError:
        worker.process.wait()  # killed: at once
        raise


async def _spool(content: bytes, descriptors: list[int]) -> int:
    """Put content into a memory file, off the loop when that takes milliseconds."""
    if len(content) > 4 * sandbox_worker.INLINE_BYTES:
        descriptor = await asyncio.to_thread(sandbox_worker.memory_file, content)
    else:
        descriptor = sandbox_worker.memory_file(content)
    descriptors.append(descriptor)
    return len(descriptors) - 1


async def _ready(add: Any, remove: Any, channel: socket.socket) -> None:
    """Wait until a socket can be read or written.

    ``add`` and ``remove`` are the loop's, whose own types are overloaded with ``Any``.
    """
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    add(channel, _wake, future)
    try:
        await future
    finally:
        remove(channel)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
