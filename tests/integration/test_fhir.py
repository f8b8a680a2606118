"""The FHIR interface over a real record: who reads what, how it is asked, what is traced.

Shapes are validated with fhir.resources (R4B, which has these resources as R4 has them).
Source: IHE-MHD §3.67, IHE-MHD §3.68, RFC 6750 §2.1, RFC 6750 §5, RFC 9110 §13.1.2.
"""

import base64
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fhir.resources.R4B import get_fhir_model_class

from directory.model import Practitioner
from record_bridge.api_token import SCOPES
from record_bridge.api_tokens import LIFETIME, MAX_TOKENS
from record_bridge.errors import RecordStateError
from tests.support.cda import OID_TEST, CdaSpec
from tests.support.record_load import counted, loaded
from tests.support.webmail import Webmail, token_of, webmail

RPPS = "10100000019"
SECRET_UNIQUE_ID = "1.2.250.1.213.999.66"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Webmail]:
    async with webmail(tmp_path) as opened:
        yield opened


async def make_token(site: Webmail, **whose: Any) -> str:
    whose = whose or {"patient_id": site.patients["patient"]}
    made = await site.commands_table["api_token_make"]({"name": "App", "actor": "test", **whose})
    token: str = made["token"]
    return token


class Fhir:
    """An application with a token."""

    def __init__(self, client: httpx2.AsyncClient, token: str) -> None:
        self._client = client
        self.headers = {"Authorization": f"Bearer {token}", "Accept": "application/fhir+json"}

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        return await self._client.get(f"/fhir/{path}", headers=self.headers | headers)

    async def post(self, path: str, **parameters: str) -> httpx2.Response:
        return await self._client.post(f"/fhir/{path}", data=parameters, headers=self.headers)

    async def found(self, path: str) -> list[dict[str, Any]]:
        answer = await self.get(path)
        assert answer.status_code == 200, answer.text
        return resources_of(answer)


def resources_of(answer: httpx2.Response) -> list[dict[str, Any]]:
    body = valid(answer)
    assert body["resourceType"] == "Bundle"
    return [each["resource"] for each in body["entry"]]


def valid(answer: httpx2.Response) -> dict[str, Any]:
    """Read an answer, and hold it against the FHIR library's model, entries too."""
    assert answer.headers["content-type"].startswith("application/fhir+json")
    body: dict[str, Any] = json.loads(answer.content)
    for each in [body, *(entry["resource"] for entry in body.get("entry", ()))]:
        get_fhir_model_class(each["resourceType"]).model_validate(each)
    return body


def refused(answer: httpx2.Response) -> tuple[int, str]:
    body = valid(answer)
    assert body["resourceType"] == "OperationOutcome"
    assert "ZZCANARY" not in answer.text
    return answer.status_code, body["issue"][0]["code"]


@asynccontextmanager
async def application(site: Webmail, token: str | None = None) -> AsyncIterator[Fhir]:
    async with site.client() as client:
        yield Fhir(client, token or await make_token(site))


async def furnish(site: Webmail) -> dict[str, int]:
    """A record with one of everything, and one document that its patient does not see."""
    first = CdaSpec(unique_id="1.2.250.1.213.999.1", code="11490-0", title="ZZCANARYTITRE un")
    second = CdaSpec(unique_id="1.2.250.1.213.999.2", code="11502-2", title="ZZCANARYTITRE deux")
    hidden = CdaSpec(unique_id=SECRET_UNIQUE_ID, title="ZZCANARYTITRE caché")
    ids = {
        "first": await site.file(first, status="superseded"),
        "second": await site.file(second, parent_unique_id=first.unique_id, class_code="11"),
        "hidden": await site.file(hidden, visibility="invisible_patient"),
    }
    await site.add_agenda(ids["second"], title="ZZCANARY coloscopie")
    await site.add_agenda(ids["second"], ordinal=1, kind="vaccination", status="history",
                          title="ROR", atc="J07BD52", day="2026-01-05")  # fmt: skip
    await site.add_agenda(ids["second"], ordinal=2, kind="vaccination", status="history",
                          title="Grippe", day=None)  # fmt: skip
    await site.add_agenda(ids["hidden"], title="ZZCANARY secret")
    await site.add_agenda(ids["hidden"], ordinal=1, kind="vaccination", title="ZZCANARY secret")
    return ids


