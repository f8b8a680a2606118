"""« Suivi biologique » and « Médicaments et vaccins » in a real browser, with axe-core."""

import shutil

import pytest
from playwright.async_api import async_playwright

from tests.e2e import test_webmail_browser as pages
from tests.e2e.test_webmail_browser import ARGUMENTS, WIDTHS, look_at, sign_in
from tests.support.cda import (
    CdaSpec,
    acts,
    bound,
    dispensation,
    lab_result,
    prescription,
    quantity,
    treatment,
)

site, gallery = pages.site, pages.gallery
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs the Debian package chromium"),
    pytest.mark.timeout(180),
]


async def add_results(site) -> None:
    """Three years of a patient's blood, with a bound and another unit among them."""
    crp = {"loinc": "1988-5", "label": "C Réactive protéine [Masse/Volume] Sérum ; Numérique"}
    tsh = {"loinc": "3016-3", "label": "Thyréostimuline [Arbitraire/Volume] Sérum ; Numérique"}
    haemoglobin = ("12,9", "13,1", "12,7", "13,4", "13,2")
    for number, value in enumerate(haemoglobin):
        day = f"{2024 + number // 2}{3 + 6 * (number % 2):02}12"
        more = lab_result(quantity(str(4 + number), "mg/L"), day, **crp)
        if number == 2:
            more = lab_result(bound("high", "4", more='inclusive="false"'), day, **crp)
        entries = [lab_result(quantity(value), day), more]
        if number == 1:
            entries.append(lab_result(quantity("2.05", "m[IU]/L"), day, **tsh))
            entries[0] = lab_result(quantity("131", "g/L"), day)
        await site.file(CdaSpec(unique_id=f"1.2.5.{number}", acts=tuple(entries)))


@pytest.mark.parametrize("width", WIDTHS)
async def test_results_over_time_and_axe_finds_nothing(site, gallery, width):
    webmail_site, base = site
    await add_results(webmail_site)
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = await browser.new_context(
            ignore_https_errors=True, viewport={"width": width, "height": 800}, locale="fr-FR"
        )
        page = await context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        await sign_in(page, base, webmail_site.code())
        await page.goto(f"{base}/dossier")
        await page.get_by_role("link", name="Suivi biologique").click()
        drawing = page.get_by_role("img", name="Hémoglobine")
        assert "5 valeurs, de 12,7 g/dL à 13,4 g/dL" in (await drawing.text_content() or "")
        assert await page.locator("circle").count() == 5 + 4
        assert await drawing.locator("circle").first.evaluate(
            "each => getComputedStyle(each).fill"
        ) == "rgb(35, 64, 127)"  # fmt: skip
        await look_at(page, "suivi-biologique", width, gallery)
        await page.get_by_role("link", name="Hémoglobine Sang, 12 mars 2026").click()
        assert await page.get_by_role("heading", level=1).is_visible()
        await browser.close()

    assert complaints == []


async def add_medicines(site) -> None:
    """A prescription, what was given out for it, a letter, and vaccinations."""
    lines = acts(
        prescription("20261101", "20261201", renewals=2),
        prescription("20261101", None, name="PARACETAMOL 500 mg, comprimé", as_needed=True),
    )
    await site.file(CdaSpec(unique_id="1.2.6.1", title="Ordonnance", acts=lines))
    await site.file(
        CdaSpec(unique_id="1.2.6.2", title="Dispensation", acts=acts(dispensation("DOLIPRANE")))
    )
    letter = acts(
        treatment("LEVOTHYROX 75 microgrammes, comprimé sécable", "20220211"),
        treatment("SOLIAN 100 mg", "201808", "20191029", section="18610-6"),
        treatment("ROSUVASTATINE 5 mg", None, section="18776-5", mood="INT"),
    )
    key = await site.file(CdaSpec(unique_id="1.2.6.3", title="Lettre de liaison", acts=letter))
    for ordinal, (name, day) in enumerate(
        (("REPEVAX (dose 2)", "2020-01-02"), ("PRIORIX – date inconnue", None))
    ):
        await site.add_agenda(
            key, ordinal=ordinal, kind="vaccination", status="history",
            title=f"Vaccination : {name}", day=day,
        )  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
async def test_medicines_and_vaccinations_and_axe_finds_nothing(site, gallery, width):
    webmail_site, base = site
    await add_medicines(webmail_site)
    complaints: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = await browser.new_context(
            ignore_https_errors=True, viewport={"width": width, "height": 800}, locale="fr-FR"
        )
        page = await context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        await sign_in(page, base, webmail_site.code())
        await page.goto(f"{base}/dossier")
        await page.get_by_role("link", name="Médicaments et vaccins").click()
        named = await page.get_by_role("listitem").filter(has_text="LEVOTHYROX").inner_text()
        assert " ".join(named.split()) == (
            "Traitement LEVOTHYROX 75 microgrammes, comprimé sécable à partir du 11 février 2022"
        )
        await look_at(page, "medicaments", width, gallery)
        await page.get_by_role("link", name="Voir le document : Vaccination : REPEVAX").click()
        assert await page.get_by_role("heading", level=1).is_visible()
        await browser.close()

    assert complaints == []
