"""Where the mail of a domain goes, and which server may take it; pure.

Invariants: a message leaves only for a domain of the trust list, only to a server whose
certificate's name is listed for that domain; when the list is too old nobody is believed, and
the message waits.

Source: MSS-OP §3.2, RFC 5321 §5.1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from directory.trust_list import Freshness, TrustList

SMTP_PORT = 25


@dataclass(frozen=True, slots=True)
class Route:
    """A server; ``address`` is where its name leads, "" to let the system look it up."""

    host: str
    port: int
    address: str = ""


def static_route(domain: str, routes: Mapping[str, tuple[str, int]]) -> Route | None:
    """Give the server that the site's table names for a domain; None leaves it to DNS."""
    found = routes.get(domain)
    return None if found is None else Route(*found)


class Judgement(Enum):
    """What is to be done with the mail of a domain now."""

    SEND = "send"
    WAIT = "wait"
    """The list is too old to be relied upon."""
    GIVE_UP = "give-up"
    """The domain is not, or no more, in the trust space."""


def judge_domain(domain: str, trust: TrustList, freshness: Freshness) -> Judgement:
    """Say whether mail may leave for a domain at all."""
    if freshness is Freshness.EXPIRED:
        return Judgement.WAIT
    return Judgement.SEND if trust.lists(domain) else Judgement.GIVE_UP
