"""The strict address reader: identity is never guessed.

Source: RFC 5322 §3.4, RFC 5321 §4.1.2.
"""

import pytest

from certs.addresses import (
    MAX_ADDRESSES,
    Address,
    parse_addr_spec,
    parse_address_list,
    parse_domain,
    parse_mailbox,
    parse_utf8_addr_spec,
    single_from,
)
from certs.errors import MalformedAddressError
from certs.mime import scan


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("dr.a@chu-a.mssante.test", "dr.a@chu-a.mssante.test"),
        ("Dr.A@CHU-A.MSSante.Test", "Dr.A@chu-a.mssante.test"),
        ('"dr.a"@a.test', "dr.a@a.test"),
        ("x%y@a.test", "x%y@a.test"),
        ("o'brien+x@a.test", "o'brien+x@a.test"),
        ("a@xn--caf-dma.test", "a@xn--caf-dma.test"),
        (b"a@b.c", "a@b.c"),
    ],
)
def test_an_address_is_read(text, address):
    assert parse_addr_spec(text).text == address


def test_addresses_compare_without_case():
    assert parse_addr_spec("Dr.A@A.test").key == "dr.a@a.test"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a@",
        "@a.test",
        "a@b",
        "a@a.test.",
        "a@.test",
        "a..b@a.test",
        ".a@a.test",
        "a.@a.test",
        '""@a.test',
        '"x@X"@a.test',
        '"a b"@a.test',
        "x@x@a.test",
        "@a.test:x@b.test",
        "a!x",
        "a@[127.0.0.1]",
        "a@[IPv6:::1]",
        "é@a.test",
        "a@é.test",
        "a@chu-a.mssante.test\0.evil.test",
        "a@-a.test",
        "a@a-.test",
        "a@a_b.test",
        "a @a.test",
        "a@a.test ",
        "<a@a.test>",
        "a@a.test)b@evil.test",
        "a\r\n@a.test",
        "a@a.test\n",
        b"a\xc3\xa9@a.test",
    ],
)
def test_what_two_readers_could_read_in_two_ways_is_refused(text):
    with pytest.raises(MalformedAddressError) as caught:
        parse_addr_spec(text)

    assert str(caught.value) == "not a well-formed address"


@pytest.mark.parametrize(("length", "good"), [(63, True), (64, True), (65, False), (9999, False)])
def test_the_length_of_a_local_part_is_bracketed(length, good):
    text = "a" * length + "@a.test"
    if good:
        assert parse_addr_spec(text).local == "a" * length
    else:
        with pytest.raises(MalformedAddressError):
            parse_addr_spec(text)


@pytest.mark.parametrize(("length", "good"), [(62, True), (63, True), (64, False), (900, False)])
def test_the_length_of_a_label_is_bracketed(length, good):
    text = "a" * length + ".test"
    if good:
        assert parse_domain(text) == text
    else:
        with pytest.raises(MalformedAddressError):
            parse_domain(text)


@pytest.mark.parametrize(
    ("length", "good"), [(253, True), (254, True), (255, False), (2550, False)]
)
def test_the_length_of_an_address_is_bracketed(length, good):
    domain = ".".join(["d" * 61] * 60)
    text = ("a@" + domain)[: length - 5].rstrip(".")
    text = text + "d" * (length - 5 - len(text)) + ".test"
    if good:
        assert len(parse_addr_spec(text).text) == length
    else:
        with pytest.raises(MalformedAddressError):
            parse_addr_spec(text)


