"""The previews of stored messages, read when they are first asked for.

Invariants: a preview belongs to a blob and never changes; the cache is bounded; whoever asks got
the blob from an entry of a folder that the session opened (threat I6).

Source: RFC 8970 §3.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

from certs.mime import Part, decode_outline
from mailserver.message.index import MessageIndex
from mailserver.message.preview import READ_OCTETS, preview, shown_part
from mailserver.store.blobs import Blobs
from mailserver.store.errors import NoSuchBlobError

CACHE_PREVIEWS = 20_000
"""About 10 MB."""
BATCH = 100
"""Parts read together."""


class PreviewCache:
    """Previews by blob, the first known dropped first."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._known: OrderedDict[int, bytes] = OrderedDict()

    async def get(self, indexes: dict[int, MessageIndex]) -> dict[int, bytes]:
        """Give the previews of these blobs in UTF-8; those that are gone are left out."""
        found: dict[int, bytes] = {}
        missing: list[int] = []
        for blob_id in indexes:
            known = self._known.get(blob_id)
            if known is None:
                missing.append(blob_id)
            else:
                found[blob_id] = known
        for at in range(0, len(missing), BATCH):
            batch = missing[at : at + BATCH]
            try:
                fresh = await self._read(batch, indexes)
            except NoSuchBlobError:
                fresh = {}
                for blob_id in batch:
                    fresh |= await self._read_one(blob_id, indexes)
            found |= fresh
            self._keep(fresh)
        return found

    async def _read_one(self, blob_id: int, indexes: dict[int, MessageIndex]) -> dict[int, bytes]:
        try:
            return await self._read([blob_id], indexes)
        except NoSuchBlobError:
            return {}

    async def _read(
        self, batch: Sequence[int], indexes: dict[int, MessageIndex]
    ) -> dict[int, bytes]:
        outlines = ((blob_id, decode_outline(indexes[blob_id].outline)) for blob_id in batch)
        shown = {
            blob_id: part
            for blob_id, outline in outlines
            if (part := shown_part(outline)) is not None and part.octets
        }
        slices = [
            (blob_id, part.body_start, min(part.octets, READ_OCTETS))
            for blob_id, part in shown.items()
        ]
        bodies = await self._blobs.read_many(slices) if slices else []
        texts = await asyncio.to_thread(_texts, list(shown.values()), bodies)
        return dict.fromkeys(batch, b"") | dict(zip(shown, texts, strict=True))

    def _keep(self, fresh: dict[int, bytes]) -> None:
        self._known.update(fresh)
        while len(self._known) > CACHE_PREVIEWS:
            self._known.popitem(last=False)


def _texts(parts: Sequence[Part], bodies: Sequence[bytes]) -> list[bytes]:
    return [
        preview(body, part).encode("utf-8", "replace")
        for part, body in zip(parts, bodies, strict=True)
    ]
