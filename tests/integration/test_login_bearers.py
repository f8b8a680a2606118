"""Certificates and tokens over IMAP and over submission: what opens a mailbox, and what no more.

Source: RFC 4422 §3, RFC 7628 §3.2, RFC 5280 §6.3; RULES §12, threats S10, S15, O1.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from certs.issue import Branch, Issued, KeyKind, PracticePki
from certs.tls import add_crls, client_context, server_context
from directory.audit_event import AuditEvent
from mailserver.authentication import subject_bearer
from mailserver.fairness import FairLimits, Fairness, Rate
from mailserver.sasl.tokens import TokenIssuer
from mailserver.store.model import Bearer, DeviceKind, NewDevice
from tests.support.imap_site import AT as IMAP_NOW
from tests.support.login_line import FRONTS, Door, LoginLine, doors
from tests.support.tokens import AUDIENCE, ISSUER, mint, public_pem

pytestmark = pytest.mark.timeout(60)
KEY = ec.generate_private_key(ec.SECP256R1())
SUBJECT = "f:1:899700218896"


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def moment(front: str) -> datetime:
    """The clock of the front end's test site."""
    return IMAP_NOW if front == "imap" else datetime.now(UTC)


# -- certificates -----------------------------------------------------------------------------


@dataclass
class Certified:
    """A front end that asks for certificates of the personal branch, and its PKI."""

    door: Door
    pki: PracticePki
    root: Path
    server: ssl.SSLContext

    def issue(self, name: str, pki: PracticePki | None = None) -> tuple[ssl.SSLContext, str]:
        """Give a client's context with a certificate of its own, and the fingerprint."""
        issued = (pki or self.pki).issue_personal(
            datetime.now(UTC), f"{name}@a.test", "Dr Essai", key_kind=KeyKind.EC_P256
        )
        return self.client(name, issued), fingerprint(issued)

    def client(self, name: str, issued: Issued) -> ssl.SSLContext:
        cert, key = self.root / f"{name}.pem", self.root / f"{name}.key"
        cert.write_bytes(issued.bundle)
        key.write_bytes(issued.key)
        return client_context(self.root / "own" / "root.pem", cert, key)

    async def record(
        self, value: str, address: str | None = None, until: timedelta = timedelta(days=1)
    ) -> int:
        """Let a certificate open a mailbox; gives the device's id."""
        mailbox = await self.door.store.accounts.mailbox(address or self.door.login)
        assert mailbox is not None
        at = moment(self.door.front)
        device = await self.door.store.accounts.add_bearer(
            NewDevice(mailbox.id, "poste", at, at + until), Bearer(DeviceKind.CERTIFICATE, value)
        )
        return device.id


def fingerprint(issued: Issued) -> str:
    certificate = x509.load_pem_x509_certificate(issued.certificate)
    return certificate.fingerprint(hashes.SHA256()).hex()


@asynccontextmanager
async def certified(front: str, root: Path) -> AsyncIterator[Certified]:
    at = datetime.now(UTC)
    pki = PracticePki.create(at, "OPERATEUR DE TEST")
    server = pki.issue_server(at, ["localhost", "127.0.0.1"], {"CN": "localhost"})
    own = root / "own"
    pki.write(own, at, server)
    authority = root / "mail-clients.pem"
    authority.write_bytes(pki.authorities[Branch.PERSONAL].pem)
    context = server_context(
        own / "server.pem", own / "server.key", client_ca=authority, crls=own

    )  # fmt: skip
    async with doors(front, root, tls=context) as door:
        door.client_tls = client_context(own / "root.pem")
        yield Certified(door, pki, root, context)


async def test_a_recorded_certificate_opens_its_mailbox(front: str, tmp_path: Path) -> None:
    async with certified(front, tmp_path) as site:
        tls, value = site.issue("poste")
        await site.record(value)
        for login in (b"", site.door.login.encode(), site.door.login.upper().encode()):
            line = await site.door.line(tls)
            assert "EXTERNAL" in line.announced

            assert line.accepted(str(await line.begin("EXTERNAL", login)))
            assert await line.is_in()
        line = await site.door.line(tls)
        assert await line.begin("EXTERNAL") == b""
        assert line.accepted(str(await line.answer(b"")))


async def test_a_client_without_a_certificate_logs_in_as_before(
    front: str, tmp_path: Path
) -> None:
    async with certified(front, tmp_path) as site:
        line = await site.door.line()
        assert "EXTERNAL" not in line.announced
        assert line.unknown(str(await line.begin("EXTERNAL", b"")))
        plain = f"\0{site.door.login}\0{site.door.secret}".encode()
        assert line.accepted(str(await line.begin("PLAIN", plain)))


