"""TLS between operators: who may come in, who is told so by policy, who fails the handshake."""

import asyncio
import socket
import ssl
import threading
import warnings
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from certs import tls
from certs.errors import KeyStoreError
from certs.issue import Branch, Issued, KeyKind, PracticePki
from certs.names import compared_name

FIELDS = {"CN": "smtp.chu-a.mssante.test", "OU": "318751275100020", "O": "CHU A", "C": "FR"}
HOSTS = ["localhost", "127.0.0.1"]


class Site:
    """A PKI directory and what connects to it."""

    def __init__(self, directory: Path) -> None:
        self.dir = directory
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.pki = PracticePki.create(self.now, "Cabinet")
        self.server = self.pki.issue_server(self.now, HOSTS, FIELDS)
        self.pki.write(directory, self.now, self.server)
        bundle = directory / "clients.pem"
        bundle.write_bytes(
            (directory / "root.pem").read_bytes() + (directory / "operators-ca.pem").read_bytes()
        )

    def context(self) -> ssl.SSLContext:
        return tls.server_context(
            self.dir / "server.pem",
            self.dir / "server.key",
            client_ca=self.dir / "clients.pem",
            crls=self.dir,
        )

    def client(self, issued: Issued | None = None) -> ssl.SSLContext:
        if issued is None:
            return tls.client_context(self.dir / "root.pem", crls=self.dir)
        (self.dir / "c.pem").write_bytes(issued.bundle)
        (self.dir / "c.key").write_bytes(issued.key)
        return tls.client_context(self.dir / "root.pem", self.dir / "c.pem", self.dir / "c.key")


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def lists_of(directory: Path) -> list[x509.CertificateRevocationList]:
    return [x509.load_pem_x509_crl(each.read_bytes()) for each in sorted(directory.glob("*.crl"))]


Visit = Callable[[ssl.SSLContext, ssl.SSLContext], Awaitable[str]]


