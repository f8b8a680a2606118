"""Who read a document that leaves is told, through whatever they had read it.

Source: RULES §7, RULES §13.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.cda import CdaSpec, acts, lab_result, quantity, treatment
from tests.support.mailsite import DOCTOR, RPPS
from tests.support.webmail import Webmail, token_of, webmail

UNIQUE_ID = "1.2.250.1.213.999.7"
TOLD = "Un document que vous aviez ouvert a été retiré du dossier"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Webmail]:
    async with webmail(tmp_path) as opened:
        await opened.promote(RPPS[DOCTOR])
        await opened.tell("right_give", kind="care_team", holder=RPPS[DOCTOR])
        result = acts(lab_result(quantity("13.1"), "20261102"), treatment("SOLIAN"))
        await opened.file(CdaSpec(unique_id=UNIQUE_ID, acts=result))
        yield opened


async def by_archive(site: Webmail) -> None:
    async with site.signed_in() as client:
        assert (await client.get("/dossier/archive")).status_code == 200


async def by_trends(site: Webmail) -> None:
    async with site.signed_in() as client:
        assert "13,1" in (await client.get("/dossier/biologie")).text


async def by_medications(site: Webmail) -> None:
    async with site.signed_in() as client:
        assert "SOLIAN" in (await client.get("/dossier/medicaments")).text


async def by_application(site: Webmail) -> None:
    whose = {"patient_id": site.patients["patient"], "name": "App", "actor": "test"}
    made = await site.commands_table["api_token_make"](whose)
    headers = {"Authorization": f"Bearer {made['token']}"}
    async with site.client() as client:
        found = (await client.get("/fhir/DocumentReference", headers=headers)).json()
        name = found["entry"][0]["resource"]["id"]
        headers["Accept"] = "text/xml"
        assert (await client.get(f"/fhir/Binary/{name}", headers=headers)).status_code == 200


async def by_professional(site: Webmail) -> None:
    async with site.signed_in("doctor") as client:
        page = await client.get(f"/patients/{site.patients['patient']}/biologie")
        assert "13,1" in page.text


async def by_list(site: Webmail) -> None:
    async with site.signed_in() as client:
        assert (await client.get("/dossier")).status_code == 200


@pytest.mark.parametrize(
    ("read", "login", "told"),
    [
        (by_archive, "patient", 1),
        (by_trends, "patient", 1),
        (by_medications, "patient", 1),
        (by_application, "patient", 1),
        (by_professional, "doctor", 1),
        (by_professional, "patient", 0),
        (by_list, "patient", 0),
    ],
)
async def test_who_read_a_document_is_told_that_it_left(
    site: Webmail, read: Callable[[Webmail], Awaitable[None]], login: str, told: int
) -> None:
    await read(site)
    await site.tell("record_withdraw", document=UNIQUE_ID, reason="mauvais patient")

    async with site.signed_in(login) as client:
        page = (await client.get("/accueil")).text
        assert page.count(TOLD) == told
        if told:
            path = page.split('action="/avis/', 1)[1].split('"', 1)[0]
            await client.post(f"/avis/{path}", data={"csrf": token_of(page)})
            assert TOLD not in (await client.get("/accueil")).text


async def test_what_was_hidden_from_a_reader_was_not_read_by_them(site: Webmail) -> None:
    hidden = CdaSpec(unique_id="1.2.8", acts=acts(lab_result(quantity("9.9"), "20261102")))
    await site.file(hidden, visibility="awaiting_release")
    await by_archive(site)
    await by_trends(site)
    await site.tell("record_withdraw", document="1.2.8", reason="mauvais patient")

    async with site.signed_in() as client:
        assert TOLD not in (await client.get("/accueil")).text
