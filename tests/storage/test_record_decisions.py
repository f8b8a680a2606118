"""What a person decides: on what waits, on what was filed wrongly, on what must leave."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from record_bridge import accounting
from record_bridge.archive_commands import ArchiveCommands
from record_bridge.errors import RecordStateError
from record_bridge.filing import FilingBatch, file_batch
from record_bridge.formats import auth_results
from record_bridge.formats.auth_results import AuthResults
from record_bridge.life_commands import LifeCommands
from record_bridge.model import Environment, Viewer, ViewerKind
from record_bridge.opening import list_occurrences
from record_bridge.quarantine_commands import QuarantineCommands
from record_bridge.queries import RecordQueries
from record_bridge.releasing import release_due
from record_bridge.rematching import Rematcher
from record_bridge.trend_commands import TrendCommands
from record_bridge.withdrawal_commands import WithdrawalCommands
from tests.support.cda import (
    PatientSpec,
    acts,
    follow_up,
    lab_result,
    prescription,
    quantity,
)
from tests.support.record import (
    AUTHSERV,
    CABINET,
    DOCTOR,
    PATIENT,
    PATIENT_ADDRESS,
    SENDER,
    DirectOpener,
    Record,
    mails,
    message,
    open_test_record,
    received,
    report,
)
from tests.support.xdm import mail, package

OTHER = replace(PATIENT, ins="279039999000275", family="ZZAUTRE", birth_date="19800101")
DOCUMENT = "1.2.250.1.213.999.1"
LIST = {"actor": "test", "structure": CABINET.id}
WHO = {"actor": "cli:vigilance", "reason": "identité vérifiée par téléphone"}


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    async with open_test_record(tmp_path) as opened:
        yield opened


def quarantine(record: Record) -> QuarantineCommands:
    return QuarantineCommands(
        record.commands,
        Rematcher(record.database, DirectOpener(), lambda: record.now),  # type: ignore[arg-type]
    )


def leaving(record: Record) -> WithdrawalCommands:
    return WithdrawalCommands(record.commands)


async def waiting(record: Record, **changes: Any) -> int:
    """One item of quarantine: a document whose traits are not those registered."""
    await record.register()
    changes.setdefault("patients", (replace(PATIENT, birth_date="19790329"),))
    await record.one(message(1, report(1, **changes)))
    (row,) = await record.commands.quarantine_list({"actor": "test"})
    return int(row["id"])


async def decide(record: Record, item: int, decision: str, **more: Any) -> dict[str, Any]:
    return await quarantine(record).quarantine_decide(
        {"id": item, "decision": decision, **WHO, **more}
    )


async def file(record: Record, item: int, spec: PatientSpec = PATIENT) -> dict[str, Any]:
    return await decide(record, item, "filed", ins=spec.ins, oid=spec.oid)


async def balance(record: Record, *raws: bytes) -> tuple[bool, int, int, int]:
    async def occurrences(raw: bytes) -> Any:
        return list_occurrences(raw)

    found = await accounting.verify(record.database, partial(mails, *raws), occurrences)
    return found.balanced, found.filed, found.quarantined, found.duplicates


def entries(record: Record) -> list[tuple[Any, ...]]:
    return record.rows("SELECT patient_id, kind, day FROM agenda_entry ORDER BY kind")


# --- quarantine as daily work -----------------------------------------------------------------


async def test_an_item_shows_its_traits_beside_those_of_the_candidates(record: Record) -> None:
    item = await waiting(record)
    await record.register(OTHER)

    shown = await quarantine(record).quarantine_show({"id": item, "actor": "test"})

    assert shown["claimed"]["birth_date"] == "19790329"
    assert [(each["ins"], each["differs"]) for each in shown["candidates"]] == [
        (PATIENT.ins, ["birth_date"])
    ]
    assert shown["addressees"] == ["dr.test@cabinet.mssante.test"]
    assert (shown["type_code"], shown["code"], shown["answered"]) == ("11502-2", "904", False)
    assert shown["document"]["title"] == "Compte rendu ZZCANARYTITRE"
    assert record.rows("SELECT actor FROM trail_event WHERE kind = 'quarantine_shown'")


@pytest.mark.parametrize(
    ("hours", "late"), [(0, 0), (23, 0), (24, 24), (71, 24), (72, 72), (1000, 72)]
)
async def test_an_item_that_waits_a_day_or_three_is_late(
    record: Record, hours: int, late: int
) -> None:
    await waiting(record)
    record.now += timedelta(hours=hours)

    (row,) = await record.commands.quarantine_list({"actor": "test"})

    assert (row["age_hours"], row["late"]) == (hours, late)


async def test_a_person_files_what_differs_in_its_traits_under_their_name(record: Record) -> None:
    item = await waiting(record, acts=acts(follow_up("20261224")))

    done = await file(record, item)

    assert done == {"decision": "filed", "rows": 1, "answered": False}
    (row,) = await record.records()
    assert row["marks"] == ["filed_by_person"]
    assert len(entries(record)) == 1
    assert record.rows("SELECT state, closed_by, decision, decision_reason FROM quarantine") == [
        ("filed", WHO["actor"], "filed", WHO["reason"])
    ]
    assert record.rows(
        "SELECT actor, json_extract(facts, '$.reason') FROM trail_event"
        " WHERE kind = 'document_filed'"
    ) == [(WHO["actor"], WHO["reason"])]


async def test_filing_is_undone_and_done_again_without_losing_or_doubling(record: Record) -> None:
    raw = message(1, report(1, patients=(replace(PATIENT, ins=None),), acts=acts(follow_up(None))))
    await record.register()
    await record.one(raw)
    (row,) = await record.commands.quarantine_list({"actor": "test"})
    await file(record, row["id"])
    assert await balance(record, raw) == (True, 1, 0, 0)

    undone = await quarantine(record).quarantine_undo({"id": row["id"], **WHO})

    assert undone == {"rows": 1}
    assert await record.records() == []
    assert entries(record) == []
    assert await balance(record, raw) == (True, 0, 1, 0)
    await file(record, row["id"])
    assert await balance(record, raw) == (True, 1, 0, 0)
    assert len(await record.records()) == 1
    assert len(entries(record)) == 1


async def test_an_undone_item_shows_its_traits_again_and_a_filed_one_whose_it_is(
    record: Record,
) -> None:
    item = await waiting(record)
    known = {"id": item, "actor": "test"}
    before = await quarantine(record).quarantine_show(known)
    await file(record, item)

    shown = await quarantine(record).quarantine_show(known)
    decided = await quarantine(record).quarantine_decided(LIST)

    # what it says is read in the record, by who may
    assert (shown["document"], shown["claimed"]) == (None, None)
    assert shown["filed_for"]["family"] == PATIENT.family
    assert [(row["id"], row["decision"]) for row in decided] == [(item, "filed")]
    await quarantine(record).quarantine_undo({"id": item, **WHO})
    again = await quarantine(record).quarantine_show(known)
    same = ("document", "claimed", "candidates", "addressees")
    assert {key: again[key] for key in same} == {key: before[key] for key in same}
    assert again["filed_for"] is None
    assert await quarantine(record).quarantine_decided(LIST) == []


async def test_a_decision_is_listed_for_thirty_days(record: Record) -> None:
    item = await waiting(record)
    await decide(record, item, "set_aside")

    record.now += timedelta(days=30)
    assert len(await quarantine(record).quarantine_decided(LIST)) == 1
    record.now += timedelta(seconds=1)

    assert await quarantine(record).quarantine_decided(LIST) == []


async def test_what_an_undone_filing_had_replaced_is_current_again(record: Record) -> None:
    await filed(record)
    before = entries(record)
    other_traits = replace(PATIENT, birth_date="19790329")
    await record.one(message(2, report(2, replaces=DOCUMENT, patients=(other_traits,))))
    (row,) = await record.commands.quarantine_list({"actor": "test"})
    await file(record, row["id"])
    assert entries(record) == []

    await quarantine(record).quarantine_undo({"id": row["id"], **WHO})

    assert [row["status"] for row in await record.records()] == ["current"]
    assert entries(record) == before


@pytest.mark.parametrize("decision", ["sent_back", "set_aside"])
async def test_what_is_not_filed_closes_with_a_reason_and_opens_again(
    record: Record, decision: str
) -> None:
    raw = message(1, report(1, patients=(replace(PATIENT, birth_date="19790329"),)))
    item = await waiting(record)

    await decide(record, item, decision)

    assert await record.commands.quarantine_list({"actor": "test"}) == []
    assert await balance(record, raw) == (True, 0, 1, 0)
    assert record.rows("SELECT decision, closed_by, decision_reason FROM quarantine") == [
        (decision, WHO["actor"], WHO["reason"])
    ]
    await quarantine(record).quarantine_undo({"id": item, **WHO})
    assert len(await record.commands.quarantine_list({"actor": "test"})) == 1


@pytest.mark.parametrize(
    ("decision", "marks"), [("filed", []), ("set_aside", ["replaces_unknown"])]
)
async def test_what_waited_for_a_document_is_judged_when_a_person_decided_on_it(
    record: Record, decision: str, marks: list[str]
) -> None:
    item = await waiting(record)
    await record.one(message(2, report(2, replaces=DOCUMENT)))

    await decide(record, item, decision, ins=PATIENT.ins, oid=PATIENT.oid)

    assert await record.commands.quarantine_list({"actor": "test"}) == []
    (newer,) = [row for row in await record.records() if row["status"] == "current"]
    assert newer["unique_id"] == "1.2.250.1.213.999.2"
    assert newer["marks"] == sorted(["filed_after_registration", *marks])


@pytest.mark.parametrize(
    ("changes", "spec", "reason"),
    [
        ({}, OTHER, "another_number"),
        ({"patients": (PATIENT, OTHER)}, PATIENT, "not_for_a_person"),
    ],
)
async def test_no_person_files_what_the_rules_leave_to_nobody(
    record: Record, changes: dict[str, Any], spec: PatientSpec, reason: str
) -> None:
    item = await waiting(record, **changes)
    await record.register(OTHER)
    why = "SELECT code, reason, state, item_id FROM quarantine"
    before = record.rows(why)
    events = record.count("trail_event")

    with pytest.raises(RecordStateError) as raised:
        await file(record, item, spec)

    assert raised.value.reason == reason
    assert record.rows(why) == before
    assert record.count("trail_event") == events
    assert record.count("document") == 0
    assert len(await record.commands.quarantine_list({"actor": "test"})) == 1


def submitted(by: str) -> bytes:
    """A report that a mailbox of this site sent, as its server says."""
    raw = message(1, report(1))
    peer = auth_results.encode(AuthResults(AUTHSERV, operator_dn="CN=a", mailfrom=SENDER))
    assert peer in raw
    return raw.replace(peer, auth_results.encode(AuthResults(AUTHSERV, submitter=by)))


@pytest.mark.parametrize(
    ("raw", "reason", "lifted"),
    [
        pytest.param(message(1, report(1), dn=None), "origin_untrusted", True, id="no origin"),
        pytest.param(
            received(mail(package(report(1)), sender="dr@autre.test")),
            "from_not_the_sender",
            True,
            id="another author",
        ),
        pytest.param(
            submitted("dr@hopital.mssante.test"),
            "not_of_structure",
            True,
            id="another structure's",
        ),
        pytest.param(submitted(PATIENT_ADDRESS), "from_a_patient", False, id="a patient's"),
        pytest.param(
            message(1, report(1)).replace(b"multipart/mixed", b"multipart/signed"),
            "signature_bad",
            False,
            id="a bad signature",
        ),
    ],
)
async def test_a_person_vouches_for_a_sender_and_for_no_signature_nor_patient(
    record: Record, raw: bytes, reason: str, *, lifted: bool
) -> None:
    """RULES §4; what is filed on a person's word replaces nothing (RULES §6)."""
    await record.register()
    await record.one(raw)
    (row,) = await record.commands.quarantine_list({"actor": "test"})
    assert row["reason"] == reason

    if lifted:
        await file(record, row["id"])
    else:
        with pytest.raises(RecordStateError):
            await file(record, row["id"])

    assert record.rows("SELECT may_replace FROM document") == ([(0,)] if lifted else [])