async def visit(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost") -> str:
    """Connect; returns what the server answers: the peer's name, or ``nobody``."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = tls.peer_identity(writer.get_extra_info("ssl_object"))
        writer.write(peer.dn.encode() if peer else b"nobody")
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client, server_hostname=name
        )
        try:
            said = await reader.read()
        finally:
            writer.close()
    if not said:
        raise ConnectionResetError
    return said.decode()


REFUSED = (ssl.SSLError, ConnectionResetError, BrokenPipeError)


async def test_an_operator_is_known_by_its_certificate(site):
    issued = site.pki.issue_server(site.now, ["a.test"], FIELDS, key_kind=KeyKind.RSA_2048)

    said = await visit(site.context(), site.client(issued))

    assert compared_name(said) == compared_name("CN=smtp.chu-a.mssante.test,OU=318751275100020,"
                                              "O=CHU A,C=FR")  # fmt: skip


async def test_a_peer_without_a_certificate_is_let_in_as_nobody(site):
    assert await visit(site.context(), site.client()) == "nobody"


async def test_a_personal_certificate_is_no_operator(site):
    issued = site.pki.issue_personal(
        site.now, "dr@a.test", "Dr ZZCANARY", key_kind=KeyKind.EC_P256
    )

    with pytest.raises(REFUSED):
        await visit(site.context(), site.client(issued))


async def test_a_seal_is_no_operator(site):
    issued = site.pki.issue_seal(site.now, "dr@a.test", "A", key_kind=KeyKind.EC_P256)

    with pytest.raises(REFUSED):
        await visit(site.context(), site.client(issued))


async def test_a_foreign_authority_is_refused(site):
    foreign = PracticePki.create(site.now, "Cabinet")

    with pytest.raises(REFUSED):
        await visit(
            site.context(), site.client(foreign.issue_server(site.now, ["a.test"], FIELDS))
        )


@pytest.mark.parametrize(
    ("shift", "life"),
    [(timedelta(days=-10), timedelta(days=9)), (timedelta(days=10), timedelta(days=9))],
    ids=["expired", "not-yet-valid"],
)
async def test_a_certificate_outside_its_time_is_refused(site, shift, life):
    issued = site.pki.issue_server(site.now + shift, ["a.test"], FIELDS, valid_for=life)

    with pytest.raises(REFUSED):
        await visit(site.context(), site.client(issued))


async def test_a_short_rsa_key_is_refused(site, monkeypatch):
    from cryptography.hazmat.primitives.asymmetric import rsa

    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505
    monkeypatch.setattr("certs.issue.new_key", lambda _kind: weak)
    issued = site.pki.issue_server(site.now, ["a.test"], FIELDS)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.set_ciphers("DEFAULT:@SECLEVEL=0")
    client.load_verify_locations(site.dir / "root.pem")
    (site.dir / "c.pem").write_bytes(issued.bundle)
    (site.dir / "c.key").write_bytes(issued.key)
    client.load_cert_chain(site.dir / "c.pem", site.dir / "c.key")

    with pytest.raises(REFUSED):
        await visit(site.context(), client)


async def test_a_revoked_operator_is_refused_also_by_a_context_in_use(site):
    issued = site.pki.issue_server(site.now, ["a.test"], FIELDS)
    context, client = site.context(), site.client(issued)
    assert await visit(context, client) != "nobody"

    later = site.now + timedelta(seconds=0)
    crl = site.pki.issue_crl(
        Branch.OPERATORS, later, [issued.serial], number=int(later.timestamp()) + 1
    )
    (site.dir / "operators-ca.crl").write_bytes(crl)
    with pytest.raises(REFUSED):
        await visit(site.context(), client)


async def test_newer_lists_reach_a_context_in_use(site):
    site.now -= timedelta(days=1)
    for branch in Branch:
        (site.dir / f"{branch.value}.crl").write_bytes(site.pki.issue_crl(branch, site.now))
    site.now += timedelta(days=1)
    issued = site.pki.issue_server(site.now, ["a.test"], FIELDS)
    context, client = site.context(), site.client(issued)
    assert await visit(context, client) != "nobody"
    (site.dir / "operators-ca.crl").write_bytes(
        site.pki.issue_crl(Branch.OPERATORS, site.now, [issued.serial])
    )

    tls.add_crls(context, lists_of(site.dir))

    with pytest.raises(REFUSED):
        await visit(context, client)


async def test_without_a_current_list_no_certificate_is_good(site):
    issued = site.pki.issue_server(site.now, ["a.test"], FIELDS)
    client = site.client(issued)
    (site.dir / "operators-ca.crl").write_bytes(
        site.pki.issue_crl(
            Branch.OPERATORS, site.now - timedelta(days=2), valid_for=timedelta(days=1)
        )
    )
    with pytest.raises(REFUSED):
        await visit(site.context(), client)
    (site.dir / "operators-ca.crl").unlink()
    with pytest.raises(REFUSED):
        await visit(site.context(), client)


def test_a_revoked_operators_authority_makes_no_context(site):
    serial = site.pki.authorities[Branch.OPERATORS].certificate.serial_number
    (site.dir / "root.crl").write_bytes(site.pki.issue_crl(Branch.ROOT, site.now, [serial]))

    with pytest.raises(KeyStoreError):
        site.context()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"junk", id="junk"),
        pytest.param(b"-----BEGIN X509 CRL-----\nMA==\n-----END X509 CRL-----\n", id="no list"),
    ],
)
async def test_a_broken_list_costs_no_other(site, content):
    issued = site.pki.issue_server(site.now, ["a.test"], FIELDS)
    (site.dir / "broken.crl").write_bytes(content)

    assert await visit(site.context(), site.client(issued)) != "nobody"


async def test_a_broken_list_of_the_issuer_is_as_good_as_none(site):
    issued = site.pki.issue_server(site.now, ["a.test"], FIELDS)
    (site.dir / "operators-ca.crl").write_bytes(b"junk")

    with pytest.raises(REFUSED):
        await visit(site.context(), site.client(issued))


async def test_an_authority_that_is_revoked_later_takes_its_operators_along(site):
    issued = site.pki.issue_server(site.now, ["a.test"], FIELDS)
    server, client = site.context(), site.client(issued)
    assert await visit(server, client) != "nobody"
    assert tls.anchors_over(server, site.now) == 0
    serial = site.pki.authorities[Branch.OPERATORS].certificate.serial_number
    newer = site.pki.issue_crl(Branch.ROOT, site.now + timedelta(minutes=1), [serial])
    tls.add_crls(server, [x509.load_pem_x509_crl(newer)])

    assert await visit(server, client) == "nobody"
    assert tls.anchors_over(server, site.now) == 1


def test_an_authority_that_runs_out_is_told(site):
    server = site.context()
    end = site.pki.authorities[Branch.OPERATORS].certificate.not_valid_after_utc

    assert tls.anchors_over(server, end) == 0
    assert tls.anchors_over(server, end + timedelta(seconds=1)) == 1


def test_missing_and_broken_files_make_no_context(site):
    with pytest.raises(KeyStoreError):
        tls.server_context(
            site.dir / "server.pem",
            site.dir / "server.key",
            client_ca=site.dir / "clients.pem",
            crls=site.dir / "absent",
        )
    with pytest.raises(KeyStoreError):
        tls.server_context(site.dir / "absent.pem", site.dir / "server.key")
    with pytest.raises(KeyStoreError):
        tls.server_context(site.dir / "server.pem", site.dir / "private" / "root.key")


async def test_the_client_checks_the_server_and_its_name(site):
    assert await visit(site.context(), site.client()) == "nobody"
    with pytest.raises(ssl.SSLCertVerificationError):
        await visit(site.context(), site.client(), "elsewhere.test")
    revoked = site.pki.issue_crl(Branch.OPERATORS, site.now, [site.server.serial])
    (site.dir / "operators-ca.crl").write_bytes(revoked)
    with pytest.raises(ssl.SSLCertVerificationError):
        await visit(site.context(), site.client())


async def test_a_client_in_use_goes_on_with_newer_lists_and_refuses_the_newly_revoked(site):
    """The queue's context lives for months: longer than the lists it was made with."""
    ran_out = site.now - timedelta(days=2)
    for branch in Branch:
        (site.dir / f"{branch.value}.crl").write_bytes(
            site.pki.issue_crl(branch, ran_out, valid_for=timedelta(days=1))
        )
    server = tls.server_context(site.dir / "server.pem", site.dir / "server.key")
    client = tls.client_context(site.dir / "root.pem", crls=site.dir)
    with pytest.raises(ssl.SSLCertVerificationError):
        await visit(server, client)

    for branch in Branch:
        (site.dir / f"{branch.value}.crl").write_bytes(
            site.pki.issue_crl(branch, site.now - timedelta(hours=1))
        )
    tls.add_crls(client, lists_of(site.dir))
    assert await visit(server, client) == "nobody"

    (site.dir / "operators-ca.crl").write_bytes(
        site.pki.issue_crl(Branch.OPERATORS, site.now, [site.server.serial])
    )
    tls.add_crls(client, lists_of(site.dir))
    with pytest.raises(ssl.SSLCertVerificationError):
        await visit(server, client)


def pinned(site: Site, name: str) -> ssl.SSLContext:
    return tls.client_context(site.dir / "root.pem", crls=site.dir, server_name=name)


async def test_a_pinned_name_is_asked_for_whatever_address_is_connected_to(site):
    """The bridge reaches its own server on loopback: any other server of the practice is not it."""
    server = site.context()

    for reached_by in ("localhost", "127.0.0.1", "elsewhere.test"):
        assert await visit(server, pinned(site, "localhost"), name=reached_by) == "nobody"
        with pytest.raises(ssl.SSLCertVerificationError):
            await visit(server, pinned(site, "mail.cabinet.test"), name=reached_by)


def test_a_pinned_name_is_asked_for_on_uvloop(site):
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        assert await visit(site.context(), pinned(site, "localhost"), name="x.test") == "nobody"
        with pytest.raises(ssl.SSLCertVerificationError):
            await visit(site.context(), pinned(site, "other.test"))

    uvloop.run(main())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_tls_below_1_2_is_refused(site, version):
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        client.minimum_version = client.maximum_version = version
    client.set_ciphers("ALL:@SECLEVEL=0")
    client.load_verify_locations(site.dir / "root.pem")

    with pytest.raises(REFUSED):
        await visit(site.context(), client)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_1_2_and_1_3_are_spoken_and_give_no_ticket(site, version):
    client = site.client()
    client.maximum_version = client.minimum_version = version
    held: list[ssl.SSLSession | None] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=site.context())
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client, server_hostname="localhost"
        )
        await reader.read()
        held.append(writer.get_extra_info("ssl_object").session)
        writer.close()

    assert held[0] is None or not held[0].has_ticket


