"""``pli account unread`` and the count of ``pli status``, on a demo site that nothing serves."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mailserver.app import local_commands
from mailserver.cli.main import app
from mailserver.control import Owner
from mailserver.databases import open_store
from mailserver.message.index import index
from mailserver.settings import Site
from mailserver.store.model import NO_FLAGS, NewMessage
from tests.storage.test_store_unread import REPORT
from tests.support.site import DemoSite

pytestmark = pytest.mark.timeout(180)  # a demo site is made: keys, certificates, databases

ALICE = "alice.martin@hopital-demo.mssante.test"
BRUNO = "bruno.leroy@hopital-demo.mssante.test"
DESK = "secretariat@hopital-demo.mssante.test"
NOW = datetime.now(UTC)
LONG_AGO = (NOW - timedelta(days=12)).replace(microsecond=0)
"""Three working days before any day, whatever the holidays."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> DemoSite:
    made = DemoSite.create(tmp_path_factory.mktemp("unread") / "site")
    asyncio.run(_receive(made.root))
    return made


async def _receive(root: Path) -> None:
    async with await open_store(Site(root), read_only=False) as store:
        for address, at in ((DESK, LONG_AGO), (DESK, NOW), (ALICE, LONG_AGO), (ALICE, LONG_AGO)):
            mailbox = await store.accounts.mailbox(address)
            assert mailbox is not None
            inbox = await store.folders.get(mailbox.id, "INBOX")
            assert inbox is not None
            new = NewMessage(inbox.id, REPORT, index(REPORT), NO_FLAGS, frozenset(), at)
            await store.messages.append(new)


def told(root: Path, *words: str) -> str:
    result = CliRunner().invoke(app, ["account", "unread", str(root), *words])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_mailboxes_are_listed_with_who_answers_and_nothing_of_the_reports(site: DemoSite) -> None:
    rows = {row["address"]: row for row in json.loads(told(site.root, "--json"))}

    assert rows.keys() == {ALICE, DESK}
    assert rows[ALICE]["responsible"] == [ALICE]
    assert (rows[ALICE]["unread"], rows[DESK]["unread"]) == (2, 1)
    assert rows[ALICE]["oldest"] == LONG_AGO.isoformat()
    table = told(site.root)
    assert ALICE in table
    assert "labo" not in table.lower()
    assert "ZZCANARY" not in table


def test_who_administers_a_team_answers_and_nobody_else_does_then(site: DemoSite) -> None:
    def responsible() -> object:
        rows = {row["address"]: row for row in json.loads(told(site.root, "--json"))}
        return rows[DESK]["responsible"]

    def share(rights: str) -> None:
        words = ["mailbox", "share", str(site.root), DESK, BRUNO, "--rights", rights]
        assert CliRunner().invoke(app, words).exit_code == 0

    share("lrs")
    assert responsible() == [ALICE, BRUNO]
    share("lrsa")
    assert responsible() == [BRUNO]


def test_nobody_answers_for_the_mailbox_of_who_left(site: DemoSite) -> None:
    words = ["account", "close", str(site.root), BRUNO]
    assert CliRunner().invoke(app, words).exit_code == 0
    rows = {row["address"]: row for row in json.loads(told(site.root, "--json"))}
    assert rows[DESK]["responsible"] == [ALICE], "it falls back to those who read there"

    words[-1] = ALICE
    assert CliRunner().invoke(app, words).exit_code == 0
    rows = {row["address"]: row for row in json.loads(told(site.root, "--json"))}
    assert rows[ALICE]["responsible"] == []
    assert (rows[ALICE]["unread"], "nobody" in told(site.root)) == (2, True)


def test_the_status_counts_them(site: DemoSite) -> None:
    async def status() -> dict[str, object]:
        async with local_commands(Site(site.root), Owner.MAIL) as commands:
            found: dict[str, object] = await commands["status"]({})
            return found

    assert asyncio.run(status())["unread_reports"] == 3
