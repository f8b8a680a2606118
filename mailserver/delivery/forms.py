"""In which form a submitted message leaves for whom: sealed, without the seal, or encrypted too.

Invariants: mailboxes of this site get the sealed form; each recipient for whom a message is
encrypted gets a body of its own, which names no other (RULES §11); a recorded certificate that
cannot be used now refuses the message, it never leaves in the clear instead (threat C14).

Source: RULES §12, RFC 8551 §3.7.
"""

import asyncio
from dataclasses import dataclass
from enum import Enum

from cryptography import x509

from certs import smime_encrypt
from mailserver.delivery import errors
from mailserver.delivery.destinations import Destinations
from mailserver.delivery.errors import Refused
from mailserver.delivery.prepare import JudgeCertificate, prepare
from mailserver.delivery.signing import Signed
from mailserver.store.encryption import Encryption, RecipientCertificate
from mailserver.store.model import Mailbox, NewOutgoing


class Plainly(Enum):
    """Forms that are not encrypted."""

    SEALED = "sealed"
    UNSIGNED = "unsigned"


@dataclass(frozen=True, slots=True)
class Part:
    """Recipients who get a message in one form."""

    to: Destinations
    form: Plainly | RecipientCertificate


@dataclass(frozen=True, slots=True)
class Forms:
    """Decides forms.

    Attributes:
        encryption: recorded certificates and wishes.
        judge: judges a certificate now; None where nothing is encrypted.
        unsigned: domains to which mail leaves without the seal.
    """

    encryption: Encryption
    judge: JudgeCertificate | None
    unsigned: frozenset[str]

    async def parts(self, sender: Mailbox, found: Destinations) -> list[Part] | Refused:
        """Part the recipients of a message by form; sealed ones first, none empty."""
        wanted = self.judge is not None and await self.encryption.wants(sender.id)
        sealed: list[NewOutgoing] = []
        unsigned: list[NewOutgoing] = []
        encrypted: list[Part] = []
        for each in found.remote:
            known = await self.encryption.certificate(each.forward_path) if wanted else None
            if known is not None and self.judge is not None:
                if await self.judge(known.der, each.forward_path) is not None:
                    return Refused(errors.CERTIFICATE_UNUSABLE)
                encrypted.append(Part(Destinations((), (each,)), known))
            else:
                (unsigned if each.domain in self.unsigned else sealed).append(each)
        parts = [
            Part(Destinations(found.local, tuple(sealed)), Plainly.SEALED),
            Part(Destinations((), tuple(unsigned)), Plainly.UNSIGNED),
        ]
        return [part for part in parts if part.to.addresses] + encrypted


async def encrypt(
    signed: Signed, recipient: RecipientCertificate, authserv_id: str
) -> Signed | Refused:
    """Encrypt a signed message for one recipient."""
    certificate = x509.load_der_x509_certificate(recipient.der)
    raw = signed.message.raw
    ready = await asyncio.to_thread(
        lambda: prepare(smime_encrypt.encrypt(raw, certificate, recipient.cipherment), authserv_id)
    )
    return ready if isinstance(ready, Refused) else Signed(ready, signed.verdict, signed.events)
