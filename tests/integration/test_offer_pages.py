"""Filing what came without a package, from the page of its message.

Source: RULES §3, RULES §4, RULES §5.
"""

import base64
import re

import pytest
from markupsafe import escape
from sqlalchemy import select

from mailserver.store.model import NewAccount
from mailserver.webmail.offering import REFUSALS
from record_bridge import life
from record_bridge.schema import document
from tests.support.cda import PDF, CdaSpec, cda
from tests.support.hprim import letter
from tests.support.mailsite import AT, DOCTOR, PATIENT, RPPS, SECRETARY, UNFILED
from tests.support.webmail import _HASH, SECRET, token_of, webmail
from tests.support.xdm import package

INS = PATIENT.partition("@")[0]


@pytest.fixture
async def site(tmp_path):
    async with webmail(tmp_path) as opened:
        yield opened


def mail(
    content=PDF, *, name="a.pdf", kind="application/pdf", subject="Bilan", more=b"", text=b""
):
    packed = base64.encodebytes(content).replace(b"\n", b"\r\n")
    return (
        b"From: Labo <labo@chu.test>\r\nTo: <dr@x.test>\r\nSubject: " + subject.encode() +
        b"\r\nMessage-ID: <1@chu.test>\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain;"
        b" charset=utf-8\r\n\r\n" + (text or b"Bonjour") + b"\r\n--b\r\nContent-Type: " + kind.encode() +
        b'\r\nContent-Disposition: attachment; filename="' + name.encode() +
        b'"\r\nContent-Transfer-Encoding: base64\r\n\r\n' + packed + b"\r\n" + more + b"--b--\r\n"
    )  # fmt: skip


def with_package():
    zipped = base64.encodebytes(package(cda(CdaSpec()))).replace(b"\n", b"\r\n")
    return (
        b"--b\r\nContent-Type: application/zip\r\nContent-Disposition: attachment;"
        b' filename="IHE_XDM.zip"\r\nContent-Transfer-Encoding: base64\r\n\r\n' + zipped + b"\r\n"
    )


async def came(site, raw, address=DOCTOR):
    """Have a message come; give its page."""
    await site.mail.receive(raw, address)
    mailbox = await site.mail.mailbox(address)
    inbox = await site.mail.store.folders.get(mailbox.id, "INBOX")
    uid = max(row.uid for row in await site.mail.store.messages.entries(inbox.id))
    return f"/messagerie/{mailbox.id}/{inbox.id}/{uid}"


async def decide(client, page, **fields):
    shown = await client.get("/accueil")
    values = {"csrf": token_of(shown.text), "type": "11502-2", "title": "Bilan ZZCANARYTITRE"}
    return await client.post(page, data=values | fields)


async def filed(site):
    return list(await site.record.all(select(document)))


async def test_a_letter_is_offered_with_the_patient_it_fits_and_one_decision_files_it(site):
    raw = letter(family="Patient", given="Camille", number=INS).encode("latin-1")
    page = await came(site, mail(raw, name="res.hpr", kind="application/octet-stream"))
    async with site.signed_in("doctor") as client:
        message = (await client.get(page)).text
        assert f'href="{page}/piece/1/ranger"' in message
        form = (await client.get(f"{page}/piece/1/ranger")).text
        assert "28\u00a0mars 1979" in form
        choice = re.search(rf'name="patient" value="({INS} [0-9.]+)"', form)[1]
        answer = await decide(client, f"{page}/piece/1/ranger", patient=choice)
        assert answer.headers["location"] == f"{page}?range=oui"
        assert (
            'role="status">Le document est rangé'
            in (await client.get(answer.headers["location"])).text
        )
    (row,) = await filed(site)
    assert row.patient_id == site.patients["patient"]
    assert row.author == "rangé par Claire MARTIN"
    assert (row.visibility, row.sender) == ("awaiting_release", "labo@chu.test")
    assert re.fullmatch(r"hand:[A-Za-z0-9._-]{4,}", row.receipt)
    async with site.signed_in() as client:
        assert "ZZCANARYTITRE" not in (await client.get("/dossier")).text


async def test_the_form_sent_twice_files_once_and_says_the_same(site):
    page = f"{await came(site, mail())}/piece/1/ranger"
    async with site.signed_in("doctor") as client:
        first = await decide(client, page, ins=INS, visible="oui")
        again = await decide(client, page, ins=INS, visible="oui")
    assert first.headers["location"] == again.headers["location"]
    assert len(await filed(site)) == 1
    async with site.signed_in() as client:
        listed = (await client.get("/dossier")).text
        assert "ZZCANARYTITRE" in listed
        path = re.search(r"/dossier/document/\d+", listed)[0]
        shown = (await client.get(path)).text
        assert "rangé par Claire MARTIN" in shown
        assert "reçu par message, rangé par un professionnel" in shown
        assert (await client.get(f"{path}/fichier/0")).content == PDF


