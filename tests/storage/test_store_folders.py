"""Folders: names, special ones, UIDVALIDITY, renaming."""

import pytest

from mailserver.store.errors import (
    CannotError,
    FolderExistsError,
    NoSuchFolderError,
    NoSuchMailboxError,
)
from mailserver.store.folders import MAX_NAME_OCTETS
from mailserver.store.model import Flag, FlagChange, FlagMode
from mailserver.store.moves import Transfer
from tests.support.mailstore import AT, entry, open_practice


@pytest.fixture
async def practice(tmp_path):
    async with open_practice(tmp_path) as opened:
        yield opened


async def names(practice):
    return [folder.name for folder in await practice.store.folders.list(practice.doctor.id)]


async def test_a_new_mailbox_has_inbox_and_the_special_folders(practice):
    folders = await practice.store.folders.list(practice.doctor.id)

    assert [(folder.name, folder.special_use) for folder in folders] == [
        ("INBOX", None),
        ("Sent", "\\Sent"),
        ("Drafts", "\\Drafts"),
        ("Trash", "\\Trash"),
        ("Junk", "\\Junk"),
        ("Archive", "\\Archive"),
    ]
    assert all(folder.subscribed for folder in folders)
    assert len({folder.uidvalidity for folder in folders}) == 6


@pytest.mark.parametrize("name", ["INBOX", "inbox", "InBox"])
async def test_inbox_is_found_in_any_case(practice, name):
    found = await practice.store.folders.get(practice.doctor.id, name)
    assert found is not None
    assert found.name == "INBOX"


@pytest.mark.parametrize("name", ["Résultats", "Patients/2026/été", "a" * MAX_NAME_OCTETS])
async def test_a_folder_is_made_under_its_name(practice, name):
    made = await practice.store.folders.create(practice.doctor.id, name)

    assert made == await practice.store.folders.get(practice.doctor.id, name)
    assert (made.uidnext, made.special_use, made.subscribed) == (1, None, False)


async def test_one_name_in_two_unicode_forms_is_one_folder(practice):
    await practice.store.folders.create(practice.doctor.id, "e\u0301te\u0301")
    with pytest.raises(FolderExistsError):
        await practice.store.folders.create(practice.doctor.id, "\u00e9t\u00e9")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "a\nb",
        "a\x00",
        "\ud800",
        "a" * (MAX_NAME_OCTETS + 1),
        "é" * 999,
    ],
)
async def test_what_cannot_be_a_name_is_refused(practice, name):
    with pytest.raises(CannotError):
        await practice.store.folders.create(practice.doctor.id, name)
    assert await practice.store.folders.get(practice.doctor.id, name) is None


@pytest.mark.parametrize("name", ["inbox", "Sent", "Deux"])
async def test_a_name_is_taken_once(practice, name):
    if name == "Deux":
        await practice.store.folders.create(practice.doctor.id, name)
    with pytest.raises(FolderExistsError):
        await practice.store.folders.create(practice.doctor.id, name)


async def test_a_mailbox_that_is_not_there_has_no_folder(practice):
    with pytest.raises(NoSuchMailboxError):
        await practice.store.folders.create(999, "Deux")


async def test_a_folder_made_again_has_another_uidvalidity(practice):
    first = await practice.store.folders.create(practice.doctor.id, "Deux")
    await practice.store.folders.delete(practice.doctor.id, "Deux")
    second = await practice.store.folders.create(practice.doctor.id, "Deux")

    assert second.uidvalidity > first.uidvalidity
    assert second.id != first.id


async def test_a_deleted_folder_takes_its_messages_and_bodies(practice):
    made = await practice.store.folders.create(practice.doctor.id, "Deux")
    await practice.store.folders.create(practice.doctor.id, "Deux/Trois")
    await practice.store.messages.deliver(
        practice.delivery([entry(practice.doctor, folder="Deux")])
    )
    inbox = await practice.fill(practice.doctor, 1)
    await practice.store.messages.move(Transfer(inbox.id, (1,), made.id, AT))
    await practice.store.messages.move(Transfer(made.id, (2,), inbox.id, AT))
    await practice.store.folders.delete(practice.doctor.id, "Deux")

    assert "Deux" not in await names(practice)
    assert "Deux/Trois" in await names(practice)
    assert practice.count("entry") == practice.count("blob") == 1


