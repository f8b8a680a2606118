"""Laboratory results in the record: read at filing, shown by the document's own rule, never stale.

Source: RULES §6, RULES §7, RULES §8.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from record_bridge.archive_commands import ArchiveCommands
from record_bridge.identity_commands import IdentityCommands
from record_bridge.lab_queries import MAX_RESULTS, LabQueries
from record_bridge.late_lists import AT_ONCE, read_late_lists
from record_bridge.model import Viewer
from record_bridge.trend_commands import TrendCommands
from record_bridge.withdrawal_commands import WithdrawalCommands
from tests.support.cda import OID_DEMO, OID_TEST, acts, bound, lab_result, quantity
from tests.support.record import (
    CABINET,
    DOCTOR,
    PATIENT,
    PATIENT_ADDRESS,
    DirectOpener,
    Record,
    message,
    open_test_record,
    report,
)

BOTH = (DOCTOR, PATIENT_ADDRESS)
PHYSICIAN = Viewer("practitioner", "10000000001", "10", CABINET.id)
NURSE = Viewer("practitioner", "10000000002", "60", CABINET.id)
OTHER = replace(PATIENT, ins="279039999000275", oid=OID_DEMO)
"""The same person under another number."""
WHO = {"structure": CABINET.id, "ins": PATIENT.ins, "oid": OID_TEST, "actor": "test"}


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    async with open_test_record(tmp_path) as opened:
        person = await opened.register()
        for viewer in (PHYSICIAN, NURSE):
            await opened.grant(person["id"], "care_team", viewer.ref)
        yield opened


def biology(number: int, value: str, when: str = "20261101", **more: Any) -> bytes:
    entries = acts(lab_result(quantity(value), when))
    return report(number, acts=entries, **more)


async def seen(record: Record, viewer: Viewer | None = None, patient_id: int = 1) -> list[str]:
    """Every result shown, as the day, the value and the end of the document's unique id."""
    queries = LabQueries(record.database, lambda: record.now)
    trends = await queries.trends(patient_id, viewer or Viewer("patient", str(patient_id)))
    return [
        f"{result.day} {result.sign}{result.value} {result.document.rpartition('.')[2]}"
        for series in trends.series
        for result in series.results
    ]


async def test_results_are_filed_with_their_document(record: Record) -> None:
    entries = acts(
        lab_result(quantity("13.2")),
        lab_result(bound("high", "0.5", more='inclusive="false"'), loinc="1988-5", label="CRP"),
    )
    await record.one(message(1, report(1, acts=entries), to=BOTH))

    assert await seen(record) == ["2026-11-02 <0.5 1", "2026-11-02 13.2 1"]
    assert record.rows("SELECT lists_read FROM document") == [(1,)]


async def test_a_hidden_document_leaves_no_point(record: Record) -> None:
    await record.one(message(1, biology(1, "13.2"), to=BOTH))
    await record.one(message(2, biology(2, "12.0")))  # awaits its release
    await record.one(message(3, biology(3, "11.0", confidentiality="N"), to=BOTH))
    await record.database.write(_mask, "1.2.250.1.213.999.3")

    assert await seen(record) == ["2026-11-01 11.0 3", "2026-11-01 13.2 1"]
    assert await seen(record, PHYSICIAN) == ["2026-11-01 12.0 2", "2026-11-01 13.2 1"]
    assert await seen(record, NURSE) == []  # unknown to the matrix
    assert await seen(record, Viewer("practitioner", "10000000003", "10", CABINET.id)) == []


def _mask(connection: Any, unique_id: str) -> None:
    connection.execute(
        "UPDATE document SET visibility = 'masked_ps' WHERE unique_id = ?", (unique_id,)
    )


async def test_superseded_values_leave(record: Record) -> None:
    await record.one(message(1, biology(1, "13.2"), to=BOTH))
    await record.one(message(2, biology(2, "12.3", replaces="1.2.250.1.213.999.1"), to=BOTH))

    assert await seen(record) == ["2026-11-01 12.3 2"]


async def test_withdrawn_values_leave_and_come_back(record: Record) -> None:
    await record.one(message(1, biology(1, "13.2"), to=BOTH))
    leaving = WithdrawalCommands(record.commands)
    about = {"structure": CABINET.id, "document": "1.2.250.1.213.999.1", "actor": "test",
             "reason": "erreur"}  # fmt: skip

    await leaving.record_withdraw(about)
    assert await seen(record) == []
    await leaving.record_restore(about)
    assert await seen(record) == ["2026-11-01 13.2 1"]


