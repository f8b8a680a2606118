"""The webmail over real files: who may see what, what every answer carries, what is refused.

Source: RFC 6238 §5.2.
"""

import plistlib
import re

import pytest
from lxml import etree

from mailserver.delivery.submission import SubmissionMessage, Submitted
from mailserver.webmail.autoconfig import MAX_REQUEST
from mailserver.webmail.http import MAX_BODY
from mailserver.webmail.session import COOKIE
from tests.support.cda import PDF, CdaSpec
from tests.support.mailsite import AT, DOCTOR, PATIENT
from tests.support.webmail import BASE, OTHER_PATIENT, PASSWORD, sign_in, token_of, webmail

MESSAGE = (
    b"From: Laboratoire <lab@chu.test>\r\nTo: <%b>\r\n"
    b"Subject: Vos r\xc3\xa9sultats ZZSUJET\r\nMessage-ID: <1@chu.test>\r\n"
    b"Date: Sun, 22 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nBonjour <b>gras</b> ZZTEXTE\r\n"
    b"--b\r\nContent-Type: text/html\r\n\r\n<p onclick=x()>forme</p><script>alert(1)</script>"
    b"<img src=https://evil.test/p.png>\r\n"
    b'--b\r\nContent-Type: image/svg+xml\r\nContent-Disposition: attachment; filename="a.svg"\r\n'
    b"\r\n<svg onload=alert(1)></svg>\r\n--b--\r\n"
)


@pytest.fixture
async def site(tmp_path):
    async with webmail(tmp_path) as opened:
        yield opened


async def deliver(site, address=PATIENT, raw=MESSAGE) -> str:
    """Put a message into an inbox and give its page's path."""
    await site.mail.receive(raw % address.encode(), address)
    return await last_page(site, address)


async def write(site, raw=MESSAGE) -> str:
    """Let the doctor write to the patient and give the page's path."""
    doctor = await site.mail.mailbox(DOCTOR)
    raw = raw.replace(b"Laboratoire <lab@chu.test>", b"Dr Martin <%b>" % DOCTOR.encode())
    letter = SubmissionMessage(raw % PATIENT.encode(), DOCTOR, (PATIENT,), doctor, AT)
    assert isinstance(await site.mail.submissions.submit(letter), Submitted)
    return await last_page(site, PATIENT)


async def last_page(site, address) -> str:
    """Give the path of the page of the last message of an inbox."""
    mailbox = await site.mail.mailbox(address)
    inbox = await site.mail.store.folders.get(mailbox.id, "INBOX")
    rows = await site.mail.store.messages.entries(inbox.id)
    return f"/messagerie/{mailbox.id}/{inbox.id}/{rows[-1].uid}"


# --- headers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/", "/connexion", "/accueil", "/nowhere", "/static/pli.css", "/healthz", "/metrics",
     "/messagerie/1/1/1/contenu", "/dossier/document/1/fichier/0"],
)  # fmt: skip
async def test_every_answer_carries_the_security_headers(site, path):
    async with site.client() as client:
        answer = await client.get(path)

    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "script-src" not in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-frame-options"] in ("DENY", "SAMEORIGIN")
    assert answer.headers["strict-transport-security"]


async def test_no_page_holds_a_script_or_an_inline_style(site):
    path = await deliver(site)
    await site.file(CdaSpec())
    async with site.signed_in() as client:
        for page in ("/accueil", path, path[: path.rindex("/")], "/dossier", "/agenda"):
            text = (await client.get(page)).text
            assert re.search(r"<script|\sstyle=|javascript:|\son\w+=", text) is None


# --- signing in ------------------------------------------------------------------------------


async def test_signing_in_gives_a_new_host_cookie_and_the_home_page(site):
    async with site.client() as client:
        await client.get("/connexion")
        before = client.cookies[COOKIE]
        answer = await sign_in(client, site, "patient")

        assert answer.status_code == 303
        assert answer.headers["location"] == "/accueil"
        assert client.cookies[COOKIE] != before
        cookie = answer.headers["set-cookie"].lower()
        for attribute in ("secure", "httponly", "samesite=strict", "path=/"):
            assert attribute in cookie
        assert "domain=" not in cookie
        assert (await client.get("/accueil")).status_code == 200


