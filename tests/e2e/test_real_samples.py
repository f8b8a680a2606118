"""The agency's sample documents, when they lie beside the project: all are opened and matched.

They are not part of the project; without them the test says so and is skipped.
"""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from certs.anchors import TrustAnchors
from certs.smime import Trust
from record_bridge.identity import match
from record_bridge.model import (
    Claim,
    Doubt,
    Environment,
    IdentityStatus,
    InsIdentity,
    InsMatricule,
    Matched,
    OpenedDocument,
    Unknown,
)
from record_bridge.opening import OpenRequest, open_message
from tests.support.xdm import mail, package

SAMPLES = Path(__file__).parents[3] / "shared" / "data" / "cda"
FILES = sorted(SAMPLES.glob("*.xml"))
OTHER_BIRTH_DATE = "CANCER-PPS_2022.01_Autopresentable.xml"

pytestmark = pytest.mark.skipif(not FILES, reason="the agency's sample documents are not here")


def document(path: Path) -> OpenedDocument:
    raw = mail(package(path.read_bytes()))
    at = datetime(2026, 11, 2, tzinfo=UTC)
    opened = open_message(
        OpenRequest(raw, "mail.pli.test", at, Environment.TEST), Trust(TrustAnchors(()), ())
    )
    assert opened.packages[0].worst is None
    return opened.packages[0].documents[0]


def registered(claims: list[Claim]) -> list[InsIdentity]:
    """Patients with the traits of the first document of each."""
    found: dict[InsMatricule, InsIdentity] = {}
    for number, claim in enumerate(claims, 1):
        assert claim.ins is not None
        assert claim.traits is not None
        found.setdefault(
            claim.ins, InsIdentity(number, claim.ins, claim.traits, IdentityStatus.QUALIFIEE)
        )
    return list(found.values())


def test_fifteen_are_matched_and_one_differs():
    claims = {path.name: document(path).claim for path in FILES}
    patients = registered(list(claims.values()))
    outcomes = {name: match(claim, patients) for name, claim in claims.items()}
    doubts = {name: o.problem for name, o in outcomes.items() if isinstance(o, Doubt)}

    assert len(FILES) == 16
    assert sum(isinstance(o, Matched) for o in outcomes.values()) == 15
    assert {name: int(problem.code) for name, problem in doubts.items()} == {OTHER_BIRTH_DATE: 904}


def test_nobody_is_known_before_registration():
    assert all(match(document(path).claim, ()) == Unknown() for path in FILES)


def test_the_dated_follow_up_is_read():
    (act,) = document(SAMPLES / "AVC-SUNV_2022.01.xml").acts

    assert act.low == "201810150930"
