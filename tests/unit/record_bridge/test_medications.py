"""Medicines that a document names; golden summaries of whole documents are in test_cda_vectors.

Source: RULES §8, CI-SIS FR-Traitement.
"""

import pytest

from record_bridge.cda_products import MAX_LABEL
from record_bridge.formats.cda_header import load_cda
from record_bridge.medications import MAX_MEDICATIONS, medications
from record_bridge.model import Medication
from tests.support.cda import CdaSpec, cda, dispensation, prescription, treatment


def read(*entries: tuple[str, str]) -> tuple[Medication, ...]:
    return medications(load_cda(cda(CdaSpec(acts=entries))))


@pytest.mark.parametrize(
    ("count", "kept"),
    [
        (MAX_MEDICATIONS, MAX_MEDICATIONS),
        (MAX_MEDICATIONS + 1, MAX_MEDICATIONS),
        (10 * MAX_MEDICATIONS, MAX_MEDICATIONS),
    ],
)
def test_a_document_names_so_many_at_most(count: int, kept: int) -> None:
    assert len(read(*[treatment()] * count)) == kept


def test_a_name_is_cut_at_its_limit() -> None:
    (found,) = read(treatment("x" * (MAX_LABEL + 1)))

    assert found.label == "x" * MAX_LABEL


@pytest.mark.parametrize(
    "attributes", ['negationInd="true"', 'negationInd="1"', 'nullFlavor="NI"']
)
@pytest.mark.parametrize("entry", [treatment, dispensation])
def test_what_did_not_happen_leaves_no_line(entry, attributes: str) -> None:  # type: ignore[no-untyped-def]
    assert read(entry(attributes=attributes)) == ()


@pytest.mark.parametrize("status", ["cancelled", "aborted", "nullified", "suspended"])
def test_a_void_status_leaves_no_line(status: str) -> None:
    assert read(treatment(status=status)) == ()


@pytest.mark.parametrize(
    ("section", "count"),
    [("10160-0", 1), ("10183-2", 1), ("18776-5", 1), ("99999-9", 1),
     ("44939-7", 0), ("48765-2", 0), ("11369-6", 0)],
)  # fmt: skip
def test_a_template_says_what_it_is_except_where_it_made_somebody_ill(
    section: str, count: int
) -> None:
    assert len(read(treatment(section=section))) == count


@pytest.mark.parametrize(("section", "count"), [("10160-0", 1), ("10183-2", 1), ("18776-5", 0)])
def test_without_a_template_its_section_says_what_it_is(section: str, count: int) -> None:
    plain = treatment(section=section)[1].replace("1.2.250.1.213.1.1.3.42", "1.2.3")
    plain = plain.replace("1.3.6.1.4.1.19376.1.5.3.1.4.7", "1.2.4")

    assert len(read((section, plain))) == count


def test_a_vaccine_among_treatments_is_no_medicine() -> None:
    vaccine = treatment()[1].replace("1.2.250.1.213.1.1.3.42", "1.2.250.1.213.1.1.3.45")

    assert read(("10160-0", vaccine)) == ()


def test_a_dispensed_line_is_no_prescription_of_this_document() -> None:
    found = read(dispensation(), prescription("20261101", "20261201"))

    assert [(each.kind.value, each.label) for each in found] == [
        ("dispensed", "PARACETAMOL 500 mg"),
        ("prescribed", "AMOXICILLINE 1 g"),
    ]
