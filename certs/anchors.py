"""The certificates a site trusts, as one hashable and picklable value.

DER bytes only: a value that crosses process borders and serves as a cache key must not hold
parsed objects.

Source: RFC 5280 §6.1.1.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certs.errors import KeyStoreError


@dataclass(frozen=True, slots=True)
class TrustAnchors:
    """Anchors of certificate paths, and known intermediates that help to build them.

    Attributes:
        roots: DER certificates trusted by themselves.
        intermediates: DER certificates that are not trusted by themselves: each must chain to
            a root like one that came with a message.
    """

    roots: tuple[bytes, ...]
    intermediates: tuple[bytes, ...] = ()

    @classmethod
    def from_pem(cls, *texts: bytes) -> Self:
        """Split PEM bundles into roots (self-issued) and intermediates (the others).

        Raises:
            KeyStoreError: a bundle is not PEM certificates, or there is no root.
        """
        certificates: list[x509.Certificate] = []
        try:
            for text in texts:
                certificates.extend(x509.load_pem_x509_certificates(text))
        except ValueError as error:
            raise KeyStoreError from error
        roots = _der(each for each in certificates if each.issuer == each.subject)
        others = _der(each for each in certificates if each.issuer != each.subject)
        if not roots:
            raise KeyStoreError
        return cls(roots, others)


_PRACTICE_WORDS = frozenset({"PRATIQUE", "TEST"})


def is_for_practice(certificate: x509.Certificate) -> bool:
    """Say whether a certificate is of a practice hierarchy: ours, or the national test one.

    Ours bear the word PRATIQUE (``certs.issue``), the national ones TEST: ``TEST AC IGC-SANTE
    ELEMENTAIRE ORGANISATIONS``, ``OU=IGC-SANTE TEST``. Source: MSS-OP §3.1.
    """
    return any(
        _PRACTICE_WORDS & set(str(pair.value).upper().split())
        for name in (certificate.subject, certificate.issuer)
        for pair in name
    )


def _der(certificates: Iterable[x509.Certificate]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(each.public_bytes(Encoding.DER) for each in certificates))
