"""The bridge: one watcher per application mailbox, from the mailbox into the records.

One round: list what is above the cursor, claim it, fetch, open in the sandbox, file in one
transaction, tell the mailbox, answer the senders, wait. Whatever fails names its phase; the
mailbox is opened again after a pause and the rows say what is left to do (DESIGN D1).

Broad exceptions are caught at the tops of loops: here, and in ``record_bridge.watcher``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from certs.anchors import TrustAnchors
from certs.sandbox import SandboxPool
from certs.tls import client_context
from directory.database import Database
from directory.lookup import Directory
from record_bridge import lateness
from record_bridge.agenda_commands import AgendaCommands
from record_bridge.api_tokens import ApiTokenCommands
from record_bridge.archive_commands import ArchiveCommands
from record_bridge.calendar_commands import CalendarCommands
from record_bridge.command_desk import CommandContext
from record_bridge.commands import RecordCommands
from record_bridge.handover import Handover, HandoverTarget
from record_bridge.handover_commands import HandoverCommands
from record_bridge.handover_queue import choose
from record_bridge.identity_commands import IdentityCommands
from record_bridge.inbox import InboxLogin
from record_bridge.late_lists import AT_ONCE, read_late_lists
from record_bridge.life_commands import LifeCommands
from record_bridge.masking import MaskingCommands
from record_bridge.medication_commands import MedicationCommands
from record_bridge.model import Environment
from record_bridge.offer_commands import OfferCommands
from record_bridge.opener import FUNCTIONS, Opener, OpenerSettings
from record_bridge.pack_commands import PackCommands
from record_bridge.prevention_record import PreventionCommands
from record_bridge.quarantine_commands import QuarantineCommands
from record_bridge.releasing import release_due
from record_bridge.rematching import Rematcher
from record_bridge.reply import ReplySender, SubmissionLogin
from record_bridge.repository import open_record
from record_bridge.retention_commands import RetentionCommands
from record_bridge.reviving import revive
from record_bridge.rights_commands import RightsCommands
from record_bridge.trend_commands import TrendCommands
from record_bridge.watcher import Watcher, WatcherParts
from record_bridge.withdrawal_commands import WithdrawalCommands

log = structlog.get_logger("record_bridge")

POOL_SIZE = 2
REFRESH_S = 60.0
LATE_ALARM_EVERY = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class StructureInbox:
    """One structure's application mailbox, and where it is reached (implicit TLS)."""

    structure_id: str
    address: str
    password: str
    imap_host: str
    imap_port: int
    submission_host: str
    submission_port: int


@dataclass(frozen=True, slots=True)
class BridgeSettings:
    """What the bridge of one site is built from.

    Attributes:
        record: the record database, made by ``create_record``.
        inboxes: one per structure.
        ca_file: who vouches for the servers' certificates.
        authserv_id: whose Authentication-Results is believed.
        anchors: whom the site trusts for signatures.
        crls: folder of revocation lists.
        server_name: name in the servers' certificates, when it is not the host connected to.
        purge_after_days: how long an entry stays in its mailbox after its outcome (RULES §3).
        handovers: whose software is handed what is filed.
    """

    record: Path
    inboxes: tuple[StructureInbox, ...]
    ca_file: Path
    authserv_id: str
    environment: Environment
    anchors: TrustAnchors
    crls: Path
    check_hostname: bool = True
    server_name: str = ""
    purge_after_days: int = 30
    handovers: tuple[HandoverTarget, ...] = ()


def _now() -> datetime:
    return datetime.now(UTC)


