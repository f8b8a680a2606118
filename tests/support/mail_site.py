"""A mail server's parts on loopback for tests of the SMTP side: real store, directory and TLS.

``World`` holds a practice PKI and certificates of operators (session scope: keys are slow);
``mail_site`` opens fresh databases and starts the three listeners on free ports.
"""

import asyncio
import functools
import shutil
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509

from certs.issue import Issued, KeyKind, PracticePki
from certs.keystore import KeyStore
from certs.names import dn_string
from certs.tls import client_context, server_context
from certs.verdict import NO_SIGNATURE, SignatureVerdict
from directory import repository
from directory.codes import MailboxType
from directory.database import migrate as migrate_directory
from directory.lookup import Directory
from directory.model import Structure
from directory.trust_list import ListedDomain, encode
from mailserver.delivery.bounce import Bounces
from mailserver.delivery.inbound import DeliverySettings, Inbound
from mailserver.delivery.prepare import Workers
from mailserver.delivery.submission import Submissions
from mailserver.fairness import unlimited
from mailserver.seal_desk import SealDesk
from mailserver.smtp.handler import SmtpServices
from mailserver.smtp.listener import SmtpBind, serve_smtp, serve_submission
from mailserver.store.database import MailStore, migrate
from mailserver.store.model import EntryDetail, Mailbox, NewDevice, NewMailbox
from record_bridge.formats.marks import PackageMarks, package_marks
from record_bridge.opening import count_occurrences

OURS = "cabinet.mssante.test"
PATIENTS = "patient.mssante.test"
A = "chu-a.mssante.test"
B = "lab-b.mssante.test"
SECRET = "abcdefghijklmnopqrstuvwxyz234567"
ORGANISATION = "PRATIQUE TEST"


@dataclass(frozen=True, slots=True)
class Party:
    """An operator's certificate on disk."""

    cert: Path
    key: Path
    dn: str
    issued: Issued


@dataclass(frozen=True, slots=True)
class World:
    """A PKI and who has a certificate of it."""

    root: Path
    pki: PracticePki
    ours: Party
    a: Party
    b: Party
    unlisted: Party
    personal: Party
    foreign: Party

    @property
    def ca(self) -> Path:
        """What clients trust."""
        return self.root / "pki" / "root.pem"

    @property
    def client_ca(self) -> Path:
        """Who may vouch for operators."""
        return self.root / "operators.pem"

    def server_tls(self) -> ssl.SSLContext:
        """Our context for port 25."""
        return server_context(
            self.ours.cert, self.ours.key, client_ca=self.client_ca, crls=self.root / "pki"
        )

    def client_tls(self, party: Party | None) -> ssl.SSLContext:
        """A client's context, with or without a certificate."""
        if party is None:
            return client_context(self.ca)
        return client_context(self.ca, party.cert, party.key)


def _fields(name: str) -> dict[str, str]:
    return {"CN": name, "OU": "1330000001", "O": name.upper(), "ST": "Gironde (33)", "C": "FR"}


@functools.cache
def world(root: Path) -> World:
    """Make the world once for a folder."""
    at = datetime.now(UTC)
    pki = PracticePki.create(at, ORGANISATION)
    other = PracticePki.create(at, "AUTRE AUTORITE")

    def party(name: str, issued: Issued) -> Party:
        cert, key = root / f"{name}.pem", root / f"{name}.key"
        cert.write_bytes(issued.bundle)
        key.write_bytes(issued.key)
        subject = x509.load_pem_x509_certificate(issued.certificate).subject
        return Party(cert, key, dn_string(subject), issued)

    def operator(name: str) -> Issued:
        return pki.issue_server(at, ["localhost", "127.0.0.1"], _fields(name))

    ours = operator("smtp.pli.test")
    pki.write(root / "pki", at, ours)
    migrate(root / "mail.sqlite3")
    migrate_directory(root / "directory.sqlite3", repository.MIGRATIONS)
    bundle = [(root / "pki" / f"{name}.pem").read_bytes() for name in ("root", "operators-ca")]
    (root / "operators.pem").write_bytes(b"".join(bundle))
    return World(
        root=root,
        pki=pki,
        ours=party("ours", ours),
        a=party("a", operator("smtp.chu-a.test")),
        b=party("b", operator("smtp.lab-b.test")),
        unlisted=party("unlisted", operator("smtp.evil.test")),
        personal=party(
            "personal",
            pki.issue_personal(at, f"dr@{A}", "Dr Essai", key_kind=KeyKind.EC_P256),
        ),
        foreign=party(
            "foreign", other.issue_server(at, ["localhost"], _fields("smtp.chu-a.test"))
        ),
    )


