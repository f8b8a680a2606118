"""Messages made to cost: each is read within a second of CPU (threats S19).

The bound is generous for a loaded machine; what it must catch is quadratic work, which took 24
seconds for 64 kB of quotes before.
"""

import contextlib
import time

import pytest

from certs.addresses import parse_address_list
from certs.errors import MalformedAddressError
from certs.mime import Anomaly, MimeLimits, scan
from mailserver.delivery.prepare import prepare
from mailserver.message.headers import list_addresses
from mailserver.message.index import index

SECONDS = 1.0
MIXED = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
BOMBS = {
    "delimiters": lambda: MIXED + b"--b\r\n" * 5_000_000,
    "false-delimiters": lambda: MIXED + b"--bx\r\n" * 4_000_000,
    "blank-lines": lambda: MIXED + b"\r\n" * 12_000_000,
    "deep-multiparts": lambda: (
        b"".join(
            b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n)
            for n in range(10_000)
        )
        + b"x\r\n" * 5_000_000
    ),
    "deep-messages": lambda: (
        b"Content-Type: message/rfc822\r\n\r\n" * 10_000 + b"x\r\n" * 5_000_000
    ),
    "million-addresses": lambda: b"To: " + b"a@b.test," * 1_000_000 + b"\r\n\r\n",
    "addresses-in-every-part": lambda: (
        MIXED
        + (
            b"--b\r\nContent-Type: message/rfc822\r\n\r\nFrom: "
            + b"a@b.test," * 2000
            + b"\r\n\r\n"
        )
        * 990
    ),
    "fields-in-every-part": lambda: MIXED + (b"--b\r\n" + b"X: y\r\n" * 1999 + b"\r\n\r\n") * 990,
    "million-fields": lambda: b"A: b\r\n" * 1_000_000 + b"\r\n",
    "continued-parameters": lambda: (
        b"Content-Type: text/plain"
        + b"".join(b";a*%d=x" % n for n in range(100_000))
        + b"\r\n\r\n"
    ),
    "comments-in-type": lambda: b"Content-Type: " + b"()" * 120_000 + b"\r\n\r\n",
    "escapes-in-parameter": lambda: b'Content-Type: a/b;a="' + b'\\"' * 120_000 + b"\r\n\r\n",
    "encoded-words": lambda: b"Subject: " + b"=?utf-8?q?a?= " * 30_000 + b"\r\n\r\n",
    "open-encoded-words": lambda: b"Subject: " + b"=?a?q?" * 70_000 + b"\r\n\r\n",
    "quotes": lambda: b'To: "' + b'\\"' * 32_000 + b"\r\n\r\n",
    "results-escapes": lambda: b"Authentication-Results: (" + b"\\(" * 60_000 + b"\r\n\r\n",
    "results-nested": lambda: (
        (b"Authentication-Results: " + b"(" * 4000 + b")" * 4000 + b"\r\n") * 15 + b"\r\n"
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_indexed_and_prepared_within_a_second(name):
    raw = BOMBS[name]()

    started = time.process_time()
    index(raw)
    prepare(raw, "mail.us.test")
    assert time.process_time() - started < 2 * SECONDS


@pytest.mark.parametrize(
    "value",
    [
        b'"' + b'\\"' * 32_000,
        b"(" + b"\\(" * 32_000,
        b"(a" * 32_000,
        b'<"' * 32_000,
        b"<" + b'"a"' * 21_000,
        b"<a" * 32_000,
        b"," * 64_000,
        b"a:" * 32_000,
        b"a b " * 16_000,
    ],
    ids=range(9),
)
def test_a_field_of_addresses_is_read_within_a_second(value):
    started = time.process_time()
    list_addresses(value)
    with contextlib.suppress(MalformedAddressError):
        parse_address_list(value)
    assert time.process_time() - started < SECONDS


@pytest.mark.parametrize(("parts", "refused"), [(9, False), (10, False), (11, True), (900, True)])
def test_the_fields_of_all_parts_together_are_bracketed(parts, refused):
    raw = MIXED + (b"--b\r\n" + b"X: y\r\n" * 10 + b"\r\n\r\n") * parts + b"--b--\r\n"

    outline = scan(raw, MimeLimits(all_fields=1 + 10 * 9 + 1))
    assert (Anomaly.TOO_MANY_PARTS in outline.anomalies) is refused


def test_a_message_shows_five_thousand_addresses_in_all():
    many = b"From: " + b"a@b.test," * 900 + b"\r\n"
    raw = MIXED + (b"--b\r\nContent-Type: message/rfc822\r\n\r\n" + many + b"\r\n\r\n") * 9

    # Sender and Reply-To repeat From: three lists for each of the first five and a half messages.
    assert index(raw).body.count(b'"b.test"') == 3 * 5000
