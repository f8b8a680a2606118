"""The site's PKI directory: the structures' seals, issued on demand, and the server's files.

A seal is a certificate of the organisation whose rfc822Name is one mailbox (RULES §12). It is
made the first time that mailbox signs, kept under ``seals/`` (0700) in a file named by a keyed
hash (a patient's address is an INS and never a file name, RULES §11), and made again before it
expires. Blocking: call it from a thread. Safe for several threads of one process.

Source: RFC 8550 §4.4, RULES §11, RULES §12.
"""

import hmac
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certs.anchors import TrustAnchors
from certs.cms_sign import Signer
from certs.errors import KeyStoreError
from certs.issue import (
    Authority,
    Branch,
    Issued,
    KeyKind,
    PracticePki,
    issue_leaf,
    new_key,
    seal_request,
)

_SEAL_LIFE = timedelta(days=3 * 365)
_RENEW_BEFORE = timedelta(days=30)
_CACHED_SEALS = 1024  # a parsed RSA key is about 5 kB


class KeyStore:
    """The PKI directory of one site."""

    def __init__(
        self,
        pki_dir: Path,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        key_kind: KeyKind = KeyKind.RSA_2048,
    ) -> None:
        self._dir = pki_dir
        self._clock = clock
        self._key_kind = key_kind
        self._lock = threading.Lock()
        self._seals: OrderedDict[str, Signer] = OrderedDict()
        self._issuer: Authority | None = None
        self._name_key: bytes | None = None

    @property
    def server_cert(self) -> Path:
        """The server's certificate and its intermediates."""
        return self._dir / "server.pem"

    @property
    def server_key(self) -> Path:
        """The server's private key."""
        return self._dir / "server.key"

    @property
    def root(self) -> Path:
        """What clients trust."""
        return self._dir / f"{Branch.ROOT.value}.pem"

    @property
    def crls(self) -> Path:
        """The directory that holds ``*.crl``."""
        return self._dir

    def anchors(self) -> TrustAnchors:
        """The S/MIME anchors of the site: its root, and its intermediates to build paths with.

        Raises:
            KeyStoreError: a file is missing or unusable.
        """
        texts = [self._read(f"{branch.value}.pem") for branch in Branch]
        return TrustAnchors.from_pem(*texts)

    def seal_for(self, address: str, organisation: str) -> Signer:
        """The seal of one mailbox, made when there is none or it soon expires.

        Args:
            address: the mailbox as it stands in From; verifiers compare its local part exactly.
            organisation: name of the structure, which the certificate shows.

        Raises:
            KeyStoreError: the organisation's authority is missing or unusable.
        """
        with self._lock:
            at = self._clock()
            seal = self._seals.get(address) or self._load(address)
            if seal is None or seal.certificate.not_valid_after_utc - at < _RENEW_BEFORE:
                seal = self._issue(address, organisation, at)
            self._seals[address] = seal
            self._seals.move_to_end(address)
            if len(self._seals) > _CACHED_SEALS:
                self._seals.popitem(last=False)
            return seal

    def load_practice(self) -> PracticePki:
        """Read the whole practice hierarchy back, to issue or revoke.

        Raises:
            KeyStoreError: it is not complete; a real site has no authorities of its own.
        """
        return PracticePki({branch: self._authority(branch) for branch in Branch})

    def refresh_crls(self) -> None:
        """Issue again the practice CRLs that are past half of their life, keeping what they list.

        Raises:
            KeyStoreError: as ``load_practice``.
        """
        at = self._clock()
        with self._lock:
            pki = self.load_practice()
            for branch in Branch:
                path = self._dir / f"{branch.value}.crl"
                try:
                    crl = x509.load_pem_x509_crl(path.read_bytes())
                except (OSError, ValueError) as error:
                    raise KeyStoreError from error
                end = crl.next_update_utc
                if end is not None and at - crl.last_update_utc < (end - crl.last_update_utc) / 2:
                    continue
                revoked = [entry.serial_number for entry in crl]
                _replace(path, pki.issue_crl(branch, at, revoked), 0o644)

    def _issue(self, mailbox: str, organisation: str, at: datetime) -> Signer:
        if self._issuer is None:
            self._issuer = self._authority(Branch.ORGANISATION)
        request = seal_request(
            at, mailbox, organisation, key=new_key(self._key_kind), valid_for=_SEAL_LIFE
        )
        issued: Issued = issue_leaf(self._issuer, request)
        path = self._seal_path(mailbox)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        _replace(path, issued.key + issued.bundle, 0o600)
        return Signer.from_pem(issued.bundle, issued.key)

    def _load(self, mailbox: str) -> Signer | None:
        try:
            text = self._seal_path(mailbox).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeyStoreError from error
        return Signer.from_pem(text, text)

    def _seal_path(self, mailbox: str) -> Path:
        if self._name_key is None:
            self._name_key = self._load_name_key()
        digest = hmac.digest(self._name_key, mailbox.encode(), "sha256")
        return self._dir / "seals" / f"{digest.hex()}.pem"

    def _load_name_key(self) -> bytes:
        path = self._dir / "private" / "seal-names.key"
        try:
            if not path.exists():
                path.parent.mkdir(mode=0o700, exist_ok=True)
                _replace(path, secrets.token_bytes(32), 0o600)
            return path.read_bytes()
        except OSError as error:
            raise KeyStoreError from error

    def _authority(self, branch: Branch) -> Authority:
        try:
            certificate = x509.load_pem_x509_certificate(self._read(f"{branch.value}.pem"))
            key = serialization.load_pem_private_key(
                self._read(f"private/{branch.value}.key"), None
            )
        except (ValueError, TypeError) as error:
            raise KeyStoreError from error
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise KeyStoreError
        return Authority(certificate, key)

    def _read(self, name: str) -> bytes:
        try:
            return (self._dir / name).read_bytes()
        except OSError as error:
            raise KeyStoreError from error


def _replace(path: Path, content: bytes, mode: int) -> None:
    """Write a file whole or not at all; its mode stands before its first byte."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
