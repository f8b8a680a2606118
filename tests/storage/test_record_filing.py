"""The filing transaction on a real database: what becomes of a message, and of all its rows."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from record_bridge.filing import ItemOutcome
from record_bridge.formats import auth_results
from record_bridge.formats.auth_results import AuthResults
from record_bridge.model import ErrorCode, Visibility
from tests.support.cda import OID_TEST, PatientSpec, acts, follow_up, vaccination
from tests.support.record import (
    AT,
    AUTHSERV,
    CABINET,
    DOCTOR,
    HOSPITAL,
    PATIENT_ADDRESS,
    SENDER,
    Record,
    digest,
    later,
    message,
    open_test_record,
    received,
    report,
)
from tests.support.xdm import mail, package


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    async with open_test_record(tmp_path) as opened:
        yield opened


async def test_a_report_of_a_known_patient_is_filed_with_its_content(record: Record) -> None:
    await record.register()
    content = report(1, acts=acts(follow_up("20270101")))

    result = await record.one(message(1, content))

    assert (result.outcome, result.code) == (ItemOutcome.FILED, None)
    assert frozenset({"$Filed"}) == result.keywords
    listed = await record.records()
    assert [digest(content)] == [row["sha256"] for row in listed]
    assert (listed[0]["status"], listed[0]["visibility"]) == ("current", "awaiting_release")
    assert [(content,)] == record.rows("SELECT data FROM document_chunk")
    assert record.rows("SELECT status, day FROM agenda_entry") == [("proposed", "2027-01-01")]


async def test_a_report_of_nobody_known_waits_with_code_902(record: Record) -> None:
    result = await record.one(message(1, report(1)))

    assert (result.outcome, result.code) == (ItemOutcome.QUARANTINED, ErrorCode.UNKNOWN_PATIENT)
    assert frozenset({"$Quarantined"}) == result.keywords
    rows = await record.commands.quarantine_list({"actor": "test"})
    assert [(row["code"], row["reason"], row["unique_id"], row["structure"]) for row in rows] == [
        ("902", "patient_unknown", "1.2.250.1.213.999.1", "cabinet")
    ]
    assert record.count("document") == 0


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        pytest.param(PatientSpec(ins=None), ErrorCode.NO_INS, id="no INS"),
        pytest.param(PatientSpec(birth_date="197903"), ErrorCode.INS_INCOMPLETE, id="partial"),
        pytest.param(PatientSpec(family="ZZAUTRE"), ErrorCode.TRAITS_DIFFER, id="other name"),
        pytest.param(PatientSpec(birth_place="99991"), ErrorCode.TRAITS_DIFFER, id="other place"),
    ],
)
async def test_an_identity_that_does_not_agree_waits_with_its_code(
    record: Record, spec: PatientSpec, code: ErrorCode
) -> None:
    await record.register()

    result = await record.one(message(1, report(1, patients=(spec,))))

    assert code == result.code
    assert record.count("document") == 0


@pytest.mark.parametrize("status", ["provisoire", "recuperee", "validee"])
async def test_only_a_qualified_identity_takes_documents(record: Record, status: str) -> None:
    await record.register(status=status)

    assert (await record.one(message(1, report(1)))).code == ErrorCode.UNKNOWN_PATIENT


async def test_the_same_document_fifty_times_is_one_document(record: Record) -> None:
    await record.register()
    content = report(1)

    results = []
    for start in range(0, 50, 25):
        results += await record.file(
            *(message(number, content) for number in range(start + 1, start + 26))
        )

    assert [r.outcome for r in results] == [ItemOutcome.FILED] + [ItemOutcome.DUPLICATE] * 49
    assert (record.count("document"), record.count("duplicate")) == (1, 49)


async def test_the_same_id_with_other_bytes_is_refused_and_the_first_unchanged(
    record: Record,
) -> None:
    await record.register()
    first = report(1)
    await record.one(message(1, first))

    result = await record.one(message(2, report(1, narrative="ZZCANARY autre")))

    assert result.code == ErrorCode.OTHER
    assert result.alarms == ("document_conflict",)
    assert record.count("trail_event WHERE kind = 'document_conflict'") == 1
    assert [(first,)] == record.rows("SELECT data FROM document_chunk")


async def test_the_same_message_under_another_uid_is_counted_once(record: Record) -> None:
    await record.register()
    raw = message(1, report(1))
    await record.one(raw)

    result = await record.one(raw)

    assert (ItemOutcome.REPEATED, frozenset({"$Filed"})) == (result.outcome, result.keywords)
    assert (record.count("document"), record.count("duplicate")) == (1, 0)


async def test_a_package_is_filed_whole_or_not_at_all(record: Record) -> None:
    await record.register()
    bad = report(2, patients=(PatientSpec(family="ZZAUTRE"),))

    result = await record.one(message(1, report(1), bad, report(3)))

    assert result.code == ErrorCode.TRAITS_DIFFER
    assert (record.count("document"), record.count("quarantine")) == (0, 3)
    assert record.rows("SELECT reason FROM quarantine ORDER BY position") == [
        ("other_document_bad",),
        ("traits_differ",),
        ("other_document_bad",),
    ]
    assert record.count("archive WHERE kind = 'package'") == 0


async def test_documents_of_two_patients_in_one_message_all_wait(record: Record) -> None:
    await record.register()
    other = PatientSpec(ins="179039999000167", sex="M")
    await record.register(other)
    raw = mail(package(report(1)), package(report(2, patients=(other,))))

    result = await record.one(received(raw))

    assert result.code == ErrorCode.OTHER
    assert (record.count("document"), record.count("quarantine")) == (0, 2)


async def test_mail_without_a_package_is_other(record: Record) -> None:
    result = await record.one(received(mail()))

    assert (ItemOutcome.OTHER, frozenset({"$NoDocument"})) == (result.outcome, result.keywords)


async def test_without_a_trusted_header_nothing_is_filed(record: Record) -> None:
    await record.register()

    result = await record.one(message(1, report(1), dn=None))

    assert result.code == ErrorCode.OTHER
    assert record.rows("SELECT reason FROM quarantine") == [("origin_untrusted",)]


async def test_what_a_patient_sends_is_never_filed(record: Record) -> None:
    """RULES §4: a patient's mailbox files nothing, not even about themselves."""
    await record.register()
    by_an_operator, by_the_patient = (
        auth_results.encode(results)
        for results in (
            AuthResults(AUTHSERV, operator_dn="CN=a", mailfrom=SENDER),
            AuthResults(AUTHSERV, submitter=PATIENT_ADDRESS),
        )
    )
    raw = message(1, report(1))
    assert by_an_operator in raw

    result = await record.one(raw.replace(by_an_operator, by_the_patient))

    assert (result.outcome, result.code) == (ItemOutcome.QUARANTINED, ErrorCode.OTHER)
    assert record.rows("SELECT reason FROM quarantine") == [("from_a_patient",)]
    assert record.count("document") == 0


