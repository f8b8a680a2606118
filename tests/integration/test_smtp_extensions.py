"""What EHLO offers beyond RFC 5321, each kept: SMTPUTF8, REQUIRETLS, LIMITS, AUTH=, DSN, SIZE.

Source: RFC 6531 §3.1, RFC 8689 §3, RFC 9422 §3, RFC 4954 §5, RFC 6533 §3, RFC 1870 §4.
"""

import hashlib
from base64 import b64encode
from pathlib import Path

import pytest

from mailserver.message.envelope import MailOptions, Notify, RecipientOptions
from mailserver.smtp.listener import DEFAULT_SIZE_LIMIT
from tests.support.capture_peer import OFFER, CapturePeer, capture
from tests.support.dsn import read_dsn
from tests.support.mail_site import (
    DR,
    SECRET,
    A,
    Line,
    MailSite,
    World,
    mail_site,
    message,
    operator_line,
)
from tests.support.outbound import TO, peer_tls, submit, worker

SENDER = f"service@{A}"
ABROAD = f"secrétariat@{A}"
UTF8 = MailOptions(smtputf8=True)
EVERYTHING = (*OFFER, "SMTPUTF8", "REQUIRETLS")


async def client(site: MailSite) -> Line:
    line = await Line.open(site.submissions, site.world.client_tls(None))
    await line.say("EHLO poste.test")
    secret = b64encode(f"\0{DR}\0{SECRET}".encode()).decode()
    assert (await line.say(f"AUTH PLAIN {secret}")).startswith("235")
    return line


async def send(line: Line, mail: str, rcpt: str, body: bytes) -> str:
    for command in (f"MAIL FROM:{mail}", f"RCPT TO:{rcpt}", "DATA"):
        reply = await line.say(command)
        if reply[0] not in "23":
            return reply
    line.write(body + b".\r\n")
    return await line.reply()


async def test_what_is_offered_before_and_after_tls(site: MailSite) -> None:
    line = await Line.open(site.smtp)
    before = await line.say("EHLO x.test")
    after = await (await operator_line(site, site.world.a)).say("EHLO x.test")
    login = await (await client(site)).say("EHLO x.test")

    for offered in (before, after, login):
        words = {each[4:].rstrip() for each in offered.splitlines()}
        assert {"SMTPUTF8", "8BITMIME", "DSN", "PIPELINING", "ENHANCEDSTATUSCODES"} <= words
        assert f"SIZE {DEFAULT_SIZE_LIMIT}" in words
        assert "LIMITS RCPTMAX=100" in words
        assert not any(word.startswith(("CHUNKING", "BINARYMIME")) for word in words)
    # RFC 8689 §3: never in clear.
    assert ["REQUIRETLS" in each for each in (before, after, login)] == [False, True, True]


async def test_mail_from_a_utf8_address_is_delivered_under_its_name(site: MailSite) -> None:
    line = await operator_line(site, site.world.a)
    body = message(ABROAD, DR)

    assert (await send(line, f"<{ABROAD}> SMTPUTF8", f"<{DR}>", body)).startswith("250")
    raw = await site.raw(DR)
    assert raw.startswith(f"Return-Path: <{ABROAD}>\r\n".encode())
    assert b"with UTF8SMTPS id" in raw
    assert raw.endswith(body)


async def test_a_domain_may_be_said_in_u_labels(where: World, tmp_path: Path) -> None:
    async with mail_site(where, tmp_path) as site:
        line = await operator_line(site, where.a)

        said = await line.say("MAIL FROM:<a@hôpital.test> SMTPUTF8")
        assert said.startswith("550 5.7.1")  # read, and not on the list
        assert (await line.say(f"MAIL FROM:<{SENDER}> SMTPUTF8")).startswith("250")
        assert (await line.say("RCPT TO:<é@cabinet.mssante.test>")).startswith("550 5.1.1")
        assert (await line.say("RCPT TO:<dr@hôpital.test>")).startswith("550 5.7.1")


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (f"MAIL FROM:<{ABROAD}>", "553 5.6.7"),
        (f"MAIL FROM:<{SENDER}> SMTPUTF8=yes", "501 5.5.4"),
        (f"MAIL FROM:<cafe\u0301@{A}> SMTPUTF8", "553 5.1.7"),  # not NFC
        (f"MAIL FROM:<a\u200bé@{A}> SMTPUTF8", "553 5.1.7"),  # a blank that does not show
        (f"MAIL FROM:<mаnager@{A}> SMTPUTF8", "553 5.1.7"),  # a Cyrillic letter among Latin ones
        (f"MAIL FROM:<a\u202eé@{A}> SMTPUTF8", "553 5.1.7"),
        ("MAIL FROM:<a@straße.test> SMTPUTF8", "553 5.1.7"),  # IDNA 2003 makes another name of it
        (f"MAIL FROM:<{SENDER}> REQUIRETLS=1", "501 5.5.4"),
        (f"MAIL FROM:<{SENDER}> BODY=BINARYMIME", "501 5.5.4"),
        (f"MAIL FROM:<{SENDER}> AUTH=<>", "555 5.5.4"),
        (f"MAIL FROM:<{SENDER}>\u00a0SMTPUTF8", "501 5.5.4"),
        ("NOOP é", "500 5.5.2"),
        ("VRFY é SMTPUTF8", "252 2.1.5"),
        ("BDAT 10", "502 5.5.1"),
    ],
)
async def test_what_is_refused(site: MailSite, command: str, reply: str) -> None:
    line = await operator_line(site, site.world.a)

    assert (await line.say(command)).startswith(reply)


