"""What a pack asks for, judged without a database."""

from datetime import date, timedelta

import pytest

from record_bridge.admission import (
    FARTHEST_DUE,
    ItemProgress,
    PackItemKind,
    PackState,
    due_day,
    may_be_acknowledged,
    may_prepare,
    reads_packs,
    state_of,
)
from record_bridge.errors import RecordStateError
from record_bridge.model import Viewer, ViewerKind
from record_bridge.rights import Rule, hidden, shown

TODAY = date(2026, 11, 23)


@pytest.mark.parametrize(
    ("kind", "acknowledged", "returned", "done"),
    [
        ("document", True, False, True),
        ("document", False, False, False),
        ("form", True, False, False),
        ("form", False, True, False),
        ("form", True, True, True),
    ],
)
def test_a_document_is_read_and_a_form_is_read_and_given_back(
    kind: str, *, acknowledged: bool, returned: bool, done: bool
) -> None:
    assert ItemProgress(PackItemKind(kind), acknowledged, returned).is_done is done


def test_one_item_left_keeps_a_pack_from_being_acknowledged() -> None:
    done = ItemProgress(PackItemKind.DOCUMENT, acknowledged=True, returned=False)
    left = ItemProgress(PackItemKind.FORM, acknowledged=True, returned=False)

    assert may_be_acknowledged([done, done])
    assert not may_be_acknowledged([done, left])


@pytest.mark.parametrize(
    ("kind", "reads"),
    [
        (ViewerKind.PATIENT, True),
        (ViewerKind.REPRESENTATIVE, True),
        (ViewerKind.DELEGATE, False),
        (ViewerKind.PRACTITIONER, False),
    ],
)
def test_a_patient_and_who_represents_them_are_shown_packs(
    kind: ViewerKind, *, reads: bool
) -> None:
    assert reads_packs(Viewer(kind, "1")) is reads
    assert reads_packs(Viewer(kind.value, "1")) is reads


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(1), FARTHEST_DUE])
def test_a_due_day_from_today_to_two_years_ahead_is_taken(ahead: timedelta) -> None:
    assert due_day((TODAY + ahead).isoformat(), TODAY) == TODAY + ahead


@pytest.mark.parametrize(
    "text",
    [
        (TODAY - timedelta(1)).isoformat(),
        (TODAY + FARTHEST_DUE + timedelta(1)).isoformat(),
        "9999-12-31",
        "23/11/2026",
        "",
        None,
    ],
)
def test_any_other_due_day_is_refused(text: object) -> None:
    with pytest.raises(RecordStateError) as refused:
        due_day(text, TODAY)
    assert refused.value.reason == "no_such_due"


@pytest.mark.parametrize(
    ("times", "state"),
    [
        ((None, None, None), PackState.DRAFT),
        ((1, None, None), PackState.SENT),
        ((1, 2, None), PackState.ACKNOWLEDGED),
        ((1, 2, 3), PackState.CLOSED),
        ((None, None, 3), PackState.CLOSED),
    ],
)
def test_a_pack_stands_where_the_last_thing_put_it(
    times: tuple[int | None, ...], state: PackState
) -> None:
    assert state_of(*times) is state


@pytest.mark.parametrize("rule", Rule)
def test_who_opens_a_record_prepares_packs_but_not_on_an_emergency(rule: Rule) -> None:
    prepares = {"care_team", "attending_physician", "consent"}

    assert may_prepare(shown(rule)) == (rule.value in prepares)
    assert not may_prepare(hidden(rule))
