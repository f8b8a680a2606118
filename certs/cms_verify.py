"""Judge CMS SignedData: structure, digests and signatures, without any question of trust.

Every signer must be sound for the whole to be; what is ambiguous is refused rather than read
generously. In particular: signed attributes are required, with contentType and messageDigest
exactly once; a detached signature that carries content of its own is refused; the digest named by
the signature, by the signer and by the whole must be one and permitted.

Source: RFC 5652 §5, RFC 5652 §11, RFC 8551 §2, RFC 4056 §3, RFC 5754 §3, threats C2 C3 C4 C10 C12.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from certs import policy
from certs.errors import MalformedCmsError
from certs.malformed import STRUCTURE
from certs.policy import SignaturePolicy
from certs.verdict import Reason

_HASHES: dict[str, type[hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
_MAX_SALT = 512


@dataclass(frozen=True, slots=True)
class SignerCheck:
    """What one signer's block says.

    Attributes:
        certificate: the signer's certificate, DER; None when the message does not hold it.
        intact: its messageDigest is the content's digest.
        valid: its signature verifies under permitted algorithms.
        reason: the first thing wrong with it.
    """

    certificate: bytes | None
    intact: bool
    valid: bool
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class SignedDataCheck:
    """What a whole SignedData says; ``reason`` alone when its structure is refused."""

    signers: tuple[SignerCheck, ...] = ()
    certificates: tuple[bytes, ...] = ()
    reason: Reason | None = None


class _RefusedError(Exception):
    """Internal: a structure is refused for one reason."""

    def __init__(self, reason: Reason) -> None:
        super().__init__("refused")
        self.reason = reason


def content_kind(encoded: bytes) -> str | None:
    """What a ContentInfo holds, by its structure: ``signed_data``, ``enveloped_data``...

    Returns:
        None when the bytes are no ContentInfo.

    Source: RFC 5652 §3, RFC 8551 §3.9.
    """
    try:
        return str(_content_info(encoded)["content_type"].native)
    except STRUCTURE:
        return None


def embedded_content(encoded: bytes, limits: SignaturePolicy = policy.DEFAULT) -> bytes:
    """The content that an opaque signature carries, unjudged.

    Raises:
        MalformedCmsError: not signed data, or without content.
    """
    try:
        content = _embedded(_signed_data(encoded, limits))
    except (_RefusedError, *STRUCTURE) as error:
        raise MalformedCmsError from error
    if content is None:
        raise MalformedCmsError
    return content


def verify_detached(
    encoded: bytes, content: bytes, limits: SignaturePolicy = policy.DEFAULT
) -> SignedDataCheck:
    """Check a signature over content that travels apart.

    Args:
        encoded: the ContentInfo, BER or DER.
        content: the octets signed, in canonical form (CRLF).
        limits: what is permitted.

    Source: RFC 8551 §3.5.3, RFC 5652 §5.6.
    """
    if len(encoded) > limits.max_detached_cms_bytes:
        return SignedDataCheck(reason=Reason.TOO_MANY)
    return _verify(encoded, content, limits)


def verify_opaque(encoded: bytes, limits: SignaturePolicy = policy.DEFAULT) -> SignedDataCheck:
    """Check a signature that carries its content.

    Source: RFC 8551 §3.5.2, RFC 5652 §5.6.
    """
    return _verify(encoded, None, limits)


def _verify(encoded: bytes, detached: bytes | None, limits: SignaturePolicy) -> SignedDataCheck:
    try:
        return _verified(_signed_data(encoded, limits), detached, limits)
    except _RefusedError as error:
        return SignedDataCheck(reason=error.reason)
    except STRUCTURE:
        return SignedDataCheck(reason=Reason.MALFORMED)


def _verified(
    data: cms.SignedData, detached: bytes | None, limits: SignaturePolicy
) -> SignedDataCheck:
    infos = _bounded(data["signer_infos"], limits.max_signers)
    if not infos:
        raise _RefusedError(Reason.NO_SIGNER)
    certificates = _certificates(data, limits)
    embedded = _embedded(data)
    if detached is not None and embedded is not None:
        # Readers would show one and verify the other (threat C2).
        raise _RefusedError(Reason.EMBEDDED_CONTENT)
    octets = embedded if detached is None else detached
    if octets is None:
        raise _RefusedError(Reason.MALFORMED)
    announced = frozenset(
        each["algorithm"].native for each in _bounded(data["digest_algorithms"], 16)
    )
    content = _Content(octets, {}, announced)
    return SignedDataCheck(
        tuple(_check_signer(info, certificates, content, limits) for info in infos),
        tuple(each.dump() for each in certificates),
    )


@dataclass(frozen=True, slots=True)
class _Content:
    """The content with the digests computed so far: many signers must not cost many hashes."""

    octets: bytes
    computed: dict[str, bytes]
    announced: frozenset[str]

    def digest(self, name: str) -> bytes:
        """The content's digest under a permitted algorithm."""
        if name not in self.computed:
            self.computed[name] = hashlib.new(name, self.octets).digest()
        return self.computed[name]