async def test_a_patient_of_another_structure_is_unknown_here(record: Record) -> None:
    await record.register(structure=HOSPITAL.id)

    assert (await record.one(message(1, report(1)))).code == ErrorCode.UNKNOWN_PATIENT


# --- patients' own mailboxes -----------------------------------------------------------------


async def test_a_report_sent_to_the_patient_too_is_visible_at_once(record: Record) -> None:
    await record.register()

    result = await record.one(message(1, report(1), to=(DOCTOR, PATIENT_ADDRESS)))

    assert frozenset({"$Filed"}) == result.keywords
    assert (await record.records())[0]["visibility"] == "visible"


async def test_a_report_to_another_patients_mailbox_waits_held(record: Record) -> None:
    await record.register()
    other = f"179039999000167@{CABINET.patient_domain}"

    result = await record.one(message(1, report(1), to=(DOCTOR, other)))

    assert result.code == ErrorCode.OTHER
    assert frozenset({"$Quarantined", "$Held"}) == result.keywords
    assert record.rows("SELECT reason FROM quarantine") == [("patient_mailbox_differs",)]


async def test_a_repeat_to_the_patient_of_a_document_not_released_stays_held(
    record: Record,
) -> None:
    await record.register()
    content = report(1)
    await record.one(message(1, content))

    result = await record.one(message(2, content, to=(PATIENT_ADDRESS,)))

    assert frozenset({"$Duplicate", "$Held"}) == result.keywords
    await record.commands.record_release(
        {"structure": CABINET.id, "unique_id": "1.2.250.1.213.999.1", "actor": "test"}
    )
    assert record.rows("SELECT keywords FROM inbox_item ORDER BY keywords") == [
        ("$Duplicate",),
        ("$Filed",),
    ]
    assert Visibility.VISIBLE.value == (await record.records())[0]["visibility"]


