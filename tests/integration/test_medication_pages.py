"""« Médicaments et vaccins »: who reads it, what it says and does not, what it costs, what is traced.

Source: RULES §7, RULES §8, RULES §13.
"""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from record_bridge.queries import number_of
from tests.support.cda import CdaSpec, acts, dispensation, prescription, treatment
from tests.support.mailsite import DOCTOR, RPPS
from tests.support.record_load import counted, fill
from tests.support.webmail import Webmail, webmail


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Webmail]:
    async with webmail(tmp_path) as opened:
        await opened.promote(RPPS[DOCTOR])
        await opened.tell("right_give", kind="care_team", holder=RPPS[DOCTOR])
        yield opened


async def furnish(site: Webmail) -> None:
    """A prescription, what was given out for it, and a letter with treatments."""
    lines = acts(
        prescription("20261101", "20261201", renewals=2),
        prescription("20261101", None, name="PARACETAMOL", as_needed=True),
    )
    await site.file(CdaSpec(unique_id="1.2.1", title="Ordonnance", acts=lines))
    await site.file(CdaSpec(unique_id="1.2.2", title="Dispensation", acts=acts(dispensation())))
    letter = acts(
        treatment("SOLIAN 100 mg", "201808", "20191029"),
        treatment("ROSUVASTATINE", None, section="18776-5", mood="INT"),
        treatment(low=None, product='<code nullFlavor="UNK"/>'),
    )
    key = await site.file(CdaSpec(unique_id="1.2.3", title="Lettre", acts=letter))
    for ordinal, (title, day) in enumerate(
        (("Vaccination : PRIORIX – date inconnue", None), ("Vaccination : REPEVAX", "2020-01-02"),
         ("Vaccination : GRIPPE", "2025-11-03"))
    ):  # fmt: skip
        await site.add_agenda(
            key, ordinal=ordinal, kind="vaccination", status="history", title=title, day=day
        )
    await site.add_agenda(key, ordinal=3, kind="vaccination", status="dismissed", title="ÉCARTÉ")
    await site.add_agenda(key, ordinal=4, title="RENDEZ-VOUS")


async def page_of(site: Webmail, login: str = "patient") -> str:
    async with site.signed_in(login) as client:
        path = "/dossier/medicaments"
        if login != "patient":
            path = f"/patients/{site.patients['patient']}/medicaments"
        answer = await client.get(path)
        assert answer.status_code == 200
        return answer.text


def words(page: str) -> list[str]:
    """Each line of the page, as words."""
    found = re.findall(r"<li>(.*?)</li>", page.split("<h1>")[1])
    plain = [re.sub(r"<span class=.sr.>.*?</span>", "", each) for each in found]
    return [
        " ".join(re.sub(r"<[^>]*>", "", each).replace("\u00a0", " ").split()) for each in plain
    ]


async def test_every_line_says_what_its_document_says(site: Webmail) -> None:
    await furnish(site)
    page = await page_of(site)

    assert words(page) == [
        "Traitement SOLIAN 100 mg d&#39;août 2018 au 29 octobre 2019",
        "Traitement médicament sans nom lisible : voir le document",
        "Prévu ROSUVASTATINE",
        "Délivré PARACETAMOL 500 mg",
        "Prescrit AMOXICILLINE 1 g du 1er novembre 2026 au 1er décembre 2026, renouvelable 2 fois",
        "Prescrit PARACETAMOL à partir du 1er novembre 2026, si besoin",
        "Vaccination : GRIPPE le 3 novembre 2025 Voir",
        "Vaccination : REPEVAX le 2 janvier 2020 Voir",
        "Vaccination : PRIORIX – date inconnue Voir",
    ]
    for number in (1, 2, 3):
        assert f'href="/dossier/document/{number_of(f"1.2.{number}")}"' in page


async def test_a_record_without_any_says_so(site: Webmail) -> None:
    page = await page_of(site)

    assert "Aucun médicament pour le moment." in page
    assert "Aucun vaccin pour le moment." in page


async def test_a_professional_reads_what_they_may_with_their_own_links(site: Webmail) -> None:
    await furnish(site)
    masked = CdaSpec(unique_id="1.2.8", acts=acts(treatment("ZZCACHE")))
    key = await site.file(masked, visibility="masked_ps")
    await site.add_agenda(key, kind="vaccination", status="history", title="Vaccination : ZZCACHE")
    base = f"/patients/{site.patients['patient']}"

    page = await page_of(site, "doctor")
    assert f'href="{base}/document/{number_of("1.2.3")}"' in page
    assert "ZZCACHE" not in page
    assert (await page_of(site)).count("ZZCACHE") == 3
    async with site.signed_in("elsewhere") as client:
        assert (await client.get(f"{base}/medicaments")).status_code == 404


async def test_the_look_is_traced_and_without_a_trace_nothing_is_shown(site: Webmail) -> None:
    await furnish(site)
    await page_of(site)
    await page_of(site, "doctor")

    accesses = await site.queries.accesses(site.patients["patient"])
    assert [(each.kind, each.actor.partition(":")[0]) for each in accesses[:2]] == [
        ("medications_read", "practitioner"), ("medications_read", "account")
    ]  # fmt: skip
    async with site.signed_in() as client:
        told = (await client.get("/dossier/acces")).text
        assert "consultation des médicaments et des vaccins" in told
        site.bridge_down = True
        assert (await client.get("/dossier/medicaments")).status_code == 503


async def test_what_senders_write_is_text(site: Webmail) -> None:
    await site.file(CdaSpec(unique_id="1.2.1", acts=acts(treatment("<script>x</script>\u202e"))))
    page = await page_of(site)

    assert "<script" not in page
    assert "\u202e" not in page


async def test_a_page_costs_the_same_statements_whatever_the_record(tmp_path: Path) -> None:
    found = []
    for count in (10, 400):
        folder = tmp_path / str(count)
        folder.mkdir()
        async with webmail(folder) as site:
            await site.record.write(fill, (site.patients["patient"], count))
            await site.record.write(_name, None)
            async with site.signed_in() as client:
                with counted(site) as seen:
                    page = await client.get("/dossier/medicaments")
                found.append(len(seen))
                assert page.text.count("LEVOTHYROX") == count * 9 // 10  # a tenth awaits release

    assert found[0] == found[1]


def _name(connection, _) -> None:
    connection.execute(
        "INSERT INTO medication SELECT id, 0, 'treatment', 'LEVOTHYROX', '', '', NULL, NULL, 0, 0"
        " FROM document"
    )
