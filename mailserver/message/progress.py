"""Where a sent message stands with one recipient: one state machine, fed by what reports say.

Invariants: the carriage only goes forward (submitted, delayed, relayed, delivered), and a failure
ends it; there is one verdict, never two: a peer's second one changes nothing, and only the bridge
of this site, where a person decides later, may turn quarantined into filed (RULES §9); what was
delivered cannot fail. Any order of the same events that a network can make ends in the same
place, but for which of two contradicting verdicts came first.

Source: RFC 3464 §2.3.3, RFC 8098 §3.2.6, RULES §9.
"""

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final


class Transport(Enum):
    """How far a message was carried."""

    SUBMITTED = "submitted"
    DELAYED = "delayed"
    RELAYED = "relayed"
    DELIVERED = "delivered"
    FAILED = "failed"


class Verdict(Enum):
    """What the recipient's record did with it."""

    NONE = ""
    FILED = "filed"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where one recipient stands.

    Attributes:
        code: of a failure (``550 5.1.1``) or of a quarantine (``902``); "" otherwise.
        displayed: a person is said to have seen it.
    """

    transport: Transport = Transport.SUBMITTED
    verdict: Verdict = Verdict.NONE
    code: str = ""
    displayed: bool = False

    @property
    def state(self) -> str:
        """The one word that says most."""
        if self.verdict is not Verdict.NONE:
            return str(self.verdict.value)
        return "displayed" if self.displayed else str(self.transport.value)


class Source(Enum):
    """Who says so."""

    CARRIAGE = "carriage"
    """Our own queue and store, or a delivery status notification."""
    RECIPIENT = "recipient"
    """A disposition notification."""
    BRIDGE = "bridge"
    """The outcome in this site's own record."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that became known; what it does not speak of is None."""

    source: Source
    transport: Transport | None = None
    verdict: Verdict | None = None
    code: str = ""
    displayed: bool = False


_ORDER: Final = (
    Transport.SUBMITTED,
    Transport.DELAYED,
    Transport.RELAYED,
    Transport.DELIVERED,
)


def advance(progress: Progress, event: Event) -> Progress:
    """Give where a recipient stands once an event is known."""
    if event.transport is not None:
        progress = _carried(progress, event.transport, event.code)
    if event.verdict not in (None, Verdict.NONE) or event.displayed:
        # Who judged it or saw it has it.
        progress = _carried(progress, Transport.DELIVERED, "")
    if event.displayed:
        progress = replace(progress, displayed=True)
    if event.verdict is None or event.verdict is Verdict.NONE:
        return progress
    if progress.verdict is Verdict.NONE or event.source is Source.BRIDGE:
        code = event.code if event.verdict is Verdict.QUARANTINED else ""
        return replace(progress, verdict=event.verdict, code=code)
    return progress


def _carried(progress: Progress, transport: Transport, code: str) -> Progress:
    if progress.transport is Transport.DELIVERED:
        return progress
    if transport is Transport.FAILED:
        return replace(progress, transport=transport, code=code)
    if progress.transport is Transport.FAILED:
        if transport is not Transport.DELIVERED:
            return progress
        return replace(progress, transport=transport, code="")
    further = max(progress.transport, transport, key=_ORDER.index)
    return replace(progress, transport=further)
