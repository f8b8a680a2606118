"""The one MIME scanner: shapes, limits, anomalies, contents.

Source: RFC 2045 §5, RFC 2046 §5.1.
"""

import base64
import email
import email.policy
import random
import re
from dataclasses import replace

import pytest

from certs.errors import MalformedMessageError
from certs.mime import (
    Anomaly,
    MimeLimits,
    decode_body,
    decode_outline,
    decode_strictly,
    decode_text,
    encode_outline,
    fields_of,
    find_named,
    find_section,
    line_ends,
    scan,
    walk,
)


def crlf(text: str) -> bytes:
    return text.lstrip("\n").replace("\n", "\r\n").encode("utf-8")


MIXED = crlf(
    """
From: a@b.test
Subject: mixed
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="outer"

preamble
--outer
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

caf=C3=A9=20
two
--outer
Content-Type: multipart/alternative; boundary=outer-2

--outer-2

plain
--outer-2
Content-Type: text/html

<p>html</p>
--outer-2--
--outer
Content-Type: message/rfc822

From: c@d.test
Subject: inside
Content-Type: multipart/mixed; boundary=in

--in
Content-Type: application/zip
Content-Disposition: attachment; filename="IHE_XDM.ZIP"
Content-Transfer-Encoding: base64

UEsDBA==
--in--
--outer--
epilogue
"""
)


def test_a_nested_message_is_split_by_its_outer_boundaries_first():
    outline = scan(MIXED)

    shapes = [(part.section, part.type) for part in walk(outline)]
    assert shapes == [
        ((), "multipart/mixed"),
        ((1,), "text/plain"),
        ((2,), "multipart/alternative"),
        ((2, 1), "text/plain"),
        ((2, 2), "text/html"),
        ((3,), "message/rfc822"),
        ((3,), "multipart/mixed"),
        ((3, 1), "application/zip"),
    ]
    assert outline.anomalies == frozenset()


def test_a_part_body_ends_before_the_line_end_of_its_delimiter():
    part = find_section(scan(MIXED), (2, 1))

    assert part is not None
    assert MIXED[part.body_start : part.body_end] == b"plain"


def test_section_numbers_lead_through_nested_messages():
    outline = scan(MIXED)

    found = {
        section: part.type if (part := find_section(outline, section)) else None
        for section in [
            (),
            (1,),
            (2,),
            (2, 2),
            (3,),
            (3, 1),
            (4,),
            (0,),
            (1, 1),
            (3, 2),
            (3, 1, 1),
        ]
    }
    assert found == {
        (): "multipart/mixed",
        (1,): "text/plain",
        (2,): "multipart/alternative",
        (2, 2): "text/html",
        (3,): "message/rfc822",
        (3, 1): "application/zip",
        (4,): None,
        (0,): None,
        (1, 1): None,
        (3, 2): None,
        (3, 1, 1): None,
    }


def test_part_one_of_a_message_without_parts_is_its_body():
    outline = scan(crlf("Subject: x\n\nbody\n"))

    assert find_section(outline, (1,)) is outline.root
    assert find_section(outline, (1, 1)) is None
    assert find_section(outline, (2,)) is None


def test_part_one_of_a_message_inside_is_its_body():
    raw = crlf("Content-Type: message/rfc822\n\nSubject: in\n\nbody\n")
    outline = scan(raw)

    assert find_section(outline, (1,)) is outline.root
    assert find_section(outline, (1, 1)) is outline.root.children[0]


def test_a_named_attachment_is_found_in_a_forwarded_message_in_any_case():
    (part,) = find_named(scan(MIXED), "IHE_XDM.zip")

    assert part.section == (3, 1)
    assert decode_body(MIXED, part) == b"PK\x03\x04"
    assert decode_strictly(MIXED, part) == b"PK\x03\x04"


