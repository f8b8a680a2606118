"""Admission packs as professionals prepare and follow them: who may, what leaves, what is told.

Source: RULES §7, RULES §13, MSS-FACTS §7.1.
"""

import markupsafe
import pytest

from mailserver.webmail.life_text import PACK_REFUSALS
from record_bridge.errors import RecordStateError
from record_bridge.life import MAX_FILE
from tests.support.mailsite import DOCTOR, PATIENT, RPPS, UNFILED
from tests.support.webmail import token_of, webmail
from tests.unit.record_bridge.test_life import PDF, PNG

DUE = "2026-12-24"
UPLOAD = "/patients/admission"


@pytest.fixture
async def site(tmp_path):
    async with webmail(tmp_path) as opened:
        await opened.tell("right_give", kind="care_team", holder=RPPS[DOCTOR])
        yield opened


def page_of(site, login="patient"):
    return f"/patients/{site.patients[login]}/admission"


async def post(client, path, files=None, **fields):
    data = {"csrf": token_of((await client.get("/accueil")).text)} | fields
    return await client.post(path, data=data, files=files)


async def add(client, site, pack, *, content=PDF, name="a.pdf", **fields):
    fields = {"title": "Livret", "kind": "document"} | fields
    files = {"file": (name, content)}
    return await post(
        client, UPLOAD, files, patient=str(site.patients["patient"]), pack=str(pack), **fields
    )


async def step(client, site, pack, action, login="patient"):
    return await post(client, f"{page_of(site, login)}/{pack}", action=action)


async def begun(client, site):
    """A pack in the making with a document and a form; give its key."""
    answer = await post(client, page_of(site), title="Opération de la hanche", due=DUE)
    assert answer.headers["location"] == f"{page_of(site)}?fait=1"
    (pack,) = await site.queries.packs.of_structure("cabinet", site.patients["patient"])
    await add(client, site, pack.id)
    await add(client, site, pack.id, kind="form", title="Consentement")
    return pack.id


async def items_of(site):
    (pack,) = await site.queries.packs.of_structure("cabinet", site.patients["patient"])
    return [item.id for item in pack.items]


async def letters(site):
    """What came into the patient's mailbox."""
    return [await site.mail.raw(entry) for entry in await site.mail.inbox(PATIENT)]


async def test_a_pack_is_prepared_sent_followed_reminded_read_and_closed(site):
    async with site.signed_in("doctor") as client:
        pack = await begun(client, site)
        shown = (await client.get(page_of(site))).text
        assert "En préparation" in shown
        assert await letters(site) == []

        sent = await step(client, site, pack, "envoyer")
        assert sent.headers["location"] == f"{page_of(site)}?fait=1"
        (letter,) = await letters(site)
        assert b"votre admission" in letter
        assert b"hanche" not in letter
        page = (await client.get(page_of(site))).text
        assert "0 sur 2" in page
        assert page.count("Pas encore lu") == 2
        assert "En préparation" not in page
        listed = (await client.get("/patients")).text
        assert "Opération de la hanche" in listed

        livret, form = await items_of(site)
        given = await client.get(f"{page_of(site)}/{livret}/fichier")
        assert given.content == PDF
        early = await client.get(f"{page_of(site)}/{form}/rendu")
        assert early.status_code == 404

        told = await step(client, site, pack, "rappeler")
        assert told.headers["location"] == f"{page_of(site)}?fait=1"
        assert len(await letters(site)) == 2
        again = await step(client, site, pack, "rappeler")
        assert again.headers["location"].endswith("?refus=reminded_today")
        assert len(await letters(site)) == 2
        assert "moins d&#39;un jour" in (await client.get(again.headers["location"])).text

    async with site.signed_in() as patient:
        assert "Rappel du" in (await patient.get("/accueil")).text
        await site.tell("pack_item_acknowledge", id=livret)
        await post(patient, "/dossier/fichiers", {"file": ("r.pdf", PDF + b"\n")}, form=str(form))
        await site.tell("pack_acknowledge", id=pack)

    async with site.signed_in("doctor") as client:
        page = (await client.get(page_of(site))).text
        assert "Terminé par le patient" in page
        returned = await client.get(f"{page_of(site)}/{form}/rendu")
        assert returned.content == PDF + b"\n"
        refused = await step(client, site, pack, "rappeler")
        assert refused.headers["location"].endswith("?refus=nothing_to_remind")
        await step(client, site, pack, "clore")
        assert "est en cours pour ce patient" in (await client.get(page_of(site))).text

    async with site.signed_in() as patient:
        accesses = (await patient.get("/dossier/acces")).text
        assert "MARTIN" in accesses
        assert "suivi d&#39;une admission" in accesses
        assert "lecture d&#39;un formulaire d&#39;admission rendu" in accesses
        history = (await patient.get("/dossier/historique")).text
        assert "rappel d&#39;une admission" in history


