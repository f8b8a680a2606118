"""The queue as an administrator changes it, and where sent messages stand, in the tables.

Source: RULES §9, RFC 3464 §2.3.3.
"""

from dataclasses import replace
from datetime import timedelta

import pytest

from directory.audit_event import AuditEvent
from mailserver.message.progress import Event, Progress, Source, Transport, Verdict
from mailserver.store.database import MailStore
from mailserver.store.model import (
    NewOutgoing,
    Observed,
    OutboxMessage,
    OutboxState,
    Settled,
    Tracked,
)
from mailserver.store.outbox import CRASHES
from mailserver.store.queue_control import Choice
from tests.support.mailstore import AT, HASH_KEY, PREFIX, entry, open_practice

MINUTE = timedelta(minutes=1)
MESSAGE_ID = "<m1@cab.test>"


@pytest.fixture
async def practice(tmp_path):
    async with open_practice(tmp_path) as opened:
        yield opened


async def send(practice, *recipients, local=()):
    """Queue one message as a submission does; give its receipt."""
    addresses = recipients or ("X0@loin.test",)
    outbox = OutboxMessage(
        "dr@cab.test",
        PREFIX,
        tuple(NewOutgoing(each, each.partition("@")[2]) for each in addresses),
        practice.doctor.id,
    )
    tracked = [(each.lower(), Transport.SUBMITTED) for each in addresses]
    tracked += [(each.address, Transport.DELIVERED) for each in local]
    delivery = practice.delivery([entry(each) for each in local], outbox=outbox)
    await practice.store.messages.deliver(
        replace(
            delivery,
            tracked=tuple(
                Tracked(practice.doctor.id, MESSAGE_ID, address, Progress(transport))
                for address, transport in tracked
            ),
        )
    )
    return delivery.receipt_id


def event(kind="queue_held"):
    return AuditEvent(kind, AT, "admin")


async def ids(practice):
    return [item.id for item in await practice.store.queue.items()]


def trail(practice, kind):
    return [
        row for row in practice.rows()["trail_event"] if any(kind in str(value) for value in row)
    ]


async def test_an_act_changes_the_chosen_lines_and_is_in_the_trail_once_for_each(practice):
    await send(practice, "a@loin.test", "b@pres.test", "c@loin.test", "d@ailleurs.test")
    chosen = (await ids(practice))[3]

    changed = await practice.store.queue.hold(Choice((chosen,), ("loin.test",)), event())

    assert changed == (1, 3, 4)
    assert [item.state.value for item in await practice.store.queue.items()] == [
        "held",
        "queued",
        "held",
        "held",
    ]
    assert len(trail(practice, "queue_held")) == 3


@pytest.mark.parametrize("choice", [Choice(), Choice((999,)), Choice(domains=("nulle.test",))])
async def test_an_act_on_nothing_changes_nothing(practice, choice):
    await send(practice)
    queue = practice.store.queue
    for act in (queue.retry, queue.hold, queue.release, queue.delete):
        assert await act(choice, event()) == ()
    assert not trail(practice, "queue_held")


async def test_what_is_being_sent_is_not_touched(practice):
    await send(practice)
    (item,) = await practice.store.outbox.due(AT, 10, 60)
    queue = practice.store.queue
    for act in (queue.retry, queue.hold, queue.release, queue.delete):
        assert await act(Choice((item.id,)), event()) == ()

    await practice.store.outbox.done(item.id, "250 ok", AT)
    assert await practice.store.outbox.idle()


async def test_what_is_deleted_takes_its_body_with_it(practice):
    receipt = await send(practice, "a@loin.test", "b@loin.test")
    first, second = await ids(practice)
    await practice.store.queue.delete(Choice((first,)), event())
    assert practice.count("blob") == 1
    await practice.store.queue.hold(Choice((second,)), event())
    await practice.store.queue.delete(Choice((second,)), event())

    assert practice.count("blob") == 0
    assert await practice.store.outbox.idle()
    assert [
        (each.progress.state, each.progress.code)
        for each in await practice.store.tracking.receipt(receipt)
    ] == [("failed", "554 5.7.0")] * 2


