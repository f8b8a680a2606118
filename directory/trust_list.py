"""The trust list (liste blanche): which operator certificate may speak for which domain.

``parse`` takes the published XML: strict, hardened, and, when a signer is configured, only what
that signer's XMLDSig or XAdES enveloped signature covers. One domain may be listed with several
certificates, so the key is domain -> set of names. An entry that cannot be read trusts nobody and
is counted; a file that cannot be read whole is refused.
Source: MSS-OP §3.2; W3C XML Signature 1.1; ETSI EN 319 132-1 (XAdES).
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from lxml import etree
from signxml import methods
from signxml.algorithms import CanonicalizationMethod, DigestAlgorithm, SignatureMethod
from signxml.exceptions import SignXMLException
from signxml.signer import XMLSigner
from signxml.verifier import SignatureConfiguration, XMLVerifier

from certs.names import normalise_dn
from directory.errors import TrustListError, TrustListReason

NAMESPACE = "https://listeblanche.mssante.fr/schema"
_NS: Final = f"{{{NAMESPACE}}}"
_DS: Final = "{http://www.w3.org/2000/09/xmldsig#}"
_XADES: Final = "{http://uri.etsi.org/01903/v1.3.2#}"
_FILTER2: Final = "http://www.w3.org/2002/06/xmldsig-filter2"

MAX_LIST_BYTES = 32 * 1024 * 1024
"""The list of 2026 has 8,655 entries, about 5 MB (facts §1.3)."""
MAX_LOSS = 0.2
"""A list that loses more of its domains than this at once is refused (facts §1.3)."""

_CHILDREN: Final = (
    "Nom",
    "Description",
    "DNCertificatOperateur",
    "ResponsableContact",
    "SupportContact",
    "DateMAJ",
)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class Freshness(Enum):
    """How old the list in use is."""

    FRESH = "fresh"
    STALE = "stale"
    """Past its age, within its grace: used, with an alarm."""
    EXPIRED = "expired"
    """Past its grace: nobody is accepted, 451 4.7.5."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator certificate and the domains it may speak for."""

    dn: str
    """Comparison form."""
    domains: frozenset[str]


@dataclass(frozen=True, slots=True)
class ListedDomain:
    """One entry, to be encoded."""

    domain: str
    dn: str
    """As ``certs.names.dn_string`` writes it."""
    description: str = ""


@dataclass(frozen=True, slots=True)
class TrustList:
    """A list that may be used. ``entries``: domain (A-label, lower case) -> DNs to compare."""

    generated_at: datetime
    entries: Mapping[str, frozenset[str]]
    signed: bool = False
    skipped: int = 0
    """Entries left out because their domain or name cannot be read."""

    def lists(self, domain: str) -> bool:
        """Say whether a domain is in the trust space at all."""
        return domain.lower() in self.entries

    def allows(self, domain: str, dn: str) -> bool:
        """Say whether a certificate of this name may speak for this domain.

        Args:
            domain: A-label; the case is ignored, nothing else is.
            dn: in any written form.
        """
        return normalise_dn(dn) in self.entries.get(domain.lower(), frozenset())

    def operator_of(self, dn: str) -> Operator | None:
        """Give the operator of a certificate name and all its domains, or None."""
        compared = normalise_dn(dn)
        domains = frozenset(d for d, names in self.entries.items() if compared in names)
        return Operator(compared, domains) if domains else None

    def freshness(self, at: datetime, max_age: timedelta, grace: timedelta) -> Freshness:
        """Judge the list's age at a moment."""
        age = at - self.generated_at
        if age <= max_age:
            return Freshness.FRESH
        return Freshness.STALE if age <= max_age + grace else Freshness.EXPIRED

    def check_successor(self, newer: "TrustList") -> None:
        """Refuse a list that may not silently replace this one.

        Raises:
            TrustListError: OLDER when it was made before this one (a rollback); SHRUNK when more
                than MAX_LOSS of the domains are gone at once: a truncated publication is a real
                event (facts §1.3).
        """
        if newer.generated_at < self.generated_at:
            raise TrustListError(TrustListReason.OLDER)
        lost = len(self.entries.keys() - newer.entries.keys())
        if lost > MAX_LOSS * len(self.entries):
            raise TrustListError(TrustListReason.SHRUNK)


