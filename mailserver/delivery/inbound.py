"""Mail from listed operators: one transaction for all its recipients, then a durable receipt.

Invariants: nothing is answered 250 before the commit; the peer's repetition of a message adds only
what is missing and gets the first receipt; a signature's verdict, whatever it is, never refuses a
message. The SMTP handler has judged the peer and each recipient before.

Source: DESIGN §1, DESIGN §3 steps 5 to 8, RULES §3, RULES §4.
"""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import BinaryIO

from certs.mime import Outline
from certs.tls import PeerIdentity
from certs.verdict import SignatureVerdict
from directory.lookup import Directory
from directory.trail import AuditEvent
from mailserver.delivery.errors import Refused
from mailserver.delivery.observing import observed
from mailserver.delivery.prepare import (
    Prepared,
    Workers,
    prepared,
    retry_key,
)
from mailserver.delivery.rules import (
    Accept,
    MessageFacts,
    Peer,
    PlannedEntry,
    claimed_domain,
    judge_from,
    plan,
)
from mailserver.delivery.trace import Trace, prefix, with_keyword
from mailserver.message.dsn import Action, Failure
from mailserver.message.envelope import PLAIN_MAIL, MailOptions, Notify, RecipientOptions
from mailserver.store.database import MailStore
from mailserver.store.model import (
    NO_FLAGS,
    Delivered,
    Delivery,
    Mailbox,
    NewEntry,
)
from record_bridge.formats.auth_results import AuthResults


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """What delivery needs to know of the site.

    Attributes:
        authserv_id: the name under which this server says who sent (RULES §4).
        host: this server's name, in Received and in reports.
        operator_domain: the domain its postmaster writes from.
        nil: X-MSS-NIL; None means no such header (RULES §14).
        patient_domains: remote domains declared to be patients' (RULES §11).
        unsigned_domains: remote domains to which mail leaves without the seal (RULES §12).
    """

    authserv_id: str
    host: str
    operator_domain: str
    nil: str | None = None
    patient_domains: frozenset[str] = frozenset()
    unsigned_domains: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class InboundMessage:
    """One message as an operator handed it over.

    Attributes:
        body: the DATA octets after dot-unstuffing, or a file of them.
        sha256: their digest.
        reverse_path: without brackets; "" or "<>" for the null sender.
        recipients: the mailboxes accepted at RCPT.
        helo: what the peer called itself.
        wishes: (mailbox id, forward path, its parameters) of each RCPT that said NOTIFY.
    """

    body: bytes | BinaryIO
    octets: int
    sha256: bytes
    reverse_path: str
    recipients: tuple[Mailbox, ...]
    peer: PeerIdentity
    at: datetime
    helo: str
    options: MailOptions = PLAIN_MAIL
    wishes: tuple[tuple[int, str, RecipientOptions], ...] = ()


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message that is stored, one recipient of which its sender wants to be told of.

    Attributes:
        key: names the message and the recipient for ever.
        original: outline of the message.
        sender: the sender's mailbox when it is of this site.
    """

    key: bytes
    reverse_path: str
    options: MailOptions
    at: datetime
    failure: Failure
    original: Outline
    sender: Mailbox | None = None


Tell = Callable[[Arrival], Awaitable[None]]


def bare_path(reverse_path: str) -> str:
    """Give a reverse path without its brackets; "" for the null one."""
    return reverse_path.removeprefix("<").removesuffix(">")


def new_receipt_id() -> str:
    """Give a fresh durable id: 120 random bits, letters and digits only."""
    return secrets.token_hex(15)


async def applications_of(
    store: MailStore, directory: Directory, recipients: tuple[Mailbox, ...]
) -> dict[str, Mailbox]:
    """Give the application mailbox of each structure that receives something."""
    found: dict[str, Mailbox] = {}
    for structure_id in dict.fromkeys(mailbox.structure_id for mailbox in recipients):
        structure = directory.structure(structure_id)
        if structure is None:
            continue
        mailbox = await store.accounts.mailbox(structure.application_address)
        if mailbox is not None and mailbox.structure_id == structure_id:
            found[structure_id] = mailbox
    return found


def to_entry(planned: PlannedEntry, written: bytes, at: datetime) -> NewEntry:
    """Make the store's entry out of a planned one."""
    return NewEntry(
        mailbox_id=planned.mailbox.id,
        folder=planned.folder,
        prefix=written,
        flags=NO_FLAGS,
        keywords=planned.keywords,
        held=planned.held,
        internal_at=at,
        on_behalf_of=planned.on_behalf_of,
    )


