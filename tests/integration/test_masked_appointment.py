"""A masked appointment shows nowhere to who may not see it, and settles no due date of theirs.

Source: RULES §7, RULES §8; tests/vectors/agenda/masked_appointment.toml, worked by hand.
"""

import base64
import re
import tomllib
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from record_bridge.model import Viewer, ViewerKind
from record_bridge.prevention_record import prevention
from tests.support.cda import OID_TEST, CdaSpec
from tests.support.mailsite import DOCTOR, RPPS
from tests.support.webmail import OTHER_PATIENT, Webmail, token_of, webmail

VECTORS = Path(__file__).parents[1] / "vectors" / "agenda"
EXAMPLE = tomllib.loads((VECTORS / "masked_appointment.toml").read_text("utf-8"))
TITLES = {each["title"] for each in EXAMPLE["document"]}
SYNC = (
    b'<sync-collection xmlns="DAV:"><sync-token/><sync-level>1</sync-level><prop><getetag/>'
    b'<calendar-data xmlns="urn:ietf:params:xml:ns:caldav"/></prop></sync-collection>'
)
TODAY = date(2026, 11, 22)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Webmail]:
    async with webmail(tmp_path) as opened:
        born = EXAMPLE["birth_date"].strftime("%Y%m%d")
        known = {"ins": OTHER_PATIENT.partition("@")[0], "oid": OID_TEST, "patient_id": None}
        await opened.tell("patient_change", "other", **known, birth_date=born, given="LEO")
        parent = str(opened.patients["patient"])
        await opened.tell("right_give", "other", kind="representative", holder=parent)
        await opened.tell("right_give", "other", kind="care_team", holder=RPPS[DOCTOR])
        await opened.promote(RPPS[DOCTOR])
        for number, each in enumerate(EXAMPLE["document"], 1):
            spec = CdaSpec(unique_id=f"1.2.{number}", code="11490-0", title=f"Lettre {number}")
            key = await opened.file(spec, login="other", visibility=each["visibility"])
            await opened.add_agenda(key, login="other", title=each["title"],
                                    reminder=f"{each['title']} approche.")  # fmt: skip
            await opened.add_agenda(key, login="other", ordinal=1, kind="vaccination",
                                    status="history", title=f"Vaccin {number}", atc=each["atc"],
                                    day=each["day"].isoformat())  # fmt: skip
        yield opened


async def calendars_of(site: Webmail, browser: httpx2.AsyncClient) -> dict[str, str]:
    """What a feed and a CalDAV account made in this browser hold."""
    made = []
    for kind in ("feed", "device"):
        csrf = token_of((await browser.get("/agenda/calendriers")).text)
        data = {"csrf": csrf, "kind": kind, "detail": "titles", "name": "Mobile"}
        page = (await browser.post("/agenda/calendriers/nouveau", data=data)).text
        made.append(re.findall(r'<code class="secret">([^<]+)</code>', page))
    (address,), (_, login, secret) = made
    basic = base64.b64encode(f"{login}:{secret}".encode()).decode()
    async with site.client() as program:
        dav = await program.request(
            "REPORT", f"/caldav/{login}/agendas/sante/", content=SYNC,
            headers={"Authorization": f"Basic {basic}"},
        )  # fmt: skip
        return {"feed": (await program.get(urlsplit(address).path)).text, "caldav": dav.text}


async def application(site: Webmail, **whose: Any) -> str:
    """Every appointment and vaccination that an application with a key is given."""
    made = await site.commands_table["api_token_make"]({"name": "App", "actor": "test", **whose})
    headers = {"Authorization": f"Bearer {made['token']}", "Accept": "application/fhir+json"}
    said = ""
    async with site.client() as client:
        for kind in ("Appointment", "Immunization"):
            path = f"/fhir/{kind}?patient=Patient/{site.patients['other']}"
            answer = await client.get(path, headers=headers)
            assert answer.status_code == 200
            said += answer.text
    return said


async def channels(site: Webmail, who: str, stack: AsyncExitStack) -> Mapping[str, str]:
    """Everything in which this viewer could meet an appointment of the child."""
    child = site.patients["other"]
    if who == "physician":
        whose = {"structure": "cabinet", "rpps": RPPS[DOCTOR]}
        return {"FHIR": await application(site, **whose)}
    browser = await stack.enter_async_context(
        site.signed_in("other" if who == "child" else "patient")
    )
    found = {}
    if who == "parent":
        page = (await browser.get("/famille")).text
        found["family"] = page
        await browser.post(f"/famille/{child}/ouvrir", data={"csrf": token_of(page)})
    for path in ("/agenda", "/accueil"):
        found[path] = (await browser.get(path)).text
    found |= await calendars_of(site, browser)
    if who == "child":
        found["FHIR"] = await application(site, patient_id=child)
        asked = {"patient_id": child, "day": TODAY.isoformat(), "actor": "cli:test"}
        found["command"] = str(await site.commands_table["agenda_at"](asked))
    return found


@pytest.mark.parametrize("who", EXAMPLE["viewers"])
async def test_each_viewer_meets_the_appointments_worked_by_hand(site: Webmail, who: str) -> None:
    expected = set(EXAMPLE["viewers"][who]["appointments"])
    async with AsyncExitStack() as stack:
        found = await channels(site, who, stack)

        for channel, said in found.items():
            assert {title for title in TITLES if title in said} == expected, channel


@pytest.mark.parametrize("who", ["child", "parent"])
async def test_only_what_a_viewer_sees_settles_a_due_date(site: Webmail, who: str) -> None:
    kind, holder = {
        "child": (ViewerKind.PATIENT, "other"),
        "parent": (ViewerKind.REPRESENTATIVE, "patient"),
    }[who]
    child = await site.queries.patient(site.patients["other"])
    assert child is not None

    viewer = Viewer(kind, str(site.patients[holder]))
    items = await prevention(site.queries, child, viewer, TODAY)

    settled = [f"{i.rule_id} {i.ordinal} {i.done_on}" for i in items if i.done_on is not None]
    assert sorted(settled) == sorted(EXAMPLE["viewers"][who]["settled"])
