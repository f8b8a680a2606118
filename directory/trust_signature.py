"""The signature of a trust list: hardened XML, and only what the one signer covered.

XMLDSig or XAdES, enveloped. Invariants: no DTD, no entity, no network; exactly one Signature,
child of the root, by the one certificate that is configured; what is read is what was signed; the
certificate that XAdES says it was signed with is that one.

Source: W3C XML Signature 1.1; ETSI EN 319 132-1 (XAdES) §5.2.2.
"""

import base64
import hashlib
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree
from signxml import methods
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureMethod
from signxml.exceptions import SignXMLException
from signxml.signer import XMLSigner
from signxml.verifier import SignatureConfiguration, XMLVerifier

from directory.errors import TrustListError, TrustListReason

DS: Final = "{http://www.w3.org/2000/09/xmldsig#}"
_XADES: Final = "{http://uri.etsi.org/01903/v1.3.2#}"
_FILTER2: Final = "http://www.w3.org/2002/06/xmldsig-filter2"
_DIGESTS: Final = {
    DigestAlgorithm.SHA256.value: "sha256",
    DigestAlgorithm.SHA384.value: "sha384",
    DigestAlgorithm.SHA512.value: "sha512",
}

MAX_LIST_BYTES = 32 * 1024 * 1024
"""The list of 2026 has 8,655 entries, about 5 MB (facts §1.3)."""


def _parser() -> etree.XMLParser:
    return etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )


def parse_xml(xml: bytes) -> etree._Element:
    """Read a file as XML.

    Raises:
        TrustListError: TOO_LARGE, or UNREADABLE: truncated, no XML, or with a DOCTYPE.
    """
    if len(xml) > MAX_LIST_BYTES:
        raise TrustListError(TrustListReason.TOO_LARGE)
    try:
        root = etree.fromstring(xml, _parser())
    except (etree.XMLSyntaxError, ValueError) as error:
        raise TrustListError(TrustListReason.UNREADABLE) from error
    info = root.getroottree().docinfo
    if info.internalDTD is not None or info.doctype:
        raise TrustListError(TrustListReason.UNREADABLE)
    return root


def serialise(root: etree._Element) -> bytes:
    """Write XML as a file."""
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")


def sign(
    xml: bytes, key: RSAPrivateKey | EllipticCurvePrivateKey, certificate: x509.Certificate
) -> bytes:
    """Sign a list (XMLDSig enveloped, exclusive C14N, RSA or ECDSA with SHA-256)."""
    method = (
        SignatureMethod.RSA_SHA256
        if isinstance(key, RSAPrivateKey)
        else SignatureMethod.ECDSA_SHA256
    )
    signer = XMLSigner(
        method=methods.enveloped,
        signature_algorithm=method,
        digest_algorithm=DigestAlgorithm.SHA256,
        c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
    )
    return serialise(signer.sign(parse_xml(xml), key=key, cert=[certificate]))


class _Verifier(XMLVerifier):
    """signxml's verifier, which also knows how ANS writes "without the signature".

    The published sibling list uses the xmldsig-filter2 transform, subtract
    ``/descendant::ds:Signature``; with exactly one Signature in the document (checked before)
    that is what the enveloped transform does.
    """

    def _apply_transforms(
        self,
        payload: Any,  # an element or octets, between transforms
        *,
        transforms_node: etree._Element,
        signature: etree._Element,
    ) -> Any:  # octets after canonicalisation
        allowed = {
            methods.enveloped.value,
            _FILTER2,
            CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0.value,
            CanonicalizationMethod.CANONICAL_XML_1_0.value,
            CanonicalizationMethod.CANONICAL_XML_1_1.value,
        }
        for transform in () if transforms_node is None else transforms_node:
            if transform.get("Algorithm") not in allowed:
                raise TrustListError(TrustListReason.SIGNATURE)
            if transform.get("Algorithm") == _FILTER2:
                _check_filter2(transform)
                _detach(signature)
        return super()._apply_transforms(
            payload, transforms_node=transforms_node, signature=signature
        )


