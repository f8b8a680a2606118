"""The PKI directory: files and modes, seals made on demand, lists that never go back."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from certs.anchors import TrustAnchors
from certs.crl_cache import CrlCache
from certs.errors import KeyStoreError
from certs.issue import Branch, KeyKind
from certs.keystore import KeyStore
from certs.smime import VerifyPolicy, sign, verify
from tests.support import pki

ADDRESS = "1970599999999@patient.mssante.test"


@pytest.fixture
def pki_dir(tmp_path):
    directory = tmp_path / "pki"
    pki.practice().write(directory, pki.AT)
    return directory


def store(directory, at: datetime = pki.AT) -> KeyStore:
    return KeyStore(directory, clock=lambda: at, key_kind=KeyKind.EC_P256)


def test_keys_are_for_their_owner_alone(pki_dir):
    server = pki.practice().issue_server(pki.AT, ["a.test"], {"CN": "a.test"})
    pki.practice().write(pki_dir, pki.AT, server)

    keys = [*pki_dir.glob("private/*.key"), pki_dir / "server.key"]
    assert len(keys) == 5
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}
    assert (pki_dir / "private").stat().st_mode & 0o777 == 0o700
    assert (pki_dir / "server.pem").read_bytes().count(b"BEGIN CERTIFICATE") == 2


def test_a_seal_is_made_once_kept_and_good(pki_dir):
    seal = store(pki_dir).seal_for(ADDRESS, "Cabinet")
    again = store(pki_dir).seal_for(ADDRESS, "Cabinet")

    assert seal.certificate == again.certificate
    lists = CrlCache(pki_dir)
    lists.refresh()
    policy = VerifyPolicy(store(pki_dir).anchors(), lists.current(pki.AT), pki.AT)
    assert verify(sign(pki.message(ADDRESS), seal, at=pki.AT), policy).good


def test_a_seal_file_is_private_and_does_not_name_its_mailbox(pki_dir):
    store(pki_dir).seal_for(ADDRESS, "Cabinet")

    [path] = (pki_dir / "seals").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert "1970599999999" not in str(path)


def test_a_seal_is_renewed_before_it_expires(pki_dir):
    first = store(pki_dir).seal_for(ADDRESS, "Cabinet")
    end = first.certificate.not_valid_after_utc

    kept = store(pki_dir, end - timedelta(days=30)).seal_for(ADDRESS, "Cabinet")
    renewed = store(pki_dir, end - timedelta(days=29)).seal_for(ADDRESS, "Cabinet")

    assert kept.certificate == first.certificate
    assert renewed.certificate.not_valid_after_utc > end


def test_threads_that_ask_for_one_seal_get_the_same(pki_dir):
    keys = store(pki_dir)
    seen: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: seen.append(keys.seal_for(ADDRESS, "C").certificate.serial_number)
        )
        for _ in range(8)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert len(seen) == 8
    assert len(set(seen)) == 1


def test_a_directory_without_its_authority_says_so(tmp_path):
    with pytest.raises(KeyStoreError):
        store(tmp_path).seal_for(ADDRESS, "Cabinet")
    with pytest.raises(KeyStoreError):
        store(tmp_path).anchors()


def test_lists_past_half_their_life_are_issued_again_with_what_they_named(pki_dir):
    path = pki_dir / "organisation-ca.crl"
    path.write_bytes(pki.practice().issue_crl(Branch.ORGANISATION, pki.AT, [4711]))
    before = path.read_bytes()

    store(pki_dir, pki.AT + timedelta(days=44)).refresh_crls()
    assert path.read_bytes() == before
    later = pki.AT + timedelta(days=46)
    store(pki_dir, later).refresh_crls()

    fresh = x509.load_pem_x509_crl(path.read_bytes())
    assert fresh.last_update_utc == later
    assert fresh.get_revoked_certificate_by_serial_number(4711) is not None


def numbers(lists: CrlCache, at: datetime) -> list[int]:
    parsed = map(x509.load_der_x509_crl, lists.current(at))
    return [
        each.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for each in parsed
    ]


def put(directory, number: int, at: datetime = pki.AT, *, pem: bool = True) -> None:
    text = pki.practice().issue_crl(Branch.ORGANISATION, at, number=number)
    if not pem:
        text = x509.load_pem_x509_crl(text).public_bytes(x509_der())
    (directory / "a.crl").write_bytes(text)


def x509_der():
    from cryptography.hazmat.primitives.serialization import Encoding

    return Encoding.DER


def test_a_newer_list_replaces_and_an_older_one_never_does(tmp_path):
    lists = CrlCache(tmp_path)
    put(tmp_path, 5)
    assert lists.refresh()
    assert numbers(lists, pki.AT) == [5]

    put(tmp_path, 60, pem=False)
    assert lists.refresh()
    assert numbers(lists, pki.AT) == [60]
    assert lists.epoch == 2

    put(tmp_path, 7)
    assert not lists.refresh()
    assert numbers(lists, pki.AT) == [60]
    assert (lists.epoch, [name for name, _ in lists.refused]) == (2, ["a.crl"])


@pytest.mark.parametrize("content", [b"", b"junk", b"-----BEGIN X509 CRL-----\n"])
def test_a_broken_or_vanished_file_leaves_the_last_good_list(tmp_path, content):
    lists = CrlCache(tmp_path)
    put(tmp_path, 5)
    lists.refresh()

    (tmp_path / "a.crl").write_bytes(content)
    assert not lists.refresh()
    (tmp_path / "a.crl").unlink()
    assert not lists.refresh()

    assert numbers(lists, pki.AT) == [5]


def test_unchanged_files_are_not_read_again(tmp_path):
    lists = CrlCache(tmp_path)
    put(tmp_path, 5)

    assert [lists.refresh(), lists.refresh()] == [True, False]
    assert (lists.epoch, lists.refused) == (1, frozenset())


def test_a_list_by_a_stranger_is_refused_when_issuers_are_known(tmp_path):
    stranger = type(pki.practice()).create(pki.AT, pki.ORGANISATION)
    lists = CrlCache(tmp_path, anchors=pki.anchors())
    put(tmp_path, 5)
    lists.refresh()

    (tmp_path / "b.crl").write_bytes(stranger.issue_crl(Branch.ORGANISATION, pki.AT, number=999))
    assert not lists.refresh()

    assert numbers(lists, pki.AT) == [5]


def test_a_list_counts_from_its_issue_on_and_is_told_when_it_has_run_out(tmp_path):
    lists = CrlCache(tmp_path)
    put(tmp_path, 5)
    lists.refresh()

    assert lists.current(pki.AT - timedelta(seconds=1)) == ()
    assert len(lists.current(pki.AT + timedelta(days=91))) == 1
    assert lists.stale(pki.AT + timedelta(days=90)) == 0
    assert lists.stale(pki.AT + timedelta(days=91)) == 1


def test_anchors_are_told_from_intermediates():
    assert len(pki.anchors().roots) == 1
    assert len(pki.anchors().intermediates) == 3
    assert hash(pki.anchors()) == hash(
        TrustAnchors(pki.anchors().roots, pki.anchors().intermediates)
    )
    with pytest.raises(KeyStoreError):
        TrustAnchors.from_pem(pki.seal().certificate)
    with pytest.raises(KeyStoreError):
        TrustAnchors.from_pem(b"junk")
    assert pki.AT.tzinfo is UTC
