"""Reading until when records are kept: a structure's policy, deadlines, one's own.

Read-only. Source: MSS-FACTS §6.4, RULES §13.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from importlib.resources import files
from typing import Any

from sqlalchemy import func, select, true

from directory.database import Database
from record_bridge.formats.dtm import paris_day
from record_bridge.model import Visibility
from record_bridge.repository import micros, moment, moment_or_none
from record_bridge.retention import Deadline, KeptFacts, Policy, deadline, parse_policy
from record_bridge.schema import document, patient, retention_hold, retention_policy

_EVERYTHING: Any = true()  # SQL of any kind


@dataclass(frozen=True, slots=True)
class PolicyInForce:
    """A structure's policy, and who set it; "" for the one that Pli brings along."""

    policy: Policy
    text: str
    set_by: str
    set_at: datetime | None


@dataclass(frozen=True, slots=True)
class KeptRecord:
    """One record and until when it is kept; no deadline while it is disputed."""

    patient_id: int
    structure_id: str
    matricule: str
    oid: str
    facts: KeptFacts
    closed_at: datetime | None
    deadline: Deadline | None


@lru_cache(maxsize=1)
def default_policy() -> tuple[Policy, str]:
    """The policy that Pli brings along, and its text."""
    text = files("record_bridge").joinpath("retention_2026.toml").read_text("utf-8")
    return parse_policy(text), text


class RetentionQueries:
    """Deadlines of records, opened for reading."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def policy(self, structure_id: str) -> PolicyInForce:
        """Give the policy that was set last, or the one that Pli brings along."""
        row = await self._database.first(
            select(retention_policy)
            .where(retention_policy.c.structure_id == structure_id)
            .order_by(retention_policy.c.id.desc())
            .limit(1)
        )
        if row is None:
            policy, text = default_policy()
            return PolicyInForce(policy, text, "", None)
        return PolicyInForce(parse_policy(row.text), row.text, row.set_by, moment(row.set_at))

    async def of_structure(self, structure_id: str, at: datetime) -> Sequence[KeptRecord]:
        """List the records of a structure, the one whose deadline comes first first."""
        found = await self._records(patient.c.structure_id == structure_id, structure_id, at)
        return sorted(
            found, key=lambda each: (each.deadline is None, each.deadline and each.deadline.day)
        )

    async def of_patient(self, patient_id: int, at: datetime) -> KeptRecord | None:
        """Give until when one record is kept; None when there is none."""
        return await self._record(patient_id, at, _EVERYTHING)

    async def told_to(self, patient_id: int, at: datetime) -> KeptRecord | None:
        """Give until when a closed record is kept at least, by what hides from nobody.

        A hidden document must not move a day that its patient reads (RULES §7). None for one that
        is not closed: its patient is told of no day yet.
        """
        shown = document.c.visibility.in_(("", Visibility.VISIBLE.value))
        return await self._record(patient_id, at, shown)

    async def _record(self, patient_id: int, at: datetime, counted: Any) -> KeptRecord | None:
        row = await self._database.first(
            select(patient.c.structure_id).where(
                patient.c.id == patient_id, patient.c.closed_at.is_not(None)
            )
        )
        if row is None:
            return None
        found = await self._records(patient.c.id == patient_id, row.structure_id, at, counted)
        return found[0] if found else None

    async def _records(
        self, which: Any, structure_id: str, at: datetime, counted: Any = _EVERYTHING
    ) -> list[KeptRecord]:
        policy = (await self.policy(structure_id)).policy
        last = (
            select(func.max(document.c.received_at))
            .where(document.c.patient_id == patient.c.id, counted)
            .scalar_subquery()
        )
        disputed = (
            select(retention_hold.c.id)
            .where(
                retention_hold.c.patient_id == patient.c.id, retention_hold.c.until_at.is_(None)
            )
            .exists()
        )
        rows = await self._database.all(
            select(patient, last.label("last"), disputed.label("disputed"))
            .where(which, patient.c.merged_into.is_(None))
            .order_by(patient.c.id)
        )
        return [_kept(row._asdict(), policy, micros(at)) for row in rows]


def _kept(row: Mapping[str, Any], policy: Policy, now: int) -> KeptRecord:
    active = min(max(row["created_at"], row["last"] or 0), now)
    closed_at = moment_or_none(row["closed_at"])
    facts = KeptFacts(
        born=date.fromisoformat(row["birth_date"]),
        last_activity=paris_day(moment(active)),
        died=None if row["died_on"] is None else date.fromisoformat(row["died_on"]),
        closed=None if closed_at is None else paris_day(closed_at),
        disputed=bool(row["disputed"]),
    )
    return KeptRecord(
        row["id"],
        row["structure_id"],
        row["matricule"],
        row["oid"],
        facts,
        closed_at,
        deadline(policy, facts),
    )
