"""Many clients doing everything at once on one mailbox, each checked against the model.

What they send overlaps as it comes. ``run`` gives the faults seen: none on a correct server.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.imap_model import ANSWERED, Fault, Violation
from tests.support.imap_replies import read
from tests.support.imap_site import ImapSite
from tests.support.imap_stress_client import FOLDERS, Client, Load, Stress, Style

PUSH_S = 10.0
"""A change that an idle client does not hear of for so long is not pushed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run saw."""

    violations: list[Violation]
    commands: Counter[str]
    seconds: float
    messages: int

    @property
    def faults(self) -> frozenset[Fault]:
        """The kinds of fault seen."""
        return frozenset(violation.fault for violation in self.violations)


async def run(site: ImapSite, load: Load) -> Outcome:
    """Let clients work, then look at everything once more."""
    stress = Stress(site, load)
    styles = list(Style)
    clients = [Client(stress, n, styles[n % 3]) for n in range(load.clients)]
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client.live(began + load.seconds))
    took = loop.time() - began
    if not stress.world.violations:
        last = Client(stress, load.clients, Style.CONDSTORE)
        await last.connect()
        await settle(last)
        await pushed(clients, last)
        last.wire.abort()
    for client in clients:
        client.wire.abort()
    return Outcome(stress.world.violations, stress.commands, took, stress.tokens)


async def pushed(clients: Sequence[Client], writer: Client) -> None:
    """Every client idles, one changes something: all are told at once, and see the same."""
    await writer.select("INBOX")
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client.select("INBOX"))
    tags = []
    for client in clients:
        client.opened.begin(may_expunge=True)
        tags.append(client.start("IDLE"))
        await client.wire.line()
    uid = writer.some(1)[0]
    writes = writer.world.write(writer.opened.folder, [uid], ANSWERED, value=True)
    writer.passed(await writer.run(f"UID STORE {uid} +FLAGS ({ANSWERED} pushed)"), "STORE")
    writes.done()
    for client, tag in zip(clients, tags, strict=True):
        try:
            async with asyncio.timeout(PUSH_S):
                while "pushed" not in (client.opened.by_uid[uid].flags or ()):
                    client.tell(read(await client.wire.line()))
        except TimeoutError:
            client.world.blame(Fault.STUCK, client.who, "IDLE was not told")
        client.wire.send(b"DONE\r\n")
        await client.until(tag, client.tell)
        client.opened.finish()


async def settle(client: Client) -> None:
    """Open every folder afresh, and read all of it."""
    for name in FOLDERS:
        await client.select(name)
        while client.opened.unknown:
            await client.learn()
        if client.opened.by_uid:
            client.passed(await client.run("UID FETCH 1:* (FLAGS BODY.PEEK[])"), "FETCH")
