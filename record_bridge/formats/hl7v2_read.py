"""Read HL7 v2 messages about documents; pure.

The octets come from strangers: what cannot be read is one error with a code of HL7's table 0357,
never a guess. Splitting is the ``hl7`` library's.

Source: CI-SIS §HL7V2 (2.1), HL7 v2.6 §2, MSS-FACTS §9.
"""

import re
from typing import Any, Final

import hl7
import pybase64

from record_bridge.errors import MalformedHl7Error
from record_bridge.formats.hl7v2 import (
    CHARSETS,
    ESCAPED,
    EVENTS,
    FLAG_SYSTEM,
    ORDERS,
    STATES,
    Acknowledgement,
    Action,
    DocumentMessage,
    Flag,
    Hl7Code,
    MessageHeader,
    Parties,
)

MAX_OCTETS: Final = 32 * 1024 * 1024
"""Of one message: twice the 16 MB that the largest document takes."""

MAX_SEGMENTS: Final = 2_000
MAX_RECIPIENTS: Final = 50
_LINE: Final = re.compile(rb"\r\n|\r|\n")
_OLD_NAMES: Final = {"ACK_LECTURE": Flag.ACKNOWLEDGE_READING.value}
"""Of a wish, in the profile's history; its tables say the new one."""


def parse_header(raw: bytes) -> MessageHeader:
    """Read the header alone, so that even a bad message is answered.

    Raises:
        MalformedHl7Error: there is no MSH with a control id in a known character set.
    """
    return header_of(segments_of(raw[:10_000], whole=False))


def parse_document(raw: bytes) -> DocumentMessage:
    """Read an MDM^T02, T04, T10 or an ORU^R01.

    Args:
        raw: one message without the MLLP envelope; segments end in CR, LF or CRLF.

    Raises:
        MalformedHl7Error: with the code of table 0357 to answer.

    Source: MSS-FACTS §9.
    """
    if len(raw) > MAX_OCTETS:
        raise MalformedHl7Error(Hl7Code.WRONG_TYPE.value, "too large")
    message = segments_of(raw)
    header = header_of(message)
    action = _action(message, header)
    documents = [
        segment
        for segment in _all(message, "OBX")
        if _at(segment, 2) == "ED" and _at(segment, 3, 3) != FLAG_SYSTEM
    ]
    if len(documents) != (0 if action is Action.WITHDRAW and not documents else 1):
        raise MalformedHl7Error(Hl7Code.MISSING_SEGMENT.value, "one document is expected")
    document = documents[0] if documents else None
    unique_id = _first(message, "TXA", 12)
    if action is not Action.NEW and header.kind == "MDM" and not unique_id:
        raise MalformedHl7Error(Hl7Code.MISSING_FIELD.value, "no document identifier")
    return DocumentMessage(
        header=header,
        action=action,
        ins=_ins(message),
        type_code=_at(document, 3) if document is not None else _first(message, "TXA", 2),
        unique_id=unique_id,
        parent_unique_id=_first(message, "TXA", 13),
        document=b"" if document is None else _content(document),
        recipients=_addresses(message, "RCT"),
        reply_to=next(iter(_addresses(message, "REPLY")), ""),
        flags=_flags(message),
        professional_text=_text(message, "CORPSMAIL_PS", header.charset),
        patient_text=_text(message, "CORPSMAIL_PATIENT", header.charset),
        closes_exchange=any(
            _at(note, 4) == "FIN" or ("X-MSS-MES" in _at(note, 3) and "FIN" in _at(note, 3))
            for note in _all(message, "NTE")
        ),
    )


def parse_acknowledgement(raw: bytes) -> Acknowledgement:
    """Read an ACK.

    Raises:
        MalformedHl7Error: no MSA segment.
    """
    message = segments_of(raw)
    answers = _all(message, "MSA")
    if not answers:
        raise MalformedHl7Error(Hl7Code.MISSING_SEGMENT.value, "no MSA segment")
    code = ""
    for error in _all(message, "ERR"):
        code = _at(error, 5) or _at(error, 3) or code
    return Acknowledgement(_at(answers[0], 1) in {"AA", "CA"}, _at(answers[0], 2), code)


def segments_of(raw: bytes, *, whole: bool = True) -> hl7.Message:
    """Split a message of at most ``MAX_SEGMENTS`` segments.

    Raises:
        MalformedHl7Error: it is no HL7 v2 in a known character set.
    """
    lines = [line for line in _LINE.split(raw.strip(b"\r\n\x0b\x1c ")) if line.strip()]
    if not lines or not lines[0].startswith(b"MSH|^~\\&|"):
        raise MalformedHl7Error(Hl7Code.MISSING_SEGMENT.value, "no MSH segment")
    if len(lines) > MAX_SEGMENTS:
        raise MalformedHl7Error(Hl7Code.WRONG_TYPE.value, "too many segments")
    if not whole:
        lines = lines[:1]
    fields = lines[0].split(b"|")
    named = fields[17].split(b"~")[0] if len(fields) > 17 else b""
    charset = CHARSETS.get(named.decode("ascii", "replace").strip().upper())
    if charset is None:
        raise MalformedHl7Error(Hl7Code.UNKNOWN_VALUE.value, "unknown character set")
    try:
        text = b"\r".join(lines).decode(charset)
        return hl7.parse(text)
    except (UnicodeDecodeError, hl7.HL7Exception, LookupError, ValueError) as error:
        raise MalformedHl7Error(Hl7Code.WRONG_TYPE.value, "not HL7 v2") from error


