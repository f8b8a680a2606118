"""A judged submission put into its forms, and written: one receipt, one transaction.

Invariants: however many forms a message leaves in (sealed, without the seal, encrypted for one
recipient each), all of them and every local entry are in the transaction of one receipt, under
which each recipient is tracked: a crash leaves all of it or nothing, and the same submission,
come again, is absorbed whole.

Source: RFC 6409 §6, RULES §12, DESIGN §1.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from certs.mime import Outline
from directory.lookup import Directory
from directory.trail import AuditEvent
from mailserver.delivery.authorship import Author
from mailserver.delivery.destinations import Destinations
from mailserver.delivery.errors import Refused
from mailserver.delivery.forms import Forms, Part, Plainly, encrypt
from mailserver.delivery.inbound import (
    DeliverySettings,
    applications_of,
    new_receipt_id,
    to_entry,
)
from mailserver.delivery.observing import observed
from mailserver.delivery.prepare import Workers
from mailserver.delivery.rules import MessageFacts, plan
from mailserver.delivery.signing import Signed, Signing
from mailserver.delivery.trace import Trace, prefix, received
from mailserver.message.envelope import PLAIN_MAIL, MailOptions
from mailserver.message.progress import Progress, Transport
from mailserver.store.blobs import INLINE_OCTETS
from mailserver.store.database import MailStore
from mailserver.store.encryption import RecipientCertificate
from mailserver.store.model import (
    Delivered,
    Delivery,
    Flag,
    Mailbox,
    NewEntry,
    NewOutgoing,
    OtherForm,
    OutboxMessage,
    StagedBlob,
    Tracked,
)
from record_bridge.formats.auth_results import AuthResults


@dataclass(frozen=True, slots=True)
class Letter:
    """A submission that may leave: judged and completed, not signed yet.

    Attributes:
        raw: as it is signed.
        message_id: in angle brackets; the client's, or one made for it.
        submitter: the mailbox that authenticated.
        who: whose doing it is, as the trail says it.
        protocol: of Received (``Trace.protocol``).
        kept_in: the author's folder that gets a copy; a mail client appends its own.
    """

    raw: bytes
    author: Author
    message_id: str
    to: Destinations
    submitter: Mailbox
    who: Mailbox
    at: datetime
    protocol: str
    helo: str | None = None
    options: MailOptions = PLAIN_MAIL
    kept_in: str | None = None


@dataclass(frozen=True, slots=True)
class Dispatched:
    """What was written of a letter, and the outline of the form that this site keeps."""

    delivered: Delivered
    outline: Outline


@dataclass(frozen=True, slots=True)
class _Made:
    """A letter in its forms.

    Attributes:
        main: the form of this site's entries, and of ``remote``.
        others: the recipients of each other form.
        events: of the seal.
    """

    main: Signed
    remote: tuple[NewOutgoing, ...]
    others: tuple[tuple[tuple[NewOutgoing, ...], OtherForm], ...]
    events: tuple[AuditEvent, ...]


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Puts letters into their forms and writes them.

    Attributes:
        workers: count documents; None where nothing is opened.
    """

    store: MailStore
    directory: Directory
    settings: DeliverySettings
    signing: Signing
    forms: Forms
    workers: Workers | None

    async def send(self, letter: Letter) -> Dispatched | Refused:
        """Sign, put into forms, deliver and queue a letter.

        Returns:
            What was written, or a refusal. Any exception means that nothing was stored.
        """
        parts = await self.forms.parts(letter.author.mailbox, letter.to)
        if isinstance(parts, Refused):
            return parts
        if letter.kept_in and all(isinstance(x.form, RecipientCertificate) for x in parts):
            # The sender's own copy: they could not open what is encrypted for another.
            parts.insert(0, Part(Destinations((), ()), Plainly.SEALED))
        staged: list[StagedBlob] = []
        try:
            made = await self._in_forms(letter, parts, staged)
            if isinstance(made, Refused):
                return made
            delivered = await self.store.messages.deliver(await self._delivery(letter, made))
            staged.clear()
            return Dispatched(delivered, made.main.message.outline)
        finally:
            for each in staged:
                await self.store.blobs.discard(each)

    async def _in_forms(
        self, letter: Letter, parts: Sequence[Part], staged: list[StagedBlob]
    ) -> _Made | Refused:
        """Make each form once; those that would be too much to hold are staged as they come."""
        author = (letter.author.address, letter.author.mailbox)
        authserv_id = self.settings.authserv_id
        sealed: Signed | None = None
        made: list[tuple[tuple[NewOutgoing, ...], OtherForm]] = []
        main: Signed | None = None
        held = 0
        for part in parts:
            if part.form is Plainly.UNSIGNED:
                ready = await self.signing.leave_unsigned(letter.raw)
            else:
                ready = sealed or await self.signing.seal(letter.raw, author, letter.at)
                if isinstance(ready, Signed):
                    sealed = ready
                    if isinstance(part.form, RecipientCertificate):
                        ready = await encrypt(sealed, part.form, authserv_id)
            if isinstance(ready, Refused):
                return ready
            blob: bytes | StagedBlob = ready.message.blob
            held += len(ready.message.blob)
            if main is None:
                main = ready
                continue
            if held > INLINE_OCTETS:
                held -= len(ready.message.blob)
                blob = await self.store.blobs.stage(ready.message.blob, len(ready.message.blob))
                staged.append(blob)
            made.append((part.to.remote, OtherForm(blob, ready.message.index)))
        if main is None:
            raise ValueError("no recipients")
        events = () if sealed is None else sealed.events
        return _Made(main, parts[0].to.remote, tuple(made), events)

    async def _delivery(self, letter: Letter, made: _Made) -> Delivery:
        ready, verdict = made.main.message, made.main.verdict
        author, local = letter.author, letter.to.local
        receipt_id = new_receipt_id()
        path = "" if author.envelope is None else author.envelope.address
        trace = Trace(
            receipt_id=receipt_id,
            host=self.settings.host,
            reverse_path=path,
            helo=letter.helo,
            protocol=letter.protocol,
            results=AuthResults(
                authserv_id=self.settings.authserv_id,
                submitter=letter.submitter.address,
                smime=verdict.result,
                signer=verdict.signer_names[0] if verdict.signer_names else None,
            ),
            at=letter.at,
        )
        planned = plan(
            MessageFacts(
                recipients=local,
                applications=await applications_of(self.store, self.directory, local),
                has_package=bool(ready.packages),
                verdict=verdict,
            )
        )
        entries = [
            to_entry(item, prefix(trace, item.delivered_to), letter.at) for item in planned.entries
        ]
        if letter.kept_in:
            entries.append(_kept(letter.author.mailbox, letter.kept_in, trace))
        return Delivery(
            receipt_id=receipt_id,
            sha256=hashlib.sha256(ready.blob).digest(),
            blob=ready.blob,
            index=ready.index,
            entries=tuple(entries),
            retry_keys=(),
            peer_dn="",
            reverse_path=path,
            outbox=_outbox(letter, made, trace),
            occurrences=(
                ready.packages if self.workers is None else await self.workers.count(ready)
            ),
            events=(_event(letter, receipt_id, len(ready.blob)), *made.events),
            at=letter.at,
            octets=len(ready.blob),
            whole_key=_whole_key(letter),
            tracked=_tracked(letter),
            observed=observed(
                ready.raw,
                ready.outline,
                local,
                lambda address: address.key == author.mailbox.address.lower(),
            ),
        )


