"""The prevention calendar against examples worked by hand from the cited texts.

Source: RULES §8, MSS-FACTS §7.2; tests/vectors/prevention.
"""

import dataclasses
import tomllib
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from record_bridge import agenda, cda_body
from record_bridge.agenda import AgendaContext
from record_bridge.errors import MalformedCalendarError
from record_bridge.formats.cda_header import load_cda, read_header
from record_bridge.model import ActKind, AgendaEntry
from record_bridge.prevention import (
    Declared,
    Dose,
    Evidence,
    Person,
    PreventionItem,
    PreventionState,
    plan,
)
from record_bridge.prevention_calendar import (
    Age,
    CellStatus,
    PreventionKind,
    parse_age,
    parse_calendar,
)

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "record_bridge" / "calendars" / "prevention_2025.toml").read_text("utf-8")
CALENDAR = parse_calendar(TEXT)
EXAMPLES = sorted((ROOT / "tests" / "vectors" / "prevention").glob("*.toml"))
TODAY = date(2026, 11, 23)


def lines(items: tuple[PreventionItem, ...], example: dict[str, Any]) -> set[str]:
    return {
        f"{item.rule_id} {item.ordinal} {item.due_from} {item.due_until or '-'} {item.state.value}"
        for item in items
        if item.kind.value in example["kinds"] and item.due_from <= example["until"]
    }


def dose(text: str) -> Dose:
    *antigens, day = text.split()
    return Dose(frozenset(antigens), None if day == "-" else date.fromisoformat(day))


def declared(text: str) -> Declared:
    rule, ordinal, day = text.split()
    return Declared(rule, int(ordinal), date.fromisoformat(day))


def vaccinations_of(name: str, today: date) -> list[AgendaEntry]:
    """Read what a document says was given, as it is filed."""
    root = load_cda((ROOT / "tests" / "vectors" / "cda" / f"{name}.xml").read_bytes())
    context = AgendaContext(datetime.combine(today, time(12), UTC))
    found = agenda.entries(cda_body.acts(root, read_header(root)), context)
    return [entry for entry in found if entry.kind is ActKind.VACCINATION]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_calendar_says_what_was_worked_by_hand(path: Path) -> None:
    example = tomllib.loads(path.read_text("utf-8"))
    entries = (
        vaccinations_of(example["document"], example["today"]) if "document" in example else ()
    )
    written = (Dose(CALENDAR.antigens[entry.atc], entry.day) for entry in entries)
    assert [e.title for e in entries if e.day is None] == example.get("listed", [])
    evidence = Evidence(
        doses=(*map(dose, example.get("doses", ())), *written),
        declared=tuple(map(declared, example.get("declared", ()))),
    )
    person = Person(example["birth_date"], example["sex"])

    found = lines(plan(CALENDAR, person, evidence, example["today"]), example)

    assert found == set(example["lines"])


def test_there_are_twenty_compulsory_examinations() -> None:
    examinations = [r for r in CALENDAR.rules if r.kind is PreventionKind.EXAMINATION]

    assert len(examinations) == 20
    ends = [r.until.after(date(2025, 1, 1)) for r in examinations if r.until]
    # the legal split: 13 in the first three years, 3 from the 4th to the 6th, 4 from the 7th on
    assert sum(end < date(2028, 1, 1) for end in ends) == 13
    assert sum(date(2028, 1, 1) <= end < date(2031, 1, 1) for end in ends) == 3
    assert sum(end >= date(2031, 1, 1) for end in ends) == 4


def test_every_line_names_its_source_and_date() -> None:
    for item in plan(CALENDAR, Person(date(2010, 1, 1), "F"), Evidence(), TODAY):
        assert item.source.endswith("(01/01/2025)")
        assert len(item.source) > 30


def test_a_certificate_in_the_record_settles_its_examination() -> None:
    evidence = Evidence(certificates={"CSE-CS9": date(2026, 1, 12)})

    items = plan(CALENDAR, Person(date(2025, 4, 1), "F"), evidence, TODAY)

    state = {item.rule_id: (item.state, item.done_on) for item in items}
    assert state["exam-08"] == (PreventionState.DONE, date(2026, 1, 12))
    assert state["exam-07"][0] is PreventionState.PAST


def test_what_lies_in_the_future_or_before_birth_settles_nothing() -> None:
    person = Person(date(2025, 4, 1), "M")
    antigens = frozenset({"measles", "mumps", "rubella"})
    for day in (date(2025, 3, 31), TODAY + timedelta(days=1)):
        items = plan(CALENDAR, person, Evidence(doses=(Dose(antigens, day),)), TODAY)

        assert {i.state for i in items if i.rule_id == "ror"} == {PreventionState.MISSED}


