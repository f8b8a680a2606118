"""A patient's opposition to the deposit of documents, as filing applies it.

Source: MSS-FACTS §6.4 (R1111-33), RULES §2.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from record_bridge.filing import ItemOutcome
from record_bridge.life_commands import LifeCommands
from record_bridge.model import ErrorCode
from tests.support.record import Record, message, open_test_record, report


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    async with open_test_record(tmp_path) as opened:
        yield opened


async def oppose(record: Record, patient_id: int, scope: str, *, opposed: bool) -> None:
    commands = LifeCommands(record.database, lambda: record.now)
    await commands.opposition_set(
        {"patient_id": patient_id, "scope": scope, "opposed": opposed, "actor": "account:1"}
    )


async def test_a_document_for_who_opposes_deposits_waits_with_a_coded_reason(
    record: Record,
) -> None:
    patient = await record.register()
    await oppose(record, patient["id"], "deposit", opposed=True)

    result = await record.one(message(1, report(1)))

    assert (result.outcome, result.code) == (ItemOutcome.QUARANTINED, ErrorCode.OTHER)
    (row,) = await record.commands.quarantine_list({"actor": "test"})
    assert row["reason"] == "patient_opposed"


async def test_an_opposition_taken_back_lets_the_next_document_in(record: Record) -> None:
    patient = await record.register()
    await oppose(record, patient["id"], "deposit", opposed=True)
    await oppose(record, patient["id"], "deposit", opposed=False)

    assert (await record.one(message(1, report(1)))).outcome is ItemOutcome.FILED


async def test_an_opposition_to_opening_does_not_stop_deposits(record: Record) -> None:
    patient = await record.register()
    await oppose(record, patient["id"], "opening", opposed=True)

    assert (await record.one(message(1, report(1)))).outcome is ItemOutcome.FILED