@pytest.mark.parametrize(
    ("value", "display", "address"),
    [
        (b"a@b.test", "", "a@b.test"),
        (b"<a@b.test>", "", "a@b.test"),
        (b"  Alice Martin <a@b.test> ", "Alice Martin", "a@b.test"),
        (b"Dr. Alice <a@b.test>", "Dr. Alice", "a@b.test"),
        (b'"Martin, Alice" <a@b.test>', "Martin, Alice", "a@b.test"),
        (b'"bob@A" <alice@a.test>', "bob@A", "alice@a.test"),
        (b"=?utf-8?q?Zo=C3=A9?= <z@b.test>", "Zoé", "z@b.test"),
        ("Zoé <z@b.test>".encode(), "Zoé", "z@b.test"),
        (b"a@b.test (Alice)", "", "a@b.test"),
        (b"(x) Alice (y (z)) <a@b.test> (w)", "Alice", "a@b.test"),
        (b"Alice\r\n <a@b.test>", "Alice", "a@b.test"),
        (b'"a" <a@b.test>', "a", "a@b.test"),
        (b'"a"@b.test', "", "a@b.test"),
    ],
)
def test_a_mailbox_is_read(value, display, address):
    mailbox = parse_mailbox(value)

    assert (mailbox.display, mailbox.address.text) == (display, address)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"a@b.test, c@d.test",
        b"bob@a.test<alice@a.test>",
        b"alice@a.test)bob@evil.test",
        b"group: a@b.test;",
        b"undisclosed-recipients:;",
        b"a@b.test <c@d.test>",
        b"<a@b.test",
        b"<a@b.test> x",
        b"<a @b.test>",
        b"<a@b.test >",
        b"<@r.test:a@b.test>",
        b"<>",
        b"Alice",
        b"a@b.test(",
        b"(((((((x)))))))a@b.test",
        b'"x <a@b.test>',
        b"a@b.test\0",
        b"a@b.test;c@d.test",
        b"<a(x)@b.test>",
        b"a@b(x).test",
    ],
)
def test_an_ambiguous_mailbox_is_refused(value):
    with pytest.raises(MalformedAddressError):
        parse_mailbox(value)


@pytest.mark.parametrize(
    ("count", "good"),
    [(MAX_ADDRESSES - 1, True), (MAX_ADDRESSES, True), (MAX_ADDRESSES + 1, False)],
)
def test_the_number_of_addresses_is_bracketed(count, good):
    value = b",".join([b"a@b.test"] * count)
    if good:
        assert len(parse_address_list(value)) == count
    else:
        with pytest.raises(MalformedAddressError):
            parse_address_list(value)


@pytest.mark.parametrize(
    "header",
    [
        b"To: a@b.test\r\n",
        b"From: a@b.test\r\nFrom: a@b.test\r\n",
        b"From: a@b.test\r\nfrom : c@b.test\r\n",
        b"From: a@b.test, c@b.test\r\n",
        b"From: x: a@b.test;\r\n",
        b"From:\r\n",
    ],
)
def test_identity_needs_exactly_one_from_with_one_address(header):
    with pytest.raises(MalformedAddressError):
        single_from(scan(header + b"\r\nbody"))


def test_the_one_from_is_the_identity():
    outline = scan(b'From: "bob@evil.test"\r\n <Alice@B.test>\r\n\r\n')

    assert single_from(outline) == Address("Alice", "b.test")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("dr.a@chu-a.mssante.test", "dr.a@chu-a.mssante.test"),
        ("secrétariat@a.test", "secrétariat@a.test"),
        ("secrétariat@HÔPITAL.test", "secrétariat@xn--hpital-ixa.test"),
        ("a@hôpital.test", "a@xn--hpital-ixa.test"),
        ("иван@a.test", "иван@a.test"),
        ("é" * 32 + "@a.test", "é" * 32 + "@a.test"),
        ("secrétariat@a.test".encode(), "secrétariat@a.test"),
    ],
)
def test_an_address_of_utf8_is_read(text, address):
    assert parse_utf8_addr_spec(text).text == address


@pytest.mark.parametrize(
    "text",
    [
        "é",
        "@é.test",
        "é@",
        "é..a@a.test",
        "é a@a.test",
        "é\u00a0a@a.test",
        "e\u0301@a.test",
        "é\u200b@a.test",
        "é\u202e@a.test",
        "é\x85@a.test",
        "é\ue000@a.test",
        "mаnager@a.test",
        "é" * 33 + "@a.test",
        "a@straße.test",
        "a@ﬁn.test",
        "a@hôpital\u3002test",
        "a@" + "é" * 70 + ".test",
        b"\xe9@a.test",
        b"\xed\xa0\x80@a.test",
    ],
)
def test_an_address_of_utf8_that_could_be_another_is_refused(text):
    with pytest.raises(MalformedAddressError):
        parse_utf8_addr_spec(text)
