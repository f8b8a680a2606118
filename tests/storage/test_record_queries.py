"""Reading the record: what each viewer gets, and what does not exist for them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from record_bridge.queries import RecordQueries, Viewer
from tests.support.cda import CdaSpec, PatientSpec, acts, cda, follow_up, vaccination
from tests.support.record import (
    CABINET,
    DOCTOR,
    PATIENT,
    PATIENT_ADDRESS,
    Record,
    message,
    open_test_record,
    report,
)

BOTH = (DOCTOR, PATIENT_ADDRESS)
PHYSICIAN = Viewer("practitioner", "10000000001", "10", CABINET.id)
NURSE = Viewer("practitioner", "10000000002", "60", CABINET.id)
STRANGER = Viewer("practitioner", "10000000001", "10", "hopital")


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    async with open_test_record(tmp_path) as opened:
        person = await opened.register()
        await opened.grant(person["id"], "care_team", PHYSICIAN.ref)
        yield opened


@pytest.fixture
async def queries(record: Record) -> AsyncIterator[RecordQueries]:
    opened = await RecordQueries.open(record.path, lambda: record.now)
    yield opened
    await opened.close()


async def _patient(queries: RecordQueries) -> tuple[int, Viewer]:
    found = await queries.patient_by_address(CABINET.id, PATIENT_ADDRESS.upper())
    assert found is not None
    return found.id, Viewer("patient", str(found.id))


async def test_a_patient_is_found_by_the_address_in_the_structure_only(
    queries: RecordQueries,
) -> None:
    found = await queries.patient_by_address(CABINET.id, PATIENT_ADDRESS)

    assert found is not None
    assert found.matricule == PATIENT.ins
    assert found == await queries.patient(found.id)
    assert [found] == await queries.patients(CABINET.id)
    assert await queries.patient_by_address("hopital", PATIENT_ADDRESS) is None
    assert await queries.patient_by_address(CABINET.id, DOCTOR) is None


async def test_what_awaits_release_does_not_exist_for_the_patient(
    record: Record, queries: RecordQueries
) -> None:
    await record.one(message(1, report(1, acts=acts(follow_up("20270101")))))
    patient_id, own = await _patient(queries)

    assert await queries.documents(patient_id, own) == []
    assert await queries.categories(patient_id, own) == []
    assert await queries.agenda(patient_id, own) == []
    assert await queries.document(patient_id, own, 1) is None
    assert [each.id for each in await queries.documents(patient_id, PHYSICIAN)] == [1]


async def test_a_visible_document_has_its_content_and_its_agenda(
    record: Record, queries: RecordQueries
) -> None:
    content = report(1, acts=acts(follow_up("202701011030+0100"), vaccination(None)))
    await record.one(message(1, content, to=BOTH))
    patient_id, own = await _patient(queries)

    detail = await queries.document(patient_id, own, 1)
    entries = await queries.agenda(patient_id, own)

    assert detail is not None
    assert (content, ("visible",)) == (detail.content, detail.document.visibility)
    assert [each.code for each in await queries.categories(patient_id, own)] == [
        detail.document.class_code
    ]
    assert {each.kind for each in entries} == {"follow_up", "vaccination"}
    assert {each.source_unique_id for each in entries} == {detail.document.unique_id}


async def test_another_patients_document_is_not_found_by_its_number(
    record: Record, queries: RecordQueries
) -> None:
    other = PatientSpec(ins="179039999000167", sex="M")
    registered = await record.register(other)
    await record.one(message(1, report(1), to=BOTH))
    _, own = await _patient(queries)

    assert await queries.document(registered["id"], own, 1) is None
    assert await queries.documents(1, Viewer("patient", str(registered["id"]))) == []


async def test_a_large_document_comes_back_whole(record: Record, queries: RecordQueries) -> None:
    content = report(1, octets=700_000)
    await record.one(message(1, content, to=BOTH))
    patient_id, own = await _patient(queries)

    detail = await queries.document(patient_id, own, 1)

    assert detail is not None
    assert detail.content == content
    assert record.count("document_chunk") == 3


async def test_the_history_shows_every_version_and_the_list_the_last(
    record: Record, queries: RecordQueries
) -> None:
    first = "1.2.250.1.213.999.1"
    await record.one(message(1, report(1), to=BOTH))
    await record.one(message(2, report(2, replaces=first), to=BOTH))
    patient_id, own = await _patient(queries)

    listed = await queries.documents(patient_id, own)
    detail = await queries.document(patient_id, own, listed[0].id)

    assert [each.status for each in listed] == ["current"]
    assert detail is not None
    assert {each.status for each in detail.versions} == {"current", "superseded"}


async def test_a_practitioner_sees_by_matrix_author_or_address_in_the_structure(
    record: Record, queries: RecordQueries
) -> None:
    await record.one(message(1, report(1)))
    await record.one(message(2, report(2, author="10000000002")))
    patient_id, _ = await _patient(queries)

    assert len(await queries.documents(patient_id, PHYSICIAN)) == 2
    assert [each.id for each in await queries.documents(patient_id, NURSE)] == [2]
    assert await queries.documents(patient_id, STRANGER) == []


async def test_an_access_to_a_hidden_document_shows_without_its_title(
    record: Record, queries: RecordQueries
) -> None:
    await record.one(message(1, report(1)))
    await record.one(message(2, report(2), to=BOTH))
    patient_id, _ = await _patient(queries)
    for number in (1, 2):
        await record.commands.note_access(
            {
                "patient_id": patient_id,
                "document_id": number,
                "kind": "document_read",
                "actor": "account:3",
            }
        )

    found = await queries.accesses(patient_id)
    read = [each for each in found if each.actor == "account:3"]
    hidden, shown = sorted(read, key=lambda each: each.title or "")

    assert (hidden.kind, hidden.title) == ("record_read", None)
    assert (shown.kind, shown.title) == ("document_read", "Compte rendu ZZCANARYTITRE")
    assert shown.actor == "account:3"


async def test_masked_codes_of_the_metadata_are_kept(
    record: Record, queries: RecordQueries
) -> None:
    from record_bridge.formats.xds_metadata import Code
    from tests.support.record import received
    from tests.support.xdm import mail, package

    zipped = package(
        cda(CdaSpec()), confidentiality=(Code("N"), Code("INVISIBLE_PATIENT"), Code("MASQUE_PS"))
    )
    result = await record.one(received(mail(zipped), *BOTH))
    patient_id, own = await _patient(queries)

    assert result.keywords == {"$Filed", "$Held"}
    assert await queries.documents(patient_id, own) == []
    assert await queries.documents(patient_id, PHYSICIAN) == []
    assert [row["visibility"] for row in await record.records()] == ["invisible_patient masked_ps"]
