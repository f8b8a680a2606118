"""Strangers' packages, metadata, documents and messages: any bytes give a value or our error.

Invariants: nothing but `MalformedDocumentError` (or a value) comes out of a reader; opening a
whole message never raises, and counts exactly what the recount from the raw mail counts.
"""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certs.anchors import TrustAnchors
from certs.smime import Trust
from record_bridge import cda_body, mdn
from record_bridge.errors import MalformedDocumentError
from record_bridge.formats.cda_header import load_cda, parse_cda, read_header
from record_bridge.formats.xdm import PackagedDocument, build_package, open_package
from record_bridge.formats.xds_metadata import encode, parse
from record_bridge.model import Environment
from record_bridge.opening import (
    OpenRequest,
    count_occurrences,
    list_occurrences,
    occurrences,
    open_message,
)
from tests.support.cda import PDF, CdaSpec, cda, follow_up, prescription, vaccination
from tests.support.xdm import entry_for, mail, package, submission_for

DOCUMENT = cda(
    CdaSpec(acts=(follow_up("20261224"), vaccination(None), prescription("20261101", None)))
)
PACKAGE = package(cda(), cda(CdaSpec(unique_id="1.9", pdf=PDF)))
METADATA = encode(submission_for([entry_for(cda())]))
SEVERAL = encode(submission_for([entry_for(cda()), entry_for(cda(), "DOC0002.XML")]))
MESSAGE = mail(PACKAGE)
TRUST = Trust(TrustAnchors(()), ())

settings.register_profile("formats", max_examples=150, deadline=None)


@st.composite
def damaged(draw: st.DrawFn, sound: bytes) -> bytes:
    """Sound bytes with pieces cut out, doubled, moved, flipped or replaced."""
    content = bytearray(sound)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        length = draw(st.integers(0, 64))
        piece = draw(
            st.sampled_from(
                [
                    b"",
                    b"\x00",
                    b"\xff\xff\xff\xff",
                    b"<",
                    b">",
                    b"&#0;",
                    b"PK\x01\x02",
                    b"PK\x05\x06",
                    b"\r\n",
                    b'"',
                    b"--zzb",
                ]
            )
            | st.binary(max_size=16)
        )
        match draw(st.integers(0, 3)):
            case 0:
                content[at : at + length] = piece
            case 1:
                content[at:at] = content[at : at + length]
            case 2:
                if content:
                    content[at] ^= 1 << draw(st.integers(0, 7))
            case _:
                content[at:at] = piece
    return bytes(content)


@settings(settings.get_profile("formats"))
@given(damaged(PACKAGE) | st.binary(max_size=400))
def test_any_archive_is_opened_or_refused(content: bytes):
    try:
        found = open_package(content)
    except MalformedDocumentError:
        return
    assert found.metadata is not None


@settings(settings.get_profile("formats"))
@given(damaged(METADATA) | st.binary(max_size=400))
def test_any_metadata_is_read_or_refused(content: bytes):
    try:
        parse(content)
    except MalformedDocumentError:
        return


@settings(settings.get_profile("formats"))
@given(damaged(DOCUMENT) | st.binary(max_size=400))
def test_any_document_is_read_or_refused(content: bytes):
    try:
        root = load_cda(content)
        header = read_header(root)
        found = cda_body.acts(root, header)
        cda_body.sections(root)
        cda_body.level1_file(root)
        list(cda_body.copies(root))
    except MalformedDocumentError:
        return
    assert all(len(act.label) <= 200 for act in found)
    assert parse_cda(content) == header


@settings(settings.get_profile("formats"))
@given(damaged(MESSAGE) | st.binary(max_size=400))
def test_any_message_is_opened_and_counted_alike(raw: bytes):
    request = OpenRequest(
        raw, "mail.pli.test", datetime(2026, 11, 2, tzinfo=UTC), Environment.TEST
    )
    found = open_message(request, TRUST)

    assert list(list_occurrences(raw)) == [o for p in found.packages for o in occurrences(p)]
    assert count_occurrences(raw) == len(list_occurrences(raw))


@settings(settings.get_profile("formats"))
@given(damaged(PACKAGE))
def test_any_archive_in_a_message_is_at_least_one_occurrence(content: bytes):
    raw = mail(content)

    assert count_occurrences(raw) == len(list_occurrences(raw)) >= 1


@settings(settings.get_profile("formats"))
@given(damaged(METADATA) | damaged(SEVERAL))
def test_any_listing_is_counted_as_it_is_read(content: bytes):
    raw = mail(build_package(content, [PackagedDocument("DOC0001.XML", DOCUMENT)]))

    assert count_occurrences(raw) == len(list_occurrences(raw)) >= 1


@settings(settings.get_profile("formats"))
@given(st.binary(max_size=400))
def test_any_report_is_read_or_none(fields: bytes):
    mdn.parse(
        b"Content-Type: message/disposition-notification\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.b64encode(fields)
    )


@settings(settings.get_profile("formats"))
@given(st.text(max_size=80))
def test_any_name_of_a_file_resolves_inside_or_nowhere(uri: str):
    found = open_package(PACKAGE).resolve(uri)

    assert (
        found is None
        or found.uri.startswith("IHE_XDM/")
        or found.uri in {"INDEX.HTM", "README.TXT"}
    )


@pytest.mark.parametrize(
    "content", [b"PK\x05\x06" + b"\x00" * 18, b"<", b"\xef\xbb\xbf", b"<?xml"]
)
def test_the_shortest_inputs_are_refused(content: bytes):
    with pytest.raises(MalformedDocumentError):
        open_package(content)
    with pytest.raises(MalformedDocumentError):
        parse_cda(content)
