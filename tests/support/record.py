"""A record database on a real file, and messages as the bridge's mailbox would hold them."""

import dataclasses
import hashlib
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from certs.smime import Trust
from directory.database import Database
from directory.model import Structure
from record_bridge import progress, rights_storing
from record_bridge.accounting import ReceivedMail
from record_bridge.command_desk import CommandContext
from record_bridge.commands import RecordCommands
from record_bridge.filing import FilingBatch, FilingItem, ItemResult, file_batch
from record_bridge.formats import auth_results
from record_bridge.formats.auth_results import AuthResults
from record_bridge.formats.cda_header import CdaHeader
from record_bridge.model import AgendaAct, Environment, InsMatricule, Lists, Opened
from record_bridge.opening import (
    OpenRequest,
    open_message,
    read_acts,
    read_head,
    read_lists,
    read_number,
)
from record_bridge.origin import OriginFacts, classify
from record_bridge.receipts import receipt_of, received_at
from record_bridge.repository import create_record, open_record
from record_bridge.reviving import revive
from record_bridge.rights import GrantKind
from record_bridge.rights_storing import NewRight
from tests.support.cda import OID_TEST, CdaSpec, PatientSpec, cda
from tests.support.pki import anchors
from tests.support.xdm import mail, package

AT = datetime(2026, 11, 2, 10, 0, tzinfo=UTC)
AUTHSERV = "mail.cabinet.mssante.test"
CABINET = Structure(
    id="cabinet",
    name="Cabinet",
    organization="990000001",
    domain="cabinet.mssante.test",
    patient_domain="patient.mssante.test",
    application_address="bal-app@cabinet.mssante.test",
)
HOSPITAL = dataclasses.replace(
    CABINET,
    id="hopital",
    name="Hôpital",
    domain="hopital.mssante.test",
    patient_domain="patient.hopital.test",
    application_address="bal-app@hopital.mssante.test",
)
DOCTOR = "dr.test@cabinet.mssante.test"
SENDER = "labo@operateur-a.test"
PATIENT = PatientSpec()
PATIENT_ADDRESS = f"{PATIENT.ins}@{CABINET.patient_domain}"


def received(
    raw: bytes, *delivered_to: str, sender: str = SENDER, dn: str | None = "CN=a", number: int = 1
) -> bytes:
    """A message with the prefix that the server of the mailbox writes before it."""
    receipt = f"R{number:08}"
    results = AuthResults(AUTHSERV, operator_dn=dn, mailfrom=sender if dn else None)
    lines = [f"Return-Path: <{sender}>\r\n"]
    lines += [f"Delivered-To: {address}\r\n" for address in delivered_to or (DOCTOR,)]
    lines.append(
        f"Received: from peer by {AUTHSERV}\r\n with ESMTPS id {receipt};\r\n"
        " Mon, 02 Nov 2026 10:00:00 +0000\r\n"
    )
    return "".join(lines).encode() + auth_results.encode(results) + raw


def report(number: int = 1, **changes: Any) -> bytes:
    """One CDA of its own."""
    return cda(CdaSpec(unique_id=f"1.2.250.1.213.999.{number}", **changes))


def message(number: int, *documents: bytes, to: Sequence[str] = (DOCTOR,), **more: Any) -> bytes:
    """One received message with one package of these documents."""
    prefix = {name: more.pop(name) for name in ("dn", "sender") if name in more}
    more.setdefault("sender", prefix.get("sender") or SENDER)
    raw = mail(package(*documents), message_id=f"<m{number}@operateur-a.test>", **more)
    return received(raw, *to, number=number, **prefix)


def opened(raw: bytes, environment: Environment = Environment.TEST) -> Opened:
    """Open a message as the sandbox would, in this process."""
    return open_message(OpenRequest(raw, AUTHSERV, AT, environment), Trust(anchors(), ()))


