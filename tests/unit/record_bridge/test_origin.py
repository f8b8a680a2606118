"""Who may file (RULES §4)."""

import dataclasses

import pytest

from certs.verdict import NO_SIGNATURE, PathStatus, PathVerdict, SignatureVerdict
from record_bridge.formats.auth_results import AuthResults
from record_bridge.formats.cda_header import CdaHeader, CdaOrganization, Ii, parse_cda
from record_bridge.model import (
    FilingRight,
    Mark,
    MayFile,
    MayNotFile,
    OfferAsPatientDocument,
    Opened,
    Origin,
    OriginKind,
    Problem,
    Reason,
)
from record_bridge.origin import OriginFacts, classify, decide, organization_ids
from tests.support.cda import CdaSpec, cda

US = "mail.pli.test"
FACTS = OriginFacts(
    domain="cabinet.mssante.test",
    application_address="app@cabinet.mssante.test",
    patient_domains=frozenset({"patient.mssante.test", "patient2.mssante.test"}),
    organizations={"cabinet.mssante.test": "990000002", "autre.mssante.test": "990000001"},
)
HEADER = parse_cda(cda(CdaSpec(custodian="1990000001", author_organization="1990000001")))


def signed(
    status: PathStatus, *, intact: bool = True, matches_from: bool = True, dn: str = ""
) -> SignatureVerdict:
    return SignatureVerdict(
        present=True,
        intact=intact,
        valid=True,
        path=PathVerdict(status),
        matches_from=matches_from,
        signer_dn=dn,
    )


def opened(
    auth: AuthResults | None,
    verdict: SignatureVerdict = NO_SIGNATURE,
    to: str = "dr@cabinet.mssante.test",
) -> Opened:
    return Opened((to,), "x@y.test", "labo@lab.test", None, "", "", auth, verdict, ())


LISTED_DN = "CN=x,OU=1990000001,O=LAB"
OPERATOR = AuthResults(US, LISTED_DN, "Labo@LAB.test")


def test_a_listed_operator_is_known_by_its_certificate_and_envelope():
    origin = classify(opened(OPERATOR), FACTS)

    assert origin == Origin(
        OriginKind.LISTED_OPERATOR, "labo@lab.test", "lab.test", "CN=x,OU=1990000001,O=LAB"
    )


@pytest.mark.parametrize(
    ("submitter", "to", "kind"),
    [
        ("dr@cabinet.mssante.test", "dr2@cabinet.mssante.test", OriginKind.PROFESSIONAL),
        ("dr@cabinet.mssante.test", "app@cabinet.mssante.test", OriginKind.FORWARDED),
        ("dr@autre.mssante.test", "app@cabinet.mssante.test", OriginKind.PROFESSIONAL),
        ("2790@patient.mssante.test", "dr@cabinet.mssante.test", OriginKind.PATIENT),
        ("2790@patient2.mssante.test", "app@cabinet.mssante.test", OriginKind.PATIENT),
    ],
)
def test_submission_is_a_professional_a_forwarder_or_a_patient(
    submitter: str, to: str, kind: OriginKind
):
    assert classify(opened(AuthResults(US, submitter=submitter), to=to), FACTS).kind is kind


def test_a_professional_of_the_site_is_named_by_address_domain_and_organisation():
    auth = AuthResults(US, submitter="Dr@Autre.mssante.test")

    assert classify(opened(auth, signed(PathStatus.TRUSTED)), FACTS) == Origin(
        OriginKind.PROFESSIONAL,
        "dr@autre.mssante.test",
        "autre.mssante.test",
        signer="labo@lab.test",
        organization="990000001",
    )


def test_who_forwards_is_named_whatever_capitals_the_site_was_configured_with():
    """RULES §4: "forwarded by" is recorded."""
    auth = AuthResults(US, submitter="dr@cabinet.mssante.test")
    configured = dataclasses.replace(
        FACTS, domain="Cabinet.mssante.test", application_address="App@cabinet.mssante.test"
    )

    assert classify(opened(auth, to="app@cabinet.mssante.test"), configured) == Origin(
        OriginKind.FORWARDED,
        "dr@cabinet.mssante.test",
        "cabinet.mssante.test",
        forwarded_by="dr@cabinet.mssante.test",
        organization="990000002",
    )


