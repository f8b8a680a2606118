"""Ports of 127.0.0.1 that nobody else is given while this process lives.

A port that was merely free when it was looked for may be taken before the server listens on it,
or while it is killed and started again: by another test that looked too, or by the near end of
any connection. So each port given here is locked until this process ends, and lies below those
that the system gives to connections.
"""

import contextlib
import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

PORT_OFFSETS: Final = (25, 26, 27, 143, 443, 465, 587, 993)
"""The ports of a site, each above its base."""
_BASES: Final = range(10000, 31000)
_GIVEN: Final[set[int]] = set()
"""What this process was given: a lock does not hold against its own process."""


def free_base(preferred: int | None = None) -> int:
    """Give a base port all of whose ports are free, ``preferred`` if it is one."""
    if preferred is not None and _free(_ports(preferred)) and _locked(_ports(preferred)):
        return preferred
    for base in random.SystemRandom().sample(_BASES, len(_BASES)):
        if _GIVEN.isdisjoint(_ports(base)) and _free(_ports(base)) and _locked(_ports(base)):
            return base
    raise OSError("no free ports between 10000 and 32000")


def free_port() -> int:
    """Give one port that is free."""
    return free_base() + PORT_OFFSETS[0]


def _ports(base: int) -> Sequence[int]:
    return [base + offset for offset in PORT_OFFSETS]


def _locked(ports: Sequence[int]) -> bool:
    """Lock them until this process ends, one byte of a file each; False where another holds one."""
    try:
        for port in ports:
            fcntl.lockf(_lock_file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _GIVEN.update(ports)
    return True


@cache
def _lock_file() -> int:
    """Open it once: closing it would let go of every lock."""
    path = Path(tempfile.gettempdir()) / f"pli-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _free(ports: Sequence[int]) -> bool:
    with contextlib.ExitStack() as stack:
        try:
            for port in ports:
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