async def test_a_certificate_opens_nothing_but_what_it_was_recorded_for(
    front: str, tmp_path: Path
) -> None:
    async with certified(front, tmp_path) as site:
        tls, value = site.issue("poste")
        stranger, _ = site.issue("stranger")
        await site.record(value)
        for context, login in (
            (tls, site.door.other.encode()), (tls, b"nobody@nowhere.test"),
            (stranger, b""), (stranger, site.door.login.encode()),
        ):  # fmt: skip
            line = await site.door.line(context)
            assert line.refused(str(await line.begin("EXTERNAL", login)))
            assert not await line.is_in()


async def test_a_certificate_of_two_mailboxes_must_say_which(front: str, tmp_path: Path) -> None:
    async with certified(front, tmp_path) as site:
        tls, value = site.issue("poste")
        await site.record(value)
        await site.record(value, site.door.other)
        line = await site.door.line(tls)
        assert line.refused(str(await line.begin("EXTERNAL", b"")))
        assert line.accepted(str(await line.begin("EXTERNAL", site.door.other.encode())))


async def test_a_mapping_that_was_revoked_or_is_over_opens_nothing(
    front: str, tmp_path: Path
) -> None:
    async with certified(front, tmp_path) as site:
        tls, value = site.issue("poste")
        device = await site.record(value)
        await site.record(value, until=timedelta())
        line = await site.door.line(tls)
        event = AuditEvent("device_revoked", datetime.now(UTC), "cli:test")
        assert await site.door.store.accounts.revoke_device(device, event)
        assert line.refused(str(await line.begin("EXTERNAL", b"")))
        assert line.refused(str(await line.begin("EXTERNAL", site.door.login.encode())))
        assert not await line.is_in()


async def test_a_certificate_revoked_after_the_handshake_opens_nothing(
    front: str, tmp_path: Path
) -> None:
    async with certified(front, tmp_path) as site:
        tls, value = site.issue("poste")
        await site.record(value)
        line = await site.door.line(tls)
        serial = x509.load_pem_x509_certificate((tmp_path / "poste.pem").read_bytes())
        crl = site.pki.issue_crl(
            Branch.PERSONAL, datetime.now(UTC) + timedelta(seconds=1), [serial.serial_number]
        )
        add_crls(site.server, [x509.load_pem_x509_crl(crl)])

        assert line.unknown(str(await line.begin("EXTERNAL", b""))), "it counts as none"
        assert not await line.is_in()


async def test_a_certificate_of_another_authority_ends_the_handshake(
    front: str, tmp_path: Path
) -> None:
    async with certified(front, tmp_path) as site:
        other = PracticePki.create(datetime.now(UTC), "AUTRE")
        tls, _ = site.issue("other", other)
        operator = site.client(
            "operator",
            site.pki.issue_server(datetime.now(UTC), ["localhost"], {"CN": "localhost"}),
        )
        assert (await greeting(site, site.door.client_tls)).startswith((b"* OK", b"220"))
        for context in (tls, operator):
            assert await greeting(site, context) == b""


async def greeting(site: Certified, tls: ssl.SSLContext) -> bytes:
    """Give what a server says first, nothing when it ends the handshake.

    In TLS 1.3 a client learns of that only when it reads.
    """
    writer = None
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", site.door.tls_port, ssl=tls, server_hostname="localhost"
        )
        return await reader.readline()
    except (ssl.SSLError, ConnectionError):
        return b""
    finally:
        if writer is not None:
            writer.transport.abort()


# -- tokens -----------------------------------------------------------------------------------


@asynccontextmanager
async def provided(front: str, root: Path, **more: Any) -> AsyncIterator[Door]:
    """A front end that knows a provider; its subject opens the first mailbox. Any: of doors."""
    tokens = TokenIssuer.from_pem(ISSUER, AUDIENCE, public_pem(KEY))
    async with doors(front, root, tokens=tokens, **more) as door:
        mailbox = await door.store.accounts.mailbox(door.login)
        assert mailbox is not None
        at = moment(front)
        await door.store.accounts.add_bearer(
            NewDevice(mailbox.id, "portail", at, at + timedelta(days=1)),
            subject_bearer(ISSUER, SUBJECT),
        )
        yield door


def token(front: str, **change: Any) -> str:
    """Sign a token that is good now; Any: claims are JSON."""
    now = int(moment(front).timestamp())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": SUBJECT, "exp": now + 300, "iat": now}
    return mint(change.pop("key", KEY), claims | change)


