"""A patient in a real browser: headless Chromium over real TLS, axe-core at 320 and 1280 px.

With ``PLI_SCREENSHOTS=1`` the screenshots and the axe reports are written beside this file, in
``screenshots/``; otherwise into the test's own folder.
"""

import base64
import json
import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, async_playwright

from certs.issue import PracticePki
from mailserver.webmail.http import WebBind, serve_web
from tests.support import axe
from tests.support.cda import OID_TEST, CdaSpec
from tests.support.furnished import OFFERED, furnish, furnish_care
from tests.support.hprim import letter
from tests.support.mailsite import AT, DOCTOR, PATIENT, RPPS, UNFILED
from tests.support.notifying import confirm
from tests.support.webmail import OTHER_PATIENT, PASSWORD, webmail

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs the Debian package chromium"),
    pytest.mark.timeout(180),
]
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
WIDTHS = (320, 1280)
OTHER_INS = OTHER_PATIENT.partition("@")[0]


@pytest.fixture
async def site(tmp_path):
    issued = PracticePki.create(AT, "PRATIQUE").issue_server(AT, ["127.0.0.1"], {"CN": "pli.test"})
    (tmp_path / "server.pem").write_bytes(issued.bundle)
    (tmp_path / "server.key").write_bytes(issued.key)
    async with webmail(tmp_path) as opened:
        await furnish(opened)
        async with serve_web(
            opened.app, WebBind("127.0.0.1", 0), tmp_path / "server.pem", tmp_path / "server.key"
        ) as port:
            yield opened, f"https://127.0.0.1:{port}"


@pytest.fixture
def gallery(tmp_path) -> Path:
    if os.environ.get("PLI_SCREENSHOTS"):
        folder = Path(__file__).parent / "screenshots"
    else:
        folder = tmp_path / "screenshots"
    folder.mkdir(exist_ok=True)
    return folder


async def sign_in(page: Page, base: str, code: str, login: str = "patient") -> None:
    await page.goto(f"{base}/connexion")
    await page.get_by_label("Identifiant").fill(login)
    await page.get_by_label("Mot de passe").fill(PASSWORD)
    await page.get_by_label("Code à 6 chiffres").fill(code)
    await page.get_by_role("button", name="Se connecter").click()
    await page.wait_for_url(f"{base}/accueil")


async def look_at(page: Page, name: str, width: int, gallery: Path) -> None:
    """Take a screenshot, and let axe-core judge what is shown."""
    wide = await page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width, f"{name}: {wide} px wide on {width}"
    await page.screenshot(path=gallery / f"{name}-{width}.png", full_page=True)
    report = await axe.run(page)
    (gallery / f"{name}-{width}.axe.json").write_text(
        json.dumps(axe.summary(report), ensure_ascii=False, indent=1) + "\n"
    )
    assert report["violations"] == [], name


@pytest.mark.parametrize("width", WIDTHS)
async def test_a_patient_reads_everything_and_axe_finds_nothing(site, gallery, width):
    webmail_site, base = site
    requested: list[str] = []
    dialogs: list[str] = []
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = await browser.new_context(
            ignore_https_errors=True, viewport={"width": width, "height": 800}, locale="fr-FR"
        )
        page = await context.new_page()
        page.on("request", lambda request: requested.append(request.url))
        page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        page.on(
            "console",
            lambda message: (
                complaints.append(message.text) if message.type in ("error", "warning") else None
            ),
        )

        await page.goto(f"{base}/connexion")
        await look_at(page, "connexion", width, gallery)
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.className") == "skip"
        await page.keyboard.press("Enter")
        assert await page.evaluate("document.activeElement.id") == "contenu"
        await sign_in(page, base, webmail_site.code())
        await look_at(page, "accueil", width, gallery)

        navigation = page.get_by_role("navigation", name="Menu principal")
        await navigation.get_by_role("link", name="Messagerie").click()
        await look_at(page, "messagerie", width, gallery)
        await page.get_by_role("link", name="Vos résultats d'analyses").click()
        assert await page.get_by_text("Expéditeur vérifié").is_visible()
        await look_at(page, "message", width, gallery)
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Resultats.pdf").click()
        assert (await download.value).suggested_filename == "Resultats.pdf"
        await page.get_by_label("Votre réponse").fill("Merci docteur, je prends rendez-vous.")
        await page.get_by_role("button", name="Envoyer").click()
        await page.get_by_text("Votre réponse est partie.").wait_for()
        await page.get_by_role("link", name="Message avec mise en forme").click()
        frame = page.frame_locator("iframe")
        assert await frame.get_by_text("Texte mis en").is_visible()
        await look_at(page, "message-html", width, gallery)

        await navigation.get_by_role("link", name="Documents").click()
        await look_at(page, "dossier", width, gallery)
        await page.get_by_role("link", name="Compte rendu de biologie").click()
        assert await page.get_by_role("heading", name="Bilan lipidique").is_visible()
        await look_at(page, "document", width, gallery)
        await page.goto(f"{base}/dossier/document/2")
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Télécharger le PDF").click()
        assert (await download.value).suggested_filename.endswith(".pdf")
        await look_at(page, "document-pdf", width, gallery)
        await page.goto(f"{base}/dossier/acces")
        await look_at(page, "acces", width, gallery)

        await navigation.get_by_role("link", name="Agenda").click()
        await look_at(page, "agenda", width, gallery)
        await page.get_by_role("button", name="Déjà fait : Consultation de suivi").click()
        await page.get_by_text("C'est noté").wait_for()
        await page.goto(f"{base}/dossier/document/999")
        await look_at(page, "introuvable", width, gallery)
        await page.goto(f"{base}/accueil")
        await page.get_by_role("button", name="Se déconnecter").click()
        await page.get_by_text("Vous êtes déconnecté").wait_for()
        await page.go_back()
        assert await page.get_by_text("Derniers documents").count() == 0
        await browser.close()

    assert {urlsplit(url).netloc for url in requested} == {urlsplit(base).netloc}
    assert dialogs == []
    # Chromium itself says 404 in its console; a refused policy or a mixed content would be there.
    assert [text for text in complaints if "404" not in text] == []
    received = await webmail_site.mail.inbox(DOCTOR)
    assert len(received) == 1


