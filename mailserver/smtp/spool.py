"""Keep a message while it is received: in memory when small, in an unlinked file when not.

Invariants: at most ``MEMORY_OCTETS`` of a message stay in memory, and of all messages together at
most what their ``SpoolMemory`` holds; the file has no name, so nothing is left of it after a
crash.
"""

import hashlib
import tempfile
from pathlib import Path
from typing import BinaryIO

MEMORY_OCTETS = 1024 * 1024
"""DESIGN D5b: DATA over 1 MB spools."""
ALL_OCTETS = 16 * 1024 * 1024
"""Messages that come in at once share this much; then they spool however small they are."""


class SpoolMemory:
    """What the spools of one process keep in memory, all together."""

    __slots__ = ("_limit", "taken")

    def __init__(self, limit: int = ALL_OCTETS) -> None:
        self._limit = limit
        self.taken = 0

    def take(self, octets: int) -> bool:
        """Count octets that stay in memory; False when there is no room for them."""
        if self.taken + octets > self._limit:
            return False
        self.taken += octets
        return True

    def give(self, octets: int) -> None:
        """Count octets that are gone from memory."""
        self.taken -= octets


class Spool:
    """The octets of one message, in order, with their digest.

    Args:
        directory: where an unlinked file may be made; the system's own when None.
        memory: shared with the other spools.
        memory_octets: what may stay in memory.
    """

    __slots__ = (
        "_digest",
        "_directory",
        "_file",
        "_held",
        "_memory",
        "_memory_octets",
        "_pieces",
        "octets",
    )

    def __init__(
        self,
        directory: Path | None,
        memory: SpoolMemory | None = None,
        memory_octets: int = MEMORY_OCTETS,
    ) -> None:
        self._directory = directory
        self._memory = memory or SpoolMemory()
        self._memory_octets = memory_octets
        self._held = 0
        self._pieces: list[bytes] = []
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self.octets = 0

    def write(self, piece: bytes) -> None:
        """Add octets. A write to a file that only the page cache sees takes 50 µs a piece."""
        self.octets += len(piece)
        self._digest.update(piece)
        if self._file is not None:
            self._file.write(piece)
            return
        self._pieces.append(piece)
        if self.octets <= self._memory_octets and self._memory.take(len(piece)):
            self._held += len(piece)
        else:
            # Closed by discard(), or by whoever take() gave it to.
            self._file = tempfile.TemporaryFile(  # noqa: SIM115
                dir=self._directory, buffering=0
            )
            self._file_pieces()

    def _file_pieces(self) -> None:
        if self._file is not None:
            self._file.writelines(self._pieces)
        self._forget()

    def _forget(self) -> None:
        self._pieces.clear()
        self._memory.give(self._held)
        self._held = 0

    @property
    def sha256(self) -> bytes:
        """Digest of what was written so far."""
        return self._digest.digest()

    def take(self) -> bytes | BinaryIO:
        """Give the message away: its octets, or a file at its beginning.

        The taker closes the file.
        """
        if self._file is None:
            body = b"".join(self._pieces)
            self._forget()
            return body
        file, self._file = self._file, None
        file.seek(0)
        return file

    def discard(self) -> None:
        """Forget what was kept."""
        self._forget()
        if self._file is not None:
            self._file.close()
            self._file = None
