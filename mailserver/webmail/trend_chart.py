"""Laboratory series as pages show them: words, and where the points of a small drawing lie.

The drawing says nothing that its table does not; it has no colour that means something, no range
and no judgement. A bound ("<0,5") is in the table only, and no line passes over it.

Source: RULES §8.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Final

from mailserver.webmail.text_fr import day, plural
from record_bridge.trends import Measured, Series

WIDTH: Final = 600
HEIGHT: Final = 170
_MARGIN: Final = 16
_NOON: Final = time(12)
_UNITS: Final = (("[IU]", "UI"), ("[iU]", "UI"))
_POWER: Final = re.compile(r"10\*(\d{1,2})")
_MICRO: Final = re.compile(r"(?<![A-Za-z])u(?=[A-Za-z])")
_POWERS: Final = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_SIGNS: Final = {"": "", "<": "< ", "<=": "≤ ", ">": "> ", ">=": "≥ "}


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing of WIDTH by HEIGHT.

    Attributes:
        lines: "x,y x,y ..." of each run of at least two points.
        dots: (x, y) of each point.
        low, high: the least and greatest value drawn, as words.
        first, last: the days of the first and last point, as words.
        left_out: how many results of the table are no point.
    """

    lines: tuple[str, ...]
    dots: tuple[tuple[str, str], ...]
    low: str
    high: str
    first: str
    last: str
    left_out: int

    @property
    def told(self) -> str:
        """What the drawing shows, in words."""
        values = plural(len(self.dots), "valeur", "valeurs")
        return f"{values}, de {self.low} à {self.high}, du {self.first} au {self.last}."


def chart_of(series: Series) -> Chart | None:
    """Draw a series; None when it has fewer than two points or no time between them."""
    runs = series.runs
    points = [point for run in runs for point in run]
    times = [_time(point) for point in points]
    if len(points) < 2 or times[0] == times[-1]:
        return None
    values = [point.value or Decimal() for point in points]
    frame = _Frame((times[0], times[-1]), (min(values), max(values)))
    return Chart(
        lines=tuple(frame.line(run) for run in runs if len(run) > 1),
        dots=tuple(frame.place(point) for point in points),
        low=quantity(min(values), series.unit),
        high=quantity(max(values), series.unit),
        first=day(points[0].day),
        last=day(points[-1].day),
        left_out=len(series.results) - len(points),
    )


@dataclass(frozen=True, slots=True)
class _Frame:
    """Times and values that the edges of the drawing stand for."""

    times: tuple[float, float]
    values: tuple[Decimal, Decimal]

    def place(self, point: Measured) -> tuple[str, str]:
        first, last = self.times
        low, high = self.values
        across = (_time(point) - first) / (last - first)
        up = float((point.value or low) - low) / float(high - low) if high > low else 0.5
        x = _MARGIN + across * (WIDTH - 2 * _MARGIN)
        y = HEIGHT - _MARGIN - up * (HEIGHT - 2 * _MARGIN)
        return f"{x:.1f}", f"{y:.1f}"

    def line(self, run: Sequence[Measured]) -> str:
        return " ".join(",".join(self.place(point)) for point in run)


def _time(point: Measured) -> float:
    """Its instant, or noon of its day."""
    if point.at is not None or point.day is None:
        return point.at.timestamp() if point.at is not None else 0.0
    return datetime.combine(point.day, _NOON, UTC).timestamp()


def quantity(value: Decimal, unit: str) -> str:
    """Give ``13,2 g/dL``, with every digit that was told."""
    number = format(value, "f").replace(".", ",")
    return f"{number}\u00a0{unit_name(unit)}".strip()


def result_text(result: Measured) -> str:
    """Give what a result says: ``13,2 g/dL``, ``< 0,5 mg/L``, or that it is no number."""
    if result.value is None:
        return "résultat non chiffré\u00a0: voir le document"
    return _SIGNS.get(result.sign, "") + quantity(result.value, result.unit)


def told_text(result: Measured) -> str:
    """Give how the document writes a result that was brought to another unit, else ""."""
    return "" if result.told is None else quantity(*result.told)


def unit_name(unit: str) -> str:
    """Give a unit as reports write it: ``10*9/L`` is ``10⁹/L``, ``u[IU]/mL`` is ``µUI/mL``."""
    for code, name in _UNITS:
        unit = unit.replace(code, name)
    unit = _POWER.sub(lambda match: "10" + match[1].translate(_POWERS), unit)
    return _MICRO.sub("µ", unit)