NOTHING_TRUSTED: Final = TrustList(datetime(1970, 1, 1, tzinfo=UTC), MappingProxyType({}))
"""What is in use when no list could ever be read: expired, so everybody gets 451."""


def parse(xml: bytes, *, signer: bytes | None, at: datetime | None = None) -> TrustList:
    """Read a trust list.

    Args:
        xml: the file.
        signer: DER of the one certificate whose signature is accepted; with None, the list is
            read unsigned (a signature that is there is then not looked at).
        at: when the signer's certificate must be valid; the list's own date when None.

    Raises:
        TrustListError: truncated, not a list, empty, unsigned though a signer is set, or a
            signature that does not hold.
    """
    root = _parse_xml(xml)
    if root.tag != f"{_NS}ListeBlancheMSSante":
        raise TrustListError(TrustListReason.STRUCTURE)
    if signer is not None:
        certificate = x509.load_der_x509_certificate(signer)
        root = _signed_part(root, certificate, at or _generated_at(root))
    children = [child for child in root if child.tag != f"{_DS}Signature"]
    if [child.tag for child in children] != [f"{_NS}DateDeGeneration", f"{_NS}ListeDomaines"]:
        raise TrustListError(TrustListReason.STRUCTURE)
    entries: defaultdict[str, set[str]] = defaultdict(set)
    skipped = 0
    for element in children[1]:
        domain, name = _entry(element)
        if domain and name:
            entries[domain].add(name)
        else:
            skipped += 1
    if not entries:
        raise TrustListError(TrustListReason.EMPTY)
    frozen = {domain: frozenset(names) for domain, names in entries.items()}
    return TrustList(
        _generated_at(root), MappingProxyType(frozen), signed=signer is not None, skipped=skipped
    )


def encode(entries: Iterable[ListedDomain], generated_at: datetime) -> bytes:
    """Write a list in the published form, unsigned; for a site of its own trust space."""
    root = etree.Element(
        f"{_NS}ListeBlancheMSSante",
        nsmap={None: NAMESPACE},  # type: ignore[dict-item] # the stubs forget the default one
    )
    moment = generated_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    etree.SubElement(root, f"{_NS}DateDeGeneration").text = moment
    listing = etree.SubElement(root, f"{_NS}ListeDomaines")
    for entry in entries:
        element = etree.SubElement(listing, f"{_NS}Domaine")
        values = (entry.domain, entry.description, entry.dn, "", "", moment)
        for tag, value in zip(_CHILDREN, values, strict=True):
            etree.SubElement(element, f"{_NS}{tag}").text = value
    return _serialise(root)


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
    return _serialise(signer.sign(_parse_xml(xml), key=key, cert=[certificate]))


def _serialise(root: etree._Element) -> bytes:
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")


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


def _parse_xml(xml: bytes) -> etree._Element:
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
        or paths[0].nsmap.get("ds") != _DS[1:-1]
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


def _signed_part(
    root: etree._Element, certificate: x509.Certificate, at: datetime
) -> etree._Element:
    """Give what the signature covers, which must be the whole list.

    W3C XML Signature 1.1, section 8.1: see what is signed.
    """
    signatures = list(root.iter(f"{_DS}Signature"))
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
    return whole[0]


def _generated_at(root: etree._Element) -> datetime:
    text = (root.findtext(f"{_NS}DateDeGeneration") or "").strip()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise TrustListError(TrustListReason.STRUCTURE) from error
    if moment.tzinfo is None:
        raise TrustListError(TrustListReason.STRUCTURE)
    return moment.astimezone(UTC)


def _entry(element: etree._Element) -> tuple[str, str]:
    tags = [child.tag for child in element]
    if element.tag != f"{_NS}Domaine" or tags != [f"{_NS}{name}" for name in _CHILDREN]:
        raise TrustListError(TrustListReason.STRUCTURE)
    if any(len(child) for child in element):
        raise TrustListError(TrustListReason.STRUCTURE)
    return _domain(element[0].text or ""), normalise_dn(element[2].text or "")


def _domain(text: str) -> str:
    """Give the A-label form in lower case, or empty when it is no domain name."""
    name = text.strip().lower()
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            return ""
    labels = name.split(".")
    if len(labels) < 2 or len(name) > 253 or not all(map(_LABEL.fullmatch, labels)):
        return ""
    return name