def twice(server: ssl.SSLContext, client: ssl.SSLContext, between: Callable[[], None]) -> list:
    """Connect, then connect again with the first session; what the server saw each time."""
    seen: list[tuple[bool | None, bool]] = []
    kept: list[ssl.SSLSocket] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for _ in range(2):
            plain, _ = listener.accept()
            secured = server.wrap_socket(plain, server_side=True)
            seen.append((secured.session_reused, tls.peer_identity(secured) is not None))
            secured.send(b"seen")
            secured.recv(1)
            kept.append(secured)

    thread = threading.Thread(target=serve)
    thread.start()
    session = None
    for step in (between, lambda: None):
        plain = socket.create_connection(listener.getsockname())
        secured = client.wrap_socket(plain, server_hostname="localhost", session=session)
        session = secured.session
        assert secured.recv(4) == b"seen"
        step()
        secured.send(b"x")
        kept.append(secured)
    thread.join()
    for each in (*kept, listener):
        each.close()
    return seen


@pytest.mark.parametrize("revoked", [False, True])
def test_a_revoked_peer_cannot_resume_a_session(site, revoked):
    issued = site.pki.issue_server(site.now, ["a.test"], FIELDS)
    server, client = site.context(), site.client(issued)
    client.maximum_version = ssl.TLSVersion.TLSv1_2

    def between() -> None:
        serials = [issued.serial] if revoked else []
        (site.dir / "operators-ca.crl").write_bytes(
            site.pki.issue_crl(Branch.OPERATORS, site.now + timedelta(seconds=1), serials)
        )
        tls.add_crls(server, lists_of(site.dir))

    assert twice(server, client, between) == [(False, True), (True, not revoked)]


