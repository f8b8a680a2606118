"""Who waits is woken after the commit; the trail of the mail database."""

import asyncio

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from directory.errors import SchemaMismatchError
from directory.trail import AuditEvent, TrailProblem
from mailserver.store.database import MailStore, migrate
from tests.support.mailstore import AT, HASH_KEY, entry, open_practice


@pytest.fixture
async def practice(tmp_path):
    async with open_practice(tmp_path) as opened:
        yield opened


async def test_a_waiter_wakes_and_reads_what_woke_it(practice):
    told = practice.store.changes.subscribe(practice.doctor.id)

    async def wait():
        await told.wait()
        return await practice.entries(practice.doctor)

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiting = group.create_task(wait())
        await asyncio.sleep(0)
        await practice.store.messages.deliver(practice.delivery([entry(practice.doctor)]))

    assert len(waiting.result()) == 1


async def test_changes_between_two_waits_are_one(practice):
    told = practice.store.changes.subscribe(practice.doctor.id)
    await practice.fill(practice.doctor, 3)
    await told.wait()

    assert not told.pending
    await practice.fill(practice.doctor, 1)
    told.clear()
    assert not told.pending


async def test_only_who_waits_for_this_mailbox_is_told_and_only_until_closing(practice):
    changes = practice.store.changes
    doctor = changes.subscribe(practice.doctor.id)
    colleague = changes.subscribe(practice.colleague.id)
    closed = changes.subscribe(practice.doctor.id)
    closed.close()
    closed.close()
    await practice.fill(practice.doctor, 1)

    assert (doctor.pending, colleague.pending, closed.pending) == (True, False, False)


async def test_a_failed_delivery_wakes_nobody(practice):
    told = practice.store.changes.subscribe(practice.doctor.id)
    with pytest.raises(Exception, match="no such folder"):
        await practice.store.messages.deliver(
            practice.delivery([entry(practice.doctor), entry(practice.doctor, folder="Rien")])
        )
    assert not told.pending


async def test_who_waits_is_told_even_when_the_writer_was_cancelled(practice):
    told = practice.store.changes.subscribe(practice.doctor.id)
    writing = asyncio.create_task(
        practice.store.messages.deliver(practice.delivery([entry(practice.doctor)]))
    )
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    async with asyncio.timeout(5):
        await told.wait()

    assert len(await practice.entries(practice.doctor)) == 1


async def test_closing_waits_for_the_writes_under_way(tmp_path):
    async with open_practice(tmp_path) as practice:
        writing = [
            asyncio.create_task(
                practice.store.messages.deliver(practice.delivery([entry(practice.doctor)]))
            )
            for _ in range(30)
        ]
        await asyncio.sleep(0)
    await asyncio.gather(*writing)
    assert practice.count("entry") == 30


async def test_events_are_recorded_sealed_and_found_by_subject(practice):
    key = Ed25519PrivateKey.generate()
    audit = practice.store.audit
    for number in range(3):
        await audit.record(
            [AuditEvent("message_read", AT, f"mailbox:{number}", "cab", f"mailbox:{number % 2}")]
        )
    await audit.record([])

    assert await audit.unsealed() == 3
    root = await audit.seal(AT, key.sign)
    assert root is not None
    assert root.size == 3
    assert await audit.seal(AT, key.sign) is None
    events = await audit.events(subject="mailbox:0")
    assert [event.event.actor for event in events] == ["mailbox:2", "mailbox:0"]
    report = await asyncio.to_thread(audit.verify, key.public_key(), [root])
    assert (report.problem, report.sealed, report.unsealed) == (None, 3, 0)


async def test_a_root_from_outside_finds_a_trail_that_was_cut(practice):
    key = Ed25519PrivateKey.generate()
    await practice.store.audit.record([AuditEvent("read", AT, "mailbox:1")])
    root = await practice.store.audit.seal(AT, key.sign)
    assert root is not None
    outside = type(root)(2, root.root, AT, b"")
    signed = type(root)(2, root.root, AT, key.sign(outside.signed_bytes()))

    report = await asyncio.to_thread(practice.store.audit.verify, key.public_key(), [signed])
    assert report.problem is TrailProblem.TAIL_CUT


async def test_the_database_is_made_once_and_a_missing_one_is_refused(tmp_path):
    path = tmp_path / "mail.sqlite3"
    with pytest.raises(SchemaMismatchError):
        await MailStore.open(path, hash_key=HASH_KEY)
    migrate(path)
    migrate(path)
    async with await MailStore.open(path, hash_key=HASH_KEY) as store:
        assert await store.accounts.mailboxes() == []
    assert path.stat().st_mode & 0o077 == 0
