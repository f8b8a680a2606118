"""Two sites that differ by one hidden document answer byte for byte the same.

For each kind of viewer from whom a document can be hidden, every route of the webmail is asked on
both sites with the same clock; statuses, headers and bodies are compared. Only what is random on
any site is taken out: session cookies, form tokens, secrets that are shown once. A route that is
not asked makes the test fail: whoever adds one says here how it is asked.

Source: RULES §7, threat X12.
"""

import base64
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Mount

from record_bridge.model import LabResult, Medication, MedicationKind
from record_bridge.queries import number_of
from tests.support.cda import OID_TEST, PDF, CdaSpec
from tests.support.mailsite import DOCTOR, PATIENT, RPPS, UNFILED
from tests.support.webmail import OTHER_PATIENT, Webmail, token_of, webmail
from tests.unit.record_bridge.test_life import PDF as UPLOAD

INS = PATIENT.partition("@")[0]
CHILD_INS = OTHER_PATIENT.partition("@")[0]
LETTER = (
    b"From: Dr Martin <dr.martin@cabinet.mssante.test>\r\nTo: <%b>\r\nSubject: Bonjour\r\n"
    b"Message-ID: <1@chu.test>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n"
    b"<p>Bonjour</p>\r\n--b\r\nContent-Type: application/pdf\r\n"
    b'Content-Disposition: attachment; filename="a.pdf"\r\n\r\n%%PDF-1.4\r\n%%%%EOF\r\n--b--\r\n'
)
SHOWN, HIDDEN, LATER = "1.2.250.1", "1.2.250.2", "1.2.250.3"
DAV_FIND = b'<propfind xmlns="DAV:"><allprop/></propfind>'
DAV_SYNC = (
    b'<sync-collection xmlns="DAV:"><sync-token/><sync-level>1</sync-level><prop><getetag/>'
    b'<calendar-data xmlns="urn:ietf:params:xml:ns:caldav"/></prop></sync-collection>'
)
KEYS = {"doctor": DOCTOR, "colleague": UNFILED}
"""Professionals whose software has a key of the FHIR interface."""
RANDOM = (
    (re.compile(rb'name="(csrf|nonce)" value="[^"]*"'), b"TOKEN"),
    (re.compile(rb"/calendrier/[\w-]+\.ics"), b"FEED"),
    (re.compile(rb'class="secret">(<strong>)?[^<]*<'), b"SECRET<"),
    (re.compile(rb"agenda-[a-z0-9]{10}"), b"LOGIN"),
    (re.compile(rb"pli_[\w-]{20,}"), b"KEY"),
)


@dataclass(frozen=True)
class Case:
    """From whom a document is hidden, and how.

    Attributes:
        whose: the login of the patient whose record it is in.
        opens: whether the viewer opens that record from their own account.
        columns: what hides it.
        relation: of the patient to the other one.
        blocked: RPPS of a professional whom the patient blocks.
    """

    login: str
    whose: str
    columns: dict[str, Any]
    opens: bool = False
    relation: str = "representative"
    blocked: str = ""


CASES = {
    "patient, awaiting release": Case("patient", "patient", {"visibility": "awaiting_release"}),
    "patient, invisible": Case("patient", "patient", {"visibility": "invisible_patient"}),
    "parent": Case("patient", "other", {"visibility": "invisible_representatives"}, opens=True),
    "relative": Case(
        "patient", "other", {"visibility": "invisible_patient"}, opens=True, relation="delegate"
    ),
    "physician, blocked": Case("doctor", "patient", {}, blocked=RPPS[DOCTOR]),
    "physician, masked": Case("doctor", "patient", {"visibility": "masked_ps"}),
    "physician, refused by the matrix": Case("doctor", "patient", {"type_code": "ATTEST-RESID"}),
    "nurse, unknown to the matrix": Case("colleague", "patient", {"type_code": "11502-2"}),
    "outside the care team": Case("elsewhere", "patient", {}),
}


