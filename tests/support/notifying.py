"""Being told outside, in tests: a relay that takes mail over TLS, a site's worker, its pages."""

import html
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from functools import partial
from pathlib import Path
from typing import Any

from certs.issue import PracticePki
from certs.tls import server_context
from directory.audit_event import AuditEvent
from directory.codes import MailboxType
from mailserver.notify.relay import Relay
from mailserver.notify.texts import Letterhead
from mailserver.notify.worker import Notifier, NotifierSettings, Views
from mailserver.store.database import MailStore
from mailserver.store.model import NewMailbox
from mailserver.store.notify import Confirmation, Marks, Registration, SentCode
from mailserver.webmail.notify_pages import REFUSALS, reminded_lines, shown_documents
from tests.support.capture_peer import CapturePeer, capture
from tests.support.mailsite import AT, PATIENT
from tests.support.webmail import Webmail, token_of

OUTSIDE = "zzcanary.nom@ailleurs.example"
HEAD = Letterhead("prevenir@operateur.example", "https://pli.example/")
HOUR = timedelta(hours=1)
LETTER = (
    b"From: Dr Martin <lab@chu.test>\r\nTo: <%b>\r\nSubject: ZZCANARY\r\n"
    b"Message-ID: <%d@chu.test>\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n\r\nZZCANARY\r\n"
)


@dataclass
class Relaying:
    """A relay that takes mail over TLS, and what is needed to speak to it."""

    folder: Path
    peer: CapturePeer = field(default_factory=CapturePeer)
    port: int = 0

    def relay(self, **other: Any) -> Relay:
        """The relay as the worker speaks to it."""
        values: dict[str, Any] = {
            "host": "localhost", "port": self.port, "implicit_tls": self.peer.implicit_tls,
            "authority": self.folder / "root.pem", "login": None, "ehlo_name": "pli.example",
        }  # fmt: skip
        return Relay(**values | other)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen, on the port of before."""
        context = server_context(self.folder / "server.pem", self.folder / "server.key")
        async with capture(self.peer, context, self.port) as self.port:
            yield

    def texts(self) -> list[str]:
        """What was taken, read as a person's program reads it."""
        read = [message_from_bytes(each.octets, policy=policy.default) for each in self.peer.taken]
        return [each.get_content() for each in read]


def issue(folder: Path) -> Path:
    """Make a practice authority and the relay's certificate; give their folder."""
    at = datetime.now(UTC)
    pki = PracticePki.create(at, "PRATIQUE")
    pki.write(folder, at, pki.issue_server(at, ["localhost"], {"CN": "localhost", "C": "FR"}))
    return folder


def notifier(site: Webmail, relaying: Relaying, **other: Any) -> Notifier:
    """The worker of a site, with a relay."""
    return Notifier(
        site.mail.store,
        NotifierSettings(relaying.relay(**other), HEAD, HOUR),
        views=views(site),
        clock=site.clock,
    )


def views(site: Webmail) -> Views:
    """What the site's people are shown."""
    store, queries = site.mail.store, site.queries
    return Views(
        queries.marks,
        partial(shown_documents, store, queries),
        partial(reminded_lines, store, queries, frozenset()),
    )


async def post(client: Any, path: str, **fields: str) -> str:
    """Send a form of the page, and give what it says then."""
    data = {"csrf": token_of((await client.get("/prevenir")).text)} | fields
    answer = await client.post(path, data=data)
    if answer.status_code == 422:
        shown = html.unescape(answer.text)
        assert 'role="alert"' in shown
        for name, typed in fields.items():  # an address that is confirmed asks for no code
            assert f'value="{typed}"' in shown or f'name="{name}"' not in shown
        return next(word for word, text in REFUSALS.items() if text in shown)
    assert answer.status_code == 303
    return re.split(r"\?(?:dit|refus)=", answer.headers["location"])[1]


def code_in(text: str) -> str:
    """The code of a message."""
    found = re.search(r"(?m)^([A-Z2-9]{5} [A-Z2-9]{5})\r?$", text)
    assert found is not None
    return found[1]


async def subscribe(site: Webmail, relaying: Relaying, login: str = "patient") -> Notifier:
    """Register and confirm an address through the pages, and forget what the relay took."""
    worker = notifier(site, relaying)
    async with site.signed_in(login) as client:
        assert await post(client, "/prevenir", address=OUTSIDE) == "envoye"
        await worker.look()
        code = code_in(relaying.texts()[-1])
        assert await post(client, "/prevenir/confirmer", code=code) == "confirme"
    relaying.peer.taken.clear()
    return worker


async def receive(site: Webmail, number: int = 1, address: str = PATIENT) -> None:
    """Let a message come in."""
    before = len(await site.mail.inbox(address))
    await site.mail.receive(LETTER % (address.encode(), number), address)
    assert len(await site.mail.inbox(address)) == before + 1


async def mailbox_id(site: Webmail, address: str = PATIENT) -> int:
    """The key of a mailbox."""
    return (await site.mail.mailbox(address)).id


class Asking:
    """A worker, and whom it asks about."""

    def __init__(self, site: Webmail, relaying: Relaying) -> None:
        self.site = site
        self.asked: list[int] = []
        settings = NotifierSettings(relaying.relay(), HEAD, timedelta(0))
        asked = replace(views(site), shown=self.shown)
        self.worker = Notifier(site.mail.store, settings, views=asked, clock=site.clock)

    async def shown(self, mailbox: int) -> frozenset[int]:
        self.asked.append(mailbox)
        """Note who is asked about, and ask."""
        return await shown_documents(self.site.mail.store, self.site.queries, mailbox)

    async def look(self) -> list[int]:
        """Go round once, and give whom it asked about."""
        self.asked.clear()
        await self.worker.look()
        return list(self.asked)


async def confirm(store: MailStore, mailbox: int, at: datetime) -> None:
    """Give a mailbox an address that is confirmed, as its page does."""
    event = AuditEvent("notify_asked", at, "account:1")
    assert await store.notify.register(Registration(mailbox, OUTSIDE, 5, event))
    row = await store.notify.find(mailbox)
    assert row is not None
    await store.notify.keep_code(SentCode(row, b"code", at + HOUR))
    marks = Marks(0, frozenset())
    assert await store.notify.confirm(Confirmation(mailbox, b"code", 1, marks, event))


async def settle_in(site: Webmail, many: int) -> list[int]:
    """Give so many more people an address that is confirmed."""
    store, found = site.mail.store, []
    for number in range(many):
        mailbox = await store.accounts.add_mailbox(
            NewMailbox(f"{number}@patient.mssante.test", MailboxType.PAT, "cabinet", "", None,
                       True, AT)
        )  # fmt: skip
        await confirm(store, mailbox.id, AT)
        found.append(mailbox.id)
    return found
