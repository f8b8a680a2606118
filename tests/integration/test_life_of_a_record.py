"""What patients add to their record, in the pages: files, profile, wishes, oppositions, search.

Source: RULES §7, MSS-FACTS §6.4, MSS-FACTS §7.1.
"""

import base64
import io
import re
import zipfile

import pytest
from markupsafe import escape

from mailserver.webmail.http import MAX_BODY
from mailserver.webmail.life_text import REFUSALS
from record_bridge.life import MAX_DEPOSITS, MAX_FILE, MAX_ITEMS
from tests.support.cda import CdaSpec
from tests.support.mailsite import PATIENT
from tests.support.webmail import token_of, webmail
from tests.unit.record_bridge.test_life import PDF, PNG


@pytest.fixture
async def site(tmp_path):
    async with webmail(tmp_path) as opened:
        yield opened


async def post(client, page, path=None, files=None, **fields):
    shown = await client.get(page)
    data = {"csrf": token_of(shown.text)} | fields
    return await client.post(path or page, data=data, files=files)


async def upload(client, content, name="a.pdf", title="ZZCANARY ordonnance"):
    files = {"file": (name, content, "application/octet-stream")}
    return await post(client, "/dossier/fichiers", files=files, title=title)


# --- files -----------------------------------------------------------------------------------


async def test_a_file_of_the_patient_is_kept_marked_and_given_back(site):
    async with site.signed_in() as client:
        answer = await upload(client, PDF)
        assert answer.headers["location"] == "/dossier/fichiers?fait=1"
        page = (await client.get("/dossier/fichiers")).text
        assert "Déposé par vous" in page
        path = re.search(r"/dossier/fichiers/\d+", page)[0]
        given = await client.get(path)
        assert given.content == PDF
        assert given.headers["content-type"] == "application/pdf"
        assert given.headers["content-disposition"].startswith("attachment")
        assert "ZZCANARY" not in path

        await post(client, "/dossier/fichiers", path + "/retirer")
        assert (await client.get(path)).status_code == 404
        assert "Aucun fichier" in (await client.get("/dossier/fichiers")).text
    assert await site.queries.documents(site.patients["patient"], _own(site)) == []


MAIL = (
    b"From: Laboratoire <lab@chu.test>\r\nTo: <%b>\r\nSubject: Bilan\r\n"
    b"Message-ID: <9@chu.test>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain\r\n\r\nBonjour\r\n"
    b'--b\r\nContent-Type: %b\r\nContent-Disposition: attachment; filename="%b"\r\n'
    b"Content-Transfer-Encoding: base64\r\n\r\n%b\r\n--b--\r\n"
)


async def came(site, name, content, address=PATIENT):
    """Put a message with one file into an inbox; give its page."""
    kind = b"application/octet-stream"
    raw = MAIL % (address.encode(), kind, name.encode(), base64.b64encode(content))
    await site.mail.receive(raw, address)
    mailbox = await site.mail.mailbox(address)
    inbox = await site.mail.store.folders.get(mailbox.id, "INBOX")
    rows = await site.mail.store.messages.entries(inbox.id)
    return f"/messagerie/{mailbox.id}/{inbox.id}/{rows[-1].uid}"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("bilan.pdf", PDF, "oui"),
        ("bilan.txt", b"MZ\x00\x01", "file_type"),
        ("bilan.txt", PDF, "file_ending"),
    ],
)
async def test_a_file_that_came_with_a_message_is_kept_on_request(site, name, content, told):
    path = await came(site, name, content)
    async with site.signed_in() as client:
        page = (await client.get(path)).text
        number = re.search(r"/piece/(\d+)/garder", page)[1]
        answer = await post(client, path, f"{path}/piece/{number}/garder")
        assert answer.headers["location"] == f"{path}?garde={told}"
        after = (await client.get(answer.headers["location"])).text
        files = (await client.get("/dossier/fichiers")).text
    assert ("enregistrée dans" in after) == (told == "oui")
    assert ("bilan" in files) == (told == "oui")


async def test_what_no_record_takes_is_not_offered(site):
    path = await came(site, "outil.exe", b"MZ\x00\x01")
    async with site.signed_in() as client:
        page = (await client.get(path)).text
    assert "outil.exe" in page
    assert "/garder" not in page


