"""Read the medicines that a CDA names: treatments, prescribed and planned ones, dispensed ones.

A list of what documents say, never of what somebody takes: it holds names and days, and no dose,
which stands in the narrative alone. What lies inside an observation (the medicine that made
somebody ill, the reason of an examination) is nobody's treatment and is not read; nor is an act
that says that there is none.

Source: RULES §8, CI-SIS FR-Traitement (1.2.250.1.213.1.1.3.42), FR-Traitement-prescrit (.83),
FR-Traitement-dispense (.204), IHE-PCC §Medications, MSS-FACTS §4.5.
"""

from typing import Final

from lxml import etree

from record_bridge.cda_products import (
    VACCINATION_DONE,
    VACCINATION_DUE,
    Narrative,
    is_prescription,
    number_of,
    product_code,
)
from record_bridge.cda_walk import ASKED, period_of, templates, walk
from record_bridge.formats.cda_header import HL7
from record_bridge.model import Medication, MedicationKind

MAX_MEDICATIONS: Final = 200
"""Per document; a hospital stay names some dozens."""
_TREATMENT: Final = frozenset({"1.2.250.1.213.1.1.3.42", "1.3.6.1.4.1.19376.1.5.3.1.4.7"})
_DISPENSED: Final = frozenset({"1.2.250.1.213.1.1.3.204", "1.3.6.1.4.1.19376.1.9.1.3.4"})
_DISPENSED_SECTION: Final = "60590-7"
_TREATMENT_SECTIONS: Final = frozenset({"10160-0", "10183-2", "18610-6", "42346-7"})
"""Medicines taken, at discharge, given during a stay, at admission."""
_OTHER_SECTIONS: Final = frozenset({"11369-6", "44939-7", "48765-2"})
"""Vaccinations, which have a list of their own; what medicines did or may do to somebody."""
_ACT_CODE: Final = "2.16.840.1.113883.5.4"
"""Of "DRUG" and its kind."""
_ABSENT: Final = "2.16.840.1.113883.5.1150.1"
"""Codes of a product that is absent or unknown (International Patient Summary)."""
_ADMINISTRATION: Final = HL7 + "substanceAdministration"
_SUPPLY: Final = HL7 + "supply"
_AROUND: Final = frozenset(
    HL7 + name for name in ("act", "organizer", "entry", "entryRelationship", "component")
)
"""What may stand around a medicine that is somebody's: nothing that it is a part of."""


def medications(document: etree._Element) -> tuple[Medication, ...]:
    """The medicines that a document names, in document order, at most MAX_MEDICATIONS.

    Source: RULES §8.
    """
    if (
        next(document.iter(_ADMINISTRATION, _SUPPLY), None) is None
    ):  # as in most documents: no walk
        return ()
    found: list[Medication] = []
    narrative = Narrative(document)

    def visit(element: etree._Element, section: str) -> bool:
        kind = _kind(element, section)
        if kind is not None and _stands_alone(element) and len(found) < MAX_MEDICATIONS:
            found.append(_medication(element, kind, narrative))
        return element.tag in _AROUND

    walk(document, visit)
    return tuple(found)


def _kind(element: etree._Element, section: str) -> MedicationKind | None:
    """What is said of a medicine; None for every other act."""
    named, mood = templates(element), element.get("moodCode")
    if section in _OTHER_SECTIONS or named & (VACCINATION_DONE | VACCINATION_DUE):
        return None
    if element.tag == _SUPPLY:
        is_dispensed = section == _DISPENSED_SECTION or named & _DISPENSED
        return MedicationKind.DISPENSED if mood == "EVN" and is_dispensed else None
    if element.tag != _ADMINISTRATION or not _is_given(element):
        return None
    if mood in ASKED and is_prescription(named, section):
        return MedicationKind.PRESCRIBED
    if not named & _TREATMENT and section not in _TREATMENT_SECTIONS:
        return None
    if mood == "EVN":
        return MedicationKind.TREATMENT
    return MedicationKind.PLANNED if mood in ASKED else None


def _stands_alone(element: etree._Element) -> bool:
    """Whether it is a part of no observation, procedure or dispensation, whatever they are."""
    for around in element.iterancestors():
        if around.tag == HL7 + "section":
            return True
        if around.tag not in _AROUND:
            return False
    return False


def _is_given(element: etree._Element) -> bool:
    """Whether the act is giving a medicine, by the codes that it and its product have, if any.

    Codes of other systems say that none is known or taken (IHE-PCC §Medications), and so do those
    of a product that is absent or unknown (International Patient Summary).
    """
    code, product = element.find(HL7 + "code"), product_code(element)
    is_act = code is None or code.get("code") is None or code.get("codeSystem") == _ACT_CODE
    return is_act and (product is None or product.get("codeSystem") != _ABSENT)


def _medication(element: etree._Element, kind: MedicationKind, narrative: Narrative) -> Medication:
    code = product_code(element)
    low, high = period_of(element)
    return Medication(
        kind=kind,
        label=narrative.product(element) or narrative.referenced(element.find(HL7 + "text")),
        code="" if code is None else (code.get("code") or "")[:100],
        code_system="" if code is None else (code.get("codeSystem") or "")[:100],
        low=low,
        high=high,
        as_needed=narrative.has_condition(element),
        renewals=number_of(element.find(HL7 + "repeatNumber")) or 0,
    )
