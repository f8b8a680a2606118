"""Merging two identities of one person, and splitting them: nothing lost, nothing in two."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from record_bridge import accounting, merging, rights_storing
from record_bridge.archive_commands import ArchiveCommands
from record_bridge.calendar_commands import CalendarCommands
from record_bridge.errors import RecordStateError
from record_bridge.identity_commands import IdentityCommands
from record_bridge.life_commands import LifeCommands
from record_bridge.model import Viewer, ViewerKind
from record_bridge.opening import list_occurrences
from record_bridge.queries import RecordQueries
from record_bridge.retention_commands import RetentionCommands
from record_bridge.rights import GrantKind
from record_bridge.rights_commands import RightsCommands
from record_bridge.rights_record import record_facts
from record_bridge.rights_storing import NewRight
from record_bridge.schema import METADATA
from tests.support.cda import OID_DEMO, PatientSpec, acts, follow_up
from tests.support.record import (
    CABINET,
    HOSPITAL,
    PATIENT,
    DirectOpener,
    Record,
    later,
    mails,
    message,
    open_test_record,
    report,
)

OTHER = replace(PATIENT, ins="279039999000275", oid=OID_DEMO)
"""The same person under another number."""
WHY = {"reason": "pièce d'identité vue", "actor": "cli:vigilance"}


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    async with open_test_record(tmp_path) as opened:
        yield opened


def who(spec: PatientSpec = PATIENT, **more: Any) -> dict[str, Any]:
    return {"structure": CABINET.id, "ins": spec.ins, "oid": spec.oid, **more}


def identities(record: Record) -> IdentityCommands:
    return IdentityCommands(record.commands)


async def merge(record: Record, **more: Any) -> dict[str, Any]:
    into = {"into_ins": PATIENT.ins, "into_oid": PATIENT.oid}
    return await identities(record).patient_merge({**who(OTHER), **into, **WHY, **more})


async def split(record: Record, **more: Any) -> dict[str, Any]:
    return await identities(record).patient_split({**who(OTHER), **WHY, **more})


def documents(record: Record, patient_id: int) -> list[str]:
    rows = record.rows(
        "SELECT unique_id FROM document WHERE patient_id = ? ORDER BY unique_id", patient_id
    )
    return [row[0].rpartition(".")[2] for row in rows]


def contents(record: Record) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of what patients have, but when a patient was changed."""
    return {
        table.name: sorted(record.rows(f"SELECT * FROM {table.name}"), key=repr)  # noqa: S608 - our tables
        for table in METADATA.sorted_tables
        if "patient_id" in table.c
    }


def other_message() -> bytes:
    return message(2, report(2, patients=(OTHER,), acts=acts(follow_up("20261224"))))


async def balance(record: Record, *raws: bytes) -> accounting.AuditReport:
    """Recount from the raw mail."""

    async def occurrences(raw: bytes) -> Any:
        return list_occurrences(raw)

    return await accounting.verify(record.database, partial(mails, *raws), occurrences)


async def two(record: Record) -> tuple[int, int]:
    """Two identities with a document each, one of them with an appointment."""
    kept = (await record.register())["id"]
    merged = (await record.register(OTHER))["id"]
    await record.file(message(1, report(1)), other_message())
    return kept, merged


async def test_a_merge_brings_documents_and_agenda_into_one_record(record: Record) -> None:
    kept, merged = await two(record)

    done = await merge(record)

    assert done == {"documents": 1, "rows": 0, "left": 0, "ended": 0, "filed": 0}
    assert documents(record, kept) == ["1", "2"]
    assert documents(record, merged) == []
    assert record.rows("SELECT DISTINCT patient_id FROM agenda_entry") == [(kept,)]
    audit = await balance(record, message(1, report(1)), other_message())
    assert (audit.balanced, audit.filed) == (True, 2)


async def test_a_split_is_the_state_before_the_merge(record: Record) -> None:
    kept, merged = await two(record)
    life = LifeCommands(record.database, lambda: record.now)
    for patient_id in (kept, merged):
        said = {"patient_id": patient_id, "actor": f"patient:{patient_id}"}
        await life.profile_add({**said, "kind": "allergy", "text": "arachide"})
        await life.opposition_set({**said, "scope": "opening", "opposed": True})
        for text in ("un", "deux"):
            await life.directive_write(
                {**said, "kind": "advance_directives", "day": "2026-01-02", "text": text}
            )
    before = contents(record)

    await merge(record)
    assert [row[0] for row in record.rows("SELECT version FROM directive ORDER BY 1")] == [
        1, 2, 3, 4,
    ]  # fmt: skip
    await split(record)

    assert contents(record) == before