async def furnish(site: Webmail, case: Case, *, with_hidden: bool) -> None:
    """What a record holds; the hidden document lies between two others."""
    known = {"ins": CHILD_INS, "oid": OID_TEST, "patient_id": None}
    await site.tell("patient_change", "other", **known, birth_date="20140512", given="LEO")
    parent = str(site.patients["patient"])
    await site.tell("right_give", "other", kind=case.relation, holder=parent)
    await site.tell("right_give", kind="care_team", holder=RPPS[DOCTOR])
    await site.tell("right_give", kind="care_team", holder=RPPS[UNFILED])
    if case.blocked:
        await site.tell("right_give", kind="block", holder=case.blocked)
    for address in (PATIENT, DOCTOR):
        await site.mail.receive(LETTER % address.encode(), address)
    await _file(site, case, SHOWN, title="Montré", author_ids=RPPS[UNFILED])
    if with_hidden:
        await _file(site, case, HIDDEN, title="ZZCACHE", **case.columns)
    await _file(site, case, LATER, title="Ensuite", author_ids=RPPS[UNFILED])
    pack = await site.tell("pack_create", case.whose, title="Admission", due="2026-12-01")
    file = {"name": "a.pdf", "content": base64.b64encode(UPLOAD).decode()}
    await site.tell("pack_add", id=pack["id"], kind="document", title="Livret", **file)
    await site.tell("pack_send", id=pack["id"])
    await site.tell("profile_add", case.whose, kind="allergy", text="Pollen")
    await site.tell("directive_write", case.whose, kind="trusted_person", day="2026-01-01",
                    person="Anne")  # fmt: skip


async def _file(site: Webmail, case: Case, unique_id: str, *, title: str, **columns: Any) -> None:
    spec = CdaSpec(unique_id=unique_id, title=title, pdf=PDF)
    key = await site.file(spec, login=case.whose, **columns)
    value = {SHOWN: "13.1", HIDDEN: "99.9", LATER: "12.9"}[unique_id]
    day = f"2026100{unique_id[-1]}"
    await site.add_results(key, LabResult("718-7", "Hémoglobine", value, "", "g/dL", day))
    line = Medication(MedicationKind.TREATMENT, f"{title} 75 mg", "", "", "20261001")
    await site.add_medications(key, line)
    for ordinal, more in enumerate(
        ({"title": f"{title} rendez-vous"}, {"kind": "vaccination", "atc": "J07BB02",
         "title": f"{title} vaccin", "status": "history", "day": "2025-11-03"})
    ):  # fmt: skip
        await site.add_agenda(key, login=case.whose, ordinal=ordinal, **more)


class Walk:
    """One browser, one calendar program, and everything that they were answered."""

    def __init__(self, site: Webmail, client: Any, case: Case) -> None:
        self.site, self.client, self.case = site, client, case
        self.token = ""
        self.feed = self.login = self.secret = "x"
        self.answers: list[tuple[str, int, list[tuple[str, str]], bytes]] = []
        self.asked: set[str] = set()

    async def ask(self, method: str, route: str, path: str | None = None, **more: Any) -> Any:
        """Ask one route and keep the answer."""
        answer = await self.client.request(method, path or route, **more)
        headers = sorted(
            (name, value) for name, value in answer.headers.items() if name != "set-cookie"
        )
        self.asked.add(f"{method} {route}")
        self.answers.append((f"{method} {route}", answer.status_code, headers, answer.content))
        return answer

    async def get(self, route: str, path: str | None = None) -> Any:
        """Ask for a page."""
        return await self.ask("GET", route, path)

    async def post(self, route: str, path: str | None = None, **fields: str) -> Any:
        """Send a form of this visitor."""
        home = (await self.client.get("/accueil")).text
        data = {"csrf": token_of(home)} | fields
        files = {"file": ("a.pdf", UPLOAD)} if fields.pop("upload", "") else None
        return await self.ask("POST", route, path, data=data, files=files)


