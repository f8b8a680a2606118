"""Write the message by which a hospital sends reports: XDM package, PDF, X-MSS fields; pure.

What the receiver files is the package; subject and X-MSS fields are for people and for sorting.
Invariants: one patient per message, and an INS number with its right key, or the sender refuses
(``RefusedReportError``) unless asked to send as it is, which tests of receivers need. The same
request and the same identifiers give the same octets.

Source: CI-SIS §EchangeDoc, CI-SIS §LPS-MSS, MSS-CL §3.1, MSS-CL §3.8; RULES §5.
"""

import binascii
import hashlib
import re
import unicodedata
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum

from lxml import etree

from certs.addresses import Mailbox
from directory.codes import class_label, class_of, type_label
from mailserver.message.compose import Attachment, Draft, compose
from record_bridge.errors import MalformedCdaError
from record_bridge.formats.cda_header import (
    HL7,
    CdaHeader,
    CdaOrganization,
    CdaPatient,
    CdaPerson,
    load_cda,
    read_header,
)
from record_bridge.formats.dtm import parse_dtm
from record_bridge.formats.xdm import PackagedDocument, build_package
from record_bridge.formats.xds_metadata import (
    DEPRECATED,
    Code,
    DocumentEntry,
    SubmissionSet,
    encode,
)
from record_bridge.ins import KEYED_OIDS, has_good_key

PACKAGE = "IHE_XDM.zip"
LABEL_CHARACTERS = 40  # MSS-CL §3.1, subject
_CLASS_SCHEME = "1.2.250.1.213.1.1.4.1"
_FORMAT = Code("urn:asipSante:modelesHorsProfils:2011", "1.2.250.1.213.1.1.4.2.282", "Hors profil")
MASKS_SCHEME = "1.2.250.1.213.1.1.4.13"
_CONFIDENTIALITY_SCHEME = "2.16.840.1.113883.5.25"
_CONFIDENTIALITY = {"N": "Normal", "R": "Restreint", "V": "Très restreint"}
_CONTENT_TYPE = Code("04", "1.2.250.1.213.2.2", "Hospitalisation de jour")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9-]+")
_TEXT = (
    "Bonjour,\n\nVeuillez trouver ci-joint un ou plusieurs documents de santé. Les logiciels de "
    "santé les lisent dans l'archive IHE_XDM.zip.\n\n"
    "Message envoyé par une messagerie sécurisée de santé.\n"
)


class Refusal(Enum):
    """Why a report is not sent."""

    UNREADABLE = "unreadable"
    NO_INS_KEY = "ins-key"
    TWO_PATIENTS = "two-patients"
    NO_DOCUMENT = "no-document"
    BAD_ADDRESS = "bad-address"
    BAD_SEAL = "bad-seal"
    NOT_ONE_MESSAGE = "not-one-message"


_REASONS = {
    Refusal.UNREADABLE: "a file holds no readable clinical document",
    Refusal.NO_INS_KEY: "an INS number does not have the right key",
    Refusal.TWO_PATIENTS: "the documents name more than one patient, or none",
    Refusal.NO_DOCUMENT: "there is no document to send",
    Refusal.BAD_ADDRESS: "an address is not well formed",
    Refusal.BAD_SEAL: "the seal's certificate or key cannot be used",
    Refusal.NOT_ONE_MESSAGE: "the message holds a bare CR, a bare LF or a NUL",
}
WAIVED_AS_IS = frozenset({Refusal.UNREADABLE, Refusal.NO_INS_KEY, Refusal.TWO_PATIENTS})
"""What ``--as-is`` sends all the same."""