async def test_what_comes_under_a_merged_identity_is_filed_in_the_record_kept(
    record: Record,
) -> None:
    kept, merged = await two(record)
    await merge(record)

    await record.one(message(3, report(3, patients=(OTHER,))))

    assert documents(record, kept) == ["1", "2", "3"]
    await split(record)
    assert documents(record, kept) == ["1"]
    assert documents(record, merged) == ["2", "3"]


async def test_both_mailboxes_open_the_record_that_was_kept(record: Record) -> None:
    kept, merged = await two(record)
    await merge(record)
    queries = RecordQueries(record.database, record.path, lambda: record.now)
    addresses = [f"{spec.ins}@{CABINET.patient_domain}" for spec in (PATIENT, OTHER)]

    found = [await queries.patient_by_address(CABINET.id, each.upper()) for each in addresses]

    assert [each and each.id for each in found] == [kept, kept]
    await record.one(message(4, report(4, patients=(OTHER,)), to=(addresses[1],)))
    viewer = Viewer(ViewerKind.PATIENT, str(kept))
    shown = await queries.documents(kept, viewer)
    assert [each.unique_id.rpartition(".")[2] for each in shown] == ["4"]
    await split(record)
    again = await queries.patient_by_address(CABINET.id, addresses[1])
    assert again is not None
    assert again.id == merged


async def test_what_a_person_sees_of_relatives_follows_and_comes_back(record: Record) -> None:
    kept, merged = await two(record)
    child = (await record.register(replace(PATIENT, ins="279039999000372")))["id"]
    await record.database.write(_delegate, (child, merged))

    await merge(record)
    assert record.rows("SELECT holder FROM access_right") == [(str(kept),)]

    await split(record)
    assert record.rows("SELECT holder FROM access_right") == [(str(merged),)]


async def test_a_parent_s_calendar_key_follows_them_and_comes_back(record: Record) -> None:
    kept, merged = await two(record)
    child = (await record.register(replace(PATIENT, ins="279039999000372")))["id"]
    calendar = CalendarCommands(record.database, lambda: record.now)
    made = {"patient_id": child, "kind": "device", "actor": "x"}
    await calendar.calendar_key_make(made | {"holder": str(merged)})
    await calendar.calendar_key_make(made | {"holder": str(kept)})

    await merge(record)
    assert record.rows("SELECT holder FROM calendar_key") == [(str(kept),)] * 2
    record.now = later(1)
    await calendar.calendar_key_make(made | {"holder": str(kept)})

    await split(record)
    assert record.rows("SELECT holder, stopped_at IS NULL FROM calendar_key ORDER BY id") == [
        (str(merged), 1), (str(kept), 1), (str(kept), 0),
    ]  # fmt: skip


async def test_what_was_taken_up_while_it_was_one_record_is_nobody_s_after_a_split(
    record: Record,
) -> None:
    """Whoever had the code may have been the other person."""
    kept, _ = await two(record)
    relative = (await record.register(replace(PATIENT, ins="279039999000372")))["id"]
    offer = NewRight(
        relative, "account:3", record.now, GrantKind.DELEGATE, "", later(90), code=b"code"
    )
    await record.database.write(rights_storing.give, offer)
    record.now = later(1)
    await merge(record)
    record.now = later(2)
    await record.database.write(rights_storing.take, ((b"code", kept, "account:1"), record.now))

    done = await split(record)

    assert done["ended"] == 1
    assert record.rows("SELECT holder, ended_at IS NULL FROM access_right") == [(str(kept), 0)]


async def test_the_history_of_a_record_has_that_of_the_identities_merged_into_it(
    record: Record,
) -> None:
    kept, merged = await two(record)
    life = LifeCommands(record.database, lambda: record.now)
    said = {"patient_id": merged, "actor": "account:2", "kind": "allergy", "text": "arachide"}
    await life.profile_add(said)
    queries = RecordQueries(record.database, record.path, lambda: record.now)
    assert "profile_noted" not in [each.kind for each in await queries.life.history(kept)]

    await merge(record)

    kinds = [each.kind for each in await queries.life.history(kept)]
    assert kinds.count("profile_noted") == 1
    assert kinds.count("patient_registered") == 2


@pytest.mark.parametrize("status", ["validee", "provisoire"])
async def test_nothing_is_filed_by_a_merged_number_while_the_identity_kept_is_not_qualified(
    record: Record, status: str
) -> None:
    await two(record)
    await merge(record)
    await record.commands.patient_change({**who(), "status": status, "actor": "test"})

    result = await record.one(message(3, report(3, patients=(OTHER,))))

    assert result.code == 902
    again = await record.commands.patient_change({**who(), "status": "qualifiee", "actor": "test"})
    assert again["filed"] == 1


