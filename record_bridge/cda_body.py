"""Read the body of a CDA: the file of level 1, the sections and the acts of level 3.

The narrative is what people are shown; entries serve lists only. An act that did not or will not
happen leaves nothing: ``negationInd="true"`` on it or around it, a nullFlavor on itself, or a
status that voids it or what encloses it. Acts of each kind are capped per document.

Source: CDA R2 §4.3, CI-SIS §ModelesContenu, MSS-FACTS §4.5, RULES §8.
"""

import binascii
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final

import pybase64
from lxml import etree

from record_bridge.cda_products import (
    MAX_LABEL,
    VACCINATION_DONE,
    VACCINATION_DUE,
    Narrative,
    is_prescription,
    number_of,
    product_code,
)
from record_bridge.cda_walk import ASKED, period_of, templates, walk
from record_bridge.errors import MalformedCdaError
from record_bridge.formats.cda_header import HL7, CdaHeader
from record_bridge.formats.dtm import parse_dtm
from record_bridge.formats.safe_xml import text_of
from record_bridge.model import ActKind, AgendaAct

MAX_ACTS_PER_KIND: Final = 100
"""The largest real documents (care plans, vaccination histories) hold fewer than fifty."""

MAX_SECTIONS: Final = 500

_VACCINATION_SECTION: Final = "11369-6"
_DEVICE_SECTION: Final = "46264-8"
_DEVICE: Final = "1.2.250.1.213.1.1.3.20"
_LAST_START: Final = date(9990, 1, 1)
"""Nothing is added to a later day: the calendar ends."""
_EXAMINATION: Final = "1.2.250.1.213.1.1.3.27"
_APPOINTMENT_NOTICE: Final = "56446-8"
_ATC: Final = "2.16.840.1.113883.6.73"
_CERTIFICATES: Final = {
    "1.2.250.1.213.1.1.1.5.1": "CSE-CS8",
    "1.2.250.1.213.1.1.1.5.2": "CSE-CS9",
    "1.2.250.1.213.1.1.1.5.3": "CSE-CS24",
}
"""Models of the three health certificates of a child (8 days, 9 months, 24 months)."""


@dataclass(frozen=True, slots=True)
class EmbeddedFile:
    """The body of a level 1 document, or the copy of a level 3 one.

    Attributes:
        media_type: as declared, lower case.
    """

    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Section:
    """One section of a level 3 body.

    Attributes:
        depth: 0 for a section of the body, 1 for one inside it, and so on.
        text: the narrative as plain text, for search; pages render the element itself.
    """

    code: str
    title: str
    depth: int
    text: str


def level1_media_type(document: etree._Element) -> str:
    """Declared type of a nonXMLBody, lower case; "" when there is none."""
    text = document.find(f"{HL7}component/{HL7}nonXMLBody/{HL7}text")
    return "" if text is None else (text.get("mediaType") or "text/plain").lower()[:100]


def level1_file(document: etree._Element) -> EmbeddedFile | None:
    """The file of a nonXMLBody; None for another body.

    Raises:
        MalformedCdaError: the base64 is not base64.

    Source: CI-SIS §StructMin (nonXMLBody).
    """
    text = document.find(f"{HL7}component/{HL7}nonXMLBody/{HL7}text")
    if text is None:
        return None
    return EmbeddedFile(level1_media_type(document), _decoded(text))


def copies(document: etree._Element) -> Iterator[EmbeddedFile]:
    """Files embedded in a level 3 body (``observationMedia``), the PDF copy among them.

    Raises:
        MalformedCdaError: the base64 is not base64.

    Source: MSS-FACTS §4.3 (section 55108-5).
    """
    for media in document.iter(HL7 + "observationMedia"):
        value = media.find(HL7 + "value")
        if value is not None and value.get("representation") == "B64":
            yield EmbeddedFile((value.get("mediaType") or "").lower()[:100], _decoded(value))


