"""Certificates that other operators' people take encrypted mail with, from a practice authority."""

from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Authority = tuple[x509.Certificate, CertificateIssuerPrivateKeyTypes]
_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
    "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


def recipient_certificate(
    authority: Authority,
    address: str,
    key: Any,
    at: datetime,
    *,
    encipher: bool = True,
    life_days: int = 30,
) -> x509.Certificate:
    """Issue a certificate of a person, to encrypt for (or to sign with).

    Any: a private key of whatever kind a test wants to see refused.
    """
    issuer, signing_key = authority
    usage = dict.fromkeys(_USAGES, False)
    usage["key_encipherment" if encipher else "digital_signature"] = True
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Dr Essai")]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - timedelta(days=60))
        .not_valid_after(at + timedelta(days=life_days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(address)]), critical=False)
        .sign(signing_key, hashes.SHA256())
    )
