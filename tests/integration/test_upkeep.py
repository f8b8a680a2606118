"""What a full disk or a bad file may not take down, and what may not be said of it."""

import asyncio
import sqlite3
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from structlog.testing import capture_logs

from mailserver import sealing
from mailserver.background import Background, every
from mailserver.sealing import Sealer
from tests.support.mailstore import open_practice


async def test_upkeep_that_fails_is_logged_and_tried_again() -> None:
    tries = []

    async def fails() -> None:
        tries.append(1)
        raise OSError("/srv/pli/279035121518989@patient.test")

    with capture_logs() as lines:
        async with Background() as tasks:
            tasks.start(every(0.01, fails, "renew"))
            await asyncio.sleep(0.1)

    assert len(tries) > 2
    assert {line["event"] for line in lines} == {"upkeep_failed"}


async def test_a_trail_that_cannot_be_sealed_now_is_sealed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "SEAL_EVERY_S", 0.01)
    monkeypatch.setattr(sealing, "AFTER_FAILURE_S", 0.01)
    key = tmp_path / "trail.key"
    key.write_bytes(Ed25519PrivateKey.generate().private_bytes_raw())
    calls = []

    async def seal(_value: object) -> None:
        calls.append(1)
        if len(calls) < 3:
            raise sqlite3.OperationalError("database or disk is full")

    task = asyncio.create_task(Sealer(seal, key, tmp_path / "roots.jsonl").run())
    await asyncio.sleep(0.3)

    assert not task.done()
    assert len(calls) > 3
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_database_error_says_no_parameter(tmp_path: Path) -> None:
    """A patient's address is an INS: it may stand in no exception's text (RULES §11)."""
    canary = "279035121518989"
    async with open_practice(tmp_path) as practice:
        database = practice.store.messages._database
        with pytest.raises(SQLAlchemyError) as caught:
            await database.first(text("SELECT * FROM nowhere WHERE x = :x"), {"x": canary})

    assert canary not in str(caught.value)