# --- what is read ----------------------------------------------------------------------------


async def test_documents_are_found_described_and_retrieved(site: Webmail) -> None:
    await furnish(site)
    mine = site.patients["patient"]
    async with application(site) as app:
        second, first = sorted(
            await app.found(f"DocumentReference?patient=Patient/{mine}"),
            key=lambda each: each["status"],
        )

        assert (second["status"], first["status"]) == ("current", "superseded")
        assert second["masterIdentifier"]["value"] == "urn:oid:1.2.250.1.213.999.2"
        assert second["type"]["coding"][0]["code"] == "11502-2"
        assert second["category"][0]["coding"][0]["code"] == "11"
        target = second["relatesTo"][0]["target"]["reference"]
        assert target == f"DocumentReference/{first['id']}"
        attachment = second["content"][0]["attachment"]
        raw = await app.get(f"Binary/{second['id']}", Accept="text/xml")
        assert attachment["url"].endswith(f"/fhir/Binary/{second['id']}")
        assert len(raw.content) == attachment["size"]
        assert raw.headers["content-type"].startswith("text/xml")
        assert raw.headers["content-disposition"].startswith("attachment")
        wrapped = valid(await app.get(f"Binary/{second['id']}"))
        assert base64.b64decode(wrapped["data"]) == raw.content
        assert valid(await app.get(f"DocumentReference/{second['id']}")) == second


async def test_agenda_vaccinations_and_identity_are_read(site: Webmail) -> None:
    await furnish(site)
    own = {"patient_id": site.patients["patient"], "title": "Kiné", "place": "", "actor": "t"}
    await site.commands_table["own_entry_add"](own | {"day": "2026-12-26"})
    async with application(site) as app:
        appointments = await app.found("Appointment")
        immunizations = await app.found("Immunization")
        (person,) = await app.found("Patient")
        one = valid(await app.get(f"Patient/{person['id']}"))

    assert [each["description"] for each in appointments] == ["ZZCANARY coloscopie", "Kiné"]
    assert [each["status"] for each in appointments] == ["proposed", "booked"]
    assert appointments[1]["start"] == "2026-12-25T23:00:00.000Z"
    assert appointments[1]["end"] == "2026-12-26T23:00:00.000Z"
    assert {each["vaccineCode"]["text"] for each in immunizations} == {"ROR", "Grippe"}
    dates = {each.get("occurrenceDateTime") or each["occurrenceString"] for each in immunizations}
    assert dates == {"2026-01-05", "date inconnue"}
    assert one == person
    assert person["identifier"][0]["system"] == f"urn:oid:{OID_TEST}"


async def test_who_opened_the_record_is_told_to_its_patient_without_what_is_hidden(
    site: Webmail,
) -> None:
    ids = await furnish(site)
    for document_id in (ids["hidden"], ids["second"]):
        await site.commands_table["note_access"](
            {"patient_id": site.patients["patient"], "document_id": document_id, "actor": "dr"}
        )
    async with application(site) as app:
        events = await app.found("AuditEvent")
        again = await app.found("AuditEvent")

    told = [
        (each["subtype"][0]["code"], each["entity"][0].get("description"))
        for each in events
        if each["agent"][0]["who"]["display"] == "dr"
    ]
    assert told == [("document_read", "ZZCANARYTITRE deux"), ("record_read", None)]
    assert again[0]["agent"][0]["who"]["display"].startswith("application:")


# --- non-interference and other people -------------------------------------------------------


