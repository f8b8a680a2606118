"""A mail site with its IMAP server, a record, and the bridge between them, all real."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from certs.anchors import TrustAnchors
from certs.smime import Trust
from certs.tls import PeerIdentity, server_context
from mailserver.delivery.inbound import InboundMessage
from mailserver.imap.server import ImapBind, ImapServices, serve_imap
from mailserver.store.model import EntryRow
from record_bridge.accounting import ReceivedMail
from record_bridge.model import Environment, Opened
from record_bridge.opening import OpenRequest, open_message
from record_bridge.receipts import receipt_of
from record_bridge.repository import create_record
from record_bridge.worker import BridgeSettings, BridgeWorker, StructureInbox
from tests.support.cda import OID_TEST, CdaSpec, PatientSpec, cda
from tests.support.mail_site import APP, DR, PATIENT, SECRET, A, MailSite, World, mail_site
from tests.support.xdm import mail, package

SPEC = PatientSpec(ins=PATIENT.partition("@")[0])
SENDER = f"service@{A}"
DEADLY = b"ZZ-THIS-KILLS-THE-WORKER"


def open_or_die(request: OpenRequest, trust: Trust) -> Opened:
    """What the sandbox runs in the tests of crashes."""
    if DEADLY in request.raw:
        os._exit(9)
    return open_message(request, trust)


def report(number: int, **changes: Any) -> bytes:
    """One CDA of the test patient."""
    values: dict[str, Any] = {
        "unique_id": f"1.2.250.1.213.999.{number}",
        "patients": (SPEC,),
    }
    return cda(CdaSpec(**(values | changes)))


def letter(number: int, *documents: bytes, **more: Any) -> bytes:
    """One message with a package of these documents."""
    return mail(package(*documents), sender=SENDER, to=DR, message_id=f"<m{number}@{A}>", **more)


@dataclass(slots=True)
class BridgeSite:
    """The open site."""

    mail: MailSite
    settings: BridgeSettings
    imaps: int

    async def receive(self, raw: bytes, *to: str) -> str:
        """Take a message from operator A; give its receipt."""
        party = self.mail.world.a
        delivered: Any = await self.mail.services.inbound.accept(
            InboundMessage(
                body=raw,
                octets=len(raw),
                sha256=sha256(raw).digest(),
                reverse_path=SENDER,
                recipients=tuple(self.mail.mailboxes[each] for each in to or (DR,)),
                peer=PeerIdentity(party.dn, "01", "00" * 32, datetime(2030, 1, 1, tzinfo=UTC)),
                at=self.mail.now(),
                helo="smtp.chu-a.test",
            )
        )
        receipt: str = delivered.receipt_id
        return receipt

    async def entries(self, address: str) -> list[EntryRow]:
        """Give the entries of an INBOX."""
        folder = await self.mail.store.folders.get(self.mail.mailboxes[address].id, "INBOX")
        assert folder is not None
        return await self.mail.store.messages.entries(folder.id)

    async def received(self) -> AsyncIterator[ReceivedMail]:
        """The mail side of an audit."""
        for number in range(len(await self.entries(APP))):
            raw = await self.mail.raw(APP, number)
            yield ReceivedMail("cabinet", receipt_of(raw), raw)


async def settled(site: BridgeSite, bridge: BridgeWorker) -> None:
    """Wait until the bridge has done all there is, as ``pli wait --idle`` does."""
    async with asyncio.timeout(20):
        while (
            await site.mail.store.filings.awaiting_outcome()
            or not (await bridge.commands.idle({}))["idle"]
            or not bridge.idle
        ):
            await asyncio.sleep(0.02)


async def register(bridge: BridgeWorker, spec: PatientSpec = SPEC) -> dict[str, Any]:
    """Register the test patient."""
    return await bridge.commands.patient_add(
        {
            "ins": spec.ins,
            "oid": spec.oid,
            "family": spec.family,
            "given": spec.given,
            "birth_date": spec.birth_date,
            "sex": spec.sex,
            "birth_place": spec.birth_place,
            "actor": "test",
        }
    )


async def documents(bridge: BridgeWorker) -> list[dict[str, Any]]:
    """List the test patient's record."""
    return await bridge.commands.record_list({"ins": SPEC.ins, "oid": OID_TEST, "actor": "test"})


@asynccontextmanager
async def running(site: BridgeSite) -> AsyncIterator[BridgeWorker]:
    """Run the bridge until the block ends, gracefully."""
    async with (
        BridgeWorker(site.settings, site.mail.directory) as bridge,
        asyncio.TaskGroup() as group,
    ):
        task = group.create_task(bridge.run())
        try:
            yield bridge
        finally:
            bridge.stop()
            async with asyncio.timeout(15):
                await asyncio.wait([task])


@asynccontextmanager
async def bridge_site(where: World, root: Path) -> AsyncIterator[BridgeSite]:
    """Open a mail site with IMAP, and an empty record beside it."""
    create_record(root / "record.sqlite3")
    async with mail_site(where, root) as opened:
        tls = server_context(where.ours.cert, where.ours.key)
        services = ImapServices(opened.store, opened.now)
        async with serve_imap(services, ImapBind("127.0.0.1", 0, tls, implicit_tls=True)) as imaps:
            pki = where.root / "pki"
            settings = BridgeSettings(
                record=root / "record.sqlite3",
                inboxes=(
                    StructureInbox(
                        "cabinet", APP, SECRET, "127.0.0.1", imaps, "127.0.0.1", opened.submissions
                    ),
                ),
                ca_file=where.ca,
                authserv_id="mail.pli.test",
                environment=Environment.TEST,
                anchors=TrustAnchors.from_pem((pki / "root.pem").read_bytes()),
                crls=pki,
                check_hostname=False,
            )
            yield BridgeSite(opened, settings, imaps)
