"""Nobody is named outside their record and mailboxes: not in logs, replies, error pages, metrics.

Reports about a canary patient are filed, repeated, quarantined and refused; logins fail; commands
are wrong. Then everything a stranger or an operator of the site could read is searched for the
canary, an INS number, and any address.
"""

import base64
import contextlib
import http.client
import imaplib
import smtplib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from record_bridge.formats.xdm import PackagedDocument, build_package
from record_bridge.formats.xds_metadata import encode
from tests.support import phi
from tests.support.browser import Browser
from tests.support.cda import OID_TEST, CdaSpec, PatientSpec, cda
from tests.support.clients import deliver, operator_client, quarantine, record
from tests.support.reports import discharge_letter, unique_root
from tests.support.site import DemoSite, pli, pli_result
from tests.support.xdm import entry_for, mail, package, submission_for

pytestmark = pytest.mark.timeout(180)

CANARY = PatientSpec(other_ids=())
STRUCTURE = "cardiologie"
NOBODY = "zzcanary@hopital-demo.mssante.test"


@dataclass
class Heard:
    """Everything that was answered to strangers and kept by the site's operator."""

    smtp: list[bytes] = field(default_factory=list)
    imap: list[bytes] = field(default_factory=list)
    pages: dict[str, str] = field(default_factory=dict)
    outcomes: dict[str, Any] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    metrics: str = ""
    log: str = ""


def row() -> dict[str, Any]:
    """The canary patient as ``demo.json`` would have them."""
    assert CANARY.birth_date is not None
    birth = CANARY.birth_date
    return {
        "ins": CANARY.ins,
        "oid": OID_TEST,
        "family": CANARY.family,
        "given": CANARY.given,
        "birth_date": f"{birth[:4]}-{birth[4:6]}-{birth[6:]}",
        "sex": CANARY.sex,
        "birth_place": CANARY.birth_place,
        "structure": STRUCTURE,
    }


def register(site: DemoSite) -> Mapping[str, str]:
    """Register the canary patient; give the webmail account."""
    person = row()
    options = [
        word
        for name in ("ins", "oid", "family", "given", "birth_date", "sex", "birth_place")
        for word in (f"--{name.replace('_', '-')}", person[name])
    ]
    made: Mapping[str, str] = pli(
        "patient", "add", str(site.root), *options, "--structure", STRUCTURE,
        "--login", "zzcanary", "--json",
    )  # fmt: skip
    return made


def reports(site: DemoSite) -> Iterator[bytes]:
    """Give messages about the canary patient for every way a report may go."""
    sender = site.demo["operators"][0]["sender"]
    to = site.demo["practitioners"][0]["address"]

    def about(content: bytes, name: str) -> bytes:
        return mail(content, sender=sender, to=to, message_id=f"<zzcanary-{name}@{domain}>")

    domain = sender.partition("@")[2]
    letter = discharge_letter(row(), "zz-filed")
    yield about(package(letter), "filed")
    yield about(package(letter), "duplicate")
    yield about(package(discharge_letter(row() | {"given": "ZZCANARYAUTRE"}, "zz-904")), "904")
    yield about(package(cda(CdaSpec(unique_id=unique_root("zz-origin")))), "origin")
    other = site.demo["patients"][0]
    yield about(package(letter, discharge_letter(other, "zz-two")), "two-patients")
    yield about(b"PK\x03\x04ZZCANARY not a package", "no-zip")
    yield about(package(letter)[:-40], "cut-zip")
    broken = PackagedDocument("DOC0001.XML", letter.replace(b"</ClinicalDocument>", b"<ZZCANARY>"))
    metadata = encode(submission_for([entry_for(letter)]))
    yield about(build_package(metadata, [broken], sender="ZZCANARY"), "no-xml")
    yield about(package(letter, title="ZZCANARY", size=1, hash="00" * 20), "lying-metadata")
    yield about(package(letter), "cut-mime").replace(b"--zzb--", b"--ZZCANARY")
    yield about(b"", "eight-bit").replace(b"Bonjour", b"Bonjour ZZCANARY \xff\xfe\x80")


def send_reports(site: DemoSite) -> None:
    to = site.demo["practitioners"][0]["address"]
    for raw in reports(site):
        deliver(site, raw, to)
    site.wait_idle()