async def test_the_cookie_from_before_signing_in_opens_nothing(site):
    async with site.client() as client:
        await client.get("/connexion")
        before = client.cookies[COOKIE]
        await sign_in(client, site, "patient")
    async with site.client(cookies={COOKIE: before}) as other:
        assert (await other.get("/accueil")).headers["location"] == "/connexion"


@pytest.mark.parametrize(
    ("login", "fields"),
    [
        pytest.param("nobody", {}, id="unknown login"),
        pytest.param("patient", {"password": "wrong"}, id="wrong password"),
        pytest.param("patient", {"code": "000000"}, id="wrong code"),
        pytest.param("patient", {"code": ""}, id="no code"),
        pytest.param("patient", {"password": "", "code": ""}, id="nothing"),
        pytest.param("patient", {"code": "é" * 6}, id="not digits"),
    ],
)
async def test_every_refusal_reads_the_same(site, login, fields):
    async with site.client() as client:
        answer = await sign_in(client, site, login, **fields)
        reference = await sign_in(client, site, "someone-else")

    assert answer.status_code == reference.status_code == 401
    mask = re.compile(r'name="csrf" value="[^"]*"|name="login"[^>]*')
    assert mask.sub("", answer.text) == mask.sub("", reference.text)


async def test_a_one_time_code_serves_once(site):
    async with site.client() as client:
        code = site.code()
        assert (await sign_in(client, site, "patient", code=code)).status_code == 303
    async with site.client() as client:
        assert (await sign_in(client, site, "patient", code=code)).status_code == 401


async def test_a_code_one_step_off_is_accepted_and_two_steps_are_not(site):
    code = site.code()
    async with site.client() as client:
        site.clock.pass_(seconds=60)
        assert (await sign_in(client, site, "patient", code=code)).status_code == 401
        code = site.code()
        site.clock.pass_(seconds=30)
        assert (await sign_in(client, site, "patient", code=code)).status_code == 303


@pytest.mark.parametrize("login", ["patient", "nobody"])
async def test_after_five_failures_even_the_right_password_waits(site, login):
    async with site.client() as client:
        for _ in range(5):
            await sign_in(client, site, login, password="wrong")
        refused = await sign_in(client, site, login)
        assert refused.status_code == 401
        site.clock.pass_(seconds=31)
        again = await sign_in(client, site, login)

    assert again.status_code == (303 if login == "patient" else 401)


async def test_one_network_address_cannot_try_for_ever(site):
    async with site.client() as client:
        for number in range(60):
            await sign_in(client, site, f"login{number}", code="1")
        assert (await sign_in(client, site, "patient")).status_code == 401
    async with site.client(peer=("192.0.2.8", 1)) as other:
        assert (await sign_in(other, site, "patient")).status_code == 303


async def test_signing_out_closes_the_session_itself(site):
    async with site.signed_in() as client:
        cookie = client.cookies[COOKIE]
        page = await client.get("/accueil")
        answer = await client.post("/deconnexion", data={"csrf": token_of(page.text)})

    assert answer.status_code == 303
    assert answer.headers["clear-site-data"]
    async with site.client(cookies={COOKIE: cookie}) as thief:
        assert (await thief.get("/accueil")).headers["location"] == "/connexion"


async def test_a_session_ends_when_nothing_is_opened(site):
    async with site.signed_in() as client:
        site.clock.pass_(minutes=20, seconds=1)
        assert (await client.get("/accueil")).headers["location"] == "/connexion"


async def test_a_session_in_use_is_renewed_with_a_new_cookie_and_the_old_one_dies(site):
    async with site.signed_in() as client:
        old = client.cookies[COOKIE]
        form = token_of((await client.get("/accueil")).text)
        site.clock.pass_(minutes=11)
        assert (await client.get("/accueil")).status_code == 200
        assert client.cookies[COOKIE] != old
        site.clock.pass_(minutes=15)
        page = await client.get("/accueil")
        assert page.status_code == 200
        assert token_of(page.text) == form
    async with site.client(cookies={COOKIE: old}) as thief:
        assert (await thief.get("/accueil")).headers["location"] == "/connexion"


async def test_no_session_outlives_eight_hours(site):
    async with site.signed_in() as client:
        for _ in range(48):
            site.clock.pass_(minutes=11)
            answer = await client.get("/accueil")
    assert answer.headers.get("location") == "/connexion"


