"""Professionals' pages, the patient's rights, the family: over real files, through the pages.

Source: RULES §7, RULES §13, MSS-FACTS §6.2, MSS-FACTS §6.4, MSS-FACTS §7.3.
"""

import base64
import json
import re
from html import unescape
from typing import Any

import pytest

from directory import trail
from directory.audit_event import AuditEvent
from directory.trail import Sealing
from mailserver.store.model import NewAccount
from mailserver.webmail.session import COOKIE
from mailserver.webmail.whose import CHOSEN_COOKIE
from tests.support.cda import PDF, CdaSpec
from tests.support.mailsite import AT, DOCTOR, PATIENT, RPPS, UNFILED
from tests.support.webmail import OTHER_PATIENT, TRAIL_KEY, token_of, webmail

INS = PATIENT.partition("@")[0]
OTHER_INS = OTHER_PATIENT.partition("@")[0]
HIDDEN = "ZZCACHE"


@pytest.fixture
async def site(tmp_path):
    async with webmail(tmp_path) as opened:
        yield opened


async def post(client: Any, page: str, path: str | None = None, **fields: str) -> Any:
    shown = await client.get(page)
    data = {"csrf": token_of(shown.text)} | fields
    return await client.post(path or page, data=data)


async def events(site, login="patient") -> list[tuple[str, str]]:
    rows = await site.queries.accesses(site.patients[login])
    return [(row.kind, row.actor) for row in rows]


def record_page(site, login="patient") -> str:
    return f"/patients/{site.patients[login]}"


# --- professionals ---------------------------------------------------------------------------


async def test_a_professional_of_the_care_team_finds_opens_and_reads_a_record(site):
    document = await site.file(CdaSpec(pdf=PDF, title="Bilan ZZTITRE"))
    await site.tell("right_give", kind="care_team", holder=RPPS[DOCTOR])
    async with site.signed_in("doctor") as client:
        listed = (await client.get("/patients")).text
        assert "ZZCANARY-NOM CAMILLE" in listed
        found = await post(client, "/patients", ins=f" {INS[:7]} {INS[7:]}")
        assert found.headers["location"] == record_page(site)
        page = (await client.get(record_page(site))).text
        assert "Bilan ZZTITRE" in page
        path = f"{record_page(site)}/document/{document}"
        assert "Bilan ZZTITRE" in (await client.get(path)).text
        assert (await client.get(f"{path}/fichier/0")).content == PDF

    actor = f"practitioner:{RPPS[DOCTOR]}"
    assert (await events(site))[:3] == [
        ("document_read", actor), ("document_read", actor), ("record_read", actor)
    ]  # fmt: skip
    async with site.signed_in() as client:
        journal = (await client.get("/dossier/acces")).text
        assert "Claire MARTIN, médecin" in journal
        assert "consultation d&#39;un document\u00a0: Bilan ZZTITRE" in journal


async def test_a_professional_is_warned_of_an_active_pdf_like_the_patient(site):
    await site.tell("right_give", kind="care_team", holder=RPPS[DOCTOR])
    document = await site.file(CdaSpec(pdf=PDF + b"/JavaScript"))
    for login, base in (("doctor", record_page(site)), ("patient", "/dossier")):
        async with site.signed_in(login) as client:
            page = (await client.get(f"{base}/document/{document}")).text
            assert re.search(rf'href="{base}/document/\d+/fichier/0" download', page)
            assert "Ce PDF contient des éléments actifs" in page


async def test_outside_the_care_team_nothing_opens_and_the_refusal_is_shown_to_the_patient(site):
    document = await site.file(CdaSpec(title=HIDDEN))
    async with site.signed_in("doctor") as client:
        page = await post(client, "/patients", ins=INS)
        assert page.status_code == 200
        assert "Vous ne faites pas partie" in page.text
        assert "ZZCANARY-NOM" not in page.text
        assert HIDDEN not in page.text
        for path in (record_page(site), f"{record_page(site)}/document/{document}"):
            assert (await client.get(path)).status_code == 404
    refused = ("access_refused", f"practitioner:{RPPS[DOCTOR]}")
    assert (await events(site))[:3] == [refused] * 3
    async with site.signed_in() as client:
        journal = (await client.get("/dossier/acces")).text
        assert journal.count("accès refusé") == 3