@pytest.mark.parametrize(
    "change", [{"status": "validee"}, {"doubtful": True}, {"fictitious": True}]
)
async def test_only_a_qualified_identity_beyond_doubt_takes_a_document(
    record: Record, change: dict[str, Any]
) -> None:
    item = await waiting(record)
    who = {"structure": CABINET.id, "ins": PATIENT.ins, "oid": PATIENT.oid, "actor": "test"}
    await record.commands.patient_change({**who, **change})

    with pytest.raises(RecordStateError) as raised:
        await file(record, item)

    assert raised.value.reason == "not_qualified"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"reason": "  "}, "no_reason"),
        ({"decision": "burnt"}, "no_such_decision"),
        ({"decision": "filed"}, "say_whose"),
        ({"id": 99}, "no_open_row"),
        ({"structure": "ailleurs"}, "no_open_row"),
    ],
)
async def test_a_decision_that_says_too_little_is_refused(
    record: Record, changes: dict[str, Any], reason: str
) -> None:
    item = await waiting(record)

    with pytest.raises(RecordStateError) as raised:
        await quarantine(record).quarantine_decide(
            {"id": item, "decision": "set_aside", **WHO, **changes}
        )

    assert raised.value.reason == reason


async def test_nothing_is_undone_that_nobody_decided(record: Record) -> None:
    item = await waiting(record)

    with pytest.raises(RecordStateError) as raised:
        await quarantine(record).quarantine_undo({"id": item, **WHO})

    assert raised.value.reason == "nothing_to_undo"


