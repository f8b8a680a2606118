"""Laboratory results as documents tell them (RULES §8); cases in tests/vectors/biology."""

import tomllib
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from record_bridge.formats.cda_header import load_cda, read_header
from record_bridge.lab_results import MAX_LABEL, MAX_RESULTS, MAX_UNIT, measured_at, results
from record_bridge.model import LabResult
from tests.support.cda import CdaSpec, cda, lab_result, quantity, told

VALUES = Path(__file__).parents[2] / "vectors" / "biology" / "values.toml"
CASES: list[dict[str, Any]] = tomllib.loads(VALUES.read_text("utf-8"))["case"]
XSI = "http://www.w3.org/2001/XMLSchema-instance"


def read(*entries: tuple[str, str], **spec: Any) -> tuple[LabResult, ...]:
    document = cda(CdaSpec(acts=entries, **spec)).replace(
        b"<ClinicalDocument ", f'<ClinicalDocument xmlns:xsi="{XSI}" xmlns:c="c" '.encode(), 1
    )
    root = load_cda(document)
    return results(root, read_header(root))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_value_is_read_as_it_is_told(case: dict[str, Any]) -> None:
    found = read(lab_result(case["value"], attributes=case.get("attributes", "")))

    said = [
        "-" if each.value is None else f"{each.sign} {each.value} {each.unit}" for each in found
    ]
    assert said == ([case["read"]] if case["read"] else [])


def test_a_result_says_what_and_when() -> None:
    (found,) = read(lab_result(quantity("13.2")))

    assert found.loinc == "718-7"
    assert found.label == "Hémoglobine [Masse/Volume] Sang ; Numérique"
    assert found.when == "20261102080000+0100"


def test_the_time_of_what_encloses_a_result_is_its_own_when_it_has_none() -> None:
    section, entry = lab_result(quantity("13.2"), None)
    timed = entry.replace(
        'code="completed"/>', 'code="completed"/><effectiveTime value="20261030"/>', 1
    )

    assert [each.when for each in read((section, timed))] == ["20261030"]
    assert [each.when for each in read((section, entry))] == [None]


def test_what_a_result_recalls_is_another_documents() -> None:
    earlier = lab_result(quantity("11.0"), "20250101")[1]
    recalled = f'<entryRelationship typeCode="REFR">{earlier}</entryRelationship>'

    assert [each.value for each in read(lab_result(quantity("13.2"), inside=recalled))] == ["13.2"]


@pytest.mark.parametrize("code", ["11502-2", "34112-3"])
def test_a_number_without_the_template_counts_in_a_laboratory_report_only(code: str) -> None:
    entries = (
        lab_result(quantity("13.2"), template="1.2.3"),
        lab_result(told("négatif"), template="1.2.3"),
    )

    found = read(*entries, code=code)
    assert [each.value for each in found] == (["13.2"] if code == "11502-2" else [])
    named = read(lab_result(quantity("13.2")), *entries, code=code)
    assert len(named) == (2 if code == "11502-2" else 1)


def test_only_loinc_names_an_analysis_its_translation_included() -> None:
    local = lab_result(quantity("1"))[1].replace("2.16.840.1.113883.6.1", "1.2.3")
    translated = local.replace(
        'codeSystem="1.2.3"/>',
        'codeSystem="1.2.3"><translation code="2345-7" displayName="Glucose"'
        ' codeSystem="2.16.840.1.113883.6.1"/></code>',
        1,
    )

    assert read(("18719-5", local)) == ()
    assert [(r.loinc, r.label) for r in read(("18719-5", translated))] == [("2345-7", "Glucose")]
    assert read(lab_result(quantity("1"), loinc="GLUCOSE")) == ()


@pytest.mark.parametrize("mood", ["INT", "RQO", "GOL"])
def test_what_is_only_asked_for_is_no_result(mood: str) -> None:
    section, entry = lab_result(quantity("1"))

    assert read((section, entry.replace('"OBS" moodCode="EVN"', f'"OBS" moodCode="{mood}"'))) == ()


@pytest.mark.parametrize("status", ["cancelled", "aborted", "nullified", "suspended"])
def test_a_void_act_around_a_result_voids_it(status: str) -> None:
    section, entry = lab_result(quantity("1"))

    assert read((section, entry.replace('code="completed"', f'code="{status}"', 1))) == ()


@pytest.mark.parametrize(("count", "kept"), [(MAX_RESULTS, MAX_RESULTS), (MAX_RESULTS + 1, 500)])
def test_results_are_capped_per_document(count: int, kept: int) -> None:
    assert len(read(*[lab_result(quantity("1"))] * count)) == kept


def test_label_and_unit_are_capped() -> None:
    (found,) = read(lab_result(quantity("1", "u" * (MAX_UNIT + 1)), label="x" * (MAX_LABEL + 1)))

    assert (len(found.unit), len(found.label)) == (MAX_UNIT, MAX_LABEL)
    (written,) = read(lab_result(told("<1 " + "u" * (MAX_UNIT + 1))))
    assert written.value is None


@pytest.mark.parametrize(
    ("when", "day", "at"),
    [
        ("20261102", date(2026, 11, 2), None),
        ("20261101233000+0000", date(2026, 11, 2), datetime(2026, 11, 1, 23, 30, tzinfo=UTC)),
        ("20261103", date(2026, 11, 3), None),
        ("20261104", None, None),  # more than a day after reception
        ("2026", None, None),
        ("hier", None, None),
        (None, None, None),
    ],
)
def test_a_result_is_dated_as_of_reception(
    when: str | None, day: date | None, at: datetime | None
) -> None:
    result = LabResult("718-7", "", "1", "", "g/L", when)

    assert measured_at(result, datetime(2026, 11, 2, 10, tzinfo=UTC)) == (day, at)
