"""Delivery status and disposition notifications, written and read.

Source: RFC 3462 §1, RFC 3464 §2, RFC 8098 §3.
"""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from certs.addresses import Address, Mailbox
from certs.mime import scan
from mailserver.message.dsn import Failure, Notification, build
from mailserver.message.reports import (
    ApplicationError,
    DeliveryReport,
    DispositionReport,
    read_report,
)

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ORIGINAL = (
    b"From: zoe@b.test\r\nTo: one@c.test, two@c.test\r\nCc: three@c.test\r\n"
    b"Subject: =?utf-8?q?=C3=A9t=C3=A9?=\r\nMessage-ID: <1@b.test>\r\n\r\nsecret body\r\n"
)
NOTIFICATION = Notification(
    sender=Mailbox("Messagerie", Address("postmaster", "op.test")),
    to=Mailbox("", Address("zoe", "b.test")),
    message_id="<n@op.test>",
    reporting_mta="mail.op.test",
    arrived_at=AT,
    at=AT,
    failure=Failure("one@c.test", "550 5.1.1 No such\r\nmailbox é", "mx.c.test"),
    original=scan(ORIGINAL),
)


def test_a_notification_reads_back():
    raw = build(NOTIFICATION)
    report = read_report(raw, scan(raw))

    assert isinstance(report, DeliveryReport)
    (recipient,) = report.recipients
    assert report.reporting_mta == "mail.op.test"
    assert report.original_message_id == "<1@b.test>"
    assert (recipient.final_recipient, recipient.action, recipient.status) == (
        *("one@c.test", "failed"),
        "5.1.1",
    )
    assert recipient.diagnostic == "550 5.1.1 No such mailbox"


def test_a_notification_names_no_other_recipient_and_no_body():
    raw = build(NOTIFICATION)

    assert b"two@c.test" not in raw
    assert b"three@c.test" not in raw
    assert b"secret body" not in raw


def test_a_notification_is_sound_mail():
    raw = build(NOTIFICATION)
    outline = scan(raw)

    assert outline.anomalies == frozenset()
    assert raw.isascii()
    assert outline.text("auto-submitted") == "auto-replied"
    assert outline.root.param("report-type") == "delivery-status"
    assert [part.type for part in outline.root.children] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ("550 5.7.1 no", "5.7.1"),
        ("451 4.4.1 later", "5.4.1"),
        ("550 no", "5.0.0"),
        ("", "5.0.0"),
        ("250 2.0.0 odd", "5.0.0"),
    ],
)
def test_a_failure_has_a_permanent_status(reply, status):
    assert Failure("a@b.test", reply).status == status


def test_a_notification_without_its_original_is_still_sent():
    raw = build(replace(NOTIFICATION, original=None, failure=Failure("one@c.test", "")))
    report = read_report(raw, scan(raw))

    assert isinstance(report, DeliveryReport)
    assert report.original_message_id == ""
    assert report.recipients[0].diagnostic == ""


def mdn(fields: str) -> bytes:
    return (
        (
            "Content-Type: multipart/report; report-type=disposition-notification; boundary=b\n\n"
            "--b\n\ntext\n--b\nContent-Type: message/disposition-notification\n\n"
            f"{fields}\n--b--\n"
        )
        .replace("\n", "\r\n")
        .encode()
    )


def test_a_positive_disposition_is_read():
    raw = mdn(
        "Reporting-UA: x\nFinal-Recipient: rfc822; a@b.test\nOriginal-Message-ID: <1@c.test>\n"
        "Disposition: automatic-action/MDN-sent-automatically; processed\n"
    )

    assert read_report(raw, scan(raw)) == DispositionReport(
        "a@b.test", "<1@c.test>", "processed", (), ()
    )


@pytest.mark.parametrize(
    "fields",
    [
        (
            "Disposition: automatic-action/MDN-sent-automatically; processed/error\n"
            "Error: 902^Identifiant de patient inconnu^applicationErrorCondition|E^Error^errorSeverity\n"
        ),
        (
            "Disposition: automatic-action/MDN-sent-automatically; processed/error:\n"
            " 902^Identifiant de patient inconnu^messageErrorCondition|E^Error^errorSeverity\n"
        ),
    ],
    ids=["error-field", "older-form"],
)
def test_a_coded_error_is_read_in_both_forms(fields):
    raw = mdn("Final-Recipient: rfc822; a@b.test\n" + fields)
    report = read_report(raw, scan(raw))

    assert isinstance(report, DispositionReport)
    assert report.disposition == "processed"
    assert report.errors == (ApplicationError("902", "Identifiant de patient inconnu"),)


def test_a_report_inside_a_signature_is_read():
    inner = mdn("Final-Recipient: rfc822; a@b.test\nDisposition: a/b; displayed\n")
    raw = (
        b"Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n"
        + inner
        + b"\r\n--s\r\nContent-Type: application/pkcs7-signature\r\n\r\nx\r\n--s--\r\n"
    )
    report = read_report(raw, scan(raw))

    assert isinstance(report, DispositionReport)
    assert report.disposition == "displayed"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"Subject: x\r\n\r\nbody",
        b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b--\r\n",
        (
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
            b"Content-Type: message/delivery-status\r\n\r\nAction: failed\r\n--b--\r\n"
        ),
        b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n",
    ],
)
def test_what_is_no_report_is_none(raw):
    assert read_report(raw, scan(raw)) is None
