"""What waits in quarantine leaves it once, and not against what a person decided."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from record_bridge import accounting
from record_bridge.command_desk import CommandContext
from record_bridge.commands import RecordCommands
from record_bridge.ins import parse_ins
from record_bridge.model import Environment, InsMatricule
from record_bridge.opening import list_occurrences
from record_bridge.rematching import Rematcher
from tests.support.cda import PatientSpec
from tests.support.record import (
    CABINET,
    PATIENT,
    DirectOpener,
    Record,
    mails,
    message,
    open_test_record,
    received,
    report,
)
from tests.support.xdm import mail, package

OTHER_TRAITS = PatientSpec(family="ZZAUTRE")


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    async with open_test_record(tmp_path) as opened:
        yield opened


async def _list(raw: bytes):
    return list_occurrences(raw)


async def _audit(record: Record, *raws: bytes) -> accounting.AuditReport:
    return await accounting.verify(record.database, partial(mails, *raws), _list)


def _rematcher(record: Record) -> Rematcher:
    return Rematcher(record.database, DirectOpener(), lambda: record.now)  # type: ignore[arg-type]


async def _register_quietly(record: Record) -> InsMatricule:
    """Register the test patient without judging again what waits."""

    async def nothing(*_: object) -> int:
        return 0

    real = record.commands
    record.commands = RecordCommands(
        CommandContext(
            record=record.database,
            structures=lambda: (CABINET,),
            environment=Environment.TEST,
            clock=lambda: record.now,
            rematch=nothing,
            revive=record.revive,
            wake=lambda: None,
        )
    )
    await record.register()
    record.commands = real
    return parse_ins(PATIENT.ins, PATIENT.oid, Environment.TEST)


async def test_two_registrations_at_once_file_what_waits_once(record: Record) -> None:
    raw = message(1, report(1))
    await record.one(raw)
    ins = await _register_quietly(record)

    rematch = _rematcher(record).rematch
    filed = await asyncio.gather(rematch(CABINET, ins), rematch(CABINET, ins))

    audit = await _audit(record, raw)
    assert sum(filed) == 1
    assert (record.count("document"), record.count("duplicate")) == (1, 0)
    assert (audit.filed, audit.balanced) == (1, True)


async def test_what_a_person_closed_while_it_was_opened_again_is_not_filed(
    record: Record,
) -> None:
    raw = message(1, report(1))
    await record.one(raw)
    (row,) = await record.commands.quarantine_list({"actor": "test"})
    ins = await _register_quietly(record)

    class ClosingOpener(DirectOpener):
        async def open(self, raw, at):
            await record.decide(row["id"], "set_aside")
            return await super().open(raw, at)

    rematcher = dataclasses.replace(_rematcher(record), opener=ClosingOpener())
    assert await rematcher.rematch(CABINET, ins) == 0

    audit = await _audit(record, raw)
    assert (audit.filed, audit.quarantined, audit.balanced) == (0, 1, True)


async def test_closing_one_row_closes_all_of_its_message(record: Record) -> None:
    """A package is filed whole or not at all (RULES §2): it cannot be closed in part."""
    raws = message(1, report(1), report(2)), message(2, report(3))
    for raw in raws:
        await record.one(raw)
    rows = await record.commands.quarantine_list({"actor": "test"})

    await record.decide(rows[0]["id"], "set_aside")

    assert len(await record.commands.quarantine_list({"actor": "test"})) == 1
    registered = await record.register()
    assert registered["filed"] == 1
    audit = await _audit(record, *raws)
    assert (audit.filed, audit.quarantined, audit.balanced) == (1, 2, True)


async def test_a_package_that_was_filed_stays_as_it_is_when_another_of_its_message_is_judged_again(
    record: Record,
) -> None:
    """Two packages of one message: the first is filed, the second waits for its parent."""
    await record.register()
    parent = message(1, report(7, patients=(OTHER_TRAITS,)))
    both = received(
        mail(package(report(1)), package(report(2, replaces="1.2.250.1.213.999.7"))),
        number=2,
    )
    await record.one(parent)
    first = await record.one(both)
    assert first.outcome.value == "mixed"

    ins = parse_ins(PATIENT.ins, PATIENT.oid, Environment.TEST)
    for _ in range(2):
        await _rematcher(record).rematch(CABINET, ins)

    audit = await _audit(record, parent, both)
    assert [(each.kind, each.position) for each in audit.problems] == []
    assert (audit.filed, audit.quarantined, audit.balanced) == (1, 2, True)
    (keywords,) = record.rows("SELECT keywords FROM inbox_item WHERE id = ?", first.item_id)
    assert set(keywords[0].split()) == {"$Filed", "$Quarantined"}
    filings = record.rows("SELECT count(*) FROM trail_event WHERE kind = 'document_filed'")
    assert filings == [(1,)]
