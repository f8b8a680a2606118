"""What each domain, and the operator behind it, has of the queue's connections at a time.

Invariants: a domain has at most ``per_domain`` connections, an operator its share, whatever the
number of its domains, and one large message on its way; who waits for a connection gets the next
one that is given back, so that a domain whose mail never ends keeps no other waiting.

Source: DESIGN D5; issue 4 of the product ("greedy or slow peers cannot delay others").
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from certs.names import ComparedName
from mailserver.outbound.peer import OutboundSettings
from mailserver.outbound.transaction import Job

FULL_DOMAIN = 64
"""Jobs that one domain may have waiting in memory."""
JOBS_FOR_ANOTHER = 4
"""Jobs that wait for each connection before a domain gets one more."""
BIG_OCTETS = 4 * 1024 * 1024
BIG_AT_ONCE = 4
BIG_PER_OPERATOR = 1
OPERATORS_AT_ONCE = 4
"""How many operators that hang it takes to keep all the others waiting."""


@dataclass(slots=True, weakref_slot=True)
class Operator:
    """Who serves one or hundreds of domains."""

    slots: asyncio.Semaphore
    big: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(BIG_PER_OPERATOR))


@dataclass(slots=True)
class Domain:
    """The jobs for one domain, and how many connections serve them."""

    name: str
    operator: Operator
    jobs: deque[Job] = field(default_factory=deque)
    connections: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Shares:
    """The domains with jobs in memory, and what is free for them.

    Args:
        settings: how many connections there are.
        names: whose certificates the trust list names for a domain; that is its operator.
    """

    def __init__(
        self, settings: OutboundSettings, names: Callable[[str], frozenset[ComparedName]]
    ) -> None:
        self._per_domain = settings.per_domain
        self._per_operator = max(settings.per_domain, settings.connections // OPERATORS_AT_ONCE)
        self._names = names
        self._slots = asyncio.Semaphore(settings.connections)
        self._big = asyncio.Semaphore(BIG_AT_ONCE)
        self._operators: WeakValueDictionary[frozenset[ComparedName], Operator] = (
            WeakValueDictionary()
        )
        self.domains: dict[str, Domain] = {}

    def domain(self, name: str) -> Domain:
        """Give a domain, with its jobs so far."""
        found = self.domains.get(name)
        if found is None:
            found = self.domains[name] = Domain(name, self._operator(self._names(name)))
        return found

    def forget(self, domain: Domain) -> None:
        """Let a domain go once nothing is left of it."""
        if not domain.connections and not domain.jobs:
            self.domains.pop(domain.name, None)

    def busy(self) -> list[str]:
        """Name the domains that have enough in memory."""
        return [each.name for each in self.domains.values() if len(each.jobs) >= FULL_DOMAIN]

    def wanted(self, domain: Domain) -> int:
        """Say how many connections a domain's jobs are worth."""
        return min(self._per_domain, 1 + (len(domain.jobs) - 1) // JOBS_FOR_ANOTHER)

    def others_wait(self, domain: Domain) -> bool:
        """Whether an idle connection of a domain would be in somebody's way."""
        return self._slots.locked() or domain.operator.slots.locked()

    @asynccontextmanager
    async def connection(self, domain: Domain) -> AsyncIterator[None]:
        """Wait for a connection's place and keep it until the block ends."""
        async with domain.operator.slots, self._slots:
            yield

    @asynccontextmanager
    async def room(self, domain: Domain, octets: int) -> AsyncIterator[None]:
        """Wait until a message of so many octets may be held, and hold it until the block ends."""
        if octets <= BIG_OCTETS:
            yield
            return
        async with domain.operator.big, self._big:
            yield

    def _operator(self, names: frozenset[ComparedName]) -> Operator:
        found = self._operators.get(names)
        if found is None:
            found = self._operators[names] = Operator(asyncio.Semaphore(self._per_operator))
        return found