def _outbox(letter: Letter, made: _Made, trace: Trace) -> tuple[OutboxMessage, ...]:
    """Give what leaves, one message for each form that goes to somebody elsewhere."""
    envelope = letter.author.envelope
    forms: list[tuple[tuple[NewOutgoing, ...], OtherForm | None]] = [(made.remote, None)]
    forms += made.others
    return tuple(
        OutboxMessage(
            reverse_path=trace.reverse_path,
            prefix=received(trace),
            recipients=recipients,
            mailbox_id=None if envelope is None else envelope.id,
            options=letter.options,
            form=form,
        )
        for recipients, form in forms
        if recipients
    )


def _event(letter: Letter, receipt_id: str, octets: int) -> AuditEvent:
    return AuditEvent(
        kind="message_submitted",
        at=letter.at,
        actor=f"mailbox:{letter.who.id}",
        structure_id=letter.submitter.structure_id,
        subject=f"receipt:{receipt_id}",
        facts={
            "receipt_id": receipt_id,
            "octets": octets,
            "local": len(letter.to.local),
            "remote": len(letter.to.remote),
            "on_behalf": letter.author.mailbox.id != letter.who.id,
            "as": f"mailbox:{letter.author.mailbox.id}",
            "capacity": letter.author.capacity.value,
        },
    )


def _tracked(letter: Letter) -> tuple[Tracked, ...]:
    """What can be asked about later: by the mailbox that reports come back to."""
    envelope = letter.author.envelope
    if envelope is None:
        return ()
    person_id = None if letter.who.id == envelope.id else letter.who.id
    here = [(each.address.lower(), Transport.DELIVERED) for each in letter.to.local]
    away = [(each.forward_path.lower(), Transport.SUBMITTED) for each in letter.to.remote]
    return tuple(
        Tracked(envelope.id, letter.message_id, address, Progress(transport), person_id)
        for address, transport in here + away
    )


def _kept(mailbox: Mailbox, folder: str, trace: Trace) -> NewEntry:
    return NewEntry(
        mailbox_id=mailbox.id,
        folder=folder,
        prefix=received(trace),
        flags=Flag.SEEN,
        keywords=frozenset(),
        held=False,
        internal_at=trace.at,
    )


def _whole_key(letter: Letter) -> bytes | None:
    """Give the key under which the same submission is known again.

    Recipients belong to it: clients send one Message-ID in several transactions, one for each
    blind copy, and none of them may be lost. A message without an identifier is always new.
    """
    if not letter.author.message_id:
        return None
    named = "\n".join((letter.author.message_id, *sorted(letter.to.addresses)))
    kept = b"submission:%d:" % letter.submitter.id
    return hashlib.sha256(kept + named.encode("utf-8")).digest()