class RefusedReportError(ValueError):
    """The rules forbid to send this; ``reason`` says which one."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(_REASONS[reason])
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Report:
    """One document to send; ``header`` is None when it cannot be read."""

    content: bytes
    header: CdaHeader | None
    pdf: bytes | None


@dataclass(frozen=True, slots=True)
class Identifiers:
    """What makes a message itself.

    Attributes:
        at: when it is written.
        message_id: with its angle brackets.
        set_id: the submission set's uniqueId, an OID.
        source_id: OID of the sending software.
    """

    at: datetime
    message_id: str
    set_id: str
    source_id: str


@dataclass(frozen=True, slots=True)
class Asks:
    """What a sender asks for documents beside keeping them.

    Attributes:
        masks: visibility codes to write into the metadata.
        withdrawal: the documents are to be withdrawn.
    """

    masks: tuple[str, ...] = ()
    withdrawal: bool = False


NOTHING_ASKED = Asks()


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who writes to whom.

    Attributes:
        nil: X-MSS-NIL; no such field when None.
        acknowledge: ask for a disposition notification.
        text: what the person reads; a fixed sentence when "".
        reply_to: where answers go, when it is not the author.
        closes_exchange: the patient may not answer (X-MSS-MES: FIN).
        asks: what is asked for the documents beside keeping them.
    """

    author: Mailbox
    to: tuple[Mailbox, ...]
    nil: str | None = None
    acknowledge: bool = True
    text: str = ""
    reply_to: Mailbox | None = None
    closes_exchange: bool = False
    asks: Asks = NOTHING_ASKED


def read_report(content: bytes, fresh_id: str | None = None) -> Report:
    """Read a document to send, under another ``ClinicalDocument/id`` when one is given.

    ``setId`` is left as it is: a copy is another document of the same set.
    """
    try:
        document = load_cda(content)
        if fresh_id is not None:
            content = _renamed(document, fresh_id)
        return Report(content, read_header(document), _pdf(document))
    except MalformedCdaError:
        return Report(content, None, None)


def check(reports: Sequence[Report]) -> None:
    """Refuse what may not be sent.

    Raises:
        RefusedReportError: unreadable, a wrong key under a production authority, several
            patients.

    Source: RULES §5.
    """
    if not reports:
        raise RefusedReportError(Refusal.NO_DOCUMENT)
    seen = set()
    for report in reports:
        if report.header is None:
            raise RefusedReportError(Refusal.UNREADABLE)
        if len(report.header.patients) != 1 or len(report.header.patients[0].ins_ids) > 1:
            raise RefusedReportError(Refusal.TWO_PATIENTS)
        patient = report.header.patients[0]
        seen.add(patient.ins_ids or patient.ids)
        for number in patient.ins_ids:
            if number.root in KEYED_OIDS and not has_good_key(number.extension):
                raise RefusedReportError(Refusal.NO_INS_KEY)
    if len(seen) > 1:
        raise RefusedReportError(Refusal.TWO_PATIENTS)


def build(
    reports: Sequence[Report], envelope: Envelope, identifiers: Identifiers, archive: bytes | None
) -> bytes:
    """Write the whole message, not signed.

    Args:
        reports: the documents.
        envelope: who writes to whom.
        identifiers: of this message.
        archive: an IHE_XDM.zip to send as it is, instead of one made of the documents.
    """
    headers = [report.header for report in reports if report.header is not None]
    package = archive if archive is not None else _package(reports, envelope, identifiers)
    extra = []
    if envelope.acknowledge:
        extra.append(("Disposition-Notification-To", envelope.author.address.text))
    if headers:
        codes = dict.fromkeys(header.code for header in headers if header.code)
        extra.append(("X-MSS-CODECDA", ",".join(codes)))
        extra.append(("X-MSS-INS", "O" if all(map(is_qualified, headers)) else "N"))
    if envelope.nil:
        extra.append(("X-MSS-NIL", envelope.nil))
    if envelope.reply_to is not None:
        extra.append(("Reply-To", envelope.reply_to.address.text))
    if envelope.closes_exchange:
        extra.append(("X-MSS-MES", "FIN"))
    attachments = [
        Attachment(_pdf_name(report.header), "application/pdf", report.pdf)
        for report in reports
        if report.pdf is not None and report.header is not None
    ]
    attachments.append(Attachment(PACKAGE, "application/zip", package))
    return compose(
        Draft(
            author=envelope.author,
            to=envelope.to,
            subject=subject(headers, len(reports)),
            text=envelope.text or _TEXT,
            message_id=identifiers.message_id,
            at=identifiers.at,
            attachments=tuple(attachments),
            extra=tuple(extra),
        )
    )


