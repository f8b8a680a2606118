"""A listed operator speaks for its own domains only, in the envelope and in From (S13, S14)."""

import json
import sqlite3

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.support.mail_site import (
    BOB,
    DR,
    OURS,
    A,
    B,
    Line,
    MailSite,
    message,
    operator_line,
)


async def send(line: Line, path: str, body: bytes) -> str:
    for command in (f"MAIL FROM:<{path}>", f"RCPT TO:<{DR}>", "DATA"):
        reply = await line.say(command)
        if reply[0] not in "23":
            return reply
    line.write(body + b".\r\n")
    return await line.reply()


def report(value: str) -> bytes:
    return under(value).replace(
        b"Subject: Essai\r\n",
        b"MIME-Version: 1.0\r\nSubject: Essai\r\n"
        b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n",
    )


def under(value: str) -> bytes:
    return message("x@x.test", DR).replace(b"From: <x@x.test>", b"From: " + value.encode())


@pytest.mark.parametrize(
    "domain",
    [
        f"evil-{A}",
        f"{A}.evil.test",
        f"{A}.",
        "xn--chu--a-9ua.mssante.test",
        "chu-а.mssante.test",  # a Cyrillic letter
        f"{A}\0.evil.test",
        "mssante.test",
        f"x.{A}",
        B,
        OURS,
    ],
)
async def test_a_domain_that_is_not_exactly_the_listed_one_is_refused(
    site: MailSite, domain: str
) -> None:
    line = await operator_line(site, site.world.a)

    assert (await send(line, f"a@{domain}", message(f"a@{A}", DR)))[0] == "5"
    assert await site.inbox(DR) == []


async def test_the_listed_domain_is_known_in_any_case(site: MailSite) -> None:
    line = await operator_line(site, site.world.a)

    assert (await send(line, f"a@{A.upper()}", message(f"a@{A}", DR))).startswith("250")


@pytest.mark.parametrize(
    ("author", "reply"),
    [
        (f"<a@{A}>", "250"),
        (f"Dr A <a@{A.upper()}>", "250"),
        (f"<é@{A}>", "250"),
        (f"<a@{B}>", "550 5.7.1"),
        (f"<{BOB}>", "550 5.7.1"),
        ("<a@evil.test>", "550 5.7.1"),
        (f'"a@{A}" <a@{B}>', "550 5.7.1"),
        (f"<a@{A}>, <b@{B}>", "554 5.6.0"),
        (f"<a@{A}>, <b@{A}>", "554 5.6.0"),
        (f"a@{A}<a@{B}>", "554 5.6.0"),
        (f"equipe: a@{A};", "554 5.6.0"),
        (f"<a@{A}>\r\nFrom: <b@{B}>", "554 5.6.0"),
        ("", "554 5.6.0"),
    ],
)
async def test_from_is_of_a_domain_that_the_peer_answers_for(
    site: MailSite, author: str, reply: str
) -> None:
    line = await operator_line(site, site.world.a)

    assert (await send(line, f"a@{A}", under(author))).startswith(reply)
    assert len(await site.inbox(DR)) == (reply == "250")
    assert await site.store.audit.unsealed() == 1  # what came, or that it was refused


@pytest.mark.parametrize(
    ("author", "reply"),
    [
        (f"<MAILER-DAEMON@{A}>", "250"),
        ("MAILER-DAEMON@smtp17.chu-a.example (Mail Delivery System)", "250"),
        (f"<MAILER-DAEMON@{B}>", "550 5.7.1"),
        (f"<postmaster@{OURS}>", "550 5.7.1"),
    ],
)
async def test_a_mail_servers_report_may_bear_its_hosts_name_but_nobody_elses(
    site: MailSite, author: str, reply: str
) -> None:
    line = await operator_line(site, site.world.a)

    assert (await send(line, "", report(author))).startswith(reply)


async def test_nothing_but_a_report_bears_a_name_outside_the_space(site: MailSite) -> None:
    line = await operator_line(site, site.world.a)

    assert (await send(line, "", under("<dr@evil.test>"))).startswith("550 5.7.1")
    assert (await send(line, "", under(f"<dr@{A}>"))).startswith("250")


@pytest.mark.parametrize("path", [f"dr@{B}", f"x@{A}"])
async def test_the_trail_names_who_spoke_and_for_whom(site: MailSite, path: str) -> None:
    line = await operator_line(site, site.world.a)
    assert (await send(line, path, under(f"<dr@{B}>"))).startswith("550 5.7.1")

    with sqlite3.connect(site.root / "mail.sqlite3") as database:
        rows = database.execute("SELECT actor, facts FROM trail_event").fetchall()
    ((actor, facts),) = [(who, json.loads(what)) for who, what in rows]
    certificate = x509.load_pem_x509_certificate(site.world.a.cert.read_bytes())
    assert actor == f"operator:{certificate.fingerprint(hashes.SHA256()).hex()}"
    assert facts["claimed"] == B


async def test_the_certificate_of_one_operator_does_not_serve_another(site: MailSite) -> None:
    line = await operator_line(site, site.world.b)

    assert (await send(line, f"dr@{A}", message(f"dr@{A}", DR))).startswith("550 5.7.1")
    assert (await send(line, f"labo@{B}", message(f"dr@{A}", DR))).startswith("550 5.7.1")
    assert (await send(line, f"labo@{B}", message(f"labo@{B}", DR))).startswith("250")
