"""Whether the certificates of one path are revoked, by the lists at hand.

Unknown is not good: a certificate is good only when a list that is current at the instant, whole
(no delta, no partial scope) and signed by the certificate's own issuer does not name it. A list
that has run out no longer proves anything good, but what it names stays revoked. Parsed lists and
checked signatures are kept in bounded caches: a verdict is otherwise a function of its arguments.

Source: RFC 5280 §6.3.3, RFC 5280 §5.2, MSS-OP §3.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtensionOID

from certs import policy
from certs.malformed import CERTIFICATE
from certs.verdict import PathStatus, PathVerdict

_KNOWN_CRITICAL = frozenset({ExtensionOID.ISSUING_DISTRIBUTION_POINT})


@dataclass(frozen=True, slots=True)
class _Crl:
    """One parsed list with what is asked of it often."""

    content: bytes
    parsed: x509.CertificateRevocationList
    issuer: x509.Name
    this_update: datetime
    next_update: datetime
    serials: frozenset[int]


def judge(chain: Sequence[bytes], crls: Sequence[bytes], at: datetime) -> PathVerdict:
    """Check every certificate of a validated path but its anchor.

    Args:
        chain: DER certificates, leaf first, anchor last.
        crls: revocation lists, DER or PEM.
        at: aware UTC instant.

    Returns:
        TRUSTED, REVOKED (with its date) or REVOCATION_UNKNOWN.
    """
    lists = [crl for crl in map(_parse, crls) if crl is not None]
    unknown = False
    for subject, issuer in pairwise(chain):
        verdict = _judge_one(subject, issuer, lists, at)
        if verdict.status is PathStatus.REVOKED:
            return verdict
        unknown = unknown or not verdict.trusted
    return PathVerdict(PathStatus.REVOCATION_UNKNOWN if unknown else PathStatus.TRUSTED, at)


def _judge_one(subject: bytes, issuer: bytes, lists: list[_Crl], at: datetime) -> PathVerdict:
    try:
        certificate = _certificate(subject)
    except CERTIFICATE:
        return PathVerdict(PathStatus.REVOCATION_UNKNOWN, at)
    covered = False
    for crl in lists:
        if crl.issuer != certificate.issuer or crl.this_update > at:
            continue
        if not _takes_in(crl.parsed, authority=_is_authority(certificate)):
            continue
        if not _signed_by(crl.content, issuer):
            continue
        if certificate.serial_number in crl.serials:
            entry = crl.parsed.get_revoked_certificate_by_serial_number(certificate.serial_number)
            revoked_at = entry.revocation_date_utc if entry else None
            return PathVerdict(PathStatus.REVOKED, at, revoked_at)
        covered = covered or at <= crl.next_update
    return PathVerdict(PathStatus.TRUSTED if covered else PathStatus.REVOCATION_UNKNOWN, at)


@lru_cache(maxsize=64)
def _parse(content: bytes) -> _Crl | None:
    """Read a whole, direct list; anything else proves nothing here."""
    try:
        if content.startswith(b"-----BEGIN"):
            parsed = x509.load_pem_x509_crl(content)
        else:
            parsed = x509.load_der_x509_crl(content)
        algorithm = parsed.signature_hash_algorithm
        next_update = parsed.next_update_utc
        if (
            next_update is None
            or algorithm is None
            or algorithm.name not in policy.ALLOWED_DIGESTS
        ):
            return None
        if not _is_whole(parsed):
            return None
        serials = frozenset(entry.serial_number for entry in parsed)
        return _Crl(content, parsed, parsed.issuer, parsed.last_update_utc, next_update, serials)
    except CERTIFICATE:
        return None


def scope_of(crl: x509.CertificateRevocationList) -> bytes:
    """Tell apart two lists of one issuer: by its key, their scope, and whether one is a delta."""
    parts: list[bytes] = []
    kinds: tuple[type[x509.ExtensionType], ...] = (
        x509.AuthorityKeyIdentifier,
        x509.IssuingDistributionPoint,
        x509.DeltaCRLIndicator,
    )
    for kind in kinds:
        try:
            parts.append(crl.extensions.get_extension_for_class(kind).value.public_bytes())
        except x509.ExtensionNotFound:
            parts.append(b"")
    if parts[2]:
        parts[2] = b"delta"
    return b"\0".join(parts)


def vouches_for_leaves(crl: x509.CertificateRevocationList) -> bool:
    """Whether an end-entity certificate that the list does not name is good by it.

    Source: RFC 5280 §6.3.3.
    """
    return _is_whole(crl) and _takes_in(crl, authority=False)


def _is_whole(crl: x509.CertificateRevocationList) -> bool:
    # A delta is told by a critical extension, RFC 5280 §5.2.4.
    return all(each.oid in _KNOWN_CRITICAL for each in crl.extensions if each.critical)


def _takes_in(crl: x509.CertificateRevocationList, *, authority: bool) -> bool:
    """Whether the list's scope takes in authorities' certificates, or those of the others.

    Source: RFC 5280 §5.2.5, RFC 5280 §6.3.3.
    """
    try:
        scope = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
    except x509.ExtensionNotFound:
        return True
    except CERTIFICATE:
        return False
    if scope.indirect_crl or scope.only_some_reasons or scope.only_contains_attribute_certs:
        return False
    if scope.only_contains_ca_certs or scope.only_contains_user_certs:
        return scope.only_contains_ca_certs == authority
    return True


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


@lru_cache(maxsize=256)
def _signed_by(content: bytes, issuer: bytes) -> bool:
    """Whether the issuer's key signed the list, and may sign lists."""
    crl = _parse(content)
    if crl is None:
        return False
    try:
        certificate = _certificate(issuer)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        if not usage.crl_sign:
            return False
    except x509.ExtensionNotFound:
        pass  # no keyUsage restricts nothing, RFC 5280 §6.3.3 (f)
    except CERTIFICATE:
        return False
    try:
        # The annotation of cryptography lists the key kinds that can sign a list; a key of
        # another kind raises TypeError.
        return crl.parsed.is_signature_valid(certificate.public_key())  # type: ignore[arg-type]
    except (InvalidSignature, *CERTIFICATE):
        return False


@lru_cache(maxsize=256)
def _certificate(der: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(der)
