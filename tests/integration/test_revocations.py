"""Contexts in use learn of revocations, and never from a list that is worse than what they have.

Source: RFC 5280 §5.2.3, RFC 5280 §6.3.
"""

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from structlog.testing import capture_logs

from certs.issue import Branch, PracticePki
from certs.keystore import KeyStore
from certs.tls import server_context
from mailserver.revocations import Revocations

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def pki() -> PracticePki:
    return PracticePki.create(NOW, "PRATIQUE")


@pytest.fixture
def folder(pki: PracticePki, tmp_path: Path) -> Path:
    pki.write(tmp_path, NOW, pki.issue_server(NOW, ["localhost"], {"CN": "a", "C": "FR"}))
    shutil.copyfile(tmp_path / "operators-ca.pem", tmp_path / "peers.pem")
    return tmp_path


class Opened:
    def __init__(self, folder: Path) -> None:
        self.context = server_context(
            folder / "server.pem",
            folder / "server.key",
            client_ca=folder / "peers.pem",
            crls=folder,
        )
        self.path = folder / "operators-ca.crl"
        self.at = NOW + timedelta(days=1)
        self.revocations = Revocations(
            KeyStore(folder),
            [folder / "peers.pem"],
            [self.context],
            lambda: self.at,
        )

    def revoked(self) -> frozenset[int]:
        issuer = x509.load_pem_x509_certificate((self.path.with_name("peers.pem")).read_bytes())
        held = self.context.lists[issuer.subject.public_bytes()].values()
        return frozenset[int]().union(*(each.serials for each in held))


def crl(pki: PracticePki, *serials: int, minutes: int = 1) -> bytes:
    return pki.issue_crl(Branch.OPERATORS, NOW + timedelta(minutes=minutes), serials)


async def test_a_newer_list_reaches_the_contexts_in_use(pki, folder):
    opened = Opened(folder)
    await opened.revocations.renew()
    assert opened.revoked() == frozenset()
    opened.path.write_bytes(crl(pki, 77))

    assert await opened.revocations.renew()
    assert opened.revoked() == {77}
    assert not await opened.revocations.renew()


async def test_a_list_dated_ahead_of_our_clock_counts_once_its_time_comes(pki, folder):
    opened = Opened(folder)
    opened.at = NOW
    await opened.revocations.renew()
    opened.path.write_bytes(crl(pki, 77, minutes=5))
    assert not await opened.revocations.renew()
    assert opened.revoked() == frozenset()
    opened.at += timedelta(minutes=5)

    assert await opened.revocations.renew()
    assert opened.revoked() == {77}


@pytest.mark.parametrize(
    "worse",
    [
        pytest.param(lambda pki: b"", id="empty"),
        pytest.param(lambda pki: crl(pki)[:-60], id="cut"),
        pytest.param(lambda pki: crl(pki, minutes=-9), id="older"),
        pytest.param(lambda _: crl(PracticePki.create(NOW, "AUTRE")), id="a stranger's"),
    ],
)
async def test_a_worse_list_leaves_the_last_good_one_and_is_told_once(pki, folder, worse):
    opened = Opened(folder)
    opened.path.write_bytes(crl(pki, 77))
    await opened.revocations.renew()
    opened.path.write_bytes(worse(pki))

    with capture_logs() as lines:
        assert not await opened.revocations.renew()
        assert not await opened.revocations.renew()

    assert opened.revoked() == {77}
    assert [(line["event"], line["list"]) for line in lines] == [
        ("revocation_list_refused", "operators-ca.crl")
    ]


async def test_a_list_broken_at_start_is_told_and_the_others_serve(pki, folder):
    (folder / "root.crl").write_bytes(b"junk")
    opened = Opened(folder)

    with capture_logs() as lines:
        await opened.revocations.renew()

    assert [(line["event"], line["list"]) for line in lines] == [
        ("revocation_list_refused", "root.crl")
    ]
    assert opened.revoked() == frozenset()


async def test_the_same_list_put_again_is_no_worse_one(pki, folder):
    opened = Opened(folder)
    await opened.revocations.renew()
    opened.path.write_bytes(opened.path.read_bytes())
    os.utime(opened.path, (0, 0))

    with capture_logs() as lines:
        assert not await opened.revocations.renew()

    assert lines == []


async def test_an_authority_that_ran_out_is_told_once(folder):
    opened = Opened(folder)
    await opened.revocations.renew()
    authority = x509.load_pem_x509_certificate((folder / "peers.pem").read_bytes())
    opened.at = authority.not_valid_after_utc + timedelta(seconds=1)

    with capture_logs() as lines:
        await opened.revocations.renew()
        await opened.revocations.renew()

    assert [line["event"] for line in lines] == ["issuing_authority_over"]
