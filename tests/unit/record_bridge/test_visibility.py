"""Who sees a document, and when (RULES §7)."""

from datetime import UTC, datetime, timedelta

import pytest

from record_bridge.model import Viewer, Visibility
from record_bridge.visibility import (
    Cell,
    DocumentFacts,
    Sight,
    decide,
    is_visible_to_patient,
    matrix,
    on_filing,
    release_at,
    released,
)

V = Visibility
PATIENT = Viewer("patient", "7")
REPRESENTATIVE = Viewer("representative", "7")
PHYSICIAN = Viewer("practitioner", "10101010101", "10", "s1")
AUTHOR = Viewer("practitioner", "1", "60", "s1")
RECIPIENT = Viewer("practitioner", "2", "60", "s1")
ATTENDING = Viewer("practitioner", "3", "60", "s1")
STRANGER = Viewer("practitioner", "4", "60", "s1")


def document(*states: Visibility, type_code: str = "11502-2") -> DocumentFacts:
    return DocumentFacts(
        type_code,
        frozenset(states),
        "s1",
        "7",
        frozenset({"81"}),
        frozenset({"82"}),
        frozenset({"83"}),
    )


@pytest.mark.parametrize(
    ("states", "seen_by"),
    [
        pytest.param((V.VISIBLE,), "patient representative physician author recipient attending"),
        pytest.param((), "patient representative physician author recipient attending"),
        pytest.param((V.AWAITING_RELEASE,), "physician author recipient attending"),
        pytest.param((V.INVISIBLE_PATIENT,), "physician author recipient attending"),
        pytest.param((V.MASKED_PS,), "patient representative author attending"),
        pytest.param(
            (V.INVISIBLE_REPRESENTATIVES,), "patient physician author recipient attending"
        ),
        pytest.param((V.MASKED_PS, V.INVISIBLE_PATIENT), "author attending"),
        pytest.param((V.MASKED_PS, V.AWAITING_RELEASE), "author attending"),
    ],
)
def test_the_states_as_a_table(states: tuple[Visibility, ...], seen_by: str):
    viewers = {
        "patient": PATIENT,
        "representative": REPRESENTATIVE,
        "physician": PHYSICIAN,
        "author": AUTHOR,
        "recipient": RECIPIENT,
        "attending": ATTENDING,
        "stranger": STRANGER,
    }
    seen = {
        name
        for name, viewer in viewers.items()
        if decide(document(*states), viewer) is Sight.SHOWN
    }

    assert seen == set(seen_by.split())


def test_another_patient_sees_nothing():
    assert decide(document(), Viewer("patient", "8")) is Sight.HIDDEN


def test_another_structure_sees_nothing_whoever_asks():
    viewer = Viewer("practitioner", "1", "10", "s2")

    assert decide(document(), viewer) is Sight.HIDDEN


def test_an_unknown_profession_is_refused():
    assert decide(document(), Viewer("practitioner", "9", "", "s1")) is Sight.HIDDEN


@pytest.mark.parametrize(
    ("profession", "type_code", "cell"),
    [
        ("10", "11502-2", Cell.READ),
        ("10", "ATTEST-RESID", Cell.REFUSED),
        ("40", "68599-0", Cell.REFUSED),
        ("40", "11502-2", Cell.UNKNOWN),
        ("60", "11502-2", Cell.UNKNOWN),
        ("", "", Cell.UNKNOWN),
    ],
)
def test_known_cells_of_the_matrix(profession: str, type_code: str, cell: Cell):
    assert matrix(profession, type_code) is cell


def test_a_document_that_came_to_professionals_only_awaits_release():
    assert on_filing(["N"], addressed_to_patient=False) == {V.AWAITING_RELEASE}


def test_one_that_the_patient_got_too_is_visible():
    assert on_filing(["N"], addressed_to_patient=True) == {V.VISIBLE}


def test_a_masking_code_wins_over_the_patient_s_address():
    states = on_filing(["N", "INVISIBLE_PATIENT"], addressed_to_patient=True)

    assert states == {V.INVISIBLE_PATIENT}
    assert not is_visible_to_patient(states)


def test_several_codes_hold_together():
    codes = ["N", "MASQUE_PS", "INVISIBLE_REPRESENTANTS_LEGAUX", "R"]

    assert on_filing(codes, addressed_to_patient=False) == {
        V.MASKED_PS,
        V.INVISIBLE_REPRESENTATIVES,
        V.AWAITING_RELEASE,
    }


AT = datetime(2026, 11, 2, tzinfo=UTC)


def test_the_delay_releases_after_the_structure_s_days():
    assert release_at("11502-2", frozenset({V.AWAITING_RELEASE}), AT, 8) == AT + timedelta(days=8)


@pytest.mark.parametrize(
    ("type_code", "states"),
    [
        ("51969-4", {V.AWAITING_RELEASE}),
        ("11502-2", {V.AWAITING_RELEASE, V.MASKED_PS}),
        ("11502-2", {V.AWAITING_RELEASE, V.INVISIBLE_PATIENT}),
        ("11502-2", {V.AWAITING_RELEASE, V.INVISIBLE_REPRESENTATIVES}),
        ("11502-2", {V.VISIBLE}),
    ],
)
def test_what_no_delay_releases(type_code: str, states: set[Visibility]):
    assert release_at(type_code, frozenset(states), AT, 8) is None


def test_releasing_takes_away_the_waiting_and_nothing_else():
    assert released(frozenset({V.AWAITING_RELEASE})) == {V.VISIBLE}
    assert released(frozenset({V.AWAITING_RELEASE, V.MASKED_PS})) == {V.MASKED_PS}