@pytest.mark.parametrize("status", ["provisoire", "recuperee", "validee"])
async def test_only_a_qualified_identity_is_found(site, status):
    known = {"ins": INS, "oid": "1.2.250.1.213.1.4.10", "patient_id": None, "status": status}
    await site.tell("patient_change", **known)
    await site.tell("right_give", kind="care_team", holder=RPPS[DOCTOR])
    async with site.signed_in("doctor") as client:
        page = await post(client, "/patients", ins=INS)
        assert "Aucun dossier de cette structure" in page.text


async def test_a_professional_of_another_structure_finds_nobody(site):
    await site.tell("right_give", kind="care_team", holder=RPPS[DOCTOR])
    async with site.signed_in("elsewhere") as client:
        page = await post(client, "/patients", ins=INS)
        assert "Aucun dossier de cette structure" in page.text
        assert (await client.get(record_page(site))).status_code == 404
    assert await events(site) == [("right_given", "cli:test")]


async def test_the_pages_of_professionals_do_not_exist_for_patients(site):
    async with site.signed_in() as client:
        token = token_of((await client.get("/accueil")).text)
        assert (await client.get("/patients")).status_code == 404
        assert (await client.get(record_page(site))).status_code == 404
        answer = await client.post("/patients", data={"csrf": token, "ins": INS})
        assert answer.status_code == 404


async def test_a_professional_declares_to_be_of_the_care_team_and_the_patient_reads_it(site):
    await site.file(CdaSpec(title="Bilan ZZTITRE"))
    async with site.signed_in("doctor") as client:
        closed = await post(client, "/patients", ins=INS)
        data = {"csrf": token_of(closed.text), "ins": INS}
        refused = await client.post("/patients/ouvrir?acces=care_team", data=data)
        assert "Cochez la case" in refused.text
        data["statement"] = "oui"
        opened = await client.post("/patients/ouvrir?acces=care_team", data=data)
        assert opened.headers["location"] == record_page(site)
        assert "Bilan ZZTITRE" in (await client.get(record_page(site))).text
    async with site.signed_in() as client:
        page = (await client.get("/dossier/droits")).text
        assert "Claire MARTIN, médecin" in page
        assert "équipe de soins" in page


async def test_a_professional_reads_what_is_remarkable_in_a_document(site):
    await site.tell("right_give", kind="attending", holder=RPPS[DOCTOR])
    marks = "filed_after_registration signature_unverifiable"
    await site.file(CdaSpec(title="Bilan ZZTITRE"), marks=marks)
    async with site.signed_in("doctor") as client:
        listed = (await client.get(record_page(site))).text
        path = re.search(r"/patients/\d+/document/\d+", listed)[0]
        page = unescape((await client.get(path)).text)
    assert "rangé après l'enregistrement du patient, signature non vérifiable" in page


