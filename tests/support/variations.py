"""Documents varied at random: what changes nothing, and what damages an identity.

`HARMLESS` are other ways of writing the same document, as other senders' tools write; the outcome
must stay. `DAMAGING` touch who the document is about or whether it is whole: the outcome must
become the code named, and nobody else's record may take the document. `wrapped` packs a document
as one of many senders would. Each variation gives None where the document has not what it varies.
"""

import base64
import copy
import hashlib
import io
import random
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias

from lxml import etree, html

from certs.anchors import TrustAnchors
from certs.smime import Trust
from mailserver.webmail.narrative import read_document
from record_bridge.formats.cda_header import INS_ROOTS
from record_bridge.formats.xds_metadata import encode
from record_bridge.identity import match, normalise_name
from record_bridge.model import (
    Doubt,
    Environment,
    IdentityStatus,
    InsIdentity,
    InsMatricule,
    InsTraits,
    Matched,
    OpenedDocument,
)
from record_bridge.opening import OpenRequest, open_message
from tests.support.xdm import entry_for, submission_for

Element: TypeAlias = Any
"""An element of lxml, whose stubs give every XPath a union of seven types."""

HL7 = "urn:hl7-org:v3"
NS = {"h": HL7}
OTHER_INS = "299129999900199"
"""Of nobody but the decoys."""

Vary = Callable[[bytes, random.Random], bytes | None]


@dataclass(frozen=True)
class Outcome:
    """What became of a message: the patient it was filed for, or a code."""

    patient: int | None
    code: int = 0
    document: OpenedDocument | None = None


def outcome(message: bytes, identities: Sequence[InsIdentity]) -> Outcome:
    """Open a message as the bridge does, and match it by RULES §5."""
    request = OpenRequest(message, "x", datetime(2026, 11, 2, tzinfo=UTC), Environment.TEST)
    opened = open_message(request, Trust(TrustAnchors(()), ()))
    if opened.unreadable or len(opened.packages) != 1:
        return Outcome(None, 906)
    (package,) = opened.packages
    if package.worst is not None or len(package.documents) != 1:
        return Outcome(None, 906)
    (document,) = package.documents
    match match(document.claim, identities):
        case Matched(patient):
            return Outcome(patient, document=document)
        case Doubt(problem):
            return Outcome(None, int(problem.code), document)
        case _:
            return Outcome(None, 902, document)


def people(ins: InsMatricule, traits: InsTraits) -> tuple[InsIdentity, ...]:
    """The patient, number 1, and those that resemble them."""
    qualified = IdentityStatus.QUALIFIEE
    other = InsMatricule(OTHER_INS, ins.oid)
    other_oid = "1.2.250.1.213.1.4.11" if not ins.oid.endswith(".11") else "1.2.250.1.213.1.4.10"
    return (
        InsIdentity(1, ins, traits, qualified),
        InsIdentity(2, other, traits, qualified),
        InsIdentity(3, InsMatricule(ins.value, other_oid), traits, qualified),
        InsIdentity(
            4, InsMatricule(OTHER_INS, other_oid), replace(traits, first_birth_given="ZZJUMELLE"), qualified
        ),
    )  # fmt: skip


def summary(document: OpenedDocument) -> dict[str, object]:
    """What must stay when nothing that matters changed."""
    header, claim = document.header, document.claim
    assert header is not None
    assert claim.traits is not None
    page = read_document(document.content)
    return {
        "id": header.unique_id,
        "type": header.code,
        "level": header.level,
        "ins": claim.ins,
        "names": (
            normalise_name(claim.traits.birth_family),
            normalise_name(claim.traits.first_birth_given),
        ),
        "birth": (claim.traits.birth_date, claim.traits.sex, claim.traits.birth_place),
        "acts": [(act.kind, act.code, act.label, act.low, act.high) for act in document.acts],
        "files": [file.content for file in page.files],
        "missing": page.missing,
    }


OURS = frozenset(
    ("Fichier", "joint", "il", "se", "télécharge", "plus", "haut", "ne", "peut", "pas", "être",
     "ouvert", "ici", "note", *map(str, range(1, 21)))
)  # fmt: skip
"""Words that the page says for a picture or a note."""


