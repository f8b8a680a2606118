"""OpenSSL's ``cms`` command and ours: each verifies, and opens, what the other made.

Source: RFC 5652 §5, RFC 4056 §3, RFC 5754 §3, RFC 8551 §3.5.
"""

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from certs import cms_envelope
from certs.cms_envelope import Cipherment
from certs.errors import DecryptionError
from certs.issue import Branch, KeyKind
from certs.mime import decode_body, scan
from certs.smime import sign, verify
from certs.verdict import PathStatus, Reason
from tests.support import pki

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
EPOCH = str(int(pki.AT.timestamp()))
PSS = ("-keyopt", "rsa_padding_mode:pss")
PSS_32 = (*PSS, "-keyopt", "rsa_pss_saltlen:32")


def openssl(*arguments: str | Path, ok: bool = True) -> bytes:
    done = subprocess.run(
        [str(OPENSSL), "cms", *map(str, arguments)], capture_output=True, timeout=20, check=False
    )
    assert (done.returncode == 0) is ok, done.stderr.decode()
    return done.stdout


def put(directory: Path, kind: KeyKind, address: str = pki.AUTHOR, name: str = pki.ORGANISATION):
    issued = pki.seal(address, kind, name)
    (directory / "leaf.pem").write_bytes(issued.certificate)
    (directory / "chain.pem").write_bytes(issued.chain)
    (directory / "key.pem").write_bytes(issued.key)
    (directory / "root.pem").write_bytes(pki.practice().authorities[Branch.ROOT].pem)
    (directory / "body.txt").write_bytes(pki.BODY)
    return issued


def made_by_openssl(directory: Path, *options: str, author: str = pki.AUTHOR) -> bytes:
    out = openssl(
        "-sign",
        "-in", directory / "body.txt",
        "-signer", directory / "leaf.pem",
        "-inkey", directory / "key.pem",
        "-certfile", directory / "chain.pem",
        "-from", author,
        "-to", "patient@patient.mssante.test",
        "-subject", "Compte rendu",
        *options,
    )  # fmt: skip
    return out.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


@pytest.mark.parametrize("kind", [KeyKind.RSA_2048, KeyKind.EC_P256, KeyKind.EC_P384])
def test_openssl_accepts_what_we_sign(tmp_path, kind):
    issued = put(tmp_path, kind)
    (tmp_path / "m.eml").write_bytes(sign(pki.message(), pki.signer(issued), at=pki.AT))

    content = openssl(
        "-verify", "-in", tmp_path / "m.eml", "-CAfile", tmp_path / "root.pem", "-attime", EPOCH
    )

    assert content.endswith(b"Compte rendu joint.\r\n")


def test_openssl_refuses_what_was_altered_after_we_signed(tmp_path):
    issued = put(tmp_path, KeyKind.RSA_2048)
    raw = sign(pki.message(), pki.signer(issued), at=pki.AT).replace(b"joint", b"JOINT")
    (tmp_path / "m.eml").write_bytes(raw)

    openssl(
        "-verify", "-in", tmp_path / "m.eml", "-CAfile", tmp_path / "root.pem", "-attime", EPOCH,
        ok=False,
    )  # fmt: skip


WAYS = [
    pytest.param(KeyKind.RSA_2048, (), id="rsa"),
    pytest.param(KeyKind.RSA_2048, ("-md", "sha512"), id="rsa-sha512"),
    pytest.param(KeyKind.RSA_2048, (*PSS_32, "-md", "sha256"), id="rsa-pss"),
    pytest.param(KeyKind.RSA_3072, (*PSS, "-md", "sha384"), id="rsa-pss-sha384-longest-salt"),
    pytest.param(KeyKind.EC_P256, ("-md", "sha256"), id="ecdsa-p256"),
    pytest.param(KeyKind.EC_P384, ("-md", "sha384"), id="ecdsa-p384"),
    pytest.param(KeyKind.RSA_2048, ("-keyid",), id="by-key-identifier"),
    pytest.param(KeyKind.RSA_2048, ("-cades", "-md", "sha256"), id="cades-bound-certificate"),
    pytest.param(KeyKind.RSA_2048, ("-stream", "-indef"), id="indefinite-length"),
]


@pytest.mark.parametrize("form", ["detached", "opaque"])
@pytest.mark.parametrize(("kind", "options"), WAYS)
def test_our_verdict_on_what_openssl_signs_is_good(tmp_path, kind, options, form):
    put(tmp_path, kind)
    raw = made_by_openssl(tmp_path, *options, *(["-nodetach"] if form == "opaque" else []))

    verdict = verify(raw, pki.policy())

    assert verdict.good, verdict.reason
    assert verdict.signer_names == (pki.AUTHOR,)