async def test_a_cookie_whose_end_was_moved_opens_nothing(site):
    async with site.signed_in() as client:
        fields = client.cookies[COOKIE].split(".")
        fields[3] = str(int(fields[3]) + 86400)
    async with site.client(cookies={COOKIE: ".".join(fields)}) as forger:
        assert (await forger.get("/accueil")).headers["location"] == "/connexion"


# --- state changes ---------------------------------------------------------------------------


async def state_changes(site) -> list[str]:
    path = await deliver(site)
    document = await site.file(CdaSpec())
    entry = await site.add_agenda(document)
    return [f"{path}/repondre", f"/agenda/{entry}/fait", "/deconnexion"]


@pytest.mark.parametrize("data", [{}, {"csrf": ""}, {"csrf": "0" * 64}])
async def test_a_state_change_without_the_form_token_is_refused(site, data):
    for path in await state_changes(site):
        async with site.signed_in() as client:
            answer = await client.post(path, data={"text": "x", "nonce": "0" * 32, **data})
            assert answer.status_code == 403
            assert (await client.get("/accueil")).status_code == 200


async def test_the_form_token_of_another_visitor_is_refused(site):
    async with site.signed_in("other") as other:
        token = token_of((await other.get("/accueil")).text)
    async with site.signed_in() as client:
        assert (await client.post("/deconnexion", data={"csrf": token})).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [{"origin": "https://evil.test"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}],
)
async def test_a_form_sent_from_elsewhere_is_refused(site, headers):
    async with site.signed_in() as client:
        token = token_of((await client.get("/accueil")).text)
        answer = await client.post("/deconnexion", data={"csrf": token}, headers=headers)
        assert answer.status_code == 403
        ours = await client.post("/deconnexion", data={"csrf": token}, headers={"origin": BASE})
        assert ours.status_code == 303


async def test_a_form_sent_by_a_browser_that_hides_its_origin_is_taken(site):
    async with site.signed_in() as client:
        token = token_of((await client.get("/accueil")).text)
        headers = {"origin": "null", "sec-fetch-site": "same-origin"}
        answer = await client.post("/deconnexion", data={"csrf": token}, headers=headers)
        assert answer.status_code == 303


async def test_signing_in_needs_the_form_of_this_visitor(site):
    async with site.client() as client:
        answer = await client.post(
            "/connexion",
            data={"csrf": "0" * 64, "login": "patient", "password": PASSWORD, "code": site.code()},
        )
        assert answer.status_code == 403
        await client.get("/connexion")
        assert (await sign_in(client, site, "patient", csrf="0" * 64)).status_code == 403


@pytest.mark.parametrize("octets", [MAX_BODY + 1, 4 * MAX_BODY])
async def test_a_body_over_the_limit_is_refused(site, octets):
    async with site.client() as client:
        await client.get("/connexion")
        answer = await client.post("/connexion", content=b"login=" + b"a" * octets, headers={
            "content-type": "application/x-www-form-urlencoded"})  # fmt: skip
    assert answer.status_code in (400, 413)


@pytest.mark.parametrize("path", ["/deconnexion", "/agenda/1/fait", "/messagerie/1/1/1/repondre"])
async def test_a_state_change_is_never_a_get(site, path):
    async with site.signed_in() as client:
        assert (await client.get(path)).status_code == 405


# --- other people's things -------------------------------------------------------------------


async def test_each_page_of_another_patient_is_as_one_that_does_not_exist(site):
    path = await deliver(site, OTHER_PATIENT)
    document = await site.file(CdaSpec(pdf=PDF), login="other")
    entry = await site.add_agenda(document, login="other")
    folder = path[: path.rindex("/")]
    mailbox = folder[: folder.rindex("/")]
    own = await deliver(site)
    crossed = own[: own.index("/", 12)] + folder[folder.rindex("/") :]
    paths = [mailbox, folder, path, f"{path}/contenu", f"{path}/piece/0",
             f"/dossier/document/{document}", f"/dossier/document/{document}/fichier/0",
             crossed, f"{crossed}/1"]  # fmt: skip
    async with site.signed_in() as client:
        missing = await client.get("/messagerie/999/999/999")
        for forbidden in paths:
            answer = await client.get(forbidden)
            assert answer.status_code == 404, forbidden
            assert answer.text == missing.text
        token = token_of((await client.get("/accueil")).text)
        for forbidden in (f"{path}/repondre", f"/agenda/{entry}/fait"):
            answer = await client.post(
                forbidden, data={"csrf": token, "text": "x", "nonce": "0" * 32}
            )
            assert answer.status_code == 404, forbidden
    async with site.signed_in("other") as owner:
        for allowed in paths[1:4] + paths[5:7]:
            assert (await owner.get(allowed)).status_code == 200, allowed