async def test_break_glass_needs_a_reason_opens_for_hours_and_tells_patient_and_physician(site):
    await site.file(CdaSpec(title="Bilan ZZTITRE"))
    await site.promote(RPPS[UNFILED])
    await site.tell("right_give", kind="attending", holder=RPPS[UNFILED])
    async with site.signed_in("doctor") as client:
        closed = await post(client, "/patients", ins=INS)
        data = {"csrf": token_of(closed.text), "ins": INS, "statement": "oui"}
        without = await client.post("/patients/ouvrir?acces=break_glass", data=data)
        assert "Écrivez le motif" in without.text
        unsaid = {"csrf": data["csrf"], "ins": INS, "reason": "Coma, ZZMOTIF"}
        kept = await client.post("/patients/ouvrir?acces=break_glass", data=unsaid)
        assert (without.status_code, kept.status_code) == (422, 422)
        assert kept.text.count('value="Coma, ZZMOTIF"') == 1
        data["reason"] = "Coma, ZZMOTIF"
        opened = await client.post("/patients/ouvrir?acces=break_glass", data=data)
        assert opened.headers["location"] == record_page(site)
        page = (await client.get(record_page(site))).text
        assert "Bilan ZZTITRE" in page
        assert "ouvert en urgence" in page
        site.clock.pass_(hours=4)
    async with site.signed_in("doctor") as client:
        assert (await client.get(record_page(site))).status_code == 404

    for address in (PATIENT, UNFILED):
        told = await site.mail.inbox(address)
        assert len(told) == 1
        raw = await site.mail.raw(told[0])
        assert b"ZZMOTIF" not in raw
        assert b"ZZCANARY" not in raw
    async with site.signed_in() as client:
        assert "Coma, ZZMOTIF" in (await client.get("/accueil")).text
        assert "ouverture en urgence" in (await client.get("/dossier/acces")).text
        assert "Coma, ZZMOTIF" in (await client.get("/dossier/droits")).text
    async with site.signed_in("colleague") as client:
        assert "Coma, ZZMOTIF" in (await client.get("/patients")).text
    rows = await site.queries.rights.of(site.patients["patient"])
    assert [row.told_at is not None for row in rows if row.kind == "break_glass"] == [True]


async def test_the_two_switches_refuse_the_two_emergencies(site):
    async with site.signed_in() as client:
        for scope in ("break_glass", "samu"):
            answer = await post(
                client, "/dossier/droits", "/dossier/droits/urgence", scope=scope, opposed="oui"
            )
            assert answer.headers["location"] == "/dossier/droits?fait=1"
        assert (await client.get("/dossier/droits")).text.count("Refusée depuis") == 2
    async with site.signed_in("doctor") as client:
        closed = await post(client, "/patients", ins=INS)
        assert "bris de glace" not in closed.text
        data = {"csrf": token_of(closed.text), "ins": INS, "statement": "oui", "reason": "x"}
        for kind in ("break_glass", "samu"):
            answer = await client.post(f"/patients/ouvrir?acces={kind}", data=data)
            assert "ne s&#39;ouvre pas en urgence" in answer.text
        assert (await client.get(record_page(site))).status_code == 404


async def test_a_blocked_professional_reads_nothing_on_any_page_and_cannot_declare(site):
    document = await site.file(CdaSpec(title=HIDDEN), author_ids=RPPS[DOCTOR])
    await site.tell("right_give", kind="attending", holder=RPPS[DOCTOR])
    async with site.signed_in() as client:
        answer = await post(
            client, "/dossier/droits", "/dossier/droits/bloquer", rpps=RPPS[DOCTOR]
        )
        assert answer.headers["location"] == "/dossier/droits?fait=1"
        assert "Personne n&#39;est bloqué" not in (await client.get("/dossier/droits")).text
    async with site.signed_in("doctor") as client:
        closed = await post(client, "/patients", ins=INS)
        assert "ne souhaite pas" in closed.text
        data = {"csrf": token_of(closed.text), "ins": INS, "statement": "oui", "reason": "x"}
        for kind in ("care_team", "consent", "break_glass", "samu"):
            assert f"acces={kind}" not in closed.text
            before = len(await site.queries.accesses(site.patients["patient"]))
            await client.post(f"/patients/ouvrir?acces={kind}", data=data)
            told = await site.queries.accesses(site.patients["patient"])
            assert (len(told) - before, told[0].kind) == (1, "access_refused")
        for path in (record_page(site), f"{record_page(site)}/document/{document}"):
            assert (await client.get(path)).status_code == 404
        assert "ZZCANARY" not in (await client.get("/patients")).text
    async with site.signed_in() as client:
        page = (await client.get("/dossier/droits")).text
        path = re.findall(r"/dossier/droits/\d+/retirer", page)[-1]
        await post(client, "/dossier/droits", path)
    async with site.signed_in("doctor") as client:
        assert HIDDEN in (await client.get(record_page(site))).text


