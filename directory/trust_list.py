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
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from types import MappingProxyType
from typing import Final

from cryptography import x509
from lxml import etree

from certs.names import ComparedName, compared_name, written_name
from directory.errors import TrustListError, TrustListReason
from directory.trust_signature import DS, parse_xml, serialise, signed_part

NAMESPACE = "https://listeblanche.mssante.fr/schema"
_NS: Final = f"{{{NAMESPACE}}}"

MAX_LOSS = 0.2
"""A list that lacks more of the domains known lately than this is refused (facts §1.3)."""
REMEMBERED = timedelta(days=30)
"""For how long a domain that left the list is still a known one."""
CLOCKS_DIFFER = timedelta(hours=1)
"""A list dated further ahead is refused: once in use, it would make every later one older."""

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

    dn: ComparedName
    domains: frozenset[str]


@dataclass(frozen=True, slots=True)
class ListedDomain:
    """One entry, to be encoded."""

    domain: str
    dn: str
    """As ``certs.names.dn_string`` writes it."""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Departed:
    """A domain that left the list: who spoke for it last, and since when it is gone.

    Attributes:
        vouched: two persons said that the list that dropped it is right; it is no loss any more.
    """

    names: frozenset[ComparedName]
    at: datetime
    vouched: bool = False


@dataclass(frozen=True, slots=True)
class TrustList:
    """A list that may be used. ``entries``: domain (A-label, lower case) -> names to compare."""

    generated_at: datetime
    entries: Mapping[str, frozenset[ComparedName]]
    signed: bool = False
    skipped: int = 0
    """Entries left out because their domain or name cannot be read."""
    departed: Mapping[str, Departed] = field(default_factory=lambda: MappingProxyType({}))
    """Domains of lists before this one; nobody is trusted for them."""

    def lists(self, domain: str) -> bool:
        """Say whether a domain is in the trust space at all."""
        return domain.lower() in self.entries

    def allows(self, domain: str, dn: str) -> bool:
        """Say whether a certificate of this name may speak for this domain.

        Args:
            domain: A-label; the case is ignored, nothing else is.
            dn: in any written form.
        """
        return compared_name(dn) in self.entries.get(domain.lower(), frozenset())

    def operator_of(self, dn: str) -> Operator | None:
        """Give the operator of a certificate name and all its domains, or None."""
        compared = compared_name(dn)
        domains = frozenset(d for d, names in self.entries.items() if compared in names)
        return Operator(compared, domains) if domains else None

    def freshness(self, at: datetime, max_age: timedelta, grace: timedelta) -> Freshness:
        """Judge the list's age at a moment."""
        age = at - self.generated_at
        if age <= max_age:
            return Freshness.FRESH
        return Freshness.STALE if age <= max_age + grace else Freshness.EXPIRED

    def check_age(self, newer: "TrustList", at: datetime) -> None:
        """Refuse a list of the past or of the future, whoever asks for it.

        Raises:
            TrustListError: OLDER when it was made before this one (a rollback); FUTURE.
        """
        if newer.generated_at < self.generated_at:
            raise TrustListError(TrustListReason.OLDER)
        if newer.generated_at > at + CLOCKS_DIFFER:
            raise TrustListError(TrustListReason.FUTURE)

    def check_loss(self, newer: "TrustList") -> None:
        """Refuse a list that loses more than two persons may have said it does.

        Raises:
            TrustListError: SHRUNK when more than MAX_LOSS of the domains known lately are gone,
                at once or little by little: a truncated publication is a real event (facts §1.3).
        """
        if self.lost(newer) > MAX_LOSS * len(self._expected()):
            raise TrustListError(TrustListReason.SHRUNK)

    def lost(self, newer: "TrustList") -> int:
        """Count the domains known lately that a newer list leaves out."""
        return len(self._expected() - newer.entries.keys())

    def _expected(self) -> frozenset[str]:
        gone = (domain for domain, each in self.departed.items() if not each.vouched)
        return frozenset((*self.entries, *gone))

    def new_names(self, newer: "TrustList") -> tuple[tuple[str, ComparedName], ...]:
        """Give what a newer list lets speak for a domain known lately, and did not before.

        A list that is right says so when an operator changes; one that is not says so when
        somebody wants mail of that domain: either way a person should look.
        """
        known = {domain: each.names for domain, each in self.departed.items()}
        known.update(self.entries)
        return tuple(
            (domain, name)
            for domain, names in sorted(newer.entries.items())
            if domain in known
            for name in sorted(names - known[domain], key=written_name)
        )

    def followed_by(self, newer: "TrustList", at: datetime) -> "TrustList":
        """Give a newer list with the memory of this one: what left lately, or leaves now."""
        departed = {
            domain: each
            for domain, each in self.departed.items()
            if domain not in newer.entries and at - each.at <= REMEMBERED
        }
        for domain in self.entries.keys() - newer.entries.keys():
            departed[domain] = Departed(self.entries[domain], at)
        return replace(newer, departed=MappingProxyType(departed))

    def vouched_for(self) -> "TrustList":
        """Give the list as persons vouch for it: what it left out so far is no loss."""
        departed = {domain: replace(each, vouched=True) for domain, each in self.departed.items()}
        return replace(self, departed=MappingProxyType(departed))


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
    root = parse_xml(xml)
    if root.tag != f"{_NS}ListeBlancheMSSante":
        raise TrustListError(TrustListReason.STRUCTURE)
    if signer is not None:
        certificate = x509.load_der_x509_certificate(signer)
        root = signed_part(root, certificate, at or _generated_at(root))
    children = [child for child in root if child.tag != f"{DS}Signature"]
    if [child.tag for child in children] != [f"{_NS}DateDeGeneration", f"{_NS}ListeDomaines"]:
        raise TrustListError(TrustListReason.STRUCTURE)
    entries: defaultdict[str, set[ComparedName]] = defaultdict(set)
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
    return serialise(root)


def _generated_at(root: etree._Element) -> datetime:
    text = (root.findtext(f"{_NS}DateDeGeneration") or "").strip()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise TrustListError(TrustListReason.STRUCTURE) from error
    if moment.tzinfo is None:
        raise TrustListError(TrustListReason.STRUCTURE)
    return moment.astimezone(UTC)


def _entry(element: etree._Element) -> tuple[str, ComparedName]:
    tags = [child.tag for child in element]
    if element.tag != f"{_NS}Domaine" or tags != [f"{_NS}{name}" for name in _CHILDREN]:
        raise TrustListError(TrustListReason.STRUCTURE)
    if any(len(child) for child in element):
        raise TrustListError(TrustListReason.STRUCTURE)
    return _domain(element[0].text or ""), compared_name(element[2].text or "")


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
