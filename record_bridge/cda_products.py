"""What the acts of a CDA say of a product: which one it is, and what is asked of it, in words.

A product is named by its own name, else by its code, else by the piece of narrative that the code
points at: many senders code nothing and write the name there alone.

Source: CDA R2 §4.3.8, CI-SIS FR-Produit-de-sante (1.2.250.1.213.1.1.3.43), MSS-FACTS §4.5.
"""

from collections.abc import Set as AbstractSet
from typing import Final

from lxml import etree

from record_bridge.formats.cda_header import HL7
from record_bridge.formats.safe_xml import text_of

MAX_LABEL: Final = 200
VACCINATION_DONE: Final = frozenset({"1.2.250.1.213.1.1.3.45", "1.3.6.1.4.1.19376.1.5.3.1.4.12"})
VACCINATION_DUE: Final = frozenset({"1.2.250.1.213.1.1.3.47", "1.3.6.1.4.1.19376.1.5.3.1.4.12.2"})
_PRESCRIPTION_SECTION: Final = "57828-6"
_PRESCRIPTION: Final = frozenset({"1.2.250.1.213.1.1.3.83", "1.3.6.1.4.1.19376.1.9.1.3.2"})
_ANSWERS: Final = frozenset({"oui", "non"})
"""Cells of a form that a code points at, which name nothing (health certificates of a child)."""
_MATERIAL: Final = f"{HL7}manufacturedProduct/{HL7}manufacturedMaterial"


def is_prescription(named: AbstractSet[str], section: str) -> bool:
    """Whether what is asked for is a line of a prescription, by its templates or its section."""
    return section == _PRESCRIPTION_SECTION or bool(named & _PRESCRIPTION)


def material_of(element: etree._Element) -> etree._Element | None:
    """The product of a substanceAdministration (consumable) or of a supply (product)."""
    for role in ("consumable", "product"):
        found = element.find(f"{HL7}{role}/{_MATERIAL}")
        if found is not None:
            return found
    return None


def product_code(element: etree._Element) -> etree._Element | None:
    """The code of that product."""
    material = material_of(element)
    return None if material is None else material.find(HL7 + "code")


def number_of(element: etree._Element | None) -> int | None:
    """A ``value`` of at most three digits."""
    value = "" if element is None else element.get("value") or ""
    return int(value) if value.isascii() and value.isdigit() and len(value) <= 3 else None


class Narrative:
    """The words of a document that its entries point at; it is indexed once, when first asked."""

    def __init__(self, document: etree._Element) -> None:
        self._document = document
        self._pieces: dict[str, etree._Element] | None = None

    def referenced(self, text: etree._Element | None) -> str:
        """Text in place, or the piece of narrative it points at."""
        if text is None:
            return ""
        reference = text.find(HL7 + "reference")
        if reference is None:
            return text_of(text, MAX_LABEL)
        if self._pieces is None:
            self._pieces = {}
            for element in self._document.iter(tag=etree.Element):
                name = element.get("ID")
                if name:
                    self._pieces.setdefault(name, element)
        return text_of(self._pieces.get((reference.get("value") or "").lstrip("#")), MAX_LABEL)

    def label(self, code: etree._Element | None) -> str:
        """What a code says in words: its own, those it points at, its translation's."""
        if code is None:
            return ""
        shown = " ".join((code.get("displayName") or "").split())
        if not shown:
            shown = self.referenced(code.find(HL7 + "originalText"))
        if not shown or shown.casefold() in _ANSWERS:
            translation = code.find(HL7 + "translation")
            shown = "" if translation is None else (translation.get("displayName") or "")
        return shown[:MAX_LABEL]

    def product(self, element: etree._Element) -> str:
        """The name of an act's product; "" when it has none."""
        material = material_of(element)
        name = "" if material is None else text_of(material.find(HL7 + "name"), MAX_LABEL)
        return name or self.label(product_code(element))

    def has_condition(self, element: etree._Element) -> bool:
        """Whether a line is taken only if something holds ("si besoin", "si douleur")."""
        for criterion in element.iterfind(f"{HL7}precondition/{HL7}criterion"):
            if (
                criterion.find(HL7 + "value") is not None
                or criterion.find(HL7 + "code") is not None
            ):
                return True
            if self.referenced(criterion.find(HL7 + "text")).strip("- "):
                return True
        return False
