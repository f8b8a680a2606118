"""What ``pli trust-list`` asks of the process that owns the directory.

Invariants: a list comes into use only through ``directory.adoption``; what a person forced or has
seen is in the trail under the name of who did it; the site's file is replaced only by what was
adopted, so that a restart reads the same list.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from certs.names import written_name
from directory.adoption import Force, Proposed
from directory.errors import TrustListError, TrustListReason
from directory.fetch import fetch_list
from directory.lookup import Directory
from directory.refresh import Adopted, Refresh, Refused, tell
from directory.trail import AuditEvent
from directory.trust_list import TrustList
from directory.trust_signature import MAX_LIST_BYTES
from mailserver.control import Command
from mailserver.errors import CommandError
from mailserver.settings import Environment, Settings, Site, write_private
from mailserver.store.database import MailStore

Args = Mapping[str, Any]
_MIN_REASON = 10


@dataclass(frozen=True, slots=True)
class TrustCommands:
    """The commands about the list of operators."""

    site: Site
    settings: Settings
    store: MailStore
    directory: Directory
    clock: Callable[[], datetime]

    def table(self) -> dict[str, Command]:
        """Give every command by name."""
        return {
            "trust_import": self.trust_import,
            "trust_show": self.trust_show,
            "trust_judge": self.trust_judge,
            "trust_acknowledge": self.trust_acknowledge,
        }

    async def trust_import(self, args: Args) -> dict[str, Any]:
        """Take a list from a file, or fetch the published one, or look at the site's file."""
        if args.get("path") is not None:
            return await self._import_file(args)
        if self.settings.trust.url:
            return self._told(await self.fetch())
        outcome = await self.directory.refresh_trust(self.clock())
        tell(outcome)
        return self._told(outcome)

    async def fetch(self) -> Adopted | Refused:
        """Fetch the published list; for the timer and for a person."""
        try:
            content = await asyncio.to_thread(
                fetch_list, self.settings.trust.url, self.site.trust_anchors
            )
        except TrustListError as error:
            outcome: Adopted | Refused = Refused(error.reason)
        else:
            outcome = await self.directory.adoption.offer(content, self.clock())
            await self._write(outcome)
        tell(outcome)
        return outcome

    async def _import_file(self, args: Args) -> dict[str, Any]:
        content = await self._content(args)
        if args.get("force"):
            return await self._force(content, args)
        outcome = await self.directory.adoption.offer(content, self.clock())
        await self._write(outcome)
        tell(outcome)
        return self._told(outcome)

    async def _force(self, content: bytes, args: Args) -> dict[str, Any]:
        reason = (args.get("reason") or "").strip()
        if len(reason) < _MIN_REASON:
            raise CommandError(
                "no_reason", "Say with --reason why the list may lose so many domains."
            )
        force = Force(args["actor"], reason)
        outcome = await self.directory.adoption.force(content, force, self.clock())
        lost = outcome.lost if isinstance(outcome, Adopted | Proposed) else 0
        kind = "trust_list_forced" if isinstance(outcome, Adopted) else "trust_list_proposed"
        if not isinstance(outcome, Refused):
            await self._trail(kind, args["actor"], {"lost": lost, "reason": reason})
        if isinstance(outcome, Proposed):
            return {"outcome": "proposed", "lost": outcome.lost}
        await self._write(outcome)
        tell(outcome)
        return self._told(outcome)

    async def _content(self, args: Args) -> bytes:
        """Read the file that a person names; production takes no unsigned one from a disk."""
        production = self.settings.environment is Environment.PRODUCTION
        if production and not self.site.trust_signer.exists():
            raise CommandError(
                "unsigned",
                "An unsigned list is taken from where it is published only: set trust.url, "
                f"or put the signer's certificate at {self.site.trust_signer}.",
            )
        try:
            return await asyncio.to_thread(_read, Path(args["path"]))
        except OSError as error:
            raise CommandError("no_file", "This file cannot be read.") from error

    async def _write(self, outcome: Refresh) -> None:
        if isinstance(outcome, Adopted):
            await asyncio.to_thread(write_private, self.site.trust_list, outcome.content)

    def _told(self, outcome: Refresh) -> dict[str, Any]:
        match outcome:
            case Adopted(trust, _, new_names, lost):
                return {
                    "outcome": "adopted",
                    "domains": len(trust.entries),
                    "lost": lost,
                    "new_names": len(new_names),
                }
            case Refused(reason):
                raise CommandError(reason.value, _WHY[reason])
            case _:
                return {"outcome": "unchanged"}

    async def trust_judge(self, args: Args) -> dict[str, Any]:
        """Say what would become of a file, and do nothing."""
        outcome = await self.directory.adoption.judge(await self._content(args), self.clock())
        return self._told(outcome) | {"outcome": "acceptable"}

    async def trust_show(self, args: Args) -> dict[str, Any]:
        """Describe the list in use, or what it says of one domain."""
        trust, at = self.directory.trust, self.clock()
        shown: dict[str, Any] = {
            "generated_at": trust.generated_at.isoformat(timespec="seconds"),
            "freshness": self.directory.trust_freshness(at).value,
            "signed": trust.signed,
            "domains": len(trust.entries),
            "skipped": trust.skipped,
            "refused": self.directory.trust_refusal,
            "alarms": [
                {
                    "at": alarm.at.isoformat(timespec="seconds"),
                    "domain": alarm.domain,
                    "name": alarm.dn,
                }
                for alarm in await self.directory.adoption.alarms()
            ],
        }
        domain = (args.get("domain") or "").lower()
        if domain:
            names = trust.entries.get(domain, frozenset())
            return shown | {"domain": domain, "names": sorted(map(written_name, names))}
        return shown | {"operators": _operators(trust)}

    async def trust_acknowledge(self, args: Args) -> dict[str, Any]:
        """Say that a person has looked at the new names."""
        seen = await self.directory.adoption.acknowledge(args["actor"], self.clock())
        if seen:
            await self._trail("trust_names_seen", args["actor"], {"count": seen})
        return {"acknowledged": seen}

    async def _trail(self, kind: str, actor: str, facts: Mapping[str, str | int]) -> None:
        event = AuditEvent(kind=kind, at=self.clock(), actor=actor, facts=facts)
        await self.store.audit.record((event,))