@pytest.mark.parametrize("width", WIDTHS)
async def test_a_patient_adds_to_their_record_and_axe_finds_nothing(site, gallery, width):
    webmail_site, base = site
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = await browser.new_context(
            ignore_https_errors=True, viewport={"width": width, "height": 800}, locale="fr-FR"
        )
        page = await context.new_page()
        await sign_in(page, base, webmail_site.code())

        await page.goto(f"{base}/agenda")
        await page.get_by_text("Noter un rendez-vous").click()
        await page.get_by_label("Ce que c'est").fill("Dentiste")
        await page.get_by_label("Jour", exact=True).fill("2026-12-10")
        await page.get_by_label("Heure").fill("10:30")
        await look_at(page, "agenda-noter", width, gallery)
        await page.get_by_role("button", name="Noter", exact=True).click()
        await page.get_by_text("Votre rendez-vous est noté").wait_for()
        await page.get_by_role("link", name="Voir cet agenda sur mon téléphone").click()
        await page.get_by_role("button", name="Créer une adresse secrète").click()
        await page.get_by_text("Votre adresse secrète").wait_for()
        await look_at(page, "calendriers-adresse", width, gallery)
        await page.get_by_label("Nom de l'appareil").fill("Mon téléphone")
        await page.get_by_role("button", name="Ajouter un appareil").click()
        await page.get_by_text("À écrire dans votre appareil").wait_for()
        await look_at(page, "calendriers-appareil", width, gallery)

        await page.goto(f"{base}/dossier/profil")
        await page.get_by_text("Ajouter : Allergies").click()
        await page.locator("#texte-allergy").fill("Pénicilline")
        await page.get_by_role("button", name="Enregistrer").first.click()
        await page.get_by_text("C'est enregistré").wait_for()
        await page.get_by_text("Ajouter : Mesures").click()
        await look_at(page, "profil", width, gallery)
        await page.goto(f"{base}/dossier/volontes")
        await page.get_by_text("Nommer une personne").click()
        await page.get_by_label("Nom et prénom").fill("Anne Martin")
        await page.locator("details[open] button").click()
        await page.get_by_text("C'est enregistré").wait_for()
        await page.get_by_text("Écrire mes directives").click()
        await look_at(page, "volontes", width, gallery)
        await page.goto(f"{base}/dossier/urgence")
        await look_at(page, "urgence", width, gallery)

        await page.goto(f"{base}/dossier/fichiers")
        await page.get_by_label("Ce que c'est").fill("Ordonnance en papier")
        await page.set_input_files(
            "#fichier",
            {"name": "o.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.4\n%%EOF\n"},
        )
        await page.get_by_role("button", name="Ajouter").click()
        await page.get_by_text("C'est enregistré").wait_for()
        await look_at(page, "fichiers", width, gallery)
        await page.goto(f"{base}/dossier/recherche")
        await page.get_by_label("Mots du titre").fill("ordonnance")
        await page.get_by_role("button", name="Rechercher").click()
        await page.get_by_text("1 résultat").wait_for()
        await look_at(page, "recherche", width, gallery)
        await page.goto(f"{base}/dossier/historique")
        await look_at(page, "historique", width, gallery)
        await page.goto(f"{base}/accueil")
        await page.get_by_role("link", name="Être prévenu").click()
        await page.get_by_label("Adresse de courriel").fill("camille@ailleurs.example")
        await page.get_by_role("button", name="Recevoir un code").click()
        await page.get_by_text("Un code part").wait_for()
        await look_at(page, "prevenir", width, gallery)
        mailbox = await webmail_site.mail.mailbox(PATIENT)
        await confirm(webmail_site.mail.store, mailbox.id, webmail_site.clock())
        await page.goto(f"{base}/prevenir")
        await page.get_by_role("button", name="Recevoir les rappels").click()
        await page.get_by_text("vous recevrez un rappel").wait_for()
        await look_at(page, "prevenir-rappels", width, gallery)
        await browser.close()


