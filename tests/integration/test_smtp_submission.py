"""Submission with real TLS: who may log in, as whom a mailbox may write, and to whom (S10, S16).

Source: RFC 6409 §4, RFC 4954 §4, RFC 8314 §3.3.
"""

import smtplib
import ssl
from asyncio import to_thread
from base64 import b64encode
from pathlib import Path

import pytest

from mailserver.smtp.conversation import Deadlines
from tests.support.mail_site import (
    BOB,
    DR,
    OURS,
    PATIENT,
    SECRET,
    A,
    Line,
    MailSite,
    World,
    mail_site,
    message,
)

QUICK = Deadlines(login_delay_s=0.001)


@pytest.fixture
async def site(where: World, tmp_path: Path):
    async with mail_site(where, tmp_path, deadlines=QUICK) as opened:
        yield opened


def plain(login: str, secret: str = SECRET, authzid: str = "") -> str:
    return b64encode(f"{authzid}\0{login}\0{secret}".encode()).decode()


async def client(site: MailSite, login: str | None = DR) -> Line:
    line = await Line.open(site.submissions, site.world.client_tls(None))
    await line.say("EHLO poste.test")
    if login is not None:
        assert (await line.say(f"AUTH PLAIN {plain(login)}")).startswith("235 2.7.0")
    return line


async def send(line: Line, body: bytes, *to: str, sender: str = DR) -> str:
    reply = await line.say(f"MAIL FROM:<{sender}>")
    if not reply.startswith("250"):
        return reply
    for each in to:
        reply = await line.say(f"RCPT TO:<{each}>")
        if not reply.startswith("250"):
            return reply
    assert (await line.say("DATA")).startswith("354")
    line.write(body + b".\r\n")
    return await line.reply()


async def test_a_mail_client_sends_by_starttls_and_by_tls(site: MailSite) -> None:
    tls = site.world.client_tls(None)

    def by_starttls() -> None:
        with smtplib.SMTP("localhost", site.submission, timeout=10) as smtp:
            smtp.starttls(context=tls)
            smtp.login(DR, SECRET)
            smtp.sendmail(DR, [BOB], message(DR, BOB, "one"))

    def by_tls() -> None:
        with smtplib.SMTP_SSL("localhost", site.submissions, timeout=10, context=tls) as smtp:
            smtp.login(DR, SECRET)
            smtp.sendmail(DR, [BOB], message(DR, BOB, "two"))

    await to_thread(by_starttls)
    await to_thread(by_tls)

    assert len(await site.inbox(BOB)) == 2
    assert b"multipart/signed" in await site.raw(BOB)


async def test_login_is_offered_under_tls_only(site: MailSite) -> None:
    line = await Line.open(site.submission)
    hello = await line.say("EHLO poste.test")

    assert "STARTTLS" in hello
    assert "AUTH" not in hello
    assert (await line.say(f"AUTH PLAIN {plain(DR)}")).startswith("538 5.7.11")
    assert (await line.say(f"MAIL FROM:<{DR}>")).startswith("530 5.7.0")
    await line.starttls(site.world.client_tls(None))
    assert "250-AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN\r\n" in await line.say(
        "EHLO poste.test"
    )
    assert (await line.say(f"MAIL FROM:<{DR}>")).startswith("530 5.7.0")
    assert (await line.say(f"AUTH PLAIN {plain(DR)}")).startswith("235")


async def test_loopback_may_log_in_without_tls_when_the_site_says_so(
    where: World, tmp_path: Path
) -> None:
    allowed = frozenset({"127.0.0.1"})
    async with mail_site(where, tmp_path, plaintext_login_from=allowed) as site:
        line = await Line.open(site.submission)
        assert "AUTH SCRAM-SHA-256 PLAIN LOGIN" in await line.say("EHLO poste.test")
        assert (await line.say(f"AUTH PLAIN {plain(DR)}")).startswith("235")
        assert (await send(line, message(DR, BOB), BOB)).startswith("250")