def sections(document: etree._Element) -> tuple[Section, ...]:
    """The narrative sections in reading order, at most MAX_SECTIONS."""
    found: list[Section] = []
    body = document.find(f"{HL7}component/{HL7}structuredBody")
    stack = [] if body is None else [(section, 0) for section in _subsections(body)][::-1]
    while stack and len(found) < MAX_SECTIONS:
        section, depth = stack.pop()
        code = section.find(HL7 + "code")
        found.append(
            Section(
                code="" if code is None else (code.get("code") or "")[:50],
                title=text_of(section.find(HL7 + "title"), 300),
                depth=depth,
                text=text_of(section.find(HL7 + "text"), 100_000),
            )
        )
        stack.extend([(inner, depth + 1) for inner in _subsections(section)][::-1])
    return tuple(found)


def acts(document: etree._Element, header: CdaHeader) -> tuple[AgendaAct, ...]:
    """The acts of a document that count, in document order, within the caps.

    Source: RULES §8, MSS-FACTS §4.5.
    """
    reader = _Reader(Narrative(document))
    walk(document, reader.visit)
    if header.code == _APPOINTMENT_NOTICE:
        reader.add(_appointment(header))
    for root in templates(document) & _CERTIFICATES.keys():
        reader.add(_certificate(header, _CERTIFICATES[root]))
    return tuple(reader.found)


@dataclass(slots=True)
class _Reader:
    """Collects the acts that count."""

    narrative: Narrative
    found: list[AgendaAct] = field(default_factory=list)
    counts: dict[ActKind, int] = field(default_factory=dict)

    def visit(self, element: etree._Element, section: str) -> bool:
        kind = _kind(element, section)
        if kind is not None:
            self.add(self._act(element, kind))
        # inside a line are its doses, inside a dispensation the line of another document
        return kind is not ActKind.PRESCRIPTION and element.tag != HL7 + "supply"

    def add(self, act: AgendaAct) -> None:
        count = self.counts.get(act.kind, 0)
        if count < MAX_ACTS_PER_KIND:
            self.counts[act.kind] = count + 1
            self.found.append(act)

    def _act(self, element: etree._Element, kind: ActKind) -> AgendaAct:
        code = element.find(HL7 + "code")
        low, high = period_of(element)
        if element.tag == HL7 + "supply":
            code = element.find(
                f"{HL7}participant/{HL7}participantRole/{HL7}playingDevice/{HL7}code"
            )
            label = self.narrative.label(code)
            high = high or _end_of_use(element, low)
        elif kind in (ActKind.VACCINATION, ActKind.VACCINATION_DUE, ActKind.PRESCRIPTION):
            code = product_code(element)
            label = self.narrative.product(element)
        else:
            label = self.narrative.label(code)
        label = label or self.narrative.referenced(element.find(HL7 + "text"))
        repeat = element.find(HL7 + "repeatNumber")
        return AgendaAct(
            kind=kind,
            code="" if code is None else (code.get("code") or "")[:100],
            code_system="" if code is None else (code.get("codeSystem") or "")[:100],
            label=label[:MAX_LABEL],
            low=low,
            high=high,
            place=_place(element),
            performer=_performer(element),
            as_needed=self.narrative.has_condition(element),
            renewals=number_of(repeat) or 0,
            dose=_dose(element),
            atc=_atc(code) if kind is ActKind.VACCINATION else "",
        )


def _kind(element: etree._Element, section: str) -> ActKind | None:
    """Which kind of act this is; None for what no list shows."""
    mood = element.get("moodCode")
    tag = str(element.tag).removeprefix(HL7)
    if tag == "substanceAdministration":
        return _administration(element, mood, section)
    if tag == "observation" and mood == "GOL" and _EXAMINATION in templates(element):
        return ActKind.EXAMINATION
    if mood not in ASKED:
        return None
    if tag == "supply":
        is_device = section == _DEVICE_SECTION or _DEVICE in templates(element)
        return ActKind.PRESCRIPTION if is_device else None
    return {
        "encounter": ActKind.FOLLOW_UP,
        "procedure": ActKind.PROCEDURE,
        "observation": ActKind.EXAMINATION,
    }.get(tag)


