"""The worker process of ``certs.sandbox``: a program, run by path, never imported by the server.

Started as ``python -I sandbox_worker.py FD``. It reads one hello frame, imports the modules it
may serve, then takes away from itself what it does not need (address space, files, core dumps,
new processes) and answers one request at a time until the socket closes. It dies with its
parent. Only the standard library is imported before the limits are known.

A frame is a header (kind, payload length, count of descriptors that travel with it) and a pickle.
"""

import array
import ctypes
import dataclasses
import enum
import gc
import importlib
import io
import operator
import os
import pickle
import resource
import signal
import socket
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, cast

HEADER = struct.Struct("!BQB")
HELLO, READY, CALL, RESULT, RAISED, FAILED = range(1, 7)
INLINE_BYTES = 256 * 1024
MAX_DESCRIPTORS = 8
SHARED_KEPT = 8
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_TRIM_THRESHOLD_": "16777216",
    "MALLOC_TOP_PAD_": "1048576",
    "MALLOC_MMAP_THRESHOLD_": "4194304",
}
"""A process keeps the memory of one report for the next; that of a large message, over 4 MB, goes
back at once, for each thread's heap would keep the largest it ever saw."""
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


def serve(channel: socket.socket) -> None:
    """Answer requests until the parent goes away."""
    kind, payload, _ = receive(channel)
    if kind != HELLO:
        return
    # The parent is trusted; it alone writes to this socket.
    hello: dict[str, Any] = pickle.loads(payload)  # noqa: S301
    sys.path[:] = hello["path"]
    functions = {name: _resolve(name) for name in hello["functions"]}
    passed_on = tuple(hello["error_modules"])
    _confine(hello["memory_bytes"])
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    shared: OrderedDict[bytes, Any] = OrderedDict()
    cpu_s: float = hello["cpu_s"]
    send(channel, READY, pickle.dumps(None))
    while True:
        kind, payload, descriptors = receive(channel)
        if kind != CALL:
            return
        name, slots = pickle.loads(payload)  # noqa: S301 - from the parent
        # SIGPROF ends the process when the call has used its CPU, also inside a C library.
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        arguments = [_argument(slot, descriptors, shared) for slot in slots]
        kind, value = _call(functions[name], arguments, passed_on)
        arguments.clear()
        payload = dump(value)
        signal.setitimer(signal.ITIMER_PROF, 0)
        send(channel, kind, payload)


def receive(channel: socket.socket) -> tuple[int, bytes, list[int]]:
    """Read one frame; ends the process when the parent is gone."""
    data, ancillary, _, _ = channel.recvmsg(
        HEADER.size, socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
    )
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    header = data + _exactly(channel, HEADER.size - len(data))
    kind, length, _ = HEADER.unpack(header)
    return kind, _exactly(channel, length), list(descriptors)


def send(channel: socket.socket, kind: int, payload: bytes) -> None:
    """Write one frame; a large payload goes by memory file instead."""
    if len(payload) <= INLINE_BYTES:
        channel.sendall(HEADER.pack(kind, len(payload), 0) + payload)
        return
    descriptor = memory_file(payload)
    try:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
        channel.sendmsg([HEADER.pack(kind, 0, 1)], [rights])
    finally:
        os.close(descriptor)


def memory_file(content: bytes) -> int:
    """A file in memory with the content; the caller closes the descriptor."""
    descriptor = os.memfd_create("pli-sandbox", os.MFD_CLOEXEC)
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    return descriptor


def read_memory_file(descriptor: int, limit: int) -> bytes:
    """The whole content of a memory file, which is closed."""
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)  # fails on anything but a file: a pipe would block the reader
        octets = os.fstat(descriptor).st_size
        if octets > limit:
            raise OSError
        return file.read(octets)


