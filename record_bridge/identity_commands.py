"""Identity vigilance by command: who may have an address; two identities merged into one record.

| command | arguments | result |
|---|---|---|
| patient_address | structure, ins, oid | whether the identity may have one |
| patient_merge | structure, ins, oid, into_ins, into_oid, reason | what moved, ``filed`` |
| patient_split | structure, ins, oid, reason | what moved, ``filed`` |

A merge and a split need a reason; the trail says who and why, under both identities. After each,
what waits for either identity is judged again by the same rules.

Source: RULES §5, RULES §11, RULES §13.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from directory.audit_event import AuditEvent
from directory.trail import append
from record_bridge import merging
from record_bridge.command_desk import CommandDesk, actor_of, reason_of
from record_bridge.merging import Moved
from record_bridge.model import IdentityStatus
from record_bridge.schema import TRAIL

Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Told:
    """A merge or a split with what the trail says of it."""

    wanted: merging.Merge | merging.Split
    structure_id: str


class IdentityCommands:
    """Merging, splitting and what an identity allows, by command."""

    def __init__(self, commands: CommandDesk) -> None:
        self._commands = commands

    def table(self) -> dict[str, Callable[[Arguments], Awaitable[Any]]]:
        """Give every command by name."""
        return {
            "patient_address": self.patient_address,
            "patient_merge": self.patient_merge,
            "patient_split": self.patient_split,
        }

    async def patient_address(self, arguments: Arguments) -> dict[str, Any]:
        """Say whether an identity may have an address: qualified, beyond doubt (RULES §11).

        Raises:
            RecordStateError: it is unknown.
        """
        known = await self._commands.find(arguments)
        qualified = known["status"] == IdentityStatus.QUALIFIEE.value
        return {
            "structure": known["structure_id"],
            "ins": known["matricule"],
            "qualified": qualified and not (known["doubtful"] or known["fictitious"]),
        }

    async def patient_merge(self, arguments: Arguments) -> dict[str, Any]:
        """Bring the record of ``ins`` into that of ``into_ins``: they are one person.

        Raises:
            RecordStateError: one is unknown, they cannot be one person's, or no reason is given.
        """
        reason = reason_of(arguments)
        merged = await self._commands.find(arguments)
        into = {"ins": arguments["into_ins"], "oid": arguments["into_oid"]}
        kept = await self._commands.find({**arguments, **into})
        wanted = merging.Merge(
            int(kept["id"]), int(merged["id"]), actor_of(arguments), reason, self._commands.now()
        )
        moved = await self._commands.write(_merge, _Told(wanted, kept["structure_id"]))
        return await self._told(moved, (merged, kept))

    async def patient_split(self, arguments: Arguments) -> dict[str, Any]:
        """Give the merged identity ``ins`` its record back; ``ended`` rights must be given anew.

        Raises:
            RecordStateError: it is unknown or not merged, or no reason is given.
        """
        reason = reason_of(arguments)
        merged = await self._commands.find(arguments)
        wanted = merging.Split(
            int(merged["id"]), actor_of(arguments), reason, self._commands.now()
        )
        moved = await self._commands.write(_split, _Told(wanted, merged["structure_id"]))
        await self._commands.revive(moved.revived)
        return await self._told(moved, (merged,))

    async def _told(self, moved: Moved, people: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        filed = 0
        for person in people:
            filed += await self._commands.judge_again(person)
        return {
            "documents": moved.documents,
            "rows": moved.rows,
            "left": moved.left,
            "ended": moved.ended,
            "filed": filed,
        }


def _merge(connection: sqlite3.Connection, told: _Told) -> Moved:
    assert isinstance(told.wanted, merging.Merge)  # noqa: S101 - its only caller says so
    moved = merging.merge(connection, told.wanted)
    _note(connection, "patient_merged", told, moved)
    return moved


def _split(connection: sqlite3.Connection, told: _Told) -> Moved:
    assert isinstance(told.wanted, merging.Split)  # noqa: S101 - its only caller says so
    moved = merging.split(connection, told.wanted)
    _note(connection, "patient_split", told, moved)
    return moved


def _note(connection: sqlite3.Connection, kind: str, told: _Told, moved: Moved) -> None:
    """Write the event under both identities: whoever's record is opened later shows it."""
    wanted, at = told.wanted, told.wanted.at
    append(
        connection,
        TRAIL,
        [
            AuditEvent(
                kind,
                at,
                wanted.actor,
                told.structure_id,
                f"patient:{patient_id}",
                {
                    "reason": wanted.reason,
                    "documents": moved.documents,
                    **({"ended": moved.ended} if moved.ended else {}),
                },
            )
            for patient_id in (moved.kept_id, wanted.merged_id)
        ],
    )
