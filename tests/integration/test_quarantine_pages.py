"""Quarantine in the pages of the professional to whom the documents were addressed."""

import re

import markupsafe
import pytest

from directory.codes import MailboxType
from mailserver.store.model import NewAccount, NewMailbox
from mailserver.webmail.quarantine_text import REFUSALS
from record_bridge import progress
from record_bridge.filing import FilingBatch, file_batch
from record_bridge.model import Environment
from tests.support.cda import OID_TEST, CdaSpec, PatientSpec
from tests.support.mailsite import AT, CABINET, DOCTOR, OTHER_DOCTOR, PATIENT, RPPS
from tests.support.record import item_of, message, report
from tests.support.webmail import token_of, webmail

INS = PATIENT.partition("@")[0]
PERSON = PatientSpec(ins=INS, given="CAMILLE", birth_date="19790329")
"""The patient of the site, but for the day of birth."""


@pytest.fixture
async def site(tmp_path):
    async with webmail(tmp_path) as opened:
        yield opened


async def waits(site, *, to=DOCTOR, **changes):
    """Have a document wait that was addressed to the doctor."""
    await progress.position(site.record, CABINET.id, 7, AT)
    (claimed,) = await site.record.write(progress.claim, progress.Claim(CABINET.id, 7, (1,), AT))
    raw = message(1, report(1, **({"patients": (PERSON,)} | changes)), to=(to,))
    item = item_of(claimed.item_id, claimed.uid, raw)
    await site.record.write(file_batch, FilingBatch(CABINET, Environment.TEST, (item,), AT))


async def decide(client, page, path=None, **fields):
    shown = await client.get(page)
    return await client.post(path or page, data={"csrf": token_of(shown.text)} | fields)


async def test_the_addressee_sees_what_waits_and_which_trait_differs(site):
    await waits(site)
    async with site.signed_in("doctor") as client:
        listed = (await client.get("/quarantaine")).text
        page = re.search(r"/quarantaine/\d+", listed)[0]
        shown = (await client.get(page)).text

    assert "904" in listed
    assert "<strong>28\u00a0mars 1979</strong>" in shown
    assert "29\u00a0mars 1979" in shown
    assert "ZZCANARY" not in page


async def test_nobody_else_sees_it(site):
    await waits(site)
    async with site.signed_in("colleague") as client:
        assert "/quarantaine/1" not in (await client.get("/quarantaine")).text
        assert (await client.get("/quarantaine/1")).status_code == 404
    async with site.signed_in("patient") as client:
        assert (await client.get("/quarantaine")).status_code == 404
        assert (await client.get("/quarantaine/1")).status_code == 404


async def test_a_professional_of_two_structures_finds_what_waits_in_either(site):
    """The mailbox of the other structure comes first, and knows nothing of the item."""
    accounts, address = site.mail.store.accounts, f"second@{CABINET.domain}"
    second = await accounts.add_mailbox(
        NewMailbox(address, MailboxType.PER, CABINET.id, "", RPPS[DOCTOR], True, AT)
    )
    first, known = await site.mail.mailbox(OTHER_DOCTOR), await accounts.account("doctor")
    assert known is not None
    assert first.id < second.id
    both = (first.id, second.id)
    await accounts.add_account(
        NewAccount("both", known.password_hash, known.totp_secret, tuple(both), AT)
    )
    await waits(site, to=address)
    async with site.signed_in("both") as client:
        assert (await client.get("/quarantaine/1")).status_code == 200


