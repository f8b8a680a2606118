"""Encrypt and decrypt CMS: EnvelopedData with AES-256-CBC, AuthEnvelopedData with AES-256-GCM.

First cut: RSA recipients only (RSAES-PKCS1-v1_5, which every mail client opens; RSAES-OAEP is
read). Every failure to open is one ``DecryptionError``, and a PKCS #1 key that does not unwrap is
replaced by a random one (implicit rejection, twice: OpenSSL does it too), so that a wrong
recipient key, altered padding and altered content cannot be told apart (threat C13).

What CBC decrypts is not authenticated: the caller must find a valid signature inside before it
shows the content as protected (threat C1).

Source: RFC 5652 §6, RFC 5083 §2, RFC 5084 §3, RFC 3565 §4, RFC 8551 §2.7, RFC 3218 §2.3.
"""

import enum
import hmac
import secrets
from collections.abc import Sequence

from asn1crypto import algos, cms, core
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding as rsa_padding
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding

from certs import policy
from certs.errors import DecryptionError, MalformedCmsError
from certs.malformed import STRUCTURE

_AES_256_CBC = "2.16.840.1.101.3.4.1.42"
_AES_256_GCM = "2.16.840.1.101.3.4.1.46"
_CBC_KEY_BYTES = {
    "2.16.840.1.101.3.4.1.2": 16,
    "2.16.840.1.101.3.4.1.22": 24,
    _AES_256_CBC: 32,
}
_GCM_KEY_BYTES = {
    "2.16.840.1.101.3.4.1.6": 16,
    "2.16.840.1.101.3.4.1.26": 24,
    _AES_256_GCM: 32,
}
_TAG_BYTES = 16
_NONCE_BYTES = 12


class Cipherment(enum.Enum):
    """How content is encrypted."""

    AES_256_CBC = "aes-256-cbc"
    """Every client opens it; not authenticated."""
    AES_256_GCM = "aes-256-gcm"
    """Authenticated; Thunderbird 153 does not open it (2026)."""


class _GcmParameters(core.Sequence):  # type: ignore[misc] # asn1crypto ships no types
    """GCMParameters of RFC 5084 §3.2, which asn1crypto does not know."""

    _fields = [("nonce", core.OctetString), ("icv_length", core.Integer, {"default": 12})]  # noqa: RUF012


def encrypt(
    content: bytes,
    recipients: Sequence[x509.Certificate],
    cipherment: Cipherment = Cipherment.AES_256_CBC,
) -> bytes:
    """Encrypt for every recipient; returns the DER ContentInfo.

    Args:
        content: the MIME entity, CRLF line ends.
        recipients: their certificates, already judged by the caller: this function does no
            trust checks.
        cipherment: content encryption.

    Raises:
        ValueError: no recipient, or a key that is not RSA of a permitted size.

    Source: RFC 5652 §6.1, RFC 5083 §2.1, RFC 8551 §3.4.
    """
    if not recipients:
        raise ValueError("an encrypted message needs a recipient")
    key = secrets.token_bytes(32)
    infos = [_recipient(certificate, key) for certificate in recipients]
    if cipherment is Cipherment.AES_256_GCM:
        return _auth_enveloped(content, key, infos)
    vector = secrets.token_bytes(16)
    padder = PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
    padded = padder.update(content) + padder.finalize()
    encrypted = encryptor.update(padded) + encryptor.finalize()
    data = cms.EnvelopedData(
        {
            "version": "v0",
            "recipient_infos": infos,
            "encrypted_content_info": {
                "content_type": "data",
                "content_encryption_algorithm": {
                    "algorithm": "aes256_cbc",
                    "parameters": core.OctetString(vector),
                },
                "encrypted_content": encrypted,
            },
        }
    )
    return _dump({"content_type": "enveloped_data", "content": data})


def decrypt(encoded: bytes, certificate: x509.Certificate, key: rsa.RSAPrivateKey) -> bytes:
    """Open what ``encrypt``, openssl or a mail client made for one recipient.

    Args:
        encoded: the ContentInfo, BER or DER.
        certificate: which of the recipients we are: chosen by issuer and serial number only.
        key: its private key.

    Raises:
        MalformedCmsError: not an encrypted CMS this package reads.
        DecryptionError: it cannot be opened; the one error for every cause.

    Source: RFC 5652 §6.3, RFC 5083 §2.1, RFC 8551 §3.9.
    """
    try:
        info = cms.ContentInfo.load(encoded, strict=True)
        kind = info["content_type"].native
        if kind == "enveloped_data":
            content = info["content"]["encrypted_content_info"]
            tag, attributes = None, core.Void()
        elif kind == "authenticated_enveloped_data":
            content = info["content"]["auth_encrypted_content_info"]
            tag = info["content"]["mac"].native
            attributes = info["content"]["auth_attrs"]
        else:
            raise MalformedCmsError
        cipher = content["content_encryption_algorithm"]
        oid = cipher["algorithm"].dotted
        encrypted = bytes(content["encrypted_content"])
        sizes = _CBC_KEY_BYTES if tag is None else _GCM_KEY_BYTES
        if oid not in sizes:
            raise MalformedCmsError
        content_key = _unwrap(info["content"]["recipient_infos"], certificate, key, sizes[oid])
        parameters = cipher["parameters"]
    except STRUCTURE as error:
        raise MalformedCmsError from error
    try:
        if tag is None:
            return _open_cbc(encrypted, content_key, parameters.native)
        gcm = _GcmParameters.load(parameters.dump())
        if gcm["icv_length"].native != len(tag) or len(tag) < 12:  # RFC 5084 §3.2
            raise DecryptionError
        associated = None
        if not isinstance(attributes, core.Void) and attributes.native:
            associated = attributes.untag().dump()
        return AESGCM(content_key).decrypt(gcm["nonce"].native, encrypted + tag, associated)
    except (InvalidTag, *STRUCTURE):
        raise DecryptionError from None


