"""Who may submit what under whose name, and what of a header is rewritten; pure.

Invariants: a message leaves with exactly one From, of one address, which is the submitter's own,
a team's they post for, a principal's who made them their delegate (Sender says so), or, for an
application mailbox, one of its structure; a closed address is nobody's (RULES §11); it bears the
directory's name; no Bcc, no Return-Path, no X-MSS field but a closing one leaves as the client
wrote it; Date and Message-ID are there.

Source: RFC 6409 §8, RFC 8098 §3, RULES §11, MSS-OP §2.1, threats S16 and S17.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Final

from certs.addresses import Address, parse_addr_spec, parse_mailbox, single_from
from certs.addresses import Mailbox as NamedAddress
from certs.errors import MalformedAddressError
from certs.mime import HeaderField, Outline
from certs.mime_words import unfold
from mailserver.delivery import errors
from mailserver.delivery.errors import Refused
from mailserver.delivery.trace import cut, is_stranger
from mailserver.message.compose import encode_mailbox
from mailserver.message.compose import field as field_of
from mailserver.message.headers import encode_date, message_ids, value_of
from mailserver.store.model import Mailbox

_ONCE: Final = ("sender", "date", "message-id", "subject", "to", "cc")
_REMOVED: Final = frozenset({"bcc", "resent-bcc"})
_WRITTEN: Final = frozenset({"from", "sender"})
"""Cut, and written anew with the directory's names."""
_CLOSING: Final = "x-mss-mes"
_MARK: Final = re.compile(r"X-MSS-[A-Z]{1,20}")
_MARK_VALUE: Final = re.compile(r"[A-Za-z0-9._,-]{1,900}")


class Capacity(Enum):
    """By what right somebody writes under an address."""

    OWN = "own"
    SHARED = "shared"
    """A team's address, by the right ``p`` (RFC 4314 §2.1)."""
    DELEGATE = "delegate"
    """Somebody else's, by a recorded delegation: Sender says who wrote."""
    APPLICATION = "application"
    """One of the structure's: a disposition notification speaks for its final recipient."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who submits, and under which addresses of others; each mapping by lower-case address.

    Attributes:
        login: the mailbox whose password was given.
        person: who holds that password, where several share the mailbox; None: its holder.
        shared: mailboxes of teams that the person posts for.
        delegated: mailboxes that recorded the person as their delegate.
        structure: mailboxes that an application speaks for.
    """

    login: Mailbox
    person: Mailbox | None = None
    shared: Mapping[str, Mailbox] = field(default_factory=dict)
    delegated: Mapping[str, Mailbox] = field(default_factory=dict)
    structure: Mapping[str, Mailbox] = field(default_factory=dict)

    @property
    def who(self) -> Mailbox:
        """Whose doing a message is, as the trail says it."""
        return self.person or self.login

    def under(self, address: Address) -> tuple[Mailbox, Capacity] | None:
        """Give the mailbox of an address and by what right it may be written under; or None."""
        key = address.key
        if self.person is None and key == self.login.address.lower():
            return None if self.login.closed else (self.login, Capacity.OWN)
        for mailboxes, capacity in (
            (self.shared, Capacity.SHARED),
            (self.delegated, Capacity.DELEGATE),
            (self.structure, Capacity.APPLICATION),
        ):
            found = mailboxes.get(key)
            # Nobody writes for who left; the bridge still answers what came before.
            if found is not None and (capacity is Capacity.APPLICATION or not found.closed):
                return found, capacity
        return None


@dataclass(frozen=True, slots=True)
class Author:
    """The one address in From, by what right, and the message's identifier ("" for none).

    Attributes:
        mailbox: the mailbox of that address.
        sender: whom the Sender field names; None for no such field.
        envelope: the mailbox of the reverse path, which reports come back to; None for the null.
    """

    address: Address
    message_id: str
    mailbox: Mailbox
    capacity: Capacity
    sender: Mailbox | None
    envelope: Mailbox | None


def is_null(reverse_path: str) -> bool:
    """Whether a reverse path is the null one."""
    return reverse_path in {"", "<>"}


def may_send(
    speaker: Speaker, reverse_path: str, raw: bytes, outline: Outline
) -> Author | Refused:
    """Say under whose name a message leaves, or why the submitter may not send it.

    The one authority, for both submission ports, the webmail and the structure's software.

    Args:
        speaker: who authenticated.
        reverse_path: of MAIL FROM; "" or "<>" for the null one (RFC 8098 §3), with which From
            still names an address of the submitter.
        raw: the message as submitted.
        outline: of it.

    Source: threat S16, RFC 6409 §6.1, RFC 5322 §3.6.2.
    """
    if any(len(outline.fields(name)) > 1 for name in _ONCE):
        return Refused(errors.MALFORMED)
    try:
        address = single_from(outline)
    except MalformedAddressError:
        return Refused(errors.ONE_OF_YOURS)
    if not _is_plain(raw, outline):
        return Refused(errors.MALFORMED)
    found = speaker.under(address)
    if found is None:
        return Refused(errors.NOT_YOUR_ADDRESS)
    mailbox, capacity = found
    envelope = _envelope(speaker, reverse_path, found)
    if isinstance(envelope, Refused):
        return envelope
    sender = _sender(speaker, outline, found)
    if isinstance(sender, Refused):
        return sender
    identifiers = message_ids(value_of(outline.header, "message-id"))
    return Author(
        address, identifiers[0] if identifiers else "", mailbox, capacity, sender, envelope
    )


