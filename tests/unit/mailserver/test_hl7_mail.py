"""What a hospital's HL7 v2 message becomes: mail for professionals, for the patient, or a code.

Source: CI-SIS §HL7V2, MSS-FACTS §6.3, MSS-FACTS §9.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from certs.addresses import Address, Mailbox
from certs.mime import decode_body, find_named, scan, walk
from mailserver.hl7_mail import Door, HospitalOrder, to_order
from record_bridge.formats.hl7v2 import Hl7Code
from record_bridge.formats.xdm import open_package
from record_bridge.formats.xds_metadata import DEPRECATED, DocumentEntry, parse
from tests.support.cda import CdaSpec, PatientSpec, cda
from tests.support.hl7 import Mdm

AT = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
DOOR = Door(
    Mailbox("Hôpital Nord", Address("appli", "hopital.mssante.test")),
    "patients.mssante.test",
    "2.25.1",
)
DR = "dr.un@cabinet.mssante.test"
INS = PatientSpec().ins or ""
DOCUMENT = cda(CdaSpec(unique_id="1.2.3.4"))
TO_DR = Mdm(DOCUMENT, INS, recipients=[("RCT", DR)])
TO_BOTH = replace(TO_DR, wishes=["DESTMSSANTEPAT"])


def order(message: Mdm) -> HospitalOrder:
    return to_order(message.encode(), DOOR, AT)


def turned(message: Mdm) -> tuple[str, str]:
    found = order(message)
    assert not found.mails
    assert found.header is not None
    return found.code.value, found.application_code


def entry(raw: bytes) -> DocumentEntry:
    (part,) = find_named(scan(raw), "IHE_XDM.zip")
    (found,) = parse(open_package(decode_body(raw, part)).metadata).entries
    return found


def text(raw: bytes) -> str:
    part = next(p for p in walk(scan(raw)) if p.type == "text/plain")
    return decode_body(raw, part).decode()


def test_a_document_goes_to_the_professionals_it_names() -> None:
    found = order(
        replace(
            TO_DR,
            recipients=[("RCT", DR), ("RCT", "dr.deux@cabinet.mssante.test"), ("SB", "x@y.test"),
                        ("REPLY", "secretariat@hopital.mssante.test")],
            texts=[("CORPSMAIL_PS", "Cher confrère,")],
        )
    )  # fmt: skip

    (mail,) = found.mails
    outline = scan(mail.raw)
    assert found.code is Hl7Code.ACCEPTED
    assert mail.recipients == (DR, "dr.deux@cabinet.mssante.test")
    assert outline.text("from").endswith("<appli@hopital.mssante.test>")
    assert outline.text("reply-to") == "secretariat@hopital.mssante.test"
    assert outline.text("x-mss-ins") == "O"
    assert not outline.fields("x-mss-mes")
    assert text(mail.raw).startswith("Cher confrère,")
    assert entry(mail.raw).unique_id == "1.2.3.4"
    assert entry(mail.raw).availability == ""


def test_the_patient_gets_a_message_of_their_own() -> None:
    found = order(
        replace(
            TO_BOTH,
            texts=[("CORPSMAIL_PATIENT", "Bonjour Madame,"), ("CORPSMAIL_PS", "Cher confrère,")],
            notes=["X-MSS-MES: FIN"],
        )
    )

    to_dr, to_patient = found.mails
    assert to_dr.recipients == (DR,)
    assert to_patient.recipients == (f"{INS}@patients.mssante.test",)
    assert scan(to_patient.raw).text("x-mss-mes") == "FIN"
    assert not scan(to_dr.raw).fields("x-mss-mes")
    assert text(to_patient.raw).startswith("Bonjour Madame,")
    assert DR.encode() not in to_patient.raw
    assert INS.encode() not in to_dr.raw.partition(b"\r\n\r\n")[0]


def test_the_same_order_is_the_same_message_whatever_its_control_id_and_hour() -> None:
    first = order(TO_DR).mails[0]
    again = to_order(replace(TO_DR, control="MSG2").encode(), DOOR, AT.replace(hour=20)).mails[0]
    other = order(replace(TO_DR, document=cda(CdaSpec(unique_id="1.2.3.5")))).mails[0]

    def message_id(raw: bytes) -> str:
        return scan(raw).text("message-id")

    assert message_id(first.raw) == message_id(again.raw)
    assert message_id(first.raw) != message_id(other.raw)


def test_a_replacement_says_so_and_names_what_it_replaces() -> None:
    newer = cda(CdaSpec(unique_id="1.2.3.5", replaces="1.2.3.4"))
    found = order(replace(TO_DR, document=newer, event="T10", ids=("1.2.3.5", "1.2.3.4")))

    assert scan(found.mails[0].raw).text("subject").startswith("[Annule et remplace] XDM/1.0/DDM+")


def test_a_withdrawal_carries_the_document_marked_deprecated() -> None:
    newer = cda(CdaSpec(unique_id="1.2.3.5", replaces="1.2.3.4"))
    found = order(replace(TO_DR, document=newer, event="T04", ids=("1.2.3.5", "1.2.3.4")))

    assert entry(found.mails[0].raw).availability == DEPRECATED


def test_a_mask_is_written_into_the_metadata() -> None:
    found = order(replace(TO_DR, wishes=["INVISIBLE_PATIENT"]))

    codes = [code.code for code in entry(found.mails[0].raw).confidentiality]
    assert codes == ["N", "INVISIBLE_PATIENT"]


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"recipients": []}, ("101", "")),
        ({"recipients": [("RCT", "no address")]}, ("103", "")),
        ({"document": b"<x/>"}, ("102", "906")),
        ({"document": b"MZ\x90"}, ("102", "906")),
        ({"ins": "279035121518989"}, ("103", "904")),
        ({"oid": "1.2.250.1.213.1.4.8"}, ("103", "904")),
        ({"ids": ("9.9.9", "")}, ("103", "906")),
        ({"event": "T10", "ids": ("1.2.3.4", "1.2.3.3")}, ("103", "906")),
        ({"event": "T04", "document": b"", "ids": ("1.2.3.4", "")}, ("101", "906")),
        ({"event": "T10"}, ("101", "")),
        ({"wishes": ["NONSENSE"]}, ("103", "")),
    ],
)
def test_what_cannot_be_sent_is_turned_away_with_its_code(
    change: dict[str, Any], answer: tuple[str, str]
) -> None:
    assert turned(replace(TO_DR, **change)) == answer


def test_a_patient_is_written_to_at_a_qualified_identity_only() -> None:
    doubtful = cda(CdaSpec(unique_id="1.2.3.4", patients=(PatientSpec(birth_date=None),)))
    nobody = replace(TO_BOTH, ins="", oid="")
    unnamed = cda(CdaSpec(unique_id="1.2.3.4", patients=(PatientSpec(ins=None),)))

    assert turned(replace(TO_BOTH, document=doubtful)) == ("101", "905")
    assert turned(replace(nobody, document=unnamed)) == ("103", "904")


@pytest.mark.parametrize(
    ("wishes", "professional", "passes"),
    [
        ([], True, True),
        (["INVISIBLE_PATIENT"], True, True),
        (["INVISIBLE_PATIENT", "DESTMSSANTEPAT"], True, False),
        (["INVISIBLE_PATIENT", "MASQUE_PS"], True, False),
        (["MASQUE_PS"], True, False),
        (["MASQUE_PS", "DESTMSSANTEPAT"], True, False),
        (["MASQUE_PS", "DESTMSSANTEPAT"], False, True),
        (["INVISIBLE_REP_LEGAUX", "DESTMSSANTEPAT"], False, True),
        (["MASQUE_PS", "DESTMSSANTEPAT", "CONNEXION_SECRETE"], False, False),
        (["MASQUE_PS", "DESTMSSANTEPAT", "DESTDMP"], False, False),
    ],
)
def test_wishes_for_visibility_decide_who_may_be_written_to(
    wishes: list[str], *, professional: bool, passes: bool
) -> None:
    message = replace(TO_DR, wishes=wishes, recipients=[("RCT", DR)] if professional else [])

    if passes:
        assert order(message).mails
    else:
        assert turned(message) == ("103", "906")


@pytest.mark.parametrize("raw", [b"", b"hello", b"MSH|^~\\&|A|B|C|D|20260101||MDM^T02|\r"])
def test_what_has_no_header_cannot_be_answered(raw: bytes) -> None:
    found = to_order(raw, DOOR, AT)

    assert found.header is None
    assert not found.mails
    assert found.code is not Hl7Code.ACCEPTED