def subject(headers: Sequence[CdaHeader], count: int) -> str:
    """Give the subject by the national rule: ``XDM/1.0/DDM+<label> NOM prénom JJ/MM/AAAA``.

    Source: MSS-CL §3.1.
    """
    label = f"{count} documents"
    if count == 1:
        label = _plain(_label(headers[0]))[:LABEL_CHARACTERS] if headers else "1 document"
    pieces = [f"XDM/1.0/DDM+{label}".rstrip()]
    if headers and headers[0].patients:
        pieces.extend(_name(headers[0].patients[0]))
        born = headers[0].patients[0].birth_time or ""
        if re.fullmatch(r"\d{8}.*", born):
            pieces.append(f"{born[6:8]}/{born[4:6]}/{born[:4]}")
    written = " ".join(piece for piece in pieces if piece)
    replaces = any(header.parent_unique_id for header in headers)
    return f"[Annule et remplace] {written}" if replaces else written


def _label(header: CdaHeader) -> str:
    return header.code_display or type_label(header.code) or header.title or "Document"


def _name(patient: CdaPatient) -> tuple[str, str]:
    family = patient.birth_families[0] if patient.birth_families else ""
    given = patient.first_givens[0] if patient.first_givens else ""
    if not family:
        family, _, given = patient.display.partition(" ")
    return _plain(family).upper(), _plain(given)


def _plain(text: str) -> str:
    """Give a text without accents, in printable ASCII."""
    bare = unicodedata.normalize("NFKD", text.replace("œ", "oe").replace("’", "'"))
    return " ".join(bare.encode("ascii", "ignore").decode("ascii").split())


def is_qualified(header: CdaHeader) -> bool:
    """Say whether the INS is whole: number, birth name, first birth name, date, sex."""
    if len(header.patients) != 1:
        return False
    patient = header.patients[0]
    return bool(
        patient.ins_ids
        and patient.birth_families
        and patient.first_givens
        and patient.sex
        and re.fullmatch(r"\d{8}", patient.birth_time or "")
    )


def _pdf_name(header: CdaHeader) -> str:
    """Name the PDF ``<date>_<type>_<NOM>_<prénom>_<number>.pdf``.

    Source: MSS-CL §2.1 (ECO.2.1.6).
    """
    starts = [event.low for event in (*header.events, header.encounter) if event is not None]
    act = next(filter(None, [*starts, header.effective_time]), "")
    patient = header.patients[0] if header.patients else None
    local = [i.extension for i in patient.ids if i not in patient.ins_ids] if patient else []
    number = next(filter(None, local), header.id.extension or header.id.root)
    pieces = [act[:8], _label(header), *(_name(patient) if patient else ("", "")), number]
    return "_".join(_NOT_IN_NAMES.sub("-", _plain(p)).strip("-") for p in pieces) + ".pdf"


def _package(reports: Sequence[Report], envelope: Envelope, identifiers: Identifiers) -> bytes:
    entries = []
    documents = []
    for number, report in enumerate(reports, 1):
        uri = f"DOC{number:04}.XML"
        documents.append(PackagedDocument(uri, report.content))
        entry = _entry(report, uri, f"{identifiers.set_id}.{number}")
        entries.append(_asked(entry, envelope.asks))
    first = entries[0] if entries else DocumentEntry()
    metadata = encode(
        SubmissionSet(
            unique_id=identifiers.set_id,
            source_id=identifiers.source_id,
            patient_id=first.patient_id,
            submission_time=_dtm(identifiers.at),
            content_type=_CONTENT_TYPE,
            author_person=first.author_person,
            author_institution=first.author_institution,
            entries=tuple(entries),
        )
    )
    sender = _plain(envelope.author.display) or envelope.author.address.domain
    return build_package(metadata, documents, sender=sender)


def _asked(entry: DocumentEntry, asks: Asks) -> DocumentEntry:
    """Write into the metadata what is asked for a document."""
    masks = tuple(Code(mask, MASKS_SCHEME, mask) for mask in asks.masks)
    return replace(
        entry,
        confidentiality=(*entry.confidentiality, *masks),
        availability=DEPRECATED if asks.withdrawal else "",
    )


