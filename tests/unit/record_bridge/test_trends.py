"""Series of results: one LOINC, one unit or an exact conversion, bounds never drawn (RULES §8)."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserver.webmail.trend_chart import (
    HEIGHT,
    WIDTH,
    chart_of,
    quantity,
    result_text,
    told_text,
    unit_name,
)
from record_bridge.lab_units import UNITS, converted
from record_bridge.trends import MAX_POINTS, Measured, series_of, short_name

DAY = date(2026, 11, 2)
ONE = Measured("718-7", "Hémoglobine", Decimal("13.2"), "", "g/dL", DAY, None, "1.2.1")
NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, places=15, min_value=-(10**15),
                      max_value=10**15)  # fmt: skip


def at(days: int, value: str | None, **other: object) -> Measured:
    number = None if value is None else Decimal(value)
    return replace(ONE, day=DAY - timedelta(days=days), value=number, **other)  # type: ignore[arg-type] # of the fields


# --- units -----------------------------------------------------------------------------------

FACTORS = [
    ("g/dL", "g/L", 10), ("mg/L", "ug/mL", 1), ("ng/mL", "ug/L", 1), ("pg/mL", "ng/L", 1),
    ("mg/dL", "g/L", Fraction(1, 100)), ("mmol/L", "umol/L", 1000), ("umol/L", "nmol/mL", 1),
    ("m[IU]/L", "u[IU]/mL", 1), ("[IU]/L", "m[IU]/mL", 1), ("10*9/L", "10*3/uL", 1),
    ("10*12/L", "10*6/uL", 1), ("/uL", "10*6/L", 1), ("%", "L/L", Fraction(1, 100)),
    ("U/L", "mU/mL", 1), ("kg/L", "g/mL", 1), ("ug/dL", "ug/L", 10), ("10*3/mL", "/uL", 1),
]  # fmt: skip


@pytest.mark.parametrize(("unit", "wanted", "factor"), FACTORS)
def test_a_listed_conversion_is_the_one_of_the_units(
    unit: str, wanted: str, factor: int | Fraction
) -> None:
    """Factors worked by hand from the prefixes of UCUM."""
    found = converted(Decimal("1.50"), unit, wanted)

    assert found is not None
    assert Fraction(found) == Fraction(3, 2) * factor
    assert found.as_tuple().digits == (1, 5, 0)  # as precise as it was told


@given(NUMBERS, st.sampled_from(sorted(UNITS)), st.sampled_from(sorted(UNITS)))
def test_a_conversion_is_exact_and_comes_back(value: Decimal, unit: str, wanted: str) -> None:
    there = converted(value, unit, wanted)
    factor = converted(Decimal(1), unit, wanted)

    assert (there is None) == (factor is None)
    if there is not None and factor is not None:
        assert Fraction(there) == Fraction(value) * Fraction(factor)
        assert converted(there, wanted, unit) == value


@given(*(st.sampled_from(sorted(UNITS)) for _ in range(3)))
def test_conversions_agree_whichever_way_round(one: str, two: str, three: str) -> None:
    direct = converted(Decimal(1), one, three)
    half = converted(Decimal(1), one, two)
    if half is not None:
        assert converted(half, two, three) == direct


@pytest.mark.parametrize(
    ("unit", "wanted"),
    [("g/L", "mmol/L"), ("U/L", "[IU]/L"), ("%", "mmol/mol"), ("", "%"), ("g/L", "G/L"),
     ("mg/l", "mg/L"), ("mmol/L", "mol"), ("10*9/L", "10*9"), ("", "L/L")],
)  # fmt: skip
def test_what_is_not_listed_is_not_converted(unit: str, wanted: str) -> None:
    assert converted(Decimal(1), unit, wanted) is None
    assert converted(Decimal(1), wanted, unit) is None
    assert converted(Decimal(1), unit, unit) == 1


# --- series ----------------------------------------------------------------------------------


def test_results_are_brought_to_the_newest_unit_and_say_how_they_were_told() -> None:
    (series,) = series_of([at(0, "132", unit="g/L"), at(30, "13.4"), at(60, "129", unit="g/L")])

    assert series.unit == "g/L"
    assert [str(result.value) for result in series.results] == ["132", "134", "129"]
    assert [told_text(result) for result in series.results] == ["", "13,4\u00a0g/dL", ""]


def test_another_unit_and_another_analysis_are_other_series() -> None:
    found = series_of(
        [at(0, "5.1", unit="mmol/L"), at(1, "0.9", unit="g/L"), at(2, "5.0", unit="mmol/L"),
         at(3, "0.8", unit="g/L", loinc="2345-7"), at(4, "7", unit="")]
    )  # fmt: skip

    assert sorted((each.loinc, each.unit, each.total) for each in found) == [
        ("2345-7", "g/L", 1), ("718-7", "", 1), ("718-7", "g/L", 1), ("718-7", "mmol/L", 2)
    ]  # fmt: skip


def test_a_bound_is_in_the_table_and_never_a_point() -> None:
    (series,) = series_of([at(0, "2"), at(1, "0.5", sign="<"), at(2, "3"), at(3, "4")])

    assert [result_text(each) for each in series.results][1] == "< 0,5\u00a0g/dL"
    assert [[str(point.value) for point in run] for run in series.runs] == [["4", "3"], ["2"]]
    chart = chart_of(series)
    assert chart is not None
    assert len(chart.dots) == 3
    assert len(chart.lines) == 1  # nothing is drawn over the bound
    assert (chart.low, chart.left_out) == ("2\u00a0g/dL", 1)


def test_a_text_parts_the_line_and_what_has_no_day_does_not() -> None:
    (series,) = series_of([at(0, "2"), at(1, None), at(2, "3"), replace(ONE, day=None)])

    assert [len(run) for run in series.runs] == [1, 1]
    assert result_text(series.results[1]) == "résultat non chiffré\u00a0: voir le document"
    assert series.results[-1].day is None
    (dated,) = series_of([at(0, "2"), replace(ONE, day=None), at(2, "3")])
    assert [len(run) for run in dated.runs] == [2]


def test_texts_alone_make_a_table_without_a_drawing() -> None:
    (series,) = series_of([at(0, None, unit="mg/L"), at(1, None)])

    assert (series.unit, series.runs, chart_of(series)) == ("", (), None)


@pytest.mark.parametrize(("count", "shown"), [(MAX_POINTS, MAX_POINTS), (MAX_POINTS + 1, 100)])
def test_a_series_shows_its_newest(count: int, shown: int) -> None:
    (series,) = series_of([at(day, "1") for day in range(count)])

    assert (len(series.results), series.total) == (shown, count)
    assert series.results[0].day == DAY


def test_series_are_in_the_order_of_their_names_accents_apart() -> None:
    labels = ["Potassium", "Érythrocytes", "Acide urique"]
    found = series_of([at(0, "1", loinc=f"{n}-1", label=text) for n, text in enumerate(labels)])

    assert [each.name for each in found] == ["Acide urique", "Érythrocytes", "Potassium"]


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Triglycérides [Masse/Volume] Sérum/Plasma ; Numérique", "Triglycérides Sérum/Plasma"),
        ("Hémoglobine", "Hémoglobine"),
        ("", "Analyse 718-7"),
        ("[Masse/Volume]", "Analyse 718-7"),
    ],
)
def test_a_name_is_short(label: str, name: str) -> None:
    assert short_name(label, "718-7") == name


# --- the drawing -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "results", [[], [at(0, "1")], [at(0, "1"), at(0, "2")], [at(0, "1"), at(9, "1", sign=">")]]
)
def test_less_than_two_moments_are_not_drawn(results: list[Measured]) -> None:
    assert [chart_of(each) for each in series_of(results)] == [None] * bool(results)


def test_equal_values_are_a_line_in_the_middle() -> None:
    (series,) = series_of([at(0, "5"), at(10, "5")])
    chart = chart_of(series)

    assert chart is not None
    assert {y for _, y in chart.dots} == {f"{HEIGHT / 2:.1f}"}


@given(
    st.lists(st.tuples(st.integers(0, 20000), NUMBERS), min_size=2, max_size=30),
)
def test_every_point_lies_in_the_drawing_and_order_is_kept(
    told: list[tuple[int, Decimal]],
) -> None:
    results = [replace(at(days, "0"), value=value) for days, value in told]
    for series in series_of(results):
        chart = chart_of(series)
        if chart is None:
            continue
        spots = [(float(x), float(y)) for x, y in chart.dots]
        assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in spots)
        assert spots == sorted(spots, key=lambda spot: spot[0])
        drawn = [point for run in series.runs for point in run]
        highest = max(drawn, key=lambda point: point.value or Decimal())
        assert spots[drawn.index(highest)][1] == min(y for _, y in spots)


def test_words_are_french_and_keep_digits() -> None:
    hour = datetime(2026, 11, 2, 8, tzinfo=UTC)
    (series,) = series_of([at(0, "13.20", at=hour), at(365, "12.9")])
    chart = chart_of(series)

    assert chart is not None
    assert chart.told == (
        "2 valeurs, de 12,9\u00a0g/dL à 13,20\u00a0g/dL, du 2\u00a0novembre 2025"
        " au 2\u00a0novembre 2026."
    )
    assert quantity(Decimal("1E+3"), "") == "1000"
    units = ("10*9/L", "u[IU]/mL", "m[IU]/L", "ug/L", "/uL", "10*3/uL", "U/L", "u")
    assert [unit_name(unit) for unit in units] == [
        "10⁹/L", "µUI/mL", "mUI/L", "µg/L", "/µL", "10³/µL", "U/L", "u"
    ]  # fmt: skip
