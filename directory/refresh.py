"""Read the trust list's file when it changes; what is bad never replaces what is good.

The list in use is swapped as one reference. A refused file is told once per version of the file
and the last good list stays, until its age makes it stale and then expired (fail closed).
Source: MSS-OP §3.2.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from directory.errors import TrustListError, TrustListReason
from directory.trust_list import MAX_LIST_BYTES, NOTHING_TRUSTED, TrustList, parse

REFRESH_INTERVAL_S = 30.0

log = structlog.get_logger("directory")


@dataclass(frozen=True, slots=True)
class Adopted:
    """A list that came into use."""

    trust: TrustList
    content: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that was not taken."""

    reason: TrustListReason


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The file is the one that was read last."""


Refresh = Adopted | Refused | Unchanged


class TrustSource:
    """The file, its signer, and the last good list.

    Args:
        path: the list.
        signer_path: PEM of the only accepted signer, or None for an unsigned list.
    """

    def __init__(self, path: Path, signer_path: Path | None) -> None:
        self._path = path
        self._signer_path = signer_path
        self._seen: tuple[int, int, int] | None = None
        self.current: TrustList = NOTHING_TRUSTED
        self.last_refusal: TrustListReason | None = None

    def restore(self, content: bytes, at: datetime) -> None:
        """Use a list kept from before, if it still reads and its signature still holds."""
        try:
            self.current = parse(content, signer=self._signer(), at=at)
        except TrustListError as error:
            self.last_refusal = error.reason

    def refresh(self, at: datetime) -> Refresh:
        """Read the file if it changed and adopt it if it may replace the one in use. Blocking."""
        try:
            status = self._path.stat()
            version = (status.st_mtime_ns, status.st_size, status.st_ino)
            if version == self._seen:
                return Unchanged()
            if status.st_size > MAX_LIST_BYTES:
                return self._refused(TrustListReason.TOO_LARGE)
            content = self._path.read_bytes()
            self._seen = version
            newer = parse(content, signer=self._signer(), at=at)
            self.current.check_successor(newer)
        except OSError:
            return self._refused(TrustListReason.UNREADABLE)
        except TrustListError as error:
            return self._refused(error.reason)
        self.current = newer
        self.last_refusal = None
        return Adopted(newer, content)

    def _refused(self, reason: TrustListReason) -> Refused:
        self.last_refusal = reason
        return Refused(reason)

    def _signer(self) -> bytes | None:
        if self._signer_path is None:
            return None
        try:
            return ssl.PEM_cert_to_DER_cert(self._signer_path.read_text("ascii").strip())
        except (OSError, ValueError) as error:
            # A configured signer that cannot be read is never "no signer".
            raise TrustListError(TrustListReason.SIGNATURE) from error


async def keep_fresh(
    refresh: Callable[[datetime], Awaitable[Refresh]],
    clock: Callable[[], datetime],
    interval_s: float = REFRESH_INTERVAL_S,
) -> None:
    """Call ``Directory.refresh_trust`` for ever; run it in the process's TaskGroup."""
    while True:
        await asyncio.sleep(interval_s)
        match await refresh(clock()):
            case Adopted(trust):
                log.info("trust_list_adopted", count=len(trust.entries))
            case Refused(reason):
                log.warning("trust_list_refused", code=reason.value)
            case Unchanged():
                pass
