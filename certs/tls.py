"""TLS contexts of the site, and who the peer's certificate says it is.

Invariants: TLS 1.2 or later; no session tickets; a TLS 1.2 session resumed by its id (Python
cannot turn OpenSSL's cache off) names a peer only after its certificate was asked of the lists
again, so a revoked peer cannot resume (threat C15); ``peer_standing`` asks them again whenever
somebody wants to know, which SMTP does at each MAIL FROM. With a client CA, a certificate is asked
for but not required (a peer that gives none is told 530 by policy), and one that is given must
chain to the *operators'* branch and be on no CRL, or the handshake fails.

When the bundle of client CAs holds intermediate authorities, **they alone** are the anchors
(partial chain): another branch of the same root, such as personal certificates, can then not
pass for an operator. The roots of the bundle only vouch for those intermediates, when the context
is made; from then on an anchor that runs out, or that a newer list of its root names, takes
everybody it vouches for along.

Source: RFC 8446 §4.3.2, RFC 5246 §7.4.4, RFC 5280 §6.3, RFC 3207 §4.1, RFC 9325 §4.2, MSS-OP §3.1.
"""

import os
import ssl
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from certs.crl_cache import CrlCache
from certs.errors import KeyStoreError
from certs.names import dn_string
from certs.revocation import scope_of, vouches_for_leaves
from certs.verdict import Standing

# ANSSI, Recommandations de sécurité relatives à TLS (SDE-NT-035): forward secrecy and AEAD only.
# TLS 1.3 suites are OpenSSL's defaults, which the guide accepts. SECLEVEL=2 refuses RSA below
# 2048 bits and SHA-1 in the peer's chain.
_SUITES = (
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305:"
    "@SECLEVEL=2"
)
_C = TypeVar("_C", bound="_Context")


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """Who a verified TLS client certificate says the peer is.

    Attributes:
        dn: subject in the trust list's form.
        serial: serial number, upper-case hexadecimal.
        fingerprint: SHA-256 of the certificate, lower-case hexadecimal.
        not_after: end of its validity.
    """

    dn: str
    serial: str
    fingerprint: str
    not_after: datetime


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the lists are asked about a certificate; names are in DER."""

    subject: bytes
    issuer: bytes
    serial: int
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class _KnownList:
    """What one revocation list says.

    Attributes:
        made: its thisUpdate.
        end: its nextUpdate.
        serials: whom it names, but for those that a delta takes off its base.
        vouches: whom it does not name is good by it: it is whole, and about leaves.
        delta: it says what changed since a whole list.
    """

    made: datetime
    end: datetime
    serials: frozenset[int]
    vouches: bool
    delta: bool


class _Context(ssl.SSLContext):
    """A context that remembers the lists it was given, to ask them again after the handshake."""

    checks_crls: bool
    lists: dict[bytes, dict[bytes, _KnownList]]
    """By the issuer's name, then by scope: one list of each."""
    anchors: tuple[_Facts, ...]
    """The issuing authorities it believes by themselves, which OpenSSL asks no list about."""
    end_point: bytes | None
    """Of a listener: the digest of its own certificate."""

    def standing(self, facts: _Facts, at: datetime) -> Standing:
        """Judge a certificate that was verified once."""
        issuers = [each for each in self.anchors if each.subject == facts.issuer]
        if self.is_over(facts, at) or (issuers and all(self.is_over(a, at) for a in issuers)):
            return Standing.OVER
        if not self.checks_crls:
            return Standing.GOOD
        held = self.lists.get(facts.issuer, {}).values()
        current = any(each.vouches and at <= each.end for each in held)
        return Standing.GOOD if current else Standing.UNKNOWN

    def is_over(self, facts: _Facts, at: datetime) -> bool:
        """Say whether a certificate is past its time or, where lists are asked, named by one."""
        if not facts.not_before <= at <= facts.not_after:
            return True
        held = self.lists.get(facts.issuer, {}).values()
        whole = [each for each in held if each.vouches]
        return any(  # what a list that ran out names stays revoked
            facts.serial in each.serials
            and not (each.delta and any(each.made <= base.made for base in whole))
            for each in held
        )


