"""The hospital's message: subject, X-MSS fields, package, PDF, and what it refuses to send.

Source: MSS-CL §3.8.
"""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from certs.addresses import Address, Mailbox
from certs.mime import decode_body, find_named, scan, walk
from mailserver.report_message import (
    Envelope,
    Identifiers,
    Refusal,
    RefusedReportError,
    build,
    check,
    read_report,
    subject,
)
from record_bridge.formats.cda_header import parse_cda
from record_bridge.formats.xdm import open_package
from record_bridge.formats.xds_metadata import parse
from tests.support.cda import CdaSpec, PatientSpec, cda

AT = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
IDS = Identifiers(AT, "<1@chu-a.mssante.test>", "2.25.1", "2.25.2")
FROM = Mailbox("Service d'imagerie", Address("service", "chu-a.mssante.test"))
TO = Mailbox("", Address("dr", "cabinet.mssante.test"))


def written(*documents: bytes, envelope: Envelope | None = None) -> bytes:
    reports = [read_report(each) for each in documents]
    return build(reports, envelope or Envelope(FROM, (TO,)), IDS, None)


def test_a_report_bears_the_national_fields() -> None:
    outline = scan(written(cda()))

    header = parse_cda(cda())
    assert outline.text("x-mss-codecda") == header.code
    assert outline.text("x-mss-ins") == "O"
    assert outline.text("disposition-notification-to") == "service@chu-a.mssante.test"
    assert outline.text("message-id") == "<1@chu-a.mssante.test>"
    assert not outline.fields("x-mss-nil")
    assert not outline.anomalies
    assert outline.text("subject").startswith("XDM/1.0/DDM+CR d'examens biologiques ")


def test_the_package_holds_the_document_and_says_whose_it_is() -> None:
    document = cda()
    raw = written(document)
    (part,) = find_named(scan(raw), "IHE_XDM.zip")
    package = open_package(decode_body(raw, part))
    entry = parse(package.metadata).entries[0]
    header = parse_cda(document)

    assert [each.content for each in package.documents if each.uri.endswith("DOC0001.XML")] == [
        document
    ]
    assert entry.unique_id == header.unique_id
    assert entry.hash == hashlib.sha1(document).hexdigest()  # noqa: S324
    number = header.patients[0].ins_ids[0]
    assert entry.patient_id == f"{number.extension}^^^&{number.root}&ISO^NH"
    assert parse(package.metadata).patient_id == entry.patient_id


def test_a_pdf_in_the_document_comes_as_a_part_under_the_national_name() -> None:
    raw = written(cda(CdaSpec(pdf=b"%PDF-1.4 essai")))
    outline = scan(raw)
    pdf = next(part for part in walk(outline) if part.type == "application/pdf")

    assert decode_body(raw, pdf) == b"%PDF-1.4 essai"
    name = pdf.filename or ""
    assert name.endswith(".pdf")
    assert name.isascii()
    assert name.startswith("20261102_CR-d-examens-biologiques_")


def test_several_documents_and_a_replacement_show_in_the_subject() -> None:
    one = parse_cda(cda())
    again = parse_cda(cda(CdaSpec(unique_id="1.2.3", replaces="1.2.250.1.213.999.1")))

    assert subject([one, one], 2).startswith("XDM/1.0/DDM+2 documents ")
    assert subject([again], 1).startswith("[Annule et remplace] XDM/1.0/DDM+")


def test_a_long_label_is_cut_at_forty_characters_without_accents() -> None:
    label = "Lettre de liaison à la sortie d'un établissement de soins"
    header = replace(parse_cda(cda()), code_display=label)

    assert "DDM+Lettre de liaison a la sortie d'un etabl " in subject([header], 1)


def test_nil_and_acknowledgement_are_as_asked() -> None:
    outline = scan(written(cda(), envelope=Envelope(FROM, (TO,), "NIL-1", acknowledge=False)))

    assert outline.text("x-mss-nil") == "NIL-1"
    assert not outline.fields("disposition-notification-to")


def test_an_ins_that_is_not_whole_is_said_so() -> None:
    document = cda().replace(b'qualifier="BR"', b'qualifier="CL"')

    assert scan(written(document)).text("x-mss-ins") == "N"


@pytest.mark.parametrize(
    ("oid", "number", "refused"),
    [
        ("1.2.250.1.213.1.4.8", "299019900000036", True),
        ("1.2.250.1.213.1.4.9", "299019900000036", True),
        ("1.2.250.1.213.1.4.10", "299019900000036", False),
    ],
)
def test_a_wrong_key_is_refused_under_the_production_authorities(
    oid: str,
    number: str,
    refused: bool,  # noqa: FBT001
) -> None:
    header = parse_cda(cda())
    known = header.patients[0].ins_ids[0]
    document = cda().replace(known.root.encode(), oid.encode())
    document = document.replace(known.extension.encode(), number.encode())
    reports = [read_report(document)]

    if not refused:
        check(reports)
        return
    with pytest.raises(RefusedReportError) as caught:
        check(reports)
    assert caught.value.reason is Refusal.NO_INS_KEY


def test_two_patients_are_refused_in_one_document_or_in_two() -> None:
    other = PatientSpec(ins="279039999000275")
    one = [read_report(cda(CdaSpec(patients=(PatientSpec(), other))))]
    two = [read_report(cda()), read_report(cda(CdaSpec(patients=(other,))))]

    for reports in (one, two):
        with pytest.raises(RefusedReportError) as caught:
            check(reports)
        assert caught.value.reason is Refusal.TWO_PATIENTS


def test_what_cannot_be_read_is_refused_but_can_be_sent_as_it_is() -> None:
    reports = [read_report(b"<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>")]

    with pytest.raises(RefusedReportError):
        check(reports)
    assert b"IHE_XDM.zip" in build(reports, Envelope(FROM, (TO,)), IDS, None)


def test_nothing_to_send_is_refused() -> None:
    with pytest.raises(RefusedReportError):
        check([])


def test_a_fresh_identifier_leaves_the_rest_alone() -> None:
    document = cda()

    renamed = read_report(document, "2.25.77")

    assert renamed.header is not None
    assert renamed.header.unique_id == "2.25.77"
    assert renamed.header.set_id == parse_cda(document).set_id
    assert renamed.header.patients == parse_cda(document).patients


def test_a_wrapped_document_is_renamed_too() -> None:
    renamed = read_report(cda(CdaSpec(wrapped=True)), "2.25.78")

    assert renamed.header is not None
    assert renamed.header.unique_id == "2.25.78"
