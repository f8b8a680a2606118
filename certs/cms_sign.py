"""Make CMS signatures: SignedData with signed attributes, RSA PKCS #1 v1.5 or ECDSA, SHA-256.

Built from asn1crypto structures rather than cryptography's PKCS7 builder, which reads the clock
itself. Deterministic but for the signature: the same content, signer and instant give the same
signed attributes.

Source: RFC 5652 §5, RFC 8551 §2, RFC 5754 §3, RFC 8702 §3.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from asn1crypto import algos, cms, core
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from certs.errors import KeyStoreError


@dataclass(frozen=True, slots=True, repr=False)
class Signer:
    """A certificate, its private key and the chain to send along."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    @classmethod
    def from_pem(cls, certificates: bytes, key: bytes) -> Self:
        """Read a bundle (leaf first, then intermediates) and its PKCS #8 key.

        Raises:
            KeyStoreError: not PEM, no certificate, or a key of another kind.
        """
        try:
            bundle = x509.load_pem_x509_certificates(certificates)
            private = serialization.load_pem_private_key(key, None)
        except (ValueError, TypeError) as error:
            raise KeyStoreError from error
        if not isinstance(private, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise KeyStoreError
        if bundle[0].public_key() != private.public_key():
            raise KeyStoreError
        return cls(bundle[0], private, tuple(bundle[1:]))


def sign_detached(content: bytes, signer: Signer, at: datetime | None = None) -> bytes:
    """Sign content that travels apart; returns the DER ContentInfo.

    Args:
        content: the exact octets, CRLF line ends.
        signer: who signs.
        at: the signingTime to claim; none leaves the attribute out.

    Source: RFC 5652 §5.4, RFC 8551 §3.5.3.
    """
    return sign_digest(hashlib.sha256(content).digest(), signer, at)


def sign_digest(digest: bytes, signer: Signer, at: datetime | None = None) -> bytes:
    """As ``sign_detached``, for who holds the key and is shown the SHA-256 of the content only."""
    return _signed_data(digest, signer, at, core.Void())


def sign_opaque(content: bytes, signer: Signer, at: datetime | None = None) -> bytes:
    """Sign content that travels inside; returns the DER ContentInfo."""
    digest = hashlib.sha256(content).digest()
    return _signed_data(digest, signer, at, core.OctetString(content))


def _signed_data(
    digest: bytes, signer: Signer, at: datetime | None, embedded: core.Asn1Value
) -> bytes:
    attributes = _signed_attributes(digest, at)
    signature, algorithm = _sign(signer, attributes.dump())
    leaf = _asn1(signer.certificate)
    sha256 = algos.DigestAlgorithm({"algorithm": "sha256"})
    info = cms.SignerInfo(
        {
            "version": "v1",
            "sid": cms.SignerIdentifier(
                {
                    "issuer_and_serial_number": cms.IssuerAndSerialNumber(
                        {"issuer": leaf.issuer, "serial_number": leaf.serial_number}
                    )
                }
            ),
            "digest_algorithm": sha256,
            "signed_attrs": attributes,
            "signature_algorithm": algorithm,
            "signature": signature,
        }
    )
    encapsulated: dict[str, object] = {"content_type": "data"}
    if not isinstance(embedded, core.Void):
        encapsulated["content"] = embedded
    data = cms.SignedData(
        {
            "version": "v1",
            "digest_algorithms": [sha256],
            "encap_content_info": encapsulated,
            "certificates": [
                cms.CertificateChoices({"certificate": each})
                for each in (leaf, *map(_asn1, signer.chain))
            ],
            "signer_infos": [info],
        }
    )
    encoded: bytes = cms.ContentInfo({"content_type": "signed_data", "content": data}).dump()
    return encoded


def _signed_attributes(digest: bytes, at: datetime | None) -> cms.CMSAttributes:
    attributes = [
        cms.CMSAttribute({"type": "content_type", "values": ["data"]}),
        cms.CMSAttribute({"type": "message_digest", "values": [digest]}),
    ]
    if at is not None:
        moment = cms.Time({"utc_time": core.UTCTime(at.replace(microsecond=0))})
        attributes.append(cms.CMSAttribute({"type": "signing_time", "values": [moment]}))
    return cms.CMSAttributes(attributes)


def _sign(signer: Signer, octets: bytes) -> tuple[bytes, algos.SignedDigestAlgorithm]:
    if isinstance(signer.key, rsa.RSAPrivateKey):
        signature = signer.key.sign(octets, padding.PKCS1v15(), hashes.SHA256())
        name = {"algorithm": "sha256_rsa", "parameters": core.Null()}
        return signature, algos.SignedDigestAlgorithm(name)
    signature = signer.key.sign(octets, ec.ECDSA(hashes.SHA256()))
    return signature, algos.SignedDigestAlgorithm({"algorithm": "sha256_ecdsa"})


def _asn1(certificate: x509.Certificate) -> asn1_x509.Certificate:
    return asn1_x509.Certificate.load(certificate.public_bytes(serialization.Encoding.DER))
