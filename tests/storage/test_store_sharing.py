"""Shared mailboxes and delegations in the store. Source: RFC 4314 §3; RULES §13."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from directory.audit_event import AuditEvent
from directory.model import MailboxType
from mailserver.store.database import MailStore
from mailserver.store.errors import NoSuchFolderError, NotSharableError
from mailserver.store.model import Login, Mailbox, NewDevice, NewMailbox
from mailserver.store.rights import ALL, COLLEAGUE, NONE, RightsMode
from mailserver.store.sharing import NO_GRANTS, FolderWord, Member, Sharing
from tests.support.mailstore import AT, HASH_KEY, Practice, open_practice

EVENT = AuditEvent("shared", AT, "cli:test")
READ = frozenset("lr")


@dataclass(slots=True)
class Team:
    """A practice with two mailboxes of a team."""

    practice: Practice
    desk: Mailbox
    office: Mailbox
    sharing: Sharing

    async def word(self, folder_id: int, mode: RightsMode, rights: str) -> None:
        """Say something of the doctor in a folder."""
        word = FolderWord(folder_id, self.practice.doctor.id, mode, frozenset(rights))
        await self.sharing.set_word(word, EVENT)


@pytest.fixture
async def team(tmp_path: Path) -> AsyncIterator[Team]:
    async with open_practice(tmp_path) as practice:
        made = [
            await practice.store.accounts.add_mailbox(
                NewMailbox(f"{kind.value}@cab.test", kind, "cab", "Desk", None, False, AT)
            )
            for kind in (MailboxType.ORG, MailboxType.CAB)
        ]
        yield Team(practice, made[0], made[1], practice.store.sharing)


async def test_a_share_gives_rights_in_every_folder_of_the_mailbox(team: Team) -> None:
    doctor, inbox = team.practice.doctor, await team.practice.inbox(team.desk)
    assert await team.sharing.grants(doctor.id) == NO_GRANTS

    await team.sharing.share(team.desk.id, doctor.id, COLLEAGUE, EVENT)

    grants = await team.sharing.grants(doctor.id)
    assert grants.on(team.desk.id, inbox.id) == COLLEAGUE
    assert (grants.reached, grants.posting) == ({team.desk.id}, {team.desk.id})
    assert grants.on(team.office.id, (await team.practice.inbox(team.office)).id) == NONE
    assert await team.sharing.grants(team.practice.colleague.id) == NO_GRANTS
    assert await team.sharing.members(team.desk.id) == [Member(doctor, COLLEAGUE)]


async def test_sharing_again_changes_the_rights(team: Team) -> None:
    for rights in (ALL, READ):
        await team.sharing.share(team.desk.id, team.practice.doctor.id, rights, EVENT)

    grants = await team.sharing.grants(team.practice.doctor.id)
    assert dict(grants.mailboxes) == {team.desk.id: READ}
    assert grants.posting == frozenset()


@pytest.mark.parametrize(
    ("shared", "person"),
    [
        ("doctor", "colleague"),
        ("patient", "doctor"),
        ("application", "doctor"),
        ("desk", "patient"),
        ("desk", "application"),
        ("desk", "office"),
        ("desk", "elsewhere"),
        ("desk", "desk"),
    ],
)
async def test_only_a_teams_mailbox_is_shared_and_only_with_its_people(
    team: Team, shared: str, person: str
) -> None:
    first = getattr(team, shared, None) or getattr(team.practice, shared)
    second = getattr(team, person, None) or getattr(team.practice, person)

    with pytest.raises(NotSharableError):
        await team.sharing.share(first.id, second.id, ALL, EVENT)

    assert not team.practice.rows()["mailbox_share"]


async def test_a_folders_own_word_replaces_the_mailboxs(team: Team) -> None:
    doctor = team.practice.doctor
    inbox, sent = [await team.practice.folder(team.desk, name) for name in ("INBOX", "Sent")]
    await team.sharing.share(team.desk.id, doctor.id, COLLEAGUE, EVENT)

    await team.word(inbox.id, RightsMode.REMOVE, "ptei")
    grants = await team.sharing.grants(doctor.id)

    assert grants.on(team.desk.id, inbox.id) == COLLEAGUE - frozenset("ptei")
    assert grants.on(team.desk.id, sent.id) == COLLEAGUE
    assert grants.posting == frozenset()
    assert await team.sharing.acl(team.desk.id, "INBOX") == [
        (doctor, COLLEAGUE - frozenset("ptei"))
    ]
    assert await team.sharing.acl(team.desk.id, "Sent") == [(doctor, COLLEAGUE)]


async def test_a_word_can_take_everything_away_and_can_stand_alone(team: Team) -> None:
    doctor, inbox = team.practice.doctor, await team.practice.inbox(team.desk)
    await team.sharing.share(team.desk.id, doctor.id, ALL, EVENT)
    await team.word(inbox.id, RightsMode.REPLACE, "")
    assert (await team.sharing.grants(doctor.id)).on(team.desk.id, inbox.id) == NONE
    assert await team.sharing.acl(team.desk.id, "INBOX") == []

    await team.sharing.unshare(team.desk.id, doctor.id, EVENT)
    await team.word(inbox.id, RightsMode.ADD, "lrp")

    grants = await team.sharing.grants(doctor.id)
    assert grants.on(team.desk.id, inbox.id) == frozenset("lrp")
    assert (grants.reached, grants.posting) == ({team.desk.id}, {team.desk.id})
    await team.word(inbox.id, RightsMode.REMOVE, "lrp")
    assert not team.practice.rows()["folder_share"]


async def test_a_new_folder_is_no_more_open_than_the_one_above_it(team: Team) -> None:
    doctor, folders = team.practice.doctor, team.practice.store.folders
    await team.sharing.share(team.desk.id, doctor.id, ALL, EVENT)
    above = await folders.create(team.desk.id, "Direction")
    await team.word(above.id, RightsMode.REPLACE, "")

    below = await folders.create(team.desk.id, "Direction/Notes")

    assert (await team.sharing.grants(doctor.id)).on(team.desk.id, below.id) == NONE
    await folders.delete(team.desk.id, "Direction/Notes")
    await folders.delete(team.desk.id, "Direction")
    assert not team.practice.rows()["folder_share"]


async def test_a_word_on_a_folder_that_is_gone_or_not_a_teams_is_refused(team: Team) -> None:
    with pytest.raises(NoSuchFolderError):
        await team.word(999, RightsMode.ADD, "l")
    own = await team.practice.inbox(team.practice.colleague)
    with pytest.raises(NotSharableError):
        await team.word(own.id, RightsMode.ADD, "l")


async def test_who_leaves_takes_no_password_along(team: Team) -> None:
    store, doctor = team.practice.store, team.practice.doctor
    await team.sharing.share(team.desk.id, doctor.id, ALL, EVENT)
    inbox = await team.practice.inbox(team.desk)
    await team.sharing.subscribe(inbox.id, doctor.id, subscribed=True)
    device = await store.accounts.add_device(NewDevice(team.desk.id, "poste", AT, None, doctor.id))
    other = await store.accounts.add_device(
        NewDevice(team.desk.id, "x", AT, None, team.practice.colleague.id)
    )
    opened = await store.accounts.check_device(team.desk.address, device.secret or "", AT)
    assert opened == Login(team.desk, doctor)
    assert opened.who == doctor

    assert await team.sharing.unshare(team.desk.id, doctor.id, EVENT)

    assert await store.accounts.check_device(team.desk.address, device.secret or "", AT) is None
    assert await store.accounts.check_device(team.desk.address, other.secret or "", AT)
    assert await team.sharing.grants(doctor.id) == NO_GRANTS
    assert not await team.sharing.unshare(team.desk.id, doctor.id, EVENT)


async def test_a_delegation_is_recorded_and_withdrawn(team: Team) -> None:
    doctor, secretary = team.practice.doctor, team.practice.colleague
    await team.sharing.delegate(doctor.id, secretary.id, EVENT)
    await team.sharing.delegate(doctor.id, secretary.id, EVENT)

    assert (await team.sharing.grants(secretary.id)).principals == {doctor.id}
    assert (await team.sharing.grants(doctor.id)).principals == frozenset()
    assert await team.sharing.delegates(doctor.id) == [secretary]
    assert await team.sharing.withdraw(doctor.id, secretary.id, EVENT)
    assert not await team.sharing.withdraw(doctor.id, secretary.id, EVENT)
    assert (await team.sharing.grants(secretary.id)).principals == frozenset()


@pytest.mark.parametrize(
    ("principal", "person"),
    [
        ("doctor", "doctor"),
        ("doctor", "elsewhere"),
        ("elsewhere", "doctor"),
        ("patient", "doctor"),
        ("doctor", "patient"),
        ("application", "doctor"),
        ("doctor", "application"),
        ("doctor", "desk"),
    ],
)
async def test_nobody_else_is_a_delegate(team: Team, principal: str, person: str) -> None:
    first = getattr(team, principal, None) or getattr(team.practice, principal)
    second = getattr(team, person, None) or getattr(team.practice, person)

    with pytest.raises(NotSharableError):
        await team.sharing.delegate(first.id, second.id, EVENT)

    assert not team.practice.rows()["send_grant"]


async def test_every_change_is_in_the_trail_and_wakes_the_mailbox(team: Team) -> None:
    doctor, inbox = team.practice.doctor, await team.practice.inbox(team.desk)
    kinds = ("share", "word", "delegate", "withdraw", "unshare")
    events = {kind: AuditEvent(kind, AT, "cli:test", subject="x:1") for kind in kinds}
    acts = [
        team.sharing.share(team.desk.id, doctor.id, ALL, events["share"]),
        team.sharing.set_word(
            FolderWord(inbox.id, doctor.id, RightsMode.REPLACE, READ), events["word"]
        ),
        team.sharing.delegate(team.desk.id, doctor.id, events["delegate"]),
        team.sharing.withdraw(team.desk.id, doctor.id, events["withdraw"]),
        team.sharing.unshare(team.desk.id, doctor.id, events["unshare"]),
    ]
    with team.practice.store.changes.subscribe(team.desk.id) as subscription:
        for act in acts:
            await act
            await asyncio.wait_for(subscription.wait(), 5)

    told = await team.practice.store.audit.events(subject="x:1")
    assert [each.event.kind for each in reversed(told)] == list(kinds)


async def test_a_reader_beside_the_server_sees_the_shares_of_now(team: Team) -> None:
    doctor = team.practice.doctor
    opened = await MailStore.open(team.practice.path, hash_key=HASH_KEY, read_only=True)
    async with opened as reader:
        assert await reader.sharing.grants(doctor.id) == NO_GRANTS
        await team.sharing.share(team.desk.id, doctor.id, READ, EVENT)

        assert (await reader.sharing.grants(doctor.id)).reached == {team.desk.id}
