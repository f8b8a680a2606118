"""The revocation lists of a directory, kept good.

A list that cannot be read, is not signed by a known issuer, or goes back to a lower CRLNumber
never displaces the one already held (threat C17); the last good one is kept until a better one
comes, even when it has run out, because what it names stays revoked. ``epoch`` grows with every
change, so that holders of a copy know when to take a new one. Blocking reads: call ``refresh``
from a thread.

Source: RFC 5280 §5.2.3, RFC 5280 §6.3, MSS-LPS §1.1.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from certs.anchors import TrustAnchors
from certs.malformed import CERTIFICATE
from certs.revocation import scope_of

_MAX_CRL_BYTES = 32 * 1024 * 1024
_Key = tuple[bytes, bytes]
_Stamp = tuple[int, int]
"""When a file was changed, and its size."""


@dataclass(frozen=True, slots=True)
class _Held:
    """One good list."""

    der: bytes
    number: int
    this_update: datetime
    next_update: datetime


class CrlCache:
    """Every ``*.crl`` of one directory, PEM or DER, one list per issuer and scope.

    Args:
        directory: where the lists are put, by us or by a fetcher.
        anchors: when given, a list must be signed by one of these authorities to be held.
    """

    def __init__(self, directory: Path, *, anchors: TrustAnchors | None = None) -> None:
        self._directory = directory
        self._issuers = _issuers(anchors) if anchors else None
        self._held: dict[_Key, _Held] = {}
        self._seen: dict[Path, _Stamp] = {}
        self._refused: dict[str, _Stamp] = {}
        self._lock = threading.Lock()
        self.epoch = 0

    @property
    def refused(self) -> frozenset[tuple[str, _Stamp]]:
        """The files that were not taken as they stand now: name, and which version of it."""
        with self._lock:
            return frozenset(self._refused.items())

    def refresh(self) -> bool:
        """Read the files that changed since the last call.

        Returns:
            Whether a list was added or replaced. ``refused`` names the files that were not taken.
        """
        changed = False
        with self._lock:
            for path in sorted(self._directory.glob("*.crl")):
                try:
                    status = path.stat()
                    stamp = (status.st_mtime_ns, status.st_size)
                    if self._seen.get(path) == stamp:
                        continue
                    content = path.read_bytes() if status.st_size <= _MAX_CRL_BYTES else b""
                except FileNotFoundError:
                    continue  # it vanished or is being replaced: the held one stays
                except OSError:
                    content = b""
                self._seen[path] = stamp
                good = self._judged(content)
                if good is None:
                    self._refused[path.name] = stamp
                    continue
                self._refused.pop(path.name, None)
                key, held = good
                changed |= self._held.get(key) != held
                self._held[key] = held
            if changed:
                self.epoch += 1
        return changed

    def current(self, at: datetime) -> tuple[bytes, ...]:
        """The held lists already issued at an instant, DER, in a stable order.

        Lists that have run out are given too: ``certs.revocation`` lets them prove only bad news.
        """
        held = sorted(self._held.items())
        return tuple(each.der for _, each in held if each.this_update <= at)

    def stale(self, at: datetime) -> int:
        """How many held lists have run out at an instant; for alarms."""
        return sum(each.next_update < at for each in self._held.values())

    def _judged(self, content: bytes) -> tuple[_Key, _Held] | None:
        """Read a list that may be held, or is already; None for any other."""
        try:
            crl = parse_crl(content)
            key = (crl.issuer.public_bytes(), scope_of(crl))
            number = _number(crl)
            next_update = crl.next_update_utc
        except CERTIFICATE:
            return None
        if next_update is None or not self._known(crl):
            return None
        fresh = _Held(crl.public_bytes(Encoding.DER), number, crl.last_update_utc, next_update)
        held = self._held.get(key)
        if held is not None and (held.number, held.this_update) > (number, fresh.this_update):
            return None
        return key, fresh

    def _known(self, crl: x509.CertificateRevocationList) -> bool:
        if self._issuers is None:
            return True
        for issuer in self._issuers:
            if issuer.subject != crl.issuer:
                continue
            try:
                # Key kinds that cannot sign a list raise TypeError.
                if crl.is_signature_valid(issuer.public_key()):  # type: ignore[arg-type]
                    return True
            except (InvalidSignature, *CERTIFICATE):
                continue
        return False


def _issuers(anchors: TrustAnchors) -> tuple[x509.Certificate, ...]:
    return tuple(_certificates((*anchors.roots, *anchors.intermediates)))


def _certificates(ders: Iterable[bytes]) -> list[x509.Certificate]:
    return [x509.load_der_x509_certificate(der) for der in ders]


def parse_crl(content: bytes) -> x509.CertificateRevocationList:
    """Read one list, PEM or DER; raises what ``certs.malformed.CERTIFICATE`` names."""
    if content.lstrip().startswith(b"-----BEGIN"):
        return x509.load_pem_x509_crl(content)
    return x509.load_der_x509_crl(content)


def _number(crl: x509.CertificateRevocationList) -> int:
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return 0
