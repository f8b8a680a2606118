"""What every command of the record needs: its context, whom it is about, the trail.

``find`` and ``record_of`` read who is named, ``note`` writes an event with the actor and reason of
a command (RULES §13), ``write`` runs a transaction, ``judge_again`` and ``revive`` are what
commands leave to the filing.
"""

import os
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Select, select

from directory.database import Database
from directory.model import Structure
from directory.trail import AuditEvent, append
from record_bridge import identity_storing, readers
from record_bridge.errors import RecordStateError
from record_bridge.ins import parse_ins
from record_bridge.model import Environment, InsMatricule
from record_bridge.schema import TRAIL, document, patient

V = TypeVar("V")
R = TypeVar("R")
Arguments = Mapping[str, Any]  # JSON values
MAX_REASON = 200
Rematch = Callable[[Structure, InsMatricule], Awaitable[int]]
"""Judges again what waits for an identity; gives how many documents were filed."""
Revive = Callable[[Sequence[int]], Awaitable[None]]
"""Puts the agenda entries of documents that are current again."""


@dataclass(frozen=True, slots=True)
class CommandContext:
    """What commands work on.

    Attributes:
        structures: gives the structures hosted now.
        rematch: judges waiting messages again.
        revive: puts the agenda entries of documents that are current again.
        wake: tells the workers that there is something to do.
    """

    record: Database
    structures: Callable[[], tuple[Structure, ...]]
    environment: Environment
    clock: Callable[[], datetime]
    rematch: Rematch
    revive: Revive
    wake: Callable[[], None]