def operators_list(
    site: Site, at: datetime, revoked: dict[int, x509.ReasonFlags], **more: object
) -> bytes:
    """Sign a list of the operators' authority: a delta, of one scope, of a short life."""
    authority = site.pki.authorities[Branch.OPERATORS]
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(at)
        .next_update(at + more.pop("life", timedelta(days=30)))  # type: ignore[operator]
        .add_extension(x509.CRLNumber(int(at.timestamp())), critical=False)
    )
    if more.pop("delta", False):
        builder = builder.add_extension(x509.DeltaCRLIndicator(1), critical=True)
    if more:
        values = {"full_name": None, "relative_name": None, "indirect_crl": False} | {
            "only_contains_user_certs": False,
            "only_contains_ca_certs": False,
            "only_contains_attribute_certs": False,
            "only_some_reasons": None,
        }
        scope = x509.IssuingDistributionPoint(**(values | more))  # type: ignore[arg-type]
        builder = builder.add_extension(scope, critical=True)
    for serial, reason in revoked.items():
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(serial)
            .revocation_date(at)
            .add_extension(x509.CRLReason(reason), critical=False)
            .build()
        )
    signed = builder.sign(authority.key, hashes.SHA256())  # type: ignore[arg-type]
    return signed.public_bytes(serialization.Encoding.PEM)


STOLEN, HOLD = x509.ReasonFlags.key_compromise, x509.ReasonFlags.certificate_hold
OFF = x509.ReasonFlags.remove_from_crl