async def test_a_hidden_document_changes_no_answer(tmp_path: Path) -> None:
    answers: dict[bool, list[tuple[int, bytes]]] = {}
    for with_hidden in (False, True):
        folder = tmp_path / str(with_hidden)
        folder.mkdir()
        async with webmail(folder) as site:
            await site.file(CdaSpec(unique_id="1.2.250.1.213.999.1"))
            if with_hidden:
                spec = CdaSpec(unique_id=SECRET_UNIQUE_ID)
                hidden = await site.file(spec, visibility="invisible_patient")
                await site.add_agenda(hidden)
                await site.add_agenda(hidden, ordinal=1, kind="vaccination")
            token = await make_token(site)
            secret = _id_of(site, SECRET_UNIQUE_ID)
            async with application(site, token) as app:
                got = [
                    await app.get(path)
                    for path in (
                        "DocumentReference", "DocumentReference?_count=1", "Appointment",
                        "Immunization", f"DocumentReference/{secret}", f"Binary/{secret}",
                        "DocumentReference?identifier=urn:oid:" + SECRET_UNIQUE_ID, "AuditEvent",
                    )
                ]  # fmt: skip
            answers[with_hidden] = [(each.status_code, each.content) for each in got]

    assert answers[True] == answers[False]


def _id_of(site: Webmail, unique_id: str) -> str:
    from mailserver.webmail.fhir_resources import document_id

    return document_id(site.patients["patient"], unique_id)


async def test_another_patients_record_is_as_if_it_were_not(site: Webmail) -> None:
    await furnish(site)
    other, mine = site.patients["other"], site.patients["patient"]
    async with application(site, await make_token(site, patient_id=other)) as app:
        theirs = await app.get(f"DocumentReference?patient={mine}")
        nobodys = await app.get("DocumentReference?patient=999999")
        read = await app.get(f"DocumentReference/{_id_of(site, '1.2.250.1.213.999.2')}")
        no_such = await app.get("DocumentReference/999999-dabc")

    assert resources_of(theirs) == resources_of(nobodys) == []
    assert read.content == no_such.content
    assert refused(read) == (404, "not-found")


async def test_a_software_that_is_refused_a_record_is_in_its_journal(site: Webmail) -> None:
    mine = site.patients["patient"]
    token = await make_token(site, structure="cabinet", rpps=RPPS)
    async with application(site, token) as app:
        assert refused(await app.get(f"Patient/{mine}")) == (404, "not-found")
        assert await app.found(f"DocumentReference?patient={mine}") == []

    told = [(each.kind, each.actor) for each in await site.queries.accesses(mine)]
    assert told.count(("access_refused", f"practitioner:{RPPS}")) == 2


async def test_a_software_that_is_refused_a_document_is_in_the_journal(site: Webmail) -> None:
    masked = "1.2.250.1.213.999.9"
    await site.file(CdaSpec(unique_id=masked), visibility="masked_ps")
    mine = site.patients["patient"]
    await site.mail.directory.add_practitioner(Practitioner(RPPS, "Martin", "Alice", "10"))
    await site.commands_table["right_give"](
        {"patient_id": mine, "kind": "care_team", "holder": RPPS, "actor": "test"}
    )
    token = await make_token(site, structure="cabinet", rpps=RPPS)
    async with application(site, token) as app:
        for kind in ("DocumentReference", "Binary"):
            answer = await app.get(f"{kind}/{_id_of(site, masked)}")
            assert refused(answer) == (404, "not-found")

    told = [each.kind for each in await site.queries.accesses(mine)]
    assert told.count("access_refused") == 2


async def test_a_professionals_software_sees_what_that_professional_sees(site: Webmail) -> None:
    ids = await furnish(site)
    masked = CdaSpec(unique_id="1.2.250.1.213.999.9", title="ZZCANARYTITRE masqué")
    await site.file(masked, visibility="masked_ps")
    mine = site.patients["patient"]
    await site.mail.directory.add_practitioner(Practitioner(RPPS, "Martin", "Alice", "10"))
    await site.commands_table["right_give"](
        {"patient_id": mine, "kind": "care_team", "holder": RPPS, "actor": "test"}
    )
    token = await make_token(site, structure="cabinet", rpps=RPPS)
    async with application(site, token) as app:
        refused_list = await app.get("DocumentReference")
        by_identifier = await app.post(
            "DocumentReference/_search",
            **{"patient.identifier": f"urn:oid:{OID_TEST}|279035121518989"},
        )
        nobody = await app.post("Patient/_search", identifier=f"urn:oid:{OID_TEST}|2")
        person = await app.post(
            "Patient/_search", identifier=f"urn:oid:{OID_TEST}|279035121518989"
        )
        accesses = await app.get(f"AuditEvent?patient={mine}")
        await site.commands_table["right_give"](
            {"patient_id": mine, "kind": "block", "holder": RPPS, "actor": "test"}
        )
        blocked = await app.get(f"DocumentReference?patient={mine}")

    assert refused(refused_list) == (400, "required")
    titles = {each["description"] for each in resources_of(by_identifier)}
    assert "ZZCANARYTITRE masqué" not in titles
    assert {"ZZCANARYTITRE deux", "ZZCANARYTITRE caché"} <= titles
    assert resources_of(nobody) == []
    assert [each["id"] for each in resources_of(person)] == [str(mine)]
    assert refused(accesses) == (403, "forbidden")
    assert resources_of(blocked) == []
    link = valid(by_identifier)["link"][0]["url"]
    assert "279035121518989" not in link
    assert f"patient={mine}" in link
    assert ids


