"""Headers as published documents have them: read, and filed for the patient or for nobody.

The forms were met in the agency's examples for implementers and in what editors publish; the
documents here are our own.

Source: RULES §5, CI-SIS §StructMin.
"""

import re

import pytest

from record_bridge.formats.cda_header import CdaHeader, parse_cda
from record_bridge.identity import claim_of, match
from record_bridge.model import (
    Doubt,
    Environment,
    IdentityStatus,
    InsIdentity,
    InsMatricule,
    InsTraits,
    Matched,
    Reason,
    Sex,
    Unknown,
)
from tests.support.cda import OID_NIR, OID_TEST, CdaSpec, cda
from tests.support.xdm import entry_for, submission_for

CHILD, MOTHER = "221129999000120", "279039999000178"
LOCALS = (
    InsIdentity(
        1,
        InsMatricule(CHILD, OID_TEST),
        InsTraits("ZZENFANT", "LÉA", "20211225", Sex.FEMALE, "99990"),
        IdentityStatus.QUALIFIEE,
    ),
    InsIdentity(
        2,
        InsMatricule(MOTHER, OID_TEST),
        InsTraits("ZZMERE", "ANNE", "19790328", Sex.FEMALE, "99990"),
        IdentityStatus.QUALIFIEE,
    ),
)

ID = f'<id extension="{CHILD}" root="{OID_TEST}"/>'
NAME = '<family qualifier="BR">ZZENFANT</family><given qualifier="BR">Léa</given>'
BIRTH = '<birthTime value="20211225"/>'
PLACE = "<birthplace><place><addr><county>99990</county></addr></place></birthplace>"


def document(
    ids: str = ID, name: str = NAME, birth: str = BIRTH, rest: str = PLACE, more: str = ""
) -> bytes:
    """A document about the child, with parts of its recordTarget as given."""
    target = (
        f"<recordTarget><patientRole>{ids}<patient><name>{name}</name>"
        '<administrativeGenderCode code="F" codeSystem="2.16.840.1.113883.5.1"/>'
        f"{birth}{rest}</patient></patientRole></recordTarget>"
    )
    text = cda(CdaSpec(extra_header=more)).decode()
    return re.sub(
        "<recordTarget>.*</recordTarget>", lambda _: target, text, flags=re.DOTALL
    ).encode()


def outcome(content: bytes, **metadata: object) -> object:
    entry = entry_for(content, **metadata)
    header = parse_cda(content)
    found = match(claim_of(header, entry, submission_for([entry]), Environment.TEST), LOCALS)
    match found:
        case Matched(patient):
            return patient
        case Doubt(problem):
            return int(problem.code), problem.reason
        case Unknown():
            return 902
    raise AssertionError


GUARDIAN = (
    f'<guardian><id extension="{MOTHER}" root="{OID_TEST}"/><guardianPerson><name>'
    '<family qualifier="BR">ZZMERE</family><given qualifier="BR">ANNE</given></name>'
    "</guardianPerson></guardian>"
)
SIGNED_BY_MOTHER = (
    f'<authenticator><assignedEntity><id extension="{MOTHER}" root="{OID_TEST}"/>'
    "</assignedEntity></authenticator>"
    f'<informant><relatedEntity classCode="CON"><id extension="{MOTHER}" root="{OID_TEST}"/>'
    "</relatedEntity></informant>"
)
NSS = f'<id extension="{MOTHER}" root="1.2.250.1.213.1.4.13"/>'

