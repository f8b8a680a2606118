"""HL7 v2 messages about documents: what hospitals' software sends, and what Pli writes.

Source: CI-SIS §HL7V2 (2.1), CI-SIS §HL7-LPS (1.1), HL7 v2.6 §2, MSS-FACTS §9.
"""

from base64 import b64encode
from datetime import UTC, datetime

import hl7
import pytest
from hypothesis import given
from hypothesis import strategies as st

from record_bridge.errors import MalformedHl7Error
from record_bridge.formats.hl7v2 import (
    Action,
    Flag,
    Hl7Code,
    Parties,
    escape,
)
from record_bridge.formats.hl7v2_read import (
    MAX_OCTETS,
    MAX_RECIPIENTS,
    MAX_SEGMENTS,
    parse_acknowledgement,
    parse_document,
    parse_header,
)
from record_bridge.formats.hl7v2_write import AckFacts, HandoverFacts, encode_ack, encode_handover

CDA = b"<ClinicalDocument>\xc3\xa9</ClinicalDocument>"
AT = datetime(2026, 11, 23, 8, 30, tzinfo=UTC)


def msh(kind: str = "MDM^T02^MDM_T02", charset: str = "8859/15", control: str = "MSG1") -> str:
    return (
        f"MSH|^~\\&|DPI|HOP|PFI|HOP|20261123093000+0100||{kind}|{control}|P|2.6|||||FRA|{charset}"
        "|||2.1^CISIS_CDA_HL7_V2"
    )


PID = (
    "PID|||279035121518989^^^ASIP-SANTE-INS-NIR&1.2.250.1.213.1.4.10&ISO^INS^^20101207"
    "~4711^^^HOP&1.2.3&ISO^PI||PAT-TROIS^DOMINIQUE^^^^^L"
)
TXA = "TXA|1|18748-4|TEXT|||||||||1.2.3.4|1.2.3.3||||AU"


def obx(content: bytes = CDA, state: str = "F") -> str:
    data = b64encode(content).decode()
    kind = "18748-4^CR d'imagerie médicale^LN"
    return f"OBX|1|ED|{kind}||^text^XML^Base64^{data}||||||{state}"


def part(role: str, address: str) -> str:
    return f"PRT|1|UC||{role}|{'|' * 10}^NET^X.400^{address}"


def flag(name: str, said: str = "Y") -> str:
    return f"OBX|2|CWE|{name}^{name}^MetaDMPMSS||{said}^^expandedYes-NoIndicator||||||F"


def message(*segments: str, end: str = "\r", charset: str = "iso-8859-15") -> bytes:
    return end.join((*segments, "")).encode(charset)


def mdm(*more: str, event: str = "T02") -> bytes:
    return message(msh(f"MDM^{event}^MDM_T02"), "EVN||20261123", PID, "PV1||N", TXA, obx(), *more)


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_a_new_document_is_read_whatever_ends_its_segments(end: str) -> None:
    raw = mdm(
        part("RCT", "dr.un@cabinet.mssante.test"),
        part("RCT", "dr.un@cabinet.mssante.test"),
        part("RCT", "dr.deux@cabinet.mssante.test"),
        part("REPLY", "secretariat@hopital.mssante.test"),
        flag("DESTMSSANTEPAT"),
        flag("MASQUE_PS", "N"),
    ).replace(b"\r", end.encode())

    read = parse_document(raw)

    assert read.action is Action.NEW
    assert read.document == CDA
    assert read.ins == ("279035121518989", "1.2.250.1.213.1.4.10")
    assert (read.type_code, read.unique_id, read.parent_unique_id) == (
        "18748-4",
        "1.2.3.4",
        "1.2.3.3",
    )
    assert read.recipients == ("dr.un@cabinet.mssante.test", "dr.deux@cabinet.mssante.test")
    assert read.reply_to == "secretariat@hopital.mssante.test"
    assert read.flags == {Flag.FOR_PATIENT}
    assert read.header.control_id == "MSG1"


@pytest.mark.parametrize(
    ("event", "action"),
    [("T02", Action.NEW), ("T10", Action.REPLACE), ("T04", Action.WITHDRAW)],
)
def test_the_event_says_what_is_asked(event: str, action: Action) -> None:
    assert parse_document(mdm(event=event)).action is action


