"""``pli audit verify``: what balances, and what is named when it does not."""

import dataclasses
import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from record_bridge import accounting
from record_bridge.accounting import AuditReport, KeptReceipt, ReceivedMail
from record_bridge.model import Occurrence
from record_bridge.opening import list_occurrences
from tests.support.cda import PatientSpec
from tests.support.record import (
    CABINET,
    Record,
    mails,
    message,
    open_test_record,
    received,
    report,
)
from tests.support.xdm import mail


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    async with open_test_record(tmp_path) as opened:
        yield opened


async def _list(raw: bytes) -> tuple[Occurrence, ...]:
    return list_occurrences(raw)


async def _verify(record: Record, *raws: bytes) -> AuditReport:
    return await accounting.verify(record.database, partial(mails, *raws), _list)


def _change(record: Record, statement: str) -> None:
    connection = sqlite3.connect(record.path)
    connection.execute("PRAGMA foreign_keys=OFF")
    connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.fixture
async def raws(record: Record) -> tuple[bytes, ...]:
    """Two filed, one duplicate, two quarantined, one unreadable archive, one without."""
    await record.register()
    unknown = PatientSpec(family="ZZAUTRE")
    found = (
        message(1, report(1), report(2)),
        message(2, report(1)),
        message(3, report(3, patients=(unknown,)), report(4)),
        received(mail(b"not a zip"), number=4),
        received(mail(), number=5),
    )
    await record.file(*found)
    return found


async def test_everything_in_one_place_balances(record: Record, raws: tuple[bytes, ...]) -> None:
    audit = (await _verify(record, *raws)).to_json()

    assert {name: audit[name] for name in list(audit)[:8]} == {
        "received": 6,
        "filed": 2,
        "quarantined": 3,
        "duplicates": 1,
        "pending": 0,
        "other": 1,
        "balanced": True,
        "problems": [],
    }
    assert audit["messages"] == {
        "received": 5,
        "with_documents": 4,
        "other": 1,
        "unreadable": 0,
        "pending": 0,
    }


async def test_what_was_not_opened_yet_is_pending(record: Record, raws: tuple[bytes, ...]) -> None:
    audit = await _verify(record, *raws, message(9, report(9)))

    assert (audit.received, audit.pending, audit.balanced, audit.exit_code) == (7, 1, True, 3)


async def test_what_was_purged_before_anybody_opened_it_is_lost_not_pending(
    record: Record, raws: tuple[bytes, ...]
) -> None:
    async def purged() -> AsyncIterator[ReceivedMail | KeptReceipt]:
        yield KeptReceipt(CABINET.id, "R00000009", 2)
        async for each in mails(*raws):
            yield each

    audit = await accounting.verify(record.database, purged, _list)

    assert (audit.pending, audit.balanced, audit.exit_code) == (0, False, 1)
    assert [(each.kind, each.receipt_id, each.position) for each in audit.problems] == [
        ("in_none", "R00000009", 0),
        ("in_none", "R00000009", 1),
    ]


async def test_what_the_mailbox_was_told_and_the_record_lost_is_named(
    record: Record, raws: tuple[bytes, ...]
) -> None:
    """Whoever deletes a document with all that the record knows of its message."""
    _change(record, "DELETE FROM document WHERE receipt = 'R00000001'")
    _change(record, "DELETE FROM duplicate")
    _change(record, "DELETE FROM inbox_item WHERE receipt = 'R00000001'")

    async def told() -> AsyncIterator[ReceivedMail | KeptReceipt]:
        async for each in mails(*raws):
            yield dataclasses.replace(each, told=True)

    audit = await accounting.verify(record.database, told, _list)

    named = [(each.kind, each.receipt_id, each.position) for each in audit.problems]
    assert ("in_none", "R00000001", 0) in named
    assert (audit.balanced, audit.exit_code) == (False, 1)


