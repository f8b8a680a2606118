"""What ``pli queue`` and ``pli message track`` ask of the process that owns the mail database.

Invariants: the queue is shown without an address; each act is in the trail under the name of who
did it; looking at where a message stands names its recipients, so it is in the trail too.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from directory.trail import AuditEvent
from mailserver.control import Command
from mailserver.errors import CommandError
from mailserver.message.progress import Progress, Verdict
from mailserver.message.status import UNKNOWN_ANSWER, meaning
from mailserver.store.database import MailStore
from mailserver.store.model import OutboxItem
from mailserver.store.queue_control import Choice

Args = Mapping[str, Any]
_Act = Callable[[Choice, AuditEvent], Awaitable[tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class QueueCommands:
    """The commands about mail that leaves."""

    store: MailStore
    clock: Callable[[], datetime]

    def table(self) -> dict[str, Command]:
        """Give every command by name."""
        return {
            "queue_list": self.queue_list,
            "queue_domains": self.queue_domains,
            "queue_show": self.queue_show,
            "queue_retry": self.queue_retry,
            "queue_hold": self.queue_hold,
            "queue_release": self.queue_release,
            "queue_delete": self.queue_delete,
            "message_track": self.message_track,
        }

    async def queue_list(self, _args: Args) -> list[dict[str, Any]]:
        """List what has not left yet."""
        return [_row(item) for item in await self.store.queue.items()]

    async def queue_domains(self, _args: Args) -> list[dict[str, Any]]:
        """List the domains that are left alone for now."""
        return [
            {
                "domain": wait.domain,
                "failures": wait.failures,
                "next_at": _date(wait.next_at),
                "last_reply": wait.reply_code,
            }
            for wait in await self.store.queue.domains()
        ]

    async def queue_show(self, args: Args) -> dict[str, Any]:
        """Show one line with all that is known of it, but for addresses."""
        for item in await self.store.queue.items():
            if item.id == args["id"]:
                return {
                    **_row(item),
                    "queued_at": _date(item.queued_at),
                    "octets": item.octets,
                    "crashes": item.crashes,
                    "sender_told_at": _date(item.delayed_at),
                    "receipt": item.receipt_id,
                    "meaning": meaning(item.reply_code) or None,
                }
        raise CommandError("no_item", "No such line; see 'pli queue list DIR'.")

    async def queue_retry(self, args: Args) -> dict[str, Any]:
        """Try now what waits."""
        return await self._act("queue_retried", args, self.store.queue.retry)

    async def queue_hold(self, args: Args) -> dict[str, Any]:
        """Keep what waits from being sent."""
        return await self._act("queue_held", args, self.store.queue.hold)

    async def queue_release(self, args: Args) -> dict[str, Any]:
        """Let go what is held."""
        return await self._act("queue_released", args, self.store.queue.release)

    async def queue_delete(self, args: Args) -> dict[str, Any]:
        """Take out of the queue for good."""
        return await self._act("queue_deleted", args, self.store.queue.delete)

    async def _act(self, kind: str, args: Args, act: _Act) -> dict[str, Any]:
        choice = Choice(
            tuple(int(each) for each in args.get("ids", ())),
            tuple(str(each).lower() for each in args.get("domains", ())),
        )
        if not choice.ids and not choice.domains:
            raise CommandError("nothing", "Name lines by their id, or a --domain.")
        actor = str(args.get("actor", "cli"))
        changed = await act(choice, AuditEvent(kind, self.clock(), actor))
        left = tuple(each for each in choice.ids if each not in changed)
        states = await self.store.queue.states(left) if left else {}
        return {
            "changed": len(changed),
            "unchanged": [
                {"id": each, "state": states[each].value if each in states else None}
                for each in left
            ],
        }

    async def message_track(self, args: Args) -> list[dict[str, Any]]:
        """Say where a sent message stands, recipient by recipient."""
        name = str(args["name"]).strip()
        if "@" in name:
            found = await self.store.tracking.message(f"<{name.strip('<>')}>")
        else:
            found = await self.store.tracking.receipt(name)
        if not found:
            raise CommandError("no_message", "No account here sent a message of this name.")
        event = AuditEvent(
            "message_tracked",
            self.clock(),
            str(args.get("actor", "cli")),
            subject=f"receipt:{found[0].receipt_id}",
        )
        await self.store.audit.record([event])
        return [
            {
                "receipt": each.receipt_id,
                "sender": each.sender,
                "sent_by": each.person or each.sender,
                "recipient": each.address,
                "state": each.progress.state,
                "transport": each.progress.transport.value,
                "verdict": each.progress.verdict.value or None,
                "code": each.progress.code or None,
                "meaning": _meaning(each.progress) or None,
                "displayed": each.progress.displayed,
                "changed_at": _date(each.changed_at),
            }
            for each in found
        ]


def _meaning(progress: Progress) -> str:
    if progress.verdict is Verdict.QUARANTINED and not progress.code:
        return UNKNOWN_ANSWER
    return meaning(progress.code)


def _row(item: OutboxItem) -> dict[str, Any]:
    return {
        "id": item.id,
        "domain": item.domain,
        "state": item.state.value,
        "attempts": item.attempts,
        "next_at": _date(item.next_at),
        "last_reply": item.reply_code,
    }


def _date(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")