async def test_an_author_outside_the_care_team_sees_their_document_and_no_other(site):
    mine = await site.file(CdaSpec(unique_id="1.2.1", title="ZZLEMIEN"), author_ids=RPPS[UNFILED])
    other = await site.file(CdaSpec(unique_id="1.2.2", title=HIDDEN))
    async with site.signed_in("colleague") as client:
        found = await post(client, "/patients", ins=INS)
        assert found.headers["location"] == record_page(site)
        page = (await client.get(record_page(site))).text
        assert "ZZLEMIEN" in page
        assert HIDDEN not in page
        assert (await client.get(f"{record_page(site)}/document/{mine}")).status_code == 200
        assert (await client.get(f"{record_page(site)}/document/{other}")).status_code == 404


async def test_a_professional_releases_a_document_and_the_patient_sees_it(site):
    document = await site.file(CdaSpec(title=HIDDEN), visibility="awaiting_release")
    await site.tell("right_give", kind="care_team", holder=RPPS[DOCTOR])
    async with site.signed_in() as client:
        assert HIDDEN not in (await client.get("/dossier")).text
    path = f"{record_page(site)}/document/{document}"
    async with site.signed_in("doctor") as client:
        assert "Pas encore montré" in (await client.get(record_page(site))).text
        answer = await post(client, path, f"{path}/liberer")
        assert answer.headers["location"].endswith("?fait=1")
        assert "Le patient voit" in (await client.get(answer.headers["location"])).text
    async with site.signed_in() as client:
        assert HIDDEN in (await client.get("/dossier")).text


async def test_an_access_to_a_hidden_document_shows_without_its_title_and_without_a_gap(site):
    document = await site.file(CdaSpec(title=HIDDEN), visibility="awaiting_release")
    await site.tell("right_give", kind="care_team", holder=RPPS[DOCTOR])
    async with site.signed_in("doctor") as client:
        await client.get(f"{record_page(site)}/document/{document}")
    async with site.signed_in() as client:
        journal = (await client.get("/dossier/acces")).text
        assert HIDDEN not in journal
        assert "consultation du dossier" in journal
        assert "consultation d&#39;un document" not in journal


async def test_what_the_patient_wrote_is_shown_to_a_physician_and_not_to_a_nurse(site):
    await site.tell("profile_add", kind="allergy", text="ZZPENICILLINE")
    await site.tell("directive_write", kind="trusted_person", day="2026-01-01", person="ZZANNE")
    for login, shown in (("doctor", True), ("colleague", False)):
        rpps = RPPS[DOCTOR if login == "doctor" else UNFILED]
        await site.tell("right_give", kind="care_team", holder=rpps)
        async with site.signed_in(login) as client:
            page = (await client.get(record_page(site))).text
            assert ("ZZPENICILLINE" in page, "ZZANNE" in page) == (shown, shown), login


async def test_nothing_opens_when_the_opening_cannot_be_noted(site):
    await site.file(CdaSpec(title=HIDDEN))
    await site.tell("right_give", kind="care_team", holder=RPPS[DOCTOR])
    async with site.signed_in("doctor") as client:
        site.bridge_down = True
        answer = await client.get(record_page(site))
        assert answer.status_code == 503
        assert HIDDEN not in answer.text


# --- the patient's own page ------------------------------------------------------------------


async def test_a_patient_hides_a_document_from_professionals_and_shows_it_again(site):
    document = await site.file(CdaSpec(title=HIDDEN))
    await site.tell("right_give", kind="care_team", holder=RPPS[DOCTOR])
    path = f"/dossier/document/{document}"
    async with site.signed_in() as client:
        answer = await post(client, path, f"{path}/masquer", mask="masked_ps", hide="oui")
        assert answer.headers["location"] == f"{path}?fait=1"
        assert "Caché aux professionnels" in (await client.get(path)).text
    async with site.signed_in("doctor") as client:
        assert HIDDEN not in (await client.get(record_page(site))).text
    async with site.signed_in() as client:
        await post(client, path, f"{path}/masquer", mask="masked_ps", hide="non")
    async with site.signed_in("doctor") as client:
        assert HIDDEN in (await client.get(record_page(site))).text


