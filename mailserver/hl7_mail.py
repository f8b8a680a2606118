"""What a hospital's HL7 v2 message becomes: MSSanté messages, or a coded refusal; pure.

Professionals and the patient get a message each: their texts differ, and neither sees that the
other has one. Invariants: the INS of PID and of the document are one, or nothing is sent; a
patient is written to only at a qualified INS; the same document for the same people is the same
message (its Message-ID comes from both), so a hospital may repeat what it got no answer to.

Source: CI-SIS §HL7V2 (2.1), MSS-FACTS §6.3, MSS-FACTS §9, RULES §5, RULES §11.
"""

import hashlib
import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from certs.addresses import Address, Mailbox, parse_addr_spec
from certs.errors import MalformedAddressError
from mailserver.report_message import (
    Asks,
    Envelope,
    Identifiers,
    RefusedReportError,
    Report,
    build,
    check,
    is_qualified,
    read_report,
)
from record_bridge.errors import MalformedHl7Error
from record_bridge.formats.hl7v2 import (
    Action,
    DocumentMessage,
    Flag,
    Hl7Code,
    MessageHeader,
)
from record_bridge.formats.hl7v2_read import parse_document, parse_header

_NAMESPACE = uuid.UUID("0d5f3f0e-5f52-5b47-9d0c-6a3c0f1f6a11")
_MASKS = {
    Flag.MASKED: "MASQUE_PS",
    Flag.INVISIBLE_PATIENT: "INVISIBLE_PATIENT",
    Flag.INVISIBLE_REPRESENTATIVES: "INVISIBLE_REPRESENTANTS_LEGAUX",
}


class Turned(Enum):
    """Why a readable message is turned away: code of table 0357, application code, text."""

    NO_RECIPIENT = (Hl7Code.MISSING_FIELD, "", "no recipient is named")
    BAD_ADDRESS = (Hl7Code.UNKNOWN_VALUE, "", "a recipient's address is not well formed")
    UNREADABLE = (Hl7Code.WRONG_TYPE, "906", "the document cannot be read")
    TWO_PATIENTS = (Hl7Code.UNKNOWN_VALUE, "906", "the document names two patients, or none")
    OTHER_PATIENT = (Hl7Code.UNKNOWN_VALUE, "904", "PID and the document differ on the patient")
    NO_INS = (Hl7Code.MISSING_FIELD, "903", "no INS to write to the patient at")
    INS_NOT_QUALIFIED = (Hl7Code.MISSING_FIELD, "905", "the patient's identity is not qualified")
    OTHER_DOCUMENT = (Hl7Code.UNKNOWN_VALUE, "906", "TXA and the document differ on identifiers")
    CONTRADICTION = (Hl7Code.UNKNOWN_VALUE, "906", "the wishes exclude the recipients named")
    NOTHING_TO_WITHDRAW = (Hl7Code.MISSING_FIELD, "906", "a withdrawal carries the document")
    REFUSED = (Hl7Code.UNKNOWN_VALUE, "", "a recipient cannot be written to")
    UNSUPPORTED = (Hl7Code.UNSUPPORTED_MESSAGE, "", "the message cannot be taken")

    @property
    def code(self) -> Hl7Code:
        """Of HL7 table 0357."""
        return self.value[0]

    @property
    def application_code(self) -> str:
        """900 to 906 where one applies, else ""."""
        return self.value[1]

    @property
    def text(self) -> str:
        """What the answer says; fixed."""
        return self.value[2]


@dataclass(frozen=True, slots=True)
class Door:
    """What is known of the structure whose software speaks.

    Attributes:
        application: the structure's application mailbox, the author of what is sent.
        patient_domain: of the patients' addresses of this site.
        source_id: OID of this software.
    """

    application: Mailbox
    patient_domain: str
    source_id: str


@dataclass(frozen=True, slots=True)
class HospitalMail:
    """A message to submit; not signed yet."""

    recipients: tuple[str, ...]
    raw: bytes


@dataclass(frozen=True, slots=True)
class HospitalOrder:
    """What an HL7 message comes to.

    Attributes:
        header: None when not even that can be read: there is nothing to answer.
        mails: empty when it is turned away.
        wants_reception, wants_reading: acknowledgements that its software asks for.
        code, application_code, text: of the answer when it is turned away.
    """

    header: MessageHeader | None
    mails: tuple[HospitalMail, ...] = ()
    code: Hl7Code = Hl7Code.ACCEPTED
    application_code: str = ""
    text: str = ""
    wants_reception: bool = False
    wants_reading: bool = False


