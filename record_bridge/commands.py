"""What the command line and the webmail ask of the record, as JSON-able arguments and results.

Commands run in the process that owns the record database: the bridge child, or the command line
itself when nothing serves. Each one that shows or changes a person's data writes an event to the
trail (RULES §13); ``actor`` is ``cli:<os user>``, ``account:<id>`` and so on, given by the caller.

| command | arguments | result |
|---|---|---|
| patient_add | structure, ins, oid, traits, status | the patient, ``filed`` |
| patient_change | structure, ins, oid, what changes, doubtful, fictitious | the same |
| patient_list | structure | patients |
| record_list | structure, ins, oid | documents |
| record_release | structure, unique_id | ``released`` |
| agenda_list | structure, ins, oid | entries |
| agenda_decide | patient_id, entry_id, decision (confirmed, dismissed, done) | ``decided`` |
| quarantine_list | structure | rows |
| note_access | patient_id, kind, document_id or documents (unique ids) | ``noted`` |
| status | | ``running``, ``filed``, ``quarantined`` (late ones too), ``waiting_replies`` |
| idle | | ``idle``, ``waiting`` |
"""

import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select

from record_bridge import lateness, progress, quarantine, record_storing
from record_bridge.command_desk import MAX_REASON, Arguments, CommandDesk, actor_of
from record_bridge.errors import InsError, RecordStateError
from record_bridge.ins import TraitsText, parse_traits
from record_bridge.model import (
    AgendaStatus,
    IdentityStatus,
    InsMatricule,
    InsTraits,
    Visibility,
)
from record_bridge.repository import moment
from record_bridge.schema import agenda_entry, document, patient
from record_bridge.schema import quarantine as quarantine_table

ACCESS_KINDS = frozenset(
    {
        "record_read",
        "document_read",
        "agenda_read",
        "results_read",
        "medications_read",
        "document_pdf",
        "calendar_read",
        "record_exported",
        "access_refused",
        "pack_read",
    }
)
"""What ``note_access`` may write."""
_DECISIONS = {
    "confirmed": AgendaStatus.CONFIRMED,
    "dismissed": AgendaStatus.DISMISSED,
    "done": AgendaStatus.HISTORY,
}