async def test_every_page_sends_a_stranger_to_the_sign_in_page(site):
    open_paths = {"/", "/connexion", "/healthz", "/metrics", "/static"}
    open_paths |= {
        "/.well-known/autoconfig/mail/config-v1.1.xml",
        "/mail/config-v1.1.xml",
        "/autodiscover/autodiscover.xml",
        "/Autodiscover/Autodiscover.xml",
        "/pli.mobileconfig",
        "/calendrier/{secret}",
        "/.well-known/caldav",
        "/caldav",
        "/caldav/{path:path}",
        "/fhir",  # asks for a token itself
        "/fhir/{path:path}",
    }
    async with site.client() as client:
        for route in site.app.routes:
            if route.path in open_paths:
                continue
            path = re.sub(r"\{\w+(:int)?\}", "1", route.path)
            methods = route.methods - {"HEAD"}
            answer = await client.request(next(iter(methods)), path)
            assert answer.headers.get("location") == "/connexion", path


async def test_a_document_not_yet_released_exists_nowhere(site):
    shown = await site.file(CdaSpec(unique_id="1.2.1", title="Montré"))
    hidden = await site.file(
        CdaSpec(unique_id="1.2.2", title="ZZCACHE"), visibility="awaiting_release"
    )
    await site.add_agenda(hidden, title="ZZCACHE rendez-vous")
    async with site.signed_in() as client:
        for path in ("/accueil", "/dossier", "/dossier/categorie/10", "/agenda",
                     f"/dossier/document/{shown}"):  # fmt: skip
            answer = await client.get(path)
            assert answer.status_code == 200
            assert "ZZCACHE" not in answer.text
        assert (await client.get(f"/dossier/document/{hidden}")).status_code == 404
        assert 'count">1<' in (await client.get("/dossier")).text


async def test_a_professional_has_messages_and_no_record(site):
    path = await deliver(site, DOCTOR)
    async with site.signed_in("doctor") as client:
        assert "ZZSUJET" in (await client.get(path)).text
        assert "Pas de dossier" in (await client.get("/dossier")).text
        assert (await client.get("/dossier/acces")).status_code == 404


# --- messages --------------------------------------------------------------------------------


async def test_a_message_shows_its_text_escaped_and_its_verdict_and_becomes_read(site):
    path = await deliver(site)
    async with site.signed_in() as client:
        assert "nouveau message" in (await client.get("/accueil")).text
        page = (await client.get(path)).text
        assert "Bonjour &lt;b&gt;gras&lt;/b&gt; ZZTEXTE" in page
        assert "Reçu par l&#39;espace de confiance" in page
        assert "Aucun nouveau message" in (await client.get("/accueil")).text
    mailbox = await site.mail.mailbox(PATIENT)
    events = await site.mail.store.audit.events(subject=f"mailbox:{mailbox.id}")
    assert next(stored.event.kind for stored in events) == "message_read"
    assert events[0].event.actor == f"account:{site.accounts['patient']}"


async def test_html_mail_is_cleaned_and_framed_without_any_permission(site):
    path = await deliver(site)
    async with site.signed_in() as client:
        page = (await client.get(f"{path}?forme=html")).text
        frame = await client.get(f"{path}/contenu")

    assert re.search(r'<iframe[^>]* sandbox src="', page)
    assert "sandbox" in frame.headers["content-security-policy"]
    assert "<p>forme</p>" in frame.text
    for forbidden in ("script", "onclick", "evil.test", "<img", "alert"):
        assert forbidden not in frame.text