async def test_a_recipient_of_a_transaction_without_smtputf8_is_ascii(site: MailSite) -> None:
    line = await operator_line(site, site.world.a)
    await line.say(f"MAIL FROM:<{SENDER}>")

    assert (await line.say("RCPT TO:<é@cabinet.mssante.test>")).startswith("553 5.6.7")
    line.write(b"RCPT TO:<\xff@cabinet.mssante.test>\r\n")
    assert (await line.reply()).startswith("500 5.5.2")


async def test_requiretls_is_taken_under_tls_only(site: MailSite) -> None:
    clear = await Line.open(site.smtp)
    await clear.say("EHLO x.test")
    line = await operator_line(site, site.world.a)

    assert (await clear.say(f"MAIL FROM:<{SENDER}> REQUIRETLS")).startswith("555 5.5.4")
    reply = await send(line, f"<{SENDER}> REQUIRETLS", f"<{DR}>", message(SENDER, DR))
    assert reply.startswith("250")


@pytest.mark.parametrize(
    ("value", "reply"),
    [
        ("<>", "250"),
        ("e+3Dmc2@example.com", "250"),
        ("", "501 5.5.4"),
        ("nobody", "501 5.5.4"),
        ("a+zz@example.com", "501 5.5.4"),
        ("x" * 489 + "@example.com", "501 5.5.4"),
    ],
)
async def test_auth_on_mail_is_read_and_not_believed(
    site: MailSite, value: str, reply: str
) -> None:
    line = await client(site)

    assert (await line.say(f"MAIL FROM:<{DR}> AUTH={value}")).startswith(reply)


async def test_smtputf8_and_requiretls_go_with_a_message_to_its_next_server(
    site: MailSite,
) -> None:
    peer = CapturePeer(offer=EVERYTHING)
    line = await client(site)
    body = message(DR, ABROAD).replace(b"Essai", "Résultats".encode())
    wish = "NOTIFY=FAILURE ORCPT=utf-8;secrétariat@chu-a.mssante.test"
    reply = await send(line, f"<{DR}> SMTPUTF8 REQUIRETLS", f"<{ABROAD}> {wish}", body)
    async with capture(peer, peer_tls(site, site.world.a)) as port:
        await worker(site, port).send_due()

    assert reply.startswith("250")
    (taken,) = peer.taken
    assert {"SMTPUTF8", "REQUIRETLS"} <= set(taken.mail.split())
    assert taken.recipients == (
        f"RCPT TO:<{ABROAD}> NOTIFY=FAILURE ORCPT=utf-8;secr\\x{{E9}}tariat@chu-a.mssante.test",
    )
    assert "Subject: Résultats\r\n".encode() in taken.octets
    assert b"with UTF8SMTPSA id" in taken.octets


async def test_what_is_ascii_throughout_needs_no_server_with_smtputf8(site: MailSite) -> None:
    peer = CapturePeer()
    await submit(site, options=UTF8)
    async with capture(peer, peer_tls(site, site.world.a)) as port:
        await worker(site, port).send_due()

    assert len(peer.taken) == 1
    assert "SMTPUTF8" not in peer.taken[0].mail


async def test_a_server_without_smtputf8_gets_the_ascii_recipients_only(site: MailSite) -> None:
    peer = CapturePeer()
    await submit(site, to=(TO, ABROAD), options=UTF8)
    async with capture(peer, peer_tls(site, site.world.a)) as port:
        await worker(site, port).send_due()

    (taken,) = peer.taken
    assert [each.split(" NOTIFY")[0] for each in taken.recipients] == [f"RCPT TO:<{TO}>"]
    notice = read_dsn(await site.raw(DR))
    assert (notice.recipients[0]["Status"], notice.recipients[0]["Action"]) == ("5.6.7", "failed")