class _PinnedContext(_Context):
    """A client's context that asks for one server name, whatever address it is reached by."""

    server_name: str

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Begin TLS over memory, as event loops do, with the pinned name."""
        del server_hostname
        return super().wrap_bio(incoming, outgoing, server_side, self.server_name, session)


def server_context(
    cert: Path, key: Path, *, client_ca: Path | None = None, crls: Path | None = None
) -> ssl.SSLContext:
    """The context of a listener.

    Args:
        cert: PEM, leaf first, then its intermediates.
        key: PEM private key.
        client_ca: PEM bundle of who may vouch for operators; none asks for no certificate.
        crls: directory of ``*.crl``, PEM or DER. With it, a client certificate without a
            current CRL of its issuer is refused: unknown is not good. A list that cannot be
            used counts as one that is not there.

    Raises:
        KeyStoreError: a file is missing or unusable, or an anchor is itself revoked.
    """
    context = _made(_Context, ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    context.options |= ssl.OP_NO_TICKET | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0  # TLS 1.3 tickets are not covered by OP_NO_TICKET
    _load_pair(context, cert, key)
    context.end_point = _end_point(_load_bundle(cert)[0])
    if client_ca is not None:
        context.verify_mode = ssl.CERT_OPTIONAL
        _trust_branch(context, client_ca, crls)
    return context


def operator_context(branch: Path, cert: Path, key: Path, *, crls: Path) -> ssl.SSLContext:
    """The context of a connection to another operator's server.

    Its name is not checked: the caller must hold its DN against the trust list.

    Args:
        branch: PEM bundle of who may vouch for operators, as ``client_ca`` of a listener.
        cert: our own certificate and chain.
        key: its private key.
        crls: as for ``server_context``.

    Raises:
        KeyStoreError: a file is missing or unusable, or an anchor is itself revoked.
    """
    context = _made(_Context, ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    _trust_branch(context, branch, crls)
    _load_pair(context, cert, key)
    return context


def client_context(
    ca: Path,
    cert: Path | None = None,
    key: Path | None = None,
    *,
    check_hostname: bool = True,
    server_name: str = "",
    crls: Path | None = None,
) -> ssl.SSLContext:
    """The context of an outgoing connection.

    Args:
        ca: PEM bundle of anchors.
        cert: our own certificate and chain, when the peer asks for one.
        key: its private key.
        check_hostname: whether the server's name is checked.
        server_name: the name that the server's certificate must bear instead of the address
            connected to; for event loops only.
        crls: as for ``server_context``; the whole chain is checked.

    Raises:
        KeyStoreError: a file is missing or unusable.
    """
    context = _client(server_name)
    _harden(context)
    context.check_hostname = check_hostname
    context.verify_mode = ssl.CERT_REQUIRED
    _trust(context, _load_bundle(ca))
    if cert is not None:
        _load_pair(context, cert, key)
    if crls is not None:
        context.checks_crls = True
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
        add_crls(context, _good_lists(crls))
    return context


def _client(server_name: str) -> _Context:
    if not server_name:
        return _made(_Context, ssl.PROTOCOL_TLS_CLIENT)
    pinned = _made(_PinnedContext, ssl.PROTOCOL_TLS_CLIENT)
    pinned.server_name = server_name
    return pinned


def _made(kind: type[_C], protocol: ssl._SSLMethod) -> _C:
    context = kind(protocol)
    context.checks_crls = False
    context.lists = {}
    context.anchors = ()
    context.end_point = None
    return context


def _trust_branch(context: _Context, bundle: Path, crls: Path | None) -> None:
    """Believe what the issuing authorities of a bundle vouch for, and nobody beside them."""
    certificates = _load_bundle(bundle)
    anchors = [each for each in certificates if each.issuer != each.subject]
    roots = [each for each in certificates if each.issuer == each.subject]
    lists = () if crls is None else _good_lists(crls)
    if anchors:
        _check_anchors(anchors, roots, lists)
        context.anchors = tuple(_facts(each.public_bytes(Encoding.DER)) for each in anchors)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    _trust(context, anchors or roots)
    if crls is not None:
        context.checks_crls = True
        # OpenSSL cannot check the CRL of a partial-chain anchor (its issuer is not there):
        # _check_anchors did; what lies below the anchor is the leaf, pathLen being 0.
        context.verify_flags |= (
            ssl.VERIFY_CRL_CHECK_LEAF if anchors else ssl.VERIFY_CRL_CHECK_CHAIN
        )
        add_crls(context, lists)


def peer_identity(ssl_object: ssl.SSLObject | ssl.SSLSocket | None) -> PeerIdentity | None:
    """Who the peer of an established connection is.

    Returns:
        None without TLS, without a certificate, on a context that verifies none, or when the
        certificate is no longer good: on a resumed session nobody else asked, and revocations
        come while a connection is open.

    Source: RFC 5246 §7.3, RFC 5280 §6.3.
    """
    certificate = _peer_certificate(ssl_object)
    if certificate is None or peer_standing(ssl_object) is not Standing.GOOD:
        return None
    return _identity(certificate)


def end_point(ssl_object: ssl.SSLObject | ssl.SSLSocket | None) -> bytes | None:
    """Give what binds an exchange to a connection to us, ``tls-server-end-point``.

    Returns:
        None without TLS, or where our certificate's signature names no digest (Ed25519).

    Source: RFC 5929 §4.1.
    """
    if ssl_object is None or not isinstance(ssl_object.context, _Context):
        return None
    return ssl_object.context.end_point


def _end_point(certificate: x509.Certificate) -> bytes | None:
    digest = certificate.signature_hash_algorithm
    if digest is None:
        return None
    if isinstance(digest, hashes.MD5 | hashes.SHA1):
        digest = hashes.SHA256()
    return certificate.fingerprint(digest)


def peer_standing(ssl_object: ssl.SSLObject | ssl.SSLSocket | None) -> Standing:
    """Judge the peer's certificate again, by the lists and the clock of now; GOOD without one."""
    certificate = _peer_certificate(ssl_object)
    if ssl_object is None or certificate is None or not isinstance(ssl_object.context, _Context):
        return Standing.GOOD
    return ssl_object.context.standing(_facts(certificate), datetime.now(UTC))