def write_list(
    path: Path,
    where: World,
    *,
    at: datetime | None = None,
    without: Sequence[str] = (),
    also_a: Sequence[str] = (),
) -> None:
    """Write the trust list: A and B each with their own certificate, both for nobody else.

    Args:
        path: where.
        where: whose certificates.
        at: its date.
        without: domains to leave out.
        also_a: more domains of A.
    """
    entries = [
        ListedDomain(OURS, where.ours.dn),
        ListedDomain(PATIENTS, where.ours.dn),
        ListedDomain(A, where.a.dn),
        ListedDomain(B, where.b.dn),
        *(ListedDomain(domain, where.a.dn) for domain in also_a),
    ]
    kept = [each for each in entries if each.domain not in without]
    path.write_bytes(encode(kept, at or datetime.now(UTC)))


@dataclass(slots=True)
class MailSite:
    """The open site."""

    world: World
    root: Path
    store: MailStore
    directory: Directory
    services: SmtpServices
    bounces: Bounces
    smtp: int = 0
    smtp_tls: ssl.SSLContext | None = None
    submission: int = 0
    submissions: int = 0
    mailboxes: dict[str, Mailbox] = field(default_factory=dict)
    shift: timedelta = timedelta()

    def now(self) -> datetime:
        """The site's clock."""
        return datetime.now(UTC) + self.shift

    async def inbox(self, address: str) -> list[EntryDetail]:
        """Give what an INBOX holds."""
        folder = await self.store.folders.get(self.mailboxes[address].id, "INBOX")
        assert folder is not None
        rows = await self.store.messages.entries(folder.id)
        return await self.store.messages.detail(folder.id, [row.uid for row in rows])

    async def raw(self, address: str, number: int = -1) -> bytes:
        """Give one message of an INBOX, prefix included."""
        detail = (await self.inbox(address))[number]
        octets = await self.store.blobs.octets(detail.row.blob_id)
        return detail.prefix + await self.store.blobs.read(detail.row.blob_id, 0, octets)


DR = f"dr.martin@{OURS}"
BOB = f"bob@{OURS}"
APP = f"dossier@{OURS}"
PATIENT = f"299019900000036@{PATIENTS}"
_MAILBOXES = (
    (DR, MailboxType.PER, True),
    (BOB, MailboxType.PER, False),
    (f"secretariat@{OURS}", MailboxType.ORG, False),
    (APP, MailboxType.APP, False),
    (PATIENT, MailboxType.PAT, True),
)


async def _count(raw: bytes) -> int:
    return count_occurrences(raw)


async def _marks(raw: bytes) -> PackageMarks:
    return package_marks(raw)


async def _no_signature(_raw: bytes, _at: datetime) -> SignatureVerdict:
    return NO_SIGNATURE


