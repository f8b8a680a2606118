"""Who may see what, against tables written from the rules and the facts, and as properties.

Source: RULES §7, MSS-FACTS §6.2, MSS-FACTS §6.3, MSS-FACTS §6.4; tests/vectors/rights.
"""

import dataclasses
import tomllib
from datetime import UTC, date, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from directory.codes import PROFESSIONS, known_types
from record_bridge.errors import MalformedMatrixError
from record_bridge.habilitation import Cell, CellStatus, KnownCell, parse_matrix
from record_bridge.model import OppositionScope, Viewer, ViewerKind, Visibility
from record_bridge.rights import (
    CONSENT_FOR,
    EMERGENCY_FOR,
    EVERYTHING,
    Grant,
    GrantKind,
    Part,
    RecordFacts,
    Rule,
    emergency_refusal,
    majority_day,
    may_open,
)
from record_bridge.visibility import DocumentFacts, decide

ROOT = Path(__file__).parents[3]
VECTORS = ROOT / "tests" / "vectors" / "rights"
TEXT = (ROOT / "record_bridge" / "habilitation_2023.tsv").read_text("utf-8")
MATRIX = parse_matrix(TEXT)
CASES = tomllib.loads((VECTORS / "cases.toml").read_text("utf-8"))["case"]
AT = datetime(2026, 11, 2, 10, 0, tzinfo=UTC)


def grant(kind: str, holder: str, since: float, lasting: float, *parts: str) -> Grant:
    begun = AT - timedelta(days=since)
    return Grant(
        GrantKind(kind),
        holder,
        begun,
        begun + timedelta(days=lasting) if lasting else None,
        frozenset(Part(part) for part in parts) or EVERYTHING,
    )


def record_of(case: dict[str, Any]) -> RecordFacts:
    return RecordFacts(
        structure_id="s1",
        patient_ref="7",
        born=date.fromisoformat(case.get("born", "1979-03-28")),
        at=AT,
        matrix=MATRIX,
        grants=tuple(grant(*right) for right in case.get("rights", ())),
        opposed=frozenset(OppositionScope(scope) for scope in case.get("opposed", ())),
        closed=case.get("closed", False),
    )


def document_of(case: dict[str, Any]) -> DocumentFacts:
    return DocumentFacts(
        case.get("type", "11502-2"),
        frozenset(Visibility(state) for state in case.get("states", ("visible",))),
        frozenset(case.get("authors", ())),
        frozenset(case.get("recipients", ())),
        frozenset(case.get("attending", ())),
    )


def viewer_of(case: dict[str, Any]) -> Viewer:
    given = case["viewer"]
    return Viewer(
        given["kind"],
        given["ref"],
        given.get("profession", ""),
        given.get("structure", ""),
        given.get("specialty", ""),
    )


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_each_worked_case_comes_out_as_written(case: dict[str, Any]) -> None:
    part = Part(case.get("part", "documents"))

    decision = decide(document_of(case), viewer_of(case), record_of(case), part)

    assert (case["sees"], case["rule"]) == (decision.is_shown, decision.rule.value)


CARE = ("care_team", "10000000001", 9, 0)


