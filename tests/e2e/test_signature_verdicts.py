"""Signatures on a running site: its verdict on OpenSSL's, and OpenSSL's verdict on its own."""

import base64
import email
import email.policy
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from certs.issue import Branch, Issued, KeyKind, PracticePki
from certs.keystore import KeyStore
from tests.support.clients import Held, audit, deliver, quarantine, read, record, submit, until
from tests.support.openssl import OPENSSL, PSS, sign, verify
from tests.support.reports import discharge_letter, unique_root
from tests.support.site import DemoSite, receiver
from tests.support.xdm import mail, package

pytestmark = [
    pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed"),
    pytest.mark.timeout(120),
]
UNVERIFIABLE = "signature_unverifiable"


@dataclass(frozen=True, slots=True)
class Keys:
    """Who may sign in these tests."""

    rsa: Issued
    ec: Issued
    personal: Issued
    foreign: Issued
    revoked: Issued
    other: Issued


@dataclass(frozen=True, slots=True)
class Case:
    """How a message is signed, what is done to it then, and what must be said of it."""

    key: str
    options: tuple[str, ...]
    result: str
    keyword: str | None
    filed: bool
    marks: tuple[str, ...] = ()
    spoil: Callable[[bytes], bytes] = bytes


GOOD = ("pass", "$SignatureValid", True)
BAD = ("fail", "$SignatureInvalid", False)
OPAQUE = "-nodetach"
CASES = {
    "rsa-detached": Case("rsa", (), *GOOD),
    "rsa-opaque": Case("rsa", (OPAQUE,), *GOOD),
    "rsa-sha512-detached": Case("rsa", ("-md", "sha512"), *GOOD),
    "pss-detached": Case("rsa", PSS, *GOOD),
    "pss-opaque": Case("rsa", (*PSS, OPAQUE), *GOOD),
    "ecdsa-detached": Case("ec", ("-md", "sha256"), *GOOD),
    "ecdsa-opaque": Case("ec", ("-md", "sha256", OPAQUE), *GOOD),
    "personal": Case("personal", (), *GOOD),
    "altered": Case("rsa", (), *BAD, spoil=lambda raw: raw.replace(b"Bonjour", b"Bonsoir")),
    "altered-ecdsa": Case("ec", (), *BAD, spoil=lambda raw: raw.replace(b"Bonjour", b"Bonsoir")),
    "foreign": Case("foreign", (), "policy", None, True, (UNVERIFIABLE,)),
    "foreign-opaque": Case("foreign", (OPAQUE,), "policy", None, True, (UNVERIFIABLE,)),
    "revoked": Case("revoked", (), *BAD),
    "other-signer": Case("other", (), *BAD),
    "weak-digest": Case("rsa", ("-md", "sha1"), *BAD),
    "unsigned": Case("", (), "none", None, True),
}