async def test_a_reminder_is_due_again_a_day_later(site):
    async with site.signed_in("doctor") as client:
        pack = await begun(client, site)
    await site.tell("pack_send", id=pack)
    await site.tell("pack_remind", id=pack)
    site.clock.pass_(hours=23, minutes=59, seconds=59)
    with pytest.raises(RecordStateError, match="reminded_today"):
        await site.tell("pack_remind", id=pack)
    site.clock.pass_(seconds=1)
    await site.tell("pack_remind", id=pack)


@pytest.mark.parametrize("login", ["colleague", "elsewhere", "other", "patient"])
async def test_who_is_not_of_the_care_team_does_nothing_with_packs(site, login):
    async with site.signed_in("doctor") as client:
        pack = await begun(client, site)
    livret, form = await items_of(site)
    async with site.signed_in(login) as client:
        assert (await client.get(page_of(site))).status_code == 404
        assert (await post(client, page_of(site), title="A", due=DUE)).status_code == 404
        assert (await add(client, site, pack)).status_code == 404
        for action in ("envoyer", "rappeler", "clore"):
            assert (await step(client, site, pack, action)).status_code == 404
        for path in (f"{livret}/fichier", f"{form}/rendu"):
            assert (await client.get(f"{page_of(site)}/{path}")).status_code == 404
        if login not in ("other", "patient"):
            assert "hanche" not in (await client.get("/patients")).text
    (pack,) = await site.queries.packs.of_structure("cabinet")
    assert pack.state == "draft"
    assert len(pack.items) == 2


@pytest.mark.parametrize("kind", ["break_glass", "samu"])
async def test_an_emergency_reads_the_record_and_prepares_nothing(site, kind):
    await site.promote(RPPS[UNFILED])
    await site.tell(
        "emergency_open", kind=kind, holder=RPPS[UNFILED], reason="malaise",
        actor=f"practitioner:{RPPS[UNFILED]}",
    )  # fmt: skip
    async with site.signed_in("colleague") as client:
        record = await client.get(f"/patients/{site.patients['patient']}")
        assert record.status_code == 200
        assert "/admission" not in record.text
        assert (await client.get(page_of(site))).status_code == 404


async def test_who_is_blocked_or_opposed_loses_the_page(site):
    async with site.signed_in("doctor") as client:
        pack = await begun(client, site)
        await site.tell("opposition_set", scope="opening", opposed=True)
        assert (await client.get(page_of(site))).status_code == 404
        assert (await step(client, site, pack, "envoyer")).status_code == 404
        await site.tell("opposition_set", scope="opening", opposed=False)
        await site.tell("right_give", kind="block", holder=RPPS[DOCTOR])
        assert (await client.get(page_of(site))).status_code == 404
        assert "hanche" not in (await client.get("/patients")).text


async def test_who_opposes_deposits_is_sent_no_pack_and_ends_those_that_were(site):
    async with site.signed_in("doctor") as client:
        sent = await begun(client, site)
        await step(client, site, sent, "envoyer")
        await post(client, page_of(site), title="Autre", due=DUE)
        packs = await site.queries.packs.of_structure("cabinet")
        draft = next(pack.id for pack in packs if pack.id != sent)
        await add(client, site, draft)
        await site.tell("opposition_set", scope="deposit", opposed=True)

        answer = await step(client, site, draft, "envoyer")
        assert answer.headers["location"].endswith("?refus=opposed")
        assert "s&#39;oppose" in (await client.get(answer.headers["location"])).text
        answer = await post(client, page_of(site), title="Encore", due=DUE)
        assert answer.status_code == 422
        assert "s&#39;oppose" in answer.text
    async with site.signed_in() as patient:  # what was sent before stays theirs to finish
        _, form = [item.id for pack in packs if pack.id == sent for item in pack.items]
        answer = await post(patient, "/dossier/fichiers", {"file": ("r.pdf", PDF)}, form=str(form))
        assert answer.headers["location"] == "/dossier/admission?fait=1"


