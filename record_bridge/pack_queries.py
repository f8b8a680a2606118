"""Reading admission packs: what their patient is shown of them, and what the structure sees.

Read-only. Who may ask for the packs of a patient is ``admission.reads_packs``.

Source: RULES §7.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from sqlalchemy import Select, select

from directory.database import Database
from record_bridge.admission import (
    ItemProgress,
    PackItemKind,
    PackState,
    may_be_acknowledged,
    state_of,
)
from record_bridge.repository import moment, moment_or_none
from record_bridge.schema import admission_pack, deposit, pack_item, pack_item_chunk, patient

_OPEN: Final = (
    select(admission_pack, patient.c.matricule)
    .join(patient, patient.c.id == admission_pack.c.patient_id)
    .where(admission_pack.c.closed_at.is_(None))
    .order_by(admission_pack.c.due, admission_pack.c.id)
)
"""The packs that are not closed, the one that is due first first."""


@dataclass(frozen=True, slots=True)
class PackItem:
    """A document to read, or a form to give back.

    ``deposit_id`` is the file that was given back and is not withdrawn, 0 for none.
    """

    id: int
    kind: PackItemKind
    title: str
    media_type: str
    octets: int
    acknowledged_at: datetime | None
    deposit_id: int

    @property
    def progress(self) -> ItemProgress:
        """What was done with it."""
        return ItemProgress(self.kind, self.acknowledged_at is not None, bool(self.deposit_id))


@dataclass(frozen=True, slots=True)
class Pack:
    """An admission pack; ``sent_at``, while it is in the making, is when it was begun."""

    id: int
    patient_id: int
    matricule: str
    title: str
    due: date
    sent_at: datetime
    state: PackState
    reminded_at: datetime | None
    items: tuple[PackItem, ...]

    @property
    def done(self) -> int:
        """How many of its items nothing is left to do with."""
        return sum(item.progress.is_done for item in self.items)

    @property
    def is_ready(self) -> bool:
        """Whether it may be acknowledged as a whole."""
        return may_be_acknowledged(item.progress for item in self.items)


class PackQueries:
    """Admission packs, opened for reading."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def shown(self, patient_id: int) -> Sequence[Pack]:
        """List the packs that a patient sees."""
        sent = admission_pack.c.sent_at.is_not(None)
        return await self._packs(_OPEN.where(admission_pack.c.patient_id == patient_id, sent))

    async def waiting(self, patient_id: int) -> Sequence[Pack]:
        """List those that the patient has not acknowledged yet."""
        return [each for each in await self.shown(patient_id) if each.state is PackState.SENT]

    async def of_structure(
        self, structure_id: str, patient_id: int | None = None
    ) -> Sequence[Pack]:
        """List the packs that are not closed, of one patient or of all."""
        wanted = _OPEN.where(patient.c.structure_id == structure_id)
        if patient_id is not None:
            wanted = wanted.where(admission_pack.c.patient_id == patient_id)
        return await self._packs(wanted)

    async def of_patients(self, patient_ids: Iterable[int]) -> Sequence[Pack]:
        """List the packs of some patients that are not closed."""
        return await self._packs(_OPEN.where(admission_pack.c.patient_id.in_(patient_ids)))

    async def content(self, item_id: int) -> bytes:
        """Give the octets of an item that a list held."""
        rows = await self._database.all(
            select(pack_item_chunk.c.data)
            .where(pack_item_chunk.c.pack_item_id == item_id)
            .order_by(pack_item_chunk.c.position)
        )
        return b"".join(row[0] for row in rows)

    async def _packs(self, wanted: Select[Any]) -> Sequence[Pack]:
        rows = [row._asdict() for row in await self._database.all(wanted)]
        items = await self._items([row["id"] for row in rows])
        return [_pack(row, items.get(row["id"], ())) for row in rows]

    async def _items(self, pack_ids: Sequence[int]) -> Mapping[int, tuple[PackItem, ...]]:
        if not pack_ids:
            return {}
        rows = await self._database.all(
            select(pack_item, deposit.c.id.label("returned"))
            .outerjoin(
                deposit,
                (deposit.c.id == pack_item.c.deposit_id) & deposit.c.withdrawn_at.is_(None),
            )
            .where(pack_item.c.pack_id.in_(pack_ids))
            .order_by(pack_item.c.id)
        )
        found: dict[int, tuple[PackItem, ...]] = {}
        for row in rows:
            found[row.pack_id] = (*found.get(row.pack_id, ()), _item(row._asdict()))
        return found


def _pack(row: Mapping[str, Any], items: tuple[PackItem, ...]) -> Pack:
    return Pack(
        id=row["id"],
        patient_id=row["patient_id"],
        matricule=row["matricule"],
        title=row["title"],
        due=date.fromisoformat(row["due"]),
        sent_at=moment(row["sent_at"] or row["created_at"]),
        state=state_of(row["sent_at"], row["acknowledged_at"], row["closed_at"]),
        reminded_at=moment_or_none(row["reminded_at"]),
        items=items,
    )


def _item(row: Mapping[str, Any]) -> PackItem:
    return PackItem(
        id=row["id"],
        kind=PackItemKind(row["kind"]),
        title=row["title"],
        media_type=row["media_type"],
        octets=row["octets"],
        acknowledged_at=moment_or_none(row["acknowledged_at"]),
        deposit_id=row["returned"] or 0,
    )
