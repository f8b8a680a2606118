"""What a listed operator may do on port 25, from the facts of the directory and the store.

Invariants: the trust list is asked at each MAIL, so an operator that was removed is refused on
the connection it already has; a recipient is a mailbox of this site; one refusal of one kind on
one connection makes one trail event, and an unauthenticated peer makes none (it could fill the
trail); 250 to DATA is said only with the receipt of a committed delivery.

Source: RFC 5321 §4.5.1, RFC 5321 §6.1, MSS-OP §3.2; DESIGN §3 steps 2 to 8.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from certs.addresses import Address
from directory.lookup import Directory
from directory.trail import AuditEvent
from mailserver.authentication import Authentication
from mailserver.delivery.destinations import reader_of
from mailserver.delivery.errors import Refused, Reply
from mailserver.delivery.inbound import Inbound, InboundMessage
from mailserver.delivery.submission import Submissions
from mailserver.fairness import Fairness, unlimited
from mailserver.message.envelope import POSTMASTER, RecipientOptions
from mailserver.sasl.steps import Attempt, Channel, Outcome
from mailserver.sasl.tokens import TokenIssuer
from mailserver.smtp import policy, replies
from mailserver.smtp.address import BarePostmaster, MailCommand, RcptCommand
from mailserver.smtp.conversation import Ask, Caller
from mailserver.smtp.policy import Destination, PeerFacts
from mailserver.smtp.receiving import ReceivedMessage
from mailserver.store.database import MailStore
from mailserver.store.model import Mailbox

log = structlog.get_logger("mailserver")

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class SmtpServices:
    """What the listeners work with; ``inbound`` or ``submissions`` may be absent where unused."""

    store: MailStore
    directory: Directory
    inbound: Inbound
    submissions: Submissions
    clock: Clock
    fairness: Fairness = field(default_factory=unlimited)
    tokens: TokenIssuer | None = None
    """Of the identity provider whose tokens open mailboxes, when there is one."""

    @property
    def authentication(self) -> Authentication:
        """Who may log in."""
        return Authentication(self.store.accounts, self.fairness, self.tokens)


class Destinations:
    """Where addresses lead; one look-up each."""

    def __init__(self, services: SmtpServices) -> None:
        self._services = services

    async def find(self, address: Address) -> tuple[Destination, Mailbox | None]:
        """Say where an address leads, with the mailbox when it is ours."""
        here = self._services.directory.structure_of_domain(address.domain)
        if here is None:
            return self._abroad(address.domain), None
        mailbox = await reader_of(self._services.store, address, here[0].id)
        return Destination.NO_MAILBOX if mailbox is None else Destination.MAILBOX, mailbox

    async def postmaster(self) -> Mailbox | None:
        """Give the mailbox that reads mail to the bare postmaster: the first structure's."""
        for structure in self._services.directory.structures():
            address = Address(POSTMASTER, structure.domain)
            found = await reader_of(self._services.store, address, structure.id)
            if found is not None:
                return found
        return None

    def _abroad(self, domain: str) -> Destination:
        if not self._services.directory.trust.lists(domain):
            return Destination.ELSEWHERE
        if domain in self._services.submissions.patient_domains:
            return Destination.PATIENTS_ELSEWHERE
        return Destination.LISTED


