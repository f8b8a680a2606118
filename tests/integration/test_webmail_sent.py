"""Where a sent message stands, as the webmail tells its sender."""

import re
from dataclasses import replace

import pytest

from certs.mime import scan
from mailserver.delivery.submission import SubmissionMessage, Submitted
from mailserver.fairness import FairLimits, Fairness, Rate
from mailserver.message.progress import Event, Progress, Source, Transport, Verdict, advance
from mailserver.webmail.text_fr import standing
from tests.support.mailsite import AT, DOCTOR, PATIENT
from tests.support.receipts import disposition_report
from tests.support.webmail import token_of, webmail

LETTER = (
    b"From: Dr Martin <dr.martin@cabinet.mssante.test>\r\nTo: <%b>\r\nSubject: Essai\r\n"
    b"Message-ID: <1@chu.test>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n\r\nBonjour\r\n"
)


@pytest.fixture
async def site(tmp_path):
    async with webmail(tmp_path) as opened:
        yield opened


async def write(site, raw: bytes) -> None:
    """Let the doctor write to the patient."""
    doctor = await site.mail.mailbox(DOCTOR)
    letter = SubmissionMessage(raw, DOCTOR, (PATIENT,), doctor, AT)
    assert isinstance(await site.mail.submissions.submit(letter), Submitted)


async def deliver(site) -> str:
    """Put a letter into the patient's INBOX; give its page's path."""
    await write(site, LETTER % PATIENT.encode())
    mailbox = await site.mail.mailbox(PATIENT)
    inbox = await site.mail.store.folders.get(mailbox.id, "INBOX")
    return f"/messagerie/{mailbox.id}/{inbox.id}/1"


async def answer(site, client) -> str:
    """Send an answer to the doctor; give the path of the Sent folder."""
    path = await deliver(site)
    page = (await client.get(path)).text
    nonce = page.split('name="nonce" value="', 1)[1].split('"', 1)[0]
    form = {"csrf": token_of(page), "nonce": nonce, "text": "Merci"}
    assert (await client.post(f"{path}/repondre", data=form)).status_code == 303
    mailbox = await site.mail.mailbox(PATIENT)
    sent = await site.mail.store.folders.get(mailbox.id, "Sent")
    return f"/messagerie/{mailbox.id}/{sent.id}"


async def test_the_list_and_the_page_of_a_sent_message_say_where_it_stands(site):
    async with site.signed_in() as client:
        folder = await answer(site, client)
        listed = (await client.get(folder)).text
        page = (await client.get(f"{folder}/1")).text

    assert re.search(r'class="meta">[^<]* · Remis</p>', listed)
    assert "Où en est ce message" in page
    assert f"<li>{DOCTOR}\u00a0: Remis</li>" in page


async def test_the_webmail_takes_its_share_of_what_a_mailbox_may_send(site, monkeypatch):
    services = replace(
        site.app.state.services,
        fairness=Fairness(FairLimits(account_messages=Rate(2, 600.0)), lambda: 0.0),
    )
    monkeypatch.setattr(site.app.state, "services", services)
    async with site.signed_in() as client:
        path = await deliver(site)
        page = (await client.get(path)).text
        form = {"csrf": token_of(page), "text": "Merci"}
        said = [
            await client.post(f"{path}/repondre", data={**form, "nonce": str(number) * 32})
            for number in range(3)
        ]

    assert [each.status_code for each in said] == [303, 303, 422]
    assert "Vous avez envoyé beaucoup de messages\u00a0:" in said[2].text
    assert "Merci" in said[2].text
    assert len(await site.mail.inbox(PATIENT, "Sent")) == 2


async def test_the_page_says_the_code_of_what_was_set_aside(site):
    async with site.signed_in() as client:
        folder = await answer(site, client)
        (sent,) = await site.mail.inbox(PATIENT, "Sent")
        doctor = await site.mail.mailbox(DOCTOR)
        report = disposition_report(DOCTOR, "quarantined", "902", about=sent.index.message_id)
        told = SubmissionMessage(report, DOCTOR, (PATIENT,), doctor, AT)
        assert isinstance(await site.mail.submissions.submit(told), Submitted)
        page = (await client.get(f"{folder}/1")).text

    assert f"<li>{DOCTOR}\u00a0: Remis, mis de côté pour vérification (code 902)</li>" in page


