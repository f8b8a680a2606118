"""Duplicates, replacement and authority (RULES §6)."""

from dataclasses import replace

import pytest

from record_bridge.formats.cda_header import parse_cda
from record_bridge.model import Mark, MayFile, Origin, OriginKind, Problem, Reason
from record_bridge.replacement import (
    Decision,
    Duplicate,
    FileCurrent,
    FileSuperseded,
    Incoming,
    Provenance,
    Refuse,
    ReplacementFacts,
    StoredVersion,
    WaitForParent,
    decide,
    has_authority,
    provenance_of,
)
from tests.support.cda import CdaSpec, cda

LAB = Provenance("labo.test", "", frozenset({"1990000001"}))
NEW = Incoming("new", b"h1", 7, None, LAB)
REPLACING = replace(NEW, parent_unique_id="old")
OLD = StoredVersion("old", b"h0", 7, is_latest=True, provenance=LAB)


def refused(code: int, reason: Reason, *, alarm: bool = False) -> Refuse:
    return Refuse(Problem(code, reason), alarm=alarm)  # type: ignore[arg-type]  # IntEnum equals int


@pytest.mark.parametrize(
    ("incoming", "facts", "decision"),
    [
        pytest.param(NEW, ReplacementFacts(), FileCurrent(), id="new"),
        pytest.param(
            NEW,
            ReplacementFacts(same=replace(OLD, unique_id="new", sha256=b"h1")),
            Duplicate(),
            id="same",
        ),
        pytest.param(
            NEW,
            ReplacementFacts(same=replace(OLD, unique_id="new")),
            refused(906, Reason.SAME_ID_OTHER_BYTES, alarm=True),
            id="same id other bytes",
        ),
        pytest.param(
            NEW,
            ReplacementFacts(same=replace(OLD, unique_id="new", sha256=b"h1", patient_id=8)),
            refused(906, Reason.TAKEN_OUT),
            id="same, moved by a person to somebody else's record",
        ),
        pytest.param(
            replace(REPLACING, provenance=replace(LAB, may_replace=False)),
            ReplacementFacts(parent=OLD),
            refused(901, Reason.NOT_THE_AUTHOR),
            id="forwarded",
        ),
        pytest.param(
            replace(REPLACING, provenance=replace(LAB, domain="other.test")),
            ReplacementFacts(parent=replace(OLD, is_latest=False)),
            refused(901, Reason.NOT_THE_AUTHOR),
            id="a stranger is not told that there is a later version",
        ),
        pytest.param(
            replace(REPLACING, provenance=replace(LAB, domain="other.test")),
            ReplacementFacts(successor=replace(OLD, unique_id="newer")),
            FileCurrent(None, (Mark.REPLACES_UNKNOWN,)),
            id="unknown parent, and a successor of somebody else's",
        ),
        pytest.param(
            REPLACING,
            ReplacementFacts(successor=replace(OLD, unique_id="newer")),
            FileSuperseded("newer", (Mark.REPLACES_UNKNOWN,)),
            id="between an unknown parent and its successor",
        ),
        pytest.param(REPLACING, ReplacementFacts(parent=OLD), FileCurrent("old"), id="replaces"),
        pytest.param(
            REPLACING,
            ReplacementFacts(),
            FileCurrent(None, (Mark.REPLACES_UNKNOWN,)),
            id="unknown parent",
        ),
        pytest.param(
            REPLACING,
            ReplacementFacts(parent=replace(OLD, is_latest=False)),
            refused(900, Reason.NOT_THE_LATEST),
            id="stale parent",
        ),
        pytest.param(
            REPLACING,
            ReplacementFacts(parent=replace(OLD, patient_id=8)),
            refused(906, Reason.PARENT_OF_ANOTHER_PATIENT),
            id="another patient",
        ),
        pytest.param(
            replace(NEW, parent_unique_id="new"),
            ReplacementFacts(),
            refused(906, Reason.REPLACEMENT_LOOP),
            id="itself",
        ),
        pytest.param(
            REPLACING,
            ReplacementFacts(parent=replace(OLD, ancestors=("older", "new"))),
            refused(906, Reason.REPLACEMENT_LOOP),
            id="loop",
        ),
        pytest.param(
            REPLACING,
            ReplacementFacts(parent_in_quarantine=True),
            WaitForParent(),
            id="parent waits",
        ),
        pytest.param(
            REPLACING,
            ReplacementFacts(parent=replace(OLD, provenance=replace(LAB, domain="other.test"))),
            refused(901, Reason.NOT_THE_AUTHOR),
            id="other sender",
        ),
        pytest.param(
            REPLACING,
            ReplacementFacts(
                parent=replace(OLD, provenance=replace(LAB, organizations=frozenset({"x"})))
            ),
            refused(901, Reason.NOT_THE_AUTHOR),
            id="other organisation",
        ),
        pytest.param(
            NEW,
            ReplacementFacts(successor=replace(OLD, unique_id="newer")),
            FileSuperseded("newer"),
            id="parent comes late",
        ),
        pytest.param(
            NEW,
            ReplacementFacts(
                successor=replace(
                    OLD, unique_id="newer", provenance=replace(LAB, domain="evil.test")
                )
            ),
            FileCurrent(),
            id="a stranger cannot bury what is to come",
        ),
        pytest.param(
            NEW,
            ReplacementFacts(successor=replace(OLD, unique_id="newer", patient_id=8)),
            FileCurrent(),
            id="nor across patients",
        ),
    ],
)
def test_the_table(incoming: Incoming, facts: ReplacementFacts, decision: Decision):
    assert decide(incoming, facts) == decision


