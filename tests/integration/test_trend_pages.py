"""« Suivi biologique »: who reads it, what it says and does not, what it costs, what is traced.

Source: RULES §7, RULES §8, RULES §13.
"""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mailserver.webmail.trend_pages import OPENED, PAGE
from record_bridge.model import LabResult
from record_bridge.queries import number_of
from tests.support.cda import CdaSpec, acts, bound, lab_result, quantity, told
from tests.support.mailsite import DOCTOR, RPPS
from tests.support.record_load import counted, fill
from tests.support.webmail import Webmail, webmail

CRP = {"loinc": "1988-5", "label": "C Réactive protéine [Masse/Volume] Sérum ; Numérique"}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Webmail]:
    async with webmail(tmp_path) as opened:
        await opened.promote(RPPS[DOCTOR])
        await opened.tell("right_give", kind="care_team", holder=RPPS[DOCTOR])
        yield opened


async def furnish(site: Webmail) -> None:
    """Three reports a year apart: one value in another unit, one bound, one in words."""
    for number, (when, more) in enumerate(
        (
            ("20241102", (lab_result(quantity("129", "g/L"), "20241102"),)),
            ("20251102", (lab_result(bound("high", "0.5", more='inclusive="false"'), "20251102",
                                     **CRP),)),
            ("20261102", (lab_result(quantity("4", "mg/L"), "20261102", **CRP),
                          lab_result(told("hémolysé"), "20260102"))),
        ),
        1,
    ):  # fmt: skip
        entries = acts(lab_result(quantity(f"13.{number}0"), when), *more)
        await site.file(CdaSpec(unique_id=f"1.2.{number}", acts=entries))


async def page_of(site: Webmail, login: str = "patient") -> str:
    async with site.signed_in(login) as client:
        path = "/dossier/biologie"
        if login != "patient":
            path = f"/patients/{site.patients['patient']}/biologie"
        answer = await client.get(path)
        assert answer.status_code == 200
        return answer.text


def rows(page: str, name: str) -> list[str]:
    """The table of one analysis, as words."""
    part = page.split(f">{name}</h2>", 1)[1].split("</table>", 1)[0]
    cells = re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td>", part)
    plain = [re.sub(r"<[^>]*>", "", f"{day} | {result}") for day, result in cells]
    return [each.replace("\u00a0", " ") for each in plain]


async def test_the_table_says_what_the_documents_tell(site: Webmail) -> None:
    await furnish(site)
    page = await page_of(site)

    assert rows(page, "Hémoglobine Sang") == [
        "2 novembre 2026 | 13,30 g/dL",
        "2 janvier 2026 | résultat non chiffré : voir le document",
        "2 novembre 2025 | 13,20 g/dL",
        "2 novembre 2024 | 13,10 g/dL",
        "2 novembre 2024 | 12,9 g/dL (écrit 129 g/L)",
    ]
    assert rows(page, "C Réactive protéine Sérum") == [
        "2 novembre 2026 | 4 mg/L",
        "2 novembre 2025 | &lt; 0,5 mg/L",
    ]
    for number in (1, 2, 3):
        assert f'href="/dossier/document/{number_of(f"1.2.{number}")}"' in page


async def test_a_bound_is_never_drawn(site: Webmail) -> None:
    await furnish(site)
    await site.file(
        CdaSpec(unique_id="1.2.9", acts=acts(lab_result(quantity("9", "mg/L"), "20231102", **CRP)))
    )
    page = await page_of(site)

    assert rows(page, "C Réactive protéine Sérum")[1:] == [
        "2 novembre 2025 | &lt; 0,5 mg/L",
        "2 novembre 2023 | 9 mg/L",
    ]
    crp = page.split(">C Réactive protéine Sérum</h2>")[1].split("</section>")[0]
    assert crp.count("<circle") == 2
    assert "<polyline" not in crp  # no line passes over the bound
    assert "de 4 mg/L à 9 mg/L" in crp
    assert "1 résultat du tableau n&#39;est pas dessiné" in crp
    drawing = page.split(">Hémoglobine Sang</h2>")[1].split("</svg>")[0]
    assert drawing.count("<circle") == 4
    assert drawing.count("<polyline") == 1  # the text of January parts the last point from it