async def test_a_document_is_released_by_the_delay_and_not_before(record: Record) -> None:
    from record_bridge.releasing import release_due

    await record.register()
    await record.one(message(1, report(1)))
    await record.one(message(2, report(2, code="51969-4")))

    assert await record.database.write(release_due, later(7.99)) == 0
    assert await record.database.write(release_due, later(8)) == 1
    assert await record.database.write(release_due, later(400)) == 0
    assert [r["visibility"] for r in await record.records()] == ["visible", "awaiting_release"]


# --- versions --------------------------------------------------------------------------------


async def test_a_new_version_supersedes_and_takes_the_undecided_agenda_away(
    record: Record,
) -> None:
    patient = await record.register()
    await record.one(
        message(1, report(1, acts=acts(follow_up("20270101"), vaccination("20261001"))))
    )
    confirmed = record.rows("SELECT id FROM agenda_entry WHERE kind = 'follow_up'")[0][0]
    await record.commands.agenda_decide(
        {"patient_id": patient["id"], "entry_id": confirmed, "decision": "confirmed"}
    )

    await record.one(
        message(2, report(2, replaces="1.2.250.1.213.999.1", acts=acts(follow_up("20270201"))))
    )

    assert [row["status"] for row in await record.records()] == ["superseded", "current"]
    assert record.rows("SELECT status, day, source_superseded FROM agenda_entry ORDER BY id") == [
        ("confirmed", "2027-01-01", 1),
        ("proposed", "2027-02-01", 0),
    ]


async def test_two_versions_in_one_package_are_filed_in_their_order(record: Record) -> None:
    await record.register()

    await record.one(message(1, report(1), report(2, replaces="1.2.250.1.213.999.1")))

    assert [row["status"] for row in await record.records()] == ["superseded", "current"]


async def test_an_older_version_that_comes_later_is_never_current(record: Record) -> None:
    await record.register()
    await record.one(message(1, report(2, replaces="1.2.250.1.213.999.1")))

    await record.one(message(2, report(1, acts=acts(follow_up("20270101")))))

    listed = {row["unique_id"][-1]: row for row in await record.records()}
    assert (listed["2"]["status"], listed["1"]["status"]) == ("current", "superseded")
    assert "replaces_unknown" in listed["2"]["marks"]
    assert record.count("agenda_entry") == 0


async def test_a_version_that_comes_last_still_takes_the_place_of_the_one_before_it(
    record: Record,
) -> None:
    first, second = "1.2.250.1.213.999.1", "1.2.250.1.213.999.2"
    await record.register()
    await record.one(message(1, report(1, acts=acts(follow_up("20270101")))))
    await record.one(message(2, report(3, replaces=second, acts=acts(follow_up("20270301")))))

    await record.one(message(3, report(2, replaces=first)))

    assert record.rows(
        "SELECT substr(unique_id, -1), status, superseded_by FROM document ORDER BY unique_id"
    ) == [("1", "superseded", 3), ("2", "superseded", 2), ("3", "current", None)]
    assert record.rows("SELECT day FROM agenda_entry") == [("2027-03-01",)]


async def test_replacing_an_old_version_is_refused_with_900(record: Record) -> None:
    await record.register()
    await record.one(message(1, report(1)))
    await record.one(message(2, report(2, replaces="1.2.250.1.213.999.1")))

    result = await record.one(message(3, report(3, replaces="1.2.250.1.213.999.1")))

    assert result.code == ErrorCode.WRONG_VERSION


async def test_replacing_by_another_sender_is_refused_with_901(record: Record) -> None:
    await record.register()
    await record.one(message(1, report(1)))

    result = await record.one(
        message(2, report(2, replaces="1.2.250.1.213.999.1"), sender="x@autre.test")
    )

    assert result.code == ErrorCode.AUTHOR_NOT_ALLOWED


# --- answers ---------------------------------------------------------------------------------


async def test_an_answer_is_due_to_each_recipient_once(record: Record) -> None:
    await record.register()
    raw = message(1, report(1), to=(DOCTOR, PATIENT_ADDRESS), notify_to=SENDER)

    result = await record.one(raw)
    await record.one(raw)

    assert result.answers == 2
    rows = record.rows("SELECT final_recipient, send_to, code, message_id FROM reply_outbox")
    assert {(DOCTOR, SENDER, ""), (PATIENT_ADDRESS, SENDER, "")} == {row[:3] for row in rows}
    assert len({row[3] for row in rows}) == 2
    assert not any("2790" in row[3] for row in rows)


@pytest.mark.parametrize("asked", [None, "autre@operateur-a.test"])
async def test_no_answer_unless_the_sender_itself_asked(record: Record, asked: str | None) -> None:
    result = await record.one(message(1, report(1), notify_to=asked))

    assert result.answers == 0
    assert record.count("reply_outbox") == 0


