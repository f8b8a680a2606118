"""Evaluates a search program over the open folder.

Texts are looked for in the store's index, and in the messages themselves where it has not come
yet. Invariants: cheap keys run first and narrow what the dear ones look at; what reads bodies runs
in a thread, in small batches, under one deadline for the whole command (threat I8); the order of
the result is that of the folder.

Source: RFC 9051 §6.4.4.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import assert_never

from certs.mime import decode_outline
from mailserver.imap import search_keys as k
from mailserver.imap.errors import Code, RefusedError
from mailserver.imap.responses import SYSTEM_FLAGS, email_id
from mailserver.imap.search_text import Stored, header_matches, text_matches
from mailserver.imap.sets import SAVED
from mailserver.imap.shared import ImapLimits, Progress, Shared
from mailserver.imap.view import FolderView
from mailserver.message.search_text import fold
from mailserver.store.errors import NoSuchBlobError
from mailserver.store.model import EntryRow, from_micros

TEXT_OCTETS = 4 * 1024 * 1024
"""Octets of bodies in one batch of a text search."""
HEADER_BATCH = 500
PREFIX_FIELDS = frozenset({"return-path", "delivered-to", "received", "authentication-results"})
"""Fields that this server writes before a message, entry by entry: not in the index of bodies."""
_FLAGS = {name.decode("ascii").lower(): bit for bit, name in SYSTEM_FLAGS}
_DAY = timedelta(days=1)
_WRITTEN = re.compile(rb"(\d{1,2})[ \t\r\n]+([A-Za-z]{3})[ \t\r\n]+(\d{4})")
_MONTHS = b"jan feb mar apr may jun jul aug sep oct nov dec".split()


def _rank(key: k.SearchKey) -> int:
    match key:
        case k.BodyHas() | k.TextHas():
            return 3
        case k.HeaderHas() | k.SentDate():
            return 2
        case k.SavedDate() | k.EmailId():
            return 1
        case k.Not(inner):
            return _rank(inner)
        case k.Or(left, right):
            return max(_rank(left), _rank(right))
        case k.And(keys):
            return max(map(_rank, keys))
        case _:
            return 0


def uses_modseq(key: k.SearchKey) -> bool:
    """Whether MODSEQ is among the keys (RFC 7162 §3.1.5)."""
    return k.any_key(key, lambda one: isinstance(one, k.ModseqFrom))


class Searcher:
    """One search."""

    def __init__(
        self,
        shared: Shared,
        view: FolderView,
        limits: ImapLimits,
        saved: Sequence[int],
        progress: Progress,
    ) -> None:
        self._shared = shared
        self._progress = progress
        self._view = view
        self._limits = limits
        self._saved = saved
        """Positions that ``$`` stands for (RFC 5182 §2.1)."""

    async def run(self, key: k.SearchKey) -> tuple[list[int], bool]:
        """Give the matching positions, ascending, and whether MODSEQ was asked for.

        Raises:
            RefusedError: it took too long.
            BadCommandError: it names a message number that is not there.
        """
        try:
            async with asyncio.timeout(self._limits.search_deadline_s):
                found = await self._among(key, list(range(len(self._view))))
        except TimeoutError:
            raise RefusedError(Code.LIMIT, "The search took too long") from None
        return found, uses_modseq(key)

    async def _among(self, key: k.SearchKey, positions: list[int]) -> list[int]:
        match key:
            case k.And(keys):
                for part in sorted(keys, key=_rank):
                    positions = await self._among(part, positions)
                return positions
            case k.Or(left, right):
                first = set(await self._among(left, positions))
                rest = [at for at in positions if at not in first]
                first.update(await self._among(right, rest))
                return [at for at in positions if at in first]
            case k.Not(inner):
                out = set(await self._among(inner, positions))
                return [at for at in positions if at not in out]
            case k.HeaderHas(field, value):
                return await self._field(positions, field, fold(value))
            case k.SentDate():
                return await self._sent(positions, key)
            case k.SavedDate() | k.EmailId():
                return await self._by_origin(positions, key)
            case k.BodyHas(value):
                return await self._body(positions, fold(value))
            case k.TextHas(value):
                return await self._text(positions, fold(value))
            case _:
                return self._simple(key, positions)

    def _simple(self, key: k.SearchKey, positions: list[int]) -> list[int]:
        view = self._view
        rows = view.rows
        match key:
            case k.All():
                return positions
            case k.Nothing():
                return []
            case k.NumberIn(numbers) | k.UidIn(numbers) if numbers is SAVED:
                wanted = set(self._saved)
                return [at for at in positions if at in wanted]
            case k.NumberIn(numbers):
                wanted = set(numbers.positions(len(view)))
                return [at for at in positions if at in wanted]
            case k.UidIn(numbers):
                wanted = set(numbers.positions_of_uids(view.uids))
                return [at for at in positions if at in wanted]
            case k.Older(seconds):
                # Both ends are whole seconds of one clock (RFC 5032 §3).
                edge = self._shared.now() - timedelta(seconds=seconds)
                return [at for at in positions if rows[at].internal_at <= edge]
            case k.HasFlag() | k.InternalDate() | k.Larger() | k.Smaller() | k.ModseqFrom():
                test = _row_test(key)
                return [at for at in positions if test(rows[at])]
            case (
                k.And()
                | k.Or()
                | k.Not()
                | k.HeaderHas()
                | k.SentDate()
                | k.SavedDate()
                | k.EmailId()
                | k.BodyHas()
                | k.TextHas()
            ):
                raise RefusedError(Code.SERVERBUG, "Internal error")
            case _:
                assert_never(key)

    async def _by_origin(self, positions: list[int], key: k.SavedDate | k.EmailId) -> list[int]:
        """Look at what the store knows of each message's origin, in one read."""
        rows = self._view.rows
        origins = await self._shared.store.messages.origins(self._view.folder.id)
        found: list[int] = []
        for at in positions:
            origin = origins.get(rows[at].uid)
            if origin is None:
                continue
            if isinstance(key, k.EmailId):
                matches = email_id(origin.entry_id) == key.value
            else:
                # RFC 8514 §4.3: without a save date the internal date is looked at.
                saved_at = origin.saved_at or rows[at].internal_at
                matches = _compare(key.compare, saved_at.date(), key.day)
            if matches:
                found.append(at)
        return found

    async def _stored(self, batch: Sequence[int], *, bodies: bool) -> list[tuple[int, Stored]]:
        view, store = self._view, self._shared.store
        rows = [view.rows[at] for at in batch]
        indexes = await self._shared.indexes.get([row.blob_id for row in rows])
        prefixes = await store.messages.prefixes(view.folder.id, [row.uid for row in rows])
        there = [
            (at, row)
            for at, row in zip(batch, rows, strict=True)
            if row.blob_id in indexes and row.uid in prefixes
        ]
        contents: list[bytes] = []
        if bodies:
            slices = [(row.blob_id, 0, row.octets - len(prefixes[row.uid])) for _, row in there]
            contents = await store.blobs.read_many(slices)
        return [
            (
                at,
                Stored(
                    indexes[row.blob_id].outline,
                    prefixes[row.uid],
                    contents[n] if bodies else None,
                ),
            )
            for n, (at, row) in enumerate(there)
        ]

    async def _field(self, positions: list[int], field: str, needle: str) -> list[int]:
        if not needle or field in PREFIX_FIELDS:
            return await self._headers(positions, field, needle)
        search, blobs = self._shared.store.search, self._blobs(positions)
        async with self._shared.search_turns:
            found = await search.headers_with(blobs, field, needle)
        seen = set(await self._headers(self._lying_in(positions, found.unread), field, needle))
        return self._either(positions, found.bodies, seen)

    async def _body(self, positions: list[int], needle: str) -> list[int]:
        if not needle:
            return positions
        search, blobs = self._shared.store.search, self._blobs(positions)
        async with self._shared.search_turns:
            found = await search.bodies_with(blobs, needle)
        waiting = self._lying_in(positions, found.unread)
        seen = set(await self._texts(waiting, needle, headers=False))
        return self._either(positions, found.bodies, seen)

    async def _text(self, positions: list[int], needle: str) -> list[int]:
        if not needle:
            return positions
        search, blobs, rows = self._shared.store.search, self._blobs(positions), self._view.rows
        async with self._shared.search_turns:
            found = await search.texts_with(blobs, needle)
            in_prefix = await search.prefixes_with(self._view.folder.id, needle)
        seen = {at for at in positions if rows[at].uid in in_prefix}
        waiting = [at for at in self._lying_in(positions, found.unread) if at not in seen]
        seen.update(await self._texts(waiting, needle, headers=True))
        return self._either(positions, found.bodies, seen)

    def _blobs(self, positions: list[int]) -> set[int]:
        rows = self._view.rows
        return {rows[at].blob_id for at in positions}

    def _lying_in(self, positions: list[int], blobs: set[int]) -> list[int]:
        if not blobs:
            return []
        rows = self._view.rows
        return [at for at in positions if rows[at].blob_id in blobs]

    def _either(self, positions: list[int], blobs: set[int], seen: set[int]) -> list[int]:
        rows = self._view.rows
        return [at for at in positions if rows[at].blob_id in blobs or at in seen]

    async def _headers(self, positions: list[int], field: str, needle: str) -> list[int]:
        found: list[int] = []
        for start in range(0, len(positions), HEADER_BATCH):
            async with self._shared.search_turns:
                batch = await self._stored(positions[start : start + HEADER_BATCH], bodies=False)
                messages = [stored for _, stored in batch]
                hits = await asyncio.to_thread(header_matches, messages, field, needle)
            found.extend(at for (at, _), hit in zip(batch, hits, strict=True) if hit)
        return found

    async def _sent(self, positions: list[int], key: k.SentDate) -> list[int]:
        found: list[int] = []
        noon = datetime(key.day.year, key.day.month, key.day.day, 12, tzinfo=UTC)
        for start in range(0, len(positions), HEADER_BATCH):
            batch = positions[start : start + HEADER_BATCH]
            indexes = await self._shared.indexes.get([self._view.rows[at].blob_id for at in batch])
            for at in batch:
                index = indexes.get(self._view.rows[at].blob_id)
                if index is None or index.date_at is None:
                    continue
                instant = from_micros(index.date_at)
                day = instant.date()
                if abs(instant - noon) < 2 * _DAY:
                    # Near the edge the day as its writer wrote it decides, whatever the zone.
                    fields = decode_outline(index.outline).fields("date")
                    day = (_written_day(fields[0].value) if fields else None) or day
                if _compare(key.compare, day, key.day):
                    found.append(at)
        return found

    async def _texts(self, positions: list[int], needle: str, *, headers: bool) -> list[int]:
        found: list[int] = []
        self._progress.done, self._progress.goal = 0, len(positions)
        for batch in self._text_batches(positions):
            async with self._shared.search_turns:
                try:
                    stored = await self._stored(batch, bodies=True)
                except NoSuchBlobError:
                    stored = await self._one_by_one(batch)
                messages = [item for _, item in stored]
                hits = await asyncio.to_thread(text_matches, messages, needle, headers=headers)
            self._progress.done += len(batch)
            found.extend(at for (at, _), hit in zip(stored, hits, strict=True) if hit)
        return found

    async def _one_by_one(self, batch: Sequence[int]) -> list[tuple[int, Stored]]:
        stored: list[tuple[int, Stored]] = []
        for at in batch:
            try:
                stored.extend(await self._stored([at], bodies=True))
            except NoSuchBlobError:
                continue
        return stored

    def _text_batches(self, positions: Sequence[int]) -> list[list[int]]:
        batches: list[list[int]] = []
        octets = 0
        for at in positions:
            size = self._view.rows[at].octets
            full = not batches or octets + size > TEXT_OCTETS
            if full or len(batches[-1]) >= self._limits.search_slice:
                batches.append([])
                octets = 0
            batches[-1].append(at)
            octets += size
        return batches


