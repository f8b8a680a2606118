"""The delivery transaction: order, all or nothing, repetitions, and what it costs."""

import asyncio
import sqlite3
from dataclasses import replace

import pytest

from directory.trail import AuditEvent
from mailserver.message.index import index
from mailserver.store.changes import OUTBOX
from mailserver.store.errors import NoSuchFolderError
from mailserver.store.model import NewOutgoing, OtherForm, OutboxMessage
from mailserver.store.schema import BLOB_STORED
from tests.support.mailstore import AT, PREFIX, RAW, days, entry, interpose, open_practice


@pytest.fixture
async def practice(tmp_path):
    async with open_practice(tmp_path) as opened:
        yield opened


def everything(practice):
    """A delivery that touches every table a delivery can touch."""
    outbox = OutboxMessage(
        "dr@cab.test", PREFIX, (NewOutgoing("x@loin.test", "loin.test"),), practice.doctor.id
    )
    encrypted = replace(
        outbox,
        recipients=(NewOutgoing("y@loin.test", "loin.test"),),
        form=OtherForm(b"Subject: ...\r\n\r\nfor y alone", index(RAW)),
    )
    delivery = practice.delivery(
        [
            entry(practice.doctor),
            entry(practice.colleague),
            entry(practice.patient, held=True),
            entry(practice.application),
        ],
        keys=[(b"a" * 32, practice.doctor.id), (b"b" * 32, practice.patient.id)],
        outbox=(outbox, encrypted),
        whole_key=b"w" * 32,
        blob=RAW + b"x" * 600_000,
    )
    return replace(delivery, events=(AuditEvent("received", AT, "operator:1"),))


async def test_a_delivered_message_reads_back_whole(practice):
    delivered = await practice.store.messages.deliver(practice.delivery([entry(practice.doctor)]))

    (row,) = await practice.entries(practice.doctor)
    (detail,) = await practice.store.messages.detail(delivered.folder_ids[0], [row.uid])
    assert (row.id,) == delivered.entry_ids
    assert row.octets == len(PREFIX) + len(RAW)
    assert row.internal_at == AT
    assert detail.prefix == PREFIX
    assert await practice.store.blobs.read(row.blob_id, 0, len(RAW)) == RAW
    assert detail.index.subject == "CR"
    receipt = await practice.store.filings.receipt(delivered.receipt_id)
    assert receipt is not None
    assert (receipt.octets, receipt.occurrences, receipt.at) == (len(RAW), 1, AT)


async def test_fifty_writers_on_one_folder_commit_in_uid_and_modseq_order(practice):
    folder = await practice.inbox(practice.doctor)
    writers, each = 50, 8
    done = asyncio.Event()

    async def write():
        for _ in range(each):
            await practice.store.messages.deliver(practice.delivery([entry(practice.doctor)]))

    async def watch():
        seen = 0
        looks = 0
        while not done.is_set() or looks == 0:
            rows = await practice.store.messages.entries(folder.id)
            assert [row.uid for row in rows] == list(range(1, len(rows) + 1))
            assert [row.modseq for row in rows] == sorted(row.modseq for row in rows)
            assert len(rows) >= seen
            seen = len(rows)
            looks += 1
        return looks

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        async with asyncio.TaskGroup() as writing:
            for _ in range(writers):
                writing.create_task(write())
        done.set()

    rows = await practice.store.messages.entries(folder.id)
    assert watching.result() > 1
    assert [row.uid for row in rows] == list(range(1, writers * each + 1))
    assert len({row.modseq for row in rows}) == writers * each
    status = await practice.store.folders.status(folder.id)
    assert (status.uidnext, status.highestmodseq) == (writers * each + 1, rows[-1].modseq)


async def test_a_delivery_costs_at_most_twelve_statements(practice):
    counter = interpose(practice.store)
    await practice.store.messages.deliver(
        practice.delivery(
            [entry(practice.doctor), entry(practice.colleague), entry(practice.application)],
            keys=[(b"a" * 32, practice.doctor.id), (b"b" * 32, practice.colleague.id)],
        )
    )

    # keys, folders, blob, chunk, index, receipt, filing, entries, last id, counters, keys
    assert len(counter.statements) == 11


