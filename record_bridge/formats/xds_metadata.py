"""METADATA.XML of an XDM package: ebRIM read by local name, and written.

Real files come with undeclared prefixes and without namespaces, so names are compared without
them. A file whose only fault is undeclared prefixes is read again with them declared; one that is
broken otherwise (a tag left open, text outside the root) is refused. A recovering parser was tried
and refused: it guesses where an entry ends, and an entry is what gets counted and filed.

Source: ITI TF-3 §4.2, CI-SIS §EchangeDoc, MSS-FACTS §3.2.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from lxml import etree

from record_bridge.errors import MalformedMetadataError
from record_bridge.formats.safe_xml import (
    ascii_based,
    local_name,
    parse_xml,
    refuse_unsafe,
    text_of,
)

RIM: Final = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
LCM: Final = "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"
MAX_OCTETS: Final = 4 * 1024 * 1024
MAX_ENTRIES: Final = 200
MAX_RELATIONS: Final = 4 * MAX_ENTRIES

_NODE_SET: Final = "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"
_SET_UNIQUE_ID: Final = "urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8"
_SET_PATIENT_ID: Final = "urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446"
_SET_SOURCE_ID: Final = "urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832"
_SET_CONTENT_TYPE: Final = "urn:uuid:aa543740-bdda-424e-8c96-df4873be8500"
_SET_AUTHOR: Final = "urn:uuid:a7058bb9-b4e4-4307-ba5b-e3f0ab85e12d"
_ENTRY: Final = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"
_UNIQUE_ID: Final = "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab"
_PATIENT_ID: Final = "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427"
_AUTHOR: Final = "urn:uuid:93606bcf-9494-43ec-9b4e-a7748d1a838d"
_CLASS_CODE: Final = "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a"
_TYPE_CODE: Final = "urn:uuid:f0306f51-975f-434e-a61c-c59651d33983"
_CONFIDENTIALITY: Final = "urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f"
_FORMAT_CODE: Final = "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d"
_FACILITY_CODE: Final = "urn:uuid:f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1"
_PRACTICE_CODE: Final = "urn:uuid:cccf5598-8b07-4b77-a05e-ae952c785ead"
DEPRECATED: Final = "urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated"
"""Of an entry: its sender wants the document withdrawn (DERIVED, MSS-FACTS §3.4)."""
_SIGNATURE: Final = "urn:oid:1.3.6.1.4.1.19376.1.2.1.1.1"
"""The class of the signature of a whole submission, which software of the national record adds."""
_STYLE_SHEETS: Final = frozenset(("text/xsl", "text/xslt", "application/xslt+xml", "text/css"))
HAS_MEMBER: Final = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember"
REPLACES: Final = "urn:ihe:iti:2007:AssociationType:RPLC"

_LISTED: Final = re.compile(rb"<[^<>/!?\s]*ExtrinsicObject[\s/>]")
_PREFIXED = re.compile(rb"<\s*/?\s*([A-Za-z_][\w.-]*):|\s([A-Za-z_][\w.-]*):[\w.-]+\s*=")


@dataclass(frozen=True, slots=True)
class Code:
    """A coded value: code, its scheme and its label."""

    code: str
    scheme: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class Association:
    """A relation between two objects of the package, or with one of an earlier package."""

    kind: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class DocumentEntry:
    """What the metadata says of one document. Text as written; "" or None when absent.

    Attributes:
        entry_id: id of the ExtrinsicObject inside this file.
        patient_id: HL7 CX, see `parse_cx`.
        hash: SHA-1 in hexadecimal, lower case.
        size: octets, None when absent or not a number (``size_text`` keeps what was written).
        confidentiality: every code, masking codes included.
        availability: the status as written (``DEPRECATED``), "" when it is not told.
    """

    entry_id: str = ""
    unique_id: str = ""
    patient_id: str = ""
    source_patient_id: str = ""
    source_patient_info: tuple[str, ...] = ()
    uri: str = ""
    hash: str = ""
    size: int | None = None
    size_text: str = ""
    mime_type: str = ""
    title: str = ""
    class_code: Code = Code("")
    type_code: Code = Code("")
    format_code: Code = Code("")
    practice_code: Code = Code("")
    facility_code: Code = Code("")
    confidentiality: tuple[Code, ...] = ()
    availability: str = ""
    creation_time: str = ""
    language: str = ""
    service_start: str = ""
    service_stop: str = ""
    author_person: str = ""
    author_institution: str = ""
    legal_authenticator: str = ""


@dataclass(frozen=True, slots=True)
class SubmissionSet:
    """One METADATA.XML: the set, its documents and its associations.

    What only accompanies the documents (the set's signature, style sheets) is no entry.
    """

    unique_id: str = ""
    source_id: str = ""
    patient_id: str = ""
    submission_time: str = ""
    content_type: Code = Code("")
    author_person: str = ""
    author_institution: str = ""
    entries: tuple[DocumentEntry, ...] = ()
    associations: tuple[Association, ...] = ()


def parse_cx(text: str) -> tuple[str, str]:
    """The identifier and the assigning authority's OID of an HL7 CX; "" where absent.

    Senders escape ``&`` twice, or write the OID as a URN: it names the same authority.

    Source: ITI TF-3 §4.2.3.1.7 (``id^^^&oid&ISO^NH``).
    """
    fields = text.replace("&amp;", "&").split("^")
    authority = fields[3].split("&") if len(fields) > 3 else []
    oid = authority[1].strip() if len(authority) > 1 else ""
    return fields[0].strip(), oid.removeprefix("urn:oid:")


def parse(content: bytes) -> SubmissionSet:
    """Read METADATA.XML.

    Raises:
        MalformedMetadataError: unsafe or broken XML, no or several submission sets, more than
            MAX_ENTRIES documents.

    Source: ITI TF-3 §4.2.
    """
    if len(content) > MAX_OCTETS:
        raise MalformedMetadataError("too large")
    root = _root(content)
    found = _registry_objects(root)
    listed = map(_entry, found["ExtrinsicObject"])
    entries = tuple(entry for entry in listed if not _accompanies(entry))
    associations = tuple(
        Association(
            _attribute(element, "associationType"),
            _attribute(element, "sourceObject"),
            _attribute(element, "targetObject"),
        )
        for element in found["Association"]
    )
    sets = found["RegistryPackage"]
    if len(sets) > 1:  # folders are registry packages too; the classification tells
        classified = {
            _attribute(element, "classifiedObject")
            for element in found["Classification"]
            if _attribute(element, "classificationNode") == _NODE_SET
        }
        sets = [element for element in sets if _attribute(element, "id") in classified]
    if len(sets) > 1:
        raise MalformedMetadataError("several submission sets")
    if not sets and not entries:
        raise MalformedMetadataError("no submission set")
    return _set(sets[0] if sets else None, entries, associations)


def lists_several(content: bytes) -> bool:
    """Whether METADATA.XML may list more than one document, without parsing it.

    False is certain: an element needs its name behind a ``<``, what `ascii_based` gives writes
    it in ASCII, and comments or unknown prefixes only make it True.
    """
    return len(_LISTED.findall(ascii_based(content))) > 1


def _registry_objects(root: etree._Element) -> dict[str, list[etree._Element]]:
    """Elements by local name, within the caps."""
    found: dict[str, list[etree._Element]] = {
        name: []
        for name in ("ExtrinsicObject", "RegistryPackage", "Association", "Classification")
    }
    for element in root.iter():
        same = found.get(local_name(element))
        if same is not None:
            same.append(element)
    if len(found["ExtrinsicObject"]) > MAX_ENTRIES or len(found["Association"]) > MAX_RELATIONS:
        raise MalformedMetadataError("too many entries")
    return found


def _root(content: bytes) -> etree._Element:
    """The root; undeclared prefixes, and only they, are forgiven."""
    try:
        return parse_xml(content, MalformedMetadataError)
    except MalformedMetadataError:
        refuse_unsafe(content, MalformedMetadataError)
        declared = _declare_prefixes(ascii_based(content))
        if declared is None:
            raise
        return parse_xml(declared, MalformedMetadataError)


def _declare_prefixes(content: bytes) -> bytes | None:
    """The same text with its undeclared prefixes declared on the root; None when there is none."""
    prefixes = {a or b for a, b in _PREFIXED.findall(content)} - {b"xml", b"xmlns"}
    missing = [p for p in sorted(prefixes) if b"xmlns:" + p not in content][:20]
    root = re.search(rb"<[A-Za-z_][\w.:-]*", content)
    if not missing or root is None:
        return None
    added = b"".join(b' xmlns:%s="urn:undeclared:%s"' % (p, p) for p in missing)
    return content[: root.end()] + added + content[root.end() :]


def _attribute(element: etree._Element, name: str) -> str:
    return (element.get(name) or "").strip()[:1000]


def _slots(element: etree._Element) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for slot in element:
        if local_name(slot) == "Slot":
            values = (text_of(v) for v in slot.iter() if local_name(v) == "Value")
            found.setdefault(_attribute(slot, "name"), tuple(values)[:50])
    return found


def _first(slots: dict[str, tuple[str, ...]], name: str) -> str:
    values = slots.get(name)
    return values[0] if values else ""


def _uri(values: tuple[str, ...]) -> str:
    """A URI, whole; a long one comes in numbered pieces (``1|first``, ``2|second``).

    Source: ITI TF-3 §4.2.3.2.27.
    """
    pieces = [value.partition("|") for value in values]
    if all(bar and number.isascii() and number.isdigit() for number, bar, _ in pieces):
        pieces.sort(key=lambda piece: int(piece[0][:9]))
        return "".join(text for _, _, text in pieces)
    return "".join(values)


def _identifiers(element: etree._Element) -> dict[str, str]:
    return {
        _attribute(child, "identificationScheme"): _attribute(child, "value")
        for child in element
        if local_name(child) == "ExternalIdentifier"
    }


def _classifications(element: etree._Element) -> dict[str, list[etree._Element]]:
    found: dict[str, list[etree._Element]] = {}
    for child in element:
        if local_name(child) == "Classification":
            found.setdefault(_attribute(child, "classificationScheme"), []).append(child)
    return found


def _code(element: etree._Element) -> Code:
    return Code(
        _attribute(element, "nodeRepresentation"),
        _first(_slots(element), "codingScheme"),
        _label(element),
    )


def _codes(found: dict[str, list[etree._Element]], scheme: str) -> tuple[Code, ...]:
    return tuple(_code(element) for element in found.get(scheme, [])[:50])


def _only(found: dict[str, list[etree._Element]], scheme: str) -> Code:
    return next(iter(_codes(found, scheme)), Code(""))


def _label(element: etree._Element) -> str:
    for child in element:
        if local_name(child) == "Name":
            for text in child.iter():
                if local_name(text) == "LocalizedString":
                    return _attribute(text, "value")
    return ""


def _author(found: dict[str, list[etree._Element]], scheme: str) -> tuple[str, str]:
    for element in found.get(scheme, []):
        slots = _slots(element)
        return _first(slots, "authorPerson"), _first(slots, "authorInstitution")
    return "", ""


def _entry(element: etree._Element) -> DocumentEntry:
    slots, identifiers = _slots(element), _identifiers(element)
    codes = _classifications(element)
    size = _first(slots, "size")
    person, institution = _author(codes, _AUTHOR)
    return DocumentEntry(
        entry_id=_attribute(element, "id"),
        unique_id=identifiers.get(_UNIQUE_ID, ""),
        patient_id=identifiers.get(_PATIENT_ID, ""),
        source_patient_id=_first(slots, "sourcePatientId"),
        source_patient_info=slots.get("sourcePatientInfo", ()),
        uri=_uri(slots.get("URI", ())),
        hash=_first(slots, "hash").lower(),
        size=int(size) if size.isascii() and size.isdigit() and len(size) < 12 else None,
        size_text=size,
        mime_type=_attribute(element, "mimeType").lower(),
        title=_label(element),
        class_code=_only(codes, _CLASS_CODE),
        type_code=_only(codes, _TYPE_CODE),
        format_code=_only(codes, _FORMAT_CODE),
        practice_code=_only(codes, _PRACTICE_CODE),
        facility_code=_only(codes, _FACILITY_CODE),
        confidentiality=_codes(codes, _CONFIDENTIALITY),
        availability=_attribute(element, "status"),
        creation_time=_first(slots, "creationTime"),
        language=_first(slots, "languageCode"),
        service_start=_first(slots, "serviceStartTime"),
        service_stop=_first(slots, "serviceStopTime"),
        author_person=person,
        author_institution=institution,
        legal_authenticator=_first(slots, "legalAuthenticator"),
    )


def _accompanies(entry: DocumentEntry) -> bool:
    """Whether its sender says that this is no document of the patient's.

    Source: CI-SIS §EchangeDoc, MSS-FACTS §3.1.
    """
    return entry.class_code.code == _SIGNATURE or entry.mime_type in _STYLE_SHEETS


def _set(
    element: etree._Element | None,
    entries: tuple[DocumentEntry, ...],
    associations: tuple[Association, ...],
) -> SubmissionSet:
    if element is None:
        return SubmissionSet(entries=entries, associations=associations)
    identifiers, codes = _identifiers(element), _classifications(element)
    person, institution = _author(codes, _SET_AUTHOR)
    return SubmissionSet(
        unique_id=identifiers.get(_SET_UNIQUE_ID, ""),
        source_id=identifiers.get(_SET_SOURCE_ID, ""),
        patient_id=identifiers.get(_SET_PATIENT_ID, ""),
        submission_time=_first(_slots(element), "submissionTime"),
        content_type=_only(codes, _SET_CONTENT_TYPE),
        author_person=person,
        author_institution=institution,
        entries=entries,
        associations=associations,
    )


# --- writing ---------------------------------------------------------------------------------


def encode(submission: SubmissionSet) -> bytes:
    """METADATA.XML for a package that we send.

    Source: ITI TF-3 §4.2, CI-SIS §EchangeDoc.
    """
    request = etree.Element(f"{{{LCM}}}SubmitObjectsRequest", nsmap={"lcm": LCM, "rim": RIM})
    objects = _add(request, "RegistryObjectList")
    for number, entry in enumerate(submission.entries, 1):
        _write_entry(objects, entry, f"Document{number:02}" if not entry.entry_id else "")
    set_id = "SubmissionSet01"
    package = _add(objects, "RegistryPackage", id=set_id)
    _write_slots(package, {"submissionTime": (submission.submission_time,)})
    _write_author(
        package, set_id, _SET_AUTHOR, submission.author_person, submission.author_institution
    )
    _write_code(package, set_id, _SET_CONTENT_TYPE, submission.content_type)
    for scheme, name, value in (
        (_SET_PATIENT_ID, "XDSSubmissionSet.patientId", submission.patient_id),
        (_SET_SOURCE_ID, "XDSSubmissionSet.sourceId", submission.source_id),
        (_SET_UNIQUE_ID, "XDSSubmissionSet.uniqueId", submission.unique_id),
    ):
        _write_identifier(package, set_id, scheme, name, value)
    _add(
        objects,
        "Classification",
        id="cl-set",
        classifiedObject=set_id,
        classificationNode=_NODE_SET,
    )
    members = [
        Association(HAS_MEMBER, set_id, entry.entry_id or f"Document{number:02}")
        for number, entry in enumerate(submission.entries, 1)
    ]
    for number, relation in enumerate([*members, *submission.associations], 1):
        element = _add(
            objects,
            "Association",
            id=f"as{number:02}",
            associationType=relation.kind,
            sourceObject=relation.source,
            targetObject=relation.target,
        )
        if relation.kind == HAS_MEMBER:
            _write_slots(element, {"SubmissionSetStatus": ("Original",)})
    written: bytes = etree.tostring(request, xml_declaration=True, encoding="UTF-8")
    return written


def _add(parent: etree._Element, tag: str, /, **attributes: str) -> etree._Element:
    return etree.SubElement(parent, f"{{{RIM}}}{tag}", attributes)


def _write_slots(parent: etree._Element, slots: dict[str, Iterable[str]]) -> None:
    for name, values in slots.items():
        kept = [value for value in values if value]
        if kept:
            listed = _add(_add(parent, "Slot", name=name), "ValueList")
            for value in kept:
                _add(listed, "Value").text = value


def _write_name(parent: etree._Element, value: str) -> None:
    if value:
        _add(_add(parent, "Name"), "LocalizedString", value=value)


def _write_code(parent: etree._Element, owner: str, scheme: str, code: Code) -> None:
    if code.code:
        element = _add(
            parent,
            "Classification",
            id=f"{owner}-cl{len(parent):02}",
            classifiedObject=owner,
            classificationScheme=scheme,
            nodeRepresentation=code.code,
        )
        _write_slots(element, {"codingScheme": (code.scheme,)})
        _write_name(element, code.label)


def _write_author(
    parent: etree._Element, owner: str, scheme: str, person: str, institution: str
) -> None:
    if person or institution:
        element = _add(
            parent,
            "Classification",
            id=f"{owner}-au",
            classifiedObject=owner,
            classificationScheme=scheme,
            nodeRepresentation="",
        )
        _write_slots(element, {"authorPerson": (person,), "authorInstitution": (institution,)})


def _write_identifier(
    parent: etree._Element, owner: str, scheme: str, name: str, value: str
) -> None:
    if value:
        element = _add(
            parent,
            "ExternalIdentifier",
            id=f"{owner}-id{len(parent):02}",
            registryObject=owner,
            identificationScheme=scheme,
            value=value,
        )
        _write_name(element, name)


def _write_entry(objects: etree._Element, entry: DocumentEntry, default_id: str) -> None:
    owner = entry.entry_id or default_id
    element = _add(
        objects,
        "ExtrinsicObject",
        id=owner,
        mimeType=entry.mime_type or "text/xml",
        objectType=_ENTRY,
    )
    if entry.availability:
        element.set("status", entry.availability)
    size = entry.size_text or ("" if entry.size is None else str(entry.size))
    _write_slots(
        element,
        {
            "creationTime": (entry.creation_time,),
            "languageCode": (entry.language,),
            "legalAuthenticator": (entry.legal_authenticator,),
            "serviceStartTime": (entry.service_start,),
            "serviceStopTime": (entry.service_stop,),
            "sourcePatientId": (entry.source_patient_id,),
            "sourcePatientInfo": entry.source_patient_info,
            "hash": (entry.hash,),
            "size": (size,),
            "URI": (entry.uri,),
        },
    )
    _write_name(element, entry.title)
    _write_author(element, owner, _AUTHOR, entry.author_person, entry.author_institution)
    for scheme, code in (
        (_CLASS_CODE, entry.class_code),
        (_TYPE_CODE, entry.type_code),
        (_FORMAT_CODE, entry.format_code),
        (_PRACTICE_CODE, entry.practice_code),
        (_FACILITY_CODE, entry.facility_code),
        *((_CONFIDENTIALITY, code) for code in entry.confidentiality),
    ):
        _write_code(element, owner, scheme, code)
    for scheme, name, value in (
        (_PATIENT_ID, "XDSDocumentEntry.patientId", entry.patient_id),
        (_UNIQUE_ID, "XDSDocumentEntry.uniqueId", entry.unique_id),
    ):
        _write_identifier(element, owner, scheme, name, value)
