"""Port 25 with real TLS: who may send, to whom, and what a 250 means (DESIGN §3, S1 to S15).

Source: RFC 5321 §4, RFC 3207 §4.2, RFC 2920 §3.1, RFC 1870 §6.
"""

import asyncio
import hashlib
import socket
import ssl
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from certs.issue import Branch
from certs.mime import scan
from certs.tls import add_crls
from directory.adoption import Force
from mailserver.fairness import FairLimits, Fairness
from mailserver.smtp.conversation import Deadlines
from mailserver.smtp.data import DataLimits
from mailserver.smtp.receiving import Reception
from tests.support.mail_site import (
    BOB,
    DR,
    OURS,
    PATIENTS,
    A,
    B,
    Line,
    MailSite,
    World,
    mail_site,
    message,
    operator_line,
    write_list,
)

SENDER = f"service@{A}"


async def send(line: Line, body: bytes, *to: str, sender: str = SENDER) -> str:
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


async def test_a_listed_operator_delivers_and_gets_a_receipt(site: MailSite) -> None:
    line = await operator_line(site, site.world.a)

    reply = await send(line, message(SENDER, DR), DR)

    assert reply.startswith("250 2.0.0 ")
    stored = await site.raw(DR)
    assert reply.split()[2].encode() in stored
    assert stored.endswith(message(SENDER, DR))
    assert (await line.say("QUIT")).startswith("221")
    assert await line.ended()


async def test_what_is_stored_is_what_was_sent_dots_included(site: MailSite) -> None:
    line = await operator_line(site, site.world.a)
    body = message(SENDER, DR, ".\r\n..\r\nend.") * 1

    await send(line, body.replace(b"\r\n.", b"\r\n.."), DR)

    detail = (await site.inbox(DR))[0]
    raw = await site.raw(DR)
    assert raw[len(detail.prefix) :] == body


