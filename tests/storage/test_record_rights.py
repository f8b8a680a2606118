"""Rights on a real record: given, ended, opened in an emergency, each with its event.

Source: RULES §7, RULES §13, MSS-FACTS §6.4.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from directory.model import Practitioner
from record_bridge import rights_storing
from record_bridge.errors import RecordStateError
from record_bridge.life_commands import LifeCommands
from record_bridge.masking import MaskingCommands
from record_bridge.releasing import release_due
from record_bridge.retention_commands import RetentionCommands
from record_bridge.rights import GrantKind
from record_bridge.rights_commands import RightsCommands
from record_bridge.rights_storing import NewRight
from tests.support.cda import PatientSpec
from tests.support.record import (
    CABINET,
    DOCTOR,
    PATIENT,
    PATIENT_ADDRESS,
    Record,
    later,
    message,
    open_test_record,
    report,
)

PHYSICIAN, NURSE, OCCUPATIONAL = "10000000001", "10000000002", "10000000003"
PEOPLE = {
    PHYSICIAN: Practitioner(PHYSICIAN, "Un", "Anne", "10", "SM26"),
    NURSE: Practitioner(NURSE, "Deux", "Bea", "60"),
    OCCUPATIONAL: Practitioner(OCCUPATIONAL, "Trois", "Cleo", "10", "SM25"),
}
CHILD = PatientSpec(ins="116059999000142", birth_date="20160512", sex="M", given="LEO")
Run = Callable[..., Awaitable[Any]]


async def practitioner(rpps: str) -> Practitioner | None:
    return PEOPLE.get(rpps)


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    async with open_test_record(tmp_path) as opened:
        await opened.register()
        await opened.register(CHILD)
        yield opened


@pytest.fixture
def run(record: Record) -> Run:
    table = (
        RightsCommands(record.commands, practitioner).table()
        | RetentionCommands(record.commands).table()
        | MaskingCommands(record.commands).table()
        | LifeCommands(record.database, lambda: record.now).table()
    )

    async def call(command: str, /, **arguments: Any) -> Any:
        if not {"patient_id", "ins"} & arguments.keys():
            arguments |= {"ins": PATIENT.ins}
        return await table[command]({"structure": CABINET.id, "actor": "cli:test"} | arguments)

    return call


async def rule(run: Run, who: str, document: str | None = None, **more: Any) -> tuple[bool, str]:
    told = await run("access_check", who=who, document=document, **more)
    return told["shown"], told["rule"]


async def test_a_right_is_given_and_ended_and_both_are_in_the_trail(
    record: Record, run: Run
) -> None:
    assert await rule(run, PHYSICIAN) == (False, "outside_care_team")

    given = await run("right_give", kind="care_team", holder=PHYSICIAN)
    assert await rule(run, PHYSICIAN) == (True, "care_team")
    await run("right_end", id=given["id"])

    assert await rule(run, PHYSICIAN) == (False, "outside_care_team")
    events = record.rows("SELECT kind, actor, subject FROM trail_event WHERE kind LIKE 'right%'")
    assert events == [
        ("right_given", "cli:test", "patient:1"),
        ("right_ended", "cli:test", "patient:1"),
    ]


async def test_a_block_closes_what_was_open_and_lifting_it_opens_it_again(run: Run) -> None:
    await run("right_give", kind="care_team", holder=PHYSICIAN)
    await run("right_give", kind="block", holder=PHYSICIAN)
    assert await rule(run, PHYSICIAN) == (False, "blocked")

    await run("right_end", kind="block", holder=PHYSICIAN)

    assert await rule(run, PHYSICIAN) == (True, "care_team")


async def test_consent_is_for_a_day_unless_an_end_was_said(record: Record, run: Run) -> None:
    await run("right_give", kind="consent", holder=OCCUPATIONAL)
    assert await rule(run, OCCUPATIONAL) == (True, "consent")

    record.now = later(1)

    assert await rule(run, OCCUPATIONAL) == (False, "occupational_physician")


async def test_an_emergency_needs_a_reason_lasts_four_hours_and_is_in_the_trail(
    record: Record, run: Run
) -> None:
    with pytest.raises(RecordStateError, match="no_reason"):
        await run("emergency_open", kind="break_glass", holder=PHYSICIAN, reason=" ")

    await run("emergency_open", kind="break_glass", holder=PHYSICIAN, reason="Coma, aux urgences")
    assert await rule(run, PHYSICIAN) == (True, "break_glass")
    record.now = later(4 / 24 - 0.0001)
    assert await rule(run, PHYSICIAN) == (True, "break_glass")
    record.now = later(4 / 24)

    assert await rule(run, PHYSICIAN) == (False, "outside_care_team")
    [[facts]] = record.rows("SELECT facts FROM trail_event WHERE kind = 'emergency_opened'")
    assert "Coma, aux urgences" in facts


@pytest.mark.parametrize(
    ("kind", "holder", "refused"),
    [
        ("break_glass", PHYSICIAN, "break_glass"),
        ("samu", PHYSICIAN, "samu"),
        ("break_glass", PHYSICIAN, "opening"),
        ("samu", NURSE, None),
        ("break_glass", OCCUPATIONAL, None),
    ],
)
async def test_an_emergency_that_is_refused_opens_nothing(
    record: Record, run: Run, kind: str, holder: str, refused: str | None
) -> None:
    if refused is not None:
        await run("opposition_set", patient_id=1, scope=refused, opposed=True)

    with pytest.raises(RecordStateError, match="emergency_refused"):
        await run("emergency_open", kind=kind, holder=holder, reason="Urgence")

    assert record.count("access_right") == 0


async def test_refusing_emergencies_ends_the_one_that_is_open(run: Run) -> None:
    await run("emergency_open", kind="break_glass", holder=PHYSICIAN, reason="Urgence")

    await run("opposition_set", patient_id=1, scope="break_glass", opposed=True)

    assert await rule(run, PHYSICIAN) == (False, "outside_care_team")


async def test_an_emergency_is_never_given_like_another_right(run: Run) -> None:
    with pytest.raises(RecordStateError, match="no_such_kind"):
        await run("right_give", kind="break_glass", holder=PHYSICIAN, reason="x")


async def test_a_parent_represents_a_child_until_majority(record: Record, run: Run) -> None:
    parent = f"representative:{PATIENT.ins}"
    await run("right_give", ins=CHILD.ins, kind="representative", holder_ins=PATIENT.ins)
    assert await rule(run, parent, ins=CHILD.ins) == (True, "representative")

    record.now = record.now.replace(year=2034, month=5, day=11)
    assert await rule(run, parent, ins=CHILD.ins) == (True, "representative")
    record.now = record.now.replace(day=12)

    assert await rule(run, parent, ins=CHILD.ins) == (False, "majority")
    with pytest.raises(RecordStateError, match="of_age"):
        await run("right_give", ins=CHILD.ins, kind="representative", holder_ins=PATIENT.ins)


async def test_a_person_is_no_relative_of_themselves_or_of_strangers(run: Run) -> None:
    with pytest.raises(RecordStateError, match="no_such_person"):
        await run("right_give", kind="delegate", holder_ins=PATIENT.ins)
    with pytest.raises(RecordStateError, match="no_such_patient"):
        await run("right_give", kind="delegate", holder_ins="199999999999999")


@pytest.mark.parametrize(
    ("until", "reason"),
    [("2026-11-01", "no_such_end"), ("2028-11-03", "no_such_end"), ("demain", "no_such_end")],
)
async def test_a_delegation_ends_within_a_year(run: Run, until: str, reason: str) -> None:
    with pytest.raises(RecordStateError, match=reason):
        await run("right_give", kind="delegate", holder_ins=CHILD.ins, until=until)


async def test_a_delegation_is_taken_up_once_by_its_code(record: Record, run: Run) -> None:
    offered = await run("delegation_offer", name="Ma sœur", parts=["agenda"])
    code = offered["code"]
    assert code not in str(record.rows("SELECT * FROM access_right"))
    with pytest.raises(RecordStateError, match="no_such_code"):
        await run("delegation_take", code=code, holder=1)
    with pytest.raises(RecordStateError, match="no_such_code"):
        await run("delegation_take", code="0" * 30, holder=2)

    taken = await run("delegation_take", code=f" {code[:10]} {code[10:]}", holder=2)

    assert taken == {"patient_id": 1}
    assert await rule(run, f"delegate:{CHILD.ins}") == (False, "out_of_scope")
    with pytest.raises(RecordStateError, match="no_such_code"):
        await run("delegation_take", code=code, holder=2)


async def test_an_offer_waits_for_a_week(record: Record, run: Run) -> None:
    code = (await run("delegation_offer", name="Ma sœur"))["code"]

    record.now = later(7)

    with pytest.raises(RecordStateError, match="no_such_code"):
        await run("delegation_take", code=code, holder=2)


async def test_rights_that_are_over_and_offers_too_old_leave_room(
    record: Record, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rights_storing, "MAX_RIGHTS", 2)
    offered = NewRight(1, "account:1", record.now, GrantKind.DELEGATE, "", later(90), code=b"a")
    over = NewRight(1, "account:1", record.now, GrantKind.CONSENT, "10000000009", later(1))
    for right in (offered, over):
        await record.database.write(rights_storing.give, right)
    with pytest.raises(RecordStateError, match="too_many"):
        await record.grant(1, "care_team", "10000000001")

    record.now = later(1)
    await record.grant(1, "care_team", "10000000001")
    record.now = later(8)
    await record.grant(1, "care_team", "10000000002")
    with pytest.raises(RecordStateError, match="too_many"):
        await record.grant(1, "care_team", "10000000003")


async def test_a_closed_record_is_its_patient_s_alone(run: Run) -> None:
    await run("right_give", kind="care_team", holder=PHYSICIAN)
    await run("record_close", reason="demande")

    assert await rule(run, PHYSICIAN) == (False, "closed_record")
    assert await rule(run, "patient") == (True, "own_record")
    await run("record_open_again", reason="demande")
    assert await rule(run, PHYSICIAN) == (True, "care_team")


async def test_a_list_as_somebody_holds_what_they_see_and_no_more(
    record: Record, run: Run
) -> None:
    await record.one(message(1, report(1), to=(DOCTOR, PATIENT_ADDRESS)))
    await record.one(message(2, report(2)))
    await run("right_give", kind="care_team", holder=PHYSICIAN)
    await run("record_mask", document="1.2.250.1.213.999.1", mask="masked_ps")

    seen = {
        who: [row["unique_id"][-1] for row in await run("access_list", **{"as": who})]
        for who in (PHYSICIAN, NURSE, "patient")
    }

    assert seen == {PHYSICIAN: ["2"], NURSE: [], "patient": ["1"]}
    assert await rule(run, PHYSICIAN, "1.2.250.1.213.999.1") == (False, "masked")


async def test_a_mask_set_here_is_not_lifted_by_the_sender_s_next_version(
    record: Record, run: Run
) -> None:
    first, second = "1.2.250.1.213.999.1", "1.2.250.1.213.999.2"
    both = (DOCTOR, PATIENT_ADDRESS)
    await record.one(message(1, report(1), to=both))
    await run("record_mask", document=first, mask="masked_ps")

    await record.one(message(2, report(2, replaces=first), to=both))

    assert (await run("record_show", document=second))["visibility"] == ["masked_ps"]
    await run("record_unmask", document=second, mask="masked_ps")
    assert (await run("record_show", document=second))["visibility"] == ["visible"]
    kinds = [row[0] for row in record.rows("SELECT kind FROM trail_event ORDER BY event_id")]
    assert kinds.count("document_masked") == 1
    assert kinds.count("document_unmasked") == 1


async def test_a_mask_set_here_is_on_the_versions_before_too(record: Record, run: Run) -> None:
    first, second = "1.2.250.1.213.999.1", "1.2.250.1.213.999.2"
    both = (DOCTOR, PATIENT_ADDRESS)
    await run("right_give", kind="care_team", holder=PHYSICIAN)
    await record.one(message(1, report(1), to=both))
    await record.one(message(2, report(2, replaces=first), to=both))

    await run("record_mask", document=second, mask="masked_ps")

    assert await rule(run, PHYSICIAN, first) == (False, "masked")
    await run("record_unmask", document=first, mask="masked_ps")
    assert await rule(run, PHYSICIAN, second) == (True, "care_team")


async def test_lifting_a_mask_leaves_what_the_sender_masked_in_another_version(
    record: Record, run: Run
) -> None:
    first, second = "1.2.250.1.213.999.1", "1.2.250.1.213.999.2"
    both = (DOCTOR, PATIENT_ADDRESS)
    await record.one(message(1, report(1, confidentiality="MASQUE_PS"), to=both))
    await record.one(message(2, report(2, replaces=first), to=both))

    await run("record_mask", document=second, mask="masked_ps")
    await run("record_unmask", document=second, mask="masked_ps")

    assert (await run("record_show", document=first))["visibility"] == ["masked_ps"]


async def test_a_mask_reaches_a_version_that_was_not_known_to_be_one(
    record: Record, run: Run
) -> None:
    first, second, third = (f"1.2.250.1.213.999.{number}" for number in (1, 2, 3))
    both = (DOCTOR, PATIENT_ADDRESS)
    await record.one(message(1, report(1), to=both))
    await run("record_mask", document=first, mask="masked_ps")
    await record.one(message(2, report(3, replaces=second), to=both))

    await record.one(message(3, report(2, replaces=first), to=both))

    shown = [(await run("record_show", document=each))["visibility"] for each in (second, third)]
    assert shown == [["masked_ps"]] * 2


async def test_a_version_that_inherits_a_mask_is_released_by_the_delay_once_it_is_lifted(
    record: Record, run: Run
) -> None:
    first, second = "1.2.250.1.213.999.1", "1.2.250.1.213.999.2"
    await record.one(message(1, report(1), to=(DOCTOR, PATIENT_ADDRESS)))
    await run("record_mask", document=first, mask="masked_ps")
    await record.one(message(2, report(2, replaces=first)))
    record.now += timedelta(days=9)
    assert await record.database.write(release_due, record.now) == 0

    await run("record_unmask", document=first, mask="masked_ps")

    assert await record.database.write(release_due, record.now) == 1
    assert (await run("record_show", document=second))["visibility"] == ["visible"]


async def test_a_masked_document_is_released_by_no_delay_before_its_mask_is_lifted(
    record: Record, run: Run
) -> None:
    one = {"document": "1.2.250.1.213.999.1", "mask": "invisible_representatives"}
    await record.one(message(1, report(1)))
    assert (await run("record_show", **one))["release_at"] is not None

    await run("record_mask", **one)
    record.now += timedelta(days=9)

    assert (await run("record_show", **one))["release_at"] is None
    assert await record.database.write(release_due, record.now) == 0
    await run("record_unmask", **one)
    assert await record.database.write(release_due, record.now) == 1
    assert record.rows("SELECT visibility FROM document") == [("visible",)]


@pytest.mark.parametrize(
    ("actor", "ends"),
    [
        ("representative:1", "2026-11-19T23:00:00+00:00"),
        ("account:2", "2027-11-03T10:00:00+00:00"),
    ],
)
async def test_what_a_parent_offers_a_relative_ends_when_the_child_is_of_age(
    record: Record, run: Run, actor: str, ends: str
) -> None:
    child = {"ins": CHILD.ins}
    await record.commands.patient_change(
        {"structure": CABINET.id, "ins": CHILD.ins, "oid": CHILD.oid, "birth_date": "20081120"}
    )

    await run("delegation_offer", name="Sa tante", actor=actor, **child)

    (told,) = await run("access_list", **child)
    assert told["until"] == ends


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("right_give", {"kind": "care_team", "holder": "1"}, "no_such_professional"),
        ("right_give", {"kind": "care_team", "holder": "19999999999"}, "no_such_professional"),
        ("right_give", {"kind": "attending", "holder": NURSE}, "no_physician"),
        ("right_give", {"kind": "friend", "holder": PHYSICIAN}, "no_such_kind"),
        ("right_end", {"id": 9}, "no_such_right"),
        ("record_mask", {"document": "1.2", "mask": "masked_ps"}, "no_such_document"),
        ("access_check", {"who": "somebody"}, "no_such_professional"),
        ("access_check", {"who": "patient", "document": "1.2"}, "no_such_document"),
        ("delegation_offer", {"name": ""}, "no_name"),
        ("delegation_offer", {"name": "x", "parts": []}, "no_part"),
    ],
)
async def test_what_cannot_be_is_refused(
    run: Run, name: str, arguments: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RecordStateError, match=reason):
        await run(name, **arguments)


async def test_a_block_is_of_anybody_also_of_one_whom_the_annuaire_does_not_know(run: Run) -> None:
    await run("right_give", kind="block", holder="19999999999")