def test_one_dose_is_counted_once_among_the_lines_of_its_family() -> None:
    person = Person(date(2018, 1, 10), "M")
    antigens = frozenset({"diphtheria", "tetanus", "pertussis", "polio"})
    evidence = Evidence(doses=(Dose(antigens, date(2024, 2, 1)),))

    items = plan(CALENDAR, person, evidence, TODAY)

    assert [(i.rule_id, i.ordinal) for i in items if i.done_on is not None] == [("rappel-06", 1)]


def test_nobody_is_told_before_birth_and_sexes_other_than_two_get_the_common_lines() -> None:
    assert plan(CALENDAR, Person(TODAY + timedelta(days=1), "F"), Evidence(), TODAY) == ()
    common = {i.rule_id for i in plan(CALENDAR, Person(date(1970, 1, 1), "U"), Evidence(), TODAY)}

    assert "colorectal" in common
    assert not common & {"sein", "col-hpv", "col-cytologie"}


def test_no_line_ever_says_that_something_must_be_given() -> None:
    for years in range(90):
        person = Person(date(2026 - years, 1, 1), "F")
        for item in plan(CALENDAR, person, Evidence(), TODAY):
            assert not {"obligatoire", "devez", "contre-indi", "urgent"} & set(item.text.split())


@given(
    birth=st.dates(date(1920, 1, 1), TODAY),
    doses=st.lists(
        st.tuples(
            st.sampled_from(sorted(CALENDAR.antigens)), st.none() | st.dates(date(1920, 1, 1))
        ),
        max_size=12,
    ),
)
def test_evidence_takes_no_line_away_and_invents_no_day(
    birth: date, doses: list[tuple[str, date | None]]
) -> None:
    evidence = Evidence(tuple(Dose(CALENDAR.antigens[code], day) for code, day in doses))
    person = Person(birth, "F")
    named = {i.rule_id for i in plan(CALENDAR, person, Evidence(), TODAY)}

    items = plan(CALENDAR, person, evidence, TODAY)

    assert {i.rule_id for i in items} >= named
    assert all(i.done_on is None or birth <= i.done_on <= TODAY for i in items)
    assert len({(i.rule_id, i.ordinal) for i in items}) == len(items)


@pytest.mark.parametrize(
    ("day", "age", "wanted"),
    [
        (date(2024, 2, 29), "1y", date(2025, 3, 1)),
        (date(2024, 2, 29), "4y", date(2028, 2, 29)),
        (date(2025, 1, 31), "1m", date(2025, 3, 1)),
        (date(2025, 12, 31), "2m", date(2026, 3, 1)),
        (date(2025, 12, 1), "1m", date(2026, 1, 1)),
        (date(2025, 12, 28), "8d", date(2026, 1, 5)),
    ],
)
def test_an_age_falls_on_the_civil_day(day: date, age: str, wanted: date) -> None:
    assert parse_age(age).after(day) == wanted


@pytest.mark.parametrize("text", ["", "2", "2w", "-2y", "2 y", "1000y"])
def test_another_form_of_age_is_refused(text: str) -> None:
    with pytest.raises(MalformedCalendarError):
        parse_age(text)
    assert parse_age("999y") == Age(999, "y")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("date = 2025-01-01\n", ""),
        ('id = "exam-02"', 'id = "exam-01"'),
        ('after = "col-cytologie"', 'after = "nobody"'),
        ('every = "2y"', 'every = "soon"'),
        ('season = "10-01"', 'season = "autumn"'),
        ('antigens = ["hpv"]\n', ""),
        ('doses = ["25y"]\n', ""),
        ("[atc]", "[atc"),
        ('catch_up_status = "assumed"', 'catch_up_status = "guessed"'),
        ('from = "45y"', 'form = "45y"'),
    ],
)
def test_a_file_that_is_not_the_calendar_is_refused(old: str, new: str) -> None:
    assert old in TEXT
    with pytest.raises(MalformedCalendarError):
        parse_calendar(TEXT.replace(old, new))


def test_a_rule_that_began_later_does_not_speak_of_those_born_before() -> None:
    before = Person(date(2024, 6, 30), "F")
    since = dataclasses.replace(before, birth_date=date(2024, 7, 1))

    def rules(person: Person) -> set[str]:
        return {item.rule_id for item in plan(CALENDAR, person, Evidence(), TODAY)}

    assert rules(since) - rules(before) == {"menacwy"}


def test_what_is_not_official_says_so() -> None:
    statuses = dict(next(r for r in CALENDAR.rules if r.id == "hpv").statuses)

    assert statuses == {"catch_up": CellStatus.SECONDARY}
