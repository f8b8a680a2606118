"""Closed records and deadlines, through the commands and the filing that they bind.

Source: RULES §2, RULES §13, MSS-FACTS §6.4.
"""

import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from record_bridge.calendar_commands import CalendarCommands
from record_bridge.errors import RecordStateError
from record_bridge.filing import ItemOutcome
from record_bridge.life_commands import LifeCommands
from record_bridge.model import ErrorCode
from record_bridge.prevention_record import PreventionCommands
from record_bridge.repository import micros
from record_bridge.retention_commands import RetentionCommands
from record_bridge.retention_queries import RetentionQueries
from record_bridge.withdrawal_commands import WithdrawalCommands
from tests.support.cda import OID_TEST
from tests.support.record import (
    CABINET,
    DOCTOR,
    PATIENT,
    Record,
    message,
    open_test_record,
    report,
)

OTHER = replace(PATIENT, ins="279039999000275", family="ZZAUTRE")
POLICY = (
    'title = "Cabinet"\n[[rule]]\nid = "a"\nlabel = "dix ans"\nstarts = "last_activity"\n'
    'years = 10\nsource = "règlement intérieur"\nstatus = "assumed"\n'
)


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    async with open_test_record(tmp_path) as opened:
        await opened.register()
        yield opened


async def tell(record: Record, command: str, **arguments: Any) -> Any:
    told = {"structure": CABINET.id, "actor": "cli:test", "reason": "demande"}
    if command not in ("retention_list", "retention_policy"):
        told["ins"] = PATIENT.ins
    return await RetentionCommands(record.commands).table()[command](told | arguments)


async def test_a_closed_record_takes_no_document_and_says_why(record: Record) -> None:
    await tell(record, "record_close")

    result = await record.one(message(1, report(1)))

    assert (result.outcome, result.code) == (ItemOutcome.QUARANTINED, ErrorCode.OTHER)
    (row,) = await record.commands.quarantine_list({"actor": "test"})
    assert row["reason"] == "record_closed"
    assert row["reason_label"] == "le dossier de ce patient est fermé"
    with pytest.raises(RecordStateError, match="record_closed"):
        await record.decide(row["id"], "filed", ins=PATIENT.ins, oid=OID_TEST)
    assert record.count("document") == 0


async def test_what_waited_is_filed_when_the_record_is_opened_again(record: Record) -> None:
    await tell(record, "record_close")
    await record.one(message(1, report(1)))

    assert await tell(record, "record_open_again") == {"closed": False, "filed": 1}
    assert len(await record.records()) == 1


async def test_nothing_is_moved_into_a_closed_record_and_what_is_in_it_may_leave(
    record: Record,
) -> None:
    await record.register(OTHER)
    await record.one(message(1, report(1)))
    leaving = WithdrawalCommands(record.commands).table()["record_refile"]
    move = {"document": "1.2.250.1.213.999.1", "structure": "cabinet", "reason": "r",
            "actor": "test"}  # fmt: skip
    await tell(record, "record_close", ins=OTHER.ins)
    with pytest.raises(RecordStateError, match="record_closed"):
        await leaving(move | {"ins": OTHER.ins, "oid": OTHER.oid})
    assert len(await record.records()) == 1

    await tell(record, "record_close")
    assert (await leaving(move))["documents"] == 1


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("profile_add", {"kind": "allergy", "text": "Pollen"}),
        ("directive_write", {"kind": "trusted_person", "day": "2026-01-02", "person": "Anne"}),
        ("deposit_add", {"name": "a.txt", "content": "YWJj"}),
    ],
)
async def test_its_patient_adds_nothing_to_it_and_takes_back_what_they_said(
    record: Record, command: str, arguments: dict[str, Any]
) -> None:
    life = LifeCommands(record.database, lambda: record.now).table()
    mine = {"patient_id": 1, "actor": "account:1"}
    item = await life["profile_add"](mine | {"kind": "allergy", "text": "Chats"})
    await tell(record, "record_close")

    with pytest.raises(RecordStateError, match="record_closed"):
        await life[command](mine | arguments)
    assert await life["profile_remove"](mine | {"id": item["id"]}) == {"removed": True}


