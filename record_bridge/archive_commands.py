"""``record_export`` and ``record_import``: a whole record in and out as one archive.

| command | arguments | result |
|---|---|---|
| record_export | structure, ins, oid, path, actor, reason | rows of each table |
| record_import | structure, ins, oid, path, actor, reason | rows of each table |

Source: RULES §13.
"""

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from certs.errors import SandboxError
from record_bridge.command_desk import CommandDesk
from record_bridge.errors import MalformedArchiveError, RecordStateError
from record_bridge.exporting import Wanted, export_record
from record_bridge.importing import Import, documents, import_record
from record_bridge.model import InsMatricule

Arguments = Mapping[str, Any]
ReadNumber = Callable[[bytes], Awaitable[Sequence[InsMatricule] | None]]
"""Reads whose number a document bears, where strangers' XML may be read; None: nobody's."""


class ArchiveCommands:
    """Archives of records, for the command line."""

    def __init__(self, commands: CommandDesk, database: Path, read_number: ReadNumber) -> None:
        self._commands = commands
        self._database = database
        self._read_number = read_number

    def table(self) -> dict[str, Callable[[Arguments], Awaitable[Any]]]:
        """Give every command by name."""
        return {"record_export": self.record_export, "record_import": self.record_import}

    async def record_export(self, arguments: Arguments) -> dict[str, int]:
        """Write a whole record, hidden documents included, to a new file of mode 0600.

        Raises:
            RecordStateError: there is no such patient, or the file cannot be made.
        """
        person = await self._commands.record_of(arguments)
        path = Path(str(arguments["path"]))
        # the event first: what was taken out is in the trail even when writing fails halfway
        await self._commands.note("record_exported", arguments, f"patient:{person['id']}")
        await self._commands.note_shown(arguments, int(person["id"]), None)
        wanted = Wanted(int(person["id"]), self._commands.now())
        try:
            return await asyncio.to_thread(_export, self._database, wanted, path)
        except OSError as error:
            raise RecordStateError("no_such_file") from error

    async def record_import(self, arguments: Arguments) -> dict[str, int]:
        """Fill the empty record of a registered patient.

        Raises:
            RecordStateError: there is no such patient, the archive cannot be read, it or one of
                its documents is another person's, or the record is not empty.
        """
        person = await self._commands.find(arguments)
        path = Path(str(arguments["path"]))
        try:
            wanted = Import(
                path,
                person,
                str(arguments.get("actor") or f"cli:{os.getuid()}"),
                self._commands.now(),
                await self._numbers(path),
            )
            return await self._commands.write(import_record, wanted)
        except (MalformedArchiveError, SandboxError) as error:
            raise RecordStateError("archive_unreadable") from error

    async def _numbers(self, path: Path) -> dict[bytes, Sequence[InsMatricule]]:
        """Read the number that each document of an archive bears, by its SHA-256."""
        found: dict[bytes, Sequence[InsMatricule]] = {}
        with closing(documents(path)) as contents:
            while (content := await asyncio.to_thread(next, contents, None)) is not None:
                numbers = await self._read_number(content)
                if numbers is None:
                    raise MalformedArchiveError("document")
                found[hashlib.sha256(content).digest()] = numbers
        return found


def _export(database: Path, wanted: Wanted, path: Path) -> dict[str, int]:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    with os.fdopen(descriptor, "w+b") as out:
        return export_record(database, wanted, out)
