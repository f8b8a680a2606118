"""What a structure's own software is told of a document that is moved, taken out or put back.

Each test says what the software holds once it has answered everything it was told.

Source: MSS-FACTS §9, RULES §6, RULES §9.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from record_bridge import handover_queue
from record_bridge.formats.hl7v2 import Flag
from record_bridge.handover_queue import Due, Settled
from record_bridge.masking import MaskingCommands
from record_bridge.model import ErrorCode
from record_bridge.withdrawal_commands import WithdrawalCommands
from tests.support.record import (
    CABINET,
    PATIENT,
    SENDER,
    Record,
    message,
    open_test_record,
    report,
)

OTHER = replace(PATIENT, ins="279039999000275", family="ZZAUTRE")
WHY = {"actor": "cli:vigilance", "reason": "mauvais patient"}


@pytest.fixture
async def record(tmp_path: Path) -> AsyncIterator[Record]:
    async with open_test_record(tmp_path) as opened:
        await opened.register()
        await opened.register(OTHER)
        await opened.database.write(handover_queue.choose, ({CABINET.id: True}, opened.now))
        yield opened


def name(number: int) -> str:
    return f"1.2.250.1.213.999.{number}"


async def due(record: Record) -> list[Due]:
    return await record.database.write(handover_queue.take_in, (CABINET.id, record.now))


async def answer(record: Record, state: str = "accepted", code: ErrorCode | None = None) -> None:
    """Let the software answer everything it is told, until there is nothing more."""
    while found := await due(record):
        for each in found:
            settled = Settled(each, state, record.now, code)
            await record.database.write(handover_queue.settle, settled)


async def leave(record: Record, command: str, number: int = 1, **more: Any) -> None:
    commands = WithdrawalCommands(record.commands).table()
    await commands[command]({"document": name(number), "structure": "cabinet", **WHY, **more})


async def refile(record: Record, number: int = 1, *, to: Any = None) -> None:
    whose = {} if to is None else {"ins": to.ins, "oid": to.oid}
    await leave(record, "record_refile", number, **whose)


def told(record: Record) -> list[tuple[str, str, str]]:
    """What it was told: action, last number of the document, whose it is."""
    rows = record.rows(
        "SELECT h.action, d.unique_id, p.matricule FROM handover h JOIN document d"
        " ON d.id = h.document_id JOIN patient p ON p.id = h.identity_id"
        " WHERE h.state <> 'dropped' ORDER BY h.id"
    )
    return [(action, unique_id[-1], ins) for action, unique_id, ins in rows]


async def test_a_move_is_taken_back_from_the_one_and_told_of_the_other(record: Record) -> None:
    await record.one(message(1, report(1)))
    await answer(record)

    await refile(record, to=OTHER)
    await answer(record)

    assert told(record) == [
        ("new", "1", PATIENT.ins), ("withdraw", "1", PATIENT.ins), ("new", "1", OTHER.ins)
    ]  # fmt: skip
    assert await due(record) == []
    assert len({row[0] for row in record.rows("SELECT control_id FROM handover")}) == 3


async def test_the_software_is_told_from_whom_a_document_is_hidden(record: Record) -> None:
    await record.one(message(1, report(1)))
    (open_to_all,) = await due(record)

    await MaskingCommands(record.commands).table()["record_mask"](
        {"document": name(1), "structure": "cabinet", "mask": "masked_ps", **WHY}
    )
    (masked,) = await due(record)

    assert open_to_all.hidden == frozenset()
    assert masked.hidden == {Flag.MASKED}


async def test_what_goes_to_quarantine_is_taken_back_and_told_when_it_is_filed(
    record: Record,
) -> None:
    await record.one(message(1, report(1)))
    await answer(record)

    await refile(record)
    await answer(record)
    assert [action for action, *_ in told(record)] == ["new", "withdraw"]

    await record.decide(1, "filed", ins=OTHER.ins, oid=OTHER.oid)
    await answer(record)
    assert told(record)[2:] == [("new", "1", OTHER.ins)]


async def test_what_was_not_begun_is_never_told_under_the_wrong_patient(record: Record) -> None:
    await record.one(message(1, report(1)))

    await refile(record, to=OTHER)  # before anything looked
    await answer(record)
    assert told(record) == [("new", "1", OTHER.ins)]

    await record.one(message(2, report(2)))
    await record.database.write(handover_queue.take_in, (CABINET.id, record.now))  # given out
    await refile(record, 2, to=OTHER)
    await answer(record)
    assert told(record)[1:] == [
        ("new", "2", PATIENT.ins), ("withdraw", "2", PATIENT.ins), ("new", "2", OTHER.ins)
    ]  # fmt: skip


async def test_a_waiting_row_that_was_not_begun_is_dropped(record: Record) -> None:
    """The second version waits for the answer to the first: it is not begun."""
    await record.one(message(1, report(1)))
    await record.one(message(2, report(2, replaces=name(1))))
    # the first was superseded before its turn; have it told by hand of a third
    await record.one(message(3, report(3, replaces=name(2))))
    assert [each.unique_id for each in await due(record)] == [name(3)]
    await record.one(message(4, report(4, replaces=name(3))))
    assert [each.unique_id for each in await due(record)] == [name(3)]  # 4 follows 3

    await refile(record, 4)
    await answer(record)

    assert told(record) == [("new", "3", PATIENT.ins)]
    assert record.rows("SELECT state FROM handover ORDER BY id") == [("accepted",), ("dropped",)]


async def test_what_a_wrong_version_had_replaced_is_told_again(record: Record) -> None:
    await record.one(message(1, report(1)))
    await answer(record)
    await record.one(message(2, report(2, replaces=name(1))))
    await answer(record)

    await refile(record, 2)
    first = await due(record)
    assert [(each.action.value, each.unique_id) for each in first] == [("withdraw", name(2))]
    await answer(record)

    assert [each[:2] for each in told(record)] == [
        ("new", "1"), ("replace", "2"), ("withdraw", "2"), ("new", "1")
    ]  # fmt: skip


@pytest.mark.parametrize("look", [answer, due])
async def test_a_version_that_comes_late_takes_back_the_one_that_it_replaces(
    record: Record, look: Callable[[Record], Awaitable[object]]
) -> None:
    await record.one(message(1, report(1)))
    await record.one(message(2, report(3, replaces=name(2))))
    await look(record)

    await record.one(message(3, report(2, replaces=name(1))))
    await answer(record)

    assert told(record) == [
        ("new", "1", PATIENT.ins), ("new", "3", PATIENT.ins), ("withdraw", "1", PATIENT.ins)
    ]  # fmt: skip
    await leave(record, "record_refile", 2)
    await answer(record)
    assert told(record)[3:] == [("new", "1", PATIENT.ins)]


async def test_what_comes_back_replaces_what_was_told_again_meanwhile(record: Record) -> None:
    await record.one(message(1, report(1)))
    await answer(record)
    await record.one(message(2, report(2, replaces=name(1))))
    await answer(record)
    await refile(record, 2)
    await answer(record)
    assert [each[:2] for each in told(record)][2:] == [("withdraw", "2"), ("new", "1")]

    await record.decide(1, "filed", ins=PATIENT.ins, oid=PATIENT.oid)
    (given,) = await due(record)

    assert (given.action.value, given.parent_unique_id) == ("replace", name(1))


async def test_what_replaces_a_version_that_the_software_refused_is_new_to_it(
    record: Record,
) -> None:
    await record.one(message(1, report(1)))
    await answer(record, "refused", ErrorCode.UNKNOWN_PATIENT)

    await record.one(message(2, report(2, replaces=name(1))))

    assert [each.action.value for each in await due(record)] == ["new"]


async def test_a_withdrawal_that_is_undone_is_told_anew_and_looked_at_once(
    record: Record,
) -> None:
    await record.one(message(1, report(1)))
    await answer(record)

    for command in ("record_withdraw", "record_restore"):
        await leave(record, command)
        await answer(record)
    await leave(record, "record_withdraw")
    await leave(record, "record_restore")  # before anything looked: nothing to tell
    await answer(record)

    assert [action for action, *_ in told(record)] == ["new", "withdraw", "new"]
    assert record.rows("SELECT count(*) FROM document WHERE moved = 1") == [(0,)]


async def test_what_the_software_refused_is_not_taken_back_but_told_of_the_right_patient(
    record: Record,
) -> None:
    await record.one(message(1, report(1)))
    await answer(record, "refused", ErrorCode.UNKNOWN_PATIENT)

    await refile(record, to=OTHER)
    await due(record)

    assert told(record) == [("new", "1", OTHER.ins)]
    listed = await record.database.write(handover_queue.rows, None)
    assert [row["state"] for row in listed] == ["waiting"], "the refusal is settled by the move"
    await answer(record)
    assert await record.database.write(handover_queue.retry, (None, record.now)) == 0


async def test_what_the_software_refused_is_never_told_again_under_the_wrong_patient(
    record: Record,
) -> None:
    await record.one(message(1, report(1)))
    await answer(record, "refused", ErrorCode.UNKNOWN_PATIENT)
    await refile(record)
    await due(record)

    again = await record.database.write(handover_queue.retry, (None, record.now))

    assert (again, await due(record)) == (0, [])


async def test_what_is_asked_for_again_before_a_move_was_looked_at_is_not_told(
    record: Record,
) -> None:
    await record.one(message(1, report(1)))
    await answer(record, "refused", ErrorCode.UNKNOWN_PATIENT)
    await refile(record)

    await record.database.write(handover_queue.retry, (None, record.now))

    assert await due(record) == []


async def test_what_the_software_never_answered_is_taken_back(record: Record) -> None:
    await record.one(message(1, report(1)))
    (given,) = await due(record)
    silent = Settled(given, "waiting", record.now + 2 * handover_queue.GIVE_UP_AFTER)
    await record.database.write(handover_queue.settle, silent)

    await refile(record)
    await answer(record)

    assert [action for action, *_ in told(record)] == ["new", "withdraw"]


async def test_what_stayed_here_before_the_hand_over_began_stays_when_it_moves(
    record: Record,
) -> None:
    await record.database.write(handover_queue.choose, ({}, record.now))
    await record.one(message(1, report(1)))
    await record.database.write(handover_queue.choose, ({CABINET.id: False}, record.now))

    await refile(record, to=OTHER)

    assert await due(record) == []


async def test_an_answer_held_for_the_software_says_that_a_person_took_it_out(
    record: Record,
) -> None:
    await record.one(message(1, report(1), notify_to=SENDER))
    await refile(record)

    await due(record)
    released = await record.database.write(
        handover_queue.release_answers, (CABINET.id, record.now)
    )

    assert released == 1
    assert record.rows("SELECT state, code FROM reply_outbox") == [("waiting", "906")]
