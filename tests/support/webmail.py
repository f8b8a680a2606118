"""A webmail over real files: mail, directory, record, two patients, one professional."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pyotp
from argon2 import PasswordHasher
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Table, Text

from directory.codes import MailboxType
from directory.database import Database
from directory.model import DirectoryMailbox, Practitioner
from mailserver.store.model import NewAccount, NewMailbox
from mailserver.store.model import to_micros as micros
from mailserver.webmail.http import MailService, WebmailServices, WebmailSettings, build_app
from record_bridge import repository, schema
from record_bridge.agenda_commands import AgendaCommands
from record_bridge.api_tokens import ApiTokenCommands
from record_bridge.calendar_commands import CalendarCommands
from record_bridge.command_desk import CommandContext
from record_bridge.commands import RecordCommands
from record_bridge.life_commands import LifeCommands
from record_bridge.list_storing import put_lists
from record_bridge.masking import MaskingCommands
from record_bridge.medication_commands import MedicationCommands
from record_bridge.model import Environment, LabResult, Lists, Medication
from record_bridge.offer_commands import OfferCommands
from record_bridge.opening import read_lists
from record_bridge.pack_commands import PackCommands
from record_bridge.prevention_record import PreventionCommands
from record_bridge.quarantine_commands import QuarantineCommands
from record_bridge.queries import RecordQueries
from record_bridge.rematching import Rematcher
from record_bridge.retention_commands import RetentionCommands
from record_bridge.rights_commands import RightsCommands
from record_bridge.trend_commands import TrendCommands
from record_bridge.withdrawal_commands import WithdrawalCommands
from tests.support.cda import OID_TEST, CdaSpec, cda
from tests.support.mailsite import (
    AT,
    AUTHSERV,
    CABINET,
    CLINIC,
    DOCTOR,
    OTHER_DOCTOR,
    PATIENT,
    RPPS,
    UNFILED,
    MailSite,
    mail_site,
)
from tests.support.record import DirectOpener

PASSWORD = "correct horse battery"
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
BASE = "https://pli.test"
OTHER_PATIENT = "172067599102348@patient.mssante.test"
_HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
_HASH = _HASHER.hash(PASSWORD)


MAIL = MailService("mail.cabinet.test", 143, 993, 587, 465, 443)


TRAIL_KEY = Ed25519PrivateKey.generate()


def sign(content: bytes) -> bytes:
    """Stand for the server's seal: this application never looks at what comes out."""
    return b"signed:" + content


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = AT

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **amount: float) -> None:
        """Let time go by."""
        self.now += timedelta(**amount)


@dataclass
class Webmail:
    """The application, and what is behind it."""

    app: Any  # Starlette: an ASGI callable
    mail: MailSite
    record: Database
    queries: RecordQueries
    clock: Clock
    accounts: dict[str, int]
    patients: dict[str, int]
    commands: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    bridge_down: bool = False
    commands_table: Mapping[str, Any] = field(default_factory=dict)

    def client(self, **options: Any) -> httpx2.AsyncClient:
        """A browser that follows nothing by itself."""
        transport = httpx2.ASGITransport(
            app=self.app,
            client=options.pop("peer", ("192.0.2.7", 50000)),
            raise_app_exceptions=False,
        )
        return httpx2.AsyncClient(transport=transport, base_url=BASE, **options)

    def code(self) -> str:
        """The one-time code of this moment."""
        return pyotp.TOTP(SECRET).at(self.clock())

    @asynccontextmanager
    async def signed_in(self, login: str = "patient") -> AsyncIterator[httpx2.AsyncClient]:
        """A browser that has signed in."""
        self.clock.pass_(seconds=30)  # every code serves once
        async with self.client() as client:
            answer = await sign_in(client, self, login)
            assert answer.status_code == 303, answer.status_code
            yield client

    async def file(self, spec: CdaSpec, *, login: str = "patient", **columns: Any) -> int:
        """Put a document into a patient's record, visible unless said otherwise."""
        return await self.record.write(_file, (self.patients[login], cda(spec), spec, columns))

    async def tell(self, command: str, login: str = "patient", **arguments: Any) -> Any:
        """Run a command of the record about a patient."""
        told = {"patient_id": self.patients[login], "structure": "cabinet", "actor": "cli:test"}
        return await self.commands_table[command](told | arguments)

    async def promote(self, rpps: str) -> None:
        """Make a physician of a professional."""
        await self.mail.directory.describe_practitioner(Practitioner(rpps, "", "", "10"))

    async def add_agenda(self, document_id: int, *, login: str = "patient", **columns: Any) -> int:
        """Put an entry into a patient's agenda."""
        return await self.record.write(_add_agenda, (self.patients[login], document_id, columns))

    async def add_results(self, document_id: int, *results: LabResult) -> None:
        """Give a document laboratory results besides those it says."""
        await self.record.write(_add_lists, (document_id, Lists(results)))

    async def add_medications(self, document_id: int, *medications: Medication) -> None:
        """Have a document name medicines besides those it says."""
        await self.record.write(_add_lists, (document_id, Lists(medications=medications)))