@pytest.mark.parametrize(
    ("changes", "rights", "opening"),
    [
        pytest.param({}, [CARE], Rule.CARE_TEAM, id="care team"),
        pytest.param({}, [("attending", "10000000001", 9, 0)], Rule.ATTENDING, id="attending"),
        pytest.param({}, [], Rule.OUTSIDE_CARE_TEAM, id="outside"),
        pytest.param({"viewer": {"structure": "s2"}}, [CARE], Rule.ANOTHER_STRUCTURE, id="other"),
        pytest.param({"viewer": {"ref": ""}}, [CARE], Rule.UNIDENTIFIED, id="nobody"),
        pytest.param({"closed": True}, [CARE], Rule.CLOSED, id="closed"),
        pytest.param({"opposed": ["opening"]}, [CARE], Rule.OPPOSED, id="opposed"),
        pytest.param({}, [CARE, ("block", "10000000001", 9, 0)], Rule.BLOCKED, id="blocked"),
        pytest.param({"viewer": {"specialty": "SM25"}}, [CARE], Rule.OCCUPATIONAL, id="occup."),
    ],
)
def test_a_record_opens_by_the_same_rules_before_any_document(
    changes: dict[str, Any], rights: list[Any], opening: Rule
) -> None:
    """RULES §7: lists, counts and the record's own page ask this without a document."""
    someone = {"kind": "practitioner", "ref": "10000000001", "profession": "10", "structure": "s1"}
    case = {"rights": rights, **changes, "viewer": someone | changes.get("viewer", {})}

    decision = may_open(record_of(case), viewer_of(case), Part.DOCUMENTS)

    opens = opening in (Rule.CARE_TEAM, Rule.ATTENDING)
    assert (decision.is_shown, decision.rule) == (opens, opening)


@pytest.mark.parametrize("kind", [GrantKind.BREAK_GLASS, GrantKind.SAMU])
@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        pytest.param({}, None, id="a physician"),
        pytest.param({"viewer": {"specialty": "SM25"}}, Rule.OCCUPATIONAL, id="occupational"),
        pytest.param({"viewer": {"profession": ""}}, Rule.UNIDENTIFIED, id="no profession"),
        pytest.param({"viewer": {"structure": "s2"}}, Rule.ANOTHER_STRUCTURE, id="elsewhere"),
        pytest.param({"closed": True}, Rule.CLOSED, id="closed"),
        pytest.param({"opposed": ["opening"]}, Rule.OPPOSED, id="opposed to opening"),
        pytest.param({"opposed": ["break_glass", "samu"]}, Rule.OPPOSED, id="by the switches"),
        pytest.param({"opposed": ["deposit"]}, None, id="another opposition"),
        pytest.param(
            {"rights": [("block", "10000000001", 9, 0)]}, Rule.BLOCKED, id="blocked by the patient"
        ),
    ],
)
def test_who_may_open_in_an_emergency(
    kind: GrantKind, changes: dict[str, Any], refused: Rule | None
) -> None:
    """MSS-FACTS §6.4: asked before anything is opened, so with no right yet."""
    someone = {"kind": "practitioner", "ref": "10000000001", "profession": "10", "structure": "s1"}
    case = {**changes, "viewer": someone | changes.get("viewer", {})}

    decision = emergency_refusal(record_of(case), viewer_of(case), kind)

    assert (None if decision is None else decision.rule) is refused
    assert decision is None or not decision.is_shown


def test_only_a_physician_regulates_calls() -> None:
    nurse = Viewer(ViewerKind.PRACTITIONER, "10000000001", "60", "s1")
    record = record_of({})

    assert emergency_refusal(record, nurse, GrantKind.BREAK_GLASS) is None
    assert emergency_refusal(record, nurse, GrantKind.SAMU) is not None


def test_how_long_an_opening_lasts() -> None:
    """RULES §7, MSS-FACTS §6.2, MSS-FACTS §6.4."""
    assert {kind.value: time for kind, time in EMERGENCY_FOR.items()} == {
        "break_glass": timedelta(hours=4),
        "samu": timedelta(hours=2),
    }
    assert timedelta(days=1) == CONSENT_FOR


def test_every_rule_decides_in_some_case() -> None:
    assert {case["rule"] for case in CASES} == {rule.value for rule in Rule}


# --- the matrix ------------------------------------------------------------------------------


