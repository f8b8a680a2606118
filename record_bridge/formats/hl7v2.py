"""What HL7 v2 messages about documents say: values, codes and tables; pure.

A hospital's software hands a CDA document over in ``MDM^T02`` (new), ``T10`` (replaces) or ``T04``
(withdraws), or in ``ORU^R01``; the same MDM hands a filed document to the structure's own
software.

Source: CI-SIS §HL7V2 (2.1), CI-SIS §HL7-LPS (1.1), HL7 v2.6 §2, MSS-FACTS §9.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

INTAKE_PROFILE: Final = "2.1^CISIS_CDA_HL7_V2"
HANDOVER_PROFILE: Final = "1.1^CISIS_CDA_HL7_LPS"

CHARSETS: Final = {
    "": "ascii",
    "ASCII": "ascii",
    "8859/1": "iso-8859-1",
    "8859/15": "iso-8859-15",
    "UNICODE UTF-8": "utf-8",
    "UNICODE": "utf-8",
}


class Hl7Code(Enum):
    """Codes of HL7 table 0357 and the application codes of the national profile."""

    ACCEPTED = "0"
    MISSING_SEGMENT = "100"
    MISSING_FIELD = "101"
    WRONG_TYPE = "102"
    UNKNOWN_VALUE = "103"
    UNSUPPORTED_MESSAGE = "200"
    UNSUPPORTED_EVENT = "201"
    DUPLICATE = "205"
    INTERNAL = "207"


class Action(Enum):
    """What is asked for a document."""

    NEW = "new"
    REPLACE = "replace"
    WITHDRAW = "withdraw"


EVENTS: Final = {"T02": Action.NEW, "T10": Action.REPLACE, "T04": Action.WITHDRAW}
ORDERS: Final = {"NW": Action.NEW, "RO": Action.REPLACE, "CA": Action.WITHDRAW}
STATES: Final = {"F": Action.NEW, "C": Action.REPLACE, "D": Action.WITHDRAW}


FLAG_SYSTEM: Final = "MetaDMPMSS"
"""The coding system of ``Flag``."""


class Flag(Enum):
    """Wishes told in OBX segments of coding system ``MetaDMPMSS``.

    Source: MSS-FACTS §9 (Flags).
    """

    MASKED = "MASQUE_PS"
    INVISIBLE_PATIENT = "INVISIBLE_PATIENT"
    INVISIBLE_REPRESENTATIVES = "INVISIBLE_REP_LEGAUX"
    SECRET_CONNECTION = "CONNEXION_SECRETE"  # noqa: S105 - a word of the profile
    CHANGES_CONFIDENTIALITY = "MODIF_CONF_CODE"
    FOR_RECORD = "DESTDMP"
    FOR_PROFESSIONALS = "DESTMSSANTEPS"
    FOR_PATIENT = "DESTMSSANTEPAT"
    ACKNOWLEDGE_RECEPTION = "ACK_RECEPTION"
    ACKNOWLEDGE_READING = "ACK_LECTURE_MSS"


@dataclass(frozen=True, slots=True)
class Parties:
    """The addresses of a message's header, to be turned round in the answer.

    Attributes:
        sending, receiving: (application, facility) of MSH-3 to MSH-6.
    """

    sending: tuple[str, str]
    receiving: tuple[str, str]


@dataclass(frozen=True, slots=True)
class MessageHeader:
    """What an acknowledgement needs of a message.

    Attributes:
        kind: MSH-9.1; event: MSH-9.2.
        control_id: MSH-10.
        charset: a Python codec name.
    """

    parties: Parties
    kind: str
    event: str
    control_id: str
    processing: str
    version: str
    charset: str


@dataclass(frozen=True, slots=True)
class DocumentMessage:
    """A document handed over by HL7 v2.

    Attributes:
        ins: (matricule, OID) of PID-3 when one repetition is of type INS.
        unique_id, parent_unique_id: TXA-12 and TXA-13, "" when the message has no TXA.
        document: the CDA's octets; b"" when the message withdraws.
        recipients: mail addresses of PRT ``RCT``, in order, each once.
        reply_to: that of PRT ``REPLY``, "" when there is none.
        professional_text, patient_text: bodies of the mail, "" when not given.
        closes_exchange: the patient may not answer (X-MSS-MES: FIN).
    """

    header: MessageHeader
    action: Action
    ins: tuple[str, str] | None
    type_code: str
    unique_id: str
    parent_unique_id: str
    document: bytes
    recipients: tuple[str, ...]
    reply_to: str
    flags: frozenset[Flag]
    professional_text: str = ""
    patient_text: str = ""
    closes_exchange: bool = False


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What the other side answered.

    Attributes:
        accepted: MSA-1 is AA or CA.
        control_id: of the message answered (MSA-2).
        code: ERR-5.1 when it is an application code 900 to 906, else ERR-3.1, else "".
    """

    accepted: bool
    control_id: str
    code: str


def escape(text: str) -> str:
    """Write text so that it is text: separators escaped, no line can end in it.

    Source: HL7 v2.6 §2.7.
    """
    plain = "".join(c if c.isprintable() else " " for c in text)
    return _ESCAPES.sub(lambda found: ESCAPED[found[0]], plain)


ESCAPED: Final = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "~": "\\R\\", "&": "\\T\\"}
_ESCAPES: Final = re.compile(r"[\\|^~&]")
