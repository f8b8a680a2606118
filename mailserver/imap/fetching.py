"""Answers FETCH from stored bytes.

Flags come from memory, structures as they were written at delivery, sections by their offsets.

Invariants: nothing here parses a mail; no database read is open while the socket is written;
large bodies go out in slices under back-pressure, small ones are read many at a time.

Source: RFC 9051 §6.4.5, §7.5.2.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from certs.mime import Outline
from mailserver.imap.commands_messages import BodySection, FetchItem, SectionKind, Simple
from mailserver.imap.connection import SLICE, Connection
from mailserver.imap.responses import FlagText, date_time, email_id, quoted
from mailserver.imap.sections import (
    KNOWN_ENCODINGS,
    Encoded,
    Filtered,
    Place,
    Span,
    Stored,
    decoded,
    locate,
    select_fields,
)
from mailserver.imap.sets import Numbering
from mailserver.imap.shared import Shared, outline_of
from mailserver.imap.view import FolderView
from mailserver.message.index import MessageIndex
from mailserver.store.errors import NoSuchBlobError
from mailserver.store.model import EntryRow, Origin

ROW_BATCH = 1000
"""Messages rendered from memory before the loop is given to others."""
SECTION_BATCH = 250
"""Messages whose sections are read together."""
BATCH_OCTETS = 2 * 1024 * 1024
"""Octets of bodies read together."""
INLINE_OCTETS = 512 * 1024
"""A section larger than this is read and sent in slices of its own."""

RowText = Callable[[EntryRow], bytes]
IndexText = Callable[[MessageIndex], bytes]
OriginText = Callable[[Origin], bytes]

_OF_ORIGIN: dict[Simple, OriginText] = {
    Simple.EMAILID: lambda origin: b"EMAILID (%b)" % email_id(origin.entry_id),
    # None is computed; RFC 8474 §5.2 has NIL for that.
    Simple.THREADID: lambda _origin: b"THREADID NIL",
    Simple.SAVEDATE: lambda origin: (
        b"SAVEDATE NIL" if origin.saved_at is None else b"SAVEDATE " + date_time(origin.saved_at)
    ),
}
_OF_INDEX: dict[Simple, IndexText] = {
    Simple.ENVELOPE: lambda index: b"ENVELOPE " + index.envelope,
    Simple.BODY: lambda index: b"BODY " + index.body,
    Simple.BODYSTRUCTURE: lambda index: b"BODYSTRUCTURE " + index.bodystructure,
}


def row_texts(flags: FlagText) -> dict[Simple, RowText]:
    """Give the items that a row in memory answers."""
    return {
        Simple.FLAGS: lambda row: flags.of(row.flags, row.keywords),
        Simple.UID: lambda row: b"UID %d" % row.uid,
        Simple.INTERNALDATE: lambda row: b"INTERNALDATE " + date_time(row.internal_at),
        Simple.SIZE: lambda row: b"RFC822.SIZE %d" % row.octets,
        Simple.MODSEQ: lambda row: b"MODSEQ (%d)" % row.modseq,
    }


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One section of one message, found; ``None`` is NIL."""

    section: BodySection
    place: Place | None


@dataclass(frozen=True, slots=True)
class _Message:
    number: int
    row: EntryRow
    lead: bytes
    wanted: tuple[_Wanted, ...]

    @property
    def octets(self) -> int:
        return sum(item.place.length for item in self.wanted if item.place is not None)


@dataclass(frozen=True, slots=True)
class _Known:
    """What was read of some messages: indexes and previews by blob, origins by UID."""

    indexes: dict[int, MessageIndex]
    origins: dict[int, Origin]
    previews: dict[int, bytes]


