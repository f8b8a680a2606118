"""The mail child: SMTP, submission, IMAP, the outbound queue and the webmail in one event loop.

Invariants: it holds the site's mail lock, so it is the one writer of the mail and directory
databases; listeners start last and stop first.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import structlog

from certs.addresses import Mailbox as Person
from certs.addresses import parse_addr_spec
from certs.cms_sign import Signer, sign_opaque
from certs.crl_cache import CrlCache
from certs.keystore import KeyStore
from certs.sandbox import SandboxPool, Shared
from certs.smime import Trust
from certs.tls import client_context, operator_context, server_context
from certs.verdict import SignatureVerdict
from directory.lookup import Directory
from directory.refresh import REFRESH_INTERVAL_S, tell
from mailserver.background import Background, every
from mailserver.certificates import CertificateJudge
from mailserver.commands import MailCommands
from mailserver.control import call, serve_control, sole_owner
from mailserver.databases import now, open_directory, open_store
from mailserver.delivery.bounce import Bounces
from mailserver.delivery.inbound import DeliverySettings, Inbound
from mailserver.delivery.prepare import Documents, Workers
from mailserver.delivery.submission import Submissions
from mailserver.errors import SiteError
from mailserver.fairness import Fairness
from mailserver.imap.server import ImapBind, ImapLimits, ImapServices, serve_imap
from mailserver.installation import mail_service
from mailserver.login_authorities import client_authority, token_issuer
from mailserver.notify.worker import Views
from mailserver.notifying import notifier
from mailserver.outbound.peer import OutboundSettings
from mailserver.outbound.resolver import DnsResolver, NameServer
from mailserver.outbound.worker import OutboundWorker
from mailserver.practice import refuse_practice
from mailserver.revocations import LOOK_EVERY_S, Revocations
from mailserver.sealing import Sealer, trail_public_key
from mailserver.search_indexer import READ_MESSAGE, READ_PLAINLY, SearchIndexer
from mailserver.settings import Settings, Site
from mailserver.smtp.handler import SmtpServices
from mailserver.smtp.listener import SmtpBind, serve_smtp, serve_submission
from mailserver.smtp.room import Room
from mailserver.store.database import MailStore
from mailserver.trust_commands import TrustCommands
from mailserver.webmail.http import (
    WebBind,
    WebmailServices,
    WebmailSettings,
    build_app,
    serve_web,
)
from mailserver.webmail.notify_pages import reminded_lines, shown_documents
from record_bridge.queries import RecordQueries

log = structlog.get_logger("mailserver.mail_process")

POOL_SIZE = 2
VERIFY = "certs.smime:verify_at"
OPEN_OPAQUE = "certs.smime:content"
COUNT_DOCUMENTS = "record_bridge.opening:count_occurrences"
READ_MARKS = "record_bridge.formats.marks:package_marks"
EXAMINE = "record_bridge.opening:examine"
READ_HL7 = "mailserver.hl7_mail:to_order"
READ_DOCUMENT = "mailserver.webmail.narrative:read_document"
POOL_FUNCTIONS = (VERIFY, OPEN_OPAQUE, COUNT_DOCUMENTS, EXAMINE, READ_MARKS, READ_DOCUMENT)
FORGET_EVERY_S = 24 * 3600.0
FORGET_SENT_AFTER = timedelta(days=30)
RENEW_EVERY_S = 600.0
LATE_AFTER = timedelta(minutes=15)
LATE_EVERY_S = 60.0
LOOPBACK = frozenset({"127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the listeners are built from."""

    site: Site
    settings: Settings
    store: MailStore
    directory: Directory
    inbound: Inbound
    submissions: Submissions
    queries: RecordQueries
    pool: SandboxPool
    keystore: KeyStore
    outbound_tls: ssl.SSLContext
    fairness: Fairness
    room: Room


