"""Medicines in the record: read at filing, shown by the document's own rule, never stale.

Source: RULES §6, RULES §7, RULES §8.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from record_bridge.archive_commands import ArchiveCommands
from record_bridge.late_lists import read_late_lists
from record_bridge.medication_commands import MedicationCommands
from record_bridge.medication_queries import MAX_MEDICATIONS, MedicationQueries
from record_bridge.model import Viewer
from record_bridge.withdrawal_commands import WithdrawalCommands
from tests.support.cda import OID_TEST, acts, prescription, treatment
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
WHO = {"structure": CABINET.id, "ins": PATIENT.ins, "oid": OID_TEST, "actor": "test"}


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    async with open_test_record(tmp_path) as opened:
        person = await opened.register()
        for viewer in (PHYSICIAN, NURSE):
            await opened.grant(person["id"], "care_team", viewer.ref)
        yield opened


def letter(number: int, name: str, **more: Any) -> bytes:
    return report(number, acts=acts(treatment(name)), **more)


async def seen(record: Record, viewer: Viewer | None = None) -> list[str]:
    """Every line shown, as its document's last number and its name."""
    queries = MedicationQueries(record.database, lambda: record.now)
    found = await queries.medications(1, viewer or Viewer("patient", "1"))
    return [
        f"{named.document.rpartition('.')[2]} {line.label}"
        for named in found.documents
        for line in named.medications
    ]


async def test_medicines_are_filed_with_their_document_in_its_order(record: Record) -> None:
    entries = acts(prescription("20261101", "20261201"), prescription(None, None, name="B"))
    await record.one(message(1, report(1, acts=entries), to=BOTH))

    assert await seen(record) == ["1 AMOXICILLINE 1 g", "1 B"]
    assert record.rows("SELECT lists_read FROM document") == [(1,)]


async def test_a_hidden_document_leaves_no_line(record: Record) -> None:
    await record.one(message(1, letter(1, "A"), to=BOTH))
    await record.one(message(2, letter(2, "B")))  # awaits its release
    await record.one(message(3, letter(3, "C", confidentiality="N"), to=BOTH))
    await record.database.write(_mask, "1.2.250.1.213.999.3")

    assert await seen(record) == ["3 C", "1 A"]
    assert await seen(record, PHYSICIAN) == ["2 B", "1 A"]
    assert await seen(record, NURSE) == []  # unknown to the matrix
    assert await seen(record, Viewer("practitioner", "10000000003", "10", CABINET.id)) == []


def _mask(connection: Any, unique_id: str) -> None:
    connection.execute(
        "UPDATE document SET visibility = 'masked_ps' WHERE unique_id = ?", (unique_id,)
    )


async def test_a_replaced_document_leaves_no_line(record: Record) -> None:
    await record.one(message(1, letter(1, "A"), to=BOTH))
    await record.one(message(2, letter(2, "B", replaces="1.2.250.1.213.999.1"), to=BOTH))

    assert await seen(record) == ["2 B"]


async def test_withdrawn_lines_leave_and_come_back(record: Record) -> None:
    await record.one(message(1, letter(1, "A"), to=BOTH))
    leaving = WithdrawalCommands(record.commands)
    about = {"structure": CABINET.id, "document": "1.2.250.1.213.999.1", "actor": "test",
             "reason": "erreur"}  # fmt: skip

    await leaving.record_withdraw(about)
    assert await seen(record) == []
    await leaving.record_restore(about)
    assert await seen(record) == ["1 A"]


async def test_an_imported_record_gets_its_medicines_from_its_documents(
    record: Record, tmp_path: Path
) -> None:
    await record.one(message(1, letter(1, "A"), to=BOTH))
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
        assert await seen(there) == ["1 A"]


@pytest.mark.parametrize(("more", "cut"), [(0, False), (1, True), (MAX_MEDICATIONS, True)])
async def test_the_newest_lines_of_a_large_record_are_shown(
    record: Record, more: int, *, cut: bool
) -> None:
    await record.one(message(1, letter(1, "A"), to=BOTH))
    await record.database.write(_fill, MAX_MEDICATIONS - 1 + more)

    queries = MedicationQueries(record.database, lambda: record.now)
    found = await queries.medications(1, Viewer("patient", "1"))

    assert sum(len(each.medications) for each in found.documents) == MAX_MEDICATIONS
    assert found.cut is cut


def _fill(connection: Any, many: int) -> None:
    connection.executemany(
        "INSERT INTO medication VALUES (1, ?, 'treatment', 'B', '', '', NULL, NULL, 0, 0)",
        [(ordinal,) for ordinal in range(1, many + 1)],
    )


async def test_the_command_tells_each_line_and_writes_the_trail(record: Record) -> None:
    await record.one(
        message(1, report(1, acts=acts(prescription("20261101", "202612", renewals=2))), to=BOTH)
    )

    async def who_is(who: str, person: Any) -> Viewer:
        assert who == "patient"
        return Viewer(who, str(person["id"]))

    (row,) = await MedicationCommands(record.commands, who_is).record_medications(WHO)

    assert row == {
        "kind": "prescribed", "name": "AMOXICILLINE 1 g", "code": "65082437",
        "code_system": "1.2.250.1.213.2.3.1", "low": "20261101", "high": "202612",
        "as_needed": False, "renewals": 2, "document": "1.2.250.1.213.999.1",
        "written_at": row["written_at"],
    }  # fmt: skip
    assert row["written_at"].startswith("2026-11-0")
    kinds = record.rows("SELECT kind FROM trail_event ORDER BY event_id DESC LIMIT 1")
    assert kinds == [("medications_read",)]