async def test_a_message_that_came_in_has_no_such_line(site):
    path = await deliver(site)
    async with site.signed_in() as client:
        assert "Où en est ce message" not in (await client.get(path)).text
        assert "Remis" not in (await client.get(path[: path.rindex("/")])).text


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ((), "En cours d'envoi"),
        ((Event(Source.CARRIAGE, Transport.RELAYED),), "Transmis à l'opérateur du destinataire"),
        ((Event(Source.CARRIAGE, Transport.FAILED, code="550"),), "Non remis"),
        ((Event(Source.RECIPIENT, verdict=Verdict.FILED),), "Remis et rangé dans le dossier"),
        ((Event(Source.RECIPIENT, displayed=True),), "Remis et affiché"),
    ],
)
def test_every_state_has_its_words(events, text):
    progress = Progress()
    for event in events:
        progress = advance(progress, event)

    assert standing([progress.state]) == text


def test_of_several_recipients_the_one_that_needs_attention_is_told():
    assert standing(["filed", "failed", "relayed"]) == "Non remis"
    assert standing([]) == ""
    assert all(standing([each.value]) for each in Transport)
    assert all(standing([each.value]) for each in Verdict if each.value)


async def test_nothing_a_form_says_beside_its_text_changes_who_writes(site):
    path = await deliver(site)
    bob = "dr.noir@cabinet.mssante.test"
    async with site.signed_in() as client:
        page = (await client.get(path)).text
        nonce = page.split('name="nonce" value="', 1)[1].split('"', 1)[0]
        form = {
            "csrf": token_of(page),
            "nonce": nonce,
            "text": f"Merci\r\nFrom: {bob}\r\nBcc: x@evil.test\r\n\r\nFrom: {bob}",
            **dict.fromkeys(("from", "From", "sender", "mail_from", "author", "to", "cc"), bob),
        }
        assert (await client.post(f"{path}/repondre", data=form)).status_code == 303

    (entry,) = await site.mail.inbox(DOCTOR)
    outline = scan(await site.mail.raw(entry))
    assert outline.text("from") == PATIENT
    assert not any(outline.fields(name) for name in ("sender", "bcc", "cc", "resent-from"))
    assert await site.mail.inbox(bob) == []


@pytest.mark.parametrize(
    "header",
    [
        "Subject: x\r\nReply-To: dr.noir@cabinet.mssante.test, x@evil.test",
        "Subject: =?utf-8?q?x=0D=0AFrom:_dr.noir=40cabinet.mssante.test?=",
        "Subject: x\r\nReferences: <1@a>\r\n\tFrom:dr.noir@cabinet.mssante.test <2@a>",
    ],
)
async def test_nothing_in_the_message_that_is_answered_changes_who_writes(site, header):
    raw = LETTER.replace(b"Subject: Essai", header.encode()) % PATIENT.encode()
    await write(site, raw)
    mailbox = await site.mail.mailbox(PATIENT)
    inbox = await site.mail.store.folders.get(mailbox.id, "INBOX")
    path = f"/messagerie/{mailbox.id}/{inbox.id}/1"
    async with site.signed_in() as client:
        page = (await client.get(path)).text
        nonce = page.split('name="nonce" value="', 1)[1].split('"', 1)[0]
        form = {"csrf": token_of(page), "nonce": nonce, "text": "Merci"}
        assert (await client.post(f"{path}/repondre", data=form)).status_code == 303

    (entry,) = await site.mail.inbox(DOCTOR)
    outline = scan(await site.mail.raw(entry))
    assert outline.text("from") == PATIENT
    assert len(outline.fields("from")) == 1
    assert not outline.fields("sender")