class SignatureWorkers:
    """Strangers' bytes, each opened in the pool with the anchors and lists in force."""

    def __init__(self, pool: SandboxPool, keystore: KeyStore) -> None:
        self._pool = pool
        self._anchors = keystore.anchors()
        self._lists = CrlCache(keystore.crls)
        self._trust: Shared | None = None

    async def renew(self) -> None:
        """Take the revocation lists as they are now."""
        await asyncio.to_thread(self._lists.refresh)
        self._trust = Shared(Trust(self._anchors, self._lists.current(now())))

    async def verify(self, raw: bytes, at: datetime) -> SignatureVerdict:
        """Judge the S/MIME signature of a whole message."""
        if self._trust is None:
            await self.renew()
        verdict: SignatureVerdict = await self._pool.run(VERIFY, raw, self._trust, at)
        return verdict

    async def examine(self, raw: bytes, at: datetime) -> tuple[SignatureVerdict, int]:
        """Judge the signature and count the documents of a whole message."""
        if self._trust is None:
            await self.renew()
        found: tuple[SignatureVerdict, int] = await self._pool.run(EXAMINE, raw, self._trust, at)
        return found

    async def open_opaque(self, raw: bytes) -> bytes:
        """Give the content of an opaque signature."""
        content: bytes = await self._pool.run(OPEN_OPAQUE, raw)
        return content

    async def read_marks(self, raw: bytes) -> Documents:
        """Give the X-MSS fields that a message's packages call for, and whether of one patient."""
        marks: Documents = await self._pool.run(READ_MARKS, raw)
        return marks

    async def count_documents(self, raw: bytes) -> int:
        """Count the documents that a message's packages list."""
        count: int = await self._pool.run(COUNT_DOCUMENTS, raw)
        return count


@asynccontextmanager
async def mail_process(site: Site, settings: Settings) -> AsyncIterator[dict[str, int]]:
    """Run the mail child until the block ends; give its listeners' ports."""
    async with AsyncExitStack() as stack:
        stack.enter_context(sole_owner(site.run / "mail.lock"))
        parts, tasks = await _build(stack, site, settings)
        if settings.trust.url:
            trust = TrustCommands(site, settings, parts.store, parts.directory, now)
            tasks.start(every(settings.trust.fetch_hours * 3600, trust.fetch, "fetch"))
        commands = MailCommands(site, settings, parts.store, parts.directory, now)
        await stack.enter_async_context(serve_control(site.run / "mail.sock", commands.table()))
        smtp_tls = server_context(
            parts.keystore.server_cert,
            parts.keystore.server_key,
            client_ca=site.peers_ca,
            crls=parts.keystore.crls,
        )
        authority = client_authority(site)
        client_tls = server_context(
            parts.keystore.server_cert,
            parts.keystore.server_key,
            client_ca=authority,
            crls=None if authority is None else parts.keystore.crls,
        )
        contexts = (smtp_tls, parts.outbound_tls, *((client_tls,) if authority else ()))
        authorities = (site.peers_ca, *((authority,) if authority else ()))
        revocations = Revocations(parts.keystore, authorities, contexts, now)
        tasks.start(every(LOOK_EVERY_S, revocations.renew, "revocations"))
        ports = await _open_hl7_doors(stack, parts, tasks) if settings.hl7v2 else {}
        yield {**ports, **await _listen(stack, parts, smtp_tls, client_tls)}
        log.info("mail_stopping")


async def _build(
    stack: AsyncExitStack, site: Site, settings: Settings
) -> tuple[_Parts, Background]:
    await asyncio.to_thread(refuse_practice, site, settings)
    keystore = KeyStore(site.pki, clock=now)
    directory = await stack.enter_async_context(
        await open_directory(site, settings, read_only=False)
    )
    store = await stack.enter_async_context(await open_store(site, read_only=False))
    functions = (*POOL_FUNCTIONS, READ_HL7) if settings.hl7v2 else POOL_FUNCTIONS
    pool = await stack.enter_async_context(SandboxPool(POOL_SIZE, functions=functions))
    workers = SignatureWorkers(pool, keystore)
    await workers.renew()
    delivery = DeliverySettings(
        authserv_id=settings.authserv_id,
        host=settings.host,
        operator_domain=settings.operator_domain,
        nil=settings.nil,
        patient_domains=frozenset(map(str.lower, settings.outbound.patient_domains)),
        unsigned_domains=frozenset(map(str.lower, settings.outbound.unsigned)),
    )
    opening = Workers(
        workers.verify, workers.open_opaque, workers.count_documents, workers.read_marks
    )
    queries = await RecordQueries.open(site.record_database)
    stack.push_async_callback(queries.close)
    bounces = Bounces(store, delivery)
    parts = _Parts(
        site=site,
        settings=settings,
        store=store,
        directory=directory,
        inbound=Inbound(
            store,
            directory,
            delivery,
            replace(opening, examine=workers.examine),
            bounces.arrived,
        ),
        submissions=Submissions(
            store,
            directory,
            partial(call, site.seal_socket, "sign"),
            delivery,
            workers=replace(opening, judge_certificate=CertificateJudge(keystore, now).judge),
            tell=bounces.arrived,
        ),
        queries=queries,
        pool=pool,
        keystore=keystore,
        outbound_tls=operator_context(
            site.peers_ca, keystore.server_cert, keystore.server_key, crls=keystore.crls
        ),
        fairness=Fairness(settings.fair_use.limits(), time.monotonic),
        room=Room(),
    )
    tasks = await stack.enter_async_context(Background())
    tell(directory.adoption.outcome)
    tasks.start(every(REFRESH_INTERVAL_S, partial(_refresh_trust, directory), "trust"))
    sealer = Sealer(
        lambda sealing: store.audit.seal(sealing.at, sealing.sign),
        site.trail_key,
        site.roots / "mail.jsonl",
    )
    tasks.start(sealer.run())
    tasks.start(every(FORGET_EVERY_S, partial(_forget, store), "forget"))
    tasks.start(every(RENEW_EVERY_S, workers.renew, "renew"))
    tasks.start(every(LATE_EVERY_S, lambda: watch_bridge(store, now()), "late"))
    tasks.start(_outbound(parts, bounces).run())
    if settings.notify is not None:
        _notify(parts, tasks)
    readers = await stack.enter_async_context(
        SandboxPool(1, functions=(READ_MESSAGE, READ_PLAINLY))
    )
    tasks.start(SearchIndexer(store, readers.run).run())
    return parts, tasks


