"""What a running site refuses, and what it survives: nothing stored wrong, the server unharmed."""

import hashlib
import io
import json
import os
import re
import signal
import smtplib
import ssl
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pytest

from certs.issue import Issued, PracticePki
from certs.keystore import KeyStore
from record_bridge.formats.xdm import PackagedDocument, build_package
from record_bridge.formats.xds_metadata import encode
from tests.support.clients import (
    audit,
    deliver,
    operator_client,
    quarantine,
    read,
    record,
    until,
)
from tests.support.hostile import WorkerKiller, overlapping_bomb, server_process
from tests.support.openssl import OPENSSL, sign
from tests.support.reports import discharge_letter, report_maker, unique_root
from tests.support.site import DemoSite, receiver
from tests.support.xdm import entry_for, mail, package, submission_for

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoSite]:
    made = DemoSite.create(tmp_path_factory.mktemp("refusals") / "site")
    made.start()
    yield made
    assert made.stop() == 0


@pytest.fixture
def sender(site: DemoSite) -> str:
    return str(site.demo["operators"][0]["sender"])


@pytest.fixture
def alice(site: DemoSite) -> Mapping[str, Any]:
    person: Mapping[str, Any] = site.demo["practitioners"][0]
    return person


def report(site: DemoSite, name: str) -> bytes:
    return report_maker(site)(f"<{name}@hopital-nord.mssante.test>")


def assert_alive(site: DemoSite, name: str) -> None:
    """The next honest report is taken and filed."""
    deliver(site, report(site, name), site.demo["practitioners"][0]["address"])
    site.wait_idle()
    document = unique_root(f"<{name}@hopital-nord.mssante.test>")
    assert record(site, site.demo["patients"][0])[document]["status"] == "current"


# --- at port 25 -----------------------------------------------------------------------------


def test_without_tls_mail_is_refused_530(site: DemoSite, sender: str) -> None:
    with smtplib.SMTP("localhost", site.port("smtp"), timeout=20) as client:
        client.ehlo()
        assert client.docmd(f"MAIL FROM:<{sender}>") == (
            530,
            b"5.7.0 Must issue a STARTTLS command first",
        )


def test_without_a_certificate_mail_is_refused_530(site: DemoSite, sender: str) -> None:
    with operator_client(site, site.tls()) as client:
        client.ehlo()
        code, text = client.docmd(f"MAIL FROM:<{sender}>")
    assert (code, text[:5]) == (530, b"5.7.0")


def context_of(site: DemoSite, folder: Path, issued: Issued) -> ssl.SSLContext:
    (folder / "leaf.pem").write_bytes(issued.bundle)
    (folder / "leaf.key").write_bytes(issued.key)
    context = site.tls()
    context.load_cert_chain(folder / "leaf.pem", folder / "leaf.key")
    return context


def tls_failures(site: DemoSite) -> list[dict[str, Any]]:
    return [json.loads(line) for line in site.log().splitlines() if "smtp_tls_failed" in line]


LISTED_NAME = {
    "CN": "smtp.hopital-nord.mssante.test",
    "OU": "1750000026",
    "O": "HOPITAL NORD DE PRATIQUE",
}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("authority", ["another root", "our branch of persons"])
def test_a_certificate_of_another_authority_ends_the_connection(
    site: DemoSite, sender: str, tmp_path: Path, version: ssl.TLSVersion, authority: str
) -> None:
    at = datetime.now(UTC)
    if authority == "another root":
        issued = PracticePki.create(at, "Ailleurs").issue_server(at, ["localhost"], LISTED_NAME)
    else:
        ours = KeyStore(site.root / "pki").load_practice()
        issued = ours.issue_personal(at, sender, LISTED_NAME["CN"])
    context = context_of(site, tmp_path, issued)
    context.minimum_version = context.maximum_version = version
    before = len(tls_failures(site))

    with (
        pytest.raises((OSError, smtplib.SMTPServerDisconnected)),
        operator_client(site, context) as client,
    ):
        # With TLS 1.3 a client hears of the refusal with its first answer.
        client.docmd("NOOP")

    said = until(lambda: tls_failures(site)[before:], "the log says why")
    assert [each["error_type"] for each in said] == ["SSLCertVerificationError"]
    with operator_client(site) as client:
        assert client.noop()[0] == 250


