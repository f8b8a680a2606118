"""The outbound worker of a test's mail site, and what it is given to send."""

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import replace

from certs.addresses import parse_addr_spec
from certs.tls import operator_context, server_context
from mailserver.delivery.submission import SubmissionMessage, Submitted
from mailserver.message.envelope import PLAIN_MAIL, MailOptions, RecipientOptions
from mailserver.outbound.peer import OutboundSettings
from mailserver.outbound.worker import OutboundWorker
from tests.support.mail_site import DR, A, B, MailSite, Party, message

TO = f"service@{A}"


def worker(
    site: MailSite, port: int, *, b: int = 0, also_a: Iterable[str] = (), **changes: object
) -> OutboundWorker:
    """Make a worker whose only routes are A and its other domains, and B when its port is given."""
    tls = operator_context(
        site.world.client_ca,
        site.world.ours.cert,
        site.world.ours.key,
        crls=site.world.root / "pki",
    )
    routes = dict.fromkeys((A, *also_a), ("127.0.0.1", port)) | (
        {B: ("127.0.0.1", b)} if b else {}
    )
    settings = replace(
        OutboundSettings(routes, tls, "mail.pli.test"),
        **changes,  # type: ignore[arg-type]  # fields a test names
    )
    return OutboundWorker(
        site.store, site.directory, settings, bounces=site.bounces, clock=site.now
    )


def peer_tls(site: MailSite, party: Party) -> ssl.SSLContext:
    """Give an operator's context, which asks for our certificate."""
    return server_context(party.cert, party.key, client_ca=site.world.ca)


async def submit(
    site: MailSite,
    text: str = "bonjour",
    to: str | tuple[str, ...] = TO,
    *,
    options: MailOptions = PLAIN_MAIL,
    wishes: Mapping[str, RecipientOptions] | None = None,
    reverse_path: str = DR,
) -> Submitted:
    """Let the doctor send a message; it must be taken."""
    recipients = (to,) if isinstance(to, str) else to
    outcome = await site.services.submissions.submit(
        SubmissionMessage(
            message(DR, recipients[0], text),
            reverse_path,
            recipients,
            site.mailboxes[DR],
            site.now(),
            "submission",
            options=options,
            wishes={parse_addr_spec(key).key: each for key, each in (wishes or {}).items()},
        )
    )
    assert isinstance(outcome, Submitted)
    return outcome


async def waiting(site: MailSite) -> list[tuple[int, str]]:
    """Give tries and last code of what has not left."""
    return [(item.attempts, item.reply_code[:3]) for item in await site.store.queue.items()]


async def states(site: MailSite, sent: Submitted) -> dict[str, str]:
    """Give where each recipient of a message stands, by local part."""
    found = await site.store.tracking.receipt(sent.receipt_id)
    return {each.address.partition("@")[0]: each.progress.state for each in found}