@pytest.mark.parametrize(
    ("lists", "good"),
    [
        pytest.param([(1, STOLEN, {}), (2, None, {"delta": True})], False, id="a later delta"),
        pytest.param([(1, None, {}), (2, STOLEN, {"delta": True})], False, id="in the delta"),
        pytest.param([(1, None, {}), (2, OFF, {"delta": True})], True, id="off the base"),
        pytest.param([(1, HOLD, {"delta": True}), (2, None, {})], True, id="a newer base"),
        pytest.param([(1, STOLEN, {"life": timedelta(days=1)})], False, id="in an emergency"),
        pytest.param(
            [(1, STOLEN, {}), (2, None, {"only_contains_ca_certs": True})], False, id="of CAs"
        ),
        pytest.param(
            [(1, STOLEN, {}), (2, None, {"only_some_reasons": frozenset({STOLEN})})],
            False,
            id="of some reasons",
        ),
        pytest.param([(1, None, {"only_contains_user_certs": True})], True, id="of users"),
    ],
)
def test_no_list_of_the_issuer_whitewashes_another(site, lists, good):
    issued = site.pki.issue_server(site.now, ["a.test"], FIELDS)
    server, client = site.context(), site.client(issued)
    client.maximum_version = ssl.TLSVersion.TLSv1_2

    def between() -> None:
        for seconds, reason, more in lists:
            at = site.now + timedelta(seconds=seconds)
            revoked = {} if reason is None else {issued.serial: reason}
            made = operators_list(site, at, revoked, **more)
            tls.add_crls(server, [x509.load_pem_x509_crl(made)])

    assert twice(server, client, between) == [(False, True), (True, good)]


class Upgrading(asyncio.Protocol):
    """Speaks in clear, then upgrades as STARTTLS does."""

    def __init__(self, context: ssl.SSLContext, tasks: asyncio.TaskGroup) -> None:
        self.context, self.tasks = context, tasks
        self.secured = False

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        if not self.secured:
            self.secured = True
            self.tasks.create_task(self.upgrade())

    async def upgrade(self):
        loop = asyncio.get_running_loop()
        self.transport.write(b"go\n")
        transport = await loop.start_tls(self.transport, self, self.context, server_side=True)
        peer = tls.peer_identity(transport.get_extra_info("ssl_object"))
        transport.write(peer.dn.encode() if peer else b"nobody")
        transport.close()


async def starttls(site: Site) -> None:
    issued = site.pki.issue_server(site.now, ["a.test"], FIELDS)
    client, loop = site.client(issued), asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        context = site.context()
        listener = await loop.create_server(lambda: Upgrading(context, tasks), "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"go\n"
        await writer.start_tls(client, server_hostname="localhost")
        said = await reader.read()
        writer.close()
        listener.close()
    assert said.startswith(b"CN=smtp.chu-a.mssante.test")


async def test_starttls_on_asyncio_tells_the_peer(site):
    await starttls(site)


def test_starttls_on_uvloop_tells_the_peer(site):
    uvloop = pytest.importorskip("uvloop")
    uvloop.run(starttls(site))


def test_mutual_tls_on_uvloop_refuses_a_personal_certificate(site):
    uvloop = pytest.importorskip("uvloop")
    issued = site.pki.issue_personal(site.now, "dr@a.test", "Dr", key_kind=KeyKind.EC_P256)

    async def play() -> None:
        with pytest.raises(REFUSED):
            await visit(site.context(), site.client(issued))

    uvloop.run(play())


def test_a_peer_is_described_by_its_whole_certificate(site):
    certificate = x509.load_pem_x509_certificate(site.server.certificate)
    identity = tls._identity(certificate.public_bytes(tls.Encoding.DER))

    assert identity.serial == f"{site.server.serial:X}"
    assert identity.fingerprint == certificate.fingerprint(hashes.SHA256()).hex()
    assert identity.not_after == certificate.not_valid_after_utc
    assert tls.peer_identity(None) is None