def speak_smtp(site: DemoSite, heard: Heard) -> None:
    """Say wrong things at the three SMTP ports."""
    sender = site.demo["operators"][0]["sender"]
    lines = [
        "ZZCANARY secret",
        "HELO",
        "EHLO zz canary@zzcanary.test",
        f"MAIL FROM:<{NOBODY}>",
        "MAIL FROM:<ZZCANARY@@zzcanary>",
        f"MAIL FROM:<{sender}> ZZCANARY=1",
        f"MAIL FROM:<{sender}>",
        f"RCPT TO:<{NOBODY}>",
        f"RCPT TO:<{CANARY.ins}9@patient.mssante.test>",
        "RCPT TO:<zzcanary@elsewhere.test>",
        f"VRFY {NOBODY}",
        "EXPN zzcanary",
        "HELP ZZCANARY",
        "DATA",
        "RSET ZZCANARY",
    ]
    with operator_client(site) as client:
        client.ehlo()
        heard.smtp += [client.docmd(line)[1] for line in lines]
    with operator_client(site) as client:
        client.ehlo()
        client.docmd(f"MAIL FROM:<{sender}>")
        client.docmd(f"RCPT TO:<{site.demo['practitioners'][0]['address']}>")
        client.putcmd("DATA")
        client.getreply()
        client.send(b"Subject: ZZCANARY\r\n\r\nbare \n line feed of ZZCANARY\r\n.\r\n")
        heard.smtp.append(client.getreply()[1])
    guess = base64.b64encode(f"\0{NOBODY}\0ZZCANARY".encode()).decode()
    with smtplib.SMTP_SSL("localhost", site.port("submissions"), context=site.tls()) as client:
        client.ehlo()
        for line in (f"AUTH PLAIN {guess}", "AUTH PLAIN ZZCANARY", "AUTH ZZCANARY", *lines):
            with contextlib.suppress(smtplib.SMTPServerDisconnected):
                heard.smtp.append(client.docmd(line)[1])
    alice = site.demo["practitioners"][0]
    with smtplib.SMTP_SSL("localhost", site.port("submissions"), context=site.tls()) as client:
        client.login(alice["address"], alice["password"])
        for line in lines:
            with contextlib.suppress(smtplib.SMTPServerDisconnected):
                heard.smtp.append(client.docmd(line)[1])


def speak_imap(site: DemoSite, heard: Heard) -> None:
    """Say wrong things before and after login; only refusals are kept."""
    alice = site.demo["practitioners"][0]
    before = [f'LOGIN "{NOBODY}" "ZZCANARY"', "LOGIN ZZCANARY", "ZZCANARY x", "SELECT ZZCANARY"]
    after = [
        "ZZCANARY x", "SELECT ZZCANARY", 'SELECT "ZZCANARY@zzcanary.test"', "FETCH 1 ZZCANARY",
        "SELECT INBOX", "FETCH 1 (BODY[ZZCANARY])", "FETCH ZZCANARY FLAGS", "STORE 1 ZZCANARY x",
        "UID COPY 1 ZZCANARY", "SEARCH ZZCANARY", "SEARCH CHARSET ZZCANARY ALL", "RENAME INBOX",
        "RENAME ZZCANARY ZZCANARY2", "DELETE ZZCANARY", "APPEND ZZCANARY {3+}\r\nabc",
    ]  # fmt: skip
    for words, signed_in in ((before, False), (after, True)):
        with imaplib.IMAP4_SSL(
            "localhost", site.port("imaps"), ssl_context=site.tls(), timeout=30
        ) as client:
            if signed_in:
                client.login(alice["address"], alice["password"])
            for number, line in enumerate(words):
                client.send(f"t{number} {line}\r\n".encode())
                while not (answer := client.readline()).startswith(f"t{number} ".encode()):
                    assert answer, line
                if not answer.startswith(f"t{number} OK".encode()):
                    heard.imap.append(answer)


def page_of(ask: Callable[[], str]) -> str:
    """Give a page, of an error with its header fields."""
    try:
        return ask()
    except urllib.error.HTTPError as error:
        with error:
            return f"{error.code}\n{error.headers}\n{error.read().decode()}"