def outside_table() -> dict[tuple[str, str], str]:
    lines = (VECTORS / "matrix.tsv").read_text("utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return {(row[0], row[1]): row[2] for row in rows}


def test_every_statement_of_the_outside_table_is_a_cell() -> None:
    said = outside_table()

    assert said == {key: MATRIX.cell(*key).value for key in said}


def test_every_cell_beyond_the_outside_table_is_marked_as_assumed() -> None:
    said = outside_table()

    beyond = {key: known for key, known in MATRIX.cells.items() if key not in said}
    within = {known.status for key, known in MATRIX.cells.items() if key in said}

    assert {known.status for known in beyond.values()} == {CellStatus.ASSUMED}
    assert within == {CellStatus.SECONDARY}
    assert len(MATRIX.cells) == len(said) + len(beyond)


def test_blank_lines_and_comments_of_the_matrix_say_nothing() -> None:
    header, cell = TEXT.splitlines()[4], "10\t11502-2\tread\tofficial\tx"
    read = parse_matrix(f"#a\n\n{header}\n\n# b\n{cell}\n")

    assert read.cells == {("10", "11502-2"): KnownCell(Cell.READ, CellStatus.OFFICIAL, "x")}


def test_whatever_is_not_a_cell_is_unknown() -> None:
    for profession, type_code in product((*PROFESSIONS, "", "99"), (*known_types(), "", "x")):
        if (profession, type_code) not in MATRIX.cells:
            assert MATRIX.cell(profession, type_code) is Cell.UNKNOWN


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "header"),
        ("a\tb\n", "header"),
        ("10\t11502-2\tread\tofficial\n", "columns"),
        ("10\t11502-2\tread\tofficial\t\n", "columns"),
        ("11\t11502-2\tread\tofficial\tx\n", "code"),
        ("10\t11502\tread\tofficial\tx\n", "code"),
        ("10\t11502-2\tmaybe\tofficial\tx\n", "word"),
        ("10\t11502-2\tunknown\tofficial\tx\n", "word"),
        ("10\t11502-2\tread\tsure\tx\n", "word"),
        ("10\t11502-2\tread\tofficial\tx\n10\t11502-2\trefused\tofficial\tx\n", "twice"),
    ],
)
def test_a_matrix_that_is_not_one_is_refused(text: str, reason: str) -> None:
    header = "" if reason == "header" else TEXT.splitlines()[4] + "\n"

    with pytest.raises(MalformedMatrixError) as refused:
        parse_matrix(header + text)

    assert refused.value.reason == reason


# --- properties ------------------------------------------------------------------------------

REFS = ("", "7", "12", "10000000001", "10000000002")
IDS = st.frozensets(st.sampled_from((*REFS[1:], "810000000001", "810000000002")))
GRANTS = st.builds(
    grant,
    st.sampled_from([kind.value for kind in GrantKind]),
    st.sampled_from(REFS),
    st.sampled_from((-1, 0, 1, 30)),
    st.sampled_from((0, 1, 20)),
)
RECORDS = st.builds(
    RecordFacts,
    structure_id=st.sampled_from(("s1", "s2")),
    patient_ref=st.just("7"),
    born=st.sampled_from((date(1979, 3, 28), date(2015, 1, 1), date(2008, 11, 2))),
    at=st.just(AT),
    matrix=st.just(MATRIX),
    grants=st.lists(GRANTS, max_size=4).map(tuple),
    opposed=st.frozensets(st.sampled_from(list(OppositionScope))),
    closed=st.booleans(),
)
VIEWERS = st.builds(
    Viewer,
    st.sampled_from([kind.value for kind in ViewerKind]),
    st.sampled_from(REFS),
    st.sampled_from(("", "10", "40", "60", "99")),
    st.sampled_from(("", "s1", "s2")),
    st.sampled_from(("", "SM25", "SM26")),
)
DOCUMENTS = st.builds(
    DocumentFacts,
    st.sampled_from(("11502-2", "ATTEST-RESID", "68599-0", "PRESC-INF", "nonesuch")),
    st.frozensets(st.sampled_from(list(Visibility))),
    IDS,
    IDS,
    IDS,
)
PARTS = st.sampled_from(list(Part))
MASKS = st.sampled_from([state for state in Visibility if state is not Visibility.VISIBLE])


