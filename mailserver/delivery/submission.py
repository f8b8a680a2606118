"""Mail from this site's own users: signed with the structure's seal, delivered and queued at once.

Invariants: local entries and the queue for other operators come out of one transaction; the same
message submitted again by the same account (its Message-ID, its recipients) is absorbed; nobody
writes under another's name, and a patient's mail stays on this site (RULES §11).

Source: RFC 6409 §6, RULES §4, RULES §11, RULES §12, DESIGN §3.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from certs.addresses import Address, parse_utf8_addr_spec
from certs.errors import MalformedAddressError
from certs.mime import Outline, find_named, scan
from directory.codes import MailboxType
from directory.lookup import Directory
from directory.model import DomainKind
from directory.trail import AuditEvent
from mailserver.delivery import errors
from mailserver.delivery.authorship import (
    Author,
    Completion,
    Speaker,
    complete,
    may_send,
)
from mailserver.delivery.errors import Refused
from mailserver.delivery.forms import (
    Destinations,
    Forms,
    Part,
    Plainly,
    encrypt,
)
from mailserver.delivery.inbound import (
    Arrival,
    DeliverySettings,
    Tell,
    applications_of,
    new_receipt_id,
    postmaster_of,
    to_entry,
)
from mailserver.delivery.observing import observed
from mailserver.delivery.prepare import (
    Workers,
    stored,
)
from mailserver.delivery.rules import MessageFacts, of_two_patients, plan, refusal
from mailserver.delivery.signing import AskSeal, Signed, Signing
from mailserver.delivery.trace import Trace, prefix, received, with_keyword
from mailserver.message.dsn import Action, Failure
from mailserver.message.envelope import (
    PLAIN_MAIL,
    PLAIN_RECIPIENT,
    MailOptions,
    Notify,
    RecipientOptions,
)
from mailserver.message.index import PACKAGE_NAME
from mailserver.message.progress import Progress, Transport
from mailserver.store.database import MailStore
from mailserver.store.encryption import RecipientCertificate
from mailserver.store.model import (
    Delivery,
    Flag,
    Mailbox,
    NewEntry,
    NewOutgoing,
    OutboxMessage,
    Tracked,
)
from record_bridge.formats.auth_results import AuthResults


class Via(Enum):
    """By which door a message was submitted, as Received says it (RFC 3848 §1)."""

    SUBMISSION = "ESMTPSA"
    WEBMAIL = "HTTPS"
    HL7 = "MLLP"


@dataclass(frozen=True, slots=True)
class SubmissionMessage:
    """A message an authenticated mailbox wants to send.

    Attributes:
        raw: as the client wrote it.
        reverse_path: "" or "<>" for the null one.
        recipients: forward paths, without brackets.
        mailbox: whose password was given, or whose page of the webmail it was written on.
        person: who gave it, where several share the mailbox.
        via: the webmail's messages are also put into Sent.
        wishes: parameters of RCPT by the recipient's key.
    """

    raw: bytes
    reverse_path: str
    recipients: tuple[str, ...]
    mailbox: Mailbox
    at: datetime
    via: Via | str = Via.SUBMISSION
    helo: str | None = None
    options: MailOptions = PLAIN_MAIL
    wishes: Mapping[str, RecipientOptions] = field(default_factory=dict)
    person: Mailbox | None = None

    @property
    def who(self) -> Mailbox:
        """Whose doing it is, as the trail says it."""
        return self.person or self.mailbox


@dataclass(frozen=True, slots=True)
class Submitted:
    """A message taken; ``new`` is False when it had been taken before."""

    receipt_id: str
    message_id: str
    new: bool


class Submissions:
    """Takes what this site's users send."""

    def __init__(
        self,
        store: MailStore,
        directory: Directory,
        ask_seal: AskSeal,
        settings: DeliverySettings,
        *,
        workers: Workers | None = None,
        tell: Tell | None = None,
    ) -> None:
        self._store = store
        self._directory = directory
        self._settings = settings
        self._workers = workers
        self._tell = tell
        self._signing = Signing(store, ask_seal, settings.authserv_id, workers)
        self._forms = Forms(
            store.encryption,
            None if workers is None else workers.judge_certificate,
            settings.unsigned_domains,
        )

    async def submit(self, message: SubmissionMessage) -> Submitted | Refused:
        """Sign, deliver and queue one message.

        Returns:
            Its receipt, or a refusal from the written list. Any exception means that not all was
            stored: the caller answers 451, and what was stored is absorbed when it comes again.
        """
        outline = await asyncio.to_thread(scan, message.raw)
        author = await self._judge(message, outline)
        if isinstance(author, Refused):
            return await self._refused(message, author)
        destinations = await self._destinations(message)
        if isinstance(destinations, Refused):
            return await self._refused(message, destinations)
        message_id = author.message_id or self._new_message_id(author.address)
        if of_two_patients(message.recipients, outline, self._is_patients):
            return await self._refused(message, Refused(errors.ONE_PATIENT))
        marks = await self._marks(message.raw, outline)
        if isinstance(marks, Refused):
            return await self._refused(message, marks)
        completion = Completion(author, message_id, message.at, self._settings.authserv_id, marks)
        completed = complete(message.raw, outline, completion)
        parts = await self._forms.parts(author.mailbox, destinations)
        if isinstance(parts, Refused):
            return await self._refused(message, parts)
        ready = await self._in_form(completed, author, message, parts)
        if isinstance(ready, Refused):
            return await self._refused(message, ready)
        taken = [
            await self._deliver(message, signed, (author, message_id, part.to))
            for part, signed in ready
        ]
        return taken[0]

    async def _in_form(
        self, raw: bytes, author: Author, message: SubmissionMessage, parts: Sequence[Part]
    ) -> list[tuple[Part, Signed]] | Refused:
        """Give the message as each part of its recipients gets it; signed once."""
        made: list[tuple[Part, Signed]] = []
        sealed: Signed | Refused | None = None
        for part in parts:
            if part.form is Plainly.UNSIGNED:
                ready = await self._signing.leave_unsigned(raw)
            else:
                sealed = ready = sealed or await self._signed(raw, author, message)
            if isinstance(part.form, RecipientCertificate) and not isinstance(ready, Refused):
                ready = await encrypt(ready, part.form, self._settings.authserv_id)
            if isinstance(ready, Refused):
                return ready
            made.append((part, ready))
        return made

    def _is_patients(self, address: Address) -> bool:
        here = self._directory.structure_of_domain(address.domain)
        if here is None:
            return address.domain in self._settings.patient_domains
        return here[1] is DomainKind.PATIENT and address.local.lower() != "postmaster"

    async def _marks(self, raw: bytes, outline: Outline) -> tuple[tuple[str, str], ...] | Refused:
        """Give the X-MSS fields this server writes: of the documents, and of the product."""
        marks: tuple[tuple[str, str], ...] = ()
        if self._workers is not None and find_named(outline, PACKAGE_NAME):
            found = await self._workers.marks(raw)
            if not found.one_patient:
                return Refused(errors.ONE_PATIENT)
            marks = found.fields
        if self._settings.nil is not None:
            marks = (*marks, ("X-MSS-NIL", self._settings.nil))
        return marks

    async def _judge(self, message: SubmissionMessage, outline: Outline) -> Author | Refused:
        refused = refusal(message.raw, outline)
        if refused is not None:
            return refused
        speaker = await self.speaker(message.mailbox, message.person)
        return may_send(speaker, message.reverse_path, message.raw, outline)

    async def speaker(self, login: Mailbox, person: Mailbox | None = None) -> Speaker:
        """Find under which addresses somebody who logged in may write.

        A password of a shared mailbox opens that one alone: its holder writes under its address,
        when they post for it, and under no other.
        """
        accounts, sharing = self._store.accounts, self._store.sharing
        login = await accounts.mailbox_by_id(login.id) or login  # closed meanwhile, perhaps
        if person is not None:
            posts = login.id in (await sharing.grants(person.id)).posting
            return Speaker(login, person, shared=_by_address([login] if posts else []))
        if self._is_the_application(login):
            same = await accounts.mailboxes(login.structure_id)
            return Speaker(login, structure=_by_address(same))
        if login.type is not MailboxType.PER:
            return Speaker(login)
        grants = await sharing.grants(login.id)
        shared = [await accounts.mailbox_by_id(each) for each in sorted(grants.posting)]
        principals = [await accounts.mailbox_by_id(each) for each in sorted(grants.principals)]
        return Speaker(login, shared=_by_address(shared), delegated=_by_address(principals))

    def _is_the_application(self, mailbox: Mailbox) -> bool:
        """Whether a mailbox is its structure's own: no other speaks for the structure's people."""
        structure = self._directory.structure(mailbox.structure_id)
        return (
            mailbox.type is MailboxType.APP
            and structure is not None
            and structure.application_address.lower() == mailbox.address.lower()
        )

    async def _refused(self, message: SubmissionMessage, refused: Refused) -> Refused:
        event = AuditEvent(
            kind="submission_refused",
            at=message.at,
            actor=f"mailbox:{message.who.id}",
            structure_id=message.mailbox.structure_id,
            facts={"code": refused.reply.code, "enhanced": refused.reply.enhanced},
        )
        await self._store.audit.record([event])
        return refused

    async def _destinations(self, message: SubmissionMessage) -> Destinations | Refused:
        local: dict[int, Mailbox] = {}
        remote: dict[str, NewOutgoing] = {}
        for path in message.recipients:
            try:
                address = parse_utf8_addr_spec(path)
            except MalformedAddressError:
                return Refused(errors.BAD_RECIPIENT)
            here = self._directory.structure_of_domain(address.domain)
            if here is not None:
                mailbox = await self._store.accounts.mailbox(address.key)
                if mailbox is None and address.local.lower() == "postmaster":
                    mailbox = await postmaster_of(self._store, here[0].id)
                if mailbox is None or mailbox.closed:
                    return Refused(errors.NO_SUCH_MAILBOX)
                local[mailbox.id] = mailbox
                continue
            refused = self._judge_remote(address, message.mailbox)
            if refused is not None:
                return refused
            wish = message.wishes.get(address.key, PLAIN_RECIPIENT)
            remote[address.key] = NewOutgoing(address.text, address.domain, wish)
        if not local and not remote:
            return Refused(errors.BAD_RECIPIENT)
        return Destinations(tuple(local.values()), tuple(remote.values()))

    def reaches(self, mailbox: Mailbox, recipient: str) -> bool:
        """Say whether the rules let this mailbox write to that address at all."""
        if mailbox.closed:
            return False
        try:
            address = parse_utf8_addr_spec(recipient)
        except MalformedAddressError:
            return False
        if self._directory.structure_of_domain(address.domain) is not None:
            return True
        return self._judge_remote(address, mailbox) is None

    def _judge_remote(self, address: Address, mailbox: Mailbox) -> Refused | None:
        if not self._directory.trust.lists(address.domain):
            return Refused(errors.NOT_LISTED)
        elsewhere = self._settings.patient_domains
        if mailbox.type is MailboxType.PAT and address.domain not in elsewhere:
            return Refused(errors.PATIENTS_STAY)
        return None

    def _new_message_id(self, author: Address) -> str:
        return f"<{secrets.token_hex(16)}@{author.domain}>"

    async def _signed(
        self, raw: bytes, author: Author, message: SubmissionMessage
    ) -> Signed | Refused:
        """Sign with the seal of the mailbox that From names."""
        return await self._signing.seal(raw, (author.address, author.mailbox), message.at)

    async def _deliver(
        self,
        message: SubmissionMessage,
        signed: Signed,
        known: tuple[Author, str, Destinations],
    ) -> Submitted:
        author, message_id, destinations = known
        ready, verdict = signed.message, signed.verdict
        mailbox, envelope = message.mailbox, author.envelope
        receipt_id = new_receipt_id()
        path = "" if envelope is None else envelope.address
        trace = Trace(
            receipt_id=receipt_id,
            host=self._settings.host,
            reverse_path=path,
            helo=message.helo,
            protocol=with_keyword(_via(message.via).value, smtputf8=message.options.smtputf8),
            results=AuthResults(
                authserv_id=self._settings.authserv_id,
                submitter=mailbox.address,
                smime=verdict.result,
                signer=verdict.signer_names[0] if verdict.signer_names else None,
            ),
            at=message.at,
        )
        planned = plan(
            MessageFacts(
                recipients=destinations.local,
                applications=await applications_of(
                    self._store, self._directory, destinations.local
                ),
                has_package=bool(ready.packages),
                verdict=verdict,
            )
        )
        entries = [
            to_entry(item, prefix(trace, item.delivered_to), message.at)
            for item in planned.entries
        ]
        if _via(message.via) is Via.WEBMAIL:
            entries.append(_sent_copy(author.mailbox, trace))
        outbox = None
        if destinations.remote:
            outbox = OutboxMessage(
                reverse_path=path,
                prefix=received(trace),
                recipients=destinations.remote,
                mailbox_id=None if envelope is None else envelope.id,
                options=message.options,
            )
        occurrences = ready.packages
        if occurrences and self._workers is not None:
            occurrences = await self._workers.count(ready)
        delivered = await self._store.messages.deliver(
            Delivery(
                receipt_id=receipt_id,
                sha256=hashlib.sha256(ready.blob).digest(),
                blob=await stored(ready.blob, self._store.blobs.stage),
                index=ready.index,
                entries=tuple(entries),
                retry_keys=(),
                peer_dn="",
                reverse_path=path,
                outbox=outbox,
                occurrences=occurrences,
                events=(
                    AuditEvent(
                        kind="message_submitted",
                        at=message.at,
                        actor=f"mailbox:{message.who.id}",
                        structure_id=mailbox.structure_id,
                        subject=f"receipt:{receipt_id}",
                        facts={
                            "receipt_id": receipt_id,
                            "octets": len(ready.blob),
                            "local": len(destinations.local),
                            "remote": len(destinations.remote),
                            "on_behalf": author.mailbox.id != message.who.id,
                            "as": f"mailbox:{author.mailbox.id}",
                            "capacity": author.capacity.value,
                        },
                    ),
                    *signed.events,
                ),
                at=message.at,
                octets=len(ready.blob),
                whole_key=_whole_key(mailbox, author.message_id, destinations.addresses),
                tracked=_tracked(envelope, message.who, message_id, destinations),
                observed=observed(
                    ready.raw,
                    ready.outline,
                    destinations.local,
                    lambda address: address.key == author.mailbox.address.lower(),
                ),
            )
        )
        await self._tell_of_arrivals(message, signed, known, delivered.receipt_id)
        return Submitted(delivered.receipt_id, message_id, delivered.new)

    async def _tell_of_arrivals(
        self,
        message: SubmissionMessage,
        signed: Signed,
        known: tuple[Author, str, Destinations],
        receipt: str,
    ) -> None:
        """Tell the sender of the recipients of this site that they asked about."""
        author, _, destinations = known
        if self._tell is None or author.envelope is None:
            return
        for mailbox in destinations.local:
            options = message.wishes.get(mailbox.address.lower(), PLAIN_RECIPIENT)
            if options.notify is None or not options.wants(Notify.SUCCESS):
                continue
            await self._tell(
                Arrival(
                    key=f"arrived:{receipt}:{mailbox.id}".encode(),
                    reverse_path=author.envelope.address,
                    options=message.options,
                    at=message.at,
                    failure=Failure(
                        mailbox.address, "", action=Action.DELIVERED, original=options.orcpt
                    ),
                    original=signed.message.outline,
                    sender=author.envelope,
                )
            )


