"""S/MIME of whole messages: verify what came, sign what leaves.

Invariants: a verdict is about the *outermost* structure only, told by structure and not by
labels; a signature on a part of a message is no signature of the message (threat C5); the signer
is the author only when the one address of the one From field is an rfc822Name of the certificate
(threat C6). ``verify`` never raises for what a stranger wrote.

Source: RFC 8551 §3, RFC 8551 §4, RFC 8550 §3, RFC 1847 §2.1.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import pybase64
from cryptography import x509

from certs import cms_sign, cms_verify, path
from certs.addresses import Address, parse_addr_spec, single_from
from certs.anchors import TrustAnchors
from certs.cms_sign import Signer
from certs.cms_verify import SignedDataCheck, SignerCheck
from certs.errors import MalformedAddressError, MalformedCmsError, MalformedMessageError
from certs.malformed import CERTIFICATE
from certs.mime import Outline, Part, decode_strictly, scan
from certs.names import dn_string, rfc822_names
from certs.seven_bit import seven_bit
from certs.verdict import (
    NO_SIGNATURE,
    NOT_CHECKED,
    PathStatus,
    PathVerdict,
    Reason,
    SignatureVerdict,
)

__all__ = [
    "Signer",
    "Trust",
    "Unsigned",
    "VerifyPolicy",
    "assemble",
    "content",
    "is_signed_or_encrypted",
    "sign",
    "taken_apart",
    "to_sign",
    "verify",
    "verify_at",
    "verify_outline",
]

_SIGNATURE_TYPES = frozenset({"application/pkcs7-signature", "application/x-pkcs7-signature"})
_CMS_TYPES = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_OUTER = (
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: multipart/signed; protocol="application/pkcs7-signature";\r\n'
    b'\tmicalg=sha-256; boundary="'
)
_SIGNATURE_HEADER = (
    b"\r\nContent-Type: application/pkcs7-signature; name=smime.p7s\r\n"
    b"Content-Transfer-Encoding: base64\r\n"
    b"Content-Disposition: attachment; filename=smime.p7s\r\n\r\n"
)
_SEVERITY = (
    PathStatus.TRUSTED,
    PathStatus.REVOCATION_UNKNOWN,
    PathStatus.NOT_CHECKED,
    PathStatus.EXPIRED,
    PathStatus.NOT_YET_VALID,
    PathStatus.UNTRUSTED,
    PathStatus.REVOKED,
)


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom a site trusts and what it knows to be revoked; the part of a policy that lasts."""

    anchors: TrustAnchors
    crls: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class VerifyPolicy:
    """What a signature is judged by.

    Attributes:
        anchors: whom the site trusts.
        crls: revocation lists already at hand, DER or PEM; none means revocation is unknown.
        at: aware UTC instant of reception, at which trust is judged.
    """

    anchors: TrustAnchors
    crls: tuple[bytes, ...]
    at: datetime


@dataclass(frozen=True, slots=True)
class _Signature:
    """A signature found: its CMS, and the content it is about when that travels apart."""

    cms: bytes
    detached: bytes | None


def verify(raw: bytes, policy: VerifyPolicy) -> SignatureVerdict:
    """Check the S/MIME signature of one message.

    Args:
        raw: the whole message as received, CRLF line ends.
        policy: anchors, lists and the instant of reception.

    Returns:
        A verdict; an absent or bad signature is a verdict, never an exception.

    Source: RFC 8551 §3.5.3, RFC 5652 §5.6, RFC 5280 §6.1.
    """
    return verify_at(raw, Trust(policy.anchors, policy.crls), policy.at)


def verify_at(raw: bytes, trust: Trust, at: datetime) -> SignatureVerdict:
    """As ``verify``, in the form for ``SandboxPool.run`` with ``Shared(trust)``."""
    return verify_outline(raw, scan(raw), path.Evidence(trust.anchors, trust.crls, at))


def verify_outline(raw: bytes, outline: Outline, evidence: path.Evidence) -> SignatureVerdict:
    """As ``verify``, for a message that was scanned already."""
    found = _find(raw, outline)
    if found is None:
        return NO_SIGNATURE
    if isinstance(found, Reason):
        return SignatureVerdict(present=True, reason=found)
    if found.detached is None:
        check = cms_verify.verify_opaque(found.cms)
    else:
        check = cms_verify.verify_detached(found.cms, found.detached)
    if check.reason is not None:
        return SignatureVerdict(present=True, reason=check.reason)
    return _judge(check, outline, evidence)