# --- withdrawal ---------------------------------------------------------------------------------


def about(**more: Any) -> dict[str, Any]:
    return {"structure": CABINET.id, "document": DOCUMENT, **WHO, **more}


async def filed(record: Record) -> bytes:
    """One document with two entries, opened by its patient."""
    known = await record.register()
    raw = message(
        1,
        report(1, acts=acts(follow_up("20261224"), prescription("20261101", "20261201"))),
        to=(PATIENT_ADDRESS,),
    )
    await record.one(raw)
    read = {"patient_id": known["id"], "document_id": 1, "actor": "account:7"}
    await record.commands.note_access(read)
    await record.commands.note_access({**read, "actor": WHO["actor"]})
    return raw


async def test_a_withdrawn_document_leaves_every_list_and_stays_in_the_history(
    record: Record,
) -> None:
    raw = await filed(record)
    assert len(entries(record)) == 2

    done = await leaving(record).record_withdraw(about())

    assert done == {"documents": 1, "notices": 1}
    assert entries(record) == []
    assert [row["status"] for row in await record.records()] == ["withdrawn"]
    assert await balance(record, raw) == (True, 1, 0, 0)
    assert record.rows("SELECT addressee, kind FROM notice") == [("account:7", "withdrawn")]


async def test_who_took_a_record_along_or_read_its_results_is_told(
    record: Record, tmp_path: Path
) -> None:
    await record.register()
    results = acts(lab_result(quantity("13.1"), "20261101"))
    await record.file(
        message(1, report(1, acts=results), to=(DOCTOR, PATIENT_ADDRESS)), message(2, report(2))
    )

    async def patient(_as: str, person: Mapping[str, Any]) -> Viewer:
        return Viewer(ViewerKind.PATIENT, str(person["id"]))

    about_record = {"structure": CABINET.id, "ins": PATIENT.ins, "oid": PATIENT.oid}
    archives = ArchiveCommands(record.commands, record.path, DirectOpener().number)
    export = about_record | {"path": str(tmp_path / "dossier.zip"), "actor": "cli:archives"}
    await archives.record_export(export)
    trends = TrendCommands(record.commands, patient)
    await trends.record_trends(about_record | {"actor": "cli:trends"})

    await record.register(OTHER)
    await leaving(record).record_refile(about(ins=OTHER.ins, oid=OTHER.oid))
    assert record.rows("SELECT addressee, kind FROM notice ORDER BY addressee") == [
        ("cli:archives", "taken_out"), ("cli:trends", "taken_out"),
    ]  # fmt: skip

    await leaving(record).record_withdraw(about())
    assert record.count("notice") == 2  # nobody of this record had read it


