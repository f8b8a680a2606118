"""What the libraries raise when they read malformed structures; nothing of ours raises these.

asn1crypto parses lazily, so that any access to a stranger's structure may fail; what it and
cryptography raise is wider than ``ValueError`` and shares no base class. These tuples stand in
``except`` clauses around reading only, never around our own logic.
"""

from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

CERTIFICATE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""cryptography, on a certificate or a revocation list."""

STRUCTURE: Final = (
    *CERTIFICATE,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    NotImplementedError,
    RecursionError,
    AssertionError,
    InvalidSignature,
)
"""asn1crypto and pyhanko-certvalidator, anywhere a structure is touched."""
