"""Masking one document, lifting a mask, and showing what is kept of it, by command.

A mask that a person sets here is on every version of the document, those before it and those to
come: no older one tells what is hidden, and no sender lifts it. Hiding from professionals is the
patient's right, and so is showing again: the patient, or who stands for them, lifts that mask
whoever asked for it, a professional and the site too. That something is hidden from a minor's
representatives only the minor is told.

| command | arguments (with actor, structure or patient_id) | result |
|---|---|---|
| record_show | document | what is kept of it, its content apart |
| record_mask | document, mask (masked_ps, invisible_representatives) | ``visibility`` |
| record_unmask | document, mask | ``visibility`` |

Source: RULES §7, MSS-FACTS §6.3, MSS-FACTS §6.4 (minors).
"""

import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from directory.audit_event import AuditEvent
from directory.trail import append
from record_bridge import version_masks
from record_bridge.command_desk import CommandDesk
from record_bridge.errors import RecordStateError
from record_bridge.model import Visibility
from record_bridge.repository import moment
from record_bridge.schema import TRAIL
from record_bridge.visibility import masked, unmasked, waits_for_delay

Arguments = Mapping[str, Any]
MASKS: Final = frozenset({Visibility.MASKED_PS, Visibility.INVISIBLE_REPRESENTATIVES})


@dataclass(frozen=True, slots=True)
class _Masking:
    document_id: int
    mask: Visibility
    actor: str
    at: datetime


class MaskingCommands:
    """Masks of documents, by command."""

    def __init__(self, commands: CommandDesk) -> None:
        self._commands = commands

    def table(self) -> dict[str, Callable[[Arguments], Awaitable[Any]]]:
        """Give every command by name."""
        return {
            "record_show": self.record_show,
            "record_mask": self.record_mask,
            "record_unmask": self.record_unmask,
        }

    async def record_show(self, arguments: Arguments) -> dict[str, Any]:
        """Say what is kept of a document; the look is in the trail.

        Raises:
            RecordStateError: there is no such document.
        """
        row = await self._commands.document(arguments)
        facts = {"document_id": int(row["id"])}
        await self._commands.note(
            "document_read", arguments, f"patient:{row['patient_id']}", facts
        )
        return {
            "unique_id": row["unique_id"],
            "type_code": row["type_code"],
            "class_code": row["class_code"],
            "title": row["title"],
            "status": row["status"],
            "visibility": row["visibility"].split(),
            "masked_here": row["masked_here"].split(),
            "marks": row["marks"].split(),
            "author": row["author"],
            "custodian": row["custodian"],
            "sender": row["sender"],
            "received_at": moment(row["received_at"]).isoformat(),
            "release_at": _release_at(row),
            "octets": row["octets"],
            "sha256": row["sha256"].hex(),
        }

    async def record_mask(self, arguments: Arguments) -> dict[str, Any]:
        """Mask a document; one that is masked already stays so.

        Raises:
            RecordStateError: there is no such document or mask.
        """
        return await self._change(arguments, _mask)

    async def record_unmask(self, arguments: Arguments) -> dict[str, Any]:
        """Lift a mask; one that is not there changes nothing.

        Raises:
            RecordStateError: there is no such document or mask.
        """
        return await self._change(arguments, _unmask)

    async def _change(
        self, arguments: Arguments, apply: Callable[[sqlite3.Connection, _Masking], str]
    ) -> dict[str, Any]:
        row = await self._commands.document(arguments)
        masking = _Masking(
            int(row["id"]),
            _mask_of(arguments["mask"]),
            str(arguments["actor"]),
            self._commands.now(),
        )
        return {"visibility": (await self._commands.write(apply, masking)).split()}


def _release_at(row: Mapping[str, Any]) -> str | None:
    """When the delay releases a document; not while it is masked or withdrawn."""
    states = frozenset(Visibility(word) for word in row["visibility"].split())
    if row["release_at"] is None or row["status"] == "withdrawn" or not waits_for_delay(states):
        return None
    return moment(row["release_at"]).isoformat()


def _mask_of(text: object) -> Visibility:
    found = next((mask for mask in MASKS if mask.value == str(text)), None)
    if found is None:
        raise RecordStateError("no_such_kind")
    return found


def _mask(connection: sqlite3.Connection, masking: _Masking) -> str:
    return _rewrite(connection, masking, "document_masked")


def _unmask(connection: sqlite3.Connection, masking: _Masking) -> str:
    return _rewrite(connection, masking, "document_unmasked")


def _rewrite(connection: sqlite3.Connection, masking: _Masking, event: str) -> str:
    """Change the states of a document, and what was masked here; its delay waits for the mask."""
    row = connection.execute(
        "SELECT structure_id, patient_id, visibility, masked_here FROM document WHERE id = ?",
        (masking.document_id,),
    ).fetchone()
    states = frozenset(Visibility(word) for word in str(row[2]).split())
    here = set(str(row[3]).split())
    if event == "document_masked":
        left = masked(states, masking.mask)
        here |= {masking.mask.value}
    else:
        left = unmasked(states, masking.mask)
        here -= {masking.mask.value}
    visibility = " ".join(sorted(state.value for state in left))
    if left == states:
        return visibility
    connection.execute(
        "UPDATE document SET visibility = ?, masked_here = ? WHERE id = ?",
        (visibility, " ".join(sorted(here)), masking.document_id),
    )
    spread = (
        version_masks.mask_others if event == "document_masked" else version_masks.unmask_others
    )
    spread(connection, masking.document_id, masking.mask)
    subject = f"patient:{row[1]}"
    facts = {"document_id": masking.document_id, "mask": masking.mask.value}
    noted = AuditEvent(event, masking.at, masking.actor, str(row[0]), subject, facts)
    append(connection, TRAIL, [noted])
    return visibility