@pytest.mark.parametrize(("longer", "status"), [(0, 303), (1, 422)])
async def test_no_line_of_advance_directives_is_lost(site, longer, status):
    """A browser counts the end of a line as one character, and sends two."""
    text = "\r\n".join(["a"] * 5000) + "z" + "z" * longer
    async with site.signed_in() as client:
        fields = {"kind": "advance_directives", "day": "2026-01-02", "text": text}
        answer = await post(client, "/dossier/volontes", **fields)
        assert answer.status_code == status
        written = await site.queries.life.directives(site.patients["patient"])
        assert [each.text for each in written] == [text.replace("\r\n", "\n")] * (not longer)
        assert ("trop long" in answer.text) == bool(longer)


async def test_a_form_that_is_sent_twice_is_told_so_in_plain_words(site):
    await site.tell("profile_add", kind="allergy", text="ZZ", measure="", value="", day="")
    async with site.signed_in() as client:
        page = (await client.get("/dossier/profil")).text
        path = re.search(r"/dossier/profil/\d+/retirer", page)[0]
        first, second = [await client.post(path, data={"csrf": token_of(page)}) for _ in range(2)]
        others = await client.post("/dossier/profil/999/retirer", data={"csrf": token_of(page)})
        nowhere = await client.get("/dossier/profil/999")
    assert (first.status_code, second.status_code) == (303, 404)
    assert "a déjà été fait" in second.text
    assert others.text == second.text
    assert "a déjà été fait" not in nowhere.text


async def test_nobody_keeps_a_file_of_anothers_mailbox_or_one_that_is_none(site):
    path = await came(site, "bilan.pdf", PDF)
    async with site.signed_in("other") as client:
        token = token_of((await client.get("/dossier/fichiers")).text)
        answer = await client.post(f"{path}/piece/1/garder", data={"csrf": token})
        assert answer.status_code == 404
    async with site.signed_in() as client:
        answer = await post(client, path, f"{path}/piece/0/garder")
        assert answer.status_code == 404


def _own(site):
    from record_bridge.model import Viewer

    return Viewer("patient", str(site.patients["patient"]))


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        pytest.param(b"MZ\x90", "a.pdf", "n&#39;est pas accepté", id="program"),
        pytest.param(PNG, "a.pdf", "ne correspond pas", id="another ending"),
        pytest.param(b"", "a.pdf", "Choisissez un fichier", id="empty"),
        pytest.param(b"a" * (MAX_FILE + 1), "a.txt", "trop grand", id="one over"),
    ],
)
async def test_a_file_that_may_not_be_kept_is_refused_in_words(site, content, name, said):
    async with site.signed_in() as client:
        answer = await upload(client, content, name)
        assert answer.status_code == 422
        assert said in answer.text
        assert 'value="ZZCANARY ordonnance"' in answer.text
        assert "Aucun fichier" in (await client.get("/dossier/fichiers")).text


async def test_a_file_at_the_limit_is_kept_and_a_body_far_over_is_not_read(site):
    async with site.signed_in() as client:
        assert "fait=1" in (await upload(client, b"a" * MAX_FILE, "a.txt")).headers["location"]
        assert (await upload(client, b"a" * (2 * MAX_FILE), "a.txt")).status_code == 413


async def test_only_that_form_takes_files_and_only_there_is_a_body_so_large(site):
    async with site.signed_in() as client:
        files = {"file": ("a.pdf", PDF)}
        assert (
            await post(client, "/dossier/profil", files=files, kind="allergy")
        ).status_code == 400
        answer = await post(client, "/dossier/profil", kind="allergy", text="a" * (MAX_BODY + 1))
        assert answer.status_code == 413


