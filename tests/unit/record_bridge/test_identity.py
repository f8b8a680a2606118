"""RULES §5, condition by condition, and the first that holds."""

from dataclasses import replace

import pytest

from record_bridge.formats.cda_header import parse_cda
from record_bridge.identity import (
    claim_of,
    differences,
    match,
    normalise_name,
    one_patient,
    same_name,
)
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
        pytest.param(PatientSpec(ins=""), (903, Reason.INS_ABSENT), id="an empty INS"),
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


def test_a_number_is_known_in_small_letters_too():
    corsican = replace(LOCAL, ins=InsMatricule("179032A99900178", OID_TEST))

    assert outcome(PatientSpec(ins="179032a99900178"), corsican) == 7


def test_a_local_identifier_in_the_metadata_agrees_when_the_document_has_it():
    made = claim(patient_id="1234567890121^^^&1.2.3.4.567.8.9.10&ISO^PI", source_patient_id="")

    assert match(made, (LOCAL,)) == Matched(7)


def test_metadata_that_names_nobody_contradicts_nothing():
    silent = claim(patient_id=" ", source_patient_id="")

    assert match(silent, (LOCAL,)) == Matched(7)


def test_an_identifier_of_the_metadata_without_its_authority_agrees_by_its_number():
    said, other = (
        claim(patient_id=f"{number}^^^", source_patient_id="")
        for number in ("279039999 000178", "279039999000275")
    )

    assert match(said, (LOCAL,)) == Matched(7)
    assert other.problem == Problem(906, Reason.METADATA_PATIENT_DIFFERS)


def test_a_document_about_nobody_is_903():
    entry = entry_for(cda(CdaSpec()), patient_id="", source_patient_id="")
    header = replace(parse_cda(cda(CdaSpec())), patients=())
    nobody = claim_of(header, entry, submission_for([entry]), Environment.TEST)

    assert match(nobody, (LOCAL,)) == Doubt(Problem(903, Reason.INS_ABSENT))


@pytest.mark.parametrize("oid", [OID_NIR, OID_NIA])
def test_production_takes_a_true_identity(oid: str):
    spec = PatientSpec(ins=GOOD, oid=oid)
    registered = replace(LOCAL, ins=InsMatricule(GOOD, oid))

    assert match(claim(spec, environment=Environment.PRODUCTION), (registered,)) == Matched(7)


def test_two_identities_under_one_number_are_looked_at_by_a_person():
    twice = (LOCAL, replace(LOCAL, patient_id=8))

    assert match(claim(), twice) == Doubt(Problem(906, Reason.IDENTITY_DOUBTFUL))


@pytest.mark.parametrize(
    ("families", "givens"),
    [
        pytest.param(("ZZCANARY-NOM", "ZZAUTRE"), ("ZZCANARYPRENOM",), id="two birth names"),
        pytest.param(("ZZCANARY-NOM",), ("ZZCANARYPRENOM", "ZZAUTRE"), id="two first names"),
        pytest.param(("--",), ("ZZCANARYPRENOM",), id="a birth name of nothing"),
        pytest.param(("ZZCANARY-NOM",), ("' ",), id="a first name of nothing"),
    ],
)
def test_a_trait_said_twice_differently_or_of_nothing_is_905(
    families: tuple[str, ...], givens: tuple[str, ...]
):
    content = cda(CdaSpec())
    header = parse_cda(content)
    patient = replace(header.patients[0], birth_families=families, first_givens=givens)
    entry = entry_for(content)
    made = claim_of(
        replace(header, patients=(patient,)), entry, submission_for([entry]), Environment.TEST
    )

    assert match(made, (LOCAL,)) == Doubt(Problem(905, Reason.TRAITS_MISSING))


@pytest.mark.parametrize(
    ("place", "outcome_"),
    [
        pytest.param(" 2a004 ", 7, id="written otherwise"),
        pytest.param("AJACCIO", 7, id="not a code: as if absent"),
        pytest.param("2B033", (904, Reason.BIRTH_PLACE_DIFFERS), id="another"),
    ],
)
def test_a_birth_place_is_compared_by_its_code(place: str, outcome_: object):
    corsican = replace(LOCAL, traits=replace(LOCAL.traits, birth_place="2A004"))

    assert outcome(PatientSpec(birth_place=place), corsican) == outcome_


@pytest.mark.parametrize(
    ("claimed", "named"),
    [
        ({}, ()),
        ({"birth_place": None}, ()),
        ({"birth_family": "ZZAUTRE"}, ("family",)),
        ({"first_birth_given": "ZZAUTRE"}, ("given",)),
        ({"birth_date": "19790329"}, ("birth_date",)),
        ({"sex": Sex.MALE}, ("sex",)),
        ({"birth_place": "99991"}, ("birth_place",)),
        ({"sex": Sex.MALE, "birth_place": "99991"}, ("sex", "birth_place")),
    ],
)
def test_each_trait_that_differs_is_named(claimed: dict[str, object], named: tuple[str, ...]):
    assert differences(replace(LOCAL.traits, **claimed), LOCAL.traits) == named


def test_one_message_names_one_patient():
    one, other = claim(), claim(PatientSpec(ins="279039999000275"))

    assert one_patient([one, one]) is None
    assert one_patient([one, claim(PatientSpec(ins=None))]) is None
    assert one_patient([one, other]) == Problem(906, Reason.TWO_PATIENTS)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("O'BRIEN", "O BRIEN"),
        ("O’Brien", "o'brien"),
        ("LE-GALL", "le  gall"),
        ("Éloïse", "ELOISE"),
        ("Œuvrard", "OEUVRARD"),
        ("Ægidius", "AEGIDIUS"),
        ("Straße", "STRASSE"),
        ("e\u0301tienne", "étienne"),
    ],
)
def test_names_that_are_the_same(one: str, other: str):
    assert same_name(one, other)


@pytest.mark.parametrize("written", "-‐‑‒–—−'’‘ʼʹ´`")
def test_every_hyphen_and_apostrophe_is_a_space(written: str):
    assert normalise_name(f"LE{written}GALL") == "LE GALL"


@pytest.mark.parametrize(
    ("one", "other"),
    [("O'BRIEN", "OBRIEN"), ("LE GALL", "LEGALL"), ("ANNE", "ANNE MARIE"), ("", "A")],
)
def test_names_that_differ(one: str, other: str):
    assert not same_name(one, other)


def test_normalising_twice_changes_nothing():
    assert normalise_name(normalise_name("  d'Œx-é ")) == normalise_name("  d'Œx-é ") == "D OEX E"