@pytest.mark.parametrize("size", [100_000, 1_500_000, 6_000_000])
async def test_a_large_message_comes_through_the_spool_whole(site: MailSite, size: int) -> None:
    line = await operator_line(site, site.world.a)
    body = message(SENDER, DR) + (b"x" * 76 + b"\r\n") * (size // 78)

    assert (await send(line, body, DR)).startswith("250")

    detail = (await site.inbox(DR))[0]
    raw = await site.raw(DR)
    assert hashlib.sha256(raw[len(detail.prefix) :]).digest() == hashlib.sha256(body).digest()


async def test_one_message_to_two_mailboxes_is_one_receipt_and_two_entries(
    site: MailSite,
) -> None:
    line = await operator_line(site, site.world.a)

    assert (await send(line, message(SENDER, DR), DR, BOB)).startswith("250")

    assert [len(await site.inbox(each)) for each in (DR, BOB)] == [1, 1]


async def test_the_same_octets_again_get_the_first_receipt(site: MailSite) -> None:
    first = await send(await operator_line(site, site.world.a), message(SENDER, DR), DR)
    again = await send(await operator_line(site, site.world.a), message(SENDER, DR), DR, BOB)

    assert first == again
    assert [len(await site.inbox(each)) for each in (DR, BOB)] == [1, 1]


async def test_several_messages_on_one_connection_and_pipelining(site: MailSite) -> None:
    line = await operator_line(site, site.world.a)
    for number in range(3):
        line.write(f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{DR}>\r\nDATA\r\n".encode())
        replies = [(await line.reply())[:3] for _ in range(3)]
        assert replies == ["250", "250", "354"]
        line.write(message(SENDER, DR, f"no {number}") + b".\r\nNOOP\r\n")
        assert (await line.reply()).startswith("250 2.0.0 ")
        assert (await line.reply()).startswith("250 2.0.0 OK")

    assert len(await site.inbox(DR)) == 3


async def test_nothing_is_taken_in_clear(site: MailSite) -> None:
    line = await Line.open(site.smtp)
    await line.say("EHLO mail.chu-a.test")

    assert (await line.say(f"MAIL FROM:<{SENDER}>")).startswith("530 5.7.0")


async def test_a_peer_without_a_certificate_is_told_so(site: MailSite) -> None:
    line = await operator_line(site, None)

    assert (await line.say(f"MAIL FROM:<{SENDER}>")).startswith("530 5.7.0")
    assert (await line.say(f"RCPT TO:<{DR}>")).startswith("503")
    assert (await line.say("DATA")).startswith("503")


@pytest.mark.parametrize("who", ["foreign", "personal"])
async def test_a_certificate_of_another_branch_fails_in_the_handshake(
    site: MailSite, who: str
) -> None:
    line = await Line.open(site.smtp)
    await line.say("EHLO mail.chu-a.test")
    try:
        await line.starttls(site.world.client_tls(getattr(site.world, who)))
        reply = await line.say("EHLO x.test")
    except (ssl.SSLError, ConnectionError):
        reply = ""

    assert reply == ""


@pytest.mark.parametrize(
    ("who", "sender"),
    [
        ("b", SENDER),
        ("unlisted", SENDER),
        ("unlisted", ""),
        ("a", f"x@{B}"),
        ("a", f"x@{OURS}"),
        ("a", "a@evil.test"),
        ("a", f"a@{A}.evil.test"),
        ("a", f"a@sub.{A}"),
    ],
)
async def test_a_certificate_speaks_for_its_own_domains_only(
    site: MailSite, who: str, sender: str
) -> None:
    line = await operator_line(site, getattr(site.world, who))

    assert (await line.say(f"MAIL FROM:<{sender}>")).startswith("550 5.7.1")
    assert (await line.say(f"RCPT TO:<{DR}>")).startswith("503")


async def test_each_mail_is_judged_again_on_a_list_that_changed(site: MailSite) -> None:
    line = await operator_line(site, site.world.a)
    assert (await line.say(f"MAIL FROM:<{SENDER}>")).startswith("250")
    await line.say("RSET")
    write_list(site.root / "new.xml", site.world, at=site.now(), without=[A])
    for person in ("cli:one", "cli:two"):
        content = (site.root / "new.xml").read_bytes()
        await site.directory.adoption.force(content, Force(person, "A has left"), site.now())

    assert (await line.say(f"MAIL FROM:<{SENDER}>")).startswith("550 5.7.1")


async def test_each_mail_is_judged_again_on_revocations_that_came(site: MailSite) -> None:
    line = await operator_line(site, site.world.a)
    other = await operator_line(site, site.world.b)
    assert (await line.say(f"MAIL FROM:<{SENDER}>")).startswith("250")
    await line.say("RSET")
    later = datetime.now(UTC) + timedelta(seconds=1)
    revoked = site.world.pki.issue_crl(Branch.OPERATORS, later, [site.world.a.issued.serial])
    assert site.smtp_tls is not None
    add_crls(site.smtp_tls, [x509.load_pem_x509_crl(revoked)])

    assert (await line.say(f"MAIL FROM:<{SENDER}>")).startswith("554 5.7.1 This certificate is re")
    assert (await line.say(f"RCPT TO:<{DR}>")).startswith("503")
    assert (await other.say(f"MAIL FROM:<x@{B}>")).startswith("250")


async def test_a_revocation_list_that_ran_out_closes_the_door_for_a_while(site: MailSite) -> None:
    line = await operator_line(site, site.world.a)
    assert site.smtp_tls is not None
    over = datetime.now(UTC) - timedelta(seconds=1)
    for held in site.smtp_tls.lists.values():
        held.update({scope: replace(each, end=over) for scope, each in held.items()})

    assert (await line.say(f"MAIL FROM:<{SENDER}>")).startswith("451 4.7.5 No current revocation")


async def test_a_list_past_its_grace_closes_the_door_for_a_while(site: MailSite) -> None:
    line = await operator_line(site, site.world.a)
    site.shift = timedelta(days=7, hours=23)
    assert (await line.say(f"MAIL FROM:<{SENDER}>")).startswith("250")
    await line.say("RSET")
    site.shift = timedelta(days=9)

    assert (await line.say(f"MAIL FROM:<{SENDER}>")).startswith("451 4.7.5")


async def test_the_null_sender_comes_from_any_listed_operator(site: MailSite) -> None:
    line = await operator_line(site, site.world.b)

    assert (await send(line, message(f"labo@{B}", DR), DR, sender="")).startswith("250")
    assert (await site.raw(DR)).startswith(b"Return-Path: <>\r\n")


@pytest.mark.parametrize(
    ("recipient", "reply"),
    [
        (f"nobody@{OURS}", "550 5.1.1"),
        (f"1990199000000@{PATIENTS}", "550 5.1.1"),
        (f"x@{B}", "550 5.7.1"),
        ("x@evil.test", "550 5.7.1"),
        (f"x%evil.test@{OURS}", "550 5.1.1"),
        (f'"x@evil.test"@{OURS}', "553 5.1.3"),
        (f"x@evil.test@{OURS}", "553 5.1.3"),
        (f"@{OURS}:x@evil.test", "550 5.7.1"),
        (f"@{OURS},@{A}:x@evil.test", "550 5.7.1"),
        (f"evil.test!x@{OURS}", "550 5.1.1"),
        ("x@[127.0.0.1]", "553 5.1.3"),
        ("x@[IPv6:::1]", "553 5.1.3"),
        (f"{DR}.", "553 5.1.3"),
        (DR.upper(), "250 2.1.5"),
        (DR, "250 2.1.5"),
        ("postmaster", "250 2.1.5"),
        (f"Postmaster@{OURS}", "250 2.1.5"),
        (f"postmaster@{PATIENTS}", "250 2.1.5"),
        (f"postmaster@{B}", "550 5.7.1"),
    ],
)
async def test_recipients_are_mailboxes_of_this_site(
    site: MailSite, recipient: str, reply: str
) -> None:
    line = await operator_line(site, site.world.a)
    await line.say(f"MAIL FROM:<{SENDER}>")

    assert (await line.say(f"RCPT TO:<{recipient}>")).startswith(reply)


async def test_mail_to_postmaster_is_read_by_a_person(site: MailSite) -> None:
    line = await operator_line(site, site.world.a)

    await send(line, message(SENDER, f"postmaster@{OURS}"), f"postmaster@{OURS}")

    assert len(await site.inbox(f"secretariat@{OURS}")) == 1


@pytest.mark.parametrize(("count", "reply"), [(3, "250 2.1.5"), (4, "452 4.5.3"), (9, "452")])
async def test_recipients_are_bounded(
    where: World, tmp_path: Path, count: int, reply: str
) -> None:
    async with mail_site(where, tmp_path, max_recipients=3) as site:
        line = await operator_line(site, where.a)
        await line.say(f"MAIL FROM:<{SENDER}>")
        replies = [await line.say(f"RCPT TO:<{DR}>") for _ in range(count)]

    assert replies[-1].startswith(reply)


SMUGGLED = f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{BOB}>\r\nDATA\r\nFrom: <x@{A}>\r\n\r\nevil\r\n.\r\n"


@pytest.mark.parametrize(
    "sequence",
    [
        b"\n.\n", b"\n.\r", b"\r.\n", b"\r.\r", b"\n.\r\n", b"\r.\r\n", b"\r\n\0.\r\n", b"\r\n.\n",
        b"\r\n.\r", b"\r\n.\0\r\n", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\n",
    ],
    ids=repr,
)  # fmt: skip
async def test_no_sequence_smuggles_a_second_message(site: MailSite, sequence: bytes) -> None:
    line = await operator_line(site, site.world.a)

    reply = await send(line, message(SENDER, DR) + b"x" + sequence + SMUGGLED.encode()[:-3], DR)

    assert reply.startswith("554 5.6.0")
    assert [len(await site.inbox(each)) for each in (DR, BOB)] == [0, 0]
    assert (await send(line, message(SENDER, DR), DR)).startswith("250")


async def test_a_message_over_the_limit_is_refused_after_it_was_read(
    where: World, tmp_path: Path
) -> None:
    async with mail_site(where, tmp_path, size_limit=10_000) as site:
        line = await operator_line(site, where.a)
        assert "250-SIZE 10000\r\n" in await line.say("EHLO mail.chu-a.test")
        declared = await line.say(f"MAIL FROM:<{SENDER}> SIZE=10001")
        body = message(SENDER, DR)
        fill = b"x" * 68 + b"\r\n"
        exact = body + fill * ((10_000 - len(body)) // 70)
        exact += b"y" * (10_000 - len(exact) - 2) + b"\r\n"
        replies = [await send(line, exact + more, DR) for more in (b"", b"\r\n", fill * 200)]

        assert declared.startswith("552 5.3.4")
        assert [each[:9] for each in replies] == ["250 2.0.0", "552 5.3.4", "552 5.3.4"]
        assert len(await site.inbox(DR)) == 1

        assert (await send(line, exact + fill * 60_000, DR)).startswith("552")
        assert await line.ended()


@pytest.mark.parametrize("text", [998, 999, 90_000, 10_000_000])
async def test_a_long_line_arrives_as_it_was_sent(site: MailSite, text: int) -> None:
    line = await operator_line(site, site.world.a)

    body = message(SENDER, DR) + b"x" * text + b"\r\n"
    assert (await send(line, body, DR)).startswith("250")
    assert (await site.raw(DR)).endswith(body)


@pytest.mark.parametrize(
    "injected",
    [
        b"STARTTLS\r\nNOOP\r\n",
        b"STARTTLS\r\nEHLO x.test\r\nMAIL FROM:<a@chu-a.mssante.test>\r\n",
        b"STARTTLS\r\nx",
    ],
)
async def test_octets_sent_with_starttls_end_the_connection(
    site: MailSite, injected: bytes
) -> None:
    line = await Line.open(site.smtp)
    await line.say("EHLO mail.chu-a.test")
    line.write(injected)

    assert (await line.reply()).startswith("554 5.5.0")
    assert await line.ended()


async def test_plain_octets_just_after_starttls_are_no_commands(site: MailSite) -> None:
    line = await Line.open(site.smtp)
    await line.say("EHLO mail.chu-a.test")
    assert (await line.say("STARTTLS")).startswith("220")
    line.write(b"NOOP\r\nEHLO x.test\r\n")

    assert (await line.reply())[:1] not in {"2", "5"}
    assert await line.ended()


async def test_what_was_said_before_starttls_is_forgotten(site: MailSite) -> None:
    line = await Line.open(site.smtp)
    await line.say("EHLO mail.chu-a.test")
    await line.starttls(site.world.client_tls(site.world.a))

    assert (await line.say(f"MAIL FROM:<{SENDER}>")).startswith("503")
    assert "STARTTLS" not in await line.say("EHLO mail.chu-a.test")
    assert (await line.say("STARTTLS")).startswith("503")


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO x.test\r\nMAIL FROM:<a@chu-a.mssante.test>\r\nRCPT TO:<b@c.test>\r\nDATA\r\n",
        b"EHLO x.test\r\nSTARTTLS\r\n",
    ],
)
async def test_an_early_talker_is_dropped(site: MailSite, octets: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.smtp)
    writer.write(octets)

    said = await reader.read(4096) + await reader.read(4096)
    writer.close()

    assert b"554 5.5.0" in said
    assert b"250" not in said


async def test_data_sent_before_the_354_is_refused(site: MailSite) -> None:
    line = await operator_line(site, site.world.a)
    await line.say(f"MAIL FROM:<{SENDER}>")
    await line.say(f"RCPT TO:<{DR}>")
    line.write(b"DATA\r\n" + message(SENDER, DR) + b".\r\n")

    assert (await line.reply()).startswith("554 5.5.0")
    assert await line.ended()
    assert not await site.inbox(DR)


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("BDAT 10", "502"),
        ("EXPN list", "502"),
        ("VRFY root", "252"),
        ("XYZZY <script>alert(1)</script>", "500"),
        ("NO\0OP", "500"),
        ("NOOP\nNOOP", "500"),
        ("NOOP " + "x" * 505, "250"),
        ("NOOP " + "x" * 506, "500"),
        ("AUTH PLAIN AGEAYg==", "500"),
        ("EHLO", "501"),
        ("EHLO a b", "501"),
        ("MAIL FROM:<x@é.test>", "553"),
        ("DATA", "503"),
        ("QUIT now", "501"),
    ],
)
async def test_other_commands(site: MailSite, command: str, reply: str) -> None:
    line = await operator_line(site, site.world.a)

    said = await line.say(command)

    assert said.startswith(reply)
    assert "script" not in said