def is_signed_or_encrypted(raw: bytes) -> bool:
    """Whether the outermost structure is already a signature or an encryption of any kind.

    Source: RFC 8551 §3.9, RFC 1847 §2.
    """
    root = scan(raw).root
    if root.type in {"multipart/signed", "multipart/encrypted"} or root.type in _CMS_TYPES:
        return True
    return _is_named_cms(root)


def content(raw: bytes) -> bytes:
    """The MIME entity inside an opaque signature, unjudged: verify before trusting it.

    Raises:
        MalformedCmsError: the message is not an opaque signature.
    """
    root = scan(raw).root
    if root.type not in _CMS_TYPES and not _is_named_cms(root):
        raise MalformedCmsError
    try:
        return cms_verify.embedded_content(decode_strictly(raw, root))
    except MalformedMessageError as error:
        raise MalformedCmsError from error


def sign(raw: bytes, signer: Signer, *, at: datetime | None = None) -> bytes:
    """Sign a whole message: its MIME body moves into a multipart/signed.

    Fields that describe the body (Content-*) move inside with it; all others stay outside, in
    their order. A message that is already signed or encrypted comes back unchanged.

    Args:
        raw: an RFC 5322 message, CRLF line ends.
        signer: whose signature.
        at: the signingTime to claim; None claims none.

    Source: RFC 8551 §3.1, RFC 8551 §3.5.3, RFC 1847 §2.1.
    """
    unsigned = to_sign(raw)
    if unsigned is None:
        return raw
    return assemble(unsigned, cms_sign.sign_detached(unsigned.entity, signer, at))


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A message taken apart for its signature.

    Attributes:
        outside: header fields that stay in front, whole lines.
        entity: the MIME entity that is signed, octet for octet.
    """

    outside: bytes
    entity: bytes

    @property
    def sha256(self) -> bytes:
        """Digest of what is signed: all that the holder of a key must be shown."""
        return hashlib.sha256(self.entity).digest()


def to_sign(raw: bytes) -> Unsigned | None:
    """Take a message apart for signing; None when it is signed or encrypted already.

    Source: RFC 8551 §3.1, RFC 1847 §2.1.
    """
    if is_signed_or_encrypted(raw):
        return None
    raw = seven_bit(raw, scan(raw))
    return Unsigned(*taken_apart(raw, scan(raw)))


def assemble(unsigned: Unsigned, signature: bytes) -> bytes:
    """Give the signed message.

    Args:
        unsigned: what ``to_sign`` gave.
        signature: DER of the detached SignedData over its entity.

    Source: RFC 8551 §3.5.3.
    """
    entity = unsigned.entity
    # Of the content's own digest: no part of it can hold this boundary.
    boundary = b"pli-" + hashlib.sha256(b"boundary" + entity).hexdigest()[:32].encode()
    return b"".join(
        (
            unsigned.outside,
            _OUTER,
            boundary,
            b'"\r\n\r\n--',
            boundary,
            b"\r\n",
            entity,
            b"\r\n--",
            boundary,
            _SIGNATURE_HEADER,
            pybase64.encodebytes(signature).replace(b"\n", b"\r\n"),
            b"\r\n--",
            boundary,
            b"--\r\n",
        )
    )


def taken_apart(raw: bytes, outline: Outline) -> tuple[bytes, bytes]:
    """Give the fields that stay outside, and the MIME entity of the body with its own."""
    outside: list[bytes] = []
    inside: list[bytes] = []
    for field in outline.header:
        name = field.name.lower()
        line = raw[field.start : field.end]
        if name.startswith("content-"):
            inside.append(line)
        elif name != "mime-version":
            outside.append(line)
    if not any(line[:13].lower() == b"content-type:" for line in inside):
        inside.insert(0, b"Content-Type: text/plain; charset=us-ascii\r\n")
    return b"".join(outside), b"".join(inside) + b"\r\n" + raw[outline.root.body_start :]


def _find(raw: bytes, outline: Outline) -> _Signature | Reason | None:
    """Tell what the outermost structure is: a signature, none, or one that is refused."""
    root = outline.root
    try:
        if root.type == "multipart/signed":
            return _find_detached(raw, outline)
        if root.type in _CMS_TYPES or _is_named_cms(root):
            encoded = decode_strictly(raw, root)
            kind = cms_verify.content_kind(encoded)
            if kind == "signed_data":
                return Reason.MALFORMED if _ambiguous(outline) else _Signature(encoded, None)
            # What is no CMS at all but says it is signed must not pass for unsigned.
            label = (root.param("smime-type") or "signed-data").lower()
            claims = root.type in _CMS_TYPES and label == "signed-data"
            return Reason.MALFORMED if claims and kind is None else None
    except MalformedMessageError:
        return Reason.MALFORMED
    return None


def _find_detached(raw: bytes, outline: Outline) -> _Signature | Reason | None:
    root = outline.root
    protocol = (root.param("protocol") or "").lower()
    if protocol and protocol not in _SIGNATURE_TYPES:
        return None  # OpenPGP, or something newer: not S/MIME
    if len(root.children) != 2 or _ambiguous(outline):  # RFC 1847 §2.1: exactly two parts
        return Reason.MALFORMED
    signed, signature = root.children
    if signature.type not in _SIGNATURE_TYPES:
        return Reason.MALFORMED
    entity = raw[signed.header_start : signed.body_end]
    return _Signature(decode_strictly(raw, signature), entity)


def _ambiguous(outline: Outline) -> bool:
    """Whether two readers could take the outermost structure for two things (threat S20)."""
    root = outline.root
    names = [name for name, _ in root.params]
    return (
        len(outline.fields("content-type")) != 1
        or len(outline.fields("content-transfer-encoding")) > 1
        or len(set(names)) != len(names)
    )


def _is_named_cms(part: Part) -> bool:
    return part.type == "application/octet-stream" and (part.filename or "").lower().endswith(
        ".p7m"
    )


def _judge(check: SignedDataCheck, outline: Outline, evidence: path.Evidence) -> SignatureVerdict:
    author = _author(outline)
    paths: list[PathVerdict] = []
    matches = True
    for signer in check.signers:
        certificate = _certificate(signer)
        if certificate is None or signer.certificate is None:
            paths.append(NOT_CHECKED)
            matches = False
            continue
        others = tuple(each for each in check.certificates if each != signer.certificate)
        paths.append(path.judge_signer(signer.certificate, others, evidence))
        matches = matches and author is not None and _speaks_for(certificate, author)
    worst = max(paths, key=lambda each: _SEVERITY.index(each.status))
    intact = all(each.intact for each in check.signers)
    valid = all(each.valid for each in check.signers)
    reason = next((each.reason for each in check.signers if each.reason is not None), None)
    if reason is None and not matches:
        reason = Reason.FROM_AMBIGUOUS if author is None else Reason.SIGNER_NOT_FROM
    if reason is None and not worst.trusted:
        reason = Reason.PATH
    first = check.signers[0].certificate
    facts = _NOBODY if first is None else _facts(first)
    return SignatureVerdict(
        present=True,
        intact=intact,
        valid=valid,
        path=worst,
        matches_from=matches,
        signer_names=facts.names,
        signer_dn=facts.dn,
        signer_serial=facts.serial,
        signer_issuer=facts.issuer,
        reason=reason,
    )


def _certificate(signer: SignerCheck) -> x509.Certificate | None:
    return None if signer.certificate is None else _parse(signer.certificate)


@lru_cache(maxsize=256)
def _parse(der: bytes) -> x509.Certificate | None:
    try:
        certificate = x509.load_der_x509_certificate(der)
        _ = (certificate.subject, certificate.issuer, certificate.extensions)
    except CERTIFICATE:
        return None
    return certificate


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a verdict tells of its signer."""

    names: tuple[str, ...] = ()
    dn: str = ""
    serial: str = ""
    issuer: str = ""


_NOBODY = _Facts()


@lru_cache(maxsize=256)
def _facts(der: bytes) -> _Facts:
    certificate = _parse(der)
    if certificate is None:
        return _NOBODY
    return _Facts(
        rfc822_names(certificate),
        dn_string(certificate.subject),
        f"{certificate.serial_number:X}",
        dn_string(certificate.issuer),
    )


def _author(outline: Outline) -> Address | None:
    try:
        return single_from(outline)
    except MalformedAddressError:
        return None


def _speaks_for(certificate: x509.Certificate, author: Address) -> bool:
    """Whether the certificate holds the author's address: local part exact, domain any case.

    Source: RFC 8550 §3, RFC 5280 §7.5.
    """
    for name in rfc822_names(certificate):
        try:
            held = parse_addr_spec(name)
        except MalformedAddressError:
            continue
        if held == author:
            return True
    return False
