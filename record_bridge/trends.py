"""Series of laboratory results: one LOINC, one unit, each point with its document.

Results of one LOINC are brought to the unit of the newest by exact conversions alone
(`lab_units`); what cannot be is a series of its own. A bound and a text stay in the table and are
never a value; a line between two values stops where one of them lies between.

Source: RULES §8.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Final

from record_bridge.lab_units import converted

MAX_POINTS: Final = 100
"""Shown of one series, the newest; the documents hold them all."""
_BRACKETS: Final = re.compile(r"\s*\[[^\]]*\]")


@dataclass(frozen=True, slots=True)
class Measured:
    """One result and where it stands.

    Attributes:
        value: None for a result that is no single number.
        sign: "" for a value, else that of a bound.
        unit: of UCUM.
        day: civil day in France; None when unknown.
        at: aware UTC when an hour is known.
        document: the unique id of its document.
        told: value and unit as its document writes them, when they are not those above.
    """

    loinc: str
    label: str
    value: Decimal | None
    sign: str
    unit: str
    day: date | None
    at: datetime | None
    document: str
    told: tuple[Decimal, str] | None = None

    @property
    def is_drawn(self) -> bool:
        """Whether it is a point: a number, no bound, on a day."""
        return self.value is not None and self.sign == "" and self.day is not None


@dataclass(frozen=True, slots=True)
class Series:
    """What is known of one analysis in one unit.

    Attributes:
        name: short and in the sender's words.
        results: newest first, in ``unit``, at most MAX_POINTS.
        total: how many there are.
    """

    loinc: str
    name: str
    unit: str
    results: tuple[Measured, ...]
    total: int

    @property
    def documents(self) -> frozenset[str]:
        """The unique ids of those that say so."""
        return frozenset(each.document for each in self.results)

    @property
    def runs(self) -> tuple[tuple[Measured, ...], ...]:
        """The points to be drawn, oldest first, parted where a bound or a text lies between."""
        found: list[tuple[Measured, ...]] = []
        run: list[Measured] = []
        for each in reversed([result for result in self.results if result.day is not None]):
            if each.is_drawn:
                run.append(each)
            elif run:
                found.append(tuple(run))
                run = []
        return (*found, tuple(run)) if run else tuple(found)


def series_of(results: Sequence[Measured]) -> tuple[Series, ...]:
    """Every series of a record, by name.

    Args:
        results: newest first, all of them visible to who looks.

    Source: RULES §8.
    """
    groups: dict[str, list[tuple[str, list[Measured]]]] = {}
    for result in results:
        groups.setdefault(result.loinc, [])
    for result in results:
        if result.value is not None:
            _place(groups[result.loinc], result)
    for result in results:
        if result.value is None:
            group = groups[result.loinc]
            if not group:
                group.append(("", []))
            group[0][1].append(replace(result, sign="", unit=group[0][0]))
    found = [_series(loinc, unit, members) for loinc in groups for unit, members in groups[loinc]]
    return tuple(sorted(found, key=lambda each: (_folded(each.name), each.loinc, each.unit)))


def short_name(label: str, loinc: str) -> str:
    """The name of an analysis without what its LOINC says of scale and property."""
    name = _BRACKETS.sub("", label.partition(" ;")[0]).strip()
    return name or f"Analyse {loinc}"


def _place(group: list[tuple[str, list[Measured]]], result: Measured) -> None:
    """Put a result into the first series whose unit it can be brought to exactly."""
    for unit, members in group:
        value = None if result.value is None else converted(result.value, result.unit, unit)
        if result.value is None or value is None:
            continue
        told = None if unit == result.unit else (result.value, result.unit)
        members.append(replace(result, value=value, unit=unit, told=told))
        return
    group.append((result.unit, [result]))


def _series(loinc: str, unit: str, members: list[Measured]) -> Series:
    newest = sorted(members, key=_time, reverse=True)
    name = next((each.label for each in newest if each.label), "")
    return Series(
        loinc=loinc,
        name=short_name(name, loinc),
        unit=unit,
        results=tuple(newest[:MAX_POINTS]),
        total=len(newest),
    )


def _time(result: Measured) -> tuple[date, float]:
    """What is not dated comes last."""
    at = 0.0 if result.at is None else result.at.timestamp()
    return result.day or date.min, at


def _folded(text: str) -> str:
    plain = unicodedata.normalize("NFD", text.lower())
    return "".join(c for c in plain if not unicodedata.combining(c))