def source_id(domain: str) -> str:
    """Give the OID under which a domain's software sends."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_DNS, domain).int}"


class _TurnedError(Exception):
    def __init__(self, why: Turned) -> None:
        super().__init__(why.text)
        self.why = why


def to_order(raw: bytes, door: Door, at: datetime) -> HospitalOrder:
    """Read an HL7 message and write the mail it asks for.

    Args:
        raw: one message, without its MLLP block.
        door: the structure.
        at: aware; the date of what is written.
    """
    try:
        header = parse_header(raw)
    except MalformedHl7Error as error:
        return HospitalOrder(None, code=Hl7Code(error.code), text=error.reason)
    try:
        message = parse_document(raw)
        return HospitalOrder(
            header,
            _mails(message, door, at),
            wants_reception=Flag.ACKNOWLEDGE_RECEPTION in message.flags,
            wants_reading=Flag.ACKNOWLEDGE_READING in message.flags,
        )
    except MalformedHl7Error as error:
        return HospitalOrder(header, code=Hl7Code(error.code), text=error.reason)
    except _TurnedError as turned:
        why = turned.why
        return HospitalOrder(
            header, code=why.code, application_code=why.application_code, text=why.text
        )


def _mails(message: DocumentMessage, door: Door, at: datetime) -> tuple[HospitalMail, ...]:
    report = _report(message)
    professionals = tuple(_mailbox(each) for each in message.recipients)
    patient = _patient(message, report, door)
    _judge_wishes(message.flags, professionals, patient)
    reply_to = _mailbox(message.reply_to) if message.reply_to else None
    masks = tuple(_MASKS[flag] for flag in _MASKS if flag in message.flags)
    asks = Asks(masks, withdrawal=message.action is Action.WITHDRAW)
    found = []
    for to, text, closes in (
        (professionals, message.professional_text, False),
        (patient, message.patient_text, message.closes_exchange),
    ):
        if to:
            envelope = Envelope(
                author=door.application,
                to=to,
                text=text,
                reply_to=reply_to,
                closes_exchange=closes,
                asks=asks,
            )
            raw = build([report], envelope, _identifiers(report, to, door, (asks, at)), None)
            found.append(HospitalMail(tuple(each.address.text for each in to), raw))
    return tuple(found)


def _report(message: DocumentMessage) -> Report:
    """Read the document, and hold it against what the message says of it."""
    if not message.document:
        raise _TurnedError(Turned.NOTHING_TO_WITHDRAW)
    report = read_report(message.document)
    try:
        check([report])
    except RefusedReportError as refused:
        unreadable = report.header is None
        why = Turned.UNREADABLE if unreadable else Turned.TWO_PATIENTS
        raise _TurnedError(why) from refused
    header = report.header
    if header is None:
        raise _TurnedError(Turned.UNREADABLE)
    numbers = {(number.extension, number.root) for number in header.patients[0].ins_ids}
    if message.ins is not None and numbers != {message.ins}:
        raise _TurnedError(Turned.OTHER_PATIENT)
    if message.unique_id not in ("", header.unique_id):
        raise _TurnedError(Turned.OTHER_DOCUMENT)
    replaced = header.parent_unique_id or ""
    if message.action is not Action.NEW and (
        not replaced or message.parent_unique_id not in ("", replaced)
    ):
        raise _TurnedError(Turned.OTHER_DOCUMENT)
    return report


def _patient(message: DocumentMessage, report: Report, door: Door) -> tuple[Mailbox, ...]:
    """Give the patient's address when one is to be written to."""
    if Flag.FOR_PATIENT not in message.flags:
        return ()
    if message.ins is None:
        raise _TurnedError(Turned.NO_INS)
    if report.header is None or not is_qualified(report.header):
        raise _TurnedError(Turned.INS_NOT_QUALIFIED)
    return (Mailbox("", Address(message.ins[0], door.patient_domain)),)


def _judge_wishes(
    flags: frozenset[Flag], professionals: tuple[Mailbox, ...], patient: tuple[Mailbox, ...]
) -> None:
    """Refuse recipients that the visibility asked for excludes.

    Source: MSS-FACTS §6.3 (combination rules for sending).
    """
    if not professionals and not patient:
        raise _TurnedError(Turned.NO_RECIPIENT)
    masked = Flag.MASKED in flags
    hidden_from_representatives = Flag.INVISIBLE_REPRESENTATIVES in flags
    if Flag.INVISIBLE_PATIENT in flags:
        allowed = not (masked or hidden_from_representatives or patient)
    elif masked or hidden_from_representatives:
        elsewhere = flags & {Flag.SECRET_CONNECTION, Flag.FOR_RECORD}
        allowed = not professionals and not elsewhere
    else:
        allowed = True
    if not allowed:
        raise _TurnedError(Turned.CONTRADICTION)


def _mailbox(text: str) -> Mailbox:
    try:
        return Mailbox("", parse_addr_spec(text))
    except MalformedAddressError as error:
        raise _TurnedError(Turned.BAD_ADDRESS) from error


def _identifiers(
    report: Report, to: tuple[Mailbox, ...], door: Door, what: tuple[Asks, datetime]
) -> Identifiers:
    """Name the message after the document and the people, so that it is itself when repeated."""
    asks, at = what
    digest = hashlib.sha256(report.content)
    for part in (
        door.application.address.key,
        *(each.address.key for each in to),
        *asks.masks,
        "withdrawal" if asks.withdrawal else "",
    ):
        digest.update(b"\0" + part.encode())
    name = uuid.uuid5(_NAMESPACE, digest.hexdigest())
    return Identifiers(
        at=at,
        message_id=f"<{name}@{door.application.address.domain}>",
        set_id=f"2.25.{name.int}",
        source_id=door.source_id,
    )
