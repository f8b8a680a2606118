"""Bearer tokens of the FHIR interface: made, listed, stopped; kept as digests alone.

| command | arguments | result |
|---|---|---|
| api_token_make | whose (patient_id, ins and oid, or rpps), name, scopes | id, token |
| api_token_list | whose, or structure alone | rows |
| api_token_stop | id, and whose | ``stopped`` |

A token opens what its holder may see, and no more: a patient's their own record, a structure's
software the records of one professional for whom it works, judged anew at each request (RULES §7).

Source: RFC 6750 §5, RULES §12.
"""

import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from directory.errors import DirectoryError
from directory.identifiers import Rpps
from directory.model import Practitioner
from directory.trail import AuditEvent, append
from record_bridge.api_token import SCOPES, token_digest
from record_bridge.command_desk import CommandDesk
from record_bridge.errors import RecordStateError
from record_bridge.repository import insert, micros, moment, words
from record_bridge.schema import TRAIL

Arguments = Mapping[str, Any]

PREFIX: Final = "pli_"
"""So that a token is known as one where it must not be."""
SECRET_OCTETS: Final = 32
LIFETIME: Final = timedelta(days=365)
MAX_TOKENS: Final = 20
MAX_NAME: Final = 60


@dataclass(frozen=True, slots=True)
class _Holder:
    structure_id: str
    patient_id: int | None
    rpps: str

    @property
    def subject(self) -> str:
        return (
            f"structure:{self.structure_id}"
            if self.patient_id is None
            else f"patient:{self.patient_id}"
        )


@dataclass(frozen=True, slots=True)
class _NewToken:
    holder: _Holder
    digest: bytes
    name: str
    scopes: frozenset[str]
    actor: str
    at: datetime


class ApiTokenCommands:
    """The tokens, for the webmail and the command line."""

    def __init__(
        self,
        commands: CommandDesk,
        practitioner: Callable[[str], Awaitable[Practitioner | None]],
    ) -> None:
        self._commands = commands
        self._practitioner = practitioner

    def table(self) -> dict[str, Callable[[Arguments], Awaitable[Any]]]:
        """Give every command by name."""
        return {
            "api_token_make": self.api_token_make,
            "api_token_list": self.api_token_list,
            "api_token_stop": self.api_token_stop,
        }

    async def api_token_make(self, arguments: Arguments) -> dict[str, Any]:
        """Make a token and give it, this once.

        Raises:
            RecordStateError: nobody such, no such scope, no name, or too many tokens.
        """
        holder = await self._holder(arguments)
        name = str(arguments.get("name") or "").strip()[:MAX_NAME]
        scopes = frozenset(map(str, arguments.get("scopes") or SCOPES))
        if not name:
            raise RecordStateError("no_title")
        if not scopes <= SCOPES:
            raise RecordStateError("no_such_kind")
        token = PREFIX + secrets.token_urlsafe(SECRET_OCTETS)
        new = _NewToken(
            holder, token_digest(token), name, scopes, _actor(arguments), self._commands.now()
        )
        return {"id": await self._commands.write(_add, new), "token": token}

    async def api_token_list(self, arguments: Arguments) -> list[dict[str, Any]]:
        """List the tokens that are in force, of a patient or of a structure's software."""
        holder = await self._holder(arguments)
        return await self._commands.write(_listed, (holder, self._commands.now()))

    async def api_token_stop(self, arguments: Arguments) -> dict[str, bool]:
        """Stop a token at once.

        Raises:
            RecordStateError: these people have no such token.
        """
        holder = await self._holder(arguments)
        stop = (holder, int(arguments["id"]), _actor(arguments), self._commands.now())
        await self._commands.write(_stop, stop)
        return {"stopped": True}

    async def _holder(self, arguments: Arguments) -> _Holder:
        if arguments.get("patient_id") is not None or arguments.get("ins"):
            person = await self._commands.record_of(arguments)
            return _Holder(str(person["structure_id"]), int(person["id"]), "")
        structure = self._commands.structure_of(arguments)
        if not arguments.get("rpps"):
            return _Holder(structure.id, None, "")
        try:
            rpps = Rpps.lenient(str(arguments["rpps"])).value
        except DirectoryError:
            raise RecordStateError("no_such_professional") from None
        if await self._practitioner(rpps) is None:
            raise RecordStateError("no_such_professional")
        return _Holder(structure.id, None, rpps)


def _actor(arguments: Arguments) -> str:
    return str(arguments["actor"])


def _add(connection: sqlite3.Connection, new: _NewToken) -> int:
    holder, at = new.holder, micros(new.at)
    if holder.patient_id is None and not holder.rpps:
        raise RecordStateError("no_such_professional")
    alive = connection.execute(
        "SELECT count(*) FROM api_token WHERE structure_id = ? AND patient_id IS ? AND rpps = ?"
        " AND stopped_at IS NULL AND expires_at > ?",
        (holder.structure_id, holder.patient_id, holder.rpps, at),
    ).fetchone()[0]
    if alive >= MAX_TOKENS:
        raise RecordStateError("too_many")
    token_id = insert(
        connection,
        "api_token",
        {
            "structure_id": holder.structure_id,
            "patient_id": holder.patient_id,
            "rpps": holder.rpps,
            "digest": new.digest,
            "name": new.name,
            "scopes": words(new.scopes),
            "created_at": at,
            "expires_at": micros(new.at + LIFETIME),
        },
    )
    _note(connection, "api_token_made", new.actor, new.at, (holder, token_id))
    return token_id


def _listed(
    connection: sqlite3.Connection, value: tuple[_Holder, datetime]
) -> list[dict[str, Any]]:
    holder, at = value
    rows = connection.execute(
        "SELECT id, rpps, name, scopes, created_at, expires_at FROM api_token"
        " WHERE structure_id = ? AND patient_id IS ? AND (? = '' OR rpps = ?)"
        " AND stopped_at IS NULL AND expires_at > ? ORDER BY id",
        (holder.structure_id, holder.patient_id, holder.rpps, holder.rpps, micros(at)),
    )
    return [
        {
            "id": row[0],
            "rpps": row[1],
            "name": row[2],
            "scopes": row[3].split(),
            "created_at": moment(row[4]).isoformat(),
            "expires_at": moment(row[5]).isoformat(),
        }
        for row in rows
    ]


def _stop(connection: sqlite3.Connection, value: tuple[_Holder, int, str, datetime]) -> None:
    holder, token_id, actor, at = value
    cursor = connection.execute(
        "UPDATE api_token SET stopped_at = ? WHERE id = ? AND structure_id = ?"
        " AND patient_id IS ? AND stopped_at IS NULL",
        (micros(at), token_id, holder.structure_id, holder.patient_id),
    )
    if cursor.rowcount != 1:
        raise RecordStateError("no_such_token")
    _note(connection, "api_token_stopped", actor, at, (holder, token_id))


def _note(
    connection: sqlite3.Connection, kind: str, actor: str, at: datetime, what: tuple[_Holder, int]
) -> None:
    holder, token_id = what
    event = AuditEvent(kind, at, actor, holder.structure_id, holder.subject, {"token": token_id})
    append(connection, TRAIL, [event])