@pytest.mark.parametrize(
    ("by", "authority"),
    [
        pytest.param(LAB, True, id="same domain, same organisation"),
        pytest.param(replace(LAB, domain=""), False, id="unknown domain"),
        pytest.param(
            replace(LAB, domain="x.test", signer="labo.test"), True, id="verified signer"
        ),
        pytest.param(replace(LAB, domain="x.test", signer="y.test"), False, id="other signer"),
        pytest.param(replace(LAB, may_replace=False), False, id="forwarded"),
        pytest.param(replace(LAB, organizations=frozenset()), False, id="no organisation"),
    ],
)
def test_authority_needs_an_authenticated_origin_and_the_organisation(
    by: Provenance, *, authority: bool
):
    assert has_authority(by, LAB) is authority


def test_a_signer_who_changed_operators_keeps_authority_over_what_they_signed():
    """RULES §6: the verified organisation signer is the same, by whatever domain it came."""
    signed = replace(LAB, domain="a.test", signer="labo.test")
    now, unsigned = replace(signed, domain="b.test"), replace(LAB, domain="b.test")

    assert has_authority(now, signed)
    assert not has_authority(unsigned, signed)
    assert not has_authority(replace(now, signer="b.test"), signed)


@pytest.mark.parametrize(
    ("signer", "may_replace", "expected"),
    [
        pytest.param(None, True, LAB, id="unsigned"),
        pytest.param("labo@sign.test", True, replace(LAB, signer="sign.test"), id="signed"),
        pytest.param(None, False, replace(LAB, may_replace=False), id="forwarded"),
    ],
)
def test_who_stands_behind_a_document(
    signer: str | None, expected: Provenance, *, may_replace: bool
):
    """RULES §6: the authenticated domain, the verified signer, custodian and authors."""
    header = parse_cda(cda(CdaSpec(custodian="1990000001", author_organization="1990000002")))
    origin = Origin(OriginKind.LISTED_OPERATOR, domain="labo.test", signer=signer)

    stands = provenance_of(origin, MayFile(may_replace=may_replace), header)

    assert stands == replace(expected, organizations=frozenset({"1990000001", "1990000002"}))


def test_two_unknown_senders_are_not_the_same():
    nobody = Provenance("", "", frozenset({"1990000001"}))

    assert not has_authority(nobody, nobody)