async def test_a_withdrawal_is_undone_with_what_the_document_says(record: Record) -> None:
    await filed(record)
    before = entries(record)
    await leaving(record).record_withdraw(about())

    await leaving(record).record_restore(about())

    assert entries(record) == before
    assert [row["status"] for row in await record.records()] == ["current"]
    with pytest.raises(RecordStateError) as raised:
        await leaving(record).record_restore(about())
    assert raised.value.reason == "not_withdrawn"


async def test_what_the_patient_confirmed_stays_marked(record: Record) -> None:
    await filed(record)
    (entry,) = record.rows("SELECT id, patient_id FROM agenda_entry WHERE kind = 'follow_up'")
    await record.commands.agenda_decide(
        {"entry_id": entry[0], "patient_id": entry[1], "decision": "confirmed", "actor": "x"}
    )

    await leaving(record).record_withdraw(about())

    assert record.rows("SELECT kind, source_superseded FROM agenda_entry") == [("follow_up", 1)]


async def test_a_withdrawn_version_is_not_replaced_any_more(record: Record) -> None:
    await filed(record)
    await leaving(record).record_withdraw(about())

    result = await record.one(message(2, report(2, replaces=DOCUMENT)))

    assert result.code == 900


async def test_a_notice_is_seen_by_the_one_it_is_for(record: Record) -> None:
    await filed(record)
    await leaving(record).record_withdraw(about())
    (told,) = await leaving(record).notice_list({"addressee": "account:7"})

    with pytest.raises(RecordStateError):
        await leaving(record).notice_seen({"id": told["id"], "actor": "account:8"})
    await leaving(record).notice_seen({"id": told["id"], "actor": "account:7"})

    assert [each["seen"] for each in await leaving(record).notice_list({})] == [True]


