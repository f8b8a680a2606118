"""HL7 v2 business acknowledgements, ZAM^Z02 and ZAM^Z03: what became of a document's mail; pure.

The structure's software that handed a document over (MDM or ORU) is told, recipient by recipient,
that the mail was received or failed (Z02), and that it was read or refused (Z03). ZAM^Z01 speaks
of the national record, which this site does not write to.

Source: CI-SIS §HL7V2 (2.1, business acknowledgements; tables AckMetierZAM, SMTPERRORCODE),
MSS-FACTS §9.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from record_bridge.formats.hl7v2 import (
    INTAKE_PROFILE,
    Hl7Code,
    MessageHeader,
    Parties,
    escape,
)
from record_bridge.formats.hl7v2_write import AckFacts, write_msh

TABLE: Final = "AckMetierZAM"
SMTP_TABLE: Final = "SMTPERRORCODE"
APPLICATION_TABLE: Final = "applicationErrorCondition"
FAILED: Final = "554"
"""The code of the table for what failed for good without a code of its own."""


class AckKind(Enum):
    """What is acknowledged, by the event of the message."""

    RECEPTION = "Z02"
    READING = "Z03"


WORDS: Final = {
    AckKind.RECEPTION: (
        "ACK_RECEPTION_MSS^Accusé de réception MSSanté",
        "DESTINATAIRE_MSS^Destinataire MSSanté",
    ),
    AckKind.READING: (
        "ACK_LECTURE_MSS^Accusé de lecture",
        "LECTEUR_MSS^Lecteur du courriel MSSanté",
    ),
}
"""OBX-3 of the status and of the recipient, in table AckMetierZAM."""
_SMTP_CODES: Final = frozenset(
    ["101", "111", "251", "252", "420", "421", "422", "431", "432", "441", "442", "450", "451",
     "452", "500", "501", "502", "503", "504", "510", "512", "513", "523", "530", "541", "550",
     "551", "552", "553", "554"]
)  # fmt: skip
_BY_STATUS: Final = {
    "1.1": "550",
    "1.2": "512",
    "1.3": "553",
    "2.1": "550",
    "2.2": "552",
    "3.4": "523",
    "4.1": "441",
    "4.2": "442",
    "4.4": "512",
    "4.7": "441",
}
"""Detail of an enhanced status (RFC 3463) without a reply code: UNCONFIRMED, our own reading."""


@dataclass(frozen=True, slots=True)
class BusinessAck:
    """What became of one document's mail with one recipient.

    Attributes:
        original_id: MSH-10 of the MDM or ORU that handed the document over.
        address: mail address of the recipient (Z02) or of the mailbox that read it (Z03).
        success: False when it failed (Z02) or could not be taken in (Z03).
        code: of a failure: one of table SMTPERRORCODE (Z02), 900 to 906 (Z03); "" otherwise.
    """

    kind: AckKind
    original_id: str
    address: str
    success: bool
    code: str = ""


@dataclass(frozen=True, slots=True)
class ZamHeader:
    """The header of the message; at every try the same.

    Attributes:
        parties: who sends it and to whom: those of the original, turned round.
        at: aware.
        control_id: MSH-10, to be answered.
        processing: P, T or D, as the original.
    """

    parties: Parties
    at: datetime
    control_id: str
    processing: str


def smtp_error(code: str) -> str:
    """Give the code of table SMTPERRORCODE for what is known of a failure.

    Args:
        code: ``550 5.1.1``, ``550``, ``5.1.1`` or "".
    """
    reply, _, status = code.partition(" ")
    if reply in _SMTP_CODES:
        return reply
    return _BY_STATUS.get((status or reply)[2:], FAILED)


def encode_zam(header: ZamHeader, ack: BusinessAck) -> bytes:
    """Write a ZAM^Z02^ZAM_Z01 or ZAM^Z03^ZAM_Z01, in UTF-8.

    The error's code goes without its label: the table it is of has them.

    Source: CI-SIS §HL7V2 (2.1), business acknowledgements.
    """
    event = ack.kind.value
    message = MessageHeader(header.parties, "ZAM", event, "", header.processing, "2.6", "utf-8")
    facts = AckFacts(header.at, header.control_id, accepted=ack.success)
    status, who = WORDS[ack.kind]
    said = f"{'Y' if ack.success else 'N'}^^expandedYes-NoIndicator"
    lines = [
        write_msh(header.parties, f"ZAM^{event}^ZAM_Z01", facts, message, INTAKE_PROFILE),
        f"OBX|1|CWE|{status}^{TABLE}|{escape(ack.original_id)}|{said}||||||F",
        f"OBX|2|XTN|{who}^{TABLE}||^^X.400^{escape(ack.address)}||||||F",
    ]
    if not ack.success:
        reception = ack.kind is AckKind.RECEPTION
        table = SMTP_TABLE if reception else APPLICATION_TABLE
        wrong = f"{Hl7Code.INTERNAL.value}^Application error^messageErrorCondition"
        lines.append(f"ERR|||{wrong}|E|{escape(ack.code)}^^{table}")
    return ("\r".join(lines) + "\r").encode("utf-8")