async def test_one_decision_files_it_under_the_professionals_name_and_is_undone(site):
    await waits(site)
    async with site.signed_in("doctor") as client:
        answer = await decide(
            client,
            "/quarantaine/1",
            decision="filed",
            patient=f"{INS} {OID_TEST}",
            reason="vérifié au téléphone",
        )
        assert answer.headers["location"] == "/quarantaine/1"
        shown = (await client.get("/quarantaine/1")).text
        person = await site.queries.patient(site.patients["patient"])
        assert f"intégré au dossier de {person.family} {person.given}" in shown
        assert "vérifié au téléphone" in shown
        listed = (await client.get("/quarantaine")).text
        assert "Aucun document n'attend" in listed
        assert 'href="/quarantaine/1"' in listed  # under the decisions that can be undone
        (row,) = await site.record.all(_documents())
        assert row.patient_id == site.patients["patient"]
        await decide(client, "/quarantaine/1", "/quarantaine/1/annuler", reason="erreur")
        assert "trente derniers jours" not in (await client.get("/quarantaine")).text
        assert "28\u00a0mars 1979" in (await client.get("/quarantaine/1")).text
    (row,) = await site.record.all(_documents())
    assert row.patient_id is None


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"decision": "set_aside", "reason": " "}, "no_reason"),
        ({"decision": "filed", "reason": "x"}, "say_whose"),
        ({"decision": "burnt", "reason": "x"}, "no_such_decision"),
    ],
)
async def test_a_decision_that_says_too_little_is_told_so(site, fields, told):
    await waits(site)
    async with site.signed_in("doctor") as client:
        answer = await decide(client, "/quarantaine/1", **fields)
        assert answer.status_code == 422
        assert f'role="alert">{REFUSALS[told]}' in answer.text
        assert f'value="{fields["reason"]}"' in answer.text


async def test_an_undoing_that_is_refused_leaves_what_was_typed(site):
    await waits(site)
    async with site.signed_in("doctor") as client:
        await decide(client, "/quarantaine/1", decision="set_aside", reason="doublon")
        undo = "/quarantaine/1/annuler"
        answer = await decide(client, "/quarantaine/1", undo, reason=" ")
        assert answer.status_code == 422
        assert f'role="alert">{REFUSALS["no_reason"]}' in answer.text
        assert "Annuler cette décision" in answer.text
        await decide(client, "/quarantaine/1", undo, reason="erreur")
        again = await decide(client, "/quarantaine/1", undo, reason="une autre erreur")
        assert again.status_code == 422
        assert f'role="alert">{markupsafe.escape(REFUSALS["nothing_to_undo"])}' in again.text
        assert 'value="une autre erreur"' in again.text


async def test_who_opened_a_document_that_leaves_is_told_until_they_know(site):
    document_id = await site.file(CdaSpec(unique_id="1.2.3.4", title="ZZCANARYTITRE"))
    async with site.signed_in() as client:
        await client.get(f"/dossier/document/{document_id}")
        assert "retiré du dossier" not in (await client.get("/accueil")).text
        await site.commands_table["record_withdraw"](
            {"structure": "cabinet", "document": "1.2.3.4", "reason": "x", "actor": "cli:test"}
        )
        home = (await client.get("/accueil")).text
        assert "a été retiré du dossier" in home
        assert "ZZCANARYTITRE" not in home
        async with site.signed_in("other") as other:
            assert "retiré du dossier" not in (await other.get("/accueil")).text
            token = token_of((await other.get("/accueil")).text)
            assert (await other.post("/avis/1", data={"csrf": token})).status_code == 404
        await decide(client, "/accueil", "/avis/1")
        assert "retiré du dossier" not in (await client.get("/accueil")).text


def _documents():
    from sqlalchemy import select

    from record_bridge.schema import document

    return select(document.c.patient_id)


async def test_the_home_page_counts_what_waits_for_its_reader_alone(site):
    for login in ("doctor", "patient"):
        async with site.signed_in(login) as client:
            assert "votre décision" not in (await client.get("/accueil")).text
    await waits(site)
    async with site.signed_in("doctor") as client:
        assert "1 document attend votre décision" in (await client.get("/accueil")).text
    for login in ("colleague", "patient"):
        async with site.signed_in(login) as client:
            assert "votre décision" not in (await client.get("/accueil")).text


async def test_an_item_of_an_unknown_type_and_author_shows_no_code_and_no_gap(site):
    await waits(site, code="34105-7")
    async with site.signed_in("doctor") as client:
        listed = (await client.get("/quarantaine")).text
    assert "34105-7" not in listed
    assert "Document de santé" in listed
