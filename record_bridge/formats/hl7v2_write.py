"""Write HL7 v2: acknowledgements, and the MDM that hands a filed document over; pure.

Source: CI-SIS §HL7-LPS (1.1), HL7 v2.6 §2, MSS-FACTS §9.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pybase64

from record_bridge.formats.hl7v2 import (
    CHARSETS,
    EVENTS,
    FLAG_SYSTEM,
    HANDOVER_PROFILE,
    ORDERS,
    STATES,
    Action,
    Flag,
    Hl7Code,
    MessageHeader,
    Parties,
    escape,
)

_EVENT_OF: Final = {action: event for event, action in EVENTS.items()}
_ORDER_OF: Final = {action: order for order, action in ORDERS.items()}
_STATE_OF: Final = {action: state for state, action in STATES.items()}


@dataclass(frozen=True, slots=True)
class AckFacts:
    """What an answer says.

    Attributes:
        at: aware; control_id: of the answer itself.
        accepted: AA, else AE; AR when ``code`` is INTERNAL: to be sent again later.
        code: of table 0357; application_code: 900 to 906 where one applies.
        text: fixed English or French text, never input.
    """

    at: datetime
    control_id: str
    accepted: bool
    code: Hl7Code = Hl7Code.ACCEPTED
    application_code: str = ""
    text: str = ""


def encode_ack(header: MessageHeader, facts: AckFacts) -> bytes:
    """Answer a message, in its own character set and version.

    Source: HL7 v2.6 §2.9, §2.15.8.
    """
    parties = Parties(header.parties.receiving, header.parties.sending)
    lines = [
        write_msh(parties, f"ACK^{header.event}^ACK" if header.event else "ACK", facts, header),
        "|".join(("MSA", _said(facts), escape(header.control_id))),
    ]
    if not facts.accepted:
        local = f"{facts.application_code}^{escape(facts.text)}" if facts.application_code else ""
        lines.append(
            "|".join(
                ("ERR", "", "", f"{facts.code.value}^^HL70357", "E", local, "", escape(facts.text))
            )
        )
    return ("\r".join(lines) + "\r").encode(header.charset, "replace")


def _said(facts: AckFacts) -> str:
    """Give MSA-1. Source: HL7 table 0008."""
    if facts.accepted:
        return "AA"
    return "AR" if facts.code is Hl7Code.INTERNAL else "AE"


@dataclass(frozen=True, slots=True)
class HandoverFacts:
    """A filed document to hand to the structure's own software.

    Attributes:
        at: aware; control_id: of this message, the same at every try.
        ins: (matricule, OID).
        traits: (birth name, first birth name, birth date YYYYMMDD, sex), as in the document.
        type_code, type_label: of the document (LOINC or national).
        parent_unique_id: "" unless it replaces one.
        hidden: from whom it is hidden at that moment.
    """

    parties: Parties
    at: datetime
    control_id: str
    action: Action
    ins: tuple[str, str]
    traits: tuple[str, str, str, str]
    type_code: str
    type_label: str
    unique_id: str
    parent_unique_id: str
    document: bytes
    hidden: frozenset[Flag] = frozenset()


def encode_handover(facts: HandoverFacts) -> bytes:
    """Write the MDM^T02, T10 or T04 that hands a document over, in UTF-8.

    Source: CI-SIS §HL7-LPS (1.1), MSS-FACTS §9.
    """
    event = _EVENT_OF[facts.action]
    header = MessageHeader(facts.parties, "MDM", event, "", "P", "2.6", "utf-8")
    matricule, oid = map(escape, facts.ins)
    family, given, born, sex = map(escape, facts.traits)
    number = f"{matricule}^^^ASIP-SANTE-INS-NIR&{oid}&ISO^INS"
    name = f"{family}^{given}^^^^^L"
    kind = f"{escape(facts.type_code)}^{escape(facts.type_label)}^LN"
    msh = write_msh(facts.parties, f"MDM^{event}^MDM_T02", facts, header, HANDOVER_PROFILE)
    txa = ["TXA", "1", escape(facts.type_code), "TEXT", *[""] * 8, escape(facts.unique_id)]
    txa += [escape(facts.parent_unique_id), "", "", "", "AU"]
    content = pybase64.b64encode(facts.document).decode("ascii")
    obx = ["OBX", "1", "ED", kind, "", f"^text^XML^Base64^{content}"]
    obx += ["", "", "", "", "", _STATE_OF[facts.action]]
    lines = [
        msh,
        f"EVN||{_stamp(facts.at)}",
        f"PID|||{number}||{name}||{born}|{sex}",
        "PV1||N",
        f"ORC|{_ORDER_OF[facts.action]}",
        "|".join(txa),
        "|".join(obx),
        *(
            f"OBX|{number}|CWE|{flag.value}^{flag.value}^{FLAG_SYSTEM}"
            "||Y^^expandedYes-NoIndicator||||||F"
            for number, flag in enumerate(sorted(facts.hidden, key=lambda each: each.value), 2)
        ),
    ]
    return ("\r".join(lines) + "\r").encode("utf-8")


def write_msh(
    parties: Parties,
    kind: str,
    facts: AckFacts | HandoverFacts,
    header: MessageHeader,
    profile: str = "",
) -> str:
    """Write MSH; version and character set are those of ``header``, what it is of ``facts``."""
    charset = next(name for name, codec in CHARSETS.items() if codec == header.charset)
    fields = [
        "MSH",
        "^~\\&",
        *(escape(name) for name in (*parties.sending, *parties.receiving)),
        _stamp(facts.at),
        "",
        kind,
        escape(facts.control_id),
        escape(header.processing),
        escape(header.version),
        *[""] * 4,
        "FRA",
        charset,
        "",
        "",
        profile,
    ]
    return "|".join(fields).rstrip("|")


def _stamp(at: datetime) -> str:
    return at.strftime("%Y%m%d%H%M%S%z")