async def test_an_adult_has_no_representatives_to_hide_from(site):
    document = await site.file(CdaSpec())
    path = f"/dossier/document/{document}"
    async with site.signed_in() as client:
        assert "représentants" not in (await client.get(path)).text
        answer = await post(
            client, path, f"{path}/masquer", mask="invisible_representatives", hide="oui"
        )
        assert answer.status_code == 404


async def test_a_right_of_another_patient_is_not_ended(site):
    given = await site.tell("right_give", "other", kind="care_team", holder=RPPS[DOCTOR])
    async with site.signed_in() as client:
        path = f"/dossier/droits/{given['id']}/retirer"
        assert (await post(client, "/dossier/droits", path)).status_code == 404
    decision = await site.queries.rights.of(site.patients["other"])
    assert decision[0].ended_at is None


@pytest.mark.parametrize("scope", ["opening", "deposit", "other"])
async def test_the_switches_are_two(site, scope):
    async with site.signed_in() as client:
        answer = await post(
            client, "/dossier/droits", "/dossier/droits/urgence", scope=scope, opposed="oui"
        )
        assert answer.status_code == 404


# --- the family ------------------------------------------------------------------------------


@pytest.fixture
async def child(site):
    """The other patient is a child of twelve, and the patient represents them."""
    known = {"ins": OTHER_INS, "oid": "1.2.250.1.213.1.4.10", "patient_id": None}
    await site.tell("patient_change", "other", **known, birth_date="20140512", given="LEO")
    await site.tell(
        "right_give", "other", kind="representative", holder=str(site.patients["patient"])
    )
    return site.patients["other"]


async def test_a_parent_opens_the_record_of_a_child_by_a_form_and_comes_back(site, child):
    document = await site.file(CdaSpec(title="ZZENFANT"), login="other")
    await site.add_agenda(document, login="other", title="Vaccin ZZDATE")
    await site.file(CdaSpec(unique_id="1.3", title="ZZLEMIEN"))
    async with site.signed_in() as client:
        family = (await client.get("/famille")).text
        assert "LEO" in family
        assert "Vaccin ZZDATE" in family
        assert "ZZENFANT" not in (await client.get("/dossier")).text
        answer = await post(client, "/famille", f"/famille/{child}/ouvrir")
        assert answer.status_code == 303
        page = (await client.get("/dossier")).text
        assert "Vous êtes dans le dossier de" in page
        assert "ZZENFANT" in page
        assert "ZZLEMIEN" not in page
        assert "Vaccin ZZDATE" in (await client.get("/agenda")).text
        await post(client, "/accueil", "/famille/retour")
        assert "ZZLEMIEN" in (await client.get("/dossier")).text
    actor = f"representative:{site.patients['patient']}"
    assert ("record_read", actor) in await events(site, "other")
    assert ("agenda_read", actor) in await events(site, "other")
    async with site.signed_in("other") as client:
        assert "Un représentant légal" in (await client.get("/dossier/acces")).text


@pytest.mark.parametrize("page", ["/dossier/acces", "/dossier/acces/preuves"])
async def test_a_parent_who_reads_a_childs_journal_is_in_it(site, child, page):
    actor = f"representative:{site.patients['patient']}"
    async with site.signed_in() as client:
        await post(client, "/famille", f"/famille/{child}/ouvrir")
        before = (await events(site, "other")).count(("record_read", actor))
        assert (await client.get(page)).status_code == 200

    assert (await events(site, "other")).count(("record_read", actor)) == before + 1


async def test_a_withdrawal_is_in_the_journal_and_names_no_document_that_is_hidden(site):
    await site.file(CdaSpec(unique_id="1.5", title="ZZVU"))
    await site.file(CdaSpec(unique_id="1.6", title=HIDDEN), visibility="awaiting_release")
    for unique_id in ("1.5", "1.6"):
        await site.tell("record_withdraw", document=unique_id, reason="erreur")

    told = [(row.kind, row.title) for row in await site.queries.accesses(site.patients["patient"])]

    assert told[:2] == [("record_read", None), ("document_withdrawn", "ZZVU")]


