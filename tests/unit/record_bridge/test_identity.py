"""RULES §5, condition by condition, and the first that holds."""

from dataclasses import replace

import pytest

from record_bridge.formats.cda_header import parse_cda
from record_bridge.identity import claim_of, match, normalise_name, one_patient, same_name
from record_bridge.model import (
    Claim,
    Doubt,
    Environment,
    IdentityStatus,
    InsIdentity,
    InsMatricule,
    InsTraits,
    Matched,
    Problem,
    Reason,
    Sex,
    Unknown,
)
from tests.support.cda import OID_DEMO, OID_NIA, OID_NIR, OID_TEST, CdaSpec, PatientSpec, cda
from tests.support.xdm import entry_for, submission_for

GOOD = "277076322082910"
LOCAL = InsIdentity(
    7,
    InsMatricule("279039999000178", OID_TEST),
    InsTraits("ZZCANARY-NOM", "ZZCANARYPRENOM", "19790328", Sex.FEMALE, "99990"),
    IdentityStatus.QUALIFIEE,
)


def claim(
    *patients: PatientSpec, environment: Environment = Environment.TEST, **metadata: object
) -> Claim:
    content = cda(CdaSpec(patients=patients or (PatientSpec(),)))
    entry = entry_for(content, **metadata)
    return claim_of(parse_cda(content), entry, submission_for([entry]), environment)


def outcome(spec: PatientSpec, *locals_: InsIdentity) -> object:
    found = match(claim(spec), locals_)
    return (
        (int(found.problem.code), found.problem.reason)
        if not isinstance(found, Matched)
        else found.patient_id
    )


def test_the_same_patient_is_matched():
    assert outcome(PatientSpec(), LOCAL) == 7


def test_an_absent_birth_place_does_not_block_on_either_side():
    placeless = replace(LOCAL, traits=replace(LOCAL.traits, birth_place=None))

    assert outcome(PatientSpec(birth_place=None), LOCAL) == 7
    assert outcome(PatientSpec(), placeless) == 7


@pytest.mark.parametrize(
    ("spec", "answer"),
    [
        pytest.param(PatientSpec(ins=None), (903, Reason.INS_ABSENT), id="no INS"),
        pytest.param(
            PatientSpec(ins=None, family=None), (903, Reason.INS_ABSENT), id="903 before 905"
        ),
        pytest.param(PatientSpec(family=None), (905, Reason.TRAITS_MISSING), id="no birth name"),
        pytest.param(
            PatientSpec(family=None, used_family="ZZCANARY-NOM"),
            (905, Reason.TRAITS_MISSING),
            id="a used name is never used",
        ),
        pytest.param(PatientSpec(given=None), (905, Reason.TRAITS_MISSING), id="no first name"),
        pytest.param(PatientSpec(birth_date=None), (905, Reason.TRAITS_MISSING), id="no date"),
        pytest.param(
            PatientSpec(birth_date="197903"), (905, Reason.TRAITS_MISSING), id="partial date"
        ),
        pytest.param(
            PatientSpec(birth_date="1979032800"), (905, Reason.TRAITS_MISSING), id="longer date"
        ),
        pytest.param(PatientSpec(sex=None), (905, Reason.TRAITS_MISSING), id="no sex"),
        pytest.param(PatientSpec(sex="UN"), (905, Reason.TRAITS_MISSING), id="unknown sex code"),
        pytest.param(
            PatientSpec(ins="279039999000275"), (902, Reason.PATIENT_UNKNOWN), id="other matricule"
        ),
        pytest.param(PatientSpec(oid=OID_DEMO), (902, Reason.PATIENT_UNKNOWN), id="other OID"),
        pytest.param(
            PatientSpec(ins="279039999000275", birth_date=None),
            (905, Reason.TRAITS_MISSING),
            id="905 before 902",
        ),
        pytest.param(
            PatientSpec(family="ZZCANARY"), (904, Reason.TRAITS_DIFFER), id="name differs"
        ),
        pytest.param(
            PatientSpec(given="ZZAUTRE"), (904, Reason.TRAITS_DIFFER), id="first name differs"
        ),
        pytest.param(
            PatientSpec(birth_date="19790329"), (904, Reason.TRAITS_DIFFER), id="date differs"
        ),
        pytest.param(PatientSpec(sex="M"), (904, Reason.TRAITS_DIFFER), id="sex differs"),
        pytest.param(
            PatientSpec(birth_place="99991"), (904, Reason.BIRTH_PLACE_DIFFERS), id="place differs"
        ),
    ],
)
def test_the_table(spec: PatientSpec, answer: tuple[int, Reason]):
    assert outcome(spec, LOCAL) == answer