@pytest.mark.parametrize(
    "header",
    [
        "Content-Disposition: attachment; filename=ihe_xdm.zip",
        "Content-Type: application/zip; name=IHE_XDM.ZIP",
        "Content-Type: application/zip; name=x.pdf\nContent-Disposition: inline; filename=IHE_XDM.zip",
        "Content-Disposition: attachment; filename*=utf-8''IHE%5FXDM.zip",
        "Content-Disposition: attachment; filename=x.pdf; filename*=utf-8''IHE_XDM.zip",
        "Content-Disposition: attachment; filename=IHE_XDM.zip; filename*=utf-8''x.pdf",
        'Content-Disposition: attachment; filename*0="IHE_"; filename*1="XDM.zip"',
        'Content-Disposition: attachment; filename="=?utf-8?q?IHE=5FXDM.zip?="',
        'Content-Disposition: attachment; filename="C:\\\\docs\\\\IHE_XDM.zip"',
        'Content-Disposition: attachment; filename=" IHE_XDM.zip"',
        "Content-Disposition: attachment; filename=a; filename=IHE_XDM.zip",
    ],
)
def test_a_package_is_found_however_its_name_is_written(header):
    raw = crlf(f"Content-Type: multipart/mixed; boundary=b\n\n--b\n{header}\n\nx\n--b--\n")

    assert len(find_named(scan(raw), "IHE_XDM.zip")) == 1


def test_the_file_name_is_decoded_from_continued_and_extended_parameters():
    raw = crlf(
        "Content-Disposition: attachment; filename*0*=iso-8859-1''caf%E9;\n"
        ' filename*1=".pdf"\n\nx\n'
    )

    assert scan(raw).root.filename == "café.pdf"


def test_text_is_decoded_by_its_charset():
    outline = scan(MIXED)
    part = find_section(outline, (1,))

    assert part is not None
    assert part.param("charset") == "utf-8"
    assert decode_text(MIXED, part) == "café \r\ntwo"


@pytest.mark.parametrize("charset", ["utf-7", "rot13", "idna", "unicode_escape", "nonsense", "'"])
def test_a_charset_that_is_not_one_never_runs(charset):
    raw = crlf(f'Content-Type: text/plain; charset="{charset}"\n\n+ADw-script+AD4- é\n')

    assert decode_text(raw, scan(raw).root) == "+ADw-script+AD4- é\r\n"


def test_an_empty_message_has_an_empty_text():
    outline = scan(b"")

    assert (outline.root.type, outline.root.octets, outline.header) == ("text/plain", 0, ())


def test_a_message_without_a_header_keeps_its_body():
    outline = scan(b"\r\nbody")

    assert (outline.root.body_start, outline.root.body_end) == (2, 6)


def test_a_header_without_a_body_ends_with_the_message():
    outline = scan(b"Subject: x\r\nFrom: a@b.c\r\n")

    assert [field.name for field in outline.header] == ["Subject", "From"]
    assert outline.root.octets == 0


def test_fields_keep_their_folding_and_their_place():
    raw = crlf("Subject: one\n two\nX-Y:z\n\nbody")

    subject, other = scan(raw).fields("SUBJECT")[0], scan(raw).fields("x-y")[0]
    assert subject.value == b" one\r\n two"
    assert raw[subject.start : subject.end] == b"Subject: one\r\n two\r\n"
    assert (other.value, raw[other.start : other.end]) == (b"z", b"X-Y:z\r\n")
    assert scan(raw).text("subject") == "one two"
    assert scan(raw).text("absent") == ""


def test_the_header_of_a_nested_message_is_read_by_itself():
    outline = scan(MIXED)
    inside = outline.root.children[2].children[0]

    assert [field.value for field in fields_of(MIXED, inside)][:2] == [b" c@d.test", b" inside"]


