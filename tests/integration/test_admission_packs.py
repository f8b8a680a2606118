"""Admission packs, from the structure's commands to the patient's pages and back.

Source: RULES §7, RULES §8, RULES §13, MSS-FACTS §7.1.
"""

import base64
import json
import re
from datetime import date

import pytest
from typer.testing import CliRunner

from mailserver.cli.main import app
from record_bridge.admission import MAX_OPEN_PACKS, MAX_PACK_ITEMS
from record_bridge.calendar_record import document_calendar
from record_bridge.errors import RecordStateError
from record_bridge.life import MAX_FILE
from record_bridge.model import Viewer, ViewerKind
from tests.support.cda import OID_TEST
from tests.support.site import DemoSite
from tests.support.webmail import OTHER_PATIENT, token_of, webmail
from tests.unit.record_bridge.test_life import PDF, PNG

PAGE = "/dossier/admission"
DUE = "2026-12-24"


@pytest.fixture
async def site(tmp_path):
    async with webmail(tmp_path) as opened:
        yield opened


def content(octets=PDF, name="a.pdf"):
    return {"name": name, "content": base64.b64encode(octets).decode()}


async def pack_of(site, login="patient", due=DUE, *, send=True):
    """A pack with a document and a form; give its key and those of its items."""
    made = await site.tell("pack_create", login, title="Opération de la hanche", due=due)
    keys = [
        (await site.tell("pack_add", login, **made, kind=kind, title=title, **content()))["id"]
        for kind, title in (("document", "Livret d'accueil"), ("form", "Consentement"))
    ]
    if send:
        await site.tell("pack_send", login, **made)
    return made["id"], *keys


async def post(client, path, files=None, **fields):
    data = {"csrf": token_of((await client.get("/dossier/fichiers")).text)} | fields
    return await client.post(path, data=data, files=files)


async def give_back(client, form, octets=PDF, name="rempli.pdf"):
    return await post(client, "/dossier/fichiers", {"file": (name, octets)}, form=str(form))


async def test_a_pack_is_read_filled_given_back_acknowledged_and_closed(site):
    pack, livret, form = await pack_of(site)
    async with site.signed_in() as client:
        home = (await client.get("/accueil")).text
        assert "Mon admission" in home
        assert "0 sur 2" in home
        agenda = (await client.get("/agenda")).text
        assert "Opération de la hanche" in agenda
        assert "À lire et à rendre au plus tard ce jour-là." in agenda

        page = (await client.get(PAGE)).text
        assert f"{PAGE}/{pack}/{livret}" in page
        given = await client.get(f"{PAGE}/{pack}/{livret}")
        assert given.content == PDF
        assert given.headers["content-disposition"].startswith("attachment")
        early = await post(client, f"{PAGE}/{pack}/terminer")
        assert early.headers["location"] == f"{PAGE}?refus=pack_unfinished"
        assert "Il reste quelque chose" in (await client.get(early.headers["location"])).text

        answer = await post(client, f"{PAGE}/{pack}/{livret}/lu")
        assert answer.headers["location"] == f"{PAGE}?fait=1"
        assert (await give_back(client, form)).headers["location"] == f"{PAGE}?fait=1"
        assert "Consentement" in (await client.get("/dossier/fichiers")).text
        page = (await client.get(PAGE)).text
        assert "J'ai tout lu et tout rendu" in page
        assert (await client.get(re.search(r"/dossier/fichiers/\d+", page)[0])).content == PDF
        await post(client, f"{PAGE}/{pack}/terminer")

        assert "Tout est fait" in (await client.get(PAGE)).text
        assert "Opération de la hanche" not in (await client.get("/accueil")).text
        assert "Opération de la hanche" not in (await client.get("/agenda")).text
        history = (await client.get("/dossier/historique")).text
        for told in ("admission reçus", "admission lu", "admission rendu", "admission préparée"):
            assert told in history

        (told,) = await site.tell("pack_list")
        assert (told["state"], told["done"], told["due"]) == ("acknowledged", "2/2", DUE)
        returned = await site.tell("pack_returned", id=form)
        assert base64.b64decode(returned["content"]) == PDF
        assert returned["name"] == "Consentement.pdf"
        await site.tell("pack_close", id=pack)
        assert "Rien à préparer" in (await client.get(PAGE)).text
        assert (await client.get(f"{PAGE}/{pack}/{livret}")).status_code == 404
        assert "Consentement" in (await client.get("/dossier/fichiers")).text
    assert await site.tell("pack_list") == []


