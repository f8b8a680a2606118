"""Closing records, and until when they are kept; nothing is destroyed here.

| command | arguments (with actor, reason) | result |
|---|---|---|
| record_close | a patient, perhaps died (AAAA-MM-JJ) | ``closed``, ``kept_until``, ``source`` |
| record_open_again | a patient | ``closed``, ``filed`` |
| retention_policy | structure, perhaps text (TOML) that becomes the policy | the policy |
| retention_list | structure, perhaps due | records with their deadlines |
| retention_suspend, retention_resume | a patient | ``suspended`` |

A closed record takes no document (RULES §2: it waits, 906), and nothing new of its patient's own;
its patient alone reads it. What waited is judged again when it is opened again.

Source: RULES §6, RULES §13, MSS-FACTS §6.4.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from directory.audit_event import AuditEvent
from directory.trail import append
from record_bridge import life
from record_bridge.command_desk import CommandDesk, actor_of, reason_of
from record_bridge.errors import RecordStateError
from record_bridge.formats.dtm import paris_day
from record_bridge.repository import insert, micros
from record_bridge.retention import parse_policy
from record_bridge.retention_queries import KeptRecord, RetentionQueries
from record_bridge.schema import TRAIL

Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Step:
    """What a person does about a record (``patient_id``), or a structure's policy (``text``)."""

    structure_id: str
    actor: str
    reason: str
    at: datetime
    patient_id: int = 0
    died: str | None = None
    text: str = ""


class RetentionCommands:
    """Closing and keeping, by command."""

    def __init__(self, commands: CommandDesk) -> None:
        self._commands = commands
        self._queries = RetentionQueries(commands.database)

    def table(self) -> dict[str, Callable[[Arguments], Awaitable[Any]]]:
        """Give every command by name."""
        return {
            "record_close": self.record_close,
            "record_open_again": self.record_open_again,
            "retention_policy": self.retention_policy,
            "retention_list": self.retention_list,
            "retention_suspend": self.retention_suspend,
            "retention_resume": self.retention_resume,
        }

    async def record_close(self, arguments: Arguments) -> dict[str, Any]:
        """Close a record: it is kept, takes nothing more, and its patient alone reads it.

        Raises:
            RecordStateError: there is no such patient, no reason, or no such day.
        """
        step, person = await self._step(arguments)
        died = None
        if arguments.get("died"):
            born = life.civil_day(person["birth_date"], paris_day(step.at))
            died = life.civil_day(arguments["died"], paris_day(step.at), born=born).isoformat()
        await self._commands.write(_close, replace(step, died=died))
        kept = await self._queries.of_patient(step.patient_id, step.at)
        return {"closed": True} | ({} if kept is None else _deadline(kept))

    async def record_open_again(self, arguments: Arguments) -> dict[str, Any]:
        """Open a closed record again, and judge again what waited for it.

        Raises:
            RecordStateError: there is no such patient, or no reason.
        """
        step, person = await self._step(arguments)
        await self._commands.write(_open_again, step)
        return {"closed": False, "filed": await self._commands.judge_again(person)}

    async def retention_policy(self, arguments: Arguments) -> dict[str, Any]:
        """Show a structure's policy; set it first when there is a text.

        Raises:
            RecordStateError: the text is no policy, or comes without a reason.
        """
        structure_id = self._commands.structure_of(arguments).id
        if arguments.get("text"):
            text = str(arguments["text"])
            parse_policy(text)
            step = _Step(
                structure_id,
                actor_of(arguments),
                reason_of(arguments),
                self._commands.now(),
                text=text,
            )
            await self._commands.write(_set_policy, step)
        found = await self._queries.policy(structure_id)
        return {
            "structure": structure_id,
            "title": found.policy.title,
            "set_by": found.set_by or None,
            "set_at": None if found.set_at is None else found.set_at.isoformat(),
            "text": found.text,
            "rules": [
                {
                    "id": rule.id,
                    "label": rule.label,
                    "starts": rule.starts.value,
                    "years": rule.years,
                    "within_years": rule.within_years,
                    "source": rule.source,
                    "status": rule.status.value,
                }
                for rule in found.policy.rules
            ],
        }

    async def retention_list(self, arguments: Arguments) -> list[dict[str, Any]]:
        """List records with their deadlines, of one structure or of all; it is in the trail."""
        at = self._commands.now()
        ids = (
            [self._commands.structure_of(arguments).id]
            if arguments.get("structure")
            else [each.id for each in self._commands.structures()]
        )
        found = [kept for each in ids for kept in await self._queries.of_structure(each, at)]
        if arguments.get("due"):
            today = paris_day(at)
            found = [each for each in found if each.deadline and each.deadline.day < today]
        await self._commands.note("retention_listed", arguments, "retention")
        return [
            {
                "structure": each.structure_id,
                "ins": each.matricule,
                "oid": each.oid,
                "last_activity": each.facts.last_activity.isoformat(),
                "closed": None if each.facts.closed is None else each.facts.closed.isoformat(),
                "died": None if each.facts.died is None else each.facts.died.isoformat(),
                "suspended": each.facts.disputed,
                **_deadline(each),
            }
            for each in found
        ]

    async def retention_suspend(self, arguments: Arguments) -> dict[str, Any]:
        """Suspend a record's deadline: somebody is in dispute about what was done.

        Raises:
            RecordStateError: there is no such patient, or no reason.
        """
        step, _ = await self._step(arguments)
        await self._commands.write(_suspend, step)
        return {"suspended": True}

    async def retention_resume(self, arguments: Arguments) -> dict[str, Any]:
        """End a suspension.

        Raises:
            RecordStateError: there is none (``nothing_to_undo``), or no reason.
        """
        step, _ = await self._step(arguments)
        await self._commands.write(_resume, step)
        return {"suspended": False}

    async def _step(self, arguments: Arguments) -> tuple[_Step, Mapping[str, Any]]:
        person = await self._commands.record_of(arguments)
        step = _Step(
            person["structure_id"],
            actor_of(arguments),
            reason_of(arguments),
            self._commands.now(),
            int(person["id"]),
        )
        return step, person


