"""Verdicts: which results they stand for, and their stored form.

Source: RFC 7281 §3, RFC 8601 §2.7.
"""

from datetime import UTC, datetime

import pytest

from certs.verdict import (
    NO_SIGNATURE,
    UNREADABLE_SIGNATURE,
    PathStatus,
    PathVerdict,
    Reason,
    SignatureVerdict,
)

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def of(status: PathStatus, *, intact=True, valid=True, matches=True) -> SignatureVerdict:
    return SignatureVerdict(
        present=True,
        intact=intact,
        valid=valid,
        path=PathVerdict(status, AT),
        matches_from=matches,
    )


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (PathStatus.TRUSTED, "pass"),
        (PathStatus.UNTRUSTED, "policy"),
        (PathStatus.EXPIRED, "policy"),
        (PathStatus.NOT_YET_VALID, "policy"),
        (PathStatus.REVOCATION_UNKNOWN, "policy"),
        (PathStatus.NOT_CHECKED, "policy"),
        (PathStatus.REVOKED, "fail"),
    ],
)
def test_a_sound_signature_results_as_its_path_says(status, expected):
    assert of(status).result == expected
    assert of(status).good == (expected == "pass")


@pytest.mark.parametrize("wrong", ["intact", "valid", "matches"])
def test_an_unsound_signature_fails_whatever_its_path(wrong):
    for status in PathStatus:
        verdict = of(status, **{wrong: False})

        assert verdict.result == "fail"
        assert not verdict.good


def test_absent_and_unreadable_signatures_have_their_own_results():
    assert NO_SIGNATURE.result == "none"
    assert UNREADABLE_SIGNATURE.result == "temperror"
    assert not NO_SIGNATURE.good
    assert not UNREADABLE_SIGNATURE.good


def test_a_verdict_survives_its_stored_form():
    verdict = SignatureVerdict(
        present=True,
        intact=True,
        valid=True,
        path=PathVerdict(PathStatus.REVOKED, AT, AT),
        matches_from=True,
        signer_names=("a@b.test", "c@d.test"),
        signer_dn="CN=é,C=FR",
        signer_serial="0A",
        signer_issuer="CN=CA",
        reason=Reason.PATH,
    )

    for each in (verdict, NO_SIGNATURE, UNREADABLE_SIGNATURE):
        assert SignatureVerdict.from_json(each.to_json()) == each