@pytest.mark.parametrize(
    ("raw", "anomaly"),
    [
        pytest.param(b"A: b\r\n\r\nx\ry", Anomaly.BARE_CR, id="bare-cr"),
        pytest.param(b"A: b\r\n\r\nx\ny", Anomaly.BARE_LF, id="bare-lf"),
        pytest.param(b"A: b\r\n\r\nx\0y", Anomaly.NUL, id="nul"),
        pytest.param(b"no field\r\n\r\n", Anomaly.MALFORMED_FIELD, id="no-colon"),
        pytest.param(b" starts: folded\r\n\r\n", Anomaly.MALFORMED_FIELD, id="leading-blank"),
        pytest.param(b"From : a@b.c\r\n\r\n", Anomaly.SPACE_BEFORE_COLON, id="space"),
        pytest.param(b"From: a\r\nFrom: b\r\n\r\n", Anomaly.DUPLICATE_FIELD, id="two-from"),
        pytest.param(
            b"Content-Type: text/html\r\nContent-Type: text/plain\r\n\r\n",
            Anomaly.DUPLICATE_FIELD,
            id="two-content-type",
        ),
        pytest.param(b"Content-Type: text\r\n\r\n", Anomaly.BAD_CONTENT_TYPE, id="type"),
        pytest.param(
            b'Content-Type: text/plain; x="\r\n\r\n', Anomaly.BAD_CONTENT_TYPE, id="open-quote"
        ),
        pytest.param(
            b"Content-Type: text/plain; a=1; a=2\r\n\r\n", Anomaly.DUPLICATE_PARAMETER, id="param"
        ),
        pytest.param(b"Content-Disposition: ;\r\n\r\n", Anomaly.BAD_DISPOSITION, id="disposition"),
        pytest.param(
            b"Content-Type: message/partial\r\n\r\n", Anomaly.OPENED_BY_SOME, id="partial"
        ),
        pytest.param(
            b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n",
            Anomaly.OPENED_BY_SOME,
            id="message-in-base64",
        ),
        pytest.param(
            b"Content-Transfer-Encoding: base64, quoted-printable\r\n\r\n",
            Anomaly.BAD_ENCODING,
            id="two-encodings",
        ),
        pytest.param(
            b"Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: base64\r\n"
            b"\r\n--b\r\n\r\n--b--",
            Anomaly.BAD_ENCODING,
            id="encoded-multipart",
        ),
        pytest.param(
            b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nQQ==",
            Anomaly.BAD_ENCODING,
            id="encoded-message",
        ),
        pytest.param(
            b'Content-Type: multipart/mixed; boundary="a\0"\r\n\r\n--a\0\r\n',
            Anomaly.BAD_BOUNDARY,
            id="nul-boundary",
        ),
        pytest.param(
            b"Content-Type: multipart/mixed\r\n\r\nx", Anomaly.MISSING_BOUNDARY, id="no-boundary"
        ),
        pytest.param(
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\nx",
            Anomaly.MISSING_BOUNDARY,
            id="absent-boundary",
        ),
        pytest.param(
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx",
            Anomaly.UNCLOSED_MULTIPART,
            id="unclosed",
        ),
    ],
)
def test_an_oddity_is_named_and_never_raised(raw, anomaly):
    assert anomaly in scan(raw).anomalies


def test_an_unclosed_multipart_alone_is_not_ambiguous():
    raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx"

    assert not scan(raw).ambiguous
    assert scan(raw.replace(b"Content", b"Content-Type: text/html\r\nContent", 1)).ambiguous


def test_the_first_of_two_content_types_counts():
    raw = b"Content-Type: text/html\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"

    assert scan(raw).root.type == "text/html"


def test_a_delimiter_with_trailing_blanks_counts_and_a_longer_one_does_not():
    raw = crlf(
        "Content-Type: multipart/mixed; boundary=b\n\n--b \t\n\none\n--bb\n--b\n\ntwo\n--b-- \n"
    )

    bodies = [raw[part.body_start : part.body_end] for part in scan(raw).root.children]
    assert bodies == [b"one\r\n--bb", b"two"]


def test_parts_between_adjacent_delimiters_are_empty():
    raw = crlf("Content-Type: multipart/mixed; boundary=b\n\n--b\n--b\n\n--b--\n")

    assert [part.octets for part in scan(raw).root.children] == [0, 0]


def test_the_same_boundary_inside_belongs_to_the_outer_multipart():
    raw = crlf(
        "Content-Type: multipart/mixed; boundary=b\n\n"
        "--b\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b--\n"
    )
    outline = scan(raw)

    assert [part.type for part in outline.root.children] == ["multipart/mixed", "text/plain"]
    assert Anomaly.MISSING_BOUNDARY in outline.anomalies


def test_parts_of_a_digest_are_messages():
    raw = crlf("Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: in\n\nx\n--b--\n")
    outline = scan(raw)

    assert outline.root.children[0].type == "message/rfc822"
    assert outline.root.children[0].is_message


def nested(depth: int) -> bytes:
    head = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n)
        for n in range(depth)
    )
    return head + b"\r\nx"


@pytest.mark.parametrize(("depth", "refused"), [(4, False), (5, False), (6, True), (400, True)])
def test_depth_is_bracketed(depth, refused):
    outline = scan(nested(depth), MimeLimits(depth=5))

    assert (Anomaly.TOO_DEEP in outline.anomalies) is refused


