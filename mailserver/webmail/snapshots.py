"""States of calendars that clients were told, and what changed since; pure but for its memory.

A state is the digest of what its patient sees (names and tags), so nothing hidden moves it
(RULES §7). States are kept in memory, the oldest forgotten first; a client whose state is not
known any more is told so, and reads everything again (RFC 6578 §3.2, valid-sync-token).
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from record_bridge.calendar_objects import state_of

MAX_NAMES: Final = 200_000
"""Names in all kept states together: some 30 MB."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed: names with their new tags, names that are gone, and the state reached."""

    changed: tuple[str, ...]
    gone: tuple[str, ...]
    state: str
    truncated: bool


class Snapshots:
    """The states told, by calendar."""

    def __init__(self, limit: int = MAX_NAMES) -> None:
        self._limit = limit
        self._kept: OrderedDict[tuple[str, str], Mapping[str, str]] = OrderedDict()
        self._names = 0

    def keep(self, calendar: str, tags: Mapping[str, str]) -> str:
        """Keep a state of a calendar, and give it."""
        state = state_of(tags)
        key = (calendar, state)
        if key in self._kept:
            self._kept.move_to_end(key)
            return state
        self._kept[key] = dict(tags)
        self._names += len(tags) + 1
        while self._names > self._limit and len(self._kept) > 1:
            _, forgotten = self._kept.popitem(last=False)
            self._names -= len(forgotten) + 1
        return state

    def since(
        self, calendar: str, state: str, tags: Mapping[str, str], limit: int | None
    ) -> Changes | None:
        """Say what changed since a state; None when it is not known.

        Args:
            calendar: which.
            state: the client's; "" for none.
            tags: name -> tag now.
            limit: at most so many names are told, and the state reached is the one in between.
        """
        before = self._kept.get((calendar, state)) if state else {}
        if before is None:
            return None
        changed = sorted(name for name, tag in tags.items() if before.get(name) != tag)
        gone = sorted(name for name in before if name not in tags)
        kept_changed = changed[:limit]
        kept_gone = gone if limit is None else gone[: max(0, limit - len(kept_changed))]
        truncated = len(kept_changed) + len(kept_gone) < len(changed) + len(gone)
        reached = tags
        if truncated:
            reached = {name: tag for name, tag in before.items() if name not in kept_gone}
            reached |= {name: tags[name] for name in kept_changed}
        return Changes(
            tuple(kept_changed), tuple(kept_gone), self.keep(calendar, reached), truncated
        )