def test_a_professional_of_a_domain_without_a_number_is_of_no_organisation():
    auth = AuthResults(US, submitter="dr@nouveau.mssante.test")

    assert classify(opened(auth), FACTS).organization == ""


@pytest.mark.parametrize("auth", [None, AuthResults(US)])
def test_without_a_trusted_word_nothing_is_believed(auth: AuthResults | None):
    assert classify(opened(auth), FACTS).kind is OriginKind.UNTRUSTED


def test_a_signer_counts_only_when_the_signature_is_good():
    good, bad = signed(PathStatus.TRUSTED), signed(PathStatus.UNTRUSTED)

    assert classify(opened(OPERATOR, good), FACTS).signer == "labo@lab.test"
    assert classify(opened(OPERATOR, bad), FACTS).signer is None


@pytest.mark.parametrize(
    ("author", "owned"),
    [
        pytest.param("labo@lab.test", True, id="the envelope's own domain"),
        pytest.param("labo@autre-lab.test", True, id="another domain of the same operator"),
        pytest.param("dr@chu.test", False, id="a domain of another operator"),
        pytest.param("dr@cabinet.mssante.test", False, id="a domain of this site"),
        pytest.param("labo@sub.lab.test", False, id="a domain below"),
        pytest.param(None, False, id="no author, several, or several From fields"),
    ],
)
def test_an_operator_files_only_under_an_author_of_its_own_domains(
    author: str | None, *, owned: bool
):
    """Threat S14: a certificate of B, an envelope of B, and the From of somebody at A."""
    facts = dataclasses.replace(
        FACTS, speaks_for=lambda domain, dn: (domain, dn) == ("autre-lab.test", LISTED_DN)
    )
    message = dataclasses.replace(opened(OPERATOR), from_address=author)

    origin = classify(message, facts)

    expected = MayFile() if owned else not_filed(Reason.FROM_NOT_THE_SENDER)
    assert decide(origin, NO_SIGNATURE, HEADER) == expected


def test_the_null_sender_of_an_operator_files_only_under_a_domain_it_is_listed_for():
    null = AuthResults(US, LISTED_DN, "")
    listed = dataclasses.replace(FACTS, speaks_for=lambda domain, _dn: domain == "lab.test")

    assert classify(opened(null), listed).owns_from
    assert not classify(opened(null), FACTS).owns_from


@pytest.mark.parametrize("mailfrom", ["", None])
def test_nobody_under_the_null_sender_is_not_its_operator(mailfrom: str | None):
    """Threat S14: no envelope and no one author are not the same domain."""
    anonymous = dataclasses.replace(
        opened(AuthResults(US, LISTED_DN, mailfrom)), from_address=None
    )
    origin = classify(anonymous, dataclasses.replace(FACTS, speaks_for=lambda _domain, _dn: True))

    assert (origin.address, origin.domain, origin.owns_from) == ("", "", False)


def not_filed(reason: Reason) -> MayNotFile:
    return MayNotFile(Problem(906, reason))  # type: ignore[arg-type]  # IntEnum equals int


LISTED = classify(opened(OPERATOR), FACTS)