def many_parts(count: int) -> bytes:
    return (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        + b"--b\r\n\r\nx\r\n" * count
        + b"--b--\r\n"
    )


@pytest.mark.parametrize(
    ("count", "kept", "refused"), [(8, 8, False), (9, 9, False), (10, 9, True), (5000, 9, True)]
)
def test_the_number_of_parts_is_bracketed(count, kept, refused):
    outline = scan(many_parts(count), MimeLimits(parts=10))

    assert len(outline.root.children) == kept
    assert (Anomaly.TOO_MANY_PARTS in outline.anomalies) is refused


@pytest.mark.parametrize(
    ("count", "refused"), [(99, False), (100, False), (101, True), (9999, True)]
)
def test_false_delimiters_are_bracketed(count, refused):
    raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--bx\r\n" * count

    outline = scan(raw, MimeLimits(candidates=100))
    assert (Anomaly.TOO_MANY_PARTS in outline.anomalies) is refused


@pytest.mark.parametrize(("count", "refused"), [(9, False), (10, False), (11, True), (5000, True)])
def test_the_number_of_fields_is_bracketed(count, refused):
    outline = scan(b"A: b\r\n" * count + b"\r\n", MimeLimits(fields=10))

    assert len(outline.header) == min(count, 10)
    assert (Anomaly.TOO_MANY_FIELDS in outline.anomalies) is refused


@pytest.mark.parametrize(
    ("octets", "refused"), [(99, False), (100, False), (101, True), (9999, True)]
)
def test_the_size_of_a_header_is_bracketed(octets, refused):
    raw = b"A:" + b"x" * (octets - 4) + b"\r\n\r\n"

    outline = scan(raw, MimeLimits(header_octets=100))
    assert (Anomaly.HEADER_TOO_LONG in outline.anomalies) is refused


@pytest.mark.parametrize(
    ("count", "refused"), [(63, False), (64, False), (65, True), (3000, True)]
)
def test_the_number_of_parameters_is_bracketed(count, refused):
    params = "".join(f";p{number}=v" for number in range(count))
    outline = scan(f"Content-Type: text/plain{params}\r\n\r\n".encode())

    assert len(outline.root.params) == min(count, 64)
    assert (Anomaly.TOO_MANY_PARAMETERS in outline.anomalies) is refused


@pytest.mark.parametrize(
    ("body", "content"),
    [
        (b"QUJD", b"ABC"),
        (b"QU\r\nJD\r\n", b"ABC"),
        (b"QUI=", b"AB"),
        (b"QU!I=", b"AB"),
        (b"QUI", b"AB"),
        (b"QUI=QUJD", b"AB"),
        (b"Q", b""),
        (b"", b""),
        (b"\xff\xfe", b""),
    ],
)
def test_base64_is_read_as_far_as_it_goes(body, content):
    raw = b"Content-Transfer-Encoding: base64\r\n\r\n" + body

    assert decode_body(raw, scan(raw).root) == content


@pytest.mark.parametrize(
    ("body", "content"),
    [(b"QUJD\r\nQUI", b"ABCAB"), (b"QQ", b"A"), (b"QQ=", b"A"), (b"QUI=", b"AB"), (b"", b"")],
)
def test_padding_that_was_left_off_is_no_guess(body, content):
    raw = b"Content-Transfer-Encoding: base64\r\n\r\n" + body

    assert decode_strictly(raw, scan(raw).root) == content == decode_body(raw, scan(raw).root)


@pytest.mark.parametrize(
    "body",
    [
        b"QU!I=",
        b"QU!I",
        b"QUI=QUJD",
        b"QQ=QUJD",
        b"Q",
        b"QUJDQ",
        b"=QUI",
        b"=",
        b"QQ==QQ==",
        b"QQ===",
    ],
)
def test_ambiguous_base64_is_refused_where_content_is_acted_on(body):
    raw = b"Content-Transfer-Encoding: base64\r\n\r\n" + body

    with pytest.raises(MalformedMessageError):
        decode_strictly(raw, scan(raw).root)


def test_an_unknown_encoding_is_refused_where_content_is_acted_on():
    raw = b"Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin"

    with pytest.raises(MalformedMessageError):
        decode_strictly(raw, scan(raw).root)
    assert decode_body(raw, scan(raw).root) == b"begin"


