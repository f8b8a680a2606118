"""Reports that nobody has opened: which ones, of whom, who answers for them, by which index.

Source: RFC 4314 §2.1.
"""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from directory.audit_event import AuditEvent
from directory.model import MailboxType
from mailserver.message.index import index
from mailserver.store import unread as module
from mailserver.store.model import (
    NO_FLAGS,
    Flag,
    FlagChange,
    FlagMode,
    Mailbox,
    NewMailbox,
    NewMessage,
)
from mailserver.store.moves import Transfer
from mailserver.store.rights import ALL, COLLEAGUE, RightsMode
from mailserver.store.rows import _query
from mailserver.store.sharing import FolderWord
from mailserver.store.unread import Responsibility, UnreadReport
from tests.support.mailstore import AT, Practice, entry, open_practice, watch_reads

REPORT = (
    b"From: Labo <labo@chu.test>\r\nTo: <dr@cab.test>\r\nSubject: CR ZZCANARY\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: application/zip\r\n"
    b'Content-Disposition: attachment; filename="IHE_XDM.zip"\r\n\r\nx\r\n--b--\r\n'
)
SECOND = timedelta(seconds=1)
ALL_OVERDUE = {"cab": AT, "autre": AT}
EVENT = AuditEvent("shared", AT, "cli:test")


@dataclass(slots=True)
class Desk:
    """A practice, and a mailbox that its team shares."""

    practice: Practice
    team: Mailbox

    async def receive(self, *mailboxes: Mailbox, raw: bytes = REPORT, **more: object) -> None:
        """Deliver one message."""
        entries = [entry(each, **more) for each in mailboxes]  # type: ignore[arg-type] # a flag or a folder
        await self.practice.store.messages.deliver(self.practice.delivery(entries, blob=raw))

    async def mark(self, mailbox: Mailbox, flags: Flag, name: str = "INBOX") -> None:
        """Set flags on every message of a folder."""
        folder = await self.practice.folder(mailbox, name)
        uids = tuple(row.uid for row in await self.practice.entries(mailbox, name))
        change = FlagChange(folder.id, uids, FlagMode.ADD, flags, frozenset())
        await self.practice.store.messages.store_flags(change)

    async def transfer(self, mailbox: Mailbox, name: str, *, keep: bool) -> None:
        """Copy or move the INBOX's messages into another folder."""
        source = await self.practice.inbox(mailbox)
        target = await self.practice.folder(mailbox, name)
        uids = tuple(row.uid for row in await self.practice.entries(mailbox))
        messages = self.practice.store.messages
        await (messages.copy if keep else messages.move)(Transfer(source.id, uids, target.id, AT))

    async def listed(self) -> list[UnreadReport]:
        """Give what is told of when all of it came too long ago."""
        found = await self.practice.store.unread.everywhere(ALL_OVERDUE, 100)
        assert len(found) == await self.practice.store.unread.count(ALL_OVERDUE)
        return found

    async def mailboxes(self) -> list[int]:
        """Give the mailboxes that these lie in."""
        return sorted(each.mailbox_id for each in await self.listed())


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_practice(tmp_path) as practice:
        team = await practice.store.accounts.add_mailbox(
            NewMailbox("accueil@cab.test", MailboxType.ORG, "cab", "Accueil", None, True, AT)
        )
        yield Desk(practice, team)


@pytest.mark.parametrize("kind", MailboxType)
async def test_somebody_answers_for_mailboxes_of_people_and_teams(
    desk: Desk, kind: MailboxType
) -> None:
    mailbox = await desk.practice.store.accounts.add_mailbox(
        NewMailbox("z@cab.test", kind, "cab", "Z", None, True, AT)
    )
    await desk.receive(mailbox)

    told = kind in (MailboxType.PER, MailboxType.ORG, MailboxType.CAB)
    assert await desk.mailboxes() == ([mailbox.id] if told else [])