async def test_what_is_judged_while_the_audit_reads_is_no_problem(record: Record) -> None:
    async def judged_meanwhile() -> AsyncIterator[ReceivedMail | KeptReceipt]:
        raw = message(1, report(1))
        await record.one(raw)
        async for each in mails(raw):
            yield dataclasses.replace(each, told=True)

    audit = await accounting.verify(record.database, judged_meanwhile, _list)

    assert (audit.quarantined, audit.balanced, audit.exit_code) == (1, True, 0)


@pytest.mark.parametrize(("quick", "named"), [(False, ["altered"]), (True, [])])
async def test_stored_bytes_that_were_changed_are_named_unless_quick(
    record: Record, raws: tuple[bytes, ...], *, quick: bool, named: list[str]
) -> None:
    _change(record, "UPDATE document_chunk SET data = x'00' WHERE document_id = 1")

    audit = await accounting.verify(record.database, partial(mails, *raws), _list, quick=quick)

    assert [each.kind for each in audit.problems] == named


async def test_a_purged_message_is_counted_from_its_receipt(
    record: Record, raws: tuple[bytes, ...]
) -> None:
    async def purged() -> AsyncIterator[ReceivedMail | KeptReceipt]:
        yield KeptReceipt(CABINET.id, "R00000001", 2)
        async for each in mails(*raws[1:]):
            yield each

    audit = await accounting.verify(record.database, purged, _list)

    assert (audit.received, audit.balanced) == (6, True)


@pytest.mark.parametrize(
    ("statement", "kind", "receipt", "position"),
    [
        pytest.param(
            "DELETE FROM document WHERE position = 1", "in_none", "R00000001", 1, id="document"
        ),
        pytest.param("DELETE FROM duplicate", "in_none", "R00000002", 0, id="duplicate"),
        pytest.param(
            "DELETE FROM quarantine WHERE position = 1", "in_none", "R00000003", 1, id="quarantine"
        ),
        pytest.param(
            "INSERT INTO duplicate (structure_id, document_id, unique_id, receipt, position, at)"
            " VALUES ('cabinet', 1, 'x', 'R00000001', 0, 0)",
            "in_two",
            "R00000001",
            0,
            id="twice",
        ),
        pytest.param(
            "UPDATE document SET sha256 = x'00' WHERE position = 0",
            "differs",
            "R00000001",
            0,
            id="other bytes",
        ),
        pytest.param(
            "UPDATE document SET position = 7 WHERE position = 1",
            "in_none",
            "R00000001",
            1,
            id="moved",
        ),
        pytest.param(
            "UPDATE document SET receipt = 'R99999999' WHERE position = 1",
            "in_none",
            "R00000001",
            1,
            id="of a message never received",
        ),
    ],
)
async def test_a_changed_row_is_named(
    record: Record,
    raws: tuple[bytes, ...],
    statement: str,
    kind: str,
    receipt: str,
    position: int,
) -> None:
    _change(record, statement)

    audit = await _verify(record, *raws)

    assert (audit.balanced, audit.exit_code) == (False, 1)
    named = [each.to_json() for each in audit.problems]
    assert {
        "kind": kind,
        "structure": "cabinet",
        "receipt": receipt,
        "position": position,
    } in named


async def test_it_balances_again_after_what_waited_was_filed(record: Record) -> None:
    raws = (message(1, report(1), report(2)), message(2, report(1)))
    await record.file(*raws)
    before = await _verify(record, *raws)

    await record.register()

    after = await _verify(record, *raws)
    assert (before.quarantined, before.filed, before.balanced) == (3, 0, True)
    assert (after.quarantined, after.filed, after.duplicates, after.balanced) == (0, 2, 1, True)


async def test_a_row_closed_by_a_person_still_counts(record: Record) -> None:
    raw = message(1, report(1))
    await record.one(raw)
    (row,) = await record.commands.quarantine_list({"actor": "test"})

    await record.decide(row["id"], "set_aside")

    audit = await _verify(record, raw)
    assert (audit.quarantined, audit.balanced) == (1, True)