def shows_what_is_written(content: bytes) -> bool:
    """Whether the page has the words of the document, and ours only."""
    return words_shown(content) - OURS == words_written(content) - OURS


def words_shown(content: bytes) -> set[str]:
    """Words of the page."""
    page = read_document(content).html
    return set(_words(html.fromstring(f"<div>{page}</div>"))) if page else set()


def words_written(content: bytes) -> set[str]:
    """Words of titles and narratives, by a reader of our own."""
    parser = etree.XMLParser(remove_comments=True, remove_pis=True, huge_tree=True)
    root: Element = etree.fromstring(content.lstrip(), parser)
    found: set[str] = set()
    for element in root.xpath("//h:section/h:title | //h:section/h:text", namespaces=NS):
        found.update(_words(element))
    return found


def _words(element: Element) -> list[str]:
    return re.findall(r"\w+", " ".join(map(str, element.itertext())))


# --- the tree ----------------------------------------------------------------------------------


def _tree(content: bytes) -> Element:
    return etree.fromstring(content, etree.XMLParser(huge_tree=True, strip_cdata=False))


def _document(root: Element) -> Element:
    return (
        root
        if root.tag == f"{{{HL7}}}ClinicalDocument"
        else root.find(f".//{{{HL7}}}ClinicalDocument")
    )


def _written(root: Element, encoding: str = "UTF-8") -> bytes:
    written: Any = etree.tostring(root.getroottree(), xml_declaration=True, encoding=encoding)
    return bytes(written)


def _all(content: bytes, path: str) -> tuple[Element, list[Element]]:
    root = _tree(content)
    return root, list(_document(root).xpath(path, namespaces=NS))


def _edited(content: bytes, path: str, edit: Callable[[Element], None]) -> bytes | None:
    """Change every element at a path; None when there is none."""
    root, found = _all(content, path)
    for element in found:
        edit(element)
    return _written(root) if found else None


def _set(**attributes: str | None) -> Callable[[Element], None]:
    def edit(element: Element) -> None:
        for name, value in attributes.items():
            if value is None:
                element.attrib.pop(name, None)
            else:
                element.set(name, value)

    return edit


def _without(element: Element) -> None:
    parent = element.getparent()
    previous = element.getprevious()
    tail = element.tail or ""
    if previous is not None:
        previous.tail = (previous.tail or "") + tail
    else:
        parent.text = (parent.text or "") + tail
    parent.remove(element)


ROLE = "h:recordTarget/h:patientRole"
PATIENT = f"{ROLE}/h:patient"
INS = f"{ROLE}/h:id[" + " or ".join(f"@root='{root}'" for root in sorted(INS_ROOTS)) + "]"
FAMILY = f"{PATIENT}/h:name/h:family[contains(@qualifier, 'BR')]"
GIVEN = f"{PATIENT}/h:name/h:given[contains(@qualifier, 'BR')]"
BIRTH = f"{PATIENT}/h:birthTime"
SEX = f"{PATIENT}/h:administrativeGenderCode"
COUNTY = f"{PATIENT}/h:birthplace/h:place/h:addr/h:county"


# --- harmless ----------------------------------------------------------------------------------


def _marked(content: bytes, _: random.Random) -> bytes:
    return b"\xef\xbb\xbf" + _written(_tree(content))


def _utf16(content: bytes, rng: random.Random) -> bytes:
    text = _written(_tree(content)).decode()
    body = text.partition("?>")[2]
    declared = rng.choice(["", '<?xml version="1.0" encoding="UTF-16"?>'])
    return (declared + body).encode("utf-16")


def _encoded(content: bytes, rng: random.Random) -> bytes:
    return _written(
        _tree(content), rng.choice(["ISO-8859-1", "windows-1252", "US-ASCII", "utf-8"])
    )


def _line_ends(content: bytes, _: random.Random) -> bytes:
    return content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _blanks_around(content: bytes, rng: random.Random) -> bytes:
    return rng.choice([b"\r\n", b" \n", b""]) + content.removeprefix(b"\xef\xbb\xbf") + b"\r\n\r\n"


