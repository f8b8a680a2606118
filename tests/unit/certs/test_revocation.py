"""Revocation lists: which ones prove something, about whom, and how fast a long one is read.

Source: RFC 5280 §5.2, RFC 5280 §6.3.
"""

import time
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from certs import revocation
from certs.issue import Branch
from certs.verdict import PathStatus
from tests.support import pki


def chain() -> tuple[bytes, ...]:
    signer = pki.signer(pki.seal())
    root = pki.practice().authorities[Branch.ROOT].certificate
    return tuple(
        each.public_bytes(Encoding.DER) for each in (signer.certificate, *signer.chain, root)
    )


def crl(*extensions: tuple[x509.ExtensionType, bool], serials=(), key=None, algorithm=None):
    """A list of the organisation's branch, with odd extensions or another key."""
    authority = pki.practice().authorities[Branch.ORGANISATION]
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(pki.AT)
        .next_update(pki.AT + timedelta(days=1))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    for serial in serials:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(pki.AT).build()
        )
    return builder.sign(key or authority.key, algorithm or hashes.SHA256()).public_bytes(
        Encoding.DER
    )


def status(*lists: bytes, at=pki.AT) -> PathStatus:
    root = pki.practice().issue_crl(Branch.ROOT, pki.AT)
    return revocation.judge(chain(), (root, *lists), at).status


def scope(**fields: object) -> tuple[x509.ExtensionType, bool]:
    defaults: dict[str, object] = {
        "full_name": None,
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    return x509.IssuingDistributionPoint(**(defaults | fields)), True


def test_a_whole_current_list_that_names_nobody_is_good():
    assert status(crl()) is PathStatus.TRUSTED
    assert status(crl(scope(only_contains_user_certs=True))) is PathStatus.TRUSTED


@pytest.mark.parametrize(
    "extensions",
    [
        pytest.param([(x509.DeltaCRLIndicator(1), True)], id="delta"),
        pytest.param([scope(only_contains_ca_certs=True)], id="authorities-only"),
        pytest.param([scope(indirect_crl=True)], id="indirect"),
        pytest.param(
            [scope(only_some_reasons=frozenset({x509.ReasonFlags.key_compromise}))],
            id="some-reasons",
        ),
        pytest.param([scope(only_contains_attribute_certs=True)], id="attribute-certificates"),
        pytest.param(
            [(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)],
            id="critical-unknown",
        ),
    ],
)
def test_a_list_of_narrower_scope_proves_nothing_good(extensions):
    assert status(crl(*extensions)) is PathStatus.REVOCATION_UNKNOWN


def test_a_list_by_another_key_of_the_same_name_proves_nothing():
    key = ec.generate_private_key(ec.SECP256R1())
    serial = pki.seal().serial

    assert status(crl(key=key)) is PathStatus.REVOCATION_UNKNOWN
    assert status(crl(key=key, serials=[serial]), crl()) is PathStatus.TRUSTED


def test_one_list_that_names_the_certificate_outweighs_another_that_does_not():
    serial = pki.seal().serial

    for lists in ((crl(), crl(serials=[serial])), (crl(serials=[serial]), crl())):
        assert status(*lists) is PathStatus.REVOKED


def test_a_revoked_authority_revokes_what_it_issued():
    serial = pki.practice().authorities[Branch.ORGANISATION].certificate.serial_number
    root = pki.practice().issue_crl(Branch.ROOT, pki.AT, [serial])

    assert revocation.judge(chain(), (root, crl()), pki.AT).status is PathStatus.REVOKED


def test_without_the_roots_list_the_authority_is_unknown():
    assert revocation.judge(chain(), (crl(),), pki.AT).status is PathStatus.REVOCATION_UNKNOWN


def test_a_list_of_twenty_thousand_is_read_once_and_asked_quickly():
    content = crl(serials=range(1, 20_001))
    status(content)

    started = time.process_time()
    for _ in range(50):
        assert status(content) is PathStatus.TRUSTED
    assert (time.process_time() - started) / 50 < 0.02
