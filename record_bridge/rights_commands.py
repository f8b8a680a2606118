"""What the record's only writer does about rights: given, ended, opened in an emergency, checked.

| command | arguments (with actor; a patient by ``patient_id`` or ``ins``) | result |
|---|---|---|
| access_check | who, document | ``shown``, ``rule``, ``who``, ``document`` |
| access_list | as | rights in force; with ``as``, the documents that this one sees |
| right_give | kind, holder (or holder_ins), until, parts, name, reason | ``id``, ``until`` |
| right_end | id, or kind and holder | ``ended`` |
| emergency_open | kind, holder, reason | ``id``, ``until`` |
| emergency_told | id | ``told`` |
| delegation_offer | name, parts, until | ``id``, ``code`` |
| delegation_take | code, holder | ``patient_id`` |

Source: RULES §7, RULES §13, MSS-FACTS §6.2, MSS-FACTS §6.4, MSS-FACTS §7.3.
"""

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any, Final

from directory.errors import DirectoryError
from directory.identifiers import Rpps
from directory.model import Practitioner
from record_bridge import rights_storing
from record_bridge.command_desk import CommandDesk
from record_bridge.errors import RecordStateError
from record_bridge.formats.dtm import paris_day, paris_midnight
from record_bridge.model import Viewer, ViewerKind
from record_bridge.rights import (
    CONSENT_FOR,
    EMERGENCIES,
    EMERGENCY_FOR,
    EVERYTHING,
    LONGEST_DELEGATION,
    PHYSICIAN,
    PROFESSIONAL,
    Decision,
    GrantKind,
    Part,
    emergency_refusal,
    majority_day,
    may_open,
)
from record_bridge.rights_record import (
    RightRow,
    document_facts,
    record_facts,
    rights_of,
    rows_of_record,
)
from record_bridge.rights_storing import EndedRight, NewRight
from record_bridge.visibility import decide

Arguments = Mapping[str, Any]
Lookup = Callable[[str], Awaitable[Practitioner | None]]
"""Gives a professional of the annuaire by RPPS."""

MAX_REASON: Final = 500
MAX_NAME: Final = 100
CODE_OCTETS: Final = 15
"""120 bits: nobody guesses it, so nobody counts tries."""