async def test_a_structure_that_reads_a_form_given_back_is_in_the_journal(site):
    made = await site.tell("pack_create", title="Admission", due="2026-12-01")
    pdf = {"name": "f.pdf", "content": base64.b64encode(PDF).decode()}
    item = await site.tell("pack_add", id=made["id"], kind="form", title="Formulaire", **pdf)
    await site.tell("pack_send", id=made["id"])
    await site.tell("pack_form_return", id=item["id"], **pdf)

    await site.tell("pack_returned", id=item["id"])

    assert (await events(site))[0] == ("pack_form_read", "cli:test")


async def test_a_form_of_one_record_is_refused_in_another(site, child):
    async with site.signed_in() as client:
        before = token_of((await client.get("/dossier/volontes")).text)
        await post(client, "/famille", f"/famille/{child}/ouvrir")
        data = {"csrf": before, "scope": "deposit", "opposed": "oui"}
        assert (await client.post("/dossier/oppositions", data=data)).status_code == 403
    assert await site.queries.life.oppositions(child) == {}


async def test_what_is_hidden_from_representatives_is_hidden_on_every_page_of_theirs(site, child):
    document = await site.file(
        CdaSpec(title=HIDDEN), login="other", visibility="invisible_representatives"
    )
    await site.add_agenda(document, login="other", title=f"{HIDDEN} rendez-vous")
    await site.tell("note_access", "other", kind="document_read", document_id=document)
    async with site.signed_in() as client:
        assert HIDDEN not in (await client.get("/famille")).text
        await post(client, "/famille", f"/famille/{child}/ouvrir")
        pages = ("/accueil", "/dossier", "/agenda", "/dossier/acces", "/dossier/historique")
        for page in pages:
            assert HIDDEN not in (await client.get(page)).text, page
        found = await post(client, "/dossier/recherche", words=HIDDEN)
        assert "0 résultat" in found.text
        assert HIDDEN.encode() not in (await client.get("/dossier/archive")).content
        assert (await client.get(f"/dossier/document/{document}")).status_code == 404
        made = await post(
            client, "/agenda/calendriers", "/agenda/calendriers/nouveau", kind="feed",
            detail="titles",
        )  # fmt: skip
        feed = re.search(r"/calendrier/[\w-]+\.ics", made.text)[0]
        assert HIDDEN not in (await client.get(feed)).text
    async with site.signed_in("other") as client:
        assert HIDDEN in (await client.get("/dossier")).text


async def test_a_minor_hides_a_document_from_representatives(site, child):
    document = await site.file(CdaSpec(title=HIDDEN), login="other")
    path = f"/dossier/document/{document}"
    async with site.signed_in("other") as client:
        await post(client, path, f"{path}/masquer", mask="invisible_representatives", hide="oui")
    async with site.signed_in() as client:
        await post(client, "/famille", f"/famille/{child}/ouvrir")
        assert HIDDEN not in (await client.get("/dossier")).text


async def test_parents_do_not_learn_that_something_was_hidden_from_them(site, child):
    document = await site.file(CdaSpec(title=HIDDEN), login="other")
    path = f"/dossier/document/{document}"
    async with site.signed_in("other") as client:
        for hide in ("oui", "non"):
            await post(
                client, path, f"{path}/masquer", mask="invisible_representatives", hide=hide
            )
        own = (await client.get("/dossier/acces")).text
        assert "document masqué" in own
        assert "document démasqué" in own
    async with site.signed_in() as client:
        await post(client, "/famille", f"/famille/{child}/ouvrir")
        assert HIDDEN in (await client.get("/dossier")).text
        journal = (await client.get("/dossier/acces")).text
        while await site.record.write(trail.seal, Sealing(site.clock(), TRAIL_KEY.sign)):
            pass
        proofs = (await client.get("/dossier/acces/preuves")).json()["accesses"]
    assert "masqué" not in journal
    assert proofs
    assert "mask" not in json.dumps(proofs)


