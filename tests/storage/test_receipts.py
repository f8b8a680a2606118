"""Receipts end to end in the tables: what a sender is shown of each recipient (RULES §9).

Reports come in as mail of whoever sent them, by the doors that mail has; nothing is set by hand.
"""

from itertools import permutations

import pytest

from mailserver.delivery.submission import SubmissionMessage, Submitted
from mailserver.queue_commands import QueueCommands
from mailserver.store.model import NO_FLAGS, FlagChange, FlagMode
from tests.support.mailsite import (
    AT,
    CABINET,
    DOCTOR,
    OTHER_DOCTOR,
    PATIENT,
    SECRETARY,
    UNFILED,
    mail_site,
)
from tests.support.receipts import MESSAGE_ID, delivery_report, disposition_report

APPLICATION = CABINET.application_address


@pytest.fixture
async def site(tmp_path):
    async with mail_site(tmp_path) as opened:
        yield opened


def letter(name=MESSAGE_ID):
    return (
        f"From: <{SECRETARY}>\r\nTo: <{DOCTOR}>\r\nSubject: s\r\nMessage-ID: {name}\r\n"
        "Date: Sun, 22 Nov 2026 10:00:00 +0000\r\n\r\ntexte\r\n"
    ).encode()


async def submit(site, raw, by, *to, reverse_path=None):
    mailbox = await site.mailbox(by)
    path = by if reverse_path is None else reverse_path
    return await site.submissions.submit(SubmissionMessage(raw, path, to, mailbox, AT))


async def bridge_says(site, word):
    """Mark the last message of the application mailbox, as the bridge does."""
    mailbox = await site.mailbox(APPLICATION)
    folder = await site.store.folders.get(mailbox.id, "INBOX")
    last = (await site.store.messages.entries(folder.id))[-1].uid
    await site.store.messages.store_flags(
        FlagChange(
            folder.id, (last,), FlagMode.ADD, NO_FLAGS, frozenset({word}), by_application=True
        )
    )


async def shown(site, sent):
    return {
        each.address: (each.progress.state, each.progress.code)
        for each in await site.store.tracking.receipt(sent.receipt_id)
    }


@pytest.mark.parametrize(
    ("by", "of", "state"),
    [
        pytest.param(DOCTOR, DOCTOR, "displayed", id="whom-it-went-to"),
        pytest.param(UNFILED, DOCTOR, "delivered", id="a-colleague-about-another"),
        pytest.param(OTHER_DOCTOR, DOCTOR, "delivered", id="another-structure"),
        pytest.param(PATIENT, DOCTOR, "delivered", id="a-patient-about-another"),
        pytest.param(PATIENT, PATIENT, "delivered", id="who-never-got-it"),
        pytest.param(SECRETARY, DOCTOR, "delivered", id="the-sender"),
    ],
)
async def test_only_whom_a_message_went_to_says_that_it_was_seen(site, by, of, state):
    sent = await submit(site, letter(), SECRETARY, DOCTOR)
    report = disposition_report(of, "displayed", sender=by)
    assert isinstance(await submit(site, report, by, SECRETARY), Submitted)

    assert await shown(site, sent) == {DOCTOR: (state, "")}


async def test_the_record_s_answer_gives_the_code_of_what_was_set_aside(site):
    sent = await submit(site, letter(), SECRETARY, DOCTOR, APPLICATION)
    await bridge_says(site, "$Quarantined")
    before = (await shown(site, sent))[DOCTOR]
    report = disposition_report(DOCTOR, "quarantined", "902", sender=DOCTOR)
    await submit(site, report, APPLICATION, SECRETARY, reverse_path="")

    assert before == ("quarantined", "")
    assert (await shown(site, sent))[DOCTOR] == ("quarantined", "902")


@pytest.mark.parametrize("code", ["", "907", "999", "٩٠٢", "9022"])
async def test_a_code_of_no_list_is_shown_as_none_that_is_known(site, code):
    sent = await submit(site, letter(), SECRETARY, DOCTOR)
    report = disposition_report(DOCTOR, "quarantined", code, sender=DOCTOR)
    await submit(site, report, DOCTOR, SECRETARY)

    assert await shown(site, sent) == {DOCTOR: ("quarantined", "")}
    commands = QueueCommands(site.store, lambda: AT)
    (row,) = await commands.message_track({"name": MESSAGE_ID})
    assert (row["code"], row["meaning"]) == (None, "set aside, without a code that is known")


async def test_every_order_of_what_happens_here_ends_the_same(site):
    """The record's word, its answer, the doctor's eyes, and a patient's forgery."""
    ends = set()
    for number, order in enumerate(permutations(range(4))):
        name = f"<m{number}@cab.test>"
        sent = await submit(site, letter(name), SECRETARY, DOCTOR, APPLICATION)

        async def bridge():
            await bridge_says(site, "$Quarantined")

        async def answer(name=name):
            raw = disposition_report(DOCTOR, "quarantined", "904", about=name, sender=DOCTOR)
            await submit(site, raw, APPLICATION, SECRETARY, reverse_path="")

        async def seen(name=name):
            raw = disposition_report(DOCTOR, "displayed", about=name, sender=DOCTOR)
            await submit(site, raw, DOCTOR, SECRETARY)

        async def forged(name=name):
            for raw in (
                delivery_report(DOCTOR, "failed", "5.1.1", about=name, sender=PATIENT),
                disposition_report(DOCTOR, "filed", about=name, sender=PATIENT),
            ):
                await submit(site, raw, PATIENT, SECRETARY)

        acts = (bridge, answer, seen, forged)
        for at in order:
            await acts[at]()
        for at in order:  # everything comes once more, as after a lost answer
            if acts[at] is not bridge:
                await acts[at]()
        (doctor,) = (
            each.progress
            for each in await site.store.tracking.receipt(sent.receipt_id)
            if each.address == DOCTOR
        )
        ends.add((doctor.transport.value, doctor.verdict.value, doctor.code, doctor.displayed))

    assert ends == {("delivered", "quarantined", "904", True)}