async def test_a_retry_forgets_that_the_domain_was_to_be_left_alone(practice):
    await send(practice)
    outbox = practice.store.outbox
    await outbox.domain_waits("loin.test", 3, "451 4.4.1 <zz@loin.test>", AT + 60 * MINUTE)
    (wait,) = await practice.store.queue.domains()
    assert (wait.failures, wait.reply_code) == (3, "451 4.4.1")
    assert await outbox.due(AT, 10, 60) == []

    await practice.store.queue.retry(Choice(domains=("loin.test",)), event("queue_retried"))

    assert len(await outbox.due(AT, 10, 60)) == 1
    assert await practice.store.queue.domains() == []


async def test_recipients_of_one_message_and_domain_are_leased_together(practice):
    await send(practice, "a@loin.test", "b@pres.test", "c@loin.test")

    due = await practice.store.outbox.due(AT, 1, 60)

    assert [item.forward_path for item in due] == ["a@loin.test", "c@loin.test"]


async def test_a_busy_domain_is_left_alone(practice):
    await send(practice, "a@loin.test", "b@pres.test")

    due = await practice.store.outbox.due(AT, 10, 60, busy={"loin.test"})

    assert [item.domain for item in due] == ["pres.test"]


async def test_what_was_leased_at_three_crashes_of_the_process_is_set_aside(practice):
    await send(practice)
    states = []
    for _ in range(CRASHES + 1):
        async with await MailStore.open(practice.path, hash_key=HASH_KEY) as store:
            await store.outbox.take_back(AT)
            states += [item.state for item in await store.queue.items()]
            for item in await store.outbox.due(AT, 10, 900):
                if item.crashes:
                    await store.outbox.suspect([item.id])

    assert states == [OutboxState.QUEUED] * CRASHES + [OutboxState.HELD]


async def test_a_try_that_ended_well_clears_the_suspicion(practice):
    await send(practice)
    outbox = practice.store.outbox
    (item,) = await outbox.due(AT, 10, 900)
    await outbox.take_back(AT)
    await outbox.due(AT, 10, 900)
    await outbox.suspect([item.id])
    await outbox.settle([Settled(item.id, OutboxState.QUEUED, "451 later", AT)])

    (line,) = await practice.store.queue.items()
    assert line.crashes == 0


async def test_who_waits_is_told_of_once(practice):
    receipt = await send(practice)
    outbox = practice.store.outbox
    assert await outbox.untold(AT - MINUTE, 10) == []
    (item,) = await outbox.untold(AT, 10)
    await outbox.told(item.id, AT)

    assert await outbox.untold(AT, 10) == []
    (found,) = await practice.store.tracking.receipt(receipt)
    assert found.progress.transport is Transport.DELAYED


async def test_the_queue_s_end_moves_the_recipient_whatever_its_case(practice):
    receipt = await send(practice, "A@loin.test", "b@loin.test")
    first, second = await practice.store.outbox.due(AT, 10, 60)
    await practice.store.outbox.done(first.id, "250 ok", AT)
    await practice.store.outbox.failed(second.id, "550 5.1.1 <zz@loin.test> no", AT)

    found = await practice.store.tracking.receipt(receipt)

    assert {each.address: each.progress for each in found} == {
        "a@loin.test": Progress(Transport.RELAYED),
        "b@loin.test": Progress(Transport.FAILED, code="550 5.1.1"),
    }
    assert await practice.store.tracking.message(MESSAGE_ID) == found
    assert await practice.store.tracking.sent_by(practice.doctor.id, MESSAGE_ID) == found
    assert await practice.store.tracking.sent_by(practice.colleague.id, MESSAGE_ID) == []


@pytest.mark.parametrize(
    ("reader", "message_id", "address", "moved"),
    [
        ("doctor", MESSAGE_ID, "x0@loin.test", True),
        ("colleague", MESSAGE_ID, "x0@loin.test", False),
        ("doctor", "<other@cab.test>", "x0@loin.test", False),
        ("doctor", MESSAGE_ID, "y@loin.test", False),
    ],
)
async def test_a_report_moves_only_what_its_reader_sent(
    practice, reader, message_id, address, moved
):
    receipt = await send(practice)
    mailbox = getattr(practice, reader)
    said = Event(Source.RECIPIENT, verdict=Verdict.QUARANTINED, code="902")
    await practice.store.messages.deliver(
        replace(
            practice.delivery([entry(mailbox)]),
            observed=(Observed(mailbox.id, message_id, address, said),),
        )
    )

    (found,) = await practice.store.tracking.receipt(receipt)
    assert found.progress.state == ("quarantined" if moved else "submitted")
