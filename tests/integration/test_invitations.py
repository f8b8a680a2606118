"""Invitations in a patient's messages: shown, accepted, declined, called off, answered.

Source: RFC 5546 §3.2, RFC 6047 §2, RULES §8.
"""

import email
import email.policy
from dataclasses import replace
from html import unescape

import pytest

from mailserver.delivery.submission import SubmissionMessage, Submitted
from mailserver.fairness import FairLimits, Fairness, Rate
from record_bridge.formats.ical import MAX_OCTETS, read_calendar
from tests.support.mailsite import AT, DOCTOR, PATIENT
from tests.support.webmail import token_of, webmail

EVENT = (
    "BEGIN:VEVENT\r\nUID:{uid}\r\nDTSTAMP:20261101T000000Z\r\nDTSTART;TZID=Europe/Paris:20261210T100000"
    "\r\nDURATION:PT30M\r\nSUMMARY:Consultation ZZCANARY\r\nLOCATION:Salle 2\r\nSEQUENCE:{sequence}\r\n"
    "ORGANIZER;CN=Dr:mailto:{organizer}\r\nATTENDEE;RSVP=TRUE:mailto:{attendee}\r\n{more}END:VEVENT\r\n"
)  # fmt: skip


def invite(method="REQUEST", sender=DOCTOR, **fields) -> bytes:
    values = {
        "uid": "rdv-1", "sequence": 0, "organizer": DOCTOR, "attendee": PATIENT, "more": "",
    } | fields  # fmt: skip
    calendar = (
        f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//Test//FR\r\nMETHOD:{method}\r\n"
        + values.pop("event", EVENT).format(**values)
        + "END:VCALENDAR\r\n"
    )
    return (
        f"From: Dr <{sender}>\r\nTo: <{PATIENT}>\r\nSubject: Rendez-vous\r\n"
        f"Message-ID: <{method}{values['sequence']}@cabinet.test>\r\n"
        "Date: Sun, 22 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n"
        "Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n\r\nVenez me voir.\r\n--b\r\n"
        f"Content-Type: text/calendar; method={method}; charset=utf-8\r\n\r\n{calendar}--b--\r\n"
    ).encode()


@pytest.fixture
async def site(tmp_path):
    async with webmail(tmp_path) as opened:
        yield opened


async def deliver(site, raw, address=PATIENT) -> str:
    if b"From: Dr <%b>" % DOCTOR.encode() in raw:
        doctor = await site.mail.mailbox(DOCTOR)
        letter = SubmissionMessage(raw, DOCTOR, (address,), doctor, AT)
        assert isinstance(await site.mail.submissions.submit(letter), Submitted)
    else:
        await site.mail.receive(raw, address)
    mailbox = await site.mail.mailbox(address)
    inbox = await site.mail.store.folders.get(mailbox.id, "INBOX")
    rows = await site.mail.store.messages.entries(inbox.id)
    return f"/messagerie/{mailbox.id}/{inbox.id}/{max(row.uid for row in rows)}"


async def say(client, path, answer):
    page = await client.get(path)
    data = {"csrf": token_of(page.text), "answer": answer}
    return await client.post(path + "/invitation", data=data)


async def replies(site):
    """What the doctor got."""
    mailbox = await site.mail.mailbox(DOCTOR)
    inbox = await site.mail.store.folders.get(mailbox.id, "INBOX")
    found = []
    for row in await site.mail.store.messages.entries(inbox.id):
        raw = await site.mail.store.blobs.read(
            row.blob_id, 0, await site.mail.store.blobs.octets(row.blob_id)
        )
        found.append(email.message_from_bytes(raw, policy=email.policy.default))
    return found


@pytest.mark.parametrize(
    ("answer", "partstat"), [("accepted", "ACCEPTED"), ("declined", "DECLINED")]
)
async def test_an_answer_is_noted_and_told_to_the_organizer_alone(site, answer, partstat):
    path = await deliver(site, invite())
    async with site.signed_in() as client:
        page = (await client.get(path)).text
        assert "Invitation à un rendez-vous" in page
        assert "10 décembre 2026 à 10\u00a0h\u00a000" in page.replace("10\u00a0déc", "10 déc")
        answered = await say(client, path, answer)
        assert answered.headers["location"] == path + "?invitation=oui"
        agenda = (await client.get("/agenda")).text
    assert ("Consultation ZZCANARY" in agenda) is (answer == "accepted")
    (reply,) = await replies(site)
    (part,) = [p for p in reply.walk() if p.get_content_type() == "text/calendar"]
    read = read_calendar(part.get_payload(decode=True))
    assert part.get_param("method") == read.method == "REPLY"
    assert read.appointments[0].uid == "rdv-1"
    assert read.appointments[0].attendees == (PATIENT,)
    assert f"PARTSTAT={partstat}" in part.get_payload(decode=True).decode()
    assert reply["In-Reply-To"] == "<REQUEST0@cabinet.test>"
    # RULES §11: the address is the INS, and in no Message-ID
    assert PATIENT.partition("@")[0] not in reply["Message-ID"]


async def test_a_closed_record_takes_no_appointment_and_says_so(site):
    path = await deliver(site, invite())
    await site.tell("record_close", reason="x")
    async with site.signed_in() as client:
        answered = await say(client, path, "accepted")
        page = (await client.get(answered.headers["location"])).text
        assert "Votre dossier est fermé\u00a0: rien ne s&#39;y ajoute." in page
        assert await replies(site) == []
        answered = await say(client, path, "declined")
        assert answered.headers["location"] == path + "?invitation=oui"
    assert await site.queries.life.own_entries(site.patients["patient"]) == []


