"""Units of laboratory results that are the same quantity but for a power of ten.

Only these are ever converted, and exactly: a decimal number moves its point. Anything that needs
a molar mass, a method or a convention (mmol to g, U to UI, percent to mmol/mol) is another series,
and so is a number without a unit, whatever its sender meant.

Source: UCUM §prefixes, UCUM §arbitrary (units that convert to nothing else), RULES §8.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

_FAMILIES: Final[Mapping[str, Mapping[str, int]]] = {
    "mass concentration": {
        "kg/L": 3, "g/mL": 3, "g/dL": 1, "g/L": 0, "mg/mL": 0, "mg/dL": -2, "mg/L": -3,
        "ug/mL": -3, "ug/dL": -5, "ug/L": -6, "ng/mL": -6, "ng/dL": -8, "ng/L": -9, "pg/mL": -9,
        "pg/dL": -11, "pg/L": -12,
    },
    "amount concentration": {
        "mol/L": 0, "mmol/mL": 0, "mmol/dL": -2, "mmol/L": -3, "umol/mL": -3, "umol/dL": -5,
        "umol/L": -6, "nmol/mL": -6, "nmol/dL": -8, "nmol/L": -9, "pmol/mL": -9, "pmol/dL": -11,
        "pmol/L": -12,
    },
    "arbitrary concentration": {
        "k[IU]/L": 3, "[IU]/mL": 3, "[IU]/dL": 1, "[IU]/L": 0, "m[IU]/mL": 0, "m[IU]/L": -3,
        "u[IU]/mL": -3,
    },
    "catalytic concentration": {"U/mL": 3, "U/dL": 1, "U/L": 0, "mU/mL": 0, "mU/L": -3},
    "number concentration": {
        "10*6/uL": 12, "10*6/mm3": 12, "10*12/L": 12, "10*9/L": 9, "10*6/mL": 9, "10*3/uL": 9,
        "10*3/mm3": 9, "10*6/L": 6, "/uL": 6, "/mm3": 6, "10*3/mL": 6, "/mL": 3, "/L": 0,
    },
    "volume fraction": {"L/L": 0, "mL/mL": 0, "%": -2},
}  # fmt: skip
_PLACE: Final = {
    unit: (family, power) for family, units in _FAMILIES.items() for unit, power in units.items()
}
"""Unit -> its family, and the power of ten of the family's base that it is."""
UNITS: Final = frozenset(_PLACE)


def converted(value: Decimal, unit: str, wanted: str) -> Decimal | None:
    """The same quantity in another unit; None when no exact conversion is listed.

    Args:
        value: finite; its digits stay as they are, only the point moves.
        unit: of UCUM, of ``value``.
        wanted: of UCUM.
    """
    if unit == wanted:
        return value
    here, there = _PLACE.get(unit), _PLACE.get(wanted)
    if here is None or there is None or here[0] != there[0]:
        return None
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        return None  # no number
    return Decimal((sign, digits, exponent + here[1] - there[1]))