async def test_an_attachment_is_a_harmless_download(site):
    path = await deliver(site)
    async with site.signed_in() as client:
        page = (await client.get(path)).text
        number = re.search(r"/piece/(\d+)", page)[1]
        answer = await client.get(f"{path}/piece/{number}")

    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith('attachment; filename="a.svg.txt"')
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.content.strip() == b"<svg onload=alert(1)></svg>"


async def test_an_answer_is_sent_once_signed_and_kept(site):
    path = await write(site)
    async with site.signed_in() as client:
        page = (await client.get(path)).text
        form = {
            "csrf": token_of(page),
            "nonce": page.split('name="nonce" value="', 1)[1].split('"', 1)[0],
            "text": "Merci docteur.\r\n.\r\nZZREPONSE",
        }
        first = await client.post(f"{path}/repondre", data=form)
        again = await client.post(f"{path}/repondre", data=form)

        assert first.status_code == again.status_code == 303
        assert "Votre réponse est partie" in (await client.get(first.headers["location"])).text
    received = await site.mail.inbox(DOCTOR)
    assert len(received) == 1
    raw = await site.mail.raw(received[0])
    assert b"In-Reply-To: <1@chu.test>" in raw
    assert "$SignatureValid" in received[0].row.keywords
    assert len(await site.mail.inbox(PATIENT, "Sent")) == 1


async def test_an_answer_to_an_address_elsewhere_is_refused_and_keeps_the_text(site):
    path = await deliver(site)
    async with site.signed_in() as client:
        page = (await client.get(path)).text
        answer = await client.post(
            f"{path}/repondre",
            data={"csrf": token_of(page), "nonce": "a" * 32, "text": "ZZGARDE"},
        )
    assert "<textarea" not in page
    assert "Vous ne pouvez pas répondre d'ici à cet expéditeur" in page.replace("&#39;", "'")
    assert answer.status_code == 422
    assert "ZZGARDE" in answer.text
    assert "ne peut pas être joint" in answer.text


async def test_a_package_is_shown_in_words_and_the_reader_as_vous(site):
    raw = re.sub(
        rb"Subject: [^\r]*",
        b"Subject: XDM/1.0/DDM+CR d'examens biologiques DURAND CAMILLE 14/03/1985",
        MESSAGE,
    )
    path = await deliver(site, raw=raw)
    async with site.signed_in() as client:
        for page in (path, path[: path.rindex("/")]):
            text = (await client.get(page)).text.replace("&#39;", "'")
            assert "CR d'examens biologiques" in text
            assert "XDM/1.0" not in text
            assert "DURAND" not in text
        assert PATIENT not in (await client.get(path)).text


@pytest.mark.parametrize(
    ("text", "message"), [("", "Écrivez votre réponse"), ("x" * 20_001, "trop longue")]
)
async def test_an_answer_without_text_or_too_long_is_explained(site, text, message):
    path = await write(site)
    async with site.signed_in() as client:
        token = token_of((await client.get(path)).text)
        answer = await client.post(
            f"{path}/repondre", data={"csrf": token, "nonce": "a" * 32, "text": text}
        )
    assert answer.status_code == 422
    assert message in answer.text


@pytest.mark.parametrize("closing", [b"X-MSS-MES: FIN\r\nSubject: s", b"Subject: [FIN]"])
async def test_a_closed_conversation_takes_no_answer(site, closing):
    raw = re.sub(rb"Subject: [^\r]*", closing, MESSAGE)
    path = await write(site, raw)
    async with site.signed_in() as client:
        page = (await client.get(path)).text
        assert "pas possible de répondre" in page
        assert "<textarea" not in page


async def test_a_list_is_cut_into_pages(site):
    for number in range(27):
        path = await deliver(site, raw=MESSAGE.replace(b"ZZSUJET", b"no%d" % number))
    folder = path[: path.rindex("/")]
    async with site.signed_in() as client:
        first = (await client.get(folder)).text
        older = re.search(r'href="([^"]*\?avant=\d+)"', first)[1]
        second = (await client.get(older)).text
    assert first.count("item-title") == 25
    assert second.count("item-title") == 2


# --- the record ------------------------------------------------------------------------------