async def test_at_eighteen_the_record_and_its_calendar_close_to_the_parent(site, child):
    async with site.signed_in() as client:
        await post(client, "/famille", f"/famille/{child}/ouvrir")
        made = await post(
            client, "/agenda/calendriers", "/agenda/calendriers/nouveau", kind="feed",
            detail="plain",
        )  # fmt: skip
        feed = re.search(r"/calendrier/[\w-]+\.ics", made.text)[0]
        assert (await client.get(feed)).status_code == 200
        wish = client.cookies[CHOSEN_COOKIE]
    await site.tell(
        "patient_change", "other", ins=OTHER_INS, oid="1.2.250.1.213.1.4.10", patient_id=None,
        birth_date=site.clock().strftime(f"{site.clock().year - 18}%m%d"),
    )  # fmt: skip
    async with site.signed_in() as client:
        client.cookies.set(CHOSEN_COOKIE, wish, domain="pli.test")
        assert "LEO" not in (await client.get("/famille")).text
        assert "Vous êtes dans le dossier de" not in (await client.get("/dossier")).text
        assert (await client.get(feed)).status_code == 404


async def test_the_cookie_of_a_record_is_a_wish_and_no_right(site):
    await site.file(CdaSpec(title=HIDDEN), login="other")
    async with site.signed_in() as client:
        for wish in (str(site.patients["other"]), "x", "9" * 30, "-1"):
            cookies = {CHOSEN_COOKIE: wish, COOKIE: client.cookies[COOKIE]}
            async with site.client(cookies=cookies) as forger:
                page = (await forger.get("/dossier")).text
                assert HIDDEN not in page
                assert "Vous êtes dans le dossier de" not in page
        token = token_of((await client.get("/famille")).text)
        answer = await client.post(
            f"/famille/{site.patients['other']}/ouvrir", data={"csrf": token}
        )
        assert answer.status_code == 404


@pytest.fixture
async def helped(site):
    """The other patient lets the patient read their documents, not their agenda."""
    async with site.signed_in("other") as client:
        made = await post(
            client, "/dossier/droits", "/dossier/droits/proche", name="Ma fille", documents="oui"
        )
        code = re.search(r'class="secret"><strong>([0-9a-f ]+)<', made.text)[1]
    async with site.signed_in() as client:
        wrong = await post(client, "/famille", "/famille/code", code="0" * 30)
        assert wrong.status_code == 422
        assert 'role="alert"' in wrong.text
        assert f'value="{"0" * 30}"' in wrong.text
        taken = await post(client, "/famille", "/famille/code", code=code)
        assert taken.headers["location"] == "/famille?fait=1"
    return site.patients["other"]


async def test_a_relative_reads_what_was_shared_and_changes_nothing(site, helped):
    document = await site.file(CdaSpec(title="ZZPARTAGE"), login="other")
    await site.add_agenda(document, login="other", title=f"{HIDDEN} rendez-vous")
    await site.tell("profile_add", "other", kind="allergy", text=HIDDEN)
    own = {"title": f"{HIDDEN} dentiste", "day": "2026-12-24"}
    await site.tell("own_entry_add", "other", **own)
    emergency = {"kind": "break_glass", "holder": RPPS[DOCTOR], "reason": f"{HIDDEN} coma"}
    await site.tell("emergency_open", "other", **emergency)
    async with site.signed_in() as client:
        assert HIDDEN not in (await client.get("/famille")).text
        await post(client, "/famille", f"/famille/{helped}/ouvrir")
        page = (await client.get("/dossier")).text
        assert "en lecture seule" in page
        assert "ZZPARTAGE" in page
        path = f"/dossier/document/{document}"
        assert "ZZPARTAGE" in (await client.get(path)).text
        assert HIDDEN not in (await client.get("/accueil")).text
        found = await post(client, "/dossier", "/dossier/recherche", words=HIDDEN)
        assert HIDDEN not in found.text.replace(f'value="{HIDDEN}"', "")
        for closed in ("/agenda", "/dossier/profil", "/dossier/volontes", "/dossier/droits",
                       "/dossier/archive", "/dossier/acces", "/dossier/fichiers",
                       "/dossier/historique", "/agenda/calendriers"):  # fmt: skip
            assert (await client.get(closed)).status_code == 404, closed
        token = token_of(page)
        for change in (f"{path}/masquer", "/dossier/profil", "/dossier/oppositions",
                       "/dossier/droits/bloquer", "/agenda/rendez-vous"):  # fmt: skip
            answer = await client.post(change, data={"csrf": token, "kind": "allergy"})
            assert answer.status_code in (403, 404), change
    async with site.signed_in("other") as client:
        assert "Un proche" in (await client.get("/dossier/acces")).text
        page = (await client.get("/dossier/droits")).text
        assert "Ma fille" in page
        await post(client, "/dossier/droits", re.search(r"/dossier/droits/\d+/retirer", page)[0])
    async with site.signed_in() as client:
        assert "ZZCANARY" not in (await client.get("/famille")).text