@pytest.mark.parametrize(
    ("origin", "verdict", "right"),
    [
        pytest.param(LISTED, NO_SIGNATURE, MayFile(), id="unsigned is the norm"),
        pytest.param(LISTED, signed(PathStatus.TRUSTED), MayFile(), id="good signature"),
        pytest.param(
            LISTED,
            signed(PathStatus.UNTRUSTED),
            MayFile((Mark.SIGNATURE_UNVERIFIABLE,)),
            id="untrusted path",
        ),
        pytest.param(
            LISTED,
            signed(PathStatus.REVOCATION_UNKNOWN),
            MayFile((Mark.SIGNATURE_UNVERIFIABLE,)),
            id="revocation unknown",
        ),
        pytest.param(
            LISTED, signed(PathStatus.REVOKED), not_filed(Reason.SIGNATURE_BAD), id="revoked"
        ),
        pytest.param(
            LISTED,
            signed(PathStatus.TRUSTED, intact=False),
            not_filed(Reason.SIGNATURE_BAD),
            id="altered",
        ),
        pytest.param(
            LISTED,
            signed(PathStatus.TRUSTED, matches_from=False),
            not_filed(Reason.SIGNATURE_BAD),
            id="another signer",
        ),
        pytest.param(
            LISTED,
            SignatureVerdict(present=True, unreadable=True),
            not_filed(Reason.SIGNATURE_BAD),
            id="unreadable",
        ),
        pytest.param(
            Origin(OriginKind.LISTED_OPERATOR, operator_dn="CN=x,OU=1880000001,O=y"),
            NO_SIGNATURE,
            MayFile((Mark.OTHER_SENDER,)),
            id="another organisation than the custodian",
        ),
        pytest.param(
            Origin(OriginKind.LISTED_OPERATOR, operator_dn="CN=x,O=y"),
            NO_SIGNATURE,
            MayFile(),
            id="no number",
        ),
        pytest.param(
            Origin(OriginKind.LISTED_OPERATOR, operator_dn="CN=x,OU=1880000001"),
            signed(PathStatus.TRUSTED, dn="CN=l,OU=1990000001,O=LAB"),
            MayFile(),
            id="a good signer names the organisation",
        ),
        pytest.param(
            Origin(OriginKind.PROFESSIONAL, organization="990000001"),
            NO_SIGNATURE,
            MayFile(),
            id="professional of the author's structure",
        ),
        pytest.param(
            Origin(OriginKind.PROFESSIONAL, organization="990000002"),
            NO_SIGNATURE,
            not_filed(Reason.NOT_OF_STRUCTURE),
            id="professional of another",
        ),
        pytest.param(
            Origin(OriginKind.PROFESSIONAL),
            NO_SIGNATURE,
            not_filed(Reason.NOT_OF_STRUCTURE),
            id="of none",
        ),
        pytest.param(
            Origin(OriginKind.FORWARDED, forwarded_by="dr@cabinet.mssante.test"),
            NO_SIGNATURE,
            MayFile((Mark.FORWARDED,), may_replace=False),
            id="forwarded",
        ),
        pytest.param(
            Origin(OriginKind.PATIENT), NO_SIGNATURE, OfferAsPatientDocument(), id="patient"
        ),
        pytest.param(
            Origin(OriginKind.UNTRUSTED),
            NO_SIGNATURE,
            not_filed(Reason.ORIGIN_UNTRUSTED),
            id="untrusted",
        ),
    ],
)
def test_the_table(origin: Origin, verdict: SignatureVerdict, right: FilingRight):
    assert decide(origin, verdict, HEADER) == right


# --- organisations ---------------------------------------------------------------------------

STRUCTURE, OTHER_AUTHORITY = "1.2.250.1.71.4.2.2", "1.2.250.1.71.4.2.1"


def header_of(custodian: str, *author_ids: tuple[str, str]) -> CdaHeader:
    """A document of a custodian, by an author of an organisation with these identifiers."""
    author = dataclasses.replace(
        HEADER.authors[0],
        organization=CdaOrganization(tuple(Ii(root, extension) for root, extension in author_ids)),
    )
    kept = CdaOrganization((Ii(STRUCTURE, custodian),))
    return dataclasses.replace(HEADER, custodian=kept, authors=(author,))


@pytest.mark.parametrize(
    ("header", "numbers"),
    [
        pytest.param(header_of("1990000001", (STRUCTURE, "1990000002")), 2, id="both"),
        pytest.param(header_of("1990000001", (OTHER_AUTHORITY, "1990000002")), 1, id="not one"),
        pytest.param(header_of("1990000001", (STRUCTURE, "")), 1, id="empty"),
        pytest.param(
            dataclasses.replace(
                header_of("1990000001"),
                authors=(dataclasses.replace(HEADER.authors[0], organization=None),),
            ),
            1,
            id="an author of no organisation",
        ),
    ],
)
def test_only_national_identifiers_of_structures_count(header: CdaHeader, numbers: int):
    """RULES §6: custodian or author organisation."""
    known = {"1990000001", "1990000002"}

    assert organization_ids(header) <= known
    assert len(organization_ids(header)) == numbers


