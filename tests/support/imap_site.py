"""A mail store, a certificate and a running IMAP server for tests, on real files and sockets."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from certs.tls import server_context
from directory.codes import MailboxType
from mailserver.fairness import Fairness, unlimited
from mailserver.imap.server import ImapBind, ImapLimits, ImapServices, serve_imap
from mailserver.message.index import index
from mailserver.sasl.tokens import TokenIssuer
from mailserver.store.database import MailStore, migrate
from mailserver.store.model import NO_FLAGS, Flag, Mailbox, NewDevice, NewMailbox, NewMessage

AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
ALICE = "alice@chu-a.mssante.test"
BOB = "bob@chu-a.mssante.test"
APPLICATION = "application@chu-a.mssante.test"
SECRET = "a-device-password-of-a-test-0123456789"
QUICK = ImapLimits(login_delay_s=0.01, stop_grace_s=2.0)


@lru_cache(maxsize=1)
def certificate() -> tuple[bytes, bytes]:
    """Give a self-signed certificate for 127.0.0.1 and its key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@dataclass
class ImapSite:
    """A served store: one port with STARTTLS, one with TLS."""

    path: Path
    store: MailStore
    mailboxes: Mapping[str, Mailbox]
    port: int = 0
    tls_port: int = 0
    now: datetime = AT
    ca_file: Path = Path()
    client_tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    @property
    def alice(self) -> Mailbox:
        """The professional of most tests."""
        return self.mailboxes[ALICE]

    async def put(
        self,
        raw: bytes,
        *,
        address: str = ALICE,
        folder: str = "INBOX",
        flags: Flag = NO_FLAGS,
        keywords: frozenset[str] = frozenset(),
        at: datetime = AT,
    ) -> int:
        """Store a message and give its UID."""
        target = await self.store.folders.get(self.mailboxes[address].id, folder)
        assert target is not None
        appended = await self.store.messages.append(
            NewMessage(target.id, raw, index(raw), flags, keywords, at)
        )
        return appended.uid


@asynccontextmanager
async def open_store(path: Path) -> AsyncIterator[tuple[MailStore, dict[str, Mailbox]]]:
    """Make a store with three mailboxes that all take ``SECRET``."""
    file = path / "mail.sqlite3"
    await asyncio.to_thread(migrate, file)
    async with await MailStore.open(file, hash_key=b"k" * 32) as store:
        mailboxes = {}
        for address, kind in (
            (ALICE, MailboxType.PER),
            (BOB, MailboxType.PER),
            (APPLICATION, MailboxType.APP),
        ):
            mailbox = await store.accounts.add_mailbox(
                NewMailbox(address, kind, "chu-a", "Test", None, filing=True, at=AT)
            )
            await store.accounts.add_device(NewDevice(mailbox.id, "test", AT, None), SECRET)
            mailboxes[address] = mailbox
        yield store, mailboxes


@asynccontextmanager
async def serve(
    limits: ImapLimits = QUICK,
    plaintext: frozenset[str] = frozenset(),
    fairness: Fairness | None = None,
    tokens: TokenIssuer | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[ImapSite]:
    """Serve a fresh store on loopback; ``tls`` replaces the listeners' own context."""
    with TemporaryDirectory() as directory:
        path = Path(directory)
        chain, key = certificate()
        (path / "ca.pem").write_bytes(chain)
        (path / "server.key").write_bytes(key)
        server_tls = tls or server_context(path / "ca.pem", path / "server.key")
        async with open_store(path) as (store, mailboxes):
            site = ImapSite(path, store, mailboxes, ca_file=path / "ca.pem")
            site.client_tls = ssl.create_default_context(cafile=str(path / "ca.pem"))
            services = ImapServices(store, lambda: site.now, fairness or unlimited(), tokens)
            plain = ImapBind("127.0.0.1", 0, server_tls, False, plaintext, limits)
            implicit = ImapBind("127.0.0.1", 0, server_tls, True, plaintext, limits)
            async with (
                serve_imap(services, plain) as site.port,
                serve_imap(services, implicit) as site.tls_port,
            ):
                yield site