class Inbound:
    """Takes what operators send."""

    def __init__(
        self,
        store: MailStore,
        directory: Directory,
        settings: DeliverySettings,
        workers: Workers,
        tell: Tell | None = None,
    ) -> None:
        self._store = store
        self._directory = directory
        self._settings = settings
        self._workers = workers
        self._tell = tell

    async def accept(self, message: InboundMessage) -> Delivered | Refused:
        """Store one message for all its recipients.

        Returns:
            What was made, or a refusal from the written list. Any exception means that nothing
            was stored: the caller answers 451.
        """
        ready = await prepared(message.body, message.octets, self._settings.authserv_id)
        if isinstance(ready, Refused):
            await self._store.audit.record([_refusal_event(message, ready)])
            return ready
        path = bare_path(message.reverse_path)
        refused = judge_from(ready.outline, path, self._peer(message.peer))
        if refused is not None:
            claimed = claimed_domain(ready.outline)
            await self._store.audit.record([_refusal_event(message, refused, claimed)])
            return refused
        ready, verdict, occurrences = await self._workers.judged(ready, message.at)
        recipients = tuple({mailbox.id: mailbox for mailbox in message.recipients}.values())
        planned = plan(
            MessageFacts(
                recipients=recipients,
                applications=await applications_of(self._store, self._directory, recipients),
                has_package=bool(ready.packages),
                verdict=verdict,
            )
        )
        delivered = await self._store.messages.deliver(
            await self._delivery(message, ready, (verdict, occurrences), planned)
        )
        await self._tell_of_arrivals(message, ready, delivered.receipt_id)
        return delivered

    def _peer(self, peer: PeerIdentity) -> Peer:
        directory = self._directory
        return Peer(
            partial(directory.trust.allows, dn=peer.dn),
            lambda domain: (
                directory.trust.lists(domain) or directory.structure_of_domain(domain) is not None
            ),
        )

    async def _tell_of_arrivals(
        self, message: InboundMessage, ready: Prepared, receipt_id: str
    ) -> None:
        """Tell the sender of the recipients it asked about, before the 250.

        After a crash here the peer sends again, gets the same receipt, and is told once.
        """
        path = bare_path(message.reverse_path)
        for mailbox_id, recipient, options in message.wishes if path else ():
            if self._tell is None or not options.wants(Notify.SUCCESS):
                continue
            done = Failure(recipient, "", action=Action.DELIVERED, original=options.orcpt)
            await self._tell(
                Arrival(
                    key=f"arrived:{receipt_id}:{mailbox_id}".encode(),
                    reverse_path=path,
                    options=message.options,
                    at=message.at,
                    failure=done,
                    original=ready.outline,
                )
            )

    async def _delivery(
        self,
        message: InboundMessage,
        ready: Prepared,
        found: tuple[SignatureVerdict, int],
        planned: Accept,
    ) -> Delivery:
        verdict, occurrences = found
        receipt_id = new_receipt_id()
        path = bare_path(message.reverse_path)
        trace = Trace(
            receipt_id=receipt_id,
            host=self._settings.host,
            reverse_path=path,
            helo=message.helo,
            protocol=with_keyword("ESMTPS", smtputf8=message.options.smtputf8),
            results=AuthResults(
                authserv_id=self._settings.authserv_id,
                operator_dn=message.peer.dn,
                mailfrom=path,
                smime=verdict.result,
                signer=verdict.signer_names[0] if verdict.signer_names else None,
            ),
            at=message.at,
        )
        return Delivery(
            receipt_id=receipt_id,
            sha256=message.sha256,
            blob=ready.blob,
            index=ready.index,
            entries=tuple(
                to_entry(item, prefix(trace, item.delivered_to), message.at)
                for item in planned.entries
            ),
            retry_keys=tuple(
                (retry_key(message.peer.dn, path, mailbox.address, message.sha256), mailbox.id)
                for mailbox in message.recipients
            ),
            peer_dn=message.peer.dn,
            reverse_path=path,
            outbox=(),
            occurrences=occurrences,
            events=_events(message, receipt_id, verdict, planned),
            at=message.at,
            octets=message.octets,
            observed=observed(
                ready.raw,
                ready.outline,
                message.recipients,
                lambda address: self._directory.trust.allows(address.domain, message.peer.dn),
            ),
        )


def _events(
    message: InboundMessage, receipt_id: str, verdict: SignatureVerdict, planned: Accept
) -> tuple[AuditEvent, ...]:
    return tuple(
        AuditEvent(
            kind="message_received",
            at=message.at,
            actor=f"operator:{message.peer.fingerprint}",
            structure_id=item.mailbox.structure_id,
            subject=f"mailbox:{item.mailbox.id}",
            facts={
                "receipt_id": receipt_id,
                "octets": message.octets,
                "smime": verdict.result,
                "held": item.held,
            },
        )
        for item in planned.entries
    )


def _refusal_event(message: InboundMessage, refused: Refused, claimed: str = "") -> AuditEvent:
    """Write down a refusal; ``claimed`` is the domain that another spoke for (S14)."""
    return AuditEvent(
        kind="message_refused",
        at=message.at,
        actor=f"operator:{message.peer.fingerprint}",
        facts={
            "code": refused.reply.code,
            "enhanced": refused.reply.enhanced,
            "octets": message.octets,
            **({"claimed": claimed} if claimed else {}),
        },
    )
