"""Which trust list is in use, across restarts, and what persons have to say about it.

Invariants: what is adopted is kept with the alarms it raised, in one transaction, before it is
used, so that no alarm is lost to a write that fails. The domains that left are kept along for a
month, so that a list may neither shrink nor change hands little by little unseen. A list that
lost more than it may comes into use only when two different persons give the very same file, each
with a reason, within a day; nothing else that is wrong with a list can be forced.

Source: MSS-OP §3.2.
"""

import asyncio
import hashlib
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import structlog
from sqlalchemy import Row, bindparam, delete, insert, select, update

from certs.names import ComparedName, compared_name, written_name
from directory.database import Database, compiled
from directory.errors import TrustListReason
from directory.refresh import Adopted, Refresh, Refused, TrustSource, Unchanged
from directory.schema import TRUST_ALARM, TRUST_COPY, TRUST_DEPARTED, TRUST_PROPOSAL
from directory.trust_list import Departed, TrustList

log = structlog.get_logger("directory")

AGREE_WITHIN = timedelta(hours=24)
R = TypeVar("R", bound=Refresh)

_KEEP_COPY = compiled(insert(TRUST_COPY)).replace("INSERT", "INSERT OR REPLACE", 1)
_FORGET_DEPARTED = compiled(delete(TRUST_DEPARTED))
_KEEP_DEPARTED = compiled(insert(TRUST_DEPARTED))
_PROPOSE = compiled(insert(TRUST_PROPOSAL)).replace("INSERT", "INSERT OR REPLACE", 1)
_WITHDRAW = compiled(delete(TRUST_PROPOSAL))
_RAISE = compiled(
    insert(TRUST_ALARM).values(at=bindparam("at"), domain=bindparam("domain"), dn=bindparam("dn"))
)
_ACKNOWLEDGE = compiled(
    update(TRUST_ALARM)
    .where(TRUST_ALARM.c.seen_at.is_(None))
    .values(seen_at=bindparam("seen_at"), seen_by=bindparam("seen_by"))
)
_OPEN = select(TRUST_ALARM).where(TRUST_ALARM.c.seen_at.is_(None)).order_by(TRUST_ALARM.c.id)
_KEPT = select(TRUST_COPY.c.content, TRUST_COPY.c.adopted_at)
_DEPARTED = select(TRUST_DEPARTED)
_PROPOSAL = select(TRUST_PROPOSAL)


@dataclass(frozen=True, slots=True)
class Alarm:
    """A name that may now speak for a domain that was known before."""

    at: datetime
    domain: str
    dn: str


@dataclass(frozen=True, slots=True)
class Proposed:
    """A list with a loss waits for a second person; ``lost`` counts the domains it drops."""

    lost: int


@dataclass(frozen=True, slots=True)
class Force:
    """A person who wants a list in use although it lost more than it may."""

    actor: str
    """Opaque: ``cli:<os user>``; two persons are two of these."""
    reason: str


@dataclass(frozen=True, slots=True)
class _Kept:
    """An adopted list, and what it changed."""

    outcome: Adopted
    at: datetime


@dataclass(frozen=True, slots=True)
class _Proposal:
    """A list that one person wants in use."""

    sha256: bytes
    force: Force
    at: datetime