async def test_a_pack_in_the_making_is_seen_nowhere(site):
    pack, livret, _ = await pack_of(site, send=False)
    async with site.signed_in() as client:
        for path in ("/accueil", "/agenda", PAGE, "/dossier/historique"):
            assert "hanche" not in (await client.get(path)).text
        assert (await client.get(f"{PAGE}/{pack}/{livret}")).status_code == 404
        assert (await post(client, f"{PAGE}/{pack}/{livret}/lu")).status_code == 404
        assert (await post(client, f"{PAGE}/{pack}/terminer")).status_code == 404


async def test_nobody_but_their_patient_reads_or_answers_a_pack(site):
    pack, livret, form = await pack_of(site)
    for login in ("other", "doctor"):
        async with site.signed_in(login) as client:
            assert "hanche" not in (await client.get("/accueil")).text
            assert (await client.get(f"{PAGE}/{pack}/{livret}")).status_code == 404
    async with site.signed_in("other") as client:
        assert (await post(client, f"{PAGE}/{pack}/{livret}/lu")).status_code == 404
        assert (await post(client, f"{PAGE}/{pack}/terminer")).status_code == 404
        assert (await give_back(client, form)).status_code == 404
    (told,) = await site.tell("pack_list")
    assert told["done"] == "0/2"


async def represent(site, kind, *, born):
    known = {"ins": OTHER_PATIENT.partition("@")[0], "oid": OID_TEST, "patient_id": None}
    await site.tell("patient_change", "other", **known, birth_date=born)
    await site.tell("right_give", "other", kind=kind, holder=str(site.patients["patient"]))


async def test_a_parent_prepares_a_childs_admission_and_the_trail_says_who(site):
    await represent(site, "representative", born="20140512")
    pack, livret, _ = await pack_of(site, "other")
    async with site.signed_in() as client:
        await post(client, f"/famille/{site.patients['other']}/ouvrir")
        assert "hanche" in (await client.get("/accueil")).text
        assert (await post(client, f"{PAGE}/{pack}/{livret}/lu")).status_code == 303
    acknowledged = [a for name, a in site.commands if name == "pack_item_acknowledge"]
    assert acknowledged[0]["actor"] == f"representative:{site.patients['patient']}"


async def test_a_relative_who_helps_is_not_shown_an_admission(site):
    await represent(site, "delegate", born="19600512")
    pack, livret, _ = await pack_of(site, "other")
    async with site.signed_in() as client:
        await post(client, f"/famille/{site.patients['other']}/ouvrir")
        for path in ("/accueil", "/agenda"):
            assert "hanche" not in (await client.get(path)).text
        for path in (PAGE, f"{PAGE}/{pack}/{livret}"):
            assert (await client.get(path)).status_code == 404


async def test_what_is_not_done_in_time_stays_in_the_agenda_and_says_so(site):
    await pack_of(site, due="2026-11-24")
    site.clock.pass_(days=10)
    async with site.signed_in() as client:
        agenda = (await client.get("/agenda")).text
        assert "C&#39;était à faire avant le 24 novembre 2026" in agenda
        assert "Date passée" in (await client.get(PAGE)).text


async def test_calendars_and_the_command_line_hold_the_due_day_until_it_is_done(site):
    pack, livret, form = await pack_of(site)
    patient = site.patients["patient"]

    async def days():
        viewer = Viewer(ViewerKind.PATIENT, str(patient))
        told = await document_calendar(site.queries, patient, viewer)
        lines = await site.tell("agenda_at", day="2026-12-01")
        starts = [line["start"] for line in lines if line["kind"] == "admission"]
        return [each.appointment.day for each in told], starts

    assert await days() == ([date.fromisoformat(DUE)], [DUE])
    relative = Viewer(ViewerKind.DELEGATE, "9")
    assert await document_calendar(site.queries, patient, relative) == ()
    await site.tell("pack_item_acknowledge", id=livret)
    await site.tell("pack_form_return", id=form, **content())
    await site.tell("pack_acknowledge", id=pack)
    assert await days() == ([], [])


async def test_a_form_whose_file_was_withdrawn_is_to_be_given_back_again(site):
    pack, livret, form = await pack_of(site)
    await site.tell("pack_item_acknowledge", id=livret)
    kept = await site.tell("pack_form_return", id=form, **content())
    await site.tell("deposit_withdraw", **kept)

    with pytest.raises(RecordStateError, match="pack_unfinished"):
        await site.tell("pack_acknowledge", id=pack)
    with pytest.raises(RecordStateError, match="not_returned"):
        await site.tell("pack_returned", id=form)
    assert (await site.tell("pack_list"))[0]["done"] == "1/2"


