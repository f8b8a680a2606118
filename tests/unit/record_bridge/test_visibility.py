"""The states of a document: on filing, released, masked (RULES §7). Who sees it: test_rights."""

from datetime import UTC, datetime, timedelta

import pytest

from record_bridge.model import Visibility
from record_bridge.visibility import (
    is_visible_to_patient,
    masked,
    on_filing,
    release_at,
    released,
    unmasked,
)

V = Visibility


def test_a_document_that_came_to_professionals_only_awaits_release():
    assert on_filing(["N"], addressed_to_patient=False) == {V.AWAITING_RELEASE}


def test_one_that_the_patient_got_too_is_visible():
    assert on_filing(["N"], addressed_to_patient=True) == {V.VISIBLE}


def test_a_masking_code_wins_over_the_patient_s_address():
    states = on_filing(["N", "INVISIBLE_PATIENT"], addressed_to_patient=True)

    assert states == {V.INVISIBLE_PATIENT}
    assert not is_visible_to_patient(states)


@pytest.mark.parametrize(
    ("states", "visible"),
    [
        ({V.VISIBLE}, True),
        (set(), True),
        ({V.MASKED_PS}, True),
        ({V.INVISIBLE_REPRESENTATIVES}, True),
        ({V.AWAITING_RELEASE}, False),
        ({V.INVISIBLE_PATIENT}, False),
        ({V.AWAITING_RELEASE, V.MASKED_PS}, False),
        ({V.INVISIBLE_PATIENT, V.INVISIBLE_REPRESENTATIVES}, False),
    ],
)
def test_a_held_message_is_released_for_what_its_patient_sees(
    states: set[Visibility], *, visible: bool
):
    """RULES §7: a message in a patient's mailbox stays held unless all of it is visible."""
    assert is_visible_to_patient(frozenset(states)) is visible


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


def test_a_mask_is_set_and_lifted_and_leaves_the_rest():
    assert masked(frozenset({V.VISIBLE}), V.MASKED_PS) == {V.MASKED_PS}
    both = masked(frozenset({V.AWAITING_RELEASE}), V.MASKED_PS)
    assert both == {V.AWAITING_RELEASE, V.MASKED_PS}
    assert unmasked(both, V.MASKED_PS) == {V.AWAITING_RELEASE}
    assert unmasked(frozenset({V.MASKED_PS}), V.MASKED_PS) == {V.VISIBLE}
