"""Whether mail may be encrypted for an address with a certificate: the right one, and good now.

Invariants: the certificate names the very address (local part exact, domain in any case), is of
the site's anchors, for mail and for encryption, with an RSA key of a permitted size, in its time,
and known not to be revoked; anything else is a reason, and mail is then not sent (threat C14).

Source: RFC 8550 §4.4, RFC 5280 §6.1, RFC 5280 §7.5.
"""

from enum import Enum

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from certs import policy
from certs.addresses import parse_addr_spec
from certs.errors import MalformedAddressError
from certs.malformed import CERTIFICATE
from certs.names import rfc822_names
from certs.path import Evidence, judge_recipient
from certs.verdict import PathStatus


class Unusable(Enum):
    """Why nothing may be encrypted with a certificate."""

    NOT_A_CERTIFICATE = "not-a-certificate"
    OTHER_ADDRESS = "other-address"
    KEY = "key"
    """Not RSA of a permitted size."""
    REVOKED = "revoked"
    EXPIRED = "expired"
    UNTRUSTED = "untrusted"
    """Another authority, another use, or revocation that is not known."""


def judge_certificate(der: bytes, address: str, evidence: Evidence) -> Unusable | None:
    """Say why mail to an address cannot be encrypted with a certificate; None when it can."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key()
        names = rfc822_names(certificate)
    except CERTIFICATE:
        return Unusable.NOT_A_CERTIFICATE
    if not any(_is(name, address) for name in names):
        return Unusable.OTHER_ADDRESS
    if not isinstance(key, rsa.RSAPublicKey) or not (
        policy.DEFAULT.min_rsa_bits <= key.key_size <= policy.DEFAULT.max_rsa_bits
    ):
        return Unusable.KEY
    match judge_recipient(der, evidence).status:
        case PathStatus.TRUSTED:
            return None
        case PathStatus.REVOKED:
            return Unusable.REVOKED
        case PathStatus.EXPIRED | PathStatus.NOT_YET_VALID:
            return Unusable.EXPIRED
        case _:
            return Unusable.UNTRUSTED


def _is(name: str, address: str) -> bool:
    try:
        return parse_addr_spec(name) == parse_addr_spec(address)
    except MalformedAddressError:
        return False