async def test_results_follow_their_document_through_a_merge_and_a_split(record: Record) -> None:
    other = (await record.register(OTHER))["id"]
    await record.one(message(1, biology(1, "13.2"), to=BOTH))
    address = f"{OTHER.ins}@{CABINET.patient_domain}"
    await record.one(message(2, biology(2, "12.0", patients=(OTHER,)), to=(DOCTOR, address)))
    who = {"structure": CABINET.id, "ins": OTHER.ins, "oid": OTHER.oid, "actor": "test",
           "reason": "même personne"}  # fmt: skip
    identities = IdentityCommands(record.commands)

    await identities.patient_merge({**who, "into_ins": PATIENT.ins, "into_oid": OID_TEST})
    assert await seen(record) == ["2026-11-01 12.0 2", "2026-11-01 13.2 1"]
    assert await seen(record, patient_id=other) == []
    await identities.patient_split(who)
    assert await seen(record) == ["2026-11-01 13.2 1"]
    assert await seen(record, patient_id=other) == ["2026-11-01 12.0 2"]


async def test_an_imported_record_gets_its_results_from_its_documents(
    record: Record, tmp_path: Path
) -> None:
    await record.one(message(1, biology(1, "13.2"), to=BOTH))
    path = tmp_path / "out.zip"
    await ArchiveCommands(record.commands, record.path, DirectOpener().number).record_export(
        WHO | {"path": str(path)}
    )
    (tmp_path / "there").mkdir()
    async with open_test_record(tmp_path / "there") as there:
        await there.register()
        archives = ArchiveCommands(there.commands, there.path, DirectOpener().number)
        await archives.record_import(WHO | {"path": str(path)})

        assert await seen(there) == []
        assert await read_late_lists(there.database, DirectOpener()) == 1  # type: ignore[arg-type]
        assert await seen(there) == ["2026-11-01 13.2 1"]
        assert await read_late_lists(there.database, DirectOpener()) == 0  # type: ignore[arg-type]


async def test_late_results_are_read_a_few_at_a_time(record: Record) -> None:
    for number in range(AT_ONCE + 1):
        await record.one(message(number + 1, biology(number + 1, "13.2"), to=BOTH))
    await record.database.write(_forget, None)

    read = [await read_late_lists(record.database, DirectOpener()) for _ in range(3)]  # type: ignore[arg-type]

    assert read == [AT_ONCE, 1, 0]
    assert len(await seen(record)) == AT_ONCE + 1


def _forget(connection: Any, _: None) -> None:
    connection.execute("DELETE FROM lab_result")
    connection.execute("UPDATE document SET lists_read = 0")


@pytest.mark.parametrize(("more", "cut"), [(0, False), (1, True)])
async def test_the_newest_of_a_large_record_are_shown(
    record: Record, more: int, *, cut: bool
) -> None:
    await record.one(message(1, biology(1, "13.2"), to=BOTH))
    await record.database.write(_fill, MAX_RESULTS - 1 + more)

    queries = LabQueries(record.database, lambda: record.now)
    trends = await queries.trends(1, Viewer("patient", "1"))

    assert sum(each.total for each in trends.series) == MAX_RESULTS
    assert trends.cut is cut


def _fill(connection: Any, many: int) -> None:
    connection.executemany(
        "INSERT INTO lab_result VALUES (1, ?, '718-7', '', '1', '', 'g/dL', '2020-01-01', NULL)",
        [(ordinal,) for ordinal in range(1, many + 1)],
    )


async def test_the_command_tells_every_digit_and_writes_the_trail(record: Record) -> None:
    await record.one(message(1, biology(1, "13.20"), to=BOTH))
    entries = acts(lab_result(quantity("129", "g/L"), "20251101"))
    await record.one(message(2, report(2, acts=entries), to=BOTH))

    async def who_is(who: str, person: Any) -> Viewer:
        assert who == "patient"
        return Viewer(who, str(person["id"]))

    rows = await TrendCommands(record.commands, who_is).record_trends(WHO)

    assert rows[0] == {
        "loinc": "718-7", "name": "Hémoglobine Sang", "day": "2026-11-01", "at": None,
        "sign": "", "value": "13.20", "unit": "g/dL", "told_value": "13.20", "told_unit": "g/dL",
        "document": "1.2.250.1.213.999.1",
    }  # fmt: skip
    assert [(r["value"], r["unit"], r["told_value"], r["told_unit"]) for r in rows[1:]] == [
        ("12.9", "g/dL", "129", "g/L")
    ]
    kinds = record.rows("SELECT kind FROM trail_event ORDER BY event_id DESC LIMIT 1")
    assert kinds == [("results_read",)]
