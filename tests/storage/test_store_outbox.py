"""The outbound queue: leases, later, done, failed."""

from dataclasses import replace
from datetime import timedelta

import pytest

from mailserver.store import outbox
from mailserver.store.changes import OUTBOX
from mailserver.store.database import MailStore
from mailserver.store.errors import NoSuchBlobError
from mailserver.store.model import NewOutgoing, OutboxMessage, OutboxState
from tests.support.mailstore import AT, HASH_KEY, PREFIX, RAW, entry, interpose, open_practice

MINUTE = timedelta(minutes=1)


@pytest.fixture
async def practice(tmp_path):
    async with open_practice(tmp_path) as opened:
        yield opened


async def queue(practice, count=1, *, blob=RAW, entries=()):
    recipients = tuple(
        NewOutgoing(f"x{number}@loin{number}.test", f"loin{number}.test")
        for number in range(count)
    )
    message = OutboxMessage("dr@cab.test", PREFIX, recipients, practice.doctor.id)
    await practice.store.messages.deliver(practice.delivery(entries, outbox=message, blob=blob))


async def test_what_is_due_is_leased_once(practice):
    await queue(practice, 3)
    first = await practice.store.outbox.due(AT, 2, 60)
    second = await practice.store.outbox.due(AT, 2, 60)

    assert [item.domain for item in first] == ["loin0.test", "loin1.test"]
    assert [item.forward_path for item in second] == ["x2@loin2.test"]
    assert await practice.store.outbox.due(AT, 2, 60) == []
    (item,) = second
    assert (item.reverse_path, item.attempts) == ("dr@cab.test", 0)
    assert (item.octets, item.mailbox_id) == (len(PREFIX) + len(RAW), practice.doctor.id)
    assert (item.queued_at, item.recipient_id) == (AT, item.id)


async def test_a_lease_that_is_over_is_due_again_even_after_a_crash(practice):
    await queue(practice)
    (before,) = await practice.store.outbox.due(AT, 10, 60)
    async with await MailStore.open(practice.path, hash_key=HASH_KEY) as restarted:
        assert await restarted.outbox.due(AT + MINUTE - timedelta(seconds=1), 10, 60) == []
        (again,) = await restarted.outbox.due(AT + MINUTE, 10, 60)
    assert again == before


async def test_a_worker_that_starts_takes_back_what_the_last_one_had_leased(practice):
    await queue(practice, 3)
    sent, put_off, held = await practice.store.outbox.due(AT, 10, 900)
    await practice.store.outbox.done(sent.id, "250 ok", AT)
    await practice.store.outbox.later(put_off.id, "451 later", AT + 5 * MINUTE)
    async with await MailStore.open(practice.path, hash_key=HASH_KEY) as restarted:
        assert await restarted.outbox.take_back(AT + MINUTE) == 1
        assert await restarted.outbox.due(AT + MINUTE, 10, 900) == [replace(held, crashes=1)]
        assert [item.id for item in await restarted.outbox.due(AT + 5 * MINUTE, 10, 900)] == [
            put_off.id
        ]


async def test_nothing_due_writes_nothing(practice):
    counter = interpose(practice.store)
    assert await practice.store.outbox.due(AT, 10, 60) == []
    assert counter.statements == []


async def test_what_is_put_off_is_due_then_with_one_attempt_more(practice):
    await queue(practice)
    (item,) = await practice.store.outbox.due(AT, 10, 60)
    await practice.store.outbox.later(item.id, "451 4.3.0 later", AT + 5 * MINUTE)

    assert await practice.store.outbox.next_at() == AT + 5 * MINUTE
    assert await practice.store.outbox.due(AT + 4 * MINUTE, 10, 60) == []
    (again,) = await practice.store.outbox.due(AT + 5 * MINUTE, 10, 60)
    assert again.attempts == 1


@pytest.mark.parametrize("end", ["done", "failed"])
async def test_the_body_goes_when_nothing_is_left_to_send(practice, end):
    await queue(practice, 2)
    first, second = await practice.store.outbox.due(AT, 10, 60)
    finish = getattr(practice.store.outbox, end)
    await finish(first.id, "250 2.0.0 ok", AT)
    assert await practice.store.outbox.body(first.message_id) == PREFIX + RAW
    assert await practice.store.outbox.idle() is False

    await finish(second.id, "250 2.0.0 ok", AT)
    with pytest.raises(NoSuchBlobError):
        await practice.store.outbox.body(first.message_id)
    assert await practice.store.outbox.idle() is True
    assert practice.count("blob") == practice.count("blob_chunk") == 0
    assert PREFIX not in [row[6] for row in practice.rows()["outbox_message"]]


