"""What one message may be asked of one server, and what its replies mean.

Invariants: what a server does not offer and the message needs is a refusal of ours, never
something said anyway or left out; recipients that share a message and a domain go in one
transaction, within the server's own limits.

Source: RFC 1870 §6, RFC 6152 §3, RFC 6531 §3.2, RFC 8689 §4.2, RFC 9422 §3, RFC 5321 §4.5.3.1.8.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mailserver.outbound.client import Envelope, Offer, ServerReply, needs_utf8
from mailserver.store.model import Outgoing

MAX_RECIPIENTS = 100  # RFC 5321 §4.5.3.1.8: what every server takes

TOO_BIG = ServerReply(552, "5.3.4 The recipient's server takes no message as big")
NO_EIGHT_BIT = ServerReply(554, "5.6.3 The recipient's server takes no 8-bit message")
NO_UTF8 = ServerReply(553, "5.6.7 The recipient's server takes no SMTPUTF8 message")
NO_REQUIRETLS = ServerReply(550, "5.7.30 The recipient's server does not offer REQUIRETLS")


@dataclass(frozen=True, slots=True)
class Job:
    """A message and its recipients in one domain; one transaction, or more when it must be."""

    items: tuple[Outgoing, ...]

    @property
    def first(self) -> Outgoing:
        """What all of them share is read from it."""
        return self.items[0]


def jobs(due: Iterable[Outgoing]) -> dict[str, list[Job]]:
    """Put what is due together by domain, then by message; order is kept."""
    found: dict[str, dict[int, list[Outgoing]]] = {}
    for item in due:
        found.setdefault(item.domain, {}).setdefault(item.message_id, []).append(item)
    return {
        domain: [Job(tuple(items)) for items in messages.values()]
        for domain, messages in found.items()
    }


def refused_here(
    item: Outgoing, octets: int, offer: Offer, *, eight_bit: bool
) -> ServerReply | None:
    """Say why a message cannot be offered to a server at all, None when it can."""
    if offer.size is not None and octets > offer.size:
        return TOO_BIG
    if item.mail.require_tls and "REQUIRETLS" not in offer:
        return NO_REQUIRETLS
    envelope = Envelope(item.reverse_path, ((item.forward_path, item.options),), item.mail)
    if needs_utf8(envelope, eight_bit=eight_bit) and "SMTPUTF8" not in offer:
        return NO_UTF8
    if eight_bit and "8BITMIME" not in offer:
        return NO_EIGHT_BIT
    return None


def portions(items: Sequence[Outgoing], offer: Offer) -> list[tuple[Outgoing, ...]]:
    """Divide recipients so that no transaction has more than the server takes."""
    size = min(offer.limit("RCPTMAX") or MAX_RECIPIENTS, MAX_RECIPIENTS)
    return [tuple(items[at : at + size]) for at in range(0, len(items), size)]


def too_many(reply: ServerReply) -> bool:
    """Whether a recipient was refused only because others came first.

    Source: RFC 5321 §4.5.3.1.10.
    """
    return reply.code == 452 and (
        reply.text.startswith("4.5.3") or "too many" in reply.text.lower()
    )