async def walk(site: Webmail, client: Any, case: Case) -> Walk:
    """Ask every route; what changes something comes after what shows it."""
    w = Walk(site, client, case)
    shown, hidden = number_of(SHOWN), number_of(HIDDEN)
    entry = number_of(f"{HIDDEN} 0")
    opened = site.patients["other"] if case.opens else 999
    await w.post("/famille/{patient:int}/ouvrir", f"/famille/{opened}/ouvrir")
    for path in (
        "/", "/connexion", "/accueil", "/messagerie", "/dossier", "/dossier/droits", "/famille",
        "/patients", "/dossier/profil", "/dossier/volontes", "/dossier/urgence",
        "/dossier/fichiers", "/dossier/recherche", "/dossier/historique", "/dossier/archive",
        "/dossier/acces", "/dossier/acces/preuves", "/agenda", "/agenda/calendriers", "/healthz",
        "/.well-known/autoconfig/mail/config-v1.1.xml", "/mail/config-v1.1.xml",
        "/pli.mobileconfig", "/dossier/admission", "/dossier/biologie",
        "/dossier/medicaments",
    ):  # fmt: skip
        await w.get(path)
    await w.get("/metrics")
    for code in ("10", "11", "95"):
        await w.get("/dossier/categorie/{code}", f"/dossier/categorie/{code}")
    for number in (shown, hidden, 2, 3, 4):
        document = f"/dossier/document/{number}"
        if number in (shown, hidden):
            await w.get("/dossier/document/{document:int}", document)
            await w.get("/dossier/document/{document:int}/fichier/{number:int}",
                        f"{document}/fichier/0")  # fmt: skip
    await _mail(w)
    await _care(w, shown, hidden)
    await _admission(w)
    await _notify(w)
    await _quarantine(w)
    for words in ("ZZCACHE", "Montre", "vaccin"):
        await w.post("/dossier/recherche", words=words)
        await w.post("/dossier/recherche", words=words, after="1795269600000000.1")
    await _changes(w, hidden, entry)
    await _calendars(w)
    await _fhir(w)
    for path in ("/accueil", "/dossier", "/agenda", "/dossier/acces", "/dossier/historique",
                 "/dossier/archive", "/dossier/droits"):  # fmt: skip
        await w.get(path)
    # last: an own appointment has a random name, which an archive would hold
    await w.post("/agenda/rendez-vous", title="Dentiste", day="2026-12-10", time="10:30")
    await w.post("/agenda/rendez-vous/{entry:int}/supprimer", "/agenda/rendez-vous/9/supprimer")
    await w.get("/agenda")
    await w.post("/famille/retour")
    await w.post("/connexion", login="x", password="x", code="1")
    await w.post("/deconnexion")
    return w


async def _mail(w: Walk) -> None:
    address = PATIENT if w.case.login == "patient" else DOCTOR
    mailbox = await w.site.mail.mailbox(address)
    inbox = await w.site.mail.store.folders.get(mailbox.id, "INBOX")
    box, folder = f"/messagerie/{mailbox.id}", f"/messagerie/{mailbox.id}/{inbox.id}"
    entry = "/messagerie/{mailbox:int}/{folder:int}/{uid:int}"
    await w.get("/messagerie/non-lus")
    await w.get("/messagerie/{mailbox:int}", box)
    await w.get("/messagerie/{mailbox:int}/{folder:int}", folder)
    await w.get(entry, f"{folder}/1")
    await w.get(f"{entry}/contenu", f"{folder}/1/contenu")
    await w.get(f"{entry}/piece/{{number:int}}", f"{folder}/1/piece/0")
    await w.post(f"{entry}/piece/{{number:int}}/garder", f"{folder}/1/piece/0/garder")
    await w.get(f"{entry}/piece/{{number:int}}/ranger", f"{folder}/1/piece/1/ranger")
    whose = INS if w.case.whose == "patient" else CHILD_INS
    await w.post(f"{entry}/piece/{{number:int}}/ranger", f"{folder}/1/piece/1/ranger",
                 ins=whose, type="11502-2", title="Bilan")  # fmt: skip
    await w.post(f"{entry}/repondre", f"{folder}/1/repondre", text="Merci", nonce="0" * 32)
    await w.post(f"{entry}/invitation", f"{folder}/1/invitation", answer="accepted")
    asked = "<EMailAddress>a@cabinet.mssante.test</EMailAddress>"
    for route in ("/autodiscover/autodiscover.xml", "/Autodiscover/Autodiscover.xml"):
        await w.ask("POST", route, content=f"<Autodiscover>{asked}</Autodiscover>".encode())


