"""What stands before a message, and what is cut out of it.

Source: RFC 5321 §4.4, RFC 3848 §1, RFC 8601 §5.
"""

from datetime import UTC, datetime

import pytest

from certs.mime import scan
from mailserver.delivery.trace import Trace, cut, is_stranger, prefix, received
from record_bridge.formats.auth_results import AuthResults

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SERV = "mail.us.test"
TRACE = Trace("r1", "mail.us.test", "a@b.test", "mx.b.test", "ESMTPS", AuthResults(SERV), AT)


def test_a_prefix_is_whole_lines_in_the_order_of_a_trace():
    written = prefix(TRACE, ["x@us.test", "y@us.test"])

    assert [field.name for field in scan(written).header] == [
        "Return-Path",
        "Delivered-To",
        "Delivered-To",
        "Received",
        "Authentication-Results",
    ]
    assert written.endswith(b"\r\n")
    assert received(TRACE) == (
        b"Received: from mx.b.test by mail.us.test\r\n with ESMTPS id r1;\r\n"
        b" Fri, 02 Jan 2026 03:04:05 +0000\r\n"
    )


@pytest.mark.parametrize(
    "helo", ["evil)\r\nX: y", "a b", "é.test", "", "x" * 256, "a\0b", "(x)", "a;b"]
)
def test_a_helo_that_is_no_host_name_is_not_written(helo):
    trace = Trace("r1", "h.test", "", helo, "ESMTPS", None, AT)

    assert received(trace).startswith(b"Received: from unknown by h.test\r\n")


@pytest.mark.parametrize("helo", ["mx.b.test", "[192.0.2.1]", "[IPv6:2001:db8::1]", "x" * 255])
def test_a_helo_that_is_one_is_written(helo):
    trace = Trace("r1", "h.test", "", helo, "ESMTPS", None, AT)

    assert received(trace).startswith(b"Received: from %b by" % helo.encode())


def test_a_message_with_nothing_to_cut_is_the_same_object():
    raw = b"A: b\r\n\r\nx"

    assert cut(raw, scan(raw), is_stranger(SERV)) is raw


@pytest.mark.parametrize(
    "field",
    [
        b"Return-Path: <a@b.test>\r\n",
        b"RETURN-PATH : <a@b.test>\r\n",
        b"Delivered-To: x\r\n folded\r\n",
        b"Authentication-Results: mail.us.test; x=pass\r\n",
        b"Authentication-Results: MAIL.us.TEST; x=pass\r\n",
        b"authentication-results:\r\n mail.us.test\r\n\t; x=pass\r\n",
        b"Authentication-Results: (c) mail.us.test 1; x=pass\r\n",
        b'Authentication-Results: "mail.us.test"; x=pass\r\n',
        b"Authentication-Results\r\n : mail.us.test; x=pass\r\n",
        b"Authentication-Results\t:mail.us.test\r\n",
    ],
)
@pytest.mark.parametrize(
    ("before", "after"),
    [(b"", b"A: b\r\n"), (b"A: b\r\n", b""), (b"A: b\r\n", b"C: d\r\n\te\r\n")],
)
def test_a_strangers_field_is_cut_wherever_it_stands(field, before, after):
    raw = before + field + after + b"\r\nReturn-Path: in the body\r\n"

    kept = cut(raw, scan(raw), is_stranger(SERV))
    assert kept == before + after + b"\r\nReturn-Path: in the body\r\n"


@pytest.mark.parametrize(
    "field",
    [
        b"Authentication-Results: other.test; x=pass\r\n",
        b"Authentication-Results: mail.us.test.evil.test; x=pass\r\n",
        b"X-MSS-INS: O\r\n",
        b"Received: by mail.us.test\r\n",
        b"X-Return-Path: x\r\n",
    ],
)
def test_what_is_not_on_the_list_stays(field):
    raw = field + b"\r\nx"

    assert cut(raw, scan(raw), is_stranger(SERV)) is raw
