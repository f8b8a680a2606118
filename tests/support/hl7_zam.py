"""A structure's software reading ZAM^Z02 and ZAM^Z03. Source: CI-SIS §HL7V2 (2.1), MSS-FACTS §9."""

from record_bridge.errors import MalformedHl7Error
from record_bridge.formats.hl7v2 import Hl7Code, MessageHeader
from record_bridge.formats.hl7v2_read import components, header_of, segments_of
from record_bridge.formats.hl7v2_zam import WORDS, AckKind, BusinessAck


def parse_zam(raw: bytes) -> tuple[MessageHeader, BusinessAck]:
    """Read a ZAM^Z02 or ZAM^Z03.

    Raises:
        MalformedHl7Error: it is none, or lacks what it must say.
    """
    message = segments_of(raw)
    header = header_of(message)
    if header.kind != "ZAM":
        raise MalformedHl7Error(Hl7Code.UNSUPPORTED_MESSAGE.value, "message not supported")
    try:
        kind = AckKind(header.event)
    except ValueError as error:
        raise MalformedHl7Error(Hl7Code.UNSUPPORTED_EVENT.value, "event not supported") from error
    status, who = (word.partition("^")[0] for word in WORDS[kind])
    said = components(message, "OBX", (3, status), (4, 1), (5, 1))
    address = components(message, "OBX", (3, who), (5, 4))
    if said is None or address is None or not all((*said, *address)):
        raise MalformedHl7Error(Hl7Code.MISSING_SEGMENT.value, "no status or no recipient")
    if said[1] not in {"Y", "N"}:
        raise MalformedHl7Error(Hl7Code.UNKNOWN_VALUE.value, "a status is Y or N")
    code = components(message, "ERR", (3, Hl7Code.INTERNAL.value), (5, 1)) or ("",)
    return header, BusinessAck(kind, said[0], address[0], said[1] == "Y", code[0])
