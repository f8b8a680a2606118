"""How many items of quarantine have waited too long for a person's decision; SQL.

Source: RULES §5.
"""

import sqlite3
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from record_bridge.repository import micros

LATE_HOURS: Final = (24, 72)
"""When an item that waits is told of again."""


def by_name(found: Mapping[int, int]) -> dict[str, int]:
    """The same counts by the names that the status and the log give them."""
    return {f"quarantined_{hours}h": count for hours, count in found.items()}


def late(connection: sqlite3.Connection, at: datetime) -> dict[int, int]:
    """Count what has waited for each of LATE_HOURS or longer."""
    return {
        hours: int(
            connection.execute(
                "SELECT count(*) FROM quarantine WHERE state = 'open' AND received_at <= ?",
                (micros(at - timedelta(hours=hours)),),
            ).fetchone()[0]
        )
        for hours in LATE_HOURS
    }