async def test_a_sender_that_guesses_identities_is_told_906_after_twenty(record: Record) -> None:
    results = []
    for number in range(1, 23):
        spec = PatientSpec(ins=f"2790399990{number:05}")
        results.append(
            await record.one(message(number, report(number, patients=(spec,)), notify_to=SENDER))
        )

    codes = [row[0] for row in record.rows("SELECT code FROM reply_outbox ORDER BY id")]
    assert codes == ["902"] * 20 + ["906"] * 2
    assert [result.alarms for result in results] == [()] * 20 + [("identity_probing",)] * 2
    assert {("902",)} == set(record.rows("SELECT code FROM quarantine"))
    assert record.count("trail_event WHERE kind = 'identity_probing'") == 2


# --- judging again ---------------------------------------------------------------------------


async def test_what_waited_is_filed_when_the_patient_is_registered(record: Record) -> None:
    await record.one(message(1, report(1), to=(DOCTOR, PATIENT_ADDRESS), notify_to=SENDER))
    await record.one(message(2, report(2)))

    registered = await record.register()

    assert registered["filed"] == 2
    listed = await record.records()
    assert [row["status"] for row in listed] == ["current", "current"]
    assert all("filed_after_registration" in row["marks"] for row in listed)
    assert await record.commands.quarantine_list({"actor": "test"}) == []
    assert record.rows("SELECT keywords FROM inbox_item") == [("$Filed",), ("$Filed",)]
    assert record.count("archive WHERE kind = 'message'") == 0
    assert record.count("reply_outbox") == 2


async def test_what_waited_for_a_correction_is_filed_after_it(record: Record) -> None:
    await record.register(birth_date="19800101")
    await record.one(message(1, report(1)))

    changed = await record.commands.patient_change(
        {
            "structure": CABINET.id,
            "ins": PatientSpec().ins,
            "oid": OID_TEST,
            "birth_date": "1979-03-28",
            "actor": "test",
        }
    )

    assert changed["filed"] == 1


async def test_what_still_differs_waits_on_with_its_new_code(record: Record) -> None:
    await record.one(message(1, report(1)))

    registered = await record.register(family="ZZAUTRE")

    assert registered["filed"] == 0
    assert record.rows("SELECT code, state FROM quarantine") == [("904", "open")]


async def test_what_is_judged_again_is_no_probing_of_its_sender_s(record: Record) -> None:
    await record.register(birth_date="19800101")
    for number in range(1, 26):
        record.now = AT + timedelta(hours=2 * (number > 13))
        await record.one(message(number, report(number)))
    record.now = AT + timedelta(hours=4)

    await record.commands.patient_change(
        {"structure": CABINET.id, "ins": PatientSpec().ins, "oid": OID_TEST,
         "birth_date": "1981-01-01", "actor": "test"}
    )  # fmt: skip
    result = await record.one(message(26, report(26), notify_to=SENDER))

    assert record.count("quarantine WHERE state = 'open' AND code = '904'") == 26
    assert record.rows("SELECT code FROM reply_outbox") == [("904",)]
    assert result.alarms == ()
    assert record.count("trail_event WHERE kind = 'identity_probing'") == 0


async def test_a_version_waits_for_its_parent_and_leaves_quarantine_with_it(
    record: Record,
) -> None:
    old = PatientSpec(family="ZZCANARY-AVANT")
    await record.one(message(1, report(1, patients=(old,))))
    await record.register()

    waiting = await record.one(message(2, report(2, replaces="1.2.250.1.213.999.1")))
    changed = await record.commands.patient_change(
        {
            "structure": CABINET.id,
            "ins": old.ins,
            "oid": OID_TEST,
            "family": "ZZCANARY-AVANT",
            "actor": "test",
        }
    )

    assert waiting.code == ErrorCode.OTHER
    assert changed["filed"] == 1
    assert record.rows("SELECT code FROM quarantine WHERE state = 'open'") == [("904",)]


async def test_a_doubtful_identity_takes_nothing_until_the_doubt_is_lifted(
    record: Record,
) -> None:
    await record.register()
    who = {"structure": CABINET.id, "ins": PatientSpec().ins, "oid": OID_TEST, "actor": "test"}
    await record.commands.patient_change(who | {"doubtful": True})
    assert (await record.one(message(1, report(1)))).code == ErrorCode.OTHER

    assert (await record.commands.patient_change(who | {"doubtful": False}))["filed"] == 1
