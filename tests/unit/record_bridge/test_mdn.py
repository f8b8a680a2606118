"""The answer to the sender (RULES §9).

Source: RFC 6522 §3, RFC 8098 §3.
"""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from certs import mime
from certs.verdict import NO_SIGNATURE
from record_bridge.mdn import (
    MdnReport,
    MdnRequest,
    asked_by,
    build,
    first_line,
    parse,
    told,
    without_prefix,
)
from record_bridge.model import ErrorCode, Opened

PREFIX = (
    b"Return-Path: <labo@lab.test>\r\nDelivered-To: dr@cab.test\r\n"
    b"Delivered-To: 279039999000178@patient.mssante.test\r\n"
    b"Received: from lab.test by mail.pli.test id zz;\r\n Mon, 02 Nov 2026 10:20:00 +0100\r\n"
    b"Authentication-Results: mail.pli.test; auth=none\r\n"
)
BODY = b"Received: from inner by lab.test\r\nFrom: <labo@lab.test>\r\nSubject: x\r\n\r\ncorps\r\n"
REQUEST = MdnRequest(
    final_recipient="dr@cab.test",
    send_to="labo@lab.test",
    code=None,
    message_id="<item-1@cab.test>",
    at=datetime(2026, 11, 2, 9, 30, tzinfo=UTC),
    boundary="zzboundary",
    original_message_id="<zz1@lab.test>",
    original_subject="XDM/1.0/DDM+CR d'examens ZZ Été",
    original=PREFIX + BODY,
    authserv_id="mail.pli.test",
)


def text_of(raw: bytes) -> str:
    outline = mime.scan(raw)
    return mime.decode_text(raw, next(p for p in mime.walk(outline) if p.type == "text/plain"))


def test_an_answer_has_three_parts_and_its_headers():
    raw = build(REQUEST)
    outline = mime.scan(raw)

    assert not outline.anomalies
    assert outline.root.type == "multipart/report"
    assert outline.root.param("report-type") == "disposition-notification"
    assert [p.type for p in outline.root.children] == [
        "text/plain",
        "message/disposition-notification",
        "message/rfc822",
    ]
    assert outline.text("in-reply-to") == "<zz1@lab.test>"
    assert outline.text("subject") == "[Intégré] XDM/1.0/DDM+CR d'examens ZZ Été"
    assert outline.text("auto-submitted") == "auto-replied"


def test_the_first_line_says_what_it_does_not_prove():
    assert text_of(build(REQUEST)).splitlines()[0] == (
        "Intégré automatiquement au dossier ; ce message ne prouve pas qu'un professionnel l'a lu"
    )


def test_the_wire_form_of_a_success():
    """RULES §9, RFC 8098 §3.1: what is written, octet by octet."""
    raw = build(replace(REQUEST, original_subject="ZZ", original=PREFIX + BODY))

    assert raw == (
        b"From: <dr@cab.test>\r\nTo: <labo@lab.test>\r\n"
        b"Subject: =?utf-8?b?W0ludMOpZ3LDqV0gWlo=?=\r\n"
        b"Date: Mon, 02 Nov 2026 09:30:00 +0000\r\nMessage-ID: <item-1@cab.test>\r\n"
        b"In-Reply-To: <zz1@lab.test>\r\nReferences: <zz1@lab.test>\r\n"
        b"Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/report; report-type=disposition-notification;\r\n"
        b' boundary="zzboundary"\r\n\r\n'
        b"--zzboundary\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
        b"Int=C3=A9gr=C3=A9 automatiquement au dossier ; ce message ne prouve pas qu'=\r\n"
        b"un professionnel l'a lu\r\n"
        b"\r\n--zzboundary\r\nContent-Type: message/disposition-notification\r\n"
        b"Content-Transfer-Encoding: 7bit\r\n\r\n"
        b"Reporting-UA: cab.test; Pli\r\nFinal-Recipient: rfc822;dr@cab.test\r\n"
        b"Original-Message-ID: <zz1@lab.test>\r\n"
        b"Disposition: automatic-action/MDN-sent-automatically; processed\r\n"
        b"\r\n--zzboundary\r\nContent-Type: message/rfc822\r\n"
        b"Content-Transfer-Encoding: 7bit\r\n\r\n" + BODY + b"\r\n--zzboundary--\r\n"
    )


