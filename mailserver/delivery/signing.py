"""How a submitted message is signed: by asking the process that holds the structures' seals.

Invariants: this process has no seal's key; what is to be signed is queued by its digest and
committed before it is asked for; a message that its author signed or encrypted is left as it is,
and one for an operator that cannot take signed mail leaves without the seal.

Source: RULES §12, RFC 8551 §3.5.3, DESIGN §2.
"""

import asyncio
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from certs import smime
from certs.addresses import Address
from certs.verdict import NO_SIGNATURE, PathStatus, PathVerdict, SignatureVerdict
from directory.trail import AuditEvent
from mailserver.delivery.errors import Refused
from mailserver.delivery.prepare import Prepared, Workers, judge, look_inside, prepare
from mailserver.store.database import MailStore
from mailserver.store.model import Mailbox
from mailserver.store.seal_requests import SealRequest

AskSeal = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, str]]]
"""Asks the seal process: ``id`` and ``sha256`` in, ``signature`` and ``serial`` out."""


class NoSealError(Exception):
    """The seal process does not answer: the client must come again."""

    def __init__(self) -> None:
        super().__init__("the seal process does not answer")


@dataclass(frozen=True, slots=True)
class Signed:
    """A message in the form in which it leaves, what its signature says, and what that cost."""

    message: Prepared
    verdict: SignatureVerdict
    events: tuple[AuditEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class Signing:
    """Signs and prepares messages.

    Attributes:
        store: where requests are queued.
        ask: reaches the seal process.
        authserv_id: for the cuts of ``prepare``.
        workers: open what a client signed itself; None where nothing is opened.
    """

    store: MailStore
    ask: AskSeal
    authserv_id: str
    workers: Workers | None

    async def seal(
        self, raw: bytes, author: tuple[Address, Mailbox], at: datetime
    ) -> Signed | Refused:
        """Sign with the seal of the author's mailbox, unless the client signed or encrypted.

        Raises:
            NoSealError: there is no signature to be had now.
        """
        address, mailbox = author
        unsigned = await asyncio.to_thread(smime.to_sign, raw)
        if unsigned is None:
            return await self._as_written(raw, at)
        number = await self.store.seal_requests.add(SealRequest(unsigned.sha256, mailbox.id, at))
        try:
            answer = await self.ask({"id": number, "sha256": unsigned.sha256.hex()})
        except OSError:
            # No ConnectionError may leave here: it would pass for the end of the client's own.
            raise NoSealError from None
        signature = b64decode(answer["signature"], validate=True)
        ready = await asyncio.to_thread(
            lambda: prepare(smime.assemble(unsigned, signature), self.authserv_id)
        )
        if isinstance(ready, Refused):
            return ready
        event = AuditEvent(
            kind="message_sealed",
            at=at,
            actor="seal",
            structure_id=mailbox.structure_id,
            subject=f"mailbox:{mailbox.id}",
            facts={"request": number, "serial": answer["serial"]},
        )
        return Signed(ready, _own_verdict(address, at), (event,))

    async def leave_unsigned(self, raw: bytes) -> Signed | Refused:
        """Prepare a message for a destination that gets no seal."""
        ready = await asyncio.to_thread(prepare, raw, self.authserv_id)
        return ready if isinstance(ready, Refused) else Signed(ready, NO_SIGNATURE)

    async def _as_written(self, raw: bytes, at: datetime) -> Signed | Refused:
        ready = await asyncio.to_thread(prepare, raw, self.authserv_id)
        if isinstance(ready, Refused) or self.workers is None:
            return ready if isinstance(ready, Refused) else Signed(ready, NO_SIGNATURE)
        ready = await look_inside(ready, self.workers)
        return Signed(ready, await judge(ready, self.workers.verify, at))


def _own_verdict(author: Address, at: datetime) -> SignatureVerdict:
    """The verdict on what this server has just signed with a seal it issued."""
    return SignatureVerdict(
        present=True,
        intact=True,
        valid=True,
        path=PathVerdict(PathStatus.TRUSTED, at),
        matches_from=True,
        signer_names=(author.key,),
    )