@given(DOCUMENTS, VIEWERS, RECORDS, PARTS, MASKS)
def test_adding_a_mask_never_adds_a_reader(
    document: DocumentFacts, viewer: Viewer, record: RecordFacts, part: Part, mask: Visibility
) -> None:
    more = dataclasses.replace(document, states=document.states | {mask})

    if decide(more, viewer, record, part).is_shown:
        assert decide(document, viewer, record, part).is_shown


@given(DOCUMENTS, VIEWERS, RECORDS, PARTS, st.sampled_from(list(OppositionScope)))
def test_opposing_never_adds_a_reader(
    document: DocumentFacts, viewer: Viewer, record: RecordFacts, part: Part, scope: Any
) -> None:
    more = dataclasses.replace(record, opposed=record.opposed | {scope})

    if decide(document, viewer, more, part).is_shown:
        assert decide(document, viewer, record, part).is_shown


@given(DOCUMENTS, VIEWERS, RECORDS, PARTS)
def test_a_blocked_professional_reads_nothing(
    document: DocumentFacts, viewer: Viewer, record: RecordFacts, part: Part
) -> None:
    blocked = Grant(GrantKind.BLOCK, viewer.ref, AT - timedelta(days=1))
    more = dataclasses.replace(record, grants=(*record.grants, blocked))
    professional = dataclasses.replace(viewer, kind=ViewerKind.PRACTITIONER)

    assert not may_open(more, professional, part).is_shown
    assert not decide(document, professional, more, part).is_shown


@given(DOCUMENTS, VIEWERS, RECORDS, PARTS)
def test_another_structure_sees_nothing(
    document: DocumentFacts, viewer: Viewer, record: RecordFacts, part: Part
) -> None:
    stranger = dataclasses.replace(
        viewer, kind=ViewerKind.PRACTITIONER, structure_id=record.structure_id + "x"
    )

    assert decide(document, stranger, record, part).rule is Rule.ANOTHER_STRUCTURE


@given(DOCUMENTS, VIEWERS, RECORDS, PARTS)
def test_what_is_unknown_is_refused_to_all_but_author_recipient_and_attending(
    document: DocumentFacts, viewer: Viewer, record: RecordFacts, part: Part
) -> None:
    unknown = dataclasses.replace(document, type_code="nonesuch")
    professional = dataclasses.replace(viewer, kind=ViewerKind.PRACTITIONER)

    decision = decide(unknown, professional, record, part)

    if decision.is_shown:
        assert decision.rule in (Rule.AUTHOR, Rule.RECIPIENT, Rule.ATTENDING)


@given(DOCUMENTS, RECORDS, PARTS)
def test_a_relative_sees_no_more_than_the_patient(
    document: DocumentFacts, record: RecordFacts, part: Part
) -> None:
    own = decide(document, Viewer(ViewerKind.PATIENT, "7"), record, part)
    for kind, ref in product((ViewerKind.REPRESENTATIVE, ViewerKind.DELEGATE), REFS):
        if decide(document, Viewer(kind, ref), record, part).is_shown:
            assert own.is_shown


@given(DOCUMENTS, VIEWERS, RECORDS, PARTS)
def test_nobody_sees_a_document_of_a_record_without_being_somebody(
    document: DocumentFacts, viewer: Viewer, record: RecordFacts, part: Part
) -> None:
    nobody = dataclasses.replace(viewer, ref="")

    assert not decide(document, nobody, record, part).is_shown


@pytest.mark.parametrize(
    ("born", "day"),
    [("2008-11-02", "2026-11-02"), ("2008-02-29", "2026-03-01"), ("2000-12-31", "2018-12-31")],
)
def test_majority_comes_on_the_eighteenth_birthday(born: str, day: str) -> None:
    assert majority_day(date.fromisoformat(born)) == date.fromisoformat(day)
