"""Documents that leave: withdrawn, restored, or moved out of a record they never belonged to.

| command | arguments | result |
|---|---|---|
| record_withdraw | structure, document, reason | ``documents``, ``notices`` |
| record_restore | structure, document, reason | ``documents`` |
| record_refile | structure, document, reason, perhaps ins and oid | the same |
| notice_list | actor, structure | notices |
| notice_seen | id, actor | ``seen`` |

Source: RULES §6, RULES §13.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from directory.audit_event import AuditEvent
from directory.trail import append
from record_bridge import withdrawing
from record_bridge.command_desk import CommandDesk, actor_of, reason_of
from record_bridge.errors import RecordStateError
from record_bridge.repository import micros, moment
from record_bridge.schema import TRAIL, notice
from record_bridge.withdrawing import Changed, Decision

Arguments = Mapping[str, Any]
Apply = Callable[[sqlite3.Connection, Decision], Changed]


@dataclass(frozen=True, slots=True)
class _Step:
    """One change of a document with the event that says it."""

    decision: Decision
    structure_id: str
    patient_id: int | None = None


class WithdrawalCommands:
    """What takes documents out of sight, and back."""

    def __init__(self, commands: CommandDesk) -> None:
        self._commands = commands

    def table(self) -> dict[str, Callable[[Arguments], Awaitable[Any]]]:
        """Give every command by name."""
        return {
            "record_withdraw": self.record_withdraw,
            "record_restore": self.record_restore,
            "record_refile": self.record_refile,
            "notice_list": self.notice_list,
            "notice_seen": self.notice_seen,
        }

    async def record_withdraw(self, arguments: Arguments) -> dict[str, Any]:
        """Withdraw a document: it stays in the history and leaves every list.

        Raises:
            RecordStateError: there is no such document, no reason, or it is withdrawn already.
        """
        step = await self._step(arguments)
        changed = await self._commands.write(_withdraw, step)
        return await self._told(step, changed)

    async def record_restore(self, arguments: Arguments) -> dict[str, Any]:
        """Undo a withdrawal; what the document says comes back to the agenda.

        Raises:
            RecordStateError: there is no such document, no reason, or it is not withdrawn.
        """
        step = await self._step(arguments)
        changed = await self._commands.write(_restore, step)
        await self._commands.revive(changed.current)
        return await self._told(step, changed)

    async def record_refile(self, arguments: Arguments) -> dict[str, Any]:
        """Put a wrong filing right: into the record of ``ins``, or back into quarantine.

        Raises:
            RecordStateError: there is no such document, patient or reason; the patient is not
                one who takes documents; or it came from another site.
        """
        person = await self._commands.find(arguments) if arguments.get("ins") else None
        step = await self._step(arguments, None if person is None else int(person["id"]))
        changed = await self._commands.write(_refile, step)
        await self._commands.revive(changed.current)
        self._commands.wake()
        return await self._told(step, changed)

    async def notice_list(self, arguments: Arguments) -> list[dict[str, Any]]:
        """List what somebody is to know of documents that they opened, newest first.

        Of everyone when ``addressee`` is not said: for who is responsible for the records.
        """
        wanted = select(notice).order_by(notice.c.id.desc()).limit(500)
        if arguments.get("addressee"):
            wanted = wanted.where(notice.c.addressee == str(arguments["addressee"]))
        if arguments.get("structure"):
            wanted = wanted.where(notice.c.structure_id == str(arguments["structure"]))
        return [
            {
                "id": row.id,
                "addressee": row.addressee,
                "kind": row.kind,
                "at": moment(row.at).isoformat(),
                "seen": row.seen_at is not None,
            }
            for row in await self._commands.read(wanted)
        ]

    async def notice_seen(self, arguments: Arguments) -> dict[str, Any]:
        """Note that somebody knows.

        Raises:
            RecordStateError: the notice is not theirs.
        """
        value = (int(arguments["id"]), actor_of(arguments), self._commands.now())
        if not await self._commands.write(_seen, value):
            raise RecordStateError("no_such_entry")
        return {"seen": True}

    async def _step(self, arguments: Arguments, patient_id: int | None = None) -> _Step:
        reason = reason_of(arguments)
        row = await self._commands.document(arguments)
        structure = self._commands.structure(row["structure_id"])
        decision = Decision(
            int(row["id"]),
            actor_of(arguments),
            reason,
            self._commands.now(),
            structure.release_delay_days,
        )
        return _Step(decision, structure.id, patient_id)

    async def _told(self, step: _Step, changed: Changed) -> dict[str, Any]:
        notices = await self._commands.read(
            select(notice.c.id).where(
                notice.c.document_id.in_(changed.documents),
                notice.c.at == micros(step.decision.at),
            )
        )
        return {"documents": len(changed.documents), "notices": len(notices)}


def _withdraw(connection: sqlite3.Connection, step: _Step) -> Changed:
    changed = withdrawing.withdraw(connection, step.decision)
    _note(connection, "document_withdrawn", step, changed)
    return changed


def _restore(connection: sqlite3.Connection, step: _Step) -> Changed:
    changed = withdrawing.restore(connection, step.decision)
    _note(connection, "document_restored", step, changed)
    return changed


def _refile(connection: sqlite3.Connection, step: _Step) -> Changed:
    """Take out, and put where it belongs when a person knows where: one transaction."""
    left = withdrawing.take_out(connection, step.decision)
    _note(connection, "document_taken_out", step, left)
    if step.patient_id is None:
        return left
    put = withdrawing.put_back(connection, step.decision, step.patient_id)
    _note(connection, "document_filed", step, put)
    return Changed(put.patient_id, put.documents, (*left.current, *put.current))


def _note(connection: sqlite3.Connection, kind: str, step: _Step, changed: Changed) -> None:
    decision = step.decision
    append(
        connection,
        TRAIL,
        [
            AuditEvent(
                kind,
                decision.at,
                decision.actor,
                step.structure_id,
                f"patient:{changed.patient_id}",
                {"document_id": document_id, "reason": decision.reason},
            )
            for document_id in changed.documents
        ],
    )


def _seen(connection: sqlite3.Connection, value: tuple[int, str, datetime]) -> bool:
    key, actor, at = value
    cursor = connection.execute(
        "UPDATE notice SET seen_at = ? WHERE id = ? AND addressee = ? AND seen_at IS NULL",
        (micros(at), key, actor),
    )
    return cursor.rowcount == 1
