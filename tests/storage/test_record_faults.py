"""Faults at each statement of the filing transaction: everything of a message, or nothing."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from record_bridge import documents, progress
from record_bridge.filing import FilingBatch, ItemOutcome, file_batch
from record_bridge.model import Environment, ErrorCode
from record_bridge.progress import MAX_ATTEMPTS
from tests.support.cda import acts, follow_up
from tests.support.mailstore import Interposed
from tests.support.record import (
    CABINET,
    SENDER,
    Record,
    message,
    open_test_record,
    report,
)

TABLES = (
    "document",
    "document_chunk",
    "agenda_entry",
    "archive",
    "quarantine",
    "duplicate",
    "reply_outbox",
    "trail_event WHERE actor = 'bridge'",
)


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    async with open_test_record(tmp_path) as opened:
        yield opened


def _interpose(record: Record, fail_at: int) -> Interposed:
    writer = record.database._writer
    assert writer is not None
    connection: Any = writer._connection
    if isinstance(connection, Interposed):
        connection = connection._connection
    placed = Interposed(connection, fail_at=fail_at)
    writer._connection = placed  # type: ignore[assignment]
    return placed


def _snapshot(record: Record) -> dict[str, list[tuple[Any, ...]]]:
    return {table: record.rows(f"SELECT * FROM {table}") for table in TABLES}  # noqa: S608


async def test_a_failure_at_any_statement_keeps_nothing_of_the_batch(record: Record) -> None:
    await record.register()
    await record.one(message(1, report(1, acts=acts(follow_up("20270101")))))
    raws = (
        message(
            2,
            report(2, replaces="1.2.250.1.213.999.1", acts=acts(follow_up("20270101"))),
            notify_to=SENDER,
        ),
        message(3, report(2, replaces="1.2.250.1.213.999.1", acts=acts(follow_up("20270101")))),
        message(4, report(4, patients=()), notify_to=SENDER),
    )
    batch = FilingBatch(CABINET, Environment.TEST, await record.items(*raws), record.now)
    before = _snapshot(record)
    counted = _interpose(record, 0)
    counted.fail_at = 10_000
    failures = 0
    while True:
        placed = _interpose(record, failures + 1)
        try:
            await record.database.write(file_batch, batch)
        except sqlite3.OperationalError:
            failures += 1
            assert before == _snapshot(record), f"statement {failures}"
            assert len(record.rows("SELECT 1 FROM inbox_item WHERE state = 'claimed'")) == 3
            continue
        break

    assert failures == len(placed.statements) > 40
    assert [
        record.count("document"),
        record.count("duplicate"),
        record.count("quarantine"),
    ] == [2, 1, 1]
    assert record.count("inbox_item WHERE state = 'claimed'") == 0


async def test_a_message_that_breaks_our_code_does_not_stop_the_others(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    await record.register()
    whole = documents.storing.put_document

    def breaks(connection: sqlite3.Connection, new: Any) -> int:
        done = whole(connection, new)
        if new.position == 0 and new.receipt == "R00000002":
            raise KeyError
        return done

    monkeypatch.setattr(documents.storing, "put_document", breaks)

    results = await record.file(
        message(1, report(1)), message(2, report(2)), message(3, report(3))
    )

    assert [result.outcome for result in results] == [
        ItemOutcome.FILED,
        ItemOutcome.FAILED,
        ItemOutcome.FILED,
    ]
    assert record.rows("SELECT unique_id FROM document ORDER BY id") == [
        ("1.2.250.1.213.999.1",),
        ("1.2.250.1.213.999.3",),
    ]
    assert record.rows("SELECT uid FROM inbox_item WHERE state = 'claimed'") == [(2,)]


async def test_the_third_failure_of_a_message_is_its_quarantine(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    await record.register()

    def breaks(_connection: sqlite3.Connection, _new: Any) -> int:
        raise KeyError

    monkeypatch.setattr(documents.storing, "put_document", breaks)
    items = await record.items(message(1, report(1)))
    outcomes = []
    for attempt in range(1, MAX_ATTEMPTS + 1):
        from dataclasses import replace

        batch = FilingBatch(
            CABINET, Environment.TEST, (replace(items[0], attempts=attempt),), record.now
        )
        outcomes.append((await record.database.write(file_batch, batch))[0])

    assert [result.outcome for result in outcomes] == [
        ItemOutcome.FAILED,
        ItemOutcome.FAILED,
        ItemOutcome.QUARANTINED,
    ]
    assert outcomes[-1].code == ErrorCode.OTHER
    assert record.rows("SELECT reason, whole FROM quarantine") == [("opening_failed", 1)]


# --- rows that survive a crash ---------------------------------------------------------------


async def test_the_cursor_never_passes_a_uid_without_a_row(record: Record) -> None:
    await record.claim(3, 5, 9)

    assert record.rows("SELECT uid FROM inbox_item ORDER BY uid") == [(3,), (5,), (9,)]
    assert record.rows("SELECT uid FROM cursor") == [(9,)]


async def test_a_claim_that_was_interrupted_is_found_and_counted_again(record: Record) -> None:
    await record.claim(3, 5)
    where = progress.Position(CABINET.id, 7, 5)

    assert await record.database.write(progress.interrupted, where) == [3, 5]
    again = await record.claim(5)
    assert [each.attempts for each in again] == [2]
    assert record.rows("SELECT uid, attempts FROM inbox_item ORDER BY uid") == [(3, 1), (5, 2)]


async def test_a_new_uidvalidity_starts_over_and_leaves_no_open_row(record: Record) -> None:
    await record.register()
    raw = message(1, report(1))
    await record.one(raw)
    await record.claim(8)

    where = await progress.position(record.database, CABINET.id, 8, record.now)

    assert where.uid == 0
    assert await record.database.write(lambda c, _: progress.pending(c), None) == 0


async def test_what_was_told_is_not_told_again_and_a_change_is(record: Record) -> None:
    await record.register()
    await record.one(message(1, report(1)))
    (waiting,) = await record.database.write(progress.outstanding, CABINET.id)
    await record.database.write(progress.marked, ((waiting,), record.now))
    assert await record.database.write(progress.outstanding, CABINET.id) == []

    await record.database.write(_retell, waiting.item_id)

    (again,) = await record.database.write(progress.outstanding, CABINET.id)
    assert (frozenset({"$Filed"}), frozenset({"$Duplicate"})) == (again.told, again.keywords)


def _retell(connection: sqlite3.Connection, item_id: int) -> None:
    connection.execute(
        "UPDATE inbox_item SET keywords = '$Duplicate', marked_at = NULL WHERE id = ?", (item_id,)
    )