async def test_a_pack_of_another_patient_is_not_found_under_ones_own(site):
    await site.tell("right_give", "other", kind="care_team", holder=RPPS[DOCTOR])
    async with site.signed_in("doctor") as client:
        pack = await begun(client, site)
        livret, _ = await items_of(site)
        assert (await step(client, site, pack, "envoyer", "other")).status_code == 404
        assert (await client.get(f"{page_of(site, 'other')}/{livret}/fichier")).status_code == 404
        other = str(site.patients["other"])
        answer = await post(
            client, UPLOAD, {"file": ("a.pdf", PDF)}, patient=other, pack=str(pack), title="A",
            kind="document",
        )  # fmt: skip
        assert answer.status_code == 404
        assert "hanche" not in (await client.get(page_of(site, "other"))).text


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({"content": b"MZ\x90"}, "file_type", id="program"),
        pytest.param({"content": b""}, "file_empty", id="empty"),
        pytest.param({"content": PNG}, "file_ending", id="another ending"),
        pytest.param({"content": PNG, "name": "a.png", "kind": "form"}, "form_is_pdf", id="form"),
        pytest.param({"kind": "letter"}, "no_such_kind", id="kind"),
        pytest.param(
            {"content": b"a" * (MAX_FILE + 1), "name": "a.txt"}, "file_too_large", id="one over"
        ),
    ],
)
async def test_what_cannot_go_into_a_pack_is_refused_in_words(site, fields, reason):
    async with site.signed_in("doctor") as client:
        pack = await begun(client, site)
        answer = await add(client, site, pack, **fields)
        assert answer.status_code == 422
        assert f'role="alert">{markupsafe.escape(PACK_REFUSALS[reason])}<' in answer.text
        assert answer.text.count('value="Livret"') == 1
        assert ('value="form" selected' in answer.text) == (fields.get("kind") == "form")
    assert len(await items_of(site)) == 2


async def test_a_pack_that_is_not_begun_leaves_what_was_typed(site):
    async with site.signed_in("doctor") as client:
        await begun(client, site)
        answer = await post(client, page_of(site), title="Opération du genou", due="2020-01-01")
    assert answer.status_code == 422
    assert f'role="alert">{markupsafe.escape(PACK_REFUSALS["no_such_due"])}<' in answer.text
    assert answer.text.count('value="Opération du genou"') == 1
    assert 'value="2020-01-01"' in answer.text


async def test_a_file_at_the_limit_goes_in_and_a_body_far_over_is_not_read(site):
    async with site.signed_in("doctor") as client:
        pack = await begun(client, site)
        full = await add(client, site, pack, content=b"a" * MAX_FILE, name="a.txt")
        assert "fait=1" in full.headers["location"]
        over = await add(client, site, pack, content=b"a" * (2 * MAX_FILE), name="a.txt")
        assert over.status_code == 413
        assert (await add(client, site, "x")).status_code == 404
        assert (await step(client, site, pack, "brûler")).status_code == 404


@pytest.mark.parametrize("why", ["closed", "not signed"])
async def test_a_message_that_does_not_leave_is_said_and_the_pack_stands(site, why):
    async with site.signed_in("doctor") as client:
        pack = await begun(client, site)
        mailbox = await site.mail.mailbox(PATIENT)
        if why == "closed":
            await site.mail.store.accounts.close_mailbox(mailbox.id, site.clock.now)
        else:
            site.clock.pass_(minutes=5)  # the seal signs no message of another moment
        answer = await step(client, site, pack, "envoyer")
        assert answer.headers["location"].endswith("?refus=not_told")
        assert "prévenez-le" in (await client.get(answer.headers["location"])).text
    (sent,) = await site.queries.packs.of_structure("cabinet")
    assert sent.state == "sent"


async def test_a_pack_in_the_list_of_patients_is_an_access_that_its_patient_reads(site):
    await site.tell("right_give", "other", kind="care_team", holder=RPPS[DOCTOR])
    made = await site.tell("pack_create", title="Opération de la hanche", due=DUE)
    await site.tell("pack_create", "other", title="Cataracte", due=DUE)
    await site.tell("opposition_set", "other", scope="opening", opposed=True)
    async with site.signed_in("doctor") as client:
        site.commands.clear()
        listed = (await client.get("/patients")).text
        assert "hanche" in listed
        assert "Cataracte" not in listed
        noted = [told for name, told in site.commands if name == "note_access"]
        assert [(told["patient_id"], told["kind"]) for told in noted] == [
            (site.patients["patient"], "pack_read")
        ]
        site.bridge_down = True
        assert (await client.get("/patients")).status_code == 503
        site.bridge_down = False
        await site.tell("pack_close", id=made["id"])
        site.commands.clear()
        assert (await client.get("/patients")).status_code == 200
        assert site.commands == []
    async with site.signed_in() as patient:
        assert "suivi d&#39;une admission" in (await patient.get("/dossier/acces")).text


async def test_packs_of_some_patients_are_asked_for_together(site):
    await site.tell("pack_create", title="Hanche", due=DUE)
    await site.tell("pack_create", "other", title="Cataracte", due=DUE)
    packs = site.queries.packs
    one, other = site.patients["patient"], site.patients["other"]
    assert [each.title for each in await packs.of_patients([one])] == ["Hanche"]
    assert [each.title for each in await packs.of_patients([other, one])] == [
        "Hanche",
        "Cataracte",
    ]
    assert await packs.of_patients([]) == []