async def test_a_letter_in_the_body_is_offered_too(site):
    page = await came(site, mail(text=letter().replace("\n", "\r\n").encode()))
    async with site.signed_in("doctor") as client:
        assert f'href="{page}/piece/0/ranger"' in (await client.get(page)).text
        await decide(client, f"{page}/piece/0/ranger", ins=INS)
    (row,) = await filed(site)
    assert row.media_type == "text/plain"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "say_whose"),
        ({"ins": "179039999000178"}, "no_such_patient"),
        ({"patient": "x y"}, "no_such_patient"),
        ({"ins": INS, "type": ""}, "no_such_type"),
        ({"ins": INS, "title": " "}, "no_title"),
    ],
)
async def test_a_decision_that_says_too_little_is_told_so(site, fields, told):
    page = f"{await came(site, mail())}/piece/1/ranger"
    async with site.signed_in("doctor") as client:
        answer = await decide(client, page, **fields)
        assert answer.status_code == 422
        assert f'role="alert">{escape(REFUSALS[told])}' in answer.text
        assert 'value="11502-2" selected' in answer.text or not fields.get("type", "x")
        assert 'value="Bilan ZZCANARYTITRE"' in answer.text or "title" in fields
    assert await filed(site) == []


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (mail(b"MZ\x90\x00"), "n&#39;est ni un PDF"),
        (mail((letter() * 2).encode(), name="a.txt"), "plusieurs patients"),
        (mail(b"%PDF-" + b"a" * life.MAX_FILE), "trop grand"),
        (mail(b"%PDF-" + b"a" * (2 * life.MAX_FILE)), "trop grand"),
    ],
    ids=["program", "two patients", "one over", "far over"],
)
async def test_a_file_that_is_not_one_is_refused_by_its_octets(site, raw, told):
    page = f"{await came(site, raw)}/piece/1/ranger"
    async with site.signed_in("doctor") as client:
        shown = await client.get(page)
        assert told in shown.text
        assert "<form class" not in shown.text.split("<main")[1]
        answer = await decide(client, page, ins=INS)
        assert answer.status_code == 422 or "?refus=" in answer.headers["location"]
    assert await filed(site) == []


@pytest.mark.parametrize(
    ("raw", "address", "login"),
    [
        (mail(more=with_package()), DOCTOR, "doctor"),
        (mail(), UNFILED, "colleague"),
        (mail(), PATIENT, "patient"),
    ],
    ids=["a package is for the rules", "filing is off", "a patient"],
)
async def test_it_is_not_offered(site, raw, address, login):
    page = await came(site, raw, address)
    async with site.signed_in(login) as client:
        assert "ranger" not in (await client.get(page)).text
        assert (await client.get(f"{page}/piece/1/ranger")).status_code == 404
        assert (await decide(client, f"{page}/piece/1/ranger", ins=INS)).status_code == 404
    assert await filed(site) == []


async def test_a_professional_files_from_the_mailbox_of_their_team(site):
    opened = [(await site.mail.mailbox(each)).id for each in (SECRETARY, DOCTOR)]
    await site.mail.store.accounts.add_account(
        NewAccount("team", _HASH, SECRET, tuple(opened), AT)
    )
    page = await came(site, mail(), SECRETARY)
    async with site.signed_in("team") as client:
        await decide(client, f"{page}/piece/1/ranger", ins=INS)
    (row,) = await filed(site)
    assert row.filed_by == f"practitioner:{RPPS[DOCTOR]}"


async def test_no_other_s_message_and_no_other_part_is_offered(site):
    page = await came(site, mail())
    async with site.signed_in("doctor") as client:
        assert (await client.get(f"{page}/piece/9/ranger")).status_code == 404
        assert (await client.post(f"{page}/piece/1/ranger")).status_code == 403
    async with site.signed_in("colleague") as client:
        assert (await client.get(f"{page}/piece/1/ranger")).status_code == 404


async def test_without_the_bridge_nothing_is_shown_or_filed(site):
    page = f"{await came(site, mail())}/piece/1/ranger"
    async with site.signed_in("doctor") as client:
        site.bridge_down = True
        assert (await client.get(page)).status_code == 503
        assert (await decide(client, page, ins=INS)).status_code == 503