async def test_a_letter_without_a_package_is_no_report(desk: Desk) -> None:
    await desk.receive(desk.practice.doctor, raw=REPORT.replace(b"IHE_XDM.zip", b"a.zip"))

    assert await desk.listed() == []


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (NO_FLAGS, True),
        (Flag.FLAGGED, True),
        (Flag.ANSWERED, True),
        (Flag.SEEN, False),
        (Flag.SEEN | Flag.FLAGGED, False),
        (Flag.DELETED, False),
    ],
)
async def test_what_was_opened_or_deleted_is_told_of_no_more(
    desk: Desk, flags: Flag, *, told: bool
) -> None:
    await desk.receive(desk.practice.doctor)
    assert await desk.mailboxes() == [desk.practice.doctor.id]

    await desk.mark(desk.practice.doctor, flags)

    assert bool(await desk.listed()) is told


async def test_what_is_marked_unread_again_is_told_of_again(desk: Desk) -> None:
    doctor = desk.practice.doctor
    await desk.receive(doctor, flags=Flag.SEEN)
    assert await desk.listed() == []
    inbox = await desk.practice.inbox(doctor)
    change = FlagChange(inbox.id, (1,), FlagMode.REMOVE, Flag.SEEN, frozenset())

    await desk.practice.store.messages.store_flags(change)

    assert await desk.mailboxes() == [doctor.id]


@pytest.mark.parametrize(
    ("folder", "told"),
    [("Archive", True), ("Sent", False), ("Drafts", False), ("Trash", False), ("Junk", False)],
)
@pytest.mark.parametrize("way", ["delivered", "moved"])
async def test_folders_of_what_was_sent_or_thrown_away_do_not_count(
    desk: Desk, folder: str, way: str, *, told: bool
) -> None:
    doctor = desk.practice.doctor
    if way == "delivered":
        await desk.receive(doctor, folder=folder)
    else:
        await desk.receive(doctor)
        await desk.transfer(doctor, folder, keep=False)

    assert await desk.mailboxes() == ([doctor.id] if told else [])


async def test_a_copy_counts_once_and_one_that_is_read_makes_the_message_read(desk: Desk) -> None:
    doctor, colleague = desk.practice.doctor, desk.practice.colleague
    await desk.receive(doctor, colleague)
    await desk.transfer(doctor, "Archive", keep=True)
    assert await desk.mailboxes() == [doctor.id, colleague.id]

    await desk.mark(doctor, Flag.SEEN, "Archive")

    assert await desk.mailboxes() == [colleague.id]


async def test_a_copy_that_was_thrown_away_unread_hides_nothing(desk: Desk) -> None:
    await desk.receive(desk.practice.doctor)
    await desk.transfer(desk.practice.doctor, "Trash", keep=True)

    assert await desk.mailboxes() == [desk.practice.doctor.id]


async def test_a_message_that_a_client_put_there_is_told_of_like_a_delivered_one(
    desk: Desk,
) -> None:
    inbox = await desk.practice.inbox(desk.practice.doctor)

    await desk.practice.store.messages.append(
        NewMessage(inbox.id, REPORT, index(REPORT), NO_FLAGS, frozenset(), AT)
    )

    assert await desk.mailboxes() == [desk.practice.doctor.id]


async def test_a_held_message_is_told_of_to_nobody(desk: Desk) -> None:
    await desk.receive(desk.practice.doctor, held=True)

    assert await desk.listed() == []


async def test_what_came_at_the_limit_is_told_of_and_a_second_later_not(desk: Desk) -> None:
    await desk.receive(desk.practice.doctor)
    count = desk.practice.store.unread.count

    assert await count({"cab": AT}) == 1
    assert await count({"cab": AT - SECOND}) == 0
    assert await count({"cab": AT + SECOND}) == 1
    assert await count({"autre": AT}) == 0


async def test_each_structure_has_its_own_limit(desk: Desk) -> None:
    await desk.receive(desk.practice.doctor, desk.practice.elsewhere)

    found = await desk.practice.store.unread.everywhere({"cab": AT, "autre": AT - SECOND}, 9)

    assert [each.mailbox_id for each in found] == [desk.practice.doctor.id]


