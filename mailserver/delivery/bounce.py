"""What senders are told about mail they sent: failures, delays, and arrivals they asked for.

Invariants: nothing is ever answered to the null reverse path (S18), nor what NOTIFY does not ask
for; one notification speaks of one recipient; a notification repeated by a worker that crashed is
absorbed by its key. What this site's own accounts sent is told in their INBOX; what a peer sent
is told through the queue, from the null sender, and only after it proved its domain.

Source: RFC 3464 §2, RFC 3461 §5, RFC 5321 §6.1, RULES §11.
"""

import asyncio
import hashlib
import secrets
from datetime import datetime

from certs.addresses import Address, parse_addr_spec, parse_utf8_addr_spec
from certs.addresses import Mailbox as Person
from certs.errors import MalformedAddressError
from certs.mime import Outline, scan
from certs.verdict import NO_SIGNATURE
from directory.trail import AuditEvent
from mailserver.delivery.inbound import Arrival, DeliverySettings, new_receipt_id, to_entry
from mailserver.delivery.rules import MessageFacts, plan
from mailserver.delivery.trace import Trace, prefix, received
from mailserver.message.dsn import Action, Failure, Notification, build
from mailserver.message.envelope import POSTMASTER, MailOptions, Notify
from mailserver.message.index import index
from mailserver.store.database import MailStore
from mailserver.store.model import Delivery, Mailbox, NewOutgoing, OutboxMessage, Outgoing

_WANTED = {
    Action.FAILED: Notify.FAILURE,
    Action.DELAYED: Notify.DELAY,
    Action.RELAYED: Notify.SUCCESS,
    Action.DELIVERED: Notify.SUCCESS,
}
_KEYS = {Action.FAILED: b"bounce"}


class Bounces:
    """Tells senders what became of their mail."""

    def __init__(self, store: MailStore, settings: DeliverySettings) -> None:
        self._store = store
        self._settings = settings

    async def deliver(
        self, outgoing: Outgoing, reply: str, at: datetime, *, remote_mta: str = ""
    ) -> None:
        """Say that a recipient of this site's mail could not be reached; see ``tell``."""
        failure = Failure(
            outgoing.forward_path, reply, remote_mta, original=outgoing.options.orcpt
        )
        await self.tell(outgoing, failure, at)

    async def tell(
        self, outgoing: Outgoing, failure: Failure, at: datetime, *, body: bytes | None = None
    ) -> None:
        """Put a notification into the sender's INBOX, if the sender wants one of this kind.

        Args:
            outgoing: the recipient it is about.
            failure: what became of it.
            at: now.
            body: the message, where the queue need not have it any more.
        """
        wanted = outgoing.options.wants(_WANTED[failure.action])
        if not outgoing.reverse_path or outgoing.mailbox_id is None or not wanted:
            return
        mailbox = await self._store.accounts.mailbox_by_id(outgoing.mailbox_id)
        if mailbox is None:
            return
        notification = self._notification(
            parse_addr_spec(mailbox.address),
            failure,
            (outgoing.queued_at, at),
            (outgoing.mail.envid, await self._original(outgoing, body)),
        )
        kind = _KEYS.get(failure.action, failure.action.value.encode())
        key = kind + b":%d" % outgoing.recipient_id
        await self._deliver_here(mailbox, build(notification), at, (key, outgoing.recipient_id))

    async def arrived(self, arrival: Arrival) -> None:
        """Tell a sender that a recipient here has the message; a peer's, through the queue."""
        try:
            address = parse_utf8_addr_spec(arrival.reverse_path)
        except MalformedAddressError:
            return
        notification = self._notification(
            address,
            arrival.failure,
            (arrival.at, arrival.at),
            (arrival.options.envid, arrival.original),
        )
        raw = build(notification)
        if arrival.sender is not None:
            await self._deliver_here(arrival.sender, raw, arrival.at, (arrival.key, 0))
        else:
            await self._queue(address, raw, arrival)

    def _notification(
        self,
        to: Address,
        failure: Failure,
        times: tuple[datetime, datetime],
        about: tuple[str, Outline],
    ) -> Notification:
        domain = self._settings.operator_domain
        return Notification(
            sender=Person("Messagerie", parse_addr_spec(f"{POSTMASTER}@{domain}")),
            to=Person("", to),
            message_id=f"<{secrets.token_hex(16)}@{domain}>",
            reporting_mta=self._settings.host,
            arrived_at=times[0],
            at=times[1],
            failure=failure,
            original=about[1],
            envid=about[0],
        )

    async def _deliver_here(
        self, mailbox: Mailbox, raw: bytes, at: datetime, known: tuple[bytes, int]
    ) -> None:
        key, item = known
        receipt_id = new_receipt_id()
        trace = Trace(receipt_id, self._settings.host, "", None, "LOCAL", None, at)
        facts = MessageFacts((mailbox,), {}, has_package=False, verdict=NO_SIGNATURE)
        await self._store.messages.deliver(
            Delivery(
                receipt_id=receipt_id,
                sha256=hashlib.sha256(raw).digest(),
                blob=raw,
                index=index(raw),
                entries=tuple(
                    to_entry(item, prefix(trace, item.delivered_to), at)
                    for item in plan(facts).entries
                ),
                retry_keys=(),
                peer_dn="",
                reverse_path="",
                outbox=(),
                occurrences=0,
                events=(
                    AuditEvent(
                        kind="message_bounced",
                        at=at,
                        actor="outbound",
                        structure_id=mailbox.structure_id,
                        subject=f"mailbox:{mailbox.id}",
                        facts={"receipt_id": receipt_id, "item": item},
                    ),
                ),
                at=at,
                octets=len(raw),
                whole_key=hashlib.sha256(key).digest(),
            )
        )

    async def _queue(self, to: Address, raw: bytes, arrival: Arrival) -> None:
        receipt_id = new_receipt_id()
        trace = Trace(receipt_id, self._settings.host, "", None, "LOCAL", None, arrival.at)
        await self._store.messages.deliver(
            Delivery(
                receipt_id=receipt_id,
                sha256=hashlib.sha256(raw).digest(),
                blob=raw,
                index=index(raw),
                entries=(),
                retry_keys=(),
                peer_dn="",
                reverse_path="",
                outbox=(
                    OutboxMessage(
                        reverse_path="",
                        prefix=received(trace),
                        recipients=(NewOutgoing(to.text, to.domain),),
                        mailbox_id=None,
                        # RFC 8689 §5: what is said of such a message asks for as much.
                        options=MailOptions(
                            require_tls=arrival.options.require_tls, smtputf8=not to.text.isascii()
                        ),
                    ),
                ),
                occurrences=0,
                events=(
                    AuditEvent(
                        kind="arrival_told",
                        at=arrival.at,
                        actor="delivery",
                        facts={"receipt_id": receipt_id},
                    ),
                ),
                at=arrival.at,
                octets=len(raw),
                whole_key=hashlib.sha256(arrival.key).digest(),
            )
        )

    async def _original(self, outgoing: Outgoing, body: bytes | None) -> Outline:
        if body is None:
            body = await self._store.outbox.body(outgoing.message_id)
        return await asyncio.to_thread(scan, body)
