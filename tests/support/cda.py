"""Generated CDA documents: fictitious patients that carry canaries, any traits, any size.

cda(CdaSpec())                                     level 3, one paragraph
cda(CdaSpec(pdf=b"%PDF-1.4 ..."))                  level 1
cda(CdaSpec(acts=(follow_up("20261224"), ...)))    with entries for the agenda
cda(CdaSpec(octets=400_000))                       padded with narrative to about that size
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

OID_NIR = "1.2.250.1.213.1.4.8"
OID_NIA = "1.2.250.1.213.1.4.9"
OID_TEST = "1.2.250.1.213.1.4.10"
OID_DEMO = "1.2.250.1.213.1.4.11"
OID_IPP = "1.2.3.4.567.8.9.10"

PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
    b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]>>endobj\n"
    b"trailer<</Root 1 0 R>>\n%%EOF\n"
)


@dataclass(frozen=True)
class PatientSpec:
    """A patient as a document names them; None leaves the element out."""

    ins: str | None = "279039999000178"
    oid: str = OID_TEST
    family: str | None = "ZZCANARY-NOM"
    given: str | None = "ZZCANARYPRENOM"
    birth_date: str | None = "19790328"
    sex: str | None = "F"
    birth_place: str | None = "99990"
    used_family: str | None = None
    other_ids: tuple[tuple[str, str], ...] = ((OID_IPP, "1234567890121"),)

    def xml(self) -> str:
        ids = [(self.oid, self.ins)] if self.ins is not None else []
        names = []
        if self.family is not None:
            names.append(f'<family qualifier="BR">{escape(self.family)}</family>')
        if self.given is not None:
            names.append(f"<given>{escape(self.given)} MARIE</given>")
            names.append(f'<given qualifier="BR">{escape(self.given)}</given>')
        if self.used_family is not None:
            names.append(f'<family qualifier="CL">{escape(self.used_family)}</family>')
        sex = (
            '<administrativeGenderCode nullFlavor="UNK"/>'
            if self.sex is None
            else f'<administrativeGenderCode code="{self.sex}" codeSystem="2.16.840.1.113883.5.1"/>'
        )
        birth = (
            '<birthTime nullFlavor="UNK"/>'
            if self.birth_date is None
            else f'<birthTime value="{self.birth_date}"/>'
        )
        place = (
            ""
            if self.birth_place is None
            else "<birthplace><place><addr><county>"
            f"{self.birth_place}</county></addr></place></birthplace>"
        )
        listed = "".join(
            f'<id extension="{extension}" root="{root}"/>'
            for root, extension in (*ids, *self.other_ids)
        )
        return (
            f"<recordTarget><patientRole>{listed}<patient><name>{''.join(names)}</name>"
            f"{sex}{birth}{place}</patient></patientRole></recordTarget>"
        )


@dataclass(frozen=True)
class CdaSpec:
    """One document. ``acts`` are (section code, entry XML) pairs from the functions below."""

    unique_id: str = "1.2.250.1.213.999.1"
    extension: str = ""
    patients: tuple[PatientSpec, ...] = (PatientSpec(),)
    code: str = "11502-2"
    code_display: str = "CR d'examens biologiques"
    title: str = "Compte rendu ZZCANARYTITRE"
    effective_time: str = "20261102101500+0100"
    confidentiality: str = "N"
    set_id: str = "1.2.250.1.213.999.set"
    version: int = 1
    author: str = "801234567897"
    author_organization: str = "1990000001"
    custodian: str = "1990000001"
    custodian_name: str = "LABORATOIRE DE TEST"
    recipients: tuple[str, ...] = ()
    attending: str | None = None
    replaces: str | None = None
    pdf: bytes | None = None
    narrative: str = "ZZCANARYTEXTE résultat normal."
    acts: tuple[tuple[str, str], ...] = ()
    octets: int = 0
    extra_header: str = ""
    prologue: str = '<?xml version="1.0" encoding="UTF-8"?>\n'
    wrapped: bool = False
    sections: tuple[str, ...] = field(default=())


def _ps(extension: str, family: str) -> str:
    return (
        f'<id root="1.2.250.1.71.4.2.1" extension="{extension}"/>'
        '<code code="G15_10/SM26" displayName="Médecin - Généraliste" '
        'codeSystem="1.2.250.1.213.1.1.4.5"/>'
        f"<assignedPerson><name><prefix>DR</prefix><family>{family}</family>"
        "<given>Test</given></name></assignedPerson>"
    )


def _structure(tag: str, extension: str, name: str) -> str:
    return (
        f'<{tag}><id root="1.2.250.1.71.4.2.2" extension="{extension}"/>'
        f"<name>{escape(name)}</name></{tag}>"
    )


def _parts(spec: CdaSpec) -> tuple[str, str]:
    """Header and body of a document."""
    ident = f'<id root="{spec.unique_id}"' + (
        f' extension="{spec.extension}"/>' if spec.extension else "/>"
    )
    recipients = "".join(
        "<informationRecipient><intendedRecipient>"
        f'<id root="1.2.250.1.71.4.2.1" extension="{r}"/></intendedRecipient>'
        "</informationRecipient>"
        for r in spec.recipients
    )
    attending = (
        ""
        if spec.attending is None
        else '<participant typeCode="INF"><functionCode code="PCP" '
        'codeSystem="2.16.840.1.113883.5.88"/><associatedEntity classCode="PROV">'
        f'<id root="1.2.250.1.71.4.2.1" extension="{spec.attending}"/>'
        "</associatedEntity></participant>"
    )
    replaces = ""
    if spec.replaces is not None:
        root, _, extension = spec.replaces.partition("^")
        replaces = (
            f'<relatedDocument typeCode="RPLC"><parentDocument><id root="{root}"'
            + (f' extension="{extension}"' if extension else "")
            + "/></parentDocument></relatedDocument>"
        )
    header = (
        '<realmCode code="FR"/><typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>'
        '<templateId root="1.2.250.1.213.1.1.1.1"/>'
        f"{ident}<code code={quoteattr(spec.code)} displayName={quoteattr(spec.code_display)} "
        'codeSystem="2.16.840.1.113883.6.1"/>'
        f"<title>{escape(spec.title)}</title>"
        f'<effectiveTime value="{spec.effective_time}"/>'
        f'<confidentialityCode code="{spec.confidentiality}" codeSystem="2.16.840.1.113883.5.25"/>'
        f'<languageCode code="fr-FR"/><setId root="{spec.set_id}"/>'
        f'<versionNumber value="{spec.version}"/>'
        + "".join(p.xml() for p in spec.patients)
        + f'<author><time value="{spec.effective_time}"/><assignedAuthor>{_ps(spec.author, "AUTEUR")}'
        + _structure("representedOrganization", spec.author_organization, "STRUCTURE AUTEUR")
        + "</assignedAuthor></author>"
        "<custodian><assignedCustodian>"
        + _structure("representedCustodianOrganization", spec.custodian, spec.custodian_name)
        + "</assignedCustodian></custodian>"
        + recipients
        + f'<legalAuthenticator><time value="{spec.effective_time}"/><signatureCode code="S"/>'
        f"<assignedEntity>{_ps(spec.author, 'AUTEUR')}</assignedEntity></legalAuthenticator>"
        + attending
        + f'<documentationOf><serviceEvent><effectiveTime><low value="{spec.effective_time}"/>'
        "</effectiveTime></serviceEvent></documentationOf>"
        + replaces
        + '<componentOf><encompassingEncounter><effectiveTime><low value="20261101"/>'
        '<high value="20261102"/></effectiveTime><location><healthCareFacility>'
        '<code code="SA25" codeSystem="1.2.250.1.71.4.2.4"/></healthCareFacility></location>'
        "</encompassingEncounter></componentOf>" + spec.extra_header
    )
    if spec.pdf is not None:
        body = (
            '<component><nonXMLBody><text mediaType="application/pdf" representation="B64">'
            f"{base64.b64encode(spec.pdf).decode()}</text></nonXMLBody></component>"
        )
        return header, body
    sections: dict[str, list[str]] = {}
    for code, entry in spec.acts:
        sections.setdefault(code, []).append(entry)
    written = "".join(
        f'<component><section><code code="{code}" codeSystem="2.16.840.1.113883.6.1"/>'
        f"<title>Section {code}</title><text><paragraph>Voir les entrées.</paragraph></text>"
        + "".join(f"<entry>{entry}</entry>" for entry in entries)
        + "</section></component>"
        for code, entries in sections.items()
    )
    first = (
        '<component><section><code code="11502-2" codeSystem="2.16.840.1.113883.6.1"/>'
        f"<title>Résultats</title><text><paragraph>{escape(spec.narrative)}</paragraph>"
        "{padding}</text></section></component>"
    )
    body = (
        "<component><structuredBody>"
        + first
        + "".join(spec.sections)
        + written
        + "</structuredBody></component>"
    )
    missing = spec.octets - len((spec.prologue + header + body).encode()) - 200
    row = "<paragraph>Hémoglobine 13,{:03} g/dL, valeurs usuelles 12,0 à 16,0.</paragraph>"
    count = max(missing, 0) // (len(row.encode()) - 2)
    return header, body.replace("{padding}", "".join(row.format(n % 1000) for n in range(count)))


def cda(spec: CdaSpec | None = None) -> bytes:
    """The document's bytes."""
    spec = spec or CdaSpec()
    header, body = _parts(spec)
    document = f'<ClinicalDocument xmlns="urn:hl7-org:v3">{header}{body}</ClinicalDocument>'
    if spec.wrapped:
        document = (
            '<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">'
            '<xsl:template match="/"><html><script>alert("ZZCANARY")</script></html>'
            f"</xsl:template>{document}</xsl:stylesheet>"
        )
    return (spec.prologue + document).encode()


