"""STORE, APPEND, COPY, MOVE, EXPUNGE and what a client reads afterwards."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest

from mailserver.message.index import index
from mailserver.store.errors import (
    NoSuchBlobError,
    NoSuchEntryError,
    NoSuchFolderError,
    OverQuotaError,
    TooManyKeywordsError,
)
from mailserver.store.model import (
    MAX_KEYWORDS,
    NO_FLAGS,
    SERVER_KEYWORDS,
    AppendUid,
    Changes,
    Flag,
    FlagChange,
    FlagMode,
    NewMessage,
    Origin,
    Quota,
)
from mailserver.store.moves import Replacement, Transfer
from tests.support.mailstore import AT, PREFIX, RAW, entry, open_practice


@pytest.fixture
async def practice(tmp_path):
    async with open_practice(tmp_path) as opened:
        yield opened


def change(folder, uids, flags=NO_FLAGS, keywords=(), mode=FlagMode.ADD, unchangedsince=None):
    return FlagChange(folder.id, tuple(uids), mode, flags, frozenset(keywords), unchangedsince)


def message(folder, raw=RAW, flags=NO_FLAGS, keywords=()):
    return NewMessage(folder.id, raw, index(RAW), flags, frozenset(keywords), AT)


@pytest.mark.parametrize(
    ("mode", "flags", "keywords"),
    [
        (FlagMode.ADD, Flag.SEEN | Flag.FLAGGED, {"un", "deux", "trois"}),
        (FlagMode.REMOVE, NO_FLAGS, {"un"}),
        (FlagMode.REPLACE, Flag.SEEN, {"DEUX", "trois"}),
    ],
)
async def test_store_adds_removes_and_replaces(practice, mode, flags, keywords):
    folder = await practice.fill(practice.doctor, 1)
    store = practice.store.messages.store_flags
    await store(change(folder, [1], Flag.SEEN | Flag.FLAGGED, {"un", "deux"}))
    named = Flag.SEEN if mode is not FlagMode.REMOVE else Flag.SEEN | Flag.FLAGGED
    (row,) = await store(change(folder, [1], named, {"DEUX", "trois"}, mode))

    assert (row.flags, row.keywords) == (flags, keywords)
    assert await practice.entries(practice.doctor) == [row]


async def test_each_change_takes_a_new_modseq_and_no_change_takes_none(practice):
    folder = await practice.fill(practice.doctor, 3)
    (first,) = await practice.store.messages.store_flags(change(folder, [2], Flag.SEEN))
    (again,) = await practice.store.messages.store_flags(change(folder, [2], Flag.SEEN))
    status = await practice.store.folders.status(folder.id)

    assert first.modseq == again.modseq == status.highestmodseq == folder.highestmodseq + 1
    assert status.unseen == 2


async def test_unchangedsince_leaves_newer_entries_alone(practice):
    folder = await practice.fill(practice.doctor, 3)
    await practice.store.messages.store_flags(change(folder, [2], Flag.SEEN))
    changed = await practice.store.messages.store_flags(
        change(folder, [1, 2, 3], Flag.DELETED, unchangedsince=folder.highestmodseq)
    )

    assert [row.uid for row in changed] == [1, 3]
    rows = await practice.entries(practice.doctor)
    assert [row.flags for row in rows] == [Flag.DELETED, Flag.SEEN, Flag.DELETED]


async def test_uids_that_are_gone_are_left_out(practice):
    folder = await practice.fill(practice.doctor, 2)
    changed = await practice.store.messages.store_flags(change(folder, [0, 2, 3, 99], Flag.SEEN))

    assert [row.uid for row in changed] == [2]
    details = await practice.store.messages.detail(folder.id, [99, 2, 1])
    assert [detail.row.uid for detail in details] == [1, 2]
    assert await practice.store.messages.prefixes(folder.id, [1, 7]) == {1: PREFIX}


@pytest.mark.parametrize(
    ("count", "allowed"), [(MAX_KEYWORDS, True), (MAX_KEYWORDS + 1, False), (5000, False)]
)
async def test_keywords_on_one_entry_are_bounded(practice, count, allowed):
    folder = await practice.fill(practice.doctor, 1)
    wanted = change(folder, [1], keywords=[f"k{number}" for number in range(count)])
    if allowed:
        (row,) = await practice.store.messages.store_flags(wanted)
        assert len(row.keywords) == count
    else:
        with pytest.raises(TooManyKeywordsError):
            await practice.store.messages.store_flags(wanted)


async def test_append_gives_its_uid_and_loses_the_server_s_keywords(practice):
    folder = await practice.fill(practice.doctor, 1)
    told = practice.store.changes.subscribe(practice.doctor.id)
    spelt = {keyword.lower() for keyword in SERVER_KEYWORDS} | {"perso"}
    appended = await practice.store.messages.append(message(folder, RAW, Flag.DRAFT, spelt))

    assert appended == AppendUid(folder.uidvalidity, 2)
    row = (await practice.entries(practice.doctor))[1]
    assert (row.flags, row.keywords, row.octets) == (Flag.DRAFT, {"perso"}, len(RAW))
    assert told.pending


async def test_append_takes_a_staged_body_once(practice):
    folder = await practice.inbox(practice.doctor)
    staged = await practice.store.blobs.stage(RAW, len(RAW))
    await practice.store.messages.append(message(folder, staged))

    with pytest.raises(NoSuchBlobError):
        await practice.store.messages.append(message(folder, staged))
    assert len(await practice.entries(practice.doctor)) == 1


async def test_messages_appended_together_are_stored_all_or_none(practice):
    folder = await practice.inbox(practice.doctor)
    large = RAW + b"x" * 5_000_000
    told = await practice.store.messages.append_all([message(folder, RAW), message(folder, large)])
    tight = replace(message(folder, RAW), quota=Quota(10**9, 3))

    assert [each.uid for each in told] == [1, 2]
    with pytest.raises(OverQuotaError):
        await practice.store.messages.append_all([tight, replace(tight, raw=large)])
    assert [row.uid for row in await practice.entries(practice.doctor)] == [1, 2]
    # What was staged for the refused command is dropped with it.
    with closing(sqlite3.connect(practice.path)) as connection:
        assert connection.execute("SELECT count(*) FROM blob").fetchone() == (2,)


async def test_a_replacement_takes_the_place_or_nothing_happens(practice):
    folder = await practice.fill(practice.doctor, 2)
    target = await practice.folder(practice.doctor, "Drafts")
    made = await practice.store.messages.replace(Replacement(folder.id, 1, message(target, RAW)))

    assert (made.uidvalidity, made.uid) == (target.uidvalidity, 1)
    assert [row.uid for row in await practice.entries(practice.doctor)] == [2]
    with pytest.raises(NoSuchEntryError):
        await practice.store.messages.replace(Replacement(folder.id, 1, message(target, RAW)))
    tight = replace(message(target, RAW), quota=Quota(1, 9))
    with pytest.raises(OverQuotaError):
        await practice.store.messages.replace(Replacement(folder.id, 2, tight))
    assert [row.uid for row in await practice.entries(practice.doctor)] == [2]
    assert len(await practice.entries(practice.doctor, "Drafts")) == 1


async def test_a_copy_remembers_its_original_and_when_it_came(practice):
    source = await practice.fill(practice.doctor, 2)
    archive = await practice.folder(practice.doctor, "Archive")
    later = AT + timedelta(days=3)
    copied = Transfer(source.id, (1,), archive.id, later)
    await practice.store.messages.copy(copied)
    await practice.store.messages.copy(Transfer(archive.id, (1,), archive.id, AT))
    first = (await practice.store.messages.origins(source.id))[1]
    copies = await practice.store.messages.origins(archive.id)

    assert first.saved_at == AT
    assert copies == {1: Origin(first.entry_id, later), 2: Origin(first.entry_id, AT)}
    await practice.store.messages.move(Transfer(source.id, (1,), archive.id, later))
    assert await practice.store.messages.origins(archive.id, [3]) == {
        3: Origin(first.entry_id, later)
    }


async def test_a_copy_keeps_body_prefix_flags_and_date(practice):
    source = await practice.fill(practice.doctor, 3)
    await practice.store.messages.store_flags(change(source, [3], Flag.SEEN, {"perso"}))
    target = await practice.folder(practice.doctor, "Archive")
    copied = await practice.store.messages.copy(Transfer(source.id, (3, 1, 9), target.id, AT))

    assert (copied.source_uids, copied.target_uids) == ((1, 3), (1, 2))
    assert copied.uidvalidity == target.uidvalidity
    rows = await practice.entries(practice.doctor)
    copies = await practice.entries(practice.doctor, "Archive")
    fields = ("flags", "keywords", "octets", "internal_at", "blob_id")
    for one, other in zip((rows[0], rows[2]), copies, strict=True):
        assert [getattr(one, name) for name in fields] == [getattr(other, name) for name in fields]
    assert await practice.store.messages.prefixes(target.id, [2]) == {2: PREFIX}


async def test_a_move_keeps_the_entry_and_logs_what_left(practice):
    source = await practice.fill(practice.doctor, 3)
    target = await practice.folder(practice.doctor, "Trash")
    ids = [row.id for row in await practice.entries(practice.doctor)]
    moved = await practice.store.messages.move(Transfer(source.id, (2, 3), target.id, AT))

    assert (moved.source_uids, moved.target_uids) == ((2, 3), (1, 2))
    assert [row.id for row in await practice.entries(practice.doctor, "Trash")] == ids[1:]
    changes = await practice.store.messages.changed_since(source.id, source.highestmodseq)
    assert changes == Changes([], [2, 3], source.highestmodseq + 1)


async def test_a_move_within_one_folder_gives_new_uids(practice):
    folder = await practice.fill(practice.doctor, 2)
    moved = await practice.store.messages.move(Transfer(folder.id, (1,), folder.id, AT))

    assert (moved.source_uids, moved.target_uids) == ((1,), (3,))
    rows = await practice.entries(practice.doctor)
    assert [row.uid for row in rows] == [2, 3]
    changes = await practice.store.messages.changed_since(folder.id, folder.highestmodseq)
    assert ([row.uid for row in changes.rows], changes.vanished) == ([3], [1])


@pytest.mark.parametrize("how", ["copy", "move"])
async def test_nothing_goes_to_another_structure(practice, how):
    source = await practice.fill(practice.doctor, 1)
    target = await practice.inbox(practice.elsewhere)
    with pytest.raises(NoSuchFolderError):
        await getattr(practice.store.messages, how)(Transfer(source.id, (1,), target.id, AT))


async def test_expunge_takes_deleted_entries_only(practice):
    folder = await practice.fill(practice.doctor, 4)
    await practice.store.messages.store_flags(change(folder, [1, 2, 4], Flag.DELETED))

    assert await practice.store.messages.expunge(folder.id, [2, 3]) == [2]
    assert await practice.store.messages.expunge(folder.id) == [1, 4]
    assert await practice.store.messages.expunge(folder.id) == []
    assert [row.uid for row in await practice.entries(practice.doctor)] == [3]


async def test_changes_since_a_modseq_are_told_whole(practice):
    folder = await practice.fill(practice.doctor, 3)
    await practice.store.messages.store_flags(change(folder, [1], Flag.DELETED))
    await practice.store.messages.expunge(folder.id)
    await practice.store.messages.store_flags(change(folder, [3], Flag.SEEN))
    changes = await practice.store.messages.changed_since(folder.id, folder.highestmodseq)

    assert [row.uid for row in changes.rows] == [3]
    assert changes.vanished == [1]
    now = await practice.store.messages.changed_since(folder.id, changes.highestmodseq)
    assert now == Changes([], [], changes.highestmodseq)


async def test_a_uid_is_never_given_twice(practice):
    folder = await practice.fill(practice.doctor, 2)
    await practice.store.messages.store_flags(change(folder, [2], Flag.DELETED))
    await practice.store.messages.expunge(folder.id)
    await practice.fill(practice.doctor, 1)

    assert [row.uid for row in await practice.entries(practice.doctor)] == [1, 3]


async def test_a_body_goes_with_its_last_entry(practice):
    entries = [entry(practice.doctor), entry(practice.colleague)]
    await practice.store.messages.deliver(practice.delivery(entries))
    blob_id = (await practice.entries(practice.doctor))[0].blob_id
    for mailbox, left in ((practice.doctor, 1), (practice.colleague, 0)):
        folder = await practice.inbox(mailbox)
        await practice.store.messages.store_flags(change(folder, [1], Flag.DELETED))
        await practice.store.messages.expunge(folder.id)
        for table in ("blob", "blob_chunk", "message_index"):
            assert practice.count(table) == left

    with pytest.raises(NoSuchBlobError):
        await practice.store.blobs.read(blob_id, 0, 10)
    assert await practice.store.messages.indexes([blob_id]) == {}


async def test_a_folder_that_is_gone_is_said_so(practice):
    messages = practice.store.messages
    assert await messages.entries(999) == []
    for call in (
        messages.changed_since(999, 0),
        messages.expunge(999),
        messages.append(NewMessage(999, RAW, index(RAW), NO_FLAGS, frozenset(), AT)),
        messages.store_flags(FlagChange(999, (1,), FlagMode.ADD, Flag.SEEN, frozenset())),
        practice.store.folders.status(999),
    ):
        with pytest.raises(NoSuchFolderError):
            await call


async def test_a_list_of_messages_is_paged_from_the_newest(practice):
    folder = await practice.fill(practice.doctor, 5)
    page = await practice.store.messages.summaries(folder.id, 2)
    following = await practice.store.messages.summaries(folder.id, 9, before_uid=page[-1].row.uid)

    assert [one.row.uid for one in page] == [5, 4]
    assert [one.row.uid for one in following] == [3, 2, 1]
    assert (page[0].subject, page[0].has_package) == ("CR", False)


@pytest.mark.parametrize("count", [1, 500, 5000])
async def test_any_number_of_uids_is_one_statement(practice, count):
    folder = await practice.fill(practice.doctor, 2)
    details = await practice.store.messages.detail(folder.id, range(1, count + 1))
    assert len(details) == min(count, 2)


async def test_no_read_keeps_a_transaction_open(practice):
    folder = await practice.fill(practice.doctor, 3)
    await practice.store.messages.changed_since(folder.id, 0)
    await practice.store.messages.changed_since(folder.id, folder.highestmodseq)
    await practice.store.messages.entries(folder.id)
    await practice.store.blobs.read_many([(1, 0, 10), (2, 0, 10)])
    with pytest.raises(NoSuchFolderError):
        await practice.store.messages.changed_since(999, 0)

    with closing(sqlite3.connect(practice.path)) as connection:
        busy, log, checkpointed = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert (busy, log, checkpointed) == (0, 0, 0)