@pytest.mark.parametrize(
    ("octets", "name", "reason"),
    [
        pytest.param(b"MZ\x90", "a.pdf", "file_type", id="program"),
        pytest.param(b"", "a.pdf", "file_empty", id="empty"),
        pytest.param(PNG, "a.pdf", "file_ending", id="another ending"),
        pytest.param(b"a" * (MAX_FILE + 1), "a.txt", "file_too_large", id="one over"),
    ],
)
async def test_a_form_that_may_not_be_kept_is_refused_on_its_page(site, octets, name, reason):
    _, _, form = await pack_of(site)
    async with site.signed_in() as client:
        answer = await give_back(client, form, octets, name)
        assert answer.headers["location"] == f"{PAGE}?refus={reason}"
        assert (await give_back(client, "1x")).status_code == 404
        assert (await give_back(client, 999)).status_code == 404
    assert (await site.tell("pack_list"))[0]["done"] == "0/2"


@pytest.mark.parametrize(
    ("command", "arguments", "reason"),
    [
        ("pack_create", {"title": " ", "due": DUE}, "no_title"),
        ("pack_create", {"title": "A", "due": "2026-11-01"}, "no_such_due"),
        ("pack_add", {"kind": "form", **content(PNG, "a.png")}, "form_is_pdf"),
        ("pack_add", {"kind": "letter", **content()}, "no_such_kind"),
        ("pack_add", {"kind": "form", **content(), "id": 99}, "no_such_pack"),
        ("pack_send", {}, "pack_empty"),
        ("pack_send", {"structure": "clinique"}, "no_such_pack"),
        ("pack_close", {"structure": "clinique"}, "no_such_pack"),
        ("pack_acknowledge", {}, "no_such_pack"),
    ],
)
async def test_a_command_that_does_not_fit_is_refused_and_changes_nothing(
    site, command, arguments, reason
):
    made = await site.tell("pack_create", title="A", due=DUE)
    before = await site.tell("pack_list")

    with pytest.raises(RecordStateError) as refused:
        await site.tell(command, **(made | arguments))
    assert refused.value.reason == reason
    assert await site.tell("pack_list") == before


async def test_nothing_changes_in_a_pack_that_was_sent(site):
    pack, _, _ = await pack_of(site)
    for command, more in (("pack_add", {"kind": "document", **content()}), ("pack_send", {})):
        with pytest.raises(RecordStateError, match="pack_sent"):
            await site.tell(command, id=pack, **more)


async def test_packs_and_their_items_are_bounded(site):
    made = await site.tell("pack_create", title="A", due=DUE)
    for _ in range(MAX_PACK_ITEMS):
        await site.tell("pack_add", **made, kind="document", **content())
    with pytest.raises(RecordStateError, match="too_many"):
        await site.tell("pack_add", **made, kind="document", **content())
    for _ in range(MAX_OPEN_PACKS - 1):
        await site.tell("pack_create", title="A", due=DUE)
    with pytest.raises(RecordStateError, match="too_many"):
        await site.tell("pack_create", title="A", due=DUE)


def test_a_pack_goes_out_by_command(tmp_path):
    site = DemoSite.create(tmp_path / "site")
    patient = site.demo["patients"][0]
    whose = ["--ins", patient["ins"], "--oid", patient["oid"]]
    where = ["--structure", patient["structure"], "--json"]
    file = tmp_path / "livret.pdf"
    file.write_bytes(PDF)

    def pli(command, *words, code=0):
        result = CliRunner().invoke(app, ["pack", command, str(site.root), *words, *where])
        assert result.exit_code == code, result.output
        return json.loads(result.stdout) if code == 0 else result.stderr

    due = f"{date.today().year + 1}-01-15"  # noqa: DTZ011 - a day within two years, whenever
    pack = str(pli("create", *whose, "--title", "Opération", "--due", due)["id"])
    item = str(pli("add", pack, str(file), "--kind", "form")["id"])
    assert pli("send", pack) == {"sent": True}
    (told,) = pli("list", *whose)
    assert (told["state"], told["done"], told["items"][0]["title"]) == ("sent", "0/1", "livret")
    refused = pli("returned", item, "--output", str(tmp_path / "x.pdf"), code=1)
    assert "has not given this form back" in refused
    assert "cannot be read" in pli("add", pack, str(tmp_path / "none.pdf"), code=1)
    assert "There is a file" in pli("returned", item, "--output", str(file), code=1)
    assert pli("close", pack) == {"closed": True}
    assert pli("list") == []
