"""Mail that another operator would not take: its sender is told, once, in their own INBOX.

Invariants: nothing is ever answered to the null reverse path (S18); one notification speaks of
one recipient; a notification repeated by a worker that crashed is absorbed by its key.

Source: RFC 3464 §2, RFC 5321 §6.1, RULES §11.
"""

import asyncio
import hashlib
import secrets
from datetime import datetime

from certs.addresses import Mailbox as Person
from certs.addresses import parse_addr_spec
from certs.mime import Outline, scan
from certs.verdict import NO_SIGNATURE
from directory.trail import AuditEvent
from mailserver.delivery.inbound import DeliverySettings, new_receipt_id, to_entry
from mailserver.delivery.rules import MessageFacts, plan
from mailserver.delivery.trace import Trace, prefix
from mailserver.message.dsn import Failure, Notification, build
from mailserver.message.index import index
from mailserver.store.database import MailStore
from mailserver.store.model import Delivery, Outgoing

_POSTMASTER = "postmaster"


class Bounces:
    """Tells senders of this site what could not be delivered elsewhere."""

    def __init__(self, store: MailStore, settings: DeliverySettings) -> None:
        self._store = store
        self._settings = settings

    async def deliver(
        self, outgoing: Outgoing, reply: str, at: datetime, *, remote_mta: str = ""
    ) -> None:
        """Put a delivery status notification into the sender's INBOX.

        Args:
            outgoing: the recipient that failed.
            reply: the last SMTP reply, or why there was none.
            at: now.
            remote_mta: who said so, "" when it was us.
        """
        if not outgoing.reverse_path or outgoing.mailbox_id is None:
            return
        mailbox = await self._store.accounts.mailbox_by_id(outgoing.mailbox_id)
        if mailbox is None:
            return
        raw = build(
            Notification(
                sender=Person(
                    "Messagerie",
                    parse_addr_spec(f"{_POSTMASTER}@{self._settings.operator_domain}"),
                ),
                to=Person("", parse_addr_spec(mailbox.address)),
                message_id=f"<{secrets.token_hex(16)}@{self._settings.operator_domain}>",
                reporting_mta=self._settings.host,
                arrived_at=outgoing.queued_at,
                at=at,
                failure=Failure(outgoing.forward_path, reply, remote_mta),
                original=await self._original(outgoing),
            )
        )
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
                outbox=None,
                occurrences=0,
                events=(
                    AuditEvent(
                        kind="message_bounced",
                        at=at,
                        actor="outbound",
                        structure_id=mailbox.structure_id,
                        subject=f"mailbox:{mailbox.id}",
                        facts={"receipt_id": receipt_id, "item": outgoing.recipient_id},
                    ),
                ),
                at=at,
                octets=len(raw),
                whole_key=hashlib.sha256(b"bounce:%d" % outgoing.recipient_id).digest(),
            )
        )

    async def _original(self, outgoing: Outgoing) -> Outline:
        body = await self._store.outbox.body(outgoing.message_id)
        return await asyncio.to_thread(scan, body)