# --- a wrong filing -----------------------------------------------------------------------------


async def test_a_wrong_filing_moves_to_the_right_patient_whole(record: Record) -> None:
    raw = await filed(record)
    right = (await record.register(OTHER))["id"]

    done = await leaving(record).record_refile(about(ins=OTHER.ins, oid=OTHER.oid))

    assert done == {"documents": 1, "notices": 1}
    assert await record.records() == []
    assert record.rows(
        "SELECT patient_id, identity_id, visibility, marks, status FROM document"
    ) == [(right, right, "awaiting_release", "filed_by_person", "current")]
    assert [row[0] for row in entries(record)] == [right, right]
    assert await balance(record, raw) == (True, 1, 0, 0)


async def test_a_wrong_filing_goes_back_to_quarantine_and_from_there_to_its_patient(
    record: Record,
) -> None:
    raw = await filed(record)
    await record.register(OTHER)

    await leaving(record).record_refile(about())

    (row,) = await record.commands.quarantine_list({"actor": "test"})
    assert (row["reason"], row["type_code"]) == ("taken_out", "11502-2")
    assert entries(record) == []
    assert await balance(record, raw) == (True, 0, 1, 0)
    (keywords,) = record.rows("SELECT keywords, marked_at FROM inbox_item")
    assert keywords == ("$Held $Quarantined", None)
    shown = await quarantine(record).quarantine_show({"id": row["id"], "actor": "test"})
    # in no record now: what it says is shown to who decides, as before it was filed
    assert shown["document"]["title"] == "Compte rendu ZZCANARYTITRE"
    assert [(each["ins"], each["differs"]) for each in shown["candidates"]] == [(PATIENT.ins, [])]
    await file(record, row["id"], OTHER)
    assert await balance(record, raw) == (True, 1, 0, 0)
    assert len(entries(record)) == 2