def _deadline(kept: KeptRecord) -> dict[str, Any]:
    if kept.deadline is None:
        return {"kept_until": None, "rule": None, "source": None, "status": None}
    return {
        "kept_until": kept.deadline.day.isoformat(),
        "rule": kept.deadline.rule.label,
        "source": kept.deadline.rule.source,
        "status": kept.deadline.rule.status.value,
    }


def _close(connection: sqlite3.Connection, step: _Step) -> None:
    closed = connection.execute(
        "UPDATE patient SET closed_at = coalesce(closed_at, :at),"
        " died_on = coalesce(:died, died_on)"
        " WHERE id = :id AND (closed_at IS NULL OR :died IS NOT NULL)",
        {"at": micros(step.at), "died": step.died, "id": step.patient_id},
    )
    if closed.rowcount == 1:
        _note(connection, "record_closed", step)


def _open_again(connection: sqlite3.Connection, step: _Step) -> None:
    opened = connection.execute(
        "UPDATE patient SET closed_at = NULL, died_on = NULL"
        " WHERE id = ? AND closed_at IS NOT NULL",
        (step.patient_id,),
    )
    if opened.rowcount == 1:
        _note(connection, "record_opened_again", step)


def _suspend(connection: sqlite3.Connection, step: _Step) -> None:
    if connection.execute(
        "SELECT 1 FROM retention_hold WHERE patient_id = ? AND until_at IS NULL",
        (step.patient_id,),
    ).fetchone():
        return
    values = {"patient_id": step.patient_id, "said_by": step.actor, "since_at": micros(step.at)}
    insert(connection, "retention_hold", values)
    _note(connection, "retention_suspended", step)


def _resume(connection: sqlite3.Connection, step: _Step) -> None:
    ended = connection.execute(
        "UPDATE retention_hold SET until_at = ? WHERE patient_id = ? AND until_at IS NULL",
        (micros(step.at), step.patient_id),
    )
    if ended.rowcount != 1:
        raise RecordStateError("nothing_to_undo")
    _note(connection, "retention_resumed", step)


def _set_policy(connection: sqlite3.Connection, step: _Step) -> None:
    values = {
        "structure_id": step.structure_id,
        "text": step.text,
        "set_by": step.actor,
        "set_at": micros(step.at),
    }
    insert(connection, "retention_policy", values)
    _note(connection, "retention_policy_set", step)


def _note(connection: sqlite3.Connection, kind: str, step: _Step) -> None:
    subject = f"patient:{step.patient_id}" if step.patient_id else "retention"
    facts: dict[str, str | int | bool] = {"reason": step.reason}
    event = AuditEvent(kind, step.at, step.actor, step.structure_id, subject, facts)
    append(connection, TRAIL, [event])
