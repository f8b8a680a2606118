"""Generates the documents of ``tests/vectors/cda``; run as a module to write them.

Each shows one field of MSS-FACTS §4.5, or one way in which real senders write. What a reader must
find in them is written by hand in ``golden.toml`` beside them, never by this program's reader.
"""

from dataclasses import replace
from pathlib import Path

from tests.support.cda import (
    PDF,
    CdaSpec,
    PatientSpec,
    acts,
    cda,
    device,
    dispensation,
    follow_up,
    planned_procedure,
    prescription,
    treatment,
    vaccination,
)

FOLDER = Path(__file__).parents[1] / "vectors" / "cda"
PERSON = PatientSpec(family="ZZTEST", given="ADELE", ins="279039999000178", birth_date="19790328")
BASE = CdaSpec(patients=(PERSON,), title="Document de test")
_CARE, _OBSERVATION = "18776-5", "1.2.250.1.213.1.1.3.27"


def observation(
    mood: str, when: str, *, attributes: str = "", template: str = _OBSERVATION
) -> str:
    """An examination that is asked for, proposed, or a goal."""
    return (
        f'<observation classCode="OBS" moodCode="{mood}" {attributes}>'
        f'<templateId root="{template}"/><code code="24627-2" displayName="Scanner du thorax"'
        f' codeSystem="2.16.840.1.113883.6.1"/><effectiveTime value="{when}"/></observation>'
    )


def _nested() -> str:
    """Acts under organizers and acts, one of which did not happen."""
    encounter = follow_up("20261224")[1]
    return (
        '<act classCode="ACT" moodCode="EVN"><entryRelationship typeCode="COMP">'
        f'<organizer classCode="CLUSTER" moodCode="EVN"><component>{encounter}</component>'
        '<component><act classCode="ACT" moodCode="EVN" negationInd="1"><entryRelationship>'
        f"{planned_procedure('20261225')[1]}</entryRelationship></act></component>"
        "</organizer></entryRelationship></act>"
    )


def _vaccinations_of_a_child() -> tuple[tuple[str, str], ...]:
    """What was given, beside what was not, and what nobody knows the day of."""

    def given(when: str | None, name: str, atc: str, **other: str) -> tuple[str, str]:
        return vaccination(when, name=name, atc=atc, **other)

    section, second = given("20250518", "PREVENAR 13", "J07AL02")
    refused = (
        '<act classCode="ACT" moodCode="EVN" negationInd="true"><entryRelationship'
        f' typeCode="COMP">{second}</entryRelationship></act>'
    )
    return acts(
        given("20250316", "HEXYON", "J07CA09"),
        given("20250518", "HEXYON", "J07CA09"),
        given("20251220", "HEXYON", "J07CA09", status="aborted"),
        given("20250316", "PREVENAR 13", "J07AL02"),
        (section, refused),
        given(None, "PREVENAR 13", "J07AL02"),
        given("20250415", "BEXSERO", "J07AH09"),
        given("20250620", "BEXSERO", "J07AH09"),
        given("2026", "BEXSERO", "J07AH09"),
        given("20250720", "NIMENRIX", "J07AH08"),
        given("20260120", "NIMENRIX", "J07AH08", attributes='nullFlavor="NI"'),
        given("20260120", "PRIORIX", "J07BD52"),
        given("20260601", "PRIORIX", "J07BD52", attributes='negationInd="true"'),
    )