def test_a_refusal_says_that_a_person_decides():
    lines = text_of(build(replace(REQUEST, code=ErrorCode.NO_INS))).splitlines()

    assert lines[1:] == [
        "Le message n'a pas été intégré automatiquement ; un professionnel décidera."
    ]


def test_an_original_of_eight_bits_goes_back_as_it_came():
    original = BODY + "été".encode()
    raw = build(replace(REQUEST, original=PREFIX + original))
    outline = mime.scan(raw)

    assert outline.text("content-transfer-encoding") == "8bit"
    assert outline.root.children[2].encoding == "8bit"
    assert original in raw


def test_an_answer_without_the_original_has_two_parts():
    outline = mime.scan(build(replace(REQUEST, original=b"")))

    assert [p.type for p in outline.root.children] == [
        "text/plain",
        "message/disposition-notification",
    ]


@pytest.mark.parametrize("code", list(ErrorCode))
def test_a_code_is_read_back(code: ErrorCode):
    raw = build(replace(REQUEST, code=code))
    report = parse(raw)

    assert text_of(raw).splitlines()[0] == f"{code.value} - {code.label}" == first_line(code)
    assert (
        mime.scan(raw).text("subject").startswith(f"[KO Intégration système !][{code.value}] XDM")
    )
    assert report is not None
    assert (report.code, report.disposition, report.modifiers) == (code, "processed", ("error",))
    assert (report.final_recipient, report.original_message_id) == (
        "dr@cab.test",
        "<zz1@lab.test>",
    )


def test_a_success_is_read_back():
    report = parse(build(REQUEST))

    assert report is not None
    assert (report.disposition, report.modifiers, report.code) == ("processed", (), None)


def test_the_wire_form_of_an_unknown_patient():
    assert (
        b"Error: 902^Identifiant de patient inconnu^applicationErrorCondition|E^Error^errorSeverity\r\n"
        in build(replace(REQUEST, code=ErrorCode.UNKNOWN_PATIENT))
    )


@pytest.mark.parametrize(
    "fields",
    [
        (
            b"Disposition: automatic-action/MDN-sent-automatically; processed/error\r\n"
            b"Error: 904^INS^applicationErrorCondition|E^Error^errorSeverity\r\n"
        ),
        (
            b"Disposition: automatic-action/MDN-sent-automatically; processed/error:"
            b" 904^INS^messageErrorCondition|E^Error^errorSeverity\r\n"
        ),
        (
            b"Disposition: automatic-action/MDN-sent-automatically;\r\n processed/error;"
            b" 904^INS^messageErrorCondition\r\n"
        ),
    ],
)
def test_both_forms_of_the_error_are_read(fields: bytes):
    raw = (
        b'Content-Type: multipart/report; boundary="z"\r\n\r\n--z\r\n'
        b"Content-Type: message/disposition-notification\r\n\r\n"
        b"Final-Recipient: rfc822;A@b.test\r\n" + fields + b"\r\n--z--\r\n"
    )
    report = parse(raw)

    assert report is not None
    assert (report.code, report.label, report.disposition) == (904, "INS", "processed")
    assert report.modifiers[0] == "error"
    assert report.final_recipient == "a@b.test"