async def test_a_professional_reads_what_they_may_with_their_own_links(site: Webmail) -> None:
    await furnish(site)
    masked = CdaSpec(unique_id="1.2.8", acts=acts(lab_result(quantity("99.9"))))
    await site.file(masked, visibility="masked_ps")
    base = f"/patients/{site.patients['patient']}"

    page = await page_of(site, "doctor")
    assert f'href="{base}/document/{number_of("1.2.3")}"' in page
    assert "99,9" not in page
    assert "99,9" in await page_of(site)
    async with site.signed_in("elsewhere") as client:
        assert (await client.get(f"{base}/biologie")).status_code == 404


async def test_a_relative_needs_the_documents_and_the_look_is_traced(site: Webmail) -> None:
    await furnish(site)
    await page_of(site)
    await page_of(site, "doctor")

    accesses = await site.queries.accesses(site.patients["patient"])
    assert [(each.kind, each.actor.partition(":")[0]) for each in accesses[:2]] == [
        ("results_read", "practitioner"), ("results_read", "account")
    ]  # fmt: skip
    async with site.signed_in() as client:
        assert "consultation du suivi biologique" in (await client.get("/dossier/acces")).text


async def test_nothing_is_shown_when_the_look_cannot_be_traced(site: Webmail) -> None:
    async with site.signed_in() as client:
        site.bridge_down = True
        answer = await client.get("/dossier/biologie")

    assert answer.status_code == 503


async def test_addresses_and_drawings_name_no_analysis(site: Webmail) -> None:
    await furnish(site)
    page = await page_of(site)

    links = re.findall(r'href="([^"]*)"', page)
    assert not [link for link in links if "718" in link or "1988" in link]
    assert "style=" not in page  # the policy of the site refuses it
    assert "<script" not in page


async def test_what_senders_write_is_text(site: Webmail) -> None:
    entries = acts(lab_result(quantity("1", "<b>u</b>"), label="<script>alert(1)</script>\u202e"))
    await site.file(CdaSpec(unique_id="1.2.1", acts=entries))
    page = await page_of(site)

    assert "<script" not in page
    assert "<b>" not in page.split("<main")[1]
    assert "\u202e" not in page


@pytest.mark.parametrize(("count", "pages"), [(PAGE, 1), (PAGE + 1, 2)])
async def test_analyses_come_in_pages(site: Webmail, count: int, pages: int) -> None:
    document = await site.file(CdaSpec(unique_id="1.2.1"))
    await site.add_results(
        document,
        *(
            LabResult(f"{n}-1", f"Analyse {n:02}", "1", "", "g/L", "20261101")
            for n in range(count)
        ),
    )
    async with site.signed_in() as client:
        found = [
            re.findall(
                r">(Analyse \d\d)</h2>", (await client.get(f"/dossier/biologie?page={p}")).text
            )
            for p in range(1, pages + 2)
        ]
        first = (await client.get("/dossier/biologie")).text

    assert [len(each) for each in found] == [PAGE, *[1] * (pages - 1), 0]
    assert [name for names in found for name in names] == [f"Analyse {n:02}" for n in range(count)]
    assert ('rel="next"' in first) == (pages > 1)
    assert "<details open" not in first


@pytest.mark.parametrize("count", [OPENED, OPENED + 1])
async def test_few_analyses_are_opened_at_once(site: Webmail, count: int) -> None:
    document = await site.file(CdaSpec(unique_id="1.2.1"))
    await site.add_results(
        document, *(LabResult(f"{n}-1", f"A{n}", "1", "", "g/L", None) for n in range(count))
    )
    page = await page_of(site)

    assert page.count("<details open") == (count if count == OPENED else 0)
    assert page.count("date inconnue") == 3 * count


async def test_an_empty_record_says_so(site: Webmail) -> None:
    assert "Aucun résultat chiffré" in await page_of(site)


async def test_statements_per_request_are_the_same_at_every_size(tmp_path: Path) -> None:
    found = []
    for count in (10, 300):
        folder = tmp_path / str(count)
        folder.mkdir()
        async with webmail(folder) as site:
            await site.record.write(fill, (site.patients["patient"], count))
            await site.record.write(_measure, None)
            async with site.signed_in() as client:
                with counted(site) as seen:
                    page = await client.get("/dossier/biologie")
                found.append(len(seen))
                # a tenth awaits its release; of a series the newest hundred are shown
                assert page.text.count("Voir<span") == min(count * 9 // 10, 100)

    assert found[0] == found[1]


def _measure(connection, _) -> None:
    connection.execute(
        "INSERT INTO lab_result SELECT id, 0, '718-7', 'Hémoglobine', '13.' || id, '', 'g/dL',"
        " date('2026-11-01', '-' || id || ' days'), NULL FROM document"
    )