@dataclass(frozen=True, slots=True)
class Judged:
    """What the site made of every case."""

    held: dict[str, Held]
    filed: dict[str, dict[str, Any]]
    codes: list[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("signatures")


@pytest.fixture(scope="module")
def made(folder: Path) -> tuple[DemoSite, Keys]:
    """The site, and keys from its own practice PKI, one of them revoked before it starts."""
    site = DemoSite.create(folder / "site")
    at = datetime.now(UTC)
    sender = site.demo["operators"][0]["sender"]
    ours = KeyStore(site.root / "pki").load_practice()
    keys = Keys(
        rsa=ours.issue_seal(at, sender, "Hôpital Nord"),
        ec=ours.issue_seal(at, sender, "Hôpital Nord", key_kind=KeyKind.EC_P256),
        personal=ours.issue_personal(at, sender, "Dr ZZCANARY", key_kind=KeyKind.EC_P256),
        foreign=PracticePki.create(at, "Ailleurs").issue_seal(at, sender, "Hôpital Nord"),
        revoked=ours.issue_seal(at, sender, "Hôpital Nord"),
        other=ours.issue_seal(at, "autre@hopital-nord.mssante.test", "Hôpital Nord"),
    )
    (site.root / "pki" / "organisation-ca.crl").write_bytes(
        ours.issue_crl(Branch.ORGANISATION, datetime.now(UTC), [keys.revoked.serial])
    )
    return site, keys


@pytest.fixture(scope="module")
def site(made: tuple[DemoSite, Keys]) -> Iterator[DemoSite]:
    made[0].start()
    yield made[0]
    assert made[0].stop() == 0


def message_id(name: str) -> str:
    return f"<{name}@hopital-nord.mssante.test>"


@pytest.fixture(scope="module")
def judged(site: DemoSite, made: tuple[DemoSite, Keys], folder: Path) -> Judged:
    """Sends every case once, and waits until each was judged."""
    alice = site.demo["practitioners"][0]
    for name, case in CASES.items():
        raw = mail(
            package(discharge_letter(site.demo["patients"][0], name)),
            sender=site.demo["operators"][0]["sender"],
            to=alice["address"],
            message_id=message_id(name),
        )
        if case.key:
            raw = sign(folder, raw, getattr(made[1], case.key), *case.options)
        deliver(site, case.spoil(raw), alice["address"])
    site.wait_idle()
    return Judged(
        read(site, alice),
        record(site, site.demo["patients"][0]),
        [str(row["code"]) for row in quarantine(site)],
    )


@pytest.mark.parametrize("name", CASES)
def test_the_verdict_is_told_in_the_header_and_as_a_keyword(judged: Judged, name: str) -> None:
    held = judged.held[message_id(name)]

    assert re.search(r"\bsmime=(\w+)", held.results)[1] == CASES[name].result  # type: ignore[index]
    verdicts = held.flags & {"$SignatureValid", "$SignatureInvalid"}
    assert verdicts == ({CASES[name].keyword} - {None})


@pytest.mark.parametrize("name", CASES)
def test_the_signature_decides_whether_a_report_is_filed(judged: Judged, name: str) -> None:
    case, filed = CASES[name], judged.filed.get(unique_root(name))

    assert ("$Filed" in judged.held[message_id(name)].flags) is case.filed
    assert ("$Quarantined" in judged.held[message_id(name)].flags) is not case.filed
    assert (filed is not None) is case.filed
    if filed is not None:
        assert tuple(filed["marks"]) == case.marks


def test_openssl_agrees_about_the_revoked_seal(
    site: DemoSite, judged: Judged, tmp_path: Path
) -> None:
    said = verify(tmp_path, judged.held[message_id("revoked")].raw, site.root / "pki")

    assert not said.holds
    assert "certificate revoked" in said.words
    assert verify(tmp_path, judged.held[message_id("rsa-detached")].raw, site.root / "pki").holds


def test_what_is_not_filed_is_quarantined_906_and_the_books_balance(
    site: DemoSite, judged: Judged
) -> None:
    refused = sum(not case.filed for case in CASES.values())

    assert judged.codes == ["906"] * refused
    books = audit(site)
    assert (books["received"], books["filed"], books["quarantined"]) == (
        len(CASES),
        len(CASES) - refused,
        refused,
    )


# --- what Pli signs -------------------------------------------------------------------------

EIGHT_BIT = "Évolution favorable, à revoir dans 3 mois. Œdème résorbé.\r\n".encode() * 3
ATTACHMENT = bytes(range(256)) * 300
MIME = b"MIME-Version: 1.0\r\n"
BODIES = {
    "plain": b"\r\nBonjour,\r\n\r\nvoir ci-joint.\r\n",
    "no line end": b"\r\nBonjour",
    "empty": b"\r\n",
    "dots and blanks": b"\r\n.\r\n..\r\n.point\r\nblancs  \r\n\t\r\n\r\n\r\n",
    "long line": b"\r\n" + b"a" * 997 + b"\r\n",
    "eight-bit": MIME
    + b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    + EIGHT_BIT,
    "undeclared eight-bit": MIME + b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + EIGHT_BIT,
    "attachments": MIME
    + b"Content-Type: multipart/mixed; boundary=zz\r\n\r\npreamble\r\n--zz\r\n"
    + b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    + EIGHT_BIT
    + b"\r\n--zz\r\nContent-Type: application/octet-stream\r\n"
    + b"Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=a.bin\r\n\r\n"
    + base64.encodebytes(ATTACHMENT).replace(b"\n", b"\r\n")
    + b"--zz\r\nContent-Type: message/rfc822\r\n\r\nFrom: <a@b.test>\r\nSubject: x\r\n"
    + b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    + EIGHT_BIT
    + b"\r\n--zz--\r\nepilogue\r\n",
}


def from_alice(site: DemoSite, to: str, message_id: str, body: bytes) -> bytes:
    header = (
        f"From: Alice Martin <{site.demo['practitioners'][0]['address']}>\r\nTo: <{to}>\r\n"
        f"Subject: Avis\r\nMessage-ID: {message_id}\r\nDate: Mon, 02 Nov 2026 10:20:00 +0100\r\n"
    )
    return header.encode() + body


@pytest.mark.parametrize("tls", [True, False], ids=["465", "587"])
def test_openssl_accepts_what_a_professional_submits(
    site: DemoSite, tmp_path: Path, *, tls: bool
) -> None:
    alice, bruno = site.demo["practitioners"][:2]
    names = {name: f"<{number}.{tls}@client.test>" for number, name in enumerate(BODIES)}
    for name, body in BODIES.items():
        raw = from_alice(site, bruno["address"], names[name], body)
        submit(site, alice, raw, bruno["address"], tls=tls)

    held = read(site, bruno)

    for name, identifier in names.items():
        said = verify(tmp_path, held[identifier].raw, site.root / "pki")
        assert said.holds, (name, said.words)
        assert "smime=pass" in held[identifier].results, name
        assert "$SignatureValid" in held[identifier].flags, name
    content = verify(tmp_path, held[names["attachments"]].raw, site.root / "pki").content
    parts = list(email.message_from_bytes(content, policy=email.policy.default).walk())
    assert parts[1].get_content().encode().splitlines() == EIGHT_BIT.splitlines()
    assert parts[2].get_content() == ATTACHMENT
    for name in ("eight-bit", "undeclared eight-bit"):
        content = verify(tmp_path, held[names[name]].raw, site.root / "pki").content
        text = email.message_from_bytes(content, policy=email.policy.default).get_content()
        assert text.encode().splitlines() == EIGHT_BIT.splitlines(), name


def test_openssl_refuses_what_pli_signed_once_it_was_altered(
    site: DemoSite, tmp_path: Path
) -> None:
    alice, bruno = site.demo["practitioners"][:2]
    raw = from_alice(site, bruno["address"], "<altered@client.test>", BODIES["plain"])
    submit(site, alice, raw, bruno["address"])

    signed = read(site, bruno)["<altered@client.test>"].raw

    assert verify(tmp_path, signed, site.root / "pki").holds
    assert not verify(tmp_path, signed.replace(b"Bonjour", b"Bonsoir"), site.root / "pki").holds


def test_what_a_client_signed_itself_passes_unchanged(
    site: DemoSite, made: tuple[DemoSite, Keys], folder: Path, tmp_path: Path
) -> None:
    alice, bruno = site.demo["practitioners"][:2]
    ours = KeyStore(site.root / "pki").load_practice()
    own = ours.issue_personal(datetime.now(UTC), alice["address"], alice["name"])
    raw = from_alice(site, bruno["address"], "<own@client.test>", BODIES["eight-bit"])
    signed = sign(folder, raw, own)
    submit(site, alice, signed, bruno["address"])

    held = read(site, bruno)["<own@client.test>"]

    assert held.sent == signed
    assert "smime=pass" in held.results
    assert verify(tmp_path, held.raw, site.root / "pki").holds


def test_openssl_accepts_the_answer_that_a_hospital_gets(site: DemoSite, tmp_path: Path) -> None:
    sender = site.demo["operators"][0]["sender"]
    alice = site.demo["practitioners"][0]
    raw = mail(
        package(discharge_letter(site.demo["patients"][0], "answered")),
        sender=sender,
        to=alice["address"],
        message_id="<answered@hopital-nord.mssante.test>",
        notify_to=sender,
    )
    with receiver(site) as inbox:
        deliver(site, raw, alice["address"])
        answers = until(lambda: sorted(inbox.glob("*.eml")), "the hospital gets its answer")
        time.sleep(0.1)

    said = verify(tmp_path, answers[0].read_bytes(), site.root / "pki")

    assert said.holds, said.words
    assert re.search(rb"(?im)^disposition:.*;\s*processed\s*$", said.content)