async def test_a_failure_at_any_statement_leaves_nothing(practice):
    reference = interpose(practice.store)
    before = practice.rows()
    for statement in range(1, 40):
        interpose(practice.store, fail_at=statement)
        delivery = everything(practice)
        try:
            await practice.store.messages.deliver(delivery)
        except sqlite3.OperationalError:
            assert practice.rows() == before
            continue
        break
    else:
        pytest.fail("the delivery never succeeded")

    assert statement >= 19
    assert not reference.statements
    after = practice.rows()
    changed = {name for name in after if after[name] != before[name]}
    assert changed >= {
        "blob",
        "blob_chunk",
        "message_index",
        "receipt",
        "receipt_filing",
        "receipt_key",
        "entry",
        "folder",
        "outbox_message",
        "outbox_recipient",
        "trail_event",
    }


async def test_a_delivery_to_a_folder_that_is_not_there_leaves_nothing(practice):
    before = practice.rows()
    with pytest.raises(NoSuchFolderError):
        await practice.store.messages.deliver(
            practice.delivery(
                [entry(practice.doctor), entry(practice.doctor, folder="Nulle part")]
            )
        )
    assert practice.rows() == before


async def test_one_failing_delivery_does_not_take_its_group_with_it(practice):
    good = [practice.delivery([entry(practice.doctor)]) for _ in range(20)]
    bad = practice.delivery([entry(practice.doctor, folder="Nulle part")])
    results = await asyncio.gather(
        *(practice.store.messages.deliver(one) for one in (*good[:10], bad, *good[10:])),
        return_exceptions=True,
    )

    assert isinstance(results[10], NoSuchFolderError)
    assert sum(isinstance(result, Exception) for result in results) == 1
    assert [row.uid for row in await practice.entries(practice.doctor)] == list(range(1, 21))


@pytest.mark.parametrize(
    ("later", "repeated"),
    [
        pytest.param(0, True, id="at once"),
        pytest.param(4.999, True, id="just before five days"),
        pytest.param(5, False, id="after five days"),
        pytest.param(50, False, id="long after"),
    ],
)
async def test_a_repetition_within_five_days_answers_with_the_first_receipt(
    practice, later, repeated
):
    keys = [(b"k" * 32, practice.doctor.id)]
    entries = [entry(practice.doctor), entry(practice.application)]
    first = await practice.store.messages.deliver(practice.delivery(entries, keys=keys))
    second = await practice.store.messages.deliver(
        practice.delivery(entries, keys=keys, at=AT + days(later))
    )

    assert second.new is not repeated
    assert (second.receipt_id == first.receipt_id) is repeated
    assert len(await practice.entries(practice.doctor)) == (1 if repeated else 2)
    assert len(await practice.entries(practice.application)) == (1 if repeated else 2)
    assert practice.count("blob") == (1 if repeated else 2)


async def test_a_repetition_adds_the_missing_recipient_only(practice):
    doctor, colleague = (b"k" * 32, practice.doctor.id), (b"l" * 32, practice.colleague.id)
    first = await practice.store.messages.deliver(
        practice.delivery([entry(practice.doctor), entry(practice.application)], keys=[doctor])
    )
    second = await practice.store.messages.deliver(
        practice.delivery(
            [entry(practice.doctor), entry(practice.colleague), entry(practice.application)],
            keys=[doctor, colleague],
        )
    )
    third = await practice.store.messages.deliver(
        practice.delivery(
            [entry(practice.doctor), entry(practice.colleague), entry(practice.application)],
            keys=[doctor, colleague],
        )
    )

    assert second.receipt_id == third.receipt_id == first.receipt_id
    assert (second.new, third.new) == (True, False)
    assert len(await practice.entries(practice.doctor)) == 1
    assert len(await practice.entries(practice.colleague)) == 1
    # The colleague's documents go to the bridge, where the same bytes are a duplicate.
    assert len(await practice.entries(practice.application)) == 2
    made = await practice.store.filings.receipt("receipt-2")
    assert made is not None
    assert made.retry_of == "receipt-1"


async def test_an_application_entry_on_behalf_of_repeated_recipients_is_dropped(practice):
    doctor = (b"k" * 32, practice.doctor.id)
    elsewhere = (b"l" * 32, practice.elsewhere.id)
    await practice.store.messages.deliver(
        practice.delivery([entry(practice.doctor), entry(practice.application)], keys=[doctor])
    )
    bridge = replace(entry(practice.application), on_behalf_of=(practice.doctor.id,))
    delivered = await practice.store.messages.deliver(
        practice.delivery(
            [entry(practice.doctor), entry(practice.elsewhere), bridge], keys=[doctor, elsewhere]
        )
    )

    assert len(delivered.entry_ids) == 1
    assert len(await practice.entries(practice.application)) == 1


