"""Nobody but the server says where a message came from, and only that lets it be filed (RULES §4)."""

import asyncio
import imaplib
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from record_bridge import mdn
from record_bridge.formats import auth_results
from record_bridge.formats.auth_results import AuthResults
from record_bridge.opening import count_occurrences
from tests.support.bridge_site import (
    SENDER,
    BridgeSite,
    bridge_site,
    documents,
    letter,
    register,
    report,
    running,
    settled,
)
from tests.support.mail_site import APP, DR, PATIENT, SECRET, World


@pytest.fixture
async def site(where: World, tmp_path: Path) -> AsyncIterator[BridgeSite]:
    async with bridge_site(where, tmp_path) as opened:
        yield opened


def _append(port: int, folder: str, raw: bytes, *, then_copy: bool = False) -> str:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with imaplib.IMAP4_SSL("127.0.0.1", port, ssl_context=context) as client:
        client.login(APP, SECRET)
        answer = client.append(folder, "", "", raw)[0]
        if then_copy and answer == "OK":
            client.select(folder)
            client.copy("1", "INBOX")
        return answer


def _forged(receipt: str = "0123456789abcdef") -> bytes:
    """What the server writes before a message of operator A to the doctor and the patient."""
    results = AuthResults("mail.pli.test", operator_dn="CN=smtp.chu-a.test", mailfrom=SENDER)
    return (
        f"Return-Path: <{SENDER}>\r\nDelivered-To: {DR}\r\nDelivered-To: {PATIENT}\r\n"
        "Received: from smtp.chu-a.test by mail.pli.test\r\n"
        f" with ESMTPS id {receipt};\r\n Mon, 02 Nov 2026 10:00:00 +0000\r\n"
    ).encode() + auth_results.encode(results)


@pytest.mark.parametrize("folder", ["INBOX", "Drafts"])
@pytest.mark.parametrize("hidden_behind", [b"", b"Authentication-Results: a\r\n" * 899])
async def test_a_message_appended_with_a_forged_prefix_is_not_filed(
    site: BridgeSite, folder: str, hidden_behind: bytes
) -> None:
    raw = hidden_behind + _forged() + letter(1, report(1))
    async with running(site) as bridge:
        await register(bridge)

        answer = await asyncio.to_thread(
            _append, site.imaps, folder, raw, then_copy=folder != "INBOX"
        )
        await settled(site, bridge)

        assert await documents(bridge) == []
    entries = await site.entries(APP)
    assert answer == "NO" or ["$Quarantined" in each.keywords for each in entries] == [True]


async def test_an_appended_message_cannot_pass_for_one_that_waits(site: BridgeSite) -> None:
    async with running(site) as bridge:
        receipt = await site.receive(letter(1, report(1)), DR, PATIENT)
        await settled(site, bridge)

        await asyncio.to_thread(_append, site.imaps, "INBOX", _forged(receipt) + b"\r\nx\r\n")
        await settled(site, bridge)
        await register(bridge)
        await settled(site, bridge)

    (shown,) = await site.entries(PATIENT)
    assert "$Filed" in shown.keywords


async def test_a_report_that_comes_back_with_its_receipt_is_not_filed(site: BridgeSite) -> None:
    """The national form of a receipt holds the whole message: not a document of who answers."""
    back = mdn.build(
        mdn.MdnRequest(
            final_recipient=SENDER,
            send_to=DR,
            code=None,
            message_id="<mdn@chu-a.mssante.test>",
            at=datetime(2026, 11, 2, 10, 0, tzinfo=UTC),
            boundary="zzback",
            original_message_id="<m1@x.test>",
            original_subject="x",
            original=letter(1, report(1)),
            authserv_id="elsewhere.test",
        )
    )
    assert b"IHE_XDM.zip" in back
    async with running(site) as bridge:
        await register(bridge)

        await site.receive(back, DR, PATIENT)
        await settled(site, bridge)

        assert await documents(bridge) == []
    for address in (DR, APP, PATIENT):
        (entry,) = await site.entries(address)
        assert "$NoDocument" in entry.keywords


def test_only_what_a_notification_gives_back_is_left_out() -> None:
    inside = letter(1, report(1))

    def multipart(kind: str, *parts: bytes) -> bytes:
        body = b"".join(b"--zzo\r\n" + part + b"\r\n" for part in parts)
        return f"Content-Type: {kind}; boundary=zzo\r\n\r\n".encode() + body + b"--zzo--\r\n"

    forwarded = b"Content-Type: message/rfc822\r\n\r\n" + inside
    told = b"Content-Type: message/disposition-notification\r\n\r\nx: y\r\n"
    attached = inside[inside.index(b"Content-Type: multipart") :]

    assert count_occurrences(multipart("multipart/report", told, forwarded)) == 0
    assert count_occurrences(multipart("multipart/report", forwarded)) == 1
    assert count_occurrences(multipart("multipart/mixed", told, forwarded)) == 1
    assert count_occurrences(multipart("multipart/report", told, attached)) == 1
