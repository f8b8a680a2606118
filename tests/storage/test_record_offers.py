"""What a person files by hand: under their name, counted apart, seen when released, withdrawn.

Source: RULES §2, RULES §4, RULES §5, RULES §7.
"""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from directory.model import Practitioner
from mailserver.webmail.narrative import read_document
from record_bridge import accounting
from record_bridge.errors import RecordStateError
from record_bridge.formats.cda_header import parse_cda
from record_bridge.life_commands import LifeCommands
from record_bridge.offer_commands import OfferCommands
from record_bridge.opening import list_occurrences
from record_bridge.releasing import release_due
from record_bridge.withdrawal_commands import WithdrawalCommands
from tests.support.cda import OID_TEST, PDF, PatientSpec
from tests.support.hprim import letter
from tests.support.record import (
    CABINET,
    HOSPITAL,
    PATIENT,
    Record,
    later,
    mails,
    message,
    open_test_record,
    report,
)  # fmt: skip

RPPS = "801234567897"
DOCTOR = Practitioner(RPPS, "MARTIN", "Claire", "10", "SM26")
PLAIN = b"From: labo@chu.test\r\nSubject: resultats\r\n\r\nBonjour\r\n"


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    async with open_test_record(tmp_path) as opened:
        yield opened


async def practitioner(rpps: str) -> Practitioner | None:
    return DOCTOR if rpps == RPPS else None


def told(raw: bytes, **more: Any) -> dict[str, Any]:
    content = base64.b64encode(raw).decode()
    return {"structure": CABINET.id, "actor": f"practitioner:{RPPS}", "content": content} | more


async def suggest(record: Record, raw: bytes, **more: Any) -> dict[str, Any]:
    return await OfferCommands(record.commands, practitioner).offer_suggest(told(raw, **more))


async def file(record: Record, raw: bytes = PDF, **more: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "rpps": RPPS, "ins": PATIENT.ins, "oid": OID_TEST, "type_code": "11502-2",
        "title": "Bilan ZZCANARYTITRE", "receipt": "r-1", "sender": "labo@chu.test",
    }  # fmt: skip
    commands = OfferCommands(record.commands, practitioner)
    return await commands.offer_file(told(raw, **(values | more)))


def content(record: Record) -> bytes:
    rows = record.rows("SELECT data FROM document_chunk ORDER BY document_id, position")
    return b"".join(row[0] for row in rows)


async def audited(record: Record, *raws: bytes) -> accounting.AuditReport:
    async def listed(raw: bytes) -> Any:
        return list_occurrences(raw)

    return await accounting.verify(record.database, lambda: mails(*raws), listed)


async def test_qualified_identities_of_the_structure_that_fit_are_suggested(
    record: Record,
) -> None:
    await record.register()
    await record.register(PatientSpec(ins="279039999000275", given="AUTRE"), status="provisoire")
    await record.register(structure=HOSPITAL.id)

    found = await suggest(record, letter().encode("latin-1"))

    assert [each["ins"] for each in found["suggested"]] == [PATIENT.ins]
    assert found["media_type"] == "text/plain"
    (event,) = record.rows(
        "SELECT actor, subject FROM trail_event WHERE kind = 'patients_suggested'"
    )
    assert event == (f"practitioner:{RPPS}", "structure:cabinet")
    assert record.count("document") == 0


@pytest.mark.parametrize(
    ("raw", "more", "count"),
    [
        pytest.param(letter(number="").encode(), {}, 1, id="birth and name"),
        pytest.param(letter(born="").encode(), {}, 1, id="number alone"),
        pytest.param(letter(born="", number="").encode(), {}, 1, id="both names"),
        pytest.param(letter(born="01/01/1980", number="").encode(), {}, 0, id="another birth"),
        pytest.param(PDF, {}, 0, id="nothing said"),
        pytest.param(
            PDF, {"name": "20261122_CR_ZZCANARY-NOM_ZZCANARYPRENOM_1.pdf"}, 1, id="file name"
        ),
    ],
)
async def test_the_database_leaves_out_only_who_cannot_be_suggested(
    record: Record, raw: bytes, more: dict[str, Any], count: int
) -> None:
    await record.register()

    found = await suggest(record, raw, **more)

    assert len(found["suggested"]) == count


async def test_a_pdf_is_filed_under_its_authors_name_and_waits_for_release(record: Record) -> None:
    await record.register()

    done = await file(record)

    assert done["state"] == "filed"
    ((author, author_ids, marks, visibility, filed_by, receipt, may_replace, delay),) = (
        record.rows(
            "SELECT author, author_ids, marks, visibility, filed_by, receipt, may_replace,"
            " (release_at - filed_at) / 86400000000 FROM document"
        )
    )
    assert author == "rangé par Claire MARTIN"
    assert author_ids == RPPS
    assert (marks, visibility) == ("filed_by_hand", "awaiting_release")
    assert (filed_by, receipt, may_replace) == (f"practitioner:{RPPS}", "hand:r-1", 0)
    assert delay == CABINET.release_delay_days
    header = parse_cda(content(record))
    assert header.unique_id == done["document"]
    assert (header.code, header.title, header.level) == ("11502-2", "Bilan ZZCANARYTITRE", 1)
    assert header.patients[0].ins_ids[0].extension == PATIENT.ins
    (shown,) = read_document(content(record)).files
    assert shown.content == PDF
    (event,) = record.rows("SELECT actor, subject FROM trail_event WHERE kind = 'document_filed'")
    assert event == (f"practitioner:{RPPS}", "patient:1")


