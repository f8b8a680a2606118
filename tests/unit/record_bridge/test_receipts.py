"""What the receiving server wrote before a message."""

import hashlib
from datetime import UTC, datetime

import pytest

from record_bridge.receipts import receipt_of, received_at

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
TOP = (
    b"Return-Path: <a@b.test>\r\nDelivered-To: id@x.test\r\n"
    b"Received: from id by mail.test\r\n with ESMTPS id R123-45;\r\n"
    b" Mon, 02 Nov 2026 11:00:00 +0100\r\n"
)
BODY = b"Received: by other with SMTP id FORGED1; Mon, 02 Nov 2026 01:00:00 +0000\r\n\r\nx"


def test_only_the_topmost_received_field_gives_the_receipt() -> None:
    assert receipt_of(TOP + BODY) == "R123-45"
    assert received_at(TOP + BODY, NOW) == datetime(2026, 11, 2, 10, tzinfo=UTC)


def test_a_header_without_a_body_gives_it_too() -> None:
    assert receipt_of(TOP) == "R123-45"


@pytest.mark.parametrize(
    "raw",
    [
        b"Subject: x\r\n\r\nReceived: by x id R1234; Mon, 02 Nov 2026 11:00:00 +0100\r\n",
        b"Received: by mail.test id R12; Mon, 02 Nov 2026 11:00:00\r\n\r\n",
        b"Received: by mail.test; id R1234\r\n\r\n",
        b"\r\nReceived: by x id R1234; Mon, 02 Nov 2026 11:00:00 +0100\r\n",
        b"Subject: x\r\n\r\n",
        b"Received: by mail.test; nonsense\r\n\r\n",
        b"",
    ],
)
def test_without_one_the_digest_stands_for_it(raw: bytes) -> None:
    assert receipt_of(raw) == f"sha256:{hashlib.sha256(raw).hexdigest()}"
    assert receipt_of(raw) != receipt_of(raw + b"x")
    assert received_at(raw, NOW) == NOW


def test_a_message_from_the_future_was_received_now() -> None:
    raw = TOP.replace(b"2026", b"2031") + BODY

    assert received_at(raw, NOW) == NOW