class RightsCommands:
    """Rights on records, by command."""

    def __init__(self, commands: CommandDesk, practitioner: Lookup) -> None:
        self._commands = commands
        self._practitioner = practitioner

    def table(self) -> dict[str, Callable[[Arguments], Awaitable[Any]]]:
        """Give every command by name."""
        return {
            "access_check": self.access_check,
            "access_list": self.access_list,
            "right_give": self.right_give,
            "right_end": self.right_end,
            "emergency_open": self.emergency_open,
            "emergency_told": self.emergency_told,
            "delegation_offer": self.delegation_offer,
            "delegation_take": self.delegation_take,
        }

    # --- asking ------------------------------------------------------------------------------

    async def access_check(self, arguments: Arguments) -> dict[str, Any]:
        """Say whether somebody may open a record, or see one document of it, and by which rule.

        Raises:
            RecordStateError: there is no such patient, person or document.
        """
        person = await self._commands.record_of(arguments)
        viewer = await self.viewer(str(arguments["who"]), person)
        document = arguments.get("document")
        decision = await self._decide(int(person["id"]), viewer, document)
        await self._commands.note("access_checked", arguments, f"patient:{person['id']}")
        return {
            "shown": decision.is_shown,
            "rule": decision.rule.value,
            "who": viewer.kind,
            "profession": viewer.profession,
            "document": document,
        }

    async def access_list(self, arguments: Arguments) -> list[dict[str, Any]]:
        """List who has which right on a record, or with ``as`` what somebody sees of it."""
        person = await self._commands.record_of(arguments)
        patient_id = int(person["id"])
        subject = f"patient:{patient_id}"
        if not arguments.get("as"):
            await self._commands.note("access_checked", arguments, subject)
            rights = await rights_of(self._commands.database, patient_id)
            return [_told(right, self._commands.now()) for right in rights]
        viewer = await self.viewer(str(arguments["as"]), person)
        await self._commands.note("record_listed", arguments, subject)
        return [
            {
                "unique_id": row["unique_id"],
                "type_code": row["type_code"],
                "title": row["title"],
                "status": row["status"],
                "visibility": row["visibility"],
                "rule": decision.rule.value,
            }
            for row, decision in await self._decided(patient_id, viewer)
            if decision.is_shown
        ]

    async def viewer(self, who: str, person: Mapping[str, Any]) -> Viewer:
        """Read who is meant: ``patient``, an RPPS, ``representative:INS`` or ``delegate:INS``.

        Raises:
            RecordStateError: there is no such person.
        """
        kind, _, ins = who.partition(":")
        if who == ViewerKind.PATIENT:
            return Viewer(ViewerKind.PATIENT, str(person["id"]))
        if kind in (ViewerKind.REPRESENTATIVE, ViewerKind.DELEGATE):
            other = await self._commands.record_of(
                {"structure": person["structure_id"], "ins": ins}
            )
            return Viewer(kind, str(other["id"]))
        found = await self._practitioner(_rpps(who))
        if found is None:
            raise RecordStateError("no_such_professional")
        return _practitioner(found, str(person["structure_id"]))

    async def _decide(self, patient_id: int, viewer: Viewer, document: str | None) -> Decision:
        if document is None:
            record = await record_facts(self._commands.database, patient_id, self._commands.now())
            if record is None:
                raise RecordStateError("no_such_patient")
            return may_open(record, viewer, Part.DOCUMENTS)
        for row, decision in await self._decided(patient_id, viewer):
            if row["unique_id"] == document:
                return decision
        raise RecordStateError("no_such_document")

    async def _decided(
        self, patient_id: int, viewer: Viewer
    ) -> list[tuple[Mapping[str, Any], Decision]]:
        record = await record_facts(self._commands.database, patient_id, self._commands.now())
        if record is None:
            raise RecordStateError("no_such_patient")
        rows = await rows_of_record(self._commands.database, patient_id)
        return [(row, decide(document_facts(row), viewer, record)) for row in rows]

    # --- giving and ending -------------------------------------------------------------------

    async def right_give(self, arguments: Arguments) -> dict[str, Any]:
        """Give a right, or block; what holds already is kept, with the later end.

        Raises:
            RecordStateError: no such kind or person, an end that cannot be, or nobody may have it.
        """
        kind = _kind(arguments["kind"])
        if kind in EMERGENCIES:
            raise RecordStateError("no_such_kind")
        person = await self._commands.record_of(arguments)
        right = self._right(arguments, kind, int(person["id"]))
        right = replace(right, holder=await self._holder(arguments, kind, person))
        if kind is GrantKind.CONSENT and right.until is None:
            right = replace(right, until=right.at + CONSENT_FOR)
        if kind is GrantKind.REPRESENTATIVE:
            born = date.fromisoformat(str(person["birth_date"]))
            if paris_day(right.at) >= majority_day(born):
                raise RecordStateError("of_age")
        if kind is GrantKind.DELEGATE:
            right = replace(right, until=_delegated_until(right))
        key = await self._commands.write(rights_storing.give, right)
        return {"id": key, "until": _iso(right.until)}

    async def right_end(self, arguments: Arguments) -> dict[str, Any]:
        """End a right, or lift a block: by its id, or by kind and holder.

        Raises:
            RecordStateError: there is none that holds.
        """
        person = await self._commands.record_of(arguments)
        key = arguments.get("id")
        holder = ""
        if key is None:
            holder = await self._holder(arguments, _kind(arguments["kind"]), person)
        ended = EndedRight(
            int(person["id"]),
            str(arguments["actor"]),
            self._commands.now(),
            None if key is None else int(key),
            "" if key is not None else _kind(arguments["kind"]).value,
            holder,
        )
        await self._commands.write(rights_storing.end, ended)
        return {"ended": True}

    async def emergency_open(self, arguments: Arguments) -> dict[str, Any]:
        """Open a record in an emergency, for a few hours, with a reason.

        Raises:
            RecordStateError: no reason, the patient refused it, or this professional may not.
        """
        kind = _kind(arguments["kind"])
        reason = _line(arguments.get("reason"), MAX_REASON)
        if kind not in EMERGENCIES:
            raise RecordStateError("no_such_kind")
        if not reason:
            raise RecordStateError("no_reason")
        person = await self._commands.record_of(arguments)
        found = await self._practitioner(_rpps(str(arguments["holder"])))
        if found is None:
            raise RecordStateError("no_such_professional")
        viewer = _practitioner(found, str(arguments.get("structure") or person["structure_id"]))
        at = self._commands.now()
        record = await record_facts(self._commands.database, int(person["id"]), at)
        if record is None or emergency_refusal(record, viewer, kind) is not None:
            raise RecordStateError("emergency_refused")
        right = self._right(arguments, kind, int(person["id"]))
        until = at + EMERGENCY_FOR[kind]
        right = replace(right, holder=viewer.ref, until=until, facts={"reason": reason})
        return {"id": await self._commands.write(rights_storing.give, right), "until": _iso(until)}

    async def emergency_told(self, arguments: Arguments) -> dict[str, Any]:
        """Note that the patient was told of an emergency access (MSS-FACTS §6.4)."""
        value = (int(arguments["id"]), self._commands.now())
        await self._commands.write(rights_storing.told_now, value)
        return {"told": True}

    async def delegation_offer(self, arguments: Arguments) -> dict[str, Any]:
        """Offer a relative a delegation; they take it up with a code that is shown once.

        One that a representative offers ends when the patient is of age: then it is theirs to say.

        Raises:
            RecordStateError: no name, no part, or an end that cannot be.
        """
        person = await self._commands.record_of(arguments)
        right = self._right(arguments, GrantKind.DELEGATE, int(person["id"]))
        if not right.facts.get("name"):
            raise RecordStateError("no_name")
        code = secrets.token_hex(CODE_OCTETS)
        until = _delegated_until(right)
        if right.actor.startswith(f"{ViewerKind.REPRESENTATIVE}:"):
            adult = majority_day(date.fromisoformat(str(person["birth_date"])))
            until = min(until, paris_midnight(adult))
        right = replace(right, until=until, code=_digest(code))
        return {"id": await self._commands.write(rights_storing.give, right), "code": code}

    async def delegation_take(self, arguments: Arguments) -> dict[str, Any]:
        """Take up a delegation with its code.

        Raises:
            RecordStateError: the code opens nothing, or is one's own.
        """
        code = "".join(str(arguments["code"]).split()).lower()
        value = (_digest(code), int(arguments["holder"]), str(arguments["actor"]))
        taken = await self._commands.write(rights_storing.take, (value, self._commands.now()))
        return {"patient_id": taken}

    async def _holder(
        self, arguments: Arguments, kind: GrantKind, person: Mapping[str, Any]
    ) -> str:
        """Who is meant: a professional of the annuaire, or a person registered here."""
        if kind in PROFESSIONAL:
            rpps = _rpps(str(arguments.get("holder") or ""))
            # anyone may be blocked, also one whom the annuaire does not know
            known = await self._practitioner(rpps)
            if known is None and kind is not GrantKind.BLOCK:
                raise RecordStateError("no_such_professional")
            is_physician = known is not None and known.profession == PHYSICIAN
            if kind is GrantKind.ATTENDING and not is_physician:
                raise RecordStateError("no_physician")
            return rpps
        other = await self._commands.record_of(
            {
                "structure": person["structure_id"],
                "ins": arguments.get("holder_ins"),
                "oid": arguments.get("holder_oid"),
                "patient_id": arguments.get("holder"),
            }
        )
        if other["id"] == person["id"] or other["structure_id"] != person["structure_id"]:
            raise RecordStateError("no_such_person")
        return str(other["id"])

    def _right(self, arguments: Arguments, kind: GrantKind, patient_id: int) -> NewRight:
        at = self._commands.now()
        until = _until(arguments.get("until"))
        if until is not None and until <= at:
            raise RecordStateError("no_such_end")
        given = arguments.get("parts")
        parts = EVERYTHING if given is None else _parts(given)
        facts = {
            "reason": _line(arguments.get("reason"), MAX_REASON),
            "name": _line(arguments.get("name"), MAX_NAME),
        }
        facts = {name: text for name, text in facts.items() if text}
        return NewRight(patient_id, str(arguments["actor"]), at, kind, "", until, parts, facts)