async def _refresh_trust(directory: Directory) -> None:
    tell(await directory.refresh_trust(now()))


def _notify(parts: _Parts, tasks: Background) -> None:
    """Start telling people; what is wrong with it never keeps mail from being served."""
    shown = partial(shown_documents, parts.store, parts.queries)
    off = frozenset(parts.settings.prevention_off)
    agenda = partial(reminded_lines, parts.store, parts.queries, off)
    views = Views(parts.queries.marks, shown, agenda)
    try:
        worker = notifier(parts.site, parts.settings, parts.store, views, now)
    except SiteError:
        log.exception("notify_unusable", phase="start")  # `pli check` says why
        return
    tasks.start(worker.run())


def _outbound(parts: _Parts, bounces: Bounces) -> OutboundWorker:
    settings = parts.settings
    limits = settings.outbound
    name_servers = tuple(NameServer(*each) for each in limits.name_server_targets())
    return OutboundWorker(
        parts.store,
        parts.directory,
        OutboundSettings(
            routes=settings.route_targets(),
            tls=parts.outbound_tls,
            ehlo_name=settings.host,
            schedule_s=limits.retry_s,
            give_up_after=timedelta(hours=limits.give_up_hours),
            notice_after=timedelta(hours=limits.delay_notice_hours),
            jitter=limits.jitter,
            connections=limits.connections,
            per_domain=limits.per_domain,
            resolver=DnsResolver(name_servers, settings.host),
        ),
        bounces=bounces,
        clock=now,
    )