def test_a_certificate_that_is_not_on_the_list_is_refused_550(
    site: DemoSite, sender: str, tmp_path: Path
) -> None:
    at = datetime.now(UTC)
    ours = KeyStore(site.root / "pki").load_practice()
    issued = ours.issue_server(at, ["localhost"], {**LISTED_NAME, "OU": "1750000999"})

    with operator_client(site, context_of(site, tmp_path, issued)) as client:
        client.ehlo()
        code, text = client.docmd(f"MAIL FROM:<{sender}>")

    assert (code, text[:5]) == (550, b"5.7.1")


def test_a_certificate_listed_for_another_domain_is_refused_550(
    site: DemoSite, sender: str
) -> None:
    other = site.demo["operators"][1]["sender"]
    with operator_client(site, site.operator_tls(1)) as client:
        client.ehlo()
        code, text = client.docmd(f"MAIL FROM:<{sender}>")
        assert (code, text[:5]) == (550, b"5.7.1")
        # It is asked at each MAIL: its own domain is still its own.
        assert client.docmd(f"MAIL FROM:<{other}>")[0] == 250


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw.replace(b"Bonjour\r\n", b"Bonjour\n"),
        lambda raw: raw.replace(b"Bonjour\r\n", b"Bonjour\r"),
        lambda raw: raw.replace(b"Bonjour", b"Bon\0jour"),
        lambda raw: raw.replace(b"Bonjour\r\n", b"Bonjour\n.\nMAIL FROM:<x@evil.test>\r\n"),
        lambda raw: raw.replace(b"Bonjour\r\n", b"Bonjour\n.\r\nMAIL FROM:<x@evil.test>\r\n"),
    ],
    ids=["bare LF", "bare CR", "NUL", "smuggled LF.LF", "smuggled LF.CRLF"],
)
def test_bare_line_ends_in_data_are_refused_554_and_nothing_is_stored(
    site: DemoSite, sender: str, alice: Mapping[str, Any], spoil: Any
) -> None:
    before = len(read(site, alice))
    raw = spoil(report(site, "spoilt"))

    with operator_client(site) as client:
        client.ehlo()
        client.mail(sender)
        client.rcpt(alice["address"])
        assert client.docmd("DATA")[0] == 354
        client.send(raw + b"\r\n.\r\n")
        code, text = client.getreply()
        assert (code, text[:5]) == (554, b"5.6.0")
        assert client.noop()[0] == 250

    assert len(read(site, alice)) == before


# --- documents ------------------------------------------------------------------------------


def with_doctype(document: bytes, doctype: str) -> bytes:
    """Put a DOCTYPE before the document and use its entity in the title."""
    declaration, rest = document.split(b"\n", 1)
    return (
        declaration + b"\n" + doctype.encode() + b"\n" + rest.replace(b"<title>", b"<title>&x;", 1)
    )


def nested_archives(inside: bytes) -> bytes:
    for _ in range(6):
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w") as made:
            made.writestr("IHE_XDM.ZIP", inside)
        inside = written.getvalue()
    return inside


def hostile_document(site: DemoSite, name: str, doctype: str) -> bytes:
    clean = discharge_letter(site.demo["patients"][0], name)
    spoilt = with_doctype(clean, doctype)
    entry = entry_for(
        clean,
        size=len(spoilt),
        hash=hashlib.sha1(spoilt).hexdigest(),  # noqa: S324
    )
    return build_package(
        encode(submission_for([entry])), [PackagedDocument("DOC0001.XML", spoilt)], sender="NORD"
    )