class Fetcher:
    """Renders the messages of one open folder for one connection."""

    def __init__(
        self, shared: Shared, connection: Connection, view: FolderView, naming: Numbering
    ) -> None:
        self._by_uid = naming is Numbering.UID
        self._head = b"* %d UIDFETCH (" if self._by_uid else b"* %d FETCH ("
        self._shared = shared
        self._connection = connection
        self._view = view
        self._row_texts = row_texts(FlagText())
        self.undecoded = 0
        """Messages left out: BINARY was asked of a transfer encoding that is not known."""

    async def run(self, positions: Sequence[int], items: Sequence[FetchItem]) -> int:
        """Write the FETCH responses of these positions.

        Returns:
            How many messages were gone meanwhile and could not be answered.
        """
        sections = [item for item in items if isinstance(item, BodySection)]
        simple = [item for item in items if isinstance(item, Simple)]
        if sections:
            return await self._with_sections(positions, simple, sections)
        if any(item not in self._row_texts for item in simple):
            return await self._from_store(positions, simple)
        await self._from_rows(positions, simple)
        return 0

    async def _from_rows(self, positions: Sequence[int], items: Sequence[Simple]) -> None:
        connection, rows = self._connection, self._view.rows
        texts = [self._row_texts[item] for item in items]
        form = self._head + b"%b)\r\n"
        for at in range(0, len(positions), ROW_BATCH):
            batch = positions[at : at + ROW_BATCH]
            named = zip(self._numbers(batch), batch, strict=True)
            if len(texts) == 1:
                text = texts[0]
                out = [form % (n, text(rows[p])) for n, p in named]
            else:
                out = [form % (n, b" ".join([text(rows[p]) for text in texts])) for n, p in named]
            connection.write(b"".join(out))
            await connection.flush()

    async def _from_store(self, positions: Sequence[int], items: Sequence[Simple]) -> int:
        connection = self._connection
        form = self._head + b"%b)\r\n"
        missing = 0
        for at in range(0, len(positions), ROW_BATCH):
            batch = positions[at : at + ROW_BATCH]
            leads = await self._leads(batch, items)
            named = zip(self._numbers(batch), batch, strict=True)
            out = [form % (n, leads[p]) for n, p in named if p in leads]
            missing += len(batch) - len(out)
            connection.write(b"".join(out))
            await connection.flush()
        return missing

    def _numbers(self, batch: Sequence[int]) -> list[int]:
        """Give the numbers that responses about these positions begin with."""
        if self._by_uid:
            uids = self._view.uids
            return [uids[p] for p in batch]
        return [p + 1 for p in batch]

    async def _leads(self, batch: Sequence[int], items: Sequence[Simple]) -> dict[int, bytes]:
        """Render the items of these positions; those of messages that are gone are left out."""
        rows = [self._view.rows[p] for p in batch]
        indexes: dict[int, MessageIndex] = {}
        origins: dict[int, Origin] = {}
        previews: dict[int, bytes] = {}
        if Simple.PREVIEW in items or any(item in _OF_INDEX for item in items):
            indexes = await self._shared.indexes.get([row.blob_id for row in rows])
        if any(item in _OF_ORIGIN for item in items):
            store = self._shared.store.messages
            origins = await store.origins(self._view.folder.id, [row.uid for row in rows])
        if Simple.PREVIEW in items:
            previews = await self._shared.previews.get(indexes)
        known = _Known(indexes, origins, previews)
        renderers = [self._renderer(item, known) for item in items]
        leads: dict[int, bytes] = {}
        for p, row in zip(batch, rows, strict=True):
            try:
                leads[p] = b" ".join([render(row) for render in renderers])
            except KeyError:
                continue
        return leads

    def _renderer(self, item: Simple, known: "_Known") -> RowText:
        """Give what writes one item of a row; KeyError when the message is gone."""
        if item is Simple.PREVIEW:
            return lambda row: b"PREVIEW " + quoted(known.previews[row.blob_id])
        indexes, origins = known.indexes, known.origins
        of_index, of_origin = _OF_INDEX.get(item), _OF_ORIGIN.get(item)
        if of_index is not None:
            return lambda row: of_index(indexes[row.blob_id])
        if of_origin is not None:
            return lambda row: of_origin(origins[row.uid])
        return self._row_texts[item]

    async def _with_sections(
        self,
        positions: Sequence[int],
        items: Sequence[Simple],
        sections: Sequence[BodySection],
    ) -> int:
        missing = 0
        for at in range(0, len(positions), SECTION_BATCH):
            batch = positions[at : at + SECTION_BATCH]
            messages = await self._locate(batch, items, sections)
            missing += len(batch) - len(messages)
            for group in _groups(messages):
                missing += await self._send(group)
        return missing

    async def _locate(
        self,
        batch: Sequence[int],
        items: Sequence[Simple],
        sections: Sequence[BodySection],
    ) -> list[_Message]:
        rows = [self._view.rows[p] for p in batch]
        store = self._shared.store
        indexes = await self._shared.indexes.get([row.blob_id for row in rows])
        prefixes = await store.messages.prefixes(self._view.folder.id, [row.uid for row in rows])
        leads = await self._leads(batch, items)
        found: list[_Message] = []
        for p, row in zip(batch, rows, strict=True):
            index = indexes.get(row.blob_id)
            prefix = prefixes.get(row.uid)
            if index is None or prefix is None or p not in leads:
                continue
            stored = Stored(prefix, index.header_octets, row.octets - len(prefix), _once(index))
            wanted = tuple(
                _Wanted(section, _cut(section, locate(section, stored))) for section in sections
            )
            if any(_is_unknown(item.place) for item in wanted):
                self.undecoded += 1
                continue
            found.append(_Message(row.uid if self._by_uid else p + 1, row, leads[p], wanted))
        return found

    async def _send(self, messages: Sequence[_Message]) -> int:
        """Send messages whose sections are small, or one whose sections are not."""
        slices: list[tuple[int, int, int]] = []
        for message in messages:
            for item in message.wanted:
                place = item.place
                if place is not None and 0 < place.length <= INLINE_OCTETS:
                    slices.append((message.row.blob_id, place.start, place.length))
        try:
            read = iter(await self._shared.store.blobs.read_many(slices) if slices else ())
        except NoSuchBlobError:
            if len(messages) == 1:
                return 1
            return sum([await self._send([message]) for message in messages])
        for message in messages:
            await self._write(message, read)
        await self._connection.flush()
        return 0

    async def _write(self, message: _Message, read: Iterator[bytes]) -> None:
        connection = self._connection
        connection.write(self._head % message.number)
        separator = b""
        if message.lead:
            connection.write(message.lead)
            separator = b" "
        for item in message.wanted:
            connection.write(separator + _label(item.section))
            separator = b" "
            if item.section.kind is SectionKind.DECODED_SIZE:
                connection.write(b" %d" % await self._size(message.row.blob_id, item.place, read))
            else:
                await self._write_place(message.row.blob_id, item, read)
        connection.write(b")\r\n")
        if connection.full:
            await connection.flush()

    async def _write_place(self, blob_id: int, item: _Wanted, read: Iterator[bytes]) -> None:
        connection, place = self._connection, item.place
        if place is None:
            connection.write(b" NIL")
        elif isinstance(place, Encoded):
            body = _partial(await self._decoded(blob_id, place, read), item.section)
            connection.write(b" ~{%d}\r\n" % len(body))
            connection.write(body)
        elif isinstance(place, Filtered):
            header = next(read) if place.length else b""
            chosen = select_fields(header, item.section) + b"\r\n"
            connection.write(_literal(_partial(chosen, item.section)))
        elif place.length > INLINE_OCTETS:
            await self._stream(blob_id, place)
        else:
            body = next(read) if place.length else b""
            connection.write(b" {%d}\r\n" % place.octets)
            connection.write(place.head)
            connection.write(body)

    async def _size(self, blob_id: int, place: Place | None, read: Iterator[bytes]) -> int:
        """Count what BINARY would give; 0 for a part that is not there."""
        if isinstance(place, Encoded):
            return len(await self._decoded(blob_id, place, read))
        if not isinstance(place, Span):
            return 0
        if 0 < place.length <= INLINE_OCTETS:
            next(read)  # it was read with the others
        return place.octets

    async def _decoded(self, blob_id: int, place: Encoded, read: Iterator[bytes]) -> bytes:
        """Give a part without its transfer encoding; large ones are decoded off the loop."""
        if place.length <= INLINE_OCTETS:
            return decoded(next(read) if place.length else b"", place.encoding)
        pieces = []
        at, end = place.start, place.start + place.length
        while at < end:
            piece = await self._shared.store.blobs.read(blob_id, at, min(SLICE, end - at))
            if not piece:
                raise NoSuchBlobError
            pieces.append(piece)
            at += len(piece)
        return await asyncio.to_thread(decoded, b"".join(pieces), place.encoding)

    async def _stream(self, blob_id: int, span: Span) -> None:
        connection = self._connection
        connection.write(b" {%d}\r\n" % span.octets)
        connection.write(span.head)
        at, end = span.start, span.start + span.length
        while at < end:
            piece = await self._shared.store.blobs.read(blob_id, at, min(SLICE, end - at))
            if not piece:
                # The literal's size was said already: only the end of the connection is true now.
                raise NoSuchBlobError
            connection.write(piece)
            at += len(piece)
            await connection.flush()


