"""Mail from this site's own users: judged, completed, and handed to ``dispatch``.

Invariants: nobody writes under another's name; a message goes where its author may write, and is
about one patient (RULES §5, §11); the same message submitted again by the same account (its
Message-ID, its recipients) is absorbed.

Source: RFC 6409 §6, RULES §4, RULES §11, RULES §12, DESIGN §3.
"""

import asyncio
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from certs.addresses import Address
from certs.mime import Outline, find_named, scan
from directory.codes import MailboxType
from directory.lookup import Directory
from directory.trail import AuditEvent
from mailserver.delivery import errors
from mailserver.delivery.authorship import (
    Author,
    Completion,
    Speaker,
    complete,
    may_send,
)
from mailserver.delivery.destinations import Reach
from mailserver.delivery.dispatch import Dispatch, Dispatched, Letter
from mailserver.delivery.errors import Refused
from mailserver.delivery.forms import Forms
from mailserver.delivery.inbound import Arrival, DeliverySettings, Tell
from mailserver.delivery.prepare import Workers
from mailserver.delivery.rules import of_two_patients, refusal
from mailserver.delivery.signing import AskSeal, Signing
from mailserver.delivery.trace import with_keyword
from mailserver.message.dsn import Action, Failure
from mailserver.message.envelope import (
    PLAIN_MAIL,
    PLAIN_RECIPIENT,
    MailOptions,
    Notify,
    RecipientOptions,
)
from mailserver.message.index import PACKAGE_NAME
from mailserver.store.database import MailStore
from mailserver.store.model import Mailbox

_SENT = "Sent"


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
        self._reach = Reach(store, directory, settings.patient_domains)
        self._dispatch = Dispatch(
            store,
            directory,
            settings,
            Signing(store, ask_seal, settings.authserv_id, workers),
            Forms(
                store.encryption,
                None if workers is None else workers.judge_certificate,
                settings.unsigned_domains,
            ),
            workers,
        )

    @property
    def patient_domains(self) -> frozenset[str]:
        """Patients' domains of other operators, to which patients may write (RULES §11)."""
        return self._reach.patient_domains

    async def submit(self, message: SubmissionMessage) -> Submitted | Refused:
        """Sign, deliver and queue one message.

        Returns:
            Its receipt, or a refusal from the written list. After any exception the caller
            answers 451: nothing is stored, or all of it is and is absorbed when it comes again.
        """
        outline = await asyncio.to_thread(scan, message.raw)
        letter = await self._judged(message, outline)
        if isinstance(letter, Refused):
            return await self._refused(message, letter)
        taken = await self._dispatch.send(letter)
        if isinstance(taken, Refused):
            return await self._refused(message, taken)
        await self._tell_of_arrivals(message, letter, taken)
        return Submitted(taken.delivered.receipt_id, letter.message_id, taken.delivered.new)

    async def _judged(self, message: SubmissionMessage, outline: Outline) -> Letter | Refused:
        """Judge a message by its author, its recipients and its documents, and complete it."""
        author = await self._author(message, outline)
        if isinstance(author, Refused):
            return author
        to = await self._reach.find(message.mailbox, message.recipients, message.wishes)
        if isinstance(to, Refused):
            return to
        if of_two_patients(message.recipients, outline, self._reach.is_patients):
            return Refused(errors.ONE_PATIENT)
        marks = await self._marks(message.raw, outline)
        if isinstance(marks, Refused):
            return marks
        message_id = author.message_id or _new_message_id(author.address)
        completion = Completion(author, message_id, message.at, self._settings.authserv_id, marks)
        via = _via(message.via)
        return Letter(
            raw=complete(message.raw, outline, completion),
            author=author,
            message_id=message_id,
            to=to,
            submitter=message.mailbox,
            who=message.who,
            at=message.at,
            protocol=with_keyword(via.value, smtputf8=message.options.smtputf8),
            helo=message.helo,
            options=message.options,
            kept_in=_SENT if via is Via.WEBMAIL else None,
        )

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

    async def _author(self, message: SubmissionMessage, outline: Outline) -> Author | Refused:
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

    def reaches(self, mailbox: Mailbox, recipient: str) -> bool:
        """Say whether the rules let this mailbox write to that address at all."""
        return self._reach.reaches(mailbox, recipient)

    async def _tell_of_arrivals(
        self, message: SubmissionMessage, letter: Letter, taken: Dispatched
    ) -> None:
        """Tell the sender of the recipients of this site that they asked about."""
        sender = letter.author.envelope
        if self._tell is None or sender is None:
            return
        for mailbox in letter.to.local:
            options = message.wishes.get(mailbox.address.lower(), PLAIN_RECIPIENT)
            if options.notify is None or not options.wants(Notify.SUCCESS):
                continue
            await self._tell(
                Arrival(
                    key=f"arrived:{taken.delivered.receipt_id}:{mailbox.id}".encode(),
                    reverse_path=sender.address,
                    options=message.options,
                    at=message.at,
                    failure=Failure(
                        mailbox.address, "", action=Action.DELIVERED, original=options.orcpt
                    ),
                    original=taken.outline,
                    sender=sender,
                )
            )


def _by_address(mailboxes: Iterable[Mailbox | None]) -> dict[str, Mailbox]:
    return {each.address.lower(): each for each in mailboxes if each is not None}


def _via(via: Via | str) -> Via:
    if isinstance(via, Via):
        return via
    return Via.WEBMAIL if via == "webmail" else Via.SUBMISSION


def _new_message_id(author: Address) -> str:
    return f"<{secrets.token_hex(16)}@{author.domain}>"