ATTACKS: dict[str, Callable[[DemoSite], bytes]] = {
    "bomb": lambda site: overlapping_bomb(),
    "nested": lambda site: nested_archives(
        package(discharge_letter(site.demo["patients"][0], "n"))
    ),
    "xxe-file": lambda site: hostile_document(
        site, "xxe-file", '<!DOCTYPE x [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    ),
    "xxe-parameter": lambda site: hostile_document(
        site,
        "xxe-parameter",
        '<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1:9/x.dtd"> %p; <!ENTITY x "y">]>',
    ),
    "laughs": lambda site: hostile_document(
        site,
        "laughs",
        '<!DOCTYPE x [<!ENTITY a "'
        + "a" * 1000
        + '"><!ENTITY b "'
        + "&a;" * 1000
        + '"><!ENTITY x "'
        + "&b;" * 1000
        + '">]>',
    ),
    "doctype": lambda site: hostile_document(site, "doctype", '<!DOCTYPE x [<!ENTITY x "y">]>'),
}


def test_the_bomb_is_42_kilobytes_that_declare_gigabytes() -> None:
    bomb = overlapping_bomb()

    with zipfile.ZipFile(io.BytesIO(bomb)) as archive:
        declared = sum(each.file_size for each in archive.infolist())

    assert 40_000 <= len(bomb) <= 44_000
    assert declared > 5_000_000_000


def test_hostile_packages_are_accepted_quarantined_and_counted(
    site: DemoSite, sender: str, alice: Mapping[str, Any]
) -> None:
    filed = set(record(site, site.demo["patients"][0]))
    before, rows = audit(site), {row["id"] for row in quarantine(site)}

    for name, attack in ATTACKS.items():
        message_id = f"<{name}.attack@hopital-nord.mssante.test>"
        raw = mail(attack(site), sender=sender, to=alice["address"], message_id=message_id)
        deliver(site, raw, alice["address"])
    started = time.monotonic()
    site.wait_idle()

    assert time.monotonic() - started < 15
    new = [row for row in quarantine(site) if row["id"] not in rows]
    assert [str(row["code"]) for row in new] == ["906"] * len(ATTACKS)
    assert all(row["structure"] == alice["structure"] for row in new)
    assert set(record(site, site.demo["patients"][0])) == filed
    held = read(site, alice)
    for name in ATTACKS:
        assert "$Quarantined" in held[f"<{name}.attack@hopital-nord.mssante.test>"].flags
    after = audit(site)
    assert after["quarantined"] - before["quarantined"] == len(ATTACKS)
    assert after["filed"] == before["filed"]
    assert_alive(site, "after-the-attacks")


# --- crashes --------------------------------------------------------------------------------


def settle(site: DemoSite, names: list[str]) -> tuple[int, int]:
    """Everything sent is filed or quarantined 906, once; give the counts."""
    site.wait_idle(timeout=90)
    documents = {unique_root(f"<{name}@hopital-nord.mssante.test>") for name in names}
    filed = documents & set(record(site, site.demo["patients"][0]))
    held = read(site, site.demo["practitioners"][0])
    quarantined = {name for name in names if "$Quarantined" in held[message_id(name)].flags}
    for name in names:
        flags = held[message_id(name)].flags
        assert len(flags & {"$Filed", "$Quarantined"}) == 1, (name, flags)
    assert len(filed) + len(quarantined) == len(names)
    audit(site)
    return len(filed), len(quarantined)


def message_id(name: str) -> str:
    return f"<{name}@hopital-nord.mssante.test>"


def test_messages_whose_opening_always_crashes_are_quarantined_after_three_attempts(
    site: DemoSite, alice: Mapping[str, Any]
) -> None:
    names = [f"crash.{number}" for number in range(4)]
    bridge = server_process(site, "bridge")
    rows = {row["id"] for row in quarantine(site)}

    with WorkerKiller(bridge) as killer:
        for name in names:
            deliver(site, report(site, name), alice["address"])
        until(
            lambda: all(
                read(site, alice)[message_id(name)].flags & {"$Filed", "$Quarantined"}
                for name in names
            ),
            "each is settled while workers die",
            60,
        )

    assert killer.killed
    assert server_process(site, "bridge") == bridge
    filed, quarantined = settle(site, names)
    new = [row for row in quarantine(site) if row["id"] not in rows]
    assert quarantined > 0
    assert [str(row["code"]) for row in new] == ["906"] * quarantined
    assert filed + quarantined == len(names)
    assert_alive(site, "after-the-crashes")


def test_a_burst_survives_workers_that_die_now_and_then(
    site: DemoSite, alice: Mapping[str, Any]
) -> None:
    names = [f"burst.{number}" for number in range(20)]

    with WorkerKiller(server_process(site, "bridge"), every_s=0.7) as killer:
        for name in names:
            deliver(site, report(site, name), alice["address"])
        site.wait_idle()

    assert killer.killed
    filed, _quarantined = settle(site, names)
    assert filed > 0


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
def test_reports_whose_gate_keeps_crashing_still_reach_the_bridge(
    site: DemoSite, sender: str, alice: Mapping[str, Any], tmp_path: Path
) -> None:
    """An opaque signature is opened by the mail server's workers before it is delivered."""
    ours = KeyStore(site.root / "pki").load_practice()
    seal = ours.issue_seal(datetime.now(UTC), sender, LISTED_NAME["O"])
    names = [f"gate.{number}" for number in range(6)]

    with WorkerKiller(server_process(site, "mail")) as killer:
        for number, name in enumerate(names):
            form = ("-nodetach",) if number % 2 else ()
            deliver(site, sign(tmp_path, report(site, name), seal, *form), alice["address"])

    assert killer.killed
    assert settle(site, names) == (len(names), 0)


class Traffic(threading.Thread):
    """Sends reports that ask for an answer, each until it is acknowledged; a context manager."""

    def __init__(self, site: DemoSite, name: str) -> None:
        super().__init__(daemon=True)
        self._site = site
        self._name = name
        self._stopping = threading.Event()
        self.sent: list[str] = []

    def run(self) -> None:
        to = self._site.demo["practitioners"][0]["address"]
        author = self._site.demo["operators"][0]["sender"]
        while not self._stopping.is_set():
            name = f"{self._name}.{len(self.sent)}"
            asking = f"Disposition-Notification-To: <{author}>\r\n".encode()
            try:
                deliver(self._site, asking + report(self._site, name), to)
            except (OSError, smtplib.SMTPException):
                time.sleep(0.1)
            else:
                self.sent.append(name)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stopping.set()
        self.join()


def answers(inbox: Path, names: list[str]) -> dict[str, set[bytes]]:
    """Give the Message-IDs of the answers to each of these messages."""
    found: dict[str, set[bytes]] = {}
    for file in inbox.glob("*.eml"):
        octets = file.read_bytes()
        about = re.search(rb"(?im)^Original-Message-ID:\s*(\S+)", octets)
        own = re.search(rb"(?im)^Message-ID:\s*(\S+)", octets)
        assert about is not None
        assert own is not None
        found.setdefault(about[1].decode(), set()).add(own[1])
    return {name: found.get(message_id(name), set()) for name in names}


@pytest.mark.parametrize("role", ["bridge", "mail"])
def test_one_child_killed_during_traffic_is_started_again_and_nothing_is_lost(
    site: DemoSite, role: str
) -> None:
    victim = server_process(site, role)

    with receiver(site) as inbox:
        with Traffic(site, f"kill-{role}") as traffic:
            until(lambda: len(traffic.sent) >= 5, "traffic flows")
            os.kill(victim, signal.SIGKILL)
            before = len(traffic.sent)
            until(lambda: len(traffic.sent) >= before + 10, "traffic flows again")
        filed, quarantined = settle(site, traffic.sent)
        said = answers(inbox, traffic.sent)

    assert server_process(site, role) != victim
    assert (filed, quarantined) == (len(traffic.sent), 0)
    assert {name: len(each) for name, each in said.items()} == dict.fromkeys(traffic.sent, 1)
    assert_alive(site, f"after-killing-{role}")