def oauthbearer(login: str, bearer: str) -> bytes:
    name = f"a={login}" if login else ""
    return f"n,{name},\x01host=localhost\x01port=1\x01auth=Bearer {bearer}\x01\x01".encode()


def xoauth2(login: str, bearer: str) -> bytes:
    return f"user={login}\x01auth=Bearer {bearer}\x01\x01".encode()


FORMS: dict[str, Callable[[str, str], bytes]] = {"OAUTHBEARER": oauthbearer, "XOAUTH2": xoauth2}


async def refused(line: LoginLine, said: bytes | str, mechanism: str) -> None:
    """A refusal of a token: first why, then, when that was read, no."""
    assert isinstance(said, bytes)
    assert b"status" in said
    assert line.refused(str(await line.answer(b"\x01" if mechanism == "OAUTHBEARER" else b"")))
    assert not await line.is_in()


@pytest.mark.parametrize("mechanism", FORMS)
async def test_a_token_of_the_provider_opens_the_recorded_mailbox(
    front: str, mechanism: str, tmp_path: Path
) -> None:
    async with provided(front, tmp_path) as door:
        line = await door.line()
        assert {"OAUTHBEARER", "XOAUTH2"} <= line.announced
        first = FORMS[mechanism](door.login, token(front))
        assert line.accepted(str(await line.begin(mechanism, first)))
        assert await line.is_in()
        line = await door.line()
        assert await line.begin(mechanism) == b""
        assert line.accepted(str(await line.answer(first)))


async def test_oauthbearer_may_leave_the_mailbox_to_the_record(front: str, tmp_path: Path) -> None:
    async with provided(front, tmp_path) as door:
        line = await door.line()
        said = await line.begin("OAUTHBEARER", oauthbearer("", token(front)))
        assert line.accepted(str(said))


@pytest.mark.parametrize("mechanism", FORMS)
@pytest.mark.parametrize(
    "change",
    [
        {"sub": "another"}, {"iss": "https://evil.test"}, {"aud": "another"}, {"exp": 1},
        {"key": ec.generate_private_key(ec.SECP256R1())}, {"nbf": 2**40},
    ],
    ids=["subject", "issuer", "audience", "expired", "key", "not yet"],
)  # fmt: skip
async def test_another_token_opens_nothing(
    front: str, mechanism: str, change: dict[str, Any], tmp_path: Path
) -> None:
    async with provided(front, tmp_path) as door:
        line = await door.line()
        first = FORMS[mechanism](door.login, token(front, **change))
        await refused(line, await line.begin(mechanism, first), mechanism)


@pytest.mark.parametrize("mechanism", FORMS)
async def test_a_good_token_opens_no_mailbox_of_another(
    front: str, mechanism: str, tmp_path: Path
) -> None:
    async with provided(front, tmp_path) as door:
        for login in (door.other, "nobody@nowhere.test"):
            line = await door.line()
            first = FORMS[mechanism](login, token(front))
            await refused(line, await line.begin(mechanism, first), mechanism)


async def test_a_client_may_cancel_instead_of_reading_why_and_is_counted(
    front: str, tmp_path: Path
) -> None:
    fairness = Fairness(replace(FairLimits(), account_failures=Rate(1, 600.0)), lambda: 0.0)
    async with provided(front, tmp_path, fairness=fairness) as door:
        line = await door.line()
        said = await line.begin("XOAUTH2", xoauth2(door.login, "a.b.c"))
        assert isinstance(said, bytes)
        assert line.refused(await line.say("*"))
        assert line.later(str(await line.begin("XOAUTH2", xoauth2(door.login, token(front)))))


async def test_a_client_that_hangs_up_instead_of_reading_why_is_counted_too(
    front: str, tmp_path: Path
) -> None:
    fairness = Fairness(replace(FairLimits(), account_failures=Rate(1, 600.0)), lambda: 0.0)
    async with provided(front, tmp_path, fairness=fairness) as door:
        line = await door.line()
        assert isinstance(await line.begin("XOAUTH2", xoauth2(door.login, "a.b.c")), bytes)
        await door.forget()

        assert not fairness.may_log_in("127.0.0.1", door.login)


async def test_a_device_password_is_no_token_and_a_token_no_password(
    front: str, tmp_path: Path
) -> None:
    async with provided(front, tmp_path) as door:
        line = await door.line()
        plain = f"\0{door.login}\0{SUBJECT}".encode()
        assert line.refused(str(await line.begin("PLAIN", plain)))
        said = await line.begin("XOAUTH2", xoauth2(door.login, door.secret))
        await refused(line, said, "XOAUTH2")