async def test_a_replacement_that_a_split_divides_leaves_the_old_version_current(
    record: Record,
) -> None:
    kept, merged = await two(record)
    await merge(record)
    await record.one(message(5, report(5, replaces="1.2.250.1.213.999.2")))
    assert record.rows("SELECT status FROM document WHERE unique_id LIKE '%.2'") == [
        ("superseded",)
    ]

    await split(record)

    assert record.rows("SELECT status, patient_id FROM document WHERE unique_id LIKE '%.2'") == [
        ("current", merged)
    ]
    assert record.rows("SELECT patient_id, day FROM agenda_entry") == [(merged, "2026-12-24")]
    assert documents(record, kept) == ["1", "5"]


async def test_the_trail_says_who_and_why_under_both_identities(record: Record) -> None:
    kept, merged = await two(record)

    await merge(record)
    await split(record)

    rows = record.rows(
        "SELECT kind, subject, actor, json_extract(facts, '$.reason') FROM trail_event"
        " WHERE kind IN ('patient_merged', 'patient_split') ORDER BY event_id"
    )
    told = [(row[0], row[1]) for row in rows]
    assert told == [
        ("patient_merged", f"patient:{kept}"),
        ("patient_merged", f"patient:{merged}"),
        ("patient_split", f"patient:{kept}"),
        ("patient_split", f"patient:{merged}"),
    ]
    assert {row[2:] for row in rows} == {("cli:vigilance", "pièce d'identité vue")}
    queries = RecordQueries(record.database, record.path, lambda: record.now)
    assert [each.kind for each in await queries.accesses(merged)] == [
        "patient_split", "patient_merged",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"into_ins": OTHER.ins, "into_oid": OTHER.oid}, "same_identity"),
        ({"reason": " "}, "no_reason"),
        ({"into_ins": "279039999000372"}, "no_such_patient"),
    ],
)
async def test_a_merge_that_cannot_be_meant_is_refused(
    record: Record, changes: dict[str, str], reason: str
) -> None:
    await two(record)

    with pytest.raises(RecordStateError) as raised:
        await merge(record, **changes)

    assert raised.value.reason == reason
    assert record.count("patient_merge") == 0


@pytest.mark.parametrize(
    ("kept", "merged", "reason"),
    [
        ({"status": "validee"}, {}, "keep_the_qualified"),
        ({}, {"family": "ZZAUTRE"}, "traits_differ"),
        ({}, {"birth_date": "1979-03-27"}, "traits_differ"),
        ({}, {"birth_place": "99991"}, "traits_differ"),
        ({}, {"status": "provisoire", "family": "ZZAUTRE"}, None),
        ({}, {"birth_place": None}, None),
    ],
)
async def test_two_qualified_identities_are_one_person_only_with_the_same_traits(
    record: Record, kept: dict[str, Any], merged: dict[str, Any], reason: str | None
) -> None:
    await record.register(**kept)
    await record.register(OTHER, **merged)

    if reason is None:
        await merge(record)
    else:
        with pytest.raises(RecordStateError) as raised:
            await merge(record)
        assert raised.value.reason == reason


async def test_an_identity_that_holds_another_is_not_merged(record: Record) -> None:
    kept, merged = await two(record)
    third = (await record.register(replace(PATIENT, ins="279039999000372")))["id"]
    await merge(record)

    with pytest.raises(RecordStateError) as raised:
        await record.database.write(
            merging.merge, merging.Merge(third, kept, "x", "y", record.now)
        )

    assert raised.value.reason == "holds_others"
    assert record.rows("SELECT merged_into FROM patient WHERE id = ?", merged) == [(kept,)]


async def test_records_of_two_structures_are_never_one(record: Record) -> None:
    """RULES §1: the same person in two structures is two patients."""
    kept = (await record.register())["id"]
    merged = (await record.register(OTHER, structure=HOSPITAL.id))["id"]

    with pytest.raises(RecordStateError) as raised:
        await record.database.write(
            merging.merge, merging.Merge(kept, merged, "x", "y", record.now)
        )

    assert raised.value.reason == "other_structure"
    assert record.count("patient_merge") == 0


async def test_a_merged_identity_is_merged_once_and_split_once(record: Record) -> None:
    await two(record)
    await merge(record)

    with pytest.raises(RecordStateError) as raised:
        await merge(record)
    assert raised.value.reason == "merged_already"

    await split(record)
    with pytest.raises(RecordStateError) as raised:
        await split(record)
    assert raised.value.reason == "not_merged"