@pytest.mark.parametrize(
    ("order", "state", "action"),
    [("NW", "F", Action.NEW), ("RO", "C", Action.REPLACE), ("CA", "D", Action.WITHDRAW)],
)
def test_a_laboratory_says_it_with_order_and_state(order: str, state: str, action: Action) -> None:
    raw = message(msh("ORU^R01^ORU_R01"), PID, f"ORC|{order}", "OBR|1", obx(state=state))

    assert parse_document(raw).action is action


def test_order_and_state_that_differ_are_refused() -> None:
    raw = message(msh("ORU^R01^ORU_R01"), PID, "ORC|NW", "OBR|1", obx(state="D"))

    with pytest.raises(MalformedHl7Error) as caught:
        parse_document(raw)

    assert caught.value.code == Hl7Code.UNKNOWN_VALUE.value


@pytest.mark.parametrize("note", ["NTE|1||X-MSS-MES: FIN", "NTE|1|||FIN"])
def test_the_bodies_of_the_mail_and_the_end_of_the_exchange_are_read(note: str) -> None:
    text = b64encode("Bonjour, ça va".encode("iso-8859-15")).decode()
    read = parse_document(
        mdm(
            f"OBX|3|ED|CORPSMAIL_PATIENT^^MetaDMPMSS||^text^plain^Base64^{text}||||||F",
            f"OBX|4|ED|CORPSMAIL_PS^^MetaDMPMSS||^text^plain^Base64^{text}||||||F",
            note,
        )
    )

    assert read.patient_text == read.professional_text == "Bonjour, ça va"
    assert read.closes_exchange


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", Hl7Code.MISSING_SEGMENT),
        (b"MSH", Hl7Code.MISSING_SEGMENT),
        (b"PID|1\r", Hl7Code.MISSING_SEGMENT),
        (message(msh(charset="KLINGON"), PID, TXA, obx()), Hl7Code.UNKNOWN_VALUE),
        (message(msh(control=""), PID, TXA, obx()), Hl7Code.MISSING_FIELD),
        (message(msh(control="x" * 200), PID, TXA, obx()), Hl7Code.MISSING_FIELD),
        (message(msh("ADT^A01"), PID), Hl7Code.UNSUPPORTED_MESSAGE),
        (message(msh("ORU^R30"), PID), Hl7Code.UNSUPPORTED_MESSAGE),
        (message(msh("MDM^T06"), PID, TXA, obx()), Hl7Code.UNSUPPORTED_EVENT),
        (message(msh(), PID, TXA), Hl7Code.MISSING_SEGMENT),
        (message(msh(), PID, TXA, obx(), obx()), Hl7Code.MISSING_SEGMENT),
        (message(msh("MDM^T10"), PID, obx()), Hl7Code.MISSING_FIELD),
        (message(msh(), PID, TXA, obx().replace("Base64", "A")), Hl7Code.WRONG_TYPE),
        (message(msh(), PID, TXA, obx().replace("Base64^", "Base64^!")), Hl7Code.WRONG_TYPE),
        (message(msh(), PID, TXA, obx(), flag("SURPRISE")), Hl7Code.UNKNOWN_VALUE),
        (message(msh(), PID, TXA, obx(), flag("MASQUE_PS", "oui")), Hl7Code.UNKNOWN_VALUE),
        (message(msh(), PID, PID.replace("279", "179"), TXA, obx()), Hl7Code.UNKNOWN_VALUE),
        (message(msh(charset="UNICODE UTF-8"), PID, TXA, obx()), Hl7Code.WRONG_TYPE),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_code(raw: bytes, code: Hl7Code) -> None:
    with pytest.raises(MalformedHl7Error) as caught:
        parse_document(raw)

    assert caught.value.code == code.value


def test_recipients_segments_and_octets_are_bounded() -> None:
    def named(count: int) -> bytes:
        return mdm(*(part("RCT", f"dr{n}@cabinet.mssante.test") for n in range(count)))

    assert len(parse_document(named(MAX_RECIPIENTS)).recipients) == MAX_RECIPIENTS
    for count in (MAX_RECIPIENTS + 1, MAX_RECIPIENTS * 10):
        with pytest.raises(MalformedHl7Error):
            parse_document(named(count))
    filled = mdm().count(b"\r")
    parse_document(mdm(*["NTE|1||x"] * (MAX_SEGMENTS - filled)))
    for more in (1, MAX_SEGMENTS * 3):
        with pytest.raises(MalformedHl7Error):
            parse_document(mdm(*["NTE|1||x"] * (MAX_SEGMENTS - filled + more)))
    with pytest.raises(MalformedHl7Error):
        parse_document(mdm() + b" " * MAX_OCTETS)