async def test_an_answer_beyond_a_mailbox_s_share_is_noted_and_not_said_to_be_told(
    site, monkeypatch
):
    path = await deliver(site, invite())
    fairness = Fairness(FairLimits(account_messages=Rate(1, 600.0)), lambda: 0.0)
    monkeypatch.setattr(
        site.app.state, "services", replace(site.app.state.services, fairness=fairness)
    )
    async with site.signed_in() as client:
        await say(client, path, "accepted")
        answered = await say(client, path, "declined")
        assert answered.headers["location"] == path + "?invitation=non"
        page = (await client.get(answered.headers["location"])).text
    assert "L'organisateur n'est pas prévenu" in unescape(page)
    assert "Vous avez décliné" in page
    assert len(await replies(site)) == 1


async def test_the_file_of_an_invitation_has_a_name_that_says_so(site):
    path = await deliver(site, invite())
    async with site.signed_in() as client:
        page = (await client.get(path)).text
    assert "invitation.ics" in page
    assert "/garder" not in page


async def test_a_new_version_moves_the_appointment_and_an_old_one_does_nothing(site):
    old = await deliver(site, invite())
    new = await deliver(site, invite(sequence=1, event=EVENT.replace("20261210", "20261211")))
    async with site.signed_in() as client:
        await say(client, old, "accepted")
        await say(client, new, "accepted")
        (entry,) = await site.queries.life.own_entries(site.patients["patient"])
        assert entry.day.isoformat() == "2026-12-11"
        assert "version plus récente" in (await client.get(old)).text
        assert (await say(client, old, "declined")).status_code == 404


async def test_a_call_off_takes_away_what_the_same_organizer_s_invitation_made(site):
    path = await deliver(site, invite())
    off = await deliver(site, invite("CANCEL", sequence=1))
    stranger = "autre@chu.test"
    forged = await deliver(site, invite("CANCEL", sender=stranger, organizer=stranger, sequence=9))
    async with site.signed_in() as client:
        await say(client, path, "accepted")
        await say(client, forged, "cancelled")
        assert "Consultation ZZCANARY" in (await client.get("/agenda")).text
        assert "Rendez-vous annulé" in (await client.get(off)).text
        await say(client, off, "cancelled")
        assert "Consultation ZZCANARY" not in (await client.get("/agenda")).text
    assert len(await replies(site)) == 1  # a call-off is not answered


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"sender": "autre@chu.test"}, id="not from its organizer"),
        pytest.param({"attendee": "someone@else.test"}, id="not for this patient"),
        pytest.param({"more": "RECURRENCE-ID:20261210T090000Z\r\n"}, id="one time of many"),
    ],
)
async def test_what_does_not_fit_is_shown_and_not_answered(site, fields):
    path = await deliver(site, invite(**fields))
    async with site.signed_in() as client:
        page = (await client.get(path)).text
        assert "Vous ne pouvez pas répondre d'ici" in page
        assert (await say(client, path, "accepted")).status_code == 404
    assert await replies(site) == []
    assert await site.queries.life.own_entries(site.patients["patient"]) == []


async def test_an_organizer_out_of_reach_is_not_told_and_the_agenda_has_it(site):
    outside = "medecin@chu.test"
    path = await deliver(site, invite(sender=outside, organizer=outside))
    async with site.signed_in() as client:
        assert "ne peut pas être prévenu d'ici" in (await client.get(path)).text
        answered = await say(client, path, "accepted")
        assert answered.headers["location"].endswith("invitation=non")
        assert "Consultation ZZCANARY" in (await client.get("/agenda")).text


@pytest.mark.parametrize(
    "event",
    [
        pytest.param("", id="nothing"),
        pytest.param(EVENT + EVENT.replace("{uid}", "b"), id="two appointments"),
        pytest.param(EVENT.replace("Europe/Paris", "Nulle/Part"), id="a time nobody knows"),
        pytest.param(EVENT.replace("Salle 2", "x" * MAX_OCTETS), id="too large"),
        pytest.param("BEGIN:VEVENT\r\n" * 500, id="deep"),
    ],
)
async def test_a_hostile_invitation_is_a_message_like_another(site, event):
    path = await deliver(site, invite(event=event))
    async with site.signed_in() as client:
        page = await client.get(path)
        assert page.status_code == 200
        assert "Invitation" not in page.text
        assert "Venez me voir" in page.text


async def test_two_methods_in_one_message_are_no_invitation(site):
    raw = invite().replace(b"method=REQUEST", b"method=CANCEL")
    path = await deliver(site, raw)
    async with site.signed_in() as client:
        assert "titre-invitation" not in (await client.get(path)).text


async def test_a_professional_s_page_offers_no_agenda(site):
    path = await deliver(site, invite(attendee=DOCTOR), DOCTOR)
    async with site.signed_in("doctor") as client:
        assert "titre-invitation" not in (await client.get(path)).text
        assert (await say(client, path, "accepted")).status_code == 404


async def test_an_invitation_never_touches_what_the_patient_noted(site):
    command = site.app.state.services.record
    patient = site.patients["patient"]
    await command(
        "own_entry_add",
        {"patient_id": patient, "title": "Le mien", "day": "2026-12-10", "actor": "t"},
    )
    (own,) = await site.queries.life.own_entries(patient)
    path = await deliver(site, invite(uid=own.uid))
    off = await deliver(site, invite("CANCEL", uid=own.uid, sequence=1))
    async with site.signed_in() as client:
        await say(client, path, "accepted")
        await say(client, off, "cancelled")
    assert [e.title for e in await site.queries.life.own_entries(patient)] == ["Le mien"]