def _recipient(certificate: x509.Certificate, content_key: bytes) -> cms.RecipientInfo:
    public = certificate.public_key()
    if not isinstance(public, rsa.RSAPublicKey) or not (
        policy.DEFAULT.min_rsa_bits <= public.key_size <= policy.DEFAULT.max_rsa_bits
    ):
        raise ValueError("the recipient's key is not RSA of a permitted size")
    parsed = asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))
    return cms.RecipientInfo(
        {
            "ktri": {
                "version": "v0",
                "rid": cms.RecipientIdentifier(
                    {
                        "issuer_and_serial_number": {
                            "issuer": parsed.issuer,
                            "serial_number": parsed.serial_number,
                        }
                    }
                ),
                "key_encryption_algorithm": {
                    "algorithm": "rsaes_pkcs1v15",
                    "parameters": core.Null(),
                },
                "encrypted_key": public.encrypt(content_key, rsa_padding.PKCS1v15()),
            }
        }
    )


def _auth_enveloped(content: bytes, key: bytes, infos: list[cms.RecipientInfo]) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    sealed = AESGCM(key).encrypt(nonce, content, None)
    algorithm = cms.EncryptionAlgorithm(
        {
            "algorithm": _AES_256_GCM,
            "parameters": _GcmParameters({"nonce": nonce, "icv_length": _TAG_BYTES}),
        }
    )
    data = cms.AuthEnvelopedData(
        {
            "version": "v0",
            "recipient_infos": infos,
            "auth_encrypted_content_info": {
                "content_type": "data",
                "content_encryption_algorithm": algorithm,
                "encrypted_content": sealed[:-_TAG_BYTES],
            },
            "mac": sealed[-_TAG_BYTES:],
        }
    )
    return _dump({"content_type": "authenticated_enveloped_data", "content": data})


def _dump(fields: dict[str, object]) -> bytes:
    encoded: bytes = cms.ContentInfo(fields).dump()
    return encoded


def _unwrap(
    infos: cms.RecipientInfos, certificate: x509.Certificate, key: rsa.RSAPrivateKey, size: int
) -> bytes:
    """Our content key, or a random one of the right size when it does not unwrap.

    Source: RFC 3218 §2.3.2.
    """
    if len(infos) > policy.DEFAULT.max_recipients:
        raise MalformedCmsError
    parsed = asn1_x509.Certificate.load(certificate.public_bytes(Encoding.DER))
    decoy = secrets.token_bytes(size)
    for info in infos:
        if info.name != "ktri" or info.chosen["rid"].name != "issuer_and_serial_number":
            continue
        rid = info.chosen["rid"].chosen
        same = rid["serial_number"].native == parsed.serial_number
        if not same or rid["issuer"].dump() != parsed.issuer.dump():
            continue
        scheme = _key_scheme(info.chosen["key_encryption_algorithm"])
        try:
            content_key = key.decrypt(info.chosen["encrypted_key"].native, scheme)
        except ValueError:
            return decoy
        return content_key if hmac.compare_digest(_size(content_key), _size(decoy)) else decoy
    raise DecryptionError  # who the recipients are is no secret


def _size(octets: bytes) -> bytes:
    return len(octets).to_bytes(4)


def _key_scheme(algorithm: cms.KeyEncryptionAlgorithm) -> rsa_padding.AsymmetricPadding:
    name = algorithm["algorithm"].native
    if name in {"rsaes_pkcs1v15", "rsa"}:
        return rsa_padding.PKCS1v15()
    if name != "rsaes_oaep":
        raise MalformedCmsError
    parameters: algos.RSAESOAEPParams = algorithm["parameters"]
    digest = parameters["hash_algorithm"]["algorithm"].native
    mask = parameters["mask_gen_algorithm"]["parameters"]["algorithm"].native
    return rsa_padding.OAEP(rsa_padding.MGF1(_hash(mask)), _hash(digest), None)


def _hash(name: str) -> hashes.HashAlgorithm:
    # SHA-1 is the default of OAEP and no weakness there: RFC 8017 §B.1.
    known: dict[str, hashes.HashAlgorithm] = {
        "sha1": hashes.SHA1(),  # noqa: S303
        "sha256": hashes.SHA256(),
        "sha384": hashes.SHA384(),
        "sha512": hashes.SHA512(),
    }
    return known[name]


def _open_cbc(encrypted: bytes, key: bytes, vector: bytes) -> bytes:
    decryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).decryptor()
    padded = decryptor.update(encrypted) + decryptor.finalize()
    unpadder = PKCS7(128).unpadder()
    return unpadder.update(padded) + unpadder.finalize()