@pytest.mark.parametrize(("kind", "options"), WAYS)
def test_our_verdict_on_an_altered_body_is_a_failure(tmp_path, kind, options):
    put(tmp_path, kind)
    raw = made_by_openssl(tmp_path, *options).replace(b"rendu joint", b"rendu JOINT")

    verdict = verify(raw, pki.policy())

    assert (verdict.intact, verdict.result) == (False, "fail")


def test_our_verdict_on_a_foreign_authority(tmp_path):
    put(tmp_path, KeyKind.RSA_2048, name="Ailleurs")

    verdict = verify(made_by_openssl(tmp_path), pki.policy())

    assert (verdict.intact, verdict.valid, verdict.matches_from) == (True, True, True)
    assert (verdict.path.status, verdict.result) == (PathStatus.UNTRUSTED, "policy")


def test_our_verdict_on_a_signer_that_is_not_the_author(tmp_path):
    put(tmp_path, KeyKind.RSA_2048)

    verdict = verify(made_by_openssl(tmp_path, author="eve@b.test"), pki.policy())

    assert (verdict.reason, verdict.result) == (Reason.SIGNER_NOT_FROM, "fail")


def test_our_verdict_on_a_second_from_field(tmp_path):
    put(tmp_path, KeyKind.RSA_2048)

    verdict = verify(b"From: eve@b.test\r\n" + made_by_openssl(tmp_path), pki.policy())

    assert (verdict.reason, verdict.result) == (Reason.FROM_AMBIGUOUS, "fail")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("-md", "sha1"), Reason.ALGORITHM),
        (("-md", "md5"), Reason.ALGORITHM),
        (("-noattr",), Reason.ATTRIBUTES),
        (("-nocerts",), Reason.NO_CERTIFICATE),
    ],
)
def test_our_verdict_on_what_is_refused(tmp_path, options, reason):
    put(tmp_path, KeyKind.RSA_2048)

    verdict = verify(made_by_openssl(tmp_path, *options), pki.policy())

    assert (verdict.reason, verdict.result) == (reason, "fail")


def decryptor(directory: Path):
    certificate = x509.load_pem_x509_certificate((directory / "leaf.pem").read_bytes())
    return certificate, load_pem_private_key((directory / "key.pem").read_bytes(), None)


@pytest.mark.parametrize("cipherment", list(Cipherment))
def test_openssl_opens_what_we_encrypt(tmp_path, cipherment):
    put(tmp_path, KeyKind.RSA_2048)
    certificate, _ = decryptor(tmp_path)
    sealed = cms_envelope.encrypt(pki.BODY, [certificate], cipherment)
    (tmp_path / "m.der").write_bytes(sealed)

    opened = openssl(
        "-decrypt", "-inform", "DER", "-in", tmp_path / "m.der",
        "-recip", tmp_path / "leaf.pem", "-inkey", tmp_path / "key.pem", "-binary",
    )  # fmt: skip

    assert opened == pki.BODY


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("-aes-256-cbc",), id="cbc-256"),
        pytest.param(("-aes-128-cbc",), id="cbc-128"),
        pytest.param(("-aes-256-gcm",), id="gcm-256"),
        pytest.param(("-aes-256-cbc", "-stream", "-indef"), id="indefinite-length"),
    ],
)
@pytest.mark.parametrize("oaep", [False, True])
def test_we_open_what_openssl_encrypts(tmp_path, options, oaep):
    put(tmp_path, KeyKind.RSA_2048)
    # -keyopt belongs to the -recip before it
    padding = ("-keyopt", "rsa_padding_mode:oaep") if oaep else ()
    raw = openssl(
        "-encrypt", "-binary", *options, "-in", tmp_path / "body.txt",
        "-recip", tmp_path / "leaf.pem", *padding,
    )  # fmt: skip
    raw = raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    encoded = decode_body(raw, scan(raw).root)

    assert cms_envelope.decrypt(encoded, *decryptor(tmp_path)) == pki.BODY
    try:
        opened = cms_envelope.decrypt(encoded, decryptor(tmp_path)[0], pki.signer(other()).key)
    except DecryptionError:
        opened = b""
    # A wrong key opens CBC to noise once in 256 times: its padding then happens to be right.
    assert opened != pki.BODY


def other():
    return pki.seal("other@cabinet.mssante.test", KeyKind.RSA_2048)
