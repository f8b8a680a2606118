"""Professionals and patients write: to each other, and to another operator's people."""

import re
import smtplib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import Browser
from tests.support.cda import CdaSpec, cda
from tests.support.clients import audit, imap, quarantine, read, record, submit, until
from tests.support.openssl import OPENSSL, verify
from tests.support.reports import patient_spec, unique_root
from tests.support.site import DemoSite, pli, receiver
from tests.support.xdm import mail, package

pytestmark = pytest.mark.timeout(120)
FINESS = "1750000018"
"""The demo hospital service, with the type digit that national identifiers bear."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoSite]:
    made = DemoSite.create(tmp_path_factory.mktemp("people") / "site")
    made.start()
    yield made
    assert made.stop() == 0


@pytest.fixture(scope="module")
def alice(site: DemoSite) -> Mapping[str, Any]:
    person: Mapping[str, Any] = site.demo["practitioners"][0]
    return person


@pytest.fixture(scope="module")
def camille(site: DemoSite) -> Mapping[str, Any]:
    """A patient with a mail client of her own beside the webmail."""
    patient: Mapping[str, Any] = site.demo["patients"][0]
    device = pli("device", "add", str(site.root), patient["address"], "client", "--json")
    return {**patient, "password": device["password"]}


@pytest.fixture(scope="module")
def browser(site: DemoSite, camille: Mapping[str, Any]) -> Browser:
    """Camille's, signed in to the webmail; a code of the authenticator is good only once."""
    made = Browser(f"https://localhost:{site.port('https')}", site.tls())
    page = made.sign_in(
        camille["webmail_login"], camille["webmail_password"], camille["webmail_totp_secret"]
    )
    assert "Se déconnecter" in page
    return made


def text(author: str, to: str, identifier: str, *, subject: str = "Avis", more: str = "") -> bytes:
    return (
        f"From: <{author}>\r\nTo: <{to}>\r\nSubject: {subject}\r\nMessage-ID: {identifier}\r\n"
        f"Date: Mon, 02 Nov 2026 10:20:00 +0100\r\n{more}\r\nBonjour,\r\n\r\nà bientôt.\r\n"
    ).encode()


def report(patient: Mapping[str, Any], name: str, custodian: str) -> bytes:
    return cda(
        CdaSpec(
            unique_id=unique_root(name),
            patients=(patient_spec(patient),),
            code="11490-0",
            title="Lettre de liaison à la sortie",
            set_id=unique_root(name + "/set"),
            custodian=custodian,
            author_organization=custodian,
        )
    )


def refusal_of(
    site: DemoSite, account: Mapping[str, Any], raw: bytes, *recipients: str, envelope: str = ""
) -> tuple[int, bytes]:
    """Submit what must be refused; give the code and its enhanced status."""
    with smtplib.SMTP_SSL(
        "localhost", site.port("submissions"), context=site.tls(), timeout=30
    ) as client:
        client.login(account["address"], account["password"])
        with pytest.raises(smtplib.SMTPException) as caught:
            client.sendmail(envelope or account["address"], recipients, raw)
    error = caught.value
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        code, said = next(iter(error.recipients.values()))
    else:
        assert isinstance(error, smtplib.SMTPResponseException)
        code, said = error.smtp_code, error.smtp_error  # type: ignore[assignment]  # bytes
    return code, said.split(b" ", 1)[0]


# --- one's own address ----------------------------------------------------------------------


@pytest.mark.parametrize("tls", [True, False], ids=["465", "587"])
def test_submission_needs_a_device_password(
    site: DemoSite, alice: Mapping[str, Any], camille: Mapping[str, Any], *, tls: bool
) -> None:
    # Each failure costs the guesser a pause: half of the cases for each port.
    cases = {
        True: (
            (alice["address"], "wrong-password-of-twenty-letters"),
            (alice["address"], camille["password"]),
        ),
        False: (
            (camille["webmail_login"], camille["webmail_password"]),
            (camille["address"], camille["webmail_password"]),
        ),
    }
    for login, password in cases[tls]:
        with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            submit(
                site,
                {"address": login, "password": password},
                b"From: x\r\n\r\n",
                alice["address"],
                tls=tls,
            )
        assert refused.value.smtp_code == 535


def test_nothing_is_submitted_without_signing_in(site: DemoSite, alice: Mapping[str, Any]) -> None:
    with smtplib.SMTP("localhost", site.port("submission"), timeout=20) as client:
        client.ehlo()
        assert not client.has_extn("auth")
        assert client.docmd("AUTH PLAIN")[0] in {530, 538}
        client.starttls(context=site.tls())
        client.ehlo()
        assert client.docmd(f"MAIL FROM:<{alice['address']}>")[0] == 530