def _administration(element: etree._Element, mood: str | None, section: str) -> ActKind | None:
    named = templates(element)
    in_vaccinations = section == _VACCINATION_SECTION
    if mood == "EVN":
        is_vaccination = in_vaccinations or named & VACCINATION_DONE
        return ActKind.VACCINATION if is_vaccination else None
    if mood not in ASKED:
        return None
    if in_vaccinations or named & VACCINATION_DUE:
        return ActKind.VACCINATION_DUE
    if is_prescription(named, section):
        return ActKind.PRESCRIPTION
    return None


def _subsections(element: etree._Element) -> Iterator[etree._Element]:
    return element.iterfind(f"{HL7}component/{HL7}section")


def _end_of_use(element: etree._Element, low: str | None) -> str | None:
    """The day a device's use ends: its start and the days of expectedUseTime.

    Source: MSS-FACTS §4.5 (medical devices).
    """
    width = element.find(f"{HL7}expectedUseTime/{HL7}width")
    days = number_of(width)
    start = parse_dtm(low)
    if width is None or width.get("unit") != "d" or not days or start is None:
        return None
    if start.day is None or start.day > _LAST_START:
        return None
    return (start.day + timedelta(days=days)).isoformat().replace("-", "")


def _dose(element: etree._Element) -> int | None:
    """The dose number of a vaccination (LOINC 30973-2)."""
    for observation in element.iterfind(f"{HL7}entryRelationship/{HL7}observation"):
        code = observation.find(HL7 + "code")
        if code is not None and code.get("code") == "30973-2":
            return number_of(observation.find(HL7 + "value"))
    return None


def _place(element: etree._Element) -> str | None:
    for participant in element.iterfind(HL7 + "participant"):
        if participant.get("typeCode") == "LOC":
            role = participant.find(HL7 + "participantRole")
            entity = None if role is None else role.find(HL7 + "playingEntity")
            address = None if role is None else role.find(HL7 + "addr")
            parts = ["" if entity is None else text_of(entity.find(HL7 + "name"), MAX_LABEL)]
            parts += [] if address is None else [" ".join(text_of(p) for p in address)]
            return ", ".join(" ".join(p.split()) for p in parts if p.strip())[:MAX_LABEL] or None
    return None


def _performer(element: etree._Element) -> str | None:
    entity = element.find(f"{HL7}performer/{HL7}assignedEntity")
    if entity is None:
        return None
    name = " ".join(text_of(p) for p in entity.iterfind(f"{HL7}assignedPerson/{HL7}name/*"))
    code = entity.find(HL7 + "code")
    profession = "" if code is None else code.get("displayName") or ""
    return (" ".join(name.split()) or " ".join(profession.split()))[:MAX_LABEL] or None


def _atc(code: etree._Element | None) -> str:
    """The ATC code of a product, itself or among its translations."""
    if code is None:
        return ""
    for each in (code, *code.iterfind(HL7 + "translation")):
        if each.get("codeSystem") == _ATC:
            return (each.get("code") or "")[:10]
    return ""


def _certificate(header: CdaHeader, name: str) -> AgendaAct:
    """A child's health certificate says that its examination took place.

    Source: MSS-FACTS §7.2 (CSE-CS8, CSE-CS9, CSE-CS24).
    """
    event = next(iter(header.events), None)
    low = None if event is None else event.low
    return AgendaAct(
        kind=ActKind.CERTIFICATE,
        code=name,
        code_system="",
        label=header.title[:MAX_LABEL],
        low=low or header.effective_time,
    )


def _appointment(header: CdaHeader) -> AgendaAct:
    """A notice of appointment has no entries: its time is that of the main act.

    Source: MSS-FACTS §4.5 (type 56446-8, derived).
    """
    event = next(iter(header.events), None)
    return AgendaAct(
        kind=ActKind.APPOINTMENT,
        code=header.code,
        code_system=header.code_system,
        label=header.title[:MAX_LABEL],
        low=None if event is None else event.low,
        high=None if event is None else event.high,
        place=header.custodian.name or None,
    )


def _decoded(element: etree._Element) -> bytes:
    text = "".join(map(str, element.itertext()))
    if (element.get("representation") or "").upper() != "B64":
        return text.encode()
    try:
        return pybase64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise MalformedCdaError("base64") from None