def _tracked(
    envelope: Mailbox | None, who: Mailbox, message_id: str, destinations: Destinations
) -> tuple[Tracked, ...]:
    """What can be asked about later: by the mailbox that reports come back to."""
    if envelope is None:
        return ()
    person_id = None if who.id == envelope.id else who.id
    here = [(each.address.lower(), Transport.DELIVERED) for each in destinations.local]
    away = [(each.forward_path.lower(), Transport.SUBMITTED) for each in destinations.remote]
    return tuple(
        Tracked(envelope.id, message_id, address, Progress(transport), person_id)
        for address, transport in here + away
    )


def _by_address(mailboxes: Iterable[Mailbox | None]) -> dict[str, Mailbox]:
    return {each.address.lower(): each for each in mailboxes if each is not None}


def _via(via: Via | str) -> Via:
    if isinstance(via, Via):
        return via
    return Via.WEBMAIL if via == "webmail" else Via.SUBMISSION


def _sent_copy(mailbox: Mailbox, trace: Trace) -> NewEntry:
    """The webmail's copy; a mail client appends its own."""
    return NewEntry(
        mailbox_id=mailbox.id,
        folder="Sent",
        prefix=received(trace),
        flags=Flag.SEEN,
        keywords=frozenset(),
        held=False,
        internal_at=trace.at,
    )


def _whole_key(mailbox: Mailbox, message_id: str, recipients: tuple[str, ...]) -> bytes | None:
    """Give the key under which the same submission is known again.

    Recipients belong to it: clients send one Message-ID in several transactions, one for each
    blind copy, and none of them may be lost. A message without an identifier is always new.
    """
    if not message_id:
        return None
    named = "\n".join((message_id, *sorted({path.lower() for path in recipients})))
    return hashlib.sha256(b"submission:%d:" % mailbox.id + named.encode("utf-8")).digest()