@dataclass(slots=True)
class Record:
    """An open record database with its commands."""

    path: Path
    database: Database
    commands: RecordCommands
    now: datetime = AT
    _uid: int = 0

    async def register(self, spec: PatientSpec = PATIENT, **changes: Any) -> dict[str, Any]:
        """Register a patient."""
        arguments = {
            "structure": CABINET.id,
            "ins": spec.ins,
            "oid": spec.oid,
            "family": spec.family,
            "given": spec.given,
            "birth_date": spec.birth_date,
            "sex": spec.sex,
            "birth_place": spec.birth_place,
            "actor": "test",
        }
        return await self.commands.patient_add(arguments | changes)

    async def grant(self, patient_id: int, kind: str, holder: str) -> int:
        """Give a right on a record."""
        right = NewRight(patient_id, "test", self.now, GrantKind(kind), holder)
        return await self.database.write(rights_storing.give, right)

    async def claim(self, *uids: int) -> list[progress.Claimed]:
        """Claim UIDs of the cabinet's mailbox."""
        await progress.position(self.database, CABINET.id, 7, self.now)
        return await self.database.write(
            progress.claim, progress.Claim(CABINET.id, 7, uids, self.now)
        )

    async def items(self, *raws: bytes, again: bool = False) -> tuple[FilingItem, ...]:
        """Claim and open messages, as one batch."""
        first = self._uid + 1
        self._uid += len(raws)
        claimed = await self.claim(*range(first, self._uid + 1))
        return tuple(
            item_of(each.item_id, each.uid, raw, again=again)
            for each, raw in zip(claimed, raws, strict=True)
        )

    async def file(self, *raws: bytes) -> list[ItemResult]:
        """Claim, open and file messages in one batch."""
        batch = FilingBatch(CABINET, Environment.TEST, await self.items(*raws), self.now)
        return await self.database.write(file_batch, batch)

    async def one(self, raw: bytes) -> ItemResult:
        """File one message."""
        return (await self.file(raw))[0]

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Read committed rows with a connection of our own."""
        connection = sqlite3.connect(self.path)
        try:
            return connection.execute(statement, parameters).fetchall()
        finally:
            connection.close()

    def count(self, table: str) -> int:
        """How many rows a table has."""
        return int(self.rows(f"SELECT count(*) FROM {table}")[0][0])  # noqa: S608

    async def revive(self, document_ids: Sequence[int]) -> None:
        """Put the agenda entries of documents that are current again."""
        await revive(self.database, DirectOpener(), document_ids, self.now)  # type: ignore[arg-type]

    async def decide(self, item: int, decision: str, **more: Any) -> dict[str, Any]:
        """Decide on a row of quarantine, as a person does."""
        from record_bridge.quarantine_commands import QuarantineCommands
        from record_bridge.rematching import Rematcher

        rematcher = Rematcher(self.database, DirectOpener(), lambda: self.now)  # type: ignore[arg-type]
        arguments = {"id": item, "decision": decision, "reason": "vu", "actor": "test"}
        return await QuarantineCommands(self.commands, rematcher).quarantine_decide(
            arguments | more
        )

    async def records(self) -> list[dict[str, Any]]:
        """The documents of the test patient."""
        return await self.commands.record_list(
            {"structure": CABINET.id, "ins": PATIENT.ins, "oid": OID_TEST, "actor": "test"}
        )


def item_of(item_id: int, uid: int, raw: bytes, *, again: bool = False) -> FilingItem:
    """A filing item of a raw message."""
    value = opened(raw)
    facts = OriginFacts(
        CABINET.domain,
        CABINET.application_address,
        frozenset({CABINET.patient_domain, HOSPITAL.patient_domain}),
        {CABINET.domain: CABINET.organization},
    )
    return FilingItem(
        item_id=item_id,
        uid=uid,
        attempts=1,
        receipt=receipt_of(raw),
        raw=raw,
        opened=value,
        origin=classify(value, facts),
        received_at=received_at(raw, AT),
        again=again,
    )


class DirectOpener:
    """What ``Opener`` does, without worker processes."""

    environment = Environment.TEST

    async def open(self, raw: bytes, _at: datetime) -> Opened:
        """Open here."""
        return opened(raw)

    async def acts(self, content: bytes) -> tuple[AgendaAct, ...]:
        """Read here."""
        return read_acts(content)

    async def header(self, content: bytes) -> CdaHeader | None:
        """Read here."""
        return read_head(content)

    async def number(self, content: bytes) -> tuple[InsMatricule, ...] | None:
        """Read here."""
        return read_number(content)

    async def lists(self, content: bytes) -> Lists:
        """Read here."""
        return read_lists(content)

    def origin(self, _structure: Structure, value: Opened | None) -> Any:
        """Judge the origin with the test site's facts."""
        assert value is not None
        return classify(
            value,
            OriginFacts(
                CABINET.domain,
                CABINET.application_address,
                frozenset({CABINET.patient_domain}),
                {CABINET.domain: CABINET.organization},
            ),
        )

    async def recipients(self, _structure: Structure, _value: Opened | None) -> frozenset[str]:
        """Nobody known."""
        return frozenset()


@lru_cache(maxsize=1)
def _empty() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "record.sqlite3"
        create_record(path)
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        return path.read_bytes()


@asynccontextmanager
async def open_test_record(folder: Path) -> AsyncIterator[Record]:
    """Open a fresh record database."""
    from record_bridge.rematching import Rematcher

    path = folder / "record.sqlite3"
    path.write_bytes(_empty())
    database = await open_record(path)
    record = Record(path, database, None)  # type: ignore[arg-type]
    record.commands = RecordCommands(
        CommandContext(
            record=database,
            structures=lambda: (CABINET, HOSPITAL),
            environment=Environment.TEST,
            clock=lambda: record.now,
            rematch=Rematcher(database, DirectOpener(), lambda: record.now).rematch,  # type: ignore[arg-type]
            revive=record.revive,
            wake=lambda: None,
        )
    )
    try:
        yield record
    finally:
        await database.close()


async def mails(*raws: bytes) -> AsyncIterator[ReceivedMail]:
    """The mail side of an audit."""
    for raw in raws:
        yield ReceivedMail(CABINET.id, receipt_of(raw), raw)


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def later(days: float) -> datetime:
    """A moment after the tests' own."""
    return AT + timedelta(days=days)