class BridgeWorker:
    """``async with BridgeWorker(settings, directory) as bridge: await bridge.run()``."""

    def __init__(self, settings: BridgeSettings, directory: Directory) -> None:
        self._settings = settings
        self._directory = directory
        self._stack = AsyncExitStack()
        self._watchers: list[Watcher] = []
        self._handovers: list[Handover] = []
        self._watched = {each.structure_id for each in settings.inboxes}
        self._group: asyncio.TaskGroup | None = None
        self._stopping = asyncio.Event()
        self._record: Database | None = None
        self._opener: Opener | None = None
        self._commands: RecordCommands | None = None
        self._told_late_at: datetime | None = None

    async def __aenter__(self) -> Self:
        """Open the record, start the sandbox, build a watcher per mailbox."""
        settings = self._settings
        async with AsyncExitStack() as stack:
            record = await open_record(settings.record)
            stack.push_async_callback(record.close)
            opener = Opener(
                self._start_pool,
                self._directory,
                OpenerSettings(
                    settings.authserv_id, settings.environment, settings.anchors, settings.crls
                ),
            )
            await opener.refresh(_now())
            self._record, self._opener = record, opener
            self._stack = stack
            if settings.inboxes:
                await opener.start()
            self._watchers = [self._watcher(record, opener, each) for each in settings.inboxes]
            self._handovers = [
                Handover(record, each, _now, self.wake) for each in settings.handovers
            ]
            self._commands = RecordCommands(
                CommandContext(
                    record=record,
                    structures=self._directory.structures,
                    environment=settings.environment,
                    clock=_now,
                    rematch=self._rematcher().rematch,
                    revive=self._revive,
                    wake=self.wake,
                )
            )
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close everything in reverse."""
        await self._stack.aclose()

    @property
    def commands(self) -> RecordCommands:
        """The commands on the open record."""
        assert self._commands is not None  # noqa: S101 - only inside the ``async with``
        return self._commands

    def table(self) -> dict[str, Callable[[Mapping[str, Any]], Awaitable[Any]]]:
        """Give every command by name, for the control socket."""
        assert self._record is not None  # noqa: S101 - only inside the ``async with``
        rights = RightsCommands(self.commands, self._directory.practitioner)
        return (
            self.commands.table()
            | PreventionCommands(self._record, _now).table()
            | CalendarCommands(self._record, _now).table()
            | LifeCommands(self._record, _now).table()
            | rights.table()
            | TrendCommands(self.commands, rights.viewer).table()
            | MedicationCommands(self.commands, rights.viewer).table()
            | RetentionCommands(self.commands).table()
            | MaskingCommands(self.commands).table()
            | AgendaCommands(self.commands, self._settings.record).table()
            | ApiTokenCommands(self.commands, self._directory.practitioner).table()
            | PackCommands(self.commands).table()
            | HandoverCommands(self.commands).table()
            | OfferCommands(self.commands, self._directory.practitioner).table()
            | ArchiveCommands(self.commands, self._settings.record, self.opener.number).table()
            | IdentityCommands(self.commands).table()
            | WithdrawalCommands(self.commands).table()
            | QuarantineCommands(self.commands, self._rematcher()).table()
        )

    def _rematcher(self) -> Rematcher:
        return Rematcher(self.record, self.opener, _now)

    async def _revive(self, document_ids: Sequence[int]) -> None:
        """Put the agenda entries of documents that are current again."""
        await revive(self.record, self.opener, document_ids, _now())

    @property
    def opener(self) -> Opener:
        """What opens messages, for ``pli audit verify`` while the bridge runs."""
        assert self._opener is not None  # noqa: S101 - only inside the ``async with``
        return self._opener

    @property
    def record(self) -> Database:
        """The open record database."""
        assert self._record is not None  # noqa: S101 - only inside the ``async with``
        return self._record

    @property
    def idle(self) -> bool:
        """Whether every watcher waits for news, with nothing left to do."""
        return all(watcher.idle for watcher in self._watchers)

    def wake(self) -> None:
        """Tell the watchers that there is something to do."""
        for watcher in self._watchers:
            watcher.wake()

    def stop(self) -> None:
        """Finish what is in flight, then let ``run`` return."""
        self._stopping.set()
        for watcher in self._watchers:
            watcher.stop()
        for handover in self._handovers:
            handover.stop()

    async def run(self) -> None:
        """Watch every mailbox until ``stop``, or until cancelled."""
        choices = {each.structure_id: each.answers for each in self._settings.handovers}
        await self.record.write(choose, (choices, _now()))
        async with asyncio.TaskGroup() as group:
            self._group = group
            for watcher in self._watchers:
                group.create_task(watcher.run())
            for handover in self._handovers:
                group.create_task(handover.run())
            group.create_task(self._each_minute(self._keep_current, "refresh"))
            group.create_task(self._each_minute(self._read_late_lists, "lists"))

    async def watch(self, inboxes: Sequence[StructureInbox]) -> None:
        """Begin to watch the mailboxes that are not watched yet; ``run`` is running."""
        await self._directory.reload()
        for each in inboxes:
            if (
                self._group is None
                or self._stopping.is_set()
                or each.structure_id in self._watched
            ):
                continue
            self._watched.add(each.structure_id)
            watcher = self._watcher(self.record, self.opener, each)
            self._watchers.append(watcher)
            self._group.create_task(watcher.run())

    async def _each_minute(self, step: Callable[[], Awaitable[None]], phase: str) -> None:
        while not self._stopping.is_set():
            try:
                await step()
            except Exception as error:
                log.exception("refresh_failed", error_type=type(error).__name__, phase=phase)
            try:
                async with asyncio.timeout(REFRESH_S):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def _keep_current(self) -> None:
        """Read revocation lists and the directory again, and release what the delay releases."""
        released = await self.record.write(release_due, _now())
        if released:
            log.info("documents_released", count=released)
            self.wake()
        await self.opener.refresh(_now())
        await self._tell_of_late()

    async def _read_late_lists(self) -> None:
        """Read what waits for it, which after an import or an upgrade is much."""
        while not self._stopping.is_set():
            if await read_late_lists(self.record, self.opener) < AT_ONCE:
                return

    async def _tell_of_late(self) -> None:
        """Raise an alarm each hour while something has waited for a decision too long."""
        at = _now()
        if self._told_late_at is not None and at - self._told_late_at < LATE_ALARM_EVERY:
            return
        self._told_late_at = at
        found = await self.record.read(lateness.late, at)
        for name, count in lateness.by_name(found).items():
            if count:
                log.warning("quarantine_late", verdict=name, count=count)

    async def _start_pool(self) -> SandboxPool:
        return await self._stack.enter_async_context(SandboxPool(POOL_SIZE, functions=FUNCTIONS))

    def _watcher(self, record: Database, opener: Opener, each: StructureInbox) -> Watcher:
        settings = self._settings
        tls = client_context(
            settings.ca_file,
            check_hostname=settings.check_hostname,
            server_name=settings.server_name,
        )
        return Watcher(
            WatcherParts(
                record=record,
                opener=opener,
                directory=self._directory,
                structure_id=each.structure_id,
                login=InboxLogin(each.imap_host, each.imap_port, tls, each.address, each.password),
                sender=ReplySender(
                    record,
                    each.structure_id,
                    settings.authserv_id,
                    SubmissionLogin(
                        each.submission_host,
                        each.submission_port,
                        tls,
                        each.address,
                        each.password,
                    ),
                    _now,
                ),
                clock=_now,
                purge_after=timedelta(days=settings.purge_after_days),
            )
        )