async def test_three_unknown_commands_end_the_connection(site: MailSite) -> None:
    line = await Line.open(site.smtp)

    replies = [(await line.say("XYZZY"))[:3] for _ in range(3)]

    assert replies == ["500", "500", "421"]
    assert await line.ended()


async def test_a_browser_is_dropped_without_a_word(site: MailSite) -> None:
    line = await Line.open(site.smtp)
    line.write(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\nEHLO x\r\n")

    assert await line.reply() == ""


async def test_a_line_without_an_end_ends_the_connection(site: MailSite) -> None:
    line = await Line.open(site.smtp)
    line.write(b"x" * 1_000_000)

    assert (await line.reply())[:3] in {"500", ""}
    assert await line.ended()


async def test_many_errors_end_the_connection(site: MailSite) -> None:
    line = await Line.open(site.smtp)
    replies = [await line.say("DATA") for _ in range(20)]

    assert replies[-1].startswith("503")
    assert (await line.reply()).startswith("421")
    assert await line.ended()


async def test_a_peer_that_proves_nothing_is_cut_off_in_time(where: World, tmp_path: Path) -> None:
    async with mail_site(where, tmp_path, deadlines=Deadlines(untrusted_s=0.3)) as site:
        slow = await Line.open(site.smtp)
        for _ in range(50):
            if not (await slow.say("NOOP")).startswith("250"):
                break
            await asyncio.sleep(0.02)

        assert await slow.ended()


async def test_a_silent_operator_is_told_goodbye(where: World, tmp_path: Path) -> None:
    async with mail_site(where, tmp_path, deadlines=Deadlines(command_s=0.2)) as site:
        line = await operator_line(site, where.a)

        assert (await line.reply()).startswith("421 4.4.2")


@pytest.mark.parametrize("quick", [False, True])
async def test_data_that_does_not_come_ends_the_connection(
    where: World,
    tmp_path: Path,
    quick: bool,  # noqa: FBT001
) -> None:
    limits = DataLimits(100_000)
    reception = Reception(limits, idle_s=0.2, grace_s=60)
    if quick:
        reception = Reception(limits, idle_s=5, grace_s=0.3)
    async with mail_site(where, tmp_path, reception=reception) as site:
        line = await operator_line(site, where.a)
        await line.say(f"MAIL FROM:<{SENDER}>")
        await line.say(f"RCPT TO:<{DR}>")
        await line.say("DATA")
        line.write(b"x")
        if quick:
            await asyncio.sleep(0.2)
            line.write(b"y")

        assert (await line.reply()).startswith("421 4.4.2")
        assert await line.ended()
        assert not await site.inbox(DR)


async def test_a_handshake_that_does_not_come_ends_the_connection(
    where: World, tmp_path: Path
) -> None:
    async with mail_site(where, tmp_path, deadlines=Deadlines(handshake_s=0.2)) as site:
        line = await Line.open(site.smtp)
        await line.say("EHLO x.test")
        await line.say("STARTTLS")

        assert await line.ended()


async def test_a_peer_that_leaves_in_the_middle_leaves_nothing(site: MailSite) -> None:
    line = await operator_line(site, site.world.a)
    await line.say(f"MAIL FROM:<{SENDER}>")
    await line.say(f"RCPT TO:<{DR}>")
    await line.say("DATA")
    line.write(message(SENDER, DR))
    await line.writer.drain()
    line.close()
    other = await operator_line(site, site.world.a)

    assert (await send(other, message(SENDER, BOB, "other"), BOB)).startswith("250")
    assert not await site.inbox(DR)


async def test_connections_are_bounded(where: World, tmp_path: Path) -> None:
    fairness = Fairness(FairLimits(address_connections=2), time.monotonic)
    async with mail_site(where, tmp_path, fairness=fairness) as site:
        kept = [await Line.open(site.smtp) for _ in range(2)]
        reader, writer = await asyncio.open_connection("127.0.0.1", site.smtp)
        assert (await reader.readline()).startswith(b"421 4.7.0")
        writer.close()
        assert (await kept[0].say("QUIT")).startswith("221")
        assert await kept[0].ended()
        await asyncio.sleep(0.05)
        await Line.open(site.smtp)


async def test_a_stop_tells_the_idle_and_refuses_the_new(where: World, tmp_path: Path) -> None:
    async with mail_site(where, tmp_path) as site:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.smtp)
        await reader.readline()
        port = site.smtp

    assert (await reader.readline()).startswith(b"421 4.3.2")
    writer.close()
    with socket.socket() as closed:
        assert closed.connect_ex(("127.0.0.1", port)) != 0


async def test_a_crash_in_delivery_is_451_and_leaks_nothing(
    site: MailSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_self: object, _message: object) -> None:
        raise ValueError("ZZCANARY secret detail")

    monkeypatch.setattr(type(site.services.inbound), "accept", broken)
    line = await operator_line(site, site.world.a)

    reply = await send(line, message(SENDER, DR), DR)

    assert reply == "451 4.3.0 Local error, try again later\r\n"
    assert (await line.say("NOOP")).startswith("250")


async def test_refusals_of_an_operator_are_in_the_trail_once(site: MailSite) -> None:
    line = await operator_line(site, site.world.b)
    for _ in range(3):
        await line.say(f"MAIL FROM:<{SENDER}>")

    assert await site.store.audit.unsealed() == 1


def test_the_message_of_these_tests_is_sound() -> None:
    assert not scan(message(SENDER, DR)).anomalies