async def test_a_letter_in_latin_1_is_read_as_it_was_written(record: Record) -> None:
    await record.register()

    await file(record, letter().encode("latin-1"))

    assert "glycémie 0,95 g/L" in read_document(content(record)).html


async def test_what_its_author_shows_is_seen_at_once(record: Record) -> None:
    await record.register()

    await file(record, visible=True)

    assert record.rows("SELECT visibility, release_at FROM document") == [("visible", None)]


async def test_genetics_never_leave_by_themselves(record: Record) -> None:
    await record.register()

    await file(record, type_code="51969-4")

    assert record.rows("SELECT release_at FROM document") == [(None,)]


async def test_the_same_file_twice_is_one_document_and_two_files_are_two(record: Record) -> None:
    await record.register()

    first = await file(record)
    again = await file(record, title="Autre titre", receipt="r-2")
    other = await file(record, letter().encode())

    assert again == first | {"state": "absorbed"}
    assert other["state"] == "filed"
    assert record.rows("SELECT receipt, position FROM document ORDER BY id") == [
        ("hand:r-1", 0), ("hand:r-1", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rpps": "801234567890"}, "no_such_professional"),
        ({"ins": ""}, "say_whose"),
        ({"ins": "179039999000178"}, "no_such_patient"),
        ({"type_code": "nothing"}, "no_such_type"),
        ({"type_code": ""}, "no_such_type"),
        ({"title": " \n"}, "no_title"),
        ({"content": "&&&"}, "not_offered"),
        ({"content": base64.b64encode(b"Bonjour").decode()}, "not_offered"),
    ],
)
async def test_a_decision_that_says_too_little_files_nothing(
    record: Record, changes: dict[str, Any], reason: str
) -> None:
    await record.register()

    with pytest.raises(RecordStateError) as caught:
        await file(record, **changes)
    assert caught.value.reason == reason
    assert record.count("document") == 0


@pytest.mark.parametrize("status", ["provisoire", "recuperee", "validee"])
async def test_an_identity_that_is_not_qualified_takes_nothing(
    record: Record, status: str
) -> None:
    await record.register(status=status)

    with pytest.raises(RecordStateError, match="not_qualified"):
        await file(record)


async def test_who_opposes_deposits_is_heard(record: Record) -> None:
    patient = await record.register()
    await LifeCommands(record.database, lambda: record.now).opposition_set(
        {"patient_id": patient["id"], "scope": "deposit", "opposed": True, "actor": "account:1"}
    )

    with pytest.raises(RecordStateError, match="opposed"):
        await file(record)
    assert record.count("document") == 0


async def test_it_is_withdrawn_and_restored_like_any_other_but_has_no_quarantine(
    record: Record,
) -> None:
    await record.register()
    done = await file(record)
    about = {"structure": CABINET.id, "document": done["document"], "reason": "erreur",
             "actor": "cli:test"}  # fmt: skip
    commands = WithdrawalCommands(record.commands)

    with pytest.raises(RecordStateError, match="filed_by_hand"):
        await commands.record_refile(about)
    await commands.record_withdraw(about)
    with pytest.raises(RecordStateError, match="withdrawn_here"):
        await file(record)
    await commands.record_restore(about)

    assert record.rows("SELECT status FROM document") == [("current",)]


async def test_the_audit_balances_and_counts_apart_what_was_filed_by_hand(record: Record) -> None:
    await record.register()
    package = message(1, report(1))
    await record.file(package, PLAIN)
    await file(record)
    await file(record, letter().encode(), receipt="")

    found = await audited(record, package, PLAIN)

    assert found.problems == []
    assert found.balanced
    assert (found.received, found.filed, found.by_hand) == (1, 1, 2)
    assert found.messages["other"] == 1
    assert found.to_json()["by_hand"] == 2


async def test_the_audit_finds_one_whose_octets_changed(record: Record) -> None:
    await record.register()
    await file(record)
    await record.database.write(_spoil, None)

    (problem,) = (await audited(record)).problems
    assert problem.kind == "altered"


async def test_the_delay_releases_it(record: Record) -> None:
    await record.register()
    await file(record)

    await record.database.write(release_due, later(CABINET.release_delay_days + 1))

    assert record.rows("SELECT visibility FROM document") == [("visible",)]


def _spoil(connection: Any, _value: None) -> None:
    connection.execute("UPDATE document_chunk SET data = x'00'")