class Adoption:
    """The list in use and the ways into it.

    Args:
        database: the directory's.
        source: the file and the last good list.
        read_only: nothing is written; what is adopted here is forgotten with this process.
    """

    def __init__(self, database: Database, source: TrustSource, *, read_only: bool) -> None:
        self.source = source
        self.outcome: Refresh = Unchanged()
        """What became of the file when it was last looked at."""
        self._database = database
        self._read_only = read_only
        self._turn = asyncio.Lock()

    async def start(self, at: datetime) -> None:
        """Use the list that was last in use, then the file if that is newer.

        A signer whose certificate ran out since signs nothing new, and what it signed before
        serves until its own time is over: a restart closes no door that stood open.
        """
        kept = await self._database.first(_KEPT)
        if kept is not None:
            departed = _departed(await self._database.all(_DEPARTED))
            adopted_at = _instant(kept.adopted_at)
            await asyncio.to_thread(self.source.restore, kept.content, departed, adopted_at)
        try:
            await self.refresh(at)
        except sqlite3.Error as error:  # a full disk: what is in use serves, the next look tries
            log.exception("trust_list_not_kept", error_type=type(error).__name__)

    async def refresh(self, at: datetime) -> Refresh:
        """Read the list's file if it changed."""
        async with self._turn:
            self.outcome = await self._use(await asyncio.to_thread(self.source.look, at), at)
            return self.outcome

    async def offer(self, content: bytes, at: datetime) -> Adopted | Refused:
        """Adopt a list from elsewhere if it may replace the one in use."""
        async with self._turn:
            return await self._use(await asyncio.to_thread(self.source.judge, content, at), at)

    async def judge(self, content: bytes, at: datetime) -> Adopted | Refused:
        """Say what ``offer`` would do, and do nothing."""
        return await asyncio.to_thread(self.source.judge, content, at)

    async def force(
        self, content: bytes, force: Force, at: datetime
    ) -> Adopted | Refused | Proposed:
        """Adopt a list despite its loss when a second person asks for the same octets."""
        async with self._turn:
            outcome = await asyncio.to_thread(self.source.judge, content, at)
            if outcome == Refused(TrustListReason.SHRUNK):
                digest = hashlib.sha256(content).digest()
                if not await self._agreed(digest, force, at):
                    await self._database.write(_propose, _Proposal(digest, force, at))
                    return Proposed(await asyncio.to_thread(self.source.loss, content, at))
                outcome = await asyncio.to_thread(self.source.judge_despite_loss, content, at)
            return await self._use(outcome, at)

    async def _agreed(self, digest: bytes, force: Force, at: datetime) -> bool:
        row = await self._database.first(_PROPOSAL)
        return (
            row is not None
            and row.sha256 == digest
            and row.actor != force.actor
            and timedelta() <= at - _instant(row.at) <= AGREE_WITHIN
        )

    async def alarms(self) -> tuple[Alarm, ...]:
        """Give the alarms that nobody has seen, oldest first."""
        rows = await self._database.all(_OPEN)
        return tuple(Alarm(_instant(row.at), row.domain, row.dn) for row in rows)

    async def acknowledge(self, actor: str, at: datetime) -> int:
        """Say that a person has seen the open alarms; give how many there were."""
        return await self._database.write(_acknowledge, (_micros(at), actor))

    async def _use(self, outcome: R, at: datetime) -> R:
        """Keep what may be used, then use it."""
        if isinstance(outcome, Adopted):
            if not self._read_only:
                await self._database.write(_keep, _Kept(outcome, at), octets=len(outcome.content))
            self.source.use(outcome)
        return outcome


# What follows runs on the writer's thread, inside its transaction.


def _keep(connection: sqlite3.Connection, kept: _Kept) -> None:
    at = _micros(kept.at)
    connection.execute(_KEEP_COPY, {"id": 1, "content": kept.outcome.content, "adopted_at": at})
    connection.execute(_FORGET_DEPARTED)
    connection.executemany(_KEEP_DEPARTED, list(_departed_rows(kept.outcome.trust)))
    connection.executemany(
        _RAISE,
        [
            {"at": at, "domain": domain, "dn": written_name(name)}
            for domain, name in kept.outcome.new_names
        ],
    )
    connection.execute(_WITHDRAW)


def _propose(connection: sqlite3.Connection, proposal: _Proposal) -> None:
    connection.execute(
        _PROPOSE,
        {
            "id": 1,
            "sha256": proposal.sha256,
            "reason": proposal.force.reason,
            "actor": proposal.force.actor,
            "at": _micros(proposal.at),
        },
    )


def _acknowledge(connection: sqlite3.Connection, seen: tuple[int, str]) -> int:
    return connection.execute(_ACKNOWLEDGE, {"seen_at": seen[0], "seen_by": seen[1]}).rowcount


def _departed_rows(trust: TrustList) -> Iterator[dict[str, str | int]]:
    for domain, each in trust.departed.items():
        for name in each.names:
            yield {
                "domain": domain,
                "dn": written_name(name),
                "at": _micros(each.at),
                "vouched": each.vouched,
            }


def _departed(rows: Iterable[Row[Any]]) -> Mapping[str, Departed]:
    """Read the rows back. Any: the rows of one table, as the database gives them."""
    names: defaultdict[str, set[ComparedName]] = defaultdict(set)
    when: dict[str, tuple[datetime, bool]] = {}
    for row in rows:
        names[row.domain].add(compared_name(row.dn))
        when[row.domain] = (_instant(row.at), row.vouched)
    return {domain: Departed(frozenset(names[domain]), *each) for domain, each in when.items()}


def _micros(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000)


def _instant(micros: int) -> datetime:
    return datetime.fromtimestamp(micros / 1_000_000, UTC)
