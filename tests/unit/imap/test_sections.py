"""Sections of a message, held against the standard library.

Source: RFC 3501 §6.4.5.
"""

import email
import email.policy
from itertools import product

import pytest

from certs.mime import scan
from mailserver.imap.commands_messages import BodySection, SectionKind
from mailserver.imap.sections import Filtered, Span, Stored, locate, select_fields

PREFIX = (
    b"Return-Path: <a@b.test>\r\nReceived: from x\r\n by y; Mon, 2 Mar 2026 10:00:00 +0000\r\n"
)
INNER = (
    b"From: inner@b.test\r\nSubject: inside\r\n"
    b'Content-Type: multipart/alternative; boundary="in"\r\n\r\n'
    b"--in\r\nContent-Type: text/plain\r\n\r\nplain text\r\n"
    b"--in\r\nContent-Type: text/html\r\nX-Odd: 1\r\n\r\n<p>html</p>\r\n--in--\r\n"
)
BLOB = (
    b"From: A <a@b.test>\r\nTo: c@d.test\r\nSubject: a\r\n folded subject\r\nX-One: 1\r\n"
    b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="out"\r\n\r\n'
    b"preamble\r\n--out\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nfirst part\r\n"
    b"--out\r\nContent-Type: message/rfc822\r\nContent-Description: inner\r\n\r\n"
    + INNER
    + b"\r\n"
    b"--out\r\nContent-Type: application/octet-stream\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--out--\r\nepilogue\r\n"
)
SINGLE = b"From: a@b.test\r\nSubject: one\r\n\r\nonly\r\nbody\r\n"


def section(part=(), kind=SectionKind.WHOLE, fields=(), partial=None):
    names = frozenset(name.lower() for name in fields)
    return BodySection(b"", tuple(part), kind, names, partial, peek=True)


def stored(blob, prefix):
    outline = scan(blob)
    return Stored(prefix, outline.root.body_start, len(blob), lambda: outline)


def octets(wanted, blob=BLOB, prefix=PREFIX):
    place = locate(wanted, stored(blob, prefix))
    if place is None:
        return None
    if isinstance(place, Filtered):
        return select_fields(blob[place.start : place.start + place.length], wanted) + b"\r\n"
    if wanted.partial is not None:
        place = place.cut(*wanted.partial)
    found = place.head + blob[place.start : place.start + place.length]
    assert len(found) == place.octets
    return found


WHOLE = PREFIX + BLOB
HEADER, TEXT = WHOLE[: WHOLE.index(b"\r\n\r\n") + 4], WHOLE[WHOLE.index(b"\r\n\r\n") + 4 :]


def parsed(raw=WHOLE):
    return email.message_from_bytes(raw, policy=email.policy.compat32)


def body_of(message) -> bytes:
    return message.get_payload().encode("ascii")


def test_the_message_and_its_halves():
    assert octets(section()) == WHOLE
    assert octets(section(kind=SectionKind.HEADER)) == HEADER
    assert octets(section(kind=SectionKind.TEXT)) == TEXT


def test_parts_are_those_of_the_standard_library():
    message = parsed()
    assert octets(section([1])) == body_of(message.get_payload(0))
    assert octets(section([3])) == body_of(message.get_payload(2))
    inner = message.get_payload(1).get_payload(0)
    assert octets(section([2, 1])) == body_of(inner.get_payload(0))
    assert octets(section([2, 2])) == body_of(inner.get_payload(1))


def test_a_message_inside_is_given_whole_and_in_halves():
    cut = INNER.index(b"\r\n\r\n") + 4
    assert octets(section([2])) == INNER
    assert octets(section([2], SectionKind.HEADER)) == INNER[:cut]
    assert octets(section([2], SectionKind.TEXT)) == INNER[cut:]


def test_the_mime_header_of_a_part():
    assert (
        octets(section([1], SectionKind.MIME))
        == b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
    )
    assert (
        octets(section([2, 2], SectionKind.MIME)) == b"Content-Type: text/html\r\nX-Odd: 1\r\n\r\n"
    )
    assert octets(section([2], SectionKind.MIME)).startswith(b"Content-Type: message/rfc822\r\n")


def test_chosen_fields_come_from_prefix_and_message_with_their_folding():
    found = octets(section(kind=SectionKind.FIELDS, fields=[b"Subject", b"RECEIVED", b"x-none"]))
    assert found == (
        b"Received: from x\r\n by y; Mon, 2 Mar 2026 10:00:00 +0000\r\n"
        b"Subject: a\r\n folded subject\r\n\r\n"
    )


def test_fields_chosen_and_not_chosen_are_all_fields():
    names = [b"from", b"received", b"content-type"]
    chosen = octets(section(kind=SectionKind.FIELDS, fields=names))
    others = octets(section(kind=SectionKind.FIELDS_NOT, fields=names))
    assert sorted((chosen[:-2] + others[:-2]).split(b"\r\n")) == sorted(HEADER[:-2].split(b"\r\n"))
    assert b"X-One" in others
    assert b"X-One" not in chosen


def test_chosen_fields_of_a_message_inside():
    assert octets(section([2], SectionKind.FIELDS, [b"subject"])) == b"Subject: inside\r\n\r\n"


def test_an_odd_field_is_given_as_it_stands():
    blob = b"Subject : odd\r\nFrom: a@b\r\n\r\nx"
    assert (
        octets(section(kind=SectionKind.FIELDS, fields=[b"subject"]), blob, b"")
        == b"Subject : odd\r\n\r\n"
    )


def test_part_one_of_a_single_part_message_is_its_body():
    assert octets(section([1]), SINGLE) == b"only\r\nbody\r\n"
    assert (
        octets(section([1], SectionKind.MIME), SINGLE)
        == PREFIX + SINGLE[: SINGLE.index(b"\r\n\r\n") + 4]
    )


@pytest.mark.parametrize(
    "wanted",
    [
        section([4]),
        section([1, 1]),
        section([2, 3]),
        section([1], SectionKind.HEADER),
        section([3], SectionKind.TEXT),
        section([1], SectionKind.FIELDS, [b"from"]),
        section([1] * 100),
    ],
)
def test_a_part_that_is_not_there_is_nothing(wanted):
    assert octets(wanted) is None


@pytest.mark.parametrize(
    ("first", "count"),
    list(
        product(
            [
                0,
                1,
                len(PREFIX) - 1,
                len(PREFIX),
                len(PREFIX) + 1,
                len(WHOLE) - 1,
                len(WHOLE),
                10**12,
            ],
            [1, 2, 10, 10**12],
        )
    ),
)
def test_partials_are_slices(first, count):
    assert octets(section(partial=(first, count))) == WHOLE[first : first + count]


def test_a_message_without_a_body_has_an_empty_text():
    blob = b"Subject: x\r\n"
    assert octets(section(kind=SectionKind.TEXT), blob, b"") == b""
    assert octets(section(), blob, b"") == blob
    assert locate(section(), stored(b"", b"")) == Span(b"", 0, 0)
