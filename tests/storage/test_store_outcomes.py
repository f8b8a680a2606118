"""What the bridge says of a message reaches its sibling entries (RULES §7, §10)."""

import itertools
from dataclasses import replace

import pytest

from directory.codes import MailboxType
from mailserver.message.progress import Progress, Transport
from mailserver.store.errors import ServerKeywordError
from mailserver.store.model import (
    FILING_KEYWORDS,
    NO_FLAGS,
    SERVER_KEYWORDS,
    Flag,
    FlagChange,
    FlagMode,
    NewMailbox,
    Tracked,
)
from mailserver.store.moves import Transfer
from tests.support.mailstore import AT, entry, open_practice


@pytest.fixture
async def practice(tmp_path):
    async with open_practice(tmp_path) as opened:
        await opened.store.messages.deliver(
            opened.delivery(
                [
                    entry(opened.doctor, keywords=["$SignatureValid"]),
                    entry(opened.patient, held=True),
                    entry(opened.application),
                    entry(opened.elsewhere),
                ]
            )
        )
        yield opened


async def test_a_held_entry_is_in_no_listing_count_or_change(practice):
    folder = await practice.inbox(practice.patient)
    status = await practice.store.folders.status(folder.id)
    changes = await practice.store.messages.changed_since(folder.id, 0)

    assert await practice.entries(practice.patient) == []
    assert (status.messages, status.unseen, status.octets, status.uidnext) == (0, 0, 0, 1)
    assert changes.rows == []
    assert await practice.store.messages.summaries(folder.id, 10) == []


OUTCOMES = [
    frozenset(said)
    for size in range(1, 4)
    for said in itertools.combinations([*sorted(FILING_KEYWORDS), "$Held"], size)
]


@pytest.mark.parametrize("said", OUTCOMES, ids=lambda said: " ".join(sorted(said)))
async def test_a_patient_sees_what_was_filed_and_nothing_that_is_kept(practice, said):
    await practice.say(sorted(said))

    released = bool(said & {"$Filed", "$Duplicate", "$NoDocument"})
    released = released and not said & {"$Held", "$Quarantined"}
    rows = await practice.entries(practice.patient)
    assert bool(rows) is released
    if released:
        assert rows[0].uid == 1
        assert rows[0].keywords == said
    (doctor,) = await practice.entries(practice.doctor)
    assert doctor.keywords == {"$SignatureValid"} | (said - {"$Held"})


async def test_the_outcome_of_one_structure_is_not_told_to_another(practice):
    await practice.say(["$Filed"])

    (row,) = await practice.entries(practice.elsewhere)
    assert row.keywords == frozenset()


async def test_a_release_takes_its_uid_when_it_happens(practice):
    await practice.store.messages.deliver(practice.delivery([entry(practice.patient)]))
    await practice.store.messages.deliver(practice.delivery([entry(practice.patient)]))
    before = await practice.store.folders.status((await practice.inbox(practice.patient)).id)
    await practice.say(["$Filed"])
    await practice.store.messages.deliver(practice.delivery([entry(practice.patient)]))

    rows = await practice.entries(practice.patient)
    assert [row.uid for row in rows] == [1, 2, 3, 4]
    assert rows[2].keywords == {"$Filed"}
    assert rows[2].modseq == before.highestmodseq + 1
    assert [row.modseq for row in rows] == sorted(row.modseq for row in rows)


async def test_what_a_person_files_from_quarantine_is_released_then(practice):
    await practice.say(["$Quarantined"])
    assert await practice.entries(practice.patient) == []

    await practice.say(["$Filed"], mode=FlagMode.REPLACE)
    (patient,) = await practice.entries(practice.patient)
    (doctor,) = await practice.entries(practice.doctor)
    assert patient.keywords == {"$Filed"}
    assert doctor.keywords == {"$SignatureValid", "$Filed"}


async def test_what_was_filed_wrongly_leaves_the_patient_s_folders_again(practice):
    store = practice.store
    await practice.say(["$Filed"])
    inbox = await practice.inbox(practice.patient)
    elsewhere = await store.folders.create(practice.patient.id, "Santé")
    await store.messages.copy(Transfer(inbox.id, (1,), elsewhere.id, AT))
    before = (await store.folders.status(inbox.id)).highestmodseq

    await practice.say(["$Filed"], mode=FlagMode.REMOVE)
    await practice.say(["$Held", "$Quarantined"])

    assert await practice.entries(practice.patient) == []
    assert await practice.entries(practice.patient, "Santé") == []
    status = await store.folders.status(inbox.id)
    assert (status.messages, status.unseen, status.octets) == (0, 0, 0)
    assert await store.messages.vanished_since(inbox.id, before) == [1]
    assert (practice.patient.id, 0, 0) in practice.rows()["mailbox_usage"]
    (doctor,) = await practice.entries(practice.doctor)
    assert "$Quarantined" in doctor.keywords
    await practice.say(["$Filed"], mode=FlagMode.REPLACE)
    assert [row.uid for row in await practice.entries(practice.patient)] == [2]


async def test_a_repetition_for_somebody_else_takes_nothing_from_who_sees_it(practice):
    await practice.say(["$Filed"])

    await practice.say(["$Held"])

    assert len(await practice.entries(practice.patient)) == 1


