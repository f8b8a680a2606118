"""SignedData as no honest signer makes it, for the refusals of ``certs.cms_verify``."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pybase64
from asn1crypto import algos, cms, core
from asn1crypto import x509 as asn1_x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from certs.cms_sign import Signer, sign_detached

HASHES: dict[str, hashes.HashAlgorithm] = {
    "md5": hashes.MD5(),  # noqa: S303
    "sha1": hashes.SHA1(),  # noqa: S303
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one signer's block is made; the defaults make a good one."""

    digest: str = "sha256"
    signature_digest: str | None = None
    attributes: Sequence[str] = ("content_type", "message_digest")
    content_type: str = "data"
    announced: Sequence[str] | None = None
    embedded: bytes | None = None
    values: dict[str, list[object]] = field(default_factory=dict)


def attribute(name: str, recipe: Recipe, content: bytes) -> cms.CMSAttribute:
    """One signed attribute."""
    values: dict[str, list[object]] = {
        "content_type": [recipe.content_type],
        "message_digest": [hashlib.new(recipe.digest, content).digest()],
        **recipe.values,
    }
    return cms.CMSAttribute({"type": name, "values": values[name]})


def signed(content: bytes, signer: Signer, recipe: Recipe) -> bytes:
    """A ContentInfo by a recipe."""
    good = cms.ContentInfo.load(sign_detached(content, signer))
    data = good["content"]
    info = data["signer_infos"][0]
    attributes = cms.CMSAttributes(
        [attribute(name, recipe, content) for name in recipe.attributes]
    )
    name = recipe.signature_digest or recipe.digest
    octets = attributes.dump() if recipe.attributes else content
    if isinstance(signer.key, rsa.RSAPrivateKey):
        signature = signer.key.sign(octets, padding.PKCS1v15(), HASHES[name])
        algorithm = {"algorithm": f"{name}_rsa", "parameters": core.Null()}
    else:
        assert isinstance(signer.key, ec.EllipticCurvePrivateKey)
        signature = signer.key.sign(octets, ec.ECDSA(HASHES[name]))
        algorithm = {"algorithm": f"{name}_ecdsa"}
    fields = {
        "version": "v1",
        "sid": info["sid"],
        "digest_algorithm": {"algorithm": recipe.digest},
        "signature_algorithm": algos.SignedDigestAlgorithm(algorithm),
        "signature": signature,
    }
    if recipe.attributes:
        fields["signed_attrs"] = attributes
    announced = [recipe.digest] if recipe.announced is None else recipe.announced
    return rebuilt(
        data,
        infos=[cms.SignerInfo(fields)],
        digests=announced,
        embedded=recipe.embedded,
    )


def rebuilt(
    data: cms.SignedData,
    *,
    infos: Iterable[cms.SignerInfo],
    digests: Sequence[str] = ("sha256",),
    embedded: bytes | None = None,
    certificates: Sequence[asn1_x509.Certificate] | None = None,
) -> bytes:
    """A SignedData with other parts in it."""
    held = [each.chosen for each in data["certificates"]] if certificates is None else certificates
    content: dict[str, object] = {"content_type": "data"}
    if embedded is not None:
        content["content"] = core.OctetString(embedded)
    fresh = cms.SignedData(
        {
            "version": "v1",
            "digest_algorithms": [algos.DigestAlgorithm({"algorithm": each}) for each in digests],
            "encap_content_info": content,
            "certificates": [cms.CertificateChoices({"certificate": each}) for each in held],
            "signer_infos": list(infos),
        }
    )
    encoded: bytes = cms.ContentInfo({"content_type": "signed_data", "content": fresh}).dump()
    return encoded


def by_two(
    first: cms.SignerInfo, second: cms.SignerInfo, certificates: Sequence[asn1_x509.Certificate]
) -> bytes:
    """A SignedData of two blocks in this order, which DER would sort."""
    empty = cms.SignedData({"version": "v1", "encap_content_info": {"content_type": "data"}})
    encoded = rebuilt(empty, infos=[first, second], certificates=certificates)
    one, other = first.dump(), second.dump()
    return encoded.replace(other + one, one + other)


def together(content: bytes, *signers: Signer) -> bytes:
    """One SignedData with a block for each signer."""
    parts = [cms.ContentInfo.load(sign_detached(content, each))["content"] for each in signers]
    return rebuilt(
        parts[0],
        infos=[each["signer_infos"][0] for each in parts],
        certificates=[choice.chosen for each in parts for choice in each["certificates"]],
    )


def parsed(signer: Signer) -> asn1_x509.Certificate:
    """The signer's certificate for ``rebuilt``."""
    return asn1_x509.Certificate.load(signer.certificate.public_bytes(Encoding.DER))


def multipart(entity: bytes, encoded: bytes, author: str) -> bytes:
    """A multipart/signed message of an entity and a signature."""
    return (
        b"From: <" + author.encode() + b">\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/signed; protocol="application/pkcs7-signature";'
        b" micalg=sha-256; boundary=limit\r\n\r\n--limit\r\n"
        + entity
        + b"\r\n--limit\r\nContent-Type: application/pkcs7-signature; name=smime.p7s\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n"
        + pybase64.encodebytes(encoded).replace(b"\n", b"\r\n")
        + b"--limit--\r\n"
    )


def opaque(encoded: bytes, author: str, label: str = "smime-type=signed-data") -> bytes:
    """An application/pkcs7-mime message."""
    return (
        b"From: <" + author.encode() + b">\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: application/pkcs7-mime; name=smime.p7m; " + label.encode() + b"\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n"
        + pybase64.encodebytes(encoded).replace(b"\n", b"\r\n")
    )