async def test_a_document_is_rendered_and_its_opening_noted_before(site):
    document = await site.file(CdaSpec(narrative="résultat <script>normal</script>"))
    async with site.signed_in() as client:
        page = (await client.get(f"/dossier/document/{document}")).text
        accesses = (await client.get("/dossier/acces")).text

    assert "résultat &lt;script&gt;normal&lt;/script&gt;" in page
    assert "Compte rendu ZZCANARYTITRE" in page
    noted = [arguments for name, arguments in site.commands if name == "note_access"]
    assert noted[-1]["document_id"] == document
    assert "Vous" in accesses
    assert "consultation d&#39;un document" in accesses


async def test_a_pdf_is_a_download(site):
    document = await site.file(CdaSpec(pdf=PDF))
    async with site.signed_in() as client:
        page = (await client.get(f"/dossier/document/{document}")).text
        assert "Télécharger le PDF" in page
        answer = await client.get(f"/dossier/document/{document}/fichier/0")
        assert (await client.get(f"/dossier/document/{document}/fichier/1")).status_code == 404

    assert answer.content == PDF
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "ZZCANARY" not in answer.headers["content-disposition"]


@pytest.mark.parametrize("content", [b"<!DOCTYPE a><a/>", b"not xml", b"<a/>"])
async def test_a_document_that_cannot_be_read_says_so(site, content):
    document = await site.file(CdaSpec())
    await site.record.write(
        lambda connection, value: (
            connection.execute(
                "UPDATE document_chunk SET data = ? WHERE document_id = ?", value
            ).rowcount
        ),
        (content, document),
    )
    async with site.signed_in() as client:
        answer = await client.get(f"/dossier/document/{document}")
    assert answer.status_code == 200
    assert "ne peut pas être affiché" in answer.text


async def test_nothing_of_the_record_is_shown_when_its_opening_cannot_be_noted(site):
    document = await site.file(CdaSpec())
    async with site.signed_in() as client:
        site.bridge_down = True
        for path in ("/accueil", "/dossier", "/dossier/categorie/10", "/agenda",
                     f"/dossier/document/{document}"):  # fmt: skip
            answer = await client.get(path)
            assert answer.status_code == 503
            assert "ZZCANARY" not in answer.text


# --- the agenda ------------------------------------------------------------------------------


async def test_the_agenda_has_three_parts_and_done_is_one_tap(site):
    document = await site.file(CdaSpec())
    entry = await site.add_agenda(document)
    await site.add_agenda(document, status="to_schedule", day=None, title="Vaccin", ordinal=1)
    await site.add_agenda(document, status="history", day="2020-01-02", title="Ancien", ordinal=2)
    async with site.signed_in() as client:
        page = (await client.get("/agenda")).text
        upcoming, to_schedule, history = re.split("À programmer</h2>|Historique</h2>", page)
        assert "Consultation de suivi" in upcoming
        assert "24\u00a0décembre 2026" in upcoming
        assert "Vaccin" in to_schedule
        assert "Ancien" in history
        answer = await client.post(f"/agenda/{entry}/fait", data={"csrf": token_of(page)})
        assert answer.status_code == 303
        page = (await client.get("/agenda?fait=1")).text
        assert "Consultation de suivi" in page.split("Historique</h2>")[1]
        again = await client.post(f"/agenda/{entry}/fait", data={"csrf": token_of(page)})
        assert again.status_code == 404


def prevention_part(page: str) -> str:
    return page.split('id="titre-prevention"')[1].split("</section>", maxsplit=1)[0]


async def test_the_national_calendar_is_shown_with_its_source_and_settled_by_one_tap(site):
    # born on 28 March 1979: the booster of 45 years and the smear are proposed at 47
    async with site.signed_in() as client:
        page = (await client.get("/agenda")).text
        part = prevention_part(page)
        assert "Rappel diphtérie, tétanos, polio (45 ans)" in part
        assert "Calendrier des vaccinations et recommandations vaccinales 2025" in part
        assert "Ce n'est pas un avis médical" in part.replace("&#39;", "'")
        assert "colorectal" not in part
        form = {"csrf": token_of(page)}
        line = "/agenda/prevention/rappel-45/1"
        assert (await client.post(line, data=form | {"day": "2025-03-02"})).status_code == 303
        part = prevention_part((await client.get("/agenda?fait=1")).text)
        wanted, noted = part.split("noté comme fait")
        assert "(45 ans)" not in wanted
        assert "Noté le 02/03/2025." in noted
        answer = await client.post(line + "/annuler", data=form)
        assert answer.headers["location"] == "/agenda?annule=1"
        again = await client.post(line + "/annuler", data=form)
        assert again.status_code == 404
        assert "(45 ans)" in prevention_part((await client.get("/agenda")).text)
        journal = (await client.get("/dossier/acces")).text
        assert "«\u00a0déjà fait\u00a0» annulé" in journal


