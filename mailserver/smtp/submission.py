"""What a user's mail client may do on ports 587 and 465.

Invariants: nothing before AUTH, AUTH only under TLS (but from the addresses the site names);
a device password opens one mailbox, and ``delivery.authorship`` alone says under which addresses
its holder writes; each recipient is judged at its RCPT, so that a client learns of it while its
user is there.

Source: RFC 6409 §6.1, RFC 6409 §4.3, RFC 4954 §4; RULES §11, RULES §12.
"""

import time
from collections.abc import Callable
from typing import BinaryIO

import structlog

from certs.addresses import parse_addr_spec
from directory.codes import MailboxType
from directory.trail import AuditEvent
from mailserver.delivery.authorship import judge_reverse_path
from mailserver.delivery.errors import Refused, Reply
from mailserver.delivery.submission import SubmissionMessage, Via
from mailserver.message.envelope import RecipientOptions
from mailserver.sasl.steps import Attempt, Channel, Outcome
from mailserver.smtp import policy, replies
from mailserver.smtp.address import BarePostmaster, MailCommand, RcptCommand
from mailserver.smtp.conversation import Ask, Caller
from mailserver.smtp.handler import Destinations, SmtpServices, record_refusal
from mailserver.smtp.policy import Writer
from mailserver.smtp.receiving import ReceivedMessage
from mailserver.store.model import Login

log = structlog.get_logger("mailserver")


class SubmissionTransaction:
    """One mail client's connection."""

    login_required = True

    def __init__(self, services: SmtpServices) -> None:
        self._services = services
        self._destinations = Destinations(services)
        self._login: Login | None = None
        self._command: MailCommand | None = None
        self._recipients: dict[str, str] = {}
        self._wishes: dict[str, RecipientOptions] = {}
        self._told: set[Reply] = set()

    def trusts(self, caller: Caller) -> bool:
        """Say whether somebody logged in."""
        del caller
        return self._login is not None

    def reset(self) -> None:
        """Forget the message in progress."""
        self._command = None
        self._recipients.clear()
        self._wishes.clear()

    def forget(self) -> None:
        """Forget who logged in. Source: RFC 3207 §4.2."""
        self._login = None

    def mechanisms(self, channel: Channel) -> tuple[str, ...]:
        """Give what a client may log in by."""
        return self._services.authentication.mechanisms(channel)

    async def log_in(self, attempt: Attempt, ask: Ask) -> Outcome:
        """Hold an exchange; the mailbox it opens is this connection's."""
        at = self._services.clock()
        opened = await self._services.authentication.log_in(attempt, ask, at)
        if isinstance(opened, Outcome):
            log.debug("login_refused", phase="auth")
            return opened
        self._login = opened
        event = AuditEvent(
            kind="smtp_login",
            at=at,
            actor=f"mailbox:{opened.who.id}",
            structure_id=opened.mailbox.structure_id,
            facts={"mechanism": attempt.mechanism},
        )
        await self._services.store.audit.record((event,))
        return Outcome.ACCEPTED

    async def mail(self, caller: Caller, command: MailCommand) -> Reply:
        """Judge MAIL FROM: an address the user may write under, or a receipt's null sender.

        It is asked anew at each message: what a person may do can change meanwhile.
        """
        del caller
        login = self._login
        if login is None:
            return replies.AUTHENTICATE_FIRST
        if self._services.store.accounts.is_over(login, self._services.clock()):
            return replies.DEVICE_OVER
        speaker = await self._services.submissions.speaker(login.mailbox, login.person)
        refused = judge_reverse_path(speaker, command.wire_path)
        if refused is not None:
            return await self._refuse(refused.reply, "mail")
        if not self._may_ask(self._services.fairness.account_message):
            return await self._refuse(replies.TOO_MANY_MESSAGES, "mail")
        self._command = command
        return replies.SENDER_OK

    async def recipient(self, caller: Caller, command: RcptCommand) -> Reply:
        """Judge a recipient."""
        del caller
        if self._login is None:
            return replies.AUTHENTICATE_FIRST
        if not self._may_ask(self._services.fairness.account_recipient):
            return await self._refuse(replies.TOO_MANY_FOR_NOW, "rcpt")
        if isinstance(command.forward_path, BarePostmaster):
            mailbox = await self._destinations.postmaster()
            if mailbox is None:
                return replies.UNKNOWN_RECIPIENT
            self._recipients[mailbox.address.lower()] = mailbox.address
            return replies.RECIPIENT_OK
        destination, mailbox = await self._destinations.find(command.forward_path)
        patient = self._login.mailbox.type is MailboxType.PAT
        refusal = policy.judge_submitted_recipient(
            Writer.PATIENT if patient else Writer.PROFESSIONAL, destination
        )
        if refusal is not None:
            return await self._refuse(refusal, "rcpt")
        address = command.forward_path if mailbox is None else parse_addr_spec(mailbox.address)
        self._recipients[address.key] = address.text
        self._wishes.setdefault(address.key, command.options)
        return replies.RECIPIENT_OK

    def _may_ask(self, share: Callable[[int], bool]) -> bool:
        """Take a share of the account's; the site's own software answers all that comes in."""
        if self._login is None:
            return True
        own = self._login.mailbox
        return own.type is MailboxType.APP or share(own.id)

    async def message(self, caller: Caller, message: ReceivedMessage) -> Reply:
        """Submit a message."""
        if self._login is None or self._command is None:
            return replies.BAD_SEQUENCE
        login = self._login
        started = time.perf_counter()
        outcome = await self._services.submissions.submit(
            SubmissionMessage(
                raw=_octets(message.body),
                reverse_path=self._command.wire_path,
                recipients=tuple(self._recipients.values()),
                mailbox=login.mailbox,
                at=self._services.clock(),
                via=Via.SUBMISSION,
                helo=caller.helo,
                options=self._command.options,
                wishes=dict(self._wishes),
                person=login.person,
            )
        )
        spent_ms = round((time.perf_counter() - started) * 1000, 1)
        if isinstance(outcome, Refused):
            # Delivery wrote the trail event of its own refusal.
            log.debug("message_refused", reply=outcome.reply.code, phase="data")
            return outcome.reply
        log.info(
            "message_submitted",
            receipt_id=outcome.receipt_id,
            mailbox_id=login.mailbox.id,
            octets=message.octets,
            count=len(self._recipients),
            duration_ms=spent_ms,
        )
        return replies.accepted(outcome.receipt_id)

    async def _refuse(self, reply: Reply, phase: str) -> Reply:
        log.debug("message_refused", reply=reply.code, phase=phase)
        if self._login is not None and reply not in self._told:
            self._told.add(reply)
            await record_refusal(self._services, f"mailbox:{self._login.who.id}", reply, phase)
        return reply


def _octets(body: bytes | BinaryIO) -> bytes:
    """Give a whole message: signing needs it so, and it is within the size limit."""
    return body if isinstance(body, bytes) else body.read()
