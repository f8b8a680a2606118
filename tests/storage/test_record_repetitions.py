"""The same message again, with a recipient more: one answer for each of them, nothing filed twice."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.record import (
    DOCTOR,
    PATIENT_ADDRESS,
    SENDER,
    Record,
    message,
    open_test_record,
    report,
)

NURSE = "ide@cabinet.mssante.test"


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    async with open_test_record(tmp_path) as opened:
        yield opened


def _answers(record: Record) -> list[tuple[str, str]]:
    return record.rows("SELECT final_recipient, code FROM reply_outbox ORDER BY id")  # type: ignore[return-value]


@pytest.mark.parametrize(("known", "code"), [(True, ""), (False, "902")])
async def test_the_added_recipient_is_answered_and_the_first_is_not_again(
    record: Record, *, known: bool, code: str
) -> None:
    if known:
        await record.register()
    await record.one(message(1, report(1), notify_to=SENDER))

    again = await record.one(message(1, report(1), to=(DOCTOR, NURSE), notify_to=SENDER))
    third = await record.one(message(1, report(1), to=(NURSE, DOCTOR), notify_to=SENDER))

    assert (again.answers, third.answers) == (1, 0)
    assert _answers(record) == [(DOCTOR, code), (NURSE, code)]
    assert len({row[0] for row in record.rows("SELECT message_id FROM reply_outbox")}) == 2
    assert record.count("document") + record.count("quarantine") == 1


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="nobody asked"),
        pytest.param({"notify_to": "other@operateur-a.test"}, id="asked by another"),
    ],
)
async def test_nobody_is_answered_who_may_not_be(record: Record, changes: dict[str, str]) -> None:
    await record.register()
    await record.one(message(1, report(1), **changes))

    again = await record.one(message(1, report(1), to=(DOCTOR, NURSE), **changes))

    assert again.answers == 0
    assert _answers(record) == []


@pytest.mark.parametrize(
    ("added", "held"),
    [
        pytest.param("299999999999934@patient.mssante.test", True, id="another patient"),
        pytest.param(NURSE, False, id="a professional"),
    ],
)
async def test_a_mailbox_of_another_patient_that_a_repetition_adds_stays_held(
    record: Record, added: str, *, held: bool
) -> None:
    await record.register()
    first = await record.one(message(1, report(1), to=(DOCTOR, PATIENT_ADDRESS)))

    again = await record.one(message(1, report(1), to=(DOCTOR, PATIENT_ADDRESS, added)))

    assert "$Held" not in first.keywords
    assert ("$Held" in again.keywords) is held
