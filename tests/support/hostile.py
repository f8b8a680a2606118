"""Hostile messages for a running site, and the processes of one to be killed."""

import os
import signal
import struct
import threading
import zlib
from pathlib import Path
from typing import Self

from tests.support.site import DemoSite

_KERNEL_OCTETS = 28_000_000
_ENTRIES = 300


def overlapping_bomb() -> bytes:
    """An archive of about 42 kB whose central directory names one entry of 28 MB 300 times.

    Every reader that trusts the directory writes 8.4 GB.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    kernel = b"\x00" * _KERNEL_OCTETS
    data = packer.compress(kernel) + packer.flush()
    checksum = zlib.crc32(kernel)
    name = b"000"
    shape = (20, 0, 8, 0, 0x21, checksum, len(data), len(kernel), len(name), 0)
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", *shape) + name
    directory = b"".join(
        struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, *shape, 0, 0, 0, 0, 0) + b"%03d" % number
        for number in range(_ENTRIES)
    )
    offset = len(local) + len(data)
    end = struct.pack(
        "<4s4H2LH", b"PK\x05\x06", 0, 0, _ENTRIES, _ENTRIES, len(directory), offset, 0
    )
    return local + data + directory + end


def children(pid: int) -> list[int]:
    """Give the process ids of a process's children."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += map(int, task.read_text().split())
    return found


def server_process(site: DemoSite, role: str) -> int:
    """Give the process id of the site's ``mail`` or ``bridge`` child."""
    for pid in children(site.pid):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except FileNotFoundError:
            continue
        if b"mailserver.app" in words and role.encode() in words:
            return pid
    raise LookupError(role)


class WorkerKiller(threading.Thread):
    """Kills every sandbox worker of a process as soon as it is seen; a context manager."""

    def __init__(self, pid: int, *, every_s: float = 0.01) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._every_s = every_s
        self._stopping = threading.Event()
        self.killed: set[int] = set()

    def run(self) -> None:
        """Kill until told to stop."""
        while not self._stopping.wait(self._every_s):
            for worker in children(self._pid):
                try:
                    os.kill(worker, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                self.killed.add(worker)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stopping.set()
        self.join()