@pytest.mark.parametrize("width", WIDTHS)
async def test_rights_family_and_professionals_pages_and_axe_finds_nothing(site, gallery, width):
    webmail_site, base = site
    ins = PATIENT.partition("@")[0]
    known = {"ins": OTHER_INS, "oid": OID_TEST, "patient_id": None}
    await webmail_site.tell("patient_change", "other", **known, birth_date="20140512", given="LÉO")
    parent = str(webmail_site.patients["patient"])
    await webmail_site.tell("right_give", "other", kind="representative", holder=parent)
    report = await webmail_site.file(CdaSpec(unique_id="1.2.9"), login="other")
    await webmail_site.add_agenda(report, login="other", title="Rappel de vaccin")
    await webmail_site.promote(RPPS[UNFILED])
    await webmail_site.tell("right_give", kind="attending", holder=RPPS[UNFILED])
    await webmail_site.tell("directive_write", kind="trusted_person", day="2026-01-02",
                            person="Anne Martin", contact="06 00 00 00 00")  # fmt: skip
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = await browser.new_context(
            ignore_https_errors=True, viewport={"width": width, "height": 800}, locale="fr-FR"
        )
        page = await context.new_page()
        await sign_in(page, base, webmail_site.code(), "doctor")
        await look_at(page, "pro-accueil", width, gallery)
        await page.get_by_role("link", name="Patients", exact=True).click()
        await page.get_by_label("Matricule INS").fill(ins)
        await look_at(page, "pro-patients", width, gallery)
        await page.get_by_role("button", name="Chercher").click()
        await page.get_by_role("heading", name="Dossier non ouvert").wait_for()
        await look_at(page, "pro-dossier-non-ouvert", width, gallery)
        await page.get_by_label("Motif", exact=True).fill("Patiente inconsciente aux urgences")
        await page.get_by_label("Le patient ne peut pas exprimer").check()
        await page.get_by_role("button", name="Ouvrir en urgence").click()
        await page.get_by_text("Dossier ouvert en urgence").wait_for()
        await look_at(page, "pro-dossier", width, gallery)
        await page.get_by_role("link", name="Compte rendu de biologie").click()
        await page.get_by_role("heading", name="Bilan lipidique").wait_for()
        await look_at(page, "pro-document", width, gallery)
        await page.get_by_role("button", name="Se déconnecter").click()

        webmail_site.clock.pass_(seconds=30)
        await sign_in(page, base, webmail_site.code())
        await look_at(page, "accueil-urgence", width, gallery)
        await page.goto(f"{base}/dossier/droits")
        await page.get_by_text("Bloquer un professionnel").click()
        await page.get_by_label("Professionnel", exact=True).select_option(
            label="Claire MARTIN, médecin"
        )
        await page.get_by_role("button", name="Bloquer", exact=True).click()
        await page.get_by_text("C'est enregistré").wait_for()
        await page.get_by_role("button", name="Refuser : Ouverture par le SAMU").click()
        await page.get_by_text("Refusée depuis").wait_for()
        await page.get_by_text("Ajouter un proche").click()
        await page.get_by_label("Qui est ce proche").fill("Ma sœur")
        await look_at(page, "droits", width, gallery)
        await page.get_by_role("button", name="Créer un code").click()
        await page.get_by_text("Donnez ce code").wait_for()
        await look_at(page, "droits-code", width, gallery)
        await page.goto(f"{base}/dossier/document/1")
        await page.get_by_role("button", name="Cacher aux professionnels").click()
        await page.get_by_text("Caché aux professionnels").wait_for()
        await look_at(page, "document-masque", width, gallery)
        await page.goto(f"{base}/dossier/acces")
        await page.get_by_text("ouverture en urgence").wait_for()
        await look_at(page, "acces-urgence", width, gallery)

        await page.get_by_role("link", name="Famille").click()
        await look_at(page, "famille", width, gallery)
        await page.get_by_role("button", name="Ouvrir ce dossier").click()
        await page.get_by_text("Vous êtes dans le dossier de").wait_for()
        await look_at(page, "famille-dossier", width, gallery)
        await page.get_by_role("button", name="Revenir à mon dossier").click()
        await page.get_by_text("Vous êtes dans le dossier de").wait_for(state="detached")
        await browser.close()