# --- how it is asked -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "titles"),
    [
        ("status=current", ["deux"]),
        ("status=current,superseded", ["deux", "un"]),
        ("type=http://loinc.org|11490-0", ["un"]),
        ("type=urn:oid:1.2|11490-0", []),
        ("category=11", ["deux"]),
        ("security-label=N", ["deux", "un"]),
        ("identifier=urn:oid:1.2.250.1.213.999.1", ["un"]),
        ("date=ge2026&date=lt2027", ["deux", "un"]),
        ("date=lt2026-01-01", []),
        ("date=ge2999", []),
        ("status=current&category=10", []),
    ],
)  # fmt: skip
async def test_parameters_select(site: Webmail, query: str, titles: list[str]) -> None:
    await furnish(site)
    async with application(site) as app:
        found = await app.found(f"DocumentReference?{query}")

    assert sorted(each["description"].rpartition(" ")[2] for each in found) == titles


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("DocumentReference?colour=red", 400, "not-supported"),
        ("DocumentReference?type:not=1", 400, "not-supported"),
        ("DocumentReference?access_token=x", 400, "not-supported"),
        ("DocumentReference?date=2026-13", 400, "invalid"),
        ("DocumentReference?date=ne2026", 400, "invalid"),
        ("DocumentReference?date=9999-12-31", 400, "invalid"),
        ("DocumentReference?status=", 400, "invalid"),
        ("DocumentReference?patient=Practitioner/1", 400, "invalid"),
        ("DocumentReference?patient=1&patient=2", 400, "invalid"),
        ("DocumentReference?_count=0", 400, "invalid"),
        ("DocumentReference?_count=-1", 400, "invalid"),
        ("DocumentReference?_format=xml", 400, "not-supported"),
        ("DocumentReference?patient.identifier=urn:oid:1|2", 400, "security"),
        ("Patient?identifier=urn:oid:1|2", 400, "security"),
        ("DocumentReference?%zz", 400, "invalid"),
        ("DocumentReference/x", 404, "not-found"),
        ("DocumentReference/1/_history", 404, "not-found"),
        ("Observation", 404, "not-found"),
        ("Binary", 404, "not-found"),
        ("DocumentReference?" + "status=a&" * 60, 400, "invalid"),
    ],
)  # fmt: skip
async def test_what_is_not_understood_is_refused_in_fixed_words(
    site: Webmail, path: str, status: int, code: str
) -> None:
    await furnish(site)
    async with application(site) as app:
        answer = await app.get(path)

    assert refused(answer) == (status, code)


async def test_unknown_names_are_left_out_for_who_asks_for_leniency(site: Webmail) -> None:
    await furnish(site)
    async with application(site) as app:
        answer = await app.get("DocumentReference?colour=red", Prefer="handling=lenient")
        modifier = await app.get("DocumentReference?type:not=1", Prefer="handling=lenient")

    assert len(resources_of(answer)) == 2
    assert "colour" not in valid(answer)["link"][0]["url"]
    assert refused(modifier) == (400, "not-supported")


