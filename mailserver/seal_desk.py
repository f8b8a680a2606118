"""Signs with the structures' seals, in the process that holds their keys and meets no stranger.

Invariants: only a digest is shown and only a signature comes back, so the keys never leave and no
message comes in; nothing is signed but what the mail database has queued under the id asked for,
lately, with this very digest, under the seal of the mailbox that wrote it; each signature is
logged here before it is given, and in the trail with the message.

Source: RULES §12, RFC 5652 §5.4.
"""

import asyncio
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hmac import compare_digest
from typing import Any

import structlog

from certs.cms_sign import sign_digest
from certs.keystore import KeyStore
from directory.lookup import Directory
from mailserver.control import Command
from mailserver.errors import CommandError
from mailserver.store.database import MailStore

log = structlog.get_logger("mailserver.seal_desk")

FRESH_FOR = timedelta(minutes=10)
"""A request is asked for within moments; an old one is nobody's."""
_NOT_QUEUED = CommandError("not_queued", "No message waits for this signature.")


@dataclass(slots=True)
class SealDesk:
    """Answers requests; ``store`` and ``directory`` are read only."""

    store: MailStore
    directory: Directory
    keystore: KeyStore
    clock: Callable[[], datetime]
    signed: int = 0
    """Signatures given since the start."""

    def table(self) -> dict[str, Command]:
        """Give every command by name."""
        return {"sign": self.sign, "status": self.status}

    async def status(self, _arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Say that the child lives, and what it did."""
        return {"running": True, "signed": self.signed}

    async def sign(self, arguments: Mapping[str, Any]) -> dict[str, str]:
        """Sign one queued message.

        Args:
            arguments: ``id`` of the request, ``sha256`` of the entity in hexadecimal.

        Raises:
            CommandError: no such message is queued.
        """
        number, digest = _request(arguments)
        queued = await self.store.seal_requests.find(number)
        if (
            queued is None
            or not compare_digest(queued.sha256, digest)
            or not timedelta(minutes=-1) < self.clock() - queued.asked_at < FRESH_FOR
        ):
            log.error("seal_refused", item=number)
            raise _NOT_QUEUED
        mailbox = await self.store.accounts.mailbox_by_id(queued.author_id)
        if mailbox is None:
            log.error("seal_refused", item=number)
            raise _NOT_QUEUED
        structure = self.directory.structure(mailbox.structure_id)
        organisation = mailbox.structure_id if structure is None else structure.name

        def work() -> tuple[bytes, int]:
            seal = self.keystore.seal_for(mailbox.address.lower(), organisation)
            return sign_digest(digest, seal), seal.certificate.serial_number

        signature, serial = await asyncio.to_thread(work)
        self.signed += 1
        log.info("message_sealed", item=number, mailbox_id=mailbox.id)
        return {"signature": b64encode(signature).decode("ascii"), "serial": f"{serial:X}"}


def _request(arguments: Mapping[str, Any]) -> tuple[int, bytes]:
    number, digest = arguments.get("id"), arguments.get("sha256")
    if not isinstance(number, int) or not isinstance(digest, str):
        raise _NOT_QUEUED
    try:
        return number, bytes.fromhex(digest)
    except ValueError:
        raise _NOT_QUEUED from None
