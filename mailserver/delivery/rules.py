"""Where one accepted message goes: the plan of its folder entries; pure.

Invariants: every accepted recipient has exactly one entry in INBOX; a structure's application
mailbox has at most one, and has it by RULES §3 only when the message holds a package and someone
with filing on received it; a patient's entry with a package is held until the bridge says what it
is (RULES §7). The keywords say what was verified, nothing more (RULES §10).

Source: RULES §3, RULES §7, RULES §10, DESIGN §3 step 6.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from certs.addresses import Address, parse_utf8_addr_spec, single_from
from certs.errors import MalformedAddressError
from certs.mime import Anomaly, Outline
from certs.mime_words import unfold
from certs.verdict import SignatureVerdict
from directory.codes import MailboxType
from mailserver.delivery import errors
from mailserver.delivery.errors import Refused
from mailserver.message.headers import list_addresses
from mailserver.message.reports import is_report
from mailserver.store.model import INBOX, Mailbox

MAX_HOPS: Final = 100  # RFC 5321 §6.3
MAX_HEADER_OCTETS: Final = 128 * 1024
MAX_FIELDS: Final = 900
"""A stranger's header ends well before the scanner's own limits, so that those who read it again
with a prefix of a thousand recipients before it still read all of it."""
_BARE: Final = frozenset({Anomaly.BARE_CR, Anomaly.BARE_LF, Anomaly.NUL})


@dataclass(frozen=True, slots=True)
class MessageFacts:
    """What the plan depends on.

    Attributes:
        recipients: the accepted local mailboxes, in order, without repetition.
        applications: the application mailbox of each structure that has one.
        has_package: the message holds IHE_XDM.zip, or cannot be told not to.
        verdict: what its signature says.
    """

    recipients: tuple[Mailbox, ...]
    applications: Mapping[str, Mailbox]
    has_package: bool
    verdict: SignatureVerdict


@dataclass(frozen=True, slots=True)
class PlannedEntry:
    """One folder entry to make.

    ``delivered_to`` names the recipients it stands for: itself, or for an application mailbox
    those of its structure whose reports it files; ``on_behalf_of`` are their mailboxes.
    """

    mailbox: Mailbox
    delivered_to: tuple[str, ...]
    held: bool
    keywords: frozenset[str]
    on_behalf_of: tuple[int, ...] = ()
    folder: str = INBOX


@dataclass(frozen=True, slots=True)
class Accept:
    """The message is taken into these entries."""

    entries: tuple[PlannedEntry, ...]


def files(mailbox: Mailbox) -> bool:
    """Whether what a mailbox receives goes to the bridge (RULES §3)."""
    if mailbox.type is MailboxType.APP:
        return False
    return mailbox.filing or mailbox.type is MailboxType.PAT


def keywords_of(verdict: SignatureVerdict) -> frozenset[str]:
    """Give the server's mark of a verdict.

    A sound signature whose path cannot be judged bears neither mark: it is not good, and it is no
    sign of tampering (RULES §4: "signature non vérifiable").
    """
    if verdict.good:
        return frozenset({"$SignatureValid"})
    if verdict.result == "fail":
        return frozenset({"$SignatureInvalid"})
    return frozenset()


def plan(facts: MessageFacts) -> Accept:
    """Decide the entries of one message."""
    keywords = keywords_of(facts.verdict)
    entries = [
        PlannedEntry(
            mailbox=mailbox,
            delivered_to=(mailbox.address,),
            held=facts.has_package and mailbox.type is MailboxType.PAT,
            keywords=keywords,
        )
        for mailbox in facts.recipients
        if not _is_application(mailbox, facts)
    ]
    entries.extend(_application_entries(facts, keywords))
    return Accept(tuple(entries))


def _is_application(mailbox: Mailbox, facts: MessageFacts) -> bool:
    own = facts.applications.get(mailbox.structure_id)
    return own is not None and own.id == mailbox.id


def _application_entries(facts: MessageFacts, keywords: frozenset[str]) -> list[PlannedEntry]:
    entries: list[PlannedEntry] = []
    for structure_id, application in facts.applications.items():
        # Someone may write to the application mailbox itself, to forward a report (RULES §3).
        served = [
            mailbox
            for mailbox in facts.recipients
            if mailbox.id == application.id
            or (facts.has_package and mailbox.structure_id == structure_id and files(mailbox))
        ]
        if served:
            entries.append(
                PlannedEntry(
                    mailbox=application,
                    delivered_to=tuple(mailbox.address for mailbox in served),
                    held=False,
                    keywords=keywords,
                    on_behalf_of=tuple(mailbox.id for mailbox in served),
                )
            )
    return entries


def refusal(raw: bytes, outline: Outline) -> Refused | None:
    """Say why a message cannot be taken from anybody, whoever it is for.

    A header that the scanner did not read to its end could hide a field from the cuts, and one
    that starts with a blank would continue the last field that the server writes before it (S17).
    """
    if outline.anomalies & _BARE or raw[:1] in {b" ", b"\t"}:
        return Refused(errors.MALFORMED)
    if outline.root.body_start > MAX_HEADER_OCTETS or len(outline.header) > MAX_FIELDS:
        return Refused(errors.HEADER_TOO_LONG)
    if len(outline.fields("received")) >= MAX_HOPS:
        return Refused(errors.LOOP)
    return None


def of_two_patients(
    recipients: Iterable[str], outline: Outline, is_a_patients: Callable[[Address], bool]
) -> bool:
    """Say whether a message goes to, or shows the address of, more than one patient.

    The address is the INS: by To or Cc one patient would learn another's (RULES §11). One number
    in two structures is one person. The fields are read as clients show them, groups included:
    what a strict reader refuses is seen all the same.

    Args:
        recipients: forward paths that were read before, without brackets.
        outline: of the message.
        is_a_patients: whether an address is of a patients' domain.
    """
    named = [parse_utf8_addr_spec(path) for path in recipients]
    for each in (*outline.fields("to"), *outline.fields("cc")):
        for shown in list_addresses(unfold(each.value)):
            try:
                named.append(
                    parse_utf8_addr_spec(b"%b@%b" % (shown.mailbox or b"", shown.host or b""))
                )
            except MalformedAddressError:
                continue
    return len({each.local.upper() for each in named if is_a_patients(each)}) > 1


@dataclass(frozen=True, slots=True)
class Peer:
    """What is known of a domain: that the peer answers for it, that the space has it at all."""

    speaks_for: Callable[[str], bool]
    is_in_the_space: Callable[[str], bool]


def claimed_domain(outline: Outline) -> str:
    """Give the domain in whose name a message is written; "" when it names no one author."""
    try:
        return single_from(outline).domain
    except MalformedAddressError:
        return ""


def judge_from(outline: Outline, reverse_path: str, peer: Peer) -> Refused | None:
    """Say why a peer may not hand over a message under this From (S14).

    The space is closed and knows no mailing lists: who writes is who the peer answers for. The
    reports of mail servers, which have the null reverse path, may bear a host's name instead;
    never a domain of somebody else, and nothing but a report.
    """
    domain = claimed_domain(outline)
    if not domain:
        return Refused(errors.ONE_FROM)
    of_a_host = not reverse_path and is_report(outline) and not peer.is_in_the_space(domain)
    if peer.speaks_for(domain) or of_a_host:
        return None
    return Refused(errors.NOT_THE_PEERS)
