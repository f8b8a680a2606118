"""Commands on the record: what they refuse, what they change, and that they leave a trace."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from record_bridge.errors import InsError, RecordStateError
from tests.support.cda import OID_TEST, PatientSpec, acts, follow_up
from tests.support.record import (
    CABINET,
    HOSPITAL,
    PATIENT,
    Record,
    message,
    open_test_record,
    report,
)

WHO = {"structure": CABINET.id, "ins": PATIENT.ins, "oid": OID_TEST, "actor": "cli:test"}


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    async with open_test_record(tmp_path) as opened:
        yield opened


async def test_a_second_patient_with_the_same_ins_is_refused_in_a_structure(
    record: Record,
) -> None:
    await record.register()

    with pytest.raises(RecordStateError) as raised:
        await record.register(family="ZZAUTRE")

    assert raised.value.reason == "patient_exists"
    other = await record.register(structure=HOSPITAL.id)
    assert other["address"] == f"{PATIENT.ins}@{HOSPITAL.patient_domain}"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"oid": "1.2.3"}, InsError),
        ({"birth_date": "1979"}, InsError),
        ({"sex": "X"}, InsError),
        ({"family": " "}, InsError),
        ({"status": "certaine"}, InsError),
        ({"birth_place": "9999"}, InsError),
        ({"structure": "ailleurs"}, RecordStateError),
        ({"structure": None}, RecordStateError),
    ],
)
async def test_what_is_not_well_formed_is_refused_without_a_row(
    record: Record, change: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error) as raised:
        await record.register(**change)

    assert record.count("patient") == 0
    assert "ZZCANARY" not in str(raised.value)


async def test_patients_are_listed_by_structure(record: Record) -> None:
    await record.register()
    await record.register(structure=HOSPITAL.id)

    listed = await record.commands.patient_list({"structure": CABINET.id, "actor": "test"})

    assert [row["structure"] for row in listed] == [CABINET.id]
    assert len(await record.commands.patient_list({"actor": "test"})) == 2


async def test_releasing_twice_or_nothing_is_refused(record: Record) -> None:
    await record.register()
    await record.one(message(1, report(1)))
    release = {"structure": CABINET.id, "unique_id": "1.2.250.1.213.999.1", "actor": "test"}
    await record.commands.record_release(release)

    with pytest.raises(RecordStateError) as again:
        await record.commands.record_release(release)
    with pytest.raises(RecordStateError) as nothing:
        await record.commands.record_release(release | {"unique_id": "1.2.3"})
    with pytest.raises(RecordStateError) as elsewhere:
        await record.commands.record_release(release | {"structure": HOSPITAL.id})

    assert [again.value.reason, nothing.value.reason, elsewhere.value.reason] == [
        "visible_already",
        "no_such_document",
        "no_such_document",
    ]


async def test_the_agenda_lists_where_each_entry_comes_from(record: Record) -> None:
    patient = await record.register()
    await record.one(message(1, report(1, acts=acts(follow_up("20270101"), follow_up(None)))))

    listed = await record.commands.agenda_list(WHO)

    assert [(row["start"], row["status"]) for row in listed] == [
        ("2027-01-01", "proposed"),
        (None, "to_schedule"),
    ]
    assert {row["source_unique_id"] for row in listed} == {"1.2.250.1.213.999.1"}
    decided = {"patient_id": patient["id"], "entry_id": listed[0]["id"], "actor": "account:1"}
    await record.commands.agenda_decide(decided | {"decision": "done"})
    assert (await record.commands.agenda_list(WHO))[0]["status"] == "history"


async def test_an_entry_of_another_patient_cannot_be_decided(record: Record) -> None:
    await record.register()
    other = await record.register(PatientSpec(ins="179039999000167", sex="M"))
    await record.one(message(1, report(1, acts=acts(follow_up("20270101")))))
    decision = {"patient_id": other["id"], "entry_id": 1, "decision": "dismissed"}

    with pytest.raises(RecordStateError):
        await record.commands.agenda_decide(decision)
    with pytest.raises(RecordStateError):
        await record.commands.agenda_decide(decision | {"patient_id": 1, "decision": "burnt"})

    assert record.rows("SELECT status FROM agenda_entry") == [("proposed",)]


async def test_every_look_and_change_leaves_an_event(record: Record) -> None:
    await record.register()
    await record.one(message(1, report(1)))
    await record.commands.record_list(WHO | {"reason": "dossier demandé"})
    await record.commands.agenda_list(WHO)
    await record.commands.quarantine_list({"actor": "cli:test"})
    await record.commands.note_access({"patient_id": 1, "actor": "account:1"})

    events = record.rows("SELECT kind, actor, subject, facts FROM trail_event ORDER BY event_id")

    assert [event[:3] for event in events] == [
        ("patient_registered", "test", "patient:1"),
        ("document_filed", "bridge", "item:1"),
        ("record_listed", "cli:test", "patient:1"),
        ("agenda_listed", "cli:test", "patient:1"),
        ("quarantine_listed", "cli:test", None),
        ("record_read", "account:1", "patient:1"),
    ]
    assert "dossier demand" in events[2][3]
    assert "ZZCANARY" not in repr(events)
    assert str(PATIENT.ins) not in repr(events)


async def test_status_counts_what_there_is(record: Record) -> None:
    await record.one(message(1, report(1), notify_to="labo@operateur-a.test"))

    assert await record.commands.status({}) == {
        "running": True,
        "filed": 0,
        "quarantined": 1,
        "waiting_replies": 1,
        "quarantined_24h": 0,
        "quarantined_72h": 0,
    }
    record.now += timedelta(hours=24)
    assert (await record.commands.status({}))["quarantined_24h"] == 1
    record.now += timedelta(hours=47, minutes=59)
    assert (await record.commands.status({}))["quarantined_72h"] == 0
    record.now += timedelta(minutes=1)
    assert (await record.commands.status({}))["quarantined_72h"] == 1
    assert (await record.commands.idle({}))["idle"] is False


async def test_the_trail_says_why_an_identity_was_changed(record: Record) -> None:
    await record.register()

    await record.commands.patient_change({**WHO, "doubtful": True, "reason": "deux pièces"})

    assert record.rows(
        "SELECT actor, json_extract(facts, '$.reason') FROM trail_event"
        " WHERE kind = 'patient_changed'"
    ) == [("cli:test", "deux pièces")]