class RecordCommands(CommandDesk):
    """Every command, by name in ``table()``."""

    def table(self) -> dict[str, Callable[[Arguments], Awaitable[Any]]]:
        """Give every command by name."""
        return {
            "patient_add": self.patient_add,
            "patient_change": self.patient_change,
            "patient_list": self.patient_list,
            "record_list": self.record_list,
            "record_release": self.record_release,
            "agenda_list": self.agenda_list,
            "agenda_decide": self.agenda_decide,
            "quarantine_list": self.quarantine_list,
            "note_access": self.note_access,
            "status": self.status,
            "idle": self.idle,
        }

    async def patient_add(self, arguments: Arguments) -> dict[str, Any]:
        """Register a patient, then judge again what waits for this identity.

        Raises:
            InsError: a matricule or a trait is not well formed.
            RecordStateError: no such structure, or the identity is registered already.
        """
        structure = self._structure(arguments)
        ins, traits = self._identity(arguments)
        status = _status(arguments.get("status") or IdentityStatus.QUALIFIEE.value)
        patient_id = await self._context.record.write(
            record_storing.add_patient,
            record_storing.NewPatient(
                structure.id,
                ins,
                traits,
                status,
                f"{ins.value.lower()}@{structure.patient_domain}",
                actor_of(arguments),
                self._context.clock(),
            ),
        )
        filed = await self._context.rematch(structure, ins)
        self._context.wake()
        return {**await self._patient(patient_id), "filed": filed}

    async def patient_change(self, arguments: Arguments) -> dict[str, Any]:
        """Correct or qualify an identity, then judge again what waits for it."""
        structure = self._structure(arguments)
        ins = self._ins(arguments)
        known = await self._found(structure, ins)
        names = ("family", "given", "birth_date", "sex", "birth_place")
        merged = {
            name: arguments[name] if arguments.get(name) is not None else known[name]
            for name in (*names, "status", "doubtful", "fictitious")
        }
        traits = parse_traits(TraitsText(**{name: merged[name] for name in names}))
        await self._context.record.write(
            record_storing.change_patient,
            record_storing.ChangedPatient(
                known["id"],
                structure.id,
                traits,
                _status(merged["status"]),
                bool(merged["doubtful"]),
                bool(merged["fictitious"]),
                actor_of(arguments),
                self._context.clock(),
                str(arguments.get("reason") or "")[:MAX_REASON],
            ),
        )
        return {**await self._patient(known["id"]), "filed": await self.judge_again(known)}

    async def patient_list(self, arguments: Arguments) -> list[dict[str, Any]]:
        """List the patients of a structure, or of the site."""
        wanted = _patients().order_by(
            patient.c.structure_id, patient.c.family, patient.c.given, patient.c.id
        )
        if arguments.get("structure"):
            wanted = wanted.where(patient.c.structure_id == arguments["structure"])
        rows = await self._context.record.all(wanted)
        await self._note("patients_listed", arguments, None, {"count": len(rows)})
        return [_patient_json(row._asdict()) for row in rows]

    async def record_list(self, arguments: Arguments) -> list[dict[str, Any]]:
        """List every document of a patient, hidden ones and old versions included."""
        known = await self.record_of(arguments)
        rows = await self._context.record.all(
            select(document)
            .where(document.c.patient_id == known["id"])
            .order_by(document.c.filed_at, document.c.id)
        )
        await self._note("record_listed", arguments, f"patient:{known['id']}")
        return [
            {
                "id": row.id,
                "unique_id": row.unique_id,
                "type_code": row.type_code,
                "class_code": row.class_code,
                "title": row.title,
                "status": row.status,
                "visibility": row.visibility or Visibility.VISIBLE.value,
                "marks": row.marks.split(),
                "received_at": moment(row.received_at).isoformat(),
                "sha256": row.sha256.hex(),
            }
            for row in rows
        ]

    async def record_release(self, arguments: Arguments) -> dict[str, Any]:
        """Let the patient see a document.

        Raises:
            RecordStateError: there is no such document, or its patient sees it already.
        """
        structure = self._structure(arguments)
        await self._context.record.write(
            record_storing.release,
            record_storing.Release(
                structure.id,
                str(arguments["unique_id"]),
                actor_of(arguments),
                str(arguments.get("reason") or "")[:MAX_REASON],
                self._context.clock(),
            ),
        )
        self._context.wake()
        return {"released": True}

    async def agenda_list(self, arguments: Arguments) -> list[dict[str, Any]]:
        """List a patient's agenda."""
        known = await self.record_of(arguments)
        rows = await self._context.record.all(_agenda(known["id"]))
        await self._note("agenda_listed", arguments, f"patient:{known['id']}")
        return [
            {
                "id": row.id,
                "start": row.day if row.start_at is None else moment(row.start_at).isoformat(),
                "title": row.title,
                "kind": row.kind,
                "status": row.status,
                "source_unique_id": row.unique_id,
                "source_status": row.source_status,
            }
            for row in rows
        ]

    async def agenda_decide(self, arguments: Arguments) -> dict[str, Any]:
        """Note that the patient confirmed or dismissed an entry.

        Raises:
            RecordStateError: the patient has no such entry.
        """
        await self._context.record.write(
            record_storing.decide,
            record_storing.AgendaDecision(
                int(arguments["patient_id"]),
                int(arguments["entry_id"]),
                _decision(arguments["decision"]),
                actor_of(arguments),
                self._context.clock(),
            ),
        )
        return {"decided": True}

    async def quarantine_list(self, arguments: Arguments) -> list[dict[str, Any]]:
        """List what waits for a person's decision."""
        table = quarantine_table
        wanted = select(table).where(table.c.state == "open").order_by(table.c.id)
        if arguments.get("structure"):
            wanted = wanted.where(table.c.structure_id == arguments["structure"])
        rows = await self._context.record.all(wanted)
        await self._note("quarantine_listed", arguments, None, {"count": len(rows)})
        return [quarantine.item_json(row._asdict(), self._context.clock()) for row in rows]

    async def note_access(self, arguments: Arguments) -> dict[str, Any]:
        """Write that somebody opened a patient's record, or documents of it (RULES §13).

        Several that are shown together are one event; each is kept for when it leaves.
        """
        facts: dict[str, str | int | bool] = {}
        if arguments.get("document_id") is not None:
            facts["document_id"] = int(arguments["document_id"])
        subject = f"patient:{int(arguments['patient_id'])}"
        kind = str(arguments.get("kind") or ("document_read" if facts else "record_read"))
        if kind not in ACCESS_KINDS:
            raise RecordStateError("no_such_kind")
        await self._note(kind, arguments, subject, facts)
        if arguments.get("documents"):
            await self.note_shown(arguments, int(arguments["patient_id"]), arguments["documents"])
        return {"noted": True}

    async def status(self, _arguments: Arguments) -> dict[str, Any]:
        """Say that the bridge lives, and what it did."""
        counts = await self._context.record.write(_counts, self._context.clock())
        return {"running": True, **counts}

    async def idle(self, _arguments: Arguments) -> dict[str, Any]:
        """Say whether everything seen is filed, told and answered."""
        waiting = await self._context.record.write(_pending, None)
        return {"idle": waiting == 0, "waiting": waiting}

    def _identity(self, arguments: Arguments) -> tuple[InsMatricule, InsTraits]:
        return self._ins(arguments), parse_traits(
            TraitsText(
                str(arguments["family"]),
                str(arguments["given"]),
                str(arguments["birth_date"]),
                str(arguments["sex"]),
                arguments.get("birth_place"),
            )
        )

    async def _patient(self, patient_id: int) -> dict[str, Any]:
        row = await self._context.record.first(_patients().where(patient.c.id == patient_id))
        if row is None:
            raise RecordStateError("no_such_patient")
        return _patient_json(row._asdict())