async def test_a_repetition_of_what_was_taken_out_is_held_from_its_addressee_too(
    record: Record,
) -> None:
    content = report(1)
    await record.register()
    await record.register(OTHER)
    await record.one(message(1, content))
    release = {"structure": CABINET.id, "unique_id": DOCUMENT, **WHO}
    await record.commands.record_release(release)
    repeated = await record.one(message(2, content, to=(DOCTOR, PATIENT_ADDRESS)))
    assert repeated.keywords == {"$Duplicate"}

    await leaving(record).record_refile(about(ins=OTHER.ins, oid=OTHER.oid))
    await record.commands.record_release(release)

    assert record.rows("SELECT keywords, marked_at FROM inbox_item ORDER BY id") == [
        ("$Held $Quarantined", None)
    ] * 2  # fmt: skip


async def test_what_was_taken_out_is_neither_filed_again_nor_replaced_by_itself(
    record: Record,
) -> None:
    await filed(record)
    await leaving(record).record_refile(about())

    again = await record.one(message(3, report(1, acts=acts(follow_up("20261224")))))
    newer = await record.one(message(4, report(4, replaces=DOCUMENT)))

    assert (again.code, newer.code) == (906, 906)
    assert await record.records() == []
    reasons = record.rows("SELECT reason FROM quarantine WHERE state = 'open' ORDER BY id")
    assert [row[0] for row in reasons] == ["taken_out", "taken_out", "parent_in_quarantine"]


async def test_what_comes_again_of_what_was_taken_out_is_settled_once_that_is_filed(
    record: Record,
) -> None:
    raw = await filed(record)
    same = report(1, acts=acts(follow_up("20261224"), prescription("20261101", "20261201")))
    again = message(3, same)
    await leaving(record).record_refile(about())
    await record.one(again)
    items = [row["id"] for row in await record.commands.quarantine_list({"actor": "test"})]

    for item in sorted(items):
        await file(record, item)

    assert await balance(record, raw, again) == (True, 1, 0, 1)
    assert await record.commands.quarantine_list({"actor": "test"}) == []


async def test_what_a_wrong_filing_had_replaced_is_current_again(record: Record) -> None:
    await filed(record)
    before = entries(record)
    await record.one(message(2, report(2, replaces=DOCUMENT)))
    assert entries(record) == []

    await leaving(record).record_refile(about(document="1.2.250.1.213.999.2"))

    assert [row["status"] for row in await record.records()] == ["current"]
    assert entries(record) == before


async def test_a_document_that_comes_back_to_its_record_stands_before_what_it_replaced(
    record: Record,
) -> None:
    await filed(record)
    await record.one(message(2, report(2, replaces=DOCUMENT)))
    newer = about(document="1.2.250.1.213.999.2")

    await leaving(record).record_refile(newer)
    await file(record, (await record.commands.quarantine_list({"actor": "test"}))[0]["id"])

    assert record.rows("SELECT status, superseded_by FROM document ORDER BY id") == [
        ("superseded", 2), ("current", None),
    ]  # fmt: skip
    assert entries(record) == []