_WHY = {
    TrustListReason.ABSENT: "There is no list: pli trust-list import brings one.",
    TrustListReason.UNREADABLE: "Refused: it is cut short, or no safe XML.",
    TrustListReason.STRUCTURE: "Refused: it is no trust list, or not wholly one.",
    TrustListReason.UNSIGNED: "Refused: it bears no signature, and this site asks for one.",
    TrustListReason.SIGNATURE: "Refused: it is not signed by the signer of this site.",
    TrustListReason.EMPTY: "Refused: it lists nobody.",
    TrustListReason.SHRUNK: (
        "Refused: it lacks more than a fifth of the domains. If that is right, two persons say "
        "so, each with --force --reason."
    ),
    TrustListReason.OLDER: "Refused: it was made before the one in use.",
    TrustListReason.FUTURE: "Refused: it is dated ahead of now.",
    TrustListReason.NOT_FETCHED: (
        "It cannot be fetched: the address does not answer, or not with a certificate of "
        "trust/https.pem."
    ),
    TrustListReason.TOO_LARGE: "Refused: it is too large.",
}


def _operators(trust: TrustList) -> list[dict[str, Any]]:
    counts: dict[str, int] = {}
    for names in trust.entries.values():
        for name in names:
            written = written_name(name)
            counts[written] = counts.get(written, 0) + 1
    return [{"name": name, "domains": count} for name, count in sorted(counts.items())]


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_LIST_BYTES + 1)