async def test_a_message_that_requires_tls_is_not_given_to_a_server_without(
    site: MailSite,
) -> None:
    peer = CapturePeer()
    await submit(site, options=MailOptions(require_tls=True))
    async with capture(peer, peer_tls(site, site.world.a)) as port:
        await worker(site, port).send_due()

    assert not peer.taken
    assert read_dsn(await site.raw(DR)).recipients[0]["Status"] == "5.7.30"


async def test_a_notification_of_a_message_that_required_tls_requires_it_too(
    site: MailSite,
) -> None:
    line = await operator_line(site, site.world.a)
    reply = await send(
        line, f"<{SENDER}> REQUIRETLS", f"<{DR}> NOTIFY=SUCCESS", message(SENDER, DR)
    )
    peer = CapturePeer(offer=EVERYTHING)
    async with capture(peer, peer_tls(site, site.world.a)) as port:
        await worker(site, port).send_due()

    assert reply.startswith("250")
    assert "REQUIRETLS" in peer.taken[0].mail.split()


@pytest.mark.parametrize("text", [998, 999, 100_000])
async def test_a_long_line_leaves_in_lines_that_every_server_takes(
    site: MailSite, text: int
) -> None:
    """It is encoded again before it is signed, so nobody on the way has to cut it."""
    peer = CapturePeer()
    line = await client(site)
    long = hashlib.sha256(b"x").hexdigest().encode() * (text // 64 + 1)
    reply = await send(line, f"<{DR}>", f"<{TO}>", message(DR, TO) + long[:text] + b"\r\n")
    async with capture(peer, peer_tls(site, site.world.a)) as port:
        await worker(site, port).send_due()

    assert reply.startswith("250")
    (taken,) = peer.taken
    assert max(map(len, taken.octets.split(b"\r\n"))) <= 998
    joined = taken.octets.replace(b"=\r\n", b"")
    assert long[:text] in joined


@pytest.mark.parametrize(
    ("more", "reply"), [(0, "250 2.0.0"), (1, "552 5.3.4"), (DEFAULT_SIZE_LIMIT, "552 5.3.4")]
)
async def test_25_mb_is_the_default_exactly(site: MailSite, more: int, reply: str) -> None:
    line = await operator_line(site, site.world.a)
    body = message(SENDER, DR, f"{more}")
    fill = b"x" * 76 + b"\r\n"
    body += fill * ((DEFAULT_SIZE_LIMIT - len(body)) // 78 - 1)
    body += b"y" * (DEFAULT_SIZE_LIMIT - len(body) - 2 + more) + b"\r\n"

    assert len(body) == DEFAULT_SIZE_LIMIT + more
    assert (await send(line, f"<{SENDER}>", f"<{DR}>", body)).startswith(reply)


@pytest.mark.parametrize(
    ("parameters", "reply"),
    [
        ("NOTIFY=NEVER", "250"),
        ("NOTIFY=SUCCESS,FAILURE,DELAY", "250"),
        ("NOTIFY=NEVER,FAILURE", "501"),
        ("NOTIFY=SUCCESS,SUCCESS", "501"),
        ("NOTIFY=", "501"),
        ("ORCPT=rfc822;a+2Bb@x.test", "250"),
        ("ORCPT=utf-8;\\x{E9}@x.test", "250"),
        ("ORCPT=x.test", "501"),
        ("ORCPT=rfc822;" + "x" * 500, "250"),
        ("ORCPT=rfc822;" + "x" * 501, "501"),
        ("SIZE=1", "555"),
    ],
)
async def test_dsn_parameters_of_rcpt(site: MailSite, parameters: str, reply: str) -> None:
    line = await operator_line(site, site.world.a)
    await line.say(f"MAIL FROM:<{SENDER}> RET=HDRS ENVID=e+2B1")

    assert (await line.say(f"RCPT TO:<{DR}> {parameters}")).startswith(reply)


def test_an_orcpt_in_utf8_is_kept_in_its_ascii_form() -> None:
    from mailserver.message.envelope import parse_recipient_options

    found = parse_recipient_options({"ORCPT": "UTF-8;é€@x.test", "NOTIFY": "DELAY"})

    assert found == RecipientOptions(frozenset({Notify.DELAY}), "utf-8;\\x{E9}\\x{20AC}@x.test")
