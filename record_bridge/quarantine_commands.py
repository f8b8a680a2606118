"""Quarantine as daily work: show an item with who it may be about, decide, undo.

| command | arguments | result |
|---|---|---|
| quarantine_addressed | structure, id | whose item it is, nothing of what it says |
| quarantine_show | structure, id | the item, traits side by side, candidates |
| quarantine_decided | structure | what persons decided lately, newest first |
| quarantine_decide | structure, id, decision, reason, ins, oid | ``decision``, ``rows`` |
| quarantine_undo | structure, id, reason | ``rows`` |

A decision needs a reason and is its author's: the trail and the receipt's rows say who and why
(RULES §9), the sender gets no second notification. A person judges traits and origins; what is
unreadable, forged, contradictory, or bears another's number, nobody files (RULES §4, §5).
"""

import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import or_, select

from certs.errors import SandboxError
from directory.audit_event import AuditEvent
from directory.trail import append
from record_bridge import quarantine, withdrawing
from record_bridge.command_desk import CommandDesk, actor_of, reason_of
from record_bridge.documents import Decided
from record_bridge.errors import RecordStateError
from record_bridge.filing import ItemOutcome
from record_bridge.formats.cda_header import CdaHeader, CdaPatient
from record_bridge.identity import traits_of
from record_bridge.model import ErrorCode, InsTraits, OpenedDocument
from record_bridge.quarantine import Closing, WaitingItem
from record_bridge.quarantine_view import candidate_json, claimed_json, document_json, is_near
from record_bridge.rematching import Rematcher
from record_bridge.repository import content_of, micros
from record_bridge.schema import TRAIL, document, patient, reply_outbox
from record_bridge.schema import quarantine as rows_of

Arguments = Mapping[str, Any]
FILE, SEND_BACK, SET_ASIDE = "filed", "sent_back", "set_aside"
DECISIONS: Final = (FILE, SEND_BACK, SET_ASIDE)
MAX_CANDIDATES: Final = 20
LATELY: Final = timedelta(days=30)
MAX_DECIDED: Final = 200
"""Decisions of a structure that are listed."""


@dataclass(frozen=True, slots=True)
class _Undo:
    """A decision that is undone.

    Attributes:
        document_id: what it had filed, 0 when it filed nothing.
    """

    row_id: int
    document_id: int
    structure_id: str
    actor: str
    reason: str
    at: datetime