# --- entries ---------------------------------------------------------------------------------


def _when(value: str | None, high: str | None = None) -> str:
    if value is None:
        return '<effectiveTime nullFlavor="UNK"/>'
    if high is None:
        return f'<effectiveTime value="{value}"/>'
    return (
        '<effectiveTime xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="IVL_TS">'
        f'<low value="{value}"/><high value="{high}"/></effectiveTime>'
    )


def _status(status: str | None) -> str:
    return "" if status is None else f'<statusCode code="{status}"/>'


def follow_up(
    when: str | None, *, attributes: str = "", status: str | None = None, place: str = ""
) -> tuple[str, str]:
    """A requested consultation (``encounter moodCode="ARQ"``)."""
    location = (
        '<participant typeCode="LOC"><participantRole><playingEntity>'
        f"<name>{escape(place)}</name></playingEntity></participantRole></participant>"
        if place
        else ""
    )
    return "18776-5", (
        f'<encounter classCode="ENC" moodCode="ARQ" {attributes}>'
        '<code code="AMB" displayName="Consultation de suivi" '
        'codeSystem="2.16.840.1.113883.5.4"/>'
        f"{_status(status)}{_when(when)}{location}</encounter>"
    )


def planned_procedure(
    when: str | None, *, attributes: str = "", status: str | None = "active"
) -> tuple[str, str]:
    """A planned act (``procedure moodCode="INT"``)."""
    return "18776-5", (
        f'<procedure classCode="PROC" moodCode="INT" {attributes}>'
        '<code code="HHQE005" displayName="Coloscopie totale" '
        'codeSystem="1.2.250.1.213.2.5"/>'
        f"{_status(status)}{_when(when)}</procedure>"
    )