def browse(site: DemoSite, account: Mapping[str, str], heard: Heard) -> None:
    """Ask the webmail for what it must refuse; keep its error pages and the counters."""
    base = f"https://localhost:{site.port('https')}"
    stranger = Browser(base, site.tls())
    paths = [
        "/ZZCANARY", "/dossier/document/ZZCANARY", "/messagerie/1/2/3?ZZCANARY=1",
        f"/patient/{CANARY.ins}", "/..%2fZZCANARY", f"/connexion/{NOBODY}",
    ]  # fmt: skip
    for path in paths:
        heard.pages[path] = page_of(lambda path=path: stranger.get(path))
    guess = {"login": NOBODY, "password": "ZZCANARY", "code": "123456"}
    heard.pages["failed login"] = page_of(
        lambda: stranger.submit(stranger.get("/connexion"), guess)
    )
    heard.pages["forged form"] = page_of(
        lambda: stranger.submit(stranger.get("/connexion"), guess | {"csrf": "ZZCANARY"})
    )
    patient = Browser(base, site.tls())
    patient.sign_in("zzcanary", account["webmail_password"], account["webmail_totp_secret"])
    for path in (*paths, "/dossier/document/999999", "/dossier/categorie/ZZCANARY",
                 "/messagerie/999/999/999", "/agenda/ZZCANARY"):  # fmt: skip
        heard.pages[f"signed in {path}"] = page_of(lambda path=path: patient.get(path))
    heard.metrics = stranger.get("/metrics") + stranger.get("/healthz")


def say_wrong_commands(site: DemoSite, heard: Heard) -> None:
    """The command line's own errors (its lists are for the person who asks)."""
    for words in (
        ("record", "list", "--ins", "279039999000179", "--oid", OID_TEST),
        ("record", "release", "zzcanary.document"),
        ("device", "add", NOBODY, "ZZCANARY"),
    ):
        code, _output, errors = pli_result(*words[:2], str(site.root), *words[2:])
        heard.errors.append(errors if code else "")


def raw_http(site: DemoSite, heard: Heard) -> None:
    """A method and a header no browser sends."""
    connection = http.client.HTTPSConnection(
        "localhost", site.port("https"), context=site.tls(), timeout=30
    )
    for method, path, headers in (
        ("ZZCANARY", "/", {}),
        ("POST", "/dossier", {"Cookie": "__Host-pli=ZZCANARY", "Origin": "https://zzcanary.test"}),
        ("GET", "/" + "ZZCANARY" * 200, {"X-Forwarded-For": "ZZCANARY"}),
    ):
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        heard.pages[f"{method} {path[:20]}"] = f"{answer.headers}\n{answer.read().decode()}"
    connection.close()


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Heard:
    """One site's whole day; what was heard is judged by the tests."""
    site = DemoSite.create(tmp_path_factory.mktemp("leaks") / "site")
    heard = Heard()
    site.start()
    try:
        account = register(site)
        send_reports(site)
        heard.outcomes["record"] = record(site, row())
        heard.outcomes["quarantine"] = quarantine(site)
        speak_smtp(site, heard)
        speak_imap(site, heard)
        browse(site, account, heard)
        raw_http(site, heard)
        say_wrong_commands(site, heard)
    finally:
        assert site.stop() == 0
    heard.log = site.log()
    return heard


def all_traces(texts: Sequence[str]) -> list[str]:
    return [trace for text in texts for trace in phi.traces(text)]


def test_the_day_had_all_that_it_should(heard: Heard) -> None:
    codes = {item["code"] for item in heard.outcomes["quarantine"]}

    assert heard.outcomes["record"][unique_root("zz-filed")]["status"] == "current"
    assert codes >= {"904", "906"}
    assert "message_judged" in heard.log
    assert len(heard.smtp) > 40
    assert len(heard.imap) > 10
    assert len(heard.pages) > 15


def test_no_log_line_names_a_person(heard: Heard) -> None:
    assert phi.traces(heard.log) == []


def test_every_line_of_stderr_is_a_log_line(heard: Heard) -> None:
    assert [line for line in heard.log.splitlines() if not line.startswith("{")] == []


def test_no_smtp_reply_names_a_person(heard: Heard) -> None:
    assert all_traces([reply.decode() for reply in heard.smtp]) == []


def test_no_imap_refusal_names_a_person(heard: Heard) -> None:
    assert all_traces([reply.decode() for reply in heard.imap]) == []


def test_no_error_page_names_a_person(heard: Heard) -> None:
    # The sign-in form gives the login back to the one who has just typed it, and to nobody else.
    typed = f'value="{NOBODY}"'

    assert all_traces([page.replace(typed, "") for page in heard.pages.values()]) == []


def test_no_metric_names_a_person(heard: Heard) -> None:
    assert "pli_web_responses" in heard.metrics
    assert phi.traces(heard.metrics) == []


def test_no_error_of_the_command_line_names_a_person(heard: Heard) -> None:
    assert all(heard.errors)
    assert all_traces(heard.errors) == []