def header_of(message: hl7.Message) -> MessageHeader:
    """Read MSH.

    Raises:
        MalformedHl7Error: no control id.
    """
    msh = _all(message, "MSH")[0]
    control_id = _at(msh, 10)
    if not control_id or len(control_id) > 199:
        raise MalformedHl7Error(Hl7Code.MISSING_FIELD.value, "no control identifier")
    return MessageHeader(
        parties=Parties((_at(msh, 3), _at(msh, 4)), (_at(msh, 5), _at(msh, 6))),
        kind=_at(msh, 9),
        event=_at(msh, 9, 2),
        control_id=control_id,
        processing=_at(msh, 11) or "P",
        version=_at(msh, 12) or "2.6",
        charset=CHARSETS[_at(msh, 18).strip().upper()],
    )


def _action(message: hl7.Message, header: MessageHeader) -> Action:
    if header.kind == "MDM":
        action = EVENTS.get(header.event)
        if action is None:
            raise MalformedHl7Error(Hl7Code.UNSUPPORTED_EVENT.value, "event not supported")
        return action
    if (header.kind, header.event) != ("ORU", "R01"):
        raise MalformedHl7Error(Hl7Code.UNSUPPORTED_MESSAGE.value, "message not supported")
    order = _first(message, "ORC", 1) or "NW"
    state = next((_at(s, 11) for s in _all(message, "OBX") if _at(s, 2) == "ED"), "")
    ordered, stated = ORDERS.get(order), STATES.get(state or "F")
    if ordered is None or stated is None or (state and ordered is not stated):
        raise MalformedHl7Error(Hl7Code.UNKNOWN_VALUE.value, "order and state differ")
    return ordered


def _all(message: hl7.Message, name: str) -> list[hl7.Segment]:
    return [segment for segment in message if str(segment[0]) == name]


def components(
    message: hl7.Message, name: str, where: tuple[int, str], *wanted: tuple[int, int]
) -> tuple[str, ...] | None:
    """Give (field, component) values of the first ``name`` whose field ``where`` says so."""
    for segment in _all(message, name):
        if _at(segment, where[0]) == where[1]:
            return tuple(_at(segment, *each) for each in wanted)
    return None


def _first(message: hl7.Message, name: str, field: int) -> str:
    return next((_at(segment, field) for segment in _all(message, name)), "")


def _at(segment: hl7.Segment, field: int, component: int = 1, sub: int = 1, rep: int = 1) -> str:
    """Give one subcomponent as text, "" where it is absent. Numbers count from 1."""
    value: Any = segment
    try:
        value = segment[field]
        for number in (rep, component, sub):
            if isinstance(value, hl7.Container):
                value = value[number - 1]
            elif number != 1:
                return ""
    except LookupError:
        return ""
    text = str(value)
    return _unescape(text) if "\\" in text else text


_UNESCAPED: Final = {written: plain for plain, written in ESCAPED.items()}
_ESCAPE: Final = re.compile(r"\\[EFSRT]\\")


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda found: _UNESCAPED[found[0]], text)


def _repetitions(segment: hl7.Segment, field: int) -> int:
    try:
        value = segment[field]
    except LookupError:
        return 0
    return len(value) if isinstance(value, hl7.Container) else 1


def _ins(message: hl7.Message) -> tuple[str, str] | None:
    """Give the number of PID-3 whose type is INS; two different ones are an error."""
    found = set()
    for pid in _all(message, "PID"):
        for rep in range(1, _repetitions(pid, 3) + 1):
            if _at(pid, 3, 5, rep=rep) == "INS":
                found.add((_at(pid, 3, rep=rep), _at(pid, 3, 4, 2, rep=rep)))
    if len(found) > 1:
        raise MalformedHl7Error(Hl7Code.UNKNOWN_VALUE.value, "two patients")
    return next(iter(found), None)


def _content(segment: hl7.Segment) -> bytes:
    encoding, data = _at(segment, 5, 4), _at(segment, 5, 5)
    if encoding.upper() != "BASE64" or not data:
        raise MalformedHl7Error(Hl7Code.WRONG_TYPE.value, "the document is not in base64")
    try:
        return pybase64.b64decode(data, validate=True)
    except ValueError as error:
        raise MalformedHl7Error(
            Hl7Code.WRONG_TYPE.value, "the document is not in base64"
        ) from error


def _addresses(message: hl7.Message, role: str) -> tuple[str, ...]:
    found = dict.fromkeys(
        _at(part, 15, 4)
        for part in _all(message, "PRT")
        if _at(part, 4) == role and _at(part, 15, 4)
    )
    if len(found) > MAX_RECIPIENTS:
        raise MalformedHl7Error(Hl7Code.WRONG_TYPE.value, "too many recipients")
    return tuple(found)


def _flags(message: hl7.Message) -> frozenset[Flag]:
    """Give the wishes said with Y; another word than Y or N is an error, not a no."""
    found = set()
    for segment in _all(message, "OBX"):
        if _at(segment, 3, 3) != FLAG_SYSTEM or _at(segment, 2) == "ED":
            continue
        try:
            name = _at(segment, 3)
            flag = Flag(_OLD_NAMES.get(name, name))
        except ValueError as error:
            raise MalformedHl7Error(Hl7Code.UNKNOWN_VALUE.value, "unknown wish") from error
        said = _at(segment, 5)
        if said not in {"Y", "N"}:
            raise MalformedHl7Error(Hl7Code.UNKNOWN_VALUE.value, "a wish is Y or N")
        if said == "Y":
            found.add(flag)
    return frozenset(found)


def _text(message: hl7.Message, name: str, charset: str) -> str:
    for segment in _all(message, "OBX"):
        is_named = _at(segment, 3) == name and _at(segment, 3, 3) == FLAG_SYSTEM
        if is_named and _at(segment, 2) == "ED":
            return _content(segment).decode(charset, "replace")
    return ""