async def _care(w: Walk, shown: int, hidden: int) -> None:
    whose = w.site.patients[w.case.whose]
    page = "/patients/{patient:int}"
    await w.get(page, f"/patients/{whose}")
    ins = INS if w.case.whose == "patient" else CHILD_INS
    await w.post("/patients", ins=ins)
    await w.post("/patients/ouvrir", "/patients/ouvrir?acces=consent", ins=ins, statement="non")
    search = page + "/recherche"
    for words in ("ZZCACHE", "Montre", "2026"):
        await w.post(search, f"/patients/{whose}/recherche", words=words)
    await w.get(page + "/biologie", f"/patients/{whose}/biologie")
    await w.get(page + "/medicaments", f"/patients/{whose}/medicaments")
    document = page + "/document/{document:int}"
    for number in (shown, hidden):
        path = f"/patients/{whose}/document/{number}"
        await w.get(document, path)
        await w.get(document + "/fichier/{number:int}", f"{path}/fichier/0")
        await w.post(document + "/liberer", f"{path}/liberer")


async def _admission(w: Walk) -> None:
    """Packs as professionals have them; what a patient was sent is number 1."""
    whose = w.site.patients[w.case.whose]
    page, at = "/patients/{patient:int}/admission", f"/patients/{whose}/admission"
    await w.get(page, at)
    await w.post(page, at, title="Autre", due="2026-12-02")
    more = {"patient": str(whose), "pack": "2", "kind": "form", "title": "Formulaire"}
    await w.post("/patients/admission", **more, upload="oui")
    await w.get(page + "/{item:int}/fichier", f"{at}/1/fichier")
    await w.get(page + "/{item:int}/rendu", f"{at}/1/rendu")
    for pack, action in ((2, "envoyer"), (2, "rappeler"), (2, "clore")):
        await w.post(page + "/{pack:int}", f"{at}/{pack}", action=action)
    await w.get(page, at)


async def _notify(w: Walk) -> None:
    """Being told outside; what is sent is compared in tests/integration/test_notify.py."""
    await w.get("/prevenir")
    await w.post("/prevenir", address="zz@ailleurs.example")
    await w.post("/prevenir/confirmer", code="AAAAA AAAAA")
    await w.post("/prevenir/rappels", rappels="oui")
    await w.post("/prevenir/arreter")


async def _quarantine(w: Walk) -> None:
    item = "/quarantaine/{item:int}"
    await w.get("/quarantaine")
    await w.get(item, "/quarantaine/1")
    await w.post(item, "/quarantaine/1", decision="close", reason="x")
    await w.post(item + "/annuler", "/quarantaine/1/annuler")
    await w.post("/avis/{notice:int}", "/avis/1")


async def _changes(w: Walk, hidden: int, entry: int) -> None:
    await w.post("/dossier/document/{document:int}/masquer", f"/dossier/document/{hidden}/masquer",
                 mask="masked_ps", hide="oui")  # fmt: skip
    await w.post("/agenda/{entry:int}/fait", f"/agenda/{entry}/fait")
    await w.post("/agenda/{entry:int}/fait", f"/agenda/{number_of(f'{LATER} 0')}/fait")
    line = "/agenda/prevention/{rule}/{ordinal:int}"
    await w.post(line, "/agenda/prevention/none/1")
    await w.post(line + "/annuler", "/agenda/prevention/none/1/annuler")
    await w.post("/dossier/profil", kind="allergy", text="Chats")
    await w.post("/dossier/profil/{item:int}/retirer", "/dossier/profil/1/retirer")
    await w.post("/dossier/volontes", kind="trusted_person", person="Luc", day="2026-01-02")
    await w.post("/dossier/volontes/{directive:int}/retirer", "/dossier/volontes/9/retirer")
    await w.post("/dossier/oppositions", scope="deposit", opposed="oui")
    await w.post("/dossier/fichiers", title="Ordonnance", upload="oui")
    await w.get("/dossier/fichiers/{deposit:int}", "/dossier/fichiers/1")
    await w.post("/dossier/fichiers/{deposit:int}/retirer", "/dossier/fichiers/1/retirer")
    pack, item = "/dossier/admission/{pack:int}", "/dossier/admission/{pack:int}/{item:int}"
    await w.get(item, "/dossier/admission/1/1")
    await w.post(f"{item}/lu", "/dossier/admission/1/1/lu")
    await w.post(f"{pack}/terminer", "/dossier/admission/1/terminer")
    await w.post("/dossier/droits/bloquer", rpps=RPPS[DOCTOR])
    await w.post("/dossier/droits/urgence", scope="samu", opposed="oui")
    await w.post("/dossier/droits/proche", name="Ma fille", documents="oui")
    await w.post("/dossier/droits/{right:int}/retirer", "/dossier/droits/99/retirer")
    await w.post("/famille/code", code="0" * 30)


