"""Who may see what, by command, on a demo site: as a newcomer would ask.

Source: RULES §7, RULES §13.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mailserver.cli.main import app
from tests.support.site import DemoSite


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> DemoSite:
    return DemoSite.create(tmp_path_factory.mktemp("rights") / "site")


def invoke(site: DemoSite, line: str, *more: str) -> Result:
    words = line.split()
    return CliRunner().invoke(app, [*words[:2], str(site.root), *words[2:], *more])


def told(site: DemoSite, line: str, *more: str) -> Any:
    result = invoke(site, line, *more, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def camille(site: DemoSite) -> list[str]:
    person = site.demo["patients"][0]
    return ["--patient", person["ins"], "--structure", person["structure"]]


@pytest.fixture
def louis(site: DemoSite) -> str:
    return next(p["ins"] for p in site.demo["patients"] if p["given"] == "LOUIS")


def rpps(site: DemoSite, number: int = 0) -> str:
    return str(site.demo["practitioners"][number]["rpps"])


def test_a_check_says_yes_or_no_and_why(site: DemoSite, camille: list[str]) -> None:
    yes = told(site, f"access check --actor {rpps(site)}", *camille)
    elsewhere = told(site, f"access check --actor {rpps(site, 2)}", *camille)
    own = invoke(site, "access check --actor patient", *camille)

    assert (yes["shown"], yes["rule"], yes["profession"]) == (True, "care_team", "10")
    assert (elsewhere["shown"], elsewhere["rule"]) == (False, "outside_care_team")
    assert own.stdout == "shown: own_record\n"


def test_a_block_is_set_seen_and_lifted(site: DemoSite, camille: list[str]) -> None:
    blocked = invoke(site, f"patient block --professional {rpps(site, 1)}", *camille)
    assert blocked.exit_code == 0, blocked.output
    check = f"access check --actor {rpps(site, 1)}"
    assert told(site, check, *camille)["rule"] == "blocked"
    kinds = [row["kind"] for row in told(site, "access list", *camille) if row["holds"]]
    assert sorted(kinds) == ["block", "care_team", "care_team"]

    told(site, f"patient unblock --professional {rpps(site, 1)}", *camille)

    assert told(site, check, *camille)["rule"] == "care_team"


def test_a_relative_is_named_and_a_right_revoked(
    site: DemoSite, camille: list[str], louis: str
) -> None:
    given = told(site, f"patient delegate --to {louis} --part agenda", *camille)
    check = f"access check --actor delegate:{louis}"
    assert told(site, check, *camille)["rule"] == "out_of_scope"

    told(site, f"access revoke --right {given['id']}", *camille)

    assert told(site, check, *camille)["rule"] == "another_record"
    refused = invoke(site, f"access revoke --right {given['id']}", *camille)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith("error: No such right holds")


def test_an_adult_has_no_representative(site: DemoSite, camille: list[str], louis: str) -> None:
    refused = invoke(site, f"access grant --kind representative --to {louis}", *camille)

    assert refused.exit_code == 1
    assert "of age" in refused.stderr


def test_consent_opens_for_a_day(site: DemoSite, camille: list[str]) -> None:
    given = told(site, f"access grant --kind consent --to {rpps(site)}", *camille)

    assert given["until"] is not None
    assert told(site, f"access check --actor {rpps(site)}", *camille)["rule"] == "consent"
    told(site, f"access revoke --right {given['id']}", *camille)


def test_a_closed_record_is_reopened(site: DemoSite, camille: list[str]) -> None:
    told(site, "patient close --reason demande", *camille)
    assert told(site, f"access check --actor {rpps(site)}", *camille)["rule"] == "closed_record"

    told(site, "patient reopen --reason demande", *camille)

    assert told(site, f"access check --actor {rpps(site)}", *camille)["rule"] == "care_team"


def test_a_professional_without_profession_reads_by_no_matrix(
    site: DemoSite, camille: list[str]
) -> None:
    for line, profession in (("--profession 60", "60"), ("--profession 10", "10")):
        result = CliRunner().invoke(
            app, ["account", "profession", str(site.root), rpps(site), *line.split(), "--json"]
        )
        assert json.loads(result.stdout)["profession"] == profession
    wrong = CliRunner().invoke(
        app, ["account", "profession", str(site.root), rpps(site), "--profession", "99"]
    )
    assert (wrong.exit_code, wrong.stdout) == (1, "")


@pytest.mark.parametrize(
    "line",
    ["access check --actor somebody", "access check --actor 19999999999", "access list --as x",
     "patient block --professional 12", "patient delegate --to 199999999999999"],
)  # fmt: skip
def test_what_cannot_be_is_one_line_on_stderr(
    site: DemoSite, camille: list[str], line: str
) -> None:
    refused = invoke(site, line, *camille)

    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith("error: ")
    assert len(refused.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("line", ["record show 1.2.3", "record mask 1.2.3", "record unmask 1.2.3"])
def test_a_document_that_is_not_there_is_told(site: DemoSite, line: str) -> None:
    refused = invoke(site, line, "--structure", "cabinet")

    assert refused.exit_code == 1
    assert "No such document" in refused.stderr


def test_deadlines_are_listed_and_a_policy_is_shown_set_and_refused(
    site: DemoSite, camille: list[str], tmp_path: Path
) -> None:
    where = camille[2:]
    whose = ["--ins", camille[1], *where]
    shown = told(site, "retention policy", *where)
    assert shown["rules"][0]["source"] == "Code de la santé publique, art. R1112-7"
    file = tmp_path / "policy.toml"
    file.write_text(shown["text"].replace("years = 20", "years = 30"), encoding="utf-8")
    arguments = ["retention", "policy", str(site.root), str(file), *where, "--json"]
    set_ = CliRunner().invoke(app, [*arguments, "--reason", "délibération"])
    assert json.loads(set_.stdout)["rules"][0]["years"] == 30
    assert CliRunner().invoke(app, arguments).exit_code == 1, "without a reason"

    row = next(r for r in told(site, "retention list", *where) if r["ins"] == camille[1])
    assert row["kept_until"][:4] == str(int(row["last_activity"][:4]) + 30)
    assert told(site, "retention list --due", *where) == []
    assert told(site, "retention suspend --reason recours", *whose) == {"suspended": True}
    assert told(site, "retention resume --reason fin", *whose) == {"suspended": False}
