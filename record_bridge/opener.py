"""Opening messages in the sandbox, and what the site knows of who sent them.

Every byte of a message is read in a worker process; what comes back is a value or a failure. The
origin is judged on the directory as it is now: structures, their domains, their organisations.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from certs.anchors import TrustAnchors
from certs.crl_cache import CrlCache
from certs.errors import SandboxError
from certs.sandbox import SandboxPool, Shared
from certs.smime import Trust
from directory.lookup import Directory
from directory.model import Structure
from record_bridge.formats.cda_header import CdaHeader
from record_bridge.model import (
    AgendaAct,
    Environment,
    InsMatricule,
    Lists,
    Occurrence,
    Opened,
    Origin,
    OriginKind,
)
from record_bridge.opening import OpenRequest
from record_bridge.origin import OriginFacts, classify

OPEN = "record_bridge.opening:open_message"
LIST_OCCURRENCES = "record_bridge.opening:list_occurrences"
READ_ACTS = "record_bridge.opening:read_acts"
READ_HEAD = "record_bridge.opening:read_head"
READ_NUMBER = "record_bridge.opening:read_number"
READ_LISTS = "record_bridge.opening:read_lists"
FUNCTIONS = (OPEN, LIST_OCCURRENCES, READ_ACTS, READ_HEAD, READ_NUMBER, READ_LISTS)
"""What a pool given to ``Opener`` must be allowed to run."""
OPEN_DEADLINE_S = 10.0
"""Threat X6 gives a document five seconds; a message may hold several."""


@dataclass(frozen=True, slots=True)
class OpenerSettings:
    """What opening depends on.

    Attributes:
        authserv_id: whose Authentication-Results is believed.
        anchors: whom the site trusts for signatures.
        crls: folder of revocation lists.
    """

    authserv_id: str
    environment: Environment
    anchors: TrustAnchors
    crls: Path


class Opener:
    """Opens messages for one site.

    Args:
        start_pool: gives the pool, allowed to run FUNCTIONS; called once, when something is first
            opened, because a command that opens nothing should not start processes.
        directory: of the site.
        settings: what opening depends on.
    """

    def __init__(
        self,
        start_pool: Callable[[], Awaitable[SandboxPool]],
        directory: Directory,
        settings: OpenerSettings,
    ) -> None:
        self._start_pool = start_pool
        self._starting = asyncio.Lock()
        self._pool: SandboxPool | None = None
        self._directory = directory
        self._settings = settings
        self._crls = CrlCache(settings.crls)
        self._trust: Shared | None = None
        self._holders: dict[str, str | None] = {}

    @property
    def environment(self) -> Environment:
        """What the site is."""
        return self._settings.environment

    async def refresh(self, at: datetime) -> None:
        """Read the revocation lists that changed, the directory and the trust list."""
        changed = await asyncio.to_thread(self._crls.refresh)
        if changed or self._trust is None:
            self._trust = Shared(Trust(self._settings.anchors, self._crls.current(at)))
        await self._directory.reload()
        await self._directory.refresh_trust(at)
        self._holders.clear()

    async def start(self) -> SandboxPool:
        """Give the pool, started."""
        async with self._starting:
            if self._pool is None:
                self._pool = await self._start_pool()
            return self._pool

    async def open(self, raw: bytes, at: datetime) -> Opened:
        """Open one message as it was received at ``at``.

        Raises:
            SandboxError: the worker crashed, was too slow, or the code failed.
        """
        if self._trust is None:
            await self.refresh(at)
        request = OpenRequest(raw, self._settings.authserv_id, at, self._settings.environment)
        opened = await self._run(OPEN, request, self._trust)
        if not isinstance(opened, Opened):
            raise SandboxError("result")
        return opened

    async def list_occurrences(self, raw: bytes) -> tuple[Occurrence, ...] | None:
        """What a raw message counts for; None when it cannot be opened at all."""
        try:
            found: tuple[Occurrence, ...] = await self._run(LIST_OCCURRENCES, raw)
        except SandboxError:
            return None
        return found

    async def acts(self, content: bytes) -> tuple[AgendaAct, ...]:
        """The acts of a document that was filed once.

        Raises:
            SandboxError: the worker crashed, was too slow, or the code failed.
        """
        found: tuple[AgendaAct, ...] = await self._run(READ_ACTS, content)
        return found

    async def header(self, content: bytes) -> CdaHeader | None:
        """The header of a document that was filed once; None when it is unreadable.

        Raises:
            SandboxError: the worker crashed, was too slow, or the code failed.
        """
        found: CdaHeader | None = await self._run(READ_HEAD, content)
        return found

    async def number(self, content: bytes) -> tuple[InsMatricule, ...] | None:
        """The INS of whom a document is about; see ``opening.read_number``.

        Raises:
            SandboxError: the worker crashed, was too slow, or the code failed.
        """
        found: tuple[InsMatricule, ...] | None = await self._run(READ_NUMBER, content)
        return found

    async def lists(self, content: bytes) -> Lists:
        """What a document that was filed once adds to lists.

        Raises:
            SandboxError: the worker crashed, was too slow, or the code failed.
        """
        found: Lists = await self._run(READ_LISTS, content)
        return found

    async def _run(self, function: str, *arguments: Any) -> Any:
        """Run one of FUNCTIONS in a worker. Any: each has its own arguments and result."""
        pool = self._pool or await self.start()
        return await pool.run(function, *arguments, deadline_s=OPEN_DEADLINE_S)

    def origin(self, structure: Structure, opened: Opened | None) -> Origin:
        """Who answers for a message (RULES §4)."""
        if opened is None:
            return Origin(OriginKind.UNTRUSTED)
        known = self._directory.structures()
        return classify(
            opened,
            OriginFacts(
                domain=structure.domain,
                application_address=structure.application_address,
                patient_domains=frozenset(each.patient_domain for each in known),
                organizations={each.domain: each.organization for each in known},
                speaks_for=self._directory.trust.allows,
            ),
        )

    async def recipients(self, structure: Structure, opened: Opened | None) -> frozenset[str]:
        """RPPS of the professionals whose mailboxes a message was delivered to.

        Kept in memory until the next refresh: a select costs half a millisecond.
        """
        found: set[str | None] = set()
        for address in _professionals(structure, opened):
            if address not in self._holders:
                mailbox = await self._directory.mailbox(address)
                self._holders[address] = None if mailbox is None else mailbox.rpps
            found.add(self._holders[address])
        return frozenset(rpps for rpps in found if rpps)


def _professionals(structure: Structure, opened: Opened | None) -> Sequence[str]:
    ending = "@" + structure.domain
    return [] if opened is None else [a for a in opened.delivered_to if a.endswith(ending)]