@pytest.mark.parametrize("day", ["1979-03-27", "2999-01-01", "hier", "1979-03-28x"])
async def test_a_day_before_birth_or_to_come_is_refused_with_a_sentence(site, day):
    async with site.signed_in() as client:
        page = (await client.get("/agenda")).text
        form = {"csrf": token_of(page), "day": day}
        answer = await client.post("/agenda/prevention/rappel-45/1", data=form)
        if day == "1979-03-28x":  # cut at ten characters: the day of birth itself
            assert answer.headers["location"] == "/agenda?fait=1"
        else:
            back = "/agenda?refus=no_such_day"
            assert answer.headers["location"] == back
            assert "choisissez un jour" in (await client.get(back)).text


async def test_a_line_that_the_calendar_does_not_have_is_not_noted(site):
    async with site.signed_in() as client:
        form = {"csrf": token_of((await client.get("/agenda")).text)}
        for line in ("nothing/1", "rappel-45/0", "rappel-45/10000"):
            answer = await client.post(f"/agenda/prevention/{line}", data=form)
            assert answer.status_code == 404
        assert (await client.post("/agenda/prevention/rappel-45/1")).status_code == 403


async def test_a_vaccination_of_the_record_settles_its_line_and_a_hidden_one_changes_nothing(site):
    seen = await site.file(CdaSpec())
    hidden = await site.file(CdaSpec(unique_id="1.2.9"), visibility="awaiting_release")
    given = {"kind": "vaccination", "status": "history", "day": "2024-06-01"}
    async with site.signed_in() as client:
        before = prevention_part((await client.get("/agenda")).text)
        await site.add_agenda(hidden, atc="J07CA01", **given)
        assert prevention_part((await client.get("/agenda")).text) == before
        await site.add_agenda(seen, atc="J07CA01", **given | {"day": None})
        assert prevention_part((await client.get("/agenda")).text) == before
        await site.add_agenda(seen, atc="J07CA01", ordinal=1, **given)
        part = prevention_part((await client.get("/agenda")).text)
        assert "Noté le 01/06/2024." in part
        assert "/agenda/prevention/rappel-45/1/annuler" not in part


# --- mail clients set themselves up ----------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/.well-known/autoconfig/mail/config-v1.1.xml", "/mail/config-v1.1.xml"]
)
async def test_thunderbird_is_told_the_four_ways_in_whoever_asks(site, path):
    async with site.client() as client:
        answer = await client.get(path + "?emailaddress=nobody%40cabinet.mssante.test")
        again = await client.get(path + "?emailaddress=" + DOCTOR.replace("@", "%40"))
    assert answer.text == again.text
    found = etree.fromstring(answer.content)
    doors = [
        (each.tag, each.get("type"), each.findtext("port"), each.findtext("socketType"))
        for each in found.iter("incomingServer", "outgoingServer")
    ]
    assert doors == [
        ("incomingServer", "imap", "993", "SSL"),
        ("incomingServer", "imap", "143", "STARTTLS"),
        ("outgoingServer", "smtp", "465", "SSL"),
        ("outgoingServer", "smtp", "587", "STARTTLS"),
    ]
    assert {e.text for e in found.iter("hostname")} == {"mail.cabinet.test"}
    assert {e.text for e in found.iter("username")} == {"%EMAILADDRESS%"}


ASKED = (
    '<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/'
    'requestschema/2006"><Request><EMailAddress>{}</EMailAddress></Request></Autodiscover>'
)