def _entry(report: Report, uri: str, fallback_id: str) -> DocumentEntry:
    """Describe a document. Source: CI-SIS §EchangeDoc, mapping of facts §3.3."""
    header = report.header
    digest = hashlib.sha1(report.content, usedforsecurity=False).hexdigest()
    entry_facts = DocumentEntry(
        unique_id=fallback_id,
        uri=uri,
        hash=digest,
        size=len(report.content),
        mime_type="text/xml",
        format_code=_FORMAT,
        language="fr-FR",
    )
    if header is None:
        return entry_facts
    patient = header.patients[0] if header.patients else None
    author = header.authors[0] if header.authors else None
    event = header.events[0] if header.events else None
    secrecy = header.confidentiality or "N"
    return DocumentEntry(
        unique_id=header.unique_id,
        patient_id=_cx(patient, "NH"),
        source_patient_id=_cx(patient, "PI"),
        source_patient_info=_pid(patient),
        uri=uri,
        hash=digest,
        size=len(report.content),
        mime_type="text/xml",
        title=header.title or _label(header),
        class_code=Code(class_of(header.code), _CLASS_SCHEME, class_label(class_of(header.code))),
        type_code=Code(header.code, header.code_system, header.code_display),
        format_code=_FORMAT,
        confidentiality=(
            Code(secrecy, _CONFIDENTIALITY_SCHEME, _CONFIDENTIALITY.get(secrecy, secrecy)),
        ),
        creation_time=_utc(header.effective_time),
        language=header.language or "fr-FR",
        service_start=_utc(event.low if event else None),
        service_stop=_utc(event.high if event else None),
        author_person=_xcn(author),
        author_institution=_xon(author.organization if author else None) or _xon(header.custodian),
        legal_authenticator=_xcn(header.legal_authenticator),
    )


def _cx(patient: CdaPatient | None, kind: str) -> str:
    """Write an identifier: the INS as NH, the sender's own number as PI when there is one."""
    if patient is None or not patient.ids:
        return ""
    numbers = patient.ins_ids
    if kind == "PI":
        numbers = tuple(i for i in patient.ids if i not in patient.ins_ids) or numbers
    chosen = (numbers or patient.ids)[0]
    return f"{chosen.extension}^^^&{chosen.root}&ISO^{kind}"


def _pid(patient: CdaPatient | None) -> tuple[str, ...]:
    if patient is None:
        return ()
    family, given = _name(patient)
    lines = [f"PID-5|{family}^{given}^^^^^L"]
    if patient.birth_time:
        lines.append(f"PID-7|{patient.birth_time[:8]}")
    if patient.sex:
        lines.append(f"PID-8|{patient.sex}")
    return tuple(lines)


def _xcn(person: CdaPerson | None) -> str:
    if person is None or not person.ids:
        return ""
    given, _, family = person.name.rpartition(" ")
    number = person.ids[0]
    return f"{number.extension}^{family}^{given}^^^^^^&{number.root}&ISO^D^^^IDNPS"


def _xon(organization: CdaOrganization | None) -> str:
    if organization is None or not organization.ids:
        return ""
    number = organization.ids[0]
    return f"{organization.name}^^^^^&{number.root}&ISO^IDNST^^^{number.extension}"


def _utc(text: str | None) -> str:
    read = parse_dtm(text)
    if read is None or read.at is None:
        return (text or "")[:8]
    return _dtm(read.at)


def _dtm(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y%m%d%H%M%S")


def _renamed(document: etree._Element, fresh_id: str) -> bytes:
    number = document.find(HL7 + "id")
    if number is None:
        raise MalformedCdaError("no single identifier")
    number.attrib.pop("extension", "")
    number.set("root", fresh_id)
    written: bytes = etree.tostring(document.getroottree(), xml_declaration=True, encoding="UTF-8")
    return written


def _pdf(document: etree._Element) -> bytes | None:
    """Give the PDF a document carries: its whole body, or its copy in section 55108-5."""
    for path in (
        f"{HL7}component/{HL7}nonXMLBody/{HL7}text",
        f".//{HL7}observationMedia/{HL7}value",
    ):
        for element in document.iterfind(path):
            if element.get("mediaType") == "application/pdf" and element.text:
                try:
                    return b64decode("".join(element.text.split()), validate=True)
                except binascii.Error:
                    return None
    return None