def vaccination(
    when: str | None,
    *,
    attributes: str = "",
    status: str | None = "completed",
    name: str = "REPEVAX",
    mood: str = "EVN",
    atc: str = "J07CA02",
) -> tuple[str, str]:
    """A vaccination done (EVN) or recommended (INT)."""
    template = "1.2.250.1.213.1.1.3.45" if mood == "EVN" else "1.2.250.1.213.1.1.3.47"
    return "11369-6", (
        f'<substanceAdministration classCode="SBADM" moodCode="{mood}" {attributes}>'
        f'<templateId root="{template}"/>'
        '<code code="INITIMMUNIZ" codeSystem="2.16.840.1.113883.5.4"/>'
        f"{_status(status)}{_when(when)}"
        "<consumable><manufacturedProduct><manufacturedMaterial>"
        f'<code code="65082437" displayName={quoteattr(name)} codeSystem="1.2.250.1.213.2.3.1">'
        f'<translation code="{atc}" codeSystem="2.16.840.1.113883.6.73"/></code>'
        f"<name>{escape(name)}</name>"
        "</manufacturedMaterial></manufacturedProduct></consumable></substanceAdministration>"
    )


def prescription(
    low: str | None,
    high: str | None,
    *,
    attributes: str = "",
    status: str | None = "completed",
    name: str = "AMOXICILLINE 1 g",
    renewals: int = 0,
    as_needed: bool = False,
) -> tuple[str, str]:
    """A prescription line (``substanceAdministration moodCode="INT"``)."""
    needed = (
        '<precondition><criterion><text>si besoin</text><value code="PRN"/></criterion>'
        "</precondition>"
        if as_needed
        else ""
    )
    return "57828-6", (
        f'<substanceAdministration classCode="SBADM" moodCode="INT" {attributes}>'
        '<templateId root="1.2.250.1.213.1.1.3.83"/>'
        f"{_status(status)}{_when(low, high)}"
        + (f'<repeatNumber value="{renewals}"/>' if renewals else "")
        + "<consumable><manufacturedProduct><manufacturedMaterial>"
        f'<code code="65082437" displayName={quoteattr(name)} codeSystem="1.2.250.1.213.2.3.1"/>'
        f"</manufacturedMaterial></manufacturedProduct></consumable>{needed}"
        "</substanceAdministration>"
    )


