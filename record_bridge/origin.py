"""Who may file: the origin of a message and what its signature adds.

Only the trusted Authentication-Results field says where a message came from; the From field, the
names in it and the subject never give a right. From can take one away: an operator that shows its
reader an author of another operator's domain does not file (threat S14).

Source: RULES §3, RULES §4, threat S14.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from certs.verdict import SignatureVerdict
from record_bridge.formats.cda_header import STRUCTURE_ROOT, CdaHeader, CdaOrganization
from record_bridge.model import (
    ErrorCode,
    FilingRight,
    Mark,
    MayFile,
    MayNotFile,
    OfferAsPatientDocument,
    Opened,
    Origin,
    OriginKind,
    Problem,
    Reason,
)

_UNIT: Final = re.compile(r"(?:^|,)\s*OU\s*=\s*(\d{9,15})\s*(?=,|$)", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class OriginFacts:
    """What the receiving structure and the site are, as far as origins go.

    Attributes:
        domain: professional domain of the receiving structure.
        application_address: its application mailbox.
        patient_domains: every patient domain of the site.
        organizations: FINESS or SIRET of each structure of the site by professional domain.
        speaks_for: whether the trust list lets a certificate (DN) speak for a domain.
    """

    domain: str
    application_address: str
    patient_domains: frozenset[str]
    organizations: Mapping[str, str]
    speaks_for: Callable[[str, str], bool] = lambda _domain, _dn: False


def classify(opened: Opened, facts: OriginFacts) -> Origin:
    """Where a message came from.

    Source: RULES §4 (table), RULES §3 (forwarding to the application mailbox).
    """
    auth = opened.auth
    signer = opened.from_address if opened.verdict.good else None
    if auth is None:
        return Origin(OriginKind.UNTRUSTED)
    if auth.submitter is not None:
        address = auth.submitter.lower()
        domain = address.rpartition("@")[2]
        kind = OriginKind.PROFESSIONAL
        if domain in facts.patient_domains:
            kind = OriginKind.PATIENT
        elif domain == facts.domain.lower() and (
            facts.application_address.lower() in opened.delivered_to
        ):
            kind = OriginKind.FORWARDED
        return Origin(
            kind,
            address=address,
            domain=domain,
            signer=signer,
            forwarded_by=address if kind is OriginKind.FORWARDED else None,
            organization=facts.organizations.get(domain, ""),
        )
    if auth.operator_dn:
        address = (auth.mailfrom or "").lower()
        domain = address.rpartition("@")[2]
        return Origin(
            OriginKind.LISTED_OPERATOR,
            address=address,
            domain=domain,
            operator_dn=auth.operator_dn,
            signer=signer,
            owns_from=_owns_from(opened.from_address, domain, auth.operator_dn, facts),
        )
    return Origin(OriginKind.UNTRUSTED)


def _owns_from(
    from_address: str | None, envelope_domain: str, operator_dn: str, facts: OriginFacts
) -> bool:
    """Whether an operator may show this author; no single author is nobody's.

    The envelope's domain was held against the list when the message came, so it needs no second
    look: an operator that left the list since keeps what it sent.

    Source: threat S14.
    """
    domain = (from_address or "").rpartition("@")[2]
    if not domain:
        return False
    return domain == envelope_domain or facts.speaks_for(domain, operator_dn)


def decide(origin: Origin, verdict: SignatureVerdict, header: CdaHeader) -> FilingRight:
    """Whether this origin may file this document, and with which marks.

    Source: RULES §4.
    """
    if origin.kind is OriginKind.UNTRUSTED:
        return MayNotFile(Problem(ErrorCode.OTHER, Reason.ORIGIN_UNTRUSTED))
    if not origin.owns_from:
        return MayNotFile(Problem(ErrorCode.OTHER, Reason.FROM_NOT_THE_SENDER))
    if verdict.result not in ("none", "pass", "policy"):
        return MayNotFile(Problem(ErrorCode.OTHER, Reason.SIGNATURE_BAD))
    if origin.kind is OriginKind.PATIENT:
        return OfferAsPatientDocument()
    if origin.kind is OriginKind.PROFESSIONAL and not _is_of(origin.organization, header):
        return MayNotFile(Problem(ErrorCode.OTHER, Reason.NOT_OF_STRUCTURE))
    marks: list[Mark] = []
    if verdict.result == "policy":
        marks.append(Mark.SIGNATURE_UNVERIFIABLE)
    if origin.kind is OriginKind.FORWARDED:
        marks.append(Mark.FORWARDED)
    elif not _sends_for(origin, verdict, header.custodian):
        marks.append(Mark.OTHER_SENDER)
    return MayFile(tuple(marks), may_replace=origin.kind is not OriginKind.FORWARDED)


def organization_ids(header: CdaHeader) -> frozenset[str]:
    """National identifiers of the custodian and of the authors' organisations.

    Source: RULES §4, RULES §6.
    """
    organizations = [header.custodian, *(a.organization for a in header.authors)]
    return frozenset().union(*(_national(o) for o in organizations if o is not None))


def _national(organization: CdaOrganization) -> frozenset[str]:
    return frozenset(
        i.extension for i in organization.ids if i.root == STRUCTURE_ROOT and i.extension
    )


def _same_organization(number: str, identifier: str) -> bool:
    """Whether a FINESS or SIRET is a national identifier, which bears a type digit before it."""
    return bool(number) and identifier in (number, f"1{number}", f"3{number}")


def _is_of(number: str, header: CdaHeader) -> bool:
    return any(_same_organization(number, known) for known in organization_ids(header))


def _sends_for(origin: Origin, verdict: SignatureVerdict, custodian: CdaOrganization) -> bool:
    """Whether the sending organisation is the document's custodian, as far as it is known.

    A good signature names the organisation; else the operator's certificate does. A sender whose
    certificate carries no number cannot be held against anything, and is not marked.
    """
    if origin.kind is OriginKind.PROFESSIONAL:
        numbers = [origin.organization]
    else:
        signer = verdict.signer_dn if verdict.good else ""
        numbers = _UNIT.findall(signer) or _UNIT.findall(origin.operator_dn or "")
    known = _national(custodian)
    return not numbers or any(
        _same_organization(number, identifier) for number in numbers for identifier in known
    )
