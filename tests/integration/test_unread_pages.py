"""Reports that nobody opened for three working days: who is told, and what opens them.

Source: RFC 4314 §2.1.
"""

import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from directory.audit_event import AuditEvent
from mailserver.store.model import Flag, from_micros
from mailserver.webmail import unread_pages
from record_bridge.schema import quarantine
from tests.integration.test_quarantine_pages import waits
from tests.support.mailsite import AT, DOCTOR, PATIENT, SECRETARY, UNFILED
from tests.support.mailstore import watch_reads
from tests.support.webmail import token_of, webmail

REPORT = (
    b"From: =?utf-8?q?Laboratoire_de_l=27=C3=A9toile?= <lab@chu.test>\r\nTo: <%b>\r\n"
    b"Subject: CR de ZZSUJET\r\nMessage-ID: <%d@chu.test>\r\n"
    b"Date: Sun, 22 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/html\r\n\r\n<p>ZZTEXTE</p>\r\n"
    b"--b\r\nContent-Type: application/zip\r\n"
    b'Content-Disposition: attachment; filename="IHE_XDM.zip"\r\n\r\nx\r\n--b--\r\n'
)
LIST = "/messagerie/non-lus"
NOTICE = "depuis plus de trois jours ouvrés"
LATE = datetime(2026, 11, 25, 23, tzinfo=UTC)
"""Monday, Tuesday and Wednesday are over in Paris; all came on the Sunday before."""


@pytest.fixture
async def site(tmp_path):
    async with webmail(tmp_path) as opened:
        yield opened


async def receive(site, *addresses, many=1, first=0):
    for number in range(first, first + many):
        raw = REPORT % (addresses[0].encode(), number)
        await site.mail.receive(raw, *addresses)


async def share(site, address, rights, team=SECRETARY):
    mailbox, person = await site.mail.mailbox(team), await site.mail.mailbox(address)
    event = AuditEvent("mailbox_shared", AT, "cli:test")
    await site.mail.store.sharing.share(mailbox.id, person.id, frozenset(rights), event)


def links(page):
    return re.findall(r'href="(/messagerie/\d+/\d+/\d+)"', page.text)


async def test_a_report_is_told_of_when_three_working_days_are_over_and_opened_it_leaves(site):
    await receive(site, DOCTOR)
    site.clock.now = LATE.replace(hour=22, minute=58)
    async with site.signed_in("doctor") as client:
        assert NOTICE not in (await client.get("/accueil")).text
        assert links(await client.get(LIST)) == []
        site.clock.now = LATE
        home = (await client.get("/accueil")).text
        assert "1 compte rendu n&#39;est pas lu" in home
        assert f'href="{LIST}"' in home
        shown = await client.get(LIST)
        assert "Laboratoire de l&#39;étoile" in shown.text
        assert "lab@chu.test" in shown.text
        assert "Reçu le 22\u00a0novembre 2026 à 11\u00a0h\u00a000" in shown.text
        (opened,) = links(shown)
        assert (await client.get(opened)).status_code == 200
        assert links(await client.get(LIST)) == []
        assert NOTICE not in (await client.get("/accueil")).text


async def test_the_list_names_no_patient_and_says_nothing_of_what_a_report_is(site):
    await receive(site, DOCTOR)
    site.clock.now = LATE
    async with site.signed_in("doctor") as client:
        shown = (await client.get(LIST)).text

    assert "ZZ" not in shown
    assert PATIENT.partition("@")[0] not in shown


async def test_who_holds_no_professional_mailbox_has_no_such_page(site):
    await receive(site, PATIENT)
    site.clock.now = LATE
    async with site.signed_in("patient") as client:
        assert (await client.get(LIST)).status_code == 404
        assert NOTICE not in (await client.get("/accueil")).text


async def test_a_colleagues_own_reports_are_nobody_elses(site):
    await receive(site, UNFILED)
    await share(site, DOCTOR, "lrswipkxtea")
    site.clock.now = LATE
    async with site.signed_in("doctor") as client:
        assert links(await client.get(LIST)) == []
    async with site.signed_in("colleague") as client:
        assert len(links(await client.get(LIST))) == 1


async def test_who_administers_a_teams_mailbox_is_told_and_opens_it_there(site):
    await receive(site, SECRETARY)
    await share(site, DOCTOR, "lrswipkxtea")
    await share(site, UNFILED, "lrs")
    site.clock.now = LATE
    async with site.signed_in("colleague") as client:
        assert links(await client.get(LIST)) == []
    async with site.signed_in("doctor") as client:
        (opened,) = links(await client.get(LIST))
        message = await client.get(opened)
        assert f'href="{LIST}"' in message.text
        assert "ZZTEXTE" in (await client.get(f"{opened}/contenu")).text
        assert (await client.get(f"{opened}/piece/1")).status_code == 200
        assert links(await client.get(LIST)) == []
    (entry,) = await site.mail.inbox(SECRETARY)
    assert entry.row.flags & Flag.SEEN
    team = await site.mail.mailbox(SECRETARY)
    events = await site.mail.store.audit.events(subject=f"mailbox:{team.id}")
    read = [each.event for each in events if each.event.kind == "message_read"]
    assert {each.actor for each in read} == {f"account:{site.accounts['doctor']}"}