PROFESSIONALS = (
    (DOCTOR, Practitioner(RPPS[DOCTOR], "MARTIN", "Claire", "10", "SM26"), "cabinet"),
    (UNFILED, Practitioner(RPPS[UNFILED], "NOIR", "Luc", "60"), "cabinet"),
    (OTHER_DOCTOR, Practitioner(RPPS[OTHER_DOCTOR], "BLEU", "Ada", "10", "SM26"), "clinique"),
)
"""A physician and a nurse of the practice, a physician of the clinic."""


async def _add_professionals(mail: MailSite) -> None:
    for address, person, structure_id in PROFESSIONALS:
        await mail.directory.add_practitioner(person)
        await mail.directory.add_mailbox(
            DirectoryMailbox(
                address, MailboxType.PER, structure_id, person.display_name, person.rpps
            )
        )


def _blank(table: Table) -> dict[str, Any]:
    """Nothing in every text column that must hold something, 0 in every number."""
    return {
        column.name: "" if isinstance(column.type, Text) else 0
        for column in table.columns
        if not column.nullable and not column.primary_key
    }


def _file(connection: Any, value: tuple[int, bytes, CdaSpec, dict[str, Any]]) -> int:
    patient_id, content, spec, columns = value
    package = repository.insert(
        connection,
        "archive",
        {"structure_id": "cabinet", "kind": "package", "sha256": spec.unique_id.encode(),
         "octets": 1, "at": micros(AT)},
    )  # fmt: skip
    row = _blank(schema.document) | {
        "structure_id": "cabinet", "patient_id": patient_id, "unique_id": spec.unique_id,
        "sha256": spec.unique_id.encode(), "octets": len(content), "type_code": spec.code,
        "class_code": "10", "title": spec.title, "effective_at": micros(AT), "status": "current",
        "visibility": "visible", "marks": "", "author": "Dr Test AUTEUR, médecin",
        "custodian": spec.custodian_name, "sender": "lab@chu.test", "origin": "chu.test",
        "package_id": package, "receipt": spec.unique_id, "position": 0,
        "received_at": micros(AT), "filed_at": micros(AT),
    } | columns  # fmt: skip
    document_id = repository.insert_document(connection, row)
    repository.store_chunks(connection, "document_chunk", "document_id", (document_id, content))
    put_lists(connection, document_id, read_lists(content), AT)
    return document_id


def _add_lists(connection: Any, value: tuple[int, Lists]) -> None:
    document_id, lists = value
    put_lists(connection, document_id, lists, AT)


def _add_agenda(connection: Any, value: tuple[int, int, dict[str, Any]]) -> int:
    patient_id, document_id, columns = value
    row = _blank(schema.agenda_entry) | {
        "structure_id": "cabinet", "patient_id": patient_id, "document_id": document_id,
        "ordinal": 0, "kind": "follow_up", "status": "proposed", "title": "Consultation de suivi",
        "day": "2026-12-24", "created_at": micros(AT),
    } | columns  # fmt: skip
    return repository.insert(connection, "agenda_entry", row)