PROFESSIONAL = Origin(OriginKind.PROFESSIONAL, organization="990000001")
SIRET = "12345678901234"


@pytest.mark.parametrize(
    ("header", "right"),
    [
        pytest.param(header_of("1990000001"), MayFile(), id="their structure keeps it"),
        pytest.param(
            header_of("1990000009", (STRUCTURE, "1990000001")),
            MayFile((Mark.OTHER_SENDER,)),
            id="their structure wrote it, another keeps it",
        ),
        pytest.param(
            header_of("1990000009", (OTHER_AUTHORITY, "1990000001")),
            not_filed(Reason.NOT_OF_STRUCTURE),
            id="the same digits under another authority",
        ),
        pytest.param(
            header_of("2990000001"), not_filed(Reason.NOT_OF_STRUCTURE), id="another type digit"
        ),
        pytest.param(header_of("990000001"), MayFile(), id="without the type digit"),
    ],
)
def test_a_professional_files_what_their_structure_wrote_or_keeps(
    header: CdaHeader, right: FilingRight
):
    """RULES §4, second line."""
    assert decide(PROFESSIONAL, NO_SIGNATURE, header) == right


def test_a_siret_is_written_with_its_type_digit():
    origin = Origin(OriginKind.PROFESSIONAL, organization=SIRET)

    assert decide(origin, NO_SIGNATURE, header_of(f"3{SIRET}")) == MayFile()


def test_an_organisation_without_a_number_is_no_empty_identifier():
    header = header_of("1", ("x", ""))

    assert decide(Origin(OriginKind.PROFESSIONAL), NO_SIGNATURE, header) == not_filed(
        Reason.NOT_OF_STRUCTURE
    )


@pytest.mark.parametrize(
    ("operator_dn", "signer_dn", "marks"),
    [
        pytest.param("CN=x,OU=1990000001", "", (), id="the operator's number"),
        pytest.param("CN=x,OU=1990000009", "", (Mark.OTHER_SENDER,), id="another"),
        pytest.param(
            "CN=x,OU=1990000001", "CN=l,O=LAB", (), id="a signer without: the operator's"
        ),
        pytest.param(
            "CN=x,OU=1990000009",
            "CN=l,O=LAB",
            (Mark.OTHER_SENDER,),
            id="a signer without: the operator's, another",
        ),
        pytest.param(
            "CN=x,OU=1990000001",
            "CN=l,OU=1990000009",
            (Mark.OTHER_SENDER,),
            id="a signer of another organisation",
        ),
        pytest.param(None, "CN=l,O=LAB", (), id="no number anywhere"),
        pytest.param("CN=x,OU=1990000009,OU=1990000001", "", (), id="one of two numbers"),
    ],
)
def test_a_sender_of_another_organisation_than_the_custodian_is_marked(
    operator_dn: str | None, signer_dn: str, marks: tuple[Mark, ...]
):
    """RULES §4: "expéditeur différent"."""
    origin = Origin(OriginKind.LISTED_OPERATOR, operator_dn=operator_dn)
    verdict = signed(PathStatus.TRUSTED, dn=signer_dn) if signer_dn else NO_SIGNATURE

    assert decide(origin, verdict, header_of("1990000001")) == MayFile(marks)


def test_a_signature_that_is_not_good_names_no_organisation():
    origin = Origin(OriginKind.LISTED_OPERATOR, operator_dn="CN=x,OU=1990000001")
    verdict = signed(PathStatus.UNTRUSTED, dn="CN=l,OU=1990000009")

    assert decide(origin, verdict, header_of("1990000001")) == MayFile(
        (Mark.SIGNATURE_UNVERIFIABLE,)
    )