def _remarks(content: bytes, rng: random.Random) -> bytes:
    """Comments and instructions anywhere, inside names too."""
    root = _tree(content)
    elements = list(root.iter(f"{{{HL7}}}*"))
    for element in rng.sample(elements, min(40, len(elements))):
        remark = rng.choice(
            [
                etree.Comment(' <family qualifier="BR">X</family> <!DOCTYPE x> '),
                etree.ProcessingInstruction("editeur", "<id root='1'/>"),
            ]
        )
        text = element.text or ""
        cut = rng.randint(0, len(text))
        element.text, remark.tail = text[:cut], text[cut:]
        element.insert(0, remark)
    return _written(root)


def _attributes(content: bytes, rng: random.Random) -> bytes:
    """Attributes in another order."""
    root = _tree(content)
    for element in root.iter(f"{{{HL7}}}*"):
        pairs = list(element.attrib.items())
        rng.shuffle(pairs)
        element.attrib.clear()
        for name, value in pairs:
            element.set(name, value)
    return _written(root)


def _spaces(content: bytes, rng: random.Random) -> bytes:
    """Blanks between the elements of the header, and around names."""
    root, found = _all(content, f"h:*[not(self::h:component)]//* | {FAMILY} | {GIVEN}")
    for element in found:
        element.tail = (element.tail or "") + rng.choice(["", "\n\t", "  "])
        if len(element) == 0 and (element.text or "").strip():
            element.text = f"\n  {element.text}\t"
    return _written(root)


def _prefixed(content: bytes, _: random.Random) -> bytes | None:
    """Another prefix for the namespace of CDA."""
    if b"<![CDATA[" in content or content.count(b'xmlns="') != 1:
        return None
    if _tree(content).tag != f"{{{HL7}}}ClinicalDocument":
        return None
    content = re.sub(rb"<!--.*?-->", b"", content, flags=re.DOTALL)
    return re.sub(rb"<(/?)(?![\w.-]+:)([A-Za-z])", rb"<\1cda:\2", content).replace(
        b' xmlns="', b' xmlns:cda="'
    )


OPTIONAL = ("informant", "dataEnterer", "authenticator", "inFulfillmentOf", "authorization",
            "languageCode", "setId", "versionNumber", "realmCode")  # fmt: skip


def _nulls(content: bytes, rng: random.Random) -> bytes:
    """Optional parts absent or null."""
    root = _tree(content)
    for name in OPTIONAL:
        for element in _document(root).findall(f"{{{HL7}}}{name}"):
            how = rng.randint(0, 2)
            if how == 0:
                _without(element)
            elif how == 1 and name in ("languageCode", "setId", "versionNumber"):
                element.attrib.clear()
                element.set("nullFlavor", rng.choice(["NI", "UNK", "NA", "NASK", "MSK"]))
    for element in _document(root).xpath(
        "h:*//h:telecom | h:*//h:addr[not(.//h:county)]", namespaces=NS
    ):
        if rng.random() < 0.5:
            for inner in list(element):
                element.remove(inner)
            element.attrib.clear()
            element.set("nullFlavor", "NAV")
    return _written(root)


def _identifiers(content: bytes, rng: random.Random) -> bytes | None:
    """Local and null identifiers beside the INS, a parent's social security number too."""
    root, found = _all(content, INS)
    if not found:
        return None
    for attributes in (
        {"root": "1.2.250.1.213.1.4.13", "extension": OTHER_INS},
        {"nullFlavor": "UNK"},
        {"root": "1.2.3.4", "extension": "77"},
        {"root": "1.2.3.5"},
    ):
        extra = etree.Element(f"{{{HL7}}}id", attributes)
        role = found[0].getparent()
        role.insert(rng.randint(0, role.index(found[0]) + 1), extra)
    return _written(root)