def test_only_one_s_own_address_may_be_used(site: DemoSite, alice: Mapping[str, Any]) -> None:
    bruno = site.demo["practitioners"][1]["address"]
    own, to = alice["address"], bruno
    good = text(own, to, "<own1@client.test>")

    assert refusal_of(site, alice, good, to, envelope=bruno) == (553, b"5.7.1")
    stolen = text(bruno, to, "<own2@client.test>")
    assert refusal_of(site, alice, stolen, to) == (553, b"5.7.1")
    for more in (f"From: <{own}>\r\n", f"From: <{bruno}>\r\n"):
        twice = text(own, to, "<own3@client.test>", more=more)
        assert refusal_of(site, alice, twice, to) == (553, b"5.7.1")
    for_another = text(own, to, "<own4@client.test>", more=f"Sender: <{bruno}>\r\n")
    assert refusal_of(site, alice, for_another, to) == (553, b"5.7.1")
    assert refusal_of(site, alice, good, "nobody@hopital-demo.mssante.test") == (550, b"5.1.1")
    assert refusal_of(site, alice, good, "x@gmail.test") == (550, b"5.7.1")
    held = read(site, site.demo["practitioners"][1])
    assert not any(identifier.startswith("<own") for identifier in held)


# --- inside the site ------------------------------------------------------------------------


def test_a_letter_to_a_patient_is_signed_and_seen_at_once(
    site: DemoSite, alice: Mapping[str, Any], camille: Mapping[str, Any], tmp_path: Path
) -> None:
    raw = text(
        alice["address"],
        camille["address"],
        "<letter@client.test>",
        more="Bcc: <bruno.leroy@hopital-demo.mssante.test>\r\n",
    )

    submit(site, alice, raw, camille["address"])

    held = read(site, camille)["<letter@client.test>"]
    assert "$SignatureValid" in held.flags
    assert "smime=pass" in held.results
    assert f"smtp.auth={alice['address']}" in held.results.replace('"', "")
    assert held.message["Bcc"] is None
    assert OPENSSL is None or verify(tmp_path, held.raw, site.root / "pki").holds


def test_a_report_of_one_s_own_structure_is_held_until_it_is_filed_for_its_patient(
    site: DemoSite, alice: Mapping[str, Any], camille: Mapping[str, Any], browser: Browser
) -> None:
    document = report(camille, "own-report", FINESS)
    raw = mail(
        package(document),
        sender=alice["address"],
        to=camille["address"],
        message_id="<report@client.test>",
    )

    submit(site, alice, raw, camille["address"])
    site.wait_idle()

    assert "$Filed" in read(site, camille)["<report@client.test>"].flags
    filed = record(site, camille)[unique_root("own-report")]
    assert (filed["status"], filed["visibility"]) == ("current", "visible")
    assert "Lettre de liaison" in browser.get("/dossier")


def test_a_report_that_the_bridge_may_not_file_stays_hidden_from_the_patient(
    site: DemoSite, alice: Mapping[str, Any], camille: Mapping[str, Any]
) -> None:
    another = {**camille, "birth_date": "1986-04-15"}
    documents = {
        "strange": (report(camille, "strange", "1750000026"), "906"),  # RULES §4
        "mismatch": (report(another, "mismatch", FINESS), "904"),  # RULES §5
    }
    for name, (document, _code) in documents.items():
        raw = mail(
            package(document),
            sender=alice["address"],
            to=camille["address"],
            message_id=f"<{name}@client.test>",
        )
        submit(site, alice, raw, camille["address"])
    site.wait_idle()

    rows = {row["unique_id"]: str(row["code"]) for row in quarantine(site)}
    seen, filed = read(site, camille), record(site, camille)
    for name, (_document, code) in documents.items():
        assert rows[unique_root(name)] == code
        assert f"<{name}@client.test>" not in seen
        assert unique_root(name) not in filed
    with imap(site, camille) as client:
        client.select("INBOX", readonly=True)
        assert client.search(None, "SUBJECT", "XDM/1.0")[1] != [b""]
        for name in documents:
            found = client.search(None, "HEADER", "Message-ID", f"<{name}@client.test>")
            assert found == ("OK", [b""])
        _status, said = client.status("INBOX", "(MESSAGES)")
        assert f"MESSAGES {len(seen)}".encode() in said[0]


