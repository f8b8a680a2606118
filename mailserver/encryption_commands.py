"""What ``pli encryption`` asks of the process that owns the mail database.

Invariants: a certificate is recorded only when it could be used at once; another one takes its
place only when a person says so and why; each act is in the trail under the name of who did it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from certs.addresses import parse_addr_spec
from certs.cms_envelope import Cipherment
from certs.errors import MalformedAddressError
from certs.names import dn_string
from certs.recipients import Unusable
from directory.trail import AuditEvent
from mailserver.certificates import CertificateJudge
from mailserver.control import Command
from mailserver.errors import CommandError
from mailserver.mailbox_commands import mailbox_event, named_mailbox
from mailserver.store.database import MailStore
from mailserver.store.encryption import RecipientCertificate, Recording

Args = Mapping[str, Any]
_MAX_FILE = 64 * 1024
_MIN_REASON = 10
_REASONS = {
    Unusable.NOT_A_CERTIFICATE: "This file holds no certificate (PEM).",
    Unusable.OTHER_ADDRESS: "This certificate is not of this address.",
    Unusable.KEY: "Only RSA keys of 2048 bits or more can be encrypted for.",
    Unusable.REVOKED: "This certificate is revoked.",
    Unusable.EXPIRED: "This certificate is not valid today.",
    Unusable.UNTRUSTED: "No authority of this site vouches for this certificate's use.",
}


@dataclass(frozen=True, slots=True)
class EncryptionCommands:
    """The commands about encryption."""

    store: MailStore
    certificates: CertificateJudge
    clock: Callable[[], datetime]

    def table(self) -> dict[str, Command]:
        """Give every command by name."""
        return {
            "encryption_record": self.record,
            "encryption_list": self.list,
            "encryption_forget": self.forget,
            "encryption_ask": self.ask,
        }

    async def record(self, args: Args) -> dict[str, Any]:
        """Record the certificate of a recipient."""
        address = _address(args)
        certificate = _read(Path(str(args["path"])))
        der = certificate.public_bytes(Encoding.DER)
        unusable = await self.certificates.judge(der, address)
        if unusable is not None:
            raise CommandError("certificate", _REASONS[unusable])
        reason = str(args.get("reason") or "")
        replaces = bool(args.get("replace"))
        if replaces and len(reason.strip()) < _MIN_REASON:
            raise CommandError("no_reason", "Say why with --reason, in ten characters or more.")
        cipherment = Cipherment.AES_256_GCM if args.get("gcm") else Cipherment.AES_256_CBC
        at = self.clock()
        event = AuditEvent(
            "certificate_replaced" if replaces else "certificate_recorded",
            at,
            str(args.get("actor", "cli")),
            facts={"serial": f"{certificate.serial_number:X}", "reason": reason},
        )
        new = RecipientCertificate(address.lower(), der, cipherment, at)
        if not await self.store.encryption.record(Recording(new, replaces, event)):
            raise CommandError(
                "certificate_differs",
                "Another certificate is recorded for this address: ask its holder by another way, "
                "then use --replace --reason.",
            )
        return _row(new)

    async def list(self, _args: Args) -> list[dict[str, Any]]:
        """List what is recorded, and whether it can be used today."""
        rows = []
        for each in await self.store.encryption.certificates():
            unusable = await self.certificates.judge(each.der, each.address)
            rows.append({**_row(each), "state": "good" if unusable is None else unusable.value})
        return rows

    async def forget(self, args: Args) -> dict[str, Any]:
        """Let go of a recipient's certificate."""
        event = AuditEvent("certificate_forgotten", self.clock(), str(args.get("actor", "cli")))
        if not await self.store.encryption.forget(_address(args), event):
            raise CommandError("no_certificate", "No certificate is recorded for this address.")
        return {"forgotten": True}

    async def ask(self, args: Args) -> dict[str, Any]:
        """Note whether a mailbox asks for encryption."""
        mailbox = await named_mailbox(self.store, _address(args))
        wanted = bool(args["wanted"])
        kind = "encryption_asked" if wanted else "encryption_unasked"
        event = mailbox_event(kind, self.clock(), args, mailbox)
        await self.store.encryption.ask(mailbox.id, event, wanted=wanted)
        return {"encrypts": wanted}


def _address(args: Args) -> str:
    try:
        return parse_addr_spec(str(args["address"])).text
    except MalformedAddressError:
        raise CommandError("bad_address", "This is not an address.") from None


def _read(path: Path) -> x509.Certificate:
    try:
        with path.open("rb") as file:
            return x509.load_pem_x509_certificate(file.read(_MAX_FILE))
    except (OSError, ValueError):
        raise CommandError("certificate", _REASONS[Unusable.NOT_A_CERTIFICATE]) from None


def _row(recorded: RecipientCertificate) -> dict[str, Any]:
    certificate = x509.load_der_x509_certificate(recorded.der)
    return {
        "address": recorded.address,
        "subject": dn_string(certificate.subject),
        "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
        "until": certificate.not_valid_after_utc.isoformat(timespec="seconds"),
        "cipher": recorded.cipherment.value,
    }