def _other_names(content: bytes, rng: random.Random) -> bytes | None:
    """More names: used ones, other first names, titles, a second name element."""
    root, found = _all(content, FAMILY)
    if not found:
        return None
    name = found[0].getparent()
    for tag, qualifier in (("family", "SP"), ("given", "CL"), ("given", None), ("suffix", None)):
        extra = etree.Element(f"{{{HL7}}}{tag}")
        extra.text = "ZZAUTRE NOM"
        if qualifier:
            extra.set("qualifier", qualifier)
        name.insert(rng.randint(0, len(name)), extra)
    second = etree.SubElement(name.getparent(), f"{{{HL7}}}name", use="P")
    etree.SubElement(second, f"{{{HL7}}}given").text = "ZZPSEUDONYME"
    name.addnext(second)
    return _written(root)


def _same_name(content: bytes, rng: random.Random) -> bytes | None:
    """The names in another case, with other hyphens and apostrophes."""

    def edit(element: Element) -> None:
        text = "".join(map(str, element.itertext()))
        for inner in list(element):
            element.remove(inner)
        changed = rng.choice([text.lower(), text.upper(), text.title()])
        element.text = changed.replace("-", rng.choice([" ", "-", "‐"]))

    return _edited(content, f"{FAMILY} | {GIVEN}", edit)


def _relatives(content: bytes, _: random.Random) -> bytes | None:
    """The number of somebody else at a guardian, an informant and who signs."""
    root, found = _all(content, PATIENT)
    if not found:
        return None
    number = {"root": "1.2.250.1.213.1.4.10", "extension": OTHER_INS}
    guardian = etree.SubElement(found[0], f"{{{HL7}}}guardian")
    etree.SubElement(guardian, f"{{{HL7}}}id", number)
    informant = etree.Element(f"{{{HL7}}}informant")
    entity = etree.SubElement(informant, f"{{{HL7}}}relatedEntity", classCode="NOK")
    etree.SubElement(entity, f"{{{HL7}}}id", number)
    found[0].getparent().getparent().addnext(informant)
    return _written(root)


def _extensions(content: bytes, _: random.Random) -> bytes | None:
    """Elements and attributes of other namespaces."""

    def edit(element: Element) -> None:
        extra = etree.SubElement(element, "{urn:hl7-org:sdtc}raceCode", code="x")
        extra.text = "ZZETRANGER"
        element.set("{urn:hl7-org:sdtc}note", "x")

    return _edited(content, f"{PATIENT} | h:author | .", edit)


def _section(content: bytes, _: random.Random) -> bytes | None:
    """One section more, and one inside it, without entries."""

    def edit(body: Element) -> None:
        section = etree.SubElement(
            etree.SubElement(body, f"{{{HL7}}}component"), f"{{{HL7}}}section", nullFlavor="NI"
        )
        etree.SubElement(section, f"{{{HL7}}}code", nullFlavor="UNK")
        inner = copy.deepcopy(section)
        etree.SubElement(section, f"{{{HL7}}}title").text = "Zzajout"
        text = etree.SubElement(section, f"{{{HL7}}}text")
        row = etree.SubElement(etree.SubElement(text, f"{{{HL7}}}table"), f"{{{HL7}}}tr")
        row.text = "zzligne"
        etree.SubElement(row, f"{{{HL7}}}td").text = "zzcase"
        etree.SubElement(section, f"{{{HL7}}}component").append(inner)

    return _edited(content, "h:component/h:structuredBody", edit)


def _dates(content: bytes, rng: random.Random) -> bytes | None:
    """The document's time as precise as others write it."""

    def edit(element: Element) -> None:
        value = element.get("value")
        if value:
            cut = rng.choice(
                [value[:8], value[:12], value.replace("+0", "+"), value[:14] + ".1234567"]
            )
            element.set("value", cut)

    return _edited(
        content, "h:effectiveTime | h:author/h:time | h:legalAuthenticator/h:time", edit
    )


def _enveloped(content: bytes, _: random.Random) -> bytes:
    """Inside a root of the sender's, with a style sheet of theirs."""
    envelope = etree.fromstring(
        '<x:envoi xmlns:x="urn:x"><html><script>alert(1)</script></html></x:envoi>'
    )
    envelope.append(_document(_tree(content)))
    envelope.addprevious(etree.ProcessingInstruction("xml-stylesheet", 'href="http://x.test/"'))
    return _written(envelope)


