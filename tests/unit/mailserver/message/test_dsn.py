"""Notifications as a strict reader sees them.

Source: RFC 3464 §2, RFC 3461 §6, RFC 6533 §3.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from certs.addresses import Mailbox, parse_addr_spec
from certs.mime import scan
from mailserver.message.dsn import RETURNED_FIELDS, Action, Failure, Notification, build
from mailserver.message.reports import DeliveryReport, read_report
from tests.support.dsn import NotADsnError, read_dsn

AT = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
ORIGINAL = (
    b"From: <dr@cab.test>\r\nTo: <x@loin.test>\r\nTo: <other@loin.test>\r\nSubject: CR\r\n"
    b"Message-ID: <m1@cab.test>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n\r\nTexte secret\r\n"
)


def notification(failure: Failure) -> Notification:
    return Notification(
        sender=Mailbox("Messagerie", parse_addr_spec("postmaster@op.test")),
        to=Mailbox("", parse_addr_spec("dr@cab.test")),
        message_id="<n1@op.test>",
        reporting_mta="mail.op.test",
        arrived_at=AT,
        at=AT + timedelta(hours=1),
        failure=failure,
        original=scan(ORIGINAL),
        envid="env 1",
    )


@pytest.mark.parametrize(
    ("action", "reply", "status"),
    [
        (Action.FAILED, "550 5.1.1 no such user", "5.1.1"),
        (Action.FAILED, "451 4.4.1 no answer", "5.4.1"),
        (Action.FAILED, "550 go away", "5.0.0"),
        (Action.FAILED, "", "5.0.0"),
        (Action.DELAYED, "451 4.4.1 no answer", "4.4.1"),
        (Action.DELAYED, "", "4.0.0"),
        (Action.RELAYED, "250 2.0.0 queued", "2.0.0"),
        (Action.DELIVERED, "", "2.0.0"),
        (Action.DELIVERED, "250 4.2.2 odd", "2.0.0"),
    ],
)
def test_every_kind_of_notification_is_what_the_specification_says(
    action: Action, reply: str, status: str
) -> None:
    until = AT + timedelta(days=5) if action is Action.DELAYED else None
    failure = Failure("x@loin.test", reply, "mx.loin.test", action, "rfc822;X@loin.test", until)
    raw = build(notification(failure))

    dsn = read_dsn(raw)

    assert dsn.message["Original-Envelope-Id"] == "env 1"
    assert dsn.message["Reporting-MTA"] == "dns; mail.op.test"
    (fields,) = dsn.recipients
    assert fields["Final-Recipient"] == "rfc822; x@loin.test"
    assert fields["Original-Recipient"] == "rfc822; X@loin.test"
    assert (fields["Action"], fields["Status"]) == (action.value, status)
    assert fields.get("Diagnostic-Code") == (f"smtp; {reply}" if reply else None)
    assert ("Will-Retry-Until" in fields) is (action is Action.DELAYED)
    report = read_report(raw, scan(raw))
    assert isinstance(report, DeliveryReport)
    assert report.original_message_id == "<m1@cab.test>"


def test_nothing_of_the_body_and_no_other_recipient_comes_back() -> None:
    raw = build(notification(Failure("x@loin.test", "550 5.1.1 no")))
    dsn = read_dsn(raw)

    assert b"secret" not in raw
    assert b"other@loin.test" not in raw
    assert {line.split(b":")[0].decode() for line in dsn.returned.strip().splitlines()} == set(
        RETURNED_FIELDS
    )


def test_a_message_that_cannot_be_read_any_more_is_told_of_all_the_same() -> None:
    raw = build(replace(notification(Failure("x@loin.test", "550 no")), original=None, envid=""))

    assert read_dsn(raw).recipients[0]["Action"] == "failed"


@pytest.mark.parametrize(
    "reply",
    [
        "550 5.1.1 a\r\n\r\nFinal-Recipient: rfc822; evil@loin.test",
        "550 5.1.1 \x00\x07é\u2028x",
        "550 5.1.1 " + "x" * 5000,
        "550 5.1.1 --=_boundary--",
    ],
)
def test_what_a_peer_says_cannot_break_a_notification(reply: str) -> None:
    dsn = read_dsn(build(notification(Failure("x@loin.test", reply, "mx\r\nAction: x"))))

    assert len(dsn.recipients) == 1
    assert dsn.recipients[0]["Final-Recipient"] == "rfc822; x@loin.test"


def test_a_recipient_that_is_not_ascii_is_written_as_utf_8() -> None:
    raw = build(notification(Failure("hélène@loin.test", "550 5.1.1 no")))
    dsn = read_dsn(raw)

    assert b"message/global-delivery-status" in raw
    assert dsn.recipients[0]["Final-Recipient"] == "utf-8; hélène@loin.test"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Action: failed", b"Action: lost"),
        (b"Status: 5.1.1", b"Status: 2.1.1"),
        (b"Status: 5.1.1", b"Status: 5.1"),
        (b"Reporting-MTA: dns; mail.op.test\r\n", b""),
        (b"Final-Recipient: rfc822; x@loin.test\r\n", b""),
        (b"Action: failed\r\nStatus: 5.1.1", b"Status: 5.1.1\r\nAction: failed"),
        (b"report-type=delivery-status", b"report-type=disposition"),
        (b"Auto-Submitted: auto-replied\r\n", b""),
    ],
)
def test_the_strict_reader_is_strict(old: bytes, new: bytes) -> None:
    raw = build(notification(Failure("x@loin.test", "550 5.1.1 no")))
    read_dsn(raw)
    assert old in raw

    with pytest.raises(NotADsnError):
        read_dsn(raw.replace(old, new))
