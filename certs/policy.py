"""Which algorithms, keys and sizes a signature may have; frozen data.

MD5, SHA-1 and RSA below 2048 bits are refused (threat C10).

Source: RFC 8551 §2.1, RFC 8551 §2.2, RFC 8702 §3.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

# Names are those of asn1crypto; the values are digest sizes in bytes.
ALLOWED_DIGESTS: Mapping[str, int] = MappingProxyType(
    {"sha256": 32, "sha384": 48, "sha512": 64},
)


@dataclass(frozen=True, slots=True)
class SignaturePolicy:
    """Limits on what a stranger's signature may be."""

    digests: frozenset[str] = field(default_factory=lambda: frozenset(ALLOWED_DIGESTS))
    curves: frozenset[str] = frozenset({"secp256r1", "secp384r1"})
    """P-256 and P-384, the curves of RFC 8551 §2.2."""
    min_rsa_bits: int = 2048
    max_rsa_bits: int = 8192
    """OpenSSL verifies a 65,536-bit key in seconds; its own default for verification is 16,384."""
    max_signers: int = 16
    max_certificates: int = 64
    """Threat C12; real messages carry one to four."""
    max_cms_bytes: int = 64 * 1024 * 1024
    max_detached_cms_bytes: int = 512 * 1024
    """A detached signature holds certificates, no content; 64 of 4 kB fit twice."""
    max_recipients: int = 500


DEFAULT = SignaturePolicy()