@pytest.mark.parametrize("width", WIDTHS)
async def test_a_professional_files_a_letter_by_hand_and_axe_finds_nothing(site, gallery, width):
    webmail_site, base = site
    text = letter(given="CAMILLE").replace("\n", "\r\n").encode()
    await webmail_site.mail.receive(OFFERED % text, DOCTOR)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = await browser.new_context(
            ignore_https_errors=True, viewport={"width": width, "height": 800}, locale="fr-FR"
        )
        page = await context.new_page()
        await sign_in(page, base, webmail_site.code(), "doctor")
        await page.goto(f"{base}/messagerie")
        await page.get_by_role("link", name="Bilan").click()
        await look_at(page, "pro-message-sans-archive", width, gallery)
        await page.get_by_role("link", name="Ranger dans un dossier").click()
        await look_at(page, "pro-ranger", width, gallery)
        await page.get_by_role("radio").first.check()
        await page.get_by_label("Type de document").select_option("11502-2")
        await page.get_by_label("Titre").fill("Bilan de novembre")
        await page.get_by_role("button", name="Ranger").click()
        await page.get_by_text("Le document est rangé dans le dossier").wait_for()
        await look_at(page, "pro-range", width, gallery)
        await browser.close()


UNREAD = OFFERED.replace(b"bilan.hpr", b"IHE_XDM.zip")


@pytest.mark.parametrize("width", WIDTHS)
async def test_a_professional_opens_reports_left_unread_and_axe_finds_nothing(
    site, gallery, width
):
    webmail_site, base = site
    for number in (b"1", b"2"):
        await webmail_site.mail.receive(UNREAD % number, DOCTOR)
    webmail_site.clock.pass_(days=5)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = await browser.new_context(
            ignore_https_errors=True, viewport={"width": width, "height": 800}, locale="fr-FR"
        )
        page = await context.new_page()
        await sign_in(page, base, webmail_site.code(), "doctor")
        await page.get_by_text("2 comptes rendus ne sont pas lus").wait_for()
        await look_at(page, "pro-accueil-non-lus", width, gallery)
        for left in (1, 0):
            await page.get_by_role("link", name="Voir la liste").click()
            await page.get_by_role("heading", name="Comptes rendus non lus").wait_for()
            await look_at(page, f"pro-non-lus-{left}", width, gallery)
            await page.get_by_role("link", name="Reçu le").first.click()
            await page.get_by_role("heading", name="Bilan").wait_for()
            await page.get_by_role("link", name="Accueil").click()
        await page.get_by_role("heading", name="Bonjour").wait_for()
        assert await page.get_by_text("jours ouvrés").count() == 0
        await page.goto(f"{base}/messagerie/non-lus")
        await look_at(page, "pro-non-lus-aucun", width, gallery)
        await browser.close()