def _treatments() -> tuple[tuple[str, str], ...]:
    """Medicines taken and planned, beside what is nobody's treatment."""
    section, taken = treatment("AMOXICILLINE 1 g")
    ill = (
        '<observation classCode="OBS" moodCode="EVN"><code code="39579001"'
        ' codeSystem="2.16.840.1.113883.6.96"/><entryRelationship typeCode="REFR">'
        f"{taken}</entryRelationship></observation>"
    )
    around = (
        f'<act classCode="ACT" moodCode="EVN"><entryRelationship>{taken}</entryRelationship></act>'
    )
    none = '<code code="182849000" codeSystem="2.16.840.1.113883.6.96"/>'
    absent = '<code code="no-medication-info" codeSystem="2.16.840.1.113883.5.1150.1"/>'
    answer = (
        '<code><originalText>oui</originalText><translation code="J06BB"'
        ' displayName="immunoglobulines" codeSystem="2.16.840.1.113883.6.73"/></code>'
        '<name nullFlavor="NA"/>'
    )
    return acts(
        treatment(),
        treatment("SOLIAN 100 mg", "201808", "20191029", section="18610-6"),
        treatment(low="202105030830", section="18610-6", product=answer),
        treatment("ROSUVASTATINE 5 mg", None, section="18776-5", mood="INT"),
        treatment("NOMMÉ NULLE PART", None, product='<code nullFlavor="UNK"/>'),
        treatment("NON PRIS", attributes='negationInd="true"'),
        treatment("ARRÊTÉ", status="aborted"),
        treatment("AUCUN", code=none),
        treatment("INCONNU", product=absent),
        treatment("VACCIN", section="11369-6"),
        ("44939-7", ill),
        ("48765-2", taken),
        (section, around),
    )  # fmt: skip


def _translated() -> str:
    """A vaccine without a code of its own, known by its translation and its narrative."""
    return (
        '<substanceAdministration classCode="SBADM" moodCode="EVN">'
        '<templateId root="1.2.250.1.213.1.1.3.45"/><statusCode code="completed"/>'
        '<effectiveTime><center value="20200102"/></effectiveTime><consumable>'
        '<manufacturedProduct><manufacturedMaterial><code nullFlavor="OTH"><originalText>'
        '<reference value="#vaccin"/></originalText><translation code="J07BC01"'
        ' displayName="Hépatite B" codeSystem="2.16.840.1.113883.6.73"/></code>'
        "</manufacturedMaterial></manufacturedProduct></consumable></substanceAdministration>"
    )


def _certificate(root: str) -> bytes:
    template = '<templateId root="1.2.250.1.213.1.1.1.1"/>'
    document = cda(replace(BASE, code="CERT_DECL", title="Certificat de santé"))
    return document.replace(
        template.encode(), f'{template}<templateId root="{root}"/>'.encode(), 1
    )


def _prefixed() -> bytes:
    """The HL7 namespace under a prefix, with comments and instructions in between."""
    document = cda(replace(BASE, acts=acts(follow_up("20261224")))).decode()
    for tag in ("ClinicalDocument",):
        assert f"<{tag}" in document
    prolog, _, rest = document.partition("<ClinicalDocument")
    body = rest.replace("</", "\0").replace("<", "<h:").replace("\0", "</h:")
    body = body.replace('xmlns="urn:hl7-org:v3"', 'xmlns:h="urn:hl7-org:v3"')
    body = body.replace("<h:title>", "<!-- un commentaire --><h:title><?imprimer oui?>", 1)
    return f'{prolog}<?xml-stylesheet href="cda.xsl"?><h:ClinicalDocument{body}'.encode()


def _several_authors() -> bytes:
    """Two professionals and a device, no one who signs, no encounter."""
    document = cda(BASE).decode()
    author = document[document.index("<author>") : document.index("</author>") + 9]
    second = author.replace("801234567897", "801234567898").replace("AUTEUR", "SECOND")
    machine = (
        '<author><time nullFlavor="UNK"/><assignedAuthor><id nullFlavor="NI"/>'
        "<assignedAuthoringDevice><softwareName>LOGICIEL</softwareName>"
        "</assignedAuthoringDevice></assignedAuthor></author>"
    )
    for first, last in (
        ("<legalAuthenticator>", "</legalAuthenticator>"),
        ("<componentOf>", "</componentOf>"),
    ):
        start, end = document.index(first), document.index(last) + len(last)
        document = document[:start] + document[end:]
    return document.replace(author, author + second + machine, 1).encode()


def _image() -> bytes:
    """A picture in the narrative, with its octets among the entries."""
    entry = (
        '<observationMedia classCode="OBS" moodCode="EVN" ID="image"><value mediaType="image/png"'
        ' representation="B64">iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk'
        "YPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==</value></observationMedia>"
    )
    return cda(replace(BASE, code="18748-4", acts=(("18748-4", entry),)))


def _level1(media: str, text: str) -> bytes:
    document = cda(replace(BASE, pdf=PDF)).decode()
    start, end = document.index("<nonXMLBody>"), document.index("</nonXMLBody>")
    body = f'<nonXMLBody><text mediaType="{media}">{text}</text>'
    return (document[:start] + body + document[end:]).encode()