async def _calendars(w: Walk) -> None:
    route = "/agenda/calendriers/nouveau"
    made = (await w.post(route, kind="feed", detail="titles")).text
    feed = re.search(r"/calendrier/[\w-]+\.ics", made)
    await w.get("/calendrier/{secret}", feed[0] if feed else "/calendrier/none.ics")
    made = (await w.post(route, kind="device", name="Mobile", detail="titles")).text
    login = re.search(r"agenda-[a-z0-9]{10}", made)
    secret = re.search(r"[a-z0-9]{5}(?:-[a-z0-9]{5}){4}", made)
    pair = f"{login[0]}:{secret[0]}" if login and secret else "none:none"
    headers = {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    home = f"/caldav/{login[0] if login else 'none'}/agendas/"
    below = "/caldav/{path:path}"
    for method in ("OPTIONS", "PROPFIND", "REPORT", "GET", "HEAD", "PUT", "DELETE", "PROPPATCH"):
        content = b"<x/>" if method in ("PUT", "PROPPATCH", "REPORT") else b""
        for place in ("/.well-known/caldav", "/caldav"):
            await w.ask(method, place, headers=headers, content=content)
        await w.ask(method, below, f"{home}sante/none.ics", headers=headers, content=content)
    deep = headers | {"Depth": "1"}
    for place in ("", "sante/", "personnel/"):
        await w.ask("PROPFIND", below, home + place, headers=deep, content=DAV_FIND)
    for place in ("sante/", "personnel/"):
        await w.ask("REPORT", below, home + place, headers=deep, content=DAV_SYNC)
    await w.post("/agenda/calendriers/{key:int}/arreter", "/agenda/calendriers/1/arreter")


async def _fhir(w: Walk) -> None:
    """The FHIR interface, with a key of this viewer; a representative is given none."""
    whose, mine = w.site.patients[w.case.whose], "/dossier/applications"
    await w.get(mine)
    made = (await w.post(mine, name="App", DocumentReference="oui", Appointment="oui",
                         Immunization="oui", AuditEvent="oui", Patient="oui")).text  # fmt: skip
    key = re.search(r"pli_[\w-]{20,}", made)
    token = key[0] if key else "none"
    if w.case.login in KEYS:
        rpps = RPPS[KEYS[w.case.login]]
        given = await w.site.commands_table["api_token_make"](
            {"structure": "cabinet", "rpps": rpps, "name": "Logiciel", "actor": "cli:test"}
        )
        token = given["token"]
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/fhir+json"}
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        await w.ask(method, "/fhir", headers=headers)
    below = "/fhir/{path:path}"
    for kind in ("DocumentReference", "Appointment", "Immunization", "AuditEvent", "Patient"):
        asked = "_id" if kind == "Patient" else "patient"
        await w.ask("GET", below, f"/fhir/{kind}?{asked}={whose}", headers=headers)
    await w.ask("GET", below, "/fhir/metadata", headers=headers)
    for unique_id in (SHOWN, HIDDEN):
        name = f"{whose}-d{sha256(unique_id.encode()).hexdigest()[:32]}"
        for kind in ("DocumentReference", "Binary"):
            await w.ask("GET", below, f"/fhir/{kind}/{name}", headers=headers)
    search = {"patient.identifier": f"urn:oid:{OID_TEST}|{INS}"}
    await w.ask("POST", below, "/fhir/DocumentReference/_search", headers=headers, data=search)
    for method in ("PUT", "PATCH", "DELETE"):
        await w.ask(method, below, "/fhir/DocumentReference", headers=headers)
    await w.post(f"{mine}/{{token:int}}/arreter", f"{mine}/1/arreter")


Pair = Callable[[Case], Awaitable[tuple[Walk, Walk]]]


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Pair]:
    """Walk through a site with the hidden document, and through one without."""
    async with AsyncExitStack() as stack:

        async def walked(case: Case) -> tuple[Walk, Walk]:
            walks = []
            for name, with_hidden in (("with", True), ("without", False)):
                folder = tmp_path / name
                folder.mkdir()
                site = await stack.enter_async_context(webmail(folder))
                await furnish(site, case, with_hidden=with_hidden)
                client = await stack.enter_async_context(site.signed_in(case.login))
                walks.append(await walk(site, client, case))
            return walks[0], walks[1]

        yield walked