def _peer_certificate(ssl_object: ssl.SSLObject | ssl.SSLSocket | None) -> bytes | None:
    if ssl_object is None or ssl_object.context.verify_mode is ssl.CERT_NONE:
        return None
    return ssl_object.getpeercert(binary_form=True) or None


def _good_lists(directory: Path) -> tuple[x509.CertificateRevocationList, ...]:
    """Read the good lists of a directory: a bad one is as good as none, and costs no other.

    Raises:
        KeyStoreError: there is no such directory.
    """
    if not directory.is_dir():
        raise KeyStoreError
    cache = CrlCache(directory)
    cache.refresh()
    return tuple(map(x509.load_der_x509_crl, cache.current(datetime.now(UTC))))


def anchors_over(context: ssl.SSLContext, at: datetime) -> int:
    """Count the issuing authorities that a context believed when it was made and no longer does.

    For an alarm: whoever one of them vouches for is refused, and nobody else would say why.
    """
    if not isinstance(context, _Context):
        return 0
    return sum(context.is_over(each, at) for each in context.anchors)


def add_crls(context: ssl.SSLContext, lists: Iterable[x509.CertificateRevocationList]) -> None:
    """Give a context newer revocation lists; OpenSSL prefers the latest one that is valid.

    May be called on a context in use: the next handshake sees them.
    """
    lists = tuple(lists)
    if isinstance(context, _Context):
        for each in lists:
            _remember(context, each)
    text = b"".join(each.public_bytes(Encoding.PEM) for each in lists)
    if text:
        # OpenSSL reads CRLs from files only (``cadata`` takes certificates alone).
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            file.write(text)
            file.flush()
            context.load_verify_locations(cafile=file.name)


def _remember(context: _Context, crl: x509.CertificateRevocationList) -> None:
    end = crl.next_update_utc
    if end is None:
        return
    held = context.lists.setdefault(crl.issuer.public_bytes(), {})
    scope = scope_of(crl)
    known = held.get(scope)
    # By when it was made: one made for an emergency may well end before the last one.
    if known is not None and crl.last_update_utc < known.made:
        return
    delta = _has(crl.extensions, x509.DeltaCRLIndicator)
    held[scope] = _KnownList(
        crl.last_update_utc,
        end,
        frozenset(each.serial_number for each in crl if not (delta and _is_taken_off(each))),
        vouches_for_leaves(crl),
        delta,
    )


def _has(extensions: x509.Extensions, kind: type[x509.ExtensionType]) -> bool:
    return any(isinstance(each.value, kind) for each in extensions)


def _is_taken_off(entry: x509.RevokedCertificate) -> bool:
    """Whether an entry of a delta says that a hold is over. Source: RFC 5280 §5.3.1."""
    return any(
        isinstance(each.value, x509.CRLReason)
        and each.value.reason is x509.ReasonFlags.remove_from_crl
        for each in entry.extensions
    )


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(_SUITES)
    context.verify_flags |= ssl.VERIFY_X509_STRICT


def _load_pair(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    try:
        context.load_cert_chain(os.fspath(cert), None if key is None else os.fspath(key))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise KeyStoreError from error


def _load_bundle(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise KeyStoreError from error


def _trust(context: ssl.SSLContext, anchors: Iterable[x509.Certificate]) -> None:
    pem = b"".join(each.public_bytes(Encoding.PEM) for each in anchors)
    context.load_verify_locations(cadata=pem.decode("ascii"))


def _check_anchors(
    anchors: Iterable[x509.Certificate],
    roots: Iterable[x509.Certificate],
    lists: Iterable[x509.CertificateRevocationList],
) -> None:
    """Refuse an anchor that its own root, when known, does not vouch for or has revoked."""
    by_name = {root.subject: root for root in roots}
    lists = tuple(lists)
    for anchor in anchors:
        root = by_name.get(anchor.issuer)
        if root is None:
            continue
        try:
            anchor.verify_directly_issued_by(root)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise KeyStoreError from error
        for crl in lists:
            if crl.issuer == root.subject and crl.get_revoked_certificate_by_serial_number(
                anchor.serial_number
            ):
                raise KeyStoreError


@lru_cache(maxsize=256)
def _facts(der: bytes) -> _Facts:
    certificate = x509.load_der_x509_certificate(der)
    return _Facts(
        certificate.subject.public_bytes(),
        certificate.issuer.public_bytes(),
        certificate.serial_number,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )


@lru_cache(maxsize=256)
def _identity(der: bytes) -> PeerIdentity:
    certificate = x509.load_der_x509_certificate(der)
    return PeerIdentity(
        dn=dn_string(certificate.subject),
        serial=f"{certificate.serial_number:X}",
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        not_after=certificate.not_valid_after_utc.astimezone(UTC),
    )