async def test_the_body_stays_for_the_sender_s_copy(practice):
    await queue(practice, entries=[entry(practice.doctor, folder="Sent")])
    (item,) = await practice.store.outbox.due(AT, 10, 60)
    await practice.store.outbox.done(item.id, "250 ok", AT)

    (row,) = await practice.entries(practice.doctor, "Sent")
    assert await practice.store.blobs.read(row.blob_id, 0, len(RAW)) == RAW


async def test_what_ended_stays_ended(practice):
    await queue(practice)
    (item,) = await practice.store.outbox.due(AT, 10, 60)
    await practice.store.outbox.done(item.id, "250 ok", AT)
    await practice.store.outbox.later(item.id, "451 late answer", AT)
    await practice.store.outbox.failed(item.id, "550 late answer", AT)

    assert await practice.store.outbox.idle() is True
    assert practice.rows()["outbox_recipient"][0][4] == OutboxState.SENT.value


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("", ""),
        ("451", "451"),
        ("451 4.3.0 try later", "451 4.3.0"),
        ("550-5.1.1 no <zzcanary@loin.test>", "550 5.1.1"),
        ("550 <zzcanary@loin.test> unknown", "550"),
        ("550 5.1.zzcanary", "550"),
        ("zzcanary 5.1.1", ""),
        ("٥٥٠ 5.1.1", ""),
    ],
)
async def test_the_list_tells_the_code_and_no_address(practice, reply, code):
    await queue(practice)
    (item,) = await practice.store.outbox.due(AT, 10, 60)
    await practice.store.outbox.later(item.id, reply, AT + MINUTE)

    (line,) = await practice.store.queue.items()
    assert line.reply_code == code
    assert (line.domain, line.state, line.attempts) == ("loin0.test", OutboxState.QUEUED, 1)
    assert "@" not in repr(line)


async def test_what_waits_is_counted_by_state(practice):
    await queue(practice, 3)
    first, _second = await practice.store.outbox.due(AT, 2, 60)
    await practice.store.outbox.done(first.id, "250 ok", AT)

    assert await practice.store.outbox.counts() == {
        OutboxState.QUEUED: 1,
        OutboxState.LEASED: 1,
        OutboxState.HELD: 0,
    }


async def test_a_large_message_is_sent_in_pieces(practice):
    body = RAW + b"x" * (5 << 20)
    await queue(practice, blob=body)
    (item,) = await practice.store.outbox.due(AT, 10, 60)
    pieces = [piece async for piece in practice.store.outbox.stream(item.message_id)]

    assert b"".join(pieces) == PREFIX + body
    assert max(map(len, pieces)) <= 256 * 1024


async def test_the_worker_is_woken(practice):
    with practice.store.changes.subscribe(OUTBOX) as told:
        await queue(practice)
        await told.wait()
        assert not told.pending


async def test_what_ended_long_ago_is_forgotten_and_what_waits_is_not(practice):
    await queue(practice, 2)
    await queue(practice)
    first, _second, third = await practice.store.outbox.due(AT, 10, 60)
    await practice.store.outbox.done(first.id, "250 ok", AT)
    await practice.store.outbox.done(third.id, "250 ok", AT + MINUTE)

    assert await practice.store.outbox.forget(AT) == 0
    assert await practice.store.outbox.forget(AT + MINUTE) == 1
    assert practice.count("outbox_message") == 2
    assert await practice.store.outbox.forget(AT + 2 * MINUTE) == 1
    assert practice.count("outbox_message") == 1
    assert await practice.store.outbox.idle() is False


async def test_much_that_ended_is_forgotten_a_little_at_a_time(practice, monkeypatch):
    """Nothing that comes meanwhile waits for all of it."""
    monkeypatch.setattr(outbox, "FORGET_ROWS", 2)
    for _ in range(3):
        await queue(practice, 2)
    for each in (await practice.store.outbox.due(AT, 10, 60))[:5]:
        await practice.store.outbox.done(each.id, "250 ok", AT)
    writer = interpose(practice.store)

    assert await practice.store.outbox.forget(AT + MINUTE) == 5
    assert sum(each.startswith("SELECT id, message_id") for each in writer.statements) == 3
    assert practice.count("outbox_recipient") == practice.count("outbox_message") == 1
