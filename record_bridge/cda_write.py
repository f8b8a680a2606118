"""Write a level 1 document of the French profile around one file; pure.

What a person files by hand becomes a document like every other: every reader, search, archive and
interface of the record reads it with no second form to know. The same values give the same octets.

Source: CDA R2 §4.2, CI-SIS §StructMin (nonXMLBody).
"""

import base64
from dataclasses import dataclass
from datetime import datetime

from lxml import etree

from directory.codes import TYPE_SYSTEM_TRE_A05
from record_bridge.formats.cda_header import HL7, PS_ROOT, STRUCTURE_ROOT
from record_bridge.model import InsMatricule, InsTraits

_AS_DEFAULT = {None: HL7.strip("{}")}
_LOINC = "2.16.840.1.113883.6.1"

_SECRECY = "2.16.840.1.113883.5.25"
_SEX = "2.16.840.1.113883.5.1"
_COUNTRY = "FR"


@dataclass(frozen=True, slots=True)
class Author:
    """Who files, for which structure.

    Attributes:
        organization: FINESS or SIRET.
    """

    rpps: str
    family: str
    given: str
    profession: str
    organization: str
    organization_name: str


@dataclass(frozen=True, slots=True)
class LevelOne:
    """A document whose body is one file.

    Attributes:
        unique_id: an OID.
        media_type: ``application/pdf``, or ``text/plain`` whose content is UTF-8.
        at: aware; when it is filed.
    """

    unique_id: str
    ins: InsMatricule
    traits: InsTraits
    author: Author
    type_code: str
    type_label: str
    title: str
    media_type: str
    content: bytes
    at: datetime


def encode_level_one(document: LevelOne) -> bytes:
    """Write the document."""
    root = etree.Element(HL7 + "ClinicalDocument", nsmap=_AS_DEFAULT)  # type: ignore[arg-type]  # lxml takes None
    when = document.at.strftime("%Y%m%d%H%M%S%z")
    _put(root, "realmCode", code=_COUNTRY)
    _put(root, "typeId", root="2.16.840.1.113883.1.3", extension="POCD_HD000040")
    _put(root, "id", root=document.unique_id)
    system = _LOINC if document.type_code[:1].isdigit() else TYPE_SYSTEM_TRE_A05
    _put(
        root,
        "code",
        code=document.type_code,
        codeSystem=system,
        displayName=document.type_label,
    )
    _put(root, "title").text = document.title
    _put(root, "effectiveTime", value=when)
    _put(root, "confidentialityCode", code="N", codeSystem=_SECRECY, displayName="Normal")
    _put(root, "languageCode", code="fr-FR")
    _record_target(root, document)
    _author(root, document.author, when)
    keeper = _put(_put(root, "custodian"), "assignedCustodian")
    _organization(keeper, "representedCustodianOrganization", document.author)
    body = _put(_put(root, "component"), "nonXMLBody")
    text = _put(body, "text", mediaType=document.media_type, representation="B64")
    text.text = base64.b64encode(document.content).decode("ascii")
    written: bytes = etree.tostring(root, xml_declaration=True, encoding="UTF-8")
    return written


def _record_target(root: etree._Element, document: LevelOne) -> None:
    traits = document.traits
    role = _put(_put(root, "recordTarget"), "patientRole")
    _put(role, "id", root=document.ins.oid, extension=document.ins.value)
    patient = _put(role, "patient")
    name = _put(patient, "name")
    _put(name, "family", qualifier="BR").text = traits.birth_family
    _put(name, "given", qualifier="BR").text = traits.first_birth_given
    _put(patient, "administrativeGenderCode", code=traits.sex.value, codeSystem=_SEX)
    _put(patient, "birthTime", value=traits.birth_date)
    if traits.birth_place:
        address = _put(_put(_put(patient, "birthplace"), "place"), "addr")
        _put(address, "county").text = traits.birth_place


def _author(root: etree._Element, author: Author, when: str) -> None:
    element = _put(root, "author")
    _put(element, "time", value=when)
    assigned = _put(element, "assignedAuthor")
    _put(assigned, "id", root=PS_ROOT, extension=author.rpps)
    if author.profession:
        _put(assigned, "code", nullFlavor="OTH", displayName=author.profession)
    name = _put(_put(assigned, "assignedPerson"), "name")
    _put(name, "family").text = author.family
    _put(name, "given").text = author.given
    _organization(assigned, "representedOrganization", author)


def _organization(parent: etree._Element, tag: str, author: Author) -> None:
    element = _put(parent, tag)
    _put(element, "id", root=STRUCTURE_ROOT, extension=author.organization)
    _put(element, "name").text = author.organization_name


def _put(parent: etree._Element, tag: str, **attributes: str) -> etree._Element:
    return etree.SubElement(parent, HL7 + tag, attributes)