async def test_those_that_wait_longest_come_first_and_no_more_than_asked(desk: Desk) -> None:
    doctor, team = desk.practice.doctor, desk.team
    for hours, mailbox in ((1, doctor), (3, team), (2, doctor)):
        new = replace(entry(mailbox), internal_at=AT - timedelta(hours=hours))
        await desk.practice.store.messages.deliver(desk.practice.delivery([new], blob=REPORT))
    unread = desk.practice.store.unread

    found = await unread.among((doctor.id, team.id), ALL_OVERDUE, 2)

    assert [each.received_at for each in found] == [
        AT - timedelta(hours=3),
        AT - timedelta(hours=2),
    ]
    assert await unread.senders(found) == dict.fromkeys(
        (each.blob_id for each in found), "Labo <labo@chu.test>"
    )
    assert await unread.among((desk.practice.elsewhere.id,), ALL_OVERDUE, 9) == []
    assert [each.mailbox_id for each in await unread.among((team.id,), ALL_OVERDUE, 9)] == [
        team.id
    ]


async def test_who_administers_answers_and_without_anybody_all_who_read(desk: Desk) -> None:
    doctor, colleague, sharing = (
        desk.practice.doctor, desk.practice.colleague, desk.practice.store.sharing,
    )  # fmt: skip
    await desk.receive(desk.team)
    (report,) = await desk.listed()

    async def persons() -> frozenset[int]:
        found = await desk.practice.store.unread.responsibility([desk.team.id])
        return found.persons(report)

    assert await persons() == frozenset()
    await sharing.share(desk.team.id, doctor.id, COLLEAGUE, EVENT)
    await sharing.share(desk.team.id, colleague.id, COLLEAGUE, EVENT)
    assert await persons() == {doctor.id, colleague.id}
    await sharing.share(desk.team.id, colleague.id, ALL, EVENT)
    assert await persons() == {colleague.id}
    word = FolderWord(report.folder_id, colleague.id, RightsMode.REMOVE, frozenset("r"))
    await sharing.set_word(word, EVENT)
    assert await persons() == {doctor.id}
    await sharing.share(desk.team.id, doctor.id, frozenset("lsa"), EVENT)
    assert await persons() == frozenset()


def test_nobody_answers_for_another_mailbox() -> None:
    report = UnreadReport(1, 2, 3, AT, 4)

    assert Responsibility({9: {5: ALL}}, {8: {5: ALL}}).persons(report) == frozenset()


@pytest.mark.parametrize("statement", [module._COUNT, module._ALL, module._OF])
async def test_only_unread_reports_of_the_mailboxes_are_looked_at(
    desk: Desk, statement: object
) -> None:
    query = _query(statement)  # type: ignore[arg-type] # a select
    values = {**query.values, "before": '{"cab": 1}', "mailboxes": "[1]", "many": 9}
    with closing(sqlite3.connect(desk.practice.path)) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query.sql}", values)]

    assert "SEARCH entry USING INDEX entry_unread_package (folder_id=? AND internal_at<?)" in plan
    assert "SEARCH copy USING INDEX entry_blob (blob_id=? AND folder_id=?)" in plan
    scanned = [each for each in plan if each.startswith("SCAN") and "VIRTUAL" not in each]
    assert [each for each in scanned if each != "SCAN anon_1"] == []


async def test_statements_are_the_same_however_many_reports_and_letters(desk: Desk) -> None:
    counts = []
    for _ in range(2):
        for _ in range(20):
            await desk.receive(desk.practice.doctor)
            await desk.receive(desk.practice.doctor, raw=b"Subject: x\r\n\r\n")
        statements = watch_reads(desk.practice.store)
        found = await desk.practice.store.unread.among([desk.practice.doctor.id], ALL_OVERDUE, 100)
        await desk.practice.store.unread.senders(found)
        counts.append((len(statements), len(found)))

    assert counts == [(2, 20), (2, 40)]