async def test_an_old_version_that_moves_is_the_latest_of_its_patient(record: Record) -> None:
    await filed(record)
    await record.one(message(2, report(2, replaces=DOCUMENT)))
    right = (await record.register(OTHER))["id"]

    await leaving(record).record_refile(about(ins=OTHER.ins, oid=OTHER.oid))

    assert record.rows("SELECT patient_id, status, superseded_by FROM document WHERE id = 1") == [
        (right, "current", None)
    ]
    assert len(entries(record)) == 2


async def test_versions_that_move_one_after_the_other_keep_their_order(record: Record) -> None:
    await filed(record)
    await record.one(message(2, report(2, replaces=DOCUMENT)))
    await record.register(OTHER)
    to = {"ins": OTHER.ins, "oid": OTHER.oid}

    await leaving(record).record_refile(about(**to))
    await leaving(record).record_refile(about(**to, document="1.2.250.1.213.999.2"))

    assert [row[0] for row in record.rows("SELECT status FROM document ORDER BY id")] == [
        "superseded", "current",
    ]  # fmt: skip


async def two_packages(record: Record, **second: Any) -> bytes:
    """One message with a document in each of two packages, the first one the patient's."""
    await record.register()
    raw = mail(package(report(1)), package(report(2, **second)), message_id="<two@a.test>")
    whole = received(raw, number=1)
    await record.one(whole)
    return whole


async def test_a_message_that_opens_at_last_waits_place_by_place(record: Record) -> None:
    await record.register()
    loop = report(1, replaces=DOCUMENT)
    both = mail(package(loop), package(report(2)), message_id="<two@a.test>")
    raw = received(both, number=1)
    (item,) = await record.items(raw)
    unopened = FilingBatch(CABINET, Environment.TEST, (replace(item, opened=None),), record.now)
    await record.database.write(file_batch, unopened)
    (row,) = await record.commands.quarantine_list({"actor": "test"})

    await file(record, row["id"])

    assert await balance(record, raw) == (True, 1, 1, 0)
    with pytest.raises(RecordStateError):  # what is left is for no person
        await file(record, row["id"])
    assert await balance(record, raw) == (True, 1, 1, 0)


async def test_what_waits_of_another_package_is_not_closed_with_a_wrong_filing(
    record: Record,
) -> None:
    differs = (replace(PATIENT, birth_date="19790329"),)
    raw = await two_packages(record, patients=differs)
    assert await balance(record, raw) == (True, 1, 1, 0)
    await record.register(OTHER)

    await leaving(record).record_refile(about(ins=OTHER.ins, oid=OTHER.oid))

    (row,) = await record.commands.quarantine_list({"actor": "test"})
    assert row["unique_id"] == "1.2.250.1.213.999.2"
    assert await balance(record, raw) == (True, 1, 1, 0)


async def test_what_was_taken_out_goes_to_its_patient_while_another_package_waits(
    record: Record,
) -> None:
    differs = (replace(PATIENT, birth_date="19790329"),)
    raw = await two_packages(record, patients=differs)
    await record.register(OTHER)
    await leaving(record).record_refile(about())
    rows = await record.commands.quarantine_list({"actor": "test"})
    taken = next(row for row in rows if row["reason"] == "taken_out")

    await file(record, taken["id"], OTHER)

    assert await balance(record, raw) == (True, 1, 1, 0)


async def test_an_item_shows_its_own_document_after_a_package_that_lists_none(
    record: Record,
) -> None:
    await record.register()
    raw = mail(b"PK no archive", package(report(2), report(3)), message_id="<two@a.test>")
    await record.one(received(raw, number=1))
    rows = await record.commands.quarantine_list({"actor": "test"})

    for row in rows:
        shown = await quarantine(record).quarantine_show({"id": row["id"], "actor": "test"})
        title = None if row["unique_id"] == "" else "Compte rendu ZZCANARYTITRE"
        assert (shown["document"] or {}).get("title") == title, row