def test_an_outline_survives_its_row():
    outline = scan(MIXED + b"\x00")

    assert decode_outline(encode_outline(outline)) == outline


@pytest.mark.parametrize("data", [b"", b"2", b"1:", b"12:[]", b"1x:", b"14:null", b"1" * 40])
def test_a_row_that_is_no_outline_is_refused(data):
    with pytest.raises(MalformedMessageError):
        decode_outline(data)


def test_well_formed_messages_are_seen_as_the_standard_library_sees_them():
    message = email.message.EmailMessage(policy=email.policy.SMTP)
    message["From"] = "Zoé <zoe@b.test>"
    message["Subject"] = "Compte rendu d'hospitalisation très long, sur plus d'une ligne, été"
    message.set_content("texte accentué\n")
    message.add_alternative("<p>texte accentué</p>", subtype="html")
    message.add_attachment(
        bytes(range(256)) * 40, maintype="application", subtype="pdf", filename="résumé été.pdf"
    )
    raw = message.as_bytes()

    outline = scan(raw)
    theirs = list(email.message_from_bytes(raw, policy=email.policy.SMTP).walk())
    ours = list(walk(outline))
    assert outline.anomalies == frozenset()
    assert outline.text("subject") == message["Subject"]
    assert [part.type for part in ours] == [part.get_content_type() for part in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        if not mine.children:
            assert mine.filename == other.get_filename()
            content = other.get_payload(decode=True)
            assert decode_body(raw, mine).rstrip(b"\r\n") == content.rstrip(b"\r\n")


def test_a_megabyte_of_base64_is_scanned_in_one_look():
    body = base64.encodebytes(bytes(750_000)).replace(b"\n", b"\r\n")
    raw = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding:"
        b" base64\r\n\r\n" + body + b"--b--\r\n"
    )

    outline = scan(raw, replace(MimeLimits(), candidates=2))
    assert outline.anomalies == frozenset()
    assert decode_body(raw, outline.root.children[0]) == bytes(750_000)


def test_line_ends_are_told_apart_as_counting_would():
    chance = random.Random(20)
    for _ in range(3000):
        text = bytes(chance.choices(b"\r\na\xe9\x85\x1c", k=chance.randrange(9)))
        pairs = text.count(b"\r\n")

        ends = line_ends(text)

        assert ("\r\n" in ends) == bool(pairs)
        assert ("\n" in ends) == (text.count(b"\n") != pairs)
        assert ("\r" in ends) == (text.count(b"\r") != pairs)


@pytest.mark.parametrize("octets", [256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 3 * 256 * 1024])
def test_line_ends_of_a_large_message_are_seen_wherever_it_is_cut(octets):
    for end in (b"\r\n", b"\r", b"\n"):
        assert line_ends(b"a" * octets + end) == {end.decode()}
        assert line_ends(b"a" * octets + end + b"a") == {end.decode()}


def test_delimiter_lines_are_found_among_hyphens_as_a_plain_search_would():
    chance = random.Random(26)
    pieces = (b"-", b"--", b"--b", b"--b--", b"\r\n", b"\n", b"a", b"b", b"-" * 40, b"x--b")
    for _ in range(3000):
        body = b"".join(chance.choices(pieces, k=chance.randrange(1, 60)))
        raw = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + body
        lines = re.split(rb"(?<=\n)", raw.partition(b"\r\n\r\n")[2])
        wanted = 0
        for line in lines:
            word = line.rstrip(b" \t\r\n")
            if word == b"--b--":
                break
            wanted += word == b"--b"

        assert len(scan(raw).root.children) == wanted


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="a b.zip', "a b.zip"),
        ("filename=a.zip", "a.zip"),
        ('attachment; x=(; filename = "a.zip"; y', "a.zip"),
        ("attachment; filename=a b.zip", "a"),
        ("attachment; filename=; size=3 )", ""),
        ("attachment; nofilename=a.zip )", None),
    ],
)
def test_a_broken_disposition_still_gives_its_file_name(disposition, name):
    outline = scan(f"Content-Disposition: {disposition}\r\n\r\nx".encode())

    assert Anomaly.BAD_DISPOSITION in outline.anomalies
    assert outline.root.filename == name
