"""What leaves the trust space, and to where: fixed texts, and the check of a personal address.

Invariants: no text has anything of a message, a document or a person in it; the one thing that
varies is which of the fixed sentences is there, the site's own address, and a one-time code. An
address of the trust space is refused: what is sent here goes by the Internet.

Source: RULES §14, MSS-FACTS §7.1.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

from certs.addresses import parse_addr_spec
from certs.errors import MalformedAddressError

MAX_ADDRESS: Final = 254
"""Octets. Source: RFC 5321 §4.5.3.1.3, less the two angle brackets."""
ALPHABET: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""Of a code: 32 signs, none like another."""
CODE_SIGNS: Final = 10
"""Fifty bits."""
CODE_LIVES: Final = timedelta(hours=24)
TRIES: Final = 10
"""Wrong codes, after which the right one opens nothing."""
ASKS: Final = 5
"""Addresses that a mailbox may ask for in a day: each sends a message to somebody."""
RETRY_S: Final = (60, 300, 900, 3600)
"""Seconds before the next attempt; the last one repeats."""
GIVE_UP_AFTER: Final = timedelta(days=1)

SUBJECT: Final = "Votre messagerie de santé"
CONFIRM_SUBJECT: Final = "Votre code de confirmation"
_MESSAGE: Final = "un nouveau message dans votre messagerie de santé"
_MESSAGES: Final = "de nouveaux messages dans votre messagerie de santé"
_DOCUMENT: Final = "un nouveau document dans votre dossier de santé"
_DOCUMENTS: Final = "de nouveaux documents dans votre dossier de santé"
_REMINDER: Final = "Votre agenda de santé a un rappel. Connectez-vous pour le lire."
_FOOT: Final = (
    "Pour ne plus recevoir ces courriels, connectez-vous et ouvrez la page « Être prévenu ».\n"
    "Ne répondez pas à ce courriel : personne ne le lit.\n"
)


class NotPersonalAddressError(ValueError):
    """An address to which no notification is sent: malformed, or of the trust space."""


@dataclass(frozen=True, slots=True)
class News:
    """What its holder has not been told of.

    Attributes:
        messages: how many visible ones; documents: likewise.
        reminder: something in their agenda is due.
    """

    messages: int = 0
    documents: int = 0
    reminder: bool = False

    def __bool__(self) -> bool:
        return self.messages > 0 or self.documents > 0 or self.reminder


@dataclass(frozen=True, slots=True)
class Letterhead:
    """What every message says of the site: the address it is from, and that of the webmail."""

    sender: str
    site: str


def personal_address(text: str, ours: Collection[str] = ()) -> str:
    """Check an address that somebody gave as their own.

    Args:
        text: what they typed.
        ours: lower-case domains of the trust space, which are refused with all below them.

    Returns:
        The address, its domain in lower case.

    Raises:
        NotPersonalAddressError: it cannot be written to by the Internet.

    Source: RFC 5321 §4.1.2.
    """
    given = text.strip()
    try:
        address = parse_addr_spec(given)
    except MalformedAddressError:
        raise NotPersonalAddressError from None
    domain = address.domain.lower()
    labels = domain.split(".")
    is_short = given.isascii() and len(given) <= MAX_ADDRESS
    is_public = len(labels) > 1 and not domain.startswith("[") and not labels[-1].isdigit()
    if not is_short or not is_public or '"' in given or "mssante" in labels:
        raise NotPersonalAddressError
    if any(domain == each or domain.endswith(f".{each}") for each in ours):
        raise NotPersonalAddressError
    return f"{address.local}@{domain}"


def code_of(octets: bytes) -> str:
    """Write random octets, one for each sign, as a one-time code."""
    return "".join(ALPHABET[octet % len(ALPHABET)] for octet in octets[:CODE_SIGNS])


def code_digest(typed: str) -> bytes:
    """Give what is kept of a code, however its holder spaced it."""
    plain = "".join(sign for sign in typed.upper() if sign in ALPHABET)
    return hashlib.sha256(b"pli notify code v1 " + plain.encode()).digest()


def announcement(news: News) -> str:
    """Give the sentences that say what is new, and that there is a reminder, a line for each.

    Raises:
        ValueError: there is nothing to say.
    """
    said = []
    if news.messages:
        said.append(_MESSAGE if news.messages == 1 else _MESSAGES)
    if news.documents:
        said.append(_DOCUMENT if news.documents == 1 else _DOCUMENTS)
    read = "le" if news.messages + news.documents == 1 else "les"
    lines = [f"Vous avez {' et '.join(said)}. Connectez-vous pour {read} lire."] if said else []
    lines += [_REMINDER] if news.reminder else []
    if not lines:
        raise ValueError("nothing is new")
    return "\n".join(lines)


def notification(news: News, head: Letterhead) -> str:
    """Write the text of a notification."""
    return f"{announcement(news)}\n\n{head.site}\n\n{_FOOT}"


def confirmation(code: str, head: Letterhead) -> str:
    """Write the text that proves that an address is its holder's."""
    return (
        "Cette adresse a été donnée pour être prévenu des nouveautés d'une messagerie de santé.\n"
        f"Si c'est vous, connectez-vous et tapez ce code dans la page « Être prévenu » :\n\n"
        f"{code[:5]} {code[5:]}\n\n{head.site}\n\n"
        "Le code est bon vingt-quatre heures ; seul le dernier reçu est bon.\n"
        "Si ce n'est pas vous, ne faites rien : sans ce code, rien d'autre ne vous sera envoyé.\n"
    )


def reminder_id(head: Letterhead, mailbox_id: int, day: date) -> str:
    """Name the mail that reminds somebody on a day: sent once more, it is the same message.

    It is a digest, so that it says nothing of whose mailbox it is about.
    """
    told = f"pli reminder v1 {head.site} {mailbox_id} {day.isoformat()}"
    return hashlib.sha256(told.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Letter:
    """A message to send: to whom, its fixed subject and text, and what makes it one of a kind."""

    to: str
    subject: str
    text: str
    message_id: str
    at: datetime


def encode(letter: Letter, head: Letterhead) -> bytes:
    """Write a message as it is sent, CRLF line ends.

    Source: RFC 3834 §5 (Auto-Submitted: no program answers it).
    """
    message = EmailMessage(policy=SMTP)
    message["From"] = f"Messagerie de sante <{head.sender}>"
    message["To"] = letter.to
    message["Subject"] = letter.subject
    message["Date"] = format_datetime(letter.at)
    message["Message-ID"] = f"<{letter.message_id}@{head.sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(letter.text, cte="base64")
    return message.as_bytes()


def next_try(at: datetime, attempts: int) -> datetime:
    """Say when to try again after so many failures (one or more)."""
    return at + timedelta(seconds=RETRY_S[min(attempts, len(RETRY_S)) - 1])


def is_over(failing_since: datetime | None, at: datetime) -> bool:
    """Say whether what could not be sent is let go of."""
    return failing_since is not None and at - failing_since >= GIVE_UP_AFTER