async def test_a_wrong_filing_does_not_move_to_who_opposes_it(record: Record) -> None:
    raw = await filed(record)
    right = (await record.register(OTHER))["id"]
    life = LifeCommands(record.database, lambda: record.now)
    await life.opposition_set(
        {"patient_id": right, "actor": "x", "scope": "deposit", "opposed": True}
    )

    with pytest.raises(RecordStateError) as raised:
        await leaving(record).record_refile(about(ins=OTHER.ins, oid=OTHER.oid))

    assert raised.value.reason == "opposed"
    assert len(await record.records()) == 1
    assert await balance(record, raw) == (True, 1, 0, 0)


async def test_what_was_moved_to_another_and_comes_again_waits_for_a_person(
    record: Record,
) -> None:
    await filed(record)
    right = (await record.register(OTHER))["id"]
    await leaving(record).record_refile(about(ins=OTHER.ins, oid=OTHER.oid))
    await record.commands.record_release({"structure": CABINET.id, "unique_id": DOCUMENT})
    same = report(1, acts=acts(follow_up("20261224"), prescription("20261101", "20261201")))

    again = await record.one(message(7, same, to=(PATIENT_ADDRESS,)))

    assert "$Held" in again.keywords
    assert again.code == 906
    assert record.rows("SELECT patient_id FROM document") == [(right,)]


async def test_a_restored_document_is_released_by_its_delay(record: Record) -> None:
    await record.register()
    await record.one(message(1, report(1)))
    await leaving(record).record_withdraw(about())
    record.now += timedelta(days=9)
    assert await record.database.write(release_due, record.now) == 0

    await leaving(record).record_restore(about())

    assert await record.database.write(release_due, record.now) == 1


async def test_what_is_in_no_record_is_not_released(record: Record) -> None:
    await record.register()
    await record.one(message(1, report(1)))
    await leaving(record).record_refile(about())

    with pytest.raises(RecordStateError) as raised:
        await record.commands.record_release({"structure": CABINET.id, "unique_id": DOCUMENT})

    assert raised.value.reason == "no_such_document"


async def test_an_undone_filing_is_told_in_the_trail_of_the_record_it_left(
    record: Record,
) -> None:
    item = await waiting(record)
    await file(record, item)

    await quarantine(record).quarantine_undo({"id": item, **WHO})

    (patient_id,) = record.rows("SELECT id FROM patient")[0]
    assert record.rows(
        "SELECT subject, actor FROM trail_event WHERE kind = 'document_taken_out'"
    ) == [(f"patient:{patient_id}", WHO["actor"])]


async def test_its_patient_is_told_who_had_opened_a_document_in_anothers_record(
    record: Record,
) -> None:
    await filed(record)
    wrong = record.rows("SELECT id FROM patient")[0][0]
    read = {"patient_id": wrong, "document_id": 1, "actor": "practitioner:10100000019"}
    await record.commands.note_access(read)
    right = (await record.register(OTHER))["id"]
    queries = RecordQueries(record.database, record.path, lambda: record.now)
    assert [row.kind for row in await queries.accesses(right)] == []

    await leaving(record).record_refile(about(ins=OTHER.ins, oid=OTHER.oid))

    told = {(row.kind, row.actor, row.title) for row in await queries.accesses(right)}
    assert told == {
        ("record_read", "stranger", None), ("record_read", "practitioner:10100000019", None),
    }  # fmt: skip
    await record.commands.record_release({"structure": CABINET.id, "unique_id": DOCUMENT})
    told = {(row.kind, row.actor, row.title) for row in await queries.accesses(right)}
    title = "Compte rendu ZZCANARYTITRE"
    assert ("read_elsewhere", "stranger", title) in told
    assert ("read_elsewhere", "practitioner:10100000019", title) in told
    assert "stranger" not in {row.actor for row in await queries.accesses(wrong)}