def routes_of(site: Webmail) -> set[str]:
    """Every route of the application, with each of its methods."""
    return {
        f"{method} {route.path}"
        for route in site.app.routes
        if not isinstance(route, Mount)
        for method in route.methods
        if method != "HEAD" or "caldav" in route.path
    }


def bare(content: bytes) -> bytes:
    """What is said, without what is random on any site."""
    for pattern, instead in RANDOM:
        content = pattern.sub(instead, content)
    return content


@pytest.mark.timeout(120)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_a_hidden_document_changes_no_octet_of_any_answer(both: Pair, case: Case) -> None:
    one, other = await both(case)

    assert routes_of(one.site) - one.asked == set(), "say here how a new route is asked"
    assert one.asked - routes_of(one.site) == set(), "a route that is gone"
    assert one.asked == other.asked
    for (route, status, headers, content), expected in zip(
        one.answers, other.answers, strict=True
    ):
        assert (route, status, headers) == expected[:3]
        assert bare(content) == bare(expected[3]), route
        assert b"ZZCACHE" not in content.replace(b'value="ZZCACHE"', b"")
        assert b"99,9" not in content, route


@pytest.mark.timeout(120)
async def test_a_document_that_is_not_hidden_changes_answers(both: Pair) -> None:
    """The comparison sees: with nothing that hides it, the second document shows."""
    one, other = await both(Case("patient", "patient", {}))

    differing = {
        route
        for (route, *_, content), (*_, expected) in zip(one.answers, other.answers, strict=True)
        if bare(content) != bare(expected)
    }
    assert {
        "GET /accueil", "GET /dossier", "GET /dossier/categorie/{code}",
        "GET /dossier/document/{document:int}", "POST /dossier/recherche", "GET /agenda",
        "GET /dossier/archive", "GET /dossier/biologie", "GET /dossier/historique",
        "GET /dossier/medicaments", "GET /calendrier/{secret}",
        "PROPFIND /caldav/{path:path}", "REPORT /caldav/{path:path}", "GET /dossier/acces",
    } <= differing  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_the_commands_that_speak_for_a_viewer_say_the_same(
    tmp_path: Path, case: Case
) -> None:
    who = {
        "doctor": RPPS[DOCTOR],
        "colleague": RPPS[UNFILED],
        "elsewhere": RPPS[DOCTOR],
        "patient": f"{case.relation}:{INS}" if case.opens else "patient",
    }[case.login]
    if case.login == "elsewhere":
        case = Case("elsewhere", "patient", {"visibility": "masked_ps"})
    told = []
    for name, with_hidden in (("with", True), ("without", False)):
        folder = tmp_path / name
        folder.mkdir()
        async with webmail(folder) as site:
            await furnish(site, case, with_hidden=with_hidden)
            told.append(
                [
                    await site.tell(command, case.whose, **{"as": who})
                    for command in ("access_list", "record_trends", "record_medications")
                ]
            )

    assert told[0] == told[1]
    assert [each == [] for each in told[0]] == [bool(case.blocked)] * 3
