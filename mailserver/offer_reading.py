"""What ``pli offer`` asks of the mail: the files that came without a package, and one of them.

Only PER and ORG mailboxes whose filing is on, and messages without a package, which is for the
rules (RULES §3). Reading a file is reading its message, and the trail says so (RULES §13).
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from certs.addresses import parse_mailbox
from certs.errors import CertsError
from certs.mime import decode_body
from certs.mime_outline import Outline, Part, decode_outline, find_named, walk
from directory.audit_event import AuditEvent
from directory.codes import MailboxType
from mailserver.control import Command
from mailserver.errors import CommandError
from mailserver.message.index import PACKAGE_NAME
from mailserver.store.database import MailStore
from mailserver.store.model import EntryDetail, Mailbox
from record_bridge.offers import MAX_PACKED, TEXT, may_be_offered
from record_bridge.receipts import receipt_of

Args = Mapping[str, Any]
MAX_MESSAGES: Final = 500
"""Newest messages of each mailbox that are looked through."""
MAX_BODY: Final = 256 * 1024
"""A longer text of a message is not looked through for a list."""
_MAILBOXES: Final = (MailboxType.PER, MailboxType.ORG)


@dataclass(frozen=True, slots=True)
class OfferReading:
    """The mail side of filing by hand."""

    store: MailStore
    clock: Callable[[], datetime]

    def table(self) -> dict[str, Command]:
        """Give every command by name."""
        return {"offer_list": self.list, "offer_read": self.read}

    async def list(self, args: Args) -> list[dict[str, Any]]:
        """List the files of the inboxes that may be filed by hand, newest first; no content."""
        rows = []
        for mailbox in await self.store.accounts.mailboxes():
            if not _files(mailbox) or args.get("mailbox") not in (None, mailbox.address):
                continue
            folder = await self.store.folders.get(mailbox.id, "INBOX")
            if folder is None:
                continue
            newest = await self.store.messages.summaries(folder.id, MAX_MESSAGES)
            uids = [each.row.uid for each in newest if not each.has_package]
            for detail in reversed(await self.store.messages.detail(folder.id, uids)):
                rows += [
                    {
                        "mailbox": mailbox.address,
                        "uid": detail.row.uid,
                        "part": number,
                        "type": part.type,
                        "octets": part.octets,
                        "received_at": detail.row.internal_at.isoformat(),
                    }
                    for number, part in _parts(decode_outline(detail.index.outline))
                    if part.filename or part.type != TEXT or await self._is_letter(detail, part)
                ]
        return rows

    async def read(self, args: Args) -> dict[str, Any]:
        """Give one file with what its message says; the reading is in the trail.

        Raises:
            CommandError: there is no such file, or it is not one that is filed by hand.
        """
        mailbox, detail = await self._found(args)
        outline = decode_outline(detail.index.outline)
        part = dict(_parts(outline)).get(int(args["part"]))
        if part is None:
            raise _NO_SUCH_FILE
        if part.octets > MAX_PACKED:
            raise CommandError("file_too_large", "A file has at most 5 MB.")
        event = AuditEvent(
            "message_read",
            self.clock(),
            str(args["actor"]),
            mailbox.structure_id,
            f"mailbox:{mailbox.id}",
            {"uids": str(detail.row.uid), "via": "cli", "reason": str(args.get("reason") or "")},
        )
        await self.store.audit.record([event])
        raw = await self.store.blobs.read(detail.row.blob_id, part.body_start, part.octets)
        whole = replace(part, header_start=0, body_start=0, body_end=len(raw))
        return {
            "structure": mailbox.structure_id,
            "rpps": mailbox.rpps,
            "content": base64.b64encode(decode_body(raw, whole)).decode("ascii"),
            "name": part.filename or "",
            "subject": outline.text("subject")[:300],
            "codes": outline.text("x-mss-codecda")[:300],
            "receipt": receipt_of(detail.prefix + b"\r\n"),
            "sender": _sender(outline),
            "received_at": detail.row.internal_at.isoformat(),
        }

    async def _is_letter(self, detail: EntryDetail, part: Part) -> bool:
        """Say whether a message's own text ends as HPRIM Médecin text does."""
        if part.octets > MAX_BODY:
            return False
        body = await self.store.blobs.read(detail.row.blob_id, part.body_start, part.octets)
        return b"****FIN" in body

    async def _found(self, args: Args) -> tuple[Mailbox, EntryDetail]:
        mailbox = await self.store.accounts.mailbox(str(args["mailbox"]).lower())
        if mailbox is None or not _files(mailbox):
            raise CommandError(
                "not_filing", "No PER or ORG mailbox of this address whose filing is on."
            )
        folder = await self.store.folders.get(mailbox.id, "INBOX")
        found = []
        if folder is not None:
            found = await self.store.messages.detail(folder.id, [int(args["uid"])])
        if not found:
            raise _NO_SUCH_FILE
        return mailbox, found[0]


_NO_SUCH_FILE = CommandError("no_such_file", "No such file in this INBOX; see 'pli offer list'.")


def _files(mailbox: Mailbox) -> bool:
    return mailbox.filing and mailbox.type in _MAILBOXES


def _parts(outline: Outline) -> Iterator[tuple[int, Part]]:
    """The parts worth looking into, by place; none of a message with a package."""
    if find_named(outline, PACKAGE_NAME):
        return
    for number, part in enumerate(walk(outline)):
        if not part.is_multipart and may_be_offered(part.type, part.filename or ""):
            yield number, part


def _sender(outline: Outline) -> str:
    fields = outline.fields("from")
    if len(fields) != 1:
        return ""
    try:
        return parse_mailbox(fields[0].value).address.text
    except CertsError:
        return ""