async def test_a_search_by_kind_costs_the_same_in_a_small_and_a_large_record(
    tmp_path: Path,
) -> None:
    found = {}
    for count in (10, 500):
        folder = tmp_path / str(count)
        folder.mkdir()
        async with loaded(folder, count) as (site, _), application(site) as app:
            with counted(site) as seen:
                answer = await app.get("DocumentReference?category=10&status=current&_count=3")
            found[count] = len(seen)
            shown = [n for n in range(count) if n % 3 == 0 and n % 10 != 9]
            assert valid(answer)["total"] == len(shown)
            titles = [each["description"] for each in resources_of(answer)]
            assert [int(title.split()[2]) for title in titles] == shown[:3]

    assert found[10] == found[500]


async def test_pages_hold_everything_once(site: Webmail) -> None:
    for number in range(7):
        await site.file(CdaSpec(unique_id=f"1.2.250.1.213.999.{number}"))
    async with application(site) as app:
        found, path = [], "DocumentReference?_count=3&status=current"
        while path:
            answer = await app.get(path)
            body = valid(answer)
            assert body["total"] == 7
            found += [each["id"] for each in resources_of(answer)]
            following = [each["url"] for each in body["link"] if each["relation"] == "next"]
            path = following[0].partition("/fhir/")[2] if following else ""
        many = valid(await app.get("DocumentReference?_count=100000"))

    assert len(found) == len(set(found)) == 7
    assert "_count=100&" in many["link"][0]["url"]


async def test_an_unchanged_resource_is_not_sent_again(site: Webmail) -> None:
    await furnish(site)
    async with application(site) as app:
        (first, _) = await app.found("DocumentReference?status=current,superseded")
        answer = await app.get(f"DocumentReference/{first['id']}")
        tag = answer.headers["etag"]
        again = await app.get(f"DocumentReference/{first['id']}", **{"If-None-Match": tag})
        other = await app.get(f"DocumentReference/{first['id']}", **{"If-None-Match": 'W/"x"'})

    assert tag == f'W/"{first["meta"]["versionId"]}"'
    assert (again.status_code, again.content) == (304, b"")
    assert other.status_code == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_nothing_can_be_written(site: Webmail, method: str) -> None:
    token = await make_token(site)
    async with site.client() as client:
        answer = await client.request(
            method, "/fhir/Patient/1", headers={"Authorization": f"Bearer {token}"}
        )

    assert refused(answer) == (405, "not-supported")


# --- tokens ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer x", "Basic cGF0aWVudDp4", "Bearer pli_" + "A" * 43, "bearer \xff"],
)
async def test_without_a_token_in_force_nothing_is_said(site: Webmail, authorization: str) -> None:
    await furnish(site)
    headers = {"Authorization": authorization.encode("latin-1")} if authorization else {}
    async with site.client() as client:
        answer = await client.get("/fhir/Patient", headers=headers)  # type: ignore[arg-type]
        in_address = await client.get(f"/fhir/Patient?access_token={await make_token(site)}")

    assert refused(answer) == refused(in_address) == (401, "login")
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_a_token_reads_what_it_was_made_for_until_it_ends_or_is_stopped(
    site: Webmail,
) -> None:
    await furnish(site)
    mine = {"patient_id": site.patients["patient"], "actor": "test"}
    token = await make_token(site, scopes=["Appointment"], patient_id=mine["patient_id"])
    stopped = await make_token(site)
    rows = await site.commands_table["api_token_list"](mine)
    await site.commands_table["api_token_stop"]({**mine, "id": rows[1]["id"]})
    async with application(site, token) as app:
        allowed = await app.get("Appointment")
        forbidden = [
            await app.get(path) for path in ("DocumentReference", "Binary/1-d", "Patient")
        ]
        site.clock.pass_(days=LIFETIME.days + 1)
        over = await app.get("Appointment")
    async with application(site, stopped) as app:
        gone = await app.get("Appointment")

    assert allowed.status_code == 200
    assert {refused(each) for each in forbidden} == {(403, "forbidden")}
    assert refused(over) == refused(gone) == (401, "login")
    assert (await site.record.all(_text("SELECT digest FROM api_token")))[0][0] != token.encode()


def _text(statement: str) -> Any:
    from sqlalchemy import text

    return text(statement)


