"""The habilitation matrix: what a profession may read, type by type; read from its data file.

A cell that the file does not hold is unknown, and unknown means refused (RULES §7). Every cell
says where it comes from, and how sure it is: the official table of the arrêté du 26/10/2023 was
not found cell by cell.

Source: RULES §7, MSS-FACTS §6.2.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from directory.codes import PROFESSIONS, known_types
from record_bridge.errors import MalformedMatrixError

HEADER: Final = ("profession", "type", "cell", "status", "source")


class Cell(enum.Enum):
    """What the matrix says of a profession and a type of document."""

    READ = "read"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class CellStatus(enum.Enum):
    """How sure a cell is."""

    OFFICIAL = "official"
    SECONDARY = "secondary"
    ASSUMED = "assumed"


@dataclass(frozen=True, slots=True)
class KnownCell:
    """A cell of the file: never ``UNKNOWN``."""

    cell: Cell
    status: CellStatus
    source: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """The cells that are known, by profession (TRE_G15) and type of document."""

    cells: Mapping[tuple[str, str], KnownCell]

    def cell(self, profession: str, type_code: str) -> Cell:
        """What this profession may do with this type; unknown when no line says it."""
        known = self.cells.get((profession, type_code))
        return Cell.UNKNOWN if known is None else known.cell


def parse_matrix(text: str) -> Matrix:
    """Read the data file: tab-separated, ``#`` begins a comment line.

    Raises:
        MalformedMatrixError: a line is not one cell of a known profession and type, said once.
    """
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    if not lines or tuple(lines[0].split("\t")) != HEADER:
        raise MalformedMatrixError("header")
    types = frozenset(known_types())
    cells: dict[tuple[str, str], KnownCell] = {}
    for line in lines[1:]:
        fields = line.split("\t")
        if len(fields) != len(HEADER) or not all(fields):
            raise MalformedMatrixError("columns")
        profession, type_code, cell, status, source = fields
        if profession not in PROFESSIONS or type_code not in types:
            raise MalformedMatrixError("code")
        if (profession, type_code) in cells:
            raise MalformedMatrixError("twice")
        cells[profession, type_code] = _cell(cell, status, source)
    return Matrix(cells)


def _cell(cell: str, status: str, source: str) -> KnownCell:
    try:
        known = KnownCell(Cell(cell), CellStatus(status), source)
    except ValueError:
        raise MalformedMatrixError("word") from None
    if known.cell is Cell.UNKNOWN:
        raise MalformedMatrixError("word")
    return known