async def test_identities_of_two_structures_never_share_a_record(record: Record) -> None:
    await record.register()
    await record.register(structure=HOSPITAL.id)

    with pytest.raises(RecordStateError) as raised:
        await identities(record).patient_merge(
            {
                **who(structure=HOSPITAL.id),
                "into_ins": OTHER.ins,
                "into_oid": OTHER.oid,
                **WHY,
            }
        )

    assert raised.value.reason == "no_such_patient"


async def test_what_was_given_while_it_was_one_record_opens_neither_after_a_split(
    record: Record,
) -> None:
    """Whoever gave it may have been the other person: their calendar would show this one's."""
    kept, _ = await two(record)
    await record.grant(kept, "care_team", "10000000001")
    await merge(record)
    record.now = later(1)
    said = {"patient_id": kept, "actor": "account:2"}
    calendar = CalendarCommands(record.database, lambda: record.now)
    await calendar.calendar_key_make({**said, "kind": "device"})
    await record.grant(kept, "care_team", "10000000002")
    child = (await record.register(replace(PATIENT, ins="279039999000372")))["id"]
    await record.grant(child, "representative", str(kept))

    done = await split(record)

    assert done["ended"] == 3
    assert record.rows("SELECT stopped_at IS NULL FROM calendar_key") == [(0,)]
    assert record.rows("SELECT patient_id, holder FROM access_right WHERE ended_at IS NULL") == [
        (kept, "10000000001")
    ]


async def test_what_closed_a_record_closes_both_after_a_split(record: Record) -> None:
    kept, merged = await two(record)
    await merge(record)
    record.now = later(1)
    life = LifeCommands(record.database, lambda: record.now)
    await record.grant(kept, "block", "10000000001")
    said = {"patient_id": kept, "actor": "account:2"}
    await life.opposition_set({**said, "scope": "break_glass", "opposed": True})

    await split(record)

    for patient_id in (kept, merged):
        facts = await record_facts(record.database, patient_id, record.now)
        assert facts is not None
        assert [(each.kind, each.holder) for each in facts.grants] == [("block", "10000000001")]
        assert facts.opposed == {"break_glass"}


async def test_a_split_moves_no_row_that_took_the_place_of_one_that_is_gone(
    record: Record,
) -> None:
    kept, merged = await two(record)
    calendar = CalendarCommands(record.database, lambda: record.now)
    day = {"title": "Dentiste", "day": "2026-12-24", "actor": "account:1"}
    await calendar.own_entry_add({**day, "patient_id": merged})
    await merge(record)
    ((name,),) = record.rows("SELECT name FROM own_entry")
    await calendar.own_entry_delete({"patient_id": kept, "name": name, "actor": "account:1"})
    await calendar.own_entry_add({**day, "patient_id": kept})

    await split(record)

    assert record.rows("SELECT patient_id FROM own_entry") == [(kept,)]


async def test_a_merge_judges_again_what_waits(record: Record) -> None:
    """What waited for the unqualified twin stays waiting: its identity is no better known."""
    await record.register()
    await record.register(OTHER, status="provisoire")
    await record.one(message(1, report(1, patients=(OTHER,))))

    done = await merge(record)

    assert done["filed"] == 0
    assert record.rows("SELECT code FROM quarantine WHERE state = 'open'") == [("902",)]


async def test_prevention_noted_on_both_sides_stays_apart(record: Record) -> None:
    kept, merged = await two(record)
    for patient_id in (kept, merged):
        await record.database.write(_declare, patient_id)

    done = await merge(record)

    assert (done["rows"], done["left"]) == (0, 1)
    assert record.rows("SELECT patient_id FROM prevention_declared ORDER BY 1") == [
        (kept,), (merged,),
    ]  # fmt: skip


def _declare(connection: Any, patient_id: int) -> None:
    connection.execute(
        "INSERT INTO prevention_declared (patient_id, rule_id, ordinal, day, declared_by,"
        " declared_at) VALUES (?, 'dtp-45', 1, ?, 'x', 1)",
        (patient_id, date(2026, 1, 1).isoformat()),
    )


def _delegate(connection: Any, value: tuple[int, int]) -> None:
    connection.execute(
        "INSERT INTO access_right (patient_id, kind, holder, said_by, since_at)"
        " VALUES (?, 'delegate', ?, 'x', 1)",
        (value[0], str(value[1])),
    )


