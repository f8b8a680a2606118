"""Read the laboratory results of a CDA: what was measured, the value as it was told, and when.

A result is an observation that happened (``moodCode="EVN"``), is not void (`cda_walk`), has a
LOINC code, and follows the national or IHE template; in a laboratory report, one with a number
will do. What lies inside a result (earlier values that the laboratory recalls) belongs to another
document and is not read. A bound is never made a value: "<0,5" keeps its sign, and a text that is
not one number with its sign or unit is a result without one.

Source: IHE-PALM §XD-LAB (Laboratory Observation), CI-SIS FR-Resultat-examens-de-biologie,
RULES §8, MSS-FACTS §4.4.
"""

import re
from datetime import date, datetime, timedelta
from typing import Final

from lxml import etree

from record_bridge.cda_walk import period_of, templates, walk
from record_bridge.formats.cda_header import HL7, CdaHeader
from record_bridge.formats.dtm import paris_day, parse_dtm
from record_bridge.formats.safe_xml import text_of
from record_bridge.model import LabResult

MAX_RESULTS: Final = 500
"""Per document; a large check-up has about a hundred."""
MAX_LABEL: Final = 200
MAX_UNIT: Final = 40
_LOINC_SYSTEM: Final = "2.16.840.1.113883.6.1"
_LOINC: Final = re.compile(r"\d{1,8}-\d")
_REPORT: Final = "11502-2"
_LABORATORY: Final = frozenset({"1.3.6.1.4.1.19376.1.3.1.6", "1.2.250.1.213.1.1.3.80"})
_TYPE: Final = "{http://www.w3.org/2001/XMLSchema-instance}type"
_NUMBER: Final = r"[+-]?\d{1,15}(?:[.,]\d{1,15})?(?:[eE][+-]?\d)?"
_PLAIN: Final = re.compile(_NUMBER)
_WRITTEN: Final = re.compile(
    rf"(<=|>=|<|>|≤|≥)?\s*({_NUMBER})(?:\s*(/?[A-Za-zµμ%\[{{]\S*)|\s+(10\*\S+))?"
)
"""A titre (1/80), a range (1-2) and a score (+++) are no number."""
_SIGNS: Final = {None: "", "≤": "<=", "≥": ">="}
_QUANTITIES: Final = frozenset({"", "PQ", "INT", "REAL", "MO"})
_INTERVALS: Final = frozenset({"IVL_PQ", "IVL_INT", "IVL_REAL"})
_TEXTS: Final = frozenset({"ST", "ED"})
_ANCESTORS: Final = frozenset(HL7 + name for name in ("organizer", "act", "observation"))

Told = tuple[str | None, str, str]
"""(number or None, sign, unit) of one value."""


def results(document: etree._Element, header: CdaHeader) -> tuple[LabResult, ...]:
    """The laboratory results of a document, in document order, at most MAX_RESULTS.

    Source: RULES §8.
    """
    found: list[LabResult] = []
    is_report = header.code == _REPORT
    if not is_report and not _names_a_template(document):
        return ()

    def visit(element: etree._Element, _section: str) -> bool:
        if element.tag != HL7 + "observation" or element.get("moodCode") != "EVN":
            return True
        is_named = bool(templates(element) & _LABORATORY)
        result = _result(element) if is_named or is_report else None
        if result is None or (result.value is None and not is_named):
            return True
        if len(found) < MAX_RESULTS:
            found.append(result)
        return False

    walk(document, visit)
    return tuple(found)


def measured_at(result: LabResult, received_at: datetime) -> tuple[date | None, datetime | None]:
    """The civil day in France of a result, and its instant when an hour is known.

    What lies more than a day after reception was not measured then: its day is unknown.

    Source: RULES §8.
    """
    when = parse_dtm(result.when)
    if when is None or when.day is None or when.day > paris_day(received_at + timedelta(days=1)):
        return None, None
    return when.day, when.at


def _names_a_template(document: etree._Element) -> bool:
    """Whether a walk is worth its time: most documents hold no laboratory result."""
    named = document.iter(HL7 + "templateId")
    return any(each.get("root") in _LABORATORY for each in named)


def _result(element: etree._Element) -> LabResult | None:
    code = _loinc(element.find(HL7 + "code"))
    values = element.findall(HL7 + "value")
    if code is None or not values or values[0].get("nullFlavor") is not None:
        return None
    value, sign, unit = _told(values[0]) if len(values) == 1 else (None, "", "")
    return LabResult(
        loinc=code.get("code") or "",
        label=" ".join((code.get("displayName") or "").split())[:MAX_LABEL],
        value=value,
        sign=sign if value is not None else "",
        unit=unit if value is not None else "",
        when=_when(element),
    )


def _loinc(code: etree._Element | None) -> etree._Element | None:
    """The code, or the translation of it, that is one of LOINC."""
    if code is None:
        return None
    for each in (code, *code.iterfind(HL7 + "translation")):
        is_loinc = each.get("codeSystem") == _LOINC_SYSTEM
        if is_loinc and _LOINC.fullmatch(each.get("code") or ""):
            return each
    return None


def _told(value: etree._Element) -> Told:
    kind = (value.get(_TYPE) or "").rpartition(":")[2]
    if kind in _INTERVALS:
        return _bound(value)
    if kind in _TEXTS:
        told = _written(text_of(value, MAX_LABEL) if value.get("representation") is None else "")
        # a bare number may be a specimen's or a report's: only a sign or a unit makes it a measure
        return told if told[1] or told[2] else (None, "", "")
    if kind not in _QUANTITIES:
        return None, "", ""
    number, sign, unit = _written(value.get("value") or "")
    return number, sign, unit or _unit(value)


def _bound(value: etree._Element) -> Told:
    """An interval with one end is a bound; with two it is no single value."""
    ends = [
        (end, signs)
        for end, signs in (
            (value.find(HL7 + "high"), ("<", "<=")),
            (value.find(HL7 + "low"), (">", ">=")),
        )
        if end is not None and end.get("value") is not None
    ]
    if len(ends) != 1:
        return None, "", ""
    end, (open_sign, closed_sign) = ends[0]
    number = _PLAIN.fullmatch((end.get("value") or "").strip())
    if number is None:
        return None, "", ""
    is_open = end.get("inclusive") in ("false", "0")
    return number[0].replace(",", "."), open_sign if is_open else closed_sign, _unit(end)


def _written(text: str) -> Told:
    """A number as people write it, with its sign and unit: "<1,0 mg/L"."""
    match = _WRITTEN.fullmatch(text.strip())
    if match is None:
        return None, "", ""
    unit = match[3] or match[4] or ""
    if len(unit) > MAX_UNIT:
        return None, "", ""
    return match[2].replace(",", "."), _SIGNS.get(match[1], match[1]), unit


def _unit(element: etree._Element) -> str:
    """A unit of UCUM as written; "1" is none."""
    unit = (element.get("unit") or "").strip()
    return "" if unit == "1" or not unit.isprintable() else unit[:MAX_UNIT]


def _when(element: etree._Element) -> str | None:
    """When it was measured: the nearest time that an act around it tells."""
    low, high = period_of(element)
    for around in element.iterancestors():
        if low or high:
            break
        if around.tag in _ANCESTORS:
            low, high = period_of(around)
    return low or high
