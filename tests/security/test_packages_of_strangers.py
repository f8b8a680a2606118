"""Hostile packages and documents: threats X1 to X6, X9, X10 and X13.

Inputs are generated here, byte by byte where the standard library would refuse to lie.
"""

import base64
import io
import resource
import struct
import time
import zipfile
import zlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from certs.anchors import TrustAnchors
from certs.smime import Trust
from record_bridge.errors import MalformedCdaError, MalformedMetadataError, MalformedPackageError
from record_bridge.formats.cda_header import parse_cda
from record_bridge.formats.xdm import open_package
from record_bridge.formats.xds_metadata import DEPRECATED, parse
from record_bridge.model import Environment, Opened, Reason
from record_bridge.opening import OpenRequest, list_occurrences, open_message
from tests.support.cda import CdaSpec, PatientSpec, acts, cda, follow_up
from tests.support.xdm import entry_for, mail, package, submission_for

META = b"IHE_XDM/SUBSET01/METADATA.XML"


@dataclass
class Entry:
    """One entry of an archive, each lie a field."""

    name: bytes
    content: bytes = b"<m/>"
    method: int = 8
    flags: int = 0
    local_name: bytes | None = None
    size: int | None = None
    local_size: int | None = None
    crc: int | None = None
    attributes: int = 0
    extra: bytes = b""
    offset: int | None = None
    packed: bytes | None = None
    descriptor: bytes = b""


def deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def archive(
    *entries: Entry, before: bytes = b"", after: bytes = b"", count: int | None = None
) -> bytes:
    written = bytearray(before)
    directory = bytearray()
    for e in entries:
        packed = (
            e.packed
            if e.packed is not None
            else (deflate(e.content) if e.method == 8 else e.content)
        )
        size = len(e.content) if e.size is None else e.size
        crc = zlib.crc32(e.content) if e.crc is None else e.crc
        at = len(written) if e.offset is None else e.offset
        local_name = e.name if e.local_name is None else e.local_name
        if e.offset is None:
            shown = (
                (0, 0, 0)
                if e.flags & 8
                else (crc, len(packed), size if e.local_size is None else e.local_size)
            )
            written += struct.pack(
                "<4s5H3L2H",
                b"PK\x03\x04",
                20,
                e.flags,
                e.method,
                0,
                33,
                *shown,
                len(local_name),
                0,
            )
            written += local_name + packed + e.descriptor
        directory += struct.pack(
            "<4s6H3L5H2L", b"PK\x01\x02", 0x314, 20, e.flags, e.method, 0, 33, crc, len(packed), size,
            len(e.name), len(e.extra), 0, 0, 0, e.attributes, at,
        ) + e.name + e.extra  # fmt: skip
    number = len(entries) if count is None else count
    end = struct.pack(
        "<4s4H2LH", b"PK\x05\x06", 0, 0, number, number, len(directory), len(written), 0
    )
    return bytes(written + directory + end) + after


SOUND = Entry(META)


def test_the_generator_makes_sound_archives_when_it_does_not_lie():
    assert open_package(archive(SOUND, Entry(b"x", b"data", 0))).metadata == b"<m/>"


def overlapping() -> bytes:
    """Many central entries over one local entry, as in the overlap bomb."""
    kernel = Entry(b"x", b"\x00" * 100_000)
    first = archive(SOUND)
    at = first.index(b"PK\x01\x02")
    return archive(
        SOUND,
        kernel,
        *(replace(kernel, name=b"x%d" % n, local_name=b"x", offset=at) for n in range(900)),
    )


def quoted() -> bytes:
    """Each entry's data holds the next one's local header (zbsm without ZIP64)."""
    inner = archive(Entry(b"b", b"bbbb", 0))
    local = inner[: inner.index(b"PK\x01\x02")]
    outer = Entry(b"a", local, 0)
    at = len(archive(SOUND)[: archive(SOUND).index(b"PK\x01\x02")]) + 30 + 1
    return archive(SOUND, outer, Entry(b"b", b"bbbb", 0, offset=at))