async def test_without_an_administrator_all_who_read_there_are_told(site):
    await receive(site, SECRETARY)
    await share(site, DOCTOR, "lrs")
    await share(site, UNFILED, "ls")
    site.clock.now = LATE
    async with site.signed_in("doctor") as client:
        assert len(links(await client.get(LIST))) == 1
    async with site.signed_in("colleague") as client:
        assert links(await client.get(LIST)) == []


async def test_whoever_may_not_mark_a_message_read_leaves_it_on_the_list(site):
    await receive(site, SECRETARY)
    await share(site, DOCTOR, "lr")
    site.clock.now = LATE
    async with site.signed_in("doctor") as client:
        (opened,) = links(await client.get(LIST))
        assert (await client.get(opened)).status_code == 200
        assert links(await client.get(LIST)) == [opened]


async def test_others_messages_are_read_and_nothing_else_is_done_with_them(site):
    await receive(site, SECRETARY)
    await share(site, DOCTOR, "lrswipkxtea")
    site.clock.now = LATE
    async with site.signed_in("doctor") as client:
        (opened,) = links(await client.get(LIST))
        shown = (await client.get(opened)).text
        assert "répondez depuis votre logiciel de messagerie" in shown
        assert f"{opened}/repondre" not in shown
        token = token_of(shown)
        for path in ("/repondre", "/piece/1/garder", "/piece/1/ranger", "/invitation"):
            answer = await client.post(
                opened + path, data={"csrf": token, "text": "x", "nonce": "0" * 32}
            )
            assert answer.status_code == 404, path
        for path in (opened.rpartition("/")[0], f"{opened}/piece/1/ranger"):
            assert (await client.get(path)).status_code == 404, path


@pytest.mark.parametrize("rights", ["", "l", "lswipkxtea"])
async def test_without_the_right_to_read_a_teams_message_is_not_there(site, rights):
    await receive(site, SECRETARY)
    await share(site, DOCTOR, rights)
    mailbox = await site.mail.mailbox(SECRETARY)
    inbox = await site.mail.store.folders.get(mailbox.id, "INBOX")
    path = f"/messagerie/{mailbox.id}/{inbox.id}/1"
    async with site.signed_in("doctor") as client:
        for each in (path, f"{path}/contenu", f"{path}/piece/1"):
            assert (await client.get(each)).status_code == 404, each


async def test_a_folder_of_another_mailbox_is_not_reached_through_a_shared_one(site):
    await receive(site, SECRETARY, UNFILED)
    await share(site, DOCTOR, "lrs")
    team, colleague = await site.mail.mailbox(SECRETARY), await site.mail.mailbox(UNFILED)
    inbox = await site.mail.store.folders.get(colleague.id, "INBOX")
    async with site.signed_in("doctor") as client:
        answer = await client.get(f"/messagerie/{team.id}/{inbox.id}/1")
    assert answer.status_code == 404


async def test_a_hundred_are_shown_and_all_are_counted(site):
    await receive(site, DOCTOR, many=unread_pages.SHOWN)
    site.clock.now = LATE
    async with site.signed_in("doctor") as client:
        page = await client.get(LIST)
        assert (len(links(page)), "plus anciens" in page.text) == (100, False)
        await receive(site, DOCTOR, first=unread_pages.SHOWN)
        page = await client.get(LIST)
        assert (len(links(page)), "Voici les 100 plus anciens, sur 101." in page.text) == (
            100,
            True,
        )


async def test_the_home_and_the_list_cost_the_same_statements_however_many(site):
    counts = []
    await share(site, DOCTOR, "lrswipkxtea")
    for many in (1, 15):
        await receive(site, DOCTOR, many=many, first=many)
        await receive(site, SECRETARY, many=many, first=many)
        site.clock.now = LATE + timedelta(minutes=many)
        async with site.signed_in("doctor") as client:
            await client.get("/accueil")  # rights are kept in memory from now on
            statements = watch_reads(site.mail.store)
            await client.get("/accueil")
            home = len(statements)
            await client.get(LIST)
            counts.append((home, len(statements)))

    assert counts[0] == counts[1]


async def metrics_of(site):
    async with site.client(peer=("127.0.0.1", 1)) as local:
        text = (await local.get("/metrics")).text
    assert "@" not in text
    return dict(re.findall(r"^(pli_\w+(?:\{[^}]*\})?) ([\d.]+)$", text, re.MULTILINE))


async def test_the_metrics_count_what_waits(site):
    await receive(site, DOCTOR)
    await receive(site, SECRETARY)
    site.clock.now = LATE.replace(hour=22)
    assert (await metrics_of(site))["pli_unread_reports"] == "0.0"
    site.clock.now = LATE

    found = await metrics_of(site)

    assert found["pli_unread_reports"] == "2.0"
    assert found['pli_quarantine_late{hours="24"}'] == "0.0"
    assert found['pli_outbox_recipients{state="queued"}'] == "0.0"
    assert found["pli_awaiting_the_bridge"] == "2.0"
    assert found["pli_notifications_waiting"] == "0.0"


@pytest.mark.parametrize(
    ("hours", "day", "three"), [(23, 0, 0), (24, 1, 0), (71, 1, 0), (72, 1, 1)]
)
async def test_the_metrics_count_what_waits_in_quarantine(site, hours, day, three):
    await waits(site)
    (row,) = await site.record.all(select(quarantine.c.received_at))
    site.clock.now = from_micros(row.received_at) + timedelta(hours=hours)

    found = await metrics_of(site)

    assert found['pli_quarantine_late{hours="24"}'] == f"{day}.0"
    assert found['pli_quarantine_late{hours="72"}'] == f"{three}.0"