ICS = (
    "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//Test//FR\r\n{method}BEGIN:VEVENT\r\nUID:{uid}\r\n"
    "DTSTAMP:20261101T000000Z\r\nDTSTART:20261210T090000Z\r\nSUMMARY:Suivi\r\n{more}"
    "END:VEVENT\r\nEND:VCALENDAR\r\n"
)
INVITED = ICS.format(
    method="METHOD:REQUEST\r\n", uid="rdv-1", more=f"ORGANIZER:mailto:{DOCTOR}\r\n"
)
LINE = {"rule_id": "rappel-45", "ordinal": 1}


def agenda_of(record: Record) -> dict[str, Any]:
    """What a patient says in their agenda, by command."""
    return (
        CalendarCommands(record.database, lambda: record.now).table()
        | PreventionCommands(record.database, lambda: record.now).table()
    )


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("own_entry_add", {"title": "Kiné", "day": "2026-12-10"}),
        ("own_entry_put", {"name": "b.ics", "ics": ICS.format(method="", uid="b", more="")}),
        ("own_entry_put", {"name": "a.ics", "ics": ICS.format(method="", uid="a", more="")}),
        ("invitation_answer", {"ics": INVITED, "answer": "accepted"}),
        ("prevention_declare", LINE | {"day": "2026-01-02"}),
    ],
)
async def test_nothing_comes_into_the_agenda_of_a_closed_record(
    record: Record, command: str, arguments: dict[str, Any]
) -> None:
    agenda, mine = agenda_of(record), {"patient_id": 1, "actor": "account:1"}
    kept = {"name": "a.ics", "ics": ICS.format(method="", uid="a", more="LOCATION:Ici\r\n")}
    await agenda["own_entry_put"](mine | kept)
    await tell(record, "record_close")
    before = (
        record.rows("SELECT count(*) FROM trail_event"),
        record.rows("SELECT * FROM own_entry"),
    )

    with pytest.raises(RecordStateError, match="record_closed"):
        await agenda[command](mine | arguments)

    after = record.rows("SELECT count(*) FROM trail_event"), record.rows("SELECT * FROM own_entry")
    assert after == before
    assert record.count("invitation") == record.count("prevention_declared") == 0


async def test_what_stands_in_the_agenda_of_a_closed_record_may_leave_it(record: Record) -> None:
    agenda, mine = agenda_of(record), {"patient_id": 1, "actor": "account:1"}
    await agenda["prevention_declare"](mine | LINE)
    await agenda["invitation_answer"](mine | {"ics": INVITED, "answer": "accepted"})
    added = await agenda["own_entry_add"](mine | {"title": "Kiné", "day": "2026-12-10"})
    await tell(record, "record_close")

    await agenda["own_entry_delete"](mine | {"name": added["name"]})
    await agenda["invitation_answer"](mine | {"ics": INVITED, "answer": "declined"})
    await agenda["prevention_undo"](mine | LINE)

    assert record.count("own_entry") == record.count("prevention_declared") == 0
    assert record.rows("SELECT answer FROM invitation") == [("declined",)]


async def test_closing_says_until_when_and_why_and_the_trail_keeps_the_reason(
    record: Record,
) -> None:
    told = await tell(record, "record_close", reason="fin de prise en charge")

    assert told == {
        "closed": True, "kept_until": "2046-11-02", "status": "secondary",
        "rule": "20 ans après le dernier séjour ou la dernière consultation",
        "source": "Code de la santé publique, art. R1112-7",
    }  # fmt: skip
    (event,) = record.rows("SELECT actor, subject, facts FROM trail_event"
                           " WHERE kind = 'record_closed'")  # fmt: skip
    assert event == ("cli:test", "patient:1", '{"reason":"fin de prise en charge"}')
    with pytest.raises(RecordStateError, match="no_reason"):
        await tell(record, "record_close", reason=" ")


async def test_a_death_is_said_when_closing_and_cannot_be_to_come(record: Record) -> None:
    with pytest.raises(RecordStateError, match="no_such_day"):
        await tell(record, "record_close", died="2027-01-01")
    told = await tell(record, "record_close", died="2026-10-01")
    assert (told["kept_until"], told["rule"][:17]) == ("2036-11-02", "10 ans après la f")
    (row,) = await tell(record, "retention_list")
    assert (row["died"], row["closed"]) == ("2026-10-01", "2026-11-02")


