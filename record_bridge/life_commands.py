"""What the record's only writer does for what patients add: files, profile, wishes, oppositions.

Everything is kept under the patient's name and marked as theirs; nothing is rewritten: a line is
removed, a directive withdrawn, an opposition taken back, and the trail says when.

Source: RULES §7, RULES §13, MSS-FACTS §6.4, MSS-FACTS §7.1.
"""

import base64
import binascii
import hashlib
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from directory.audit_event import AuditEvent
from directory.database import Database
from directory.trail import append
from record_bridge import identity_storing, life
from record_bridge.errors import RecordStateError
from record_bridge.formats.dtm import paris_day
from record_bridge.life import DirectiveKind, ProfileKind
from record_bridge.model import OppositionScope
from record_bridge.repository import insert, micros, store_chunks
from record_bridge.schema import TRAIL

Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Patient:
    structure_id: str
    born: date


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that a person changes in a record.

    Attributes:
        event: what the trail calls it.
        key: of the row changed, 0 for a new one.
        values: columns of a new row.
        content: octets of a new file.
    """

    patient_id: int
    actor: str
    at: datetime
    event: str
    key: int = 0
    values: Mapping[str, Any] | None = None
    content: bytes = b""


class LifeCommands:
    """What patients add, by command.

    | command | arguments (with patient_id, actor) | result |
    |---|---|---|
    | deposit_add | title, name, content (base64) | ``id`` |
    | deposit_withdraw | id | ``withdrawn`` |
    | profile_add | kind, text or measure and value, day | ``id`` |
    | profile_remove | id | ``removed`` |
    | directive_write | kind, day, text, person, contact | ``id``, ``version`` |
    | directive_withdraw | id | ``withdrawn`` |
    | opposition_set | scope, opposed | ``opposed`` |
    """

    def __init__(self, record: Database, clock: Callable[[], datetime]) -> None:
        self._record = record
        self._clock = clock

    def table(self) -> dict[str, Callable[[Arguments], Awaitable[Any]]]:
        """Give every command by name."""
        return {
            "deposit_add": self.deposit_add,
            "deposit_withdraw": self.deposit_withdraw,
            "profile_add": self.profile_add,
            "profile_remove": self.profile_remove,
            "directive_write": self.directive_write,
            "directive_withdraw": self.directive_withdraw,
            "opposition_set": self.opposition_set,
        }

    async def deposit_add(self, arguments: Arguments) -> dict[str, Any]:
        """Keep a file of the patient.

        Raises:
            RecordStateError: it is not one that may be kept, or there are too many.
        """
        values, content = given_file(arguments)
        values |= {"visibility": "visible"}
        change = self._change(arguments, "deposit_added", values=values, content=content)
        return {"id": await self._record.write(add_deposit, change)}

    async def deposit_withdraw(self, arguments: Arguments) -> dict[str, Any]:
        """Take a file of the patient out of sight; its octets stay for the trail.

        Raises:
            RecordStateError: there is none to withdraw.
        """
        change = self._change(arguments, "deposit_withdrawn", key=int(arguments["id"]))
        await self._record.write(_end("deposit", "withdrawn_at"), change)
        return {"withdrawn": True}

    async def profile_add(self, arguments: Arguments) -> dict[str, Any]:
        """Note a line of the medical profile.

        Raises:
            RecordStateError: it says nothing, or nothing that can be meant.
        """
        kind = _of(ProfileKind, arguments["kind"])
        values: dict[str, Any] = {"kind": kind.value, "value": "", "unit": "", "day": None}
        today = paris_day(self._clock())
        if arguments.get("day"):
            values["day"] = life.civil_day(arguments["day"], today).isoformat()
        if kind is ProfileKind.MEASUREMENT:
            code = str(arguments.get("measure"))
            values["value"] = life.measured(code, arguments.get("value"))
            values["text"] = code
            values["unit"] = life.MEASURES[code].unit
            values["day"] = values["day"] or today.isoformat()
        else:
            values["text"] = life.line(arguments.get("text"))
        if not values["text"]:
            raise RecordStateError("no_title")
        change = self._change(arguments, "profile_noted", values=values)
        return {"id": await self._record.write(_add_item, change)}

    async def profile_remove(self, arguments: Arguments) -> dict[str, Any]:
        """Remove a line of the medical profile.

        Raises:
            RecordStateError: there is none to remove.
        """
        change = self._change(arguments, "profile_removed", key=int(arguments["id"]))
        await self._record.write(_end("profile_item", "removed_at"), change)
        return {"removed": True}

    async def directive_write(self, arguments: Arguments) -> dict[str, Any]:
        """Write a new version of advance directives, or name a trusted person.

        The version before it is withdrawn in the same transaction.

        Raises:
            RecordStateError: it says nothing or too much, or its day cannot be.
        """
        kind = _of(DirectiveKind, arguments["kind"])
        values = {
            "kind": kind.value,
            "day": life.civil_day(arguments["day"], paris_day(self._clock())).isoformat(),
            "text": life.paragraph(arguments.get("text"), life.MAX_TEXT + 1),
            "person": life.line(arguments.get("person"), life.MAX_TITLE),
            "contact": life.line(arguments.get("contact"), life.MAX_TITLE),
        }
        is_person = kind is DirectiveKind.TRUSTED_PERSON
        if not (values["person"] if is_person else values["text"]):
            raise RecordStateError("no_title")
        if len(values["text"]) > life.MAX_TEXT:
            raise RecordStateError("too_long")
        change = self._change(arguments, "directive_written", values=values)
        key, version = await self._record.write(_write_directive, change)
        return {"id": key, "version": version}

    async def directive_withdraw(self, arguments: Arguments) -> dict[str, Any]:
        """Withdraw advance directives, or the naming of a trusted person.

        Raises:
            RecordStateError: there is none to withdraw.
        """
        change = self._change(arguments, "directive_withdrawn", key=int(arguments["id"]))
        await self._record.write(_end("directive", "withdrawn_at"), change)
        return {"withdrawn": True}

    async def opposition_set(self, arguments: Arguments) -> dict[str, Any]:
        """Oppose something, or take an opposition back; saying it twice changes nothing."""
        scope = _of(OppositionScope, arguments["scope"])
        opposed = bool(arguments["opposed"])
        event = "opposition_said" if opposed else "opposition_taken_back"
        change = self._change(arguments, event, values={"scope": scope.value})
        await self._record.write(_oppose if opposed else _allow, change)
        return {"opposed": opposed}

    def _change(
        self,
        arguments: Arguments,
        event: str,
        *,
        key: int = 0,
        values: Mapping[str, Any] | None = None,
        content: bytes = b"",
    ) -> Change:
        return Change(
            int(arguments["patient_id"]),
            str(arguments["actor"]),
            self._clock(),
            event,
            key,
            values,
            content,
        )


def given_file(arguments: Arguments) -> tuple[dict[str, Any], bytes]:
    """Give the columns that say what a file is, and its octets.

    Args:
        arguments: title, name, content (base64).

    Raises:
        RecordStateError: it is not one that may be kept (see ``life.sniff``).
    """
    try:
        content = base64.b64decode(arguments["content"], validate=True)
    except binascii.Error:
        raise RecordStateError("file_type") from None
    media_type = life.sniff(content, str(arguments["name"]))
    title = life.line(arguments.get("title"), life.MAX_TITLE)
    values = {
        "title": title or "Document",
        "media_type": media_type,
        "sha256": hashlib.sha256(content).digest(),
        "octets": len(content),
    }
    return values, content


def _of(kind: type[Any], value: object) -> Any:
    try:
        return kind(str(value))
    except ValueError:
        raise RecordStateError("no_such_kind") from None


def _patient(connection: sqlite3.Connection, patient_id: int) -> _Patient:
    row = connection.execute(
        "SELECT structure_id, birth_date FROM patient WHERE id = ?", (patient_id,)
    ).fetchone()
    if row is None:
        raise RecordStateError("no_such_patient")
    return _Patient(str(row[0]), date.fromisoformat(row[1]))


def _note(connection: sqlite3.Connection, change: Change, structure_id: str) -> None:
    subject = f"patient:{change.patient_id}"
    event = AuditEvent(change.event, change.at, change.actor, structure_id, subject)
    append(connection, TRAIL, [event])


def _bounded(connection: sqlite3.Connection, change: Change, what: tuple[str, str, int]) -> None:
    table, ended, limit = what
    identity_storing.takes_more(connection, change.patient_id)
    count = connection.execute(
        f"SELECT count(*) FROM {table}"  # noqa: S608 - constants
        f" WHERE patient_id = ? AND {ended} IS NULL",
        (change.patient_id,),
    ).fetchone()[0]
    if count >= limit:
        raise RecordStateError("too_many")


def add_deposit(connection: sqlite3.Connection, change: Change) -> int:
    """Keep a file of the patient and give its key; for a transaction of the record.

    Raises:
        RecordStateError: there are too many, or the record is closed.
    """
    known = _patient(connection, change.patient_id)
    _bounded(connection, change, ("deposit", "withdrawn_at", life.MAX_DEPOSITS))
    values = {
        **(change.values or {}),
        "patient_id": change.patient_id,
        "deposited_by": change.actor,
        "deposited_at": micros(change.at),
    }
    key = insert(connection, "deposit", values)
    store_chunks(connection, "deposit_chunk", "deposit_id", (key, change.content))
    _note(connection, change, known.structure_id)
    return key


def _add_item(connection: sqlite3.Connection, change: Change) -> int:
    known = _patient(connection, change.patient_id)
    _bounded(connection, change, ("profile_item", "removed_at", life.MAX_ITEMS))
    day = (change.values or {}).get("day")
    if day is not None and date.fromisoformat(day) < known.born:
        raise RecordStateError("no_such_day")
    values = {
        **(change.values or {}),
        "patient_id": change.patient_id,
        "noted_by": change.actor,
        "noted_at": micros(change.at),
    }
    key = insert(connection, "profile_item", values)
    _note(connection, change, known.structure_id)
    return key


def _write_directive(connection: sqlite3.Connection, change: Change) -> tuple[int, int]:
    known = _patient(connection, change.patient_id)
    identity_storing.takes_more(connection, change.patient_id)
    values = change.values or {}
    version = connection.execute(
        "SELECT coalesce(max(version), 0) + 1 FROM directive WHERE patient_id = ? AND kind = ?",
        (change.patient_id, values["kind"]),
    ).fetchone()[0]
    connection.execute(
        "UPDATE directive SET withdrawn_at = ?"
        " WHERE patient_id = ? AND kind = ? AND withdrawn_at IS NULL",
        (micros(change.at), change.patient_id, values["kind"]),
    )
    key = insert(
        connection,
        "directive",
        {
            **values,
            "patient_id": change.patient_id,
            "version": version,
            "noted_by": change.actor,
            "noted_at": micros(change.at),
        },
    )
    _note(connection, change, known.structure_id)
    return key, version


def _end(table: str, column: str) -> Callable[[sqlite3.Connection, Change], None]:
    """Make what ends a row of a table: it stays, and is no longer current."""

    def end(connection: sqlite3.Connection, change: Change) -> None:
        known = _patient(connection, change.patient_id)
        cursor = connection.execute(
            f"UPDATE {table} SET {column} = ?"  # noqa: S608 - constants
            f" WHERE id = ? AND patient_id = ? AND {column} IS NULL",
            (micros(change.at), change.key, change.patient_id),
        )
        if cursor.rowcount != 1:
            raise RecordStateError("no_such_entry")
        _note(connection, change, known.structure_id)

    return end


def _oppose(connection: sqlite3.Connection, change: Change) -> None:
    known = _patient(connection, change.patient_id)
    cursor = connection.execute(
        "INSERT INTO opposition (patient_id, scope, said_by, since_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (
            change.patient_id,
            (change.values or {})["scope"],
            change.actor,
            micros(change.at),
        ),
    )
    if cursor.rowcount == 1:
        _note(connection, change, known.structure_id)


def _allow(connection: sqlite3.Connection, change: Change) -> None:
    known = _patient(connection, change.patient_id)
    cursor = connection.execute(
        "UPDATE opposition SET until_at = ?"
        " WHERE patient_id = ? AND scope = ? AND until_at IS NULL",
        (micros(change.at), change.patient_id, (change.values or {})["scope"]),
    )
    if cursor.rowcount == 1:
        _note(connection, change, known.structure_id)