def _check_filter2(transform: etree._Element) -> None:
    paths = list(transform)
    if (
        len(paths) != 1
        or paths[0].tag != f"{{{_FILTER2}}}XPath"
        or paths[0].get("Filter") != "subtract"
        or (paths[0].text or "").strip() != "/descendant::ds:Signature"
        or paths[0].nsmap.get("ds") != DS[1:-1]
    ):
        raise TrustListError(TrustListReason.SIGNATURE)


def _detach(signature: etree._Element) -> None:
    parent = signature.getparent()
    if parent is None:
        return
    previous = signature.getprevious()
    if signature.tail:
        if previous is not None:
            previous.tail = (previous.tail or "") + signature.tail
        else:
            parent.text = (parent.text or "") + signature.tail
    parent.remove(signature)


def signed_part(
    root: etree._Element, certificate: x509.Certificate, at: datetime
) -> etree._Element:
    """Give what the signature covers, which must be the whole list.

    Args:
        root: the file's.
        certificate: the only signer that is believed.
        at: when that certificate must be valid.

    Raises:
        TrustListError: UNSIGNED, or SIGNATURE.

    Source: W3C XML Signature 1.1, section 8.1: see what is signed.
    """
    signatures = list(root.iter(f"{DS}Signature"))
    if not signatures:
        raise TrustListError(TrustListReason.UNSIGNED)
    if len(signatures) != 1 or signatures[0].getparent() is not root:
        raise TrustListError(TrustListReason.SIGNATURE)
    config = SignatureConfiguration(
        location="./",
        expect_references=True,
        signature_methods=frozenset(
            {
                SignatureMethod.RSA_SHA256,
                SignatureMethod.RSA_SHA384,
                SignatureMethod.RSA_SHA512,
                SignatureMethod.ECDSA_SHA256,
                SignatureMethod.ECDSA_SHA384,
            }
        ),
        digest_algorithms=frozenset(
            {DigestAlgorithm.SHA256, DigestAlgorithm.SHA384, DigestAlgorithm.SHA512}
        ),
        verification_time=at,
    )
    try:
        results = _Verifier().verify(
            root, x509_cert=certificate, parser=_parser(), expect_config=config
        )
    except TrustListError:
        raise
    except (SignXMLException, etree.LxmlError, ValueError, KeyError, TypeError) as error:
        raise TrustListError(TrustListReason.SIGNATURE) from error
    covered = results if isinstance(results, list) else [results]
    lists = [r.signed_xml for r in covered if r.signed_xml is not None]
    whole = [element for element in lists if element.tag == root.tag]
    others = [element for element in lists if element.tag != f"{_XADES}SignedProperties"]
    if len(whole) != 1 or len(others) != 1 or len(lists) != len(covered):
        raise TrustListError(TrustListReason.SIGNATURE)
    properties = [element for element in lists if element.tag == f"{_XADES}SignedProperties"]
    _check_xades(signatures[0], properties, certificate)
    return whole[0]


def _check_xades(
    signature: etree._Element, covered: list[etree._Element], certificate: x509.Certificate
) -> None:
    """Hold the properties of XAdES against the signer; a plain XMLDSig has none.

    The properties must be under the signature, and the certificate that they name must be the one
    that is believed. Source: ETSI EN 319 132-1 §5.2.2.
    """
    written = sum(1 for _ in signature.iter(f"{_XADES}SignedProperties"))
    if written != len(covered) or written > 1:
        raise TrustListError(TrustListReason.SIGNATURE)
    if not covered:
        return
    named = covered[0].findall(
        f"{_XADES}SignedSignatureProperties/{_XADES}SigningCertificateV2/{_XADES}Cert"
        f"/{_XADES}CertDigest"
    )
    if not named:
        raise TrustListError(TrustListReason.SIGNATURE)
    method = named[0].find(f"{DS}DigestMethod")
    name = _DIGESTS.get("" if method is None else method.get("Algorithm", ""))
    try:
        said = base64.b64decode(named[0].findtext(f"{DS}DigestValue") or "")
    except ValueError as error:
        raise TrustListError(TrustListReason.SIGNATURE) from error
    if name is None or hashlib.new(name, certificate.public_bytes(Encoding.DER)).digest() != said:
        raise TrustListError(TrustListReason.SIGNATURE)
