"""Who may submit what under whose name, and what of a header is rewritten; pure.

Invariants: a message leaves with exactly one From, of one address, which is the submitter's own
(or, for an application mailbox, one of its structure: a disposition notification speaks for its
final recipient); no Bcc, no Return-Path, no X-MSS field but a closing one leaves as the client
wrote it; Date and Message-ID are there.

Source: RFC 6409 §8, RFC 8098 §3, RULES §11, threats S16 and S17, MSS-OP §2.1.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from certs.addresses import Address, parse_addr_spec, parse_mailbox, single_from
from certs.errors import MalformedAddressError
from certs.mime import HeaderField, Outline
from certs.mime_words import unfold
from directory.codes import MailboxType
from mailserver.delivery import errors
from mailserver.delivery.errors import Refused
from mailserver.delivery.trace import cut, is_stranger
from mailserver.message.headers import encode_date, message_ids, value_of
from mailserver.store.model import Mailbox

_ONCE: Final = ("from", "sender", "date", "message-id", "subject", "to", "cc")
_REMOVED: Final = frozenset({"bcc", "resent-bcc"})
_CLOSING: Final = "x-mss-mes"
_MARK: Final = re.compile(r"X-MSS-[A-Z]{1,20}")
_MARK_VALUE: Final = re.compile(r"[A-Za-z0-9._,-]{1,900}")


@dataclass(frozen=True, slots=True)
class Author:
    """The one address in From, and the identifier of the message ("" when it has none)."""

    address: Address
    message_id: str


def is_null(reverse_path: str) -> bool:
    """Whether a reverse path is the null one."""
    return reverse_path in {"", "<>"}


def judge_author(
    outline: Outline, mailbox: Mailbox, others: Mapping[str, Mailbox]
) -> Author | Refused:
    """Say whose message it is, or why the submitter may not send it.

    Args:
        outline: of the message as submitted.
        mailbox: who authenticated.
        others: mailboxes of this site that an application may speak for, by lower-case address.
    """
    if any(len(outline.fields(name)) > 1 for name in _ONCE[1:]):
        return Refused(errors.MALFORMED)
    try:
        author = single_from(outline)
    except MalformedAddressError:
        return Refused(errors.ONE_FROM)
    if not _may_speak_as(mailbox, author, others):
        return Refused(errors.NOT_YOUR_ADDRESS)
    for field in outline.header:
        if field.name.lower() in {"sender", "resent-from", "resent-sender"}:
            try:
                named = parse_mailbox(field.value).address
            except MalformedAddressError:
                return Refused(errors.NOT_YOUR_ADDRESS)
            if named.key not in {mailbox.address.lower(), author.key}:
                return Refused(errors.NOT_YOUR_ADDRESS)
    identifiers = message_ids(value_of(outline.header, "message-id"))
    return Author(author, identifiers[0] if identifiers else "")


def _may_speak_as(mailbox: Mailbox, author: Address, others: Mapping[str, Mailbox]) -> bool:
    if author.key == mailbox.address.lower():
        return True
    if mailbox.type is not MailboxType.APP:
        return False
    other = others.get(author.key)
    return other is not None and other.structure_id == mailbox.structure_id


def judge_reverse_path(reverse_path: str, mailbox: Mailbox) -> Refused | None:
    """Say why a submitter may not use a reverse path: its own address, or the null one.

    The null one is how disposition notifications leave (RFC 8098 §3); From still names them.
    """
    if is_null(reverse_path):
        return None
    try:
        address = parse_addr_spec(reverse_path.removeprefix("<").removesuffix(">"))
    except MalformedAddressError:
        return Refused(errors.NOT_YOUR_ADDRESS)
    if address.key != mailbox.address.lower():
        return Refused(errors.NOT_YOUR_ADDRESS)
    return None


def _unwanted(field: HeaderField) -> bool:
    name = field.name.lower()
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


@dataclass(frozen=True, slots=True)
class Completion:
    """What a message is given: an identifier and a date when it has none, and our marks."""

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
    added = b""
    if not message_ids(value_of(outline.header, "message-id")):
        added += b"Message-ID: %b\r\n" % completion.message_id.encode("ascii")
    if not value_of(outline.header, "date"):
        added += b"Date: %b\r\n" % encode_date(completion.at)
    for name, value in completion.marks:
        if _MARK.fullmatch(name) and _MARK_VALUE.fullmatch(value):
            added += f"{name}: {value}\r\n".encode("ascii")
    return added + kept