async def test_deadlines_are_listed_first_due_first_and_nothing_is_destroyed(
    record: Record,
) -> None:
    await record.register(replace(OTHER, birth_date="20250101"))
    await record.one(message(1, report(1)))
    listed = await tell(record, "retention_list")
    assert [(row["ins"], row["kept_until"]) for row in listed] == [
        (PATIENT.ins, "2046-11-02"), (OTHER.ins, "2053-01-01")
    ]  # fmt: skip
    assert await tell(record, "retention_list", due=True) == []

    record.now += timedelta(days=20 * 365 + 5)  # the day itself: it is still kept
    assert await tell(record, "retention_list", due=True) == []
    record.now += timedelta(days=1)
    (due,) = await tell(record, "retention_list", due=True)
    assert due["ins"] == PATIENT.ins
    assert len(await record.records()) == 1
    assert record.rows("SELECT count(*) FROM trail_event WHERE kind = 'retention_listed'") == [
        (4,)
    ]


async def test_a_dispute_suspends_a_deadline_until_it_ends(record: Record) -> None:
    await tell(record, "retention_suspend")
    await tell(record, "retention_suspend")  # twice changes nothing
    (row,) = await tell(record, "retention_list")
    assert (row["suspended"], row["kept_until"]) == (True, None)

    await tell(record, "retention_resume")
    (row,) = await tell(record, "retention_list")
    assert (row["suspended"], row["kept_until"]) == (False, "2046-11-02")
    with pytest.raises(RecordStateError, match="nothing_to_undo"):
        await tell(record, "retention_resume")
    kinds = record.rows("SELECT kind FROM trail_event WHERE kind LIKE 'retention_%ed'"
                        " AND subject = 'patient:1'")  # fmt: skip
    assert kinds == [("retention_suspended",), ("retention_resumed",)]


async def test_a_structure_s_own_policy_counts_and_the_one_before_stays(record: Record) -> None:
    built_in = await tell(record, "retention_policy")
    assert built_in["set_by"] is None
    within = {rule["id"]: rule["within_years"] for rule in built_in["rules"]}
    assert within == {"last_activity": 0, "minor": 0, "death": 10, "closing": 0}
    await tell(record, "retention_policy", text=POLICY)

    (row,) = await tell(record, "retention_list")
    assert (row["kept_until"], row["source"]) == ("2036-11-02", "règlement intérieur")
    other = await tell(record, "retention_policy", structure="hopital")
    assert other["text"] == built_in["text"]
    await tell(record, "retention_policy", text=built_in["text"])
    assert record.count("retention_policy") == 2
    with pytest.raises(RecordStateError, match="bad_policy"):
        await tell(record, "retention_policy", text="title = 1")
    with pytest.raises(RecordStateError, match="no_reason"):
        await tell(record, "retention_policy", text=POLICY, reason="")
    assert record.count("retention_policy") == 2


def _closed_at(connection: sqlite3.Connection, at: int) -> None:
    connection.execute("UPDATE patient SET closed_at = ?", (at,))


def _came_at(connection: sqlite3.Connection, at: int) -> None:
    connection.execute("UPDATE document SET received_at = ?", (at,))


async def test_a_hidden_document_does_not_move_the_day_that_the_patient_reads(
    record: Record,
) -> None:
    queries = RetentionQueries(record.database)
    assert await queries.told_to(1, record.now) is None, "it is open"
    await record.one(message(1, report(1)))
    await record.database.write(_closed_at, micros(record.now))
    before = await queries.told_to(1, record.now)
    record.now += timedelta(days=40)
    await record.database.write(_came_at, micros(record.now))
    (state,) = record.rows("SELECT visibility FROM document")

    told = await queries.told_to(1, record.now)
    real = await queries.of_patient(1, record.now)

    assert state == ("awaiting_release",)
    assert before is not None
    assert told is not None
    assert real is not None
    assert told.deadline == before.deadline
    assert real.facts.last_activity == before.facts.last_activity + timedelta(days=40)
