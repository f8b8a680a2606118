"""The sealer of a trail, and the export of its signed roots (RULES §13).

Invariants: events are ordered and sealed every second, so that no writer waits for a chain; the
last signed root goes to a file of the site at least every five minutes and at the end. A file
beside the database proves nothing by itself: copies of it kept elsewhere do.
"""

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from directory.trail import Sealing, SignedRoot
from mailserver.databases import now
from mailserver.errors import SiteError

log = structlog.get_logger("mailserver.sealing")

SEAL_EVERY_S = 1.0
AFTER_FAILURE_S = 10.0
EXPORT_EVERY = timedelta(minutes=4)
"""Under the five minutes that RULES §13 allows, with room for a slow disk."""

Seal = Callable[[Sealing], Awaitable[SignedRoot | None]]


def trail_public_key(key_file: Path) -> bytes:
    """Give the 32 octets of the key that roots are verified with."""
    private = Ed25519PrivateKey.from_private_bytes(key_file.read_bytes())
    return private.public_key().public_bytes_raw()


class Sealer:
    """Seals one trail for as long as its process runs."""

    def __init__(self, seal: Seal, key_file: Path, export_file: Path) -> None:
        self._seal = seal
        self._key_file = key_file
        self._export_file = export_file
        self._exported_at: datetime | None = None

    async def run(self) -> None:
        """Seal every second until cancelled; export the last root then too."""
        octets = await asyncio.to_thread(self._key_file.read_bytes)
        key = Ed25519PrivateKey.from_private_bytes(octets)
        last: SignedRoot | None = None
        try:
            while True:
                await asyncio.sleep(SEAL_EVERY_S)
                try:
                    last = await self._seal_all(key) or last
                    if last is not None and self._is_due():
                        await asyncio.to_thread(self._export, last)
                        last = None
                except (OSError, sqlite3.Error) as error:
                    # A full disk ends no mail: `audit verify` counts what stays unsealed.
                    log.exception("sealing_failed", error_type=type(error).__name__)
                    await asyncio.sleep(AFTER_FAILURE_S)
        finally:
            if last is not None:
                self._export(last)

    async def _seal_all(self, key: Ed25519PrivateKey) -> SignedRoot | None:
        last: SignedRoot | None = None
        while (root := await self._seal(Sealing(now(), key.sign))) is not None:
            last = root
        return last

    def _is_due(self) -> bool:
        return self._exported_at is None or now() - self._exported_at >= EXPORT_EVERY

    def _export(self, root: SignedRoot) -> None:
        line = {
            "size": root.size,
            "root": root.root.hex(),
            "at": root.at.isoformat(),
            "signature": root.signature.hex(),
        }
        self._export_file.parent.mkdir(mode=0o700, exist_ok=True)
        with self._export_file.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._exported_at = now()


def read_roots(path: Path) -> tuple[SignedRoot, ...]:
    """Read exported roots, as ``pli audit verify --roots`` takes them.

    Raises:
        SiteError: it cannot be read, or a line is no root.
    """
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        return tuple(
            SignedRoot(
                int(line["size"]),
                bytes.fromhex(line["root"]),
                datetime.fromisoformat(line["at"]),
                bytes.fromhex(line["signature"]),
            )
            for line in lines
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SiteError(f"{path} does not hold exported roots") from error