async def test_a_closed_record_is_not_opened_by_a_merge(record: Record) -> None:
    _, merged = await two(record)
    closing = RetentionCommands(record.commands)
    await closing.record_close({"patient_id": merged, "actor": "x", "reason": "y"})

    with pytest.raises(RecordStateError) as raised:
        await merge(record)

    assert raised.value.reason == "one_is_closed"
    await closing.record_open_again({"patient_id": merged, "actor": "x", "reason": "y"})
    assert (await merge(record))["documents"] == 1


async def test_a_record_closed_while_merged_stays_closed_in_both_when_it_is_split(
    record: Record,
) -> None:
    kept, merged = await two(record)
    await merge(record)
    closing = RetentionCommands(record.commands)
    why = {"patient_id": kept, "actor": "x", "reason": "y"}
    await closing.record_close({**why, "died": "2026-09-01"})
    rows = "SELECT closed_at, died_on FROM patient WHERE id = ?"

    await split(record)

    assert record.rows(rows, merged) == record.rows(rows, kept)
    assert record.rows(rows, merged)[0][1] == "2026-09-01"


async def test_a_record_opened_again_while_merged_is_open_in_both_when_it_is_split(
    record: Record,
) -> None:
    kept, merged = await two(record)
    closing = RetentionCommands(record.commands)
    for each in (kept, merged):
        await closing.record_close({"patient_id": each, "actor": "x", "reason": "y"})
    await merge(record)
    await closing.record_open_again({"patient_id": kept, "actor": "x", "reason": "y"})

    await split(record)

    assert record.rows("SELECT DISTINCT closed_at FROM patient") == [(None,)]


async def test_either_number_finds_the_record_that_was_kept(record: Record) -> None:
    kept, _ = await two(record)
    await merge(record)
    queries = RecordQueries(record.database, record.path, lambda: record.now)

    for spec in (PATIENT, OTHER):
        one = await queries.patient_by_identity(CABINET.id, spec.ins, spec.oid)
        several = await queries.patients_by_matricule(CABINET.id, spec.ins)
        assert one is not None
        assert [one.id, *(each.id for each in several)] == [kept, kept]
    assert await queries.patients_by_matricule(HOSPITAL.id, OTHER.ins) == []


@pytest.mark.parametrize("doubt", ["doubtful", "fictitious"])
async def test_nothing_is_filed_by_a_merged_number_while_the_record_kept_is_in_doubt(
    record: Record, doubt: str
) -> None:
    await two(record)
    await merge(record)
    await record.commands.patient_change({**who(), doubt: True, "actor": "test"})

    result = await record.one(message(3, report(3, patients=(OTHER,))))

    assert result.code == 906
    lifted = await record.commands.patient_change({**who(), doubt: False, "actor": "test"})
    assert lifted["filed"] == 1


async def test_what_waits_by_either_number_is_filed_when_the_record_opens_again(
    record: Record,
) -> None:
    await two(record)
    await merge(record)
    closing = RetentionCommands(record.commands)
    await closing.record_close({**who(OTHER), "actor": "x", "reason": "y"})
    await record.one(message(3, report(3, patients=(OTHER,))))
    await record.one(message(4, report(4)))

    opened = await closing.record_open_again({**who(), "actor": "x", "reason": "y"})

    assert opened == {"closed": False, "filed": 2}


async def test_a_block_said_by_the_merged_number_closes_the_record_that_was_kept(
    record: Record,
) -> None:
    kept, _ = await two(record)
    await merge(record)

    async def nobody(_rpps: str) -> None:
        return None

    rights = RightsCommands(record.commands, nobody)
    physician, relative = "10101010101", replace(PATIENT, ins="198050750012350")
    await record.register(relative)

    await rights.right_give(
        {**who(OTHER), "kind": "block", "holder": "10101010101", "actor": "cli:x"}
    )
    await rights.right_give(
        {**who(relative), "kind": "delegate", "holder_ins": OTHER.ins, "actor": "cli:x"}
    )

    assert record.rows("SELECT patient_id, holder FROM access_right ORDER BY id") == [
        (kept, physician), (3, str(kept)),
    ]  # fmt: skip


async def test_an_archive_by_either_number_holds_all_that_was_done_with_the_record(
    record: Record, tmp_path: Path
) -> None:
    _, merged = await two(record)
    looked = {"patient_id": merged, "kind": "record_read", "actor": "practitioner:1"}
    await record.commands.note_access(looked)
    await merge(record)
    path = tmp_path / "record.zip"

    told = await ArchiveCommands(
        record.commands, record.path, DirectOpener().number
    ).record_export({**who(OTHER), "path": str(path), "actor": "cli:x", "reason": "demande"})

    assert told["document"] == 2
    with ZipFile(path) as archive:
        events = json.loads(archive.read("events.json"))
    assert "practitioner:1" in {event["actor"] for event in events}