@pytest.mark.parametrize("width", WIDTHS)
async def test_a_professional_prepares_an_admission_and_axe_finds_nothing(site, gallery, width):
    webmail_site, base = site
    await webmail_site.tell("right_give", kind="care_team", holder=RPPS[DOCTOR])
    record = f"{base}/patients/{webmail_site.patients['patient']}"
    file = {"name": "o.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.4\n%%EOF\n"}
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = await browser.new_context(
            ignore_https_errors=True, viewport={"width": width, "height": 800}, locale="fr-FR"
        )
        page = await context.new_page()
        await sign_in(page, base, webmail_site.code(), "doctor")
        await page.goto(record)
        await page.get_by_role("link", name="Préparer ou suivre une admission").click()
        await look_at(page, "pro-admission-vide", width, gallery)
        await page.get_by_label("Titre, lu par le patient").fill("Opération de la hanche")
        await page.get_by_label("À faire avant le").fill("2026-12-24")
        await page.get_by_role("button", name="Commencer").click()
        await page.get_by_text("En préparation").wait_for()
        for title, kind in (("Livret d'accueil", "document"), ("Consentement", "form")):
            await page.get_by_label("Ce que le patient lit comme titre").fill(title)
            await page.get_by_label("Ce qu'il en fait").select_option(kind)
            await page.get_by_label("Fichier").set_input_files(file)
            await page.get_by_role("button", name="Ajouter").click()
            await page.get_by_role("link", name=title).wait_for()
        await look_at(page, "pro-admission-preparee", width, gallery)
        await page.get_by_role("button", name="Envoyer au patient").click()
        await page.get_by_text("0 sur 2").wait_for()
        form = (await webmail_site.queries.packs.of_structure("cabinet"))[0].items[1]
        content = base64.b64encode(b"%PDF-1.4\n%%EOF\n").decode()
        await webmail_site.tell("pack_form_return", id=form.id, name="r.pdf", content=content)
        await page.reload()
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Ouvrir ce que le patient a rendu").click()
        assert (await download.value).suggested_filename == "Consentement.pdf"
        await page.get_by_role("button", name="Envoyer un rappel").click()
        await page.get_by_text("rappelé le").wait_for()
        await look_at(page, "pro-admission-suivie", width, gallery)
        await page.goto(f"{base}/patients")
        await look_at(page, "pro-patients-admissions", width, gallery)
        await page.goto(record)
        await look_at(page, "pro-dossier-admission", width, gallery)
        await page.get_by_role("button", name="Se déconnecter").click()

        webmail_site.clock.pass_(seconds=30)
        await sign_in(page, base, webmail_site.code())
        await look_at(page, "accueil-admission-rappelee", width, gallery)
        await browser.close()


PATIENTS_PAGES = {
    "admission": "/dossier/admission",
    "applications": "/dossier/applications",
    "categorie": "/dossier/categorie/10",
    "volontes-ecrites": "/dossier/volontes",
    "profil-rempli": "/dossier/profil",
    "fichiers-deposes": "/dossier/fichiers",
    "urgence-remplie": "/dossier/urgence",
    "droits-donnes": "/dossier/droits",
    "prevenir-vide": "/prevenir",
    "accueil-admission": "/accueil",
}
PROFESSIONALS_PAGES = {
    "pro-suivis": "/patients",
    "pro-dossier-suivi": "/patients/1",
    "pro-prevenir": "/prevenir",
    "pro-quarantaine": "/quarantaine",
    "pro-quarantaine-inconnu": "/quarantaine/2",
    "pro-quarantaine-traits": "/quarantaine/1",
}


@pytest.mark.parametrize("width", WIDTHS)
async def test_filled_pages_and_decisions_and_axe_finds_nothing(site, gallery, width):
    webmail_site, base = site
    await furnish_care(webmail_site)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = await browser.new_context(
            ignore_https_errors=True, viewport={"width": width, "height": 800}, locale="fr-FR"
        )
        page = await context.new_page()
        await sign_in(page, base, webmail_site.code())
        for name, path in PATIENTS_PAGES.items():
            await page.goto(base + path)
            await look_at(page, name, width, gallery)
        # the menu of a patient holds in one line, also on a small telephone
        tops = (
            await page.get_by_role("navigation", name="Menu principal")
            .get_by_role("link")
            .evaluate_all("links => links.map(each => each.getBoundingClientRect().top)")
        )
        assert len(tops) == 5
        assert len(set(tops)) == 1
        await page.get_by_role("button", name="Se déconnecter").click()

        webmail_site.clock.pass_(seconds=30)
        await sign_in(page, base, webmail_site.code(), "doctor")
        for name, path in PROFESSIONALS_PAGES.items():
            await page.goto(base + path)
            await look_at(page, name, width, gallery)
        await page.get_by_label("Raison").fill("Vérifié au téléphone")
        await page.get_by_role("radio").check()
        await page.get_by_role("button", name="Intégrer au dossier choisi").click()
        await page.get_by_text("Décision prise").wait_for()
        await look_at(page, "pro-quarantaine-integre", width, gallery)
        await page.get_by_label("Raison").fill("Erreur")
        await page.get_by_role("button", name="Annuler la décision").click()
        await page.get_by_role("button", name="Intégrer au dossier choisi").wait_for()
        await page.goto(f"{base}/patients/1")
        await page.get_by_role("link", name="IRM du genou droit").click()
        await look_at(page, "pro-liberer", width, gallery)
        await page.get_by_role("button", name="Le montrer au patient").click()
        await page.get_by_text("Le patient voit ce document").wait_for()
        await look_at(page, "pro-libere", width, gallery)
        await browser.close()
