"""When the write-ahead log of an SQLite file is moved into it: by its writer, between groups.

Left to itself SQLite does this inside the commit that fills the log: 16 MB are copied and synced
while everybody who waits for that 250 waits on. The writer does it after it has told them: in
small pieces while nobody waits for it, in a large one when somebody always does.

Invariant: only the connection that writes moves the log. A second one that did so beside it could
meet SQLite's WAL-reset bug (before 3.51.3) and lose commits.

Source: SQLite, "Write-Ahead Logging" §2.1, §6, §11; PRAGMA wal_checkpoint.
"""

import sqlite3
from typing import Final

PAGE_OCTETS: Final = 16_384
IDLE_OCTETS: Final = 4 * 1024 * 1024
"""About so much in the log is moved as soon as nobody waits for the writer."""
BUSY_OCTETS: Final = 32 * 1024 * 1024
"""About so much is moved whoever waits, so that the log does not grow for ever."""
COMMIT_OCTETS: Final = 12 * PAGE_OCTETS
"""What a commit writes beside the bodies that it carries: the pages of its tables."""


class Log:
    """How much was written since the log was last moved, about.

    Attributes:
        octets: since then.
    """

    __slots__ = ("octets",)

    def __init__(self) -> None:
        self.octets = 0

    def grew(self, octets: int) -> None:
        """Note a commit with so many octets of bodies."""
        self.octets += octets + COMMIT_OCTETS

    def is_due(self, *, awaited: bool) -> bool:
        """Say whether to move it now; ``awaited``: somebody waits for the writer."""
        return self.octets >= (BUSY_OCTETS if awaited else IDLE_OCTETS)

    def move(self, connection: sqlite3.Connection) -> None:
        """Copy what no reader holds back; the writer's connection, outside a transaction.

        What cannot be copied now (a full disk, an old snapshot) stays in the log for next time.
        """
        self.octets = 0
        try:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error:
            return