async def test_another_patient_s_file_is_not_found(site):
    async with site.signed_in() as client:
        await upload(client, PDF)
        path = re.search(r"/dossier/fichiers/\d+", (await client.get("/dossier/fichiers")).text)[0]
    async with site.signed_in("other") as client:
        assert (await client.get(path)).status_code == 404
        assert (await post(client, "/dossier/fichiers", path + "/retirer")).status_code == 404
    async with site.signed_in() as client:
        assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("table", "columns", "limit", "page"),
    [
        ("deposit", "title, media_type, sha256, octets, visibility, deposited_by, deposited_at",
         MAX_DEPOSITS, "/dossier/fichiers"),
        ("profile_item", "kind, text, value, unit, day, noted_by, noted_at", MAX_ITEMS,
         "/dossier/profil"),
    ],
)  # fmt: skip
async def test_what_is_added_is_bounded(site, table, columns, limit, page):
    def fill(connection, count):
        connection.executemany(
            f"INSERT INTO {table} (patient_id, {columns})"  # noqa: S608 - constants
            f" VALUES (?{', ?' * len(columns.split(', '))})",
            [(site.patients["patient"], "allergy", *"abcd"[:3], "2026-01-01", 0, 0)] * count
            if table == "profile_item"
            else [(site.patients["patient"], "t", "text/plain", b"", 0, "visible", "t", 0)]
            * count,
        )

    async def add(client):
        if table == "deposit":
            return await upload(client, PDF)
        return await post(client, page, kind="allergy", text="Pollen")

    await site.record.write(fill, limit - 1)
    async with site.signed_in() as client:
        assert "fait=1" in (await add(client)).headers["location"]
        refused = await add(client)
        told = refused.headers.get("location", "") + refused.text
        assert "refus=too_many" in told or "Vous avez atteint le nombre" in told


# --- profile and wishes ----------------------------------------------------------------------


async def test_the_profile_is_marked_as_the_patient_s_and_lines_are_removed(site):
    async with site.signed_in() as client:
        await post(client, "/dossier/profil", kind="allergy", text="ZZCANARY pénicilline")
        await post(client, "/dossier/profil", kind="measurement", measure="blood_pressure",
                   value="128/76", day="2026-11-01")  # fmt: skip
        page = (await client.get("/dossier/profil")).text
        assert "ZZCANARY pénicilline" in page
        assert "Tension\u00a0: 128/76 mmHg" in page
        assert page.count("Dit par vous") == 2
        for path in re.findall(r"/dossier/profil/\d+/retirer", page):
            await post(client, "/dossier/profil", path)
        assert "Dit par vous" not in (await client.get("/dossier/profil")).text


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"kind": "allergy", "text": " "}, "no_title"),
        ({"kind": "measurement", "measure": "weight", "value": "7000"}, "no_such_value"),
        ({"kind": "history", "text": "x", "day": "1900-01-01"}, "no_such_day"),
        ({"kind": "history", "text": "x", "day": "2099-01-01"}, "no_such_day"),
    ],
)
async def test_what_cannot_be_meant_is_refused_in_words(site, fields, reason):
    async with site.signed_in() as client:
        answer = await post(client, "/dossier/profil", **fields)
        assert answer.status_code == 422
        assert f'role="alert">{escape(REFUSALS[reason])}' in answer.text
        for typed in fields.values():
            assert f'value="{typed}"' in answer.text


async def test_a_wish_that_is_refused_is_not_lost(site):
    async with site.signed_in() as client:
        answer = await post(
            client, "/dossier/volontes", kind="advance_directives", text="Écrit ce soir",
            day="2099-01-01",
        )  # fmt: skip

    assert answer.status_code == 422
    assert ">Écrit ce soir</textarea>" in answer.text
    assert '<details class="card" open>' in answer.text


async def test_wishes_come_first_in_an_emergency_and_their_versions_stay(site):
    async with site.signed_in() as client:
        wish = {"kind": "advance_directives", "day": "2026-11-01"}
        await post(client, "/dossier/volontes", text="Première ZZCANARY", **wish)
        await post(client, "/dossier/volontes", text="Seconde", **wish)
        await post(client, "/dossier/volontes", kind="trusted_person", day="2026-11-01",
                   person="Anne ZZCANARY", contact="06")  # fmt: skip
        await post(client, "/dossier/profil", kind="allergy", text="Pollen")
        seen = (await client.get("/dossier/urgence")).text
        assert "Première" not in seen
        assert seen.index("Seconde") < seen.index("Anne ZZCANARY") < seen.index("Pollen")
        page = (await client.get("/dossier/volontes")).text
        assert "Version 2" in page
        assert "Première ZZCANARY" in page
        for path in re.findall(r"/dossier/volontes/\d+/retirer", page):
            assert (await post(client, "/dossier/volontes", path)).status_code == 303
        seen = (await client.get("/dossier/urgence")).text
        assert "Aucune directive" in seen
        assert "ZZCANARY" not in seen.replace("ZZCANARY-NOM", "")