def treatment(
    name: str = "LEVOTHYROX 75 microgrammes",
    low: str | None = "20220211",
    high: str | None = None,
    *,
    section: str = "10160-0",
    mood: str = "EVN",
    attributes: str = "",
    status: str | None = "completed",
    code: str = '<code code="DRUG" codeSystem="2.16.840.1.113883.5.4"/>',
    product: str = "",
) -> tuple[str, str]:
    """A medicine taken (EVN) or planned (INT); ``product`` replaces the coded and named one."""
    product = product or (
        f'<code code="62080626" displayName={quoteattr(name)} codeSystem="1.2.250.1.213.2.3.1"/>'
        f"<name>{escape(name)}</name>"
    )
    return section, (
        f'<substanceAdministration classCode="SBADM" moodCode="{mood}" {attributes}>'
        '<templateId root="1.3.6.1.4.1.19376.1.5.3.1.4.7"/>'
        f'<templateId root="1.2.250.1.213.1.1.3.42"/>{code}'
        f"{_status(status)}{_when(low, high)}"
        f"<consumable><manufacturedProduct><manufacturedMaterial>{product}"
        "</manufacturedMaterial></manufacturedProduct></consumable></substanceAdministration>"
    )


def dispensation(
    name: str = "PARACETAMOL 500 mg", *, attributes: str = "", mood: str = "EVN"
) -> tuple[str, str]:
    """A medicine that a pharmacy gave out, with the prescribed line inside it."""
    prescribed = prescription("20261101", "20261201", name="PRESCRIT")[1]
    return "60590-7", (
        f'<supply classCode="SPLY" moodCode="{mood}" {attributes}>'
        '<templateId root="1.2.250.1.213.1.1.3.204"/><quantity value="2"/>'
        "<product><manufacturedProduct><manufacturedMaterial>"
        f'<code nullFlavor="NA"><translation code="3400933516390" displayName={quoteattr(name)}'
        ' codeSystem="1.2.250.1.213.2.3.2"/></code>'
        "</manufacturedMaterial></manufacturedProduct></product>"
        f'<entryRelationship typeCode="REFR">{prescribed}</entryRelationship></supply>'
    )


def device(
    low: str | None,
    high: str | None,
    *,
    mood: str = "INT",
    attributes: str = "",
    days: str = "",
    unit: str = "d",
    name: str = "LITS MÉDICAUX",
) -> tuple[str, str]:
    """A device prescription (``supply moodCode="INT"``)."""
    use = (
        f'<expectedUseTime><width value="{days}" unit="{unit}"/></expectedUseTime>' if days else ""
    )
    return "46264-8", (
        f'<supply classCode="SPLY" moodCode="{mood}" {attributes}>'
        '<templateId root="1.2.250.1.213.1.1.3.20"/>'
        f"{_when(low, high)}{use}"
        '<participant typeCode="DEV"><participantRole classCode="MANU"><playingDevice>'
        f'<code code="V0806" displayName={quoteattr(name)} codeSystem="1.2.250.1.213.2.68"/>'
        "</playingDevice></participantRole></participant></supply>"
    )


def lab_result(
    value: str,
    when: str | None = "20261102080000+0100",
    *,
    loinc: str = "718-7",
    label: str = "Hémoglobine [Masse/Volume] Sang ; Numérique",
    attributes: str = "",
    template: str = "1.2.250.1.213.1.1.3.80",
    inside: str = "",
) -> tuple[str, str]:
    """A laboratory result; ``value`` is the ``value`` element (`quantity`, `bound`, `told`)."""
    return "18719-5", (
        '<act classCode="ACT" moodCode="EVN"><statusCode code="completed"/>'
        '<entryRelationship typeCode="COMP">'
        f'<observation classCode="OBS" moodCode="EVN" {attributes}>'
        f'<templateId root="{template}"/><code code="{loinc}" displayName={quoteattr(label)}'
        ' codeSystem="2.16.840.1.113883.6.1"/><statusCode code="completed"/>'
        f"{_when(when) if when else ''}{value}{inside}"
        "</observation></entryRelationship></act>"
    )


_XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'


def quantity(value: str, unit: str = "g/dL", kind: str = "PQ") -> str:
    """A value of a result."""
    return f'<value {_XSI} xsi:type="{kind}" value={quoteattr(value)} unit={quoteattr(unit)}/>'


def bound(end: str, value: str, unit: str = "mg/L", more: str = "") -> str:
    """An interval of which one end is known."""
    return f'<value {_XSI} xsi:type="IVL_PQ"><{end} value="{value}" unit="{unit}" {more}/></value>'


def told(text: str, kind: str = "ED") -> str:
    """A result as text."""
    return f'<value {_XSI} xsi:type="{kind}">{escape(text)}</value>'


def acts(*entries: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    """Shorthand for ``CdaSpec.acts``."""
    return tuple(entries)


def many(entry: tuple[str, str], count: int) -> Sequence[tuple[str, str]]:
    """The same entry many times."""
    return (entry,) * count