def _written_day(value: bytes) -> date | None:
    """Give the day of a Date field as it stands there (RFC 9051 §6.4.4: zone disregarded)."""
    match = _WRITTEN.search(value)
    if match is None or match[2].lower() not in _MONTHS:
        return None
    try:
        return date(int(match[3]), _MONTHS.index(match[2].lower()) + 1, int(match[1]))
    except ValueError:
        return None


def _compare(compare: k.Compare, day: date, wanted: date) -> bool:
    match compare:
        case k.Compare.BEFORE:
            return day < wanted
        case k.Compare.ON:
            return day == wanted
        case k.Compare.SINCE:
            return day >= wanted


def _row_test(
    key: k.HasFlag | k.InternalDate | k.Larger | k.Smaller | k.ModseqFrom,
) -> Callable[[EntryRow], bool]:
    match key:
        case k.HasFlag(flag):
            bit = _FLAGS.get(flag.lower())
            if bit is not None:
                return lambda row: bool(row.flags & bit)
            wanted = flag.lower()
            return lambda row: any(keyword.lower() == wanted for keyword in row.keywords)
        case k.InternalDate(compare, day):
            return lambda row: _compare(compare, row.internal_at.date(), day)
        case k.Larger(octets):
            return lambda row: row.octets > octets
        case k.Smaller(octets):
            return lambda row: row.octets < octets
        case k.ModseqFrom(modseq):
            return lambda row: row.modseq >= modseq
