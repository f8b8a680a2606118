"""One stored message, opened for people: which part is its text, which are its files.

The tree is the one made at delivery (``certs.mime``): the same that the gate and the bridge saw
(threat S20). Only the parts that are shown are read from the store. A message signed in the
opaque form is opened first; an encrypted one cannot be.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from certs import smime
from certs.errors import CertsError
from certs.mime import decode_body, decode_outline, decode_text, scan
from certs.mime_outline import Outline, Part
from mailserver.message.index import PACKAGE_NAME
from mailserver.store.model import EntryDetail
from mailserver.webmail.sanitise import plain
from mailserver.webmail.services import WebmailServices

MAX_TEXT_PART: Final = 2 * 1024 * 1024
MAX_ATTACHMENTS: Final = 200
_OPAQUE: Final = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_SIGNATURES: Final = frozenset({"application/pkcs7-signature", "application/x-pkcs7-signature"})


class Closed(Enum):
    """Why a message's content cannot be shown."""

    ENCRYPTED = "encrypted"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class ShownAttachment:
    """A file of a message, in a list."""

    number: int
    """Its place among the message's leaf parts; stable, because the message is."""
    name: str
    octets: int
    package: bool


class OpenedMessage:
    """A message whose parts can be read."""

    def __init__(self, services: WebmailServices, detail: EntryDetail) -> None:
        self._services = services
        self._blob_id = detail.row.blob_id
        self._inner: bytes | None = None
        self.outline: Outline = decode_outline(detail.index.outline)
        self.header: Outline = self.outline
        self.closed: Closed | None = None

    @classmethod
    async def open(cls, services: WebmailServices, detail: EntryDetail) -> "OpenedMessage":
        """Open an entry; an opaque signature is taken off, off the event loop."""
        message = cls(services, detail)
        root = message.outline.root
        if root.type not in _OPAQUE:
            return message
        if (root.param("smime-type") or "signed-data").lower() != "signed-data":
            message.closed = Closed.ENCRYPTED
            return message
        raw = await services.store.blobs.read(
            detail.row.blob_id, 0, await services.store.blobs.octets(detail.row.blob_id)
        )
        try:
            if services.sandbox is not None:
                inner = await services.sandbox.run("certs.smime:content", raw)
            else:
                inner = await asyncio.to_thread(smime.content, raw)
        except CertsError:
            message.closed = Closed.UNREADABLE
            return message
        message._inner = bytes(inner)
        message.outline = await asyncio.to_thread(scan, message._inner)
        return message

    def leaves(self) -> Iterator[tuple[int, Part]]:
        """Give the parts that hold something, numbered; a forwarded message is one part."""
        waiting = [self.outline.root]
        number = 0
        while waiting:
            part = waiting.pop()
            if part.is_multipart:
                waiting.extend(reversed(part.children))
                continue
            yield number, part
            number += 1

    def text_part(self, kind: str) -> Part | None:
        """Give the part that is the message's text: ``text/plain`` or ``text/html``, first one."""
        for _, part in self.leaves():
            if part.type == kind and part.disposition != "attachment" and part.filename is None:
                return part
        return None

    def number_of(self, wanted: Part | None) -> int | None:
        """Give a part's number, None for no part."""
        return next((number for number, part in self.leaves() if part is wanted), None)

    def attachments(self) -> list[ShownAttachment]:
        """List the files, signatures and the shown texts left out."""
        texts = {id(self.text_part("text/plain")), id(self.text_part("text/html"))}
        found: list[ShownAttachment] = []
        for number, part in self.leaves():
            if id(part) in texts or part.type in _SIGNATURES or len(found) >= MAX_ATTACHMENTS:
                continue
            name = _name(part, number)
            octets = part.octets * 3 // 4 if part.encoding == "base64" else part.octets
            found.append(
                ShownAttachment(number, name, octets, name.casefold() == PACKAGE_NAME.casefold())
            )
        return found

    async def text_of(self, part: Part) -> tuple[str, bool]:
        """Give a part's text, and whether it was cut at MAX_TEXT_PART octets."""
        octets = min(part.octets, MAX_TEXT_PART)
        raw = await self._read(part.body_start, octets)
        shifted = replace(part, header_start=0, body_start=0, body_end=len(raw))
        text = await asyncio.to_thread(decode_text, raw, shifted)
        return text, octets < part.octets

    async def file(self, number: int) -> tuple[bytes, str] | None:
        """Give one file's octets and the name its sender gave it, or None."""
        for found, part in self.leaves():
            if found == number:
                raw = await self._read(part.body_start, part.octets)
                shifted = replace(part, header_start=0, body_start=0, body_end=len(raw))
                return await asyncio.to_thread(decode_body, raw, shifted), _name(part, number)
        return None

    async def _read(self, start: int, octets: int) -> bytes:
        if self._inner is not None:
            return self._inner[start : start + octets]
        return await self._services.store.blobs.read(self._blob_id, start, octets)


def _name(part: Part, number: int) -> str:
    name = plain(part.filename or "", 150)
    if name:
        return name
    if part.is_message:
        return f"message-{number}.eml"
    if part.type == "text/calendar":
        return "invitation.ics"
    return f"piece-{number}.txt" if part.type.startswith("text/") else f"piece-{number}"