class QuarantineCommands:
    """What a professional does with what was not filed."""

    def __init__(self, commands: CommandDesk, rematcher: Rematcher) -> None:
        self._commands = commands
        self._rematcher = rematcher

    def table(self) -> dict[str, Callable[[Arguments], Awaitable[Any]]]:
        """Give every command by name."""
        return {
            "quarantine_addressed": self.quarantine_addressed,
            "quarantine_show": self.quarantine_show,
            "quarantine_decided": self.quarantine_decided,
            "quarantine_decide": self.quarantine_decide,
            "quarantine_undo": self.quarantine_undo,
        }

    async def quarantine_addressed(self, arguments: Arguments) -> dict[str, Any]:
        """Say which mailboxes an item came to; nothing is shown, so nothing is written.

        Raises:
            RecordStateError: there is no such item.
        """
        row = await self._row(arguments)
        return {"addressees": row["addressees"].split()}

    async def quarantine_show(self, arguments: Arguments) -> dict[str, Any]:
        """Show an item; the look is in the trail.

        Raises:
            RecordStateError: there is no such item.
        """
        row = await self._row(arguments)
        await self._commands.note(
            "quarantine_shown", arguments, f"quarantine:{row['id']}", {"receipt": row["receipt"]}
        )
        header, traits = await self._said(row)
        person = header.patients[0] if header is not None and header.patients else None
        return {
            **quarantine.item_json(row, self._commands.now()),
            "parent": row["parent_unique_id"],
            "decision": row["decision"],
            "decided_by": row["closed_by"],
            "decision_reason": row["decision_reason"],
            "answered": await self._answered(row),
            "document": None if header is None else document_json(header),
            "claimed": None if person is None else claimed_json(person),
            "candidates": await self._candidates(row, traits, person),
            "filed_for": await self._filed_for(row),
        }

    async def quarantine_decided(self, arguments: Arguments) -> list[dict[str, Any]]:
        """List what persons decided lately, newest first: a decision can be undone."""
        at, structure = self._commands.now(), self._commands.structure_of(arguments)
        rows = await self._commands.read(
            select(rows_of)
            .where(
                rows_of.c.structure_id == structure.id,
                rows_of.c.decision.is_not(None),
                rows_of.c.closed_at >= micros(at - LATELY),
            )
            .order_by(rows_of.c.closed_at.desc(), rows_of.c.id)
            .limit(MAX_DECIDED)
        )
        subject = f"structure:{structure.id}"
        await self._commands.note("quarantine_listed", arguments, subject, {"count": len(rows)})
        return [
            {**quarantine.item_json(row._asdict(), at), "decision": row.decision} for row in rows
        ]

    async def quarantine_decide(self, arguments: Arguments) -> dict[str, Any]:
        """Decide on an item, and on all that came with it in one message (RULES §2).

        Raises:
            RecordStateError: there is no such open item, no reason, no such decision; or it is
                not for a person to file it, or not in this record.
        """
        reason = reason_of(arguments)
        row = await self._row(arguments)
        if row["state"] != "open":
            raise RecordStateError("no_open_row")
        decision = str(arguments.get("decision"))
        if decision not in DECISIONS:
            raise RecordStateError("no_such_decision")
        closing = Closing(self._commands.now(), actor_of(arguments), decision, reason)
        if decision == FILE:
            rows = await self._file(arguments, row, closing)
        else:
            rows = await self._commands.write(_close, (row["structure_id"], row["id"], closing))
        await self._follow(row)
        self._commands.wake()
        return {"decision": decision, "rows": rows, "answered": await self._answered(row)}

    async def quarantine_undo(self, arguments: Arguments) -> dict[str, Any]:
        """Undo a decision: the item waits again, and what was filed leaves its record.

        What that had replaced is current again, with what it says.

        Raises:
            RecordStateError: there is no such item, no reason, or nothing to undo.
        """
        reason = reason_of(arguments)
        row = await self._row(arguments)
        if row["state"] == "open" or row["decision"] is None:
            raise RecordStateError("nothing_to_undo")
        document_id = 0
        if row["decision"] == FILE:
            document_id = await self._filed(row)
        undo = _Undo(
            row["id"],
            document_id,
            row["structure_id"],
            actor_of(arguments),
            reason,
            self._commands.now(),
        )
        rows, current = await self._commands.write(_undo, undo)
        await self._commands.revive(current)
        self._commands.wake()
        return {"rows": rows}

    async def _row(self, arguments: Arguments) -> Mapping[str, Any]:
        wanted = select(rows_of).where(rows_of.c.id == int(arguments["id"]))
        if arguments.get("structure"):
            wanted = wanted.where(rows_of.c.structure_id == str(arguments["structure"]))
        found = await self._commands.read(wanted)
        if not found:
            raise RecordStateError("no_open_row")
        row: Mapping[str, Any] = found[0]._asdict()
        return row

    async def _said(self, row: Mapping[str, Any]) -> tuple[CdaHeader | None, InsTraits | None]:
        """What the document of a row says, read again; nothing when nothing readable is kept.

        Its message is kept until somebody decides; what was taken out of a record is kept itself.
        What is in a record is read there, by who may.
        """
        item = await self._commands.write(quarantine.waiting_item, int(row["id"]))
        try:
            if item is None:
                content = await self._commands.write(_taken_out, row)
                header = None if content is None else await self._rematcher.opener.header(content)
                person = header.patients[0] if header is not None and header.patients else None
                return header, None if person is None else traits_of(person)
            opened = await self._rematcher.open(item)
        except SandboxError:
            return None, None
        documents: list[OpenedDocument | None] = []
        for package in opened.packages:
            # one that lists nothing is one occurrence (RULES §2)
            documents += package.documents or [None]
        place = int(row["position"])
        found = documents[place] if place < len(documents) else None
        return (None, None) if found is None else (found.header, found.claim.traits)

    async def _filed_for(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """In whose record a person's decision put the document, while it is there."""
        if row["decision"] != FILE:
            return None
        rows = await self._commands.read(
            select(patient.c.family, patient.c.given, patient.c.birth_date)
            .join(document, document.c.patient_id == patient.c.id)
            .where(
                document.c.structure_id == row["structure_id"],
                document.c.receipt == row["receipt"],
                document.c.position == row["position"],
            )
        )
        return dict(rows[0]._asdict()) if rows else None

    async def _candidates(
        self, row: Mapping[str, Any], traits: InsTraits | None, person: CdaPatient | None
    ) -> list[dict[str, Any]]:
        """Who of the structure it may be about: the same number, or the same birth and a name."""
        born = None if person is None else person.birth_time
        rows = await self._commands.read(
            select(patient)
            .where(patient.c.structure_id == row["structure_id"], patient.c.merged_into.is_(None))
            .where(
                or_(
                    (patient.c.matricule == row["matricule"]) & (patient.c.matricule != ""),
                    patient.c.birth_date == (born or ""),
                )
            )
            .order_by(patient.c.id)
            .limit(500)
        )
        near = [
            each._asdict() for each in rows if is_near(each._asdict(), row["matricule"], person)
        ]
        return [candidate_json(each, traits) for each in near[:MAX_CANDIDATES]]

    async def _file(self, arguments: Arguments, row: Mapping[str, Any], closing: Closing) -> int:
        named = {**arguments, "structure": row["structure_id"]}
        if not (named.get("ins") and named.get("oid")):
            raise RecordStateError("say_whose")
        person = await self._commands.find(named)
        await self._commands.write(_may_take, (row["structure_id"], int(person["id"])))
        document_id = await self._filed(row)
        if document_id:
            return await self._put_back(row, document_id, int(person["id"]), closing)
        item = await self._commands.write(quarantine.waiting_item, int(row["id"]))
        if item is None:
            raise RecordStateError("not_for_a_person")
        return await self._judge(row, item, Decided(int(person["id"]), closing))

    async def _judge(self, row: Mapping[str, Any], item: WaitingItem, decided: Decided) -> int:
        structure = self._commands.structure(str(row["structure_id"]))
        result = await self._rematcher.decide(structure, item, decided)
        if result is not None and result.code is ErrorCode.UNKNOWN_PATIENT:
            raise RecordStateError("another_number")
        if result is None or result.outcome in (ItemOutcome.QUARANTINED, ItemOutcome.FAILED):
            raise RecordStateError("not_for_a_person")
        return len(result.filed)

    async def _follow(self, row: Mapping[str, Any]) -> None:
        """Judge again what waited for the documents of a message that waits no longer."""
        rows = await self._commands.read(
            select(rows_of.c.unique_id).where(
                rows_of.c.structure_id == row["structure_id"],
                rows_of.c.receipt == row["receipt"],
                rows_of.c.state != "open",
            )
        )
        structure = self._commands.structure(str(row["structure_id"]))
        await self._rematcher.follow(structure, [each.unique_id for each in rows])

    async def _put_back(
        self, row: Mapping[str, Any], document_id: int, patient_id: int, closing: Closing
    ) -> int:
        """File what was taken out, which the row was opened for."""
        decision = withdrawing.Decision(
            document_id,
            closing.by,
            closing.reason or "",
            closing.at,
            self._commands.structure(str(row["structure_id"])).release_delay_days,
        )
        changed = await self._commands.write(_put_back, (decision, patient_id))
        await self._commands.revive(changed.current)
        return len(changed.documents)

    async def _filed(self, row: Mapping[str, Any]) -> int:
        """The document that a row's occurrence is, or was; 0 when there is none."""
        rows = await self._commands.read(
            select(document.c.id).where(
                document.c.structure_id == row["structure_id"],
                document.c.receipt == row["receipt"],
                document.c.position == row["position"],
            )
        )
        return int(rows[0].id) if rows else 0

    async def _answered(self, row: Mapping[str, Any]) -> bool:
        """Whether the sender asked for an answer, and so has its code."""
        answers = reply_outbox.c
        return bool(
            await self._commands.read(
                select(answers.id).where(
                    answers.item_id == row["item_id"], answers.state.in_(("sent", "waiting"))
                )
            )
        )


def _taken_out(connection: sqlite3.Connection, row: Mapping[str, Any]) -> bytes | None:
    """The octets of a row's document while it is in no record."""
    found = connection.execute(
        "SELECT id FROM document WHERE structure_id = ? AND receipt = ? AND position = ?"
        " AND patient_id IS NULL",
        (row["structure_id"], row["receipt"], row["position"]),
    ).fetchone()
    return None if found is None else content_of(connection, "document", int(found[0]))


def _may_take(connection: sqlite3.Connection, value: tuple[str, int]) -> None:
    withdrawing.may_take(connection, *value)


def _put_back(
    connection: sqlite3.Connection, value: tuple[withdrawing.Decision, int]
) -> withdrawing.Changed:
    decision, patient_id = value
    changed = withdrawing.put_back(connection, decision, patient_id)
    _note(
        connection,
        "document_filed",
        (decision.actor, decision.reason, decision.at),
        [(f"patient:{patient_id}", each) for each in changed.documents],
    )
    return changed


def _close(connection: sqlite3.Connection, value: tuple[str, int, Closing]) -> int:
    structure_id, row_id, closing = value
    rows = quarantine.close(connection, (row_id, closing))
    if not rows:
        raise RecordStateError("no_open_row")
    facts = {"decision": closing.decision or "", "reason": closing.reason or ""}
    event = AuditEvent(
        "quarantine_decided",
        closing.at,
        closing.by,
        structure_id,
        f"quarantine:{row_id}",
        facts,
    )
    append(connection, TRAIL, [event])
    return rows


def _undo(connection: sqlite3.Connection, undo: _Undo) -> tuple[int, tuple[int, ...]]:
    """Undo; give how many rows wait again, and the documents that are current again."""
    current: tuple[int, ...] = ()
    if undo.document_id:
        decision = withdrawing.Decision(undo.document_id, undo.actor, undo.reason, undo.at)
        left = withdrawing.take_out(connection, decision)
        rows, current = len(left.documents), left.current
        who = (undo.actor, undo.reason, undo.at)
        subject = f"patient:{left.patient_id}"
        _note(connection, "document_taken_out", who, [(subject, each) for each in left.documents])
    else:
        rows = quarantine.reopen(connection, undo.row_id)
    if not rows:
        raise RecordStateError("nothing_to_undo")
    event = AuditEvent(
        "quarantine_undone",
        undo.at,
        undo.actor,
        undo.structure_id,
        f"quarantine:{undo.row_id}",
        {"reason": undo.reason},
    )
    append(connection, TRAIL, [event])
    return rows, current


def _note(
    connection: sqlite3.Connection,
    kind: str,
    who: tuple[str, str, datetime],
    what: Sequence[tuple[str, int]],
) -> None:
    actor, reason, at = who
    append(
        connection,
        TRAIL,
        [
            AuditEvent(
                kind, at, actor, None, subject, {"document_id": document_id, "reason": reason}
            )
            for subject, document_id in what
        ],
    )