async def _listen(
    stack: AsyncExitStack, parts: _Parts, smtp_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> dict[str, int]:
    """Start every listener; the webmail first, SMTP last."""
    settings, keystore = parts.settings, parts.keystore
    tokens = token_issuer(parts.site, settings)
    loopback = LOOPBACK if settings.plaintext_on_loopback else frozenset()
    ports: dict[str, int] = {}
    server = Signer.from_pem(keystore.server_cert.read_bytes(), keystore.server_key.read_bytes())

    web = build_app(
        WebmailServices(
            parts.store,
            parts.directory,
            parts.queries,
            parts.submissions,
            partial(call, parts.site.run / "bridge.sock"),
            now,
            WebmailSettings(
                settings.host,
                settings.authserv_id,
                mail_service(settings),
                partial(sign_opaque, signer=server),
                trail_public_key(parts.site.trail_key),
                settings.patient_session_minutes,
                frozenset(settings.prevention_off),
                notifies=settings.notify is not None,
                alsace_moselle=frozenset(settings.alsace_moselle),
            ),
            sandbox=parts.pool,
            fairness=parts.fairness,
        )
    )
    ports["https"] = await stack.enter_async_context(
        serve_web(
            web,
            WebBind(settings.listen, settings.ports.https),
            keystore.server_cert,
            keystore.server_key,
        )
    )
    imap = ImapServices(parts.store, now, parts.fairness, tokens)
    for name, implicit in (("imap", False), ("imaps", True)):
        ports[name] = await stack.enter_async_context(
            serve_imap(
                imap,
                ImapBind(
                    settings.listen,
                    getattr(settings.ports, name),
                    client_tls,
                    implicit_tls=implicit,
                    plaintext_login_from=loopback,
                    limits=ImapLimits(quota_octets=settings.limits.mailbox_bytes),
                ),
            )
        )
    smtp = SmtpServices(
        parts.store,
        parts.directory,
        parts.inbound,
        parts.submissions,
        now,
        fairness=parts.fairness,
        tokens=tokens,
    )
    for name, implicit in (("submission", False), ("submissions", True)):
        bind = _smtp_bind(parts, getattr(settings.ports, name), client_tls, loopback)
        ports[name] = await stack.enter_async_context(
            serve_submission(smtp, bind, implicit_tls=implicit)
        )
    ports["smtp"] = await stack.enter_async_context(
        serve_smtp(smtp, _smtp_bind(parts, settings.ports.smtp, smtp_tls, frozenset()))
    )
    return ports


async def _open_hl7_doors(
    stack: AsyncExitStack, parts: _Parts, tasks: Background
) -> dict[str, int]:
    """Open the door of each structure's own software; give the ports of those that listen."""
    # Imported here: an extra, which sites without such a door do not install.
    from mailserver.hl7_acknowledging import Acknowledging, AckTarget  # noqa: PLC0415
    from mailserver.hl7_intake import Folder, Intake, IntakeParts, serve_mllp  # noqa: PLC0415
    from mailserver.hl7_mail import Door, source_id  # noqa: PLC0415

    settings, site = parts.settings, parts.site
    ports: dict[str, int] = {}
    for structure_id, door in settings.hl7v2.items():
        structure = parts.directory.structure(structure_id)
        if structure is None:
            log.error("hl7_door_of_nobody", structure_id=structure_id)
            continue
        address = parse_addr_spec(structure.application_address)
        folder = None if door.folder is None else Path(door.folder)
        way_back = door.acknowledge_address()
        acks = parts.store.business_acks if way_back or folder else None
        intake = Intake(
            IntakeParts(
                Door(
                    Person(structure.name, address),
                    structure.patient_domain,
                    source_id(address.domain),
                ),
                parts.submissions,
                partial(parts.store.accounts.mailbox, address.key),
                partial(parts.pool.run, READ_HL7),
                now,
                None if acks is None else acks.keep,
            )
        )
        if acks is not None:
            back_tls = None
            if way_back is not None and way_back[0] not in LOOPBACK:
                back_tls = client_context(
                    site.hl7_ca, parts.keystore.server_cert, parts.keystore.server_key
                )
            target = AckTarget(structure_id, way_back, back_tls, folder)
            tasks.start(Acknowledging(acks, target, now).run())
        if folder is not None:
            tasks.start(Folder(folder, intake).run())
        if door.port is not None:
            tls = None
            if settings.listen not in LOOPBACK:
                tls = server_context(
                    parts.keystore.server_cert, parts.keystore.server_key, client_ca=site.hl7_ca
                )
            ports[f"hl7v2 {structure_id}"] = await stack.enter_async_context(
                serve_mllp(intake, (settings.listen, door.port), tls)
            )
    return ports


def _smtp_bind(
    parts: _Parts, port: int, tls: ssl.SSLContext, plaintext: frozenset[str]
) -> SmtpBind:
    settings = parts.settings
    return SmtpBind(
        settings.listen,
        port,
        tls,
        settings.host,
        size_limit=settings.limits.max_message_bytes,
        max_recipients=settings.limits.max_recipients,
        max_connections=settings.limits.max_connections,
        fairness=parts.fairness,
        room=parts.room,
        plaintext_login_from=plaintext,
        spool_directory=parts.site.data,
    )


async def _forget(store: MailStore) -> None:
    """Let go of what is over: old retry keys, queue rows, expunges, acknowledgements."""
    await store.messages.forget_keys(now())
    await store.messages.forget_expunged()
    await store.outbox.forget(now() - FORGET_SENT_AFTER)
    await store.seal_requests.forget(now() - FORGET_SENT_AFTER)
    await store.notify.forget(now())
    given_up = await store.business_acks.give_up_old(now())
    if given_up:
        log.warning("business_acks_given_up", count=given_up)
    await store.business_acks.forget(now())


async def watch_bridge(store: MailStore, at: datetime) -> None:
    """Raise an alarm when mail waits for the bridge for a quarter of an hour (RULES §7).

    Patients do not see what is held until the bridge has spoken; nobody else would notice.
    """
    late = await store.filings.awaiting_outcome(at - LATE_AFTER)
    if late:
        log.error("bridge_late", count=late)