async def test_a_patient_reads_who_read_their_messages_and_nobody_else_does(site, child):
    store = site.mail.store
    mailbox, other = await site.mail.mailbox(PATIENT), await site.mail.mailbox(OTHER_PATIENT)
    account = await store.accounts.account("patient")
    second = await store.accounts.add_account(
        NewAccount("second", account.password_hash, account.totp_secret, (mailbox.id,), AT)
    )

    def read(kind, actor, whose, **facts):
        return AuditEvent(kind, AT, actor, "cabinet", f"mailbox:{whose.id}", {"folder": 1} | facts)

    async with site.signed_in() as client:
        await client.get("/dossier")
        before = await events(site)
        assert "Qui a lu mes messages" not in (await client.get("/dossier/acces")).text
        await store.audit.record(
            [
                read("imap_read", f"mailbox:{mailbox.id}", mailbox, uids="1:3,7"),
                read("imap_copied", f"mailbox:{mailbox.id}", mailbox, uids="1:9"),
                read("message_read", f"account:{second}", mailbox, uids="7", via="webmail"),
                read("imap_read", f"mailbox:{other.id}", other, uids="1:5"),
            ]
        )
        await site.mail.receive(b"From: a@chu.test\r\nSubject: ZZ\r\n\r\nBonjour\r\n", PATIENT)
        inbox = await store.folders.get(mailbox.id, "INBOX")
        assert (await client.get(f"/messagerie/{mailbox.id}/{inbox.id}/1")).status_code == 200
        page = (await client.get("/dossier/acces")).text
        assert await events(site) == before
        section = page.partition("Qui a lu mes messages")[2]
        lines = re.findall(r"<strong>(.*?)</strong></td><td[^>]*>(.*?)</td>", section)
        assert lines == [
            ("Vous", "1 message lu sur ce site"),
            ("Un autre compte de votre messagerie", "1 message lu sur ce site"),
            ("Un de vos appareils", "4 messages lus par un logiciel de messagerie"),
        ]
        await post(client, "/famille", f"/famille/{child}/ouvrir")
        assert "Qui a lu mes messages" not in (await client.get("/dossier/acces")).text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "", "documents": "oui"}, "Écrivez qui est ce proche"),
        ({"name": "Ma fille"}, "Choisissez ce que ce proche"),
        ({"name": "Ma fille", "documents": "oui", "until": "2020-01-01"}, "date de fin"),
    ],
)
async def test_an_offer_that_says_too_little_is_explained(site, fields, said):
    async with site.signed_in() as client:
        answer = await post(client, "/dossier/droits", "/dossier/droits/proche", **fields)
    assert answer.status_code == 422
    assert said in answer.text


async def test_a_professional_has_no_family(site):
    async with site.signed_in("doctor") as client:
        assert (await client.get("/famille")).status_code == 404
        assert DOCTOR not in (await client.get("/patients")).text