async def test_who_sees_an_outcome_is_told_and_who_sees_nothing_is_not(practice):
    changes = practice.store.changes
    watched = (practice.doctor, practice.patient, practice.elsewhere, practice.application)
    told = {mailbox.id: changes.subscribe(mailbox.id) for mailbox in watched}
    await practice.say(["$Filed"])

    assert told[practice.doctor.id].pending
    assert told[practice.patient.id].pending
    assert told[practice.application.id].pending
    assert not told[practice.elsewhere.id].pending


async def test_an_outcome_said_twice_changes_nothing_the_second_time(practice):
    await practice.say(["$Filed"])
    before = practice.rows()
    await practice.say(["$Filed"])

    assert practice.rows() == before


async def test_a_copy_is_told_the_outcome_too(practice):
    inbox = await practice.inbox(practice.doctor)
    archive = await practice.folder(practice.doctor, "Archive")
    await practice.store.messages.copy(Transfer(inbox.id, (1,), archive.id, AT))
    await practice.say(["$Filed"])

    (row,) = await practice.entries(practice.doctor, "Archive")
    assert row.keywords == {"$SignatureValid", "$Filed"}


@pytest.mark.parametrize("mode", list(FlagMode))
@pytest.mark.parametrize("keyword", sorted(SERVER_KEYWORDS))
@pytest.mark.parametrize("spell", [str, str.lower, str.upper])
async def test_a_client_may_not_name_a_keyword_of_the_server(practice, mode, keyword, spell):
    folder = await practice.inbox(practice.doctor)
    change = FlagChange(folder.id, (1,), mode, NO_FLAGS, frozenset({spell(keyword)}))
    with pytest.raises(ServerKeywordError):
        await practice.store.messages.store_flags(change)


async def test_a_client_that_replaces_all_flags_keeps_those_of_the_server(practice):
    folder = await practice.inbox(practice.doctor)
    change = FlagChange(folder.id, (1,), FlagMode.REPLACE, Flag.SEEN, frozenset({"perso"}))
    (row,) = await practice.store.messages.store_flags(change)

    assert row.flags == Flag.SEEN
    assert row.keywords == {"$SignatureValid", "perso"}


async def test_the_application_says_outcomes_on_its_own_mailbox_only(practice):
    folder = await practice.inbox(practice.doctor)
    change = FlagChange(
        folder.id, (1,), FlagMode.ADD, NO_FLAGS, frozenset({"$Filed"}), by_application=True
    )
    with pytest.raises(ServerKeywordError):
        await practice.store.messages.store_flags(change)


@pytest.mark.parametrize("keyword", ["$SignatureValid", "$SignatureInvalid"])
async def test_the_application_never_says_that_a_signature_is_good(practice, keyword):
    with pytest.raises(ServerKeywordError):
        await practice.say([keyword])


async def test_the_bridge_is_awaited_until_it_said_an_outcome(practice):
    assert await practice.store.filings.awaiting_outcome() == 1
    await practice.say(["$Held"])
    assert await practice.store.filings.awaiting_outcome() == 1
    await practice.say(["$NoDocument"])
    assert await practice.store.filings.awaiting_outcome() == 0


async def test_another_application_of_the_structure_says_no_outcome(tmp_path):
    """The first one is the bridge's; software that came later releases nobody's mail (RULES §10)."""
    async with open_practice(tmp_path) as practice:
        other = await practice.store.accounts.add_mailbox(
            NewMailbox("lps@cab.test", MailboxType.APP, "cab", "LPS", None, filing=False, at=AT)
        )
        await practice.store.messages.deliver(
            practice.delivery([entry(practice.patient, held=True), entry(other)])
        )
        folder = await practice.inbox(other)
        change = FlagChange(
            folder.id, (1,), FlagMode.ADD, NO_FLAGS, frozenset({"$Filed"}), by_application=True
        )

        with pytest.raises(ServerKeywordError):
            await practice.store.messages.store_flags(change)

        assert await practice.entries(practice.patient) == []
        assert await practice.store.filings.awaiting_outcome() == 0
        assert await practice.store.filings.messages("cab") == []
        assert await practice.store.filings.receipts("cab") == []


async def _sent_to_the_doctor(practice):
    delivery = practice.delivery([entry(practice.doctor), entry(practice.application)])
    tracked = Tracked(
        practice.colleague.id, "<1@x>", practice.doctor.address, Progress(Transport.DELIVERED)
    )
    await practice.store.messages.deliver(replace(delivery, tracked=(tracked,)))
    rows = await practice.entries(practice.application)

    async def state(words, mode=FlagMode.ADD):
        await practice.say(words, mode=mode, uid=rows[-1].uid)
        (found,) = await practice.store.tracking.receipt(delivery.receipt_id)
        return found.progress.state

    return state


async def test_of_two_packages_one_set_aside_is_what_the_sender_sees(practice):
    state = await _sent_to_the_doctor(practice)

    assert await state(["$Filed", "$Quarantined"]) == "quarantined"
    assert await state(["$Quarantined"], FlagMode.REMOVE) == "filed"


async def test_the_sender_sees_what_the_record_says_last(practice):
    """As the bridge tells it: it clears the old mark, then sets the new one."""
    state = await _sent_to_the_doctor(practice)
    seen = [await state(["$Quarantined"])]
    for old, new in (("$Quarantined", "$Filed"), ("$Filed", "$Quarantined")):
        seen += [await state([old], FlagMode.REMOVE), await state([new])]

    assert seen == ["quarantined", "quarantined", "filed", "filed", "quarantined"]


async def test_a_message_without_documents_is_no_verdict(practice):
    state = await _sent_to_the_doctor(practice)

    assert await state(["$NoDocument"]) == "delivered"