def _counts(connection: sqlite3.Connection, at: datetime) -> dict[str, int]:
    row = connection.execute(
        "SELECT (SELECT count(*) FROM document WHERE patient_id IS NOT NULL),"
        " (SELECT count(*) FROM quarantine WHERE state = 'open'),"
        " (SELECT count(*) FROM reply_outbox WHERE state = 'waiting')"
    ).fetchone()
    return {
        "filed": row[0],
        "quarantined": row[1],
        "waiting_replies": row[2],
        **lateness.by_name(lateness.late(connection, at)),
    }


def _pending(connection: sqlite3.Connection, _value: None) -> int:
    return progress.pending(connection)


def _patients() -> Select[Any]:
    """Patients, with the number of the identity that each is merged into."""
    kept = patient.alias()
    return select(patient, kept.c.matricule.label("merged_into_ins")).outerjoin(
        kept, kept.c.id == patient.c.merged_into
    )


def _agenda(patient_id: int) -> Select[Any]:
    return (
        select(
            agenda_entry,
            document.c.unique_id,
            document.c.status.label("source_status"),
        )
        .join(document, document.c.id == agenda_entry.c.document_id)
        .where(agenda_entry.c.patient_id == patient_id)
        .order_by(agenda_entry.c.day.is_(None), agenda_entry.c.day, agenda_entry.c.id)
    )


def _status(text: str) -> IdentityStatus:
    try:
        return IdentityStatus(text)
    except ValueError:
        raise InsError("status") from None


def _decision(text: str) -> AgendaStatus:
    if text not in _DECISIONS:
        raise RecordStateError("no_such_decision")
    return _DECISIONS[text]


def _patient_json(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "structure": row["structure_id"],
        "ins": row["matricule"],
        "oid": row["oid"],
        "family": row["family"],
        "given": row["given"],
        "birth_date": row["birth_date"],
        "sex": row["sex"],
        "birth_place": row["birth_place"],
        "status": row["status"],
        "doubtful": bool(row["doubtful"]),
        "fictitious": bool(row["fictitious"]),
        "address": row["address"],
        "merged_into": row["merged_into_ins"],
    }
