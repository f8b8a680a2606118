"""``pli mailbox`` and the passwords of a team's mailbox, on a site that nothing serves."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from directory.audit_event import AuditEvent
from mailserver.cli.main import app
from mailserver.databases import open_store
from mailserver.settings import Site
from tests.support.site import DemoSite


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> DemoSite:
    return DemoSite.create(tmp_path_factory.mktemp("shared") / "site")


ALICE = "alice.martin@hopital-demo.mssante.test"
BRUNO = "bruno.leroy@hopital-demo.mssante.test"
DESK = "secretariat@hopital-demo.mssante.test"
CHLOE = "chloe.bernard@cabinet-demo.mssante.test"


def pli(root: Path, *words: str) -> Result:
    first, second, *rest = words
    return CliRunner().invoke(app, [first, second, str(root), *rest])


def told(root: Path, *words: str) -> list[dict[str, object]]:
    result = pli(root, *words, "--json")
    assert result.exit_code == 0, result.output
    answer: list[dict[str, object]] = json.loads(result.stdout)
    return answer


def test_a_mailbox_is_shared_its_rights_are_told_and_it_ends(site: DemoSite) -> None:
    root = site.root
    assert pli(root, "mailbox", "share", DESK, BRUNO).exit_code == 0
    assert pli(root, "mailbox", "share", DESK, BRUNO, "--rights", "lrs").exit_code == 0

    rows = {row["person"]: row for row in told(root, "mailbox", "rights", DESK)}
    assert rows[BRUNO]["rights"] == "lrs"
    listed = {row["address"]: row["people"] for row in told(root, "mailbox", "list")}
    assert listed == {DESK: 2}  # the demo's first professional holds its password

    made = told(root, "device", "add", DESK, "poste", "--person", BRUNO)
    devices = told(root, "device", "list", DESK)
    assert [each["person"] for each in devices] == [ALICE, BRUNO]
    assert made["password"]  # type: ignore[call-overload] # one object
    assert pli(root, "mailbox", "unshare", DESK, BRUNO).exit_code == 0
    assert [each["person"] for each in told(root, "device", "list", DESK)] == [ALICE]
    again = pli(root, "mailbox", "unshare", DESK, BRUNO)
    assert (again.exit_code, again.stderr.startswith("error: ")) == (1, True)


def test_a_delegation_is_recorded_and_ends(site: DemoSite) -> None:
    assert pli(site.root, "mailbox", "delegate", ALICE, BRUNO).exit_code == 0
    rows = told(site.root, "mailbox", "rights", ALICE)
    assert [(row["person"], row["delegate"]) for row in rows] == [(BRUNO, True)]
    assert pli(site.root, "mailbox", "undelegate", ALICE, BRUNO).exit_code == 0
    assert told(site.root, "mailbox", "rights", ALICE) == []


def test_who_read_the_messages_of_a_mailbox_is_told(site: DemoSite) -> None:
    patient = site.demo["patients"][0]["address"]
    at = datetime(2026, 11, 22, 8, tzinfo=UTC)

    async def read() -> None:
        async with await open_store(Site(site.root), read_only=False) as store:
            mailbox = await store.accounts.mailbox(patient)
            assert mailbox is not None
            subject = f"mailbox:{mailbox.id}"
            found = (
                ("imap_read", subject, {"folder": 1, "uids": "2:4,9"}),
                ("imap_copied", subject, {"folder": 1, "uids": "2:4,9"}),
                ("message_read", "account:7", {"folder": 1, "uids": "9", "via": "webmail"}),
            )
            await store.audit.record(
                [AuditEvent(kind, at, who, None, subject, facts) for kind, who, facts in found]
            )

    asyncio.run(read())

    assert told(site.root, "mailbox", "readings", patient) == [
        {"at": at.isoformat(), "who": "account:7", "via": "webmail", "messages": 1},
        {"at": at.isoformat(), "who": patient, "via": "imap", "messages": 4},
    ]
    assert "webmail" in pli(site.root, "mailbox", "readings", patient).stdout
    assert told(site.root, "mailbox", "readings", BRUNO) == []
    assert pli(site.root, "mailbox", "readings", "nobody@x.test").exit_code == 1


@pytest.mark.parametrize(
    "words",
    [
        ("mailbox", "share", ALICE, BRUNO),
        ("mailbox", "share", DESK, CHLOE),
        ("mailbox", "share", DESK, "nobody@x.test"),
        ("mailbox", "share", DESK, BRUNO, "--rights", "lrz"),
        ("mailbox", "delegate", ALICE, CHLOE),
        ("mailbox", "undelegate", ALICE, CHLOE),
        ("device", "add", DESK, "poste"),
        ("device", "add", DESK, "poste", "--person", CHLOE),
        ("device", "add", ALICE, "poste", "--person", BRUNO),
    ],
)
def test_what_cannot_be_is_one_line_on_stderr(site: DemoSite, words: tuple[str, ...]) -> None:
    result = pli(site.root, *words)

    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.strip().splitlines()) == 1
