"""``pli serve``: two child processes, one line on stdout when both are ready, one clean end.

Invariants: stdout gets exactly one line, ``ready {ports}``, flushed, once every listener is up;
a child never outlives this process (it is told by the kernel); a child that dies is started
again for as long as the server runs, at once at first, then after pauses of up to half a minute.
SIGTERM and SIGINT let both children finish what is in flight, the bridge first.
"""

import asyncio
import ctypes
import json
import os
import resource
import signal
import sys
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from certs.sandbox_worker import ALLOCATOR
from mailserver.control import Owner
from mailserver.errors import SiteError

log = structlog.get_logger("mailserver.supervisor")

START_TIMEOUT_S = 300.0
"""A start costs two seconds of processor and reads little; a machine at twenty times its load, or
a disk that syncs slowly, takes over a minute for it, and a child ended then begins again."""
STOP_TIMEOUT_S = 30.0
RESTARTS_AT_ONCE = 5
LONGEST_PAUSE_S = 30.0
RESTART_WINDOW_S = 60.0
_PR_SET_PDEATHSIG = 1
MOST_FILES: Final = 65_536
"""Open files of one child: every listener full, and room."""


@dataclass(slots=True)
class _Child:
    role: Owner
    process: asyncio.subprocess.Process
    ports: dict[str, int]
    deaths: deque[float] = field(default_factory=deque)


def die_with_parent() -> None:
    """Ask the kernel to end this child with SIGTERM when the supervisor dies. Linux only."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        # It died before the kernel was told.
        os.kill(os.getpid(), signal.SIGTERM)


def open_many_files() -> None:
    """Let this child hold as many sockets as it may.

    A shell or a service gives 1,024, and each listener takes 2,000 connections.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def announce(descriptor: int, ports: dict[str, int]) -> None:
    """Tell the supervisor, from inside a child, that every listener is up."""
    os.write(descriptor, json.dumps(ports).encode() + b"\n")
    os.close(descriptor)


async def supervise(root: Path) -> int:
    """Run the site until a signal; give the exit status."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    children: list[_Child] = []
    try:
        for role in Owner:
            child = await _start_first(root, role, stopping)
            if child is None:
                return 0
            children.append(child)
        ports = {name: port for child in children for name, port in child.ports.items()}
        sys.stdout.write(f"ready {json.dumps(ports)}\n")
        sys.stdout.flush()
        async with asyncio.TaskGroup() as group:
            for child in children:
                group.create_task(_keep_running(root, child, stopping))
    except SiteError:
        log.error("start_failed")  # noqa: TRY400 - the child logged why
        return 1
    finally:
        for child in reversed(children):
            await _stop(child)
    return 0


async def _start_first(root: Path, role: Owner, stopping: asyncio.Event) -> _Child | None:
    """Start a child, once more if it fails: what a crash left may be in its way the first time.

    Raises:
        SiteError: it failed twice.
    """
    try:
        return await _start_unless_stopped(root, role, stopping)
    except SiteError:
        return await _start_unless_stopped(root, role, stopping)


async def _start_unless_stopped(root: Path, role: Owner, stopping: asyncio.Event) -> _Child | None:
    start = asyncio.ensure_future(_start(root, role))
    stop = asyncio.ensure_future(stopping.wait())
    await asyncio.wait({start, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not start.done():
        # Its pipe closes with this process; the kernel ends it.
        start.cancel()
        return None
    return start.result()


async def _start(root: Path, role: Owner) -> _Child:
    """Start one child and wait for its ready line.

    Raises:
        SiteError: it died or stayed silent.
    """
    reading, writing = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "mailserver.app",
            role.value,
            str(root),
            str(writing),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            pass_fds=(writing,),
            env={**os.environ, **ALLOCATOR},
        )
    finally:
        os.close(writing)
    reader = asyncio.StreamReader()
    transport, _protocol = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", 0)
    )
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            line = await reader.readline()
    except TimeoutError:
        line = b""
    finally:
        transport.close()
    if not line:
        if process.returncode is None:
            process.kill()
        await process.wait()
        log.error("child_did_not_start", process=role.value, code=process.returncode)
        raise SiteError("a server process did not start; its log says why")
    return _Child(role, process, json.loads(line))


async def _keep_running(root: Path, child: _Child, stopping: asyncio.Event) -> None:
    """Start one child again whenever it dies, until told to stop.

    The first deaths of a minute are answered at once, later ones after a pause that grows: a
    fault that stays must neither take the other child with it nor burn a core.
    """
    while True:
        await _either(child.process.wait(), stopping.wait())
        if stopping.is_set():
            return
        pause = _pause_after_death(child, time.monotonic())
        log.error(
            "child_died",
            process=child.role.value,
            code=child.process.returncode,
            count=len(child.deaths),
        )
        if pause:
            await _either(asyncio.sleep(pause), stopping.wait())
        try:
            again = await _start_unless_stopped(root, child.role, stopping)
        except SiteError:
            continue  # it is dead already: the next turn counts it
        if again is None:
            return
        child.process = again.process


def _pause_after_death(child: _Child, now: float) -> float:
    """Note a death and give how long to wait before the next start, in seconds."""
    child.deaths.append(now)
    while child.deaths[0] < now - RESTART_WINDOW_S:
        child.deaths.popleft()
    late = len(child.deaths) - RESTARTS_AT_ONCE
    return 0.0 if late <= 0 else min(LONGEST_PAUSE_S, 2.0**late)


async def _either(*waits: Coroutine[object, object, object]) -> None:
    """Wait for the first of these, and leave nothing of the others behind."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def _stop(child: _Child) -> None:
    process = child.process
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        log.error("child_killed", process=child.role.value)  # noqa: TRY400 - no error of ours
        process.kill()
        await process.wait()
