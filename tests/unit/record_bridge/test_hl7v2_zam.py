"""Business acknowledgements of HL7 v2. Source: CI-SIS §HL7V2 (2.1), MSS-FACTS §9."""

from datetime import UTC, datetime

import pytest

from record_bridge.errors import MalformedHl7Error
from record_bridge.formats.hl7v2 import Parties
from record_bridge.formats.hl7v2_zam import (
    AckKind,
    BusinessAck,
    ZamHeader,
    encode_zam,
    smtp_error,
)
from tests.support.hl7_zam import parse_zam

HEADER = ZamHeader(
    Parties(("PFI", "HOP"), ("DPI", "HOP")), datetime(2026, 11, 30, 8, tzinfo=UTC), "Z1", "P"
)
DR = "dr.un@cabinet.mssante.test"
MSH = (
    "MSH|^~\\&|PFI|HOP|DPI|HOP|20261130080000+0000||ZAM^{}^ZAM_Z01|Z1|P|2.6|||||FRA|UNICODE UTF-8"
    "|||2.1^CISIS_CDA_HL7_V2"
)
RECEIVED = (
    MSH.format("Z02"),
    (
        "OBX|1|CWE|ACK_RECEPTION_MSS^Accusé de réception MSSanté^AckMetierZAM|MSG1"
        "|{}^^expandedYes-NoIndicator||||||F"
    ),
    f"OBX|2|XTN|DESTINATAIRE_MSS^Destinataire MSSanté^AckMetierZAM||^^X.400^{DR}||||||F",
)
READ = (
    MSH.format("Z03"),
    (
        "OBX|1|CWE|ACK_LECTURE_MSS^Accusé de lecture^AckMetierZAM|MSG1"
        "|{}^^expandedYes-NoIndicator||||||F"
    ),
    f"OBX|2|XTN|LECTEUR_MSS^Lecteur du courriel MSSanté^AckMetierZAM||^^X.400^{DR}||||||F",
)
WRONG = "ERR|||207^Application error^messageErrorCondition|E|{}"


@pytest.mark.parametrize(
    ("ack", "segments"),
    [
        (BusinessAck(AckKind.RECEPTION, "MSG1", DR, True), RECEIVED),
        (
            BusinessAck(AckKind.RECEPTION, "MSG1", DR, False, "550"),
            (*RECEIVED, WRONG.format("550^^SMTPERRORCODE")),
        ),
        (BusinessAck(AckKind.READING, "MSG1", DR, True), READ),
        (
            BusinessAck(AckKind.READING, "MSG1", DR, False, "902"),
            (*READ, WRONG.format("902^^applicationErrorCondition")),
        ),
    ],
)
def test_it_is_written_as_the_profile_says_and_read_back(
    ack: BusinessAck, segments: tuple[str, ...]
) -> None:
    said = "Y" if ack.success else "N"
    written = "".join(
        f"{each}\r" for each in (segments[0], segments[1].format(said), *segments[2:])
    )

    assert encode_zam(HEADER, ack).decode() == written
    header, found = parse_zam(written.encode())
    assert found == ack
    assert (header.control_id, header.kind, header.event) == ("Z1", "ZAM", ack.kind.value)


def test_no_value_can_end_its_field() -> None:
    ack = BusinessAck(AckKind.RECEPTION, "M|S^G&\\1", DR, True)
    raw = encode_zam(HEADER, ack)
    assert raw.count(b"\r") == 3
    assert parse_zam(raw)[1] == ack


@pytest.mark.parametrize(
    "change",
    [
        ("ZAM^Z02", "ZAM^Z01"),
        ("ZAM^Z02", "ACK^Z02"),
        ("Y^^expanded", "?^^expanded"),
        ("|MSG1|", "||"),
        (DR, ""),
        ("ACK_RECEPTION_MSS", "ACK_LECTURE_MSS"),
        ("DESTINATAIRE_MSS", "LECTEUR_MSS"),
    ],
)
def test_one_that_does_not_say_what_it_must_is_not_read(change: tuple[str, str]) -> None:
    raw = encode_zam(HEADER, BusinessAck(AckKind.RECEPTION, "MSG1", DR, True)).decode()
    changed = raw.replace(*change)
    assert changed != raw
    with pytest.raises(MalformedHl7Error):
        parse_zam(changed.encode())


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ("550 5.1.1", "550"),
        ("452", "452"),
        ("599 5.2.2", "552"),
        ("5.1.1", "550"),
        ("4.4.7", "441"),
        ("5.9.9", "554"),
        ("", "554"),
    ],
)
def test_a_failure_has_a_code_of_the_table(known: str, told: str) -> None:
    assert smtp_error(known) == told