def _content_info(encoded: bytes) -> cms.ContentInfo:
    return cms.ContentInfo.load(encoded, strict=True)


def _signed_data(encoded: bytes, limits: SignaturePolicy) -> cms.SignedData:
    if len(encoded) > limits.max_cms_bytes:
        raise _RefusedError(Reason.TOO_MANY)
    info = _content_info(encoded)
    if info["content_type"].native != "signed_data" or not isinstance(
        info["content"], cms.SignedData
    ):
        raise _RefusedError(Reason.MALFORMED)
    data = info["content"]
    if data["encap_content_info"]["content_type"].native != "data":
        raise _RefusedError(Reason.MALFORMED)  # RFC 8551 §2.4.1: MIME content is id-data
    return data


def _bounded(values: core.SequenceOf, limit: int) -> Sequence[core.Asn1Value]:
    if len(values) > limit:
        raise _RefusedError(Reason.TOO_MANY)
    return list(values)


def _certificates(data: cms.SignedData, limits: SignaturePolicy) -> list[asn1_x509.Certificate]:
    held = data["certificates"]
    if isinstance(held, core.Void):
        return []
    return [
        choice.chosen
        for choice in _bounded(held, limits.max_certificates)
        if choice.name == "certificate"
    ]


def _embedded(data: cms.SignedData) -> bytes | None:
    content = data["encap_content_info"]["content"]
    if isinstance(content, core.Void):
        return None
    return bytes(content)


def _check_signer(
    info: cms.SignerInfo,
    certificates: Sequence[asn1_x509.Certificate],
    content: _Content,
    limits: SignaturePolicy,
) -> SignerCheck:
    try:
        certificate = _find(info["sid"], certificates)
    except STRUCTURE:
        return SignerCheck(None, intact=False, valid=False, reason=Reason.MALFORMED)
    der = certificate.dump() if certificate is not None else None
    try:
        digest_name = _digest_name(info, content, limits)
        attributes = _attributes(info)
        intact = attributes.message_digest == content.digest(digest_name)
    except _RefusedError as error:
        return SignerCheck(der, intact=False, valid=False, reason=error.reason)
    except STRUCTURE:
        return SignerCheck(der, intact=False, valid=False, reason=Reason.MALFORMED)
    if der is None:
        return SignerCheck(der, intact, valid=False, reason=Reason.NO_CERTIFICATE)
    try:
        _check_bound_certificate(attributes, der)
        valid = _signature_holds(info, (digest_name, attributes.encoded), der, limits)
    except _RefusedError as error:
        return SignerCheck(der, intact, valid=False, reason=error.reason)
    except STRUCTURE:
        return SignerCheck(der, intact, valid=False, reason=Reason.MALFORMED)
    if not intact:
        return SignerCheck(der, intact, valid, Reason.CONTENT_ALTERED)
    return SignerCheck(der, intact, valid, None if valid else Reason.SIGNATURE_WRONG)


def _digest_name(info: cms.SignerInfo, content: _Content, limits: SignaturePolicy) -> str:
    name = str(info["digest_algorithm"]["algorithm"].native)
    if name not in limits.digests or name not in content.announced:
        raise _RefusedError(Reason.ALGORITHM)
    return name


def _find(
    sid: cms.SignerIdentifier, certificates: Sequence[asn1_x509.Certificate]
) -> asn1_x509.Certificate | None:
    """The certificate a signer names; RFC 5652 §5.3."""
    if sid.name == "issuer_and_serial_number":
        serial = sid.chosen["serial_number"].native
        issuer = sid.chosen["issuer"]
        for each in certificates:
            held = _named(each.dump())
            if held.serial == serial and (held.issuer == issuer.dump() or each.issuer == issuer):
                return each
        return None
    wanted = sid.chosen.native
    return next((each for each in certificates if each.key_identifier == wanted), None)


@dataclass(frozen=True, slots=True)
class _Named:
    """What a signer names a certificate by."""

    serial: int
    issuer: bytes


@lru_cache(maxsize=256)
def _named(der: bytes) -> _Named:
    certificate = asn1_x509.Certificate.load(der)
    return _Named(certificate.serial_number, certificate.issuer.dump())


@dataclass(frozen=True, slots=True)
class _Attributes:
    """What the signed attributes of one signer say."""

    encoded: bytes
    message_digest: bytes
    bound_hash: tuple[str, bytes] | None