async def test_a_whole_key_absorbs_the_outbox_too(practice):
    outbox = OutboxMessage("dr@cab.test", b"", (NewOutgoing("x@l.test", "l.test"),), None)
    for _ in range(2):
        delivered = await practice.store.messages.deliver(
            practice.delivery(
                [entry(practice.doctor, folder="Sent")], outbox=outbox, whole_key=b"w" * 32
            )
        )

    assert (delivered.new, delivered.receipt_id) == (False, "receipt-1")
    assert practice.count("outbox_recipient") == 1
    assert len(await practice.entries(practice.doctor, "Sent")) == 1


@pytest.mark.parametrize("octets", [100, 3 * 1024 * 1024], ids=["small", "over-one-transaction"])
async def test_the_forms_of_one_delivery_are_queued_each_with_its_own_body(practice, octets):
    bodies = {f"x{number}@l.test": bytes([65 + number]) * octets for number in range(3)}
    outbox = [
        OutboxMessage(
            "dr@cab.test", b"P: x\r\n", (NewOutgoing(to, "l.test"),), None,
            form=OtherForm(body, index(RAW)),
        )
        for to, body in bodies.items()
    ]  # fmt: skip
    sealed = OutboxMessage("dr@cab.test", b"", (NewOutgoing("z@l.test", "l.test"),), None)
    for _ in range(2):  # the second is absorbed, whatever was staged of it
        delivered = await practice.store.messages.deliver(
            practice.delivery([], outbox=[sealed, *outbox], whole_key=b"w" * 32)
        )

    due = await practice.store.outbox.due(AT, 10, 60)
    found = {each.forward_path: await practice.store.outbox.body(each.message_id) for each in due}
    assert found == {"z@l.test": RAW} | {to: b"P: x\r\n" + body for to, body in bodies.items()}
    assert {each.receipt_id for each in due} == {delivered.receipt_id}
    assert practice.count("receipt") == 1
    assert practice.count("blob") == 4


async def test_a_message_that_only_leaves_the_site_has_a_receipt_and_no_entry(practice):
    outbox = OutboxMessage("dr@cab.test", b"", (NewOutgoing("x@l.test", "l.test"),), None)
    with practice.store.changes.subscribe(OUTBOX) as told:
        delivered = await practice.store.messages.deliver(practice.delivery([], outbox=outbox))
        assert told.pending

    assert delivered.new
    assert delivered.entry_ids == ()
    assert practice.count("receipt") == 1


async def test_retry_keys_that_are_over_are_forgotten(practice):
    for number in range(3):
        key = bytes([number]) * 32
        await practice.store.messages.deliver(
            practice.delivery(
                [entry(practice.doctor)], keys=[(key, practice.doctor.id)], at=AT + days(number)
            )
        )

    assert await practice.store.messages.forget_keys(AT + days(6)) == 2
    assert practice.count("receipt_key") == 1


@pytest.mark.parametrize("octets", [4 << 20, (4 << 20) + 1, 9_000_000])
async def test_large_bodies_read_back_whole_with_or_without_staging(practice, octets):
    body = (RAW + bytes(range(256)) * (octets // 256))[:octets]
    delivery = replace(practice.delivery([entry(practice.doctor)]), blob=body)
    delivered = await practice.store.messages.deliver(delivery)

    (row,) = await practice.entries(practice.doctor)
    assert delivered.new
    assert await practice.store.blobs.read(row.blob_id, 0, octets) == body
    assert {state for _id, _octets, state, _read in practice.rows()["blob"]} == {BLOB_STORED}


async def test_a_repeated_large_body_leaves_no_chunk(practice):
    body = RAW + b"x" * (5 << 20)
    keys = [(b"k" * 32, practice.doctor.id)]
    for _ in range(2):
        await practice.store.messages.deliver(
            practice.delivery([entry(practice.doctor)], keys=keys, blob=body)
        )

    assert practice.count("blob") == 1
    assert practice.count("blob_chunk") == 21


async def test_filing_deliveries_are_found_again_after_their_mail_is_purged(practice):
    await practice.store.messages.deliver(
        practice.delivery([entry(practice.doctor), entry(practice.application)])
    )
    await practice.store.messages.deliver(practice.delivery([entry(practice.doctor)]))

    (message,) = await practice.store.filings.messages("cab")
    (receipt,) = await practice.store.filings.receipts("cab")
    assert message.receipt_id == receipt.receipt_id == "receipt-1"
    assert (message.mailbox_id, message.prefix) == (practice.application.id, PREFIX)
    assert await practice.store.filings.receipts("autre") == []
