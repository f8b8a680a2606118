"""What a record's pages cost does not grow with the record; figures: scripts/bench record."""

import re
from pathlib import Path

import pytest

from record_bridge.listing import PAGE
from record_bridge.queries import number_of
from tests.support.mailsite import DOCTOR
from tests.support.record_load import PAGES, cost, counted, loaded
from tests.support.webmail import RPPS, token_of, webmail


@pytest.mark.timeout(60)
async def test_statements_per_request_are_the_same_at_every_size(tmp_path: Path) -> None:
    found = {}
    for count in (10, 1_000):
        folder = tmp_path / str(count)
        folder.mkdir()
        async with loaded(folder, count) as (site, client):
            found[count] = {page: (await cost(site, client, page)).statements for page in PAGES}

    assert found[10] == found[1_000]


async def test_pages_hold_every_document_once_and_no_hidden_one(tmp_path: Path) -> None:
    count = 4 * PAGE + 7
    async with loaded(tmp_path, count) as (_, client):
        titles: list[str] = []
        path = "/dossier"
        while path:
            text = (await client.get(path)).text
            titles += [part.partition("<")[0] for part in text.split("Compte rendu ")[1:]]
            older = text.split('" rel="next"')[0].rpartition('href="')[2]
            path = f"/dossier{older}" if 'rel="next"' in text else ""

    shown = [number for number in range(count) if number % 10 != 9]
    assert [int(each.split()[0]) for each in titles] == shown


async def test_a_document_is_opened_and_a_professional_s_page_read_at_the_same_cost(
    tmp_path: Path,
) -> None:
    found = {}
    for count in (10, 1_000):
        folder = tmp_path / str(count)
        folder.mkdir()
        async with loaded(folder, count) as (site, client), site.signed_in("doctor") as doctor:
            patient = site.patients["patient"]
            await site.tell("right_give", kind="care_team", holder=RPPS[DOCTOR])
            number = number_of("1.2.250.1.213.999.5.3")
            found[count] = []
            for who, path in (
                (client, f"/dossier/document/{number}"),
                (client, "/dossier/acces"),
                (doctor, f"/patients/{patient}"),
                (doctor, f"/patients/{patient}/document/{number}"),
            ):
                with counted(site) as seen:
                    assert (await who.get(path)).status_code == 200, path
                found[count].append(len(seen))

    assert found[10] == found[1_000]


async def test_a_professional_pages_through_a_record_and_searches_it(tmp_path: Path) -> None:
    count = PAGE + 5
    async with loaded(tmp_path, count) as (site, _), site.signed_in("doctor") as doctor:
        await site.tell("right_give", kind="care_team", holder=RPPS[DOCTOR])
        path = f"/patients/{site.patients['patient']}"
        first, second = [(await doctor.get(path, params={"page": n})).text for n in (1, 2)]
        form = {"csrf": token_of(first), "words": "rendu"}
        found = (await doctor.post(f"{path}/recherche", data=form)).text
        after = re.search(r'name="after" value="([^"]*)"', found)
        assert after is not None
        rest = (await doctor.post(f"{path}/recherche", data=form | {"after": after[1]})).text
        none = (await doctor.post(f"{path}/recherche", data=form | {"words": "genou"})).text

    for one, other in ((first, second), (found, rest)):
        assert [text.count("Compte rendu ") for text in (one, other)] == [PAGE, 5]
    assert "Plus de 20 résultats" in found
    assert "0 résultat<" in none


async def test_a_search_goes_on_to_the_last_document_and_names_no_row(tmp_path: Path) -> None:
    count = 2 * PAGE + 13
    async with loaded(tmp_path, count) as (_, client):
        titles: list[str] = []
        said, after = [], ""
        form = {"csrf": token_of((await client.get("/dossier/recherche")).text), "words": "COMPTE"}
        while after is not None:
            answer = await client.post("/dossier/recherche", data=form | {"after": after})
            text = answer.text
            titles += [part.partition("<")[0] for part in text.split("Compte rendu ")[1:]]
            said.append(text.partition('role="status">')[2].partition("<")[0])
            found = re.search(r'name="after" value="([^"]*)"', text)
            after = None if found is None else found[1]

    shown = [number for number in range(count) if number % 10 != 9]
    assert [int(each.split()[0]) for each in titles] == shown
    assert said == [
        "Plus de 20 résultats", "Suite des résultats\u00a0: 20 résultats",
        f"Suite des résultats\u00a0: {len(shown) - 40} résultats",
    ]  # fmt: skip


@pytest.mark.parametrize("page", ["0", "-1", "x", "99999", "999999", "²", "1e3"])
async def test_a_page_that_is_none_is_empty_or_the_first(tmp_path: Path, page: str) -> None:
    async with webmail(tmp_path) as site, site.signed_in() as client:
        answer = await client.get("/dossier", params={"page": page})

    assert answer.status_code == 200
