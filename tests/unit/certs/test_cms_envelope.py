"""Encrypted CMS: what it opens, and that every failure looks the same (threats C1, C13).

Source: RFC 5652 §6, RFC 5083 §2, RFC 5084 §3, RFC 3218 §2.3.
"""

import pytest
from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from certs.cms_envelope import Cipherment, decrypt, encrypt
from certs.errors import DecryptionError, MalformedCmsError
from certs.issue import KeyKind
from certs.smime import verify
from certs.verdict import NO_SIGNATURE
from tests.support import pki
from tests.support.cms import opaque

CONTENT = b"Content-Type: text/plain\r\n\r\n" + b"Compte rendu joint. " * 20


def holder(address: str = pki.AUTHOR) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
    signer = pki.signer(pki.seal(address, KeyKind.RSA_2048))
    assert isinstance(signer.key, rsa.RSAPrivateKey)
    return signer.certificate, signer.key


@pytest.mark.parametrize("cipherment", list(Cipherment))
@pytest.mark.parametrize("octets", [0, 1, 15, 16, 17, 100_000])
def test_content_of_every_length_comes_back(cipherment, octets):
    certificate, key = holder()

    assert decrypt(encrypt(b"x" * octets, [certificate], cipherment), certificate, key) == (
        b"x" * octets
    )


@pytest.mark.parametrize("cipherment", list(Cipherment))
def test_each_recipient_opens_it_and_nobody_else(cipherment):
    mine, hers = holder(), holder("second@cabinet.mssante.test")
    sealed = encrypt(CONTENT, [mine[0], hers[0]], cipherment)

    assert decrypt(sealed, *mine) == CONTENT
    assert decrypt(sealed, *hers) == CONTENT
    with pytest.raises(DecryptionError):
        decrypt(sealed, *holder("third@cabinet.mssante.test"))


@pytest.mark.parametrize("position", range(0, 24, 3))
def test_altered_gcm_content_never_opens(position):
    certificate, key = holder()
    sealed = cms.ContentInfo.load(encrypt(CONTENT, [certificate], Cipherment.AES_256_GCM))
    info = sealed["content"]["auth_encrypted_content_info"]
    octets = bytearray(info["encrypted_content"].native)
    octets[position] ^= 1
    info["encrypted_content"] = bytes(octets)

    with pytest.raises(DecryptionError):
        decrypt(sealed.dump(force=True), certificate, key)


def failures() -> list[tuple[bytes, tuple[x509.Certificate, rsa.RSAPrivateKey]]]:
    mine = holder()
    sealed = encrypt(CONTENT, [mine[0]], Cipherment.AES_256_GCM)
    broken_key = cms.ContentInfo.load(sealed)
    recipient = broken_key["content"]["recipient_infos"][0].chosen
    recipient["encrypted_key"] = b"\x01" * 256
    broken_content = cms.ContentInfo.load(sealed)
    broken_content["content"]["mac"] = b"\0" * 16
    return [
        (broken_key.dump(force=True), mine),
        (broken_content.dump(force=True), mine),
        (sealed, holder("third@cabinet.mssante.test")),
        (sealed, (mine[0], holder("third@cabinet.mssante.test")[1])),
    ]


def test_every_failure_to_open_is_the_same_error():
    texts = set()
    for sealed, who in failures():
        with pytest.raises(DecryptionError) as caught:
            decrypt(sealed, *who)
        texts.add((str(caught.value), caught.value.__cause__))

    assert len(texts) == 1


@pytest.mark.parametrize("junk", [b"", b"\x30\x80", b"junk", b"\x30\x03\x02\x01\x00"])
def test_what_is_no_envelope_is_malformed(junk):
    with pytest.raises(MalformedCmsError):
        decrypt(junk, *holder())


def test_only_rsa_keys_of_a_permitted_size_are_recipients():
    curve = pki.signer(pki.seal(kind=KeyKind.EC_P256)).certificate

    for recipients in ([], [curve]):
        with pytest.raises(ValueError, match="recipient"):
            encrypt(CONTENT, recipients)


def test_an_encrypted_message_has_no_signature_whatever_its_label():
    sealed = encrypt(CONTENT, [holder()[0]])

    for label in ("smime-type=enveloped-data", "smime-type=signed-data", "x=y"):
        assert verify(opaque(sealed, pki.AUTHOR, label), pki.policy()) == NO_SIGNATURE
