"""METADATA.XML, read and written.

Source: TF-3 §4.2.
"""

import pytest

from record_bridge.errors import MalformedMetadataError
from record_bridge.formats.xds_metadata import (
    MAX_ENTRIES,
    REPLACES,
    Association,
    Code,
    DocumentEntry,
    SubmissionSet,
    encode,
    lists_several,
    parse,
    parse_cx,
)
from tests.support.cda import cda
from tests.support.xdm import entry_for, submission_for


def test_what_was_written_is_read_back():
    entry = entry_for(
        cda(),
        entry_id="Document01",
        size_text=str(len(cda())),
        confidentiality=(
            Code("N", "2.16.840.1.113883.5.25"),
            Code("MASQUE_PS", "1.2.250.1.213.1.1.4.13"),
        ),
        author_person="801^ZZ^Anne",
        author_institution="LABO",
        source_patient_info=("PID-5|ZZCANARY^Anne", "PID-8|F"),
    )
    replaced = Association(REPLACES, "Document01", "urn:uuid:old")
    found = parse(
        encode(submission_for([entry], associations=(replaced,), author_person="801^ZZ"))
    )

    assert found.entries == (entry,)
    assert found.associations[-1] == replaced
    assert (found.unique_id, found.patient_id) == ("1.2.250.1.213.999.9.1", entry.patient_id)
    assert found.content_type.code == "04"


def test_undeclared_prefixes_are_forgiven():
    written = encode(submission_for([entry_for(cda())]))
    fragment = written.replace(b' xmlns:rim="urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"', b"")

    assert b"<rim:ExtrinsicObject" in fragment
    assert parse(fragment) == parse(written)


def test_no_namespace_at_all_is_forgiven():
    written = encode(submission_for([entry_for(cda())]))
    bare = written.replace(b"<rim:", b"<").replace(b"</rim:", b"</")

    assert parse(bare).entries[0].unique_id == "1.2.250.1.213.999.1"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<a/>", id="nothing in it"),
        pytest.param(b"<rim:a><rim:ExtrinsicObject></rim:a>", id="a tag left open"),
        pytest.param(encode(SubmissionSet())[:-10], id="cut short"),
        pytest.param(b'<!DOCTYPE a><a><ExtrinsicObject id="x"/></a>', id="doctype"),
        pytest.param(
            b'<!DOCTYPE a><rim:a><rim:ExtrinsicObject id="x"/></rim:a>', id="doctype, undeclared"
        ),
    ],
)
def test_what_is_broken_otherwise_is_refused(content: bytes):
    with pytest.raises(MalformedMetadataError):
        parse(content)


def test_two_submission_sets_are_refused():
    one = encode(submission_for([entry_for(cda())]))
    body = one[one.index(b"<rim:RegistryPackage") : one.index(b"</rim:RegistryObjectList>")]
    two = one.replace(
        b"</rim:RegistryObjectList>",
        body.replace(b"SubmissionSet01", b"S2") + b"</rim:RegistryObjectList>",
    )

    with pytest.raises(MalformedMetadataError, match="several"):
        parse(two)


def test_a_folder_is_not_a_submission_set():
    one = encode(submission_for([entry_for(cda())]))
    folder = one.replace(
        b"</rim:RegistryObjectList>", b'<rim:RegistryPackage id="F"/></rim:RegistryObjectList>'
    )

    assert parse(folder).unique_id == "1.2.250.1.213.999.9.1"


@pytest.mark.parametrize(
    ("values", "uri"),
    [
        (("A.XML",), "A.XML"),
        (("A", "B.XML"), "AB.XML"),
        (("1|A", "2|B", "10|C.XML"), "ABC.XML"),
        (("2|B.XML", "1|A"), "AB.XML"),
        (("1|A.XML",), "A.XML"),
        (("a|b",), "a|b"),
        ((), ""),
    ],
)
def test_a_long_uri_comes_in_pieces(values: tuple[str, ...], uri: str):
    listed = "".join(f"<Value>{value}</Value>" for value in values)
    content = f'<a><ExtrinsicObject><Slot name="URI">{listed}</Slot></ExtrinsicObject></a>'

    assert parse(content.encode()).entries[0].uri == uri


def test_utf_16_and_blanks_before_are_read_and_counted():
    entries = [entry_for(cda(), f"D{n}.XML", entry_id=f"D{n}") for n in (1, 2)]
    written = encode(submission_for(entries)).decode()
    for content in (written.encode("utf-16"), b"\r\n" + written.encode()):
        assert parse(content) == parse(written.encode())
        assert lists_several(content)


@pytest.mark.parametrize(("count", "fits"), [(200, True), (201, False), (5000, False)])
def test_entries_are_capped(count: int, *, fits: bool):
    content = b"<a>" + b'<ExtrinsicObject id="x"/>' * count + b"</a>"

    assert MAX_ENTRIES == 200
    if fits:
        assert len(parse(content).entries) == count
    else:
        with pytest.raises(MalformedMetadataError, match="too many"):
            parse(content)


def test_the_whole_is_capped():
    with pytest.raises(MalformedMetadataError, match="too large"):
        parse(b"<a>" + b" " * (4 * 1024 * 1024) + b"</a>")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (
            "162018885045327^^^&1.2.250.1.213.1.4.10&ISO^NH",
            ("162018885045327", "1.2.250.1.213.1.4.10"),
        ),
        ("1^^^&urn:oid:1.2.3&ISO^NH", ("1", "1.2.3")),
        ("1^^^&amp;1.2.3&amp;ISO^NH", ("1", "1.2.3")),
        ("123", ("123", "")),
        ("123^^^X", ("123", "")),
        ("", ("", "")),
    ],
)
def test_identifiers_of_patients(text: str, read: tuple[str, str]):
    assert parse_cx(text) == read


@pytest.mark.parametrize("text", ["", "-1", "1e3", "١٢", "9" * 12])
def test_a_size_that_is_no_number_is_kept_as_text(text: str):
    found = parse(encode(submission_for([DocumentEntry(unique_id="1", size_text=text)])))

    assert (found.entries[0].size, found.entries[0].size_text) == (None, text)
