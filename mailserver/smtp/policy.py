"""Decide who may send here and to whom: tables from facts to a reply; pure.

``None`` means go on. Invariants: nobody is believed without TLS, a client certificate that is
good now and a place on a trust list that is fresh enough, in that order, all asked again at each
MAIL; a domain's mail is taken only from a peer listed for that very domain; no mail is relayed; a
look-up that has no answer is never taken for a "no" (it is an exception above this module, told
as 451).

Source: MSS-OP §3.2, RFC 5321 §3.6.2, RFC 7817 §3; RULES §11; DESIGN §3 steps 1 to 3.
"""

from dataclasses import dataclass
from enum import Enum

from certs.addresses import Address
from certs.verdict import Standing
from directory.trust_list import Freshness, TrustList
from mailserver.delivery.errors import Reply
from mailserver.smtp import replies


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """What the connection proves: ``dn`` is the client certificate's, None without one.

    ``standing`` is that certificate's at this very moment.
    """

    secure: bool
    dn: str | None
    standing: Standing = Standing.GOOD


def judge_peer(peer: PeerFacts, freshness: Freshness) -> Reply | None:
    """Say why a peer may not send at all, whatever its place on the list."""
    if not peer.secure:
        return replies.TLS_FIRST
    if peer.dn is None:
        return replies.CERTIFICATE_FIRST
    match peer.standing:
        case Standing.OVER:
            return replies.CERTIFICATE_OVER
        case Standing.UNKNOWN:
            return replies.REVOCATION_UNKNOWN
        case Standing.GOOD:
            pass
    if freshness is Freshness.EXPIRED:
        return replies.LIST_TOO_OLD
    return None


def judge_mail(
    peer: PeerFacts, trust: TrustList, freshness: Freshness, sender: Address | None
) -> Reply | None:
    """Say why a peer may not send as ``sender``; asked at each MAIL.

    The null sender (bounces, receipts) is taken from any listed operator: it has no domain to
    check against.
    """
    refusal = judge_peer(peer, freshness)
    if refusal is not None or peer.dn is None:
        return refusal
    if sender is not None and trust.allows(sender.domain, peer.dn):
        return None
    # operator_of walks the whole list: asked only when the answer above is not enough.
    if trust.operator_of(peer.dn) is None:
        return replies.NOT_LISTED
    return None if sender is None else replies.NOT_LISTED_FOR_DOMAIN


class Destination(Enum):
    """Where a recipient's address leads, as far as this site knows."""

    MAILBOX = "mailbox"
    """A mailbox of this site."""
    NO_MAILBOX = "no-mailbox"
    """A domain of this site, no such mailbox."""
    LISTED = "listed"
    """A domain of another listed operator."""
    PATIENTS_ELSEWHERE = "patients-elsewhere"
    """A patients' domain of another listed operator (RULES §11)."""
    ELSEWHERE = "elsewhere"
    """Outside the trust space."""


def judge_inbound_recipient(destination: Destination) -> Reply | None:
    """Say why a listed operator may not write there: only our own mailboxes take its mail."""
    match destination:
        case Destination.MAILBOX:
            return None
        case Destination.NO_MAILBOX:
            return replies.UNKNOWN_RECIPIENT
        case _:
            return replies.RELAYING_DENIED


class Writer(Enum):
    """Who submits (RULES §11)."""

    PROFESSIONAL = "professional"
    PATIENT = "patient"


def judge_submitted_recipient(writer: Writer, destination: Destination) -> Reply | None:
    """Say why a user of this site may not write there."""
    match destination:
        case Destination.MAILBOX:
            return None
        case Destination.NO_MAILBOX:
            return replies.UNKNOWN_RECIPIENT
        case Destination.LISTED:
            return replies.PATIENT_MAIL_STAYS if writer is Writer.PATIENT else None
        case Destination.PATIENTS_ELSEWHERE:
            return None
        case Destination.ELSEWHERE:
            return replies.NOT_IN_TRUST_SPACE