@pytest.mark.parametrize(
    "status", [IdentityStatus.PROVISOIRE, IdentityStatus.RECUPEREE, IdentityStatus.VALIDEE]
)
def test_an_identity_that_is_not_qualified_is_unknown(status: IdentityStatus):
    assert outcome(PatientSpec(), replace(LOCAL, status=status)) == (902, Reason.PATIENT_UNKNOWN)


@pytest.mark.parametrize("doubt", [{"doubtful": True}, {"fictitious": True}])
def test_a_doubtful_or_fictitious_identity_takes_nothing(doubt: dict[str, bool]):
    assert outcome(PatientSpec(), replace(LOCAL, **doubt)) == (906, Reason.IDENTITY_DOUBTFUL)


def test_different_traits_are_told_before_a_doubtful_identity():
    assert outcome(PatientSpec(sex="M"), replace(LOCAL, doubtful=True))[0] == 904


def test_nobody_registered_is_unknown():
    assert match(claim(), ()) == Unknown()


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        pytest.param(
            claim(PatientSpec(), PatientSpec()), Reason.TWO_PATIENTS, id="two recordTargets"
        ),
        pytest.param(
            claim(PatientSpec(other_ids=((OID_TEST, "279039999000275"),))),
            Reason.TWO_INS,
            id="two INS",
        ),
        pytest.param(
            claim(PatientSpec(other_ids=((OID_NIA, "279039999000178"),))),
            Reason.TWO_INS,
            id="one number under two authorities",
        ),
        pytest.param(
            claim(patient_id="279039999000275^^^&1.2.250.1.213.1.4.10&ISO^NH"),
            Reason.METADATA_PATIENT_DIFFERS,
            id="metadata names another",
        ),
        pytest.param(
            claim(patient_id="279039999000178^^^&1.2.250.1.213.1.4.8&ISO^NH"),
            Reason.METADATA_PATIENT_DIFFERS,
            id="metadata names another authority",
        ),
        pytest.param(
            claim(source_patient_id="279039999000275^^^&1.2.250.1.213.1.4.10&ISO^PI"),
            Reason.METADATA_PATIENT_DIFFERS,
            id="sourcePatientId names another INS",
        ),
        pytest.param(
            claim(PatientSpec(), environment=Environment.PRODUCTION),
            Reason.TEST_IDENTITY,
            id="test OID in production",
        ),
        pytest.param(
            claim(
                PatientSpec(ins=GOOD, oid=OID_NIR, other_ids=((OID_TEST, "1"),)),
                environment=Environment.PRODUCTION,
            ),
            Reason.TEST_IDENTITY,
            id="test OID beside a real one in production",
        ),
        pytest.param(
            claim(PatientSpec(ins="277076322082911", oid=OID_NIR)), Reason.INS_KEY, id="bad key"
        ),
        pytest.param(
            claim(PatientSpec(ins="277076322082911", oid=OID_NIA, birth_date=None)),
            Reason.INS_KEY,
            id="906 before 905",
        ),
    ],
)
def test_what_does_not_hold_together_is_906_whoever_is_registered(made: Claim, reason: Reason):
    found = match(made, (LOCAL,))

    assert isinstance(found, Doubt)
    assert (int(found.problem.code), found.problem.reason) == (906, reason)


def test_the_same_ins_twice_in_a_document_is_one():
    spec = PatientSpec(other_ids=((OID_TEST, "279039999000178"),))

    assert outcome(spec, LOCAL) == 7


def test_a_local_identifier_in_the_metadata_agrees_when_the_document_has_it():
    made = claim(patient_id="1234567890121^^^&1.2.3.4.567.8.9.10&ISO^PI", source_patient_id="")

    assert match(made, (LOCAL,)) == Matched(7)


def test_one_message_names_one_patient():
    one, other = claim(), claim(PatientSpec(ins="279039999000275"))

    assert one_patient([one, one]) is None
    assert one_patient([one, other]) == Problem(906, Reason.TWO_PATIENTS)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("O'BRIEN", "O BRIEN"),
        ("O’Brien", "o'brien"),
        ("LE-GALL", "le  gall"),
        ("Éloïse", "ELOISE"),
        ("Œuvrard", "OEUVRARD"),
        ("Straße", "STRASSE"),
        ("e\u0301tienne", "étienne"),
    ],
)
def test_names_that_are_the_same(one: str, other: str):
    assert same_name(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("O'BRIEN", "OBRIEN"), ("LE GALL", "LEGALL"), ("ANNE", "ANNE MARIE"), ("", "A")],
)
def test_names_that_differ(one: str, other: str):
    assert not same_name(one, other)


def test_normalising_twice_changes_nothing():
    assert normalise_name(normalise_name("  d'Œx-é ")) == normalise_name("  d'Œx-é ") == "D OEX E"