@pytest.mark.parametrize("name", ["inbox", "Sent", "Drafts", "Trash", "Junk", "Archive"])
async def test_folders_that_deliveries_need_are_not_deleted(practice, name):
    with pytest.raises(CannotError):
        await practice.store.folders.delete(practice.doctor.id, name)


async def test_renaming_takes_what_is_below_along(practice):
    for name in ("Un", "Un/Deux", "Un/Deux/Trois", "Unique", "un"):
        await practice.store.folders.create(practice.doctor.id, name)
    renamed = await practice.store.folders.rename(practice.doctor.id, "Un", "Éte/Six")

    assert renamed.name == "Éte/Six"
    assert (await names(practice))[6:] == [
        "Éte/Six",
        "Éte/Six/Deux",
        "Éte/Six/Deux/Trois",
        "Unique",
        "un",
    ]


@pytest.mark.parametrize(
    ("name", "to", "error"),
    [
        ("Rien", "Autre", NoSuchFolderError),
        ("Un", "INBOX", FolderExistsError),
        ("Un", "Un", FolderExistsError),
        ("Un", "Un/Dessous", CannotError),
        ("Sent", "Envoyés", CannotError),
        ("Un", "Pris", FolderExistsError),
        ("Un", "", CannotError),
    ],
)
async def test_renamings_that_cannot_be_leave_everything(practice, name, to, error):
    for made in ("Un", "Un/Deux", "Pris/Deux", "Pris"):
        await practice.store.folders.create(practice.doctor.id, made)
    before = practice.rows()
    with pytest.raises(error):
        await practice.store.folders.rename(practice.doctor.id, name, to)
    assert practice.rows() == before


async def test_a_name_taken_below_the_new_one_refuses_the_renaming(practice):
    for made in ("Un", "Un/Deux", "Libre/Deux"):
        await practice.store.folders.create(practice.doctor.id, made)
    with pytest.raises(FolderExistsError):
        await practice.store.folders.rename(practice.doctor.id, "Un", "Libre")
    assert "Un/Deux" in await names(practice)


async def test_renaming_inbox_gives_its_messages_away_and_keeps_held_ones(practice):
    inbox = await practice.fill(practice.patient, 2)
    await practice.store.messages.deliver(
        practice.delivery([entry(practice.patient, held=True), entry(practice.application)])
    )
    await practice.store.folders.rename(practice.patient.id, "INBOX", "Avant")
    await practice.say(["$Filed"])

    assert [row.uid for row in await practice.entries(practice.patient, "Avant")] == [1, 2]
    assert [row.uid for row in await practice.entries(practice.patient)] == [3]
    changes = await practice.store.messages.changed_since(inbox.id, inbox.highestmodseq)
    assert changes.vanished == [1, 2]


async def test_subscriptions_are_kept(practice):
    await practice.store.folders.unsubscribe(practice.doctor.id, "junk".title())
    await practice.store.folders.create(practice.doctor.id, "Deux")
    await practice.store.folders.subscribe(practice.doctor.id, "Deux")

    folders = await practice.store.folders.list(practice.doctor.id)
    assert {folder.name for folder in folders if not folder.subscribed} == {"Junk"}
    with pytest.raises(NoSuchFolderError):
        await practice.store.folders.subscribe(practice.doctor.id, "Rien")


async def test_a_long_log_of_what_left_is_cut_by_whole_modseqs_and_says_so(practice):
    inbox = await practice.fill(practice.doctor, 6)
    messages = practice.store.messages
    leaving = []
    for uids in ((1,), (2, 3), (4,)):
        change = FlagChange(inbox.id, uids, FlagMode.ADD, Flag.DELETED, frozenset())
        await messages.store_flags(change)
        await messages.expunge(inbox.id, None)
        leaving.append((await practice.store.folders.by_id(inbox.id)).highestmodseq)
    assert await messages.vanished_since(inbox.id, 0) == [1, 2, 3, 4]
    assert await messages.forget_expunged(4) == 0

    assert await messages.forget_expunged(2) == 3

    assert await messages.vanished_since(inbox.id, 0) is None
    assert await messages.vanished_since(inbox.id, leaving[1] - 1) is None
    assert await messages.vanished_since(inbox.id, leaving[1]) == [4]
    assert await messages.forget_expunged(2) == 0
    with pytest.raises(NoSuchFolderError):
        await messages.vanished_since(999, 0)
