"""The short stress run, and proof that its checker sees faults: three are planted.

``scripts/stress_imap`` runs it for minutes. Source: RFC 9051 §2.3.1.1, §7.5.1.
"""

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from mailserver.imap import session
from mailserver.store import flags, moves
from tests.support.imap_model import Fault
from tests.support.imap_site import serve
from tests.support.imap_stress import Outcome, run
from tests.support.imap_stress_client import FOLDERS, Load

pytestmark = pytest.mark.timeout(120)
LOOPBACK = frozenset({"127.0.0.1"})
REUSE = (
    "UPDATE folder SET uidnext ="
    " (SELECT coalesce(max(uid), 0) + 1 FROM entry WHERE folder_id = folder.id)"
)
Apply = Callable[[sqlite3.Connection, Any], Any]


async def stressed(load: Load) -> Outcome:
    async with serve(plaintext=LOOPBACK) as site:
        return await run(site, load)


async def test_clients_that_do_everything_at_once_are_told_the_truth() -> None:
    outcome = await stressed(Load(clients=9, seconds=10, seed=1))

    assert outcome.violations == []
    # It was a stress: every kind of command, by the hundred, in every folder.
    assert sum(outcome.commands.values()) > 500
    assert outcome.commands.keys() >= {
        "APPEND",
        "UID REPLACE",
        "STORE",
        "FETCH",
        "IDLE",
        "NOTIFY",
        "SEARCH",
        "EXPUNGE",
    }
    assert outcome.commands["UID MOVE"] + outcome.commands["MOVE"] > 2
    assert outcome.commands["SELECT"] > len(FOLDERS) + 9


def reuses_uids(apply: Apply) -> Apply:
    """As a server does that takes the highest UID there is, and one more."""

    def expunge(connection: sqlite3.Connection, value: Any) -> Any:
        made = apply(connection, value)
        connection.execute(REUSE)
        return made

    return expunge


def loses_flags(apply: Apply) -> Apply:
    """Every fifth change is answered and not kept."""
    calls = iter(range(1, 1_000_000))

    def change(connection: sqlite3.Connection, value: Any) -> Any:
        if next(calls) % 5:
            return apply(connection, value)
        connection.execute("SAVEPOINT planted")
        made = apply(connection, value)
        connection.execute("ROLLBACK TO planted")
        connection.execute("RELEASE planted")
        return made

    return change


def until(wanted: Fault) -> Load:
    return Load(clients=9, seconds=30, seed=2, wanted=wanted)


async def test_a_reused_uid_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "expunge", reuses_uids(moves.expunge))

    assert Fault.UID_REUSED in (await stressed(until(Fault.UID_REUSED))).faults


async def test_a_lost_flag_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flags, "change_flags", loses_flags(flags.change_flags))

    assert Fault.LOST_FLAG in (await stressed(until(Fault.LOST_FLAG))).faults


async def test_an_early_expunge_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "expunge_allowed", lambda _command: True)

    assert Fault.EARLY_EXPUNGE in (await stressed(until(Fault.EARLY_EXPUNGE))).faults
