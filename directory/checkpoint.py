"""Move committed pages from the write-ahead log into one SQLite file, beside its writer.

Left to itself SQLite does this inside the commit that fills the log: 16 MB are copied and synced
while everybody who waits for a 250 waits on. Here a thread with a connection of its own does it;
the writer goes on meanwhile.

Invariants: nothing here can lose a commit, since a log is only used again when all of it is in the
file (SQLite sees to that); the log does not grow for ever under a load that never pauses: beyond
``LONGEST_PAGES`` the writer itself moves the little that is left, which starts the log anew.

Source: SQLite, "Write-Ahead Logging" §2.1, §6; PRAGMA wal_checkpoint.
"""

import sqlite3
import threading
from pathlib import Path
from typing import Final

PAGE_OCTETS: Final = 16_384
EACH_OCTETS: Final = 16 * 1024 * 1024
"""About so much in the log begins a checkpoint, as SQLite's own 1,000 pages would."""
COMMIT_OCTETS: Final = 12 * PAGE_OCTETS
"""What a commit writes beside the bodies that it carries: the pages of its tables."""
LONGEST_PAGES: Final = 4096
"""64 MB of log: then the writer waits once for its end."""
PASSES: Final = 3
"""Each takes what was committed during the one before."""
_PASSIVE: Final = "PRAGMA wal_checkpoint(PASSIVE)"


def move(connection: sqlite3.Connection) -> tuple[int, int]:
    """Copy what can be copied now, waiting for nobody.

    Returns:
        Pages in the log, -1 when another connection is at it; pages of them that are not in the
        file yet.

    Raises:
        sqlite3.Error: as SQLite says, a full disk for one; what is in the log stays there.
    """
    _busy, pages, moved = connection.execute(_PASSIVE).fetchone()
    return pages, pages - moved


class Checkpointer(threading.Thread):
    """Waits for the writer's word that the log is long, and shortens it."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Keep a connection that only this thread uses; ``stop`` closes it."""
        super().__init__(name=f"checkpoint-{path.stem}", daemon=True)
        self._connection = connection
        self._long = threading.Event()
        self._stopping = False
        self._octets = 0
        self._overdue = False

    def committed(self, connection: sqlite3.Connection, octets: int) -> None:
        """Note a commit; on the writer's thread, outside a transaction.

        Args:
            connection: the writer's; it moves the end of the log when that is overdue.
            octets: of the bodies that went in.
        """
        self._octets += octets + COMMIT_OCTETS
        if self._overdue:
            pages, _left = _try_to_move(connection)
            self._overdue = pages < 0
        if self._octets >= EACH_OCTETS:
            self._octets = 0
            self._long.set()

    def run(self) -> None:
        """Move what is long, until ``stop``; the thread's own body."""
        while self._long.wait() and not self._stopping:
            self._long.clear()
            for _ in range(PASSES):
                pages, left = _try_to_move(self._connection)
                self._overdue = pages > LONGEST_PAGES
                if self._overdue or not left:
                    break
        self._connection.close()

    def stop(self) -> None:
        """End after the pass under way, and wait for that."""
        self._stopping = True
        self._long.set()
        self.join()


def _try_to_move(connection: sqlite3.Connection) -> tuple[int, int]:
    try:
        return move(connection)
    except sqlite3.Error:
        # Not now: another pass comes, and the writer itself is told of a full disk.
        return 0, 0