@pytest.mark.parametrize("initial", [True, False])
async def test_login_asks_for_a_name_and_a_password(site: MailSite, initial: bool) -> None:  # noqa: FBT001
    line = await client(site, None)
    name = b64encode(DR.encode()).decode()

    reply = await line.say(f"AUTH LOGIN {name}" if initial else "AUTH LOGIN")
    if not initial:
        assert reply == "334 VXNlcm5hbWU6\r\n"
        reply = await line.say(name)
    assert reply == "334 UGFzc3dvcmQ6\r\n"
    assert (await line.say(b64encode(SECRET.encode()).decode())).startswith("235")


async def test_plain_may_come_after_its_challenge(site: MailSite) -> None:
    line = await client(site, None)

    assert await line.say("AUTH PLAIN") == "334 \r\n"
    assert (await line.say(plain(DR))).startswith("235")
    assert (await line.say(f"AUTH PLAIN {plain(DR)}")).startswith("503")
    assert "AUTH" not in await line.say("EHLO poste.test")


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (f"AUTH PLAIN {plain(DR, 'x' * 32)}", "535 5.7.8"),
        (f"AUTH PLAIN {plain(f'nobody@{OURS}')}", "535 5.7.8"),
        (f"AUTH PLAIN {plain(BOB, SECRET, authzid=DR)}", "535 5.7.8"),
        ("AUTH PLAIN !!!!", "501"),
        ("AUTH PLAIN =", "501"),
        ("AUTH PLAIN *", "501"),
        ("AUTH", "504"),
        ("AUTH XOAUTH2 abc", "504"),
        ("AUTH CRAM-MD5", "504"),
        (f"AUTH PLAIN {'A' * 8196}", "501"),
        (f"AUTH PLAIN {'A' * 12288}", "500"),
    ],
)
async def test_other_logins_are_refused(site: MailSite, command: str, reply: str) -> None:
    line = await client(site, None)

    assert (await line.say(command)).startswith(reply)


async def test_a_client_may_cancel(site: MailSite) -> None:
    line = await client(site, None)
    await line.say("AUTH LOGIN")

    assert (await line.say("*")).startswith("501 5.7.0")


async def test_five_wrong_logins_end_the_connection(site: MailSite) -> None:
    line = await client(site, None)

    replies = [(await line.say(f"AUTH PLAIN {plain(DR, 'x' * 32)}"))[:3] for _ in range(5)]

    assert replies == ["535"] * 4 + ["421"]
    assert await line.ended()


async def test_what_is_sent_ahead_with_auth_ends_the_connection(site: MailSite) -> None:
    line = await client(site, None)
    line.write(f"AUTH PLAIN {plain(DR)}\r\nMAIL FROM:<{DR}>\r\n".encode())

    assert (await line.reply()).startswith("554 5.5.0")


@pytest.mark.parametrize("sender", [BOB, f"x@{A}", f"dr.martin@{A}", "dr@evil.test"])
async def test_only_the_own_address_stands_in_mail_from(site: MailSite, sender: str) -> None:
    line = await client(site)

    assert (await line.say(f"MAIL FROM:<{sender}>")).startswith("553 5.7.1")


def headed(*lines: str) -> bytes:
    return ("\r\n".join(lines) + "\r\nTo: <x@y.test>\r\nSubject: x\r\n\r\nbonjour\r\n").encode()