async def test_an_opposition_holds_until_it_is_taken_back(site):
    patient = site.patients["patient"]
    async with site.signed_in() as client:
        for _ in range(2):
            await post(client, "/dossier/volontes", "/dossier/oppositions", scope="opening",
                       opposed="oui")  # fmt: skip
        assert list(await site.queries.life.oppositions(patient)) == ["opening"]
        await post(client, "/dossier/volontes", "/dossier/oppositions", scope="opening",
                   opposed="non")  # fmt: skip
        assert await site.queries.life.oppositions(patient) == {}
        kinds = [event.kind for event in await site.queries.life.history(patient)]
        assert kinds[:2] == ["opposition_taken_back", "opposition_said"]


# --- search and history ----------------------------------------------------------------------


async def test_search_finds_words_in_what_is_seen_and_nothing_else(site):
    report = await site.file(CdaSpec(unique_id="1.2.1", title="Écho cardiaque"))
    await site.add_agenda(report, title="Contrôle cardiaque")
    await site.file(
        CdaSpec(unique_id="1.2.2", title="Cardio ZZCACHE"), visibility="awaiting_release"
    )
    async with site.signed_in() as client:
        await post(client, "/dossier/profil", kind="history", text="Cardiopathie")
        found = (await post(client, "/dossier/recherche", words="CARDI")).text
        assert "3 résultats" in found
        assert "ZZCACHE" not in found
        assert "1 résultat<" in (await post(client, "/dossier/recherche", words="echo cardi")).text
        assert "0 résultat<" in (await post(client, "/dossier/recherche", words="rien")).text


async def test_the_history_tells_what_came_and_what_was_changed(site):
    await site.file(CdaSpec(unique_id="1.2.1", title="Compte rendu"))
    await site.file(CdaSpec(unique_id="1.2.2", title="ZZCACHE"), visibility="awaiting_release")
    async with site.signed_in() as client:
        await upload(client, PDF)
        page = (await client.get("/dossier/historique")).text
    assert "document reçu" in page
    assert "fichier ajouté" in page
    assert "ZZCACHE" not in page
    assert "ZZCANARY ordonnance" not in page


async def test_a_patient_takes_their_record_with_them_and_nothing_that_is_hidden(site):
    report = await site.file(CdaSpec(unique_id="1.2.1", title="Compte rendu"))
    await site.add_agenda(report)

    async def taken(client):
        answer = await client.get("/dossier/archive")
        assert answer.headers["content-type"] == "application/zip"
        with zipfile.ZipFile(io.BytesIO(answer.content)) as packed:
            assert packed.testzip() is None
            return {name: packed.read(name) for name in packed.namelist()}

    async with site.signed_in() as client:
        await upload(client, PDF)
        first = await taken(client)
        hidden = await site.file(CdaSpec(unique_id="1.2.9"), visibility="invisible_patient")
        await site.add_agenda(hidden, title="ZZCACHE")
        second = await taken(client)
    assert first["deposits/0.pdf"] == PDF
    assert b"Compte rendu" in first["tables/document.json"]
    # the first download is itself an access that the second one tells
    changing = {"events.json", "manifest.json"}
    assert {k: v for k, v in first.items() if k not in changing} == {
        k: v for k, v in second.items() if k not in changing
    }
    async with site.signed_in("other") as client:
        assert b"Compte rendu" not in b"".join((await taken(client)).values())


async def test_every_page_of_a_record_is_noted(site):
    pages = ("profil", "volontes", "urgence", "fichiers", "historique", "archive")
    async with site.signed_in() as client:
        for page in pages:
            assert (await client.get(f"/dossier/{page}")).status_code == 200
        site.bridge_down = True
        for page in pages:
            assert (await client.get(f"/dossier/{page}")).status_code == 503
    noted = [name for name, _ in site.commands if name == "note_access"]
    assert len(noted) == len(pages)


async def test_a_closed_record_says_so_to_its_patient_and_takes_nothing_more(site):
    await site.file(CdaSpec())
    await site.tell("record_close", reason="fin de prise en charge")
    async with site.signed_in() as client:
        page = (await client.get("/dossier")).text
        assert "Ce dossier est fermé depuis le 22\u00a0novembre 2026" in page
        assert "jusqu'au 22\u00a0novembre 2046 (Code de la santé publique" in page.replace(
            "&#39;", "'"
        )
        assert (await client.get("/dossier/categorie/10")).status_code == 200
        refused = await upload(client, PDF)
        assert "Votre dossier est fermé" in refused.text
        assert "fermeture du dossier" in (await client.get("/dossier/acces")).text
        await site.tell("record_open_again", reason="erreur")
        assert "est fermé" not in (await client.get("/dossier")).text