def reads_content(items: Sequence[FetchItem]) -> bool:
    """Whether what people wrote is among the items, beyond ENVELOPE (RULES §13)."""
    return any(isinstance(item, BodySection) or item is Simple.PREVIEW for item in items)


def _once(index: MessageIndex) -> Callable[[], Outline]:
    """Decode the outline when it is first asked for, and only once."""
    return lru_cache(maxsize=1)(lambda: outline_of(index))


def _is_unknown(place: Place | None) -> bool:
    return isinstance(place, Encoded) and place.encoding not in KNOWN_ENCODINGS


def _cut(section: BodySection, place: Place | None) -> Place | None:
    if isinstance(place, Span) and section.partial is not None:
        return place.cut(*section.partial)
    return place


def _partial(octets: bytes, section: BodySection) -> bytes:
    if section.partial is None:
        return octets
    first, count = section.partial
    return octets[first : first + count]


def _label(section: BodySection) -> bytes:
    if section.partial is None:
        return section.label
    return b"%b<%d>" % (section.label, section.partial[0])


def _literal(octets: bytes) -> bytes:
    return b" {%d}\r\n%b" % (len(octets), octets)


def _groups(messages: Sequence[_Message]) -> Iterator[list[_Message]]:
    group: list[_Message] = []
    octets = 0
    for message in messages:
        if group and octets + message.octets > BATCH_OCTETS:
            yield group
            group, octets = [], 0
        group.append(message)
        octets += message.octets
    if group:
        yield group