class _ResultPickler(pickle.Pickler):
    """Writes our slotted dataclasses, and enums, as calls of their class.

    The standard library's way looks at every field by name in Python, at both ends: it took a
    fifth of what opening a report costs. For an enum it differs by version: Python 3.11.2, which
    is Debian 12's, writes a call of ``getattr``, which the reader refuses.
    """

    def reducer_override(self, value: object) -> Any:
        """Give the class and its arguments, or leave it to the library (Any: pickle's own)."""
        kind = type(value)
        if kind not in _READERS:
            _READERS[kind] = _reader(kind)
        reader = _READERS[kind]
        return NotImplemented if reader is None else (kind, reader(value))


_READERS: dict[type, Callable[[object], tuple[object, ...]] | None] = {}


def _reader(kind: type) -> Callable[[object], tuple[object, ...]] | None:
    """Give what reads the constructor's arguments off a value; None when that is not all of it."""
    if issubclass(kind, enum.Enum):
        return lambda value: (cast("enum.Enum", value).value,)
    if not dataclasses.is_dataclass(kind) or "__slots__" not in vars(kind):
        return None
    fields = dataclasses.fields(kind)
    if not fields or any(not each.init or each.kw_only for each in fields):
        return None
    names = [each.name for each in fields]
    if len(names) == 1:
        return lambda value: (getattr(value, names[0]),)
    return operator.attrgetter(*names)


def dump(value: object) -> bytes:
    """Pickle what goes back to the server."""
    written = io.BytesIO()
    _ResultPickler(written, protocol=5).dump(value)
    return written.getvalue()


def _exactly(channel: socket.socket, count: int) -> bytes:
    buffer = bytearray(count)
    view = memoryview(buffer)
    while view:
        got = channel.recv_into(view)
        if not got:
            _leave(0)
        view = view[got:]
    return bytes(buffer)


def _argument(
    slot: Sequence[Any], descriptors: Sequence[int], shared: OrderedDict[bytes, Any]
) -> object:
    match slot:
        case ("value", value):
            return value
        case ("file", int(index)):
            return read_memory_file(descriptors[index], sys.maxsize)
        case ("shared", bytes(digest), source):
            if source is not None:
                content = source
                if isinstance(source, int):
                    content = read_memory_file(descriptors[source], sys.maxsize)
                shared[digest] = pickle.loads(content)  # noqa: S301 - from the parent
                if len(shared) > SHARED_KEPT:
                    shared.popitem(last=False)
            shared.move_to_end(digest)
            return shared[digest]
        case _:
            raise SystemExit(3)


def _call(
    function: Callable[..., object], arguments: Sequence[object], passed_on: tuple[str, ...]
) -> tuple[int, object]:
    try:
        return RESULT, function(*arguments)
    except MemoryError:
        _leave(4)  # the heap is in no known state: a new process is cheaper than trust
    except Exception as error:  # noqa: BLE001 - a loop top: only the class name leaves
        kind = type(error)
        if kind.__module__ in passed_on:
            # Not pickled whole: fixed texts make constructors that pickle cannot call again.
            return RAISED, (kind.__module__, kind.__qualname__, error.args, vars(error))
        return FAILED, kind.__name__


def _resolve(name: str) -> Callable[..., object]:
    module, _, attribute = name.partition(":")
    function: Callable[..., object] = getattr(importlib.import_module(module), attribute)
    return function


def _confine(memory_bytes: int) -> None:
    """Give up what judging bytes does not need.

    The address space may grow by ``memory_bytes`` over what the imported modules take; no core
    is dumped, since it would hold health data.
    """
    pages = int(open("/proc/self/statm", encoding="ascii").read().split()[0])  # noqa: SIM115, PTH123
    now = pages * resource.getpagesize()
    for limit, value in (
        (resource.RLIMIT_AS, now + memory_bytes),
        (resource.RLIMIT_FSIZE, memory_bytes),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _leave(code: int) -> NoReturn:
    os._exit(code)


def main() -> None:
    """Tie the process to its parent and serve."""
    parent = int(sys.argv[2])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        _leave(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's business
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        try:
            serve(channel)
        except BrokenPipeError:
            _leave(0)


if __name__ == "__main__":
    main()