FILED = {
    "all first names before the first": document(
        name='<family qualifier="BR">ZZENFANT</family><given>Léa Marie</given>'
        '<given qualifier="BR">Léa</given>'
    ),
    "first names one by one": document(
        name='<given qualifier="BR">LEA</given><given>MARIE</given><given>ROSE</given>'
        '<family qualifier="BR">ZZENFANT</family><family qualifier="SP">ZZMERE</family>'
        '<family qualifier="CL">ZZAUTRE</family><given qualifier="CL">Rose</given>'
    ),
    "two qualifiers in one": document(
        name='<family qualifier="BR CL">ZzEnfant</family><given qualifier="CL BR">Léa</given>'
    ),
    "two names": document(
        name='<family qualifier="BR">ZZENFANT</family></name>'
        '<name use="L"><prefix>MME</prefix><given qualifier="BR"> Léa\n </given><suffix/>'
    ),
    "a name that is null beside the real one": document(
        name='<family nullFlavor="UNK" qualifier="BR"/>' + NAME
    ),
    "the mother's number at the guardian": document(rest=GUARDIAN + PLACE),
    "the mother's number at who signs and tells": document(more=SIGNED_BY_MOTHER),
    "the social security number of a parent": document(ids=ID + NSS),
    "the social security number before the INS": document(ids=NSS + ID),
    "identifiers that are null": document(
        ids='<id nullFlavor="NA"/>' + ID + '<id root="1.2.3" nullFlavor="UNK"/>'
    ),
    "the number in groups": document(
        ids=ID.replace(CHILD, "2 21 12 99 990 001 20"),
    ),
    "the number twice": document(ids=ID + ID),
    "no birth place": document(rest=""),
    "a birth place that is null": document(rest='<birthplace nullFlavor="UNK"/>'),
    "a birth place without address": document(
        rest='<birthplace><place><addr nullFlavor="NAV"/></place></birthplace>'
    ),
    "a hospital at an address": document(
        rest="<birthplace><place><name>Maternité</name><addr><streetName>Rue</streetName>"
        "<postalCode>75014</postalCode><county> 99990 </county><city>PARIS</city></addr></place>"
        "</birthplace>"
    ),
    "a birth place in words": document(
        rest="<birthplace><place><addr><county>PARIS</county></addr></place></birthplace>"
    ),
}


@pytest.mark.parametrize("content", FILED.values(), ids=FILED.keys())
def test_the_child_is_found_and_nobody_else(content: bytes):
    assert outcome(content, patient_id=f"{CHILD}^^^&{OID_TEST}&ISO^NH") == 1


NOT_FILED = {
    "a list of first names only": (
        document(name='<family qualifier="BR">ZZENFANT</family><given>Léa Marie</given>'),
        (905, Reason.TRAITS_MISSING),
    ),
    "one first name without qualifier": (
        document(name='<family qualifier="BR">ZZENFANT</family><given>Léa</given>'),
        (905, Reason.TRAITS_MISSING),
    ),
    "only the names in use": (
        document(name='<family qualifier="CL">ZZENFANT</family><given qualifier="CL">Léa</given>'),
        (905, Reason.TRAITS_MISSING),
    ),
    "two birth names": (
        document(name=NAME + '<family qualifier="BR">ZZMERE</family>'),
        (905, Reason.TRAITS_MISSING),
    ),
    "a month of birth": (
        document(birth='<birthTime value="202112"/>'),
        (905, Reason.TRAITS_MISSING),
    ),
    "an hour of birth": (
        document(birth='<birthTime value="20211225000000+0100"/>'),
        (905, Reason.TRAITS_MISSING),
    ),
    "no birth time": (
        document(birth='<birthTime nullFlavor="UNK"/>'),
        (905, Reason.TRAITS_MISSING),
    ),
    "another first name": (
        document(name=NAME.replace("Léa", "Léo")),
        (904, Reason.TRAITS_DIFFER),
    ),
    "the mother's number with the child's traits": (
        document(ids=ID.replace(CHILD, MOTHER)),
        (904, Reason.TRAITS_DIFFER),
    ),
    "the number under another authority": (
        document(ids=ID.replace(OID_TEST, "1.2.250.1.213.1.4.11")),
        902,
    ),
    "a bad key under the national authority": (
        document(ids=ID.replace(OID_TEST, OID_NIR)),
        (906, Reason.INS_KEY),
    ),
    "only a social security number": (document(ids=NSS), (903, Reason.INS_ABSENT)),
    "only a local number": (
        document(ids='<id extension="1" root="1.2.3"/>'),
        (903, Reason.INS_ABSENT),
    ),
    "two numbers": (
        document(ids=ID + ID.replace(CHILD, MOTHER)),
        (906, Reason.TWO_INS),
    ),
    "another birth place": (
        document(rest=PLACE.replace("99990", "99991")),
        (904, Reason.BIRTH_PLACE_DIFFERS),
    ),
}


