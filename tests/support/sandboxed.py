"""Functions that the tests run in sandbox workers: good ones and hostile ones."""

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from certs.errors import MalformedCmsError
from certs.verdict import PathStatus, PathVerdict

CALLS: list[int] = []


@dataclass(frozen=True)
class Stranger:
    """A dataclass of no package of the product."""

    text: str


class _Hostile:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.system, ("true",)


def length(*values: bytes) -> int:
    """Count octets."""
    return sum(map(len, values))


def octets(count: int) -> bytes:
    """Make octets."""
    return b"\x5a" * count


def verdict() -> PathVerdict:
    """A value of the product."""
    return PathVerdict(PathStatus.EXPIRED, datetime(2026, 1, 1, tzinfo=UTC), None)


def stranger() -> Stranger:
    """A value of someone else."""
    return Stranger("x")


def hostile() -> _Hostile:
    """A pickle that runs a command where it is read."""
    return _Hostile()


def process_id() -> int:
    """Which process runs this."""
    return os.getpid()


def spin() -> None:
    """Never end."""
    while True:
        pass


def wait(seconds: float) -> None:
    """End late."""
    time.sleep(seconds)


def crash() -> None:
    """Die as a broken C library does."""
    os.abort()


def eat(count: int) -> int:
    """Take memory."""
    return len(bytearray(count))


def refuse() -> None:
    """Raise an error of the product."""
    raise MalformedCmsError


def fail() -> None:
    """Raise with a text that must stay inside."""
    raise ValueError("ZZCANARY")


def open_files() -> int:
    """How many descriptors are open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def environment() -> dict[str, str]:
    """What the worker inherited."""
    return dict(os.environ)