def _attributes(info: cms.SignerInfo) -> _Attributes:
    """Read signed attributes; each that matters must stand exactly once with one value.

    A signature without signed attributes is refused: its signed octets could be read as
    attributes and the other way round.

    Source: RFC 5652 §5.3, RFC 5652 §11.1, RFC 5652 §11.2, RFC 5652 §11.3.
    """
    attributes = info["signed_attrs"]
    if isinstance(attributes, core.Void):
        raise _RefusedError(Reason.ATTRIBUTES)
    values: dict[str, core.Asn1Value] = {}
    for attribute in _bounded(attributes, 64):
        name = attribute["type"].native
        if name in values or len(attribute["values"]) != 1:
            if name in _SINGLE or name in values:
                raise _RefusedError(Reason.ATTRIBUTES)
            continue
        values[name] = attribute["values"][0]
    if not values.keys() >= _REQUIRED or values["content_type"].native != "data":
        raise _RefusedError(Reason.ATTRIBUTES)
    if "signing_time" in values:
        _ = values["signing_time"].native  # a claim, never used; but it must be one
    encoded: bytes = attributes.dump()
    if encoded[:1] != _IMPLICIT_ZERO:
        raise _RefusedError(Reason.MALFORMED)
    return _Attributes(
        # Signed as a SET OF, sent under [0]: RFC 5652 §5.4.
        _SET_OF + encoded[1:],
        values["message_digest"].native,
        _bound_hash(values),
    )


_IMPLICIT_ZERO = b"\xa0"
_SET_OF = b"\x31"
_REQUIRED = frozenset({"content_type", "message_digest"})
_SINGLE = _REQUIRED | {"signing_time", "signing_certificate", "signing_certificate_v2"}


def _bound_hash(values: dict[str, core.Asn1Value]) -> tuple[str, bytes] | None:
    """The hash of the signer's certificate that the signature binds, when it does.

    Source: RFC 5035 §5.
    """
    bound = values.get("signing_certificate_v2")
    if bound is None:
        return None
    first = tsp.SigningCertificateV2.load(bound.dump())["certs"][0]
    name = first["hash_algorithm"]["algorithm"].native
    if name not in policy.ALLOWED_DIGESTS:
        raise _RefusedError(Reason.ALGORITHM)
    return name, first["cert_hash"].native


def _check_bound_certificate(attributes: _Attributes, der: bytes) -> None:
    if attributes.bound_hash is not None:
        name, wanted = attributes.bound_hash
        if hashlib.new(name, der).digest() != wanted:
            raise _RefusedError(Reason.NO_CERTIFICATE)


def _signature_holds(
    info: cms.SignerInfo, signed: tuple[str, bytes], der: bytes, limits: SignaturePolicy
) -> bool:
    """Whether the signature over (digest name, octets) verifies with the certificate's key."""
    digest_name, octets = signed
    algorithm: algos.SignedDigestAlgorithm = info["signature_algorithm"]
    signature: bytes = info["signature"].native
    key = _public_key(der)
    digest = _HASHES[digest_name]()
    name = algorithm["algorithm"].native
    try:
        if isinstance(key, rsa.RSAPublicKey):
            if not limits.min_rsa_bits <= key.key_size <= limits.max_rsa_bits:
                raise _RefusedError(Reason.WEAK_KEY)
            if name == "rsassa_pss":
                scheme: padding.AsymmetricPadding = _pss(algorithm, digest_name)
            elif name in {"rsassa_pkcs1v15", f"{digest_name}_rsa"}:
                scheme = padding.PKCS1v15()
            else:
                raise _RefusedError(Reason.ALGORITHM)
            key.verify(signature, octets, scheme, digest)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            if key.curve.name not in limits.curves:
                raise _RefusedError(Reason.WEAK_KEY)
            if name != f"{digest_name}_ecdsa":
                raise _RefusedError(Reason.ALGORITHM)
            key.verify(signature, octets, ec.ECDSA(digest))
        else:
            raise _RefusedError(Reason.ALGORITHM)
    except InvalidSignature:
        return False
    return True


@lru_cache(maxsize=256)
def _public_key(der: bytes) -> CertificatePublicKeyTypes:
    return x509.load_der_x509_certificate(der).public_key()


def _pss(algorithm: algos.SignedDigestAlgorithm, digest_name: str) -> padding.PSS:
    """The padding that RSASSA-PSS parameters name; its digests must be the signer's.

    Source: RFC 4056 §3, RFC 8017 §9.1.
    """
    parameters = algorithm["parameters"]
    mask = parameters["mask_gen_algorithm"]
    salt = parameters["salt_length"].native
    if (
        parameters["hash_algorithm"]["algorithm"].native != digest_name
        or mask["algorithm"].native != "mgf1"
        or mask["parameters"]["algorithm"].native != digest_name
        or parameters["trailer_field"].native != "trailer_field_bc"
        or not 0 <= salt <= _MAX_SALT
    ):
        raise _RefusedError(Reason.ALGORITHM)
    return padding.PSS(padding.MGF1(_HASHES[digest_name]()), salt)