def test_a_patient_s_answer_by_mail_client_reaches_the_professional(
    site: DemoSite, alice: Mapping[str, Any], camille: Mapping[str, Any], tmp_path: Path
) -> None:
    raw = text(camille["address"], alice["address"], "<answer@client.test>", subject="Re: Avis")

    submit(site, camille, raw, alice["address"], tls=False)

    held = read(site, alice)["<answer@client.test>"]
    assert held.message["Subject"] == "Re: Avis"
    assert "smime=pass" in held.results
    assert camille["ins"] not in str(held.message["Received"])
    assert OPENSSL is None or verify(tmp_path, held.raw, site.root / "pki").holds


def test_a_patient_s_answer_in_the_webmail_reaches_the_professional(
    site: DemoSite,
    alice: Mapping[str, Any],
    camille: Mapping[str, Any],
    browser: Browser,
    tmp_path: Path,
) -> None:
    raw = text(alice["address"], camille["address"], "<asked@client.test>", subject="Question")
    submit(site, alice, raw, camille["address"])
    before = read(site, alice)
    listed = browser.get("/messagerie")
    path = re.search(
        r'href="(/messagerie/\d+/\d+/\d+)"[^>]*>(?:(?!</a>).)*Question', listed, re.DOTALL
    )
    assert path is not None

    browser.submit(browser.get(path[1]), {"text": "Oui, merci à vous."})

    after = read(site, alice)
    (identifier,) = after.keys() - before.keys()
    held = after[identifier]
    assert held.message["In-Reply-To"] == "<asked@client.test>"
    assert camille["ins"] not in identifier
    assert "smime=pass" in held.results
    said = verify(tmp_path, held.raw, site.root / "pki") if OPENSSL else None
    assert said is None or said.holds
    assert len(read(site, camille, "Sent")) == 1


def test_a_patient_writes_to_no_other_operator(
    site: DemoSite, alice: Mapping[str, Any], camille: Mapping[str, Any]
) -> None:
    remote = site.demo["operators"][0]["sender"]
    raw = text(camille["address"], remote, "<away@client.test>")

    assert refusal_of(site, camille, raw, remote) == (553, b"5.7.1")
    with smtplib.SMTP_SSL(
        "localhost", site.port("submissions"), context=site.tls(), timeout=30
    ) as client:
        client.login(camille["address"], camille["password"])
        refused = client.sendmail(camille["address"], (alice["address"], remote), raw)

    assert refused[remote][0] == 553
    assert "<away@client.test>" in read(site, alice)
    assert pli("queue", "list", str(site.root), "--json") == []


# --- to another operator --------------------------------------------------------------------


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
def test_mail_for_another_operator_arrives_signed_over_mutual_tls(
    site: DemoSite, alice: Mapping[str, Any], tmp_path: Path
) -> None:
    remote = site.demo["operators"][0]["sender"]
    raw = text(alice["address"], remote, "<away2@client.test>", more="Bcc: <x@y.test>\r\n")

    with receiver(site) as inbox:
        submit(site, alice, raw, remote)
        (file,) = until(lambda: sorted(inbox.glob("*.eml")), "the other operator has the mail")
        arrived = file.read_bytes()
    site.wait_idle()

    assert b"<away2@client.test>" in arrived
    assert b"Bcc" not in arrived
    said = verify(tmp_path, arrived, site.root / "pki")
    assert said.holds, said.words
    assert "à bientôt." in said.content.decode() or b"=C3=A0 bient=C3=B4t." in said.content


def test_mail_for_an_operator_that_is_down_waits_in_the_queue(
    site: DemoSite, alice: Mapping[str, Any]
) -> None:
    operator = site.demo["operators"][1]
    raw = text(alice["address"], operator["sender"], "<later@client.test>")

    submit(site, alice, raw, operator["sender"])

    def tried() -> list[dict[str, Any]]:
        rows = pli("queue", "list", str(site.root), "--json")
        return [row for row in rows if row["attempts"] >= 1]

    (row,) = until(tried, "it was tried once")
    assert row["domain"] == operator["domain"]
    assert row["last_reply"].startswith("4")
    assert not any("later@client.test" in str(held.raw) for held in read(site, alice).values()), (
        "its sender is not told before it has failed"
    )


def test_the_queue_survives_a_kill_and_the_books_balance(site: DemoSite) -> None:
    before = pli("queue", "list", str(site.root), "--json")
    site.kill()
    site.start()

    after = pli("queue", "list", str(site.root), "--json")

    assert [row["id"] for row in after] == [row["id"] for row in before]
    assert len(after) == 1
    assert audit(site)["balanced"]