# --- values ----------------------------------------------------------------------------------


def _practitioner(found: Practitioner, structure_id: str) -> Viewer:
    return Viewer(
        ViewerKind.PRACTITIONER, found.rpps, found.profession, structure_id, found.specialty
    )


def _rpps(text: str) -> str:
    try:
        return Rpps.lenient(text).value
    except DirectoryError:
        raise RecordStateError("no_such_professional") from None


def _kind(text: object) -> GrantKind:
    try:
        return GrantKind(str(text))
    except ValueError:
        raise RecordStateError("no_such_kind") from None


def _parts(given: Any) -> frozenset[Part]:
    try:
        parts = frozenset(Part(str(each)) for each in given)
    except ValueError:
        raise RecordStateError("no_such_kind") from None
    if not parts:
        raise RecordStateError("no_part")
    return parts


def _until(text: object) -> datetime | None:
    """A day means its beginning, in UTC."""
    if not text:
        return None
    try:
        until = datetime.fromisoformat(str(text))
    except ValueError:
        raise RecordStateError("no_such_end") from None
    return until if until.tzinfo is not None else until.replace(tzinfo=UTC)


def _delegated_until(right: NewRight) -> datetime:
    """A delegation always ends, a year later at most."""
    longest = right.at + LONGEST_DELEGATION
    if right.until is not None and right.until > longest:
        raise RecordStateError("no_such_end")
    return right.until or longest


def _line(text: object, limit: int) -> str:
    return " ".join(str(text or "").split())[:limit]


def _digest(code: str) -> bytes:
    return hashlib.sha256(code.encode()).digest()


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _told(right: RightRow, at: datetime) -> dict[str, Any]:
    return {
        "id": right.id,
        "kind": right.kind.value,
        "holder": right.holder,
        "holds": bool(right.holder) and right.grant.holds(at),
        "parts": sorted(right.parts),
        "reason": right.reason,
        "said_by": right.said_by,
        "since": _iso(right.since),
        "until": _iso(right.until),
        "ended": _iso(right.ended_at),
        "told": _iso(right.told_at),
    }
