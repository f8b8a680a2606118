"""Read the header of a CDA R2 document of the French profile (CI-SIS).

ClinicalDocument is found by its name, so a wrapper that makes the document show itself
("autoprésentable") is stepped over and its style sheet never run. Two ClinicalDocuments in one
file are refused. Values are kept as text, as the sender wrote them, blanks squeezed; what a
field means for filing is decided by the rules, not here.

Source: CDA R2 §4.2, CI-SIS §StructMin.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from lxml import etree

from record_bridge.errors import MalformedCdaError
from record_bridge.formats.safe_xml import parse_xml, text_of

HL7 = "{urn:hl7-org:v3}"
MAX_REPEATS = 200
"""Most repetitions of one header element; real documents have fewer than twenty."""

PS_ROOT = "1.2.250.1.71.4.2.1"
STRUCTURE_ROOT = "1.2.250.1.71.4.2.2"

_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
"""A root that is no OID; the same in either case, written in capitals. Source: HL7 V3 UUID."""

INS_NIR = "1.2.250.1.213.1.4.8"
INS_NIA = "1.2.250.1.213.1.4.9"
INS_NIR_TEST = "1.2.250.1.213.1.4.10"
INS_NIR_DEMO = "1.2.250.1.213.1.4.11"
INS_C = "1.2.250.1.213.1.4.2"
INS_C_TEST = "1.2.250.1.213.1.4.6"
INS_ROOTS = frozenset({INS_NIR, INS_NIA, INS_NIR_TEST, INS_NIR_DEMO, INS_C, INS_C_TEST})


@dataclass(frozen=True, slots=True)
class Ii:
    """An HL7 instance identifier: root, and the extension when there is one."""

    root: str
    extension: str = ""

    @property
    def text(self) -> str:
        """``root^extension``, or the root alone: the form of XDS uniqueId."""
        return f"{self.root}^{self.extension}" if self.extension else self.root


@dataclass(frozen=True, slots=True)
class CdaPatient:
    """One recordTarget.

    Attributes:
        ids: every ``patientRole/id``.
        birth_families: values of ``family`` qualified BR, each once.
        first_givens: values of ``given`` qualified BR, each once.
        birth_time: as written, None when absent or null.
        birth_place: ``birthplace/place/addr/county``, "" when absent.
        display: a name to show to people, never to match on.
    """

    ids: tuple[Ii, ...]
    birth_families: tuple[str, ...]
    first_givens: tuple[str, ...]
    sex: str | None
    birth_time: str | None
    birth_place: str
    display: str = ""

    @property
    def ins_ids(self) -> tuple[Ii, ...]:
        """The identifiers under an INS authority, each once."""
        return tuple(dict.fromkeys(i for i in self.ids if i.root in INS_ROOTS))


@dataclass(frozen=True, slots=True)
class CdaOrganization:
    """An organisation as named by a header."""

    ids: tuple[Ii, ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class CdaPerson:
    """An author, an authenticator or a recipient, with the organisation acted for.

    Attributes:
        profession: displayName of the code (profession and specialty), "" when absent.
    """

    ids: tuple[Ii, ...]
    name: str = ""
    profession: str = ""
    organization: CdaOrganization | None = None

    @property
    def shown_name(self) -> str:
        """The name, or that of the organisation where nobody in it is named."""
        return self.name or (self.organization.name if self.organization else "")


@dataclass(frozen=True, slots=True)
class CdaEvent:
    """``documentationOf/serviceEvent`` or the encompassing encounter: what, from when to when."""

    code: str = ""
    display: str = ""
    low: str | None = None
    high: str | None = None


@dataclass(frozen=True, slots=True)
class CdaParent:
    """``relatedDocument``: how this document relates to an earlier one."""

    kind: str
    ids: tuple[Ii, ...]


@dataclass(frozen=True, slots=True)
class CdaHeader:
    """What the header says.

    Attributes:
        level: 1 (nonXMLBody) or 3 (structuredBody); 0 without a body.
        attending_ids: identifiers of the "médecin traitant" (participant INF, function PCP).
    """

    id: Ii
    code: str
    code_system: str
    code_display: str
    title: str
    effective_time: str | None
    confidentiality: str
    language: str
    set_id: str
    version_number: int | None
    patients: tuple[CdaPatient, ...]
    authors: tuple[CdaPerson, ...]
    custodian: CdaOrganization
    legal_authenticator: CdaPerson | None = None
    recipients: tuple[CdaPerson, ...] = ()
    attending_ids: tuple[Ii, ...] = ()
    events: tuple[CdaEvent, ...] = ()
    encounter: CdaEvent | None = None
    parents: tuple[CdaParent, ...] = ()
    template_ids: tuple[str, ...] = field(default=())
    level: int = 0

    @property
    def unique_id(self) -> str:
        """``ClinicalDocument/id`` in the form of XDS uniqueId."""
        return self.id.text

    @property
    def parent_unique_id(self) -> str | None:
        """The document this one replaces (RPLC), None when it replaces none."""
        for parent in self.parents:
            if parent.kind == "RPLC" and parent.ids:
                return parent.ids[0].text
        return None


def load_cda(content: bytes) -> etree._Element:
    """The one ClinicalDocument element of a file.

    Raises:
        MalformedCdaError: unsafe or broken XML, no ClinicalDocument, or several.
    """
    root = parse_xml(content, MalformedCdaError)
    if root.tag == HL7 + "ClinicalDocument":
        if next(root.iterdescendants(HL7 + "ClinicalDocument"), None) is not None:
            raise MalformedCdaError("several documents")
        return root
    found = root.iter(HL7 + "ClinicalDocument")
    document = next(found, None)
    if document is None:
        raise MalformedCdaError("no ClinicalDocument")
    if next(found, None) is not None:
        raise MalformedCdaError("several documents")
    return document


def parse_cda(content: bytes) -> CdaHeader:
    """Read the header of a document.

    Raises:
        MalformedCdaError: unsafe or broken XML, or no identifier.

    Source: CI-SIS §StructMin.
    """
    return read_header(load_cda(content))


def read_header(document: etree._Element) -> CdaHeader:
    """The header of a ClinicalDocument element.

    Raises:
        MalformedCdaError: without exactly one usable ``id``, or over the caps.

    Source: CI-SIS §StructMin.
    """
    parts: dict[str, list[etree._Element]] = {}
    for child in document:
        if isinstance(child.tag, str) and child.tag.startswith(HL7):
            same = parts.setdefault(child.tag.removeprefix(HL7), [])
            if len(same) >= MAX_REPEATS:
                raise MalformedCdaError("too many repetitions")
            same.append(child)
    ids = [i for i in map(_ii, parts.get("id", [])) if i is not None]
    if len(ids) != 1:
        raise MalformedCdaError("no single identifier")
    code = _one(parts, "code")
    version = _attribute(_one(parts, "versionNumber"), "value")
    set_id = _ii(_one(parts, "setId"))
    body_level = {"nonXMLBody": 1, "structuredBody": 3}
    levels = [
        body_level.get(str(body.tag).removeprefix(HL7), 0)
        for component in parts.get("component", [])
        for body in component
    ]
    return CdaHeader(
        id=ids[0],
        code=_attribute(code, "code"),
        code_system=_attribute(code, "codeSystem"),
        code_display=_attribute(code, "displayName"),
        title=text_of(_one(parts, "title"), 300),
        effective_time=_time(_one(parts, "effectiveTime")),
        confidentiality=_attribute(_one(parts, "confidentialityCode"), "code"),
        language=_attribute(_one(parts, "languageCode"), "code"),
        set_id=set_id.text if set_id else "",
        version_number=int(version) if version.isascii() and version.isdigit() else None,
        patients=tuple(map(_patient, parts.get("recordTarget", []))),
        authors=tuple(_person(_child(a, "assignedAuthor")) for a in parts.get("author", [])),
        custodian=_custodian(_one(parts, "custodian")),
        legal_authenticator=_legal(_one(parts, "legalAuthenticator")),
        recipients=tuple(
            _person(_child(r, "intendedRecipient")) for r in parts.get("informationRecipient", [])
        ),
        attending_ids=_attending(parts.get("participant", [])),
        events=tuple(_event(_child(e, "serviceEvent")) for e in parts.get("documentationOf", [])),
        encounter=_encounter(_one(parts, "componentOf")),
        parents=tuple(map(_parent, parts.get("relatedDocument", []))),
        template_ids=tuple(_attribute(t, "root") for t in parts.get("templateId", [])),
        level=next(filter(None, levels), 0),
    )


# --- elements --------------------------------------------------------------------------------


def _one(parts: dict[str, list[etree._Element]], name: str) -> etree._Element | None:
    found = parts.get(name)
    return found[0] if found else None


@lru_cache(maxsize=64)
def _steps(path: str) -> str:
    return "/".join(HL7 + step for step in path.split("/"))


def _child(element: etree._Element | None, path: str) -> etree._Element | None:
    if element is None:
        return None
    if "/" not in path:
        return next(element.iterchildren(HL7 + path), None)  # in C: a path is walked in Python
    return element.find(_steps(path))


def _children(element: etree._Element | None, path: str) -> Iterator[etree._Element]:
    if element is not None:
        found = element.iterfind(_steps(path)) if "/" in path else element.iterchildren(HL7 + path)
        for count, child in enumerate(found):
            if count >= MAX_REPEATS:
                raise MalformedCdaError("too many repetitions")
            yield child


def _attribute(element: etree._Element | None, name: str) -> str:
    return "" if element is None else " ".join((element.get(name) or "").split())[:500]


def _ii(element: etree._Element | None) -> Ii | None:
    """An identifier; None when absent, null or without root."""
    root = _attribute(element, "root")
    if not root or (element is not None and element.get("nullFlavor")):
        return None
    if _UUID.fullmatch(root):  # the parent of one document is the identifier of another
        root = root.upper()
    return Ii(root, _attribute(element, "extension"))


def _ids(element: etree._Element | None) -> tuple[Ii, ...]:
    return tuple(i for i in map(_ii, _children(element, "id")) if i is not None)


def _time(element: etree._Element | None) -> str | None:
    return _attribute(element, "value") or None


def _patient(target: etree._Element) -> CdaPatient:
    role = _child(target, "patientRole")
    patient = _child(role, "patient")
    families: list[str] = []
    givens: list[str] = []
    shown: dict[str, str] = {}
    for name in _children(patient, "name"):
        for part in name:
            kind = str(part.tag).removeprefix(HL7)
            value = text_of(part, 200)
            if kind not in ("family", "given") or not value or part.get("nullFlavor"):
                continue
            qualifiers = (part.get("qualifier") or "").split()
            if "BR" in qualifiers:
                (families if kind == "family" else givens).append(value)
            rank = "0" if "CL" in qualifiers else "1" if "BR" in qualifiers else "2"
            shown.setdefault(kind + rank, value)
    sex = _child(patient, "administrativeGenderCode")
    birth = _child(patient, "birthTime")
    return CdaPatient(
        ids=_ids(role),
        birth_families=tuple(dict.fromkeys(families)),
        first_givens=tuple(dict.fromkeys(givens)),
        sex=_attribute(sex, "code") or None,
        birth_time=_time(birth),
        birth_place=text_of(_child(patient, "birthplace/place/addr/county"), 20),
        display=" ".join(
            next((shown[kind + rank] for rank in "012" if kind + rank in shown), "")
            for kind in ("family", "given")
        ).strip(),
    )


def _person_name(element: etree._Element | None) -> str:
    name = _child(element, "name")
    if name is None:
        return ""
    parts = {str(part.tag).removeprefix(HL7): text_of(part, 100) for part in reversed(name)}
    if "family" not in parts:
        return text_of(name, 200)
    return " ".join(filter(None, (parts.get(k, "") for k in ("prefix", "given", "family"))))


def _person(entity: etree._Element | None) -> CdaPerson:
    person = _child(entity, "assignedPerson")
    if person is None:
        person = _child(entity, "informationRecipient")
    organization = _child(entity, "representedOrganization")
    if organization is None:
        organization = _child(entity, "receivedOrganization")
    device = _child(entity, "assignedAuthoringDevice/softwareName")
    return CdaPerson(
        ids=_ids(entity),
        name=_person_name(person) or text_of(device, 200),
        profession=_attribute(_child(entity, "code"), "displayName"),
        organization=None if organization is None else _organization(organization),
    )


def _organization(element: etree._Element | None) -> CdaOrganization:
    return CdaOrganization(_ids(element), text_of(_child(element, "name"), 200))


def _custodian(element: etree._Element | None) -> CdaOrganization:
    return _organization(_child(element, "assignedCustodian/representedCustodianOrganization"))


def _legal(element: etree._Element | None) -> CdaPerson | None:
    return None if element is None else _person(_child(element, "assignedEntity"))


def _attending(participants: list[etree._Element]) -> tuple[Ii, ...]:
    found: list[Ii] = []
    for participant in participants:
        function = _attribute(_child(participant, "functionCode"), "code")
        if participant.get("typeCode") == "INF" and function == "PCP":
            found.extend(_ids(_child(participant, "associatedEntity")))
    return tuple(found)


def _event(element: etree._Element | None) -> CdaEvent:
    code = _child(element, "code")
    when = _child(element, "effectiveTime")
    return CdaEvent(
        code=_attribute(code, "code"),
        display=_attribute(code, "displayName"),
        low=_time(_child(when, "low")) or _time(when),
        high=_time(_child(when, "high")),
    )


def _encounter(element: etree._Element | None) -> CdaEvent | None:
    encounter = _child(element, "encompassingEncounter")
    return None if encounter is None else _event(encounter)


def _parent(element: etree._Element) -> CdaParent:
    return CdaParent(element.get("typeCode") or "", _ids(_child(element, "parentDocument")))