@pytest.mark.parametrize(
    ("fields", "read"),
    [
        pytest.param(
            b"FINAL-RECIPIENT : rfc822; A@b.test \r\nDisposition: a/b;  Displayed , x\r\n",
            ("a@b.test", "", "displayed", (), None, ""),
            id="other capitals and blanks",
        ),
        pytest.param(
            b"Original-Message-ID: <1@x>\r\nDisposition: a/b; processed/Error , 12, Warning\r\n",
            ("", "<1@x>", "processed", ("error", "warning"), None, ""),
            id="modifiers",
        ),
        pytest.param(
            b"Disposition: a/b; processed\r\nDisposition: a/b; deleted\r\n"
            b"Error: 906^ \xe9chec ^messageErrorCondition\r\n",
            ("", "", "processed", (), 906, "échec"),
            id="the first of two, and octets that are not UTF-8",
        ),
        pytest.param(b"Disposition: processed\r\n", None, id="no type after a mode"),
        pytest.param(b"a/b; processed\r\n", None, id="no field"),
    ],
)
def test_what_others_write_is_read(fields: bytes, read: tuple[object, ...] | None):
    raw = (
        b'Content-Type: multipart/report; boundary="z"\r\n\r\n--z\r\n\r\n'
        b"Disposition: a/b; dispatched\r\n--z\r\n"
        b"Content-Type: message/disposition-notification\r\n\r\n" + fields + b"\r\n--z--\r\n"
    )

    assert parse(raw) == (None if read is None else MdnReport(*read))  # type: ignore[arg-type]


def test_ordinary_mail_is_no_report():
    assert parse(BODY) is None
    assert parse(b"Subject: x\r\n\r\nDisposition: a/b; processed\r\n") is None


def test_nobody_else_is_named_in_an_answer():
    raw = build(replace(REQUEST, code=ErrorCode.TRAITS_DIFFER))

    assert b"279039999000178" not in raw
    assert b"mail.pli.test" not in raw


def test_the_original_goes_back_as_it_came():
    assert without_prefix(PREFIX + BODY, "mail.pli.test") == BODY
    assert BODY in build(REQUEST)


def test_only_the_fields_of_this_server_are_taken_out():
    mine = b"Delivered-To: 279039999000178@patient.mssante.test\r\n"
    kept = b"X-A: 1\r\nSubject: mail.pli.test\r\nReceived: by lab.test\r\n\r\ncorps\r\n"

    assert without_prefix(mine + kept, "mail.pli.test") == kept
    assert without_prefix(kept[:8] + mine + kept[8:], "mail.pli.test") == kept


def test_a_field_of_another_server_stays():
    raw = b"Authentication-Results: lab.test; none\r\n" + BODY

    assert without_prefix(raw, "mail.pli.test") == raw


def test_header_fields_cannot_be_injected():
    raw = build(
        replace(
            REQUEST,
            original_message_id="<a>\r\nBcc: evil@evil.test",
            original_subject="a\r\nBcc: evil@evil.test",
            send_to="a@b.test>\r\nBcc: <evil@evil.test",
        )
    )

    assert not mime.scan(raw).fields("bcc")


def opened(notify: str | None, path: str | None) -> Opened:
    return Opened((), path, None, notify, "", "", None, NO_SIGNATURE, ())


@pytest.mark.parametrize(
    ("notify", "path", "answer"),
    [
        ("a@b.test", "a@b.test", "a@b.test"),
        ("a@b.test", "c@b.test", None),
        ("a@b.test", "", None),
        ("a@b.test", None, None),
        (None, "a@b.test", None),
        ("", "", None),
    ],
)
def test_only_the_return_path_is_answered(
    notify: str | None, path: str | None, answer: str | None
):
    assert asked_by(opened(notify, path)) == answer


@pytest.mark.parametrize(
    ("code", "count", "answer"),
    [
        (ErrorCode.UNKNOWN_PATIENT, 20, ErrorCode.UNKNOWN_PATIENT),
        (ErrorCode.UNKNOWN_PATIENT, 21, ErrorCode.OTHER),
        (ErrorCode.TRAITS_DIFFER, 20, ErrorCode.TRAITS_DIFFER),
        (ErrorCode.TRAITS_DIFFER, 10_000, ErrorCode.OTHER),
        (ErrorCode.NO_INS, 10_000, ErrorCode.NO_INS),
        (None, 10_000, None),
    ],
)
def test_who_guesses_learns_nothing_more(
    code: ErrorCode | None, count: int, answer: ErrorCode | None
):
    assert told(code, count) is answer