def nested(depth: int) -> bytes:
    content = archive(SOUND)
    for _ in range(depth):
        content = archive(SOUND, Entry(b"inner.zip", content, 0))
    return content


def standard(*files: tuple[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(META.decode(), "<m/>")
        for name, content in files:
            made.writestr(name, content)
    return written.getvalue()


LOCAL_END = 30 + len(META) + len(deflate(b"<m/>"))

BOMBS = {
    "overlap": overlapping(),
    "quoted local headers": quoted(),
    "archive inside": nested(1),
    "archives inside, six deep": nested(6),
    "gzip inside": archive(SOUND, Entry(b"x", b"\x1f\x8b\x08" + b"x" * 50)),
    "tar inside": archive(SOUND, Entry(b"x", b"x" * 257 + b"ustar\x00" + b"x" * 300, 0)),
    "65,535 empty entries": archive(*(Entry(b"%d" % n, b"", 0) for n in range(65_534))),
    "zeros": standard(("x", b"\x00" * 1_000_000)),
    "declares less": archive(SOUND, Entry(b"x", b"\x00" * 20_000, size=100)),
    "declares more": archive(SOUND, Entry(b"x", b"abc", size=4)),
    "declares nothing": archive(SOUND, Entry(b"x", b"abc", size=0)),
    "local header lies": archive(SOUND, Entry(b"x", b"abcd", local_size=3)),
    "wrong checksum": archive(SOUND, Entry(b"x", b"abc", crc=1)),
    "descriptor lies": archive(
        SOUND, Entry(b"x", b"abc", flags=8, descriptor=b"PK\x07\x08" + struct.pack("<3L", 1, 2, 3))
    ),
    "descriptor missing": archive(SOUND, Entry(b"x", b"abc", flags=8)),
    "zip64 extra": archive(SOUND, Entry(b"x", b"abc", extra=struct.pack("<HHQ", 1, 8, 2**40))),
    "zip64 sizes": archive(SOUND, Entry(b"x", b"abc", size=0xFFFFFFFF)),
    "zip64 count": archive(SOUND, count=0xFFFF),
    "encrypted": archive(SOUND, Entry(b"x", b"abc", flags=1)),
    "strong encryption": archive(SOUND, Entry(b"x", b"abc", flags=0x41)),
    "masked headers": archive(SOUND, Entry(b"x", b"abc", flags=0x2000)),
    "other method": archive(SOUND, Entry(b"x", b"abc", method=12)),
    "broken data": archive(SOUND, Entry(b"x", b"abc", packed=b"\xff\xff\xff\xff")),
    "data after the stream": archive(
        SOUND, Entry(b"x", b"abc", packed=deflate(b"abc") + b"hidden")
    ),
    "count too small": archive(SOUND, Entry(b"x"), count=1),
    "count too large": archive(SOUND, count=2),
    "bytes before": archive(
        Entry(META, offset=4), before=b"MZ\x00\x00" + archive(SOUND)[:LOCAL_END]
    ),
    "bytes after": archive(SOUND, after=b"x"),
    "bytes after zeros": archive(SOUND, after=b"\x00" * 4000 + b"x"),
    "text after a line": archive(SOUND, after=b"\r\n-- \r\nx"),
    "zeros that hide the end": archive(SOUND, after=b"\x00" * 65_536),
    "a comment that is longer": archive(SOUND)[:-2] + b"\x05\x00" + b"\x00" * 4,
    "second end record behind zeros": archive(SOUND, after=b"\x00" * 30 + archive(SOUND)),
    "second end record": archive(SOUND, after=archive(SOUND)),
    "hidden entry": archive(SOUND, before=archive(Entry(b"hidden"))[:40]),
    "not a zip": b"PK\x05\x06",
    "empty": b"",
    "zeros only": b"\x00" * 100,
    "cut short": standard()[:-30],
    "alternative name": archive(
        SOUND, Entry(b"x", extra=struct.pack("<HH", 0x7075, 5) + b"\x01abcd")
    ),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_bombs_and_lies_are_refused_at_once(bomb: bytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()

    with pytest.raises(MalformedPackageError):
        open_package(bomb)

    assert time.process_time() - started < 1.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


NAMES = {
    "absolute": b"/tmp/x",
    "two slashes": b"//tmp/x",
    "climbs": b"../x",
    "climbs from inside": b"IHE_XDM/../../x",
    "drive": b"C:\\x",
    "drive with slash": b"C:/x",
    "backslash": b"..\\x",
    "NUL": b"x\x00.xml",
    "newline": b"x\n",
    "dot": b".",
    "dot inside": b"a/./b",
    "two dots": b"././x",
    "dot and two slashes": b".//x",
    "dot, then climbs": b"./../x",
    "dot, then a drive": b"./C:/x",
    "backslash after a dot": b".\\..\\x",
    "empty part": b"a//b",
    "empty": b"",
    "only dots": b"a/.../b",
    "stream": b"x.xml:hidden",
    "wildcard": b"*",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_names_that_climb_or_confuse_refuse_the_whole_archive(name: bytes):
    with pytest.raises(MalformedPackageError, match="name"):
        open_package(archive(SOUND, Entry(name)))


@pytest.mark.parametrize(
    "twins",
    [
        (Entry(b"x", b"1"), Entry(b"x", b"2")),
        (Entry(b"X.XML"), Entry(b"x.xml")),
        (Entry(META.lower()),),
        (Entry("é".encode(), flags=0x800), Entry("é".encode("cp437"))),
        (Entry("e\u0301".encode(), flags=0x800), Entry("é".encode(), flags=0x800)),
        (Entry(b"a/", b"", 0), Entry(b"A", b"")),
        (Entry(b"x", b"1"), Entry(b"./x", b"2")),
        (Entry(b"./" + META),),
        (Entry(b"./", b"", 0), Entry(b"./", b"", 0)),
    ],
)
def test_twin_names_are_refused(twins: tuple[Entry, ...]):
    with pytest.raises(MalformedPackageError, match="twin"):
        open_package(archive(SOUND, *twins))


def test_two_names_for_one_entry_are_refused():
    with pytest.raises(MalformedPackageError, match="two names"):
        open_package(archive(SOUND, Entry(b"a.xml", local_name=b"b.xml")))


@pytest.mark.parametrize("mode", [0o120777, 0o020666, 0o060666, 0o010666, 0o140666])
def test_links_and_devices_are_refused(mode: int):
    with pytest.raises(MalformedPackageError, match="link"):
        open_package(archive(SOUND, Entry(b"x", b"/etc/passwd", attributes=mode << 16)))


# --- XML -------------------------------------------------------------------------------------

CDA = cda().decode()
BODY = CDA[CDA.index("<ClinicalDocument") :]
DECLARED = '<?xml version="1.0" encoding="UTF-8"?>'


def with_doctype(doctype: str, entity: str = "") -> str:
    return f"{DECLARED}<!DOCTYPE {doctype}>{BODY}".replace(
        "Compte rendu", f"Compte rendu {entity}"
    )


LAUGHS = (
    "x [<!ENTITY a 'ha'>"
    + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>".replace("&a-1;", "&a;") for n in range(10))
    + "]"
)

XXE = {
    "file": with_doctype("x [<!ENTITY x SYSTEM 'file:///etc/passwd'>]", "&x;"),
    "network": with_doctype("x [<!ENTITY x SYSTEM 'http://127.0.0.1:9/x'>]", "&x;"),
    "parameter": with_doctype("x [<!ENTITY % p SYSTEM 'http://127.0.0.1:9/p'> %p;]"),
    "external subset": with_doctype("x SYSTEM 'http://127.0.0.1:9/x.dtd'"),
    "public": with_doctype("html PUBLIC '-//W3C//DTD XHTML 1.0//EN' 'http://127.0.0.1:9/x'"),
    "empty": with_doctype("x"),
    "laughs": with_doctype(LAUGHS, "&a9;"),
    "quadratic": with_doctype(f"x [<!ENTITY q '{'q' * 50_000}'>]", "&q;" * 5000),
    "in an attribute": with_doctype("x [<!ENTITY q 'q'>]").replace('code="FR"', 'code="&q;"'),
    "undeclared entity": CDA.replace("Compte rendu", "&x;"),
}


@pytest.mark.parametrize("text", XXE.values(), ids=XXE.keys())
def test_entities_are_refused_within_a_second(text: str):
    started = time.process_time()

    with pytest.raises(MalformedCdaError) as caught:
        parse_cda(text.encode())

    assert time.process_time() - started < 1.0
    assert "ZZCANARY" not in str(caught.value)


@pytest.mark.parametrize("text", XXE.values(), ids=XXE.keys())
def test_metadata_is_no_softer(text: str):
    for content in (text, text.replace("<ClinicalDocument", "<rim:x/><ClinicalDocument")):
        with pytest.raises(MalformedMetadataError):
            parse(content.encode())


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16"),
        ("utf-16-be", "utf-16"),
        ("utf-32", "utf-32"),
        ("utf-7", "utf-7"),
        ("cp037", "IBM037"),
    ],
)
def test_a_doctype_cannot_hide_in_an_encoding(encoding: str, declared: str):
    text = with_doctype("x [<!ENTITY x SYSTEM 'file:///etc/passwd'>]", "&x;").replace(
        "UTF-8", declared
    )

    with pytest.raises(MalformedCdaError):
        parse_cda(text.encode(encoding))


@pytest.mark.parametrize("declared", ["utf-7", "UTF7", "ISO-2022-JP", "EUC-KR", "x" * 60, ""])
def test_unusual_encodings_are_refused(declared: str):
    with pytest.raises(MalformedCdaError):
        parse_cda(CDA.replace("UTF-8", declared).encode())


@pytest.mark.parametrize(
    "added",
    [
        '<?xml-stylesheet type="text/xsl" href="http://127.0.0.1:9/x.xsl"?>',
        '<?xml-stylesheet type="text/xsl" href="file:///etc/passwd"?>',
    ],
)
def test_instructions_are_not_followed(added: str):
    assert parse_cda(CDA.replace("<ClinicalDocument", f"{added}<ClinicalDocument").encode())


def test_includes_and_schemas_are_not_fetched():
    text = CDA.replace(
        "<title>",
        '<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/passwd" parse="text"/><title>',
    ).replace(
        "<ClinicalDocument",
        '<ClinicalDocument xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xsi:schemaLocation="urn:hl7-org:v3 http://127.0.0.1:9/x.xsd"',
    )

    assert parse_cda(text.encode()) == parse_cda(CDA.encode())


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(CDA.replace("<title>", "<title>" + "x" * 50_000_000), id="50 MB of text"),
        pytest.param(BODY.replace("<title>", "<a>" * 100_000 + "<title>"), id="depth 100,000"),
        pytest.param(
            BODY.replace("<title>", "<a/>" * 1_000_001 + "<title>"), id="a million elements"
        ),
        pytest.param(
            BODY.replace("<setId", "<id root='1'/>" * 1_000_001 + "<setId"), id="a million ids"
        ),
    ],
)
def test_huge_documents_are_refused_in_time(content: str):
    raw = content.encode()
    started = time.process_time()

    with pytest.raises(MalformedCdaError):
        parse_cda(raw)

    assert time.process_time() - started < 5.0


def test_many_attributes_are_read_or_refused_in_time():
    attributes = " ".join(f"a{n}='1'" for n in range(100_000))
    started = time.process_time()

    assert parse_cda(BODY.replace("<title>", f"<title {attributes}>").encode())
    assert time.process_time() - started < 5.0


# --- packages that disagree with themselves ----------------------------------------------------

TRUST = Trust(TrustAnchors(()), ())


def opened(raw: bytes, environment: Environment = Environment.TEST) -> Opened:
    return open_message(
        OpenRequest(raw, "mail.pli.test", datetime(2026, 11, 2, tzinfo=UTC), environment), TRUST
    )


def worst(*packages: bytes) -> Reason | None:
    problem = opened(mail(*packages)).packages[0].worst
    return None if problem is None else problem.reason


def test_a_sound_package_has_no_problem():
    assert worst(package(cda())) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hash": "0" * 40}, Reason.HASH_DIFFERS),
        ({"hash": ""}, Reason.HASH_DIFFERS),
        ({"size": len(cda()) + 1}, Reason.SIZE_DIFFERS),
        ({"size": len(cda()) - 1}, Reason.SIZE_DIFFERS),
        ({"size_text": "many"}, Reason.SIZE_DIFFERS),
        ({"availability": DEPRECATED}, Reason.WITHDRAWAL_ASKED),
        ({"unique_id": "1.2.3"}, Reason.ID_DIFFERS),
        ({"uri": "NONE.XML"}, Reason.DOCUMENT_MISSING),
        ({"uri": "../../README.TXT"}, Reason.DOCUMENT_MISSING),
    ],
)
def test_metadata_that_lies_is_seen(changes: dict[str, object], reason: Reason):
    assert worst(package(cda(), **changes)) is reason