async def sign_in(
    client: httpx2.AsyncClient, site: Webmail, login: str, **fields: str
) -> httpx2.Response:
    """Fill and send the sign-in form; ``fields`` replaces what it would say."""
    page = await client.get("/connexion")
    values = {
        "csrf": token_of(page.text), "login": login, "password": PASSWORD, "code": site.code(),
    } | fields  # fmt: skip
    return await client.post("/connexion", data=values)


def token_of(page: str) -> str:
    """The form token of a page."""
    return page.split('name="csrf" value="', 1)[1].split('"', 1)[0]


@asynccontextmanager
async def webmail(root: Path) -> AsyncIterator[Webmail]:
    """Open everything."""
    async with mail_site(root) as mail:
        await mail.store.accounts.add_mailbox(
            NewMailbox(OTHER_PATIENT, MailboxType.PAT, "cabinet", "", None, True, AT)
        )
        repository.create_record(root / "record.sqlite3")
        record = await repository.open_record(root / "record.sqlite3")
        clock = Clock()
        queries = await RecordQueries.open(root / "record.sqlite3", clock)

        async def rematch(*_: object) -> int:
            return 0

        async def revive(document_ids: Sequence[int]) -> None:
            """Nothing comes back to an agenda in these tests."""
            assert not document_ids

        commands = RecordCommands(
            CommandContext(
                record,
                lambda: (CABINET, CLINIC),
                Environment.TEST,
                clock,
                rematch,
                revive,
                lambda: None,
            )
        )
        rights = RightsCommands(commands, mail.directory.practitioner)
        table = (
            commands.table()
            | rights.table()
            | TrendCommands(commands, rights.viewer).table()
            | MedicationCommands(commands, rights.viewer).table()
            | RetentionCommands(commands).table()
            | MaskingCommands(commands).table()
            | ApiTokenCommands(commands, mail.directory.practitioner).table()
            | AgendaCommands(commands, root / "record.sqlite3").table()
            | PreventionCommands(record, clock).table()
            | CalendarCommands(record, clock).table()
            | LifeCommands(record, clock).table()
            | PackCommands(commands).table()
            | WithdrawalCommands(commands).table()
            | OfferCommands(commands, mail.directory.practitioner).table()
            | QuarantineCommands(commands, Rematcher(record, DirectOpener(), clock)).table()  # type: ignore[arg-type]
        )
        site = Webmail(None, mail, record, queries, clock, {}, {}, commands_table=table)

        async def run(name: str, arguments: Mapping[str, Any]) -> Any:
            if site.bridge_down:
                raise ConnectionRefusedError
            site.commands.append((name, arguments))
            return await table[name](arguments)

        site.app = build_app(
            WebmailServices(
                mail.store,
                mail.directory,
                queries,
                mail.submissions,
                run,
                clock,
                WebmailSettings(
                    "mail.cabinet.test",
                    AUTHSERV,
                    MAIL,
                    sign,
                    TRAIL_KEY.public_key().public_bytes_raw(),
                    notifies=True,
                ),
            )
        )
        await _add_professionals(mail)
        for login, address in (
            ("patient", PATIENT),
            ("other", OTHER_PATIENT),
            ("doctor", DOCTOR),
            ("colleague", UNFILED),
            ("elsewhere", OTHER_DOCTOR),
        ):
            mailbox = await mail.mailbox(address)
            site.accounts[login] = await mail.store.accounts.add_account(
                NewAccount(login, _HASH, SECRET, (mailbox.id,), AT)
            )
            if mailbox.type is MailboxType.PAT:
                added = await table["patient_add"](
                    {
                        "structure": "cabinet",
                        "ins": address.partition("@")[0],
                        "oid": OID_TEST,
                        "family": "ZZCANARY-NOM",
                        "given": "CAMILLE",
                        "birth_date": "19790328",
                        "sex": "F",
                        "birth_place": "99990",
                        "actor": "cli:test",
                    }
                )
                site.patients[login] = int(added["id"])
        try:
            yield site
        finally:
            await queries.close()
            await record.close()