@pytest.mark.parametrize(("content", "answer"), NOT_FILED.values(), ids=NOT_FILED.keys())
def test_what_is_damaged_is_nobodys(content: bytes, answer: object):
    assert outcome(content) == answer


def test_metadata_that_names_the_mother_files_for_nobody():
    content = document(rest=GUARDIAN)

    assert outcome(content, patient_id=f"{MOTHER}^^^&{OID_TEST}&ISO^NH") == (
        906,
        Reason.METADATA_PATIENT_DIFFERS,
    )


def header(*, author: str = "", **changes: str) -> CdaHeader:
    """A header whose author or other elements are as given."""
    text = cda().decode()
    if author:
        text = re.sub("<author>.*</author>", lambda _: f"<author>{author}</author>", text)
    for name, element in changes.items():
        text = re.sub(rf"<{name}( [^>]*)?/>|<{name}[ >].*?</{name}>", element, text, count=1)
    return parse_cda(text.encode())


ORGANIZATION = (
    '<representedOrganization><id root="1.2.250.1.71.4.2.2" extension="3180"/>'
    "<name>CAISSE</name></representedOrganization>"
)


@pytest.mark.parametrize(
    ("assigned", "shown"),
    [
        (
            (
                '<id root="1.2.250.1.71.4.2.1" extension="5180/1.2"/><assignedAuthoringDevice>'
                "<manufacturerModelName>.</manufacturerModelName><softwareName>Dossier partagé"
                f"</softwareName></assignedAuthoringDevice>{ORGANIZATION}"
            ),
            "Dossier partagé",
        ),
        (f'<id nullFlavor="NA"/>{ORGANIZATION}', "CAISSE"),
        (
            (
                f'<id nullFlavor="MSK"/><assignedPerson><name nullFlavor="MSK"/></assignedPerson>'
                f"{ORGANIZATION}"
            ),
            "CAISSE",
        ),
        (
            (
                f'<id extension="{CHILD}" root="{OID_TEST}"/><code code="EXP_PATIENT"/>'
                "<assignedPerson><name><family>ZZENFANT</family><given>Léa</given></name>"
                "</assignedPerson>"
            ),
            "Léa ZZENFANT",
        ),
        (
            (
                '<id root="1.2.250.1.71.4.2.1" extension="8"/><assignedPerson><name><suffix>DR</suffix>'
                "<given>Anne </given><family>ZZA</family><prefix>MME</prefix></name></assignedPerson>"
            ),
            "MME Anne ZZA",
        ),
        ('<id root="1.2.250.1.71.4.2.1" extension="8"/>', ""),
    ],
)
def test_who_wrote_it_is_shown(assigned: str, shown: str):
    found = header(author=f'<time nullFlavor="UNK"/><assignedAuthor>{assigned}</assignedAuthor>')

    assert found.authors[0].shown_name == shown


def test_what_is_optional_may_be_null_or_absent():
    found = header(
        setId="",
        versionNumber='<versionNumber nullFlavor="UNK"/>',
        title='<title nullFlavor="NI"/>',
        effectiveTime='<effectiveTime nullFlavor="UNK"/>',
        languageCode="",
        custodian="",
        documentationOf='<documentationOf><serviceEvent nullFlavor="NA"/></documentationOf>',
        componentOf='<componentOf><encompassingEncounter><effectiveTime nullFlavor="NA"/>'
        "</encompassingEncounter></componentOf>",
    )

    assert (found.set_id, found.version_number, found.title) == ("", None, "")
    assert (found.effective_time, found.language, found.custodian.name) == (None, "", "")
    assert found.encounter is not None
    assert (found.encounter.low, found.events[0].low) == (None, None)


def test_prefixes_change_nothing():
    plain = document()
    prefixed = re.sub(rb"<(/?)([A-Za-z])", rb"<\1h:\2", plain).replace(b"xmlns=", b"xmlns:h=")

    assert prefixed.count(b"<h:") > 50
    assert parse_cda(prefixed) == parse_cda(plain)