def test_one_bad_document_is_the_whole_package_s_problem():
    from record_bridge.formats.xdm import PackagedDocument, build_package
    from record_bridge.formats.xds_metadata import encode

    good = cda()
    bad = b"<broken"
    entries = [entry_for(good), replace(entry_for(good, "DOC0002.XML"), unique_id="1.9")]
    files = [PackagedDocument("DOC0001.XML", good), PackagedDocument("DOC0002.XML", bad)]
    found = opened(mail(build_package(encode(submission_for(entries)), files))).packages[0]

    assert [d.problem is None for d in found.documents] == [True, False]
    assert found.worst is not None
    assert found.worst.reason is Reason.DOCUMENT_UNREADABLE
    assert [d.unique_id for d in found.documents] == ["1.2.250.1.213.999.1", "1.9"]


def test_two_patients_in_one_package_are_seen():
    other = cda(CdaSpec(unique_id="1.9", patients=(PatientSpec(ins="279039999000275"),)))

    assert worst(package(cda(), other)) is Reason.TWO_PATIENTS


def test_one_identifier_twice_with_other_bytes_is_seen():
    assert worst(package(cda(), cda(CdaSpec(title="autre")))) is Reason.SAME_ID_OTHER_BYTES


def test_what_the_metadata_does_not_list_is_not_filed():
    from record_bridge.formats.xdm import PackagedDocument, build_package
    from record_bridge.formats.xds_metadata import encode

    files = [
        PackagedDocument("DOC0001.XML", cda()),
        PackagedDocument("EXTRA.XML", cda(CdaSpec(unique_id="1.9"))),
    ]
    made = build_package(encode(submission_for([entry_for(cda())])), files)

    assert len(opened(mail(made)).packages[0].documents) == 1


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_in_a_message_is_one_explained_occurrence(bomb: bytes):
    raw = mail(bomb)
    (found,) = opened(raw).packages
    (occurrence,) = list_occurrences(raw)

    assert found.problem is not None
    assert found.problem.reason is Reason.PACKAGE_UNREADABLE
    assert not occurrence.listed


def test_base64_that_is_none_is_one_explained_occurrence():
    raw = mail(package(cda()))
    at = raw.index(base64.b64encode(package(cda()))[:40])
    (found,) = opened(raw[:at] + b"*!*!" + raw[at:]).packages

    assert found.problem is not None
    assert found.problem.reason is Reason.PACKAGE_UNREADABLE


def test_poison_for_the_agenda_is_capped():
    poison = acts(*([follow_up("99991231")] * 20_000))
    (document,) = opened(mail(package(cda(CdaSpec(acts=poison))))).packages[0].documents

    assert len(document.acts) == 100


def test_one_file_listed_many_times_is_read_once():
    from record_bridge.formats.xdm import PackagedDocument, build_package
    from record_bridge.formats.xds_metadata import encode

    large = cda(CdaSpec(octets=3_000_000))
    entries = [entry_for(large)] * 200
    raw = mail(
        build_package(encode(submission_for(entries)), [PackagedDocument("DOC0001.XML", large)])
    )
    started = time.process_time()
    (found,) = opened(raw).packages

    assert time.process_time() - started < 2.0
    assert len(found.documents) == 200
    assert len({id(d.content) for d in found.documents}) == 1