@asynccontextmanager
async def mail_site(where: World, root: Path, **bind: Any) -> AsyncIterator[MailSite]:
    """Open a site in an empty folder and start its listeners.

    Any: overrides of ``SmtpBind``'s fields; ``tokens`` of an identity provider;
    ``patient_domains`` of others; ``tls`` of the submission listeners.
    """
    write_list(root / "list.xml", where)
    for name in ("mail.sqlite3", "directory.sqlite3"):
        shutil.copyfile(where.root / name, root / name)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(
            await MailStore.open(root / "mail.sqlite3", hash_key=b"k" * 32)
        )
        directory = await stack.enter_async_context(
            await Directory.open(
                root / "directory.sqlite3", root / "list.xml", None, at=datetime.now(UTC)
            )
        )
        await directory.add_structure(
            Structure("cabinet", "Cabinet", "330000001", OURS, PATIENTS, APP)
        )
        settings = DeliverySettings(
            "mail.pli.test",
            "mail.pli.test",
            OURS,
            patient_domains=bind.pop("patient_domains", frozenset()),
        )
        bounces = Bounces(store, settings)
        inbound = Inbound(
            store,
            directory,
            settings,
            Workers(_no_signature, count_documents=_count),
            bounces.arrived,
        )
        keystore = KeyStore(where.root / "pki", key_kind=KeyKind.EC_P256)
        site = MailSite(where, root, store, directory, None, bounces)  # type: ignore[arg-type]
        desk = SealDesk(store, directory, keystore, site.now)
        submissions = Submissions(
            store,
            directory,
            desk.sign,
            settings,
            workers=Workers(_no_signature, count_documents=_count, read_marks=_marks),
            tell=bounces.arrived,
        )
        fairness = bind.pop("fairness", None) or unlimited()
        site.services = SmtpServices(
            store,
            directory,
            inbound,
            submissions,
            site.now,
            fairness=fairness,
            tokens=bind.pop("tokens", None),
        )
        for address, kind, filing in _MAILBOXES:
            new = NewMailbox(address, kind, "cabinet", address, None, filing, datetime.now(UTC))
            mailbox = await store.accounts.add_mailbox(new)
            site.mailboxes[address] = mailbox
            await store.accounts.add_device(
                NewDevice(mailbox.id, "test", datetime.now(UTC), None), SECRET
            )
        plain = bind.pop("tls", None) or server_context(where.ours.cert, where.ours.key)

        def at(tls: ssl.SSLContext) -> SmtpBind:
            return SmtpBind(
                "127.0.0.1",
                0,
                tls,
                "mail.pli.test",
                fairness=fairness,
                **{"drain_s": 2.0, **bind},
            )

        site.smtp_tls = where.server_tls()
        site.smtp = await stack.enter_async_context(serve_smtp(site.services, at(site.smtp_tls)))
        site.submission = await stack.enter_async_context(
            serve_submission(site.services, at(plain), implicit_tls=False)
        )
        site.submissions = await stack.enter_async_context(
            serve_submission(site.services, at(plain), implicit_tls=True)
        )
        try:
            yield site
        finally:
            while _LINES:
                _LINES.pop().close()


_LINES: list["Line"] = []
"""Open clients; the site closes what a test left open."""


class Line:
    """A raw SMTP client that says exactly what it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        _LINES.append(self)

    @classmethod
    async def open(cls, port: int, tls: ssl.SSLContext | None = None) -> "Line":
        """Connect and read the greeting."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=tls, server_hostname="localhost" if tls else None
        )
        line = cls(reader, writer)
        await line.reply()
        return line

    async def reply(self) -> str:
        """Read one reply, all its lines; "" when the connection ended."""
        lines = []
        async with asyncio.timeout(20):
            while True:
                try:
                    line = await self.reader.readline()
                except (OSError, ssl.SSLError):
                    return ""
                lines.append(line.decode())
                if line[3:4] != b"-":
                    return "".join(lines)

    def write(self, octets: bytes) -> None:
        """Write."""
        self.writer.write(octets)

    async def say(self, command: str) -> str:
        """Say one command, read its reply."""
        self.write(command.encode() + b"\r\n")
        return await self.reply()

    async def starttls(self, tls: ssl.SSLContext) -> None:
        """Begin TLS."""
        assert (await self.say("STARTTLS")).startswith("220")
        await self.writer.start_tls(tls, server_hostname="localhost")

    async def ended(self) -> bool:
        """Say whether the server closed the connection, reading whatever it still says."""
        try:
            async with asyncio.timeout(10):
                while await self.reader.read(4096):
                    pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True

    def close(self) -> None:
        """Cut."""
        self.writer.transport.abort()


async def operator_line(site: MailSite, party: Party | None) -> Line:
    """Connect to port 25 as an operator, TLS and EHLO done."""
    line = await Line.open(site.smtp)
    await line.say("EHLO mail.chu-a.test")
    await line.starttls(site.world.client_tls(party))
    await line.say("EHLO mail.chu-a.test")
    return line


def message(sender: str, recipient: str, text: str = "bonjour") -> bytes:
    """A small whole message."""
    return (
        f"From: <{sender}>\r\nTo: <{recipient}>\r\nSubject: Essai\r\n"
        f"Message-ID: <{abs(hash(text))}@{A}>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n\r\n"
        f"{text}\r\n"
    ).encode()