def test_even_a_bad_message_gives_the_header_that_its_answer_needs() -> None:
    header = parse_header(message(msh("ADT^A01"), "garbage"))

    answer = encode_ack(
        header, AckFacts(AT, "ACK1", accepted=False, code=Hl7Code.UNSUPPORTED_MESSAGE)
    )

    assert answer.startswith(b"MSH|^~\\&|PFI|HOP|DPI|HOP|20261123083000+0000||ACK^A01^ACK|ACK1|P|")
    assert b"\rMSA|AE|MSG1\r" in answer
    assert b"\rERR|||200^^HL70357|E" in answer


def test_an_answer_is_read_back() -> None:
    header = parse_document(mdm()).header

    good = parse_acknowledgement(encode_ack(header, AckFacts(AT, "A1", accepted=True)))
    bad = parse_acknowledgement(
        encode_ack(
            header,
            AckFacts(AT, "A2", False, Hl7Code.INTERNAL, "902", "Identifiant inconnu"),
        )
    )

    assert (good.accepted, good.control_id, good.code) == (True, "MSG1", "")
    assert (bad.accepted, bad.control_id, bad.code) == (False, "MSG1", "902")


def facts(**changes: object) -> HandoverFacts:
    values: dict[str, object] = {
        "parties": Parties(("PLI", "CAB"), ("LGC", "CAB")),
        "at": AT,
        "control_id": "H1",
        "action": Action.NEW,
        "ins": ("279035121518989", "1.2.250.1.213.1.4.10"),
        "traits": ("PAT|TROIS", "DOMI^NIQUE", "19790328", "F"),
        "type_code": "18748-4",
        "type_label": "CR d'imagerie médicale",
        "unique_id": "1.2.3.4",
        "parent_unique_id": "",
        "document": CDA,
    }
    return HandoverFacts(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("action", Action)
def test_a_handed_over_document_is_what_another_reader_reads(action: Action) -> None:
    raw = encode_handover(facts(action=action, parent_unique_id="1.2.3.3"))

    ours = parse_document(raw)
    theirs = hl7.parse(raw.decode())

    assert ours.action is action
    assert ours.document == CDA
    assert ours.ins == ("279035121518989", "1.2.250.1.213.1.4.10")
    assert (ours.unique_id, ours.parent_unique_id) == ("1.2.3.4", "1.2.3.3")
    assert str(theirs.segment("MSH")[21]) == "1.1^CISIS_CDA_HL7_LPS"
    assert theirs.unescape(theirs.extract_field("PID", 1, 5, 1, 1)) == "PAT|TROIS"
    assert str(theirs.segment("TXA")[17]) == "AU"


def test_the_software_is_told_from_whom_a_document_is_hidden() -> None:
    hidden = frozenset({Flag.MASKED, Flag.INVISIBLE_REPRESENTATIVES})

    ours = parse_document(encode_handover(facts(hidden=hidden)))
    theirs = hl7.parse(encode_handover(facts(hidden=hidden)).decode())

    assert ours.flags == hidden
    assert parse_document(encode_handover(facts())).flags == frozenset()
    assert [str(each[3]) for each in theirs.segments("OBX")[1:]] == [
        "INVISIBLE_REP_LEGAUX^INVISIBLE_REP_LEGAUX^MetaDMPMSS",
        "MASQUE_PS^MASQUE_PS^MetaDMPMSS",
    ]


@given(st.text(max_size=60))
def test_no_text_can_end_a_field_a_segment_or_a_message(text: str) -> None:
    raw = encode_handover(facts(traits=(text, text, "19790328", "F"), control_id="H1"))

    assert raw.count(b"\r") == 7
    assert parse_document(raw).unique_id == "1.2.3.4"
    assert not set(escape(text)) & set("|^~&\r\n\x0b\x1c")


@given(st.binary(max_size=200))
def test_any_octets_give_a_document_or_the_one_error(tail: bytes) -> None:
    for raw in (tail, b"MSH|^~\\&|" + tail, mdm() + tail):
        codes = []
        try:
            assert parse_document(raw).header.control_id
        except MalformedHl7Error as error:
            codes.append(error.code)
        assert all(code.isdecimal() for code in codes)
