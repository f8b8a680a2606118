"""A small mail site on real files: store, directory, keys, and the two ways in."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from certs import smime
from certs.issue import KeyKind, PracticePki
from certs.keystore import KeyStore
from certs.smime import VerifyPolicy
from certs.tls import PeerIdentity
from certs.verdict import SignatureVerdict
from directory import repository
from directory.codes import MailboxType
from directory.database import migrate as migrate_directory
from directory.lookup import Directory
from directory.model import Structure
from directory.trust_list import ListedDomain, encode
from mailserver.delivery.bounce import Bounces
from mailserver.delivery.inbound import DeliverySettings, Inbound, InboundMessage
from mailserver.delivery.prepare import Verify, Workers
from mailserver.delivery.submission import Submissions
from mailserver.seal_desk import SealDesk
from mailserver.store.database import MailStore, migrate
from mailserver.store.model import EntryDetail, Mailbox, NewMailbox

AT = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
AUTHSERV = "mail.cabinet.test"
DN = "CN=smtp.chu.test,OU=10B0167890,O=CHU,ST=Gironde (33),C=FR"
PEER = PeerIdentity(DN, "01", "ab" * 32, AT + timedelta(days=90))
CABINET = Structure(
    "cabinet",
    "Cabinet des Lilas",
    "750712184",
    "cabinet.mssante.test",
    "patient.mssante.test",
    "dossier@cabinet.mssante.test",
)
CLINIC = Structure(
    "clinique",
    "Clinique",
    "750712185",
    "clinique.mssante.test",
    "clinique.patient.mssante.test",
    "dossier@clinique.mssante.test",
)
DOCTOR = "dr.martin@cabinet.mssante.test"
SECRETARY = "accueil@cabinet.mssante.test"
UNFILED = "dr.noir@cabinet.mssante.test"
PATIENT = "279035121518989@patient.mssante.test"
OTHER_DOCTOR = "dr.bleu@clinique.mssante.test"
RPPS = {DOCTOR: "10100000019", UNFILED: "10100000027", OTHER_DOCTOR: "10100000035"}
_MAILBOXES = (
    (CABINET.application_address, MailboxType.APP, "cabinet", False),
    (DOCTOR, MailboxType.PER, "cabinet", True),
    (SECRETARY, MailboxType.ORG, "cabinet", True),
    (UNFILED, MailboxType.PER, "cabinet", False),
    (PATIENT, MailboxType.PAT, "cabinet", True),
    (CLINIC.application_address, MailboxType.APP, "clinique", False),
    (OTHER_DOCTOR, MailboxType.PER, "clinique", True),
)
SETTINGS = DeliverySettings(AUTHSERV, "mail.cabinet.test", "operateur.mssante.test")


@dataclass(frozen=True, slots=True)
class MailSite:
    """What a delivery test works with."""

    store: MailStore
    directory: Directory
    pki: PracticePki
    keystore: KeyStore
    inbound: Inbound
    submissions: Submissions
    bounces: Bounces
    verify: Verify

    async def mailbox(self, address: str) -> Mailbox:
        """Give a mailbox that must exist."""
        found = await self.store.accounts.mailbox(address)
        assert found is not None
        return found

    async def receive(self, raw: bytes, *recipients: str, sender: str = "lab@chu.test") -> object:
        """Take a message as the listed operator sends it."""
        return await self.inbound.accept(
            InboundMessage(
                body=raw,
                octets=len(raw),
                sha256=sha256(raw).digest(),
                reverse_path=sender,
                recipients=tuple([await self.mailbox(address) for address in recipients]),
                peer=PEER,
                at=AT,
                helo="smtp.chu.test",
            )
        )

    async def inbox(self, address: str, folder: str = "INBOX") -> list[EntryDetail]:
        """Give what a folder shows."""
        mailbox = await self.mailbox(address)
        opened = await self.store.folders.get(mailbox.id, folder)
        assert opened is not None
        rows = await self.store.messages.entries(opened.id)
        return await self.store.messages.detail(opened.id, [row.uid for row in rows])

    async def raw(self, entry: EntryDetail) -> bytes:
        """Give an entry's whole message."""
        octets = await self.store.blobs.octets(entry.row.blob_id)
        return entry.prefix + await self.store.blobs.read(entry.row.blob_id, 0, octets)

    async def sign(self, arguments: Mapping[str, Any]) -> Mapping[str, str]:
        """Sign what is queued, as the seal process does."""
        return await SealDesk(self.store, self.directory, self.keystore, lambda: AT).sign(
            arguments
        )

    def policy(self) -> VerifyPolicy:
        """Judge signatures by the site's own hierarchy."""
        return VerifyPolicy(self.keystore.anchors(), crls_of(self.keystore), AT)


def crls_of(keystore: KeyStore) -> tuple[bytes, ...]:
    """Give every revocation list of the site."""
    return tuple(path.read_bytes() for path in sorted(keystore.crls.glob("*.crl")))


@asynccontextmanager
async def mail_site(root: Path) -> AsyncIterator[MailSite]:
    """Open a site with two structures, seven mailboxes, and one listed operator."""
    pki = root / "pki"
    pki.mkdir(mode=0o700)
    practice = PracticePki.create(AT, "PRATIQUE")
    practice.write(pki, AT)
    keystore = KeyStore(pki, clock=lambda: AT, key_kind=KeyKind.EC_P256)
    trust_list = root / "list.xml"
    trust_list.write_bytes(
        encode([ListedDomain("chu.test", DN), ListedDomain("labo.mssante.test", DN)], AT)
    )
    migrate_directory(root / "directory.sqlite3", repository.MIGRATIONS)
    migrate(root / "mail.sqlite3")
    async with (
        await Directory.open(root / "directory.sqlite3", trust_list, None, at=AT) as directory,
        await MailStore.open(root / "mail.sqlite3", hash_key=b"k" * 32) as store,
    ):
        for structure in (CABINET, CLINIC):
            await directory.add_structure(structure)
        for address, kind, structure_id, filing in _MAILBOXES:
            await store.accounts.add_mailbox(
                NewMailbox(address, kind, structure_id, address, RPPS.get(address), filing, AT)
            )

        async def verify(raw: bytes, at: datetime) -> SignatureVerdict:
            return smime.verify(raw, VerifyPolicy(keystore.anchors(), crls_of(keystore), at))

        async def open_opaque(raw: bytes) -> bytes:
            return smime.content(raw)

        yield MailSite(
            store,
            directory,
            practice,
            keystore,
            Inbound(store, directory, SETTINGS, Workers(verify, open_opaque)),
            Submissions(
                store,
                directory,
                SealDesk(store, directory, keystore, lambda: AT).sign,
                SETTINGS,
                workers=Workers(verify, open_opaque),
            ),
            Bounces(store, SETTINGS),
            verify,
        )