async def test_somebody_elses_token_cannot_be_stopped_and_there_are_only_so_many(
    site: Webmail,
) -> None:
    await make_token(site)
    (row,) = await site.commands_table["api_token_list"](
        {"patient_id": site.patients["patient"], "actor": "test"}
    )
    with pytest.raises(RecordStateError):
        await site.commands_table["api_token_stop"](
            {"patient_id": site.patients["other"], "id": row["id"], "actor": "test"}
        )
    for _ in range(MAX_TOKENS - 1):
        await make_token(site)
    with pytest.raises(RecordStateError):
        await make_token(site)


async def test_a_patient_makes_and_stops_a_token_on_a_page(site: Webmail) -> None:
    await furnish(site)
    async with site.signed_in() as client:
        page = await client.get("/dossier/applications")
        made = await client.post(
            "/dossier/applications",
            data={"csrf": token_of(page.text), "name": "Carnet", "DocumentReference": "oui"},
        )
        server, token = made.text.split('<code class="secret">')[1:]
        token = token.partition("<")[0]
        async with application(site, token) as app:
            assert len(await app.found("DocumentReference")) == 2
            assert refused(await app.get("Patient")) == (403, "forbidden")
            page = await client.get("/dossier/applications")
            assert token not in page.text
            assert "Carnet" in page.text
            number = page.text.split("/dossier/applications/")[1].partition("/")[0]
            await client.post(
                f"/dossier/applications/{number}/arreter", data={"csrf": token_of(page.text)}
            )
            assert refused(await app.get("DocumentReference")) == (401, "login")
    assert server.startswith("https://")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"name": "Carnet de santé"}, "Cochez au moins une chose"),
        ({"name": " ", "Patient": "oui"}, "Écrivez le nom"),
    ],
)
async def test_a_token_that_is_refused_says_why_and_keeps_what_was_typed(
    site: Webmail, fields: dict[str, str], told: str
) -> None:
    async with site.signed_in() as client:
        token = token_of((await client.get("/dossier/applications")).text)
        answer = await client.post("/dossier/applications", data={"csrf": token, **fields})
    assert answer.status_code == 422
    assert told in answer.text
    assert f'value="{fields["name"].strip()}"' in answer.text
    assert answer.text.count("checked") == len(fields) - 1


# --- the trail -------------------------------------------------------------------------------


async def test_every_reading_is_traced_and_nothing_is_read_when_it_cannot_be(
    site: Webmail,
) -> None:
    ids = await furnish(site)
    async with application(site) as app:
        site.commands.clear()
        (document, _) = await app.found("DocumentReference?status=current,superseded")
        await app.get(f"Binary/{document['id']}")
        await app.found("Appointment")
        noted = [arguments for name, arguments in site.commands if name == "note_access"]
        site.bridge_down = True
        down = [
            await app.get(path)
            for path in ("DocumentReference", f"Binary/{document['id']}", "Patient")
        ]

    kinds = [(each["kind"], each.get("document_id")) for each in noted]
    assert kinds[0] == ("record_read", None)
    assert kinds[1][0] == "document_read"
    assert kinds[1][1] in (ids["first"], ids["second"])
    assert kinds[2] == ("agenda_read", None)
    assert {each["actor"].partition(":")[0] for each in noted} == {"application"}
    assert {refused(each) for each in down} == {(503, "transient")}


async def test_the_capability_statement_tells_what_there_is_to_who_has_no_token(
    site: Webmail,
) -> None:
    async with site.client() as client:
        answer = await client.get("/fhir/metadata")

    body = valid(answer)
    listed = {each["type"] for each in body["rest"][0]["resource"]}
    assert listed == set(SCOPES)
    assert body["fhirVersion"] == "4.0.1"


async def test_what_is_unforeseen_is_an_outcome_that_says_nothing_of_it(site: Webmail) -> None:
    token = await make_token(site)
    async with site.client() as client:
        fhir = Fhir(client, token)
        assert (await fhir.get("Patient")).status_code == 200
        await site.record.write(_break, None)

        answer = await fhir.get("Patient")
    assert refused(answer) == (500, "exception")
    assert "api_token" not in answer.text


def _break(connection: sqlite3.Connection, _: None) -> None:
    connection.execute("ALTER TABLE api_token RENAME TO zzcanary")