class CommandDesk:
    """What the commands share; one for all of them."""

    def __init__(self, context: CommandContext) -> None:
        self._context = context

    async def record_of(self, arguments: Arguments) -> Mapping[str, Any]:
        """Give the patient whose record is named: of a merged identity, the one it is part of.

        Raises:
            RecordStateError: see ``find``.
        """
        found = await self.find(arguments)
        if found["merged_into"] is None:
            return found
        return await self.find({"patient_id": found["merged_into"]})

    async def find(self, arguments: Arguments) -> Mapping[str, Any]:
        """Give the identity whom ``patient_id``, or ``structure``, ``ins`` and ``oid`` name.

        Without ``oid`` the matricule must be one patient's alone in the structure.

        Raises:
            RecordStateError: there is none, or the OID must be said.
        """
        if arguments.get("patient_id") is not None:
            found = await self._context.record.all(
                select(patient).where(patient.c.id == int(arguments["patient_id"]))
            )
        elif arguments.get("oid"):
            return await self._found(self._structure(arguments), self._ins(arguments))
        else:
            found = await self._context.record.all(
                select(patient).where(
                    patient.c.structure_id == self._structure(arguments).id,
                    patient.c.matricule == str(arguments.get("ins")).upper(),
                )
            )
        if len(found) != 1:
            raise RecordStateError("which_oid" if found else "no_such_patient")
        return found[0]._asdict()

    @property
    def database(self) -> Database:
        """The record, for reading in its own process."""
        return self._context.record

    async def document(self, arguments: Arguments) -> Mapping[str, Any]:
        """Give the document whose unique id is ``document``, of the structure or of a patient.

        Raises:
            RecordStateError: there is none.
        """
        wanted = select(document).where(document.c.unique_id == str(arguments["document"]))
        if arguments.get("patient_id") is not None:
            wanted = wanted.where(document.c.patient_id == int(arguments["patient_id"]))
        else:
            wanted = wanted.where(document.c.structure_id == self._structure(arguments).id)
        row = await self._context.record.first(wanted)
        if row is None:
            raise RecordStateError("no_such_document")
        return row._asdict()

    async def note(
        self,
        kind: str,
        arguments: Arguments,
        subject: str,
        facts: Mapping[str, str | int | bool] | None = None,
    ) -> None:
        """Write an event about a patient, with the actor and reason of a command."""
        await self._note(kind, arguments, subject, facts)

    async def note_shown(
        self, arguments: Arguments, patient_id: int, unique_ids: Sequence[str] | None
    ) -> None:
        """Keep that the actor of a command is shown documents of a record; None: all of it."""
        shown = readers.Shown(patient_id, actor_of(arguments), unique_ids)
        await self._context.record.write(readers.note_shown, shown)

    async def write(self, apply: Callable[[sqlite3.Connection, V], R], value: V) -> R:
        """Run one transaction of the record."""
        return await self._context.record.write(apply, value)

    async def judge_again(self, person: Mapping[str, Any]) -> int:
        """Judge again what waits for any identity of a person's record; give how many were filed.

        What changes one of them may have been all that the others' documents waited for.
        """
        record_id = int(person["merged_into"] or person["id"])
        numbers = await self._context.record.write(identity_storing.numbers_of_record, record_id)
        structure = self.structure(person["structure_id"])
        filed = 0
        for ins in sorted(numbers, key=lambda ins: (ins.value, ins.oid)):
            filed += await self._context.rematch(structure, ins)
        self._context.wake()
        return filed

    async def revive(self, document_ids: Sequence[int]) -> None:
        """Put the agenda entries of documents that are current again."""
        await self._context.revive(document_ids)

    def structures(self) -> tuple[Structure, ...]:
        """Every structure of this site."""
        return self._context.structures()

    def structure(self, structure_id: str) -> Structure:
        """A structure of this site, by its id."""
        return self._structure({"structure": structure_id})

    def wake(self) -> None:
        """Tell the workers that there is something to do."""
        self._context.wake()

    async def read(self, query: Select[Any]) -> Sequence[Any]:
        """Read committed rows."""
        return await self._context.record.all(query)

    def now(self) -> datetime:
        """The time of this site."""
        return self._context.clock()

    def structure_of(self, arguments: Arguments) -> Structure:
        """Give the structure that a command names, or the only one.

        Raises:
            RecordStateError: there is none, or several.
        """
        return self._structure(arguments)

    def _structure(self, arguments: Arguments) -> Structure:
        """The structure named, or the only one."""
        known = {structure.id: structure for structure in self._context.structures()}
        name = arguments.get("structure")
        if name is None and len(known) == 1:
            return next(iter(known.values()))
        if name is None:
            raise RecordStateError("several_structures")
        if name not in known:
            raise RecordStateError("no_such_structure")
        return known[name]

    def _ins(self, arguments: Arguments) -> InsMatricule:
        return parse_ins(str(arguments["ins"]), str(arguments["oid"]), self._context.environment)

    async def _found(self, structure: Structure, ins: InsMatricule) -> Mapping[str, Any]:
        row = await self._context.record.first(
            select(patient).where(
                patient.c.structure_id == structure.id,
                patient.c.matricule == ins.value,
                patient.c.oid == ins.oid,
            )
        )
        if row is None:
            raise RecordStateError("no_such_patient")
        return row._asdict()

    async def _note(
        self,
        kind: str,
        arguments: Arguments,
        subject: str | None,
        facts: Mapping[str, str | int | bool] | None = None,
    ) -> None:
        extra = (
            {"reason": str(arguments["reason"])[:MAX_REASON]} if arguments.get("reason") else {}
        )
        event = AuditEvent(
            kind,
            self._context.clock(),
            actor_of(arguments),
            arguments.get("structure"),
            subject,
            {**(facts or {}), **extra},
        )
        await self._context.record.write(_append, event)


def _append(connection: sqlite3.Connection, event: AuditEvent) -> None:
    append(connection, TRAIL, [event])


def actor_of(arguments: Arguments) -> str:
    """Who gives a command, as the trail names them."""
    return str(arguments.get("actor") or f"cli:{os.getuid()}")


def reason_of(arguments: Arguments) -> str:
    """Why a person decides so; one line.

    Raises:
        RecordStateError: nothing is said (``no_reason``).
    """
    reason = " ".join(str(arguments.get("reason") or "").split())[:MAX_REASON]
    if not reason:
        raise RecordStateError("no_reason")
    return reason
