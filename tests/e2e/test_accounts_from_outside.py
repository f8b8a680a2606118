"""What an outsider can prove of a site: the raw mail counted again, and the roots that left it."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from directory import trail
from mailserver.databases import now
from tests.support.filing_durability import RECOUNT, children_of, send, settle
from tests.support.filing_streams import Stream
from tests.support.site import DemoSite, pli_result


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> DemoSite:
    """A stopped site that took one message of each kind."""
    made = DemoSite.create(tmp_path_factory.mktemp("accounts") / "site")
    stream = Stream.of_each_kind(made, seed=7)
    with children_of(made) as (mail, bridge):
        for message in stream:
            assert send(made, message, mail)
        settle(made, mail, bridge)
        # The trail is sealed every second; what an outsider keeps is what was sealed.
        while _audit(made)[1]["trails"]["record"]["unsealed"]:
            pass
    return made


def _audit(site: DemoSite, *options: str) -> tuple[int, Any]:
    code, said, _ = pli_result("audit", "verify", str(site.root), "--json", *options)
    return code, json.loads(said)


def _recount(site: DemoSite, audit: Any, folder: Path) -> tuple[int, Any]:
    said = folder / "audit.json"
    said.write_text(json.dumps(audit))
    done = subprocess.run(
        [sys.executable, "-I", str(RECOUNT), str(site.root), "--json", "--audit", str(said)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


def _copy(site: DemoSite, to: Path) -> DemoSite:
    subprocess.run(["cp", "-a", str(site.root), str(to)], check=True)
    return DemoSite(to)


def test_a_script_that_knows_nothing_of_pli_counts_the_same(
    site: DemoSite, tmp_path: Path
) -> None:
    code, audit = _audit(site)

    recount_code, recount = _recount(site, audit, tmp_path)

    assert (code, recount_code) == (0, 0)
    assert recount["agrees"] is True
    assert recount["received"] == audit["received"] > 10
    assert min(recount[name] for name in ("filed", "quarantined", "duplicates")) > 0


@pytest.mark.parametrize("table", ["document", "duplicate", "quarantine"])
def test_one_row_deleted_by_sql_is_found_by_both(
    site: DemoSite, tmp_path: Path, table: str
) -> None:
    copy = _copy(site, tmp_path / "site")
    with closing(sqlite3.connect(copy.root / "data" / "record.sqlite3")) as connection:
        # A thief does not switch foreign keys on.
        connection.execute(f"DELETE FROM {table} WHERE id = (SELECT max(id) FROM {table})")  # noqa: S608 - our tables
        connection.commit()

    code, audit = _audit(copy)
    recount_code, recount = _recount(copy, audit, tmp_path)

    assert (code, recount_code) == (1, 1)
    assert [each["kind"] for each in audit["problems"]] == ["in_none"]
    assert [each["kind"] for each in recount["problems"]] == ["in_none"]


def test_a_trail_rebuilt_by_the_holder_of_the_key_is_found_with_the_outside_root_only(
    site: DemoSite, tmp_path: Path
) -> None:
    kept = tmp_path / "record-kept-elsewhere.jsonl"
    kept.write_bytes((site.root / "roots" / "record.jsonl").read_bytes())
    copy = _copy(site, tmp_path / "site")
    _rebuild_without_last_refusal(copy)

    without, inside = _audit(copy)
    with_root, outside = _audit(copy, "--root", str(kept))
    untouched, honest = _audit(site, "--root", str(kept))

    assert (without, inside["trails"]["record"]["outside_roots"]) == (0, 0)
    assert with_root == 1
    assert outside["trails"]["record"]["problem"] in {"root_mismatch", "tail_cut"}
    assert untouched == 0
    assert honest["trails"]["record"]["outside_roots"] > 0


def _rebuild_without_last_refusal(site: DemoSite) -> None:
    """What an administrator with the key and the file could do: take one event out, seal anew."""
    key = Ed25519PrivateKey.from_private_bytes((site.root / "secrets" / "trail.key").read_bytes())
    with closing(sqlite3.connect(site.root / "data" / "record.sqlite3")) as connection:
        triggers = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name LIKE 'trail_%'"
        ).fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(
            "DELETE FROM trail_event WHERE event_id = (SELECT max(event_id) FROM trail_event"
            " WHERE kind = 'document_quarantined')"
        )
        connection.execute("UPDATE trail_event SET sequence = NULL, leaf = NULL")
        connection.execute("DELETE FROM trail_root")
        while trail.seal(connection, trail.Sealing(now(), key.sign)) is not None:
            pass
        for _, statement in triggers:
            connection.execute(statement)
        connection.commit()


def test_a_root_whose_name_does_not_say_its_trail_is_refused_with_a_sentence(
    site: DemoSite, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.jsonl"
    kept.write_bytes((site.root / "roots" / "record.jsonl").read_bytes())

    code, _, said = pli_result("audit", "verify", str(site.root), "--root", str(kept))

    assert code != 0
    assert "must begin with mail or record" in said