async def test_outlook_gets_its_own_address_back_known_here_or_not(site):
    async with site.client() as client:
        for address in ("nobody@cabinet.mssante.test", DOCTOR):
            answer = await client.post(
                "/autodiscover/autodiscover.xml", content=ASKED.format(address)
            )
            assert answer.status_code == 200
            found = etree.fromstring(answer.content)
            logins = [element.text for element in found.iter("{*}LoginName")]
            assert logins == [address] * 4
            assert [e.text for e in found.iter("{*}Port")] == ["993", "143", "465", "587"]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<x>",
        ASKED.format("no address"),
        ASKED.format("a@b.test&lt;x/&gt;"),
        '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + ASKED.format("&e;"),
        "<x/>",
    ],
)
async def test_what_outlook_would_not_send_is_refused(site, body):
    async with site.client() as client:
        answer = await client.post("/autodiscover/autodiscover.xml", content=body)
    assert answer.status_code == 400


async def test_an_autodiscover_request_is_short(site):
    async with site.client() as client:
        padded = ASKED.format(DOCTOR)
        fits = padded + " " * (MAX_REQUEST - len(padded))
        for body, status in ((fits, 200), (fits + " ", 413), (fits * 10, 413)):
            answer = await client.post("/autodiscover/autodiscover.xml", content=body)
            assert answer.status_code == status


async def test_apple_gets_a_signed_profile_of_the_address_it_names(site):
    async with site.client() as client:
        answer = await client.get(f"/pli.mobileconfig?adresse={DOCTOR}")
        refused = await client.get("/pli.mobileconfig?adresse=nothing")
    assert refused.status_code == 400
    assert answer.headers["content-type"] == "application/x-apple-aspen-config"
    said = plistlib.loads(answer.content.removeprefix(b"signed:"))
    (mail,) = said["PayloadContent"]
    assert mail["IncomingMailServerUsername"] == mail["EmailAddress"] == DOCTOR
    assert (mail["IncomingMailServerPortNumber"], mail["OutgoingMailServerPortNumber"]) == (
        993,
        465,
    )


# --- machines and errors ---------------------------------------------------------------------


async def test_health_is_for_all_and_metrics_for_this_machine_alone(site):
    async with site.client() as client:
        assert (await client.get("/healthz")).text == "ok\n"
        assert (await client.get("/metrics")).status_code == 404
    async with site.client(peer=("127.0.0.1", 1)) as local:
        answer = await local.get("/metrics")
        assert "pli_web_responses_total" in answer.text
        proxied = await local.get("/metrics", headers={"x-forwarded-for": "1.2.3.4"})
        assert proxied.status_code == 404


async def test_a_fault_of_ours_shows_a_fixed_page(site, capfd):
    async with site.signed_in() as client:

        def broken(*_: object) -> None:
            raise RuntimeError("ZZCANARY-SECRET")

        site.mail.store.folders.status = broken
        answer = await client.get("/accueil")
    assert answer.status_code == 500
    assert "Le problème vient de nous" in answer.text
    output = capfd.readouterr()
    assert "ZZCANARY" not in answer.text + output.out + output.err


async def readings(site) -> int:
    mailbox = await site.mail.mailbox(PATIENT)
    events = await site.mail.store.audit.events(subject=f"mailbox:{mailbox.id}")
    return sum(stored.event.kind == "message_read" for stored in events)


async def test_the_body_alone_is_not_read_without_a_trace(site):
    path = await deliver(site)
    async with site.signed_in() as client:
        assert "forme" in (await client.get(f"{path}/contenu")).text

    assert await readings(site) == 1


async def test_an_answer_that_is_refused_shows_the_message_and_leaves_a_trace(site):
    path = await deliver(site)
    async with site.signed_in() as client:
        token = token_of((await client.get("/accueil")).text)
        data = {"csrf": token, "text": " ", "nonce": "0" * 32}
        answer = await client.post(f"{path}/repondre", data=data)

    assert "ZZTEXTE" in answer.text
    assert await readings(site) == 1


@pytest.mark.parametrize("path", ["/messagerie/1/{}", "/messagerie/1/1/{}", "/patients/{}"])
async def test_a_number_that_no_row_has_is_an_address_that_is_not_there(site, path):
    login = "doctor" if path.startswith("/patients") else "patient"
    async with site.signed_in(login) as client:
        mailbox = (await client.get("/messagerie")).headers["location"].rpartition("/")[2]
        path = path.replace("/messagerie/1/", f"/messagerie/{mailbox}/")
        for number in (2**63 - 1, 2**63, 10**40):
            assert (await client.get(path.format(number))).status_code == 404, number