def _is_plain(raw: bytes, outline: Outline) -> bool:
    """Whether every reader finds the same fields: no other line, no blank before a colon.

    Elsewhere such a line is a reader's problem; here it could hide a From.
    """
    at = 0
    for each in outline.header:
        if each.start != at or raw[at + len(each.name) : at + len(each.name) + 1] != b":":
            return False
        at = each.end
    return raw[at : at + 2] in {b"", b"\r\n"}


def judge_reverse_path(speaker: Speaker, reverse_path: str) -> Refused | None:
    """Say why MAIL FROM is refused before any message: not an address of the submitter's."""
    if is_null(reverse_path):
        return None
    try:
        address = parse_addr_spec(reverse_path.removeprefix("<").removesuffix(">"))
    except MalformedAddressError:
        return Refused(errors.NOT_YOUR_ADDRESS)
    found = speaker.under(address)
    if found is None or found[1] is Capacity.APPLICATION:
        return Refused(errors.NOT_YOUR_ADDRESS)
    return None


def _envelope(
    speaker: Speaker, reverse_path: str, author: tuple[Mailbox, Capacity]
) -> Mailbox | Refused | None:
    """Hold MAIL FROM against From: the author's address, or the submitter's own."""
    if is_null(reverse_path):
        return None
    refused = judge_reverse_path(speaker, reverse_path)
    if refused is not None:
        return refused
    address = parse_addr_spec(reverse_path.removeprefix("<").removesuffix(">"))
    if address.key == author[0].address.lower():
        return author[0]
    if address.key == speaker.login.address.lower():
        return speaker.login
    return Refused(errors.NOT_YOUR_ADDRESS)


def _sender(
    speaker: Speaker, outline: Outline, author: tuple[Mailbox, Capacity]
) -> Mailbox | Refused | None:
    """Check the fields that say who else had a hand in it; give whom Sender names.

    A delegate is named whatever the client wrote, and cannot name the doctor as the one who sent.
    """
    mailbox, capacity = author
    own = {} if speaker.person is not None else {speaker.login.address.lower(): speaker.login}
    allowed = own if capacity is Capacity.DELEGATE else {**own, mailbox.address.lower(): mailbox}
    named: Mailbox | None = None
    for each in outline.header:
        name = each.name.lower()
        if name not in {"sender", "resent-from", "resent-sender"}:
            continue
        try:
            found = allowed.get(parse_mailbox(each.value).address.key)
        except MalformedAddressError:
            found = None
        if found is None:
            return Refused(errors.NOT_YOUR_ADDRESS)
        if name == "sender":
            named = found
    if capacity is Capacity.DELEGATE:
        return speaker.who
    # RFC 5322 §3.6.2: no Sender where it would repeat From.
    return None if named is None or named.id == mailbox.id else named


def _unwanted(field: HeaderField) -> bool:
    name = field.name.lower()
    if name in _WRITTEN:
        return True
    if name in _REMOVED:
        return True
    if name == _CLOSING:
        return field.value.strip().upper() != b"FIN"
    return name.startswith("x-mss-")


def _is_useless(field: HeaderField) -> bool:
    """Whether a Date is empty or a Message-ID names nothing: it is written anew."""
    name = field.name.lower()
    if name == "message-id":
        return not message_ids(unfold(field.value))
    return name == "date" and not field.value.strip()


def named(mailbox: Mailbox) -> NamedAddress:
    """Give an address as the directory names its mailbox, whatever a client called it (S16)."""
    address = parse_addr_spec(mailbox.address)
    display = mailbox.display_name
    return NamedAddress("" if display.lower() == address.key else display, address)


@dataclass(frozen=True, slots=True)
class Completion:
    """What a message is given: the directory's names, an identifier and a date, our marks."""

    author: Author
    message_id: str
    at: datetime
    authserv_id: str
    marks: tuple[tuple[str, str], ...] = ()


def complete(raw: bytes, outline: Outline, completion: Completion) -> bytes:
    """Give the message as it is signed: cut, dated, identified.

    Source: RFC 6409 §8.1, RFC 6409 §8.2, RFC 6409 §8.3.
    """
    stranger = is_stranger(completion.authserv_id)
    kept = cut(
        raw,
        outline,
        lambda field: _unwanted(field) or _is_useless(field) or stranger(field),
    )
    added = field_of("From", encode_mailbox(named(completion.author.mailbox)))
    if completion.author.sender is not None:
        added += field_of("Sender", encode_mailbox(named(completion.author.sender)))
    if not message_ids(value_of(outline.header, "message-id")):
        added += b"Message-ID: %b\r\n" % completion.message_id.encode("ascii")
    if not value_of(outline.header, "date"):
        added += b"Date: %b\r\n" % encode_date(completion.at)
    for name, value in completion.marks:
        if _MARK.fullmatch(name) and _MARK_VALUE.fullmatch(value):
            added += f"{name}: {value}\r\n".encode("ascii")
    return added + kept
