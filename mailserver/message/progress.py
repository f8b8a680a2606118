"""Where a sent message stands with one recipient: one state machine, fed by what reports say.

The tables below are the machine. Invariants: the carriage only goes forward, in their order, so
that what was delivered cannot fail, and of several failures the first is the one; there is one
verdict, never two: a peer's second one changes nothing, and this site's own record, whose
outcomes come in their order, has the last word (a person there decides later, RULES §9). Any
order of arrival of the same events that a network can make therefore ends in the same place, but
for which of two contradicting statements of one speaker came first. Who may speak is decided
before, in ``delivery.observing``.

Source: RFC 3464 §2.3.3, RFC 8098 §3.2.6, RULES §9.
"""

from collections.abc import Mapping
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


CARRIAGE: Final = (
    Transport.SUBMITTED,
    Transport.DELAYED,
    Transport.RELAYED,
    Transport.FAILED,
    Transport.DELIVERED,
)
"""The further of what was known and what is said holds; who has it has it, whoever gave up."""
VERDICTS: Final[Mapping[tuple[Verdict, Source], Mapping[Verdict, Verdict]]] = {
    (Verdict.NONE, Source.RECIPIENT): {
        Verdict.FILED: Verdict.FILED,
        Verdict.QUARANTINED: Verdict.QUARANTINED,
    },
    (Verdict.NONE, Source.BRIDGE): {
        Verdict.FILED: Verdict.FILED,
        Verdict.QUARANTINED: Verdict.QUARANTINED,
    },
    (Verdict.FILED, Source.BRIDGE): {Verdict.QUARANTINED: Verdict.QUARANTINED},
    (Verdict.QUARANTINED, Source.BRIDGE): {Verdict.FILED: Verdict.FILED},
}
"""(known, who speaks): said: known then. What is not here changes nothing."""
TAKEN_OUT: Final = "906"
"""The code of what the record had filed and holds no more (RULES §5)."""


def advance(progress: Progress, event: Event) -> Progress:
    """Give where a recipient stands once an event is known."""
    if event.transport is not None:
        progress = _carried(progress, event.transport, event.code)
    judged = event.verdict is not None and event.verdict is not Verdict.NONE
    if judged or event.displayed:
        # Who judged it or saw it has it.
        progress = _carried(progress, Transport.DELIVERED, "")
    if event.displayed:
        progress = replace(progress, displayed=True)
    return _judged(progress, event) if judged else progress


def _carried(progress: Progress, transport: Transport, code: str) -> Progress:
    if CARRIAGE.index(transport) <= CARRIAGE.index(progress.transport):
        return progress
    return replace(
        progress, transport=transport, code=code if transport is Transport.FAILED else ""
    )


def _judged(progress: Progress, event: Event) -> Progress:
    before = progress.verdict
    after = VERDICTS.get((before, event.source), {}).get(event.verdict or Verdict.NONE)
    if after is not None:
        code = event.code if after is Verdict.QUARANTINED else ""
        if before is Verdict.FILED:
            code = code or TAKEN_OUT
        return replace(progress, verdict=after, code=code)
    if before is event.verdict is Verdict.QUARANTINED and not progress.code:
        # The record of this site says no code; the answer that it sends does.
        return replace(progress, code=event.code)
    return progress