HARMLESS: dict[str, Vary] = {
    "a byte order mark": _marked,
    "UTF-16": _utf16,
    "another encoding": _encoded,
    "CRLF": _line_ends,
    "blanks around": _blanks_around,
    "comments and instructions": _remarks,
    "attributes in another order": _attributes,
    "blanks inside": _spaces,
    "a prefix": _prefixed,
    "nulls and absences": _nulls,
    "other identifiers": _identifiers,
    "other names": _other_names,
    "the same names": _same_name,
    "numbers of relatives": _relatives,
    "foreign namespaces": _extensions,
    "a section more": _section,
    "dates of other precision": _dates,
    "an envelope": _enveloped,
}


# --- damaging ----------------------------------------------------------------------------------


def _edit(path: str, edit: Callable[[Element], None]) -> Vary:
    return lambda content, _: _edited(content, path, edit)


def _text(value: str) -> Callable[[Element], None]:
    def edit(element: Element) -> None:
        for inner in list(element):
            element.remove(inner)
        element.text = value

    return edit


def _next_day(element: Element) -> None:
    value = element.get("value")
    element.set("value", value[:6] + ("02" if value[6:8] == "01" else "01"))


def _other_sex(element: Element) -> None:
    element.set("code", "M" if element.get("code") == "F" else "F")


def _both(*edits: Callable[[Element], None]) -> Callable[[Element], None]:
    def edit(element: Element) -> None:
        for each in edits:
            each(element)

    return edit


def _second_ins(element: Element) -> None:
    twin = copy.deepcopy(element)
    twin.set("extension", OTHER_INS)
    element.addnext(twin)