class InboundTransaction:
    """One operator's connection."""

    login_required = False

    def __init__(self, services: SmtpServices) -> None:
        self._services = services
        self._destinations = Destinations(services)
        self._command: MailCommand | None = None
        self._recipients: dict[int, Mailbox] = {}
        self._wishes: dict[int, tuple[int, str, RecipientOptions]] = {}
        self._told: set[Reply] = set()

    def trusts(self, caller: Caller) -> bool:
        """Say whether the peer showed a certificate that the operators' authority issued."""
        return caller.identity is not None

    def reset(self) -> None:
        """Forget the message in progress."""
        self._command = None
        self._recipients.clear()
        self._wishes.clear()

    def forget(self) -> None:
        """Nobody logs in here."""

    def mechanisms(self, channel: Channel) -> tuple[str, ...]:
        """Nobody logs in here."""
        del channel
        return ()

    async def log_in(self, attempt: Attempt, ask: Ask) -> Outcome:
        """Nobody logs in here."""
        del attempt, ask
        return Outcome.REFUSED

    async def mail(self, caller: Caller, command: MailCommand) -> Reply:
        """Judge the peer and its MAIL FROM against the list."""
        directory = self._services.directory
        refusal = policy.judge_mail(
            PeerFacts(
                caller.secure,
                None if caller.identity is None else caller.identity.dn,
                caller.standing,
            ),
            directory.trust,
            directory.trust_freshness(self._services.clock()),
            command.reverse_path,
        )
        if refusal is not None:
            claimed = ""
            if refusal is replies.NOT_LISTED_FOR_DOMAIN and command.reverse_path is not None:
                claimed = command.reverse_path.domain
            return await self._refuse(caller, refusal, "mail", claimed)
        if not self._services.fairness.operator_message(_name(caller)):
            return await self._refuse(caller, replies.TOO_MANY_MESSAGES, "mail")
        self._command = command
        return replies.SENDER_OK

    async def recipient(self, caller: Caller, command: RcptCommand) -> Reply:
        """Judge a recipient: a mailbox of this site."""
        if not self._services.fairness.operator_recipient(_name(caller)):
            return await self._refuse(caller, replies.TOO_MANY_FOR_NOW, "rcpt")
        if isinstance(command.forward_path, BarePostmaster):
            mailbox = await self._destinations.postmaster()
            destination = Destination.NO_MAILBOX if mailbox is None else Destination.MAILBOX
        else:
            destination, mailbox = await self._destinations.find(command.forward_path)
        refusal = policy.judge_inbound_recipient(destination)
        if refusal is not None or mailbox is None:
            return await self._refuse(caller, refusal or replies.UNKNOWN_RECIPIENT, "rcpt")
        self._recipients[mailbox.id] = mailbox
        if command.options.notify is not None:
            path = command.forward_path
            written = POSTMASTER if isinstance(path, BarePostmaster) else path.text
            self._wishes.setdefault(mailbox.id, (mailbox.id, written, command.options))
        return replies.RECIPIENT_OK

    async def message(self, caller: Caller, message: ReceivedMessage) -> Reply:
        """Deliver a message."""
        if caller.identity is None or self._command is None:
            return replies.BAD_SEQUENCE
        started = time.perf_counter()
        outcome = await self._services.inbound.accept(
            InboundMessage(
                body=message.body,
                octets=message.octets,
                sha256=message.sha256,
                reverse_path=self._command.wire_path,
                recipients=tuple(self._recipients.values()),
                peer=caller.identity,
                at=self._services.clock(),
                helo=caller.helo,
                options=self._command.options,
                wishes=tuple(self._wishes.values()),
            )
        )
        spent_ms = round((time.perf_counter() - started) * 1000, 1)
        if isinstance(outcome, Refused):
            # Delivery wrote the trail event of its own refusal.
            log.debug("message_refused", reply=outcome.reply.code, phase="data")
            return outcome.reply
        log.info(
            "message_accepted",
            receipt_id=outcome.receipt_id,
            operator=caller.identity.fingerprint[:16],
            octets=message.octets,
            count=len(self._recipients),
            duration_ms=spent_ms,
        )
        return replies.accepted(outcome.receipt_id)

    async def _refuse(self, caller: Caller, reply: Reply, phase: str, claimed: str = "") -> Reply:
        # The peer caused it: debug (STYLE §1).
        log.debug("message_refused", reply=reply.code, phase=phase)
        if caller.identity is not None and reply not in self._told:
            self._told.add(reply)
            actor = f"operator:{caller.identity.fingerprint}"
            await record_refusal(self._services, actor, reply, phase, claimed)
        return reply


def _name(caller: Caller) -> str:
    """Give what an operator's share is counted by."""
    return "" if caller.identity is None else caller.identity.dn


async def record_refusal(
    services: SmtpServices, actor: str, reply: Reply, phase: str, claimed: str = ""
) -> None:
    """Write one trail event for a refusal; it names no address.

    Args:
        services: of the site.
        actor: who was refused.
        reply: what was said.
        phase: of the conversation.
        claimed: the domain that somebody spoke for without being listed for it (S14).
    """
    facts: dict[str, str | int | bool] = {
        "reply": reply.code,
        "status": reply.enhanced,
        "phase": phase,
    }
    if claimed:
        facts["claimed"] = claimed
    event = AuditEvent(kind="smtp_refused", at=services.clock(), actor=actor, facts=facts)
    await services.store.audit.record((event,))