VECTORS = {
    "follow_up_dated": cda(
        replace(BASE, code="11490-0", acts=acts(follow_up("201810150930", place="CHU")))
    ),
    "follow_up_to_schedule": cda(replace(BASE, acts=acts(follow_up(None)))),
    "procedure_to_schedule": cda(replace(BASE, acts=acts(planned_procedure(None)))),
    "procedure_cancelled": cda(
        replace(BASE, acts=acts(planned_procedure("20261225", status="cancelled")))
    ),
    "examinations": cda(
        replace(
            BASE,
            acts=(
                (_CARE, observation("INT", "20270110")),
                (_CARE, observation("PRP", "20270111")),
                (_CARE, observation("GOL", "20270112")),
                (_CARE, observation("GOL", "20270113", template="1.2.3")),
                (_CARE, observation("GOL", "20270114", attributes='negationInd="true"')),
                (_CARE, observation("EVN", "20261001")),
            ),
        )
    ),
    "vaccinations": cda(
        replace(
            BASE,
            code="11369-6",
            acts=acts(
                vaccination("20200102"),
                vaccination(None, name="PRIORIX", atc="J07BD52"),
                vaccination("20200103", attributes='negationInd="true"'),
                vaccination("20200104", attributes='negationInd="1"'),
                vaccination("20200105", status="aborted"),
                vaccination("20200106", attributes='nullFlavor="NI"'),
                vaccination("20270103", mood="INT", status="active"),
            ),
        )
    ),
    "vaccinations_child": cda(
        replace(
            BASE,
            code="11369-6",
            patients=(replace(PERSON, given="LEO", birth_date="20250115", sex="M"),),
            acts=_vaccinations_of_a_child(),
        )
    ),
    "vaccination_translated": cda(
        replace(
            BASE,
            code="87273-9",
            narrative="Hépatite B, voir les entrées.",
            acts=(("11369-6", _translated()),),
        )
    ),
    "prescription": cda(
        replace(
            BASE,
            code="57833-6",
            acts=acts(
                prescription("20261101", "20261201", renewals=2),
                prescription("20261101", "20261115", name="PARACETAMOL", as_needed=True),
                prescription(None, None, name="SANS DATE"),
            ),
        )
    ),
    "treatments": cda(replace(BASE, code="34133-9", acts=_treatments())),
    "dispensed": cda(
        replace(
            BASE,
            code="60593-1",
            acts=acts(
                dispensation(),
                dispensation("NON DÉLIVRÉ", attributes='negationInd="true"'),
                dispensation("DEMANDÉ", mood="RQO"),
            ),
        )
    ),
    "device": cda(replace(BASE, code="57833-6", acts=acts(device("20261101", None, days="60")))),
    "appointment": cda(
        replace(
            BASE,
            code="56446-8",
            code_display="Notification de rendez-vous",
            title="Votre rendez-vous",
            effective_time="20261220093000+0100",
        )
    ),
    "certificate_8_days": _certificate("1.2.250.1.213.1.1.1.5.1"),
    "certificate_9_months": _certificate("1.2.250.1.213.1.1.1.5.2"),
    "certificate_24_months": _certificate("1.2.250.1.213.1.1.1.5.3"),
    "nested": cda(replace(BASE, acts=((_CARE, _nested()),))),
    "prefixed": _prefixed(),
    "wrapped": cda(replace(BASE, wrapped=True, acts=acts(follow_up("20261224")))),
    "latin9": cda(
        replace(BASE, prologue='<?xml version="1.0" encoding="ISO-8859-15"?>\n', title="Œdème")
    )
    .decode()
    .encode("iso-8859-15"),
    "byte_order_mark": b"\xef\xbb\xbf" + cda(BASE),
    "several_authors": _several_authors(),
    "image": _image(),
    "pdf": cda(replace(BASE, code="11502-2", pdf=PDF)),
    "plain_text": _level1("text/plain", "Compte rendu en clair."),
}


def write() -> None:
    """Write every document."""
    for name, content in VECTORS.items():
        (FOLDER / f"{name}.xml").write_bytes(content)


if __name__ == "__main__":
    write()