@pytest.mark.parametrize(
    ("head", "reply"),
    [
        ((f"From: <{DR}>",), "250"),
        ((f"From: Docteur Martin <{DR.upper()}>",), "250"),
        ((f"From: <{BOB}>",), "5"),
        ((f"From: <{DR}>, <{BOB}>",), "5"),
        ((f"From: <{DR}>", f"From: <{BOB}>"), "5"),
        ((f"From : <{BOB}>",), "5"),
        ((f'From: "{BOB}" <{DR}>',), "250"),
        ((f"From: {BOB}<{DR}>",), "5"),
        ((f"From: equipe: <{DR}>;",), "5"),
        (("Subject: sans auteur",), "5"),
    ],
)
async def test_exactly_one_from_and_it_is_the_own_address(
    site: MailSite, head: tuple[str, ...], reply: str
) -> None:
    line = await client(site)

    assert (await send(line, headed(*head), BOB)).startswith(reply)
    assert len(await site.inbox(BOB)) == (reply == "250")


@pytest.mark.parametrize(
    ("login", "recipient", "reply"),
    [
        (DR, BOB, "250"),
        (DR, PATIENT, "250"),
        (DR, f"service@{A}", "250"),
        (DR, f"nobody@{OURS}", "550 5.1.1"),
        (DR, "x@evil.test", "550 5.7.1"),
        (DR, f'"x@evil.test"@{OURS}', "553"),
        (DR, "postmaster", "250"),
        (PATIENT, DR, "250"),
        (PATIENT, f"service@{A}", "553 5.7.1"),
        (PATIENT, "x@evil.test", "550 5.7.1"),
    ],
)
async def test_to_whom_one_may_write(
    site: MailSite, login: str, recipient: str, reply: str
) -> None:
    line = await client(site, login)
    await line.say(f"MAIL FROM:<{login}>")

    assert (await line.say(f"RCPT TO:<{recipient}>")).startswith(reply)


async def test_patients_write_to_patients_of_a_declared_domain(
    where: World, tmp_path: Path
) -> None:
    async with mail_site(where, tmp_path, patient_domains=frozenset({A})) as site:
        line = await client(site, PATIENT)

        reply = await send(line, message(PATIENT, f"x@{A}"), f"x@{A}", sender=PATIENT)

        assert reply.startswith("250 2.0.0 ")


async def test_a_message_for_elsewhere_waits_in_the_queue(site: MailSite) -> None:
    line = await client(site)

    assert (await send(line, message(DR, f"x@{A}"), f"x@{A}", BOB)).startswith("250 2.0.0 ")
    assert len(await site.store.queue.items()) == 1
    assert len(await site.inbox(BOB)) == 1


async def test_the_same_message_again_is_taken_once(site: MailSite) -> None:
    line = await client(site)
    replies = {await send(line, message(DR, BOB), BOB) for _ in range(2)}

    assert len(replies) == 1
    assert len(await site.inbox(BOB)) == 1


@pytest.mark.parametrize("sequence", [b"\n.\n", b"\n.\r\n", b"\r\n.\r\r\n", b"\r.\r\n", b"\n"])
async def test_no_sequence_is_smuggled_out(site: MailSite, sequence: bytes) -> None:
    line = await client(site)

    reply = await send(line, message(DR, BOB) + b"x" + sequence + b"MAIL FROM:<a@b>\r\n", BOB)

    assert reply.startswith("554 5.6.0")


async def test_logins_and_refusals_are_in_the_trail(site: MailSite) -> None:
    line = await client(site)
    before = await site.store.audit.unsealed()
    await line.say(f"MAIL FROM:<{BOB}>")
    await line.say(f"MAIL FROM:<{BOB}>")

    assert before == 1
    assert await site.store.audit.unsealed() == 2


async def test_no_client_certificate_is_asked_for_here(site: MailSite) -> None:
    tls = site.world.client_tls(None)
    asked: list[bool] = []

    def connect() -> None:
        with smtplib.SMTP_SSL("localhost", site.submissions, timeout=10, context=tls) as smtp:
            smtp.ehlo()
            assert isinstance(smtp.sock, ssl.SSLSocket)
            asked.append(smtp.sock.version() in {"TLSv1.2", "TLSv1.3"})

    await to_thread(connect)
    assert asked == [True]