def _second(element: Element) -> None:
    element.addnext(copy.deepcopy(element))


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randint(len(content) // 2, len(content.rstrip()) - 10)]


DAMAGING: dict[str, tuple[int, Vary]] = {
    "no INS": (903, _edit(INS, _without)),
    "a null INS": (903, _edit(INS, _set(nullFlavor="UNK"))),
    "an INS without number": (903, _edit(INS, _set(extension=None))),
    "two INS": (906, _edit(INS, _second_ins)),
    "two patients": (906, _edit("h:recordTarget", _second)),
    "another birth name": (904, _edit(FAMILY, _text("ZZAUTRE"))),
    "another first name": (904, _edit(GIVEN, _text("ZZAUTRE"))),
    "two birth names": (905, _edit(f"({FAMILY})[1]", _both(_second, _text("ZZAUTRE")))),
    "another birth date": (904, _edit(BIRTH, _next_day)),
    "another sex": (904, _edit(SEX, _other_sex)),
    "another birth place": (904, _edit(COUNTY, _text("99123"))),
    "no birth name": (905, _edit(FAMILY, _without)),
    "a birth name without qualifier": (905, _edit(FAMILY, _set(qualifier=None))),
    "a first name in use only": (905, _edit(GIVEN, _set(qualifier="CL"))),
    "an empty first name": (905, _edit(GIVEN, _text(" "))),
    "a month of birth": (905, _edit(BIRTH, lambda e: e.set("value", e.get("value")[:6]))),
    "an hour of birth": (905, _edit(BIRTH, lambda e: e.set("value", e.get("value") + "0000"))),
    "a null birth time": (905, _edit(BIRTH, _set(value=None, nullFlavor="UNK"))),
    "a null sex": (905, _edit(SEX, _set(code=None, nullFlavor="UNK"))),
    "no identifier": (906, _edit("h:id", _without)),
    "two identifiers": (906, _edit("h:id", _both(_second, _set(root="1.2.9")))),
    "cut short": (906, _cut),
}  # fmt: skip


# --- packed ------------------------------------------------------------------------------------


def wrapped(
    content: bytes, rng: random.Random, *, of: bytes | None = None, **metadata: object
) -> bytes:
    """A message with the document in a package, in one of the ways of senders.

    Args:
        content: the document.
        rng: chooses the way.
        of: the document that the metadata was made for, where ``content`` cannot be read; its
            identifier and patient are then told.
        metadata: fields of the entry that differ from what the document says.
    """
    named = entry_for(content if of is None else of)
    uri = rng.choice(
        ["DOC0001.XML", "SUBSET01/DOC0001.XML", "IHE_XDM/SUBSET01/DOC0001.XML", "doc0001.xml"]
    )
    digest = hashlib.sha1(content).hexdigest()  # noqa: S324
    changes: dict[str, Any] = {
        "hash": rng.choice([digest, digest.upper()]),
        "size": len(content),
        "uri": uri,
        **metadata,
    }
    if of is not None:  # a sender's metadata is as damaged as the document
        changes = {"patient_id": "", "source_patient_id": "", **changes}
    listed = encode(submission_for([replace(named, **changes)]))
    return sent(archived(listed, content, rng), rng)


def archived(metadata: bytes, content: bytes, rng: random.Random) -> bytes:
    """An IHE_XDM.zip as one of many tools makes it."""
    folder = rng.choice(["", "export/", "./"])
    files = [
        (f"{folder}IHE_XDM/SUBSET01/METADATA.XML", metadata),
        (f"{folder}IHE_XDM/SUBSET01/DOC0001.XML", content),
    ]
    extra = [
        ("INDEX.HTM", b"<html/>"),
        ("README.TXT", b"x"),
        ("IHE_XDM/SUBSET01/CDA.XSL", b"<x/>"),
    ]
    files += rng.sample(extra, rng.randint(0, 3))
    rng.shuffle(files)
    lower, backslashes = rng.random() < 0.3, rng.random() < 0.3
    unix, stored = rng.random() < 0.5, rng.random() < 0.3
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, octets in files:
            info = zipfile.ZipInfo(name.lower() if lower else name)
            info.filename = info.filename.replace("/", "\\") if backslashes else info.filename
            info.create_system = 3 if unix else 0
            info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            archive.writestr(info, octets)
    return written.getvalue() + rng.choice([b"", b"\x00" * 500, b"\r\n"])


def sent(archive: bytes, rng: random.Random) -> bytes:
    """A message with the archive attached as one of many mailers does it."""
    kind = rng.choice(
        ["application/zip", "application/octet-stream", "application/x-zip-compressed"]
    )
    name = rng.choice(["IHE_XDM.zip", "IHE_XDM.ZIP", "ihe_xdm.zip"])
    quoted, value, star = f'filename="{name}"', f'name="{name}"', f"filename*=UTF-8''{name}"
    word = f"=?UTF-8?B?{base64.b64encode(name.encode()).decode()}?="
    fields = rng.choice(
        [
            f"Content-Type: {kind}\r\nContent-Disposition: attachment; {quoted}\r\n",
            f"Content-Type: {kind}; {value}\r\n",
            f"Content-Type: {kind};\r\n\t{value}\r\nContent-Disposition: inline;\r\n\t{quoted}\r\n",
            f"Content-Type: {kind}\r\nContent-Disposition: attachment; {star}\r\n",
            f'Content-Type: {kind}; name="{word}"\r\nContent-Disposition: attachment\r\n',
        ]
    )
    width = rng.choice([76, 64, 900])
    text = base64.b64encode(archive).decode().rstrip(rng.choice(["", "="]))
    lines = "\r\n".join(text[at : at + width] for at in range(0, len(text), width))
    encoding = rng.choice(["base64", "BASE64"])
    return (
        "From: <labo@operateur-a.test>\r\nTo: <dr.test@cabinet.mssante.test>\r\nSubject: XDM\r\n"
        "Message-ID: <v@operateur-a.test>\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/mixed; boundary="=_v"\r\n\r\n--=_v\r\n'
        f"Content-Type: text/plain\r\n\r\nBonjour\r\n--=_v\r\n{fields}"
        f"Content-Transfer-Encoding: {encoding}\r\n\r\n{lines}\r\n--=_v--\r\n"
    ).encode()
